"""Photographs to choose weights by: a list of the folder itself, or a share of those to train on."""

import pytest

from mtlkit.cases import find_case
from mtlkit.data import DataError, DigitScenes, export
from mtlkit.data.photos.splits import fifth, held_out, pick_validation


@pytest.fixture(scope="module", params=["voc", "coco"])
def folder(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    for split, number in (("train", 60), ("test", 20)):
        export(DigitScenes(split, number, missing=0.2), root, request.param, split)
    return request.param, root


def names(photos):
    return {photo.path.stem for photo in photos.photos}


def test_a_share_of_the_photographs_is_kept_for_validation(folder):
    layout, root = folder
    case = find_case(f"{layout}:{root}", size=64)
    everything, test = names(case.open("train")), names(case.open("test"))
    assert names(case.open("val")) == test  # as nothing is kept
    kept = case.with_knobs(validate=0.3)
    train, val = kept.open("train"), kept.open("val")
    assert names(train) | names(val) == everything and not names(train) & names(val)
    assert 8 <= len(val) <= 28 and names(kept.open("test")) == test
    assert train.classes == val.classes == case.open("train").classes and train.box_classes == val.box_classes
    assert val[0]["image"].shape == (3, 64, 64)
    assert names(kept.open("val", seed=5)) == names(val)
    with pytest.raises(DataError, match="no photograph is left of 60"):
        case.with_knobs(validate=0.001).open("val")


def test_three_lists_have_three_uses(tmp_path):
    for split, seed in (("train", 0), ("valid", 1), ("test", 2)):
        export(DigitScenes("train", 12, seed=seed), tmp_path, "voc", split)
    case = find_case(f"voc:{tmp_path}", size=64, validate=0.5)  # the folder's list comes first
    splits = {split: names(case.open(split)) for split in ("train", "val", "test")}
    assert {split: {name.split("_")[0] for name in found} for split, found in splits.items()} == {
        "train": {"train"},
        "val": {"valid"},
        "test": {"test"},
    }
    assert all(len(found) == 12 for found in splits.values())


def test_what_is_trained_on_is_no_validation(real_data):
    case = find_case(f"voc:{real_data / 'bccd/BCCD'}", size=64, repair=True)  # trains on "trainval"
    assert names(case.open("val")) == names(case.open("test"))
    kept = case.with_knobs(validate=0.2)
    assert not names(kept.open("val")) & (names(kept.open("train")) | names(kept.open("test")))


def test_the_list_for_validation_is_one_that_is_not_used_otherwise():
    assert pick_validation(["train", "val", "test"], ("train", "test")) == "val"
    assert pick_validation(["train", "val"], ("train", "val")) is None
    assert pick_validation(["trainval", "train", "val", "test"], ("trainval", "test")) is None
    assert pick_validation(["train", "val_a", "valid", "test"], ("train", "test")) is None  # which of them?


def test_the_share_does_not_depend_on_the_fifth_for_testing():
    every = [f"photo_{k}.jpg" for k in range(4000)]
    for part in range(5):
        own = [held_out(name, 0.25) for name in every if fifth(name) == part]
        assert 0.2 < sum(own) / len(own) < 0.3
    assert held_out("a.jpg.rf.123", 0.5) == held_out("a.jpg.rf.987", 0.5)
