"""The quiz that ends a notebook: four questions, four options each, feedback for every option."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

LETTERS = "abcd"


class Option(NamedTuple):
    """One possible answer: what it says, what to tell who takes it, whether it is right."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with four options, one of them right.

    Attributes:
        text: of the question.
        options: in an order that is drawn from the text, so that no place is right more often than another.
    """

    text: str
    options: tuple[Option, Option, Option, Option]

    def __post_init__(self) -> None:
        shuffled = random.Random(self.text).sample(self.options, len(self.options))
        object.__setattr__(self, "options", tuple(shuffled))

    def is_right(self, letter: str) -> bool:
        """Whether `letter` is the right answer."""
        return self.options[LETTERS.index(letter)].right

    def feedback(self, letter: str) -> str:
        """Return what to tell who answered `letter`."""
        option = self.options[LETTERS.index(letter)]
        return f"{'✓ Right' if option.right else '✗ No'}: {option.feedback}"


def as_markdown(questions: Sequence[Question], answered: bool = True) -> str:
    """Return the quiz for a page without a kernel: options, and the feedback folded away, or left out."""
    parts = []
    for letter, question in zip("ABCD", questions, strict=True):
        lines = [f"**{letter}.** {question.text}", ""]
        lines += [f"- ({name}) {option.text}" for name, option in zip(LETTERS, question.options, strict=True)]
        if answered:
            answers = [f"- ({name}) {question.feedback(name)}" for name in LETTERS]
            lines += ["", "<details><summary>Answers</summary>", "", *answers, "", "</details>"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
