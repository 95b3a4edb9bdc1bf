"""The course for a class: nothing in it gives an answer away, and two graders give the marks that answers deserve."""

import html
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mtlkit.cli import main
from mtlkit.exercises import EXERCISES, QUIZZES, Exercise, LabExercise, exercise, grade, hint, require, solution
from mtlkit.exercises.classroom import may_see, settings_of
from mtlkit.lab import saved_runs
from mtlkit.upkeep.export import Asked, exercises_in, export_nbgrader, export_otter, export_student

COURSE = Path(__file__).parents[1] / "notebooks"
WRITTEN = {id: found for id, found in EXERCISES.items() if isinstance(found, Exercise)}
STUBS = """def log_like_total(losses):
    ...


def same_steps(lr, K):
    ...


check("02.3", log_like_total)
check("02.4", same_steps)"""


def text_in(file):
    """Return all that can be read in a notebook, outputs included."""
    parts = []
    for cell in nbformat.read(file, as_version=4).cells:
        parts.append(cell.source)
        for output in cell.get("outputs", ()):
            parts += [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
    return "\n".join(parts)


@pytest.fixture(scope="module")
def for_students(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "students"
    return {file.name[:2]: file for file in export_student(folder, COURSE)}


@pytest.mark.parametrize("id", EXERCISES)
def test_no_solution_and_no_last_hint_is_left_for_students(for_students, id):
    found = EXERCISES[id]
    for file in for_students.values():
        assert found.hints[2] not in text_in(file)
    if id[:2] in for_students:
        text = text_in(for_students[id[:2]])
        assert found.hints[0] in text and found.title in text
        lines = [line.strip() for line in found.source().splitlines()[2:]]
        assert not [line for line in lines if len(line) > 20 and line in text]


@pytest.mark.parametrize("number", QUIZZES)
def test_no_quiz_answer_is_left_for_students(for_students, number):
    if number in for_students:
        text = text_in(for_students[number])
        assert all(question.text in text for question in QUIZZES[number])
        assert not any(option.feedback in text for question in QUIZZES[number] for option in question.options)


def test_students_have_the_pages_and_the_rest_of_the_notebooks(for_students):
    folder = for_students["00"].parent
    assert {file.name for file in COURSE.glob("[0-9]*.ipynb")} == {file.name for file in folder.glob("*.ipynb")}
    assert not (folder / "instructors.md").exists()
    for file in folder.glob("*.ipynb"):
        one, other = (nbformat.read(path, as_version=4).cells for path in (file, COURSE / file.name))
        assert [cell.source for cell in one] == [cell.source for cell in other]
        assert [len(cell.get("outputs", ())) for cell in one] == [len(cell.get("outputs", ())) for cell in other]


def test_hints_and_solutions_follow_the_settings_of_the_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "week 3").mkdir()
    monkeypatch.chdir(tmp_path / "week 3")
    assert may_see("02.1")
    (tmp_path / "mtlkit.toml").write_text(settings_of([]))
    solution("02.4")
    hint("02.4", 3)
    assert capsys.readouterr().out.count("Your instructor has the") == 2
    hint("02.4", 2)
    assert EXERCISES["02.4"].hints[1] in capsys.readouterr().out
    shown = exercise("02.4")._repr_markdown_()
    assert "Hint 2" in shown and "Hint 3" not in shown and "Solution" not in shown
    assert repr(exercise("02.1", "02.4")) == "\n".join(
        f"Exercise {id}: {EXERCISES[id].title}" for id in ("02.1", "02.4")
    )
    assert settings_of(["02.4", "05"]).endswith('\nsolutions = ["02.4", "05"]\n')
    (tmp_path / "mtlkit.toml").write_text(settings_of(["02.4", "05"]))
    assert may_see("02.4") and may_see("05.1") and not may_see("02.3")
    solution("02.4")
    assert "def same_steps" in capsys.readouterr().out
    assert "def same_steps" in exercise("02.4")._repr_markdown_()
    for silent in ("", "color = 3"):
        (tmp_path / "mtlkit.toml").write_text(silent)
        assert may_see("02.3")
    for wrong in ("solutions = 3", "solutions = [1]", "solutions = "):
        (tmp_path / "mtlkit.toml").write_text(wrong)
        with pytest.raises(ValueError, match="true, false"):
            may_see("02.4")


def test_one_solution_may_be_left_in(tmp_path):
    (file,) = export_student(tmp_path / "class", COURSE, ["02"], allowed=["02.3"])
    text = text_in(file)
    assert EXERCISES["02.3"].hints[2] in text and EXERCISES["02.4"].hints[2] not in text


@pytest.mark.parametrize("id", WRITTEN)
def test_each_exercise_has_a_place_and_a_solved_copy_that_is_right_on_further_draws(id):
    files = list(COURSE.glob(f"{id[:2]}_*.ipynb"))
    if not files:
        pytest.skip(f"notebook {id[:2]} is not written yet")
    cells = nbformat.read(files[0], as_version=4).cells
    (asked,) = [one for cell in cells for one in exercises_in(cell) if one.id == id]
    scope = {}
    exec(asked.solved(), scope)
    assert grade(id, scope[asked.name], seed=3).state == "right"
    exec(asked.stub, scope)
    assert grade(id, scope[asked.name], seed=3).state == "not attempted"


def test_a_demonstration_is_no_question_and_a_check_of_something_else_is_an_error():
    shown = new_code_cell("def f(losses, weights):\n    return 1\n\n\ncheck('00.1', f)")
    assert exercises_in(shown) == []
    with pytest.raises(ValueError, match="does not define"):
        exercises_in(new_code_cell("check('00.1', f)"))


def test_a_required_answer_says_what_is_wrong():
    require("02.4", EXERCISES["02.4"].solution, seed=9)
    with pytest.raises(AssertionError, match=r"02\.4: "):
        require("02.4", lambda lr, K: lr / 4, seed=9)


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "work.txt").write_text("mine")
    for arguments, said in (
        (["--student", str(tmp_path / "old")], "is not empty"),
        (["--otter", str(tmp_path / "new"), "--only", "99"], "no notebook 99"),
        (["--nbgrader", str(tmp_path / "new"), "--notebooks", str(tmp_path)], "no notebooks in"),
    ):
        assert main(["export", "--notebooks", str(COURSE), *arguments]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


# the graders themselves


@pytest.fixture
def small_course(tmp_path):
    """Return a folder with two short notebooks: two exercises to write, one to do in the lab."""
    folder = tmp_path / "course"
    folder.mkdir()
    begin = "from mtlkit.exercises import check, exercise"
    written = [begin, 'exercise("02.3", "02.4")', STUBS]
    steered = [begin, "class Untouched:\n    records = []\n\n\nlab = Untouched()", 'check("04.1", lab.records)']
    for name, cells in (("02_small", written), ("04_small", steered)):
        notebook = new_notebook(cells=[new_markdown_cell("# Small"), *map(new_code_cell, cells)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


ANSWERS = {  # student → what they hand in for log_like_total (2 points) and same_steps (1 point), and their marks
    "solved": ("return sum(one / one.detach() for one in losses)", "return lr / K", 3),
    "stub": ("...", "...", 0),
    "detached": ("return sum(one.detach() / one.detach() for one in losses)", "return lr / K", 1),
    "of four": ("return sum(one / one.detach() for one in losses)", "return lr / 4", 2),
    "raises": ("return undefined", "return lr / K", 1),
}


def handed_in(release, student):
    """Return the released notebook with the answers of a student."""
    notebook = nbformat.read(release, as_version=4)
    first, second, _ = ANSWERS[student]
    for name, body in (("log_like_total", first), ("same_steps", second)):
        (cell,) = [cell for cell in notebook.cells if cell.source.startswith(f"def {name}(")]
        assert cell.source.endswith("...")
        cell.source = cell.source.replace("...", body)
    return notebook


def ran(*command, cwd):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic by its name
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(COURSE.parent), "OMP_NUM_THREADS": "1"}
    environment["PYTHONWARNDEFAULTENCODING"] = ""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.processes
def test_nbgrader_gives_the_marks_that_answers_deserve(small_course, tmp_path):
    if not find_spec("nbgrader"):
        pytest.skip("nbgrader is not installed")
    folder, exchange = tmp_path / "graded", tmp_path / "exchange"
    exchange.mkdir(mode=0o777)
    exchange.chmod(0o777)
    export_nbgrader(folder, small_course, ["02"], seed=77)
    with open(folder / "nbgrader_config.py", "a", encoding="utf-8") as config:
        config.write(f"c.Exchange.root = {str(exchange)!r}\n")
    nbgrader = [sys.executable, "-m", "nbgrader"]
    ran(*nbgrader, "generate_assignment", "mtl_02", cwd=folder)
    release = folder / "release" / "mtl_02" / "02_small.ipynb"
    assert "require" not in text_in(release) and "seed=77" not in text_in(release)
    ran(*nbgrader, "release_assignment", "mtl_02", cwd=folder)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(folder / "nbgrader_config.py", home)
    ran(*nbgrader, "fetch_assignment", "mtl_02", "--course", "mtl", cwd=home)
    nbformat.write(handed_in(home / "mtl_02" / "02_small.ipynb", "solved"), home / "mtl_02" / "02_small.ipynb")
    ran(*nbgrader, "submit", "mtl_02", "--course", "mtl", cwd=home)
    ran(*nbgrader, "collect", "mtl_02", cwd=folder)
    (collected,) = (folder / "submitted").iterdir()
    for student in ANSWERS:
        if student != "solved":
            own = folder / "submitted" / student.replace(" ", "_") / "mtl_02"
            shutil.copytree(folder / "release" / "mtl_02", own)
            nbformat.write(handed_in(release, student), own / "02_small.ipynb")
    ran(*nbgrader, "autograde", "mtl_02", "--create", cwd=folder)
    marks = (
        "from nbgrader.api import Gradebook\nimport json\nwith Gradebook('sqlite:///gradebook.db') as book:\n"
        "    print(json.dumps({s.student.id: [s.score, s.max_score] for s in book.assignment_submissions('mtl_02')}))"
    )
    found = json.loads(ran(sys.executable, "-c", marks, cwd=folder))
    assert found.pop(collected.name) == [3.0, 3.0]
    assert found == {name.replace(" ", "_"): [ANSWERS[name][2], 3.0] for name in ANSWERS if name != "solved"}
    ran(*nbgrader, "generate_feedback", "mtl_02", cwd=folder)
    said = (folder / "feedback" / "of_four" / "mtl_02" / "02_small.html").read_text("utf-8")
    assert grade("02.4", lambda lr, K: lr / 4).message.split(" (")[0] in html.unescape(said)


@pytest.mark.processes
def test_otter_gives_the_marks_that_answers_deserve(small_course, tmp_path):
    if not find_spec("otter"):
        pytest.skip("otter-grader is not installed")
    export_otter(tmp_path / "graded", small_course, ["02"], seed=77)
    folder = tmp_path / "graded" / "02_small"
    otter = [sys.executable, "-m", "otter"]
    ran(*otter, "assign", "02_small.ipynb", "made", cwd=folder)
    student = folder / "made" / "student" / "02_small.ipynb"
    assert "lr / K" not in text_in(student) and "seed=77" not in student.read_text("utf-8")
    (autograder,) = (folder / "made" / "autograder").glob("*.zip")

    def marks_of(name):
        own = folder / name.replace(" ", "_")
        own.mkdir()
        nbformat.write(handed_in(student, name), own / "02_small.ipynb")
        ran(*otter, "run", "-a", str(autograder), "-o", str(own), str(own / "02_small.ipynb"), cwd=folder)
        tests = json.loads((own / "results.json").read_text("utf-8"))["tests"]
        return sum(test.get("score") or 0 for test in tests)

    with ThreadPoolExecutor(2) as pool:
        assert dict(zip(ANSWERS, pool.map(marks_of, ANSWERS), strict=True)) == {
            name: marks for name, (_, _, marks) in ANSWERS.items()
        }


def test_a_guided_experiment_is_graded_from_saved_runs(small_course, tmp_path, monkeypatch):
    (file,) = export_nbgrader(tmp_path / "graded", small_course, ["04"])
    sources = [cell.source for cell in nbformat.read(file, as_version=4).cells]
    assert any('lab.save("runs_04_1.json")' in source for source in sources)
    monkeypatch.chdir(tmp_path)
    assert saved_runs("runs_04_1.json") is None
    with pytest.raises(AssertionError, match="not attempted"):
        require("04.1", saved_runs("runs_04_1.json"))
    asked = Asked("04.1", "lab.records", "")
    assert asked.in_lab and isinstance(EXERCISES["04.1"], LabExercise) and asked.file == "runs_04_1.json"


def test_an_answer_in_an_outdated_output_is_not_left_either(small_course, tmp_path):
    file = small_course / "02_small.ipynb"
    notebook = nbformat.read(file, as_version=4)
    shown = {"text/markdown": "an older wording, and the solution: `return lr / K`", "text/plain": "Exercise 02.4"}
    notebook.cells[2].outputs = [nbformat.v4.new_output("execute_result", shown, execution_count=1)]
    nbformat.write(notebook, file)
    (made,) = export_student(tmp_path / "class", small_course, ["02"])
    assert "lr / K" not in text_in(made) and EXERCISES["02.4"].title in text_in(made)
