"""DigitScenes: small pictures with an image-level class and digits to find, made in memory from a seed.

Each scene has one of five background textures, 1 to 4 real MNIST digits of random size, place and colour, a few
pieces of digits as clutter, and noise. Scenes are made in blocks of 64 with a random stream of their own, so
that `DigitScenes("train", 100)` is the beginning of `DigitScenes("train", 6000)`.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.digits import SPLITS, mnist_digits
from mtlkit.machine import to_device

TEXTURES = ("stripes", "checks", "dots", "rings", "clouds")
SCENE_CLASSES = {
    "texture": TEXTURES,
    "count": ("one digit", "two digits", "three digits", "four digits"),
    "random": ("A", "B", "C", "D", "E"),
}
BLOCK = 64
MAX_DIGITS, CLUTTER = 4, 3
TASKS = ("classify", "detect")


class DigitScenes(torch.utils.data.Dataset):
    """Scenes of digits for image classification + object detection, held in memory as `uint8`.

    A sample is `{"image": float32 [3, H, W] in 0..1, "label": int64 [], "boxes": float32 [N, 4] xyxy pixels,
    "box_labels": int64 [N]}`. A target that the knobs removed is absent: the sample adds nothing to that task's loss.

    Args:
        split: "train", "val" or "test"; their digits are disjoint.
        n: number of scenes.
        size: height and width in pixels, at least 32.
        seed: determines everything; the same on every machine (pixels to one grey level).
        scene_class: what the label says: "texture" (which background; competes with detection), "count" (how many
            digits; related to it) or "random" (unlearnable).
        label_noise: share of targets replaced by a wrong class, for both tasks or as `{"classify": 0.2}`.
        missing: share of scenes whose target is absent, for both tasks or as `{"detect": 0.5}`.
        labelled: how many scenes keep their target, as `{"classify": 50}`; the rest are absent.
        imbalance: how many times as frequent the commonest scene class is as the rarest (1 = balanced).

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        split: str = "train",
        n: int = 6000,
        size: int = 64,
        seed: int = 0,
        *,
        scene_class: str = "texture",
        label_noise: float | Mapping[str, float] = 0.0,
        missing: float | Mapping[str, float] = 0.0,
        labelled: Mapping[str, int] | None = None,
        imbalance: float = 1.0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if scene_class not in SCENE_CLASSES:
            raise ValueError(f"unknown scene_class {scene_class!r}: expected one of {', '.join(SCENE_CLASSES)}")
        if n < 1 or size < 32:
            raise ValueError(f"n must be at least 1 and size at least 32, got n={n}, size={size}")
        if not imbalance >= 1:
            raise ValueError(f"imbalance is a ratio of frequencies, at least 1, got {imbalance}")
        self.split, self.size, self.seed, self.scene_class = split, size, seed, scene_class
        self.label_origin = f"made: {scene_class}"
        self.classes = SCENE_CLASSES[scene_class]
        self.box_classes = tuple(str(digit) for digit in range(10))
        stream = (seed, SPLITS.index(split))
        blocks = [_block(stream, b, size, scene_class, imbalance, split) for b in range(-(-n // BLOCK))]
        self.images, self.labels, self.boxes, self.box_labels = (
            torch.cat(parts)[:n].clone() for parts in zip(*blocks, strict=True)
        )
        self.has_boxes = torch.ones(n, dtype=torch.bool)
        self._add_label_noise(_per_task(label_noise, "label_noise"), stream)
        self._remove_targets(_per_task(missing, "missing"), dict(labelled or {}), stream)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = {"image": self.images[index] / 255}
        if self.labels[index] >= 0:
            sample["label"] = self.labels[index]
        if self.has_boxes[index]:
            real = self.box_labels[index] >= 0
            sample |= {"boxes": self.boxes[index][real], "box_labels": self.box_labels[index][real]}
        return sample

    def batch(self, indices: Tensor | Sequence[int]) -> dict[str, Tensor]:
        """Return many samples at once, in the form `mtlkit.data.collate` gives, without a loop in Python."""
        indices = torch.as_tensor(indices)
        return {
            "image": self.images[to_device(indices, self.images.device)].float().div_(255),
            "label": self.labels[indices],
            "boxes": self.boxes[indices],
            "box_labels": self.box_labels[indices],
            "has_boxes": self.has_boxes[indices],
        }

    def to(self, device: torch.device) -> "DigitScenes":
        """Move the images to a device, where batches are then made; the targets, a few numbers each, stay here."""
        self.images = self.images.to(device)
        return self

    def _add_label_noise(self, noise: dict[str, float], stream: tuple[int, int]) -> None:
        rng = np.random.default_rng([*stream, 1])
        for name, labels, classes in (
            ("classify", self.labels, len(self.classes)),
            ("detect", self.box_labels, len(self.box_classes)),
        ):
            flip = torch.from_numpy(rng.random(labels.shape) < noise[name]) & (labels >= 0)
            shift = torch.from_numpy(rng.integers(1, classes, labels.shape))  # never 0: a flipped label is wrong
            labels[flip] = ((labels + shift) % classes)[flip]

    def _remove_targets(self, missing: dict[str, float], labelled: dict[str, int], stream: tuple[int, int]) -> None:
        if unknown := set(labelled) - set(TASKS):
            raise ValueError(f"labelled names the task {sorted(unknown)[0]!r}: expected {' or '.join(TASKS)}")
        rng = np.random.default_rng([*stream, 2])
        for name in TASKS:
            gone = rng.random(len(self)) < missing[name]
            gone[rng.permutation(len(self))[labelled.get(name, len(self)) :]] = True
            if name == "classify":
                self.labels[torch.from_numpy(gone)] = -1
            else:
                self.has_boxes &= torch.from_numpy(~gone)
                self.box_labels[~self.has_boxes] = -1
                self.boxes[~self.has_boxes] = 0


def _per_task(value: float | Mapping[str, float], name: str) -> dict[str, float]:
    given = dict(value) if isinstance(value, Mapping) else dict.fromkeys(TASKS, value)
    for task, share in given.items():
        if task not in TASKS:
            raise ValueError(f"{name} names the task {task!r}: expected {' or '.join(TASKS)}")
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share between 0 and 1, got {share} for {task}")
    return dict.fromkeys(TASKS, 0.0) | given


def _block(
    stream: tuple[int, int], block: int, size: int, scene_class: str, imbalance: float, split: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make 64 scenes: images `uint8 [B, 3, H, W]`, labels `[B]`, boxes `[B, 4, 4]`, box labels `[B, 4]`."""
    rng = np.random.default_rng([*stream, 0, block])
    texture = rng.choice(5, BLOCK, p=_frequencies(5, imbalance if scene_class == "texture" else 1))
    count = 1 + rng.choice(4, BLOCK, p=_frequencies(4, imbalance if scene_class == "count" else 1))
    arbitrary = rng.choice(5, BLOCK, p=_frequencies(5, imbalance))

    digits, digit_class = mnist_digits(split)
    which = rng.integers(len(digits), size=(BLOCK, MAX_DIGITS + CLUTTER))
    source, target = _place(rng, _ink_boxes(split)[which], size)
    shown = np.concatenate([np.arange(MAX_DIGITS) < count[:, None], np.ones((BLOCK, CLUTTER), bool)], 1)

    light = rng.random((BLOCK, 1, 1)) < 0.5  # bright digits on a dark ground, or the other way round
    ground = _colours(rng, 2, 0.05, 0.25)  # (B, 2, 3)
    ground[:, 1] = ground[:, 0] + _colours(rng, 1, 0.1, 0.25)[:, 0]
    ink = _colours(rng, MAX_DIGITS + CLUTTER, 0.65, 1.0)
    ground, ink = np.where(light, 1 - ground, ground), np.where(light, 1 - ink, ink)

    images = _backgrounds(rng, texture, 255 * ground, size)
    _draw(images, digits[which], source, target, shown, 255 * ink)
    noise = torch.from_numpy(rng.integers(-12, 13, images.shape, dtype=np.int8))
    pixels = images.add_(noise).clamp_(0, 255).to(torch.uint8)

    boxes = np.where(shown[:, :MAX_DIGITS, None], target[:, :MAX_DIGITS], 0).astype(np.float32)
    box_labels = np.where(shown[:, :MAX_DIGITS], digit_class[which[:, :MAX_DIGITS]], -1)
    label = {"texture": texture, "count": count - 1, "random": arbitrary}[scene_class]
    return pixels, torch.from_numpy(label), torch.from_numpy(boxes), torch.from_numpy(box_labels)


def _frequencies(classes: int, imbalance: float) -> np.ndarray:
    p = imbalance ** -np.linspace(0, 1, classes)
    return p / p.sum()


def _colours(rng: np.random.Generator, n: int, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, (BLOCK, n, 3)).astype(np.float32)


@cache
def _ink_boxes(split: str) -> np.ndarray:
    """Return the tight box `[n, 4]` (xyxy) around the ink of each digit of a split."""
    ink = mnist_digits(split)[0] > 40
    x, y = ink.any(1), ink.any(2)
    first, last = (lambda rows: rows.argmax(1)), (lambda rows: rows.shape[1] - rows[:, ::-1].argmax(1))
    return np.stack([first(x), first(y), last(x), last(y)], 1)


def _place(rng: np.random.Generator, ink: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose, for each object, the part of its digit that is drawn and the whole pixels it covers.

    Digits come first and are drawn whole, in a place that covers at most a little of earlier digits; clutter is
    a small piece of a digit. Both results are `[B, objects, 4]` xyxy, the target in whole pixels: exact boxes.
    """
    source = ink.astype(np.float64)  # (B, K, 4)
    height = rng.integers(size * 12 // 64, size * 28 // 64 + 1, ink.shape[:2])
    piece = rng.integers(0, 10, (BLOCK, CLUTTER, 2)) + source[:, MAX_DIGITS:, :2]
    source[:, MAX_DIGITS:] = np.concatenate([piece, piece + 8], 2)
    height[:, MAX_DIGITS:] = rng.integers(size * 5 // 64, size * 9 // 64 + 1, (BLOCK, CLUTTER))
    aspect = (source[..., 2] - source[..., 0]) / (source[..., 3] - source[..., 1])
    width = np.maximum(np.rint(height * aspect), size * 3 // 64).astype(np.int64)
    extent = np.stack([width, height], 2)

    tries = 12
    corner = np.floor(rng.random((BLOCK, ink.shape[1], tries, 2)) * (size - extent[:, :, None] + 1)).astype(np.int64)
    choices = np.concatenate([corner, corner + extent[:, :, None]], 3)  # (B, K, tries, 4)
    target = choices[:, :, 0].copy()
    scene = np.arange(BLOCK)
    for k in range(1, MAX_DIGITS):
        covered = _overlap(choices[:, k, :, None], target[:, None, :k]).max(2)  # (B, tries)
        target[:, k] = choices[scene, k, np.maximum(covered, 0.1).argmin(1)]
    return source, target


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the shared area as a part of the smaller of two boxes."""
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    smaller = np.minimum((a[..., 2:] - a[..., :2]).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1))
    return side.clip(0).prod(-1) / smaller


def _backgrounds(rng: np.random.Generator, texture: np.ndarray, ground: np.ndarray, size: int) -> Tensor:
    """Blend two colours by one of the five patterns: `float32 [B, 3, H, W]`."""
    turn, period, px, py = (torch.from_numpy(rng.random(BLOCK, np.float32))[:, None, None] for _ in range(4))
    turn, frequency = turn * torch.pi, 2 * torch.pi / (size / 64 * (5 + 6 * period))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    u = (x * turn.cos() + y * turn.sin()) * frequency + 6 * px  # (B, H, W), radians
    v = (y * turn.cos() - x * turn.sin()) * frequency + 6 * py
    coarse = torch.from_numpy(rng.random((BLOCK, 1, 10, 10), np.float32))
    kind = torch.from_numpy(texture)
    t = torch.empty(BLOCK, size, size)
    for k, pattern in enumerate(
        (
            lambda i: u[i].sin() / 2 + 0.5,
            lambda i: (u[i].sin() * v[i].sin() * 3).clamp(-1, 1) / 2 + 0.5,
            lambda i: ((u[i].sin() + v[i].sin() - 0.8) * 2).clamp(0, 1),
            lambda i: (torch.hypot(x - size * px[i], y - size * py[i]) * frequency[i]).sin() / 2 + 0.5,
            lambda i: torch.nn.functional.interpolate(coarse[i], size=(size, size), mode="bilinear")[:, 0],
        )
    ):
        chosen = (kind == k).nonzero()[:, 0]
        t[chosen] = pattern(chosen)
    start, end = torch.from_numpy(ground).unbind(1)  # (B, 3) each
    return start[:, :, None, None] + t[:, None] * (end - start)[:, :, None, None]


def _draw(
    images: Tensor, digits: np.ndarray, source: np.ndarray, target: np.ndarray, shown: np.ndarray, ink: np.ndarray
) -> None:
    """Resize each digit onto its place and blend it in, in place.

    Resizing and shifting along one axis is a product with a matrix of hat functions, so a whole block is drawn
    by two batched matrix products: `rows @ digit @ columnsᵀ`.
    """
    size = images.shape[-1]
    rows = _resize_matrix(source[..., 1::2], target[..., 1::2], size)  # (B, K, H, 28)
    columns = _resize_matrix(source[..., 0::2], target[..., 0::2], size)  # (B, K, W, 28)
    drawn = torch.from_numpy(digits * shown[:, :, None, None]).float() / 255
    alpha = rows @ drawn @ columns.mT  # (B, K, H, W)
    ink = np.concatenate([ink, np.ones_like(ink[..., :1])], 2)
    colour, total = (torch.from_numpy(ink).mT @ alpha.flatten(2)).split((3, 1), 1)  # (B, 3, H*W), (B, 1, H*W)
    images.flatten(2).mul_((1 - total).clamp_(min=0)).addcdiv_(colour, total.clamp(min=1))


def _resize_matrix(source: np.ndarray, target: np.ndarray, size: int) -> Tensor:
    """Return `[B, K, size, 28]`: how much each source pixel gives to each target pixel, along one axis."""
    s0, s1 = (torch.from_numpy(source[..., k].astype(np.float32))[..., None] for k in (0, 1))
    t0, t1 = (torch.from_numpy(target[..., k].astype(np.float32))[..., None] for k in (0, 1))
    step = (s1 - s0) / (t1 - t0)
    at = torch.arange(size)
    centre = s0 + (at - t0 + 0.5) * step - 0.5  # (B, K, size), in source pixels
    centre = torch.where((at >= t0) & (at < t1), centre, -100.0)
    reach = step.clamp(min=1)[..., None]  # a wider hat where the digit shrinks: no aliasing
    hat = (1 - (centre[..., None] - torch.arange(28)).abs() / reach).clamp_(min=0)
    return hat / hat.sum(-1, keepdim=True).clamp(min=1e-6)
