"""The experiments of notebook 04: real solutions pass, typical mistakes are told apart."""

import pytest

from mtlkit.exercises import EXERCISES, LabExercise, check, exercise, grade
from mtlkit.lab import LossWeightingLab
from mtlkit.lab.steering.records import LabRecord, Run

GUIDED = {id: found for id, found in EXERCISES.items() if isinstance(found, LabExercise)}


def steps(*phases, method="StaticWeights", scores=(0.9, 0.5, 0.6), first=1, rate=0.5):
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
                    rate,
                    {"classify": classify, "detect": detect},
                    {"classify": 1.0, "detect": loss},
                    scores=dict(
                        zip(("classify/accuracy", "detect/ap", "detect/ap50"), (*scores, 0.6)[:3], strict=True)
                    ),
                )
            )
    return records


def run(records, seed=0, schedule=None):
    return Run({"seed": seed, "data": {"scene_class": "texture"}}, records, schedule)


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
    assert grade(id, 3).message.startswith("expected a list, not int")
    text = exercise(id)._repr_markdown_()
    assert text.count("<details>") == 4 and "lab.run(" in text


WRONG = {
    "04.1": (
        (steps((150, 1, 1), (150, 0, 1)), "that starves classify"),
        (steps((20, 1, 1), (300, 1, 0)), "let both learn first"),
        (steps((150, 1, 0), (200, 1, 1)), "let both learn first"),  # the other way round
        (steps((110, 1, 1), (150, 1, 0), (150, 1, 1)), "let both learn first"),
        (steps((400, 1, 0)), "let both learn first"),
        (steps((200, 1, 1), (80, 1, 0), (5, 0, 0), (75, 1, 0)), "classify must go on"),
        (steps((150, 1, 1), (150, 1, 0), rate=0.0), "a learning rate of 0"),
        (steps((150, 1, 1)) + steps((150, 1, 0), rate=0.0, first=151), "a learning rate of 0"),
        (steps((200, 1, 1), (100, 1, 0)), "not for long enough"),
        (steps((200, 1, 1), (100, 1, 0), (10, 1, 1), (100, 1, 0)), "not for long enough"),
        (steps((200, 1, 1), (200, 0, 0)), "classify must go on"),
        (steps((200, 0, 1), (200, 1, 0)), "let both learn first"),  # classify did not
        (steps((10, 1, 1), (190, 1, 0.1), (200, 1, 0)), "let both learn first"),
        (steps((200, 1, 1), (200, 1, 0.01)), "not for long enough"),  # nearly 0 is not 0
    ),
    "04.2": (
        (steps((100, 1, 1), (500, 2, 1), scores=(0.9, 0.1)), "detect fell short"),
        (steps((100, 1, 1), (500, 2, 1), scores=(0.5, 0.5)), "classify fell short"),
        (steps((500, 1, 1), (400, 2, 1), scores=(0.5, 0.1)), "best moment was accuracy 0.50, AP 0.10"),
    ),
    "04.3": (
        (steps((300, 0.2, 1), (400, 1, 1)), "must stay the same"),
        (steps((400, 0.2, 1)), "only 400 steps so far"),
        (steps((660, 0.2, 1), method="PCGrad"), "choose static weights"),
        (steps((300, 0.2, 1)) + steps((360, 0.2, 1), method="PCGrad", first=301), "choose static weights"),
        (steps((300, 0.2, 1)) + steps((360, 0.2, 1), rate=0.1, first=301), "learning rate and data must stay"),
        (steps((660, 0.2, 1), first=200), "this list begins at step 200: pass lab.runs"),
        ([run(steps((660, 0.2, 1)), schedule={400: {"data": {"missing": 0.3}}})], "learning rate and data must stay"),
        (
            [
                run(
                    [r for r in steps((9000, 0.2, 1)) if r.step % 2],
                    schedule={301: {"classify": 1.0}, 302: {"classify": 0.2}},
                )
            ],
            "must stay the same",
        ),
        (steps((660, 1, 1), scores=(0.9, 0.2)), "detect is too quiet"),
        (steps((660, 0.01, 1), scores=(0.3, 0.4)), "classify is too quiet"),
    ),
    "04.5": (
        ([run(steps((660, 1, 1))), run(steps((660, 0.2, 1)))], "no earlier run with a method"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1), method="CAGrad"))], "not by hand"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1)), seed=1)], "differ in seed, data or"),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((200, 1, 1)))], "the last run has 200 steps"),
        ([run(steps((60, 1, 0), (600, 1, 1), method="MGDA")), run(steps((660, 1, 1)))], "was not left alone"),
        ([run(steps((660, 0.01, 1), method="MGDA")), run(steps((660, 1, 1)))], "was not left alone"),
        (
            [
                run(steps((600, 1, 1), method="MGDA") + steps((60, 1, 1), method="PCGrad", first=601)),
                run(steps((660, 1, 1))),
            ],
            "used other methods",
        ),
        ([run(steps((660, 1, 1), method="MGDA", rate=0.1)), run(steps((660, 1, 1)))], "differ in seed, data or"),
        (
            [
                run(steps((660, 1, 1), method="MGDA")),
                run(steps((660, 1, 1)), schedule={5: {"data": {"scene_class": "digits"}}}),
            ],
            "the data changed during the last run",
        ),
        ([run(steps((660, 1, 1), method="MGDA")), run(steps((660, 1, 1), scores=(0.5, 0.5)))], "try again"),
        ([run(steps((660, 0, 0), method="Tchebycheff", scores=(0.1, 0.0))), run(steps((660, 0.5, 1)))], "sliders at 1"),
        ([run(steps((660, 10, 10), method="MGDA", scores=(0.1, 0.0))), run(steps((660, 0.5, 1)))], "sliders at 1"),
        (
            [run(steps((660, 1, 1), method="MGDA", rate=0.0)), run(steps((660, 0.5, 1), rate=0.0))],
            "MGDA trained with a learning rate of 0",
        ),
        (
            [
                run(steps((300, 1, 1), method="MGDA") + steps((360, 1, 1), method="MGDA", rate=2.0, first=301)),
                run(steps((300, 1, 1)) + steps((360, 1, 1), rate=2.0, first=301)),
            ],
            "not left alone",
        ),
        ([run(steps((660, 1, 1), method="MGDA"))], "now press Reset and steer by hand"),
    ),
}


