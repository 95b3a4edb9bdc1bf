"""Voices that say the ten digits: those of eSpeak NG where it is installed, else a small synthesiser of our own.

eSpeak NG (GPL-3) comes with the package espeakng-loader, an extra: `pip install mtlkit[speech]`. The kit loads it and
ships nothing of it.
"""

import contextlib
import ctypes
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlkit.data.download import data_folder
from mtlkit.data.errors import DataError
from mtlkit.data.fields.sounds import RATE

Wave = NDArray[np.float32]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VERSIONS = 5  # ways in which a voice says a word: slower or faster, lower or higher

# what eSpeak calls them: language or accent, and a variant of the voice
ESPEAK_VOICES = (
    *("en+m1", "en+m3", "en+m5", "en+m7", "en+f1", "en+f3", "en+f5", "en-us+m2", "en-us+f2", "en-us+m4", "en-us+f4"),
    *("en-gb-scotland+m6", "en-gb-x-rp+f1", "en-029+m8", "en-gb-x-gbclan+m1", "en-gb-scotland+f5"),
)

# Peterson and Barney, "Control methods used in a study of the vowels", JASA 24, 1952: mean formants of men, in hertz;
# consonants are ours, by ear: three formants, share of voice, share of noise, length in ms
PHONES: dict[str, tuple[float, float, float, float, float, float]] = {
    "i": (270, 2290, 3010, 1.0, 0.0, 110),
    "I": (390, 1990, 2550, 1.0, 0.0, 80),
    "e": (530, 1840, 2480, 1.0, 0.0, 90),
    "a": (730, 1090, 2440, 1.0, 0.0, 110),
    "o": (570, 840, 2410, 1.0, 0.0, 120),
    "u": (300, 870, 2240, 1.0, 0.0, 130),
    "A": (640, 1190, 2390, 1.0, 0.0, 110),
    "@": (490, 1350, 1690, 1.0, 0.0, 60),
    "n": (250, 1700, 2600, 0.35, 0.0, 80),
    "w": (300, 610, 2200, 0.6, 0.0, 60),
    "r": (310, 1060, 1380, 0.6, 0.0, 60),
    "v": (300, 1200, 2600, 0.3, 0.1, 60),
    "z": (300, 1700, 3600, 0.25, 0.25, 80),
    "s": (1800, 3000, 3700, 0.0, 0.4, 110),
    "f": (1200, 2400, 3400, 0.0, 0.15, 90),
    "T": (1400, 2600, 3500, 0.0, 0.12, 80),
    "t": (1800, 2900, 3600, 0.0, 0.5, 25),
    "k": (1500, 2100, 2800, 0.0, 0.5, 25),
    "_": (500, 1500, 2500, 0.0, 0.0, 50),
}
SPOKEN = ("zIro", "wAn", "_tu", "Tri", "for", "faIv", "sI_ks", "sev@n", "eI_t", "naIn")


def spoken(voices: str = "auto") -> tuple[list[list[Wave]], str]:
    """Return for each voice what it says, `VERSIONS` of each of the ten digits, one after another; and who made it.

    What was made once is kept in the data folder with a hash of its samples, as eSpeak does not always say the same
    word in the same way.

    Args:
        voices: "espeak", "formants", or "auto": the first one that is installed.

    Raises:
        DataError: if eSpeak is asked for and not installed, or what is kept was changed.
    """
    if voices == "auto":
        voices = "espeak" if find_spec("espeakng_loader") else "formants"
    if voices == "formants":
        return _formant_voices(), voices
    if voices != "espeak":
        raise ValueError(f"voices={voices!r}: expected 'espeak', 'formants' or 'auto'")
    return _kept(data_folder() / "spoken_digits.npz", _espeak_voices), voices


