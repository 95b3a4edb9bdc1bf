"""The gradient methods against reference values, their defining properties, and another library."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from jacobians import cones, jacobians, pairs
from torchjd import aggregation as jd

from mtlkit.weighting import (
    IMTLG,
    METHODS,
    MGDA,
    MGDAUB,
    AlignedMTL,
    CAGrad,
    ConFIG,
    FairGrad,
    GradDrop,
    GradientWeighting,
    GradVac,
    NashMTL,
    PCGrad,
    SDMGrad,
    UPGrad,
    WeightingError,
    conflict,
)
from mtlkit.weighting.gradients import coordinates
from mtlkit.weighting.solvers import STATIONARY, power_balance

J = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.double)
GRADIENT_METHODS = [method for method in METHODS.values() if issubclass(method, GradientWeighting)]
BY_ANGLE = [method for method in GRADIENT_METHODS if method.weigh is not GradientWeighting.weigh]
DETERMINISTIC = [method for method in BY_ANGLE if method not in (PCGrad, GradVac)]  # no random order
NEVER_CONFLICTING = [MGDA, MGDAUB, UPGrad, IMTLG, FairGrad, NashMTL]


def solve(method, jacobian):
    """Return everything a property may speak of, in float64: X, G, norms, w, d, gains g_i·d."""
    tasks = [str(k) for k in range(len(jacobian))]
    w = method.weigh(coordinates(jacobian, tasks), tasks)
    X = jacobian.double().numpy()
    d = X.T @ w
    return X, X @ X.T, np.linalg.norm(X, axis=1), w, d, X @ d


STRATA = list(jacobians())


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (PCGrad(), [0.5848, 3.8012, 3.8012]),
        (GradVac(), [0.5848, 3.8012, 3.8012]),
        (MGDA(), [0.0, 1.0, 1.0]),
        (CAGrad(0.5), [0.1835, 1.2041, 1.2041]),
        (NashMTL(), [0.0766, 0.9985, 0.9985]),
        (FairGrad(1.0), [0.0766, 0.9985, 0.9985]),
        (IMTLG(), [0.0767, 1.0, 1.0]),
        (ConFIG(), [0.1588, 2.0706, 2.0706]),
        (AlignedMTL(), [0.2133, 0.9673, 0.9673]),
        # half of PCGrad's, as for two tasks each projection is PCGrad's; a published 0.2929 is that of a regularised G
        (UPGrad(), [0.2924, 1.9006, 1.9006]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reference_values(method, expected):
    assert torch.allclose(deepcopy(method).combine(J), torch.tensor(expected, dtype=torch.double), atol=1e-4)


@pytest.mark.parametrize(
    ("method", "expected"), [(MGDA(), [0.6, 0.4]), (NashMTL(), [0.5915, 0.4071]), (IMTLG(), [0.5923, 0.4077])]
)
def test_reference_weights(method, expected):
    method = deepcopy(method)
    method.combine(J, ["a", "b"])
    assert method.weights == pytest.approx(dict(zip("ab", expected, strict=True)), abs=1e-4)


def test_mgda_satisfies_its_kkt_conditions_everywhere():
    for kind, jacobian in STRATA:
        _, _, norms, w, d, gains = solve(MGDA(), jacobian)
        assert w.min() >= 0 and w.sum() == pytest.approx(1)
        if np.sqrt(d @ d) > 1e-6 * norms.min():  # else the hull reaches 0 but for rounding
            rounding = 1e-14 * norms * np.sqrt(d @ d)
            assert (gains >= d @ d * (1 - 1e-6) - rounding).all(), kind
            slack = np.abs(gains - d @ d)[w > 1e-9 * w.max()]
            assert (slack <= 1e-6 * (d @ d) + rounding[w > 1e-9 * w.max()]).all(), kind


def test_nash_and_fairgrad_solve_their_equation_everywhere():
    bargains = 0
    for kind, jacobian in STRATA:
        for method in (NashMTL(), FairGrad(), FairGrad(5.0)):
            X, _, norms, w, d, gains = solve_or_none(method, jacobian)
            here = norms > 0
            if w is None:
                assert kind == "far apart" and method.alpha > 1
                continue
            if not here.any():
                continue
            if is_stationary(X[here]):  # no direction is good for all: no bargain
                assert np.linalg.norm(d) <= STATIONARY
                continue
            bargains += 1
            assert (w[here] > 0).all() and (w[~here] == 0).all()
            error = np.abs(gains[here] * w[here] ** (1 / method.alpha) - 1)
            assert (error < 1e-6 + rounding(X, w, gains)[here]).all(), (kind, method.alpha)
    assert bargains > 2500


def test_bargains_hold_where_gradients_nearly_cancel():
    """Close to a Pareto-stationary point the weights are huge and the potential is mere rounding."""
    random = np.random.default_rng(1)
    bargains = 0
    for _ in range(1000):
        K = int(random.integers(2, 11))
        units = random.normal(size=(K, K + 3))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        units[-1] = -(random.random(K - 1) @ units[:-1]) + 10 ** random.uniform(-6, -1) * random.normal(size=K + 3)
        X = units * 10 ** random.uniform(-2, 2, (K, 1))
        for method in (NashMTL(), FairGrad(), FairGrad(5.0)):
            w = method.weigh(X, [])
            d = X.T @ w
            if np.linalg.norm(d) > STATIONARY and w.min() > 0:
                bargains += 1
                assert (np.abs((X @ d) * w ** (1 / method.alpha) - 1) < 1e-6 + rounding(X, w, X @ d)).all()
    assert bargains > 1000


def test_cagrad_closes_the_gap_between_primal_and_dual_everywhere():
    for kind, jacobian in STRATA:
        _, G, norms, weights, _, gains = solve(CAGrad(0.5), jacobian)
        mean = np.full(len(G), 1 / len(G))
        size = np.sqrt(max(mean @ G @ mean, 0))
        if size <= 1e-6 * norms.max():
            continue  # g_0 = 0 but for rounding
        if (norms == 0).any():  # no direction gains more than 0 for all
            assert gains.min() >= -1e-12 * size * norms.max(), kind
            continue
        w = (weights - mean) / (weights - mean).sum()
        length = np.sqrt(max(w @ G @ w, 0))
        away = np.sqrt(max((weights - mean) @ G @ (weights - mean), 0))
        assert away <= 0.5 * size * (1 + 1e-6), kind
        dual = w @ G @ mean + 0.5 * size * length  # an upper bound of min g_i·d for every w on the simplex
        assert w.min() >= -1e-9
        assert dual - gains.min() <= 1e-6 * size * norms.max(), kind


def test_upgrad_projects_on_the_dual_cone_everywhere():
    for kind, jacobian in STRATA:
        X = jacobian.double().numpy()
        X = X[np.linalg.norm(X, axis=1) > 0]
        U = X / np.linalg.norm(X, axis=1, keepdims=True)
        C = U @ U.T
        for k in range(len(C)):
            v = UPGrad().weigh_units(U, np.eye(len(C))[k]) * len(C)  # the projection of the k-th unit gradient alone
            u = np.eye(len(C))[k]
            gains, scale = C @ v, 1e-8 * max(1, np.abs(v).sum())
            assert (v >= u - scale).all(), kind
            assert (gains >= -scale).all(), kind
            assert np.abs((v - u) * gains).max() <= scale * np.abs(v).max(), kind


def test_imtl_g_and_config_have_equal_projections_everywhere():
    for kind, jacobian in STRATA:
        X, _, norms, w, d, _ = solve(IMTLG(), jacobian)
        here = norms > 0
        if not here.any():
            continue
        units = X[here] / norms[here, None]
        scale = np.abs(w * norms).sum()
        assert np.ptp(units @ d) <= 1e-9 * scale, kind
        assert abs(w.sum()) == pytest.approx(1) or not w.any()  # no direction has equal projections
        *_, d, _ = solve(ConFIG(), jacobian)
        solvable = np.linalg.lstsq(units, np.ones(len(units)), rcond=1e-6)[0]
        if np.allclose(units @ solvable, 1, atol=1e-6):
            assert np.ptp(units @ d) <= 1e-8 * np.abs(units @ d).max() and (units @ d).min() > 0, kind
            assert np.linalg.norm(d) == pytest.approx(np.abs((X @ d).sum()) / np.linalg.norm(d), rel=1e-6)


def test_aligned_gradients_have_condition_number_one_everywhere():
    for kind, jacobian in STRATA:
        X = jacobian.double().numpy()
        sizes = np.linalg.svd(AlignedMTL().align(X) @ X, compute_uv=False)
        kept = sizes[sizes > 1e-3 * sizes.max()]
        if len(kept):
            assert kept.max() / kept.min() < 1 + 1e-6, kind
            assert len(kept) == np.linalg.matrix_rank(X, rtol=1e-6), kind


@pytest.mark.parametrize("method", NEVER_CONFLICTING, ids=lambda method: method.__name__)
def test_the_direction_hurts_no_task(method):
    for kind, jacobian in STRATA:
        _, _, norms, w, d, gains = solve(method(), jacobian)
        rounding = 1e-12 * np.abs(w * norms).sum()
        assert (gains >= -norms * (1e-6 * np.linalg.norm(d) + rounding)).all(), kind


def test_share_of_directions_that_hurt_no_task():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(1000, 4, 6, generator=generator, dtype=torch.double)
    shares = {}
    for method in (*NEVER_CONFLICTING, ConFIG, CAGrad, AlignedMTL, PCGrad, GradVac):
        share = [bool(((x @ method().combine(x)) >= -1e-9).all()) for x in drawn]
        shares[method] = sum(share) / len(share)
    mean = sum(bool(((x @ x.sum(0)) >= 0).all()) for x in drawn) / len(drawn)
    assert all(shares[method] == 1 for method in (*NEVER_CONFLICTING, ConFIG))
    assert mean < 0.65 and all(0.8 < shares[method] < 1 for method in (CAGrad, AlignedMTL, PCGrad, GradVac))


@pytest.mark.parametrize("method", DETERMINISTIC, ids=lambda method: method.__name__)
def test_the_order_of_the_tasks_and_the_scale_do_not_matter(method):
    generator = torch.Generator().manual_seed(1)
    for K in (2, 3, 5):
        x = torch.randn(K, 8, generator=generator, dtype=torch.double)
        order = torch.randperm(K, generator=generator)
        d = method().combine(x)
        assert torch.allclose(method().combine(x[order]), d, rtol=1e-6, atol=1e-9)
        for scale in (1e-6, 1e6):
            scaled = method().combine(scale * x)
            assert torch.allclose(scaled / scaled.norm(), d / d.norm(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", GRADIENT_METHODS, ids=lambda method: method.__name__)
def test_one_task_keeps_its_direction_and_a_zero_gradient_stays_finite(method):
    one = torch.tensor([[3.0, -4.0, 12.0]], dtype=torch.double)
    d = method().combine(one)
    assert torch.allclose(d / d.norm(), one[0] / 13)
    for zeros in (torch.zeros(3, 5), torch.tensor([[0.0, 0], [1, 2], [-2, 1]])):
        assert method().combine(zeros).isfinite().all()


@pytest.mark.parametrize("method", GRADIENT_METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_names_the_task(method, bad):
    x = torch.ones(3, 4)
    x[1, 2] = bad
    with pytest.raises(WeightingError, match="'depth'"):
        method().combine(x, ["classify", "depth", "detect"])


@pytest.mark.parametrize("method", [IMTLG(), NashMTL(), FairGrad(1.0), ConFIG()], ids=lambda m: type(m).__name__)
def test_for_two_tasks_all_impartial_methods_bisect_the_angle(method):
    u = J / J.norm(dim=1, keepdim=True)
    bisector = u.sum(0) / u.sum(0).norm()
    d = deepcopy(method).combine(J)
    assert torch.allclose(d / d.norm(), bisector, atol=1e-8)


def test_identical_gradients_are_no_obstacle():
    g = torch.tensor([1.0, 2, 2], dtype=torch.double)
    for method in DETERMINISTIC:
        d = method().combine(torch.stack([g, g, g]))
        assert torch.allclose(d / d.norm(), g / 3), method


def test_what_cannot_be_solved_raises():
    with pytest.raises(WeightingError, match="not solved"):
        power_balance(np.array([[1.0], [-1.0]]), np.ones(2), 1.0)  # opposite gradients: no bargain exists
    opposite = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) @ torch.diag(torch.tensor([1.0, 0.0]))
    assert NashMTL().combine(opposite).abs().max() == 0  # seen beforehand: no direction is good for both


def test_graddrop_matches_its_expectation():
    x = torch.tensor([[3.0, -1.0, 2.0, 0.0], [-1.0, -2.0, 2.0, 0.0]])
    method = GradDrop()
    mean = torch.stack([method.combine(x) for _ in range(20_000)]).mean(0)
    # P(positive) = 3/4, 0, 1, any: expectation 3/4·3 - 1/4·1, -3, 4, 0; standard error 0.012
    assert torch.allclose(mean, torch.tensor([2.0, -3.0, 4.0, 0.0]), atol=0.05)


def test_pcgrad_projects_off_the_original_gradients_of_the_others():
    x = torch.tensor([[1.0, 0, 0], [-1, 1, 0], [-1, -1, 1]], dtype=torch.double)
    directions = set()
    for seed in range(20):
        d = PCGrad(seed).combine(x)
        directions.add(tuple(d.mul(1e4).round().tolist()))
    by_hand = set()
    for orders in np.ndindex(2, 2, 2):
        total = torch.zeros(3, dtype=torch.double)
        for i, flip in enumerate(orders):
            others = [j for j in range(3) if j != i][:: -1 if flip else 1]
            g = x[i].clone()
            for j in others:
                g -= min(0.0, float(g @ x[j])) / float(x[j] @ x[j]) * x[j]
            total += g
        by_hand.add(tuple(total.mul(1e4).round().tolist()))
    assert directions <= by_hand and len(directions) > 1


def test_gradvac_raises_the_cosine_to_the_running_target():
    method = GradVac(beta=0.5)
    a, b = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.double)
    assert torch.allclose(method.combine(torch.stack([a, b])), a + b)  # cos 0.6 > target 0: nothing to do
    assert method.phi["0"]["1"] == pytest.approx(0.3)
    c = torch.tensor([0.0, 2.0], dtype=torch.double)
    x = torch.stack([a, c])
    w = method.weigh(x.numpy(), ["0", "1"])
    moved = a + (w[1] - 1) * c  # what task 0 was given of c, as w = (1 + ..., 1 + ...)
    assert float(moved @ c / (moved.norm() * c.norm())) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", NEVER_CONFLICTING, ids=lambda method: method.__name__)
def test_two_gradients_at_any_angle_are_both_served(kind):
    """From equal to opposite, 1e-8 rad off either, with lengths up to 1e6 apart."""
    for angle, jacobian in pairs():
        method = kind()
        d = method.combine(jacobian, ["a", "b"])
        norms = jacobian.norm(dim=1)
        gains = jacobian @ d / norms
        rounding = 1e-15 * float(torch.tensor(list(method.weights.values())) @ norms.float())
        assert (gains >= -rounding).all(), (angle, gains)
        if angle < np.pi - 1e-3:
            assert (gains >= -1e-12 * d.norm()).all() and d.norm() > 0, (angle, gains)


@pytest.mark.parametrize("method", [IMTLG, ConFIG, NashMTL, UPGrad], ids=lambda method: method.__name__)
def test_nearly_opposite_gradients_keep_property_and_symmetry(method):
    """Gradients of one length, mirrored at the direction that is good for both."""
    for off in (1e-1, 1e-2, 1e-3, 1e-4):
        a = torch.tensor([np.cos(off / 2), np.sin(off / 2), 0.0], dtype=torch.double)
        b = torch.tensor([-np.cos(off / 2), np.sin(off / 2), 0.0], dtype=torch.double)
        d = method().combine(torch.stack([a, b]))
        assert abs(float(d[0])) < 1e-9 * float(d[1]), off
        assert float(a @ d) == pytest.approx(float(b @ d), rel=1e-6) and float(a @ d) > 0
        if method is NashMTL:
            assert float(d.norm()) == pytest.approx(2**0.5)
        if method is UPGrad:
            assert float(d[1]) == pytest.approx(np.sin(off) * np.cos(off / 2), rel=1e-6)


@pytest.mark.parametrize("method", NEVER_CONFLICTING, ids=lambda method: method.__name__)
def test_a_narrow_cone_of_gradients_is_served(method):
    for angle, jacobian in cones():
        d = method().combine(jacobian)
        gains = jacobian @ d / jacobian.norm(dim=1)
        assert (gains >= -1e-12 * d.norm()).all() and d.norm() > 0, (angle, gains)


def test_impartial_projections_are_equal_in_a_narrow_cone():
    for angle, jacobian in cones():
        units = jacobian / jacobian.norm(dim=1, keepdim=True)
        for method in (IMTLG(), ConFIG()):
            gains = units @ method.combine(jacobian)
            assert float(gains.max() - gains.min()) < 1e-6 * float(gains.mean()), (angle, method)


def test_a_bargain_of_any_fairness_is_found():
    found = refused = 0
    for kind, jacobian in STRATA[:500]:
        for alpha in (0.2, 10.0, 1000.0):
            X, _, norms, w, _, gains = solve_or_none(FairGrad(alpha), jacobian)
            here = norms > 0
            if w is None:
                assert kind == "far apart" or alpha == 0.2, (
                    kind,
                    alpha,
                )  # its fourth powers: 16 digits do not say what d is
                refused += 1
                continue
            if not here.any() or is_stationary(X[here]):
                continue
            with np.errstate(divide="ignore"):
                log_w = np.log(w[here])
            seen = log_w > -700  # a weight that is 0 but for the logarithm has no place among numbers
            error = np.abs(np.log(gains[here]) + log_w / alpha)
            assert (error <= 1e-6 + rounding(X, w, gains)[here])[seen].all(), (kind, alpha)
            found += 1
    assert found > 1200 and refused < 50


def rounding(X, w, gains):
    """Return the part of each gain that rounding may take, where d is what is left of large numbers."""
    norms = np.linalg.norm(X, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1e-14 * (np.abs(w) * norms).sum() * norms / np.abs(gains)


def is_stationary(X):
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    return np.linalg.norm(MGDA().weigh(units, []) @ units) < STATIONARY


def solve_or_none(method, jacobian):
    try:
        return solve(method, jacobian)
    except WeightingError:
        norms = np.linalg.norm(jacobian.double().numpy(), axis=1)
        return None, None, norms, None, None, None


def test_sdmgrad_is_optimal_and_between_mgda_and_the_mean():
    for kind, jacobian in STRATA:
        X, _, norms, weights, _, _ = solve(SDMGrad(0.3), jacobian)
        w = 1.3 * weights - 0.3 / len(X)
        assert w.min() >= -1e-9 and w.sum() == pytest.approx(1)
        d = X.T @ w + 0.3 * X.mean(0)
        if d @ d > 1e-12 * norms.max() ** 2:
            assert ((X + 0.3 * X.mean(0)) @ d >= d @ d * (1 - 1e-6)).all(), kind  # the slope towards every corner
    assert torch.allclose(SDMGrad(0.0).combine(J), MGDA().combine(J))
    assert torch.allclose(SDMGrad(1e9).combine(J), J.mean(0), atol=1e-6)


def test_gradvac_stays_finite_where_gradients_are_equal():
    method, x = GradVac(beta=0.5), torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.double)
    for _ in range(200):
        assert method.combine(x).isfinite().all()
    turned = torch.tensor([[1.0, 2.0], [2.0, -1.0]], dtype=torch.double)
    assert method.combine(turned).isfinite().all()


def test_cagrad_gives_a_zero_gradient_no_weight_of_its_own():
    method = CAGrad()
    method.combine(torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.double), ["idle", "busy"])
    assert method.weights["idle"] == pytest.approx(0.5)


def test_of_two_zero_gradients_none_dominates():
    found = conflict(torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]))
    assert found.dominance.tolist() == [[1, 1, 0], [1, 1, 0], [float("inf"), float("inf"), 1]]
    assert found.cosines.isfinite().all()


# --- beside TorchJD 0.18 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (UPGrad(), jd.UPGrad()),
        (IMTLG(), jd.IMTLG()),
        (ConFIG(), jd.ConFIG()),
        (AlignedMTL(), jd.AlignedMTL()),
        (FairGrad(2.0), jd.FairGrad(2.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_agreement_where_torchjd_is_exact(ours, theirs):
    ours = deepcopy(ours)
    generator = torch.Generator().manual_seed(2)
    for K in (1, 2, 4):
        x = torch.randn(K, 9, generator=generator, dtype=torch.double)
        tolerance = 2e-3 if isinstance(ours, UPGrad) else 1e-5  # its UPGrad regularises G by 1e-4
        assert torch.allclose(ours.combine(x), theirs(x), atol=tolerance * float(x.norm())), K


def test_agreement_with_torchjds_pcgrad_for_two_tasks():
    assert torch.allclose(PCGrad().combine(J), jd.PCGrad()(J))


def test_mgda_is_shorter_than_torchjds_where_frank_wolfe_stops_early():
    generator = torch.Generator().manual_seed(3)
    ours, theirs = [], []
    for _ in range(30):
        x = torch.randn(10, 20, generator=generator, dtype=torch.double)
        x *= 10 ** (2 * torch.rand(10, 1, generator=generator, dtype=torch.double))
        ours.append(float(MGDA().combine(x).norm() ** 2))
        theirs.append(float(jd.MGDA()(x).norm() ** 2))
    assert all(a <= b * (1 + 1e-9) for a, b in zip(ours, theirs, strict=True))
    assert np.median(np.array(theirs) / ours) > 1.02


@pytest.mark.filterwarnings("ignore:.*not DPP")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CAGrad(0.5), lambda: jd.CAGrad(0.5)),
        (NashMTL(), lambda: jd.NashMTL(n_tasks=4, max_norm=0)),
        (FairGrad(2.0), lambda: jd.FairGrad(2.0)),
    ],
    ids=["CAGrad", "NashMTL", "FairGrad"],
)
def test_small_gradients_are_solved_as_exactly_as_large_ones(ours, theirs):
    ours = deepcopy(ours)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(4, 9, generator=generator, dtype=torch.double)

    def error(d):
        return float((d / d.norm().clamp(min=1e-30) - exact).norm())

    exact = ours.combine(x) / ours.combine(x).norm()
    assert error(theirs()(x)) < 1e-5  # at scale 1 the libraries agree
    assert error(ours.combine(1e-6 * x)) < 1e-6
    assert error(theirs()(1e-6 * x)) > 0.1


# --- edges that were found by trying --------------------------------------------------------------------------------


def test_cagrad_is_best_for_the_worst_off_though_its_gradient_is_tiny():
    """The direction on the rim of the ball that has the largest smallest gain, by trying them all."""
    for ratio in (1e-4, 1e-6, 1e-8):
        x = torch.tensor([[1.0, 0.0], [-0.3 * ratio, 0.954 * ratio]], dtype=torch.double)
        d = CAGrad(0.5).combine(x)
        mean = x.mean(0)
        angles = torch.linspace(0, 2 * np.pi, 20001, dtype=torch.double)
        rim = mean + 0.5 * mean.norm() * torch.stack([angles.cos(), angles.sin()], 1)
        best = (rim @ x.T).min(1).values.max()
        assert float((x @ d).min()) == pytest.approx(float(best), rel=1e-3)
        assert float((d - mean).norm() / mean.norm()) == pytest.approx(0.5)


def test_fairgrad_is_exact_for_lengths_far_apart_and_where_gradients_nearly_cancel():
    generator = torch.Generator().manual_seed(286)
    apart = torch.randn(8, 13, generator=generator, dtype=torch.double)
    apart *= 10 ** (8 * torch.rand(8, 1, generator=generator, dtype=torch.double))
    random = np.random.default_rng(34)
    K = int(random.integers(6, 16))
    flat = torch.from_numpy(random.normal(size=(K, K)) * 10 ** random.uniform(-2, 2, (1, K)))
    for x, length in ((apart, None), (flat, 20.4)):
        method = FairGrad(5.0)
        d = method.combine(x)
        w = torch.tensor(list(method.weights.values()), dtype=torch.double)
        assert ((x @ d) * w ** (1 / 5) - 1).abs().max() < 1e-6
        assert length is None or float(d.norm()) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("method", [m for m in BY_ANGLE if m is not MGDAUB])
def test_gradients_are_taken_where_it_is_asked(method):
    assert method(at="features").at == "features" and method().at == "parameters"
    with pytest.raises(ValueError, match="gradients are taken at 'heads': expected 'parameters' or 'features'"):
        method(at="heads")


def test_of_gradients_that_nearly_cancel_the_shortest_vector_is_left():
    nearly = torch.tensor([[1, 1e-5], [-1, 1e-5]], dtype=torch.double)
    left = torch.tensor([0, 1e-5], dtype=torch.double)
    for method in (FairGrad(), NashMTL()):
        assert torch.allclose(method.combine(nearly), left, rtol=1e-6, atol=1e-12)


def test_nash_keeps_its_weights_where_some_gradients_cancel():
    method = NashMTL(every=5)
    method.combine(torch.eye(3, dtype=torch.double), ["a", "b", "c"])
    method.combine(torch.tensor([[1, 1e-5, 0], [-1, 1e-5, 0], [0, 0.1, 1.0]], dtype=torch.double), ["a", "b", "c"])
    assert all(alpha > 0 for alpha in method.alphas.values())


def test_the_projection_of_a_zero_gradient_counts_in_upgrads_mean():
    tiny, none = (UPGrad().combine(torch.diag(torch.tensor([4.0, e, e], dtype=torch.double))) for e in (1e-30, 0.0))
    assert torch.allclose(tiny, none) and float(none[0]) == pytest.approx(4 / 3)


def test_a_broken_gradient_is_not_called_orthogonal():
    assert conflict(torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])).cosines[0, 1].isnan()