@pytest.mark.parametrize(("id", "answer", "words"), [(id, *case) for id, cases in WRONG.items() for case in cases])
def test_typical_mistakes_are_told_apart(id, answer, words):
    verdict = grade(id, answer)
    assert verdict.state == "wrong" and words in verdict.message


METHOD, HAND = (
    run(steps((660, 1, 1), method="MGDA", scores=(0.5, 0.2))),
    run(steps((660, 0.2, 1))),
)
RIGHT = {
    "04.1": [steps((200, 1, 1), (200, 1, 0), (200, 0, 0)), steps((150, 1, 1), (150, 1, 0))],
    "04.2": [
        steps((200, 0.2, 1), (200, 1, 1)),
        steps((540, 0.2, 1)),
        steps((540, 1, 1), method="PCGrad"),
        steps((300, 1, 1)) + steps((240, 1, 1), rate=0.1, first=301),
        [run(steps((540, 1, 1)), schedule={340: {"data": {"missing": 0.0}}})],
        steps((540, 2, 2)),
    ],
    "04.3": [
        steps((650, 0.2, 1), (20, 1, 1)),
        steps((650, 0.2, 1)) + steps((20, 0.2, 1), method="PCGrad", first=651),
        steps((650, 0.2, 1)) + steps((20, 0.2, 1), rate=0.1, first=651),
        [r for r in steps((650, 0.2, 1)) if r.step % 2],
        [run(steps((650, 0.2, 1)))],
    ],
    "04.5": [
        [METHOD, HAND],
        [METHOD, run(steps((5, 1, 1), method="MGDA") + steps((20, 1, 1), first=6)), HAND],
        [run(METHOD.records + steps((10, 1, 1), first=661)), HAND],
        [run(METHOD.records + steps((10, 0.2, 1), method="MGDA", first=661)), HAND],
        [METHOD, run(steps((10, 1, 1), method="MGDA")), HAND],
        [METHOD, HAND, run(steps((10, 0.2, 1)))],
        [METHOD, run(HAND.records + steps((10, 1, 1), method="MGDA", first=661))],
        [METHOD, HAND, run(HAND.records, seed=1)],  # New seed, once it was won
        [METHOD, HAND, run(steps((660, 0.2, 1), scores=(0.1, 0.1)))],
        [
            run(METHOD.records, schedule={0: {"data": {"scene_class": "digits"}}}),
            Run({"seed": 0, "data": {"scene_class": "digits"}, "knobs": {"scene_class": "digits"}}, HAND.records),
        ],  # set before the first step of one, before Reset of the other
    ],
}


