import zlib

import numpy as np
import pytest
import torch

from mtlkit.data import DigitScenes
from mtlkit.data.digits import mnist_digits


def test_a_sample_has_the_agreed_form():
    sample = DigitScenes("train", 3)[0]
    assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.float32
    assert sample["image"].min() >= 0 and sample["image"].max() <= 1
    assert sample["label"].shape == () and sample["label"].dtype == torch.int64
    assert sample["boxes"].shape == (len(sample["box_labels"]), 4) and sample["boxes"].dtype == torch.float32
    assert sample["box_labels"].dtype == torch.int64


def test_splits_share_no_digit():
    digits = {split: {image.tobytes() for image in mnist_digits(split)[0]} for split in ("train", "val", "test")}
    assert not digits["train"] & digits["test"]
    assert not digits["train"] & digits["val"]
    assert not digits["val"] & digits["test"]
    assert sum(len(mnist_digits(split)[0]) for split in digits) == 5000


@pytest.mark.parametrize("size", [32, 64, 96])
def test_boxes_lie_inside_and_hold_the_digits(size):
    scenes = DigitScenes("test", 300, size)
    real = scenes.box_labels >= 0
    assert real.any(1).all() and real.sum(1).max() == 4
    boxes = scenes.boxes[real]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()


def test_a_box_is_tight_around_its_digit(monkeypatch):
    """Ink and ground differ, so what a scene with and without digits differs in must lie in the boxes."""
    from mtlkit.data import scenes as module

    with_digits = DigitScenes("train", 64)
    monkeypatch.setattr(module, "_draw", lambda images, *_: None)
    without = DigitScenes("train", 64)
    changed = (with_digits.images.int() - without.images.int()).abs().amax(1) > 40  # (n, H, W)
    touched = 0
    for k in range(64):
        for box, label in zip(with_digits.boxes[k].int().tolist(), with_digits.box_labels[k].tolist(), strict=True):
            if label >= 0:
                x0, y0, x1, y1 = box
                inside = changed[k, y0:y1, x0:x1]
                touched += bool(inside[0].any() or inside[1].any()) + bool(inside[:, 0].any() or inside[:, 1].any())
    assert touched / 2 / int((with_digits.box_labels >= 0).sum()) > 0.95


def test_the_seed_determines_everything():
    first, again, other = DigitScenes("train", 70), DigitScenes("train", 70), DigitScenes("train", 70, seed=1)
    assert torch.equal(first.images, again.images) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.images, other.images)


def test_a_small_set_is_the_beginning_of_a_large_one():
    small, large = DigitScenes("val", 10), DigitScenes("val", 200)
    assert torch.equal(small.images, large.images[:10])
    assert torch.equal(small.labels, large.labels[:10])


CHECKSUM_BOXES, CHECKSUM_LABELS = 542950260, 786386266
GREY_LEVELS = [
    150,
    51,
    198,
    225,
    53,
    153,
    209,
    180,
    36,
    195,
    11,
    72,
    67,
    15,
    217,
    46,
    50,
    96,
    199,
    31,
    190,
    57,
    30,
    72,
    209,
    173,
    98,
    49,
    112,
    218,
    28,
    199,
    165,
    73,
    45,
    51,
    216,
    202,
    226,
    59,
    68,
    201,
    19,
    49,
    172,
    203,
    43,
    185,
]


def test_the_same_on_every_machine():
    scenes = DigitScenes("test", 200, seed=7)
    assert zlib.crc32(scenes.boxes.numpy().astype("<f4").tobytes()) == CHECKSUM_BOXES
    labels = torch.cat([scenes.labels, scenes.box_labels.flatten()])
    assert zlib.crc32(labels.numpy().astype("<i8").tobytes()) == CHECKSUM_LABELS
    pixels = scenes.images.flatten()[:: 200 * 3 * 64 * 64 // 48][:48].tolist()
    assert np.abs(np.subtract(pixels, GREY_LEVELS)).max() <= 1


def test_scene_class_says_what_the_label_means():
    count = DigitScenes("train", 100, scene_class="count")
    assert torch.equal(count.labels + 1, (count.box_labels >= 0).sum(1))
    texture, random = DigitScenes("train", 100), DigitScenes("train", 100, scene_class="random")
    assert torch.equal(texture.images, random.images)
    assert set(texture.labels.tolist()) == set(random.labels.tolist()) == set(range(5))
    agree = (texture.labels == random.labels).float().mean()
    assert agree < 0.4


def test_label_noise_replaces_that_share_by_wrong_classes():
    clean, noisy = DigitScenes("train", 1000), DigitScenes("train", 1000, label_noise={"classify": 0.3})
    assert abs((clean.labels != noisy.labels).float().mean() - 0.3) < 0.05
    assert torch.equal(clean.box_labels, noisy.box_labels) and torch.equal(clean.images, noisy.images)
    noisy = DigitScenes("train", 1000, label_noise={"detect": 0.3})
    real = clean.box_labels >= 0
    assert torch.equal(real, noisy.box_labels >= 0)
    assert abs((clean.box_labels != noisy.box_labels)[real].float().mean() - 0.3) < 0.05


def test_missing_targets_are_absent_from_the_sample():
    scenes = DigitScenes("train", 1000, missing={"classify": 0.5, "detect": 0.2})
    assert abs((scenes.labels < 0).float().mean() - 0.5) < 0.05
    assert abs((~scenes.has_boxes).float().mean() - 0.2) < 0.05
    for index in range(50):
        sample = scenes[index]
        assert ("label" in sample) == (scenes.labels[index] >= 0)
        assert ("boxes" in sample) == ("box_labels" in sample) == bool(scenes.has_boxes[index])


def test_labelled_keeps_exactly_so_many():
    scenes = DigitScenes("train", 500, labelled={"classify": 50})
    assert (scenes.labels >= 0).sum() == 50 and scenes.has_boxes.all()


@pytest.mark.parametrize("scene_class", ["texture", "count", "random"])
def test_imbalance_is_the_ratio_of_frequencies(scene_class):
    labels = DigitScenes("train", 4000, size=32, scene_class=scene_class, imbalance=8).labels
    counts = labels.bincount()
    assert 5 < counts[0] / counts[-1] < 12
    assert (counts[:-1] > counts[1:]).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "dev"}, "split"),
        ({"scene_class": "mood"}, "scene_class"),
        ({"n": 0}, "n must"),
        ({"size": 8}, "size"),
        ({"imbalance": 0.5}, "imbalance"),
        ({"missing": 1.5}, "missing"),
        ({"missing": {"segment": 0.5}}, "segment"),
        ({"label_noise": -0.1}, "label_noise"),
        ({"labelled": {"segment": 5}}, "segment"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        DigitScenes(**{"n": 2} | arguments)
