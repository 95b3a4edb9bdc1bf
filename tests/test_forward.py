"""Accumulation, recomputation, precision and compilation: the same update by other means, or an error that says why."""

import copy

import pytest
import torch
from models import small_model
from parallel_worker import updates, vector, without_batch_norm

from mtlkit.cases import find_case
from mtlkit.data import DigitScenes
from mtlkit.machine import Machine
from mtlkit.machine.precision import LossScale, pick_precision
from mtlkit.tasks import Task, classification_and_detection
from mtlkit.training import TrainingError, train
from mtlkit.training.forward import Forward, _nothing
from mtlkit.training.records import BLOCK
from mtlkit.weighting import METHODS, EqualWeights, StaticWeights

IN_PARTS = [method for method in METHODS if method != "MGDAUB"]  # which says why not: test_devices.py


@pytest.fixture(scope="module")
def scenes():
    return DigitScenes("train", 48)


@pytest.fixture(scope="module")
def small_scenes():
    """For float16, in which a CPU is slow at convolutions."""
    return DigitScenes("train", 8, 32)


def run(scenes, method="StaticWeights", steps=3, model=lambda model: model, batch_size=8, **options):
    setup = find_case("scenes").setup(batch_size=batch_size, method=method, train_set=scenes)
    setup.model = model(setup.model)
    parts = setup.parts
    return setup, list(train(*parts, average=setup.average, steps=steps, device="cpu", **options))


@pytest.fixture(scope="module")
def whole_and_in_parts():
    return [updates(IN_PARTS, without_batch_norm, accumulate=parts) for parts in (1, 3)]


@pytest.mark.parametrize("method", IN_PARTS)
def test_a_batch_in_three_parts_gives_the_update_of_the_whole(whole_and_in_parts, method):
    """Labels are missing unevenly: in the second batch one task has none, in its last part there is no box."""
    whole, parts = (results[method] for results in whole_and_in_parts)
    largest = whole["change"].abs().max()
    assert largest > 1e-3 and (whole["change"] - parts["change"]).abs().max() < 1e-8 * largest
    for one, other in zip(whole["losses"], parts["losses"], strict=True):
        assert other == pytest.approx(one, rel=1e-8)
    assert parts["weights"] == pytest.approx(whole["weights"], rel=1e-8)


@pytest.mark.parametrize(
    ("encoder", "method"),
    [("conv", method) for method in METHODS]
    + [("resnet18", method) for method in ("StaticWeights", "UPGrad", "MGDAUB", "FAMO")],
)
def test_recomputing_activations_changes_nothing(scenes, method, encoder):
    """Batch normalisation's running statistics and counters included."""
    states = []
    for recompute in (False, True):
        setup = find_case("scenes", encoder=encoder).setup(batch_size=4, method=method, train_set=scenes)
        parts = setup.parts
        list(train(*parts, steps=2, device="cpu", recompute=recompute))
        states.append(setup.model.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_recomputing_keeps_less_in_memory(scenes):
    kept = []
    for recompute in (False, True):
        sizes = {}

        def remember(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        setup, _ = run(scenes, steps=1, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            setup.model.encoder(next(setup.loader)["image"])
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.5 * kept[0]


def test_options_that_exclude_each_other_say_so(scenes):
    with pytest.raises(ValueError, match=r"accumulate=2.*cosine_every"):
        run(scenes, accumulate=2, cosine_every=1)
    with pytest.raises(ValueError, match="compile or recompute, not both"):
        run(scenes, compile="default", recompute=True)
    with pytest.raises(ValueError, match=r"MGDAUB needs the gradients at the features.*bfloat16"):
        run(scenes, "MGDAUB", precision="float16")
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 8, 8), torch.nn.ReLU())
    with pytest.raises(ValueError, match=r"finds nothing to recompute.*Blocks"):
        run(scenes, model=lambda model: type(model)(plain, model.heads), recompute=True)


@pytest.mark.parametrize("method", IN_PARTS)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_every_method_trains_in_low_precision(small_scenes, method, precision):
    setup, records = run(small_scenes, method, steps=2, batch_size=4, precision=precision)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in setup.model.parameters())
    assert all(loss > 0 for loss in records[-1].losses.values())


def test_the_loss_scale_is_invisible_and_saves_small_gradients():
    """A gradient of 1e-9 is 0 in float16; times 65,536 it is not."""
    layer = torch.nn.Linear(4, 1, bias=False)
    x = torch.full((1, 4), 1e-4)
    gradients = {}
    for scaled in (False, True):
        scale = LossScale(layer) if scaled else None
        with torch.autocast("cpu", torch.float16):
            loss = (layer(x).float() * 1e-5).sum()
        loss = scale(loss) if scale else loss
        gradients[scaled] = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
        loss.backward()
        assert torch.equal(layer.weight.grad, gradients[scaled])
        layer.zero_grad()
        if scale:
            scale.remove()
    assert (gradients[False] == 0).all()
    assert gradients[True] == pytest.approx(torch.full((1, 4), 1e-9), rel=1e-2)
    assert not layer.weight._backward_hooks


