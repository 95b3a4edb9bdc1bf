"""The live lab in a real JupyterLab in a real Chromium: how quickly it answers, and whether it grows over time."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlkit.cases import Case
from mtlkit.lab.browser import Notebook, Unwatched, jupyterlab, missing, shut_down, write_notebook

CODE = "from mtlkit.lab import LossWeightingLab\nlab = LossWeightingLab('bench', case={case!r}, **{settings!r})\nlab"
FIRST = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
# The same session with a view and sending nothing, in turn, as a thread of the kernel.
SPEEDS = """
import threading, time
speeds = {True: [], False: []}
def compare(seconds, pairs):
    session = lab.session
    for turn in range(2 * pairs):
        shown = turn % 4 in (0, 3)
        after, may = (lab._link.stepped, lab._link.is_present) if shown else (lambda record: None, lambda: True)
        session.__dict__.update(after_step=after, may_run=may)
        time.sleep(0.3)
        started, steps = time.perf_counter(), session.steps_done
        time.sleep(seconds)
        speeds[shown].append((session.steps_done - steps) / (time.perf_counter() - started))
    session.__dict__.update(after_step=lab._link.stepped, may_run=lab._link.is_present)
"""
# All by a script in the page: to move a mouse from outside keeps a core busy that people do not need for it.
HANDS = """
const wait = (ms) => new Promise((go) => setTimeout(go, ms)), frame = () => new Promise(requestAnimationFrame);
const move = (input, value) => { input.value = value; input.dispatchEvent(new Event('input')); };
async function answered(lab) { while (lab.dataset.answered !== lab.dataset.asked) await frame(); }
const manners = {
    async key(lab, input, { moves, readout }) {
        for (let k = 0; k < moves; k++) {
            const started = performance.now(), told = input.nextElementSibling, was = told.textContent;
            input.stepUp(k % 2 ? 3 : -3);
            input.dispatchEvent(new Event('input'));
            if (told.textContent === was) throw new Error('the number beside the slider did not change');
            readout.push(performance.now() - started);
            await answered(lab);
            await wait(50 + 17 * (k % 7)); // not in step with the frames
        }
    },
    async held(lab, input, { seconds }) { // 30 presses a second, 25 to each side
        const presses = Math.round(30 * seconds / 4);
        for (let k = 0; k < presses; k++) {
            input.stepUp(Math.floor(k / 25) % 2 ? 1 : -1);
            input.dispatchEvent(new Event('input'));
            await wait(1000 / 30);
        }
    },
    async drag(lab, input, { seconds, methods }) {
        const low = Number(input.min), high = Number(input.max), choice = lab.querySelector('select');
        const started = performance.now();
        for (let passed = 0, chosen = 0; passed < seconds; passed = (performance.now() - started) / 1000) {
            move(input, low + (high - low) * (0.5 + 0.45 * Math.sin(3 * passed)));
            if (chosen < methods.length && passed > (seconds * (chosen + 1)) / (methods.length + 1)) {
                choice.value = methods[chosen++];
                choice.dispatchEvent(new Event('change'));
            }
            await frame();
        }
    },
};
window.byHand = (async () => {
    const lab = document.querySelector('.mtl-lab'), input = lab.querySelector('.task input'), found = { readout: [] };
    input.focus();
    for (const name of ['key', 'held', 'drag', 'methods']) {
        const manner = manners[name] || manners.drag, methods = name === 'methods' ? METHODS : [];
        lab.answers.length = 0;
        await manner(lab, input, { moves: MOVES, seconds: SECONDS, methods, readout: found.readout });
        await answered(lab);
        found[name] = lab.answers.map(([, weight, pixels]) => [weight, pixels]);
    }
    const choice = lab.querySelector('select');
    choice.value = 'StaticWeights';
    choice.dispatchEvent(new Event('change'));
    return found;
})();
"""
METHODS = ("PCGrad", "StaticWeights", "MGDA", "Uncertainty")  # taken up in turn during a drag
BUSY = (sys.executable, "-c", "while True: pass")


def live(case: Case, rounds: int = 3, moves: int = 30, seconds: float = 6.0, drag: float = 20.0) -> dict[str, Any]:
    """Measure the lab from outside, as people use it.

    Returns:
        `key`, `held`, `drag`, `methods`: of single keys, a held key, a drag, and a drag during which other methods are
        chosen, each with the 95th percentile in ms from an event on the slider to the end of the first step that used
        that value or a newer one (`weight_p95_ms`), to the animation frame after the answer was drawn
        (`pixels_p95_ms`), its median, and for the last event, after the release (`release_ms`); `loaded`: the same
        four while a second process keeps a core busy. Nobody watches the page meanwhile. `step_ms`: a step's mean
        length during all that; `readout_ms`: until the slider's own number has changed;
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
        notebook = _open_lab(chrome, address)
        tools = notebook.page.context.new_cdp_session(notebook.page)
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
def _served(case: Case) -> Iterator[tuple[Unwatched, str]]:
    """Yield a browser and the address of a JupyterLab with `live.ipynb` and, where it is, a copy of notebook 00."""
    if lacking := missing():
        raise RuntimeError(lacking)
    with tempfile.TemporaryDirectory() as name, Unwatched() as chrome:
        folder = Path(name)
        write_notebook(folder / "live.ipynb", CODE.format(case=case.source or case.name, settings=dict(case.settings)))
        if FIRST.exists():
            (folder / "first.ipynb").write_bytes(FIRST.read_bytes())
        with jupyterlab(folder) as address:
            yield chrome, address


