"""The scripts of the page on other loops, each in two real processes; and the trap that it warns of."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_worker import ENGINES, PAGE

HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
MODULES = {"accelerate": "accelerate", "fabric": "lightning_fabric", "ray": "ray"}

pytestmark = pytest.mark.processes


def run(engine, folder, trap=()):
    """Run a script in two processes, and return how it went."""
    pytest.importorskip(MODULES[engine], reason="this engine is not installed: pip install -e '.[dev]'")
    command = [sys.executable, *([] if engine == "ray" else TORCHRUN), str(HERE / "engine_worker.py"), engine, folder]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.run([*command, *trap], capture_output=True, text=True, env=environment, timeout=300)
    except subprocess.TimeoutExpired:
        if engine == "ray":  # it starts a dozen processes, and gives up on those that busy cores make late
            pytest.skip("Ray did not come up within five minutes")
        raise


def left(folder):
    """Return the parameters of both processes, in a row."""
    return [torch.cat([p.flatten() for p in torch.load(folder / f"{rank}.pt")]) for rank in range(2)]


@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_on_an_engine_stay_together(engine, tmp_path):
    done = run(engine, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = left(tmp_path)
    assert torch.equal(first, second)


def test_the_inner_model_without_a_group_drifts_apart_as_the_page_says(tmp_path):
    done = run("accelerate", tmp_path, ["inner"])
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = left(tmp_path)
    apart = float((first - second).norm() / first.norm())
    (said,) = re.findall(r"after 12 steps the two processes' parameters were\s+(\d+) % apart", PAGE)
    assert round(100 * apart) == int(said)


def test_a_wrapped_model_is_refused(tmp_path):
    done = run("accelerate", tmp_path, ["wrapped"])
    assert done.returncode and "PCGrad takes gradients that DistributedDataParallel does not average" in done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_the_lines_that_change_are_few(engine):
    lines = [line for line in ENGINES[engine].splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(lines) <= 15
