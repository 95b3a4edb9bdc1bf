"""Every method with a memory or a number of its own, beside a second writing of its paper in NumPy, over many steps."""

import inspect
import warnings

import numpy as np
import pytest
import torch

from mtlkit.weighting import (
    DBMTL,
    DWA,
    FAMO,
    IMTLL,
    METHODS,
    UWSO,
    CAGrad,
    ExcessMTL,
    GradDrop,
    GradNorm,
    GradVac,
    NashMTL,
    PCGrad,
    RandomWeights,
    SmoothTchebycheff,
    StaticWeights,
    Tchebycheff,
    Uncertainty,
)

TASKS = ["a", "b", "c"]


class Lines(torch.nn.Module):
    """One shared vector and a head of one number a task; each loss and gradient is what a test wants it to be."""

    def __init__(self, size=5):
        super().__init__()
        self.shared = torch.nn.Parameter(torch.zeros(size, dtype=torch.double))
        self.heads = torch.nn.ParameterDict({t: torch.nn.Parameter(torch.zeros(1, dtype=torch.double)) for t in TASKS})

    def losses(self, values, J, slopes=None):
        """Return task → loss with these values `[K]`, shared gradients `[K, P]` and gradients of the heads `[K]`."""
        slopes = np.zeros(len(values)) if slopes is None else slopes
        return {
            t: v + torch.tensor(g) @ self.shared + s * self.heads[t].sum()
            for t, v, g, s in zip(TASKS, values, J, slopes, strict=False)
        }


def run(method, steps, model=None, slopes=None):
    """Return the shared gradient after each of `steps`, (losses `[K]`, J `[K, P]`)."""
    model, found = model or Lines(), []
    for values, J in steps:
        model.zero_grad()
        method.backward(model.losses(values, J, slopes), model, shared=[model.shared])
        found.append(model.shared.grad.numpy().copy())
    return found


def problems(K=3, steps=12, seed=0, low=0.1):
    """Draw losses and gradients of several lengths and angles."""
    rng = np.random.default_rng(seed)
    return [(rng.uniform(low, 3, K), rng.normal(size=(K, 5)) * 10 ** rng.uniform(-1, 1, (K, 1))) for _ in range(steps)]


class Adam:
    """Adam (Kingma and Ba 2015), algorithm 1, with the decay of weights added to the gradient."""

    def __init__(self, x, lr, decay=0.0):
        self.x, self.lr, self.decay, self.m, self.v, self.t = x, lr, decay, 0 * x, 0 * x, 0

    def step(self, g):
        g, self.t = g + self.decay * self.x, self.t + 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.999 * self.v + 0.001 * g**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        self.x = self.x - self.lr * m / (np.sqrt(v) + 1e-8)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def same(found, expected):
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-12) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("lr", [0.01, 0.3])
def test_uncertainty_and_imtl_l_learn_with_adam(lr):
    steps = problems()
    for method, weights, slope in (
        (Uncertainty(["b"], lr=lr), lambda s, h: h * np.exp(-s), lambda s, loss, h: 0.5 - h * np.exp(-s) * loss),
        (IMTLL(lr), lambda s, h: np.exp(s), lambda s, loss, h: np.exp(s) * loss - 1),
    ):
        half, s, expected = np.array([0.5, 1.0, 0.5]), Adam(np.zeros(3), lr), []
        for values, J in steps:
            expected.append(weights(s.x, half) @ J)
            s.step(slope(s.x, values, half))
        same(run(method, steps), expected)


def test_famo_follows_its_algorithm():
    gamma, lr, lowest = 0.2, 0.1, {"b": 0.05}
    method, model, xi = FAMO(gamma, lr, lowest), Lines(), Adam(np.zeros(3), lr, gamma)
    b = np.array([0, 0.05, 0])
    found, expected = [], []
    for (values, J), (after, _) in zip(problems(), problems(seed=1), strict=True):
        found += run(method, [(values, J)], model)
        method.observe(model.losses(after, J))
        z = softmax(xi.x)
        weights = z / (values - b)
        expected.append(weights / weights.sum() @ J)
        xi.step((np.diag(z) - np.outer(z, z)) @ (np.log(values - b) - np.log(after - b)))
    same(found, expected)


@pytest.mark.parametrize(("alpha", "lr", "free"), [(1.5, 0.025, True), (0.5, 0.002, False), (0.0, 0.05, True)])
def test_gradnorm_follows_its_algorithm(alpha, lr, free):
    steps = problems()
    w, first, expected = np.ones(3), steps[0][0], []
    for values, J in steps:
        expected.append(w @ J)
        norms = np.linalg.norm(J, axis=1)
        r = values / first / np.mean(values / first)
        off = w * norms - np.mean(w * norms) * r**alpha
        moved = np.maximum(w - lr * np.sign(off) * norms / (norms.mean() if free else 1), 1e-3)
        w = 3 * moved / moved.sum()
    same(run(GradNorm(alpha, lr, free), steps), expected)


