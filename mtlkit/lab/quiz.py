"""The quiz at the end of a notebook, to click through."""

import html
import re
from typing import Any

import ipywidgets

from mtlkit.exercises import QUIZZES, as_markdown
from mtlkit.exercises.questions import LETTERS

STYLE = """<style>
.mtl-quiz .widget-radio-box { height: auto; width: 100%; }
.mtl-quiz .widget-radio-box label { display: flex; align-items: baseline; gap: 6px; height: auto; margin: 3px 0; }
.mtl-quiz .widget-radio-box label { line-height: 1.4; white-space: normal; }
.mtl-quiz .widget-html-content { height: auto; line-height: 1.4; white-space: normal; }
</style>"""


class Quiz:
    """Four questions; a click on an option shows its feedback.

    Where no widget can be shown, the questions stand there as text with the answers folded away.

    Args:
        notebook: which quiz, e.g. "02".
    """

    def __init__(self, notebook: str) -> None:
        questions = QUIZZES[notebook]
        self.notebook, self.text = notebook, as_markdown(questions)
        self.choices, self.feedback = [], []
        rows: list[ipywidgets.Widget] = [ipywidgets.HTML(STYLE)]
        for letter, question in zip("ABCD", questions, strict=True):
            options = [
                (f"({name}) {option.text}", name) for name, option in zip(LETTERS, question.options, strict=True)
            ]
            choice = ipywidgets.RadioButtons(options=options, value=None, layout=ipywidgets.Layout(width="auto"))
            says = ipywidgets.HTML()
            choice.observe(
                lambda change, question=question, says=says: _show(says, question.feedback(change.new)), "value"
            )
            self.choices.append(choice)
            self.feedback.append(says)
            rows += [ipywidgets.HTML(f"<b>{letter}.</b> {_html(question.text)}"), choice, says]
        self.widget = ipywidgets.VBox(rows).add_class("mtl-quiz")

    def __repr__(self) -> str:
        return f"Quiz {self.notebook}: 4 questions"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = self.widget._repr_mimebundle_(**options)
        return data | {"text/markdown": self.text, "text/plain": repr(self)}, {}


def _show(place: ipywidgets.HTML, text: str) -> None:
    place.value = f"<i>{_html(text)}</i>"


def _html(text: str) -> str:
    return re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(text, quote=False))
