"""Where a method's formula meets the last digits: nearly parallel, nearly opposite, tiny, huge, in few digits."""

import numpy as np
import pytest
import torch

from mtlkit.tasks import delta_m
from mtlkit.weighting import (
    DWA,
    IMTLG,
    MGDA,
    UWSO,
    CAGrad,
    ConFIG,
    ExcessMTL,
    FairGrad,
    GradDrop,
    GradNorm,
    GradVac,
    NashMTL,
    PCGrad,
    SDMGrad,
    SmoothTchebycheff,
    WeightingError,
)


def rows(*values):
    return torch.tensor(values, dtype=torch.double)


@pytest.mark.parametrize("angle", [1.0, 1e-2, 3e-3, 1e-5, 1e-7, 1e-8, 1e-9])
@pytest.mark.parametrize("length", [1.0, 1e3, 1e-6])
def test_imtl_g_of_two_tasks_weighs_by_the_inverse_lengths_at_every_angle(angle, length):
    J = rows([1, 0], [length * np.cos(angle), length * np.sin(angle)])
    method = IMTLG()
    d = method.combine(J, ["a", "b"])
    share = np.array([1, 1 / length]) / (1 + 1 / length)
    assert [method.weights[task] for task in "ab"] == pytest.approx(share, rel=1e-9)
    assert d.tolist() == pytest.approx((share @ J.numpy()).tolist(), rel=1e-9)
    config = ConFIG().combine(J)
    assert config / config.norm() @ d / d.norm() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("K", [3, 5])
@pytest.mark.parametrize("width", [1e-2, 1e-5, 1e-7])
def test_imtl_g_of_more_tasks_in_a_narrow_cone_has_the_direction_that_differences_give(K, width):
    """g_i = (1, width o_i). d = (d_0, r) has equal gains where r solves (o_i - o_0)·r width = gain (|g_i| - |g_0|)."""
    generator = torch.Generator().manual_seed(K)
    for _ in range(20):
        offsets = torch.randn(K, K + 1, generator=generator).double()
        J = torch.cat([torch.ones(K, 1).double(), width * offsets], 1)
        d = IMTLG().combine(J)
        gains = J @ d / J.norm(dim=1)
        assert (gains - gains.mean()).abs().max() <= 1e-13 * d.norm()
        longer = (width * offsets).square().sum(1) / (1 + J.norm(dim=1))  # |g_i| - 1, to the last digit
        apart = offsets[1:] - offsets[:1]
        along = torch.linalg.pinv(apart) @ (longer[1:] - longer[0]) / width
        in_span = torch.linalg.pinv(apart) @ (apart @ d[1:])
        assert torch.allclose(in_span, gains.mean() * along, rtol=1e-6, atol=1e-6 * float(in_span.norm()))


def test_equal_gradients_share_a_weight():
    assert MGDA().weigh(np.array([[1.0, 2, 2]] * 3), "abc") == pytest.approx([1 / 3] * 3)
    w = MGDA().weigh(np.array([[1.0, 0], [0, 2], [1, 0], [0, 2], [0, 2]]), "abcde")
    assert w == pytest.approx([0.4, 0.2 / 3, 0.4, 0.2 / 3, 0.2 / 3])


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-7, 1e-8, 1e-9])
def test_cagrad_reaches_the_rim_where_two_gradients_nearly_cancel(angle):
    J = rows([1, angle], [-1, angle])
    mean = J.mean(0)
    for c in (0.5, 2.0):
        assert (CAGrad(c).combine(J) - mean).norm() / mean.norm() == pytest.approx(c, rel=1e-9)


@pytest.mark.parametrize("angle", [1e-2, 1e-5, 1e-7, 1e-8])
def test_gradvac_reaches_its_target_near_opposite_gradients(angle):
    J = rows([1, angle], [-1, angle])
    for mine, other in ((0, 1), (1, 0)):
        method = GradVac()
        method.phi = {str(mine): {str(other): 0.5}, str(other): {str(mine): -1.0}}  # the other one stays as it is
        moved = method.combine(J) - J[other]
        assert moved @ J[other] / moved.norm() / J[other].norm() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_graddrop_keeps_what_all_tasks_want_in_every_precision(dtype):
    assert (GradDrop().combine(torch.ones(2, 200_000, dtype=dtype)) == 2).all()


