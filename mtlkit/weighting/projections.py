"""Balancing gradients by changing them pair by pair, or number by number. Each class is one method."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.checks import check_finite, names, narrowed
from mtlkit.weighting.gradients import GradientWeighting
from mtlkit.weighting.solvers import Array

MOST_ALIKE = 0.9999  # the largest cosine that GradVac aims at: beyond, it would add 70 times a gradient, for each pair


class _SeededWeighting(GradientWeighting):
    """Methods that draw random numbers; the stream is part of the state."""

    def __init__(self, seed: int = 0, at: str = "parameters") -> None:
        super().__init__(at)
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the random stream."""
        self.generator.set_state(state["generator"])

    def others(self, i: int, K: int) -> list[int]:
        """Return all tasks but `i` in random order."""
        return [j for j in torch.randperm(K, generator=self.generator).tolist() if j != i]


class PCGrad(_SeededWeighting):
    """Each g_i loses its component against every g_j it conflicts with, in random order; the results are summed.

    g_i ← g_i - (g_i·g_j / ‖g_j‖²) g_j where g_i·g_j < 0, with the *original* g_j (Yu et al., NeurIPS 2020, alg. 1).
    """

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w: each projected gradient is a row of coefficients of the original ones."""
        coefficients = np.eye(len(J))
        for i, c in enumerate(coefficients):
            for j in self.others(i, len(J)):
                if (along := c @ J @ J[j]) < 0:
                    c[j] -= along / (J[j] @ J[j])
        return coefficients.sum(0)


class GradVac(_SeededWeighting):
    """Like PCGrad, but g_i is moved towards g_j until their cosine is φ_ij, a running mean of what it was before.

    g_i ← g_i + ‖g_i‖ (φ √(1-cos²) - cos √(1-φ²)) / (‖g_j‖ √(1-φ²)) g_j where cos < φ
    (Wang et al., ICLR 2021). φ begins at 0: the first step is PCGrad's. No φ is taken as more than 0.9999: at 1, where
    equal gradients lead, the formula divides by 0. After many nearly equal gradients, one step of unlike ones is very
    long, and the more so the more tasks there are: clip it.

    Args:
        beta: how fast φ follows.
        seed: of the random order.
        at: as in `GradientWeighting`.
    """

    def __init__(self, beta: float = 0.01, seed: int = 0, at: str = "parameters") -> None:
        super().__init__(seed, at)
        self.beta = beta
        self.phi: dict[str, dict[str, float]] = {}

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return w and move φ."""
        norms = np.linalg.norm(J, axis=1)
        coefficients = np.eye(len(J))
        for i, c in enumerate(coefficients):
            row = self.phi.setdefault(tasks[i], {})
            for j in self.others(i, len(J)):
                moved = c @ J
                length = np.linalg.norm(moved)
                if length * norms[j] == 0:
                    continue
                cos = float(np.clip(moved @ J[j] / (length * norms[j]), -1, 1))
                phi = min(row.get(tasks[j], 0.0), MOST_ALIKE)
                if cos < phi:
                    sin = np.linalg.norm(moved / length - cos * J[j] / norms[j])  # exact near 180°, unlike √(1 - cos²)
                    sin_phi = np.sqrt(1 - phi**2)
                    c[j] += length * (phi * sin - cos * sin_phi) / (norms[j] * sin_phi)
                row[tasks[j]] = (1 - self.beta) * phi + self.beta * cos
        return coefficients.sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Return φ and the random stream."""
        return super().state_dict() | {"phi": copy.deepcopy(self.phi)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over φ and the random stream."""
        super().load_state_dict(state)
        self.phi = copy.deepcopy(state["phi"])


class GradDrop(_SeededWeighting):
    """In each coordinate only gradients of one sign are kept (Chen et al., NeurIPS 2020, algorithm 1).

    The positive ones, whose sum is p, with probability ½ (1 + Σ g_i / Σ |g_i|) = p / (p - n), else the negative ones,
    whose sum is n. There are no weights.
    """

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = (), group: Group = ALONE) -> Tensor:
        """Return the sum `[P]` of what is kept."""
        wide = torch.promote_types(jacobian.dtype, torch.float32)  # a half would round what is drawn to 1
        if jacobian.device.type == "cpu":
            check_finite("gradient's sum", names(tasks, len(jacobian)), jacobian.sum(1, dtype=wide).tolist())
        positive, negative = jacobian.clamp(min=0).sum(0, dtype=wide), jacobian.clamp(max=0).sum(0, dtype=wide)
        kept = torch.where(self.draw(positive) * (positive - negative) < positive, positive, negative)
        return narrowed(kept, jacobian)

    def draw(self, like: Tensor) -> Tensor:
        """Return numbers in 0..1, as many as in `like [P]`, drawn where it is."""
        if like.device.type != "cuda":
            return torch.rand_like(like) if like.is_meta else torch.rand(len(like), generator=self.generator).to(like)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        there = torch.Generator(like.device).manual_seed(seed)
        return torch.rand(len(like), generator=there, device=like.device, dtype=like.dtype)
