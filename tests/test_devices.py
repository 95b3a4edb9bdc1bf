"""What can be proven about a GPU without one.

On the device "meta" tensors have no numbers: `.item()`, `.tolist()`, `.cpu()`, a condition on a tensor and a shape that
depends on data all raise. So a step that runs there asks nothing of a GPU that it would have to wait for, except at the
one place that `fetch` stands for. Under `FakeTensorMode` tensors say they are on "cuda", and one left behind on the CPU
raises; gradients would ask for a driver there.
"""

import copy
from pathlib import Path

import pytest
import torch
from models import small_model
from torch._subclasses.fake_tensor import FakeTensorMode

from mtlkit.cases import find_case
from mtlkit.cases.text import text_model
from mtlkit.data import DigitScenes, Loader, export
from mtlkit.data.text import TASKS, TextTasks
from mtlkit.machine import Machine
from mtlkit.model import add_adapters
from mtlkit.tasks import Task, mixed_task, text_tasks
from mtlkit.training import TrainingError, train
from mtlkit.training.forward import Forward
from mtlkit.training.optim import MuonAdamW
from mtlkit.weighting import METHODS, EqualWeights, GradientWeighting, NashMTL, gradients

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 32, missing=0.3)


def on_meta(scenes, method, tasks=None, **options):
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    setup.model.to("meta")
    ours = isinstance(method, EqualWeights)  # an optimiser sees gradients only: one method is enough
    optimizer = MuonAdamW(setup.model) if ours else torch.optim.SGD(setup.model.parameters(), 0.1)
    parts = (setup.model, tasks or setup.tasks, setup.loader, method, optimizer)
    return list(train(*parts, average=setup.average, steps=3, device="meta", **options))


