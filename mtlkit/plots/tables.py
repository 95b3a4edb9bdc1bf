"""Pictures of tables: means with intervals, curves with bands, squares of numbers."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from mtlkit.plots.style import LINES, STYLE, Picture
from mtlkit.plots.words import lines, listed, number

MARKS = ("o", "s", "^", "D", "v")


def intervals(groups: Mapping[str, Mapping[str, Any]], *, xlabel: str, zero: float | None = None) -> Picture:
    """Show means with their intervals, a line for each row, a mark for each column.

    Args:
        groups: row → column → mean and half width, as `mtlkit.experiments.summarise` gives them.
        xlabel: what the axis says.
        zero: where a dotted line stands.
    """
    names = list(groups)
    columns = list(dict.fromkeys(column for group in groups.values() for column in group))
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 1.2 + 0.22 * len(names) * max(1.3, 0.6 * len(columns))))
        axes = figure.add_subplot()
        for k, (column, (colour, _), mark) in enumerate(zip(columns, cycle(LINES), cycle(MARKS), strict=False)):
            at = [row + 0.18 * (k - (len(columns) - 1) / 2) for row, name in enumerate(names) if column in groups[name]]
            found = [groups[name][column] for name in names if column in groups[name]]
            means, halves = ([getattr(one, part) for one in found] for part in ("mean", "half"))
            axes.errorbar(means, at, xerr=halves, fmt=mark, color=colour, markersize=5, elinewidth=1, label=column)
        if zero is not None:
            axes.axvline(zero, color="0.4", linestyle=":")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=xlabel, ylim=(len(names) - 0.5, -0.5))
        if len(columns) > 1:
            figure.legend(loc="outside upper center", ncols=len(columns))
    figure.alt = lines(f"{xlabel}: means with 95 % intervals.", {name: listed(groups[name]) for name in names})
    return figure


def bands(curves: Mapping[str, Mapping[float, Any]], *, xlabel: str, ylabel: str) -> Picture:
    """Show means over a logarithmic axis, each with a band of its interval.

    Args:
        curves: name → place → mean and half width.
        xlabel: what the axis says.
        ylabel: the same for the means.
    """
    with rc_context(STYLE):
        figure, places = Picture(figsize=(6, 3.4)), set[float]()
        axes = figure.add_subplot()
        for (name, curve), (colour, line), mark in zip(curves.items(), cycle(LINES), cycle(MARKS), strict=False):
            x = np.array(list(curve))
            places |= set(curve)
            mean, half = (np.array([getattr(one, part) for one in curve.values()]) for part in ("mean", "half"))
            axes.plot(x, mean, color=colour, linestyle=line, marker=mark, label=name)
            axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
        axes.set_xticks(sorted(places))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.minorticks_off()
        axes.legend()
    figure.alt = lines(
        f"Curves of {ylabel} over {xlabel} with 95 % bands.",
        {name: ", ".join(f"{number(y)} at {x:,.10g}" for x, y in curve.items()) for name, curve in curves.items()},
    )
    return figure


def squares(values: Any, rows: Sequence[str], columns: Sequence[str], *, title: str, form: str = "{:+.1f}") -> Picture:
    """Show a table of numbers `[R, C]` as coloured squares with the numbers in them; NaN stays empty.

    Args:
        values: of the table; 0 is white, blue is above it, red below.
        rows: their names.
        columns: their names.
        title: what the numbers are, with their unit.
        form: how a number is written; an empty one leaves the numbers out.
    """
    values = values.double().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=np.float64)
    most = float(np.nanmax(np.abs(values))) or 1.0
    with rc_context(STYLE):
        figure = Picture(figsize=(1.6 + 0.75 * len(columns), 1.0 + 0.42 * len(rows)))
        axes = figure.add_subplot()
        axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = abs(value) > 0.6 * most
                text = form.format(value)
                axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k", fontsize=8)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(visible=False)
        axes.set_title(title, fontsize=10)
    shown = np.isfinite(values)
    if not form:  # the eye sees where a row is darkest
        shown &= values == np.nanmax(values, axis=1, keepdims=True)
    said = (
        ", ".join(f"{columns[k]} {(form or '{:.0f}').format(line[k])}" for k in map(int, np.flatnonzero(seen)))
        for line, seen in zip(values, shown, strict=True)
    )
    figure.alt = "\n".join([f"A table: {title}.", *(f"{row}: {line}" for row, line in zip(rows, said, strict=True))])
    return figure


def choices(
    panels: Mapping[str, Mapping[str, Mapping[int, Any]]], *, xlabel: str, at: float, zero: Sequence[str] = ()
) -> Picture:
    """Show side by side what depends on one choice, with a line at the present one.

    Args:
        panels: what is counted, with its unit → name of a line → choice → value, a number or a mean with half width.
        xlabel: what is chosen.
        at: the present choice.
        zero: the panels that have a dotted line at 0.
    """
    with rc_context(STYLE):
        figure = Picture(figsize=(3.2 * len(panels), 3.0))
        for axes, (ylabel, drawn) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for (name, line), (colour, dash), mark in zip(drawn.items(), cycle(LINES), cycle(MARKS), strict=False):
                means, halves = zip(
                    *((v.mean, v.half) if hasattr(v, "half") else (float(v), 0.0) for v in line.values()), strict=True
                )
                axes.errorbar(list(line), means, yerr=halves, color=colour, linestyle=dash, marker=mark, label=name,
                              markersize=5, elinewidth=1)  # fmt: skip
            axes.axvline(at, color="0.4", linewidth=4, alpha=0.3)
            if ylabel in zero:
                axes.axhline(0, color="0.4", linestyle=":")
            else:
                axes.set_ylim(bottom=0)
            axes.set(xlabel=xlabel, ylabel=ylabel)
            if len(drawn) > 1:
                axes.legend(fontsize=8)
    figure.alt = lines(
        f"{len(panels)} panels over {xlabel}, now {at:g}.",
        {
            f"{ylabel}, {name}": ", ".join(f"{number(y)} at {x}" for x, y in line.items())
            for ylabel, drawn in panels.items()
            for name, line in drawn.items()
        },
    )
    return figure
