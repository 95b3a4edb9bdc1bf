"""What a picture shows is heard where notebooks are read: in JupyterLab, exported, in a book, on a web page."""

import html
import re
import subprocess
import sys

import bleach
import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from mtlkit import plots
from mtlkit.cases.seen import SeenBox, SeenImage, SeenRow, SeenText
from mtlkit.experiments import Interval
from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing
from mtlkit.plots.words import course_of, folded, loud_parts, number, place_of, seen_in_words

GROUPS = {"half the labels <5 %>": {"alone": Interval(0.712, 0.021)}, "all": {"together": Interval(-1.5, 0.25)}}
HEARD = ["half the labels <5 %>: alone 0.712 ± 0.021", "all: together -1.50 ± 0.25"]
# tags that GitHub's pages keep, from its open html-pipeline (SanitizationFilter); data: addresses of images are not
GITHUB = {
    "a",
    "br",
    "code",
    "details",
    "div",
    "em",
    "img",
    "li",
    "p",
    "pre",
    "strong",
    "summary",
    "table",
    "td",
    "tr",
    "ul",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A notebook with one picture, executed, as it comes from somebody else."""
    picture = plots.intervals(GROUPS, xlabel="gain")
    outputs = [nbformat.v4.new_output("display_data", data, metadata=meta) for data, meta in picture.outputs()]
    cell = nbformat.v4.new_code_cell("picture", execution_count=1, outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A picture"), cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path_factory.mktemp("seen") / "picture.ipynb"
    nbformat.write(notebook, path)
    return path


def words_of(page):
    """Return the lines of all folded words in a page of HTML."""
    found = re.findall(r"<details[^>]*><summary>The picture in words</summary>(.*?)</details>", page, re.DOTALL)
    return [html.unescape(line) for words in found for line in re.split(r"<br ?/?>", words)]


@pytest.mark.parametrize("template", ["lab", "classic", "basic", "reveal"])
def test_exported(file, template):
    page, _ = HTMLExporter(template_name=template).from_filename(str(file))
    assert words_of(page)[1:] == HEARD and "data:image/png" in page


def test_in_a_book(file, tmp_path):
    (tmp_path / "picture.ipynb").write_bytes(file.read_bytes())
    (tmp_path / "conf.py").write_text("extensions = ['myst_nb']\nnb_execution_mode = 'off'\n", encoding="utf-8")
    (tmp_path / "index.md").write_text("# Book\n\n```{toctree}\npicture\n```\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", tmp_path, tmp_path / "out"], check=True)
    assert words_of((tmp_path / "out" / "picture.html").read_text(encoding="utf-8"))[1:] == HEARD


def test_where_html_is_cleaned(file):
    below = nbformat.read(file, as_version=4).cells[1].outputs[1].data["text/html"]
    assert words_of(bleach.clean(below, tags=GITHUB, strip=True))[1:] == HEARD


@pytest.mark.processes
@pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")
def test_in_jupyterlab_which_does_not_trust_the_notebook(file):
    with jupyterlab(file.parent) as address, browser() as chrome:
        page = chrome.new_page()
        Notebook(page, address, file.name)
        words = page.get_by_role("group").filter(has_text="The picture in words")
        expect(words).to_have_count(1)
        words.locator("summary").focus()
        page.keyboard.press("Enter")
        heard = words.aria_snapshot()
    assert all(line.partition(": ")[2] in heard for line in HEARD)


def test_numbers_are_said_as_they_are_read():
    assert [number(x) for x in (0.5, -3, 130, 12345.6, float("nan"))] == [
        "0.500",
        "-3.00",
        "130",
        "12,346",
        "not known",
    ]
    assert number(Interval(12.345, 1.0)) == "12.3 ± 1.0" and number(Interval(0.5, float("nan"))) == "0.500"
    assert course_of([1, 2, 3, 4], [float("nan"), 4, 2, 1], at=[3]) == "4.00 at 2, 2.00 at 3, 1.00 at 4"
    assert course_of([], []) == "nothing"


def test_places_and_times():
    amounts = [[0.0] * 9 for _ in range(6)]
    amounts[5][0], amounts[0][8] = 3.0, 1.0
    assert place_of(amounts) == "bottom left 75 %" and place_of([[0.0] * 3] * 3) == "nothing"
    frames = [[0.0, 0.0]] * 10 + [[0.0, 1.0]] * 20 + [[0.0, 0.0]] * 30 + [[2.0, 0.0]] * 10
    assert loud_parts(frames, 0.01) == "0.60 to 0.70 s (most in band 0)"
    frames[60:] = [[1.0, 0.0]] * 10
    assert loud_parts(frames, 0.01) == "0.10 to 0.30 s (most in band 1), 0.60 to 0.70 s (most in band 0)"


def test_samples_with_answers():
    boxes, found = [SeenBox((0, 0, 4, 4), "7")], [SeenBox((0, 0, 4, 5), "7", 0.912), SeenBox((1, 1, 2, 2), "3", 0.3)]
    image = SeenImage(None, {"classify": "5"}, {"classify": ("3", 0.7)}, boxes, found)
    row = SeenRow({"name": "Anna", "age": "3"}, {"sex": "f"}, {"sex": "f", "of": "Rome"})
    said = seen_in_words([image, SeenImage(None), row, SeenText("add", "2+2=", "4", "5"), SeenText("add", "1+", "1")])
    assert said.splitlines() == [
        "1: classify 3 (true: 5); boxes 7; found 7 0.91, 3 0.30",
        "2: no label",
        "3: Anna, 3; sex f; of Rome",
        "4: '2+2='; the model writes '5'; right is '4'",
        "5: '1+'; right is '1'",
    ]


def test_marks_in_a_text_stay_text():
    assert folded("a <b>\nc & d").endswith("</summary>a &lt;b&gt;<br>c &amp; d</details>")
