"""Spoken digits: sequences of them in many voices, made in memory; and recordings of people."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.data.errors import DataError
from mtlkit.data.fields.sounds import HOP, RATE, log_mel, read_wave
from mtlkit.data.fields.voices import DIGITS, VERSIONS, Wave, spoken
from mtlkit.data.memory import InMemory

MOST = 4  # digits in a sequence
SECONDS = 2.4
STRANGERS = {"val": slice(10, 12), "test": slice(12, 16)}  # voices that no training clip has
SPLITS = {"train": 0, "val": 1, "test": 2}


class Spoken(InMemory):
    """Clips as spectrograms, `float16 [N, T, 40]`."""

    frames: Tensor

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return what is heard."""
        return {"frames": self.frames[at].float()}


class Speech(Spoken):
    """Clips of 2.4 seconds in which a voice says one digit, or two to four of them; some noise is added.

    A sample is `{"frames": float32 [241, 40], "word": int64 [], "voice": int64 [], "digits": int64 [4]}`: the digit of
    a clip with only one (otherwise -1), who says it, and all digits, 1 ("zero") to 10 ("nine"), -1 after the last.

    In "val" and "test" every other clip is by a voice that no training clip has: two in "val", four others in "test".
    Those clips are labelled only with what is said, the others only with who says it. Each voice says each digit in
    five ways; one of them is in no training clip, and clips that ask who speaks use only that one.

    Args:
        split: "train", "val" or "test".
        n: number of clips.
        seed: determines everything but the voices.
        voices: "espeak", "formants", or "auto", the first one that is installed.
    """

    def __init__(self, split: str = "train", n: int = 3000, seed: int = 0, voices: str = "auto") -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        says, self.made_by = spoken(voices)
        self._random = np.random.default_rng((seed, SPLITS[split]))
        known = STRANGERS["val"].start
        self.voices = tuple(f"voice {k + 1}" for k in range(known))
        self.samples = np.zeros((n, round(SECONDS * RATE)), np.float16)
        digits = torch.full((n, MOST), -1)
        voice = torch.full((n,), -1)
        for k in range(n):
            stranger = split != "train" and k % 2 == 1
            others = range(len(says))[STRANGERS.get(split, slice(0, 0))]
            who = others[k // 2 % len(others)] if stranger else int(self._random.integers(known))
            ways = VERSIONS - 1 if split == "train" else [VERSIONS - 1] if not stranger else VERSIONS
            number = 1 if self._random.random() < 0.5 else int(self._random.integers(2, MOST + 1))
            said = self._random.integers(len(DIGITS), size=number)
            self.samples[k], said = self._clip(says[who], said, ways)
            if not stranger:
                voice[k] = who
            if stranger or split == "train":
                digits[k, : len(said)] = torch.from_numpy(said) + 1
        alone = digits[:, 1] < 0
        self.labels = {"word": torch.where(alone & (digits[:, 0] > 0), digits[:, 0] - 1, -1), "voice": voice}
        self.labels["digits"] = digits
        self.frames = spectrograms(self.samples)

    def _clip(
        self, says: Sequence[Wave], digits: NDArray[np.int64], ways: int | list[int]
    ) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Return a clip and the digits in it: those that fit."""
        random, room = self._random, self.samples.shape[1]
        parts: list[NDArray[np.float32]] = []
        for digit in digits:
            silence = np.zeros(int(random.uniform(0.03, 0.15) * RATE), np.float32)
            word = says[digit * VERSIONS + int(random.choice(ways))] * random.uniform(0.7, 1.0)
            if sum(len(part) for part in parts) + len(silence) + len(word) > room:
                break
            parts += [silence, word]
        sound, digits = np.concatenate(parts), digits[: len(parts) // 2]
        start = int(random.integers(self.samples.shape[1] - len(sound) + 1))
        clip = random.uniform(0.002, 0.02) * random.standard_normal(self.samples.shape[1])
        clip[start : start + len(sound)] += sound
        return np.asarray(clip, np.float16), digits


NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
CLIP = 0.8  # seconds of a recording that are heard


class SpokenDigits(Spoken):
    """Recordings of people who say a digit: the Free Spoken Digit Dataset (Z. Jackson et al., CC BY-SA 4.0).

    A sample is as in `Speech`, with `float32 [81, 40]` frames: "word" is the digit, "voice" the speaker, "digits" the
    digit as a sequence of one.

    Args:
        folder: has the recordings, `DIGIT_SPEAKER_INDEX.wav`, itself or in `recordings/`.
        split: "test" has the indices 0 to 4 (the data set's own), "val" 5 to 9, "train" the others.
        stranger: a speaker; the splits then are this one ("test": every recording of theirs, with the voice withheld)
            and all others.

    Raises:
        DataError: if there are no such recordings, or the speaker has none.
    """

    def __init__(self, folder: str | Path, split: str = "train", stranger: str = "") -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        places = sorted(path for path in Path(folder).rglob("*.wav") if NAME.fullmatch(path.name))
        if not places:
            raise DataError(
                f"{folder} has no recordings named DIGIT_SPEAKER_INDEX.wav; mtlkit data get fsdd fetches some"
            )
        found = [(path, *NAME.fullmatch(path.name).groups()) for path in places]  # type: ignore[union-attr]
        speakers = sorted({speaker for _, _, speaker, _ in found})
        if stranger and stranger not in speakers:
            raise DataError(f"{stranger!r} is none of the speakers in {folder}: {', '.join(speakers)}")
        self.voices = tuple(speaker for speaker in speakers if speaker != stranger)
        chosen = [
            row
            for row in found
            if (row[2] == stranger if stranger and split == "test" else row[2] != stranger)
            and ((bool(stranger) and split == "test") or _split_of(int(row[3])) == split)
        ]
        self.files = [path for path, *_ in chosen]
        self.samples = np.zeros((len(chosen), round(CLIP * RATE)), np.float16)
        for k, path in enumerate(self.files):
            sound = read_wave(path)[: self.samples.shape[1]]
            self.samples[k, : len(sound)] = sound / max(1e-3, float(np.abs(sound).max()))
        digit = torch.tensor([int(row[1]) for row in chosen])
        voice = [self.voices.index(row[2]) if row[2] in self.voices else -1 for row in chosen]
        digits = torch.full((len(chosen), MOST), -1)
        digits[:, 0] = digit + 1
        self.labels = {"word": digit, "voice": torch.tensor(voice), "digits": digits}
        self.frames = spectrograms(self.samples)


def _split_of(index: int) -> str:
    return "test" if index < 5 else "val" if index < 10 else "train"


def spectrograms(samples: NDArray[np.float16]) -> Tensor:
    """Return the log-mel spectrograms of clips `[N, S]`, as `float16 [N, 1 + S // 80, 40]`."""
    parts = [log_mel(torch.from_numpy(part.astype(np.float32))).half() for part in _pieces(samples)]
    return torch.cat(parts) if parts else torch.zeros(0, 1 + samples.shape[1] // HOP, 40, dtype=torch.float16)


def _pieces(samples: NDArray[np.float16], size: int = 256) -> list[NDArray[np.float16]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]
