"""The experiments behind notebooks 06 and 07: what is compared, and that the tables are whole."""

import math

import pytest
import torch

from mtlkit.data.facts import FACTS
from mtlkit.experiments import SEEDS, Row, experiments_of, read
from mtlkit.experiments import claims as claims_module
from mtlkit.experiments import troubles as troubles_module
from mtlkit.experiments.architectures import HARD, TRUNKS, architecture_setup, built, ways, widths_of
from mtlkit.experiments.claims import (
    COUNT,
    NEGATIVE,
    few_labels,
    groups,
    negative_setup,
    trained_together,
    transferred,
    tuned,
)
from mtlkit.experiments.troubles import DIGITS, SIZES, TROUBLES, mixed, one_source, sources, troubled
from mtlkit.weighting import StaticWeights


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claims_module, "STEPS", 6)
    monkeypatch.setattr(claims_module, "PAIR_STEPS", 4)
    monkeypatch.setattr(claims_module, "_cost", lambda name: {"count alone": 0.75}.get(name, 1.0))
    monkeypatch.setattr(claims_module, "COUNT", COUNT.with_knobs(scenes=64, val_scenes=20, test_scenes=20))
    monkeypatch.setattr(troubles_module, "MIXTURE_STEPS", 4)
    monkeypatch.setattr(troubles_module, "TROUBLE_STEPS", 4)


# few labels, a third task


def test_a_network_alone_takes_as_long_as_both_together(quick):
    alone, together = few_labels("alone", 10, 1.0, 1.0, 0), few_labels("together", 10, 1.0, 1.0, 0)
    assert alone["steps"] == round(6 / 0.75) and together["steps"] == 6
    assert few_labels("alone", 10, 1.0, 1 / 3, 0)["steps"] == round(2 / 0.75)
    assert "test detect/ap" not in alone and "test detect/ap" in together


def test_only_the_chosen_scenes_have_a_label():
    scenes = claims_module._scenes(60, 3)
    boxes, some = claims_module._Part(scenes, None), claims_module._Part(scenes, torch.tensor([5, 7]))
    assert len(boxes) == 60 and "label" not in boxes[5] and len(some) == 2
    assert some[1]["label"] == scenes[7]["label"] and torch.equal(some[1]["boxes"], scenes[7]["boxes"])


def test_a_frozen_encoder_stays_what_it_was(quick, monkeypatch):
    seen = []

    def run(setup, steps, rate, case):
        before = {name: value.clone() for name, value in setup.model.encoder.state_dict().items()}
        found = original(setup, min(steps, 3), rate, case)
        after = setup.model.encoder.state_dict()
        changed = any(not torch.equal(before[name], after[name]) for name in before)
        seen.append((len(setup.tasks), steps, changed))
        return found

    original = claims_module._run
    monkeypatch.setattr(claims_module, "_run", run)
    found = transferred("detect + count", 1.0, 0)
    assert seen == [(2, 6, True), (1, 150, False), (1, 150, True)]
    assert set(found) >= {"val frozen", "test frozen", "val fine-tuned", "test fine-tuned", "seconds", "steps"}
    seen.clear()
    transferred("nothing", 1.0, 0)
    assert [steps for _, steps, _ in seen] == [150, 150]


def test_what_suits_a_setting_is_what_scores_best_on_validation_data(tmp_path, monkeypatch):
    def run(rate, seed):
        return {"val a": 0.5 + 0.1 * rate, "val b": 0.9 - 0.2 * rate, "test a": rate, "steps": 3.0, "seconds": 1.0}

    tried, compared = tuned("toy", "3 steps", ["val a", "val b", "test a"], {"x": run}, {"1": (1.0,), "3": (3.0,)})
    assert tried.columns == ["val a", "val b"] and set(tried.settings) == {"x; 1", "x; 3"}
    rows = [Row(name, seed, dict(trial(seed))) for name, trial in tried.settings.items() for seed in range(2)]
    monkeypatch.setattr(claims_module, "read", lambda table: rows if table == "toy_tried" else [])
    assert compared.settings["x"](0)["rate"] == 1.0  # 0.6 x 0.7 is more than 0.8 x 0.3
    assert set(compared.settings["x"](0)) == set(compared.columns)


# negative transfer, pairs


