"""Balancing gradients by solving for a direction. Each class is one method, in the symbols of its paper.

J has the gradients g_i as rows, u_i = g_i / ‖g_i‖, U has the u_i as rows. All methods give weights w, and d = Jᵀ w.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.base import Losses, Update, Weighting, as_parts
from mtlkit.weighting.checks import WeightingError, at_least, constants, names
from mtlkit.weighting.gradients import GradientWeighting
from mtlkit.weighting.graph import Shared
from mtlkit.weighting.solvers import (
    ROUNDING,
    STATIONARY,
    Array,
    equal_gains,
    nonnegative,
    power_balance,
    shortest,
)


class MGDA(GradientWeighting):
    """min ‖Jᵀ w‖², w on the simplex (Désidéri, Comptes Rendus Mathématique 2012): the shortest convex combination.

    d = 0 only where no step is good for all tasks; otherwise g_i·d ≥ ‖d‖² for all i. Short gradients dominate: a
    converged task can stop all others.
    """

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w."""
        return shortest(J)


class MGDAUB(MGDA):
    """MGDA with the gradients taken at the shared features (Sener, Koltun, NeurIPS 2018): one backward pass."""

    def __init__(self) -> None:
        super().__init__(at="features")


class CAGrad(GradientWeighting):
    """max_d min_i g_i·d with ‖d - g_0‖ ≤ c ‖g_0‖, g_0 the *mean* gradient (Liu et al., NeurIPS 2021).

    The optimum is d = g_0 + c ‖g_0‖ g_w / ‖g_w‖ with g_w = Σ w_i g_i, w on the simplex. d is returned as it is, not
    divided by 1 + c² as some implementations do, nor multiplied by K. At c = 0 it is the mean of the gradients.

    Solved by Lagrange: for a price 1/μ of leaving g_0, d is 1/μ times the shortest vector in the hull of g_i + μ g_0;
    μ is then found such that ‖d - g_0‖ = c ‖g_0‖.
    """

    def __init__(self, c: float = 0.5, at: str = "parameters") -> None:
        super().__init__(at)
        self.c = at_least(self, "c", c, open=False)

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return the weights of all g_i in d; that of a zero gradient says nothing and is 1 / K."""
        from scipy.optimize import brentq  # slow to import

        mean = np.full(len(J), 1 / len(J))
        norms = np.linalg.norm(J, axis=1)
        size = np.linalg.norm(mean @ J)
        if size <= 1e-12 * norms.max() or self.c == 0:
            return mean  # g_0 = 0: the ball is a point
        J = J / size  # now ‖g_0‖ = 1

        def away(log_mu: float) -> tuple[Array, float]:
            mu = np.exp(log_mu)
            w = shortest(J + mu * (mean @ J))
            return w, float(np.linalg.norm(w @ J)) / mu

        least = np.linalg.norm(shortest(J) @ J)  # ‖g_w‖ is between the shortest of all and the longest g_i
        surely = 1e-12 * norms.max() if len(J) == 2 else 1e-6 * norms[norms > 0].min()  # below, w may be rounding
        low, high = np.log(np.array([max(least, surely / size), 2 * norms.max() / size]) / self.c)
        if away(low)[1] <= self.c:  # the best direction of all lies inside the ball
            more = away(low)[0] * np.exp(-low)
        else:
            w, _ = away(brentq(lambda log_mu: np.log(max(away(log_mu)[1], 1e-300) / self.c), low, high, xtol=1e-13))
            more = self.c * w / np.linalg.norm(w @ J)
        return mean + np.where(norms > 0, more, 0.0)


class SDMGrad(GradientWeighting):
    """d = (g_w + λ g_0) / (1 + λ), w on the simplex the minimum of ‖g_w + λ g_0‖², g_w = Σ w_i g_i, g_0 the mean.

    Xiao, Ban, Ji, "Direction-oriented multi-objective learning", NeurIPS 2023. λ = 0 is MGDA, λ → ∞ the mean gradient.
    The paper moves w by a few stochastic steps from where it was, with the gradients of two independent batches, whose
    product is an unbiased estimate, takes d from a third, and its code multiplies d by K; here w is the minimum for the
    batch at hand. Its variant that draws some of the objectives is not here.
    """

    def __init__(self, lam: float = 0.3, at: str = "parameters") -> None:
        super().__init__(at)
        self.lam = at_least(self, "lam", lam, open=False)

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return the weights of all g_i in d."""
        return (shortest(J + self.lam * J.mean(0)) + self.lam / len(J)) / (1 + self.lam)


class AlignedMTL(GradientWeighting):
    """w = σ_min V Σ⁻¹ Vᵀ 1/K, J = V Σ Wᵀ (Senushkin et al., CVPR 2023, algorithm 1): the mean of aligned gradients.

    The aligned gradients are orthogonal and all as long as the weakest principal component: condition number 1.
    Components below a millionth of the strongest are left out.
    """

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w."""
        return self.align(J).mean(1)

    def align(self, J: Array) -> Array:
        """Return B = σ_min V Σ⁻¹ Vᵀ `[K, K]`; the aligned gradients are the rows of B J."""
        V, sizes, _ = np.linalg.svd(J, full_matrices=False)
        kept = sizes > 1e-6 * sizes[0]
        if not kept.any():
            return np.zeros((len(J), len(J)))
        V, sizes = V[:, kept], sizes[kept]
        return sizes.min() * V / sizes @ V.T


class _UnitWeighting(GradientWeighting):
    """Methods that see unit gradients: d = Σ β_i u_i. A task with a zero gradient has none and is left out."""

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w, w_i = β_i / ‖g_i‖."""
        norms = np.linalg.norm(J, axis=1)
        here, w = norms > 0, np.zeros(len(J))
        if here.any():
            norms = norms[here]
            w[here] = self.weigh_units(J[here] / norms[:, None], norms) / norms
        return w

    def weigh_units(self, U: Array, norms: Array) -> Array:
        """Return β for the unit gradients `U [K, R]` and the gradients' norms `[K]`."""
        raise NotImplementedError


