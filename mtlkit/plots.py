"""Every static picture. Each function returns a `Picture`, which shows itself in a notebook and can be saved."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from mtlkit.data import collate
from mtlkit.landscape import Landscape
from mtlkit.metrics import find_objects
from mtlkit.model import evaluating
from mtlkit.records import Record

# Okabe, Ito: eight colours that people with any colour vision tell apart
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
LINES = ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (PINK, ":"))
LARGE = 100_000  # bytes of a PNG
MOST_LABELS = 10  # more in one tile would hide the image
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


class Picture(Figure):
    """A figure with a text that says what it shows, for those who cannot see it."""

    alt = ""

    def png(self) -> bytes:
        """Return the picture as a PNG file; a large one with fewer colours, so that notebooks stay small."""
        buffer = io.BytesIO()
        with rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=80)
        if buffer.tell() > LARGE:
            image, buffer = Image.open(buffer).convert("RGB"), io.BytesIO()
            image.quantize(64).save(buffer, format="png", optimize=True)
        return buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        png = b64encode(self.png()).decode()
        return {"image/png": png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def samples(dataset: Any, indices: Sequence[int], columns: int = 8) -> Picture:
    """Show samples with their true boxes, box classes and image-level class."""
    grid = -(-len(indices) // columns), columns
    with rc_context(STYLE):
        figure = Picture(figsize=(1.35 * columns, 1.55 * grid[0]))
        for k, index in enumerate(indices, 1):
            _draw_sample(figure.add_subplot(*grid, k), dataset, index)
    figure.alt = f"{len(indices)} images, each with its class and a labelled box around every object."
    return figure


def rows(chosen: Mapping[str, Sequence[tuple[Any, int]]]) -> Picture:
    """Show one row of samples, each from (data set, index), for every name in `chosen`."""
    columns = max(map(len, chosen.values()))
    with rc_context(STYLE):
        figure = Picture(figsize=(1.6 * columns, 1.9 * len(chosen)))
        for part, (name, row) in zip(figure.subfigures(len(chosen), squeeze=False)[:, 0], chosen.items(), strict=True):
            part.suptitle(name, x=0.02, ha="left", fontsize=10, weight="bold")
            for k, (dataset, index) in enumerate(row, 1):
                _draw_sample(part.add_subplot(1, columns, k), dataset, index)
    figure.alt = f"Images with classes and labelled boxes; one row each for {', '.join(chosen)}."
    return figure


def predictions(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    *,
    columns: int = 6,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> "Predictions":
    """Show true boxes (orange, dashed) and predicted ones (blue, solid, class and confidence) on images.

    Returns:
        The picture, the number of predicted boxes in it, the number of true ones.
    """
    grid = -(-len(indices) // columns), columns
    with rc_context(STYLE):
        figure = Picture(figsize=(1.6 * columns, 1.75 * grid[0]))
        tiles = [figure.add_subplot(*grid, k + 1) for k in range(len(indices))]
        counts = draw_predictions(tiles, model, dataset, indices, score_threshold, iou_threshold)
    figure.alt = _alt_predictions(len(indices))
    return Predictions(figure, *counts)


class Predictions(NamedTuple):
    """A picture of predictions, and how many boxes it holds."""

    picture: Picture
    found: int
    true: int


def loss_curves(records: Sequence[Record]) -> Picture:
    """Show each task's loss over the steps on a logarithmic axis, raw and smoothed."""
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3))
        draw_losses(figure.add_subplot(), records)
    figure.alt = _alt_losses(records)
    return figure


def curves(values: Mapping[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Picture:
    """Show a few curves over 1, 2, 3, ..., smoothed, on a logarithmic axis."""
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3))
        axes = figure.add_subplot()
        for (name, curve), style in zip(values.items(), LINES, strict=False):
            _draw_curve(axes, np.arange(1, len(curve) + 1), np.array(curve), name, *style)
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
        axes.legend()
    figure.alt = f"Curves of {ylabel} over {xlabel}: {', '.join(values)}."
    return figure


def bars(groups: Mapping[str, Mapping[str, float]], *, ylabel: str, top: float | None = 1.1) -> Picture:
    """Show a group of bars for each name, with the value over each bar; the axis ends at `top`, if given."""
    names = list(next(iter(groups.values())))
    with rc_context(STYLE):
        figure = Picture(figsize=(1.2 + 2.1 * len(groups), 3))
        axes = figure.add_subplot()
        step = min(0.27, 0.9 / len(names))
        for k, (name, (colour, _), hatch) in enumerate(zip(names, LINES, ("", "//", "..", "xx"), strict=False)):
            at, heights = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * step, [g[name] for g in groups.values()]
            drawn = axes.bar(at, heights, step * 8 / 9, color=colour, hatch=hatch, label=name)
            axes.bar_label(drawn, fmt="%.2f" if top else "%.3g", fontsize=8)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set(ylabel=ylabel, ylim=(0, top))
        figure.legend(loc="outside upper center", ncols=len(names))
    figure.alt = f"Bars of {', '.join(names)} for {', '.join(groups)}."
    return figure


