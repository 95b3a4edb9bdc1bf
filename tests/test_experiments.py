import math

import pytest
import torch

from mtlkit.data import MultiMNIST
from mtlkit.data.digits import mnist_digits
from mtlkit.experiments import PROBLEMS, RESULTS, contestants, multimnist, read, run, weighting
from mtlkit.weighting import METHODS, PCGrad, StaticWeights


def test_multimnist_overlays_two_digits_and_the_seed_decides_which():
    pairs, twin = MultiMNIST("val", 20, seed=3), MultiMNIST("val", 20, seed=3)
    sample = pairs[5]
    assert sample["image"].shape == (3, 36, 36) and sample["image"].min() >= 0 and sample["image"].max() <= 1
    assert torch.equal(pairs.images, twin.images)
    assert not torch.equal(pairs.images, MultiMNIST("val", 20, seed=4).images)
    digits, classes = mnist_digits("val")
    inked = sample["image"][0, 1:29, 1:29]
    candidates = torch.from_numpy(digits[classes == int(sample["left"])]).float() / 255
    assert any(bool((inked >= digit - 1e-6).all()) for digit in candidates)  # the left digit is under there, whole
    with pytest.raises(IndexError, match="sample 20 of 20"):
        pairs[20]


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_method_and_both_single_tasks_take_part(name):
    settings = contestants(PROBLEMS[name]())
    assert set(METHODS) - {"StaticWeights"} <= settings.keys()
    assert sum(setting.endswith(" alone") for setting in settings) == 2
    assert sum(setting.startswith("static ") for setting in settings) == 6


def test_an_interrupted_experiment_goes_on_where_it_stopped(tmp_path, monkeypatch):
    import mtlkit.experiments as experiments

    monkeypatch.setitem(PROBLEMS, "multimnist", lambda: multimnist(steps=1))
    monkeypatch.setattr(
        experiments,
        "contestants",
        lambda problem: {"left alone": lambda: (StaticWeights(), "left"), "PCGrad": lambda: (PCGrad(), None)},
    )
    first = next(weighting(["multimnist"], 2, tmp_path))
    rest = list(weighting(["multimnist"], 2, tmp_path))
    assert math.isnan(first.test[1]) and 0 <= first.test[0] <= 1
    assert [(o.setting, o.seed) for o in rest] == [("PCGrad", 0), ("left alone", 1), ("PCGrad", 1)]
    assert [(o.setting, o.seed) for o in read(tmp_path / "weighting_multimnist.csv")] == [
        ("left alone", 0),
        *((o.setting, o.seed) for o in rest),
    ]


def test_a_seed_gives_the_same_scores():
    problem = multimnist(steps=3)
    a, b = (run(problem, "PCGrad", PCGrad(), 1) for _ in range(2))
    assert (a.val, a.test) == (b.val, b.test)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_kept_tables_are_complete(name):
    rows = read(RESULTS / f"weighting_{name}.csv")
    assert {(o.setting, o.seed) for o in rows} == {
        (s, seed) for s in contestants(PROBLEMS[name]()) for seed in range(10)
    }
    assert all(o.seconds > 0 and any(value == value for value in o.test) for o in rows)
