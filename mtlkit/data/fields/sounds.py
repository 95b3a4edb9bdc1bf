"""From samples to what a network hears: log-mel spectrograms."""

import wave as wave_files
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.data.errors import DataError

RATE = 8000  # samples a second
HOP, WINDOW, MELS = 80, 256, 40  # samples, samples, bands: a frame every 10 ms


def log_mel(waves: Tensor) -> Tensor:
    """Return the spectrograms `[N, 1 + S // 80, 40]` of `waves [N, S]` at 8 kHz.

    A number says how loud a band of the mel scale is around a frame, as a natural logarithm; each clip has the mean 0
    and the standard deviation 1, so that it does not matter how loud it is.
    """
    window = torch.hann_window(WINDOW)
    power = torch.stft(waves, WINDOW, HOP, window=window, return_complex=True).abs().square()
    logs = (mel_bands() @ power + 1e-6 * power.amax((1, 2), keepdim=True) + 1e-12).log().mT
    mean, spread = logs.mean((1, 2), keepdim=True), logs.std((1, 2), keepdim=True)
    return (logs - mean) / spread.clamp(min=1e-3)


@cache
def mel_bands() -> Tensor:
    """Return the triangles `[40, 129]` that sum a spectrum up in bands, equally far apart on the mel scale.

    From 60 to 3,800 hertz, with O'Shaughnessy's formula (1987): mel = 2595 log10(1 + f / 700).
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (60.0, 3800.0))
    edges = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return torch.from_numpy(np.minimum(rising, falling).clip(0)).float()


def read_wave(file: Path) -> NDArray[np.float32]:
    """Return the samples of a file in -1..1: one channel, 16 bits, 8 kHz.

    Raises:
        DataError: if it is something else, or damaged.
    """
    try:
        with wave_files.open(str(file)) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            raw = sound.readframes(sound.getnframes())
    except (wave_files.Error, EOFError, ValueError) as error:
        raise DataError(f"{file} is not a sound that can be read ({error}): expected a .wav file") from error
    if kind != (1, 2, RATE):
        raise DataError(
            f"{file} has {kind[0]} channels of {8 * kind[1]} bits at {kind[2]:,} Hz, not 1 of 16 bits at 8,000 Hz: "
            "convert it first, e.g. with sox -r 8000 -c 1 -b 16"
        )
    samples = np.frombuffer(raw, np.int16)
    if len(samples) < WINDOW:
        raise DataError(f"{file} has {len(samples)} samples: too short to be a word")
    return np.asarray(samples / 32768, np.float32)
