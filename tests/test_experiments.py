import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from scipy.stats import ttest_rel
from toy import TOY

from mtlkit.cases import find_case
from mtlkit.data import MultiMNIST
from mtlkit.data.digits import mnist_digits
from mtlkit.experiments import (
    PROBLEMS,
    Budget,
    Experiment,
    Interval,
    Row,
    compare,
    differences,
    experiments_of,
    front_of,
    read,
    run,
    summarise,
    train_and_score,
    with_delta_m,
)
from mtlkit.experiments.ranks import agreement, mean_ranks
from mtlkit.experiments.summary import holm
from mtlkit.experiments.weighting import Problem, contest_of, contestants, family, weighting_experiments
from mtlkit.weighting import METHODS


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


# the engine


def squared(base, seed):
    return {"score": base + seed**2, "seconds": 1.0}


def experiment(columns=("score", "seconds"), budget="3 steps", command="toy", **settings):
    return Experiment(
        "toy", command, budget, columns, settings or {"a": partial(squared, 0), "b": partial(squared, 10)}
    )


def test_an_interrupted_experiment_goes_on_where_it_stopped_and_the_table_comes_back(tmp_path):
    asked = []

    def counted(name, seed):
        asked.append((name, seed))
        return {"score": 1.5 + seed, "seconds": 0.25}

    made = experiment(a=partial(counted, "a"), b=partial(counted, "b"))
    running = run(made, 2, tmp_path, workers=1, bar=False)
    next(running), next(running)
    running.close()
    rest = list(run(made, 2, tmp_path, workers=1, bar=False))
    assert [(row.setting, row.seed) for row in rest] == [("a", 1), ("b", 1)]
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    rows = read(made.file(tmp_path))
    assert [(row.setting, row.seed) for row in rows] == asked and rows[3].values == {"score": 2.5, "seconds": 0.25}
    head = made.file(tmp_path).read_text(encoding="utf-8").splitlines()
    assert head[0] == "# mtlkit experiments toy" and f"torch {torch.__version__}" in head[1] and "; 3 steps;" in head[1]
    assert list(run(made, 2, tmp_path, workers=1, bar=False)) == []


def test_side_by_side_gives_the_same_table_in_the_same_order(tmp_path):
    tables = []
    for workers in (1, 2):
        rows = list(run(experiment(), 3, tmp_path / str(workers), workers=workers, bar=False))
        assert len(rows) == 6
        tables.append(experiment().file(tmp_path / str(workers)).read_text(encoding="utf-8"))
    assert tables[0] == tables[1]


def test_a_line_that_was_cut_off_is_run_again(tmp_path):
    list(run(experiment(), 2, tmp_path, workers=1, bar=False))
    file = experiment().file(tmp_path)
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole[:-4], encoding="utf-8")
    assert [(row.setting, row.seed) for row in run(experiment(), 2, tmp_path, workers=1, bar=False)] == [("b", 1)]
    assert file.read_text(encoding="utf-8") == whole


OTHERS = [experiment(budget="4 steps"), experiment(columns=("score", "seconds", "ap")), experiment(command="toy --big")]


@pytest.mark.parametrize("other", OTHERS)
def test_rows_made_otherwise_are_not_mixed_in(tmp_path, other):
    list(run(experiment(), 1, tmp_path, workers=1, bar=False))
    with pytest.raises(ValueError, match=r"toy.csv was made differently.*move it away"):
        next(run(other, 2, tmp_path, workers=1, bar=False))


def test_a_number_without_a_column_is_refused_and_a_missing_one_is_nan(tmp_path):
    with pytest.raises(ValueError, match=r"a gives 'score', which is not a column of toy\.csv"):
        list(run(experiment(columns=("seconds",)), 1, tmp_path / "one", workers=1, bar=False))
    list(run(experiment(columns=("score", "seconds", "ap")), 1, tmp_path, workers=1, bar=False))
    assert math.isnan(read(experiment().file(tmp_path))[0].values["ap"])


