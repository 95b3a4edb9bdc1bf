"""What is drawn or arranged from a seed stays what the course's tables were measured on.

`python tests/test_fingerprints.py` writes the numbers anew, for a change that is meant; then measure the tables again.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlkit.data import DigitScenes, MultiMNIST
from mtlkit.data.digits import mnist_digits
from mtlkit.data.facts import SceneFacts
from mtlkit.data.fields.cells import BloodCells
from mtlkit.data.fields.roads import Roads
from mtlkit.data.fields.senses import Senses
from mtlkit.data.fields.speech import Speech
from mtlkit.data.fields.tumours import WHY, Tumours
from mtlkit.data.fields.words import Words
from mtlkit.data.text import TextTasks

KEPT = Path(__file__).with_name("fingerprints.json")
NOISY = {"classify": 0.3, "detect": 0.2}
DATA = {
    "scenes": partial(DigitScenes, n=70),
    "scenes, counted": partial(DigitScenes, "val", 20, 48, 1, scene_class="count", imbalance=5, label_noise=NOISY),
    "scenes, any": partial(DigitScenes, "test", 20, 96, 2, scene_class="random", missing=0.3, imbalance=3),
    "scenes, few labels": partial(DigitScenes, n=20, seed=3, imbalance=4, labelled={"classify": 7, "detect": 5}),
    "pairs": partial(MultiMNIST, n=20),
    "pairs, test": partial(MultiMNIST, "test", n=20, seed=1),
    "facts": partial(SceneFacts, n=40),
    "facts, few labels": partial(SceneFacts, "val", n=20, seed=1, labelled={"sum": 5, "colour": 0}),
    "cells": partial(BloodCells, n=24),
    "cells, few boxes": partial(BloodCells, "test", n=12, seed=1, boxed=5),
    "roads": partial(Roads, n=40),
    "roads, at night": partial(Roads, "val", n=12, seed=1, night=0.8),
    "senses": partial(Senses, n=12, voices="formants"),
    "senses, few": partial(Senses, "test", n=12, seed=1, pictures=5, clips=6, voices="formants"),
    "speech": partial(Speech, n=12, voices="formants"),
    "speech, test": partial(Speech, "test", n=12, seed=1, voices="formants"),
    "tumours": Tumours,
    "tumours, by chance": partial(Tumours, seed=1, known=0.3, diagnosed=0.5),
    "tumours, suspicious": partial(Tumours, seed=1, known=0.3, diagnosed=0.5, why=WHY[1]),
    "tumours, test": partial(Tumours, "test", seed=1, known=0.3),
    "words": Words,
    "words, few": partial(Words, "val", names={"Irish": 20, "Danish": 5}, seed=1),
    "names": partial(Words, "test", numbers=False),
    "text": partial(TextTasks, "train", 60),
    "text, few tasks": partial(TextTasks, "train", 40, float("inf"), 1, {"add": 300, "reverse": 200}),
    "text, val": partial(TextTasks, "val", 60, 2.0),
}


def fingerprint(values):
    """Return the size, the mean size of a value, and two means of waves over all places; NaN counts as 77."""
    flat = np.nan_to_num(np.asarray(values, np.float64), nan=77.0).ravel()
    place = np.arange(1, flat.size + 1)
    return [flat.size, *(float(np.mean(flat * wave)) for wave in (np.sign(flat), np.sin(place), np.sin(place**0.5)))]


def fingerprints(dataset):
    """Return key → fingerprint of a whole data set."""
    batch = dataset.batch(torch.arange(len(dataset)))
    found = {key: fingerprint(values) for key, values in batch.items()}
    one = dataset[len(dataset) // 2]
    return found | {f"one {key}": fingerprint(values) for key, values in one.items()}


def of_digits(split):
    """Return the fingerprints of the real digits of a split."""
    return dict(zip(("images", "classes"), map(fingerprint, mnist_digits(split)), strict=True))


@pytest.mark.parametrize("name", DATA)
def test_the_data_are_those_of_the_tables(name):
    kept, found = json.loads(KEPT.read_text(encoding="utf-8"))[name], fingerprints(DATA[name]())
    assert found.keys() == kept.keys()
    for key, (size, *means) in kept.items():
        near = {"image": 3e-5, "frames": 2e-4}.get(key.removeprefix("one "), 1e-5) * means[0]
        assert found[key] == pytest.approx([size, *means], abs=near, rel=0), key


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_digits_of_a_split_are_always_the_same(split):
    kept = json.loads(KEPT.read_text(encoding="utf-8"))[f"digits, {split}"]
    assert {key: pytest.approx(values) for key, values in kept.items()} == of_digits(split)


if __name__ == "__main__":
    table = {name: fingerprints(make()) for name, make in DATA.items()}
    table |= {f"digits, {split}": of_digits(split) for split in ("train", "val", "test")}
    lines = (f"{json.dumps(name)}: {json.dumps(prints)}" for name, prints in table.items())  # a data set a line
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    sys.stdout.write(f"wrote {KEPT}\n")
