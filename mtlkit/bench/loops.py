"""Loops that train the same model in turn: ours beside others, and ours under options for a GPU."""

import random
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.bench.quality import fcos, ssdlite, torchvision_step
from mtlkit.bench.weighting import seconds_of, torchjd_passes
from mtlkit.cases import Case, Setup, find_case
from mtlkit.data import Batch, DigitScenes, Loader
from mtlkit.machine import to_device
from mtlkit.model import SharedEncoderModel, read_input
from mtlkit.training import train

Step = Callable[[], Any]


def loops(case: Case, rounds: int = 15, steps: int = 8, device: str = "cpu") -> dict[str, float]:
    """Compare loops that train the same model on the same batches with the same method and optimiser."""
    train_set = case.open("train")
    if hasattr(train_set, "to"):
        train_set.to(device)

    def fresh(method: str = "EqualWeights") -> Setup:
        setup = case.setup(method=method, train_set=train_set)
        setup.model.to(device)
        return setup

    pairs: dict[str, tuple[Step, Step]] = {
        "mtlkit / bare loop": (_ours(fresh()), _bare(fresh())),
        "mtlkit / bare loop (again)": (_ours(fresh()), _bare(fresh())),
        "mtlkit / LibMTL-style, EqualWeights": (_ours(fresh()), _libmtl(fresh(), _sum_backward)),
        "mtlkit / LibMTL-style, PCGrad": (_ours(fresh("PCGrad")), _libmtl(fresh(), _pcgrad_backward)),
    }
    if case.name == "scenes":
        for name, build in {"ssdlite320": ssdlite, "fcos_resnet18": fcos}.items():
            pairs[f"mtlkit / {name} at 64 px"] = (_ours(fresh()), _torchvision(build(64).to(device), train_set))
    for method in ("PCGrad", "UPGrad"):
        if (step := _torchjd(fresh(), method)) is not None:
            pairs[f"mtlkit / TorchJD, {method}"] = (_ours(fresh(method)), step)
    return _compare(pairs, rounds, steps)


def gpu_options(
    device: str, rounds: int = 5, steps: int = 20, batch_sizes: tuple[int, ...] = (32, 256)
) -> dict[str, float]:
    """Compare our loop under options for a GPU with itself in float32, on scenes that lie there."""
    scenes = DigitScenes("train", 2048).to(torch.device(device))
    found = {
        "bfloat16": {"precision": "bfloat16"},
        "float16": {"precision": "float16"},
        "compiled": {"compile": "default"},
        "CUDA graphs": {"compile": "reduce-overhead"},
        "CUDA graphs, bfloat16": {"compile": "reduce-overhead", "precision": "bfloat16"},
    }

    def ours(batch_size: int, **option: Any) -> Step:
        setup = find_case("scenes").setup(batch_size=batch_size, method="EqualWeights", train_set=scenes)
        setup.model.to(device)
        return _ours(setup, **option)

    pairs = {
        f"{name} / float32, {batch_size} images": (ours(batch_size, **option), ours(batch_size))
        for batch_size in batch_sizes
        for name, option in found.items()
    }
    return _compare(pairs, rounds, steps)


def _compare(pairs: Mapping[str, tuple[Step, Step]], rounds: int, steps: int) -> dict[str, float]:
    """Return the median of how many times as many steps per second the first of each pair takes.

    Each is timed right after the one that it is held against, whose turn comes first in every other round.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    for turn in range(rounds + 1):
        for name, (ours, theirs) in pairs.items():
            order = (ours, theirs) if turn % 2 else (theirs, ours)
            seconds = {step: seconds_of(step, steps) for step in order}
            if turn:  # the first round warms up
                taken[name].append((seconds[theirs] / seconds[ours], 1e3 * seconds[ours]))
    medians = {name: [statistics.median(values) for values in zip(*rows, strict=True)] for name, rows in taken.items()}
    for name, (rate, milliseconds) in medians.items():
        print(f"{name}: {rate:.3f} times as many steps per second ({milliseconds:.2f} ms each)", flush=True)
    return {name: rate for name, (rate, _) in medians.items()}


def _ours(setup: Setup, precision: str = "float32", **options: Any) -> Step:
    device = next(setup.model.parameters()).device
    steps = train(*setup.parts, steps=10**9, schedule=lambda _: 1.0, device=device, precision=precision, **options)
    return partial(next, steps)


def _next(setup: Setup) -> tuple[Tensor, Batch]:
    """Return the next batch on the model's device, its input apart."""
    batch = to_device(next(setup.loader), next(setup.model.parameters()).device)
    x = read_input(setup.model, batch)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, batch


