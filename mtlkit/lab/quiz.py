"""The quiz at the end of a notebook, to click through."""

import html
import re
from functools import partial
from typing import Any

import ipywidgets

from mtlkit.exercises import QUIZZES, as_markdown
from mtlkit.exercises.classroom import may_see
from mtlkit.exercises.progress import note
from mtlkit.exercises.questions import LETTERS, Question
from mtlkit.lab.front import Shown, style

STYLE = (
    f"""<style>{style()}</style>"""
    + """<style>
.mtl-quiz .widget-radio-box { height: auto; width: 100%; }
.mtl-quiz .widget-radio-box label { display: flex; align-items: baseline; gap: 6px; height: auto; margin: 3px 0; }
.mtl-quiz .widget-radio-box label { line-height: 1.4; white-space: normal; }
.mtl-quiz .widget-radio-box input { order: -1; flex: none; align-self: center; height: auto; }
.mtl-quiz .widget-html-content { height: auto; line-height: 1.4; white-space: normal; }
</style>"""
)


class Quiz(Shown):
    """Four questions; a click on an option shows its feedback.

    Where no widget can be shown, the questions appear as text with the answers folded away.

    Args:
        notebook: which quiz, e.g. "02".
    """

    def __init__(self, notebook: str) -> None:
        questions = QUIZZES[notebook]
        self.notebook, self.text = notebook, as_markdown(questions, may_see(notebook))
        self.choices, self.feedback = [], []
        rows: list[ipywidgets.Widget] = [ipywidgets.HTML(STYLE)]
        for letter, question in zip("ABCD", questions, strict=True):
            options = [
                (f"({name}) {_plain(option.text)}", name)
                for name, option in zip(LETTERS, question.options, strict=True)
            ]
            choice = ipywidgets.RadioButtons(options=options, value=None, layout=ipywidgets.Layout(width="auto"))
            says = ipywidgets.HTML()
            choice.observe(partial(_answered, f"{notebook}.{letter}", question, says), "value")
            self.choices.append(choice)
            self.feedback.append(says)
            rows += [ipywidgets.HTML(f"<b>{letter}.</b> {_html(question.text)}"), choice, says]
        self.widget = ipywidgets.VBox(rows).add_class("mtl-quiz").add_class("mtl-live")

    def __repr__(self) -> str:
        return f"Quiz {self.notebook}: 4 questions"

    def still(self) -> "_Text":
        """Return the questions as text."""
        return _Text(self.text, repr(self))


class _Text:
    """Markdown, and what stands in its place where that is not shown."""

    def __init__(self, markdown: str, plain: str) -> None:
        self.markdown, self.plain = markdown, plain

    def __repr__(self) -> str:
        return self.plain

    def _repr_markdown_(self) -> str:
        return self.markdown


def _answered(id: str, question: Question, place: ipywidgets.HTML, change: Any) -> None:
    note("quizzes", id, question.is_right(change.new))
    place.value = f"<i>{_html(question.feedback(change.new))}</i>"


MARKS = re.compile(r"`(?P<code>.+?)`|\*(?P<stressed>[^\s*](?:[^*]*[^\s*])?)\*")


def _html(text: str) -> str:
    def tagged(found: re.Match[str]) -> str:
        tag = "code" if found["code"] else "em"
        return f"<{tag}>{found['code'] or found['stressed']}</{tag}>"

    return MARKS.sub(tagged, html.escape(text, quote=False))


def _plain(text: str) -> str:
    """Return a text without marks: a radio button shows none."""
    return MARKS.sub(lambda found: found["code"] or found["stressed"], text)
