"""The training loop, as a generator: every consumer (command line, notebook, lab, benchmark) iterates over it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import nn

from mtlkit.machine import THIS_MACHINE, LossScale, Machine, is_sharded
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training.forward import Forward, compile_model, recompute_activations
from mtlkit.training.optim import MovingAverage, MuonAdamW, follow_parameters, one_cycle
from mtlkit.training.records import Block, Progress, Record
from mtlkit.weighting import (
    EqualWeights,
    NotFiniteError,
    StaticWeights,
    Update,
    Weighting,
    WeightingError,
    conflict,
    jacobian,
)
from mtlkit.weighting.base import Losses, as_parts
from mtlkit.weighting.checks import check_finite

SOON = 100  # steps after which a task that has never taken part is named


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the task and says what to change."""


def train(
    model: SharedEncoderModel,
    tasks: Sequence[Task],
    loader: Iterable[Any],
    weighting: Weighting | None = None,
    optimizer: Any = None,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    schedule: Callable[[float], float] = one_cycle,
    average: MovingAverage | None = None,
    clip: float | None = 10.0,
    cosine_every: int = 0,
    after: Progress | None = None,
    machine: Machine = THIS_MACHINE,
    **on: Any,
) -> Iterator[Record]:
    """Train `model` on all `tasks` at once and yield a `Record` after each step.

    Between two steps the caller may change `weighting.weights`, evaluate, draw, save a checkpoint or stop.
    A task with no labelled sample in a batch, or whose targets the batch lacks, takes no part in that step. A module
    in evaluation mode within a model in training mode (frozen batch normalisation) stays in it.

    Args:
        model: gives task name → output.
        tasks: what is learned; each needs a head of its name.
        loader: yields batches: dictionaries, in which not everything must be a tensor, or lists of the input and one
            target a task, in order. If it ends, so does the training.
        weighting: how the losses become one update; `EqualWeights` if not given.
        optimizer: has `param_groups`, `zero_grad` and `step`; `MuonAdamW` if not given.
        steps: stop after so many steps in all.
        seconds: stop after so much training time in all. The limit that is reached first ends the run.
        schedule: from progress in 0..1 to a factor on the learning rates.
        average: running average of the model, updated after each step.
        clip: largest norm of the gradient of all parameters together; `None` for any.
        cosine_every: steps between two measurements of the conflict, at one more backward pass per task; 0 is never.
        after: the record or checkpoint to go on from.
        machine: what the step runs on.
        on: fields of `machine` that differ from it, e.g. `device="cpu"` or `accumulate=2`.

    Raises:
        ValueError: if no limit is given or one is not above 0, a task has no head, a weight names no task, the
            optimiser wants a closure, or options exclude each other.
        DataError: if a batch lacks the model's input, or labels do not fit the output.
        TrainingError: if a loss is not one number with a graph, a loss or a gradient is NaN or infinite, the weighting
            method cannot be solved, or the device's memory is full.
        ParallelError: if another process is gone.
    """
    if steps is None and seconds is None:
        raise ValueError("training would never end: give steps=..., seconds=... or both")
    clip = float("inf") if clip is None else clip
    for name, limit in (("steps", steps), ("seconds", seconds), ("clip", clip)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name}={limit}: expected a limit above 0")
    machine, weighting = replace(machine, **on), weighting or EqualWeights()
    _check(model, tasks, weighting, optimizer, machine, cosine_every)
    device, group, clock, sharded = machine.pick_device(), machine.group, machine.clock, is_sharded(model)

    model.to(device)
    if not sharded:
        model.to(memory_format=torch.channels_last)  # faster convolutions, on a CPU too
    if average is not None:
        average.module.to(device)
    if device.type == "cuda":  # TF32 for what stays in float32, and cuDNN's fastest algorithms
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    optimizer = optimizer or MuonAdamW(model)
    follow_parameters(optimizer)
    for param_group in optimizer.param_groups:
        param_group.setdefault("initial_lr", param_group["lr"])
    step, elapsed = (after.step, after.seconds) if after else (0, 0.0)
    training = {module for module in model.modules() if module.training or not model.training}

    group.prepare(model)
    recompute_activations(model, machine.recompute)
    if machine.compile:
        compile_model(model, machine.compile)
    scale = None
    if machine.pick_precision() == torch.float16:
        scale = LossScale(model, *(after.loss_scale if after and after.loss_scale else ()))
    wrap = group.size > 1 and weighting.one_pass(machine.accumulate) and not sharded
    forward = Forward(model, tasks, machine, scale, wrap)
    nothing = Update(torch.empty(0, dtype=torch.double, device=device), weighting.factors)

    batches, block = iter(loader), Block()
    try:
        while (progress := max(step / (steps or float("inf")), elapsed / (seconds or float("inf")))) < 1:
            started = clock()
            if (batch := next(batches, None)) is None:
                break
            rate = schedule(progress)
            for param_group in optimizer.param_groups:
                param_group["lr"] = param_group["initial_lr"] * rate
            if not model.training:
                for module in training:
                    module.training = True
            measured, update = None, nothing
            with group.watch(), _training_errors(step):
                losses = forward(batch)
                to_combine: Losses = losses
                if losses.tasks:
                    optimizer.zero_grad()
                    for parameter in forward.parameters:  # also of what the optimiser does not hold
                        parameter.grad = None
                    if cosine_every and step % cosine_every == 0:
                        (to_combine,) = losses
                        measured = conflict(jacobian(to_combine, model, group))
                    look = device.type == "cpu" or step % 50 == 49  # on a GPU, looking means waiting
                    update, finite = _gradient(weighting, to_combine, forward, batch, clip, look)
                    if finite:
                        optimizer.step()
                        if weighting.second_look:
                            weighting.observe(losses, group)
                if average is not None:
                    average.update_parameters(model)
                step += 1
                if step == SOON:
                    forward.say_what_never_came()
                elapsed += group.mean(clock() - started)
            if block.full:
                block = Block()
            place = block.add(torch.cat([update.losses, *(weight[None] for weight in update.weights.values())]))
            scaled = (scale.scale, scale.good) if scale else None
            tasks_here, weighted = tuple(losses.tasks), tuple(update.weights)
            yield Record(step, elapsed, scaled, rate, tasks_here, weighted, block, place, measured)
        forward.say_what_never_came()
    finally:  # also when the caller has had enough
        if scale is not None:
            scale.remove()


