"""Batches and loaders on what hypothesis draws: nothing lost, nothing twice, on images that are not square."""

import functools
import math
import operator
from collections import Counter, namedtuple
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlkit.data import DataError, Loader, MixedLoader, augment, collate
from mtlkit.data.batches import batch_size, check_sample, cut, named
from mtlkit.data.loader import mixture
from mtlkit.machine import Group

often = settings(derandomize=True, max_examples=25, deadline=None, database=None)


class Numbers:
    """A map-style data set of the numbers 0 ... n - 1, with a mark of its own."""

    def __init__(self, n, mark=0):
        self.n, self.mark = n, mark

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        return {"k": torch.tensor(k), "mark": self.mark}


@often
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_shows_full_batches_without_repetition_and_is_resumed_anywhere(n, size, seed, stop):
    loader = Loader(Numbers(n), size, seed)
    full = min(size, n)
    assert loader.batches_per_epoch == n // full
    batches = [batch["k"].tolist() for batch in islice(loader, 3 * loader.batches_per_epoch + stop)]
    assert all(len(batch) == full for batch in batches)
    for epoch in range(3):
        seen = [k for b in batches[epoch * (n // full) :][: n // full] for k in b]
        assert len(set(seen)) == len(seen) == n // full * full and set(seen) <= set(range(n))
    again = Loader(Numbers(n), size, seed)
    again.load_state_dict({"batches_given": stop})
    batches += [batch["k"].tolist() for batch in islice(loader, 5)]
    assert [batch["k"].tolist() for batch in islice(again, 5)] == batches[stop : stop + 5]


@often
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 9))
def test_processes_share_out_what_one_process_would_see(size, each, seed):
    data, sources = Numbers(40), {"a": Numbers(9), "b": Numbers(5, mark=1)}
    for make in (
        lambda group: Loader(data, size * each, seed, group=group),
        lambda group: MixedLoader(sources, size * each, seed, group=group),
    ):
        whole = [batch["k"].tolist() for batch in islice(make(Group(0, 1)), 7)]
        parts = [[batch["k"].tolist() for batch in islice(make(Group(r, size)), 7)] for r in range(size)]
        assert whole == [functools.reduce(operator.iadd, (part[n] for part in parts), []) for n in range(7)]
    with pytest.raises(DataError, match=f"cannot be shared out among {each + 1} processes"):
        Loader(data, size * (each + 1) + 1, group=Group(0, each + 1))


@often
@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1),
    st.sampled_from([1.0, 2.0, math.inf]),
    st.integers(0, 50),
)
def test_each_source_is_gone_through_before_it_begins_again(sizes, temperature, seed):
    loader = MixedLoader({name: Numbers(n, ord(name)) for name, n in sizes.items()}, 6, seed, temperature)
    weights = {name: n ** (1 / temperature) for name, n in sizes.items()}
    expected = {name: w / sum(weights.values()) for name, w in weights.items()}
    assert loader.proportions == pytest.approx(expected) == mixture(sizes, temperature)
    assert loader.batches_per_epoch == max(1, sum(sizes.values()) // 6)
    seen = {name: [] for name in sizes}
    for batch in islice(loader, 8):
        for k, mark, source in zip(batch["k"].tolist(), batch["mark"].tolist(), batch["source"].tolist(), strict=True):
            assert list(sizes)[source] == chr(mark)
            seen[chr(mark)].append(k)
    for name, n in sizes.items():
        for start in range(0, len(seen[name]), n):
            part = seen[name][start : start + n]
            assert len(set(part)) == len(part) and set(part) <= set(range(n))
    assert loader.drawn == {name: len(found) for name, found in seen.items()}
    again = MixedLoader({name: Numbers(n, ord(name)) for name, n in sizes.items()}, 6, seed, temperature)
    again.load_state_dict(loader.state_dict())
    assert torch.equal(next(again)["k"], next(loader)["k"])


def test_different_seeds_epochs_and_sources_are_in_different_orders():
    def orders(seed):
        return [b["k"].tolist() for b in islice(Loader(Numbers(50), 50, seed), 3)]

    first = MixedLoader({"a": Numbers(50), "b": Numbers(50)}, 200, temperature=math.inf)
    batch = next(first)
    own = [batch["k"][batch["source"] == s][:50].tolist() for s in (0, 1)]
    found = [*orders(0), *orders(1), *own]
    assert len({tuple(order[:40]) for order in found}) == len(found)
    counts = Counter(next(MixedLoader({"a": Numbers(900), "b": Numbers(100)}, 5000))["source"].tolist())
    assert abs(counts[1] / 5000 - 0.1) < 0.02


# --- what a batch is ------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "x y")


@often
@given(st.integers(1, 7), st.integers(1, 7))
def test_the_parts_of_a_batch_are_the_batch(size, number):
    number = min(number, size)
    rows = torch.arange(size * 2).reshape(size, 2)
    batch = {
        "x": rows, "deep": {"y": rows[:, 0].float(), "same": torch.tensor(3.0)},
        "names": [f"n{k}" for k in range(size)],
        "array": np.arange(size), "pair": Pair(rows + 1, "both"), "tuple": (rows, rows + 2),
        "other": torch.zeros(size + 1), "text": "t",
    }  # fmt: skip
    parts = cut(batch, number, size)
    assert len(parts) == number and {batch_size(part["x"]) for part in parts} <= {size // number, -(-size // number)}
    assert torch.equal(torch.cat([part["x"] for part in parts]), rows)
    assert torch.equal(torch.cat([part["deep"]["y"] for part in parts]), rows[:, 0].float())
    assert functools.reduce(operator.iadd, (part["names"] for part in parts), []) == batch["names"]
    assert np.array_equal(np.concatenate([part["array"] for part in parts]), batch["array"])
    assert torch.equal(torch.cat([part["pair"].x for part in parts]), rows + 1)
    assert torch.equal(torch.cat([part["tuple"][1] for part in parts]), rows + 2)
    for part in parts:
        assert part["text"] == "t" and len(part["other"]) == size + 1 and float(part["deep"]["same"]) == 3
        assert isinstance(part["pair"], Pair) and part["pair"].y == "both"


@often
@given(st.lists(st.none() | st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5), st.integers(0, 99))
def test_boxes_come_back_out_of_a_batch(images, seed):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for labels in images:
        sample = {"image": torch.rand(3, 4, 7, generator=generator)}
        if labels is not None:
            boxes = torch.rand(len(labels), 4, generator=generator)
            sample |= {"boxes": boxes, "box_labels": torch.tensor(labels, dtype=torch.long)}
        samples.append(sample)
    batch = collate(samples)
    assert batch["has_boxes"].tolist() == [labels is not None for labels in images]
    assert batch["boxes"].shape == (len(images), max(1, *(len(labels or ()) for labels in images), 1), 4)
    assert batch["label"].tolist() == [-1] * len(images)
    for sample, boxes, labels in zip(samples, batch["boxes"], batch["box_labels"], strict=True):
        there = labels >= 0
        assert torch.equal(boxes[there], sample.get("boxes", torch.empty(0, 4)))
        assert torch.equal(labels[there], sample.get("box_labels", torch.empty(0, dtype=torch.long)))


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        (torch.tensor(2, dtype=torch.uint8), -1),
        (1.5, math.nan),
        (True, False),
        (np.int32(4), -1),
        (torch.ones(2), math.nan),
    ],
)
def test_what_a_sample_lacks_is_marked_by_its_kind(value, mark):
    found = collate([{"a": value}, {}])["a"]
    assert torch.equal(found[0], torch.as_tensor(value).to(found.dtype))
    assert torch.equal(found[1], torch.full_like(found[1], mark)) or (math.isnan(mark) and found[1].isnan().all())
    assert found.dtype == {-1: torch.int64, False: torch.bool}.get(mark, found.dtype)


