"""Lines of text, with what a model makes of them."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes

from mtlkit.plots.style import GREEN, RED, STYLE, Picture


def answers(rows: Sequence[tuple[str, str, str]]) -> Picture:
    """Show questions with a model's answers and the right ones, marked."""
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 0.3 + 0.34 * (1 + len(rows))))
        draw_lines(figure.add_subplot(), rows)
    figure.alt = lines_alt(len(rows))
    return figure


def lines_alt(number: int) -> str:
    """Return what a table of answers shows, in words."""
    return f"A table of {number} questions, the answers that the model writes, and the right ones."


def draw_lines(axes: Axes, rows: Sequence[tuple[str, str, str]]) -> None:
    """Draw a table of questions, answers and the right answers."""
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.5, -0.7)
    for x, head in ((0.0, "what it is given"), (0.42, "what it writes"), (0.75, "what is right")):
        axes.text(x, 0, head, weight="bold", va="center")
    for line, (question, written, right) in enumerate(rows, 1):
        good = written == right
        axes.text(0.0, line, question, family="monospace", va="center")
        axes.text(0.42, line, written, family="monospace", va="center", color=GREEN if good else RED)
        axes.text(0.70, line, "✓" if good else "✗", va="center", color=GREEN if good else RED)
        axes.text(0.75, line, right, family="monospace", va="center", color="0.4")
