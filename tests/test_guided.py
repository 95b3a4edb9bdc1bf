"""The experiments of notebook 04: real solutions pass, typical mistakes are told apart."""

import pytest

from mtlkit.exercises import EXERCISES, LabExercise, check, exercise, grade
from mtlkit.lab import LossWeightingLab
from mtlkit.lab.steering.records import LabRecord, Run

GUIDED = {id: found for id, found in EXERCISES.items() if isinstance(found, LabExercise)}


def steps(*phases, method="StaticWeights", scores=(0.9, 0.5), first=1):
    """Records of phases (steps, classify's weight, detect's weight); detect's loss rises where it weighs 0."""
    records, loss = [], 2.0
    for number, classify, detect in phases:
        for _ in range(number):
            loss *= 1.002 if detect == 0 else 0.998
            records.append(
                LabRecord(
                    first + len(records),
                    0.0,
                    method,
                    0.5,
                    {"classify": classify, "detect": detect},
                    {"classify": 1.0, "detect": loss},
                    scores=dict(zip(("classify/accuracy", "detect/ap"), scores, strict=True)),
                )
            )
    return records


def run(records, seed=0):
    return Run({"seed": seed, "data": {"scene_class": "texture"}}, records)


@pytest.mark.parametrize("id", GUIDED)
def test_the_solution_passes_when_it_is_carried_out(id, capsys):
    lab = LossWeightingLab("guided")  # the learner's, in any state
    lab.run(3, {0: {"classify": 0.0, "method": "MGDA"}})
    check(id, GUIDED[id].solution(lab))
    lab.close()
    assert capsys.readouterr().out.startswith(f"✓ {id}: ")


@pytest.mark.parametrize("id", GUIDED)
def test_nothing_done_is_not_attempted_and_the_text_is_complete(id):
    untouched = steps((30, 1, 1))
    for answer in (..., None, [], [run(untouched)] if id == "04.5" else untouched):
        assert grade(id, answer).state == "not attempted"
    assert grade(id, 3).message.startswith("a list is expected here, not int")
    text = exercise(id)._repr_markdown_()
    assert text.count("<details>") == 4 and "lab.run(" in text


WRONG = {
    "04.1": (
        (steps((150, 1, 1), (150, 0, 1)), "that starves classify"),
        (steps((20, 1, 1), (300, 1, 0)), "let both learn first"),
        (steps((200, 1, 1), (100, 1, 0)), "not for long enough"),
        (steps((200, 1, 1), (100, 1, 0), (10, 1, 1), (100, 1, 0)), "not for long enough"),
        (steps((200, 1, 1), (200, 0, 0)), "classify must go on"),
    ),
    "04.2": (
        (steps((100, 1, 1), (500, 2, 1), scores=(0.9, 0.1)), "detect came too short"),
        (steps((100, 1, 1), (500, 2, 1), scores=(0.5, 0.5)), "classify came too short"),
        (steps((500, 1, 1), (400, 2, 1), scores=(0.5, 0.1)), "best moment was accuracy 0.50, AP 0.10"),
    ),
    "04.3": (
        (steps((300, 0.2, 1), (400, 1, 1)), "must stay the same"),
        (steps((400, 0.2, 1)), "that are 400 steps"),
        (steps((660, 0.2, 1), method="PCGrad"), "choose static weights"),
        (steps((660, 1, 1), scores=(0.9, 0.2)), "detect is too quiet"),
        (steps((660, 0.01, 1), scores=(0.3, 0.4)), "classify is too quiet"),
    ),
    "04.5": (
        ([run(steps((660, 1, 1))), run(steps((660, 0.2, 1)))], "no earlier run of a method"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1), method="CAGrad"))], "not by hand"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1)), seed=1)], "differ in seed or data"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((200, 1, 1)))], "shorter run has 200 steps"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1), scores=(0.5, 0.5)))], "once more"),
    ),
}


@pytest.mark.parametrize(("id", "answer", "words"), [(id, *case) for id, cases in WRONG.items() for case in cases])
def test_typical_mistakes_are_told_apart(id, answer, words):
    verdict = grade(id, answer)
    assert verdict.state == "wrong" and words in verdict.message


def test_the_verdict_says_what_was_measured():
    assert "rose from" in grade("04.1", steps((200, 1, 1), (200, 1, 0))).message
    assert "0.2 gave accuracy 0.90, AP 0.50" in grade("04.3", steps((660, 0.2, 1))).message
    runs = [run(steps((660, 1, 1), method="MGDA", scores=(0.5, 0.2))), run(steps((660, 0.2, 1)))]
    assert "you 0.700, MGDA 0.350" in grade("04.5", runs).message
