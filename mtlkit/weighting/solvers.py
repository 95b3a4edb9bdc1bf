"""The small problems that the methods come down to, solved exactly. K is a handful, so all is float64 numpy.

J `[K, R]` has the gradients as rows, in any coordinates that keep their lengths and angles. All is worked out from J,
not from J Jᵀ, which has lost half of the digits where gradients are nearly parallel or nearly opposite.
"""

import contextlib

import numpy as np
from numpy.typing import NDArray

from mtlkit.weighting.checks import WeightingError

Array = NDArray[np.float64]
RANK = 1e-9  # singular values below this part of the largest are rounding, not signal
ROUNDING = 1e-7  # unit gradients that cancel to less than this: what is left of them is rounding
STATIONARY = 3e-5  # ... than this leave no direction that is good for all and that float32 could tell from rounding
NARROW = 0.99  # unit gradients with larger cosines are told apart by their differences
DIGITS = 4e9  # the sum of weights for gains of 1 beyond which rounding takes more than a millionth of the gains


def nonnegative(A: Array, b: Array) -> Array:
    """Return x ≥ 0 that minimises ‖A x - b‖, by an active set that ends at the exact answer (Lawson, Hanson 1974)."""
    from scipy.optimize import nnls  # slow to import

    try:
        return nnls(A, b)[0]
    except RuntimeError as error:
        raise WeightingError(f"the quadratic programme for the task weights was not solved ({error})") from error


def shortest(J: Array) -> Array:
    """Return w on the simplex (w ≥ 0, Σ w = 1) that minimises ‖Jᵀ w‖: the shortest vector in the gradients' hull.

    Minimising ‖Jᵀ x‖² + (Σ x - 1)² over x ≥ 0 gives a multiple of that w (Lawson, Hanson 1974, chapter 23). Gradients
    are first scaled to unit length (x_i = y_i / ‖g_i‖), so that tasks of any size are told apart.
    """
    norms = np.linalg.norm(J, axis=1)
    if (norms == 0).any():
        return (norms == 0) / (norms == 0).sum()
    if len({row.tobytes() for row in J}) < len(J):  # equal gradients share a weight
        rows, which, number = np.unique(J, axis=0, return_inverse=True, return_counts=True)
        return (shortest(rows) / number)[which.reshape(-1)]
    if len(J) == 1:
        return np.ones(1)
    if len(J) == 2:  # the foot of the perpendicular on the line between the two, if it lies between them
        gap = J[1] - J[0]
        if not gap.any():
            return np.array([0.5, 0.5])
        return np.clip(np.array([J[1] @ gap, -(J[0] @ gap)]) / (gap @ gap), 0.0, 1.0)  # each to its last digit
    ratio = norms.min() / norms
    y = nonnegative(np.vstack([(J / norms[:, None]).T, ratio]), np.append(np.zeros(J.shape[1]), 1.0))
    w = y * ratio
    return w / w.sum()


def equal_gains(U: Array) -> tuple[Array, bool]:
    """Return β such that d = Uᵀ β = U⁺ 1, for unit gradients U, and whether U d = 1: else it is as near as can be.

    β = 0 where the weights are so large that rounding would take the gains from d: where gradients nearly cancel.
    """
    if len(U) == 2:
        both = U[0] + U[1]
        size = both @ both / 2  # 1 + their cosine
        return (np.full(2, 1 / size), True) if size > 2 / DIGITS else (np.zeros(2), False)
    if len(U) > 2 and (U @ U.T).min() > NARROW and (beta := _equal_in_a_narrow_cone(U)) is not None:
        return beta, True
    W, sizes, _ = np.linalg.svd(U, full_matrices=False)
    W, sizes = W[:, sizes > RANK * sizes[0]], sizes[sizes > RANK * sizes[0]]
    ones = W.sum(0)
    beta = W @ (ones / sizes**2)
    if np.abs(beta).sum() > DIGITS:
        return np.zeros(len(U)), False
    return beta, bool(np.abs(W @ ones - 1).max() < 1e-6)


def _equal_in_a_narrow_cone(U: Array) -> Array | None:
    """Return β as `equal_gains` does, for nearly parallel U; `None` where there is none, or gradients are equal.

    u_i·d = 1 for all i means (u_i - u_0)·d = 0, and (u_i - u_0)·u_0 = -‖u_i - u_0‖² / 2: with d = Σ β_i u_i, the
    γ_i = β_i / Σ β_j are barycentric coordinates of the centre of the circle through them, which U⁺ would round away.
    """
    apart = U[1:] - U[0]
    sizes = np.linalg.norm(apart, axis=1)
    if sizes.min() < ROUNDING**2:
        return None
    V, spread, _ = np.linalg.svd(apart / sizes[:, None], full_matrices=False)
    if len(spread) < len(apart) or spread[-1] <= RANK * spread[0]:
        return None
    gamma = V @ (V.T @ (sizes / 2) / spread**2) / sizes
    beta = np.append(1 - gamma.sum(), gamma)
    return beta / (U[0] @ (beta @ U))


