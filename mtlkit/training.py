"""The training loop, as a generator: every consumer (command line, notebook, lab, benchmark) iterates over it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mtlkit.data import Batch, collate
from mtlkit.forward import Forward, compile_model, recompute_activations
from mtlkit.model import SharedEncoderModel, evaluating
from mtlkit.optim import MovingAverage, MuonAdamW, one_cycle
from mtlkit.parallel import ALONE, Group, is_sharded
from mtlkit.precision import LossScale, pick_precision
from mtlkit.records import Block, Progress, Record
from mtlkit.tasks import Task
from mtlkit.weighting import EqualWeights, Weighting, WeightingError, conflict, jacobian
from mtlkit.weighting.base import NotFiniteError, Parts, check_finite


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the task and says what to change."""


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
    average: MovingAverage | None = None,
    clip: float = 10.0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    accumulate: int = 1,
    recompute: bool = False,
    compile: str | None = None,
    cosine_every: int = 0,
    after: Progress | None = None,
    group: Group = ALONE,
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
        precision: "auto" computes in float32 on a CPU, on a GPU in bfloat16 (float16 where it has none); or say which.
        accumulate: go through each batch in so many parts, one after the other: less memory, the same update (but
            batch normalisation sees the parts).
        recompute: keep the activations between a model's `Blocks` only: less memory, one more forward pass.
        compile: mode of `torch.compile` for encoder and heads, e.g. "default", or "reduce-overhead" for CUDA graphs.
        cosine_every: measure the conflict every so many steps, at one more backward pass a task; 0 is never.
        after: the record or checkpoint to go on from.
        group: the processes that train together, each on its part of every batch (`mtlkit.parallel.joined`). A model
            may be sharded over them beforehand (`torch.distributed.fsdp.fully_shard`).

    Raises:
        ValueError: if no limit is given, a task has no head, a weight names no task, or options exclude each other.
        TrainingError: if a loss or a gradient is NaN or infinite, the weighting method cannot be solved, or the
            device's memory is full.
        ParallelError: if another process is gone.
    """
    if steps is None and seconds is None:
        raise ValueError("training would never end: give steps=..., seconds=... or both")
    if headless := {task.name for task in tasks} - set(model.heads):
        raise ValueError(f"the task {min(headless)!r} has no head; the model's heads are {', '.join(model.heads)}")
    if accumulate < 1 or (accumulate > 1 and cosine_every):
        raise ValueError(
            f"accumulate={accumulate}: expected 1 or more, and 1 with cosine_every, which needs the whole batch's graph"
        )
    if compile and recompute:
        raise ValueError("torch.compile decides by itself what it computes again: take compile or recompute, not both")
    device, sharded, weighting = pick_device(device), is_sharded(model), weighting or EqualWeights()
    low_precision = pick_precision(precision, device)
    if unknown := weighting.weights.keys() - {task.name for task in tasks}:
        raise ValueError(
            f"there is a weight for {min(unknown)!r}, but the tasks are {', '.join(t.name for t in tasks)}"
        )
    if sharded and not weighting.one_pass(accumulate):
        raise ValueError(
            f"{type(weighting).__name__} compares whole gradients, but each process holds a part of this model only: "
            "take a method that weighs losses, or a model that is not sharded"
        )
    if sharded and low_precision == torch.float16:
        raise ValueError("float16 scales the gradients of whole parameters: with a sharded model take bfloat16")
    if low_precision == torch.float16 and getattr(weighting, "at", "parameters") == "features":
        raise ValueError(
            f"{type(weighting).__name__} needs the gradients at the features themselves, and float16 cannot hold "
            "numbers so small: take precision='bfloat16' or 'float32', or a method at='parameters'"
        )

    model.to(device)
    if not sharded:
        model.to(memory_format=torch.channels_last)  # faster convolutions, on a CPU too
    if average is not None:
        average.module.to(device)
    if device.type == "cuda":  # TF32 for what stays in float32, and cuDNN's fastest algorithms
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    optimizer = optimizer or MuonAdamW(model)
    for param_group in optimizer.param_groups:
        param_group.setdefault("initial_lr", param_group["lr"])
    step, elapsed = (after.step, after.seconds) if after else (0, 0.0)

    group.prepare(model)
    recompute_activations(model, recompute)
    if compile:
        compile_model(model, compile)
    scale = LossScale(model) if low_precision == torch.float16 else None
    wrap = group.size > 1 and weighting.one_pass(accumulate) and not sharded
    forward = Forward(model, tasks, group, low_precision, scale, accumulate, wrap)

    batches, block = iter(loader), Block()
    try:
        while (progress := max(step / (steps or float("inf")), elapsed / (seconds or float("inf")))) < 1:
            started = time.perf_counter()
            if (batch := next(batches, None)) is None:
                return
            rate = schedule(progress)
            for param_group in optimizer.param_groups:
                param_group["lr"] = param_group["initial_lr"] * rate
            if not model.training:
                model.train()
            measured, known = None, torch.empty(0, dtype=torch.double, device=device)
            with group.watch(), _in_words(step):
                losses = parts = forward(batch)
                if parts.tasks:
                    optimizer.zero_grad()
                    if cosine_every and step % cosine_every == 0:
                        losses = Parts.of(parts.losses(0))
                        measured = conflict(jacobian(losses, model, group))
                    look = device.type == "cpu" or step % 50 == 49  # on a GPU, looking means waiting
                    fine = _gradient(weighting, losses, forward, batch, clip, look)
                    known = losses.known
                    if fine:
                        optimizer.step()
                    if fine and weighting.second_look:
                        with torch.no_grad():
                            for _ in parts:
                                pass
                        weighting.observe(dict(zip(parts.tasks, group.sum(parts.known), strict=True)))
                if average is not None:
                    average.update_parameters(model)
                step += 1
                elapsed += group.mean(time.perf_counter() - started)
            if block.full:
                block = Block()
            factors = weighting.factors
            place = block.add(torch.cat([known, *(factor[None] for factor in factors.values())]))
            yield Record(step, elapsed, rate, tuple(parts.tasks), tuple(factors), block, place, measured)
    finally:  # also when the caller has had enough
        if scale is not None:
            scale.remove()


def _gradient(weighting: Weighting, losses: Parts, forward: Forward, batch: Batch, clip: float, look: bool) -> bool:
    """Leave the gradient of one step, clipped, in `.grad`; return whether it is finite. It must be, but in float16."""
    scale = forward.scale
    try:
        weighting.backward(losses, forward.model, replace(forward.group, averages=forward.averages))
        norm = nn.utils.clip_grad_norm_(forward.parameters, clip)
        if (look or scale) and not norm.isfinite():
            check_finite("loss", losses.tasks, losses.known)
            if scale is None:
                forward.find_culprit(batch)
            raise NotFiniteError("the weighted gradient is NaN or infinite: lower the loss weights")
    except NotFiniteError:
        if scale is None or scale.scale < 1 or not losses.known.isfinite().all():
            raise
        scale.update(finite=False)
        return False
    if scale is not None:
        scale.update(finite=True)
    return True


@contextmanager
def _in_words(step: int) -> Iterator[None]:
    """Say what went wrong in a step, and what helps."""
    try:
        yield
    except WeightingError as error:
        raise TrainingError(f"{error} (at step {step + 1})") from error
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"the memory is full (at step {step + 1}). What takes less, the cheapest first: precision='bfloat16' on a "
            "GPU, accumulate=2 or more, recompute=True, a smaller batch_size, smaller images; methods that combine "
            f"gradients keep one gradient a task, methods that combine losses do not. ({str(error).splitlines()[0]})"
        ) from error


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named; "auto" is CUDA where there is one (under `torchrun` one each), otherwise the CPU.

    Raises:
        ValueError: if CUDA is asked for and there is none.
    """
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here: take device 'cpu' or 'auto'")
    return device


def evaluate(
    model: nn.Module, tasks: Sequence[Task], dataset: Any, *, batch_size: int = 64, device: str | torch.device = "auto"
) -> dict[str, float]:
    """Return every score of every task on a whole data set, e.g. `{"accuracy": ..., "ap": ..., "ap50": ...}`."""
    device = pick_device(device)
    metrics = {task.name: task.metric() for task in tasks}
    reads = getattr(getattr(model, "module", model), "reads", "image")
    model.to(device)
    with evaluating(model):
        for indices in torch.arange(len(dataset)).split(batch_size):
            batch = dataset.batch(indices) if hasattr(dataset, "batch") else collate([dataset[int(k)] for k in indices])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            for name, output in model(batch[reads]).items():
                if name in metrics:
                    metrics[name].update(output, batch)
    return {name: score for metric in metrics.values() for name, score in metric.compute().items()}
