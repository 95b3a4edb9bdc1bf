"""Statement, hints, solution and check of each exercise, and the quizzes. A notebook shows them by id."""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from mtlkit.exercises import basics, beyond, fields, pays
from mtlkit.exercises.classroom import may_see
from mtlkit.exercises.engine import Exercise, LabExercise, Statement, Verdict
from mtlkit.exercises.progress import Progress, note, progress_file
from mtlkit.exercises.questions import LETTERS, Question, as_markdown

_NOTEBOOKS = sorted(  # one module a notebook, in the folder of its part of the course
    (
        import_module(f"{part.__name__}.{module.name}")
        for part in (basics, pays, fields, beyond)
        for module in iter_modules(part.__path__)
    ),
    key=lambda module: module.__name__[-2:],
)
EXERCISES: dict[str, Statement] = {exercise.id: exercise for module in _NOTEBOOKS for exercise in module.EXERCISES}
QUIZZES: dict[str, tuple[Question, ...]] = {
    module.__name__[-2:]: module.QUIZ for module in _NOTEBOOKS if hasattr(module, "QUIZ")
}

__all__ = [
    "EXERCISES",
    "QUIZZES",
    "Exercise",
    "LabExercise",
    "Progress",
    "Question",
    "Verdict",
    "answer",
    "as_markdown",
    "check",
    "exercise",
    "grade",
    "hint",
    "progress",
    "quiz",
    "require",
    "solution",
    "tell_progress",
]


class ExerciseText:
    """Exercises as a notebook shows them."""

    def __init__(self, found: Sequence[Statement]) -> None:
        self.found = found

    def __repr__(self) -> str:
        return "\n".join(f"Exercise {each.id}: {each.title}" for each in self.found)

    def _repr_markdown_(self) -> str:
        return "\n\n".join(each.text(solved=may_see(each.id)) for each in self.found)


def exercise(*ids: str) -> ExerciseText:
    """Show one exercise or several: statement, then three hints and the solution, folded."""
    return ExerciseText([_find(id) for id in ids])


def check(id: str, answer: Any) -> None:
    """Print whether `answer` solves the exercise; if not, what differs, in words."""
    verdict = grade(id, answer)
    if verdict.state != "not attempted":
        note("exercises", id, verdict.state == "right")
    mark = {"right": "✓", "wrong": "✗", "not attempted": "·"}[verdict.state]
    print(f"{mark} {id}: {verdict.message}")


def grade(id: str, answer: Any, seed: int = 0) -> Verdict:
    """Return what `check` prints, for instructors who collect answers; another seed draws other inputs."""
    return _find(id).judge(answer, seed)


def require(id: str, answer: Any, seed: int = 0) -> None:
    """Do nothing if `answer` solves the exercise: the test of a grader.

    Raises:
        AssertionError: with what is wrong, in words.
    """
    verdict = grade(id, answer, seed)
    if verdict.state != "right":
        raise AssertionError(f"{id}: {verdict.message}")


def hint(id: str, number: int = 1) -> None:
    """Print a hint: 1, 2 or 3, each saying more."""
    found = _find(id)
    if not 1 <= number <= len(found.hints):
        raise ValueError(f"exercise {id} has hints 1 to {len(found.hints)}, not {number}")
    if number == len(found.hints) and not may_see(id):
        print(f"Your instructor has the last hint of {id}.")
        return
    more = f" (hint({id!r}, {number + 1}) says more)" if number < len(found.hints) else f" (next: solution({id!r}))"
    print(found.hints[number - 1] + more)


def solution(id: str) -> None:
    """Print the solution, in a class that may see it."""
    found = _find(id)
    print(found.source() if may_see(id) else f"Your instructor has the solution of {id}.")


def _find(id: str) -> Statement:
    if id not in EXERCISES:
        raise ValueError(f"there is no exercise {id!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[id]


def quiz(notebook: str) -> None:
    """Print the questions of a notebook, e.g. "02": the quiz without widgets. Answer with `answer("02.A", "c")`."""
    for letter, question in zip("ABCD", _quiz_of(notebook), strict=True):
        print(f"{notebook}.{letter}  {question.text}")
        for name, option in zip(LETTERS, question.options, strict=True):
            print(f"      ({name}) {option.text}")
    print(f'\nAnswer with answer("{notebook}.A", "b")')


def answer(id: str, letter: str) -> None:
    """Print the feedback for an answer, e.g. `answer("02.A", "c")`."""
    notebook, _, which = id.partition(".")
    questions = _quiz_of(notebook)
    if which not in tuple("ABCD") or letter not in tuple(LETTERS):
        raise ValueError(f'expected something like answer("{notebook}.A", "c"), not answer({id!r}, {letter!r})')
    question = questions["ABCD".index(which)]
    note("quizzes", id, question.is_right(letter))
    print(question.feedback(letter))


def progress() -> Progress:
    """Return what was solved so far on this machine; a notebook shows it."""
    return Progress(list(EXERCISES), [f"{notebook}.{which}" for notebook in QUIZZES for which in "ABCD"])


def _quiz_of(notebook: str) -> tuple[Question, ...]:
    if notebook not in QUIZZES:
        raise ValueError(f"there is no quiz {notebook!r}; there are {', '.join(QUIZZES)}")
    return QUIZZES[notebook]


def tell_progress(forget: bool = False) -> None:
    """Print what was solved so far, and where that is kept; `forget` deletes it first."""
    file = progress_file()
    if forget and file is not None:
        file.unlink(missing_ok=True)
    print(progress())
    if file is not None:
        print(f"kept in {file}, on this machine only")
