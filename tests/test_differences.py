"""What is said of a wrong answer, word by word, and what is read from the runs of a lab."""

from collections import namedtuple
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtlkit.exercises import Exercise, LabExercise, Verdict
from mtlkit.exercises.differences import Learning, NotATensorError, difference, learning
from mtlkit.exercises.labruns import (
    changes_of,
    is_untouched,
    judged_of,
    learns,
    mean_loss,
    phases,
    surroundings,
    was_steered,
)

Pair = namedtuple("Pair", "mean_loss norm")
NAN = float("nan")


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        (0.5, 0.25, "the result is 0.5, expected 0.25"),
        (1.00001, 1.0, ""),
        (1.001, 1.0, "the result is 1.001, expected 1"),
        (1.0002, 1.0, "the result is 1.0002, expected 1"),
        (100001, 100000, "the result is 100001, expected 100000"),
        (3.0, 3, ""),
        (3.00001, 3, "the result is 3.00001, expected 3"),
        (123456.7891, 123457, "the result is 123456.789, expected 123457"),
        (123456.8, 123406.8, "the result is 123457, expected 123407"),
        (1e-4, 2e-4, "the result is 0.0001, expected 0.0002"),
        (3e-9, 4e-6, "the result is 3e-09, expected 4e-06"),
        (9e-7, 0.0, ""),
        (2e-6, 0.0, "the result is 2e-06, expected 0"),
        (NAN, 1.0, "the result is nan, expected 1"),
        (NAN, NAN, ""),
        ("0.5", 0.5, "the result should be numbers, not str"),
        (None, 0.5, "the result should be numbers, not NoneType"),
        (torch.tensor(1j), 1.0, "the result should be numbers, not Tensor"),
        (np.array(1j), 1.0, "the result should be numbers, not ndarray"),
        (Fraction(1, 4), 0.25, ""),
        (Decimal("0.25"), 0.25, ""),
        ([0.25], 0.25, ""),
        ([], torch.zeros(0), ""),
        ([0.25, 0.5], 0.25, "the result has the shape [2], expected []"),
        (torch.ones(2, 3), torch.ones(3, 2), "the result has the shape [2, 3], expected [3, 2]"),
        (torch.arange(6).reshape(2, 3), torch.tensor([[0, 1, 2], [3, 9, 5]]), "the result is 4 at [1, 1], expected 9"),
        (torch.tensor([1.0, NAN]), torch.tensor([1.2, 2.0]), "the result is nan at [1], expected 2"),
        ([0.1, 0.2], [0.1, 0.3], "part 2 of the result is 0.2, expected 0.3"),
        ((1, 2), [1], "the result should have 1 part, but has 2"),
        ([1], [1, 2], "the result should have 2 parts, but has 1"),
        (3, [1, 2], "the result should be a list of 2, not int"),
        (np.ones(2), [1, 2], "the result should be a list of 2, not ndarray (.tolist()?)"),
        (torch.ones(2, 3), (torch.ones(3), torch.ones(3)), ""),
        ([[1], [2]], [1, 2], "the result should be a list of numbers, not of lists"),
        ((1.0, 3.0), Pair(2.0, 3.0), "mean loss is 1, expected 2"),
        ({"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 3.0}, ""),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}, "the result for 'b' is 2, expected 3"),
        ({"a": 1.0}, {"a": 1.0, "b": 3.0}, "the result should be a dictionary with the keys a, b"),
        (1.0, {"a": 1.0}, "the result should be a dictionary with the keys a"),
    ],
)
def test_what_is_said_of_a_difference(found, expected, said):
    assert difference(found, expected) == said


