"""What a learner has done so far, and that keeping it never stands in the way."""

import json

import pytest

from mtlkit import cli
from mtlkit.exercises import EXERCISES, QUIZZES, answer, check, progress
from mtlkit.lab import Quiz


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_PROGRESS", str(tmp_path / "deep" / "deeper" / "progress.json"))
    return tmp_path / "deep" / "deeper" / "progress.json"


def right_letter(notebook, question):
    return next(name for name in "abcd" if QUIZZES[notebook]["ABCD".index(question)].is_right(name))


def row(number):
    return next(found for found in progress().rows() if found[0] == number)


def test_what_is_solved_is_kept_with_its_tries(file):
    check("02.1", ...)
    assert not file.exists()
    check("02.1", lambda *_: 0.0)
    assert row("02")[1] == 0
    check("02.1", EXERCISES["02.1"].solution)
    check("02.1", lambda *_: 0.0)
    whole = json.loads(file.read_text())
    assert file.read_text() == json.dumps(whole, indent=1, sort_keys=True)  # for people who look into it
    kept = whole["exercises"]["02.1"]
    assert kept["tries"] == 3 and row("02")[1] == 1
    assert not list(file.parent.glob("*.part"))


def test_a_quiz_counts_by_widget_and_by_text(file, capsys):
    Quiz("02").choices[0].value = right_letter("02", "A")
    answer("02.B", right_letter("02", "B"))
    wrong = next(name for name in "abcd" if name != right_letter("02", "C"))
    answer("02.C", wrong)
    assert row("02")[3:] == (2, 4)


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"exercises": 3}', '{"exercises": {"02.1": "yes"}}'])
def test_a_spoilt_file_counts_as_nothing_and_is_replaced(file, content):
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert row("02")[1] == 0
    check("02.1", EXERCISES["02.1"].solution)
    assert row("02")[1] == 1


def test_where_nothing_can_be_written_a_check_works_all_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MTLKIT_PROGRESS", str(tmp_path / "file" / "progress.json"))
    check("02.1", EXERCISES["02.1"].solution)
    assert capsys.readouterr().out.startswith("✓")


def test_the_command_says_it_and_forgets_it(file, capsys):
    check("00.1", EXERCISES["00.1"].solution)
    first = next(id for id in EXERCISES if id != "00.1")
    capsys.readouterr()
    assert cli.main(["progress"]) == 0
    said = capsys.readouterr().out
    assert f"1 of {len(EXERCISES)} exercises solved; next: {first}" in said and str(file) in said
    assert cli.main(["progress", "--forget"]) == 0 and not file.exists()
    assert f"0 of {len(EXERCISES)} exercises solved; next: 00.1" in capsys.readouterr().out


def test_every_notebook_has_its_line(file):
    assert {found[0] for found in progress().rows()} >= {id[:2] for id in EXERCISES}
    assert all(asked == 4 for _, _, _, _, asked in progress().rows() if asked)


def test_tests_and_notebooks_keep_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    check("02.1", EXERCISES["02.1"].solution)
    assert not list(tmp_path.iterdir())
