"""The front of static weights, and every method on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context

from mtlkit.plots.style import BLUE, RED, STYLE, Picture


def front(
    summaries: Mapping[str, Mapping[str, Any]],
    *,
    scores: tuple[str, str],
    labels: tuple[str, str],
    named: Sequence[str] = (),
    split: str = "test",
) -> Picture:
    """Show the front of static weights, every method on it, and what each costs in seconds.

    Args:
        summaries: setting → column → mean and half width, as `mtlkit.experiments.summarise` gives them, with "Δm".
        scores: the two that are compared, e.g. ("classify/accuracy", "detect/ap").
        labels: what the axes say.
        named: methods that get a label; the others are dots.
        split: on which they are scored.
    """
    columns = [f"{split} {score}" for score in scores]
    static = {name: s for name, s in summaries.items() if name.startswith("static ") or name == "EqualWeights"}
    alone = {name: s for name, s in summaries.items() if name.endswith(" alone")}
    methods = {name: s for name, s in summaries.items() if name not in static and name not in alone}
    with rc_context(STYLE):
        figure = Picture(figsize=(10, 4.6))
        left, right = figure.subplots(1, 2)
        order = sorted([s[column].mean for column in columns] for s in static.values())
        left.plot(*zip(*order, strict=True), "-", color=BLUE, zorder=1)
        for group, colour, mark, label in ((static, BLUE, "s", "static weights"), (methods, RED, "o", "methods")):
            means, halves = (
                np.array([[getattr(s[column], part) for column in columns] for s in group.values()])
                for part in ("mean", "half")
            )
            left.errorbar(*means.T, *halves.T[::-1], fmt=mark, color=colour, elinewidth=0.6, alpha=0.75, label=label)
            for s in group.values():
                gain = s[f"{split} Δm"]
                right.errorbar(s["seconds"].mean, *gain, fmt=mark, color=colour, elinewidth=0.6)
        for name in named:
            s = summaries[name]
            point = [s[column].mean for column in columns]
            for axes, at in ((left, point), (right, (s["seconds"].mean, s[f"{split} Δm"].mean))):
                axes.annotate(name, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        for column, line in zip(columns, (left.axvline, left.axhline), strict=True):
            line(np.nanmax([s[column].mean for s in alone.values()]), color="0.4", linestyle=":")
        left.plot([], [], ":", color="0.4", label="each task alone")
        left.set(xlabel=f"{labels[0]} ({split})", ylabel=f"{labels[1]} ({split})")
        right.axhline(0, color="0.4", linestyle=":")
        right.set(xlabel="seconds of training on one core", ylabel="Δm in %, above 0 is better than alone")
        left.legend(fontsize=8, loc="lower left")
    figure.alt = (
        f"Left: {labels[1]} over {labels[0]} of {len(static)} static weights and {len(methods)} methods with 95 % "
        "intervals. Right: Δm over training seconds."
    )
    return figure
