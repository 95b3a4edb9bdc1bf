"""`mtlkit bench live`: how quickly the live lab answers, in a real JupyterLab in a real Chromium, while it trains."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, shut_down

CODE = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab('bench')\nlab"
MUTE = "lab.session.__dict__.update(after_step=lambda record: None, may_run=lambda: True)"
SPEAK = "lab.session.__dict__.update(after_step=lab._link.stepped, may_run=lab._link.is_present)"
MOVE = """(input, by) => {
    const started = performance.now(), told = input.nextElementSibling, was = told.textContent;
    input.stepUp(by);
    input.dispatchEvent(new Event('input'));
    return told.textContent === was ? NaN : performance.now() - started;
}"""


def live(rounds: int = 3, moves: int = 30, seconds: float = 6.0) -> dict[str, Any]:
    """Measure the lab from outside.

    Returns:
        `slider_to_weight_p95_ms`: from a key on a slider to the end of the first step that used the new weight;
        `slider_to_pixels_*_ms`: to the animation frame after the kernel's answer was drawn; `readout_ms`: until the
        slider's own number has changed; `slowdown_percent`: of the steps per second, against the same session sending
        nothing; `refresh_hz` and `boxes_hz`; `kb_per_second` over the websocket; `first_curve_s`: from "Run all cells"
        in notebook 00 with a fresh kernel to the first frame of training. Medians over the rounds.

    Raises:
        RuntimeError: if there is no browser.
    """
    if lacking := missing():
        raise RuntimeError(lacking)
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        folder = Path(name)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / "live.ipynb")
        first = Path(__file__).parents[1] / "notebooks" / "00_start_here.ipynb"
        if first.exists():
            (folder / "first.ipynb").write_bytes(first.read_bytes())
        with jupyterlab(folder) as address:
            found = [_round(chrome, address, moves, seconds) for _ in range(rounds)]
            starts = [_first_curve(chrome, address) for _ in range(rounds)] if first.exists() else []
    result = {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]}
    return result | ({"first_curve_s": round(statistics.median(starts), 2)} if starts else {})


def _round(chrome: Any, address: str, moves: int, seconds: float) -> dict[str, float]:
    page = chrome.new_page(viewport={"width": 1280, "height": 800})
    received = [0]
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: _add(received, data)))
    notebook = Notebook(page, address, "live.ipynb")
    notebook.run_all()
    lab = page.locator(".mtl-lab")
    lab.wait_for(timeout=60_000)
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) > 60", timeout=60_000)

    def counts() -> tuple[float, ...]:
        data = lab.evaluate("el => ({...el.dataset})")
        return time.perf_counter(), float(data["frames"]), float(data.get("looks", 0)), float(received[0])

    before = counts()
    time.sleep(seconds)
    after = counts()
    passed, frames, looks, got = (b - a for a, b in zip(before, after, strict=True))

    slider = lab.locator(".classify input").first
    slider.focus()
    to_weight, to_pixels, readout = [], [], []
    for move in range(moves):
        readout.append(slider.evaluate(MOVE, 3 if move % 2 else -3))
        page.wait_for_function(
            "(() => { const d = document.querySelector('.mtl-lab').dataset; return d.answered === d.asked; })()"
        )
        to_weight.append(float(lab.get_attribute("data-to-weight")))
        to_pixels.append(float(lab.get_attribute("data-to-pixels")))
        time.sleep(0.05 + 0.017 * (move % 7))  # not in step with the frames

    speeds: dict[bool, list[float]] = {True: [], False: []}
    for shown in (True, False) * 3:
        notebook.ask(SPEAK if shown else MUTE)
        time.sleep(0.3)
        start, steps = time.perf_counter(), notebook.ask("lab.session.steps_done")
        time.sleep(seconds / 2)
        speeds[shown].append((notebook.ask("lab.session.steps_done") - steps) / (time.perf_counter() - start))
    slowdown = 100 * (1 - statistics.median(speeds[True]) / statistics.median(speeds[False]))
    page.close()
    shut_down(address)
    return {
        "slider_to_weight_p95_ms": _percentile(to_weight, 95),
        "slider_to_pixels_p95_ms": _percentile(to_pixels, 95),
        "slider_to_pixels_median_ms": statistics.median(to_pixels),
        "readout_ms": max(readout),
        "slowdown_percent": slowdown,
        "refresh_hz": frames / passed,
        "boxes_hz": looks / passed,
        "kb_per_second": got / passed / 1000,
        "steps_per_second": statistics.median(speeds[True]),
    }


def _first_curve(chrome: Any, address: str) -> float:
    page = chrome.new_page(viewport={"width": 1280, "height": 800})
    notebook = Notebook(page, address, "first.ipynb")
    started = time.perf_counter()
    notebook.run_all()
    page.wait_for_function("Number(document.querySelector('.mtl-lab')?.dataset.frames) > 2", timeout=120_000)
    passed = time.perf_counter() - started
    page.close()
    shut_down(address)
    return passed


def _add(total: list[int], data: Any) -> None:
    total[0] += len(data)


def _percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
