"""A run as the code that repeats it."""

import pprint
from collections.abc import Mapping
from typing import Any

from mtlkit.cases import Case
from mtlkit.lab.steering.records import Run


def lab_code(run: Run, case: Case) -> str:
    """Return a cell that repeats a run of the lab."""
    settings = run.settings
    usual = case.in_lab
    knobs = {
        name: value
        for name, value in settings["knobs"].items()
        if value != usual.get(name, case.knobs[name].default) and name not in settings["data"]
    }
    given = {name: settings[name] for name in ("seed", "batch_size", "weights", "rate", "method", "data")}
    given = {name: value for name, value in given.items() if value or name == "rate"}
    arguments = ["'again'", f"case={settings['case']!r}"]
    arguments += [f"{name}={value!r}" for name, value in {**given, **knobs}.items()]
    return "\n".join(
        [
            "from mtlkit.lab import LossWeightingLab",
            "",
            f"lab = LossWeightingLab({_wrapped(arguments)}start=False)",
            f"lab.run({run.records[-1].step if run.records else 0}, {_schedule(run.schedule)})",
            "lab",
            "",
        ]
    )


def panel_code(run: Run) -> str:
    """Return the line that makes a panel which changes what was changed in a run of somebody's own loop."""
    tasks = list(run.settings["weights"])
    arguments = [repr(tasks), f"weights={run.settings['weights']!r}", f"method={run.settings['method']!r}"]
    return f"panel = LossPanel({_wrapped(arguments)}replay={_schedule(run.schedule)})\n"


def _wrapped(arguments: list[str]) -> str:
    return "".join(f"\n    {argument}," for argument in arguments) + "\n    "


def _schedule(schedule: Mapping[int, Mapping[str, Any]]) -> str:
    return pprint.pformat({done: dict(changes) for done, changes in schedule.items()}, width=110, sort_dicts=False)
