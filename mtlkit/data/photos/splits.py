"""Which images are trained on, and which are for testing."""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from mtlkit.data.errors import DataError

ROLES = {"train": "train", "training": "train", "trainval": "trainval", "val": "val", "valid": "val", "test": "test",
         "validation": "val", "testing": "test"}  # fmt: skip


PARTS = {"train part": "train", "test part": "test"}  # of the only list there is


def role(name: str) -> str | None:
    """Return what a list is for by its name, e.g. "val" for "instances_val2017"; `None` if it does not say."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((ROLES[word] for word in reversed(words) if word in ROLES), None)


def role_of(path: Path, root: Path) -> str | None:
    """Return what a folder below `root` is for, by the last of its parts that says so."""
    return next((kind for part in reversed(path.relative_to(root).parts) if (kind := role(part))), None)


def pick_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the names of the lists to train and to test on, or `None` where there is one list only.

    Where there is a "test", "trainval" is trained on if it exists; otherwise it is "train" and "val".
    """
    by_role = {kind: name for name in sorted(names, key=len, reverse=True) if (kind := role(name))}  # not "cat_train"
    if "test" in by_role and (train := by_role.get("trainval") or by_role.get("train")):
        return train, by_role["test"]
    if "train" in by_role and "val" in by_role:
        return by_role["train"], by_role["val"]
    return None


def fifth(name: str) -> int:
    """Return a number from 0 to 4 that a name always gets, to split by."""
    return zlib.crc32(name.encode()) % 5  # unlike hash(), the same in every process


def hashed(names: Sequence[str], split: str) -> list[str]:
    """Return the names of a split, "train" or "test", by a hash of each: about a fifth for testing, one at least.

    Raises:
        DataError: if there are fewer than two.
    """
    if len(names) < 2:
        raise DataError(
            f"there {'is one image' if names else 'are no images'}: at least two are needed, one to test on"
        )
    test = {name for name in names if fifth(name) == 0}
    ordered = sorted(names, key=lambda name: zlib.crc32(name.encode()))
    if not test:
        test = {ordered[0]}
    if len(test) == len(names):
        test.discard(ordered[-1])
    return [name for name in names if (name in test) == (split == "test")]