def test_gradnorm_counts_a_task_without_gradient_or_first_loss_as_nothing():
    J = np.array([[3.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0], [0, 0, 0, 0, 0]])
    method = GradNorm(alpha=1.0, lr=0.1)
    run(method, [([1.0, 0.0, 2.0], J), ([0.5, 4.0, 2.0], J)])
    # of two tasks with a gradient: norms 3 and 1, progress 1 and 1 (the loss of "b" began at 0), then 0.5 and 1
    w = np.ones(3)
    for r in (np.ones(2), np.array([0.5, 1.0]) / 0.75):
        off = w[:2] * [3, 1] - np.sum(w[:2] * [3, 1]) / 2 * r
        moved = w - 0.1 * np.array([*(np.sign(off) * [3, 1]), 0]) / (4 / 3)
        w = w.sum() * moved / moved.sum()
    assert np.allclose([float(method.w[t]) for t in TASKS], w)


def test_dwa_weighs_by_the_means_of_the_last_two_windows():
    T, window, steps = 0.7, 4, problems(steps=19)
    losses = np.array([values for values, _ in steps])
    means = losses[: len(losses) // window * window].reshape(-1, window, 3).mean(1)
    expected = []
    for n, (_, J) in enumerate(steps):
        done = n // window
        w = 3 * softmax(means[done - 1] / means[done - 2] / T) if done >= 2 else np.ones(3)
        expected.append(w @ J)
    same(run(DWA(T, window), steps), expected)


def test_dwa_counts_each_task_by_its_own_losses():
    method = DWA(1.0, window=2)
    for some in ({"a": 2.0, "b": 4.0}, {"a": 4.0}, {"a": 1.0, "b": 1.0}, {"b": 3.0}):
        method.learn(torch.tensor(list(some.values())), list(some))
    assert [float(m) for m in method.means["a"]] == [3, 1] and [float(m) for m in method.means["b"]] == [4, 2]
    weights = torch.autograd.functional.jacobian(lambda x: method.total(x, ["a", "b"]), torch.ones(2))
    assert np.allclose(weights, 2 * softmax(np.array([1 / 3, 2 / 4])))


@pytest.mark.parametrize("every", [1, 3, 4])
def test_nash_solves_in_every_nth_step_and_weighs_by_the_last_solution_between(every):
    steps, expected, alpha = problems(K=2), [], None
    for n, (_, J) in enumerate(steps):
        if n % every == 0:  # of two tasks the solution is known: α_i = 1 / (‖g_i‖ √(1 + cos))
            norms = np.linalg.norm(J, axis=1)
            alpha = 1 / (norms * np.sqrt(1 + J[0] @ J[1] / norms.prod()))
        expected.append(alpha @ J)
    same(run(NashMTL(every), steps), expected)


def test_nash_solves_at_once_for_a_task_that_has_no_weight_yet():
    method, model = NashMTL(every=100), Lines()
    (_, two), (values, three) = problems(K=2, steps=1)[0], problems(K=3, steps=1)[0]
    run(method, [([1.0, 1.0], two)], model)
    assert set(method.alphas) == {"a", "b"}
    (d,) = run(method, [(values, three)], model)
    alpha = np.array([method.alphas[t] for t in TASKS])
    assert np.allclose(three @ three.T @ alpha, 1 / alpha) and np.allclose(d, alpha @ three)
    kept = dict(method.alphas)
    run(method, [([1.0, 1.0], two)], model)  # fewer tasks: nothing is missing
    assert method.alphas == kept and method.state_dict()["step"] == 3


@pytest.mark.parametrize("beta", [0.01, 0.4])
def test_gradvac_moves_gradients_to_a_running_angle(beta):
    steps, phi, expected = problems(K=2, steps=40), np.zeros(2), []
    for _, J in steps:
        d = np.zeros(5)
        for i, j in ((0, 1), (1, 0)):
            a, b = np.linalg.norm(J[i]), np.linalg.norm(J[j])
            cos = J[i] @ J[j] / (a * b)
            d += J[i]
            if cos < phi[i]:
                t, p = np.arccos(cos), np.arccos(phi[i])  # the sine of a difference, in place of two roots
                d += a * np.sin(t - p) / (b * np.sin(p)) * J[j]
            phi[i] = (1 - beta) * phi[i] + beta * cos
        expected.append(d)
    same(run(GradVac(beta), steps), expected)


def test_gradvac_goes_on_to_the_other_tasks_after_one_without_gradient():
    J = np.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [-1.0, 1.0, 0, 0, 0]])
    for seed in range(6):  # in any order
        (d,) = run(GradVac(seed=seed), [(np.ones(3), J)])
        assert np.allclose(d, np.array([0.5, 0.5, 0, 0, 0]) + np.array([0, 1.0, 0, 0, 0]))


@pytest.mark.parametrize("kind", [PCGrad, GradVac, GradDrop, RandomWeights])
def test_what_is_drawn_depends_on_the_methods_own_seed_alone(kind):
    def drawn(seed, other):
        torch.manual_seed(other)
        return np.array(run(kind(seed=seed), problems(K=3, steps=20)))

    assert np.array_equal(drawn(1, 5), drawn(1, 6)) and not np.array_equal(drawn(1, 5), drawn(2, 5))
    assert np.array_equal(drawn(0, 5), np.array(run(kind(), problems(K=3, steps=20))))