def test_what_is_said_where_something_is_to_be_learned():
    a, b = (torch.tensor(values, requires_grad=True) for values in ([1.0, 2.0], [3.0, 5.0]))
    arguments = {"a": a, "given": {"b": b, "steps": 3}}
    right = learning(lambda a, given: (a * given["b"]).sum(), arguments)
    assert right.value == 13 and list(right.gradients) == ["a", "given['b']"]
    assert right.gradients["a"].tolist() == [3, 5] and right.gradients["given['b']"].tolist() == [1, 2]

    def said(answer):
        return difference(learning(answer, arguments), right)

    assert said(lambda a, given: (given["b"] * a).sum().reshape(1)) == ""
    assert said(lambda a, given: (a + given["b"]).sum()) == "the result is 11, expected 13"
    assert said(lambda a, given: (a * given["b"]).sum().item()).startswith("the value is right, but nothing learns")
    assert said(lambda a, given: (a.detach() * given["b"]).sum()) == (
        "the value is right, but no gradient reaches `a`: it is cut off on the way (.detach()?)"
    )
    twice = said(lambda a, given: 2 * (a * given["b"]).sum() - (a * given["b"]).sum().detach())
    assert twice == "the gradient with respect to `a` is 10 at [1], expected 5"
    other = Learning(right.value, {"c": None})
    assert difference(other, right) == "it has gradients with respect to other tensors than expected"
    with pytest.raises(NotATensorError, match="a dict"):
        learning(lambda a, given: given, arguments)


def test_a_gradient_that_should_not_be_is_told_by_its_size():
    a, b = (torch.tensor(2.0, requires_grad=True) for _ in range(2))
    right = learning(lambda a, b: a * b.detach(), {"a": a, "b": b})
    assert difference(learning(lambda a, b: a * b, {"a": a, "b": b}), right) == (
        "the gradient with respect to `b` is 2, expected 0"
    )
    assert difference(learning(lambda a, b: a * b.detach() + 0 * b, {"a": a, "b": b}), right) == ""


def test_each_entry_of_what_is_learned_counts():
    """Two entries exchanged have the same sum of gradients, but not the same weighted one."""
    x = torch.tensor([1.0, 1.0], requires_grad=True)
    right = learning(lambda x: torch.stack([x[0], 2 * x[1] - 1]), {"x": x})
    wrong = learning(lambda x: torch.stack([2 * x[0] - 1, x[1]]), {"x": x})
    assert right.value.tolist() == wrong.value.tolist() == [1, 1]
    assert difference(wrong, right).startswith("the gradient with respect to `x` is ")


def test_a_module_among_the_arguments_has_its_parameters_named():
    layer = torch.nn.Linear(2, 1)
    assert set(learning(lambda layer: layer.weight.sum(), {"layer": layer}).gradients) == {"layer.weight", "layer.bias"}


# the runs of a lab


def record(step, weights=(1, 1), loss=1.0, method="StaticWeights", rate=1.0):
    losses = {} if loss is None else {"classify": loss}
    return SimpleNamespace(
        step=step, weights=dict(zip("ab", weights, strict=True)), losses=losses, method=method, rate=rate
    )


@pytest.mark.parametrize("stride", [1, 3])
def test_the_scores_of_step_641_are_read_once_there_are_enough_steps(stride):
    long = [record(step) for step in range(1, 800, stride)]
    counted, judged = judged_of(long)
    assert [r.step for r in counted] == [step for step in range(1, 800, stride) if step <= 650]
    assert judged.step == next(step for step in range(1, 800, stride) if step > 648)
    for steps in (1, 2, 649, 650, 651):
        records = [record(step) for step in range(1, steps + 1)]
        assert (judged_of(records)[1] is not None) == (steps >= 650), steps
    thinned = [record(step) for step in range(1, 650, 3)]  # up to 649; 650 and 651 have run without a record
    assert judged_of(thinned)[1].step == 649
    assert judged_of([record(646), record(649)])[1].step == 649


def test_phases_say_what_was_so_and_for_how_long():
    records = [record(step, (1, 0 if 4 <= step < 9 else 1)) for step in range(1, 11)]
    found = phases(records, lambda r: r.weights["b"])
    assert [(key, [r.step for r in part], number) for key, part, number in found] == [
        (1, [1, 2, 3], 3),
        (0, [4, 5, 6, 7, 8], 5),
        (1, [9, 10], 2),
    ]
    found = phases(records[::3], lambda r: r.weights["b"])  # 1, 4, 7, 10: a change may be two steps older
    assert [(key, number) for key, _, number in found] == [(1, 5), (0, 8), (1, 3)]
    assert phases(records[:1], lambda r: r.weights["b"]) == [(1, records[:1], 1)]


