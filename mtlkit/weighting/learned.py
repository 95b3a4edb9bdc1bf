"""Balancing losses by numbers that are learned beside the model. Each class is one method, in its paper's symbols."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.base import Losses, Update, Weighting, as_parts
from mtlkit.weighting.checks import NegativeLosses, constants, names, values_of
from mtlkit.weighting.graph import Shared, last_shared, shared_parameters
from mtlkit.weighting.losses import positive
from mtlkit.weighting.rows import task_gradients

TINY = torch.finfo(torch.double).tiny


class _OneNumberPerTask(Weighting):
    """Methods that learn one number per task, with an Adam of their own: no weight decay, away from the model's."""

    def __init__(self, lr: float, start: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.start, self.numbers = start, dict[str, Tensor]()
        self.optimizer = torch.optim.Adam([torch.empty(0)], lr, weight_decay=weight_decay)
        self._kept_for: Tensor | None = None
        self._negative = NegativeLosses(type(self).__name__, "lets the weight of such a loss grow without end")

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
        values = losses.double().detach().requires_grad_()
        self.total(values, tasks).backward()
        self._kept_for = losses
        assert values.grad is not None
        return values.grad

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Move the numbers of `tasks` down the gradient of the total."""
        if losses is not self._kept_for:  # a batch in parts: its losses were not there yet
            self.slopes(losses, tasks)
        self._negative.look(tasks, losses)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers and their Adam."""
        numbers = {task: number.detach() for task, number in self.numbers.items()}
        return copy.deepcopy({"numbers": numbers, "optimizer": self.optimizer.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over numbers and Adam."""
        (first, *_) = self.optimizer.param_groups
        old = self.numbers, self.optimizer
        self.numbers = {}
        self.optimizer = torch.optim.Adam([torch.empty(0)], first["lr"], weight_decay=first["weight_decay"])
        try:
            if numbers := state["numbers"]:  # in the order in which its Adam met them
                self.of(list(numbers))
                for task, number in numbers.items():
                    self.numbers[task].data.copy_(number)
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        except Exception:
            self.numbers, self.optimizer = old
            raise


class Uncertainty(_OneNumberPerTask):
    """L = Σ ½ e^{-s_i} l_i + ½ s_i, with learned s_i = log σ_i² (Kendall, Gal, Cipolla, CVPR 2018).

    At the optimum s_i = log l_i, so a task's weight is about 1 / (2 l_i), and L = Σ ½ (1 + log l_i): it is *negative*
    where losses are small. Nothing is wrong then; watch the losses, not their total.

    Args:
        classification: the tasks whose loss is a cross-entropy; their first term has no ½ (their optimum: log 2 l_i).
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
        above = positive(self, losses - self._bounds(tasks, losses), tasks)
        return (z * torch.log(above)).sum() / (z / above).sum().detach()

    def _bounds(self, tasks: Sequence[str], like: Tensor) -> Tensor:
        return constants([self.lowest.get(task, 0.0) for task in tasks], like)

    def learn(self, losses: Tensor, tasks: Sequence[str]) -> None:
        """Keep the losses for `observe`."""
        self._before = dict(zip(tasks, losses.unbind(), strict=True))

    @torch.enable_grad()
    def observe(self, losses: Losses, group: Group = ALONE) -> None:
        """Move ξ by the change of the log losses."""
        with torch.no_grad():
            parts = as_parts(losses)
            after = group.sum(torch.stack([values_of(part) for part in parts]).sum(0))
        tasks = parts.tasks
        before, b = torch.stack([self._before[task] for task in tasks]), self._bounds(tasks, after)
        fall = torch.log(before - b) - torch.log(positive(self, after - b, tasks))
        self.optimizer.zero_grad()
        torch.softmax(self.of(tasks, fall), 0).backward(fall)
        self.optimizer.step()


class GradNorm(Weighting):
    """L = Σ w_i l_i, with w moved so that the gradients' norms balance (Chen et al., ICML 2018, algorithm 1).

    Minimises Σ |w_i ‖g_i‖ - mean_j(w_j ‖g_j‖) r_i^α| over w, the mean and r_i taken as constants, where r_i is how much
    slower than the average task i has learned: l_i / l_i(0), divided by its mean. After each update Σ w_i = K.
    ‖g_i‖ is taken at the last shared layer that the losses reach, so only the heads are gone through K more times.
    Where nothing shared is trained, all weights stay as they are.

    Args:
        alpha: how strongly slow tasks are pulled forward; 0 makes all norms equal.
        lr: of the gradient descent on w.
        scale_free: divide each step of w by the mean of ‖g_i‖, so that it does not depend on how large the losses are.
            The paper does not: False is its step. A step takes no w below 0.001 (before Σ w_i = K is restored); the
            paper sets no bound. A task whose gradient is 0 is left out of the means.
    """

    linear = True

    def __init__(self, alpha: float = 1.5, lr: float = 0.025, scale_free: bool = True) -> None:
        super().__init__()
        self.alpha, self.lr, self.scale_free = alpha, lr, scale_free
        self.w: dict[str, Tensor] = {}
        self.first: dict[str, Tensor] = {}
        self._rows: list[Tensor] = []  # of the step under way: the tasks' gradients of each part
        self._shared: Shared = None
        self._layers: dict[tuple[str, ...], torch.nn.Parameter | None] = {}  # tasks → the layer that they share last
        self._negative = NegativeLosses(
            "GradNorm", "measures a task's progress by its loss over its first loss, and lets such a task starve others"
        )

    def total(self, losses: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return Σ w_i l_i."""
        return torch.dot(self._of(self.w, names(tasks, len(losses)), losses), losses)

    def _of(self, numbers: Mapping[str, Tensor], tasks: Sequence[str], like: Tensor) -> Tensor:
        return torch.stack([numbers.get(task, like.new_ones(())).to(like) for task in tasks])

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Add Σ w_i ∇l_i to `.grad`, then move w."""
        if shared is not self._shared:
            self._layers = {}
        self._rows, self._shared = [], shared
        update = super().backward(losses, model, group, shared)
        if self._rows:
            norms = group.sum(torch.stack(self._rows).sum(0)).norm(dim=1)
            self.balance(as_parts(losses).tasks, update.losses, norms)
        return update

    def before_backward(self, losses: Mapping[str, Tensor], model: Any) -> None:
        """Take the tasks' gradients of the last shared layer."""
        tasks, found = tuple(losses), False
        if (layer := self._layers.get(tasks)) is not None and layer.requires_grad:
            rows, (found,), _ = task_gradients([losses], [layer], keep_graph=True)
        if not found:  # the first time, another model, or another part of it is frozen
            layer = last_shared(losses, shared_parameters(model, losses, self._shared))
            self._layers[tasks] = layer
            if layer is None:
                return
            rows = task_gradients([losses], [layer], keep_graph=True).jacobian
        self._rows.append(rows)

    def balance(self, tasks: Sequence[str], losses: Tensor, norms: Tensor) -> None:
        """Move w by one step, given the losses `[K]` and ‖g_i‖ `[K]` of the tasks."""
        for task, loss in zip(tasks, losses.double().unbind(), strict=True):
            self.first.setdefault(task, loss)
            self.w.setdefault(task, torch.ones_like(loss))
        self._negative.look(tasks, losses)
        w, first = (self._of(numbers, tasks, losses.double()) for numbers in (self.w, self.first))
        w, norms = w.requires_grad_(), norms.double()
        pulls = norms > 0  # a task without a gradient has nothing to balance, and must not starve the others
        number = pulls.sum().clamp(min=1)
        progress = torch.where(first == 0, 1.0, losses / first)
        r = progress / ((progress * pulls).sum() / number).clamp(min=TINY)
        target = ((w * norms).sum() / number * r**self.alpha).detach()
        (slope,) = torch.autograd.grad((w * norms - target).abs().sum(), w)
        unit = norms.mean().clamp(min=TINY) if self.scale_free else 1.0
        moved = (w.detach() - self.lr * slope / unit).clamp(min=1e-3)
        moved = torch.where(norms.isfinite().all(), moved, w.detach())  # not so where float16 has overflowed
        self.w |= zip(tasks, (moved * w.detach().sum() / moved.sum()).unbind(), strict=True)

    def state_dict(self) -> dict[str, Any]:
        """Return w and the first losses."""
        return {"w": dict(self.w), "first": dict(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over w and the first losses."""
        self.w, self.first = dict(state["w"]), dict(state["first"])
