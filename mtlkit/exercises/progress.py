"""What a learner has done so far: one small file, on this machine only."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from mtlkit.data import data_folder

KINDS = ("exercises", "quizzes")


def progress_file() -> Path | None:
    """Return where progress is kept: `$MTLKIT_PROGRESS`, or `progress.json` in the data folder; `None` if it is empty."""
    named = os.environ.get("MTLKIT_PROGRESS")
    if named is not None:
        return Path(named) if named else None
    return data_folder() / "progress.json"


def note(kind: str, id: str, right: bool) -> None:
    """Take note of a try at an exercise ("exercises", "02.1") or at a question of a quiz ("quizzes", "02.A").

    Nothing is raised if the file cannot be written: the answer counts, not the note.
    """
    file = progress_file()
    if file is None:
        return
    done = read_progress()
    entry = done[kind].setdefault(id, {"tries": 0})
    entry["tries"] += 1
    if right:
        entry.setdefault("solved", date.today().isoformat())
    text = json.dumps(done, indent=1, sort_keys=True)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(file)


def read_progress() -> dict[str, dict[str, Any]]:
    """Return kind → id → "tries", and "solved" with a date; what cannot be read counts as nothing."""
    found: Any = {}
    if (file := progress_file()) is not None:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(file.read_text(encoding="utf-8"))
    found = found if isinstance(found, dict) else {}
    return {kind: {id: one for id, one in _of(found, kind).items() if _is_entry(one)} for kind in KINDS}


def _of(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    entries = found.get(kind)
    return entries if isinstance(entries, dict) else {}


def _is_entry(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("tries"), int)


class Progress:
    """What was solved, notebook by notebook.

    Args:
        exercises: ids of all exercises.
        questions: ids of all questions.
    """

    def __init__(self, exercises: Sequence[str], questions: Sequence[str]) -> None:
        done = read_progress()
        solved = {id for kind in KINDS for id, one in done[kind].items() if "solved" in one}
        self.exercises = {id: id in solved for id in exercises}
        self.questions = {id: id in solved for id in questions}

    def rows(self) -> list[tuple[str, int, int, int, int]]:
        """Return for each notebook: its number, exercises solved, of how many, questions answered, of how many."""
        numbers = sorted({id[:2] for id in (*self.exercises, *self.questions)})
        parts = (self.exercises, self.questions)
        own = {n: [[right for id, right in part.items() if id[:2] == n] for part in parts] for n in numbers}
        return [(n, sum(a), len(a), sum(b), len(b)) for n, (a, b) in own.items()]

    def __repr__(self) -> str:
        marks = [
            f"{n}  {'●' * solved}{'○' * (number - solved)}".ljust(12) + (f"quiz {right} of {asked}" if asked else "")
            for n, solved, number, right, asked in self.rows()
        ]
        following = next((id for id, right in self.exercises.items() if not right), None)
        solved, number = sum(self.exercises.values()), len(self.exercises)
        return "\n".join(
            [*marks, f"{solved} of {number} exercises solved" + (f"; next: {following}" if following else "")]
        )