# budgets


def test_a_budget_is_steps_or_seconds_of_one_core():
    data = {"test": TOY.open("test")}
    by_steps = train_and_score(TOY.setup(), Budget(steps=7), data)
    assert by_steps["steps"] == 7 and by_steps.keys() >= {"test sum/error", "test larger/accuracy", "parameters"}
    by_seconds = train_and_score(TOY.setup(), Budget(seconds=0.3), data)
    assert by_seconds["steps"] > 7 and by_seconds["seconds"] >= 0.3
    for wrong in ({}, {"steps": 3, "seconds": 1.0}, {"steps": 0}, {"seconds": -1.0}):
        with pytest.raises(ValueError, match="expected either steps or seconds"):
            Budget(**wrong)


# the summary


def rows_of(**scores):
    return [Row(name, seed, {"score": score}) for name, values in scores.items() for seed, score in enumerate(values)]


def test_means_come_with_students_interval():
    found = summarise(rows_of(a=[1.0, 2.0, 3.0], b=[5.0]))
    assert found["a"]["score"].mean == 2 and found["a"]["score"].half == pytest.approx(4.302653 / math.sqrt(3))
    assert found["b"]["score"].mean == 5 and math.isnan(found["b"]["score"].half)


def test_differences_are_paired_by_seed_and_corrected_for_their_number():
    base, better, same = [1.0, 2.0, 3.0, 4.0], [1.3, 2.2, 3.4, 4.3], [1.1, 1.9, 3.1, 3.9]
    found = differences(rows_of(base=base, better=better, same=same), "score", "base")
    assert found["better"].mean == pytest.approx(0.3)
    p = ttest_rel(better, base).pvalue
    assert found["better"].p == pytest.approx(2 * p) and found["same"].p == pytest.approx(1.0)
    assert differences(rows_of(base=base, better=better), "score", "base")["better"].p == pytest.approx(p)
    with pytest.raises(ValueError, match="not run with the same seeds"):
        differences(rows_of(base=base, short=[1.0]), "score", "base")


def test_splits_of_one_set_of_data_widen_the_interval():
    """Nadeau and Bengio 2003: the variance s²/n becomes (1/n + test/train) s²."""
    base, better = [1.0, 2.0, 3.0, 4.0], [1.3, 2.2, 3.4, 4.3]
    rows = rows_of(base=base, better=better)
    plain, wide = (differences(rows, "score", "base", overlap=share)["better"] for share in (0.0, 0.5))
    assert wide.mean == plain.mean and wide.half == pytest.approx(plain.half * math.sqrt(3))
    statistic = ttest_rel(better, base).statistic / math.sqrt(3)
    assert wide.p == pytest.approx(2 * student_t.sf(statistic, 3)) and wide.p > plain.p
    halves = [summarise(rows, overlap)["base"]["score"].half for overlap in (0.0, 0.5)]
    assert halves[1] == pytest.approx(halves[0] * math.sqrt(3))


