"""Pictures in words, numbers included: for those who cannot see them, and for those who want the numbers."""

import html
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from mtlkit.cases.seen import Seen, SeenBox, SeenImage, SeenText

PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")


def folded(alt: str) -> str:
    """Return `alt` as folded HTML, of tags that notebook viewers leave in; its lines stay lines."""
    lines = "<br>".join(map(html.escape, alt.splitlines()))
    return f'<details class="mtl-words"><summary>The picture in words</summary>{lines}</details>'


def number(value: Any) -> str:
    """Return a number with three digits; a mean with the half width of its interval, where that is known."""
    mean, half = (value.mean, value.half) if hasattr(value, "half") else (float(value), math.nan)
    if math.isnan(mean):
        return "not known"
    said = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:#.3g}".rstrip(".")
    return said if math.isnan(half) or not half else f"{said} ± {half:#.2g}".rstrip(".")


def listed(values: Mapping[Any, Any]) -> str:
    """Return names with their numbers, in one line."""
    return ", ".join(f"{_flat(name)} {number(value)}" for name, value in values.items())


def lines(head: str, rows: Mapping[Any, str]) -> str:
    """Return a first line, and below it a line for each row."""
    return "\n".join((_flat(head), *(f"{_flat(name)}: {said}" for name, said in rows.items())))


def course_of(x: Any, y: Any, at: Iterable[float] = ()) -> str:
    """Return a curve's values at its beginning, at the places `at`, and at its end."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = ~np.isnan(y)
    x, y = x[known], y[known]
    if not len(x):
        return "nothing"
    places = dict.fromkeys((0, *(int(np.abs(x - place).argmin()) for place in at), len(x) - 1))
    return ", ".join(f"{number(y[k])} at {x[k]:,.10g}" for k in places)


def place_of(amounts: Any) -> str:
    """Return in which ninth of a map `[H, W]` of amounts there is most, with its share."""
    amounts = np.asarray(amounts, float)
    ninths = [part.sum() for line in np.array_split(amounts, 3) for part in np.array_split(line, 3, axis=1)]
    total = sum(ninths)
    most = int(np.argmax(ninths))
    return f"{PLACES[most]} {100 * ninths[most] / total:.0f} %" if total else "nothing"


def loud_parts(frames: Any, hop: float) -> str:
    """Return when a spectrogram `[T, bands]` is louder than halfway between its quietest and loudest moment."""
    frames = np.asarray(frames, float)
    loud = frames.mean(1)
    (above,) = np.nonzero(loud > (loud.min() + loud.max()) / 2)
    edges = [-1, *(k for k, (a, b) in enumerate(pairwise(above)) if b - a > 0.1 / hop), len(above) - 1]
    parts = [(above[a + 1], above[b]) for a, b in pairwise(edges) if b > a]
    return ", ".join(
        f"{hop * a:.2f} to {hop * (b + 1):.2f} s (most in band {frames[a : b + 1].mean(0).argmax()})" for a, b in parts
    )


def seen_in_words(seen: Iterable[Seen]) -> str:
    """Return what a learner sees of samples: what is given, what is true, what a model says."""
    return "\n".join(f"{k}: {_seen(one)}" for k, one in enumerate(seen, 1))


def _seen(one: Seen) -> str:
    if isinstance(one, SeenText):
        said = "" if one.answer is None else f"; the model writes {one.answer!r}"
        return f"{one.given!r}{said}; right is {one.right!r}"
    given = [] if isinstance(one, SeenImage) else [", ".join(one.given.values())]
    for task in dict.fromkeys((*one.truth, *one.answers)):
        true, answer = one.truth.get(task), one.answers.get(task)
        claim = answer[0] if isinstance(answer, tuple) else answer
        wrong = claim is not None and true is not None and claim != true
        given.append(f"{task} {true if claim is None else claim}" + (f" (true: {true})" if wrong else ""))
    if isinstance(one, SeenImage):
        given += [f"{what} {_boxes(boxes)}" for what, boxes in (("boxes", one.boxes), ("found", one.found)) if boxes]
    return "; ".join(given) or "no label"


def _boxes(boxes: Iterable[SeenBox]) -> str:
    return ", ".join(box.name + ("" if box.score is None else f" {box.score:.2f}") for box in boxes)


def _flat(text: Any) -> str:
    return " ".join(str(text).split("\n"))