def test_dictionaries_in_samples_are_stacked_key_by_key():
    found = collate([{"a": {"x": 1, "y": torch.ones(2)}}, {}, {"a": {"x": 3}}])["a"]
    assert found["x"].tolist() == [1, -1, 3]
    assert found["y"][0].tolist() == [1, 1] and found["y"][1:].isnan().all()


def test_lists_are_named_after_inputs_and_tasks():
    x, y, z = torch.zeros(2), torch.ones(2), torch.full((2,), 2.0)
    assert named([x, y], "image", ["a"]) == {"image": x, "a": y}
    assert named((x, y, z), ("u", "v"), ["a"]) == {"u": x, "v": y, "a": z}
    assert named([x, {"a": y, "b": z}], "image", ["a", "b"]) == {"image": x, "a": y, "b": z}
    assert named(Pair(x, y), "x", ["y"]) == {"x": x, "y": y}
    says = "a list of 1", "a list of 3", "a list of 3", "Tensor", "int", "a list of 0"
    for wrong, said in zip(([x], [x, y, z], [x, y, {"a": z}], x, 3, []), says, strict=True):
        with pytest.raises(
            DataError, match=f"is {said}: expected a dictionary of tensors, or a list of the input image and one"
        ):
            named(wrong, "image", ["a"])
    for wrong, tasks in (([x, y], ["image"]), ([x, {"image": y}], ["a"])):
        with pytest.raises(DataError, match="'image' is both an input and a target"):
            named(wrong, "image", tasks)


