"""A run as the code that repeats it."""

import math
from collections.abc import Mapping
from typing import Any

from mtlkit.cases import CASES, Case
from mtlkit.lab.steering.records import Run


def lab_code(run: Run, case: Case) -> str:
    """Return a cell that repeats a run of the lab."""
    settings = run.settings
    from_kit = settings["case"] in CASES
    found = bool(from_kit or case.source)
    given = {name: settings[name] for name in ("seed", "batch_size", "weights", "rate", "method", "data")}
    for name, value in settings["knobs"].items():
        usual = from_kit and value == case.in_lab.get(name, case.knobs[name].default)
        if name not in settings["data"] and not usual:
            given[name] = value
    given = {name: value for name, value in given.items() if value != {}}
    lines = ['    "again",', f"    case={literal(settings['case']) if found else 'case'},"]
    lines += [f"    {name}={literal(value)}," for name, value in given.items()] + ["    start=False,"]
    comment = [] if found else [f"# `case` is your own Case object, of the name {case.name!r}"]
    head = ["from mtlkit.lab import LossWeightingLab", "", *comment, "lab = LossWeightingLab("]
    steps = run.last.step if run.last else 0
    return "\n".join([*head, *lines, ")", f"lab.run({steps}, {_schedule(run.schedule)})", "lab", ""])


def panel_code(run: Run) -> str:
    """Return the statement that makes a panel which changes what was changed in a run of somebody's own loop."""
    weights, method = run.settings["weights"], run.settings["method"]
    lines = [f"    {literal(list(weights))},", f"    weights={literal(weights)},", f"    method={literal(method)},"]
    return "\n".join(["panel = LossPanel(", *lines, f"    replay={_schedule(run.schedule, '    ')},", ")", ""])


def _schedule(schedule: Mapping[int, Mapping[str, Any]], indent: str = "") -> str:
    """Return what was changed when, a line for each step."""
    if not schedule:
        return "{}"
    lines = [f"{indent}    {done}: {literal(changes)}," for done, changes in list(schedule.items())]
    return "\n".join(["{", *lines, f"{indent}}}"])


def literal(value: Any) -> str:
    """Return a value as Python code."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(name)}: {literal(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)