def test_holms_correction():
    """The example of Holm's rule in every textbook: p = 0.01, 0.04, 0.03, 0.005."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_delta_m_is_against_each_task_alone():
    def row(setting, left, right):
        return Row(setting, 0, {"test left/accuracy": left, "test right/error": right})

    nan = math.nan
    rows = [row("left alone", 0.5, nan), row("right alone", nan, 2.0), row("both", 0.6, 1.0)]
    scores = {"left": "left/accuracy", "right": "right/error"}
    found = with_delta_m(rows, scores, splits=("test",), lower_is_better=["right/error"])
    assert found[2].values["test Δm"] == pytest.approx((20 + 50) / 2)


# every method against static weights


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_method_and_both_single_tasks_take_part(name):
    settings = contestants(PROBLEMS[name])
    assert set(METHODS) - {"StaticWeights"} <= settings.keys()
    assert sum(setting.endswith(" alone") for setting in settings) == len(PROBLEMS[name].tasks())
    assert sum(setting.startswith("static ") for setting in settings) == len(PROBLEMS[name].sweep)


def test_any_case_can_be_compared_and_a_seed_gives_the_same_scores(tmp_path):
    problem = Problem(TOY, Budget(seconds=0.05), (0.5,))
    assert contestants(problem)["Uncertainty"]()[0].classification == ["larger"]  # "sum" is a regression
    small = contest_of(replace(problem, budget=Budget(steps=3)))
    a, b = (small.run("PCGrad", 1, 3) for _ in range(2))
    for name in ("val sum/error", "test larger/accuracy"):
        assert a[name] == b[name]
    assert small.run("PCGrad", 1, 3, rate=3.0)["val sum/error"] != a["val sum/error"]
    (made,) = weighting_experiments(problem)  # with a budget in seconds all have the same seconds already
    some = Experiment(made.name, made.command, made.budget, made.columns, {"sum alone": made.settings["sum alone"]})
    (row,) = run(some, 1, tmp_path, workers=1, bar=False)
    assert row.values["test sum/error"] > 0 and "test larger/accuracy" not in row.values


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_kept_tables_are_complete(name):
    for made in experiments_of("weighting", [name]):
        rows = read(made.name)
        wanted = {(setting, seed) for setting in made.settings for seed in range(made.seeds or 10)}
        assert {(row.setting, row.seed) for row in rows} == wanted
        assert all(set(row.values) == set(made.columns) for row in rows)
    with pytest.raises(ValueError, match="no experiment 'magic'"):
        experiments_of("magic")


@pytest.mark.parametrize("name", PROBLEMS)
def test_equal_seconds_are_equal(name):
    """What was planned by the cost of a step is what the runs took, single tasks together."""
    problem = PROBLEMS[name]
    seconds = {setting: found["seconds"].mean for setting, found in summarise(read(f"{problem.table}_seconds")).items()}
    alone = [setting for setting in seconds if setting.endswith(" alone")]
    seconds["alone"] = sum(seconds.pop(setting) for setting in alone)
    middle = sorted(seconds.values())[len(seconds) // 2]
    assert all(0.8 < taken / middle < 1.2 for taken in seconds.values()), seconds  # two runs side by side on a machine
    equal = read(problem.table)
    assert {row.values["steps"] for row in equal} == {problem.budget.steps}
    assert contest_of(problem).steps_for_equal_seconds("NashMTL") == problem.budget.steps
    assert contest_of(problem).steps_for_equal_seconds("EqualWeights") > 1.2 * problem.budget.steps
    assert contest_of(problem).steps_for_equal_seconds(alone[0]) < problem.budget.steps


@pytest.mark.parametrize("name", PROBLEMS)
def test_as_many_steps_are_the_same_run(name):
    table = PROBLEMS[name].table
    equal, seconds = ({(r.setting, r.seed): r.values for r in read(t)} for t in (table, f"{table}_seconds"))
    same = [key for key, values in seconds.items() if values["steps"] == PROBLEMS[name].budget.steps]
    assert ("NashMTL", 0) in same and all(seconds[key] == equal[key] for key in same)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_family_has_a_rate_of_its_own(name):
    problem = PROBLEMS[name]
    found = contest_of(problem).rates()
    assert {family(setting) for setting in contestants(problem)} == set(found)
    assert set(found.values()) <= set(problem.rates)


def test_the_rate_reaches_the_optimiser_of_the_course():
    problem = Problem(find_case("multimnist", pairs=256, val_pairs=64, test_pairs=64), Budget(steps=3), (0.5,))
    found = [contest_of(problem).run("EqualWeights", 0, 30, rate) for rate in (0.01, 1.0)]
    assert found[0]["val left/accuracy"] != found[1]["val left/accuracy"]


def test_a_step_on_gradients_costs_more():
    problem = Problem(TOY, Budget(steps=3), (0.5,))
    assert contest_of(problem).cost("EqualWeights", 0) == {"cost": 1.0}
    assert contest_of(problem).cost("PCGrad", 0)["cost"] > 1.05


def test_a_front_comes_with_its_uncertainty():
    """Two points make a front from (0, 1) to (1, 0); a third setting lies far beyond it, one below, one at it."""
    noise = [0.0, 0.1, -0.1, 0.05, -0.05]
    places = {"low": (0.0, 1.0), "high": (1.0, 0.0), "far": (0.9, 0.9), "below": (0.2, 0.2), "at": (0.5, 0.5)}
    rows = [
        Row(name, seed, {"a": a + noise[seed], "b": b + noise[(seed + 2 * k) % 5]})
        for k, (name, (a, b)) in enumerate(places.items())
        for seed in range(5)
    ]
    found = front_of(rows, ("a", "b"), ["low", "high"], draws=500)
    assert found.line == pytest.approx(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found.beyond["far"] == 1 and found.beyond["below"] == 0 and 0.1 < found.beyond["at"] < 0.9
    middle = found.band[np.abs(found.band[:, 0] - 0.5).argmin()]
    assert middle[1] < 1 - middle[0] < middle[2] < middle[1] + 0.3


def test_what_is_dominated_is_not_on_the_front():
    rows = [Row(name, 0, {"a": a, "b": b}) for name, (a, b) in {"x": (0, 1), "y": (1, 0), "z": (0.5, -1)}.items()]
    assert len(front_of(rows, ("a", "b"), ["x", "y", "z"], draws=2).line) == 2


def test_a_table_of_methods_is_held_against_its_best_static_weight():
    random, nan = np.random.default_rng(0), math.nan

    def runs(name, a, b, val):
        given = {"val a": val + 0 * a, "val b": val + 0 * b}
        return [
            Row(name, seed, given | {"test a": a + e[0], "test b": b + e[1]})
            for seed, e in enumerate(random.normal(0, 0.01, (6, 2)))
        ]

    rows = [
        *runs("a alone", 1.0, nan, 1.0),
        *runs("b alone", nan, 1.0, 1.0),
        *runs("EqualWeights", 0.5, 0.5, 0.4),
        *runs("static 2", 0.8, 0.3, 0.5),
        *runs("Good", 0.9, 0.9, 0.1),
        *runs("Bad", 0.2, 0.2, 0.9),
        *runs("Same", 0.8, 0.3, 0.0),
    ]
    found = compare(rows, {"a": "a", "b": "b"})
    assert found.tuned == "static 2"  # chosen by validation, though another is as good on test data
    assert found.better() == ["Good"] and found.worse() == ["Bad"] and found.beyond() == ["Good"]
    assert set(found.gaps) == {"Good", "Bad", "Same"} and found.gaps["Good"].mean == pytest.approx(35, abs=1)
    assert found.summary["Good"]["test Δm"].mean == pytest.approx(-10, abs=1)


def test_mean_ranks_and_the_agreement_of_two_orders():
    summary = {
        name: {"error": Interval(e, 0.0), "score": Interval(s, 0.0)}
        for name, (e, s) in {"x": (1.0, 0.9), "y": (2.0, 0.9), "z": (3.0, 0.1)}.items()
    }
    found = mean_ranks(summary, ["error", "score"], ["x", "y", "z"], ["error"])
    assert found == {"x": 1.25, "y": 1.75, "z": 3.0}
    order = dict(zip("abcdef", (1, 2, 3, 4, 5, 6), strict=True))
    assert agreement(order, order).rho == 1
    swapped = order | {"a": 2, "b": 1, "alone": 9}
    found = agreement(swapped, order)
    assert found.rho == pytest.approx(1 - 6 * 2 / (6 * 35)) and found.n == 6 and found.low < found.rho < found.high
    with pytest.raises(ValueError, match="2 names in common"):
        agreement({"a": 1, "b": 2}, order)