def _kept(file: Path, make: Callable[[], list[list[Wave]]]) -> list[list[Wave]]:
    if not file.exists():
        voices = make()
        lengths = np.array([[len(wave) for wave in voice] for voice in voices])
        samples = np.concatenate([(32767 * wave).astype(np.int16) for voice in voices for wave in voice])
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as beside:
            part = Path(beside) / file.name
            np.savez_compressed(part, samples=samples, lengths=lengths, hash=_hash(samples, lengths))
            with contextlib.suppress(FileExistsError):  # another process was first: its voices are everybody's
                os.link(part, file)
    try:
        with np.load(file) as kept:
            samples, lengths, said = kept["samples"], kept["lengths"], str(kept["hash"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read ({error}): delete it, and it is made again") from error
    if _hash(samples, lengths) != said:
        raise DataError(f"{file} is not what was written: delete it, and it is made again")
    waves = np.split(samples.astype(np.float32) / 32767, np.cumsum(lengths.ravel())[:-1])
    return [waves[k * lengths.shape[1] : (k + 1) * lengths.shape[1]] for k in range(len(lengths))]


def _hash(samples: NDArray[np.int16], lengths: NDArray[np.int64]) -> str:
    return hashlib.sha256(samples.tobytes() + lengths.astype(np.int64).tobytes()).hexdigest()


# eSpeak NG


def _espeak_voices() -> list[list[Wave]]:
    say = _espeak()
    settings = ((150, 45), (185, 50), (165, 65), (175, 40), (160, 55))  # words a minute, pitch
    return [[say(word, voice, *setting) for word in DIGITS for setting in settings] for voice in ESPEAK_VOICES]


def _espeak() -> Callable[[str, str, int, int], Wave]:
    """Load eSpeak NG and return what says a word: (word, voice, words a minute, pitch) → samples at 8 kHz.

    Raises:
        DataError: if it is not installed.
    """
    if find_spec("espeakng_loader") is None:
        raise DataError("eSpeak NG is not installed: pip install mtlkit[speech], or take voices='formants'")
    import espeakng_loader
    from scipy.signal import resample_poly  # slow to import

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)  # 2: wait until it is said
    heard: list[NDArray[np.int16]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def listen(samples: "ctypes._Pointer[ctypes.c_short]", number: int, _: object) -> int:
        if samples and number > 0:
            heard.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    library.espeak_SetSynthCallback(listen)
    library.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]

    def say(word: str, voice: str, speed: int, pitch: int) -> Wave:
        heard.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            raise DataError(f"eSpeak NG has no voice {voice!r}")
        library.espeak_SetParameter(1, speed, 0)
        library.espeak_SetParameter(3, pitch, 0)
        text = word.encode()
        library.espeak_Synth(text, len(text) + 1, 0, 0, 0, 1, None, None)
        return _trimmed(resample_poly(np.concatenate(heard).astype(np.float32) / 32768, RATE, rate))

    say.listen = listen  # type: ignore[attr-defined]  # the library keeps no reference to it
    return say


# a synthesiser of our own: a source, and three resonances that move


@cache
def _formant_voices() -> list[list[Wave]]:
    random = np.random.default_rng(0)
    voices = []
    for k in range(len(ESPEAK_VOICES)):
        pitch, tract = (
            (95 + 12 * (k % 8), 1.0 + 0.02 * (k % 5)) if k % 2 else (170 + 12 * (k % 8), 1.12 + 0.03 * (k % 4))
        )
        breath, tempo = random.uniform(0.0, 0.06), random.uniform(0.85, 1.2)
        voices.append(
            [
                formant_word(phones, pitch * higher, tract, breath, tempo * faster, random)
                for phones in SPOKEN
                for faster, higher in ((1.0, 1.0), (1.2, 1.03), (1.05, 1.2), (1.15, 0.94), (1.08, 1.1))
            ]
        )
    return voices


def formant_word(
    phones: str, pitch: float, tract: float, breath: float, tempo: float, random: np.random.Generator
) -> Wave:
    """Return a word at 8 kHz: pulses of the vocal cords and noise, through resonances that glide from phone to phone.

    The source-filter model of speech (Fant, "Acoustic Theory of Speech Production", 1960), three resonances in a row.

    Args:
        phones: letters of `PHONES`.
        pitch: of the voice in hertz, at the beginning.
        tract: factor on all formants: above 1 a shorter vocal tract.
        breath: share of noise in what is voiced.
        tempo: factor on the speed.
        random: for the noise, and for how regular the pulses are.
    """
    rows = np.array([PHONES[phone] for phone in phones])
    lengths = (rows[:, 5] / tempo * RATE / 1000).astype(int)
    centres = np.cumsum(lengths) - lengths / 2
    at = np.arange(lengths.sum())
    tracks = [np.interp(at, centres, rows[:, column]) for column in range(3)]
    voiced, noise = (np.repeat(rows[:, column], lengths) for column in (3, 4))
    smooth = np.hanning(120) / np.hanning(120).sum()
    voiced, noise = (np.convolve(part, smooth, "same") for part in (voiced, noise))
    period = RATE / (pitch * np.linspace(1.05, 0.9, len(at)) * (1 + 0.01 * random.standard_normal(len(at))))
    pulses = np.diff(np.floor(np.cumsum(1 / period)), prepend=0.0)
    source = voiced * pulses * 6 + (noise + breath * voiced) * random.standard_normal(len(at))
    sound = _resonate(source, tracks, tract)
    loudness = np.sqrt(np.convolve(sound**2, smooth, "same")) + 1e-6  # resonances make some phones far too loud
    return _trimmed(sound / loudness * np.maximum(voiced, noise))


def _resonate(source: NDArray[np.float64], tracks: Sequence[NDArray[np.float64]], tract: float) -> NDArray[np.float64]:
    from scipy.signal import lfilter  # slow to import

    step, out = RATE // 200, source
    for track, width in zip(tracks, (80, 110, 160), strict=True):
        state, parts = np.zeros(2), []
        for start in range(0, len(out), step):
            frequency = min(track[min(start + step // 2, len(track) - 1)] * tract, 0.48 * RATE)
            radius = np.exp(-np.pi * width / RATE)
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2]
            part, state = lfilter([sum(poles)], poles, out[start : start + step], zi=state)
            parts.append(part)
        out = np.concatenate(parts)
    return out


def _trimmed(wave: NDArray[np.floating]) -> Wave:
    """Return a word without the silence around it, its loudest sample at 0.5."""
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
    cut = wave[loud[0] : loud[-1] + 1]
    return np.asarray(0.5 * cut / np.abs(cut).max(), np.float32)
