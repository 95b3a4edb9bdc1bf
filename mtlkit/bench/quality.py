"""What is learned in a given time: our model and torchvision's detectors, one joint model and two, photographs."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mtlkit.cases import Case, find_case
from mtlkit.data import Batch, DigitScenes, Loader, OxfordPets
from mtlkit.tasks import AveragePrecision
from mtlkit.training import Record, evaluate, one_cycle, train


def _say(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()))


def _train_case(case: Case, seconds: float, also: Any = None) -> dict[str, Any]:
    """Train and score on the test split; `also` is a further data set whose accuracy is wanted."""
    setup = case.setup()
    records = list(train(*setup.parts, average=setup.average, seconds=seconds))
    scores = evaluate(setup.average, setup.tasks, case.open("test"))
    if also is not None:
        further = evaluate(setup.average, setup.tasks[:1], also)
        scores["accuracy_of_further_images"] = further[setup.tasks[0].score_name]
    return scores | {
        "steps": len(records),
        "seconds": records[-1].seconds,
        "parameters": sum(p.numel() for p in setup.model.parameters()),
        "image_class": getattr(setup.train_set, "label_origin", None),
    }


def quality(case: Case, seconds: float) -> dict[str, Any]:
    """Train a case for some time; on scenes, two torchvision detectors from scratch for the same time as well."""
    if case.name != "scenes":
        result = _train_case(case, seconds)
        _say(case.name, result)
        return {case.name: result}
    results: dict[str, Any] = {}
    for scene_class in ("texture", "count"):
        results[scene_class] = _train_case(case.with_knobs(scene_class=scene_class), seconds)
        _say(f"mtlkit, scene class {scene_class}", results[scene_class])
    train_set, test_set = (case.open(split) for split in ("train", "test"))
    for name, build, rate, decay in (
        ("ssdlite320", ssdlite, 0.15 / 192, 4e-5),
        ("fcos_resnet18", fcos, 0.01 / 16, 1e-4),
    ):
        sizes = {}
        for size in (64, 128, 320):
            sizes[size] = _train_torchvision(build(size), train_set, test_set, seconds, rate, decay)
            _say(f"{name} at {size} px", sizes[size])
        results[name] = max(sizes.values(), key=lambda scores: scores["ap"])
        results[f"ap_over_{name}"] = results["texture"]["detect/ap"] / max(results[name]["ap"], 1e-3)
    return results


def ssdlite(size: int) -> nn.Module:
    """Return an untrained SSDlite with a MobileNetV3 for images of that size."""
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=11)
    model.transform = GeneralizedRCNNTransform(
        size, size, [0.5] * 3, [0.5] * 3, size_divisible=1, fixed_size=(size, size)
    )
    return model


def fcos(size: int) -> nn.Module:
    """Return an untrained FCOS with a ResNet-18 for images of that size."""
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
        torchvision_step(model, optimizer, next(loader))
        steps += 1
    metric = AveragePrecision(test_set.box_classes)
    model.eval()
    with torch.no_grad():
        for indices in torch.arange(len(test_set)).split(50):
            batch = test_set.batch(indices)
            found = model(list(batch["image"]))
            metric.add([objects | {"labels": objects["labels"] - 1} for objects in found], batch)
    return metric.compute() | {"steps": steps, "parameters": sum(p.numel() for p in model.parameters())}


def torchvision_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Train one of torchvision's detectors for one step."""
    targets = [
        {"boxes": boxes[labels >= 0], "labels": labels[labels >= 0] + 1}  # 0 is the background
        for boxes, labels in zip(batch["boxes"], batch["box_labels"], strict=True)
    ]
    loss = torch.stack(list(model(list(batch["image"]), targets).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()


def sharing(case: Case, rounds: int = 9, steps: int = 30) -> dict[str, Any]:
    """Compare one joint model with single-task models of the same encoder: parameters and seconds a step."""
    train_set = case.open("train")
    tasks = [task.name for task in case.make_tasks(case.read_labels(train_set))]
    parameters: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    runs: dict[str, Iterator[Record]] = {}
    for name, only in {"joint": None, **{task: [task] for task in tasks}}.items():
        setup = case.setup(method="EqualWeights", only=only, train_set=train_set)
        parameters[name], seconds[name] = sum(p.numel() for p in setup.model.parameters()), []
        runs[name] = train(*setup.parts, steps=(rounds + 1) * steps)
    for turn in range(rounds + 1):
        for name, records in runs.items():
            started = time.perf_counter()
            for _ in range(steps):
                next(records)
            if turn:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / steps)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = [joint / sum(alone) for joint, *alone in zip(*(seconds[name] for name in runs), strict=True)]
    return {
        "parameters": parameters,
        "milliseconds_per_step": {name: round(1e3 * value, 2) for name, value in median.items()},
        "parameter_ratio": parameters["joint"] / sum(parameters[task] for task in tasks),
        "time_ratio": statistics.median(ratios),
    }


def photographs(folder: Path | None, seconds: float) -> dict[str, Any]:
    """Train on real photographs: pets (breed + head) and bccd (cells; the image's class is derived)."""
    if folder is None:
        raise ValueError("give --photos FOLDER, which holds oxford-iiit-pet/ and bccd/BCCD/")
    case = find_case(f"pets:{folder}")
    authors_test = OxfordPets(folder, "test", case.values()["size"])
    pets = _train_case(case, seconds, also=authors_test)
    for name, photos in (("majority_class", case.open("test")), ("majority_class_of_further_images", authors_test)):
        labels = [photo.label for photo in photos.photos]
        pets[name] = max(map(labels.count, set(labels))) / len(labels)
    _say("pets", pets)
    bccd = _train_case(find_case(f"voc:{folder}/bccd/BCCD", image_class="contains:Platelets", repair=True), seconds)
    _say("bccd", bccd)
    return {"pets": pets, "bccd": bccd}