class UPGrad(_UnitWeighting):
    """The mean of the projections of the g_i on the cone of directions that hurt no task (Quinton, Rey, 2024).

    The projection of g_i is Jᵀ v with v = argmin {vᵀ G v: v ≥ e_i}; arXiv:2406.16232.
    """

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w; the projection of a zero gradient is 0 and counts in the mean."""
        return super().weigh(J, tasks) * np.count_nonzero(np.linalg.norm(J, axis=1)) / len(J)

    def weigh_units(self, U: Array, norms: Array) -> Array:
        """Return β."""
        projections = [e + nonnegative(U.T, -U[k]) for k, e in enumerate(np.eye(len(U)))]
        return norms @ np.array(projections) / len(U)


class FairGrad(_UnitWeighting):
    """G w = w^{-1/α}: α-fair shares of the gain g_i·d (Ban, Ji, ICML 2024).

    α = 1 is Nash's bargain, α → ∞ makes all gains equal. With α other than 1 the length of d changes with the scale of
    the losses, its direction does not. Where the gradients cancel (Pareto stationary) there is no such w: if the hull
    of the *unit* gradients comes nearer to 0 than 3e-5, as much as float32 can tell, d is its shortest vector.

    Raises:
        WeightingError: if w is not found, which can happen for α below ½ where gradients nearly cancel.
    """

    def __init__(self, alpha: float = 2.0, at: str = "parameters") -> None:
        super().__init__(at)
        self.alpha, self.solved = at_least(self, "alpha", alpha), True

    def weigh_units(self, U: Array, norms: Array) -> Array:
        """Return β."""
        stuck = shortest(U)
        left = np.linalg.norm(stuck @ U)
        self.solved = bool(left >= STATIONARY)
        if not self.solved:
            return stuck if left > ROUNDING else np.zeros(len(U))
        p = 1 / self.alpha
        size = np.exp(np.log(norms).mean())
        return size ** ((p - 1) / (p + 1)) * power_balance(U, norms / size, p)


class NashMTL(FairGrad):
    """G α = 1/α, d = Jᵀ α (Navon et al., ICML 2022, claim 3.1): the Nash bargain, g_i·d = 1/α_i > 0 for all i.

    Blind to the scale of each loss. ‖d‖ is √K however short the gradients are (K those that are not 0), unless they
    cancel, so give it an optimiser that adapts its step, or clip.

    Args:
        every: solve in every n-th step only; in between, the last α weighs the losses, at the price of one backward
            pass, and the heads get α_i times their gradients.
        at: as in `GradientWeighting`.
    """

    linear = True  # between two solutions

    def __init__(self, every: int = 1, at: str = "parameters") -> None:
        super().__init__(1.0, at)
        self.every, self.step = every, 0
        self.alphas: dict[str, float] = {}

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return α and keep it for the steps that follow, unless the gradients cancel."""
        w = super().weigh(J, tasks)
        if self.solved:
            known = zip(names(tasks, len(J)), w.tolist(), strict=True)
            self.alphas |= {task: alpha for task, alpha in known if alpha > 0}
        return w

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Solve if it is time or a task is new, else take the last α."""
        due = self.step % self.every == 0 or not self.alphas.keys() >= set(as_parts(losses).tasks)
        self.step += 1
        solve = super().backward if due else partial(Weighting.backward, self)
        return solve(losses, model, group, shared)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ α_i l_i with the last α: what the steps between two solutions minimise."""
        return torch.dot(constants([self.alphas[task] for task in names(tasks, len(losses))], losses), losses)

    def state_dict(self) -> dict[str, Any]:
        """Return the last α."""
        return {"step": self.step, "alphas": dict(self.alphas)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the last α."""
        self.step, self.alphas = state["step"], dict(state["alphas"])


class IMTLG(_UnitWeighting):
    """u_i·d equal for all i, Σ w_i = 1 (Liu et al., "Towards impartial multi-task learning", ICLR 2021).

    w may be negative. Where norms differ widely, Σ w = 1 can even turn d against all tasks alike; here it is then
    reversed (Σ w = -1). d = 0 where no direction has equal projections other than 0, or rounding hides it. For two
    tasks w_i = (1 / ‖g_i‖) / Σ_j (1 / ‖g_j‖).

    Raises:
        WeightingError: where the weights that equalise the projections sum to 0.
    """

    def weigh_units(self, U: Array, norms: Array) -> Array:
        """Return β."""
        beta, equal = equal_gains(U)
        if not equal:
            return np.zeros(len(U))
        total = (beta / norms).sum()
        if abs(total) <= 1e-12 * np.abs(beta / norms).sum():
            raise WeightingError("IMTL-G has no solution here: the weights that equalise the projections sum to 0")
        return beta / abs(total)


class ConFIG(_UnitWeighting):
    """d = (Σ g_i·u) u, u along U⁺ 1, U the *unit* gradients as rows (Liu, Chu, Thuerey, ICLR 2025, arXiv:2408.11104).

    All u_i·d are equal and positive where the u_i are linearly independent; otherwise as nearly equal as can be. Where
    gradients cancel, d = 0.
    """

    def weigh_units(self, U: Array, norms: Array) -> Array:
        """Return β."""
        beta, _ = equal_gains(U)
        d = beta @ U
        length = d @ d
        return beta * (norms @ U @ d) / length if length > ROUNDING**2 else np.zeros(len(U))