def test_what_two_runs_must_have_in_common():
    def run(rate=1.0, data=None, at=3, **settings):
        records = [record(step, rate=0.5 if step > 4 else rate) for step in range(1, 10)]
        schedule = {1: {"weights": {}}} if data is None else {at: {"data": data}}
        given = {"seed": 0, "batch_size": 4, "weights": {}, "method": "MGDA", "rate": rate} | settings
        return SimpleNamespace(settings=given, schedule=schedule, records=records)

    assert surroundings(run()) == (0, [None, 4], {}, {}, 1.0)
    assert surroundings(run(method="PCGrad", weights={"a": 3})) == surroundings(run())
    assert surroundings(run(seed=1)) != surroundings(run()) != surroundings(run(rate=0.1))
    assert surroundings(run(data={"imbalance": 2})) == surroundings(run())  # changed later: see `changes_of`
    begun = run(data={"imbalance": 2}, at=0, knobs={"imbalance": 1, "scenes": 9})
    set_before = run(knobs={"imbalance": 2, "scenes": 9})
    set_before.settings["data"] = {"imbalance": 2}
    assert surroundings(begun) == surroundings(set_before) != surroundings(run())
    assert changes_of(run(data={"imbalance": 2})) == {"rate", "data"}
    assert changes_of(run(data={"imbalance": 2}, at=650)) == {"rate"}
    changed = SimpleNamespace(records=[record(1), record(2, (1, 2)), record(3, method="MGDA")], schedule={2: {"a": 3}})
    assert changes_of(changed) == {"weights", "method"} and changes_of(changed, 2) == {"weights"}
    assert changes_of(SimpleNamespace(records=changed.records[:1], schedule={0: {"a": 3}, 1: {"a": 2}}), 1) == set()


def test_what_was_touched():
    same = [record(step) for step in (1, 2, 3)]

    def untouched(*records, **schedule):
        return is_untouched(SimpleNamespace(records=records, schedule={2: schedule} if schedule else {}))

    assert untouched(*same) and not was_steered(same) and untouched(record(1, method="EqualWeights"))
    assert not untouched(record(1, (2, 2))) and not untouched(*same, data={"missing": 1.0})
    assert not untouched(*same, record(4, (1, 2))) and was_steered([*same, record(4, (1, 2))])
    assert not untouched(*same, record(4, method="PCGrad")) and not untouched(*same, record(4, rate=0.1))
    assert learns(same) and not learns([*same, record(4, rate=0.0)])
    assert mean_loss([record(1, loss=1.0), record(2, loss=4.0), record(3, loss=None)], "classify") == 2.5
    assert mean_loss(same, "detect") is None


# the judge


def half_of(x, names):
    return x / 2


TOY = Exercise(
    "99.1",
    "Half",
    "Write `half_of(x, names)`.",
    1,
    1,
    ("How much is half?", "Divide.", "x / 2"),
    half_of,
    lambda generator: (torch.rand(3, generator=generator) + torch.rand(1), ["a", "b" * 70]),
    (("halve it, do not double it", lambda x, names: 2 * x),),
)


def keeping(result):
    """Return an answer that gives the same object each time, with new numbers in it."""

    def answer(x, names):
        kept = result
        while isinstance(kept, dict | list | tuple):
            kept = kept["x"] if isinstance(kept, dict) else kept[0]
        kept.copy_(x / 2)
        return result

    return answer


def raising(x, names):
    raise KeyError("no")


def changing(x, names):
    x /= 2
    return x


def learning_by_itself(x, names):
    x.requires_grad_()
    (x / 2).sum().backward()
    return (x / 2).detach()


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        (half_of, "right", "right, on 16 random inputs"),
        (lambda x, names, more=1: (x * 0.5).tolist(), "right", "right, on 16 random inputs"),
        (keeping(torch.empty(3)), "right", "right, on 16 random inputs"),
        (..., "not attempted", "not attempted yet"),
        (None, "not attempted", "not attempted yet"),
        (lambda x, names: ..., "not attempted", "not attempted yet"),
        (3, "wrong", "expected a function, not int: pass its name, without ()"),
        (lambda x, names: None if x.sum() else 1, "wrong", "it returns nothing: is there a return in every branch?"),
        (lambda x, names: 2 * x, "wrong", "halve it, do not double it"),
        (changing, "wrong", "it changes `x` in place, but it belongs to the caller: work on a copy, or make a new one"),
        (
            lambda x, names: names.pop() and x / 2,
            "wrong",
            "it changes `names` in place, but it belongs to the caller: ",
        ),
        (
            learning_by_itself,
            "wrong",
            "it changes `x.grad`: return the result and leave the backward pass to the caller",
        ),
        (raising, "wrong", "it raised KeyError: 'no' (with x: a tensor [3], names: a list)"),
        (lambda x, names: x / 3, "wrong", "(for 16 of 16 random inputs)"),
        (lambda x, names: torch.ones(3), "wrong", "it returns the same value for every input: is an argument unused"),
        (lambda x, names: x[:2], "wrong", "the result has the shape [2], expected [3]"),
    ],
)
def test_the_judge_says(answer, state, said):
    verdict = TOY.judge(answer)
    assert verdict.state == state and said in verdict.message


