"""A batch in parts, and one shared out among processes, give each method's update of the whole."""

from dataclasses import dataclass

import pytest
import torch

from mtlkit.machine import ALONE, Group
from mtlkit.model import SharedEncoderModel
from mtlkit.weighting import METHODS, WeightingError, conflict, jacobian

TASKS = ["a", "b", "c"]
IN_PARTS = [name for name in METHODS if name != "MGDAUB"]


@dataclass(frozen=True)
class Twins(Group):
    """Processes that all have the same: a sum over them is `size` times one's own."""

    def sum_(self, tensors):
        for tensor in tensors:
            tensor.mul_(self.size)


class Net(SharedEncoderModel):
    """Three tasks on a shared layer, and a layer that nobody uses."""

    def __init__(self):
        torch.manual_seed(4)
        shared = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh())
        super().__init__(shared, {task: torch.nn.Linear(5, 1) for task in TASKS}, reads="x")
        self.double()
        self.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.double))


class Parts:
    """The losses of a batch of six, in parts of two; each one's graph is made when its turn comes."""

    def __init__(self, model, x, number, share=1.0):
        self.model, self.pieces, self.share, self.tasks = model, x.chunk(number), share, TASKS

    def __len__(self):
        return len(self.pieces)

    def __iter__(self):
        for piece in self.pieces:
            out = self.model(piece)
            yield {
                task: self.share * (out[task] - k).square().sum() / (3 + k) + self.share * 0.01 * len(piece)
                for k, task in enumerate(TASKS)
            }


def trained(name, number=1, group=ALONE, before=None, steps=3):
    """Return losses, weights and gradients of some steps of gradient descent."""
    model, method, found = Net(), METHODS[name](), []
    stream = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 4, dtype=torch.double, generator=stream)
        parts = Parts(model, x, number, 1 / group.size)
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
    """Return the same without the layer that nobody uses."""
    return [(*rest, {key: g for key, g in gradients.items() if key != "idle"}) for *rest, gradients in found]


@pytest.mark.parametrize("name", METHODS)
def test_the_update_is_known_and_idle_parameters_have_none(name):
    for losses, weights, gradients in trained(name):
        assert losses.shape == (3,) and losses.dtype == torch.double and (losses > 0).all()
        assert weights.keys() <= set(TASKS)
        assert [key for key, gradient in gradients.items() if gradient is None] == ["idle"]


@pytest.mark.parametrize("number", [2, 3, 6])
@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_are_the_whole(name, number):
    same(used(trained(name, number)), used(trained(name)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [2, 3])
def test_processes_are_one(name, size):
    same(used(trained(name, group=Twins(0, size))), used(trained(name)))


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_in_processes_are_one(name):
    same(used(trained(name, 3, Twins(0, 2))), used(trained(name)))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name]().one_pass(1)])
def test_where_the_model_averages_gradients_by_itself_they_come_out_the_same(name):
    same(used(trained(name, group=Twins(0, 3, averages=True))), used(trained(name)))


@pytest.mark.parametrize("group", [ALONE, Twins(0, 2)])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", IN_PARTS)
def test_what_is_in_the_gradients_already_stays_in_them(name, number, group):
    expected = [
        (losses, weights, {key: gradient + 0.5 for key, gradient in gradients.items()})
        for losses, weights, gradients in used(trained(name, number, group, steps=1))
    ]
    found = trained(name, number, group, before=0.5, steps=1)
    same(used(found), expected)
    assert (found[0][2]["idle"] == 0.5).all()


def test_the_jacobian_of_processes_is_that_of_one():
    model = Net()
    x = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    one, three = (
        jacobian(next(iter(Parts(model, x, 1, 1 / group.size))), model, group) for group in (ALONE, Twins(0, 3))
    )
    assert one.shape[0] == 3 and torch.allclose(one, three)


def test_angles_of_parallel_gradients_stay_cosines():
    """Rounding may make the quotient larger than 1."""
    for seed in range(200):
        g = torch.randn(1, 7, generator=torch.Generator().manual_seed(seed))
        cosines = conflict(torch.cat([g, 3 * g, -0.7 * g])).cosines
        assert cosines.abs().max() <= 1


@pytest.mark.parametrize("wrong", [1.5, "2", None])
def test_a_loss_that_is_no_tensor_is_refused_in_words(wrong):
    model = Net()
    fine = next(iter(Parts(model, torch.zeros(2, 4, dtype=torch.double), 1)))["a"]
    with pytest.raises(WeightingError, match=f"the loss of the task 'b' is the {type(wrong).__name__} {wrong}: exp"):
        METHODS["EqualWeights"]().backward({"a": fine, "b": wrong}, model)
