import inspect

import pytest
import torch

from mtlkit.exercises import (
    EXERCISES,
    LETTERS,
    QUIZZES,
    Exercise,
    answer,
    as_markdown,
    check,
    exercise,
    grade,
    hint,
    quiz,
    solution,
)
from mtlkit.exercises.questions import Option, Question

FUNCTIONS = {id: found for id, found in EXERCISES.items() if isinstance(found, Exercise)}
ALL = pytest.mark.parametrize("found", FUNCTIONS.values(), ids=FUNCTIONS)


@ALL
def test_the_solution_passes(found, capsys):
    check(found.id, found.solution)
    assert capsys.readouterr().out.startswith(f"✓ {found.id}: right, on ")


@ALL
def test_typical_mistakes_are_told_apart(found):
    assert len(found.mistakes) >= 3 and len(found.hints) == 3
    for sentence, mistake in found.mistakes:
        verdict = grade(found.id, mistake)
        assert (verdict.state, verdict.message) == ("wrong", sentence)


@ALL
def test_hard_coded_answers_are_seen_through(found):
    fixed = found.solution(*found.draws()[0])
    verdict = grade(found.id, lambda *_: fixed)
    assert verdict.state == "wrong"


@ALL
def test_the_solution_with_a_small_error_is_rejected_in_words(found):
    def off(*arguments):
        result = found.solution(*arguments)
        if isinstance(result, list):
            return [*result[:-1], result[-1] + 1] if result else result
        return (result[0], result[1] + 0.01) if isinstance(result, tuple) else result * 1.01 + 0.01

    verdict = grade(found.id, off)
    assert verdict.state == "wrong" and "expected" in verdict.message


@ALL
def test_an_empty_stub_is_not_attempted_and_nothing_breaks(found, capsys):
    def dots(*_): ...

    def raises(*_):
        raise NotImplementedError

    for stub in (..., dots, raises, lambda *_: ...):
        check(found.id, stub)
        assert capsys.readouterr().out == f"· {found.id}: not attempted yet\n"


@ALL
def test_the_text_is_complete(found):
    text = exercise(found.id)._repr_markdown_()
    name = found.solution.__name__
    assert f"`{name}(" in found.statement
    assert list(inspect.signature(found.solution).parameters) == found.statement.partition(f"`{name}(")[2].partition(
        ")"
    )[0].split(", ")
    assert text.count("<details>") == 4 and f"def {name}" in text and f"{found.minutes} min" in text
    assert text.count("<summary>Solution") == 1 and text.count("★") == found.difficulty
    assert text.count("★") + text.count("☆") == 3


def test_errors_of_the_learner_are_said_in_words():
    assert grade("01.1", 3).message.startswith("expected a function, not int")
    assert grade("01.1", lambda: 1).message.startswith("it raised TypeError")
    assert "numbers, not str" in grade("02.4", lambda lr, K: "a").message
    assert "shape [2, 7], expected [7]" in grade("05.3", lambda a, b: torch.stack([a, b])).message
    assert "2 parts" in grade("03.3", lambda image, boxes: image).message


def test_answers_that_change_their_arguments_do_not_spoil_the_check():
    def inplace(before, last, T):
        before.mul_(0)
        return before

    assert grade("05.2", inplace).state == "wrong"
    assert grade("05.2", EXERCISES["05.2"].solution).state == "right"


def test_hints_and_solution(capsys):
    hint("02.1")
    hint("02.1", 3)
    solution("02.1")
    out = capsys.readouterr().out
    assert "hint('02.1', 2)" in out and "solution('02.1')" in out and "def total_loss" in out
    with pytest.raises(ValueError, match="hints 1 to 3"):
        hint("02.1", 4)
    with pytest.raises(ValueError, match=r"no exercise '9\.9'; there are 00\.1"):
        check("9.9", None)


def test_the_options_of_a_question_are_in_an_order_drawn_from_its_text():
    options = tuple(Option(letter, "why", letter == "a") for letter in "abcd")
    asked = [Question(f"Which of {n}?", options) for n in range(20)]
    assert all(isinstance(q.options, tuple) and sorted(q.options) == sorted(options) for q in asked)
    assert len({q.options for q in asked}) > 10 and asked == [Question(q.text, options) for q in asked]


@pytest.mark.parametrize("name", QUIZZES)
def test_quizzes_have_four_questions_with_one_right_option_and_feedback_for_each(name, capsys):
    assert len(QUIZZES[name]) == 4
    for question in QUIZZES[name]:
        assert [option.right for option in question.options].count(True) == 1
        assert all(len(option.feedback) > 10 for option in question.options)
        assert len({option.text for option in question.options}) == 4
    quiz(name)
    printed = capsys.readouterr().out
    assert f'answer("{name}.A", "b")' in printed
    assert printed.count("(a)") == 4 and all(question.text in printed for question in QUIZZES[name])
    assert as_markdown(QUIZZES[name]).count("<details>") == 4


def test_neither_place_nor_length_gives_the_right_option_away():
    questions = [question for quiz in QUIZZES.values() for question in quiz]
    places = [next(k for k, option in enumerate(q.options) if option.right) for q in questions]
    assert all(0.15 < places.count(k) / len(places) < 0.4 for k in range(4))
    ranks = [
        sum(len(o.text) > len(right.text) for o in q.options) for q in questions for right in q.options if right.right
    ]
    assert all(0.15 < ranks.count(k) / len(ranks) < 0.35 for k in range(4))


def test_the_plain_text_quiz_answers(capsys):
    right = next(LETTERS[k] for k, option in enumerate(QUIZZES["02"][0].options) if option.right)
    answer("02.A", right)
    assert capsys.readouterr().out.startswith("✓ Right: ")
    with pytest.raises(ValueError, match="expected something like"):
        answer("02.A", "e")
    with pytest.raises(ValueError, match="no quiz"):
        answer("99.A", "a")


def test_the_quiz_widget_shows_stress_and_code():
    from mtlkit.lab.quiz import Quiz, _html, _plain

    assert _html("*both* of `2 * x * y` < 3 * 4 * 5") == "<em>both</em> of <code>2 * x * y</code> &lt; 3 * 4 * 5"
    assert _plain("`a * b` is *not* c") == "a * b is not c"
    for name in QUIZZES:
        shown = Quiz(name)
        assert not any("`" in label for choice in shown.choices for label, _ in choice.options)


def test_the_quiz_widget_gives_feedback():
    from mtlkit.lab import Quiz

    shown = Quiz("02")
    right, wrong = (LETTERS[[o.right for o in QUIZZES["02"][0].options].index(which)] for which in (True, False))
    shown.choices[0].value = right
    assert "Right" in shown.feedback[0].value
    shown.choices[0].value = wrong
    assert "No" in shown.feedback[0].value
    assert "<details>" in shown.still()._repr_markdown_()
