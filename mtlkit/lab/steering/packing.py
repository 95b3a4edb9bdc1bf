"""Runs and samples as the browser gets them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mtlkit.cases.seen import Seen, SeenImage, SeenRow
from mtlkit.lab.steering.records import LabRecord, Run
from mtlkit.plots import moving_average

POINTS = 800  # of a curve that is sent as a whole
EARLIER = 200  # of that of an earlier run


def thinned(records: Sequence[LabRecord], most: int = POINTS) -> Sequence[LabRecord]:
    """Return at most so many records, the last one among them."""
    by = 1 + len(records) // most
    return records[(len(records) - 1) % by :: by]


def rows(records: Sequence[LabRecord], tasks: Sequence[str]) -> bytes:
    """Return step and losses of each record, as float32 `[records, 1 + K]`."""
    table = [[r.step, *(r.losses.get(task, math.nan) for task in tasks)] for r in records]
    return np.array(table, np.float32).tobytes()


def trail(run: Run) -> list[list[Any]]:
    """Return step and scores each time they were measured."""
    found: list[list[Any]] = []
    for record in list(run.records):
        if record.scores and (not found or record.scores != found[-1][1]):
            found.append([record.step, record.scores])
    return [[step, {name: round(value, 3) for name, value in scores.items()}] for step, scores in found]


def outline(run: Run, tasks: Sequence[str], name: str = "") -> dict[str, Any]:
    """Return an earlier run as curves and a trail."""
    curves = [
        moving_average(np.array([r.losses.get(task, math.nan) for r in run.records], dtype=float), 20) for task in tasks
    ]
    some = range(0, len(run.records), 1 + len(run.records) // EARLIER)
    points = [[run.records[k].step, *(round(float(c[k]), 4) for c in curves)] for k in some]
    seed = f"seed {run.settings['seed']}, " if "seed" in run.settings else ""
    return {"name": name or f"{seed}{run.records[-1].method}", "points": points, "trail": trail(run)}


def packed(seen: Sequence[Seen]) -> tuple[list[Any], bytes]:
    """Return what is true of each sample, and the images as bytes, three a pixel, one image after the other."""
    samples: list[Any] = []
    pixels: list[bytes] = []
    for one in seen:
        if isinstance(one, SeenImage):
            boxes = [[round(side, 1) for side in box.corners] for box in one.boxes]
            image = one.image.expand(3, -1, -1).permute(1, 2, 0)
            samples.append({"size": list(image.shape[:2]), "truth": ", ".join(one.truth.values()), "boxes": boxes})
            pixels.append(image.mul(255).round().clamp(0, 255).to(torch.uint8).contiguous().numpy().tobytes())
        elif isinstance(one, SeenRow):
            samples.append({"row": one.given, "truth": dict(one.truth)})
        else:
            samples.append({"given": one.given, "right": one.right, "task": one.task})
    return samples, b"".join(pixels)


def said(one: Seen) -> dict[str, Any]:
    """Return what a model says of a sample."""
    if isinstance(one, SeenRow):
        return {"answers": dict(one.answers), "right": dict(one.right)}
    if not isinstance(one, SeenImage):
        return {"says": one.answer}
    boxes = [
        [*(round(min(max(side, 0.0), one.image.shape[2 - k % 2]), 1) for k, side in enumerate(box.corners)),
         f"{box.name} {_short(box.score)}"]
        for box in one.found
    ]  # fmt: skip
    judged = [one.truth[task] == name for task, (name, _) in one.answers.items() if task in one.truth]
    return {"says": _in_words(one.answers), "right": all(judged) if judged else None, "boxes": boxes}


def _in_words(answers: Mapping[str, tuple[str, float | None]]) -> str:
    return ", ".join(
        name if sure is None else f"{name} {sure:.2f}".replace(" 0.", " .") for name, sure in answers.values()
    )


def _short(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}".removeprefix("0")
