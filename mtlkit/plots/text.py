"""Lines of text, with what a model makes of them."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes

from mtlkit.cases.seen import SeenRow, SeenText
from mtlkit.plots.style import GREEN, RED, STYLE, Picture
from mtlkit.plots.words import seen_in_words


def answers(rows: Sequence[tuple[str, str, str]]) -> Picture:
    """Show questions with a model's answers and the right ones, marked."""
    with rc_context(STYLE):
        figure = Picture(figsize=(8, 0.3 + 0.34 * (1 + len(rows))))
        draw_lines(figure.add_subplot(), rows)
    seen = [SeenText("", given, right, answer) for given, answer, right in rows]
    figure.alt = f"Questions, the answers that the model writes, and the right ones.\n{seen_in_words(seen)}"
    return figure


def draw_lines(axes: Axes, rows: Sequence[tuple[str, str, str]]) -> None:
    """Draw a table of questions, answers and the right answers."""
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.5, -0.7)
    for x, head in ((0.0, "input"), (0.42, "model's answer"), (0.75, "right answer")):
        axes.text(x, 0, head, weight="bold", va="center")
    for line, (question, written, right) in enumerate(rows, 1):
        good = written == right
        axes.text(0.0, line, question, family="monospace", va="center")
        axes.text(0.42, line, written, family="monospace", va="center", color=GREEN if good else RED)
        axes.text(0.70, line, "✓" if good else "✗", va="center", color=GREEN if good else RED)
        axes.text(0.75, line, right, family="monospace", va="center", color="0.4")


def draw_rows(axes: Axes, rows: Sequence[SeenRow]) -> None:
    """Draw a table: what is given, and for each task what the model says, with what is true where that is otherwise."""
    axes.axis("off")
    if not rows:
        return
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) + 0.5, -0.7)
    width = axes.get_window_extent().width * 72 / axes.figure.dpi  # points
    tasks = _tasks(rows)
    table = [[", ".join(row.given.values()), *(_cell(row, task) for task in tasks)] for row in rows]
    longest = [
        max(len(head), *map(len, column))
        for head, column in zip(["given", *tasks], zip(*table, strict=True), strict=True)
    ]
    size = min(9.0, max(5.0, width / (0.62 * (sum(longest) + 2 * len(longest)))))
    fits = width / (0.62 * size)  # characters
    shares = [min(1.0, fits / (sum(longest) + 2 * len(longest))) * (n + 2) for n in longest]
    starts = [sum(shares[:k]) for k in range(len(shares))]
    for k, head in enumerate(["given", *tasks]):
        axes.text(starts[k] / fits, 0, head, weight="bold", va="center", fontsize=size)
        for line, (row, cells) in enumerate(zip(rows, table, strict=True), 1):
            right = row.right.get(head) if k else None
            colour = "k" if right is None else GREEN if right else RED
            said = cells[k] if len(cells[k]) < shares[k] else f"{cells[k][: int(shares[k]) - 2]}…"
            axes.text(starts[k] / fits, line, said, family="monospace", va="center", color=colour, fontsize=size)


def _tasks(rows: Sequence[SeenRow]) -> list[str]:
    return list(dict.fromkeys(task for row in rows for task in (*row.truth, *row.answers)))


def _cell(row: SeenRow, task: str) -> str:
    truth, said = row.truth.get(task, ""), row.answers.get(task)
    if said is None:
        return truth
    if task not in row.right:
        return f"{said} (true: {truth})" if truth else said
    return f"✓ {said}" if row.right[task] else f"✗ {said} (true: {truth})"
