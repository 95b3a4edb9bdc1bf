"""The commands that build a model: `mtlkit train | memory | evaluate`. They take any case."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from mtlkit import training
from mtlkit.cases import Case, Setup, find_case
from mtlkit.cases.case import only_tasks
from mtlkit.data import DataError
from mtlkit.machine import ALONE, Group, Machine, joined, pick_device
from mtlkit.tasks import Task
from mtlkit.training import (
    Checkpoint,
    CheckpointError,
    Progress,
    Record,
    fetch,
    load_checkpoint,
    predict_memory,
    read_checkpoint,
    save_checkpoint,
)
from mtlkit.weighting import StaticWeights

CHECKPOINT = "checkpoint.safetensors"
KNOBS = ("size", "encoder", "scenes", "scene_class", "image_class", "repair")  # that have an option of their own


def train(options: argparse.Namespace) -> int:
    """Train as the options say, as one of the processes that `torchrun` started if it did; return the exit status."""
    options.device = pick_device(options.device)
    Machine(
        options.device, options.precision, options.accumulate, options.recompute, options.compile
    )  # or says why not
    if options.picture:
        _drawable(options.picture)
    with joined(options.device, options.timeout) as group:
        setup, before, records, interrupted = _train_together(options, group)
    if group.rank == 0 and not interrupted:  # the others need not wait for the scores
        _score(options, setup, before, records)
    return 130 if interrupted else 0


def _train_together(options: argparse.Namespace, group: Group) -> tuple[Setup, Progress | None, list[Record], bool]:
    """Train as one of the processes of `group`; only the first writes and speaks.

    Returns:
        what was trained, the checkpoint that it went on from, the records since, and whether it was interrupted.
    """
    first = group.rank == 0
    file = _writable(options.out) / CHECKPOINT if options.out else None
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) and file and file.exists():
        options.resume = True
    setup = _resumed(options, file, group) if options.resume else _set_up(_case(options, options.case), options, group)
    if first:
        options.test_set = setup.case.open("test", setup.seed)  # now: what is wrong with it shows before the training
        for line in [*getattr(setup.train_set, "mended", ()), *getattr(options.test_set, "mended", ())]:
            print(f"mtlkit: mended: {line}", file=sys.stderr)
    if options.device.type == "cuda" and hasattr(setup.train_set, "to"):
        setup.train_set.to(options.device)
    before: Checkpoint | None = None
    if options.resume and file:
        before = load_checkpoint(file, **setup.states)
        setup.weighting.weights.update(options.weights or {})
    if first:
        print(
            str(setup)
            + (f"; {group.size} processes" if group.size > 1 else "")
            + (f"; going on after step {before.step}" if before else ""),
            flush=True,
        )

    def save(record: Record) -> None:
        if file and first:
            save_checkpoint(file, record, setup.config, **setup.states)

    records, interrupted = _train_and_save(setup, options, before, save, group)
    if first and interrupted:
        kept = f"; go on with: mtlkit train --resume --out {options.out}" if file else " (no --out: nothing was kept)"
        print(f"\nmtlkit: stopped after step {records[-1].step}{kept}", file=sys.stderr)
    return setup, before, records, interrupted


def _case(options: argparse.Namespace, which: str, kept: dict[str, Any] | None = None) -> Case:
    """Return a case with its knobs as in a checkpoint, if one is given, and then as the options set them."""
    given = dict(options.knob or [])
    given |= {name: value for name in KNOBS if (value := getattr(options, name, None)) is not None}
    return find_case(which, **((kept or {}) | given))


def _set_up(case: Case, options: argparse.Namespace, group: Group = ALONE, train_set: Any = None) -> Setup:
    """Make what the options ask for."""
    return case.setup(
        seed=options.seed or 0,
        batch_size=options.batch_size,
        method=options.method or "StaticWeights",
        weights=options.weights,
        train_set=train_set,
        group=group,
    )


def _resumed(options: argparse.Namespace, file: Path | None, group: Group) -> Setup:
    """Make again what a checkpoint was trained with."""
    if file is None:
        raise ValueError("--resume needs --out: the folder that holds the checkpoint")
    config = read_checkpoint(file).config
    names = ("seed", "batch_size", "method", "only")
    return find_case(config["case"], **config["knobs"]).setup(**{name: config[name] for name in names}, group=group)


def _score(options: argparse.Namespace, setup: Setup, before: Progress | None, records: list[Record]) -> None:
    """Print the scores on the test split, and draw the run if asked to."""
    test_set = options.test_set
    scores = training.evaluate(setup.average, setup.tasks, test_set, device=options.device)
    if options.picture:
        from mtlkit import plots

        seen = setup.case.see(test_set, plots.spread(len(test_set)), setup.average)
        plots.run(records, seen, scores).savefig(options.picture, dpi=100)
        print(f"drew {options.picture}")
    trained = records[-1].seconds - (before.seconds if before else 0)
    report: dict[str, Any] = scores | {
        "steps": records[-1].step,
        "seconds": round(records[-1].seconds, 2),
        "samples_per_second": round(len(records) * setup.loader.batch_size / trained, 1),
        "parameters": sum(p.numel() for p in setup.model.parameters()),
    }
    if origin := getattr(setup.train_set, "label_origin", ""):
        report["label_origin"] = origin
    if options.device.type == "cuda":
        report["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(options.device) / 1e6, 1)
    _report(report, options.json)


def memory(options: argparse.Namespace) -> int:
    """Print the memory that training would take."""
    case = _case(options, options.case)
    few, batch_size = case.open("val"), options.batch_size or case.batch_size  # quicker to open than "train"
    setup = _set_up(case, options, train_set=few)
    how = {"accumulate": options.accumulate, "recompute": options.recompute}
    batch = fetch(few, torch.arange(batch_size) % len(few))
    found = predict_memory(setup.model, setup.tasks, batch, lambda: setup.weighting, case.optimizer, **how)
    found["average"] = found["parameters"]  # the command trains with one
    found["peak"] = found.pop("peak") + found["average"]
    _report({f"{name}_mb": round(size / 1e6, 2) for name, size in found.items()}, options.json)
    return 0


def _train_and_save(
    setup: Setup, options: argparse.Namespace, before: Any, save: Callable[[Any], None], group: Group
) -> tuple[list[Any], bool]:
    """Train with a progress bar; save now and then and at the end.

    Ctrl-C, or being told to end, stops it after the step that is under way. But `torchrun` tells a process to end when
    another one is gone: no step will be finished then.
    """
    limits = _limits(options, setup)
    by_steps = "steps" in limits
    bar = tqdm(
        total=limits["steps"] if by_steps else limits["seconds"],
        unit="step" if by_steps else "s",
        disable=True if group.rank else None,
        bar_format="{percentage:3.0f}%|{bar:30}| {n:.0f}/{total:.0f} {unit}{postfix}",
    )
    machine = replace(_machine(options), group=group)
    running = training.train(*setup.parts, average=setup.average, after=before, machine=machine, **limits)
    records: list[Any] = []
    saved, shown = float("-inf"), time.monotonic()  # saved after the first step too: a full disk shows at once
    interrupted: list[int] = []

    def end(number: int, _: Any) -> None:
        if number == signal.SIGTERM and group.size > 1:
            raise group.broken("torchrun told it to end")
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
        raise ValueError("the checkpoint has already reached this limit: give more --seconds, --epochs or --steps")
    save(records[-1])
    return records, bool(interrupted)


def _machine(options: argparse.Namespace) -> Machine:
    return Machine(options.device, options.precision, options.accumulate, options.recompute, options.compile)


def _limits(options: argparse.Namespace, setup: Setup) -> dict[str, Any]:
    steps = [options.steps] if options.steps else []
    if options.epochs:
        steps.append(max(1, round(options.epochs * setup.loader.batches_per_epoch)))
    seconds = options.seconds or (None if steps else setup.case.seconds)
    return {name: limit for name, limit in (("steps", min(steps, default=None)), ("seconds", seconds)) if limit}


def _writable(folder: Path) -> Path:
    """Make the folder and try it now, not after an hour of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error


def _drawable(file: Path) -> None:
    """See that a picture can be written there, now and not after an hour of training."""
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.lower().removeprefix(".") not in kinds:
        raise ValueError(f"cannot draw {file}: its ending must be one of {', '.join(sorted(kinds))}")
    _writable(file.parent)


def look(options: argparse.Namespace) -> int:
    """Say what is in a folder of photographs, and draw some of them."""
    from mtlkit import plots
    from mtlkit.data.photos import look as photos

    _drawable(options.picture)
    splits = photos.look(options.folder)
    for split in splits:
        print("\n".join(split.lines()))
    if same := photos.same_pictures(splits):
        print(f"{len(same):,} photographs are in both splits, so scores will be too good: {', '.join(same[:3])}")
    (train, *_) = splits
    plots.samples(train.photos, train.shown[:24]).savefig(options.picture, dpi=110)
    print(f"drew {options.picture}: photographs of {train.name!r}, those with suspicious boxes first")
    return 0


def _report(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: None if value != value else value for name, value in report.items()}))
        return
    for name, value in report.items():
        print(f"{name:<18} {value:.3f}" if isinstance(value, float) else f"{name:<18} {value}")


def evaluate(options: argparse.Namespace) -> int:
    """Print the scores of a checkpoint on test data."""
    _, model, tasks, test_set, _ = _loaded(options)
    _report(training.evaluate(model, tasks, test_set, device=options.device), options.json)
    return 0


def report(options: argparse.Namespace) -> int:
    """Write a report card of a checkpoint, one HTML file."""
    from mtlkit.report import card_of, page_of

    _writable(options.out.parent)
    case, model, tasks, test_set, checkpoint = _loaded(options)
    config = checkpoint.config
    method = StaticWeights()
    if config["method"] in ("StaticWeights", "EqualWeights"):  # others set their weights themselves
        load_checkpoint(options.checkpoint, weighting=method)
    weights = ", ".join(f"{name} {weight:g}" for name, weight in method.weights.items())
    steps = f"{checkpoint.step:,} steps of {config['batch_size']} samples in {checkpoint.seconds:,.0f} s"
    facts = {
        "training": f"{steps}, seed {config['seed']}",
        "method": f"{config['method']} {weights}".strip(),
        "settings": ", ".join(f"{name} {value!r}" for name, value in config["knobs"].items() if value != "") or "none",
    }
    card = card_of(case, model.module, tasks, test_set, facts=facts, notes=options.note or (), draws=options.draws)
    options.out.write_text(page_of(card), encoding="utf-8")
    for name, score in card.scores.items():
        print(f"{name:<18} {score.value:.3f}  ({score.low:.3f} to {score.high:.3f})")
    print(f"wrote {options.out}")
    return 0


def _loaded(options: argparse.Namespace) -> tuple[Case, AveragedModel, Sequence[Task], Any, Checkpoint]:
    """Return what a checkpoint is of, its model and tasks, the test data, and what else it says."""
    config = read_checkpoint(options.checkpoint).config
    trained = find_case(config["case"], **config["knobs"])
    model, tasks = trained.new_model(config["labels"]), trained.make_tasks(config["labels"])
    if config["only"]:
        model, tasks = only_tasks(model, tasks, config["only"])
    average = AveragedModel(model)
    checkpoint = load_checkpoint(options.checkpoint, average=average)
    case = _case(options, options.case) if options.case else _case(options, config["case"], config["knobs"])
    test_set = case.open("test", config["seed"])
    labels = {name: list(values) for name, values in case.read_labels(test_set).items()}
    if labels != config["labels"]:
        raise CheckpointError(
            f"{options.checkpoint} knows the {_words(config['labels'])}; this data has the {_words(labels)}"
        )
    return case, average, tasks, test_set, checkpoint


def _words(labels: dict[str, list[str]]) -> str:
    return " and the ".join(f"{name.replace('_', ' ')} {', '.join(values)}" for name, values in labels.items())