def test_every_mend_changes_what_it_says(quick):
    setups = {name: negative_setup(name, 0) for name in NEGATIVE}
    names = {name: [task.name for task in setup.tasks] for name, setup in setups.items()}
    assert names["detect alone"] == ["detect"] and names["texture alone"] == ["classify"]
    assert isinstance(setups["detect + texture, weight 0.2"].weighting, StaticWeights)
    assert setups["detect + texture, weight 0.2"].weighting.weights == {"classify": 0.2}
    size = {name: sum(p.numel() for p in setup.model.parameters()) for name, setup in setups.items()}
    assert size["detect + texture, wider"] > 1.4 * size["detect + texture"]
    assert abs(size["detect + texture, fork 3"] / size["detect + texture"] - 1) < 0.03
    labels = {kind: setups[f"detect + {kind}"].train_set.labels for kind in ("count", "texture", "random")}
    assert len({tuple(of.tolist()) for of in labels.values()}) == 3


def test_all_pairs_of_five_tasks(quick):
    found = groups()
    assert len(found) == 5 + 10 + 1 and len(set(found)) == 16
    assert len(trained_together(tuple(FACTS)[:2], 1.0, 0)) == 2 * 2 + 3


# different data, five troubles


def test_each_side_has_pairs_of_its_own(quick):
    both = sources()
    assert {name: len(of) for name, of in both.items()} == SIZES
    assert set(both["left"][0]) == {"image", "left"} and not torch.equal(
        both["left"][0]["image"], both["right"][0]["image"]
    )
    assert mixed(1.0, 0)["share of right"] == pytest.approx(1000 / 101_000)
    assert mixed(float("inf"), 0)["share of right"] == 0.5
    assert "test right/accuracy" in one_source("right", 0) and "test left/accuracy" not in one_source("right", 0)


def first_losses(setup):
    batch = next(setup.loader)
    outputs = setup.model(batch["image"])
    return {task.name: task.loss(outputs[task.name], batch) for task in setup.tasks}


def test_every_trouble_is_the_one_it_is_called():
    plain = first_losses(DIGITS.setup(seed=0, method="EqualWeights"))
    spoilt = {name: spoil(DIGITS.setup(seed=0, method="EqualWeights")) for name, spoil in TROUBLES.items()}
    losses = {name: first_losses(setup) for name, setup in spoilt.items()}
    assert losses["scale"]["right"].item() == pytest.approx(1000 * plain["right"].item(), rel=1e-5)
    assert losses["lengths"]["left"].item() == pytest.approx(math.log(10), abs=0.01)
    lengths = {
        name: sum(g.square().sum() for g in torch.autograd.grad(of["left"], spoilt[name].model.shared_parameters()))
        for name, of in losses.items()
        if name in ("scale", "lengths")
    }
    assert (lengths["scale"] / lengths["lengths"]).sqrt().item() == pytest.approx(30, rel=0.1)
    assert spoilt["rate"].optimizer.param_groups[0]["initial_lr"] > 1e-2
    assert sum(p.numel() for p in spoilt["room"].model.encoder.parameters()) < 200
    right = DIGITS.setup(seed=0).train_set
    shuffled = spoilt["labels"].loader.dataset
    assert (
        torch.equal(shuffled.labels["right"], right.labels["right"])
        and (shuffled.labels["left"] == right.labels["left"]).float().mean() < 0.2
    )


def test_without_a_trouble_it_is_the_plain_case(quick):
    assert troubled("", "equal weights", 0)["test left/accuracy"] >= 0
    assert "test right/accuracy" not in troubled("scale", "left alone", 0)


# architectures


@pytest.mark.parametrize("which", TRUNKS)
def test_all_ways_to_share_have_as_many_parameters(which):
    trunk = TRUNKS[which]
    size = {way: sum(p.numel() for p in built(trunk, way, widths_of(which, way)).parameters()) for way in ways(trunk)}
    assert widths_of(which, HARD) == trunk.widths
    assert all(abs(n / size[HARD] - 1) < 0.08 for n in size.values()), size


def test_a_single_task_has_the_network_of_hard_sharing():
    alone, hard = (architecture_setup("multimnist", name, 0) for name in ("left alone", HARD))
    encoders = [sum(p.numel() for p in setup.model.encoder.parameters()) for setup in (alone, hard)]
    assert encoders[0] == encoders[1] and [task.name for task in alone.tasks] == ["left"]


FIELDS = ["language", "tumours", "cells", "speech", "roads"]


@pytest.mark.parametrize(
    ("what", "cases"),
    [("claims", None), ("architectures", None), ("fields", FIELDS), ("insight", None), ("frontiers", None)],
)
def test_the_kept_tables_are_whole(what, cases):
    for made in experiments_of(what, cases):
        rows = read(made.name)
        wanted = {(name, seed) for name in made.settings for seed in range(made.seeds or SEEDS[what])}
        assert {(row.setting, row.seed) for row in rows} == wanted, made.name
        assert all(set(row.values) == set(made.columns) for row in rows)
        assert not any(math.isnan(row.values["seconds"]) for row in rows if "seconds" in row.values)
