"""The live lab in a real JupyterLab in a real Chromium: what only a browser shows."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, shut_down, write_notebook

try:
    from playwright.sync_api import TimeoutError as TimedOut
except ImportError:
    TimedOut = TimeoutError

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
CODE = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab('here', scenes=128, batch_size=4)\nlab"
LAPTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    notebooks = {"lab": [CODE], "busy": [CODE, "import time; time.sleep(25)"], "two": [CODE, TWO], "long": LONG}
    notebooks |= {"panel": [PANEL, "print(panel.records[-1].step)"], "widgets": WIDGETS}
    for name, cells in notebooks.items():
        write_notebook(folder / f"{name}.ipynb", *cells)
    with jupyterlab(folder) as served:
        yield served


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PANEL = README.partition("## Steer your own loop")[2].partition("```python\n")[2].partition("```")[0]
WIDGETS = [
    CODE.replace("import LossWeightingLab", "import *"),
    *(
        "GradientExplorer()",
        "LandscapeExplorer()",
        "SharingExplorer()",
        "ForkExplorer()",
        "MixingExplorer()",
        "Quiz('01')",
    ),
    "from mtlkit.cases import find_case\n"
    "setup = find_case('scenes').with_knobs(scenes=16, val_scenes=8, test_scenes=8).setup()\n"
    "DetectionExplorer(setup.model, setup.train_set, range(2))",
    "import torch\npanel = LossPanel(['depth', 'segment'])\nw = torch.zeros(3, requires_grad=True)\n"
    "for _ in range(50):\n    panel.total([w.square().sum(), (w - 1).square().sum()]).backward()",
]
LONG = [CODE.replace("batch_size=4", "in_sight=True"), *["print('a line\\n' * 30)"] * 4]
TWO = CODE.replace("'here'", "'there'").replace("lab =", "other =").replace("\nlab", "\nother")


@pytest.fixture(scope="module")
def chrome():
    with browser() as opened:
        yield opened


@pytest.fixture
def page(chrome, address):
    made = chrome.new_page(viewport=LAPTOP)
    yield made
    made.close()
    shut_down(address, but="lab.ipynb")


@pytest.fixture
def open_lab(page, address):
    """What runs the notebook with the lab alone; its kernel is kept for the next test, its lab is closed."""
    opened = []

    def opens():
        found = run(page, address)
        opened.append(found[0])
        return found

    yield opens
    for notebook in opened:
        with contextlib.suppress(RuntimeError):  # the kernel was restarted
            notebook.ask("lab.close()")


def run(page, address, file="lab.ipynb"):
    notebook = Notebook(page, address, file)
    notebook.run_all()
    lab = page.locator(".mtl-lab").first
    lab.wait_for(timeout=90_000)
    trains(page)
    return notebook, lab


def trains(page, more=3):
    """Wait until the lab has shown `more` steps more."""
    page.wait_for_function("document.querySelector('.mtl-lab')?.dataset.step", timeout=90_000)
    at = int(page.locator(".mtl-lab").first.get_attribute("data-step"))
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab')?.dataset.step) >= {at + more}", timeout=60_000)


def answered(page):
    page.wait_for_function(
        "(() => { const d = document.querySelector('.mtl-lab').dataset; return d.asked && d.answered === d.asked; })()"
    )


OUTSIDE = """el => [...el.querySelectorAll('*')].filter(c => c.offsetParent)
    .filter(c => c.getBoundingClientRect().right > el.getBoundingClientRect().right + 1)
    .map(c => c.outerHTML.slice(0, 80))"""


def nudge(page, lab, task, key):
    """Press a key on a task's slider and wait until a step has used the weight."""
    lab.locator(f".task[data-task='{task}'] input").first.focus()
    page.keyboard.press(key)
    answered(page)


def pixels(lab, canvas):
    return lab.locator(f".{canvas} canvas").first.evaluate("el => el.toDataURL()")


def test_drag_and_keys_reach_the_training(page, open_lab):
    notebook, lab = open_lab()
    slider = lab.locator(".task[data-task='detect'] input").first
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.67, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2, steps=10)
    page.mouse.up()
    answered(page)
    dragged = notebook.ask("lab.records[-1].weights['detect']")
    assert 0.01 <= dragged < 0.5
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    answered(page)
    assert notebook.ask("lab.records[-1].weights['detect']") == pytest.approx(dragged * 10**0.2, rel=1e-3)
    nudge(page, lab, "detect", "Home")
    assert notebook.ask("lab.records[-1].weights['detect']") == 0
    assert slider.get_attribute("aria-valuetext") == "0"


