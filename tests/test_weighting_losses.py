"""The loss methods: values, properties, what they learn, and what they refuse."""

import math
from copy import deepcopy

import pytest
import torch
from torch.utils._pytree import tree_leaves

from mtlkit.machine import Group
from mtlkit.model import SharedEncoderModel
from mtlkit.weighting import (
    DBMTL,
    DWA,
    FAMO,
    IMTLL,
    METHODS,
    UWSO,
    EqualWeights,
    ExcessMTL,
    GeometricMean,
    GradientWeighting,
    GradNorm,
    RandomWeights,
    SmoothTchebycheff,
    StaticWeights,
    Tchebycheff,
    Uncertainty,
    WeightingError,
)

LOSS_METHODS = [method for method in METHODS.values() if not issubclass(method, GradientWeighting)]
LOSSES = torch.tensor([0.5, 2.0, 4.0], dtype=torch.double)


def toy(seed=0):
    """A model with two heads and a function that gives their losses."""
    torch.manual_seed(seed)
    model = SharedEncoderModel(torch.nn.Linear(3, 4), {name: torch.nn.Linear(4, 1) for name in ("a", "b")})
    x, y = torch.randn(16, 3), torch.randn(16, 2)

    def losses():
        out = model(x)
        return {name: (out[name][:, 0] - y[:, k]).square().mean() + 0.1 for k, name in enumerate(("a", "b"))}

    return model, losses


def step(method, model, losses, lr=0.05):
    model.zero_grad()
    method.backward(losses(), model)
    with torch.no_grad():
        for p in model.parameters():
            p -= lr * p.grad


def test_totals():
    assert float(EqualWeights().total(LOSSES)) == 6.5
    assert float(StaticWeights({"a": 2.0, "c": 0.5}).total(LOSSES, ["a", "b", "c"])) == 5.0
    assert float(GeometricMean().total(LOSSES)) == pytest.approx(4 ** (1 / 3))
    assert Uncertainty().total(LOSSES).item() == 3.25
    assert Uncertainty(["a"]).total(LOSSES, ["a", "b", "c"]).item() == 3.5
    assert IMTLL().total(LOSSES).item() == 6.5
    assert float(Tchebycheff({"a": 10.0}, {"c": 3.9}).total(LOSSES, ["a", "b", "c"])) == 5.0
    assert float(GradNorm().total(LOSSES)) == 6.5


def test_the_smooth_maximum_is_between_its_bounds_and_tends_to_the_maximum():
    for mu in (1.0, 0.1, 1e-3):
        value = float(SmoothTchebycheff(mu).total(LOSSES))
        assert 4 <= value <= 4 + mu * math.log(3)
    assert value == pytest.approx(4)


def test_the_geometric_mean_is_at_most_the_arithmetic_one():
    for _ in range(50):
        losses = torch.rand(4) + 1e-3
        assert float(GeometricMean().total(losses)) <= float(losses.mean()) + 1e-7


@pytest.mark.parametrize(
    ("method", "optimum"),
    [
        (Uncertainty(lr=0.05), math.log(0.3)),
        (Uncertainty(["a"], lr=0.05), math.log(0.6)),
        (IMTLL(0.05), -math.log(0.3)),
    ],
)
def test_learned_numbers_reach_their_optimum(method, optimum):
    method = deepcopy(method)
    model, _ = toy()
    w = next(model.shared_parameters())
    for _ in range(2000):
        method.backward({"a": 0.3 + 0 * w.sum()}, model)
    assert method.numbers["a"].item() == pytest.approx(optimum, abs=1e-3)
    assert method.of(["a"]).dtype == torch.double and method.of(["a"], w).dtype == w.dtype
    if isinstance(method, Uncertainty):
        assert method.total(torch.tensor([0.01]), ["a"]).item() < 0


