"""The training loop, as a generator: every consumer (command line, notebook, lab, benchmark) iterates over it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mtlkit.data import Batch, collate
from mtlkit.model import SharedEncoderModel
from mtlkit.optim import MuonAdamW, one_cycle
from mtlkit.tasks import Task
from mtlkit.weighting import Conflict, EqualWeights, Weighting, WeightingError, conflict, jacobian
from mtlkit.weighting.base import check_finite


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the task and says what to change."""


@dataclass(frozen=True)
class Progress:
    """How far a training run has come: steps done, and seconds spent in them (not between them)."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Record(Progress):
    """What happened in one step.

    Attributes:
        step: steps done so far, this one included.
        seconds: time spent training so far; the caller's own time between steps is not counted.
        rate: factor on every learning rate, as the schedule gave it.
        weights: task name → weight used.
        tasks: names of the tasks that took part: those with a label in the batch.
        raw_losses: their losses `[K]` before weighting, on the device.
        conflict: angles and lengths of the tasks' gradients of the shared parameters, where they were measured.
    """

    rate: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    raw_losses: Tensor = field(default_factory=lambda: torch.empty(0))
    conflict: Conflict | None = None

    @property
    def cosine(self) -> float | None:
        """Mean cosine between the tasks' gradients, where it was measured."""
        return self.conflict.mean_cosine if self.conflict else None

    @property
    def losses(self) -> dict[str, float]:
        """Task name → loss before weighting. Reading it waits for the device."""
        return dict(zip(self.tasks, self.raw_losses.tolist(), strict=True))


def train(
    model: SharedEncoderModel,
    tasks: Sequence[Task],
    loader: Iterable[Batch],
    weighting: Weighting | None = None,
    optimizer: Any = None,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    schedule: Callable[[float], float] = one_cycle,
    average: AveragedModel | None = None,
    clip: float = 10.0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    cosine_every: int = 0,
    after: Progress | None = None,
) -> Iterator[Record]:
    """Train `model` on all `tasks` at once and yield a `Record` after each step.

    Between two steps the caller may change `weighting.weights`, evaluate, draw, save a checkpoint or stop.
    A task with no labelled sample in a batch takes no part in that step.

    Args:
        model: gives task name → output.
        tasks: what is learned; each needs a head of its name.
        loader: yields batches; if it ends, so does the training.
        weighting: how the losses become one update; `EqualWeights` if not given.
        optimizer: has `param_groups`, `zero_grad` and `step`; `MuonAdamW` if not given.
        steps: stop after so many steps in all.
        seconds: stop after so much training time in all. The limit that is reached first ends the run.
        schedule: from progress in 0..1 to a factor on the learning rates.
        average: running average of the model, updated after each step.
        clip: largest norm of the gradient of all parameters together.
        device: "auto" takes CUDA where there is one.
        precision: "auto" computes in bfloat16 on CUDA and float32 on a CPU; or say "bfloat16" or "float32".
        cosine_every: measure the conflict every so many steps, at one more backward pass a task; 0 is never.
        after: the record or checkpoint to go on from.

    Raises:
        ValueError: if no limit is given, a task has no head, or a weight names no task.
        TrainingError: if a loss or a gradient is NaN or infinite, or the weighting method cannot be solved.
    """
    if steps is None and seconds is None:
        raise ValueError("training would never end: give steps=..., seconds=... or both")
    if headless := {task.name for task in tasks} - set(model.heads):
        raise ValueError(f"the task {min(headless)!r} has no head; the model's heads are {', '.join(model.heads)}")
    if precision not in ("auto", "bfloat16", "float32"):
        raise ValueError(f"unknown precision {precision!r}: expected auto, bfloat16 or float32")
    device = pick_device(device)
    model.to(device).to(memory_format=torch.channels_last)  # faster convolutions, on a CPU too
    if average is not None:
        average.to(device)
    weighting = weighting or EqualWeights()
    if unknown := weighting.weights.keys() - {task.name for task in tasks}:
        raise ValueError(
            f"there is a weight for {min(unknown)!r}, but the tasks are {', '.join(t.name for t in tasks)}"
        )
    optimizer = optimizer or MuonAdamW(model)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    low_precision = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    step, elapsed = (after.step, after.seconds) if after else (0, 0.0)

    batches = iter(loader)
    while (progress := max(step / (steps or float("inf")), elapsed / (seconds or float("inf")))) < 1:
        started = time.perf_counter()
        if (batch := next(batches, None)) is None:
            return
        rate = schedule(progress)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        labelled = [task for task in tasks if task.labelled is None or bool(task.labelled(batch).any())]
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        model.train()
        measured, raw_losses = None, torch.empty(0)
        if labelled:
            optimizer.zero_grad()
            losses = _losses(model, labelled, batch, low_precision)
            raw_losses = torch.stack(list(losses.values())).detach()
            look = device.type == "cpu" or step % 50 == 0  # on a GPU, looking means waiting
            try:
                if look:
                    check_finite("loss", list(losses), raw_losses)
                if cosine_every and step % cosine_every == 0:
                    measured = conflict(jacobian(losses, model))
                weighting.backward(losses, model)
                norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
                if look and not norm.isfinite():
                    _find_culprit(model, labelled, batch, low_precision)
            except WeightingError as error:
                raise TrainingError(f"{error} (at step {step + 1})") from error
            optimizer.step()
            if weighting.second_look:
                with torch.no_grad():
                    weighting.observe(_losses(model, labelled, batch, low_precision))
        if average is not None:
            average.update_parameters(model)
        step += 1
        elapsed += time.perf_counter() - started
        yield Record(
            step, elapsed, rate, dict(weighting.weights), tuple(task.name for task in labelled), raw_losses, measured
        )


def _losses(
    model: SharedEncoderModel, tasks: Sequence[Task], batch: Batch, low_precision: bool = False
) -> dict[str, Tensor]:
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=low_precision):
        outputs = model(image)
        return {task.name: task.loss(outputs[task.name], batch) for task in tasks}


def _find_culprit(model: SharedEncoderModel, tasks: Sequence[Task], batch: Batch, low_precision: bool) -> None:
    """Raise an error that names the task whose gradient is NaN or infinite though its loss is not."""
    losses = _losses(model, tasks, batch, low_precision)
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        sums = torch.stack([gradient.sum() for gradient in gradients if gradient is not None])
        check_finite("gradient", [name], sums.sum(0, keepdim=True))
    raise WeightingError("the weighted gradient is NaN or infinite: lower the loss weights")


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named; "auto" is CUDA where there is one, otherwise the CPU.

    Raises:
        ValueError: if CUDA is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here: take device 'cpu' or 'auto'")
    return device


@torch.no_grad()
def evaluate(
    model: nn.Module, tasks: Sequence[Task], dataset: Any, *, batch_size: int = 64, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Return every score of every task on a whole data set, e.g. `{"accuracy": ..., "ap": ..., "ap50": ...}`."""
    device = pick_device(device)
    metrics = {task.name: task.metric() for task in tasks}
    training = model.training
    model.eval().to(device)
    for indices in torch.arange(len(dataset)).split(batch_size):
        batch = dataset.batch(indices) if hasattr(dataset, "batch") else collate([dataset[int(k)] for k in indices])
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        for name, output in model(batch["image"]).items():
            if name in metrics:
                metrics[name].update(output, batch)
    model.train(training)
    return {name: score for metric in metrics.values() for name, score in metric.compute().items()}
