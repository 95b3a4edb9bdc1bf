"""What a training step costs: our loop beside other loops of the same model, against derived floors, and its memory."""

import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from mtlkit.bench.picture import step_costs
from mtlkit.bench.quality import fcos, ssdlite, torchvision_step
from mtlkit.bench.weighting import keep_freed_memory, seconds_of, torchjd_passes
from mtlkit.cases import Case, Setup, find_case
from mtlkit.data import Batch, DigitScenes, Loader
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel, read_input
from mtlkit.tasks import Task, classification
from mtlkit.training import measure_memory, predict_memory, train
from mtlkit.weighting import METHODS, EqualWeights, UPGrad, Weighting

Step = Callable[[], Any]


def training(case: Case, figures: Path | None = None) -> dict[str, Any]:
    """Measure the loops on `case`, costs and memory on scenes; with a folder, leave `training.json` and `.png` there.

    Returns:
        "loops": contestant → steps per second, as a multiple of the bare loop's or, for ours, of the other's;
        "cost": what varies → method → rows of (value, milliseconds a step, floor); "memory": rows of a setting, the
        predicted and the measured peak in MB; "gflops": what this machine reaches at best.
    """
    keep_freed_memory()
    threads = torch.get_num_threads()
    results: dict[str, Any] = {"threads": threads, "torch": torch.__version__, "gflops": best_rate() / 1e9}
    results |= {"loops": loops(case), "cost": costs(results["gflops"] * 1e9), "memory": memory()}
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        (figures / "training.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        step_costs(results).savefig(figures / "training.png", dpi=100)
    return results


# loops


def loops(case: Case, rounds: int = 15, steps: int = 8) -> dict[str, float]:
    """Compare loops that train the same model on the same batches with the same method and optimiser.

    Each is timed right after the loop that it is held against, whose turn comes first in every other round.
    """
    train_set = case.open("train")

    def fresh(method: str = "EqualWeights") -> Setup:
        return case.setup(method=method, train_set=train_set)

    pairs: dict[str, tuple[Step, Step]] = {
        "mtlkit / bare loop": (_ours(fresh()), _bare(fresh())),
        "mtlkit / bare loop (again)": (_ours(fresh()), _bare(fresh())),
        "mtlkit / LibMTL-style, EqualWeights": (_ours(fresh()), _libmtl(fresh(), _sum_backward)),
        "mtlkit / LibMTL-style, PCGrad": (_ours(fresh("PCGrad")), _libmtl(fresh(), _pcgrad_backward)),
    }
    if case.name == "scenes":
        for name, build in {"ssdlite320": ssdlite, "fcos_resnet18": fcos}.items():
            pairs[f"mtlkit / {name} at 64 px"] = (_ours(fresh()), _torchvision(build(64), train_set))
    for method in ("PCGrad", "UPGrad"):
        if (step := _torchjd(fresh(), method)) is not None:
            pairs[f"mtlkit / TorchJD, {method}"] = (_ours(fresh(method)), step)
    ratios: dict[str, list[float]] = {name: [] for name in pairs}
    for turn in range(rounds + 1):
        for name, (ours, theirs) in pairs.items():
            order = (ours, theirs) if turn % 2 else (theirs, ours)
            seconds = {step: seconds_of(step, steps) for step in order}
            if turn:  # the first round warms up
                ratios[name].append(seconds[theirs] / seconds[ours])
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.3f} times as many steps per second", flush=True)
    return {name: statistics.median(values) for name, values in ratios.items()}


def _ours(setup: Setup) -> Step:
    return partial(next, train(*setup.parts, steps=10**9, schedule=lambda _: 1.0, device="cpu"))


def _input(setup: Setup, batch: Batch) -> Tensor:
    x = read_input(setup.model, batch)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _bare(setup: Setup) -> Step:
    """Return what one writes by hand for this model and no other."""
    model, optimizer, loader = setup.model, setup.optimizer, setup.loader
    losses = {task.name: task.loss for task in setup.tasks}
    model.train().to(memory_format=torch.channels_last)

    def step() -> None:
        batch = next(loader)
        optimizer.zero_grad()
        outputs = model(_input(setup, batch))
        first, *others = (loss(outputs[name], batch) for name, loss in losses.items())
        sum(others, first).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()

    return step


def _libmtl(setup: Setup, backward: Callable[[SharedEncoderModel, Tensor], None]) -> Step:
    """In the manner of LibMTL's trainer: losses in a vector, meters that read them in every step, grads set to 0."""
    model, optimizer, loader = setup.model, setup.optimizer, setup.loader
    meters: dict[str, list[float]] = {name: [] for name in ("right", *model.heads)}
    model.train().to(memory_format=torch.channels_last)

    def step() -> None:
        batch = next(loader)
        outputs = model(_input(setup, batch))
        losses = torch.zeros(len(setup.tasks))
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
    model, optimizer, loader = setup.model, setup.optimizer, setup.loader
    model.train().to(memory_format=torch.channels_last)

    def losses() -> dict[str, Tensor]:
        batch = next(loader)
        optimizer.zero_grad()
        outputs = model(_input(setup, batch))
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
    return lambda: torchvision_step(model, optimizer, next(loader))


# cost


