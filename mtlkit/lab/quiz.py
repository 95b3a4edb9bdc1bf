"""The quiz at the end of a notebook, to click through."""

from typing import Any

import ipywidgets

from mtlkit.exercises.quizzes import LETTERS, QUIZZES, as_markdown


class Quiz:
    """Four questions; a click on an option shows its feedback.

    Where no widget can be shown, the questions stand there as text with the answers folded away.

    Args:
        notebook: which quiz, e.g. "02".
    """

    def __init__(self, notebook: str) -> None:
        self.notebook, self.text = notebook, as_markdown(notebook)
        self.choices, self.feedback = [], []
        rows = []
        for letter, question in zip("ABCD", QUIZZES[notebook], strict=True):
            options = [
                (f"({name}) {option.text}", name) for name, option in zip(LETTERS, question.options, strict=True)
            ]
            choice = ipywidgets.RadioButtons(options=options, value=None, layout=ipywidgets.Layout(width="auto"))
            told = ipywidgets.HTML()
            choice.observe(
                lambda change, question=question, told=told: _tell(told, question.feedback(change.new)), "value"
            )
            self.choices.append(choice)
            self.feedback.append(told)
            rows += [ipywidgets.HTML(f"<b>{letter}.</b> {question.text}"), choice, told]
        self.widget = ipywidgets.VBox(rows)

    def __repr__(self) -> str:
        return f"Quiz {self.notebook}: 4 questions"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = self.widget._repr_mimebundle_(**options)
        return data | {"text/markdown": self.text, "text/plain": repr(self)}, {}


def _tell(place: ipywidgets.HTML, text: str) -> None:
    place.value = f"<i>{text}</i>"