def _check(
    model: SharedEncoderModel,
    tasks: Sequence[Task],
    weighting: Weighting,
    optimizer: Any,
    machine: Machine,
    cosine_every: int,
) -> None:
    """Raise a `ValueError` for what cannot be trained together."""
    method, named = type(weighting).__name__, [task.name for task in tasks]
    if not tasks:
        raise ValueError("there is no task: give at least one")
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"two tasks have the name {twice[0]!r}: give each its own")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter of the model is trained: set requires_grad of some of them")
    if not hasattr(model, "heads"):
        raise ValueError(
            f"{type(model).__name__} has no heads: wrap it, SharedEncoderModel(model, {{task: Pick(...)}}, ...), "
            "or pass the model that is inside it"
        )
    if optimizer is not None and not _holds_some_of(optimizer, model):
        raise ValueError("the optimiser holds no parameter of the model: create it from model.parameters()")
    if optimizer is not None and _wants_a_closure(optimizer):
        raise ValueError(
            f"{type(optimizer).__name__} wants a closure that computes the loss again and again, but here each step "
            "computes it once: take another optimiser, e.g. torch.optim.AdamW"
        )
    if headless := set(named) - set(model.heads):
        raise ValueError(f"the task {min(headless)!r} has no head; the model's heads are {', '.join(model.heads)}")
    if unknown := (weighting.weights if isinstance(weighting, StaticWeights) else {}).keys() - set(named):
        raise ValueError(f"there is a weight for {min(unknown)!r}, but the tasks are {', '.join(named)}")
    if machine.accumulate > 1 and cosine_every:
        raise ValueError(
            f"accumulate={machine.accumulate}: expected 1 with cosine_every, which needs the whole batch's graph"
        )
    half = machine.pick_precision() == torch.float16
    if is_sharded(model) and not weighting.one_pass(machine.accumulate):
        raise ValueError(
            f"{method} compares whole gradients, but each process holds only a part of this model: "
            "take a method that weighs losses, or a model that is not sharded"
        )
    if is_sharded(model) and half:
        raise ValueError("float16 scales the gradients of whole parameters: with a sharded model take bfloat16")
    if half and getattr(weighting, "at", "parameters") == "features":
        raise ValueError(
            f"{method} needs the gradients at the features themselves, and float16 cannot hold "
            "numbers so small: take precision='bfloat16' or 'float32', or a method at='parameters'"
        )


def _holds_some_of(optimizer: Any, model: nn.Module) -> bool:
    held = [parameter for group in optimizer.param_groups for parameter in group.get("params", ())]
    ids = {id(parameter) for parameter in model.parameters()}
    views = isinstance(optimizer, MuonAdamW)  # of the kernels
    return views or not held or any(id(parameter) in ids for parameter in held)


def _wants_a_closure(optimizer: Any) -> bool:
    needed = [p for p in signature(optimizer.step).parameters.values() if p.default is p.empty and p.name != "self"]
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed)


def _gradient(
    weighting: Weighting, losses: Losses, forward: Forward, batch: Any, clip: float, look: bool
) -> tuple[Update, bool]:
    """Leave the gradient of one step, clipped, in `.grad`; return what is known of it, and whether it is finite.

    It must be, but in float16: there a gradient may overflow, and the loss scale falls until none does.
    """
    scale, group = forward.scale, replace(forward.group, averages=forward.averages)
    may_overflow = scale is not None and scale.scale >= 1
    try:
        update = weighting.backward(losses, forward.model, group)
        norm = nn.utils.clip_grad_norm_(forward.parameters, clip)
        finite = not (look or scale) or bool(norm.isfinite())
        if not finite:
            check_finite("loss", as_parts(losses).tasks, update.losses.tolist())
            if not may_overflow:
                forward.find_culprit(batch)
    except NotFiniteError as error:
        if not may_overflow or error.losses is None:
            raise
        update, finite = Update(error.losses, weighting.factors), False
    if scale is not None:
        scale.update(finite)
    return update, finite


@contextmanager
def _training_errors(step: int) -> Iterator[None]:
    """Say what went wrong in a step, and what helps."""
    try:
        yield
    except WeightingError as error:
        raise TrainingError(f"{error} (at step {step + 1})") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"batch normalisation got a single sample, and one sample has no variance (at step {step + 1}): use "
            "larger batches, fewer parts (accumulate) or processes, or leave out the last, smaller batch of an epoch"
        ) from error
    except RuntimeError as error:
        if "backward through the graph a second time" in str(error):
            raise TrainingError(
                f"the graph of the previous step was reached again (at step {step + 1}): the model, or a loss, keeps a "
                "tensor of it, such as a hidden state; detach() what is kept from step to step"
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"the memory is full (at step {step + 1}). To save some, cheapest first: precision='bfloat16' on a "
            "GPU, accumulate=2 or more, recompute=True, a smaller batch_size, smaller images; methods that combine "
            f"gradients keep one gradient per task, methods that combine losses do not. ({str(error).splitlines()[0]})"
        ) from error
