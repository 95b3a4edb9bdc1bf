"""A digit that is written and one that is spoken, at the same time."""

from typing import Any

import torch
from torch import Tensor

from mtlkit.data.digits import mnist_digits
from mtlkit.data.fields.speech import Speech
from mtlkit.data.memory import InMemory

CLIPS = {"train": 2000, "val": 600, "test": 1600}  # of which about half, or a quarter, are of a single digit


class Senses(InMemory):
    """Pairs of a real written digit and a clip in which a voice says one, paired at random.

    A sample is `{"image": float32 [1, 28, 28] in 0..1, "frames": float32 [241, 40], "see": int64 [], "hear": int64
    []}`. Voices of "val" and "test" are in no training clip.

    Args:
        split: "train", "val" or "test".
        n: number of pairs.
        seed: which are drawn.
        pictures: how many different pictures they are drawn from; all that there are, if 0.
        clips: the same for clips.
        voices: as in `Speech`.

    Raises:
        ValueError: if there are fewer pictures or clips than asked for.
    """

    classes = tuple("0123456789")

    def __init__(
        self,
        split: str = "train",
        n: int = 4000,
        seed: int = 0,
        pictures: int = 0,
        clips: int = 0,
        voices: str = "auto",
    ) -> None:
        random = torch.Generator().manual_seed(seed)
        digits, classes = mnist_digits(split)
        speech = Speech(split, CLIPS[split], 0, voices)
        heard = (speech.labels["word"] >= 0).nonzero()[:, 0]
        pools = []
        for name, most, wanted in (("pictures", len(digits), pictures), ("clips", len(heard), clips)):
            if not 0 <= wanted <= most:
                raise ValueError(f"{name}={wanted}: this split has {most}")
            pool = torch.randperm(most, generator=random)[: wanted or most]
            pools.append(pool[torch.randint(len(pool), (n,), generator=random)])
        seen, heard = pools[0], heard[pools[1]]
        self.images = torch.from_numpy(digits)[seen]
        self.frames = speech.frames[heard]
        self.labels = {"see": torch.from_numpy(classes)[seen], "hear": speech.labels["word"][heard]}

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return what is seen and what is heard."""
        return {"image": self.images[at, None].float().div_(255), "frames": self.frames[at].float()}
