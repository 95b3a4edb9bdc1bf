"""Images, with the boxes and classes that are true and those that a model says."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from mtlkit.cases.seen import SeenBox, SeenImage, see_boxes
from mtlkit.plots.style import ORANGE, SKY, STYLE, Picture
from mtlkit.plots.words import lines, place_of, seen_in_words

MOST_LABELS = 10  # more in one tile would hide the image
ANSWERED = "Images with true boxes (dashed), and found ones with class and confidence (solid)."


def samples(dataset: Any, indices: Sequence[int], columns: int = 8) -> Picture:
    """Show samples with their true boxes, box classes and image-level class."""
    grid = -(-len(indices) // columns), columns
    with rc_context(STYLE):
        figure = Picture(figsize=(1.35 * columns, 1.55 * grid[0]))
        seen = see_boxes(dataset, indices)
        for k, one in enumerate(seen, 1):
            draw_sample(figure.add_subplot(*grid, k), one)
    figure.alt = f"Images, each with its class and a labelled box around every object.\n{seen_in_words(seen)}"
    return figure


def rows(chosen: Mapping[str, Sequence[tuple[Any, int]]]) -> Picture:
    """Show one row of samples, each from (data set, index), for every name in `chosen`."""
    columns = max(map(len, chosen.values()))
    found = {name: [see_boxes(dataset, [index])[0] for dataset, index in row] for name, row in chosen.items()}
    with rc_context(STYLE):
        figure = Picture(figsize=(1.6 * columns, 1.9 * len(chosen)))
        for part, (name, row) in zip(figure.subfigures(len(found), squeeze=False)[:, 0], found.items(), strict=True):
            part.suptitle(name, x=0.02, ha="left", fontsize=10, weight="bold")
            for k, seen in enumerate(row, 1):
                draw_sample(part.add_subplot(1, columns, k), seen)
    figure.alt = "Rows of images with classes and labelled boxes.\n" + "\n".join(
        f"{name}:\n{seen_in_words(row)}" for name, row in found.items()
    )
    return figure


class Predictions(NamedTuple):
    """A picture of predictions, and how many boxes it holds."""

    picture: Picture
    found: int
    true: int


def predictions(
    model: nn.Module,
    dataset: Any,
    indices: Sequence[int],
    *,
    columns: int = 6,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> Predictions:
    """Show true boxes (orange, dashed) and predicted ones (blue, solid, class and confidence) on images.

    Returns:
        The picture, the number of predicted boxes in it, the number of true ones.
    """
    seen = see_boxes(dataset, indices, model, score_threshold=score_threshold, iou_threshold=iou_threshold)
    found, true = (sum(len(getattr(image, kind)) for image in seen) for kind in ("found", "boxes"))
    return Predictions(answered(seen, columns), found, true)


def answered(seen: Sequence[SeenImage], columns: int = 6) -> Picture:
    """Show images with all that a model says of them, as `Case.see` gives them."""
    grid = -(-len(seen) // columns), columns
    with rc_context(STYLE):
        figure = Picture(figsize=(1.6 * columns, 1.75 * grid[0]))
        for k, image in enumerate(seen, 1):
            draw_answers(figure.add_subplot(*grid, k), image)
    figure.alt = f"{ANSWERED}\n{seen_in_words(seen)}"
    return figure


def gallery(images: Sequence[Tensor], *, title: str, columns: int = 9) -> Picture:
    """Show images `[3, H, W]` in 0..1 side by side.

    Args:
        images: they may differ in size.
        title: what they are; it stands above them.
        columns: in a row.
    """
    grid = -(-len(images) // columns), columns
    with rc_context(STYLE):
        figure = Picture(figsize=(1.0 * columns, 1.0 * grid[0] + 0.3))
        for k, image in enumerate(images, 1):
            axes = figure.add_subplot(*grid, k)
            axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
            axes.axis("off")
        figure.suptitle(title, fontsize=10)
    colours = {k: ", ".join(f"{100 * part:.0f}" for part in image.mean((1, 2))) for k, image in enumerate(images, 1)}
    figure.alt = lines(f"{len(images)} images: {title}. Mean red, green and blue of each, in %:", colours)
    return figure


def heat(images: Tensor, maps: Mapping[str, Tensor]) -> Picture:
    """Show images, and below them one row for each kind of map: the darker, the more a pixel counts.

    Args:
        images: `[B, 3, H, W]` in 0..1.
        maps: name → `[B, H, W]`, 0 or more; each is scaled by its 99th percentile.
    """
    with rc_context(STYLE):
        figure = Picture(figsize=(1.25 * len(images) + 1.2, 1.25 * (len(maps) + 1)))
        tiles = figure.subplots(len(maps) + 1, len(images), squeeze=False)
        for axes, image in zip(tiles[0], images, strict=True):
            axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
        for line, found in zip(tiles[1:], maps.values(), strict=True):
            for axes, one in zip(line, found, strict=True):
                axes.imshow(one.numpy(), cmap="Greys", vmin=0, vmax=float(one.flatten().quantile(0.99)) or 1.0)
        for axes in tiles.flat:
            axes.set(xticks=[], yticks=[])
            axes.grid(visible=False)
        for axes, name in zip(tiles[:, 0], ("image", *maps), strict=True):
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.alt = lines(
        f"{len(images)} images, and below each the pixels that matter; for each map, the ninth of it that holds most:",
        {name: ", ".join(map(place_of, found)) for name, found in maps.items()},
    )
    return figure


def draw_sample(axes: Axes, seen: SeenImage) -> None:
    """Draw an image as it is labelled."""
    _draw_image(axes, seen.image)
    for box in seen.boxes:
        _draw_box(axes, box, box.name if len(seen.boxes) <= MOST_LABELS else "", ORANGE, "-")
    axes.set_title(", ".join(seen.truth.values()) or "no class", fontsize=8)


def draw_answers(axes: Axes, seen: SeenImage) -> None:
    """Draw an image with what a model says of it, beside what is true."""
    _draw_image(axes, seen.image)
    for box in seen.boxes:
        _draw_box(axes, box, "", ORANGE, "--")
    for box in seen.found:
        text = f"{box.name} {box.score:.2f}".replace(" 0.", " .")
        _draw_box(axes, box, text if len(seen.found) <= MOST_LABELS else "", SKY, "-")
    said = [f"{name}{_mark(name, seen.truth.get(task))}" for task, (name, _) in seen.answers.items()]
    axes.set_title("\n".join(said), fontsize=8)


def _mark(said: str, truth: str | None) -> str:
    return "" if truth is None else " (right)" if said == truth else f" (true: {truth})"


def _draw_image(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _draw_box(axes: Axes, box: SeenBox, text: str, colour: str, line: str) -> None:
    x0, y0, x1, y1 = box.corners
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linestyle=line))
    if text:
        label = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        above = y0 > 0.08 * (axes.get_ylim()[0] + 0.5)  # else the label stands inside the box, not in the title
        at, anchor = (y0 - 1, "bottom") if above else (y0 + 0.5, "top")
        axes.text(x0 - 0.5, at, text, fontsize=6, va=anchor, bbox=label, clip_on=True)