@pytest.mark.parametrize(("beta", "decay"), [(0.9, 0.5), (0.6, 1.0), (0.0, 0.5)])
def test_db_mtl_follows_its_algorithm(beta, decay):
    steps, mean, expected = problems(), np.zeros((3, 5)), []
    for t, (values, J) in enumerate(steps, 1):
        b = beta / t**decay
        mean = b * mean + (1 - b) * J / values[:, None]
        norms = np.linalg.norm(mean, axis=1)
        expected.append((norms.max() / norms) @ mean)
    model = Lines()
    same(run(DBMTL(beta, decay), steps, model, slopes=[1.0, 2.0, 3.0]), expected)
    assert np.allclose([model.heads[t].grad.item() for t in TASKS], np.array([1.0, 2.0, 3.0]) / steps[-1][0])


@pytest.mark.parametrize("eta", [0.01, 0.5])
def test_excess_mtl_follows_its_algorithm(eta):
    steps, squares, w, first, expected = problems(), np.zeros((3, 5)), np.ones(3), None, []
    for _, J in steps:
        squares += J**2
        excess = (J**2 / np.sqrt(squares)).sum(1)
        if first is None:
            first = excess
        else:
            w = w * np.exp(eta * excess / first)
        w = 3 * w / w.sum()
        expected.append(w @ J)
    model = Lines()
    same(run(ExcessMTL(eta), steps, model, slopes=[1.0, 2.0, 3.0]), expected)
    assert np.allclose([model.heads[t].grad.item() for t in TASKS], w * [1, 2, 3])


def test_the_smooth_maximum_with_a_preference_and_ideals():
    for values, J in problems():
        gaps = np.array([2, 1, 0.5]) * (values - [0.05, 0, 0.01])
        method = SmoothTchebycheff(0.3, {"a": 2, "c": 0.5}, {"a": 0.05, "c": 0.01})
        (found,) = run(method, [(values, J)])
        assert np.allclose(found, softmax(gaps / 0.3) * [2, 1, 0.5] @ J)
        (found,) = run(Tchebycheff({"a": 2, "c": 0.5}, {"a": 0.05, "c": 0.01}), [(values, J)])
        assert np.allclose(found, (np.arange(3) == gaps.argmax()) * [2, 1, 0.5] @ J)
        (found,) = run(UWSO(0.5), [(values, J)])
        assert np.allclose(found, softmax(1 / (0.5 * values)) @ J)


DEFAULTS = {
    "Uncertainty": {"classification": (), "lr": 0.01},
    "IMTLL": {"lr": 0.01},
    "FAMO": {"gamma": 0.01, "lr": 0.025, "lowest": None},
    "GradNorm": {"alpha": 1.5, "lr": 0.025, "scale_free": True},
    "DWA": {"temperature": 2.0, "window": 100},
    "UWSO": {"temperature": 1.0},
    "SmoothTchebycheff": {"mu": 1.0, "preference": None, "ideal": None},
    "CAGrad": {"c": 0.5, "at": "parameters"},
    "SDMGrad": {"lam": 0.3, "at": "parameters"},
    "NashMTL": {"every": 1, "at": "parameters"},
    "GradVac": {"beta": 0.01, "seed": 0, "at": "parameters"},
    "DBMTL": {"beta": 0.9, "decay": 0.5},
    "ExcessMTL": {"eta": 0.01},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_papers_or_documented(name):
    parameters = inspect.signature(METHODS[name].__init__).parameters.values()
    assert {p.name: p.default for p in parameters if p.name != "self"} == DEFAULTS[name]


@pytest.mark.parametrize("kind", [Uncertainty, IMTLL, GradNorm])
def test_a_negative_loss_is_named_once_with_its_method_and_one_of_0_never(kind):
    method = kind()
    J = np.eye(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(method, [([0.0, 1.0, 1.0], J)])
    with pytest.warns(UserWarning, match=rf"the loss of the task 'b' is -1, below 0: {type(method).__name__} ") as said:
        run(method, [([1.0, -1.0, 1.0], J)] * 3)
    assert len(said) == 1
    with pytest.warns(UserWarning, match="'c' is -2"):
        run(method, [([1.0, -1.0, -2.0], J)])


def test_static_weights_of_0_are_allowed_and_infinite_ones_are_not():
    assert StaticWeights({"a": 0}).weights == {"a": 0}
    for weight in (-1e-9, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="'a'"):
            StaticWeights({"a": weight})


def test_cagrad_is_as_far_from_the_mean_as_it_may():
    for _, J in problems(steps=30):
        for c in (0.2, 0.5, 0.9):
            (d,) = run(CAGrad(c), [(np.ones(3), J)])
            mean = J.mean(0)
            assert np.linalg.norm(d - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-6)
            assert (J @ d).min() >= (J @ mean).min() - 1e-9