def test_buttons_work_by_keyboard(page, open_lab):
    notebook, lab = open_lab()
    go = lab.locator("button.go")
    go.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.mtl-lab').dataset.running === 'false'")
    at = notebook.ask("lab.session.steps_done")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) === {at + 1}")
    lab.locator("select").first.select_option("PCGrad")
    answered(page)
    assert notebook.ask("lab.session.method") == "PCGrad"
    lab.get_by_role("button", name="Reset").click()
    page.wait_for_function("document.querySelector('.mtl-lab').dataset.step === '0'")
    assert notebook.ask("len(lab.runs)") == 2


def test_replay_lays_the_run_over_itself(page, open_lab):
    notebook, lab = open_lab()
    nudge(page, lab, "classify", "PageDown")
    steps = notebook.ask("lab.session.steps_done")
    lab.get_by_role("button", name="Replay").click()
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) < 10")
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) >= {steps}", timeout=60_000)
    assert notebook.ask(f"all(a.losses == b.losses for a, b in zip(lab.records[:{steps}], lab.runs[0].records))")


def test_after_run_all_the_lab_is_in_sight_until_the_reader_moves(page, address):
    _, lab = run(page, address, "long.ipynb")
    inside = """el => {
        const {top, bottom} = el.getBoundingClientRect();
        const panel = el.closest('.jp-WindowedPanel-outer').getBoundingClientRect();
        return top >= panel.top - 1 && bottom <= panel.bottom + 1;
    }"""
    page.locator(".jp-OutputArea-output").nth(4).wait_for(state="attached")
    page.wait_for_timeout(1000)
    assert lab.evaluate(inside)
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 900)
    trains(page, more=20)
    assert not lab.evaluate(inside)


def test_it_fits_a_laptop_and_a_narrow_window_in_both_themes(page, open_lab):
    notebook, lab = open_lab()
    box = lab.bounding_box()
    assert box["height"] <= 600 and box["x"] + box["width"] <= LAPTOP["width"]
    light = pixels(lab, "loss")
    notebook.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("document.querySelector('.mtl-lab').classList.contains('dark')")
    assert pixels(lab, "loss") != light
    for summary in lab.locator("summary").all():
        summary.click()
    for width in (700, 390, 320):  # the last is also a laptop at a zoom of 400 %
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        assert lab.evaluate(OUTSIDE) == [], width
        assert lab.evaluate(
            "el => [...el.querySelectorAll('canvas')]"
            ".every(c => Math.abs(c.width - devicePixelRatio * c.parentElement.getBoundingClientRect().width) <= 1)"
        ), width


def test_a_reload_shows_the_present_state(page, open_lab):
    notebook, lab = open_lab()
    nudge(page, lab, "classify", "PageUp")
    weight = notebook.ask("lab.weights['classify']")
    notebook.command("docmanager:save")
    page.wait_for_timeout(1500)
    step = notebook.ask("lab.session.steps_done")
    page.reload(wait_until="domcontentloaded")
    notebook.settle()
    trains(page)
    assert int(lab.get_attribute("data-step")) > step
    assert float(lab.locator(".task[data-task='classify'] output").first.text_content()) == pytest.approx(
        weight, rel=0.05
    )
    assert notebook.ask("len([t for t in __import__('threading').enumerate() if t.name == 'mtlkit-lab'])") == 1


def test_it_goes_on_while_another_cell_computes(page, address):
    _, lab = run(page, address, "busy.ipynb")
    trains(page)
    nudge(page, lab, "detect", "PageDown")
    assert "*" in page.locator(".jp-InputPrompt").nth(1).text_content()  # the other cell is still at it


def test_two_labs_in_one_notebook(page, address):
    notebook, _ = run(page, address, "two.ipynb")
    page.wait_for_function("Number(document.querySelectorAll('.mtl-lab')[1]?.dataset.step) > 40", timeout=60_000)
    trains(page)
    assert notebook.ask("lab.session is not other.session")


