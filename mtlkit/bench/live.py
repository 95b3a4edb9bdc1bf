"""The live lab in a real JupyterLab in a real Chromium: how quickly it answers, and whether it grows over time."""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlkit.cases import Case
from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, shut_down, write_notebook

CODE = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab('bench', case={case!r}, **{settings!r})\nlab"
FIRST = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
MUTE = "lab.session.__dict__.update(after_step=lambda record: None, may_run=lambda: True)"
SPEAK = "lab.session.__dict__.update(after_step=lab._link.stepped, may_run=lab._link.is_present)"
MOVE = """(input, by) => {
    const started = performance.now(), told = input.nextElementSibling, was = told.textContent;
    input.stepUp(by);
    input.dispatchEvent(new Event('input'));
    return told.textContent === was ? NaN : performance.now() - started;
}"""
# By a script in the page: to move a mouse from outside keeps a core busy that people do not need for it.
DRAG = """(input, [seconds, methods]) => new Promise((done) => {
    const low = Number(input.min), high = Number(input.max), started = performance.now();
    const choice = input.closest('.mtl-lab').querySelector('select');
    let chosen = 0;
    const move = () => {
        const passed = (performance.now() - started) / 1000;
        input.value = low + (high - low) * (0.5 + 0.45 * Math.sin(3 * passed));
        input.dispatchEvent(new Event('input'));
        if (chosen < methods.length && passed > (seconds * (chosen + 1)) / (methods.length + 1)) {
            choice.value = methods[chosen++];
            choice.dispatchEvent(new Event('change'));
        }
        if (passed < seconds) requestAnimationFrame(move); else done();
    };
    move();
})"""
HOLD = """(input, [seconds, every]) => new Promise((done) => {
    let presses = 0;
    const press = setInterval(() => {
        input.stepUp(Math.floor(presses / 25) % 2 ? 1 : -1);
        input.dispatchEvent(new Event('input'));
        presses += 1;
        if (presses * every > 1000 * seconds) { clearInterval(press); done(); }
    }, every);
})"""
ALL_ANSWERED = "(() => { const d = document.querySelector('.mtl-lab').dataset; return d.answered === d.asked; })()"
METHODS = ("PCGrad", "StaticWeights", "MGDA", "Uncertainty")  # taken up in turn during a drag
CHOOSE = "(select, name) => { select.value = name; select.dispatchEvent(new Event('change')); }"
BUSY = (sys.executable, "-c", "while True: pass")


def live(case: Case, rounds: int = 3, moves: int = 30, seconds: float = 6.0, drag: float = 20.0) -> dict[str, Any]:
    """Measure the lab from outside, as people use it.

    Returns:
        `key`, `held`, `drag`, `methods`: of single keys, a held key, a drag, and a drag during which other methods are
        chosen, each with the 95th percentile in ms from an event on the slider to the end of the first step that used
        that value or a newer one (`weight_p95_ms`), to the animation frame after the answer was drawn
        (`pixels_p95_ms`), its median, and for the last event, after the release (`release_ms`); `loaded`: the same
        four while a second process keeps a core busy. `readout_ms`: until the slider's own number has changed;
        `slowdown_percent`: of the steps per second, against the same session sending nothing, median of ten pairs;
        `refresh_hz` and `boxes_hz`; `kb_per_second` over the websocket; `first_curve_s`: from "Run all cells" in
        notebook 00 with a fresh kernel to the first frame of training. Medians over the rounds.

    Raises:
        RuntimeError: if there is no browser.
    """
    with _served(case) as (chrome, address):
        found = [_round(chrome, address, moves, seconds, drag) for _ in range(rounds)]
        starts = [_first_curve(chrome, address) for _ in range(rounds)] if FIRST.exists() else []
    return _medians(found) | ({"first_curve_s": round(statistics.median(starts), 2)} if starts else {})


def _medians(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: _medians([one[key] for one in found])
        if isinstance(value, dict)
        else round(statistics.median(one[key] for one in found), 2)
        for key, value in found[0].items()
    }


def soak(case: Case, seconds: float = 1800.0, samples: int = 12) -> dict[str, Any]:
    """Train in sight for a long time and watch the memory, in MB.

    Returns:
        `kernel_mb` (resident) and `page_mb` (JavaScript heap after a collection), measured `samples` times at equal
        distances; how much both grew in the second half; `steps`, and how many `records` are kept of them.

    Raises:
        RuntimeError: if there is no browser.
    """
    kernel, heap = [], []
    with _served(case) as (chrome, address):
        page, notebook = _open_lab(chrome, address)
        tools = page.context.new_cdp_session(page)
        tools.send("Performance.enable")
        for _ in range(samples):
            time.sleep(seconds / samples)
            kernel.append(notebook.ask("__import__('psutil').Process().memory_info().rss") / 1e6)
            tools.send("HeapProfiler.collectGarbage")
            metrics = {metric["name"]: metric["value"] for metric in tools.send("Performance.getMetrics")["metrics"]}
            heap.append(metrics["JSHeapUsedSize"] / 1e6)
            print(f"step {notebook.ask('lab.session.steps_done')}: kernel {kernel[-1]:.0f} MB, page {heap[-1]:.1f} MB")
        steps, kept = notebook.ask("lab.session.steps_done"), notebook.ask("len(lab.records)")
    middle = samples // 2
    return {
        "kernel_mb": [round(value, 1) for value in kernel],
        "page_mb": [round(value, 1) for value in heap],
        "kernel_growth_mb": round(kernel[-1] - kernel[middle], 1),
        "page_growth_mb": round(heap[-1] - heap[middle], 1),
        "steps": steps,
        "records": kept,
    }


