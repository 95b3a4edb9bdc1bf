"""Balancing losses by a rule: one backward pass through a total loss. Each class is one method."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.weighting.base import Weighting
from mtlkit.weighting.checks import WeightingError, at_least, constants, names


class StaticWeights(Weighting):
    """L = Σ w_i l_i, a sum and not a mean: doubling every weight doubles the gradient.

    `weights` may be changed between steps; the next step uses the new values.

    Args:
        weights: task name → w_i, at least 0; a task that is not named weighs 1.

    Raises:
        ValueError: if a weight is negative or not finite.
    """

    linear = True
    weights: dict[str, float] = {}  # type: ignore[override]  # noqa: RUF012

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name!r} is {weight}: expected a finite number, 0 or more")

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i; without `tasks` the losses are in the order of `weights`."""
        w = [self.weights.get(task, 1.0) for task in tasks] or list(self.weights.values()) or [1.0] * len(losses)
        return torch.dot(losses, constants(w, losses))

    def slopes(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the weights: the derivatives, without asking autograd for them in every step."""
        return constants([self.weights.get(task, 1.0) for task in tasks], losses)

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Show the tasks that were not named among the weights."""
        self.weights = dict.fromkeys(tasks, 1.0) | self.weights

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved weights."""
        self.weights = dict(state["weights"])


class EqualWeights(StaticWeights):
    """L = Σ l_i: every task weighs 1."""

    def __init__(self) -> None:
        super().__init__()


class GeometricMean(Weighting):
    """L = (Π l_i)^{1/K} (Chennupati et al., "MultiNet++", CVPR workshops 2019), as exp of the mean logarithm."""

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the geometric mean `[]`."""
        return torch.exp(torch.log(positive(self, losses, tasks)).mean())


class DWA(Weighting):
    """w = K softmax(r / T), r_i = l_i(t-1) / l_i(t-2) (Liu, Johns, Davison, CVPR 2019).

    A task whose loss falls more slowly than the others' weighs more. l_i(t) is the mean over `window` steps; give the
    batches of an epoch for the paper's version. The first two windows are uniform.
    """

    linear = True

    def __init__(self, temperature: float = 2.0, window: int = 100) -> None:
        super().__init__()
        self.temperature, self.window, self.step = at_least(self, "temperature", temperature), window, 0
        self.sums: dict[str, list[Tensor]] = {}  # of this window: sum and number of losses
        self.means: dict[str, list[Tensor]] = {}  # of the last two windows: l(t-2), l(t-1)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i; Σ w_i = K."""
        one = losses.new_ones(())
        past = [self.means.get(task, []) for task in names(tasks, len(losses))]
        r = torch.stack([torch.where(m[0] > 0, m[1] / m[0], one) if len(m) == 2 else one for m in past]).to(losses)
        return torch.dot(len(losses) * torch.softmax(r / self.temperature, 0), losses)

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Take the losses into the running means."""
        for task, loss in zip(tasks, losses.unbind(), strict=True):
            old = self.sums.get(task, [0 * loss, 0 * loss])
            self.sums[task] = [old[0].to(loss) + loss, old[1].to(loss) + 1]
        self.step += 1
        if self.step % self.window == 0:
            for task, (loss_sum, number) in self.sums.items():
                self.means[task] = [*(m.to(number) for m in self.means.get(task, [])), loss_sum / number][-2:]
            self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the running means."""
        return copy.deepcopy({"step": self.step, "sums": self.sums, "means": self.means})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over running means."""
        self.step, self.sums, self.means = copy.deepcopy((state["step"], state["sums"], state["means"]))


class UWSO(Weighting):
    """L = Σ w_i l_i, w = softmax(1 / (T l_i)), taken as constants (Kirchdorfer et al., GCPR 2024, arXiv:2408.07985).

    "Soft optimal uncertainty weighting": `Uncertainty` would end at weights in proportion to 1 / l_i; these need
    no learning, and the temperature T keeps the smallest loss from taking all. Tune T like a weight: it depends on the
    scale of the losses.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = at_least(self, "temperature", temperature)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i; Σ w_i = 1."""
        wide = positive(self, losses, tasks).detach().double()
        w = torch.softmax((1 / (self.temperature * wide)).clamp(max=1e300), 0)
        return torch.dot(w.to(losses), losses)


class RandomWeights(Weighting):
    """w = softmax(z), z ~ N(0, 1), drawn anew in each step (Lin et al., "Reasonable effectiveness of random weighting",
    TMLR 2022): Σ w_i = 1, on average 1/K each.
    """  # noqa: D205

    linear = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i."""
        w = torch.softmax(torch.randn(len(losses), generator=self.generator), 0)
        return torch.dot(constants(w.tolist(), losses), losses)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the random stream."""
        self.generator.set_state(state["generator"])


class Tchebycheff(Weighting):
    """L = max_i λ_i (l_i - z_i): only the worst task is trained (Bowman 1976; in Lin et al., ICML 2024).

    Args:
        preference: task name → λ_i; 1 if not named.
        ideal: task name → z_i, the best loss hoped for; 0 if not named.
    """

    def __init__(self, preference: Mapping[str, float] | None = None, ideal: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.preference, self.ideal = dict(preference or {}), dict(ideal or {})

    def gaps(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return λ_i (l_i - z_i) `[K]`."""
        tasks = names(tasks, len(losses))
        z = constants([self.ideal.get(task, 0.0) for task in tasks], losses)
        return constants([self.preference.get(task, 1.0) for task in tasks], losses) * (losses - z)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the largest gap `[]`."""
        return self.gaps(losses, tasks).max()


class SmoothTchebycheff(Tchebycheff):
    """L = μ log Σ exp(λ_i (l_i - z_i) / μ) (Lin et al., "Smooth Tchebycheff scalarization", ICML 2024).

    Between the maximum and the maximum + μ log K; tends to `Tchebycheff` as μ → 0.
    """

    def __init__(
        self,
        mu: float = 1.0,
        preference: Mapping[str, float] | None = None,
        ideal: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(preference, ideal)
        self.mu = at_least(self, "mu", mu)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the smooth maximum `[]`."""
        return self.mu * torch.logsumexp(self.gaps(losses, tasks) / self.mu, 0)


def positive(method: Weighting, losses: Tensor, tasks: Sequence[str]) -> Tensor:
    """Return the losses `[K]`, of which `method` takes the logarithm or the inverse.

    Raises:
        WeightingError: if one is 0 or less.
    """
    if losses.device.type != "cpu":  # looking means waiting; a NaN is found by the training loop
        return losses
    for task, loss in zip(names(tasks, len(losses)), losses.tolist(), strict=True):
        if not loss > 0:
            raise WeightingError(
                f"{type(method).__name__} takes the logarithm or the inverse of every loss, but that of the task "
                f"{task!r} is {loss}: use another method, or a loss (or lower bound) that leaves it above 0"
            )
    return losses