def test_interrupt_leaves_it_training_and_a_restart_is_said(page, open_lab):
    notebook, lab = open_lab()
    notebook.command("notebook:interrupt-kernel")
    trains(page, more=10)
    page.evaluate("() => { void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    lab.get_by_role("alert").filter(has_text="No answer from the kernel").wait_for(timeout=30_000)


def test_a_cell_run_again_replaces_the_lab(page, open_lab):
    notebook, _ = open_lab()
    notebook.run_all()
    time.sleep(1)
    page.wait_for_function("Number(document.querySelector('.mtl-lab')?.dataset.step) > 31", timeout=60_000)
    assert notebook.ask("len([t for t in __import__('threading').enumerate() if t.name == 'mtlkit-lab'])") == 1


def test_nothing_of_it_is_saved_in_the_notebook(page, open_lab):
    notebook, _ = open_lab()
    notebook.command("docmanager:save")
    page.wait_for_timeout(1500)
    content = page.evaluate("() => window.jupyterapp.shell.currentWidget.model.toJSON()")
    assert not content["metadata"].get("widgets")
    assert len(json.dumps(content)) < 200_000  # the picture


def test_a_held_key_is_one_message_at_a_time_and_the_newest_wins(page, open_lab):
    notebook, lab = open_lab()
    notebook.ask("setattr(lab._link, 'heard', 0)")
    count = "setattr(lab._link, 'heard', lab._link.heard + (content.get('t') == 'set'))"
    notebook.ask(f"lab.widget.on_msg(lambda _, content, buffers: {count})")
    lab.locator(".task[data-task='detect'] input").first.focus()
    for _ in range(60):
        page.keyboard.down("ArrowLeft")
        page.wait_for_timeout(8)
    page.keyboard.up("ArrowLeft")
    answered(page)
    assert notebook.ask("lab.records[-1].weights['detect']") == 0
    assert 1 <= notebook.ask("lab._link.heard") <= 45  # 40 notches, and some were overtaken
    answers = lab.evaluate("el => el.answers")
    assert [k for k, *_ in answers] == sorted(k for k, *_ in answers) and len(answers) == int(
        lab.get_attribute("data-asked")
    )


def test_the_readme_loop_is_steered_while_its_cell_runs(page, address):
    notebook = Notebook(page, address, "panel.ipynb")
    notebook.run_all()
    panel = page.locator(".mtl-lab").first
    panel.wait_for(timeout=90_000)
    trains(page, more=20)
    panel.locator(".task[data-task='depth'] input").first.focus()
    page.keyboard.press("PageDown")
    answered(page)
    assert "*" in page.locator(".jp-InputPrompt").first.text_content()  # the cell runs on
    panel.get_by_role("button", name="Pause").click()
    page.wait_for_function("document.querySelector('.mtl-lab').dataset.running === 'false'")
    page.wait_for_timeout(500)
    at = int(panel.get_attribute("data-step"))
    panel.get_by_role("button", name="Step").click()
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) === {at + 1}")
    panel.get_by_role("button", name="Continue").click()
    page.locator(".jp-OutputArea-output", has_text="1000").last.wait_for(timeout=300_000)
    weights = notebook.ask("[record.weights['depth'] for record in panel.records]")
    changed = next(k for k, weight in enumerate(weights) if weight != 1.0)
    assert weights[:changed] == [1.0] * changed and weights[changed:] == [weights[-1]] * (1000 - changed)
    assert notebook.ask("list(panel.runs[-1].schedule)") == [changed]
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) === 1000")
    notebook.command("docmanager:save")
    page.wait_for_timeout(1500)
    outputs = page.evaluate("() => window.jupyterapp.shell.currentWidget.model.toJSON().cells[0].outputs")
    (kept,) = [output["data"] for output in outputs if "image/png" in output.get("data", {})]
    assert "over 1000 steps" in "".join(kept["text/plain"])


def test_a_fork_a_guess_and_the_run_as_code(page, open_lab):
    notebook, lab = open_lab()
    lab.locator(".why summary").click()
    page.wait_for_function("document.querySelector('.mtl-lab').dataset.step > 130", timeout=60_000)
    lab.get_by_role("button", name="Fork").click()
    lab.get_by_role("button", name="End the fork").wait_for()
    nudge(page, lab, "classify", "Home")
    trains(page, more=10)
    weights = notebook.ask(
        "[lab.records[-1].weights['classify'], lab.session.other.run.records[-1].weights['classify']]"
    )
    assert weights == [0, 1]
    lab.locator(".plane canvas").click(position={"x": 60, "y": 60})
    page.wait_for_timeout(500)
    ((name, x), (other, y)) = notebook.ask("list(lab.guesses[0].guessed.items())")
    assert [name, other] == notebook.ask("lab.session.score_names") and 0 < x < y < 1
    lab.get_by_role("button", name="End the fork").click()
    lab.get_by_role("button", name="Copy this run as code").click()
    code = lab.get_by_role("textbox", name="this run as code")
    code.wait_for()
    assert "LossWeightingLab(" in code.input_value() and "'classify': 0.0" in code.input_value()