def test_the_weights_are_what_the_total_says():
    model, losses = toy()
    values = losses()
    for method in (GeometricMean(), IMTLL(), SmoothTchebycheff(), FAMO(), StaticWeights({"a": 0.2})):
        model.zero_grad()
        method.backward(losses(), model)
        got = next(model.shared_parameters()).grad.clone()
        parts = [torch.autograd.grad(losses()[name], next(model.shared_parameters()))[0] for name in values]
        assert torch.allclose(got, sum(w * g for w, g in zip(method.weights.values(), parts, strict=True)), atol=1e-6)
    assert method.weights == {"a": 0.2, "b": 1.0}


def test_dwa_is_uniform_for_two_windows_then_weighs_the_slow_task_more():
    method, model = DWA(window=2), toy()[0]
    w = next(model.shared_parameters())
    for a, b in [(1.0, 8.0), (1.0, 8.0), (0.9, 4.0)]:
        method.backward({"a": a + 0 * w.sum(), "b": b + 0 * w.sum()}, model)
        assert method.weights == {"a": 1.0, "b": 1.0}
    method.backward({"a": 0.9 + 0 * w.sum(), "b": 4.0 + 0 * w.sum()}, model)
    method.backward({"a": 1.0 + 0 * w.sum(), "b": 1.0 + 0 * w.sum()}, model)
    expected = 2 * torch.softmax(torch.tensor([0.9 / 2, 0.5 / 2]), 0)  # r / T with T = 2
    assert list(method.weights.values()) == pytest.approx(expected.tolist(), rel=1e-6)
    assert sum(method.weights.values()) == pytest.approx(2)


def test_random_weights_are_a_distribution_and_average_to_uniform():
    method, ones = RandomWeights(), torch.eye(3)
    draws = []
    for _ in range(3000):
        state = method.state_dict()
        row = []
        for k in range(3):  # the same draw seen through each unit vector
            method.load_state_dict(state)
            row.append(float(method.total(ones[k])))
        draws.append(row)
    mean = torch.tensor(draws)
    assert torch.allclose(mean.sum(1), torch.ones(3000), atol=1e-5)
    assert torch.allclose(mean.mean(0), torch.full((3,), 1 / 3), atol=0.02) and float(mean.std()) > 0.1


def test_famo_weighs_gradients_to_one_and_moves_towards_the_task_that_improved_less():
    model, losses = toy()
    method = FAMO(gamma=0.0)
    values = losses()
    method.backward(values, model)
    assert sum(method.weights.values()) == pytest.approx(1)
    method.observe({name: value.detach() for name, value in values.items()})
    assert [x.item() for x in method.numbers.values()] == [0.0, 0.0]  # nothing changed, nothing moves
    method.observe({"a": values["a"].detach() * 0.5, "b": values["b"].detach()})
    assert method.numbers["a"].item() < method.numbers["b"].item()


def test_gradnorm_balances_the_norms_and_keeps_the_sum():
    method = GradNorm(alpha=0.0)
    for _ in range(500):
        method.balance(["a", "b"], torch.ones(2), torch.tensor([10.0, 1.0]))
        assert float(sum(method.w.values())) == pytest.approx(2)
    assert float(method.w["a"]) * 10 == pytest.approx(float(method.w["b"]), rel=0.3)
    slow = GradNorm(alpha=1.5)
    slow.balance(["a", "b"], torch.ones(2), torch.ones(2))
    slow.balance(["a", "b"], torch.tensor([1.0, 0.1]), torch.ones(2))
    assert slow.w["a"] > 1 > slow.w["b"]


