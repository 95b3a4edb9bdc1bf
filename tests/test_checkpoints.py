import copy
import dataclasses
import errno
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from models import small_model
from safetensors.torch import load_file, save_file

from mtlkit.cases import find_case
from mtlkit.data import DigitScenes
from mtlkit.training import checkpoints, train
from mtlkit.training.checkpoints import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from mtlkit.training.records import Progress
from mtlkit.weighting import METHODS


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 40)


def steps(setup, total, after=None):
    return list(train(*setup.parts, average=setup.average, steps=total, device="cpu", after=after))


@pytest.fixture
def saved(tmp_path, scenes):
    setup = find_case("scenes").setup(batch_size=8, weights={"classify": 0.5}, train_set=scenes)
    file = tmp_path / "run" / "checkpoint.safetensors"
    save_checkpoint(file, Progress(3, 1.5), {"size": 64}, **setup.states)
    return file


@pytest.mark.parametrize("method", METHODS)
def test_resume_continues_bit_for_bit(tmp_path, scenes, method):
    """Stopped after every one of 7 steps; 40 scenes in batches of 8 are 5 steps an epoch.

    A drop-out layer in the model makes the random stream matter.
    """
    total = 7

    def fresh(seed=0):
        setup = find_case("scenes").setup(batch_size=8, method=method, train_set=scenes)
        if method == "DWA":
            setup.weighting.window = 2  # within the 7 steps it then takes its means
        setup.model.encoder.layers.append(torch.nn.Dropout(0.1))
        torch.manual_seed(seed)
        return setup

    whole = fresh()
    for record in train(*whole.parts, average=whole.average, steps=total, device="cpu"):
        save_checkpoint(tmp_path / str(record.step), record, {}, **whole.states)
    for stop in range(1, total):
        resumed = fresh(seed=stop)
        progress = load_checkpoint(tmp_path / str(stop), **resumed.states)
        records = steps(resumed, total, after=progress)
        assert [record.step for record in records] == list(range(stop + 1, total + 1))
        assert records[-1].losses == record.losses and records[-1].weights == record.weights
        assert records[-1].rate == record.rate
        for one, two in ((whole.model, resumed.model), (whole.average, resumed.average)):
            for name, tensor in one.state_dict().items():
                assert torch.equal(tensor, two.state_dict()[name]), (stop, name)


