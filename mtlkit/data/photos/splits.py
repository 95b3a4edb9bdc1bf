"""Which images are trained on, and which are for testing."""

import os
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


def pick_pair(names: Sequence[str], root: Path) -> tuple[str, str] | None:
    """Return the names of the lists to train and to test on, or `None` where no list says what it is for.

    Where there is a "test", "trainval" is trained on if it exists; otherwise it is "train" and "val".

    Raises:
        DataError: if there are several lists, and they do not say which of them is which.
    """
    by_role = {kind: found for kind in ("train", "trainval", "val", "test") if (found := _of_role(names, kind))}
    train = by_role.get("trainval") if "test" in by_role and "trainval" in by_role else by_role.get("train")
    if train and (test := by_role.get("test") or by_role.get("val")):
        return _one(train, "train", root), _one(test, "test", root)
    if len(names) > 1:
        raise DataError(
            f"{root}: there are lists {_few(names)}: name one 'train' and another 'test' or 'val', or keep only one, "
            "which is then split"
        )
    return None


def pick_validation(names: Sequence[str], pair: Sequence[str]) -> str | None:
    """Return the name of a list for validation that is neither trained nor tested on, if there is one."""
    own = [name for name in names if role(name) == "val" and name not in pair]
    return own[0] if len(own) == 1 and role(pair[0]) != "trainval" else None


def held_out(name: str, share: float) -> bool:
    """Whether a photograph is in the share that is kept for validation; copies of one photograph stay together."""
    return _number(original(name)) // 5 % 1000 < 1000 * share  # // 5: independent of the fifth for testing


def _of_role(names: Sequence[str], kind: str) -> list[str]:
    """Return the names of this kind; only those that say nothing more than the kind and a year, if there are any."""
    alike = [name for name in names if role(name) == kind]
    bare = [name for name in alike if ROLES.get(re.sub(r"[\d_-]+$", "", name.lower()))]
    return bare or alike


def _one(names: Sequence[str], use: str, root: Path) -> str:
    if len(names) > 1:
        several = f"{root}: there are several lists to {use} on, {_few(names)}"
        raise DataError(f"{several}: put them together, or name one {use!r}")
    return names[0]


def _few(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(sorted(names)[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def fifth(name: str) -> int:
    """Return a number from 0 to 4 that a name always gets, to split by."""
    return _number(name) % 5


def _number(name: str) -> int:
    return zlib.crc32(os.fsencode(name))  # unlike hash(), the same in every process


def original(name: str) -> str:
    """Return the name of the photograph that a file was made of: Roboflow's copies say it before ".rf."."""
    return re.sub(r"\.rf\.[0-9a-zA-Z]+(?=\.|$)", "", name)


def hashed(names: Sequence[str], split: str) -> list[str]:
    """Return the names of a split, "train" or "test", by a hash of each: about a fifth for testing, one at least.

    Copies of one photograph stay together.

    Raises:
        DataError: if there are fewer than two photographs.
    """
    groups = sorted({original(name) for name in names}, key=lambda name: (_number(name), name))
    if len(groups) < 2:
        raise DataError(
            f"there {'is one image' if names else 'are no images'}: at least two are needed, one to test on"
        )
    test = {name for name in groups if fifth(name) == 0} or {groups[0]}
    if len(test) == len(groups):
        test.discard(groups[-1])
    return [name for name in names if (original(name) in test) == (split == "test")]
