"""A batch in parts, and one shared out among processes, give each method's update of the whole."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from mtlkit.machine import ALONE, Group
from mtlkit.model import SharedEncoderModel
from mtlkit.weighting import METHODS, NotFiniteError, WeightingError, conflict, jacobian

TASKS = ["a", "b", "c"]
IN_PARTS = [name for name in METHODS if name != "MGDAUB"]


@dataclass(frozen=True)
class Averaging(Group):
    """A process of three whose model averages the gradients by itself; the others have the same data."""

    size: int = 3
    averages: bool = True

    def sum_(self, tensors):
        for tensor in tensors:
            tensor.mul_(self.size)


@dataclass(frozen=True)
class Thread(Group):
    """A thread in the place of a process."""

    meeting: Any = None
    table: list[Any] = field(default_factory=list)

    def sum_(self, tensors):
        for tensor in tensors:
            self.table[self.rank] = tensor.clone()
            self.meeting.wait(20)
            total = torch.stack(self.table).sum(0)
            self.meeting.wait(20)
            tensor.copy_(total)


def together(run, size):
    """Return what `run(group)` gives in each of `size` threads that work together."""
    meeting, table = threading.Barrier(size), [None] * size

    def one(rank):
        try:
            return run(Thread(rank, size, meeting=meeting, table=table))
        except Exception:
            meeting.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


class Net(SharedEncoderModel):
    """Three tasks on a shared layer, and a parameter that nobody uses."""

    def __init__(self):
        shared = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh())
        super().__init__(shared, {task: torch.nn.Linear(5, 1) for task in TASKS}, reads="x")
        self.double()
        self.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.double))
        stream = torch.Generator().manual_seed(4)
        for p in self.parameters():
            torch.nn.init.uniform_(p, -0.5, 0.5, generator=stream)


class Parts:
    """The losses of a batch, in parts; each one's graph is made when its turn comes."""

    def __init__(self, model, x, number, share=1.0):
        self.model, self.pieces, self.share, self.tasks = model, x.chunk(number), share, TASKS

    def __len__(self):
        return len(self.pieces)

    def __iter__(self):
        for piece in self.pieces:
            out = self.model(piece)
            yield {
                task: self.share * ((out[task] - k).square().sum() / (3 + k) + 0.01 * len(piece))
                for k, task in enumerate(TASKS)
            }


def trained(name, number=1, group=ALONE, before=None, steps=3, share=1.0):
    """Return losses, weights and gradients of some steps of gradient descent."""
    model, method, found = Net(), METHODS[name](), []
    stream = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 4, dtype=torch.double, generator=stream)
        own = x if share < 1 else x.chunk(group.size)[group.rank]
        parts = Parts(model, own, number, share)
        for p in model.parameters():
            p.grad = None if before is None else torch.full_like(p, before)
        update = method.backward(next(iter(parts)) if number == 1 else parts, model, group)
        if method.second_look:
            with torch.no_grad():
                for p in model.parameters():
                    if p.grad is not None:
                        p -= 1e-3 * p.grad
            method.observe(next(iter(parts)) if number == 1 else parts, group)
        found.append(
            (
                update.losses.clone(),
                {task: float(w) for task, w in update.weights.items()},
                {key: None if p.grad is None else p.grad.clone() for key, p in model.named_parameters()},
            )
        )
    return found


def same(found, expected, tolerance=1e-9):
    for (losses, weights, gradients), (right, right_weights, right_gradients) in zip(found, expected, strict=True):
        assert torch.allclose(losses, right, rtol=tolerance, atol=0)
        assert weights == pytest.approx(right_weights, rel=1e-6)
        for key, gradient in right_gradients.items():
            assert gradients[key] is not None, key
            assert torch.allclose(gradients[key], gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max())), key


def used(found):
    """Return the same without the parameter that nobody uses."""
    return [(*rest, {key: g for key, g in gradients.items() if key != "idle"}) for *rest, gradients in found]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", IN_PARTS)
def test_the_update_is_known_and_idle_parameters_have_none(name, number):
    for losses, weights, gradients in trained(name, number):
        assert losses.shape == (3,) and losses.dtype == torch.double and (losses > 0).all()
        assert weights.keys() <= set(TASKS)
        assert [key for key, gradient in gradients.items() if gradient is None] == ["idle"]


@pytest.mark.parametrize("number", [2, 3, 6])
@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_are_the_whole(name, number):
    same(used(trained(name, number)), used(trained(name)))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_processes_are_one(name, size):
    whole = used(trained(name))
    for found in together(lambda group: trained(name, group=group), size):
        same(used(found), whole)


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_in_processes_are_one(name):
    whole = used(trained(name))
    for found in together(lambda group: trained(name, 3, group), 2):
        same(used(found), whole)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name]().one_pass(1)])
def test_where_the_model_averages_gradients_by_itself_they_come_out_the_same(name):
    same(used(trained(name, group=Averaging(), share=1 / 3)), used(trained(name)))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", IN_PARTS)
def test_what_is_in_the_gradients_already_stays_in_them(name, number, size):
    expected = [
        (losses, weights, {key: gradient + 0.5 for key, gradient in gradients.items()})
        for losses, weights, gradients in used(trained(name, number, steps=1))
    ]
    for found in together(lambda group: trained(name, number, group, 0.5, 1), size):
        same(used(found), expected)
        assert (found[0][2]["idle"] == 0.5).all()