def test_the_next_day_the_picture_is_there(page, chrome, address):
    notebook, _ = run(page, address, "widgets.ipynb")
    notebook.ask("1")  # comes after all cells
    page.wait_for_timeout(3000)
    picture = """el => { const images = [...el.querySelectorAll('.jp-RenderedImage img')];
        return [images.length, images.filter(image => image.offsetParent).length]; }"""
    outputs = page.locator(".jp-Notebook")
    there, visible = outputs.evaluate(picture)
    assert there >= 1 and visible == 0  # the live widget hides it
    notebook.command("docmanager:save")
    page.wait_for_timeout(2500)
    shut_down(address)
    later = chrome.new_page(viewport={"width": 1280, "height": 6000})
    Notebook(later, address, "widgets.ipynb")
    later.wait_for_timeout(4000)
    there, visible = later.locator(".jp-Notebook").evaluate(picture)
    assert there == visible == len(WIDGETS) - 1  # the quiz is text
    gone = later.get_by_text("Error displaying widget")
    assert not any(one.is_visible() for one in gone.all())
    later.close()


def test_an_export_to_html_shows_the_pictures_without_a_network(chrome, tmp_path):
    write_notebook(
        tmp_path / "a.ipynb", CODE, "SharingExplorer()".join(["from mtlkit.lab import *\n", ""]), "Quiz('01')"
    )
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "a.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    page = chrome.new_page()
    page.route("http*://**", lambda route: route.abort())
    page.goto((tmp_path / "a.html").as_uri(), wait_until="domcontentloaded")
    heights = page.evaluate(
        "() => [...document.querySelectorAll('.jp-OutputArea-output img')].map(i => i.getBoundingClientRect().height)"
    )
    assert len(heights) == 2 and min(heights) > 100
    assert "Which parameters" in page.locator("body").inner_text()
    page.close()


def test_every_widget_can_be_used_by_everybody(page, address):
    from axe_playwright_python.sync_playwright import Axe

    page.set_viewport_size({"width": 1280, "height": 6000})
    run(page, address, "widgets.ipynb")
    page.locator(".mtl-live").nth(7).wait_for(timeout=60_000)
    page.wait_for_timeout(2000)
    for summary in page.locator(".mtl-live summary").all():
        if summary.is_visible():
            summary.click()
    page.wait_for_timeout(1000)
    found = Axe().run(page, context=".mtl-live").response
    assert len(found["passes"]) > 15
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found["violations"]] == []


LOSE = """
    const lost = new Promise(go =>
        kernel.connectionStatusChanged.connect((_, status) => { if (status !== 'connected') go(); }));
    kernel._ws.close();
    await lost;"""


def test_it_comes_back_after_the_connection_was_lost(page, open_lab):
    _, lab = open_lab()
    kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    for _ in range(2):
        page.evaluate(f"async () => {{ const kernel = {kernel}; {LOSE} }}")
        page.wait_for_function(f"{kernel}.connectionStatus === 'connected'", timeout=60_000)
        trains(page, more=30)
    nudge(page, lab, "detect", "PageDown")
    assert lab.locator(".trouble").text_content() == ""


def test_after_a_restart_of_the_server_the_cell_can_be_run_again(chrome, tmp_path):
    write_notebook(tmp_path / "lab.ipynb", CODE)
    page = chrome.new_page(viewport=LAPTOP)
    with jupyterlab(tmp_path) as address:
        _, lab = run(page, address)
    lab.get_by_role("alert").filter(has_text="No answer from the kernel").wait_for(timeout=30_000)
    lab.evaluate("el => el.classList.add('old')")
    with jupyterlab(tmp_path, int(address.rpartition(":")[2])):
        for _ in range(4):  # JupyterLab takes a while to notice
            page.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
            with contextlib.suppress(TimedOut):
                page.locator(".mtl-lab:not(.old)").wait_for(timeout=20_000)
                break
        trains(page, more=20)
        assert lab.locator(".trouble").text_content() == ""
        shut_down(address)
    page.close()