def test_a_step_whose_gradient_overflows_is_left_out_and_the_scale_halved(small_scenes, monkeypatch):
    scales = []
    monkeypatch.setattr(
        "mtlkit.training.loop.LossScale", lambda model: scales.append(LossScale(model, 2.0**20)) or scales[0]
    )
    setup = find_case("scenes").setup(batch_size=4, train_set=small_scenes)
    parts = (setup.model, setup.tasks, setup.loader, StaticWeights({"detect": 100.0}), setup.optimizer)
    before = copy.deepcopy(setup.model.state_dict())
    running = train(*parts, steps=20, device="cpu", precision="float16")
    next(running)
    assert scales[0].scale == 2.0**19
    assert all(torch.equal(p, before[name]) for name, p in setup.model.named_parameters())
    list(running)
    assert 1 <= scales[0].scale < 2.0**19
    assert not all(torch.equal(p, before[name]) for name, p in setup.model.named_parameters())
    scales[0].patience, scales[0].good = 2, 1
    was = scales[0].scale
    scales[0].update(finite=True)
    assert scales[0].scale == 2 * was


def test_a_caller_who_has_had_enough_leaves_no_scale_behind(small_scenes):
    setup = find_case("scenes").setup(batch_size=4, train_set=small_scenes)
    for _ in train(setup.model, setup.tasks, setup.loader, steps=5, device="cpu", precision="float16"):
        break
    assert not any(p._backward_hooks for p in setup.model.parameters())


def test_float16_does_not_hide_a_nan(small_scenes):
    setup = find_case("scenes").setup(batch_size=4, train_set=small_scenes)
    nan = Task("classify", lambda logits, _: logits.sum() * float("nan"), None, "accuracy")
    with pytest.raises(TrainingError, match="'classify' is nan"):
        next(train(setup.model, [nan], setup.loader, steps=1, device="cpu", precision="float16"))


def test_auto_precision_depends_on_the_device(monkeypatch):
    assert pick_precision("auto", torch.device("cpu")) is None
    for supported, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert pick_precision("auto", torch.device("cuda")) == expected


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_model_gives_the_same_update(scenes, method, monkeypatch):
    """With a back end that compiles forward and backward passes but leaves code generation out: that takes a minute."""
    backends = []
    real = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, mode: backends.append(mode) or real(self, backend="aot_eager")
    )
    plain, records = run(scenes, method, steps=2)
    compiled, other = run(scenes, method, steps=2, compile="reduce-overhead")
    assert backends == ["reduce-overhead"] * 3  # the encoder and two heads
    assert other[0].losses == pytest.approx(records[0].losses, rel=1e-5)
    for name, tensor in plain.model.state_dict().items():
        assert torch.allclose(tensor, compiled.model.state_dict()[name], atol=2e-3), name


def test_out_of_memory_says_what_to_lower(scenes):
    def hungry(logits, _):
        return logits.sum() + torch.empty(2**46).sum()

    setup = find_case("scenes").setup(batch_size=8, train_set=scenes)
    task = Task("classify", hungry, None, "accuracy")
    with pytest.raises(TrainingError, match=r"memory is full \(at step 1\).*accumulate=2.*recompute=True.*batch_size"):
        next(train(setup.model, [task], setup.loader, EqualWeights(), steps=1, device="cpu"))

    def full(logits, _):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    task = Task("classify", full, None, "accuracy")
    with pytest.raises(TrainingError, match=r"Tried to allocate 2.00 GiB"):
        next(train(setup.model, [task], setup.loader, EqualWeights(), steps=1, device="cpu"))


def test_records_are_fetched_in_blocks(scenes):
    _, records = run(scenes, steps=BLOCK + 2)
    first = records[0].block
    assert first is records[BLOCK - 1].block and first.full and records[BLOCK].block is not first
    assert first._values == []  # nothing was read
    values = records[5].losses
    assert len(first._values) == BLOCK and first._here == []  # all were fetched together
    assert values.keys() == {"classify", "detect"} and records[5].weights == {"classify": 0.2, "detect": 1.0}
    last = records[-1]
    assert len(last.losses) == 2 and len(last.block._values) == 2
    assert records[5].losses == values


@pytest.mark.parametrize("side", [33, 47])
def test_parts_of_images_that_no_stride_divides_give_the_update_of_the_whole(side):
    """The number of responsible cells, by which parts are put together, was that of a grid rounded down."""

    def change(parts):
        torch.manual_seed(0)
        model = without_batch_norm(small_model()).double()
        before = vector(model)
        batch = DigitScenes("train", 6, seed=5).batch(torch.arange(6))
        batch["image"] = torch.nn.functional.interpolate(batch["image"], (side, side)).double()
        batch["boxes"] = batch["boxes"] * (side / 64)
        tasks = classification_and_detection([str(digit) for digit in range(10)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        list(train(model, tasks, [batch], EqualWeights(), optimizer, steps=1, device="cpu", accumulate=parts))
        return vector(model) - before

    whole = change(1)
    assert (whole - change(4)).abs().max() < 1e-8 * whole.abs().max()


def test_a_batch_gone_through_again_gives_the_same_losses(scenes):
    """As FAMO does after its update; in one part and in several."""
    for parts in (1, 3):
        setup = find_case("scenes").setup(batch_size=6, train_set=scenes)
        setup.model.train()
        forward = Forward(setup.model, setup.tasks, Machine(device="cpu", accumulate=parts))
        losses = forward(next(setup.loader))
        first, again = ([{task: loss.item() for task, loss in part.items()} for part in losses] for _ in range(2))
        assert len(first) == parts and all(one == pytest.approx(other) for one, other in zip(first, again, strict=True))


def test_a_task_without_target_in_a_part_costs_nothing_where_its_output_is_0():
    output = torch.zeros(3, requires_grad=True)
    loss = _nothing({"a": output, "b": [output + 1]})
    loss.backward()
    assert loss == 0 and output.grad.tolist() == [0, 0, 0]