def run(records: Sequence[Record], model: nn.Module, dataset: Any, scores: Mapping[str, float]) -> Picture:
    """Show a finished run: twelve test images with predictions, loss curves, and the scores."""
    indices = range(0, len(dataset), max(1, len(dataset) // 12))[:12]  # spread: folders are often sorted by class
    with rc_context(STYLE):
        figure = Picture(figsize=(11, 7.2))
        grid = figure.add_gridspec(3, 6, height_ratios=(1, 1, 1.1))
        tiles = [figure.add_subplot(grid[k // 6, k % 6]) for k in range(len(indices))]
        draw_predictions(tiles, model, dataset, indices)
        draw_losses(figure.add_subplot(grid[2, :4]), records)
        table = figure.add_subplot(grid[2, 4:])
        table.axis("off")
        lines = [f"{name:<10}{value:.3f}" for name, value in scores.items()]
        text = (
            "on unseen test images\n\n"
            + "\n".join(lines)
            + f"\n\n{records[-1].step} steps, {records[-1].seconds:.0f} s"
        )
        table.text(0.1, 0.9, text, family="monospace", va="top", fontsize=11)
        figure.suptitle("orange, dashed: true boxes    blue, solid: predicted, with class and confidence", fontsize=10)
    figure.alt = f"{_alt_predictions(len(indices))} {_alt_losses(records)}"
    return figure


def steered(records: Sequence[Any], changes: Sequence[int], model: nn.Module, dataset: Any) -> Picture:
    """Show a run of the live lab: losses with a mark at each of the steps `changes`, nine scenes, trail of scores."""
    trail = list(dict.fromkeys(tuple(record.scores.values()) for record in records if record.scores))
    with rc_context(STYLE):
        figure = Picture(figsize=(9.6, 4.6))
        left, right = figure.subfigures(1, 2, width_ratios=(5, 4), squeeze=False)[0]
        losses, scores = left.subplots(2, 1, height_ratios=(5, 3))
        if records:
            draw_losses(losses, records)
        for step in changes:
            losses.axvline(step, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)))
        if trail:
            scores.plot(*zip(*trail, strict=True), "o-", color=GREEN, markersize=3, linewidth=1)
            scores.plot(*trail[-1], "o", color=GREEN, markersize=8)
        scores.set(xlabel="classify: accuracy", ylabel="detect: AP", xlim=(0, 1), ylim=(0, 1))
        draw_predictions(list(right.subplots(3, 3).flat), model, dataset, range(9))
    marks = f" A mark where something was changed: step {', '.join(map(str, changes))}." if changes else ""
    figure.alt = f"{_alt_losses(records)}{marks} {_alt_predictions(9)} A trail in the plane of accuracy and AP."
    return figure


def gradients(jacobian: np.ndarray, directions: Mapping[str, np.ndarray]) -> Picture:
    """Show two gradients, the rows of `jacobian [2, 2]`, and the direction of each method."""
    arrows = {"A": jacobian[0], "B": jacobian[1], **directions}
    styles = (
        (BLUE, "-"),
        (RED, "-"),
        ("0.5", "-"),
        (GREEN, "--"),
        (PINK, ":"),
        (ORANGE, "-."),
        (SKY, "--"),
        ("black", ":"),
    )
    with rc_context(STYLE):
        figure = Picture(figsize=(6, 3.4))
        axes = figure.add_subplot()
        for (name, tip), (colour, line) in zip(arrows.items(), styles, strict=False):
            width = 6 if name == "sum" else 2.2
            axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "ls": line, "lw": width})
            axes.plot(*tip, color=colour, linestyle=line, linewidth=width, label=name)
        reach = max(float(np.linalg.norm(tip)) for tip in arrows.values())
        axes.set(xlim=(-1.1 * reach, 1.1 * reach), ylim=(-0.1 * reach, 1.1 * reach), aspect="equal")
        figure.legend(loc="outside right upper")
    hurt = {name: [t for t, g in zip("AB", jacobian, strict=True) if g @ d < -1e-9] for name, d in directions.items()}
    said = "; ".join(f"{name} hurts {' and '.join(tasks)}" for name, tasks in hurt.items() if tasks)
    figure.alt = f"Two gradients and the directions of {', '.join(directions)}. {said or 'None hurts a task'}."
    return figure


def landscape(
    place: Landscape, weights: Mapping[str, float], start: np.ndarray, paths: Mapping[str, np.ndarray]
) -> Picture:
    """Show level lines of the weighted loss, both gradients and their sum at `start`, and the path of each method."""
    left, right, bottom, top = place.extent
    w = np.array(list(weights.values()))
    x, y = np.meshgrid(np.linspace(left, right, 121), np.linspace(bottom, top, 91))
    total = place.losses(np.stack([x, y], -1)) @ w
    styles = (("black", "-"), *LINES, (ORANGE, (0, (6, 2))), (SKY, (0, (1, 1))))
    with rc_context(STYLE):
        figure = Picture(figsize=(7.6, 5.2))
        axes = figure.add_subplot()
        axes.contour(
            x, y, total, total.min() + np.ptp(total) * np.linspace(0.07, 1, 14) ** 2.5, colors="0.75", zorder=0
        )
        axes.plot(*place.pareto().T, color="0.5", linewidth=5, alpha=0.45, label="Pareto set")
        for (name, path), (colour, line) in zip(paths.items(), styles, strict=False):
            axes.plot(*path.T, color=colour, linestyle=line, label=name, linewidth=1.8, marker="o", markevery=[-1])
        gradients = place.jacobian(start)
        arrows = {"-g_A": (gradients[0], BLUE), "-g_B": (gradients[1], RED), "sum": (w @ gradients, "black")}
        scale = 1.1 / max(float(np.linalg.norm(g)) for g, _ in arrows.values())
        for name, (g, colour) in arrows.items():
            tip = tuple(start - scale * g)
            axes.annotate("", tip, tuple(start), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
            axes.annotate(name, tip, color=colour, xytext=(4, 4), textcoords="offset points")
        for task, centre in zip(weights, place.centres, strict=True):
            axes.plot(*centre, "k*", markersize=11)
            axes.annotate(f"best for {task}", centre, xytext=(6, -13), textcoords="offset points")
        axes.plot(*start, "o", markerfacecolor="white", markeredgecolor="black", markersize=9, zorder=5)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axes.set(xlabel="shared parameter 1", ylabel="shared parameter 2")
        axes.grid(False)
        figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    figure.alt = (
        f"Level lines of the weighted loss of tasks {' and '.join(weights)} over two shared parameters, Pareto set, "
        f"gradients at the start, and the paths of {', '.join(paths)}."
    )
    return figure


def front(summaries: Mapping[str, Any], *, scores: tuple[str, str], named: Sequence[str] = ()) -> Picture:
    """Show the front of static weights, every method on it, and what each costs in seconds.

    Args:
        summaries: setting → `mtlkit.experiments.Summary`.
        scores: names of the two scores.
        named: methods that get a label; the others are dots.
    """
    static = {name: s for name, s in summaries.items() if name.startswith("static ") or name == "EqualWeights"}
    alone = {name: s for name, s in summaries.items() if name.endswith(" alone")}
    methods = {name: s for name, s in summaries.items() if name not in static and name not in alone}
    with rc_context(STYLE):
        figure = Picture(figsize=(10, 4.6))
        left, right = figure.subplots(1, 2)
        order = sorted(static.values(), key=lambda s: s.mean)
        left.plot([s.mean[0] for s in order], [s.mean[1] for s in order], "-", color=BLUE, zorder=1)
        for group, colour, mark, label in ((static, BLUE, "s", "static weights"), (methods, RED, "o", "methods")):
            means, widths = (np.array([getattr(s, name) for s in group.values()]) for name in ("mean", "interval"))
            left.errorbar(*means.T, *widths.T[::-1], fmt=mark, color=colour, elinewidth=0.6, alpha=0.75, label=label)
            for s in group.values():
                right.errorbar(s.seconds, s.delta_m, s.delta_m_interval, fmt=mark, color=colour, elinewidth=0.6)
        for name in named:
            s = summaries[name]
            for axes, at in ((left, s.mean), (right, (s.seconds, s.delta_m))):
                axes.annotate(name, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        for s, line in zip(alone.values(), (left.axvline, left.axhline), strict=True):
            line(np.nanmax(s.mean), color="0.4", linestyle=":")
        left.plot([], [], ":", color="0.4", label="each task alone")
        left.set(xlabel=f"{scores[0]} (test)", ylabel=f"{scores[1]} (test)")
        right.axhline(0, color="0.4", linestyle=":")
        right.set(xlabel="seconds of training on one core", ylabel="Δm in %, above 0 is better than alone")
        left.legend(fontsize=8, loc="lower left")
    figure.alt = (
        f"Left: {scores[1]} over {scores[0]} of {len(static)} static weights and {len(methods)} methods with 95 % "
        "intervals. Right: Δm over training seconds."
    )
    return figure


def draw_losses(axes: Axes, records: Sequence[Record]) -> None:
    """Draw the losses of a run."""
    for style, name in zip(LINES, _tasks(records), strict=False):
        taken = np.array([(record.step, record.losses[name]) for record in records if name in record.tasks])
        _draw_curve(axes, taken[:, 0], taken[:, 1], name, *style)
    axes.set(xlabel="step", ylabel="loss (before weighting)", yscale="log")
    axes.legend()


def draw_predictions(
    tiles: Sequence[Axes],
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> tuple[int, int]:
    """Draw images with true and predicted boxes, one a tile; return the numbers of predicted and true boxes."""
    batch = collate([dataset[index] for index in indices])
    with evaluating(model):
        output = model(batch["image"].to(next(model.parameters()).device))
    guesses = output["classify"].argmax(1).tolist()
    found = find_objects(output["detect"], score_threshold=score_threshold, iou_threshold=iou_threshold)
    for k, (axes, objects) in enumerate(zip(tiles, found, strict=True)):
        _show_image(axes, batch["image"][k])
        for box in batch["boxes"][k][batch["box_labels"][k] >= 0]:
            _draw_box(axes, box, "", ORANGE, "--")
        for box, score, label in zip(*(objects[name].cpu() for name in ("boxes", "scores", "labels")), strict=True):
            text = f"{dataset.box_classes[label]} {score:.2f}".replace(" 0.", " .")
            _draw_box(axes, box, text if len(objects["boxes"]) <= MOST_LABELS else "", SKY, "-")
        truth = int(batch["label"][k])
        mark = "" if truth < 0 else " (right)" if guesses[k] == truth else f" (is {dataset.classes[truth]})"
        axes.set_title(f"{dataset.classes[guesses[k]]}{mark}", fontsize=8)
    return sum(len(objects["boxes"]) for objects in found), int((batch["box_labels"] >= 0).sum())


def _draw_sample(axes: Axes, dataset: Any, index: int) -> None:
    sample = dataset[index]
    _show_image(axes, sample["image"])
    for box, label in zip(sample.get("boxes", ()), sample.get("box_labels", ()), strict=True):
        _draw_box(axes, box, dataset.box_classes[label], ORANGE, "-")
    label = sample.get("label")
    axes.set_title("no class" if label is None else dataset.classes[label], fontsize=8)


def _show_image(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _draw_box(axes: Axes, box: Tensor, text: str, colour: str, line: str) -> None:
    x0, y0, x1, y1 = box.tolist()
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linestyle=line))
    if text:
        label = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        above = y0 > 0.08 * (axes.get_ylim()[0] + 0.5)  # else the label stands inside the box, not in the title
        at, anchor = (y0 - 1, "bottom") if above else (y0 + 0.5, "top")
        axes.text(x0 - 0.5, at, text, fontsize=6, va=anchor, bbox=label, clip_on=True)


def _draw_curve(axes: Axes, x: np.ndarray, y: np.ndarray, name: str, colour: str, line: str) -> None:
    axes.plot(x, y, color=colour, alpha=0.2, linewidth=0.8)
    axes.plot(x, moving_average(y, max(1, len(y) // 40)), line, color=colour, label=name)


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of the last `width` values that are not NaN, at each place of `values [n]`."""
    seen = ~np.isnan(values)
    total, number = (np.cumsum(np.insert(part, 0, 0.0)) for part in (np.where(seen, values, 0.0), seen))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    with np.errstate(invalid="ignore"):
        return (total[end] - total[start]) / (number[end] - number[start])


def _alt_predictions(n: int) -> str:
    return f"{n} images with true boxes (dashed) and predicted boxes with class and confidence (solid)."


def _alt_losses(records: Sequence[Record]) -> str:
    return f"Loss of {' and '.join(_tasks(records))} over {len(records)} steps, on a logarithmic axis."


def _tasks(records: Sequence[Record]) -> list[str]:
    """Return the names of all tasks that took part in any step."""
    return list(dict.fromkeys(name for record in records for name in record.tasks))
