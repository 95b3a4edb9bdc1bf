"""The commands that build a model: `mtlkit train | memory | evaluate`."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from mtlkit import training
from mtlkit.checkpoints import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from mtlkit.data import DataError
from mtlkit.memory import predict_memory
from mtlkit.parallel import Group, joined
from mtlkit.recipe import Case, Recipe
from mtlkit.records import Progress, Record
from mtlkit.tasks import classification_and_detection
from mtlkit.training import pick_device

CHECKPOINT = "checkpoint.safetensors"


def train(options: argparse.Namespace) -> int:
    """Train as the options say, as one of the processes that `torchrun` started if it did; return the exit status."""
    options.device = pick_device(options.device)
    with joined(options.device, options.timeout) as group:
        case, before, records, interrupted = _train_together(options, group)
    if group.rank == 0 and not interrupted:  # the others need not wait for the scores
        _score(options, case, before, records)
    return 130 if interrupted else 0


def _train_together(options: argparse.Namespace, group: Group) -> tuple[Case, Progress | None, list[Record], bool]:
    """Train as one of the processes of `group`; only the first writes and speaks.

    Returns:
        what was trained, the checkpoint that it went on from, the records since, and whether it was interrupted.
    """
    first = group.rank == 0
    file = _writable(options.out) / CHECKPOINT if options.out else None
    if options.picture:
        _writable(options.picture.parent)
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) and file and file.exists():
        options.resume = True
    recipe = _recipe(options, file)
    case = Case(recipe, options.weights, group=group)
    if options.device.type == "cuda" and hasattr(case.train_set, "to"):
        case.train_set.to(options.device)
    train_set = case.train_set
    config = asdict(recipe) | {"classes": train_set.classes, "box_classes": train_set.box_classes}
    parts: dict[str, Any] = {
        name: getattr(case, name) for name in ("model", "average", "optimizer", "weighting", "loader")
    }
    before = None
    if options.resume and file:
        before = load_checkpoint(file, **parts)
        case.weighting.weights.update(options.weights or {})
    parameters = sum(p.numel() for p in case.model.parameters())
    if first:
        print(
            f"{len(train_set)} images of {recipe.size} px, {len(train_set.classes)} image classes "
            f"({train_set.label_origin}), {len(train_set.box_classes)} box classes; {parameters:,} parameters"
            + (f"; {group.size} processes" if group.size > 1 else "")
            + (f"; going on after step {before.step}" if before else ""),
            flush=True,
        )

    def save(record: Any) -> None:
        if file and first:
            save_checkpoint(file, record, config, **parts)

    records, interrupted = _train_and_save(case, options, before, save, group)
    if first and interrupted:
        kept = f"; go on with: mtlkit train --resume --out {options.out}" if file else " (no --out: nothing was kept)"
        print(f"\nmtlkit: stopped after step {records[-1].step}{kept}", file=sys.stderr)
    return case, before, records, interrupted


def _score(options: argparse.Namespace, case: Case, before: Progress | None, records: list[Record]) -> None:
    """Print the scores on the test split, and draw the run if asked to."""
    test_set = case.recipe.open("test")
    scores = training.evaluate(case.average, case.tasks, test_set, device=options.device)
    if options.picture:
        from mtlkit import plots

        plots.run(records, case.average, test_set, scores).savefig(options.picture, dpi=100)
        print(f"drew {options.picture}")
    trained = records[-1].seconds - (before.seconds if before else 0)
    report = scores | {
        "steps": records[-1].step,
        "seconds": round(records[-1].seconds, 2),
        "images_per_second": round(len(records) * case.loader.batch_size / trained, 1),
        "parameters": sum(p.numel() for p in case.model.parameters()),
        "image_class": case.train_set.label_origin,
    }
    if options.device.type == "cuda":
        report["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(options.device) / 1e6, 1)
    _report(report, options.json)


def memory(options: argparse.Namespace) -> int:
    """Print the memory that training would take."""
    recipe = _recipe(options)
    case = Case(replace(recipe, scenes=recipe.batch_size))
    how = {"accumulate": options.accumulate, "recompute": options.recompute}
    found = predict_memory(case.model, case.tasks, next(case.loader), lambda: case.weighting, **how)
    found["average"] = found["parameters"]  # the command trains with one
    found["peak"] = found.pop("peak") + found["average"]
    _report({f"{name}_mb": round(size / 1e6, 2) for name, size in found.items()}, options.json)
    return 0


def _recipe(options: argparse.Namespace, file: Path | None = None) -> Any:
    """Return the recipe that the options ask for, or that of the run which is resumed."""
    if getattr(options, "resume", False):
        if file is None:
            raise ValueError("--resume needs --out: the folder that holds the checkpoint")
        config = read_checkpoint(file).config
        return Recipe(**{name: value for name, value in config.items() if name not in ("classes", "box_classes")})
    names = ("size", "encoder", "batch_size", "seed", "scenes", "scene_class", "image_class", "repair", "method")
    return Recipe.for_data(options.data, **{name: getattr(options, name) for name in names})


def _train_and_save(
    case: Any, options: argparse.Namespace, before: Any, save: Callable[[Any], None], group: Group
) -> tuple[list[Any], bool]:
    """Train with a progress bar; save now and then and at the end.

    Ctrl-C, or being told to end, stops it after the step that is under way. But `torchrun` tells a process to end when
    another one is gone: no step will be finished then.
    """
    limits = _limits(options, case.loader.batches_per_epoch)
    by_steps = "steps" in limits
    bar = tqdm(
        total=limits["steps"] if by_steps else limits["seconds"],
        unit="step" if by_steps else "s",
        disable=True if group.rank else None,
        bar_format="{percentage:3.0f}%|{bar:30}| {n:.0f}/{total:.0f} {unit}{postfix}",
    )
    parts = (case.model, case.tasks, case.loader, case.weighting, case.optimizer)
    running = training.train(
        *parts,
        average=case.average,
        device=options.device,
        precision=options.precision,
        accumulate=options.accumulate,
        recompute=options.recompute,
        compile=options.compile,
        after=before,
        group=group,
        **limits,
    )
    records: list[Any] = []
    saved, shown = float("-inf"), time.monotonic()  # saved after the first step too: a full disk shows at once
    interrupted: list[int] = []

    def end(number: int, _: Any) -> None:
        if number == signal.SIGTERM and group.size > 1:
            raise group.broken("told to end by torchrun")
        interrupted.append(number)

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for record in running:
            records.append(record)
            bar.n = min(record.step if by_steps else record.seconds, bar.total)
            if time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                bar.set_postfix_str(" ".join(f"{name} {loss:.3f}" for name, loss in record.losses.items()))
            if group.any(bool(interrupted)):
                interrupted.append(signal.SIGINT)
                break
            if time.monotonic() - saved > options.save_every:
                save(record)
                saved = time.monotonic()
    except DataError:  # a bad image in the middle of the night: keep what was learned
        if records:
            save(records[-1])
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        bar.close()
    if not records:
        raise ValueError("the checkpoint has already come this far: give more --seconds, --epochs or --steps")
    save(records[-1])
    return records, bool(interrupted)


def _limits(options: argparse.Namespace, batches_per_epoch: int) -> dict[str, Any]:
    if options.epochs:
        return {"steps": max(1, round(options.epochs * batches_per_epoch))}
    return {"steps": options.steps} if options.steps else {"seconds": options.seconds or 60.0}


def _writable(folder: Path) -> Path:
    """Make the folder and try it now, not after an hour of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: None if value != value else value for name, value in report.items()}))
        return
    for name, value in report.items():
        print(f"{name:<18} {value:.3f}" if isinstance(value, float) else f"{name:<18} {value}")


def evaluate(options: argparse.Namespace) -> int:
    """Print the scores of a checkpoint on test data."""
    config = dict(read_checkpoint(options.checkpoint).config)
    classes, box_classes = config.pop("classes"), config.pop("box_classes")
    for name in ("data", "scene_class", "image_class", "repair"):
        config[name] = getattr(options, name) or config[name]
    recipe = Recipe(**config)
    model = AveragedModel(recipe.model(len(classes), len(box_classes)))
    load_checkpoint(options.checkpoint, average=model)
    test_set = recipe.open("test")
    if list(test_set.classes) != classes or list(test_set.box_classes) != box_classes:
        raise CheckpointError(
            f"{options.checkpoint} knows the classes {', '.join(classes)} and {', '.join(box_classes)}; this data has "
            f"{', '.join(test_set.classes)} and {', '.join(test_set.box_classes)}"
        )
    _report(
        training.evaluate(model, classification_and_detection(box_classes), test_set, device=options.device),
        options.json,
    )
    return 0