def _open_lab(chrome: Unwatched, address: str, received: list[int] | None = None) -> Notebook:
    page = chrome.new_page()
    if received is not None:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda data: _add(received, data)))
    notebook = Notebook(page, address, "live.ipynb")
    notebook.run_all()
    page.locator(".mtl-lab").wait_for(timeout=60_000)
    page.wait_for_function("Number(document.querySelector('.mtl-lab').dataset.step) > 60", timeout=60_000)
    return notebook


def _round(chrome: Unwatched, address: str, moves: int, seconds: float, drag: float) -> dict[str, Any]:
    received = [0]
    notebook = _open_lab(chrome, address, received)

    def counts() -> tuple[float, ...]:
        data = notebook.page.locator(".mtl-lab").evaluate("el => ({...el.dataset})")
        return time.perf_counter(), float(data["frames"]), float(data.get("looks", 0)), float(received[0])

    before = counts()
    time.sleep(seconds)
    passed, frames, looks, got = (b - a for a, b in zip(before, counts(), strict=True))

    result, readout = _by_hand(chrome, notebook, moves, drag)
    with subprocess.Popen(BUSY) as busy:
        try:
            result["loaded"], _ = _by_hand(chrome, notebook, moves, drag)
        finally:
            busy.kill()

    notebook.ask(f"exec({SPEEDS!r}, globals())")
    notebook.ask(f"threading.Thread(target=compare, args=({seconds / 3}, 10)).start()")
    notebook.page = chrome.leave(20 * (seconds / 3 + 0.4))
    while len((speeds := notebook.ask("[speeds[True], speeds[False]]"))[1]) < 10 or len(speeds[0]) < 10:
        time.sleep(1)
    shut_down(address)
    return result | {
        "readout_ms": max(readout),
        "slowdown_percent": statistics.median(100 * (1 - shown / mute) for shown, mute in zip(*speeds, strict=True)),
        "refresh_hz": frames / passed,
        "boxes_hz": looks / passed,
        "kb_per_second": got / passed / 1000,
        "steps_per_second": statistics.median(speeds[0]),
    }


def _by_hand(chrome: Unwatched, notebook: Notebook, moves: int, drag: float) -> tuple[dict[str, Any], list[float]]:
    """Move the first task's slider in four manners; return what each was answered with, and how soon its number was."""
    script = HANDS.replace("METHODS", json.dumps(METHODS)).replace("MOVES", str(moves)).replace("SECONDS", str(drag))
    steps, started = notebook.ask("lab.session.steps_done"), time.perf_counter()
    notebook.page.evaluate(f"() => {{ {script} }}")
    notebook.page = chrome.leave(0.2 * moves + 2.25 * drag + 1)
    found = notebook.page.evaluate("() => window.byHand")
    passed = time.perf_counter() - started
    readout, answers = found.pop("readout"), {}
    for name, pairs in found.items():
        weight, pixels = zip(*pairs, strict=True)
        answers[name] = {
            "weight_p95_ms": _percentile(weight, 95),
            "pixels_p95_ms": _percentile(pixels, 95),
            "pixels_median_ms": statistics.median(pixels),
            "release_ms": pixels[-1],
        }
    return answers | {"step_ms": 1000 * passed / (notebook.ask("lab.session.steps_done") - steps)}, readout


def _first_curve(chrome: Unwatched, address: str) -> float:
    notebook = Notebook(chrome.new_page(), address, "first.ipynb")
    started = time.perf_counter()
    notebook.run_all()
    notebook.page.wait_for_function("Number(document.querySelector('.mtl-lab')?.dataset.frames) > 2", timeout=120_000)
    passed = time.perf_counter() - started
    shut_down(address)
    return passed


def _add(total: list[int], data: Any) -> None:
    total[0] += len(data)


def _percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