def test_gradnorm_takes_norms_at_the_last_shared_layer():
    model, losses = toy()
    method = GradNorm()
    seen = []
    method.balance = lambda tasks, values, norms: seen.append(norms.tolist())
    method.backward(losses(), model)
    layer = model.encoder.weight
    rows = [torch.autograd.grad(loss, layer, retain_graph=True)[0] for loss in losses().values()]
    expected = [float(row.norm()) for row in rows]
    assert seen[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_trains_without_arguments_and_its_state_goes_round(name):
    model, losses = toy()
    method, before = METHODS[name](), sum(float(v.detach()) for v in losses().values())
    for _ in range(30):
        step(method, model, losses)
        if method.second_look:
            method.observe(losses())
    assert sum(float(v.detach()) for v in losses().values()) < before
    assert all(0 <= w < float("inf") for w in method.weights.values())
    twin = METHODS[name]()
    twin.load_state_dict(method.state_dict())
    gradients = []
    for each in (method, twin):
        model.zero_grad()
        each.backward(losses(), model)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_state_is_a_copy_that_no_later_step_changes(name):
    model, losses = toy()

    def go_on(method):
        for _ in range(3):
            step(method, model, losses)
            if method.second_look:
                method.observe(losses())

    def leaves(state):
        return [leaf.tolist() if isinstance(leaf, torch.Tensor) else leaf for leaf in tree_leaves(state)]

    method, twin = METHODS[name](), METHODS[name]()
    go_on(method)
    state = method.state_dict()
    before = leaves(state)
    go_on(method)
    assert leaves(state) == before
    twin.load_state_dict(state)
    go_on(twin)
    assert leaves(state) == before


@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_absent_task_takes_no_part_and_keeps_its_state(name):
    model, losses = toy()
    method = METHODS[name]()
    for _ in range(3):
        step(method, model, losses)
    model.zero_grad()
    method.backward({"b": losses()["b"]}, model)
    assert all(p.grad is None for p in model.task_parameters("a"))
    alone = torch.cat([g.flatten() for g in torch.autograd.grad(losses()["b"], list(model.shared_parameters()))])
    if name == "DBMTL":
        alone = method.kept["b"]  # its mean over the steps
    got = torch.cat([p.grad.flatten() for p in model.shared_parameters()])
    assert torch.allclose(got / got.norm(), alone / alone.norm(), atol=1e-4)
    step(method, model, losses)  # and it comes back


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_task(name, bad):
    model, losses = toy()
    values = losses()
    values["b"] = values["b"] * bad
    with pytest.raises(WeightingError, match="'b'"):
        METHODS[name]().backward(values, model)


@pytest.mark.parametrize("method", [GeometricMean(), FAMO()], ids=lambda m: type(m).__name__)
def test_a_loss_without_logarithm_is_refused(method):
    with pytest.raises(WeightingError, match="'b' is -1"):
        deepcopy(method).total(torch.tensor([1.0, -1.0]), ["a", "b"])


@pytest.mark.parametrize("method", LOSS_METHODS, ids=lambda m: m.__name__)
def test_loss_methods_say_that_they_do_not_combine_gradients(method):
    with pytest.raises(NotImplementedError, match=method.__name__):
        method().combine(torch.eye(2))


def test_uwso_weighs_by_inverse_losses():
    losses = torch.tensor([0.5, 1.0, 4.0], requires_grad=True)
    UWSO(temperature=2.0).total(losses).backward()
    expected = torch.softmax(torch.tensor([1.0, 0.5, 0.125]), 0)  # 1 / (2 l)
    assert torch.allclose(losses.grad, expected)
    with pytest.raises(WeightingError, match=r"UWSO takes the logarithm.*'b' is 0"):
        UWSO().total(torch.tensor([1.0, 0.0]), ["a", "b"])


def test_dbmtl_makes_all_gradients_of_the_logarithms_as_long_as_the_longest():
    model, losses = toy()
    method, values = DBMTL(beta=0.0), losses()
    shared = list(model.shared_parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss.log(), shared, retain_graph=True)])
        for loss in values.values()
    ]
    longest = max(row.norm() for row in rows)
    heads = {task: list(model.task_parameters(task)) for task in values}
    logs = {task: torch.autograd.grad(values[task].log(), heads[task], retain_graph=True) for task in values}
    model.zero_grad()
    method.backward(values, model)
    got = torch.cat([p.grad.flatten() for p in shared])
    assert torch.allclose(got, sum(row * longest / row.norm() for row in rows), rtol=1e-4, atol=1e-6)
    for task, expected in logs.items():  # the heads learn from the logarithms, too
        assert all(torch.allclose(p.grad, g, rtol=1e-4, atol=1e-7) for p, g in zip(heads[task], expected, strict=True))