@pytest.mark.parametrize(("id", "answer"), [(id, each) for id, cases in RIGHT.items() for each in cases])
def test_what_the_statement_allows_is_taken(id, answer):
    verdict = grade(id, answer)
    assert verdict.state == "right", verdict.message


def test_more_that_it_forbids():
    """Beaten in the mean that is asked for; data changed at another step; steered after the moment that counts."""
    better = run(steps((660, 1, 1), method="MGDA", scores=(0.9, 0.3, 0.35)))
    assert (
        "you 0.565, MGDA 0.600" in grade("04.5", [better, run(steps((660, 0.2, 1), scores=(0.85, 0.28, 0.6)))]).message
    )
    early, late = ({step: {"data": {"scene_class": "digits"}}} for step in (5, 640))
    assert "was not left alone" in grade("04.5", [run(METHOD.records, schedule=early), HAND]).message
    assert "the data changed" in grade("04.5", [METHOD, run(HAND.records, schedule=late)]).message
    begun = run(HAND.records, schedule={0: {"data": {"scene_class": "digits"}}})
    assert "differ in seed, data" in grade("04.5", [METHOD, begun]).message
    assert grade("04.2", steps((560, 1, 1), (10, 2, 1))).state == "not attempted"


def test_the_wrong_list_is_said_in_words():
    assert "not a list of runs: pass lab.runs" in grade("04.5", HAND.records).message
    assert "not a list of records" in grade("04.1", [1, 2, 3]).message
    other = [LabRecord(1, 0.0, "PCGrad", 1.0, {"seg": 1.0}, {"seg": 1.0})]
    assert "has a task 'seg'" in grade("04.1", other).message


def test_a_long_run_is_judged_by_its_steps_though_not_every_record_is_kept():
    long = [r for r in steps((4000, 1, 1), (160, 1, 0), (8000, 1, 1)) if (r.step - 1) % 4 == 0]
    assert grade("04.1", long).state == "right"
    short = [r for r in steps((4000, 1, 1), (100, 1, 0), (8000, 1, 1)) if (r.step - 1) % 4 == 0]
    assert grade("04.1", short).state == "wrong"


def test_the_verdict_says_what_was_measured():
    assert "rose from" in grade("04.1", steps((200, 1, 1), (200, 1, 0))).message
    assert "0.2 gave accuracy 0.90, AP 0.50" in grade("04.3", steps((660, 0.2, 1))).message
    runs = [run(steps((660, 1, 1), method="MGDA", scores=(0.5, 0.2))), run(steps((660, 0.2, 1)))]
    assert "you 0.700, MGDA 0.350" in grade("04.5", runs).message