@contextlib.contextmanager
def _served(case: Case) -> Iterator[tuple[Any, str]]:
    """Yield a browser and the address of a JupyterLab with `live.ipynb` and, where it is, a copy of notebook 00."""
    if lacking := missing():
        raise RuntimeError(lacking)
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        folder = Path(name)
        write_notebook(folder / "live.ipynb", CODE.format(case=case.source or case.name, settings=dict(case.settings)))
        if FIRST.exists():
            (folder / "first.ipynb").write_bytes(FIRST.read_bytes())
        with jupyterlab(folder) as address:
            yield chrome, address


def _open_lab(chrome: Any, address: str, received: list[int] | None = None) -> tuple[Any, Notebook]:
    page = chrome.new_page(viewport={"width": 1280, "height": 800})
    if received is not None:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda data: _add(received, data)))
    notebook = Notebook(page, address, "live.ipynb")
    notebook.run_all()
    page.locator(".mtl-lab").wait_for(timeout=60_000)
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) > 60", timeout=60_000)
    return page, notebook


def _round(chrome: Any, address: str, moves: int, seconds: float, drag: float) -> dict[str, Any]:
    received = [0]
    page, notebook = _open_lab(chrome, address, received)
    lab = page.locator(".mtl-lab")

    def counts() -> tuple[float, ...]:
        data = lab.evaluate("el => ({...el.dataset})")
        return time.perf_counter(), float(data["frames"]), float(data.get("looks", 0)), float(received[0])

    before = counts()
    time.sleep(seconds)
    after = counts()
    passed, frames, looks, got = (b - a for a, b in zip(before, after, strict=True))

    readout: list[float] = []
    result: dict[str, Any] = _by_hand(page, lab, moves, drag, readout)
    with subprocess.Popen(BUSY) as busy:
        try:
            result["loaded"] = _by_hand(page, lab, moves, drag, [])
        finally:
            busy.kill()

    def speed(shown: bool) -> float:
        notebook.ask(SPEAK if shown else MUTE)
        time.sleep(0.3)
        start, steps = time.perf_counter(), notebook.ask("lab.session.steps_done")
        time.sleep(seconds / 3)
        return (notebook.ask("lab.session.steps_done") - steps) / (time.perf_counter() - start)

    speeds, slowdowns = [], []
    for pair in range(10):
        found = {shown: speed(shown) for shown in ((True, False) if pair % 2 else (False, True))}
        speeds.append(found[True])
        slowdowns.append(100 * (1 - found[True] / found[False]))
    page.close()
    shut_down(address)
    return result | {
        "readout_ms": max(readout),
        "slowdown_percent": statistics.median(slowdowns),
        "refresh_hz": frames / passed,
        "boxes_hz": looks / passed,
        "kb_per_second": got / passed / 1000,
        "steps_per_second": statistics.median(speeds),
    }


def _by_hand(page: Any, lab: Any, moves: int, drag: float, readout: list[float]) -> dict[str, dict[str, float]]:
    """Move the first task's slider in four manners; return what each was answered with."""
    slider = lab.locator(".task input").first
    slider.focus()

    def keys() -> None:
        for move in range(moves):
            readout.append(slider.evaluate(MOVE, 3 if move % 2 else -3))
            page.wait_for_function(ALL_ANSWERED)
            time.sleep(0.05 + 0.017 * (move % 7))  # not in step with the frames

    def held() -> None:
        slider.evaluate(HOLD, [drag / 4, 1000 / 30])

    def dragged(chosen: Sequence[str] = ()) -> None:
        slider.evaluate(DRAG, [drag, list(chosen)])

    answers = {}
    for name, act in (("key", keys), ("held", held), ("drag", dragged), ("methods", lambda: dragged(METHODS))):
        lab.evaluate("el => { el.answers.length = 0; }")
        act()
        page.wait_for_function(ALL_ANSWERED, timeout=60_000)
        found = [(weight, pixels) for _, weight, pixels in lab.evaluate("el => el.answers")]
        weight, pixels = zip(*found, strict=True)
        answers[name] = {
            "weight_p95_ms": _percentile(weight, 95),
            "pixels_p95_ms": _percentile(pixels, 95),
            "pixels_median_ms": statistics.median(pixels),
            "release_ms": pixels[-1],
        }
    lab.locator("select").first.evaluate(CHOOSE, METHODS[1])
    return answers


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


def _percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
