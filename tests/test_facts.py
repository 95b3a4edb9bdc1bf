"""Five questions about one scene, and molecules: their data and their cases."""

import numpy as np
import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data import DataError, DigitScenes
from mtlkit.data.facts import FACTS, SceneFacts
from mtlkit.data.molecules import CENTRES, FEATURES, PAIRS, Molecules, describe


def test_every_label_says_what_is_in_the_scene():
    facts, scenes = SceneFacts("train", 100, seed=3), DigitScenes("train", 100, seed=3)
    for k in range(100):
        batch, scene = facts[k], scenes[k]
        assert torch.equal(batch["image"], scene["image"]) and batch["texture"] == scene["label"]
        assert batch["count"] == len(scene["boxes"]) - 1
        total = int(scene["box_labels"].sum())
        assert FACTS["sum"][batch["sum"]] == ("below 8" if total < 8 else "8 to 14" if total < 15 else "15 or more")
        left, top, right, bottom = max(scene["boxes"].tolist(), key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        side = ("top " if top + bottom < 64 else "bottom ") + ("left" if left + right < 64 else "right")
        assert FACTS["where"][batch["where"]] == side
        assert scene["image"].mean((1, 2)).argmax() == batch["colour"]


def test_the_classes_are_balanced_enough_and_labels_can_be_withheld():
    facts = SceneFacts("train", 1000, labelled={"count": 10})
    for task, labels in facts.labels.items():
        known = labels[labels >= 0]
        assert len(known) == (10 if task == "count" else 1000)
        if task != "count":
            assert torch.bincount(known, minlength=len(FACTS[task])).min() > 150
    with pytest.raises(ValueError, match="'taste': expected one of texture"):
        SceneFacts(labelled={"taste": 1})
    with pytest.raises(IndexError):
        facts[1000]


def test_a_molecule_is_described_by_counts_and_distances_whatever_its_place_and_turn():
    water = np.array([3, 0, 0])  # O, H, H
    places = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    found = describe(water, places)
    assert found.shape == (FEATURES,) and found[:5].tolist() == [2, 0, 0, 1, 0]
    pairs = found[5:].reshape(len(PAIRS), len(CENTRES))
    used = {PAIRS[k] for k in np.flatnonzero(pairs.sum(1))}
    assert used == {(0, 0), (0, 3)}
    width = CENTRES[1] - CENTRES[0]
    expected = 2 * np.exp(-0.5 * ((0.96 - CENTRES) / width) ** 2)
    assert np.allclose(pairs[PAIRS.index((0, 3))], expected, atol=0.01)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    order = np.array([2, 0, 1])
    assert np.allclose(describe(water[order], (places @ turn + 5)[order]), found, atol=1e-5)
    for k, pair in enumerate(PAIRS):
        counts = describe(np.array(pair), places[:2])[5:].reshape(len(PAIRS), len(CENTRES)).sum(1)
        assert np.flatnonzero(counts).tolist() == [k]


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A package of few molecules in the place of qm9pack, and sizes that fit."""
    from mtlkit.data import molecules

    folder = tmp_path / "data"
    folder.mkdir()
    head = "XYZ_file,Index,SMILES,Elements,XYZ_Ang," + ",".join(molecules.PROPERTIES.values())
    random = np.random.default_rng(0)
    for part, name in enumerate(molecules.FILES):
        lines = [head]
        for k in range(10):
            places = random.normal(size=(3, 3)).round(3).tolist()
            numbers = ",".join(f"{v:.4f}" for v in random.normal(size=len(molecules.PROPERTIES)))
            lines.append(f"x,{10 * part + k},O,\"['O','H','H']\",\"{places}\",{numbers}")
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(molecules, "_folder", lambda: folder)
    monkeypatch.setattr(molecules, "SIZES", {"train": 20, "val": 5, "test": 5})
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path / "kept"))
    molecules._standardised.cache_clear()
    yield tmp_path
    molecules._standardised.cache_clear()


def test_molecules_are_read_once_split_and_standardised(few):
    train, test = Molecules("train"), Molecules("test", 3)
    assert (len(train), len(test)) == (20, 3) and (few / "kept" / "molecules.npz").exists()
    assert all(abs(float(known.mean())) < 1e-5 for known in train.labels.values()) and all(
        abs(float(known.std(correction=0)) - 1) < 1e-5 for known in train.labels.values()
    )
    batch = train.batch([0, 3])
    assert batch["features"].shape == (2, FEATURES) and batch["U0"].shape == (2,) and train.formula(0) == "H2 O1"
    assert set(train[0]) == set(batch)
    assert torch.equal(Molecules("val", 3).atoms, Molecules("val").atoms[:3]) and len(Molecules("train", 3).atoms) == 3
    with pytest.raises(DataError, match="train has 1 to 20"):
        Molecules("train", 21)
    with pytest.raises(ValueError, match="unknown split"):
        Molecules("all")


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    from mtlkit.data import molecules

    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    monkeypatch.setattr(molecules, "find_spec", lambda _: None)
    molecules._standardised.cache_clear()
    with pytest.raises(DataError, match=r"pip install mtlkit\[molecules\]"):
        Molecules("train")


def test_the_case_of_the_molecules_learns_and_is_seen(few):
    from mtlkit.training import train

    case = find_case("molecules")
    setup = case.setup(train_set=Molecules("train"), batch_size=10)
    losses = [sum(record.losses.values()) for record in train(*setup.parts, steps=30, device="cpu")]
    assert losses[-1] < 0.7 * losses[0] and len(setup.tasks) == 11
    (row,) = case.see(setup.train_set, [2], setup.model)
    assert row.given == {"atoms": "H2 O1"} and set(row.truth) == set(row.answers)