def test_another_seed_and_other_weights_do_not_matter_to_a_resumed_run(tmp_path, scenes):
    first = find_case("scenes").setup(batch_size=8, weights={"classify": 0.5}, train_set=scenes)
    save_checkpoint(tmp_path / "c", steps(first, 2)[-1], {}, **first.states)
    second = find_case("scenes").setup(batch_size=8, seed=9, train_set=scenes)
    load_checkpoint(tmp_path / "c", **second.states)
    assert second.weighting.weights == {"classify": 0.5, "detect": 1.0}
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_progress_config_and_random_stream_come_back(saved, scenes):
    expected = torch.rand(3)
    torch.manual_seed(99)
    about = load_checkpoint(saved, **find_case("scenes").setup(batch_size=8, train_set=scenes).states)
    assert (about.step, about.seconds, about.config) == (3, 1.5, {"size": 64})
    assert read_checkpoint(saved) == about
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_are_readable_by_anybody(saved, scenes):
    tensors = load_file(saved)
    state = find_case("scenes").setup(batch_size=8, train_set=scenes).model.state_dict()
    assert all(torch.equal(tensors[f"model.{name}"], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("length", [0, 5, 100, 5000, -1])
def test_a_corrupt_checkpoint_is_named(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"checkpoint.safetensors is not a whole"):
        load_checkpoint(saved)


def test_a_foreign_file_is_named_and_never_unpickled(tmp_path, scenes):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    foreign = tmp_path / "model.pt"
    foreign.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=r"model.pt is not"):
        load_checkpoint(foreign)
    torch.save({"weight": torch.ones(2)}, foreign)
    with pytest.raises(CheckpointError, match=r"model.pt is not"):
        load_checkpoint(foreign)
    assert not (tmp_path / "exploded").exists()
    save_file({"weight": torch.ones(2)}, foreign)
    with pytest.raises(CheckpointError, match="not written by this mtlkit"):
        load_checkpoint(foreign)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent")


def test_a_checkpoint_of_another_model_is_refused(saved, scenes):
    other = small_model(encoder="resnet18")
    with pytest.raises(CheckpointError, match="does not fit this model"):
        load_checkpoint(saved, model=other)
    with pytest.raises(CheckpointError, match=r"has no 'teacher'; it has model, average"):
        load_checkpoint(saved, teacher=other)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_when_the_disk_is_full_the_last_checkpoint_stays_whole(saved, scenes, monkeypatch, code):
    before = saved.read_bytes()

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"the previous checkpoint is intact"):
        save_checkpoint(saved, Progress(4, 2.0), {}, **find_case("scenes").setup(batch_size=8, train_set=scenes).states)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_no_space_left_for_real(tmp_path, scenes):
    """A process that may write 100 kB at most runs into the limit in the middle of the file."""
    import subprocess
    import sys

    code = f"""
import resource, signal
from mtlkit.cases import find_case
from mtlkit.data import DigitScenes
from mtlkit.training import CheckpointError, Progress, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    model = find_case('scenes').setup(train_set=DigitScenes('val', 4)).model
    save_checkpoint({str(tmp_path / "c")!r}, Progress(1, 1.0), {{}}, model=model)
except CheckpointError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot write" in said and not list(tmp_path.iterdir())


def test_the_state_of_anything_survives_the_round_trip(tmp_path):
    state = {
        "a": [1, 2.5, None, True, "x"],
        7: {"deep": torch.arange(3)},
        "empty": {},
        "bf16": torch.ones(2).bfloat16(),
    }

    class Thing:
        def state_dict(self):
            return state

        def load_state_dict(self, loaded):
            self.loaded = loaded

    thing = Thing()
    save_checkpoint(tmp_path / "c", Progress(), {}, thing=thing)
    load_checkpoint(tmp_path / "c", thing=thing)
    assert torch.equal(thing.loaded[7]["deep"], torch.arange(3)) and thing.loaded["bf16"].dtype == torch.bfloat16
    assert json.dumps(thing.loaded["a"]) == json.dumps(state["a"]) and thing.loaded["empty"] == {}


def test_a_refused_load_leaves_everything_as_it_was(saved, scenes):
    """The model fits, the optimiser does not: nor may the model, the average or the random stream have changed."""
    setup = find_case("scenes").setup(batch_size=8, seed=5, weights={"classify": 0.9}, train_set=scenes)
    steps(setup, 2)
    states = setup.states | {"optimizer": torch.optim.SGD(list(setup.model.parameters())[:3], lr=0.1)}
    torch.manual_seed(3)
    before = copy.deepcopy({name: part.state_dict() for name, part in states.items()}), torch.get_rng_state()
    wrong_average = {"model": setup.model, "average": small_model(encoder="resnet18")}
    for refused in (
        states,
        wrong_average,
        {"weighting": METHODS["Uncertainty"](), "model": small_model(encoder="resnet18")},
    ):
        with pytest.raises(CheckpointError, match="does not fit this"):
            load_checkpoint(saved, **refused)
        assert torch.equal(torch.get_rng_state(), before[1])
        for name, part in states.items():
            now, was = ({}, {})
            assert repr(checkpoints._take_apart(part.state_dict(), name, now)) == repr(
                checkpoints._take_apart(before[0][name], name, was)
            )
            assert all(torch.equal(now[key], was[key]) for key in was), name


@pytest.mark.parametrize(
    "change",
    [
        {"step": None},
        {"step": "three"},
        {"seconds": []},
        {"loss_scale": 3},
        {"loss_scale": ["x", 1]},
        {"loss_scale": [1.0]},
        {"config": None},
        {"parts": None},
        {"parts": {"model": {"tensor": "absent"}}},
        {"parts": {"model": {"dict": 7}}},
        {"parts": {"model": "text"}},
        {"parts": {"model": {"list": [{"tensor": 3}]}}},
        [],
        "text",
    ],
)
def test_a_malformed_checkpoint_is_refused_in_words(saved, scenes, change):
    about = json.loads(checkpoints.safe_open(saved, "pt").metadata()["mtlkit"])
    if isinstance(change, dict):
        change = {name: value for name, value in (about | change).items() if value is not None}
    save_file(load_file(saved), saved, {"mtlkit": json.dumps(change)})
    with pytest.raises(CheckpointError, match=r"safetensors (is damaged|was not written|does not fit|has no)"):
        load_checkpoint(saved, **find_case("scenes").setup(batch_size=8, train_set=scenes).states)


def test_a_random_stream_of_another_length_is_refused_and_all_is_as_it_was(saved, scenes):
    about = checkpoints.safe_open(saved, "pt").metadata()
    save_file(load_file(saved) | {"rng": torch.zeros(7, dtype=torch.uint8)}, saved, about)
    states = find_case("scenes").setup(batch_size=8, train_set=scenes).states
    before = copy.deepcopy(states["model"].state_dict())
    with pytest.raises(CheckpointError, match="does not fit this random stream"):
        load_checkpoint(saved, **states)
    assert all(torch.equal(value, before[name]) for name, value in states["model"].state_dict().items())


def test_who_may_read_a_checkpoint_is_what_the_system_says(tmp_path):
    before = os.umask(0o022)
    try:
        save_checkpoint(tmp_path / "c", Progress(), {})
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_written_down_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a plain value"):
        save_checkpoint(tmp_path / "c", Progress(), {"path": tmp_path})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_crash_leaves_a_whole_checkpoint(saved, where):
    """The process is gone in the middle of a save: before the new file is on disk, before it is moved, or after."""
    code = f"""
import os
from pathlib import Path
import torch
from mtlkit.training import Progress, save_checkpoint
moved, synced = Path.replace, os.fsync
def replace(self, target):
    if {where!r} == "between": os._exit(9)
    moved(self, target); os._exit(9)
def fsync(file):
    if {where!r} == "before": os._exit(9)
    synced(file)
Path.replace, os.fsync = replace, fsync
save_checkpoint({str(saved)!r}, Progress(4, 2.0), {{}}, model=torch.nn.Linear(300, 300))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert read_checkpoint(saved).step == (4 if where == "after" else 3)
    save_checkpoint(saved, Progress(5, 2.0), {})
    assert read_checkpoint(saved).step == 5 and [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_the_loss_scale_of_float16_goes_on(tmp_path):
    scenes = DigitScenes("train", 8, 32)  # a CPU is slow in float16

    def fresh():
        return find_case("scenes").setup(batch_size=4, train_set=scenes)

    def run(setup, total, after=None):
        return list(train(*setup.parts, steps=total, device="cpu", precision="float16", after=after))

    whole = run(fresh(), 4)
    first = fresh()
    save_checkpoint(tmp_path / "c", dataclasses.replace(run(first, 2)[-1], loss_scale=(2.0**40, 1)), {}, **first.states)
    second = fresh()
    after = load_checkpoint(tmp_path / "c", **second.states)
    assert whole[1].loss_scale == (2.0**16, 2) and after.loss_scale == (2.0**40, 1)
    assert run(second, 4, after)[0].loss_scale == (2.0**39, 0)  # it overflowed, so it fell
