"""Everything that needs a real GPU. notebooks/benchmarks.md says when it last ran, and what that leaves unproven."""

import copy
import warnings

import pytest
import torch
from parallel_worker import updates

from mtlkit.cases import find_case
from mtlkit.data import DigitScenes, Loader, augment
from mtlkit.tasks import Task
from mtlkit.training import TrainingError, evaluate, train
from mtlkit.training.checkpoints import load_checkpoint, save_checkpoint
from mtlkit.training.records import BLOCK
from mtlkit.weighting import METHODS, GradientWeighting

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings(
        "ignore:.*compile.*",
        "ignore:The CUDA Graph is empty",
        "ignore:The .grad attribute of a Tensor that is not a leaf",
    ),  # what torch.compile says of its own doings
]

OPTIONS = {
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "accumulate": {"accumulate": 2},
    "recompute": {"recompute": True},
    "compiled": {"compile": "default"},
    "graphs": {"compile": "reduce-overhead"},
    "graphs, accumulate": {"compile": "reduce-overhead", "accumulate": 2},
}


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 256, missing=0.2)


def run(scenes, method, steps=5, **options):
    setup = find_case("scenes").setup(batch_size=32, method=method, train_set=scenes)
    parts = setup.parts
    return setup, list(train(*parts, average=setup.average, steps=steps, device="cuda", **options))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_under_every_option(scenes, method, option):
    if method == "MGDAUB" and ("accumulate" in OPTIONS[option] or option == "float16"):
        with pytest.raises((TrainingError, ValueError), match="features"):
            run(scenes, method, **OPTIONS[option])
        return
    setup, records = run(scenes, method, **OPTIONS[option])
    assert all(p.is_cuda and p.isfinite().all() for p in setup.model.parameters())
    assert all(0 < loss < 100 for record in records for loss in record.losses.values())


@pytest.mark.parametrize("method", METHODS)
def test_the_update_is_that_of_the_cpu(method):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    here, there = (updates([method], device=device)[method] for device in ("cpu", "cuda"))
    largest = here["change"].abs().max()
    assert method == "GradDrop" or (here["change"] - there["change"].cpu()).abs().max() < 1e-5 * largest


@pytest.mark.parametrize("method", METHODS)
def test_the_step_never_waits_for_the_gpu(scenes, method):
    """But where a method on gradients fetches its Gramian."""
    data = copy.copy(scenes).to(torch.device("cuda"))
    setup = find_case("scenes").setup(batch_size=32, method=method, train_set=data)
    parts = setup.parts
    running = train(*parts, average=setup.average, steps=BLOCK + 10, device="cuda")
    for _ in range(3):  # buffers are pinned and kernels chosen
        next(running)
    solves = issubclass(METHODS[method], GradientWeighting) and METHODS[method].weigh is not GradientWeighting.weigh
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(20):
                next(running)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [
        f"{warning.filename}:{warning.lineno}" for warning in told if "called a synchronizing" in str(warning.message)
    ]
    assert len(waits) <= (20 if solves else 0), waits


def test_records_come_late_and_right(scenes):
    _, records = run(scenes, "Uncertainty", steps=BLOCK + 3)
    assert records[0].block._values == []
    for record in records:
        assert record.losses.keys() == set(record.tasks) and all(v == v for v in record.weights.values())


def test_scores_and_checkpoints_cross_devices(scenes, tmp_path):
    setup, records = run(scenes, "GradNorm")
    save_checkpoint(tmp_path / "c", records[-1], {}, **setup.states)
    here = evaluate(setup.average, setup.tasks, scenes, device="cuda")
    other = find_case("scenes").setup(batch_size=32, method="GradNorm", train_set=scenes)
    progress = load_checkpoint(tmp_path / "c", **other.states)
    assert evaluate(other.average, other.tasks, scenes, device="cpu") == pytest.approx(here, abs=2e-2)
    for device in ("cpu", "cuda"):
        again = (other.model, other.tasks, other.loader, other.weighting, other.optimizer)
        progress = list(train(*again, average=other.average, steps=progress.step + 2, device=device, after=progress))[
            -1
        ]
    assert next(other.model.parameters()).is_cuda


def test_reading_samples_leaves_the_stream_of_the_gpu_alone(scenes):
    """A network in training draws its drop-out from it."""
    loader = Loader(scenes, 8, transform=augment(4))
    before = torch.cuda.get_rng_state()
    next(loader)
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_a_full_gpu_says_what_to_lower(scenes):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    hungry = Task("classify", lambda logits, _: logits.sum() + torch.empty(2**42, device="cuda").sum(), None, "")
    with pytest.raises(TrainingError, match=r"memory is full.*accumulate"):
        next(train(setup.model, [hungry], setup.loader, steps=1, device="cuda"))
