"""Augmentation that moves the boxes with the pixels."""

from collections.abc import Callable

from torchvision.transforms import v2

from mtlkit.data.batches import Sample


def augment(size: int, *, scale: tuple[float, float] = (0.5, 1.0), flip: bool = True) -> Callable[[Sample], Sample]:
    """Return a transform of samples: random crop scaled back to `size`, flip, brightness and contrast.

    Made of torchvision's v2 transforms, which move `tv_tensors.BoundingBoxes` along; if fewer than 4 pixels
    remain of a box, it is dropped with its label. Pixels are normalised later, in the model (`mtlkit.model.Normalize`).

    Args:
        size: side of the square that comes out, in pixels.
        scale: range of the share of the area that a crop keeps.
        flip: whether left and right may be exchanged (not for digits or text).
    """
    steps: list[Callable] = [
        v2.RandomResizedCrop(size, scale=scale, ratio=(0.8, 1.25), antialias=True),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
    ]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    move, clean = v2.Compose(steps), v2.SanitizeBoundingBoxes(min_size=4, labels_getter=lambda s: s["box_labels"])

    def transform(sample: Sample) -> Sample:
        moved = move({name: value for name, value in sample.items() if not name.startswith("ignored")})
        return clean(moved) if "boxes" in moved else moved

    return transform