def _bare(setup: Setup) -> Step:
    """Return what one writes by hand for this model and no other."""
    model, optimizer = setup.model, setup.optimizer
    losses = {task.name: task.loss for task in setup.tasks}
    model.train().to(memory_format=torch.channels_last)

    def step() -> None:
        x, batch = _next(setup)
        optimizer.zero_grad()
        outputs = model(x)
        first, *others = (loss(outputs[name], batch) for name, loss in losses.items())
        sum(others, first).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return step


def _libmtl(setup: Setup, backward: Callable[[SharedEncoderModel, Tensor], None]) -> Step:
    """In the manner of LibMTL's trainer: losses in a vector, meters that read them in every step, grads set to 0."""
    model, optimizer = setup.model, setup.optimizer
    meters: dict[str, list[float]] = {name: [] for name in ("right", *model.heads)}
    model.train().to(memory_format=torch.channels_last)

    def step() -> None:
        x, batch = _next(setup)
        outputs = model(x)
        losses = torch.zeros(len(setup.tasks), device=x.device)
        for k, task in enumerate(setup.tasks):
            losses[k] = task.loss(outputs[task.name], batch)
            meters[task.name].append(losses[k].item())
        if "classify" in outputs:
            meters["right"].append((outputs["classify"].argmax(1) == batch["label"]).sum().item())
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        backward(model, losses)
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return step


def _sum_backward(model: SharedEncoderModel, losses: Tensor) -> None:
    torch.mul(losses, torch.ones_like(losses)).sum().backward()


def _pcgrad_backward(model: SharedEncoderModel, losses: Tensor) -> None:
    """One backward pass a task into `.grad`, each copied into a row; rows projected pair by pair, at full length."""
    shared = list(model.shared_parameters())
    rows = []
    for k, loss in enumerate(losses):
        loss.backward(retain_graph=k + 1 < len(losses))
        rows.append(torch.cat([p.grad.reshape(-1) if p.grad is not None else p.new_zeros(p.numel()) for p in shared]))
        for parameter in shared:
            if parameter.grad is not None:
                parameter.grad.zero_()
    original = torch.stack(rows)
    projected = original.clone()
    for i in range(len(losses)):
        others = list(range(len(losses)))
        random.shuffle(others)
        for j in others:
            dot = torch.dot(projected[i], original[j])
            if i != j and dot < 0:
                projected[i] -= dot * original[j] / (original[j].norm().pow(2) + 1e-8)
    parts = projected.sum(0).split([p.numel() for p in shared])
    for parameter, part in zip(shared, parts, strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape))


def _torchjd(setup: Setup, method: str) -> Step | None:
    model, optimizer = setup.model, setup.optimizer
    model.train().to(memory_format=torch.channels_last)

    def losses() -> dict[str, Tensor]:
        x, batch = _next(setup)
        optimizer.zero_grad()
        outputs = model(x)
        return {task.name: task.loss(outputs[task.name], batch) for task in setup.tasks}

    backward = torchjd_passes(len(setup.tasks), model, losses).get(f"torchjd {method}")

    def step() -> None:
        assert backward is not None
        backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return None if backward is None else step


def _torchvision(model: nn.Module, scenes: DigitScenes) -> Step:
    optimizer, loader = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9), Loader(scenes, 32)
    model.train().to(memory_format=torch.channels_last)
    device = next(model.parameters()).device
    return lambda: torchvision_step(model, optimizer, to_device(next(loader), device))
