"""One run of an experiment: train under a budget, score, count what it cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlkit.cases import Setup
from mtlkit.machine import Machine, one_thread
from mtlkit.training import evaluate, train


@dataclass(frozen=True)
class Budget:
    """What every contestant of an experiment may spend: so many steps, or so many seconds of one core.

    Raises:
        ValueError: if not exactly one of them is given, or it is not above 0.
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.steps, self.seconds) if limit is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ValueError(f"expected either steps or seconds, above 0, not {self}")

    def words(self, batch_size: int) -> str:
        """Return the budget in words, e.g. "200 steps of 32"."""
        return (
            f"{self.steps} steps of {batch_size}"
            if self.steps
            else f"{self.seconds:g} s of one core, batches of {batch_size}"
        )


def with_rate(setup: Setup, rate: float) -> Setup:
    """Return a setup, untrained yet, whose learning rates are `rate` times as high."""
    for group in setup.optimizer.param_groups:
        group["initial_lr"] = group.get("initial_lr", group["lr"]) * rate  # from which the loop takes each step's
    return setup


def train_and_score(
    setup: Setup, budget: Budget, data: Mapping[str, Any], tasks: Sequence[Any] | None = None, **options: Any
) -> dict[str, float]:
    """Train and score one model, with one thread, so that runs can go side by side.

    Args:
        setup: is trained.
        budget: what it may spend; seconds are counted as the processor time of this process.
        data: split → data set on which it is scored, e.g. `{"val": ..., "test": ...}`.
        tasks: what is scored, if not what is trained.
        options: for `mtlkit.training.train`.

    Returns:
        "<split> <task>/<score>" → score, "steps", "parameters", and "seconds" of one core spent in training.
    """
    machine, steps = Machine(device="cpu", clock=time.process_time), 0
    with one_thread():
        started = time.process_time()
        for record in train(*setup.parts, steps=budget.steps, seconds=budget.seconds, machine=machine, **options):
            steps = record.step
        seconds = time.process_time() - started
        scores = {
            f"{split} {name}": score
            for split, dataset in data.items()
            for name, score in evaluate(setup.model, tasks or setup.tasks, dataset, device="cpu").items()
        }
    parameters = sum(p.numel() for p in setup.model.parameters())
    return scores | {"steps": steps, "parameters": parameters, "seconds": seconds}
