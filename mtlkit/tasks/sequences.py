"""Tasks whose answer is a sequence: one that is written symbol by symbol, and one that is heard."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtlkit.data import Batch
from mtlkit.losses import ctc_loss, token_loss
from mtlkit.tasks.task import Task


def writing(name: str, target: str) -> Task:
    """Return the task `name`: which symbols, one after another? Its targets are `batch[target] [B, T]`.

    A target ends with 0, and what follows is -1; -1 everywhere where there is none.
    """
    return Task(
        name,
        lambda logits, batch: token_loss(logits, batch[target]),
        partial(WrittenRight, target),
        "exact",
        labelled=lambda batch: (batch[target] >= 0).any(1),
        units=lambda batch: (batch[target] >= 0).sum(),
    )


class WrittenRight:
    """Share of sequences that are right in every symbol, and share of right symbols.

    Args:
        target: where in the batch the right ones are.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.exact = self.sequences = self.right = self.symbols = 0

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add a batch: `logits [B, T, symbols]`."""
        wanted = batch[self.target]
        there, same = wanted >= 0, logits.argmax(-1) == wanted
        labelled = there.any(1)
        self.exact += int(((same | ~there).all(1) & labelled).sum())
        self.sequences += int(labelled.sum())
        self.right += int((same & there).sum())
        self.symbols += int(there.sum())

    def compute(self) -> dict[str, float]:
        """Return `{"exact": ..., "letters": ...}` in 0..1; NaN if no sample had a target."""
        nan = float("nan")
        return {"exact": self.exact / (self.sequences or nan), "letters": self.right / (self.symbols or nan)}


def hearing(name: str, target: str) -> Task:
    """Return the task `name`: which symbols? By connectionist temporal classification (Graves et al., ICML 2006).

    Its targets are `batch[target] [B, L]`, symbols from 1 on (0 is the blank), -1 after the last one and where there is
    none.
    """
    return Task(
        name,
        partial(ctc_loss, target=target),
        partial(SequenceErrors, target),
        "error",
        higher_is_better=False,
        labelled=lambda batch: (batch[target] > 0).any(1),
    )


class SequenceErrors:
    """Edits that turn what was heard into what was said, as a share of what was said; and sequences heard wrong.

    Args:
        target: where in the batch the right symbols are.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.edits = self.symbols = self.wrong = self.sequences = 0

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add a batch: `logits [B, T, symbols]`."""
        for heard, row in zip(heard_in(logits), batch[self.target].tolist(), strict=True):
            if said := [symbol for symbol in row if symbol > 0]:
                edits = edit_distance(heard, said)
                self.edits += edits
                self.symbols += len(said)
                self.wrong += edits > 0
                self.sequences += 1

    def compute(self) -> dict[str, float]:
        """Return `{"error": ..., "wrong": ...}`, the first one above 1 where more was heard than said; or NaN."""
        nan = float("nan")
        return {"error": self.edits / (self.symbols or nan), "wrong": self.wrong / (self.sequences or nan)}


def heard_in(logits: Tensor) -> list[list[int]]:
    """Return the symbols of each sequence: the best one of each frame, repetitions and blanks (0) left out."""
    return [[symbol for symbol in torch.unique_consecutive(row).tolist() if symbol] for row in logits.argmax(-1).cpu()]


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many insertions, deletions and replacements turn `a` into `b` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (one != other))
    return row[-1]
