"""The small experiments of notebook 14: what they are made of."""

import math

import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data.facts import FACTS
from mtlkit.data.fields.senses import Senses
from mtlkit.experiments.beyond import frontiers, fronts
from mtlkit.experiments.beyond.frontiers import PARTITIONS, SEARCH_STEPS, grouped, predicted, searched_for
from mtlkit.experiments.beyond.fronts import Drawn, hypervolume, told_setup
from mtlkit.experiments.beyond.search import EVERY, EpsilonGreedy, Exp3, Policy, losses_of, searched
from mtlkit.experiments.table import Row
from mtlkit.model import TwoSenses
from mtlkit.training import train
from mtlkit.weighting import PCGrad

LOSSES = torch.tensor([1.0, 2.0])


def rewarded(searcher, best, rounds=300):
    """Let a searcher choose; the nearer to `best` (in powers of e), the larger its reward."""
    weights = []
    for _ in range(rounds):
        weights.append(searcher.choose(LOSSES))
        searcher.hear(-abs(math.log(weights[-1] / best)))
    return weights


@pytest.mark.parametrize("best", [0.1, 2.0])
@pytest.mark.parametrize("make", [EpsilonGreedy, Exp3])
def test_a_bandit_finds_the_arm_that_pays(make, best):
    weights = rewarded(make((0.1, 0.5, 2.0), seed=0), best)
    assert set(weights) == {0.1, 0.5, 2.0}
    assert weights[150:].count(best) > 90


@pytest.mark.parametrize("best", [0.2, 5.0])
def test_a_policy_moves_to_where_it_is_rewarded(best):
    weights = rewarded(Policy(seed=0), best)
    assert abs(math.log(weights[0])) < 2
    assert sum(math.log(w) for w in weights[-50:]) / 50 == pytest.approx(math.log(best), abs=0.4)


def test_exp3_is_the_published_rule():
    bandit = Exp3((1.0, 2.0), seed=0, gamma=0.5)
    arm = (1.0, 2.0).index(bandit.choose(LOSSES))
    assert bandit.p.tolist() == [0.5, 0.5]
    bandit.hear(0.3)  # the best reward so far counts as 1: its weight is times e^(γ / (p K)) = e^0.5
    w = [math.exp(0.5) if k == arm else 1.0 for k in range(2)]
    assert bandit.p.tolist() == pytest.approx([0.5 * one / sum(w) + 0.25 for one in w])


def test_a_search_is_charged_for_its_looks():
    case = find_case("multimnist", pairs=256)
    setup = case.setup(seed=0)
    batch = setup.train_set.batch(range(256))
    first = losses_of(setup, batch)
    looks = list(searched(setup, EpsilonGreedy((0.5, 2.0), 0), batch, steps=4 * (EVERY + 1)))
    assert [charged for charged, *_ in looks] == [(EVERY + 1) * k for k in (1, 2, 3, 4)]
    assert {weight for _, weight, _ in looks} <= {0.5, 2.0}
    last = losses_of(setup, batch)
    rewards = torch.tensor([reward for *_, reward in looks])
    assert (first > last).all() and rewards.max() > 0
    assert setup.weighting.weights["left"] in (0.5, 2.0) and setup.weighting.weights.get("right", 1) == 1
    with pytest.raises(ValueError, match="static weights"):
        next(searched(case.setup(method=PCGrad()), EpsilonGreedy((1.0,), 0), batch, 20))


def test_a_grid_spends_what_it_is_given(monkeypatch):
    spent = []

    def stand_in(setup, budget, data):
        spent.append(budget.steps)
        return {"val classify/accuracy": setup.weighting.weights["classify"], "val detect/ap": 1.0}

    monkeypatch.setattr(frontiers, "train_and_score", stand_in)
    monkeypatch.setattr(frontiers, "evaluate", lambda *_, **__: dict.fromkeys(["classify/accuracy", "detect/ap"], 0.0))
    monkeypatch.setattr(frontiers, "SCENES", find_case("scenes", scenes=8, val_scenes=64, test_scenes=2))
    assert searched_for("grid", 0)["weight"] == max(frontiers.ARMS)
    assert sum(spent) == SEARCH_STEPS and len(spent) == len(frontiers.ARMS) + 1
    assert searched_for("known before", 0)["weight"] == 0.2 and spent[-1] == SEARCH_STEPS


def test_partitions_are_all_of_two_groups():
    assert len(PARTITIONS) == len({frozenset(map(frozenset, p)) for p in PARTITIONS}) == 2**4 - 1
    assert all(sorted(a + b) == sorted(FACTS) for a, b in PARTITIONS)


def test_the_prediction_is_a_mean_of_gains(monkeypatch):
    tasks = list(FACTS)
    rows = [Row(task, 0, {f"test {task}/accuracy": 0.5}) for task in tasks]
    for k, a in enumerate(tasks):
        for b in tasks[k + 1 :]:
            both = {f"test {a}/accuracy": 0.5, f"test {b}/accuracy": 0.5}
            if (a, b) == (tasks[0], tasks[1]):
                both = {f"test {a}/accuracy": 0.6, f"test {b}/accuracy": 0.4 + 0.3}
            rows.append(Row(f"{a}+{b}", 0, both))
    monkeypatch.setattr(frontiers, "read", lambda _: rows)
    a, b, *others = tasks
    assert predicted([(a, b), tuple(others)]) == pytest.approx((0.1 + 0.2) / 5)
    assert predicted([(a,), (b, *others)]) == pytest.approx(0)
    assert predicted([(a, b, others[0]), tuple(others[1:])]) == pytest.approx((0.1 + 0.2) / 2 / 5)


