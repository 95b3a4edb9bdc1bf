"""The picture of `mtlkit bench training`."""

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from mtlkit.plots.style import BLUE, GREEN, LINES, ORANGE, STYLE, Picture


def step_costs(results: Mapping[str, Any]) -> Picture:
    """Show what `training` measured: loops side by side, cost against size with its floor, memory and prediction."""
    with rc_context(STYLE):
        figure = Picture(figsize=(13, 9))
        top, bottom = figure.subfigures(2, squeeze=False)[:, 0]
        left, right = top.subplots(1, 2)
        _draw_loops(left, results["loops"])
        _draw_memory(right, results["memory"])
        labels = {"tasks": "number of tasks", "pixels": "side of the images in pixels", "batch": "images in a batch"}
        for axes, (what, label) in zip(bottom.subplots(1, 3), labels.items(), strict=True):
            _draw_cost(axes, results["cost"][what])
            axes.set_xlabel(label)
            axes.set_ylabel("milliseconds per step")
    figure.alt = (
        "Four kinds of measurements of a training step. Steps per second of mtlkit's loop as a multiple of others': "
        + ", ".join(f"{name} {ratio:.2f}" for name, ratio in results["loops"].items())
        + ". Milliseconds per step against the number of tasks, the size of the images and that of the batch, with the "
        "derived floor dotted below. Peak memory in MB, predicted and measured: "
        + ", ".join(f"{row['setting']} {row['predicted']:.0f} and {row['measured']:.0f}" for row in results["memory"])
        + "."
    )
    return figure


def _draw_loops(axes: Axes, ratios: Mapping[str, float]) -> None:
    names, values = list(ratios)[::-1], list(ratios.values())[::-1]
    colours = [GREEN if "bare" in name else BLUE for name in names]
    axes.barh(names, [value - 1 for value in values], left=1, color=colours)
    axes.axvline(1, color="black", linewidth=1)
    for place, value in enumerate(values):
        axes.text(max(value, 1), place, f" {value:.2f}", va="center")
    axes.set_xscale("log")
    axes.set_xlim(min(0.8, *values), 2 * max(values))
    axes.set_title("steps per second, as a multiple of the other loop's")
    axes.grid(visible=False, axis="y")


def _draw_cost(axes: Axes, curves: Mapping[str, Any]) -> None:
    for (name, rows), (colour, line) in zip(curves.items(), LINES, strict=False):
        values, milliseconds, floor = zip(*rows, strict=True)
        axes.plot(values, milliseconds, linestyle=line, color=colour, label=name, marker=".")
        axes.plot(values, floor, ":", color=colour, linewidth=1, label="floor" if colour == BLUE else None)
    axes.set_ylim(0)
    axes.set_xlim(0)
    axes.legend()


def _draw_memory(axes: Axes, rows: Any) -> None:
    places = range(len(rows))[::-1]
    axes.barh([p + 0.2 for p in places], [row["measured"] for row in rows], 0.38, color=BLUE, label="measured")
    axes.barh([p - 0.2 for p in places], [row["predicted"] for row in rows], 0.38, color=ORANGE, label="predicted")
    axes.set_yticks(list(places), [row["setting"] for row in rows], fontsize=8)
    axes.set_title("peak memory of a step in MB")
    axes.grid(visible=False, axis="y")
    axes.legend()