def test_the_jacobian_of_processes_is_that_of_one():
    x = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(2))

    def of(group):
        model = Net()
        return jacobian(next(iter(Parts(model, x.chunk(group.size)[group.rank], 1))), model, group)

    whole = of(ALONE)
    assert whole.shape[0] == 3 and all(torch.allclose(found, whole) for found in together(of, 3))


def test_angles_of_parallel_gradients_stay_cosines():
    """Rounding may make the quotient larger than 1."""
    for seed in range(200):
        g = torch.randn(1, 7, generator=torch.Generator().manual_seed(seed))
        cosines = conflict(torch.cat([g, 3 * g, -0.7 * g])).cosines
        assert cosines.abs().max() <= 1


def test_an_overflowing_gradient_comes_with_the_losses_and_a_bad_loss_without():
    """In float16 the training loop goes on with them."""
    model = Net()
    x = torch.ones(2, 4, dtype=torch.double)
    for factor, losses_known in ((float("inf"), True), (float("nan"), False)):
        out = model(x)
        losses = {task: out[task].square().sum() for task in TASKS}
        if losses_known:
            out["b"].register_hook(lambda gradient, factor=factor: gradient * factor)
        else:
            losses["b"] = losses["b"] * factor
        with pytest.raises(NotFiniteError, match="'b'") as caught:
            METHODS["UPGrad"]().backward(losses, model)
        assert (caught.value.losses is not None) == losses_known
        assert ("gradient" in caught.value.what) == losses_known and f"the {caught.value.what} of" in str(caught.value)
        if losses_known:
            assert torch.equal(caught.value.losses, torch.stack(list(losses.values())).detach())


@pytest.mark.parametrize("name", ["DBMTL", "ExcessMTL"])
def test_what_is_kept_begins_anew_for_as_many_other_parameters(name):
    """Two layers of one shape: when the other one is shared, what is known of the first is nothing to it."""
    x = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(3))

    def step(method, model, layer):
        h = getattr(model, layer)(x)
        method.backward({"a": h[:, 0].square().mean() + 1, "b": (h[:, 1] - 2).square().mean()}, model)

    def make():
        model = torch.nn.Module()
        model.one, model.two = (torch.nn.Linear(4, 2, dtype=torch.double) for _ in range(2))
        stream = torch.Generator().manual_seed(4)
        for p in model.parameters():
            torch.nn.init.uniform_(p, -0.5, 0.5, generator=stream)
        return model

    method, fresh, model = METHODS[name](), METHODS[name](), make()
    for _ in range(3):
        step(method, model, "one")
    step(method, model, "two")
    step(fresh, make(), "two")
    for task, kept in fresh.kept.items():  # DB-MTL counts its steps on, so the sizes differ
        assert torch.allclose(method.kept[task] / method.kept[task].norm(), kept / kept.norm())


@pytest.mark.parametrize("wrong", [1.5, "2", None])
def test_a_loss_that_is_no_tensor_is_refused_in_words(wrong):
    model = Net()
    fine = next(iter(Parts(model, torch.zeros(2, 4, dtype=torch.double), 1)))["a"]
    with pytest.raises(WeightingError, match=f"the loss of the task 'b' is the {type(wrong).__name__} {wrong}: exp"):
        METHODS["EqualWeights"]().backward({"a": fine, "b": wrong}, model)


def test_which_methods_need_one_backward_pass_only():
    linear = {"EqualWeights", "StaticWeights", "RandomWeights", "DWA", "GradNorm"}
    assert linear <= {name for name in METHODS if METHODS[name]().one_pass(3)}
    for name in ("GeometricMean", "FAMO", "Tchebycheff"):
        assert METHODS[name]().one_pass(1) and not METHODS[name]().one_pass(2)
    assert not METHODS["PCGrad"]().one_pass(1)


def test_a_module_of_ones_own_may_keep_its_features():
    """Weights found at the features, for a module that knows nothing of the kit but the name."""
    x = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    kit, own = Net(), torch.nn.Module()
    own.shared, own.heads = kit.encoder, kit.heads
    found = []
    for model in (kit, own):
        model.zero_grad()
        if model is own:
            own.features = own.shared(x)
            out = {task: own.heads[task](own.features) for task in TASKS}
        else:
            out = kit(x)
        method = METHODS["MGDAUB"]()
        method.backward({task: (out[task] - k).square().sum() for k, task in enumerate(TASKS)}, model)
        found.append([kit.encoder[0].weight.grad.clone(), *method.weights.values()])
    assert torch.allclose(found[0][0], found[1][0]) and found[0][1:] == pytest.approx(found[1][1:])


@pytest.mark.parametrize("name", ["NashMTL", "MGDA", "UPGrad", "FairGrad", "DBMTL", "GradNorm"])
def test_which_parameters_are_shared_may_be_said(name):
    x = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(6))

    def weights(shared):
        model, method = Net(), METHODS[name]()
        for _ in range(2):  # GradNorm's first weights are all 1
            model.zero_grad()
            method.backward(next(iter(Parts(model, x, 1))), model, shared=shared(model))
        return method.weights

    everything = weights(lambda model: None)
    assert weights(lambda model: model.encoder) == pytest.approx(everything, rel=1e-6)
    assert weights(lambda model: [model.encoder[0].bias]) != pytest.approx(everything, rel=1e-3)
