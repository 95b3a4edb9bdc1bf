"""Pictures for the fields: points of a feature space, spectrograms, calibration."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from torch import Tensor

from mtlkit.plots.style import LINES, STYLE, Picture
from mtlkit.plots.words import lines, loud_parts, number

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def points(spaces: Mapping[str, tuple[Tensor, Sequence[str]]], *, most: int = 600) -> Picture:
    """Show features by their two directions of largest variance, side by side, with a mark for each kind.

    Args:
        spaces: title → features `[N, C]` and the kind of each.
        most: points that are shown of each.
    """
    middles = {}
    with rc_context(STYLE):
        figure = Picture(figsize=(4.2 * len(spaces), 4.0))
        for axes, (title, (features, kinds)) in zip(
            figure.subplots(1, len(spaces), squeeze=False)[0], spaces.items(), strict=True
        ):
            flat = flattened(features)[:most].numpy()
            shown = np.array(kinds)[:most]
            names = sorted(set(kinds))
            for name, (colour, _), mark in zip(names, cycle(LINES), cycle(MARKS), strict=False):
                own = flat[shown == name]
                axes.scatter(*own.T, s=12, color=colour, marker=mark, alpha=0.7, linewidths=0, label=name)
                (x, y), (wide, high) = own.mean(0), own.std(0)
                middles[f"{title}, {name}"] = f"{x:.1f} ± {wide:.1f} and {y:.1f} ± {high:.1f}"
            axes.set(xlabel="first direction", ylabel="second direction", title=title)
            axes.legend(fontsize=7)
    figure.alt = lines("Points along two directions; mean and spread of each kind along the first and second:", middles)
    return figure


def flattened(features: Tensor) -> Tensor:
    """Return the two directions of largest variance of features `[N, C]` as `[N, 2]`."""
    centred = (features - features.mean(0)).detach()
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return centred @ (directions * largest.sign())[:2].T  # the same way round each time


def spectrogram(frames: Tensor, *, hop: float = 0.01, marks: Mapping[float, str] | None = None) -> Picture:
    """Show what a network hears: loudness over time and bands, `[T, bands]`.

    Args:
        frames: of the clip.
        hop: seconds from one to the next.
        marks: time in seconds → what was recognised there.
    """
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 2.6))
        axes = figure.add_subplot()
        axes.imshow(
            frames.T.numpy(),
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, hop * len(frames), 0, frames.shape[1]),
        )
        for at, said in dict(marks or {}).items():
            axes.axvline(at, color="w", linestyle=":", linewidth=1)
            axes.text(at, frames.shape[1] * 0.98, said, color="w", ha="center", va="top", fontsize=12, weight="bold")
        axes.grid(visible=False)
        axes.set(xlabel="time in seconds", ylabel="mel band")
    marked = ", ".join(f"{said} at {at:.2f} s" for at, said in dict(marks or {}).items())
    figure.alt = (
        f"A spectrogram of {hop * len(frames):.1f} seconds and {frames.shape[1]} mel bands.\n"
        f"Loud: {loud_parts(frames, hop)}." + (f"\nMarked: {marked}." if marked else "")
    )
    return figure


def calibration(said: Mapping[str, tuple[Any, Any]], bins: int = 5) -> Picture:
    """Show observed frequencies over predicted probabilities, with the number of cases at each point.

    Args:
        said: name → probabilities `[N]`, and what was true, 0 or 1 `[N]`.
        bins: equally wide ones.
    """
    points_of = {}
    with rc_context(STYLE):
        figure = Picture(figsize=(4.6, 3.8))
        axes = figure.add_subplot()
        axes.plot((0, 1), (0, 1), color="0.6", linestyle=":")
        for (name, (p, y)), (colour, line), mark in zip(said.items(), cycle(LINES), cycle(MARKS), strict=False):
            p, y = np.asarray(p, float), np.asarray(y, float)
            which = np.minimum((p * bins).astype(int), bins - 1)
            there = [b for b in range(bins) if (which == b).any()]
            at, share = ([part[which == b].mean() for b in there] for part in (p, y))
            axes.plot(at, share, color=colour, linestyle=line, marker=mark, label=name)
            counts = [int((which == b).sum()) for b in there]
            points_of[name] = ", ".join(
                f"{number(x)} predicted, {number(true)} observed (of {n})"
                for x, true, n in zip(at, share, counts, strict=True)
            )
            for x, height, n in zip(at, share, counts, strict=True):
                axes.annotate(str(n), (x, height), xytext=(4, -10), textcoords="offset points", fontsize=7)
        axes.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend()
    figure.alt = lines(f"Observed frequency over predicted probability, in {bins} bins.", points_of)
    return figure