@pytest.mark.parametrize("method", [PCGrad, GradDrop, ExcessMTL])
def test_what_does_not_fit_in_float16_is_refused(method):
    with pytest.raises(WeightingError, match="too large for float16"):
        method().combine(torch.tensor([[6e4, 100], [6e4, -100]], dtype=torch.float16))


def test_excess_mtl_keeps_the_weights_that_are_too_small_to_be_written_down():
    method = ExcessMTL()
    method.combine(rows([1e-6], [1.0]), ["a", "b"])
    method.combine(rows([1.0], [1.0]), ["a", "b"])
    assert method.weights == pytest.approx({"a": 2.0, "b": 0.0})
    before = {task: float(log) for task, log in method.logits.items()}
    assert before["b"] < -5000
    assert method.combine(rows([1.0]), ["b"]).tolist() == [1.0]
    assert method.logits["a"] - method.logits["b"] == pytest.approx(before["a"] - before["b"], rel=1e-5)
    assert method.combine(rows([1.0], [1.0]), ["a", "b"]).isfinite().all()


def test_nash_keeps_no_weights_of_a_step_in_which_gradients_cancel():
    method = NashMTL(every=5)
    method.combine(torch.eye(3).double(), ["a", "b", "c"])
    method.combine(1e-3 * rows([1, 1e-5, 0], [-1, 1e-5, 0], [0, 0.1, 1]), ["a", "b", "c"])
    assert method.alphas == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})


def test_fairgrad_refuses_what_it_has_not_solved():
    J = rows([1, 2.5e-4], [-1e3, 0.25])
    with pytest.raises(WeightingError, match="not solved"):
        FairGrad(0.1).combine(J)
    w = FairGrad(1.0).weigh(J.numpy(), "ab")
    assert (J @ (J.T @ torch.as_tensor(w)) * torch.as_tensor(w)).tolist() == pytest.approx([1, 1], rel=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1e-12, 1e20])
def test_gradnorm_does_not_depend_on_how_long_gradients_or_large_losses_are(scale):
    found = []
    for size in (1.0, scale):
        method = GradNorm()
        method.balance(["a", "b"], rows(1.0, 1.0), rows(10.0, 1.0) * size)
        for _ in range(50):
            method.balance(["a", "b"], rows(3.0, 1.0) * size, rows(10.0, 1.0) * size)
        found.append([float(method.w[task]) for task in "ab"])
    assert found[0] == pytest.approx(found[1], rel=1e-6) and found[0] != pytest.approx([1, 1], rel=0.03)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SmoothTchebycheff(0.0), r"SmoothTchebycheff\(mu=0.0\): expected a finite number above 0"),
        (lambda: DWA(temperature=0.0), "temperature=0.0"),
        (lambda: UWSO(0.0), "temperature=0.0"),
        (lambda: SDMGrad(-1.0), "lam=-1.0.*0 or more"),
        (lambda: SDMGrad(float("inf")), "lam=inf"),
        (lambda: FairGrad(0.0), "alpha=0.0"),
        (lambda: FairGrad(float("nan")), "alpha=nan"),
        (lambda: CAGrad(-1.0), "c=-1.0"),
    ],
)
def test_a_parameter_without_meaning_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
    assert SDMGrad(0.0).lam == CAGrad(0.0).c == 0


@pytest.mark.parametrize("baseline", [0.0, -0.0, float("nan"), float("inf")])
def test_no_gain_is_relative_to_nothing(baseline):
    with pytest.raises(ValueError, match=r"the baseline of 'a' is .*undefined"):
        delta_m({"a": 1.0}, {"a": baseline})
