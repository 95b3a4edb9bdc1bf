"""The three small problems that the methods come down to, solved exactly. K is a handful, so all is float64 numpy."""

import contextlib

import numpy as np

from mtlkit.weighting.checks import WeightingError
from mtlkit.weighting.gradients import Array

RANK = 1e-12  # eigenvalues below this part of the largest are rounding, not signal
STATIONARY = 1e-3  # unit gradients that cancel to less than this leave no direction that is good for all


def root(G: Array) -> Array:
    """Return A with AᵀA = G: columns with the geometry of the gradients, in K dimensions."""
    values, V = np.linalg.eigh(G)
    return np.sqrt(values.clip(min=0))[:, None] * V.T


def nonnegative(A: Array, b: Array) -> Array:
    """Return x ≥ 0 that minimises ‖A x - b‖, by an active set that ends at the exact answer (Lawson, Hanson 1974)."""
    from scipy.optimize import nnls  # slow to import

    try:
        return nnls(A, b)[0]
    except RuntimeError as error:
        raise WeightingError(f"the quadratic programme for the task weights was not solved ({error})") from error


def shortest(G: Array) -> Array:
    """Return w on the simplex (w ≥ 0, Σ w = 1) that minimises wᵀ G w: the shortest vector in the gradients' hull.

    Minimising ‖A x‖² + (Σ x - 1)² over x ≥ 0 gives a multiple of that w (Lawson, Hanson 1974, chapter 23). Gradients
    are first scaled to unit length (x_i = y_i / ‖g_i‖), so that tasks of any size are told apart.
    """
    norms = np.sqrt(G.diagonal())
    if (norms == 0).any():
        return (norms == 0) / (norms == 0).sum()
    if len(G) == 2:  # the foot of the perpendicular on the line between the two, if it lies between them
        gap = G[0, 0] - 2 * G[0, 1] + G[1, 1]
        first = np.clip((G[1, 1] - G[0, 1]) / gap, 0.0, 1.0) if gap > 0 else 0.5
        return np.array([first, 1 - first])
    ratio = norms.min() / norms
    y = nonnegative(np.vstack([root(G / np.outer(norms, norms)), ratio]), np.append(np.zeros(len(G)), 1.0))
    w = y * ratio
    return w / w.sum()


def power_balance(C: Array, c: Array, p: float) -> Array:
    """Return b > 0 with C b = c b^{-p}: the minimum of ½ bᵀCb - Σ ∫ c b^{-p}, convex, by Newton's method."""
    b = c ** (1 / (1 + p))
    b = b * ((c @ b ** (1 - p)) / max(float(b @ C @ b), RANK)) ** (1 / (1 + p))  # as long as a solution must be

    def potential(b: Array) -> float:
        barrier = np.log(b) if p == 1 else b ** (1 - p) / (1 - p)
        return float(b @ C @ b / 2 - c @ barrier)

    error = np.inf
    with contextlib.suppress(np.linalg.LinAlgError):
        for _ in range(200):
            pull = c * b**-p
            gradient = C @ b - pull
            step = -np.linalg.solve(C + np.diag(p * pull / b), gradient)
            error = np.abs(gradient / pull).max()
            if error < 1e-7 and np.abs(step / b).max() < 1e-7:
                return b
            t = min(1.0, 0.9 / max(1e-300, (-step / b).max()))  # stay positive
            near = -gradient @ step < 1e-3 * (pull @ b)  # Newton's steps are sure here, and the potential mere rounding
            start = potential(b)
            while not near and potential(b + t * step) > start + 1e-4 * t * (gradient @ step) and t > 1e-10:
                t /= 2
            b = b + t * step
    if error < 1e-6:
        return b
    raise WeightingError(
        f"the equations for the task weights were not solved: a relative error of {error:.1g} is left; "
        "the gradients nearly cancel each other"
    )
