"""Several processes that train one model, for real: `torchrun` on this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import parallel_worker
import pytest
import sharded_worker
import torch

from mtlkit.cases import find_case
from mtlkit.data import DataError, DigitScenes, Loader
from mtlkit.machine.parallel import Group
from mtlkit.training.checkpoints import load_checkpoint, read_checkpoint
from mtlkit.weighting import METHODS

pytestmark = pytest.mark.processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TRAIN = ["-m", "mtlkit", "train", "--scenes", "256", "--json", "--save-every", "0.2", "--timeout", "10"]


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    subprocess.run([*TORCHRUN, parallel_worker.__file__, str(folder)], check=True, env=ENVIRONMENT, timeout=180)
    return folder


@pytest.fixture(scope="module")
def two_processes(folder_of_two):
    return [torch.load(folder_of_two / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def one_process():
    return parallel_worker.updates()


@pytest.mark.parametrize("method", METHODS)
def test_two_with_half_the_batch_each_are_one_with_all_of_it(one_process, two_processes, method):
    """Labels are missing unevenly, and batch normalisation is in the model: see `parallel_worker.batches`."""
    one = one_process[method]
    for other in (results[method] for results in two_processes):
        largest = one["change"].abs().max()
        assert largest > 1e-3
        assert (one["change"] - other["change"]).abs().max() < 1e-5 * largest
        assert torch.allclose(one["statistics"], other["statistics"], rtol=1e-6, atol=1e-6)
        assert [losses.keys() for losses in one["losses"]] == [losses.keys() for losses in other["losses"]]
        for step, losses in enumerate(one["losses"]):
            assert other["losses"][step] == pytest.approx(losses, rel=1e-6)
        assert other["weights"] == pytest.approx(one["weights"], rel=1e-5)


def test_one_backward_pass_is_averaged_while_it_goes_on_once_a_step_has_shown_what_has_a_gradient(two_processes):
    for name, found in two_processes[0].items():
        assert found["wrapped after"] == [1] * METHODS[name]().one_pass(1), name


@pytest.mark.parametrize("name", parallel_worker.NORMS)
def test_batch_normalisation_of_any_kind_is_that_of_all_processes(folder_of_two, name):
    one = parallel_worker.normalised()[name]
    for rank in range(2):
        other = torch.load(folder_of_two / f"norms {rank}.pt")[name]
        assert len(one) == len(other)
        for expected, got in zip(one, other, strict=True):
            assert torch.allclose(expected, got, rtol=1e-9, atol=1e-9)


def test_the_parts_would_differ_without_counting_labels_together(one_process, two_processes):
    """The mean of the two processes' own means is another number: the test above can fail."""
    whole, first, second = (parallel_worker.batches(Group(*where)) for where in ((0, 1), (0, 2), (1, 2)))
    counts = [int((batches[0]["label"] >= 0).sum()) for batches in (whole, first, second)]
    assert counts == [7, 1, 6]


def start(folder, steps, *options, train_options=()):
    command = [*TORCHRUN, *options, *TRAIN, "--steps", str(steps), "--out", str(folder), *train_options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )


def workers(launcher):
    """Ids of the processes that train, in the order of their rank."""
    found = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8").split()
    ranks = {}
    for pid in found:
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        ranks |= {int(line[5:]): int(pid) for line in environment if line.startswith("RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def kill_one(launcher, file, rank, by=signal.SIGKILL, after_step=5):
    """Send a process a signal once the checkpoint is a few steps old."""
    deadline = time.monotonic() + 90
    while not file.exists() or read_checkpoint(file).step < after_step:
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()
        time.sleep(0.1)
    os.kill(workers(launcher)[rank], by)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_when_one_process_is_killed_the_others_say_so_and_the_run_can_go_on(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    launcher = start(tmp_path, 100_000)
    kill_one(launcher, file, rank=1)
    _, said = launcher.communicate(timeout=30)  # well within the run's own end
    assert launcher.returncode != 0
    assert "process 0 of 2 lost the others" in said and "--resume" in said
    setup = find_case("scenes").setup()
    reached = load_checkpoint(file, **setup.states).step
    assert reached >= 5 and setup.loader.batches_given == reached

    goes_on = start(tmp_path, reached + 3, train_options=["--resume"])
    printed, said = goes_on.communicate(timeout=90)
    assert goes_on.returncode == 0, said
    assert f"going on after step {reached}" in printed
    assert json.loads(printed.splitlines()[-1])["steps"] == reached + 3


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_torchrun_starts_all_again_after_the_first_was_killed_and_they_go_on(tmp_path):
    launcher = start(tmp_path, 150, "--max-restarts", "1")
    kill_one(launcher, tmp_path / "checkpoint.safetensors", rank=0)
    printed, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, said
    assert printed.count("2 processes") == 2 and "going on after step" in printed
    assert json.loads(printed.splitlines()[-1])["steps"] == 150


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_process_that_hangs_counts_as_gone_after_the_timeout(tmp_path):
    launcher = start(tmp_path, 100_000, train_options=["--timeout", "3"])
    kill_one(launcher, tmp_path / "checkpoint.safetensors", rank=1, by=signal.SIGSTOP)
    hanging = workers(launcher)[1]
    give_up = threading.Timer(60, launcher.kill)
    give_up.start()
    said = next((line for line in launcher.stderr if "lost the others" in line), "")
    give_up.cancel()
    os.kill(hanging, signal.SIGKILL)  # torchrun would give it half a minute to end by itself
    launcher.communicate(timeout=30)
    assert launcher.returncode != 0 and "process 0 of 2" in said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_ctrl_c_ends_all_of_them_after_the_same_step_and_keeps_it(tmp_path):
    launcher = start(tmp_path, 100_000)
    file = tmp_path / "checkpoint.safetensors"
    kill_one(launcher, file, rank=1, by=signal.SIGINT)  # one process alone has seen it
    _, said = launcher.communicate(timeout=60)
    assert "lost the others" not in said
    assert f"stopped after step {read_checkpoint(file).step}; go on with" in said


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(DataError, match="batch of 9 cannot be shared out among 2 processes"):
        Loader(DigitScenes("train", 20), 9, group=Group(0, 2))


def test_the_parts_of_a_batch_are_the_batch():
    scenes = DigitScenes("train", 24)
    whole, *parts = (next(Loader(scenes, 8, 1, group=Group(rank, size))) for rank, size in ((0, 1), (0, 2), (1, 2)))
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    subprocess.run([*TORCHRUN, sharded_worker.__file__, str(folder)], check=True, env=ENVIRONMENT, timeout=180)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", ["EqualWeights", "Uncertainty", "GeometricMean", "accumulate"])
def test_two_processes_with_half_the_model_each_are_one_with_all_of_it(two_shards, case):
    one = sharded_worker.run("EqualWeights" if case == "accumulate" else case)
    for other in (found[case] for found in two_shards):
        assert torch.allclose(other["parameters"], one["parameters"], atol=1e-9)
        for step, losses in enumerate(one["losses"]):
            assert other["losses"][step] == pytest.approx(losses, rel=1e-8)
    held = [found[case]["held"] for found in two_shards]
    assert sum(held) == one["held"] and max(held) < 0.55 * one["held"]


def test_what_cannot_take_a_sharded_model_says_why(two_shards):
    assert "PCGrad compares whole gradients" in two_shards[0]["PCGrad refused"]
    assert "with a sharded model take bfloat16" in two_shards[0]["EqualWeights refused"]
