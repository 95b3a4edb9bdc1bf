"""How the tasks pull on what they share, as it was measured last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtlkit.weighting import Conflict


@dataclass(frozen=True)
class Pull:
    """Lengths of the tasks' gradients, and the cosines between them.

    Attributes:
        norms: task → length.
        cosines: task → a later task → cosine.
    """

    norms: dict[str, float] = field(default_factory=dict)
    cosines: dict[str, dict[str, float]] = field(default_factory=dict)

    def after(self, tasks: Sequence[str], conflict: Conflict) -> "Pull":
        """Return what is known after a measurement of some `tasks`, in their usual order; of the others it stays."""
        found, cosines = conflict.cosines.tolist(), {task: dict(others) for task, others in self.cosines.items()}
        for k, task in enumerate(tasks):
            for n, other in enumerate(tasks[k + 1 :], k + 1):
                cosines.setdefault(task, {})[other] = found[k][n]
        return Pull(self.norms | dict(zip(tasks, conflict.norms.tolist(), strict=True)), cosines)

    @property
    def cosine(self) -> float | None:
        """The mean over all pairs that are known."""
        known = [cosine for others in self.cosines.values() for cosine in others.values()]
        return math.fsum(known) / len(known) if known else None
