"""Statement, hints, solution and check of each exercise, and the quizzes. A notebook shows them by id."""

from collections.abc import Sequence
from typing import Any

from mtlkit.exercises import nb00, nb01, nb02, nb03, nb04, nb05, nb09
from mtlkit.exercises.engine import Exercise, Experiment, Told, Verdict
from mtlkit.exercises.quizzes import QUIZZES, Question, answer, quiz

EXERCISES: dict[str, Told] = {
    exercise.id: exercise for module in (nb00, nb01, nb02, nb03, nb04, nb05, nb09) for exercise in module.EXERCISES
}

__all__ = [
    "EXERCISES",
    "QUIZZES",
    "Exercise",
    "Experiment",
    "Question",
    "Verdict",
    "answer",
    "check",
    "exercise",
    "grade",
    "hint",
    "quiz",
    "solution",
]


class Shown:
    """Exercises as a notebook shows them."""

    def __init__(self, found: Sequence[Told]) -> None:
        self.found = found

    def __repr__(self) -> str:
        return "\n".join(f"Exercise {each.id}: {each.title}" for each in self.found)

    def _repr_markdown_(self) -> str:
        return "\n\n".join(each.text() for each in self.found)


def exercise(*ids: str) -> Shown:
    """Show one exercise or several: statement, then three hints and the solution, folded."""
    return Shown([_find(id) for id in ids])


def check(id: str, answer: Any) -> None:
    """Print whether `answer` solves the exercise; if not, what differs, in words."""
    verdict = grade(id, answer)
    mark = {"right": "✓", "wrong": "✗", "not attempted": "·"}[verdict.state]
    print(f"{mark} {id}: {verdict.message}")


def grade(id: str, answer: Any) -> Verdict:
    """Return what `check` prints, for instructors who collect answers."""
    return _find(id).judge(answer)


def hint(id: str, number: int = 1) -> None:
    """Print a hint: 1, 2 or 3, each saying more."""
    found = _find(id)
    if not 1 <= number <= len(found.hints):
        raise ValueError(f"exercise {id} has hints 1 to {len(found.hints)}, not {number}")
    more = f" (hint({id!r}, {number + 1}) says more)" if number < len(found.hints) else f" (solution({id!r}) is left)"
    print(found.hints[number - 1] + more)


def solution(id: str) -> None:
    """Print the solution."""
    print(_find(id).source())


def _find(id: str) -> Told:
    if id not in EXERCISES:
        raise ValueError(f"there is no exercise {id!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[id]