def power_balance(U: Array, lengths: Array, p: float) -> Array:
    """Return b > 0 with (U Uᵀ b)_i = c_i b_i^{-p}, c_i = lengths_i^{p-1}.

    That is the minimum of ½ ‖Uᵀ b‖² - Σ c_i b_i^{1-p} / (1-p) (log b at p = 1), convex: damped Newton's method finds
    it, and a few steps for y = log b in log(U Uᵀ b) + p y = log c remove its rounding. Where that does not converge, p
    is moved from 1 to its value, in steps as large as these can follow.

    Raises:
        WeightingError: if neither comes to an end.
    """
    log_lengths, error = np.log(lengths), np.inf
    with contextlib.suppress(np.linalg.LinAlgError), np.errstate(all="ignore"):
        y, error = _polished(U, (p - 1) * log_lengths, p, np.log(_lowest(U, lengths ** (p - 1), p)))
        if error < _digits(U, y):
            return np.exp(y)
        y, left = _polished(U, 0 * log_lengths, 1.0, np.log(_lowest(U, np.ones(len(U)), 1.0)))
        passed, step = 0.0, 0.5
        while left < _digits(U, y) and passed < 1 and step > 1e-3:
            q = p ** (passed + step)
            found, left_there = _polished(U, (q - 1) * log_lengths, q, y)
            if left_there < _digits(U, found):
                y, passed = found, passed + step
                step = min(2 * step, 1 - passed)
            else:
                step /= 2
        if passed == 1:
            return np.exp(y)
    raise WeightingError(
        f"the equations for the task weights were not solved: a relative error of {error:.1g} is left; the gradients "
        "nearly cancel each other, or differ too much in length for such an alpha"
    )


def _digits(U: Array, y: Array) -> float:
    """Return how exactly log(U Uᵀ e^y) can be known: to 1e-6, but where the gains are what is left of large numbers."""
    b = np.exp(y)
    least = (U @ (b @ U)).min()
    return max(1e-6, min(1e-3, 1e-15 * b.sum() / least)) if least > 0 else 0.0


def _lowest(U: Array, c: Array, p: float) -> Array:
    """Return where the potential of `power_balance` is lowest, but for rounding."""
    b = c ** (1 / (1 + p))
    b = b * ((c @ b ** (1 - p)) / max(float(np.square(b @ U).sum()), 1e-12)) ** (1 / (1 + p))  # as long as it must be

    def potential(b: Array) -> float:
        barrier = np.log(b) if p == 1 else b ** (1 - p) / (1 - p)
        return float(np.square(b @ U).sum() / 2 - c @ barrier)

    for _ in range(300):
        # least squares instead of (U Uᵀ + D²) step = ..., so that U is not squared; for step / b, as b varies widely
        pull = c * b ** (1 - p)
        D = np.sqrt(p * pull)
        A = np.vstack([U.T * b, np.diag(D)])
        size = np.linalg.norm(A, axis=0)
        relative = np.linalg.lstsq(A / size, np.append(-(b @ U), pull / D), rcond=None)[0] / size
        slope = (b * (U @ (b @ U)) - pull) @ relative
        if np.abs(relative).max() < 1e-7:
            break
        t = min(1.0, 0.9 / max(1e-300, (-relative).max()))  # stay positive
        start, near = potential(b), -slope < 1e-3 * pull.sum()  # near by, Newton's steps are sure, and it is rounding
        while not near and potential(b * (1 + t * relative)) > start + 1e-4 * t * slope and t > 1e-10:
            t /= 2
        b = b * (1 + t * relative)
    return b


def _polished(U: Array, log_c: Array, p: float, y: Array) -> tuple[Array, float]:
    """Return y with log(U Uᵀ e^y) + p y = log c, from near by, and the largest error that is left."""

    def errors(y: Array) -> tuple[Array, Array]:
        s = U @ (np.exp(y) @ U)
        return s, np.log(s) + p * y - log_c

    s, F = errors(y)
    for _ in range(60):
        step = np.linalg.solve(U @ U.T * np.exp(y) / s[:, None] + p * np.eye(len(U)), -F)
        t = 1.0
        while t > 1e-6:
            s_new, F_new = errors(y + t * step)
            if F_new @ F_new < F @ F:  # not so where an s_i is 0 or less: its logarithm is no number
                break
            t /= 2
        else:
            break  # what is left is rounding
        y, s, F = y + t * step, s_new, F_new
        if np.abs(F).max() < 1e-13:
            break
    return y, float(np.abs(F).max()) if np.isfinite(F).all() else np.inf
