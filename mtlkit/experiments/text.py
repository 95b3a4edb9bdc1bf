"""The small language model: mixing temperatures, sizes, adapters. `mtlkit experiments text`."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from mtlkit.cases.text import adamw, text_model
from mtlkit.data import Loader
from mtlkit.data.text import SIZES, TASKS, TextTasks
from mtlkit.experiments.table import Experiment, Row
from mtlkit.machine import one_thread
from mtlkit.model import SharedEncoderModel, add_adapters
from mtlkit.tasks import mixed_task, text_tasks
from mtlkit.training import evaluate, train

STEPS, BATCH = 1500, 32
OLD, NEW = ("english", "reverse", "sort"), ("add", "count")
WIDTHS = (16, 24, 32, 48, 64, 96)
TEMPERATURES = (1.0, 2.0, 5.0, float("inf"))
SCORES = [f"{task}/{score}" for score in ("accuracy", "loss") for task in TASKS]


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
    for _ in train(model, [mixed_task()], loader, None, adamw(model), steps=steps, clip=1.0, device="cpu", **options):
        pass
    return model


def scores(model: SharedEncoderModel) -> dict[str, float]:
    """Return accuracy and loss of every task on validation samples."""
    return evaluate(model, text_tasks(), TextTasks("val", 2000), batch_size=200, device="cpu")


def text_experiment() -> Experiment:
    """Return the experiment: temperatures, widths, and three ways to learn two tasks more."""
    plain = {f"T = {temperature:g}": partial(_plain, temperature=temperature) for temperature in TEMPERATURES}
    sizes = {f"width {width}": partial(_plain, width=width) for width in WIDTHS if width != 64}  # 64 is T = 2
    ways = {how: partial(_adapted, how=how) for how in ("all at once", "all weights", "adapters")}
    columns = ["parameters", "trained", *(f"val {name}" for name in SCORES), "seconds"]
    settings = {name: partial(_row, setting) for name, setting in (plain | sizes | ways).items()}
    return Experiment("text", "text", f"{STEPS} steps of {BATCH}; validation samples", columns, settings)


def _plain(seed: int, width: int = 64, temperature: float = 2.0) -> SharedEncoderModel:
    return fit(text_model(width, seed=seed), temperature=temperature, seed=seed)


def _adapted(seed: int, how: str) -> SharedEncoderModel:
    """Train on the old tasks; then give the new ones a third of that time, in one of three ways."""
    model = text_model(seed=seed)
    if how == "all at once":
        return fit(model, seed=seed, steps=STEPS * 4 // 3)
    fit(model, _of(OLD), seed=seed)
    if how == "adapters":
        add_adapters(model, len(TASKS))
    return fit(model, _of(NEW), seed=seed, steps=STEPS // 3)


def _of(tasks: Sequence[str]) -> dict[str, int]:
    return {task: SIZES[task] for task in tasks}


def _row(setting: Callable[[int], SharedEncoderModel], seed: int) -> dict[str, float]:
    with one_thread(), torch.random.fork_rng():
        torch.manual_seed(seed)
        started = time.process_time()
        model = setting(seed)
        seconds = time.process_time() - started
        numbers = [p.numel() for p in model.parameters()]
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found = {f"val {name}": score for name, score in scores(model).items()}
    return {"parameters": sum(numbers), "trained": trained, **found, "seconds": seconds}


def losses_by_size(rows: Sequence[Row], task: str = "english") -> dict[int, list[float]]:
    """Return number of parameters → a task's losses, one a seed, of the runs that differ in their width only."""
    sizes: dict[int, list[float]] = {}
    for row in rows:
        if row.setting.startswith("width ") or row.setting == "T = 2":
            sizes.setdefault(int(row.values["parameters"]), []).append(row.values[f"val {task}/loss"])
    return dict(sorted(sizes.items()))