def test_one_value_that_differs_is_enough_not_to_be_the_same_value_for_every_input():
    calls = []

    def answer(x, names):
        calls.append(x)
        return torch.full((3,), 5.0 if len(calls) == 1 else 7.0)

    assert TOY.judge(answer).message.endswith("(for 16 of 16 random inputs)")


@pytest.mark.parametrize(("letters", "said"), [(58, f"names: '{58 * 'a'}'"), (59, "names: a str")])
def test_an_argument_of_more_than_sixty_characters_is_told_by_its_kind(letters, said):
    toy = replace(TOY, inputs=lambda _: (torch.zeros(3), letters * "a"))
    assert said in toy.judge(raising).message


@pytest.mark.parametrize("wrap", [lambda t: [t], lambda t: (t,), lambda t: {"x": t}, lambda t: {"x": [t]}])
def test_what_was_returned_is_kept_as_it_was(wrap):
    """An answer may give one object again and again."""
    toy = replace(TOY, solution=lambda x, names: wrap(x / 2))
    assert toy.judge(keeping(wrap(torch.empty(3)))).state == "right"
    assert toy.judge(keeping(wrap(torch.empty(4)[:3]))).state == "right"


def test_all_draws_are_the_same_whatever_was_drawn_before():
    """`torch.rand(1)` above draws from the stream of the session, which is given back as it was."""
    torch.manual_seed(1)
    first, seen = TOY.draws(), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), seen)
    firsts = [torch.stack([x[1:] - x[:1] for x, _ in draws]) for draws in (first, TOY.draws(), TOY.draws(seed=1))]
    assert torch.allclose(firsts[0], firsts[1]) and not torch.allclose(firsts[0], firsts[2])
    assert len({float(x[1] - x[0]) for x, _ in first}) == 16


def test_a_lab_of_another_case_is_no_lab_of_the_scenes():
    lab = LabExercise(
        "99.2", "Try", "Try it.", 1, 1, ("a", "b", "c"), lambda lab: [], lambda records: Verdict("right", "")
    )
    mine, other = record(1), record(2)
    mine.weights = {"classify": 1.0, "detect": 1.0}
    assert (
        lab.judge([mine]).state == "right"
        and lab.judge([SimpleNamespace(records=[other]), SimpleNamespace(records=[mine])]).state == "right"
    )
    assert lab.judge([other, mine]) == Verdict(
        "wrong", "that lab has a task 'a': expected a lab on the scenes, with classify and detect"
    )
    assert lab.judge([]).state == "right" and lab.judge(...) == Verdict("not attempted", "not attempted yet")
    assert lab.judge(3).message == "expected a list, not int: pass lab.records"
    assert lab.judge([3]).message == "this is not a list of records: pass lab.records"
    runs = replace(lab, of="runs")
    assert runs.judge([mine]).message == "this is not a list of runs: pass lab.runs"
    assert runs.judge([SimpleNamespace(records=[mine]), SimpleNamespace(records=[])]).state == "right"
    assert runs.judge([SimpleNamespace(records=[mine, other])]).state == "right"  # its first record says which tasks


@pytest.mark.parametrize("before", [[NAN, 1.0], [NAN, NAN]])
def test_an_argument_is_unchanged_only_if_its_nan_stay_where_they_were(before):
    toy = replace(TOY, inputs=lambda _: (torch.tensor(before), []), solution=lambda x, names: x.nan_to_num(2.0))
    assert toy.judge(lambda x, names: x.clone().nan_to_num_(2.0)).state == "right"
    assert toy.judge(lambda x, names: x.nan_to_num_(2.0)).message.startswith("it changes `x` in place")
