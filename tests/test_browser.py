"""The live lab in a real JupyterLab in a real Chromium: what only a browser shows."""

import json
import time

import pytest

from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, shut_down, write_notebook

pytestmark = [pytest.mark.alone, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
CODE = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab('here', scenes=128, batch_size=4)\nlab"
LAPTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    notebooks = {"lab": [CODE], "busy": [CODE, "import time; time.sleep(25)"], "two": [CODE, TWO], "long": LONG}
    for name, cells in notebooks.items():
        write_notebook(folder / f"{name}.ipynb", *cells)
    with jupyterlab(folder) as served:
        yield served


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
    shut_down(address)


def open_lab(page, address, file="lab.ipynb"):
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
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) >= {at + more}", timeout=60_000)


def answered(page):
    page.wait_for_function(
        "(() => { const d = document.querySelector('.mtl-lab').dataset; return d.asked && d.answered === d.asked; })()"
    )


def nudge(page, lab, task, key):
    """Press a key on a task's slider and wait until a step has used the weight."""
    lab.locator(f".task[data-task='{task}'] input").first.focus()
    page.keyboard.press(key)
    answered(page)


def pixels(lab, canvas):
    return lab.locator(f".{canvas} canvas").first.evaluate("el => el.toDataURL()")


def test_drag_and_keys_reach_the_training(page, address):
    notebook, lab = open_lab(page, address)
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


def test_buttons_work_by_keyboard(page, address):
    notebook, lab = open_lab(page, address)
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


def test_replay_lays_the_run_over_itself(page, address):
    notebook, lab = open_lab(page, address)
    nudge(page, lab, "classify", "PageDown")
    steps = notebook.ask("lab.session.steps_done")
    lab.get_by_role("button", name="Replay").click()
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) < 10")
    page.wait_for_function(f"Number(document.querySelector('.mtl-lab').dataset.step) >= {steps}", timeout=60_000)
    assert notebook.ask(f"all(a.losses == b.losses for a, b in zip(lab.records[:{steps}], lab.runs[0].records))")


def test_after_run_all_the_lab_is_in_sight_until_the_reader_moves(page, address):
    _, lab = open_lab(page, address, "long.ipynb")
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


def test_it_fits_a_laptop_and_a_narrow_window_in_both_themes(page, address):
    notebook, lab = open_lab(page, address)
    box = lab.bounding_box()
    assert box["height"] <= 600 and box["x"] + box["width"] <= LAPTOP["width"]
    light = pixels(lab, "loss")
    notebook.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("document.querySelector('.mtl-lab').classList.contains('dark')")
    assert pixels(lab, "loss") != light
    for width in (700, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        inside = lab.evaluate(
            "el => [...el.querySelectorAll('button, input, select, canvas')].filter(c => c.offsetParent)"
            ".every(c => c.getBoundingClientRect().right <= el.getBoundingClientRect().right + 1)"
        )
        assert inside, width
        assert lab.evaluate(
            "el => [...el.querySelectorAll('canvas')]"
            ".every(c => Math.abs(c.width - devicePixelRatio * c.parentElement.getBoundingClientRect().width) <= 1)"
        ), width


def test_a_reload_shows_the_present_state(page, address):
    notebook, lab = open_lab(page, address)
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
    _, lab = open_lab(page, address, "busy.ipynb")
    trains(page)
    nudge(page, lab, "detect", "PageDown")
    assert "*" in page.locator(".jp-InputPrompt").nth(1).text_content()  # the other cell is still at it


def test_two_labs_in_one_notebook(page, address):
    notebook, _ = open_lab(page, address, "two.ipynb")
    page.wait_for_function("Number(document.querySelectorAll('.mtl-lab')[1]?.dataset.step) > 40", timeout=60_000)
    trains(page)
    assert notebook.ask("lab.session is not other.session")


def test_interrupt_leaves_it_training_and_a_restart_is_said(page, address):
    notebook, lab = open_lab(page, address)
    notebook.command("notebook:interrupt-kernel")
    trains(page, more=10)
    page.evaluate("() => { void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    lab.get_by_role("alert").filter(has_text="No answer from the kernel").wait_for(timeout=30_000)


def test_a_cell_run_again_replaces_the_lab(page, address):
    notebook, _ = open_lab(page, address)
    notebook.run_all()
    time.sleep(1)
    page.wait_for_function("Number(document.querySelector('.mtl-lab')?.dataset.step) > 31", timeout=60_000)
    assert notebook.ask("len([t for t in __import__('threading').enumerate() if t.name == 'mtlkit-lab'])") == 1


def test_nothing_of_it_is_saved_in_the_notebook(page, address):
    notebook, _ = open_lab(page, address)
    notebook.command("docmanager:save")
    page.wait_for_timeout(1500)
    content = page.evaluate("() => window.jupyterapp.shell.currentWidget.model.toJSON()")
    assert not content["metadata"].get("widgets")
    assert len(json.dumps(content)) < 200_000  # the picture
