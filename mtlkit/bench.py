"""Benchmarks: `mtlkit bench WHAT` measures contestants side by side in one run and prints one JSON object last."""

import contextlib
import ctypes
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.detection import FCOS, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mtlkit import bench_live
from mtlkit.data import DigitScenes, Loader, OxfordPets
from mtlkit.metrics import AveragePrecision
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.optim import MuonAdamW, one_cycle
from mtlkit.recipe import Case, Recipe
from mtlkit.records import Record
from mtlkit.tasks import Task
from mtlkit.training import evaluate, train
from mtlkit.weighting import METHODS, AlignedMTL, EqualWeights, GradientWeighting, UPGrad, Weighting


def run(what: str, seconds: float = 60.0, photos: Path | None = None) -> dict[str, Any]:
    """Run one benchmark, e.g. "quality"; the names are the keys of `benches`."""
    benches: dict[str, Callable[[], dict[str, Any]]] = {
        "quality": lambda: quality(seconds),
        "sharing": sharing,
        "photos": lambda: photographs(photos, seconds),
        "import": import_time,
        "data": scenes_per_second,
        "weighting": weighting,
        "live": bench_live.live,
        "soak": lambda: bench_live.soak(seconds),
    }
    return benches[what]()


def _say(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()))


def _train_case(recipe: Recipe, seconds: float, also: Any = None) -> dict[str, Any]:
    """Train and score on the test split; `also` is a further data set whose accuracy is wanted."""
    case = Case(recipe)
    records = list(
        train(
            case.model, case.tasks, case.loader, case.weighting, case.optimizer, average=case.average, seconds=seconds
        )
    )
    scores = evaluate(case.average, case.tasks, recipe.open("test"))
    if also is not None:
        scores["accuracy_of_further_images"] = evaluate(case.average, case.tasks[:1], also)["accuracy"]
    return scores | {
        "steps": len(records),
        "seconds": records[-1].seconds,
        "parameters": sum(p.numel() for p in case.model.parameters()),
        "image_class": case.train_set.label_origin,
    }


def quality(seconds: float) -> dict[str, Any]:
    """Train our model and two torchvision detectors from scratch for the same time on the same scenes."""
    results: dict[str, Any] = {}
    for scene_class in ("texture", "count"):
        results[scene_class] = _train_case(Recipe(scene_class=scene_class), seconds)
        _say(f"mtlkit, scene class {scene_class}", results[scene_class])
    train_set, test_set = Recipe().open("train"), Recipe().open("test")
    for name, build, rate, decay in (
        ("ssdlite320", _ssdlite, 0.15 / 192, 4e-5),
        ("fcos_resnet18", _fcos, 0.01 / 16, 1e-4),
    ):
        sizes = {}
        for size in (64, 128, 320):
            sizes[size] = _train_torchvision(build(size), train_set, test_set, seconds, rate, decay)
            _say(f"{name} at {size} px", sizes[size])
        results[name] = max(sizes.values(), key=lambda scores: scores["ap"])
        results[f"ap_over_{name}"] = results["texture"]["ap"] / max(results[name]["ap"], 1e-3)
    return results


def _ssdlite(size: int) -> nn.Module:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=11)
    model.transform = GeneralizedRCNNTransform(
        size, size, [0.5] * 3, [0.5] * 3, size_divisible=1, fixed_size=(size, size)
    )
    return model


def _fcos(size: int) -> nn.Module:
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        trainable_layers=5,
        norm_layer=nn.BatchNorm2d,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return FCOS(backbone, num_classes=11, min_size=size, max_size=size)