def test_groups_share_the_steps(monkeypatch):
    asked = []

    def stand_in(setup, budget, data):
        asked.append(([task.name for task in setup.tasks], budget.steps))
        return {f"{split} {t.name}/accuracy": 0.5 for split in data for t in setup.tasks} | {"steps": 1, "seconds": 2.0}

    monkeypatch.setattr(frontiers, "train_and_score", stand_in)
    monkeypatch.setattr(frontiers, "find_case", lambda name: find_case(name, scenes=16, val_scenes=4, test_scenes=4))
    found = grouped("all alone", 1.0, 0)
    assert asked == [([task], 60) for task in FACTS] and found["test mean"] == 0.5 and found["seconds"] == 10
    asked.clear()
    grouped("by affinity", 1.0, 0)
    assert [steps for _, steps in asked] == [150, 150] and sorted(t for g, _ in asked for t in g) == sorted(FACTS)


def test_the_network_is_told_what_it_is_trained_for():
    setup = told_setup(0)
    told, method = setup.model.encoder, setup.weighting
    run = train(*setup.parts, steps=3, device="cpu")
    seen = [(method.r.tolist(), list(record.weights.values())) for record in run]
    assert seen[0][0] == [0.5, 0.5] and len({tuple(r) for r, _ in seen}) == 3
    for r, weights in seen:
        assert weights == pytest.approx(r, abs=1e-6) and sum(r) == pytest.approx(1)
    image = torch.rand(2, 3, 36, 36)
    setup.model.eval()
    with torch.no_grad():
        answers = []
        for share in (0.1, 0.9):
            told.preference.copy_(torch.tensor([share, 1 - share]))
            answers.append(setup.model(image)["left"])
    assert not torch.allclose(*answers)


def test_the_penalty_of_cosmos():
    method = Drawn(0, spread=2.0)
    method.r = torch.tensor([0.25, 0.75])
    losses = torch.tensor([3.0, 1.0])
    cosine = (0.75 + 0.75) / (math.hypot(0.25, 0.75) * math.hypot(3, 1))
    assert method.total(losses).item() == pytest.approx(1.5 - 2 * cosine)


def test_hypervolume_is_the_area_below_a_staircase():
    assert hypervolume([(0.5, 0.5)]) == 0.25
    assert hypervolume([(0.2, 0.9), (0.8, 0.4), (0.5, 0.3)]) == pytest.approx(0.8 * 0.4 + 0.2 * 0.5)  # one is beaten
    assert hypervolume([(0.5, 0.5), (0.5, 0.5)]) == 0.25
    assert hypervolume([(0.5, 0.5)], (0.4, 0.3)) == pytest.approx(0.1 * 0.2)
    assert hypervolume([(0.2, 0.9)], (0.3, 0.0)) == 0
    points = torch.rand(7, 2, generator=torch.Generator().manual_seed(0)).tolist()
    grid = (torch.arange(400) + 0.5) / 400
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    below = torch.stack([(x < a) & (y < b) for a, b in points]).any(0)
    assert hypervolume([tuple(p) for p in points]) == pytest.approx(below.float().mean().item(), abs=0.01)
    assert fronts.WAYS[0] == "one"


def test_senses_draw_from_pools_and_keep_strangers_for_the_test():
    few = Senses("train", 50, pictures=3, clips=2, voices="formants")
    assert len(few.images.flatten(1).unique(dim=0)) <= 3 and len(few.frames.float().flatten(1).unique(dim=0)) <= 2
    sample = few[0]
    assert sample["image"].shape == (1, 28, 28) and sample["frames"].shape == (241, 40)
    assert 0 <= sample["see"] <= 9 and 0 <= sample["hear"] <= 9
    again = Senses("train", 50, pictures=3, clips=2, voices="formants")
    assert torch.equal(few.labels["hear"], again.labels["hear"]) and torch.equal(few.images, again.images)
    with pytest.raises(ValueError, match=r"clips=5000: this split has \d+"):
        Senses("train", 5, clips=5000, voices="formants")


@pytest.mark.parametrize("share", ["nothing", "trunk", "trunk and head"])
def test_what_two_senses_share(share):
    case = find_case("senses", voices="formants", pairs=16, val_pairs=4, test_pairs=4, share=share)
    setup = case.setup(seed=0, method="EqualWeights")
    batch = setup.train_set.batch(range(8))
    outputs = setup.model((batch["image"], batch["frames"]))
    assert outputs["see"].shape == outputs["hear"].shape == (8, 10)
    reached = {
        name: {
            id(p)
            for p, g in zip(
                setup.model.parameters(),
                torch.autograd.grad(out.sum(), list(setup.model.parameters()), retain_graph=True, allow_unused=True),
                strict=True,
            )
            if g is not None
        }
        for name, out in outputs.items()
    }
    both = reached["see"] & reached["hear"]
    trunk = {id(p) for p in setup.model.shared_parameters()}
    assert bool(trunk) is (share != "nothing") and trunk <= both
    assert len(both - trunk) == (2 if share == "trunk and head" else 0)
    for _ in train(*setup.parts, steps=1, device="cpu"):
        pass
    seen = case.see(case.open("test"), range(2), setup.model)
    assert seen[0].image.shape == (3, 56, 168) and set(seen[0].answers) == {"see", "hear"}


def test_senses_meet_in_one_space():
    encoder = TwoSenses(width=16)
    made = encoder(torch.rand(2, 1, 28, 28), torch.rand(2, 241, 40))
    assert {name: tuple(h.shape) for name, h in made.items()} == {"see": (2, 16), "hear": (2, 16)}
