"""Two tasks, two shared parameters: small enough to draw everything that happens."""

from collections.abc import Callable

import numpy as np

from mtlkit.weighting import GradientWeighting, StaticWeights
from mtlkit.weighting.gradients import Array

TASKS = ("A", "B")


class Landscape:
    """Two valleys, l_i(θ) = ½ (θ - c_i)ᵀ H_i (θ - c_i): A steep and narrow, B shallow and wide, crossing at an angle.

    Attributes:
        centres: c_i, where each task alone would like θ to be `[2, 2]`.
        curvatures: H_i `[2, 2, 2]`.
        extent: left, right, bottom, top of the part that is drawn.
    """

    extent = (-3.0, 3.0, -2.25, 2.25)

    def __init__(self) -> None:
        self.centres = np.array([[-1.4, -0.6], [1.5, 0.7]])
        self.curvatures = np.stack([_curvature(6.0, 0.3, 60.0), _curvature(0.7, 0.08, -20.0)])

    def losses(self, theta: Array) -> Array:
        """Return both losses `[..., 2]` at `theta [..., 2]`."""
        gap = np.asarray(theta)[..., None, :] - self.centres
        return np.einsum("...ki,kij,...kj->...k", gap, self.curvatures, gap) / 2

    def jacobian(self, theta: Array) -> Array:
        """Return the gradients of both losses at `theta [2]`, one row a task `[2, 2]`."""
        return np.einsum("kij,kj->ki", self.curvatures, np.asarray(theta) - self.centres)

    def pareto(self, n: int = 100) -> Array:
        """Return the points `[n, 2]` that no step improves for both tasks: the minima of all weighted sums."""
        share = np.linspace(0, 1, n) ** 2
        share = np.concatenate([share / 2, 1 - share[::-1] / 2])[::2]
        H_1, H_2 = self.curvatures
        c_1, c_2 = self.centres
        return np.stack([np.linalg.solve(w * H_1 + (1 - w) * H_2, w * H_1 @ c_1 + (1 - w) * H_2 @ c_2) for w in share])

    def path(self, method: GradientWeighting | StaticWeights, start: Array, steps: int = 100, lr: float = 0.2) -> Array:
        """Follow a weighting method downhill from `start [2]`; return every point `[steps + 1, 2]`.

        Plain gradient descent. A step is at most `lr` long (the direction is clipped to length 1), and the rate falls
        to zero, as some methods' directions never get shorter.
        """
        weigh: Callable[[Array], Array]
        if isinstance(method, GradientWeighting):
            weigh = lambda J: method.weigh(J, TASKS)  # noqa: E731
        else:
            w = np.array([method.weights.get(task, 1.0) for task in TASKS])
            weigh = lambda _: w  # noqa: E731
        points = [np.asarray(start, dtype=np.float64)]
        for step in range(steps):
            J = self.jacobian(points[-1])
            d = J.T @ weigh(J)
            points.append(points[-1] - lr * (1 - step / steps) * d / max(1.0, float(np.linalg.norm(d))))
        return np.stack(points)


def _curvature(steep: float, shallow: float, degrees: float) -> Array:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([steep, shallow]) @ turn.T