OPTIONS = {
    "plain": {},
    "measured": {"cosine_every": 2},
    "accumulate": {"accumulate": 2},
    "recompute": {"recompute": True},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_step_runs_without_looking_at_a_number(scenes, method, option, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        gradients, "fetch_gramian", lambda G, fetch=gradients.fetch_gramian: fetched.append(G) or fetch(G)
    )
    if method == "MGDAUB" and option == "accumulate":
        with pytest.raises(TrainingError, match=r"at the features of the whole batch.*accumulate=1"):
            on_meta(scenes, METHODS[method](), **OPTIONS[option])
        return
    records = on_meta(scenes, METHODS[method](), **OPTIONS[option])
    assert len(records) == 3 and records[-1].tasks == ("classify", "detect")
    solves = issubclass(METHODS[method], GradientWeighting) and METHODS[method].weigh is not GradientWeighting.weigh
    assert len(fetched) == (3 if solves else 0)


def test_nash_looks_only_where_it_solves(scenes, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        gradients, "fetch_gramian", lambda G, fetch=gradients.fetch_gramian: fetched.append(G) or fetch(G)
    )
    on_meta(scenes, NashMTL(every=2))
    assert len(fetched) == 2


@pytest.mark.parametrize(
    "look",
    [
        lambda loss: loss * loss.item(),
        lambda loss: loss * float(loss.detach().cpu()),
        lambda loss: loss if loss > 0 else -loss,
        lambda loss: loss * len(loss.reshape(1).nonzero()),
    ],
)
def test_a_loss_that_looks_is_caught(scenes, look):
    """The tests above can fail."""
    classify, detect = find_case("scenes").setup(train_set=scenes).tasks
    looking = Task("classify", lambda logits, batch: look(classify.loss(logits, batch)), classify.metric, "accuracy")
    with pytest.raises((RuntimeError, NotImplementedError), match=r"meta"):
        on_meta(scenes, METHODS["EqualWeights"](), [looking, detect])


def kinds():
    """Every source of images, with the knobs of its case."""
    pets = SHARED / "oxford-iiit-pet"
    needs = pytest.mark.skipif(not pets.is_dir(), reason=f"needs {SHARED}")
    return [
        pytest.param(("scenes", {"scenes": 8}), id="scenes"),
        pytest.param(("scenes", {"scenes": 8, "encoder": "resnet18"}), id="scenes-resnet18"),
        pytest.param((f"pets:{SHARED}", {}), id="pets", marks=needs),
        pytest.param((f"voc:{SHARED / 'bccd/BCCD'}", {"repair": True}), id="voc", marks=needs),
    ]


def forward_on_fake_cuda(model, tasks, batch, precision, monkeypatch):
    """Run the forward pass and every loss as if on a GPU; return the losses."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a fake tensor cannot be pinned
    model = copy.deepcopy(model).train()
    with FakeTensorMode() as mode:
        move_to_fake_cuda(model, mode)
        forward = Forward(model, tasks, Machine(device="cpu", precision=precision))
        fake = {name: mode.from_tensor(tensor) for name, tensor in batch.items()}
        return forward.losses(fake, {task.name: 0.5 for task in tasks})


def move_to_fake_cuda(model, mode):
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(mode.from_tensor(parameter).detach().to("cuda"))
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer).to("cuda")


PRECISIONS = ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("kind", kinds())
def test_forward_and_losses_stay_on_the_gpu(kind, precision, monkeypatch):
    which, knobs = kind
    setup = find_case(which, **knobs).setup(batch_size=4)
    losses = forward_on_fake_cuda(setup.model, setup.tasks, next(setup.loader), precision, monkeypatch)
    assert all(loss.device.type == "cuda" and loss.shape == () for loss in losses.values())
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_a_coco_folder_stays_on_the_gpu(tmp_path, monkeypatch):
    for split in ("train", "val"):
        export(DigitScenes(split, 8), tmp_path, "coco", split)
    setup = find_case(f"coco:{tmp_path}", size=64).setup(batch_size=4)
    losses = forward_on_fake_cuda(setup.model, setup.tasks, next(setup.loader), "bfloat16", monkeypatch)
    assert all(loss.device.type == "cuda" for loss in losses.values())


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_two_digits_at_once_stay_on_the_gpu(precision, monkeypatch):
    setup = find_case("multimnist", pairs=4).setup()
    losses = forward_on_fake_cuda(setup.model, setup.tasks, next(setup.loader), precision, monkeypatch)
    assert losses.keys() == {"left", "right"} and all(loss.device.type == "cuda" for loss in losses.values())


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("adapters", [False, True])
def test_text_stays_on_the_gpu(precision, adapters, monkeypatch):
    model = add_adapters(text_model(), len(TASKS)) if adapters else text_model()
    tasks, batch = (*text_tasks(), mixed_task()), TextTasks("val", 16).batch(torch.arange(16))
    losses = forward_on_fake_cuda(model, tasks, batch, precision, monkeypatch)
    assert len(losses) == len(TASKS) + 1
    assert all(loss.device.type == "cuda" and loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_step_on_text_runs_without_looking_at_a_number(method, recompute):
    model, loader = text_model(16).to("meta"), Loader(TextTasks("train", 64, 5.0), 16)
    optimizer = torch.optim.AdamW(model.parameters())
    parts = (model, text_tasks(), loader, METHODS[method](), optimizer)
    assert len(list(train(*parts, steps=2, device="meta", recompute=recompute))) == 2


def test_scenes_that_live_on_the_device_give_their_images_there(scenes):
    moved = copy.copy(scenes).to(torch.device("meta"))
    batch = moved.batch(torch.arange(4))
    assert batch["image"].is_meta and not batch["label"].is_meta and not scenes.images.is_meta
    assert len(on_meta(moved, METHODS["EqualWeights"]())) == 3


@pytest.mark.parametrize("of", [MuonAdamW, lambda model: torch.optim.AdamW(model.parameters())])
def test_the_state_of_an_optimiser_follows_the_model_to_the_device(scenes, of):
    """As when a checkpoint is loaded into a model on the CPU, which then goes on on a GPU."""
    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    optimizer = of(setup.model.to("meta"))
    parts = (setup.model, setup.tasks, setup.loader, METHODS["EqualWeights"](), optimizer)
    (after,) = train(*parts, steps=1, device="meta")
    moments = [(state, name) for part in parts_of(optimizer) for state in part.state.values() for name in state]
    moments = [(state, name) for state, name in moments if state[name].ndim]
    for state, name in moments:
        state[name] = torch.zeros(state[name].shape)
    assert len(moments) > 30 and len(list(train(*parts, steps=3, device="meta", after=after))) == 2
    states = [state for part in parts_of(optimizer) for state in part.state.values()]
    assert all(tensor.is_meta for state in states for tensor in state.values() if tensor.ndim)


def parts_of(optimizer):
    return [optimizer.muon, optimizer.adamw] if isinstance(optimizer, MuonAdamW) else [optimizer]


def test_a_batch_without_any_label_does_nothing_on_the_device_either(scenes):
    class Scarce:
        """The second of three batches has no target at all."""

        def __iter__(self):
            for k in range(3):
                batch = scenes.batch(torch.arange(8))
                if k == 1:
                    batch["label"][:], batch["has_boxes"][:], batch["box_labels"][:] = -1, False, -1
                yield batch

    for device in ("meta", "cpu"):
        model = small_model().to(device)
        before = copy.deepcopy(model.state_dict())
        parts = (
            model,
            find_case("scenes").setup(train_set=scenes).tasks,
            Scarce(),
            METHODS["Uncertainty"](),
            MuonAdamW(model),
        )
        states = []
        for record in train(*parts, steps=3, device=device):
            states.append((record.tasks, record.weighted, copy.deepcopy(model.state_dict())))
        assert [tasks for tasks, _, _ in states] == [("classify", "detect"), (), ("classify", "detect")]
        assert states[1][1] == ("classify", "detect")  # the weights are those used last
        if device == "cpu":
            assert record.losses.keys() == {"classify", "detect"}
            assert all(torch.equal(states[1][2][name], states[0][2][name]) for name in before)


def test_a_tensor_left_on_the_cpu_is_caught(scenes, monkeypatch):
    """The tests above can fail."""
    setup = find_case("scenes").setup(batch_size=4, train_set=scenes)
    left = Task("classify", lambda logits, _: (logits + torch.ones(logits.shape)).sum(), None, "")
    with pytest.raises(RuntimeError, match=r"device"):
        forward_on_fake_cuda(setup.model, [left], next(setup.loader), "float32", monkeypatch)
