"""Balancing losses: one backward pass through a total loss. Each class is one method, in the symbols of its paper."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.parallel import ALONE, Group
from mtlkit.weighting.base import Losses, Parts, Weighting, WeightingError, constants, names
from mtlkit.weighting.rows import task_gradients


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


class _OneNumberPerTask(Weighting):
    """Methods that learn one number per task, with an Adam of their own: no weight decay, away from the model's."""

    def __init__(self, lr: float, start: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.start, self.numbers = start, dict[str, Tensor]()
        self.optimizer = torch.optim.Adam([torch.empty(0)], lr, weight_decay=weight_decay)
        self._kept_for: Tensor | None = None

    def of(self, tasks: Sequence[str], like: Tensor | None = None) -> Tensor:
        """Return the numbers `[K]` of `tasks`, of the type of `like` and where it is; a new task's is `start`."""
        like = torch.empty(0, dtype=torch.double) if like is None else like
        if any(number.device != like.device for number in self.numbers.values()):  # loaded from a file
            for number in self.numbers.values():
                number.data = number.data.to(like.device)
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its moments, too
        for task in tasks:
            if task not in self.numbers:
                self.numbers[task] = torch.full(
                    (), self.start, dtype=torch.double, device=like.device, requires_grad=True
                )
                fused = like.device.type in ("cpu", "cuda")
                self.optimizer.add_param_group({"params": [self.numbers[task]], "fused": fused})
        return torch.stack([self.numbers[task] for task in tasks]).to(like)

    def slopes(self, losses: Tensor, tasks: Sequence[str]) -> Tensor:
        """Return the derivatives of the total; those with respect to the numbers are kept for `learn`."""
        self.optimizer.zero_grad()
        known = losses.double().detach().requires_grad_()
        self.total(known, tasks).backward()
        self._kept_for = losses
        assert known.grad is not None
        return known.grad

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Move the numbers of `tasks` down the gradient of the total."""
        if losses is not self._kept_for:  # a batch in parts: its losses were not known then
            self.slopes(losses, tasks)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers and their Adam."""
        numbers = {task: number.detach() for task, number in self.numbers.items()}
        return {"numbers": numbers, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over numbers and Adam."""
        numbers = state["numbers"]
        self.of(list(numbers))
        for task, number in numbers.items():
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

    linear = True

    def __init__(self, classification: Collection[str] = (), lr: float = 0.01) -> None:
        super().__init__(lr)
        self.classification = classification

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; its gradient reaches the losses and s."""
        tasks = names(tasks, len(losses))
        s = self.of(tasks, losses)
        half = constants([1.0 if task in self.classification else 0.5 for task in tasks], losses)
        return (half * torch.exp(-s) * losses + s / 2).sum()


class IMTLL(_OneNumberPerTask):
    """L = Σ e^{s_i} l_i - s_i with learned s_i (Liu et al., "Towards impartial multi-task learning", ICLR 2021).

    At the optimum e^{s_i} l_i = 1: every scaled loss is 1, and the direction is that of Σ log l_i.
    """

    linear = True

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; its gradient reaches the losses and s."""
        s = self.of(names(tasks, len(losses)), losses)
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

    linear = True

    def __init__(self, temperature: float = 2.0, window: int = 100) -> None:
        super().__init__()
        self.temperature, self.window, self.step = temperature, window, 0
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
        self._before: dict[str, Tensor] = {}

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the total `[]`; c and z are constants in its gradient."""
        tasks = names(tasks, len(losses))
        z = torch.softmax(self.of(tasks, losses).detach(), 0)
        above = _positive(self, losses - self._bounds(tasks, losses), tasks)
        return (z * torch.log(above)).sum() / (z / above).sum().detach()

    def _bounds(self, tasks: Sequence[str], like: Tensor) -> Tensor:
        return constants([self.lowest.get(task, 0.0) for task in tasks], like)

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Keep the losses for `observe`."""
        self._before = dict(zip(tasks, losses.unbind(), strict=True))

    @torch.enable_grad()
    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Move ξ by the change of the log losses."""
        tasks, after = list(losses), torch.stack(list(losses.values())).detach().double()
        before, b = torch.stack([self._before[task] for task in tasks]), self._bounds(tasks, after)
        fall = torch.log(before - b) - torch.log(_positive(self, after - b, tasks))
        self.optimizer.zero_grad()
        torch.softmax(self.of(tasks, fall), 0).backward(fall)
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

    linear = True

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        self.alpha, self.lr = alpha, lr
        self.w: dict[str, Tensor] = {}
        self.first: dict[str, Tensor] = {}
        self._losses = torch.empty(0)

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i."""
        return torch.dot(self._of(self.w, names(tasks, len(losses)), losses), losses)

    def _of(self, numbers: Mapping[str, Tensor], tasks: Sequence[str], like: Tensor) -> Tensor:
        return torch.stack([numbers.get(task, like.new_ones(())) for task in tasks]).to(like)

    def backward(self, losses: Losses, model: Any, group: Group = ALONE) -> None:
        """Leave Σ w_i ∇l_i in `.grad`, then move w."""
        layer = [p for p in model.shared_parameters() if p.ndim > 1][-1]
        parts, rows = Parts.of(losses), list[Tensor]()

        def looked_at(part: int) -> Mapping[str, Tensor]:
            losses = parts.losses(part)
            rows.append(task_gradients([losses], [layer], keep=True)[0])
            return losses

        seen = Parts(parts.tasks, len(parts), looked_at, parts.around)
        super().backward(seen, model, group)
        parts.known = seen.known
        self.balance(parts.tasks, self._losses, group.sum(torch.stack(rows).sum(0)).norm(dim=1))

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Keep the losses for `balance`."""
        self._losses = losses

    def balance(self, tasks: Sequence[str], losses: Tensor, norms: Tensor) -> None:
        """Move w by one step, given the losses `[K]` and ‖g_i‖ `[K]` of the tasks."""
        for task, loss in zip(tasks, losses.double().unbind(), strict=True):
            self.first.setdefault(task, loss)
            self.w.setdefault(task, torch.ones_like(loss))
        w, first = (self._of(numbers, tasks, losses.double()) for numbers in (self.w, self.first))
        w, norms = w.requires_grad_(), norms.double()
        progress = torch.where(first == 0, 1.0, losses / first)
        r = progress / progress.mean().clamp(min=1e-12)
        target = ((w * norms).mean() * r**self.alpha).detach()
        (slope,) = torch.autograd.grad((w * norms - target).abs().sum(), w)
        moved = (w.detach() - self.lr * slope / norms.mean().clamp(min=1e-12)).clamp(min=1e-3)
        self.w |= zip(tasks, (moved * w.detach().sum() / moved.sum()).unbind(), strict=True)

    def state_dict(self) -> dict[str, Any]:
        """Return w and the first losses."""
        return {"w": dict(self.w), "first": dict(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over w and the first losses."""
        self.w, self.first = dict(state["w"]), dict(state["first"])


def _positive(method: Weighting, losses: Tensor, tasks: Sequence[str]) -> Tensor:
    if losses.device.type != "cpu":  # looking means waiting; a NaN is found by the training loop
        return losses
    for task, loss in zip(names(tasks, len(losses)), losses.tolist(), strict=True):
        if not loss > 0:
            raise WeightingError(
                f"{type(method).__name__} takes the logarithm of every loss, but that of the task {task!r} is {loss}: "
                "use another method, or a loss (or lower bound) that leaves it above 0"
            )
    return losses
