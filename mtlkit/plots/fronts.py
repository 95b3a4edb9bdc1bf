"""The front of static weights, and every method on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context

from mtlkit.plots.style import BLUE, RED, STYLE, Picture
from mtlkit.plots.words import lines, listed


def front(
    summaries: Mapping[str, Mapping[str, Any]],
    *,
    scores: tuple[str, str],
    labels: tuple[str, str],
    named: Sequence[str] = (),
    split: str = "test",
    line: Any = None,
    cost: str = "seconds",
) -> Picture:
    """Show the front of static weights, every method on it, and what each costs.

    Args:
        summaries: setting → column → mean and half width, as `mtlkit.experiments.summarise` gives them, with "Δm".
        scores: the two that are compared, e.g. ("classify/accuracy", "detect/ap").
        labels: what the axes say.
        named: methods that get a label; the others are dots.
        split: on which they are scored.
        line: the front with its uncertainty, as `mtlkit.experiments.front_of` gives it; if not given, the static
            weights are joined in their order.
        cost: on the right, the column against which the gain is shown: "seconds", or "steps" where seconds are equal.
    """
    columns = [f"{split} {score}" for score in scores]
    static = {name: s for name, s in summaries.items() if name.startswith("static ") or name == "EqualWeights"}
    alone = {name: s for name, s in summaries.items() if name.endswith(" alone")}
    methods = {name: s for name, s in summaries.items() if name not in static and name not in alone}
    with rc_context(STYLE):
        figure = Picture(figsize=(10, 4.6))
        left, right = figure.subplots(1, 2)
        if line is None:
            order = sorted([s[column].mean for column in columns] for s in static.values())
            left.plot(*zip(*order, strict=True), "-", color=BLUE, zorder=1)
        else:
            left.plot(*line.line.T, "-", color=BLUE, zorder=1)
            left.fill_between(*line.band.T, color=BLUE, alpha=0.2, linewidth=0, label="front, 95 % of the draws")
        for group, colour, mark, label in ((static, BLUE, "s", "static weights"), (methods, RED, "o", "methods")):
            means, halves = (
                np.array([[getattr(s[column], part) for column in columns] for s in group.values()])
                for part in ("mean", "half")
            )
            left.errorbar(*means.T, *halves.T[::-1], fmt=mark, color=colour, elinewidth=0.6, alpha=0.75, label=label)
            for s in group.values():
                gain = s[f"{split} Δm"]
                right.errorbar(s[cost].mean, *gain, fmt=mark, color=colour, elinewidth=0.6)
        for name in named:
            s = summaries[name]
            point = [s[column].mean for column in columns]
            for axes, at in ((left, point), (right, (s[cost].mean, s[f"{split} Δm"].mean))):
                axes.annotate(name, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        for column, line in zip(columns, (left.axvline, left.axhline), strict=True):
            line(np.nanmax([s[column].mean for s in alone.values()]), color="0.4", linestyle=":")
        left.plot([], [], ":", color="0.4", label="each task alone")
        left.set(xlabel=f"{labels[0]} ({split})", ylabel=f"{labels[1]} ({split})")
        right.axhline(0, color="0.4", linestyle=":")
        words = {"seconds": "seconds of training on one core", "steps": "steps taken in the same time"}
        right.set(xlabel=words.get(cost, cost), ylabel="Δm in %, above 0 is better than alone")
        figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=4)
    said = dict(zip((*labels, "Δm", cost), (*columns, f"{split} Δm", cost), strict=True))
    figure.alt = lines(
        f"Left: {labels[1]} over {labels[0]} of {len(static)} static weights and {len(methods)} methods with 95 % "
        f"intervals. Right: Δm over {cost}. All on {split}:",
        {
            name: listed({label: s[key] for label, key in said.items() if key in s and not np.isnan(s[key].mean)})
            for name, s in summaries.items()
        },
    )
    return figure