def _train_torchvision(
    model: nn.Module, train_set: DigitScenes, test_set: DigitScenes, seconds: float, rate: float, decay: float
) -> dict[str, Any]:
    """Train as torchvision's reference does: SGD, learning rate in proportion to the batch, warm-up, decay to 0."""
    batch_size = 32
    optimizer = torch.optim.SGD(model.parameters(), lr=rate * batch_size, momentum=0.9, weight_decay=decay)
    loader, steps, started = Loader(train_set, batch_size), 0, time.perf_counter()
    model.train().to(memory_format=torch.channels_last)
    while (progress := (time.perf_counter() - started) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = rate * batch_size * one_cycle(progress)
        batch = next(loader)
        targets = [
            {"boxes": boxes[labels >= 0], "labels": labels[labels >= 0] + 1}  # 0 is the background
            for boxes, labels in zip(batch["boxes"], batch["box_labels"], strict=True)
        ]
        loss = torch.stack(list(model(list(batch["image"]), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        steps += 1
    metric = AveragePrecision(test_set.box_classes)
    model.eval()
    with torch.no_grad():
        for indices in torch.arange(len(test_set)).split(50):
            batch = test_set.batch(indices)
            found = model(list(batch["image"]))
            metric.add([objects | {"labels": objects["labels"] - 1} for objects in found], batch)
    return metric.compute() | {"steps": steps, "parameters": sum(p.numel() for p in model.parameters())}


def sharing(rounds: int = 9, steps: int = 30) -> dict[str, Any]:
    """Compare one joint model with two single-task models of the same encoder: parameters and seconds a step."""
    train_set = DigitScenes("train", 2000)
    parameters: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    runs: dict[str, Iterator[Record]] = {}
    for name, chosen in {"joint": ("classify", "detect"), "classify": ("classify",), "detect": ("detect",)}.items():
        case = Case(Recipe(), None, train_set)
        tasks: list[Task] = [task for task in case.tasks if task.name in chosen]
        for task in case.tasks:
            if task.name not in chosen:
                del case.model.heads[task.name]
        parameters[name], seconds[name] = sum(p.numel() for p in case.model.parameters()), []
        runs[name] = train(case.model, tasks, case.loader, optimizer=MuonAdamW(case.model), steps=(rounds + 1) * steps)
    for turn in range(rounds + 1):
        for name, records in runs.items():
            started = time.perf_counter()
            for _ in range(steps):
                next(records)
            if turn:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / steps)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [j / (c + d) for j, c, d in zip(*(seconds[name] for name in runs), strict=True)]
    return {
        "parameters": parameters,
        "milliseconds_per_step": {name: round(1e3 * value, 2) for name, value in median.items()},
        "parameter_ratio": parameters["joint"] / (parameters["classify"] + parameters["detect"]),
        "time_ratio": statistics.median(ratios),
    }


def photographs(folder: Path | None, seconds: float) -> dict[str, Any]:
    """Train on real photographs: pets (breed + head) and bccd (cells; the image's class is derived)."""
    if folder is None:
        raise ValueError("give --photos FOLDER, which holds oxford-iiit-pet/ and bccd/BCCD/")
    recipe = Recipe.for_data(f"pets:{folder}")
    authors_test = OxfordPets(folder, "test", recipe.size)
    pets = _train_case(recipe, seconds, also=authors_test)
    for name, photos in (("majority_class", recipe.open("test")), ("majority_class_of_further_images", authors_test)):
        labels = [photo.label for photo in photos.photos]
        pets[name] = max(map(labels.count, set(labels))) / len(labels)
    _say("pets", pets)
    bccd = _train_case(
        Recipe.for_data(f"voc:{folder}/bccd/BCCD", image_class="contains:Platelets", repair=True), seconds
    )
    _say("bccd", bccd)
    return {"pets": pets, "bccd": bccd}


def import_time(rounds: int = 7) -> dict[str, Any]:
    """Compare importing the kit with `import torch, torchvision`, each in new processes, in turn."""
    contestants = ("import torch, torchvision", "import mtlkit", "import mtlkit.recipe")
    seconds: dict[str, list[float]] = {code: [] for code in contestants}
    for _ in range(rounds + 1):
        for code, values in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            values.append(time.perf_counter() - started)
    median = {code: statistics.median(values[1:]) for code, values in seconds.items()}
    base = median[contestants[0]]
    return {"seconds": median, "ratio": {code: value / base for code, value in median.items()}}


def scenes_per_second(rounds: int = 5, n: int = 2048) -> dict[str, Any]:
    """Measure how many scenes one core makes in a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    DigitScenes("train", n)
    rates = []
    for _ in range(rounds):
        started = time.perf_counter()
        DigitScenes("train", n)
        rates.append(n / (time.perf_counter() - started))
    torch.set_num_threads(threads)
    return {"scenes_per_second": statistics.median(rates), "of": n}


def weighting(rounds: int = 15, steps: int = 4, batch_size: int = 32) -> dict[str, Any]:
    """Time forward + backward of every weighting method, as ratios to a plain sum of losses, for 2 and 5 tasks.

    Methods that go back K times are held against the "floor": one forward pass and K backward passes with nothing done
    to the gradients. `torchjd` entries are TorchJD's `mtl_backward` and `jac_to_grad` at their defaults. All take
    turns, so that all meet the same machine.
    Freed memory stays with the process: whether it goes back to the system and is fetched anew, at up to a tenth of a
    step, is a matter of who frees what last.
    """
    _keep_freed_memory()
    return {f"K={K}": _weighting(K, rounds, steps, batch_size) for K in (2, 5)}


def _keep_freed_memory() -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only the C library of Linux has this
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD


def _weighting(K: int, rounds: int, steps: int, batch_size: int) -> dict[str, float]:
    torch.manual_seed(0)
    image, labels = torch.rand(batch_size, 3, 64, 64), torch.randint(10, (K, batch_size))
    encoder = ConvEncoder()
    model = SharedEncoderModel(encoder, {f"task {k}": ClassificationHead(encoder.channels, 10) for k in range(K)})
    model.train().to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)

    def losses() -> dict[str, Tensor]:
        model.zero_grad()
        outputs = model(image)
        return {name: cross_entropy(output, labels[k]) for k, (name, output) in enumerate(outputs.items())}

    def ours(method: Weighting) -> Callable[[], None]:
        def step() -> None:
            method.backward(losses(), model)
            if method.second_look:
                with torch.no_grad():
                    method.observe(losses())

        return step

    def floor() -> None:
        for loss in losses().values():
            loss.backward(retain_graph=True)

    methods: dict[str, Weighting] = {name: make() for name, make in METHODS.items()}
    features: dict[str, Weighting] = {
        "AlignedMTL at features": AlignedMTL(at="features"),
        "UPGrad at features": UPGrad(at="features"),
    }
    contestants: dict[str, Callable[[], None]] = {"floor": floor}
    contestants |= {name: ours(method) for name, method in (methods | features).items()} | _torchjd(K, model, losses)
    plain = ours(EqualWeights())

    def goes_back_k_times(name: str) -> bool:
        method = methods.get(name)
        return name.startswith("torchjd") or (isinstance(method, GradientWeighting) and name != "MGDAUB")

    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, step in contestants.items():  # each right after what it is held against
            base, mine = _seconds(floor if goes_back_k_times(name) else plain, steps), _seconds(step, steps)
            if turn:  # the first round warms up
                ratios[name].append(mine / base)
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    for name, ratio in medians.items():
        print(f"K={K} {name:<24}{ratio:.3f} of the {'floor' if goes_back_k_times(name) else 'plain sum'}", flush=True)
    return medians


def _torchjd(
    K: int, model: SharedEncoderModel, losses: Callable[[], dict[str, Tensor]]
) -> dict[str, Callable[[], None]]:
    try:
        from torchjd import aggregation
        from torchjd.autojac import jac_to_grad, mtl_backward
    except ImportError:
        print("torchjd is not installed: its side of the comparison is left out (pip install 'torchjd[full]')")
        return {}

    def step(aggregator: Any) -> None:
        values = list(losses().values())
        assert model.features is not None
        mtl_backward(values, features=model.features)
        jac_to_grad(model.shared_parameters(), aggregator)

    aggregators = {
        "PCGrad": aggregation.PCGrad(),
        "MGDA": aggregation.MGDA(),
        "CAGrad": aggregation.CAGrad(0.5),
        "NashMTL": aggregation.NashMTL(K),
        "FairGrad": aggregation.FairGrad(2.0),
        "IMTLG": aggregation.IMTLG(),
        "ConFIG": aggregation.ConFIG(),
        "AlignedMTL": aggregation.AlignedMTL(),
        "UPGrad": aggregation.UPGrad(),
        "GradDrop": aggregation.GradDrop(),
    }
    return {f"torchjd {name}": partial(step, aggregator) for name, aggregator in aggregators.items()}


def _seconds(step: Callable[[], None], steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps
