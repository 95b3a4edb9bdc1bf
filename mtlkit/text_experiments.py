"""Experiments with the small language model: `mtlkit experiments text` keeps them in `data/results/text.csv`."""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mtlkit.data import Loader
from mtlkit.data.text import SIZES, TASKS, TextTasks
from mtlkit.experiments import RESULTS, append_row
from mtlkit.model import SharedEncoderModel
from mtlkit.threads import one_thread
from mtlkit.training import evaluate, train
from mtlkit.transformer import add_adapters, mixed_task, text_model, text_tasks

FILE = RESULTS / "text.csv"
STEPS, BATCH, RATE = 1500, 32, 3e-3
OLD, NEW = ("english", "reverse", "sort"), ("add", "count")
WIDTHS = (16, 24, 32, 48, 64, 96)
SCORES = (*TASKS, *(f"{task}_loss" for task in TASKS))
TEMPERATURES = (1.0, 2.0, 5.0, float("inf"))


@dataclass(frozen=True)
class TextOutcome:
    """What one training run came to.

    Attributes:
        setting: what was tried.
        seed: of initialisation, samples and order.
        parameters: of the model.
        trained: how many of them were trained in the last phase.
        scores: task → accuracy over tokens of the validation samples, and task + "_loss" → loss.
        seconds: of one core.
    """

    setting: str
    seed: int
    parameters: int
    trained: int
    scores: Mapping[str, float]
    seconds: float = 0.0


def fit(
    model: SharedEncoderModel,
    sizes: Mapping[str, int] = SIZES,
    temperature: float = 2.0,
    steps: int = STEPS,
    seed: int = 0,
    **options: Any,
) -> SharedEncoderModel:
    """Train `model` with AdamW on samples of the tasks of `sizes`, all tokens alike; return it."""
    loader = Loader(TextTasks("train", 40_000, temperature, seed, sizes), BATCH, seed)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, RATE, weight_decay=0.01, fused=True)
    for _ in train(model, [mixed_task()], loader, None, optimizer, steps=steps, clip=1.0, device="cpu", **options):
        pass
    return model


def scores(model: SharedEncoderModel) -> dict[str, float]:
    """Return accuracy and loss of every task on validation samples."""
    return evaluate(model, text_tasks(), TextTasks("val", 2000), batch_size=200, device="cpu")


def _of(tasks: Sequence[str]) -> dict[str, int]:
    return {task: SIZES[task] for task in tasks}


def _adapted(seed: int, how: str) -> tuple[SharedEncoderModel, int]:
    """Train on the old tasks; then give the new ones a third of that time, in one of three ways."""
    model = text_model(seed=seed)
    if how == "all at once":
        fit(model, seed=seed, steps=STEPS * 4 // 3)
    else:
        fit(model, _of(OLD), seed=seed)
        if how == "adapters":
            add_adapters(model, len(TASKS))
        fit(model, _of(NEW), seed=seed, steps=STEPS // 3)
    return model, sum(p.numel() for p in model.parameters() if p.requires_grad)


def settings() -> Mapping[str, Callable[[int], tuple[SharedEncoderModel, int]]]:
    """Return setting → what trains its model for a seed, and says how many parameters it trained."""

    def plain(seed: int, width: int = 64, temperature: float = 2.0) -> tuple[SharedEncoderModel, int]:
        model = fit(text_model(width, seed=seed), temperature=temperature, seed=seed)
        return model, sum(p.numel() for p in model.parameters())

    return (
        {f"T = {temperature:g}": partial(plain, temperature=temperature) for temperature in TEMPERATURES}
        | {f"width {width}": partial(plain, width=width) for width in WIDTHS if width != 64}  # 64 is T = 2
        | {how: partial(_adapted, how=how) for how in ("all at once", "all weights", "adapters")}
    )


def text(seeds: int = 5, file: Path = FILE) -> Iterator[TextOutcome]:
    """Run every setting with every seed; what is in the table already is not run again."""
    done = {(outcome.setting, outcome.seed) for outcome in read(file)} if file.exists() else set()
    for seed in range(seeds):
        for setting, run in settings().items():
            if (setting, seed) not in done:
                outcome = _run(setting, seed, run)
                _append(file, outcome)
                yield outcome


def _run(setting: str, seed: int, run: Callable[[int], tuple[SharedEncoderModel, int]]) -> TextOutcome:
    with one_thread(), torch.random.fork_rng():
        torch.manual_seed(seed)
        started = time.process_time()
        model, trained = run(seed)
        seconds = time.process_time() - started
        parameters = sum(p.numel() for p in model.parameters())
        return TextOutcome(setting, seed, parameters, trained, scores(model), seconds)


def _append(file: Path, outcome: TextOutcome) -> None:
    numbers = [f"{outcome.scores[name]:.4f}" for name in SCORES]
    row = [outcome.setting, outcome.seed, outcome.parameters, outcome.trained, *numbers, f"{outcome.seconds:.1f}"]
    columns = ["setting", "seed", "parameters", "trained", *SCORES, "seconds"]
    append_row(file, "text", f"{STEPS} steps of {BATCH}; validation samples", columns, row)


def read(file: Path = FILE) -> list[TextOutcome]:
    """Return the outcomes in a table that `text` wrote."""
    with file.open() as table:
        rows = csv.DictReader(line for line in table if not line.startswith("#"))
        return [
            TextOutcome(
                row["setting"],
                int(row["seed"]),
                int(row["parameters"]),
                int(row["trained"]),
                {name: float(row[name]) for name in SCORES},
                float(row["seconds"]),
            )
            for row in rows
        ]


def means(outcomes: Sequence[TextOutcome]) -> dict[str, dict[str, float]]:
    """Return setting → score → mean over the seeds."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.setting, []).append(outcome.scores)
    return {setting: {name: fmean(run[name] for run in runs) for name in runs[0]} for setting, runs in found.items()}


def losses_by_size(outcomes: Sequence[TextOutcome], task: str = "english") -> dict[float, list[float]]:
    """Return number of parameters → a task's losses, one a seed, of the runs that differ in their width only."""
    sizes: dict[float, list[float]] = {}
    for outcome in outcomes:
        if outcome.setting.startswith("width ") or outcome.setting == "T = 2":
            sizes.setdefault(outcome.parameters, []).append(outcome.scores[f"{task}_loss"])
    return dict(sorted(sizes.items()))
