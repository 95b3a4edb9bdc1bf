"""What a panel costs somebody's own loop, in a real browser: the same steps with it and without it, turn by turn."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from mtlkit.lab.browser import Notebook, browser, jupyterlab, missing, shut_down, write_notebook

LOOP = """
import json, time, torch
from mtlkit.lab import LossPanel
torch.manual_seed(0)
torch.set_num_threads(1)
trunk = torch.nn.Sequential(*[torch.nn.Conv2d(3 if k == 0 else 24, 24, 3, padding=1) for k in range(3)])
heads = torch.nn.ModuleDict({name: torch.nn.Conv2d(24, 1, 1) for name in ("depth", "segment")})
model = torch.nn.ModuleDict({"trunk": trunk, "heads": heads})
optimizer = torch.optim.AdamW(model.parameters())
panel = LossPanel(list(heads))
x, y = torch.randn(SIZE, 3, 48, 48), torch.randn(SIZE, 1, 48, 48)

def step(steered):
    h = trunk(x)
    losses = {name: (head(h) - y).square().mean() for name, head in heads.items()}
    optimizer.zero_grad()
    (panel.total(losses) if steered else sum(losses.values())).backward()
    optimizer.step()

def seconds(steered, steps=25):
    started = time.perf_counter()
    for _ in range(steps):
        step(steered)
    return time.perf_counter() - started

seconds(True), time.sleep(3), seconds(True)
pairs = []
for n in range(PAIRS):
    taken = {steered: seconds(steered) for steered in ((True, False) if n % 2 else (False, True))}
    pairs.append((taken[False], taken[True]))
result = {"pairs": pairs, "views": panel._link.is_present()}
"""


def panel(pairs: int = 30, size: int = 6) -> dict[str, Any]:
    """Measure the panel in a cell that runs, with its view on the page.

    Returns:
        `step_ms` without it; `percent`: how much longer a step is with it, median of `pairs` of 25 steps each.

    Raises:
        RuntimeError: if there is no browser, or the view was not heard of.
    """
    if lacking := missing():
        raise RuntimeError(lacking)
    with tempfile.TemporaryDirectory() as name, browser() as chrome:
        folder = Path(name)
        write_notebook(folder / "panel.ipynb", LOOP.replace("PAIRS", str(pairs)).replace("SIZE", str(size)))
        with jupyterlab(folder) as address:
            page = chrome.new_page(viewport={"width": 1280, "height": 800})
            notebook = Notebook(page, address, "panel.ipynb")
            notebook.run_all()
            page.locator(".mtl-lab").wait_for(timeout=60_000)
            found = notebook.ask("result")  # waits for the cell
            page.close()
            shut_down(address)
    if not found["views"]:
        raise RuntimeError("the panel was not seen by the browser: nothing was measured")
    without, with_it = zip(*found["pairs"], strict=True)
    percent = statistics.median(100 * (b / a - 1) for a, b in zip(without, with_it, strict=True))
    return {"step_ms": round(1000 * statistics.median(without) / 25, 2), "percent": round(percent, 2)}
