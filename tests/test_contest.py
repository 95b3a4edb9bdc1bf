"""The fair comparison: stages made one from another, on a case of a few milliseconds."""

from functools import partial

import pytest
from toy import TOY

from mtlkit.experiments import read, run
from mtlkit.experiments.contest import RATES, Contest, costs_of
from mtlkit.weighting import METHODS, EqualWeights


def make(name, seed, steps):
    only = name.removesuffix(" alone") if name.endswith(" alone") else None
    method = METHODS[name]() if name in METHODS else EqualWeights()
    return TOY.setup(seed=seed, method=method, only=only)


def contest(folder, **more):
    alone = ["sum alone", "larger alone"]
    return Contest(
        "toy",
        "toy",
        [*alone, "EqualWeights", "PCGrad", "MGDA"],
        make,
        TOY.open,
        20,
        "20",
        {"sum": "sum/error", "larger": "larger/accuracy"},
        "EqualWeights",
        "MGDA",
        {**{name: (name,) for name in alone}, "plain": ("EqualWeights",), "gradients": ("PCGrad", "MGDA")},
        lambda name: "gradients" if name in ("PCGrad", "MGDA") else name if name in alone else "plain",
        ("gradients",),
        dict.fromkeys(alone, 2),
        frozenset({"sum/error"}),
        seeds=1,
        folder=folder,
        **more,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    costs_of.cache_clear()
    found = contest(folder, more=("parameters",))
    for experiment in found.experiments():
        for _ in run(experiment, experiment.seeds or 2, folder, workers=1, bar=False):
            pass
    return found


def test_there_are_four_tables_and_each_is_complete(made):
    costs, rates, steps, seconds = (read(e.name, made.folder) for e in made.experiments())
    assert {row.setting for row in costs} == set(made.names) and {r.setting for r in steps} == set(made.names)
    assert len(rates) == (3 * 2 + 2) * len(RATES)  # two budgets, but for the costly family
    assert {row.values["steps"] for row in steps} == {20} and {row.seed for row in seconds} == {0, 1}
    assert len({row.values["parameters"] for row in steps if not row.setting.endswith("alone")}) == 1


def test_with_equal_seconds_what_is_cheaper_takes_more_steps_and_single_tasks_share(made):
    steps = {row.setting: row.values["steps"] for row in read("toy_seconds", made.folder)}
    costs = costs_of("toy_costs", made.folder)
    assert costs["EqualWeights"] == 1 and costs["MGDA"] > 1.2
    assert steps["MGDA"] == 20 and steps["EqualWeights"] == round(20 * costs["MGDA"])
    assert steps["sum alone"] == round(20 * costs["MGDA"] / costs["sum alone"] / 2)


def test_the_rate_is_the_one_that_gains_most_and_errors_count_the_other_way(made, tmp_path):
    table = tmp_path / "toy_rates.csv"
    rows = [
        "setting,seed,val sum/error,val larger/accuracy",
        *(
            f'"{name} x {rate:g}{end}",0,{0.5 + abs(rate - best)},{0.5}'
            for name, best in (
                ("sum alone", 3),
                ("larger alone", 1),
                ("EqualWeights", 0.3),
                ("PCGrad", 10),
                ("MGDA", 10),
            )
            for end in ("", ", equal steps")
            for rate in RATES
        ),
    ]
    table.write_text("\n".join(rows) + "\n")
    found = contest(tmp_path)
    assert found.rates()["sum alone"] == 3 and found.rate("EqualWeights") == 0.3 and found.rate("MGDA") == 10
    assert found.rate("sum alone", equal_steps=True) == 3


def test_the_same_number_of_steps_at_the_same_rate_is_the_same_run(made):
    equal, seconds = ({(r.setting, r.seed): r.values for r in read(t, made.folder)} for t in ("toy", "toy_seconds"))
    assert seconds[("MGDA", 1)] == equal[("MGDA", 1)]


def test_without_families_every_contestant_keeps_its_rate(tmp_path):
    found = contest(tmp_path)
    plain = Contest(**{**vars(found), "families": {}})
    assert plain.rate("PCGrad") == 1.0 and len(plain.experiments()) == 3
    assert partial(plain.run, "PCGrad", 0)(5)["steps"] == 5


def test_where_both_budgets_are_one_a_rate_is_tried_once(tmp_path, monkeypatch):
    costs_of.cache_clear()
    (tmp_path / "toy_costs.csv").write_text("setting,seed,cost\nPCGrad,0,1.5\nMGDA,0,1.49\n", encoding="utf-8")
    (tmp_path / "toy_rates.csv").write_text("setting,seed,val x\nPCGrad x 3,0,0.25\n", encoding="utf-8")
    found, ran = contest(tmp_path), []
    monkeypatch.setattr(Contest, "run", lambda *given: ran.append(given[1:]) or {"val x": 0.5})
    assert found.steps_for_equal_seconds("PCGrad") == 20
    assert found.tune("PCGrad", 3.0, 20, 0) == {"val x": 0.25} and not ran
    assert found.tune("PCGrad", 3.0, None, 0) == found.tune("PCGrad", 3.0, 20, 1) == {"val x": 0.5}
    assert found.tune("PCGrad", 3.0, 30, 0) == {"val x": 0.5} and len(ran) == 3
    costs_of.cache_clear()
