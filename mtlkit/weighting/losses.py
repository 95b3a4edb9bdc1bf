"""Balancing losses: one backward pass through a total loss. Each class is one method, in the symbols of its paper."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.weighting.base import Weighting, WeightingError, names


class StaticWeights(Weighting):
    """L = Σ w_i l_i, a sum and not a mean: doubling every weight doubles the gradient.

    `weights` may be changed between steps; the next step uses the new values.

    Args:
        weights: task name → w_i, at least 0; a task that is not named weighs 1.

    Raises:
        ValueError: if a weight is negative or not finite.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name!r} is {weight}: expected a finite number, 0 or more")

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i; without `tasks` the losses are in the order of `weights`."""
        w = [self.weights.get(task, 1.0) for task in tasks] or list(self.weights.values()) or [1.0] * len(losses)
        return torch.dot(losses, losses.new_tensor(w))

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


class _OneNumberPerTask(Weighting):
    """Methods that learn one number per task, with an Adam of their own: no weight decay, away from the model's."""

    def __init__(self, lr: float, start: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.start, self.numbers = start, dict[str, Tensor]()
        self.optimizer = torch.optim.Adam([torch.empty(0)], lr, weight_decay=weight_decay, fused=True)

    def of(self, tasks: Sequence[str]) -> Tensor:
        """Return the numbers `[K]` of `tasks`; a task seen for the first time gets the starting value."""
        for task in tasks:
            if task not in self.numbers:
                self.numbers[task] = torch.tensor(self.start, dtype=torch.double, requires_grad=True)
                self.optimizer.add_param_group({"params": [self.numbers[task]]})
        return torch.stack([self.numbers[task] for task in tasks])

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave the gradient of the total in `.grad` and move the numbers of the tasks that took part."""
        self.optimizer.zero_grad()
        super().backward(losses, model)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers and their Adam."""
        numbers = {task: number.detach() for task, number in self.numbers.items()}
        return {"numbers": numbers, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over numbers and Adam."""
        self.of(list(state["numbers"]))
        for task, number in state["numbers"].items():
            self.numbers[task].data.copy_(number)
        self.optimizer.load_state_dict(state["optimizer"])


class Uncertainty(_OneNumberPerTask):
    """L = Σ ½ e^{-s_i} l_i + ½ s_i, with learned s_i = log σ_i² (Kendall, Gal, Cipolla, CVPR 2018).

    At the optimum s_i = log l_i, so a task's weight is about 1 / (2 l_i), and L = Σ ½ (1 + log l_i): it is *negative*
    where losses are small. Nothing is wrong then; watch the losses, not their total.

    Args:
        classification: names of the tasks that pay cross-entropy; their first term has no ½ (their optimum: log 2 l_i).
        lr: of the Adam that learns s.
    """

    def __init__(self, classification: Collection[str] = (), lr: float = 0.01) -> None:
        super().__init__(lr)
        self.classification = classification

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; its gradient reaches the losses and s."""
        tasks = names(tasks, len(losses))
        s = self.of(tasks).to(losses)
        half = losses.new_tensor([1.0 if task in self.classification else 0.5 for task in tasks])
        return (half * torch.exp(-s) * losses + s / 2).sum()


class IMTLL(_OneNumberPerTask):
    """L = Σ e^{s_i} l_i - s_i with learned s_i (Liu et al., "Towards impartial multi-task learning", ICLR 2021).

    At the optimum e^{s_i} l_i = 1: every scaled loss is 1, and the direction is that of Σ log l_i.
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; its gradient reaches the losses and s."""
        s = self.of(names(tasks, len(losses))).to(losses)
        return (torch.exp(s) * losses - s).sum()


class GeometricMean(Weighting):
    """L = (Π l_i)^{1/K} (Chennupati et al., "MultiNet++", CVPR workshops 2019), as exp of the mean logarithm."""

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the geometric mean `[]`."""
        return torch.exp(torch.log(_positive(self, losses, tasks)).mean())


class DWA(Weighting):
    """w = K softmax(r / T), r_i = l_i(t-1) / l_i(t-2) (Liu, Johns, Davison, CVPR 2019).

    A task whose loss falls more slowly than the others' weighs more. l_i(t) is the mean over `window` steps; give the
    batches of an epoch for the paper's version. The first two windows are uniform.
    """

    def __init__(self, temperature: float = 2.0, window: int = 100) -> None:
        super().__init__()
        self.temperature, self.window, self.step = temperature, window, 0
        self.sums: dict[str, list[float]] = {}  # of this window: sum and number of losses
        self.means: dict[str, list[float]] = {}  # of the last two windows: l(t-2), l(t-1)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i; Σ w_i = K."""
        past = [self.means.get(task, []) for task in names(tasks, len(losses))]
        r = losses.new_tensor([m[1] / m[0] if len(m) == 2 and m[0] else 1.0 for m in past])
        return torch.dot(len(losses) * torch.softmax(r / self.temperature, 0), losses)

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave the gradient of the total in `.grad` and take the losses into the running means."""
        super().backward(losses, model)
        for task, loss in losses.items():
            old = self.sums.get(task, [0.0, 0.0])
            self.sums[task] = [old[0] + float(loss.detach()), old[1] + 1]
        self.step += 1
        if self.step % self.window == 0:
            for task, (loss_sum, number) in self.sums.items():
                self.means[task] = [*self.means.get(task, []), loss_sum / number][-2:]
            self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the running means."""
        return copy.deepcopy({"step": self.step, "sums": self.sums, "means": self.means})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over running means."""
        self.step, self.sums, self.means = copy.deepcopy((state["step"], state["sums"], state["means"]))


class RandomWeights(Weighting):
    """w = softmax(z), z ~ N(0, 1), drawn anew in each step (Lin et al., "Reasonable effectiveness of random weighting",
    TMLR 2022): Σ w_i = 1, on average 1/K each.
    """  # noqa: D205

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i."""
        return torch.dot(torch.softmax(torch.randn(len(losses), generator=self.generator), 0).to(losses), losses)

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
        z = losses.new_tensor([self.ideal.get(task, 0.0) for task in tasks])
        return losses.new_tensor([self.preference.get(task, 1.0) for task in tasks]) * (losses - z)

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
        self.mu = mu

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the smooth maximum `[]`."""
        return self.mu * torch.logsumexp(self.gaps(losses, tasks) / self.mu, 0)


class FAMO(_OneNumberPerTask):
    """L = Σ z_i log(l_i - b_i) / c, z = softmax(ξ), c = Σ z_i / (l_i - b_i) (Liu et al., NeurIPS 2023, algorithm 1).

    The gradients' weights z_i / (c (l_i - b_i)) sum to 1. After the update the same batch is looked at again, and ξ is
    moved so that the task whose log loss fell least weighs more: one more forward pass, no further backward.

    Args:
        gamma: weight decay of ξ, which keeps z near uniform; with 0, unchanged losses leave ξ unchanged.
        lr: of the Adam that learns ξ.
        lowest: task name → b_i, a lower bound of its loss; 0 if not named.
    """

    second_look = True

    def __init__(self, gamma: float = 0.01, lr: float = 0.025, lowest: Mapping[str, float] | None = None) -> None:
        super().__init__(lr, weight_decay=gamma)
        self.lowest = dict(lowest or {})
        self._before: dict[str, float] = {}

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; c and z are constants in its gradient."""
        tasks = names(tasks, len(losses))
        z = torch.softmax(self.of(tasks).detach().to(losses), 0)
        above = _positive(self, losses - losses.new_tensor([self.lowest.get(task, 0.0) for task in tasks]), tasks)
        return (z * torch.log(above)).sum() / (z / above).sum().detach()

    def backward(self, losses: Mapping[str, Tensor], model: nn.Module) -> None:
        """Leave the gradient of the total in `.grad` and keep the losses for `observe`."""
        Weighting.backward(self, losses, model)
        self._before = {task: float(loss.detach()) for task, loss in losses.items()}

    @torch.enable_grad()
    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Move ξ by the change of the log losses."""
        tasks = list(losses)
        b = torch.tensor([self.lowest.get(task, 0.0) for task in tasks], dtype=torch.double)
        after = torch.stack(list(losses.values())).detach().cpu().double()
        before = torch.tensor([self._before[task] for task in tasks], dtype=torch.double)
        fall = torch.log(before - b) - torch.log(_positive(self, after - b, tasks))
        self.optimizer.zero_grad()
        torch.softmax(self.of(tasks), 0).backward(fall)
        self.optimizer.step()


class GradNorm(Weighting):
    """L = Σ w_i l_i, with w moved so that the gradients' norms balance (Chen et al., ICML 2018, algorithm 1).

    Minimises Σ |w_i ‖g_i‖ - mean_j(w_j ‖g_j‖) r_i^α| over w, the mean and r_i taken as constants, where r_i is how much
    slower than the average task i has learned: l_i / l_i(0), divided by its mean. After each update Σ w_i = K.
    ‖g_i‖ is taken at the last shared layer, so only the heads are gone through K more times.

    Args:
        alpha: how strongly slow tasks are pulled forward; 0 makes all norms equal.
        lr: of the gradient descent on w.
    """

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        self.alpha, self.lr = alpha, lr
        self.w: dict[str, float] = {}
        self.first: dict[str, float] = {}

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i."""
        return torch.dot(losses.new_tensor([self.w.get(task, 1.0) for task in names(tasks, len(losses))]), losses)

    def backward(self, losses: Mapping[str, Tensor], model: Any) -> None:
        """Leave Σ w_i ∇l_i in `.grad`, then move w."""
        layer = [p for p in model.shared_parameters() if p.ndim > 1][-1]
        gradients = [torch.autograd.grad(loss, layer, retain_graph=True)[0] for loss in losses.values()]
        norms = torch.stack([gradient.norm() for gradient in gradients])
        super().backward(losses, model)
        self.balance({task: float(loss.detach()) for task, loss in losses.items()}, norms.tolist())

    def balance(self, losses: Mapping[str, float], norms: Sequence[float]) -> None:
        """Move w by one step, given the losses and ‖g_i‖ of the tasks."""
        tasks = list(losses)
        for task, loss in losses.items():
            self.first.setdefault(task, loss)
            self.w.setdefault(task, 1.0)
        budget = sum(self.w[task] for task in tasks)
        w = torch.tensor([self.w[task] for task in tasks], dtype=torch.double, requires_grad=True)
        norm = torch.tensor(norms, dtype=torch.double)
        progress = torch.tensor([losses[task] / self.first[task] if self.first[task] else 1.0 for task in tasks])
        r = progress.double() / max(float(progress.mean()), 1e-12)
        target = ((w * norm).mean() * r**self.alpha).detach()
        (w * norm - target).abs().sum().backward()
        assert w.grad is not None
        moved = (w.detach() - self.lr * w.grad / max(float(norm.mean()), 1e-12)).clamp(min=1e-3)
        self.w.update(zip(tasks, (moved * budget / moved.sum()).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return w and the first losses."""
        return {"w": dict(self.w), "first": dict(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over w and the first losses."""
        self.w, self.first = dict(state["w"]), dict(state["first"])


def _positive(method: Weighting, losses: Tensor, tasks: Sequence[str]) -> Tensor:
    for task, loss in zip(names(tasks, len(losses)), losses.tolist(), strict=True):
        if not loss > 0:
            raise WeightingError(
                f"{type(method).__name__} takes the logarithm of every loss, but that of the task {task!r} is {loss}: "
                "use another method, or a loss (or lower bound) that leaves it above 0"
            )
    return losses
