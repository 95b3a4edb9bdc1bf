"""What a training step costs: our loop beside other loops of the same model, against derived floors, and its memory."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from mtlkit.bench.loops import gpu_options, loops
from mtlkit.bench.picture import step_costs
from mtlkit.bench.weighting import keep_freed_memory, seconds_of
from mtlkit.cases import Case, find_case
from mtlkit.data import Batch, DigitScenes
from mtlkit.machine import Machine, pick_device, to_device
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification
from mtlkit.training import measure_memory, predict_memory, train
from mtlkit.weighting import METHODS, EqualWeights, UPGrad, Weighting

Step = Callable[[], Any]


def training(case: Case, figures: Path | None = None, device: str = "cpu") -> dict[str, Any]:
    """Measure the loops on `case`, costs and memory on scenes; with a folder, leave `training.json` and `.png` there.

    Returns:
        "loops": contestant → steps per second, as a multiple of the bare loop's or, for ours, of the other's;
        "options": on a GPU, option of our loop → steps per second, as a multiple of those without it;
        "cost": what varies → method → rows of (value, milliseconds a step, floor); "memory": rows of a setting, the
        predicted and the measured peak in MB; "gflops": what this machine reaches at best. Everything but the options
        in float32 (on a GPU with TF32).
    """
    keep_freed_memory()
    device = str(pick_device(device))
    rate = best_rate(device)
    results: dict[str, Any] = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    results |= {
        "gflops": rate / 1e9,
        "loops": loops(case, device=device),
        "cost": costs(rate, device=device),
        "memory": memory(device),
    }
    if device.startswith("cuda"):
        results["options"] = gpu_options(device)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        (figures / "training.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        step_costs(results).savefig(figures / "training.png", dpi=100)
    return results


# cost


def best_rate(device: str = "cpu", rounds: int = 7) -> float:
    """Return the most floating-point operations per second that this machine reaches: in a large product of matrices,
    or in a large 3x3 convolution, for which libraries know ways with fewer operations than are counted.
    """  # noqa: D205
    size, images = (1536, 32) if device == "cpu" else (8192, 512)
    if device != "cpu":
        torch.set_float32_matmul_precision("high")  # as the loop does there
    a, b = torch.rand(2, size, size, device=device)
    image, kernel = torch.rand(images, 64, 64, 64, device=device), torch.rand(64, 64, 3, 3, device=device)
    image, kernel = (x.contiguous(memory_format=torch.channels_last) for x in (image, kernel))
    with torch.no_grad():
        product = 2 * size**3 / min(seconds_of(lambda: a @ b, 2) for _ in range(rounds))
        operations = 2 * image.numel() * 64 * 9
        convolution = operations / min(seconds_of(lambda: conv2d(image, kernel, padding=1), 2) for _ in range(rounds))
    return max(product, convolution)


def costs(rate: float, rounds: int = 7, steps: int = 4, device: str = "cpu") -> dict[str, dict[str, list[list[float]]]]:
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
            grid["tasks", name, K] = _many_heads(K, make(), device)
        if name != "UPGrad at features":
            for size in (32, 48, 64, 96, 128):
                grid["pixels", name, size] = _scenes(16, size, make(), device)
            for batch_size in (1, 2, 4, 8, 16, 32, 64):
                grid["batch", name, batch_size] = _scenes(batch_size, 64, make(), device)
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
            print(f"{what}, {name}: " + ", ".join(f"{v:g}: {ms:.1f} ms (floor {low:.2g})" for v, ms, low in rows))
    return found


def _scenes(batch_size: int, size: int, weighting: Weighting, device: str) -> Iterator[Any]:
    case = find_case("scenes", size=size)
    setup = case.setup(
        batch_size=batch_size, method=weighting, train_set=DigitScenes("train", 256, size).to(torch.device(device))
    )
    return _endless(setup.model, setup.tasks, setup.loader, weighting, device)


def _many_heads(K: int, weighting: Weighting, device: str) -> Iterator[Any]:
    """K classifications of the same images, with labels drawn at random."""
    torch.manual_seed(0)
    batch = {"image": torch.rand(16, 3, 64, 64)} | {f"task {k}": torch.randint(10, (16,)) for k in range(K)}
    batch = to_device(batch, torch.device(device))
    encoder = ConvEncoder()
    model = SharedEncoderModel(encoder, {f"task {k}": ClassificationHead(encoder.channels, 10) for k in range(K)})
    tasks = [classification(name, name) for name in model.heads]
    return _endless(model, tasks, iter(lambda: batch, None), weighting, device)


def _endless(
    model: SharedEncoderModel, tasks: Sequence[Task], batches: Iterator[Batch], weighting: Weighting, device: str
) -> Iterator[Any]:
    machine = Machine(device, "float32")
    steps = train(model, tasks, batches, weighting, steps=10**9, schedule=lambda _: 0.1, machine=machine)
    next(steps)
    return steps


# memory


def memory(device: str = "cpu") -> list[dict[str, Any]]:
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
        measured = measure_memory(*step, make, device=device, precision="float32", **options)
        said = [case.values()["encoder"], f"{batch_size} x {size} px", method, *options]
        rows.append({"setting": " ".join(said), "predicted": predicted / 1e6, "measured": measured / 1e6})
        print(
            f"{rows[-1]['setting']}: predicted {predicted / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB", flush=True
        )
    return rows
