"""What a report card says."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit import __version__, plots
from mtlkit.cases import Case, SeenImage
from mtlkit.machine import one_thread
from mtlkit.model import evaluating, read_input
from mtlkit.report.bootstrap import Collected, Range, collect, score_ranges
from mtlkit.tasks import Accuracy, AveragePrecision, Task, calibration_error
from mtlkit.training import fetch

WORST = 6


@dataclass
class Card:
    """A report card: plain values and pictures, for a page.

    Attributes:
        title: what was trained on what.
        facts: name → value, how it was made and what it costs.
        scores: score → value with its interval.
        classes: task → class → (samples or objects of it, its score).
        score_of_class: task → what that score is.
        confusions: task → (what it was, what was said, how often), the most frequent first.
        calibration: task → expected calibration error.
        pictures: title → picture.
        notes: what the one who trained it says, e.g. what was tuned on what.
        samples: tested on.
    """

    title: str
    facts: dict[str, str]
    scores: dict[str, Range]
    samples: int
    notes: Sequence[str] = ()
    classes: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    score_of_class: dict[str, str] = field(default_factory=dict)
    confusions: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, plots.Picture] = field(default_factory=dict)


def card_of(
    case: Case,
    model: nn.Module,
    tasks: Sequence[Task],
    test_set: Any,
    *,
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    draws: int = 200,
) -> Card:
    """Examine a model on test data.

    Args:
        case: what it was trained for.
        model: trained; it is moved to the CPU.
        tasks: what it is asked.
        test_set: map-style; none of its samples may have been trained on.
        facts: what is known of its making: steps, seconds, seed, weights.
        notes: lines for the section "what was tuned on what".
        draws: of the bootstrap.
    """
    model = model.to("cpu")
    found = collect(model, tasks, test_set)
    labels = {name: list(values) for name, values in case.read_labels(test_set).items()}
    card = Card(
        f"{case.name}: {', '.join(task.name for task in tasks)}",
        {"case": case.about, **(facts or {}), **_costs(model, test_set), "made with": f"mtlkit {__version__}"},
        score_ranges(tasks, found, draws),
        len(test_set),
        notes,
    )
    for task in tasks:
        metric: Any = task.metric() if task.metric else None
        if isinstance(metric, Accuracy):
            _classified(card, task, metric, found, _names(labels, test_set, task))
        elif isinstance(metric, AveragePrecision):
            _detected(card, task, metric, found)
        _worst(card, case, model, task, found, test_set)
    return card


def _names(labels: Mapping[str, Sequence[str]], test_set: Any, task: Task) -> Sequence[str]:
    return labels.get("classes") or getattr(test_set, "classes", ()) or ()


def _costs(model: nn.Module, test_set: Any) -> dict[str, str]:
    """Return what an answer costs on one core, and the model's size."""
    one = read_input(model, fetch(test_set, [0]))
    taken = []
    with one_thread(), evaluating(model):
        for _ in range(8):
            started = time.perf_counter()
            model(one)
            taken.append(time.perf_counter() - started)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": f"{parameters:,}",
        "an answer takes": f"{1000 * sorted(taken)[len(taken) // 2]:.1f} ms (one sample, one core)",
    }


def _classified(card: Card, task: Task, metric: Accuracy, found: Collected, names: Sequence[str]) -> None:
    logits = torch.cat([outputs[task.name] for outputs in found.outputs]).float()
    truth = torch.cat([batch[metric.target] for batch in found.batches])
    logits, truth = logits[truth >= 0], truth[truth >= 0]
    if not len(truth):
        return
    names = list(names) if len(names) == logits.shape[1] else [f"class {k}" for k in range(logits.shape[1])]
    sure, said = logits.softmax(1).max(1)
    card.classes[task.name] = {
        name: (int(own.sum()), float((said == truth)[own].float().mean()) if own.any() else float("nan"))
        for k, name in enumerate(names)
        for own in [truth == k]
    }
    card.score_of_class[task.name] = "share recognised"
    wrong = Counter((names[t], names[s]) for t, s in zip(truth.tolist(), said.tolist(), strict=True) if t != s)
    card.confusions[task.name] = [(right, other, n) for (right, other), n in wrong.most_common(5)]
    card.calibration[task.name] = calibration_error(sure, said == truth)
    card.pictures[f"Calibration of {task.name!r}"] = plots.calibration({task.name: (sure, (said == truth).float())})


def _detected(card: Card, task: Task, metric: AveragePrecision, found: Collected) -> None:
    for outputs, batch in zip(found.outputs, found.batches, strict=True):
        metric.update(outputs[task.name], batch)
    labels = torch.cat([batch["box_labels"][batch["has_boxes"]].flatten() for batch in found.batches])
    by_class = metric.by_class()
    card.classes[task.name] = {
        name: (int((labels == k).sum()), by_class[name]) for k, name in enumerate(metric.classes)
    }
    card.score_of_class[task.name] = "average precision"


def _worst(card: Card, case: Case, model: nn.Module, task: Task, found: Collected, test_set: Any) -> None:
    losses: Tensor = found.losses[task.name].nan_to_num(-torch.inf)
    worst = [int(k) for k in losses.argsort(descending=True)[:WORST] if losses[k] > -torch.inf]
    seen = [one for one in case.see(test_set, worst, model) if isinstance(one, SeenImage)]
    if seen:
        card.pictures[f"The {len(seen)} samples with the largest loss of {task.name!r}"] = plots.answered(seen)