def test_dbmtl_keeps_a_running_mean():
    method = DBMTL(beta=0.9, decay=0.5)
    x = [torch.tensor([[1.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])]
    first = method.combine(x[0])  # from 0: (1 - 0.9) g
    assert torch.allclose(first, torch.tensor([0.4, 0.4]))
    beta = 0.9 / 2**0.5
    a = beta * torch.tensor([0.1, 0.0]) + (1 - beta) * x[1][0]
    b = beta * torch.tensor([0.0, 0.4]) + (1 - beta) * x[1][1]
    longest = max(a.norm(), b.norm())
    assert torch.allclose(method.combine(x[1]), a * longest / a.norm() + b * longest / b.norm())


def test_excess_mtl_weighs_by_the_estimated_excess_risk():
    method = ExcessMTL(eta=0.5)
    x = [torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[4.0, 0.0], [0.0, 0.5]])]
    assert torch.allclose(method.combine(x[0]), x[0].sum(0))  # e(0) = 3 and 2; all weights are 1
    excess = torch.tensor([16 / 5 / 3, 0.25 / (4 + 0.25) ** 0.5 / 2])  # g² / root of the sum of squares, over e(0)
    w = 2 * torch.softmax(0.5 * excess, 0)
    assert torch.allclose(method.combine(x[1]), w @ x[1])
    assert method.weights == pytest.approx(dict(zip("01", w.tolist(), strict=True)))


def test_gradnorm_offers_the_papers_step():
    losses, norms = torch.tensor([1.0, 1.0]), torch.tensor([10.0, 30.0])
    free, paper = GradNorm(lr=0.01), GradNorm(lr=0.01, scale_free=False)
    for method in (free, paper):
        method.balance(["a", "b"], losses, norms)
    # |10 - 20| + |30 - 20|: slopes -10 and +30; in units of the mean norm -0.5 and +1.5
    for method, (a, b) in ((free, (1.005, 0.985)), (paper, (1.1, 0.7))):
        assert float(method.w["a"]) == pytest.approx(2 * a / (a + b))


def test_dbmtl_stays_finite_when_a_gradient_fades_away():
    for kind in (torch.float32, torch.bfloat16):
        method = DBMTL()
        for t in range(200):
            idle = torch.tensor([[1.0], [float(t == 0)]], dtype=kind)
            d = method.combine(torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=kind) * idle)
            assert d.isfinite().all() and d.norm() < 20


@pytest.mark.parametrize("kind", [DBMTL, ExcessMTL])
def test_what_is_kept_of_gradients_begins_anew_when_other_parameters_are_shared(kind):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

        def losses(self, tasks):
            h = self.trunk(torch.ones(2, 3)).tanh()
            return {task: (getattr(self, task)(h) - 1).square().mean() for task in tasks}

    model, method = Model(), kind()
    for tasks in ("ab", "a", "ab", "b"):
        model.zero_grad()
        method.backward(model.losses(tasks), model)
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.trunk.weight.requires_grad_(False)
    method.backward(model.losses("ab"), model)


def test_excess_mtl_treats_a_late_and_an_idle_task_fairly():
    generator = torch.Generator().manual_seed(0)
    method = ExcessMTL()
    for t in range(500):
        x = torch.randn(2, 50, generator=generator)
        method.combine(x * torch.tensor([[float(t > 0)], [1.0]]), ["a", "b"])  # a's first gradient is 0
    assert 0.3 < method.weights["a"] < 1.7
    method.combine(torch.randn(3, 50, generator=generator), ["a", "b", "late"])
    assert method.weights["late"] == pytest.approx(1, abs=0.2)
    assert sum(method.weights.values()) == pytest.approx(3)


def test_what_needs_whole_gradients_refuses_parts_of_them():
    with pytest.raises(WeightingError, match="ExcessMTL needs whole gradients"):
        ExcessMTL().combine(torch.eye(2), ["a", "b"], Group(0, 2))
