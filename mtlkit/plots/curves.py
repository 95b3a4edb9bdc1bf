"""Curves and bars."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from mtlkit.plots.style import HATCHES, LINES, STYLE, Picture
from mtlkit.plots.words import course_of, lines, listed
from mtlkit.training import Record


def loss_curves(records: Sequence[Record]) -> Picture:
    """Show each task's loss over the steps on a logarithmic axis, raw and smoothed."""
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3))
        draw_losses(figure.add_subplot(), records)
    figure.alt = losses_alt(records)
    return figure


def curves(values: Mapping[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Picture:
    """Show a few curves over 1, 2, 3, ..., smoothed, on a logarithmic axis."""
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3))
        axes = figure.add_subplot()
        for (name, curve), style in zip(values.items(), cycle(LINES), strict=False):
            _draw_curve(axes, np.arange(1, len(curve) + 1), np.array(curve), name, *style)
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
        axes.legend()
    figure.alt = lines(
        f"Curves of {ylabel} over {xlabel}, smoothed.",
        {name: _course(np.arange(1, len(curve) + 1), np.array(curve)) for name, curve in values.items()},
    )
    return figure


def bars(groups: Mapping[str, Mapping[str, float]], *, ylabel: str, top: float | None = 1.1) -> Picture:
    """Show a group of bars for each name, with the value over each bar; the axis ends at `top`, if given."""
    names = list(next(iter(groups.values())))
    with rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.1 * len(groups), 3))
        axes = figure.add_subplot()
        step = min(0.27, 0.9 / len(names))
        for k, (name, (colour, _), hatch) in enumerate(zip(names, cycle(LINES), cycle(HATCHES), strict=False)):
            at, heights = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * step, [g[name] for g in groups.values()]
            drawn = axes.bar(at, heights, step * 8 / 9, color=colour, hatch=hatch, label=name)
            axes.bar_label(drawn, fmt="%.2f" if top else "%.3g", fontsize=8)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set(ylabel=ylabel, ylim=(0, top))
        figure.legend(loc="outside upper center", ncols=len(names))
    figure.alt = lines(f"Bars: {ylabel}.", {name: listed(group) for name, group in groups.items()})
    return figure


def draw_losses(axes: Axes, records: Sequence[Record]) -> None:
    """Draw the losses of a run."""
    for style, name in zip(cycle(LINES), _tasks(records), strict=False):
        taken = np.array([(record.step, record.losses[name]) for record in records if name in record.tasks])
        _draw_curve(axes, taken[:, 0], taken[:, 1], name, *style)
    axes.set(xlabel="step", ylabel="loss (before weighting)", yscale="log")
    axes.legend()


def _draw_curve(axes: Axes, x: np.ndarray, y: np.ndarray, name: str, colour: str, line: str) -> None:
    axes.plot(x, y, color=colour, alpha=0.2, linewidth=0.8)
    axes.plot(x, _smooth(y), linestyle=line, color=colour, label=name)


def _smooth(y: np.ndarray) -> np.ndarray:
    return moving_average(y, max(1, len(y) // 40))


def _course(x: np.ndarray, y: np.ndarray, at: Sequence[float] = ()) -> str:
    return course_of(x, _smooth(y), (*at, float(x[len(x) // 2]) if len(x) else 0.0))


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of the last `width` values that are not NaN, at each place of `values [n]`."""
    seen = ~np.isnan(values)
    total, number = (np.cumsum(np.insert(part, 0, 0.0)) for part in (np.where(seen, values, 0.0), seen))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    with np.errstate(invalid="ignore"):
        return (total[end] - total[start]) / (number[end] - number[start])


def losses_alt(records: Sequence[Record], changes: Sequence[int] = ()) -> str:
    """Return what a picture of the losses shows, in words: their values at both ends, halfway and at `changes`."""
    courses = {}
    for name in _tasks(records):
        taken = np.array([(record.step, record.losses[name]) for record in records if name in record.tasks])
        courses[name] = _course(taken[:, 0], taken[:, 1], changes)
    said = f"; marks where something was changed, from steps {', '.join(map(str, changes))} on" if changes else ""
    return lines(f"Losses over {len(records)} steps, smoothed, on a logarithmic axis{said}.", courses)


def _tasks(records: Sequence[Record]) -> list[str]:
    """Return the names of all tasks that took part in any step."""
    return list(dict.fromkeys(name for record in records for name in record.tasks))
