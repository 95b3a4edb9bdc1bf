"""A whole run in one picture: what the model says of unseen samples, the losses, the scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from mtlkit.cases.seen import Seen, SeenImage, SeenRow, SeenText
from mtlkit.plots.curves import draw_losses, losses_alt
from mtlkit.plots.images import ANSWERED, draw_answers
from mtlkit.plots.style import GREEN, STYLE, Picture
from mtlkit.plots.text import draw_lines, draw_rows
from mtlkit.plots.words import listed, seen_in_words
from mtlkit.training import Record


def spread(number: int, most: int = 12) -> range:
    """Return up to so many indices of `number` samples, far apart: folders are often sorted by class."""
    return range(0, number, max(1, number // most))[:most]


def draw_seen(part: FigureBase, seen: Sequence[Seen], columns: int = 6) -> str:
    """Draw what a learner sees of some samples and of a model's answers; return it in words."""
    images = [one for one in seen if isinstance(one, SeenImage)]
    lines = [(one.given, one.answer or "", one.right) for one in seen if isinstance(one, SeenText)]
    rows = [one for one in seen if isinstance(one, SeenRow)]
    if images:
        for k, image in enumerate(images, 1):
            draw_answers(part.add_subplot(-(-len(images) // columns), columns, k), image)
    if lines:
        draw_lines(part.add_subplot(), lines)
    if rows:
        draw_rows(part.add_subplot(), rows)
    return f"{ANSWERED if images else 'Unseen samples, with what the model says.'}\n{seen_in_words(seen)}"


def run(records: Sequence[Record], seen: Sequence[Seen], scores: Mapping[str, float]) -> Picture:
    """Show a finished run: unseen samples with the model's answers, loss curves, and the scores."""
    with rc_context(STYLE):
        figure = Picture(figsize=(11, 7.2))
        top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1.1), squeeze=False)[:, 0]
        said = draw_seen(top, seen)
        losses, table = bottom.subplots(1, 2, width_ratios=(2, 1))
        draw_losses(losses, records)
        table.axis("off")
        width = max(map(len, scores), default=0) + 2
        lines = [f"{name:<{width}}{value:.3f}" for name, value in scores.items()]
        last = records[-1]
        text = "on unseen test samples\n\n" + "\n".join(lines) + f"\n\n{last.step} steps, {last.seconds:.0f} s"
        table.text(0.05, 0.9, text, family="monospace", va="top", fontsize=11 if len(lines) < 6 else 8)
        if any(isinstance(one, SeenImage) and (one.boxes or one.found) for one in seen):
            top.suptitle("orange, dashed: true boxes    blue, solid: predicted, with class and confidence", fontsize=10)
    figure.alt = f"{said}\nScores on unseen test samples: {listed(scores)}.\n{losses_alt(records)}"
    return figure


def steered(records: Sequence[Any], changes: Sequence[int], seen: Sequence[Seen], plane: Sequence[str]) -> Picture:
    """Show a run of the live lab: losses with a mark at each of the steps `changes`, samples, trail of scores.

    Args:
        records: of the lab.
        changes: steps from which on something was set differently.
        seen: samples with the model's answers; none, if nothing is known of them.
        plane: names of the two scores in whose plane the trail is drawn; of one alone, it is drawn over the steps.
    """
    with rc_context(STYLE):
        figure = Picture(figsize=(9.6, 4.6) if seen else (9.6, 3.2))
        left, right = figure.subfigures(1, 2, width_ratios=(5, 4), squeeze=False)[0] if seen else (figure, None)
        parts = left.subplots(2 if plane else 1, 1, height_ratios=(5, 3) if plane else None, squeeze=False)[:, 0]
        if records:
            draw_losses(parts[0], records)
        for step in changes:
            parts[0].axvline(step, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)))
        if plane:
            _draw_trail(parts[1], records, plane)
        said = draw_seen(right, seen, columns=3) if right else ""
    scored = [record for record in records if record.scores]
    trail = f"A trail of scores: {', '.join(map(_axis, plane))}." if plane else ""
    for record in scored[:1] + scored[1:][-1:] if plane else ():
        point = {_axis(name): record.scores.get(name, math.nan) for name in plane}
        trail += f" At step {record.step}: {listed(point)}."
    figure.alt = "\n".join(part for part in (losses_alt(records, changes), trail, said) if part)
    return figure


def _draw_trail(axes: Axes, records: Sequence[Any], plane: Sequence[str]) -> None:
    scored = {tuple(record.scores.values()): record for record in records if record.scores}
    found = {record.step: [record.scores.get(name, math.nan) for name in plane] for record in scored.values()}
    found = {step: point for step, point in found.items() if not any(map(math.isnan, point))}
    trail = list(found.values()) if len(plane) == 2 else [[step, *point] for step, point in found.items()]
    if trail:
        axes.plot(*zip(*trail, strict=True), "o-", color=GREEN, markersize=3, linewidth=1)
        axes.plot(*trail[-1], "o", color=GREEN, markersize=8)
    x, y = plane if len(plane) == 2 else ("step", plane[0])
    most = max([1.0, *(value for point in trail for value in point[-len(plane) :])])  # an error may be above 1
    axes.set(xlabel=_axis(x), ylabel=_axis(y), ylim=(0, most))
    if len(plane) == 2:
        axes.set_xlim(0, most)


def _axis(score: str) -> str:
    return score.replace("/", ": ")
