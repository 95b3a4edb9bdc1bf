"""The engine of all experiments: settings by seeds → rows of a table in `data/results`, resumable, side by side."""

import csv
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from mtlkit import __version__

RESULTS = Path(__file__).parents[2] / "data" / "results"


class Row(NamedTuple):
    """What one setting came to with one seed: column → number, NaN where there is none."""

    setting: str
    seed: int
    values: dict[str, float]


@dataclass(frozen=True)
class Experiment:
    """Settings that are run with several seeds each.

    Attributes:
        name: of the table, `<name>.csv`.
        command: of `mtlkit experiments` that makes it.
        budget: what each run may spend, in words.
        columns: of the table, after setting and seed.
        settings: name → what runs it for a seed and returns column → number. Other processes run it: it must not
            depend on what changes in this one.
        timed: whether seconds count: runs side by side share memory and cache, and so get less done in them.
        seeds: how many, if it has a number of its own.
    """

    name: str
    command: str
    budget: str
    columns: Sequence[str]
    settings: Mapping[str, Callable[[int], Mapping[str, float]]] = field(repr=False)
    timed: bool = False
    seeds: int | None = None

    def file(self, folder: Path = RESULTS) -> Path:
        """Return where the table is."""
        return folder / f"{self.name}.csv"


def run(
    experiment: Experiment, seeds: int, folder: Path = RESULTS, workers: int | None = None, bar: bool = True
) -> Iterator[Row]:
    """Run every setting with every seed, and yield each row as soon as it is in the table.

    What is in the table already is not run again: an interrupted experiment goes on where it stopped.

    Args:
        experiment: what is run.
        seeds: how many, from 0.
        folder: of the table.
        workers: processes that run side by side, each with one thread; -1 is one a core, 1 is this process itself.
            If not given, one a core, but this process itself where runs are `timed`.
        bar: show a progress bar.

    Raises:
        ValueError: if the table at hand was made with another budget or other columns.
    """
    file = experiment.file(folder)
    rows = _resumed(experiment, file)
    done = {(row.setting, row.seed) for row in rows}
    wanted = [(name, seed) for seed in range(seeds) for name in experiment.settings if (name, seed) not in done]
    jobs = [delayed(_one)(name, seed, experiment.settings[name]) for name, seed in wanted]
    workers = workers or (1 if experiment.timed else -1)
    found = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="n_jobs")(jobs)
    for row in tqdm(found, total=len(wanted), desc=experiment.name, unit="run", disable=not bar):
        if unknown := row.values.keys() - set(experiment.columns):
            raise ValueError(f"{row.setting} gives {min(unknown)!r}, which is not a column of {file.name}")
        with file.open("a", newline="", encoding="utf-8") as table:
            _write(table, experiment, [row])
        rows.append(row)
        yield row
    if wanted:  # side by side they came in any order
        order = {name: k for k, name in enumerate(experiment.settings)}
        rows.sort(key=lambda row: (row.seed, order.get(row.setting, len(order)), row.setting))
        tidy = file.with_suffix(".part")
        head = "".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:3])  # its versions are those it has
        with tidy.open("w", newline="", encoding="utf-8") as table:
            table.write(head)
            _write(table, experiment, rows)
        tidy.replace(file)


def _one(name: str, seed: int, setting: Callable[[int], Mapping[str, float]]) -> Row:
    return Row(name, seed, dict(setting(seed)))


def _head(experiment: Experiment) -> str:
    versions = f"mtlkit {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    names = ",".join(["setting", "seed", *experiment.columns])
    return (
        f"# mtlkit experiments {experiment.command}\n"
        f"# {versions}; {experiment.budget}; seconds are those of one core\n{names}\n"
    )


def _write(table: object, experiment: Experiment, rows: Sequence[Row]) -> None:
    writer = csv.writer(table, lineterminator="\n")  # type: ignore[arg-type]
    for row in rows:
        numbers = [f"{row.values.get(column, math.nan):.6g}" for column in experiment.columns]
        writer.writerow([row.setting, row.seed, *numbers])


def _resumed(experiment: Experiment, file: Path) -> list[Row]:
    """Return the rows that are there; begin the table if there is none, and drop a line that was cut off."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_head(experiment), encoding="utf-8")
        return []
    text = file.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines()
    columns = lines[2] if len(lines) > 2 else ""
    command, _, names = _head(experiment).splitlines()
    if f"; {experiment.budget};" not in text or [command, names] != [*lines[:1], columns]:
        raise ValueError(
            f"{file} was made differently (it says {' '.join(lines[:2])!r}), so its rows cannot be mixed with those of "
            f"{command[2:]!r}, {experiment.budget}: move it away to start again"
        )
    if not text.endswith("\n"):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read(file)


def read(table: str | Path, folder: Path = RESULTS) -> list[Row]:
    """Return the rows of a table: a file, or the name of one of the course's, e.g. "weighting_scenes"."""
    file = table if isinstance(table, Path) else folder / f"{table}.csv"
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return [
            Row(row.pop("setting"), int(row.pop("seed")), {name: float(value) for name, value in row.items()})
            for row in rows
        ]