class Labelled:
    classes, box_classes = ("a", "b"), ("u", "v", "w")


@pytest.mark.parametrize(
    ("box", "label", "said"),
    [
        ((0.0, 0.0, 90.0, 40.0), 2, ""),
        ((0.0, 0.0, 90.5, 40.5), 0, ""),
        ((0.0, 0.0, 90.6, 40.0), 0, "reaches outside the image of 90x40 pixels"),
        ((0.0, 0.0, 90.0, 40.6), 0, "reaches outside the image of 90x40"),
        ((50.0, 0.0, 60.0, 50.0), 0, "reaches outside"),
        ((-0.1, 0.0, 9.0, 9.0), 0, "reaches outside"),
        ((0.0, -0.1, 9.0, 9.0), 0, "reaches outside"),
        ((5.0, 5.0, 5.0, 9.0), 0, "has no area"),
        ((5.0, 5.0, 9.0, 5.0), 0, "has no area"),
        ((0.0, 0.0, 9.0, 9.0), 3, "box_labels hold 3, but the 3 box classes"),
        ((0.0, 0.0, 9.0, 9.0), -1, "box_labels hold -1"),
    ],
)
def test_a_wrong_box_is_told_on_an_image_that_is_not_square(box, label, said):
    sample = {"image": torch.zeros(3, 40, 90), "boxes": torch.tensor([box]), "box_labels": torch.tensor([label])}
    if not said:
        check_sample(sample, 7, Labelled())
    else:
        with pytest.raises(DataError, match=f"sample 7: .*{said}"):
            check_sample(sample, 7, Labelled())


def test_labels_are_held_against_the_classes_of_the_data_set():
    image = {"image": torch.zeros(3, 4, 4)}
    for label in (-1, 0, 1):
        check_sample(image | {"label": torch.tensor(label)}, 0, Labelled())
    for label in (-2, 2):
        with pytest.raises(DataError, match=f"its label is {label}, but the 2 classes"):
            check_sample(image | {"label": torch.tensor(label)}, 0, Labelled())
    check_sample(image | {"label": torch.tensor(9)}, 0, object())
    check_sample({"label": torch.tensor(9)}, 0, Labelled())  # without an image it means what it wants
    with pytest.raises(DataError, match="it has 1 boxes but 2 box_labels"):
        check_sample(image | {"boxes": torch.ones(1, 4), "box_labels": torch.ones(2).long()}, 0, object())


@often
@given(st.integers(0, 500))
def test_augmented_boxes_lie_where_their_pixels_went(seed):
    """A bright rectangle on black, on an image that is not square: its box stays tight around it."""
    from torchvision.tv_tensors import BoundingBoxes

    image = torch.zeros(3, 60, 100)
    image[:, 20:45, 30:80] = 1
    boxes = BoundingBoxes(torch.tensor([[30.0, 20.0, 80.0, 45.0]]), format="XYXY", canvas_size=(60, 100))
    sample = {"image": image, "boxes": boxes, "box_labels": torch.tensor([4])}
    torch.manual_seed(seed)
    moved = augment(64)(sample)
    assert moved["image"].shape == (3, 64, 64)
    bright = (moved["image"].mean(0) > 0.3).nonzero()
    if len(moved["boxes"]):
        y0, x0, y1, x1 = *bright.min(0).values.tolist(), *(bright.max(0).values + 1).tolist()
        assert torch.allclose(
            torch.as_tensor(moved["boxes"][0]).float(), torch.tensor([x0, y0, x1, y1]).float(), atol=2.0
        )
    else:
        assert not len(bright) or (bright.max(0).values - bright.min(0).values).min() <= 5
    assert len(moved["boxes"]) == len(moved["box_labels"])


def test_samples_with_names_of_their_own_become_a_batch_by_name():
    batch = collate([Pair(torch.ones(2), 1), Pair(torch.zeros(2), 3)])
    assert batch["x"].tolist() == [[1, 1], [0, 0]] and batch["y"].tolist() == [1, 3]
