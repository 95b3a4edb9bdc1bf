"""How far scores may be off, because other images could have been tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtlkit.data import Batch
from mtlkit.machine import map_tensors
from mtlkit.model import evaluating, read_input
from mtlkit.tasks import Task
from mtlkit.training import fetch

LEVEL = 0.95


class Range(NamedTuple):
    """A score, and where 95 % of the scores of redrawn test sets lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Collected:
    """What a model says of a data set, kept batch by batch on the CPU.

    Attributes:
        outputs: task → output, for each batch.
        batches: what was asked.
        losses: task → the loss of each sample `[N]`; NaN where it has no target.
    """

    outputs: Sequence[dict[str, Any]]
    batches: Sequence[Batch]
    losses: dict[str, Tensor]

    @property
    def sizes(self) -> list[int]:
        """Samples in each batch."""
        return [len(next(v for v in batch.values() if isinstance(v, Tensor))) for batch in self.batches]

    def __len__(self) -> int:
        return sum(self.sizes)


def collect(model: nn.Module, tasks: Sequence[Task], dataset: Any, batch_size: int = 64) -> Collected:
    """Let a model answer a whole data set.

    Args:
        model: an average of one, too; on the CPU.
        tasks: what it is asked.
        dataset: map-style.
        batch_size: samples that go through it together.
    """
    outputs, batches, losses = [], [], dict[str, list[Tensor]]({task.name: [] for task in tasks})
    with evaluating(model):
        for indices in torch.arange(len(dataset)).split(batch_size):
            batch = fetch(dataset, indices)
            outputs.append(model(read_input(model, batch)))
            batches.append(batch)
            for k in range(len(indices)):
                one, said = (_part(tree, slice(k, k + 1)) for tree in (batch, outputs[-1]))
                for task in tasks:
                    known = task.labelled is None or bool(task.labelled(one).any())
                    losses[task.name].append(task.loss(said[task.name], one) if known else torch.tensor(torch.nan))
    return Collected(outputs, batches, {name: torch.stack(values).float() for name, values in losses.items()})


def score_ranges(tasks: Sequence[Task], found: Collected, draws: int = 200, seed: int = 0) -> dict[str, Range]:
    """Return every score with the interval of a bootstrap over samples (B. Efron, Annals of Statistics 7, 1979).

    It says how much the *choice of test samples* matters, not that of the training's seed. A sample is drawn with all
    its targets, for all tasks alike.

    Args:
        tasks: those that have a metric are scored.
        found: what the model said.
        draws: test sets of the same size, drawn with replacement.
        seed: of the drawing.
    """
    N = len(found)
    drawn = torch.randint(N, (draws, N), generator=torch.Generator().manual_seed(seed))
    ranges = {}
    for task in tasks:
        if task.metric is None:
            continue
        metric: Any = _filled(task, found)
        whole = metric.compute()
        if hasattr(metric, "resampled"):
            again = metric.resampled((drawn + 1).tolist())
        else:
            again = [_filled(task, found, one).compute() for one in drawn]
        for name, value in whole.items():
            ranges[f"{task.name}/{name}"] = Range(value, *_ends(value, [scores[name] for scores in again]))
    return ranges


def _ends(value: float, drawn: Sequence[float]) -> tuple[float, float]:
    """Return where 95 % of the drawn scores lie, corrected for their bias (Efron, JASA 82, 1987: "BC").

    AP, for one, is larger in the mean of redrawn test sets than in the one at hand.
    """
    from scipy.stats import norm

    values = torch.tensor(drawn, dtype=torch.float64)
    values = values[values.isfinite()]
    if not len(values) or value != value:
        return float("nan"), float("nan")
    below = ((values < value).double().mean() + 0.5 * (values == value).double().mean()).clamp(0.01, 0.99)
    shift = 2 * float(norm.ppf(float(below)))
    low, high = (float(norm.cdf(shift + float(norm.ppf(share)))) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(values.quantile(low)), float(values.quantile(high))


def _filled(task: Task, found: Collected, drawn: Tensor | None = None) -> Any:
    """Return a metric that has seen all samples, or those that were drawn."""
    assert task.metric is not None
    metric, start = task.metric(), 0
    for size, outputs, batch in zip(found.sizes, found.outputs, found.batches, strict=True):
        output = outputs[task.name]
        if drawn is not None:
            own = drawn[(drawn >= start) & (drawn < start + size)] - start
            output, batch = _part(output, own), _part(batch, own)
        if drawn is None or len(own):
            metric.update(output, batch)
        start += size
    return metric


def _part(tree: Any, chosen: slice | Tensor) -> Any:
    """Return some samples of what a batch or an output holds."""
    return map_tensors(lambda tensor: tensor[chosen], tree)
