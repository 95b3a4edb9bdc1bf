"""The package as a picture: rooms from left to right as data flows, an arrow where one is built on another."""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from matplotlib import rc_context
from matplotlib.patches import FancyBboxPatch

from mtlkit.plots.style import BLUE, STYLE, Picture

PACKAGE = Path(__file__).parents[1]
LEFT_OUT = {"recipe", "jupyter", "commands", "cli", "__main__", "__init__"}  # doors, not rooms


def rooms() -> dict[str, set[str]]:
    """Return room → the rooms that it imports, all read from the source."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if room not in LEFT_OUT:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            named = {module.split(".")[1] for module in modules if module.startswith("mtlkit.")}
            found.setdefault(room, set()).update(named - {room} - LEFT_OUT)
    return found


def needed(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out what follows: A → C, where A → B and B → C."""
    return {
        room: {one for one in direct if not any(one in _below(imports, other) for other in direct - {one})}
        for room, direct in imports.items()
    }


def _below(imports: Mapping[str, set[str]], room: str) -> set[str]:
    return set(imports[room]).union(*(_below(imports, one) for one in imports[room]))


def house() -> Picture:
    """Draw the rooms."""
    imports = rooms()

    @cache
    def depth(room: str) -> int:
        return 1 + max((depth(one) for one in imports[room]), default=-1)

    columns: dict[int, list[str]] = {}
    for room in sorted(imports):
        columns.setdefault(depth(room), []).append(room)
    place = {
        room: (column, (len(inside) - 1) / 2 - k) for column, inside in columns.items() for k, room in enumerate(inside)
    }
    with rc_context(STYLE):
        figure = Picture(figsize=(11, 2.8))
        axes = figure.add_subplot()
        for room, below in needed(imports).items():
            for one in below:
                (x0, y0), (x1, y1) = place[one], place[room]
                away = 0.0 if x1 - x0 < 2 else 0.18 if y0 < 0 else -0.18  # long ways go around
                style = {"arrowstyle": "-|>", "color": "0.45", "connectionstyle": f"arc3,rad={away}", "shrinkA": 0}
                axes.annotate("", (x1 - 0.38, y1), (x0 + 0.4, y0), arrowprops=style, zorder=1)
        for room, (x, y) in place.items():
            box = FancyBboxPatch(
                (x - 0.36, y - 0.2), 0.72, 0.4, boxstyle="round,pad=0.04", fc="white", ec=BLUE, lw=1.5, zorder=2
            )
            axes.add_patch(box)
            axes.text(x, y, room, ha="center", va="center", fontsize=8, zorder=3)
        axes.set(xlim=(-0.6, max(columns) + 0.6), ylim=(-1.4, 1.4))
        axes.axis("off")
    said = "; ".join(", ".join(columns[column]) for column in sorted(columns))
    figure.alt = f"The rooms of the package from left to right, each built on those before it: {said}."
    return figure
