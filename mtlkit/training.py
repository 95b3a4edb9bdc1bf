"""The training loop, as a generator: every consumer (command line, notebook, lab, benchmark) iterates over it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.optim.swa_utils import AveragedModel

from mtlkit.data import Batch, collate
from mtlkit.model import SharedEncoderModel
from mtlkit.optim import MuonAdamW, one_cycle
from mtlkit.tasks import Task
from mtlkit.weighting import EqualWeights, Weighting


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
        raw_losses: losses `[K]` before weighting, on the device, in the order of `weights`.
        cosine: mean cosine between the tasks' gradients of the shared parameters, where it was measured.
    """

    rate: float = 0.0
    weights: dict[str, float] = field(default_factory=dict)
    raw_losses: Tensor = field(default_factory=lambda: torch.empty(0))
    cosine: float | None = None

    @property
    def losses(self) -> dict[str, float]:
        """Task name → loss before weighting. Reading it waits for the device."""
        return dict(zip(self.weights, self.raw_losses.tolist(), strict=True))


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
        cosine_every: measure the cosine every so many steps, at one more backward pass a task; 0 is never.
        after: the record or checkpoint to go on from.

    Raises:
        ValueError: if no limit is given or a task has no head.
        TrainingError: if a loss is NaN or infinite.
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
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
            outputs = model(batch["image"].contiguous(memory_format=torch.channels_last))
            losses = {task.name: task.loss(outputs[task.name], batch) for task in tasks}
        raw_losses = torch.stack([loss.detach() for loss in losses.values()])
        if device.type == "cpu" or step % 50 == 0:  # on a GPU, looking means waiting
            _check_finite(raw_losses, tasks, step + 1)
        cosine = mean_cosine(losses, model) if cosine_every and step % cosine_every == 0 else None
        optimizer.zero_grad()
        weighting.backward(losses, model)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
        step += 1
        elapsed += time.perf_counter() - started
        yield Record(step, elapsed, rate, dict(weighting.weights), raw_losses, cosine)


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


def mean_cosine(losses: dict[str, Tensor], model: SharedEncoderModel) -> float:
    """Return the mean cosine between the gradients of the shared parameters, over all pairs of tasks.

    Below 0 the tasks pull the shared parameters in opposing directions.
    """
    shared = list(model.shared_parameters())
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)])
        for loss in losses.values()
    ]
    return float(torch.stack([cosine_similarity(a, b, dim=0) for a, b in combinations(gradients, 2)]).mean())


def _check_finite(raw_losses: Tensor, tasks: Sequence[Task], step: int) -> None:
    for task, loss in zip(tasks, raw_losses.tolist(), strict=True):
        if not abs(loss) < float("inf"):
            raise TrainingError(
                f"the loss of the task {task.name!r} is {loss} at step {step}: lower the learning rate or its weight, "
                "and look for NaN in its targets"
            )


@torch.no_grad()
def evaluate(
    model: nn.Module, tasks: Sequence[Task], dataset: Any, *, batch_size: int = 64, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Return every score of every task on a whole data set, e.g. `{"accuracy": ..., "ap": ..., "ap50": ...}`."""
    device = pick_device(device)
    metrics = {task.name: task.metric() for task in tasks}
    training = model.training
    model.eval().to(device)
    for start in range(0, len(dataset), batch_size):
        batch = collate([dataset[index] for index in range(start, min(start + batch_size, len(dataset)))])
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        for name, output in model(batch["image"]).items():
            if name in metrics:
                metrics[name].update(output, batch)
    model.train(training)
    return {name: score for metric in metrics.values() for name, score in metric.compute().items()}
