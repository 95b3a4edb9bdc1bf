"""What is wrong with a data set: said all at once, or mended and reported."""

import warnings
from pathlib import Path

from mtlkit.data.errors import DataError

MOST_SHOWN = 20


class DataWarning(UserWarning):
    """Data can be used, but may not be what was meant; the message says what was done."""


class Faults:
    """Collects what is found.

    Args:
        root: the folder that is looked at.
        repair: mend what can be mended.

    Attributes:
        found: what must be corrected, a sentence each.
        mended: what was mended, a sentence each.
        notes: what is no fault, but should be known.
    """

    def __init__(self, root: str | Path, repair: bool) -> None:
        self.root, self.repair = root, repair
        self.found: list[str] = []
        self.mended: list[str] = []
        self.notes: list[str] = []

    def add(self, what: str, mend: str) -> None:
        """Take note of a fault; `mend` says what `repair` does about it, as in "leave it out"."""
        if self.repair:
            self.mended.append(f"{what} (repair: {mend})")
        else:
            self.found.append(
                f"{what}{', or' if ';' in what else '; correct it or'} pass repair=True (--repair) to {mend}"
            )

    def note(self, what: str) -> None:
        """Say what should be known, once."""
        if what not in self.notes:
            self.notes.append(what)
            warnings.warn(f"{self.root}: {what}", DataWarning, stacklevel=4)

    def raise_all(self) -> None:
        """Raise a `DataError` that lists what was found, if there is anything."""
        if len(self.found) > 1:
            shown = "\n".join(f"  {fault}" for fault in self.found[:MOST_SHOWN])
            more = len(self.found) - MOST_SHOWN
            raise DataError(
                f"{len(self.found)} faults in {self.root}:\n{shown}" + (f"\n  and {more} more" if more > 0 else "")
            )
        if self.found:
            raise DataError(self.found[0])
