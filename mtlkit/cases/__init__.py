"""The cases of the course, one file each, and how any case is found: by name, as `module:NAME`, or as an object."""

from importlib import import_module
from pkgutil import walk_packages
from typing import Any

from mtlkit.cases.case import Case, Knob, Setup
from mtlkit.cases.seen import Seen, SeenBox, SeenImage, SeenRow, SeenText, answers_of

CASES: dict[str, Case] = {
    case.name: case
    for module in walk_packages(__path__, f"{__name__}.")
    for case in vars(import_module(module.name)).values()
    if isinstance(case, Case)
}

__all__ = [
    "CASES",
    "Case",
    "Knob",
    "Seen",
    "SeenBox",
    "SeenImage",
    "SeenRow",
    "SeenText",
    "Setup",
    "answers_of",
    "find_case",
]


def find_case(which: "str | Case", **knobs: Any) -> Case:
    """Return a case with some of its knobs set.

    Args:
        which: a case; or the name of one of the kit's, with a folder behind it where it reads one ("voc:FOLDER"); or
            the module and the name of your own ("my_module:CASE").
        knobs: what is set; what is `None` stays as it is.

    Raises:
        ValueError: if there is no such case, or a knob is unknown or out of range.
    """
    chosen = {name: value for name, value in knobs.items() if value is not None}
    if isinstance(which, Case):
        return which.with_knobs(**chosen)
    name, _, rest = which.partition(":")
    if name in CASES:
        return CASES[name].with_knobs(**chosen | ({"folder": rest} if rest else {}))
    case = _imported(name, rest) if rest else None
    if case is None:
        raise ValueError(f"unknown case {which!r}: expected one of {', '.join(CASES)}, or my_module:CASE")
    return case.with_knobs(**chosen)


def _imported(module: str, name: str) -> Case | None:
    from dataclasses import replace

    try:
        case = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):  # the module itself, not one that it needs
            return None
        raise
    return replace(case, source=f"{module}:{name}") if isinstance(case, Case) else None