def best_rate(size: int = 1536, rounds: int = 7) -> float:
    """Return the most floating-point operations per second that this machine reaches: in a large product of matrices,
    or in a large 3x3 convolution, for which libraries know ways with fewer operations than are counted.
    """  # noqa: D205
    a, b = torch.rand(2, size, size)
    image, kernel = torch.rand(32, 64, 64, 64).contiguous(memory_format=torch.channels_last), torch.rand(64, 64, 3, 3)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        product = 2 * size**3 / min(seconds_of(lambda: a @ b, 2) for _ in range(rounds))
        operations = 2 * image.numel() * 64 * 9
        convolution = operations / min(seconds_of(lambda: conv2d(image, kernel, padding=1), 2) for _ in range(rounds))
    return max(product, convolution)


def costs(rate: float, rounds: int = 7, steps: int = 4) -> dict[str, dict[str, list[list[float]]]]:
    """Time a step against the number of tasks, the size of the images and that of the batch.

    The floor beside each is derived: the step's floating-point operations, counted, at the machine's best `rate`.
    """
    methods: dict[str, Callable[[], Weighting]] = {
        "sum of losses": EqualWeights,
        "UPGrad": UPGrad,
        "UPGrad at features": lambda: UPGrad(at="features"),
    }
    grid: dict[tuple[str, str, int], Iterator[Any]] = {}
    for name, make in methods.items():
        for K in range(1, 11):
            grid["tasks", name, K] = _many_heads(K, make())
        if name != "UPGrad at features":
            for size in (32, 48, 64, 96, 128):
                grid["pixels", name, size] = _scenes(16, size, make())
            for batch_size in (1, 2, 4, 8, 16, 32, 64):
                grid["batch", name, batch_size] = _scenes(batch_size, 64, make())
    seconds: dict[tuple[str, str, int], list[float]] = {key: [] for key in grid}
    flops = {}
    for key, records in grid.items():
        next(records)
        with FlopCounterMode(display=False) as counter:
            next(records)
        flops[key] = counter.get_total_flops()
    for _ in range(rounds):
        for key, records in grid.items():
            seconds[key].append(seconds_of(partial(next, records), steps))
    found: dict[str, dict[str, list[list[float]]]] = {}
    for (what, name, value), times in seconds.items():
        row = [value, 1e3 * statistics.median(times), 1e3 * flops[what, name, value] / rate]
        found.setdefault(what, {}).setdefault(name, []).append(row)
    for what, curves in found.items():
        for name, rows in curves.items():
            print(f"{what}, {name}: " + ", ".join(f"{v:g}: {ms:.1f} ms (floor {low:.1f})" for v, ms, low in rows))
    return found


def _scenes(batch_size: int, size: int, weighting: Weighting) -> Iterator[Any]:
    case = find_case("scenes", size=size)
    setup = case.setup(batch_size=batch_size, method=weighting, train_set=DigitScenes("train", 256, size))
    return _endless(setup.model, setup.tasks, setup.loader, weighting)


def _many_heads(K: int, weighting: Weighting) -> Iterator[Any]:
    """K classifications of the same images, with labels drawn at random."""
    torch.manual_seed(0)
    batch = {"image": torch.rand(16, 3, 64, 64)} | {f"task {k}": torch.randint(10, (16,)) for k in range(K)}
    encoder = ConvEncoder()
    model = SharedEncoderModel(encoder, {f"task {k}": ClassificationHead(encoder.channels, 10) for k in range(K)})
    tasks = [classification(name, name) for name in model.heads]
    return _endless(model, tasks, iter(lambda: batch, None), weighting)


def _endless(
    model: SharedEncoderModel, tasks: Sequence[Task], batches: Iterator[Batch], weighting: Weighting
) -> Iterator[Any]:
    steps = train(model, tasks, batches, weighting, steps=10**9, schedule=lambda _: 0.1, device="cpu")
    next(steps)
    return steps


# memory


def memory() -> list[dict[str, Any]]:
    """Predict the peak memory of a step under several options, then measure it; both in MB."""
    settings: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
        ({"batch_size": 16}, "EqualWeights", {}),
        ({"batch_size": 64}, "EqualWeights", {}),
        ({"batch_size": 64}, "EqualWeights", {"accumulate": 4}),
        ({"batch_size": 64}, "EqualWeights", {"recompute": True}),
        ({"batch_size": 64}, "UPGrad", {}),
        ({"batch_size": 64, "size": 128}, "EqualWeights", {}),
        ({"batch_size": 16, "encoder": "resnet18"}, "EqualWeights", {}),
        ({"batch_size": 16, "encoder": "resnet18"}, "EqualWeights", {"recompute": True}),
        ({"batch_size": 16, "encoder": "resnet18"}, "UPGrad", {}),
    ]
    rows = []
    for changes, method, options in settings:
        batch_size, size = changes.pop("batch_size"), changes.get("size", 64)
        case = find_case("scenes", **changes)
        setup = case.setup(batch_size=batch_size, train_set=DigitScenes("train", batch_size, size))
        step, make = (setup.model, setup.tasks, next(setup.loader)), METHODS[method]
        predicted = predict_memory(*step, make, **options)["peak"]
        measured = measure_memory(*step, make, device="cpu", **options)
        said = [case.values()["encoder"], f"{batch_size} x {size} px", method, *options]
        rows.append({"setting": " ".join(said), "predicted": predicted / 1e6, "measured": measured / 1e6})
        print(
            f"{rows[-1]['setting']}: predicted {predicted / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB", flush=True
        )
    return rows
