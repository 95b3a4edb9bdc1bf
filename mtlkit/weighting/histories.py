"""Balancing by what the tasks' gradients were before. Each class is one method, in the symbols of its paper."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.base import Losses, Update, as_parts, refuse_data_parallel
from mtlkit.weighting.checks import WeightingError, check_finite, names, narrowed
from mtlkit.weighting.gradients import GradientWeighting
from mtlkit.weighting.graph import Shared, shared_parameters
from mtlkit.weighting.losses import positive
from mtlkit.weighting.rows import add_gradients, split_rows, task_gradients


class _HistoryWeighting(GradientWeighting):
    """Methods that take the tasks' gradients of *all* parameters, and keep something of those of the shared ones."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}
        self.place: tuple[str, ...] = ()  # the names of the parameters that `kept` is about

    def update(self, shared: Tensor, heads: Tensor, losses: Tensor, tasks: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the update `[P]` of the shared parameters and that of the heads `[Q]`.

        Args:
            shared: the gradients of the tasks with respect to the shared parameters `[K, P]`.
            heads: with respect to all other parameters `[K, Q]`.
            losses: of the tasks `[K]`.
            tasks: their names.
        """
        raise NotImplementedError

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = (), group: Group = ALONE) -> Tensor:
        """Return the update direction `[P]` for gradients `[K, P]`, those of losses of 1, and take note of them.

        Raises:
            WeightingError: if each process of `group` has a part of the gradients only.
        """
        if group.size > 1:
            raise WeightingError(f"{type(self).__name__} needs whole gradients; each process has only a part of them")
        tasks = names(tasks, len(jacobian))
        ones = torch.ones(len(jacobian), dtype=torch.double, device=jacobian.device)
        return self.update(jacobian, jacobian[:, :0], ones, tasks)[0]

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Add the combined gradient to `.grad` of all parameters.

        Raises:
            WeightingError: if a loss or a gradient is NaN or infinite, or the method has no use for such a loss.
        """
        refuse_data_parallel(model, group, type(self).__name__)
        parts, together = as_parts(losses), shared_parameters(model, losses, shared)
        if len(parts) == 1:
            (losses,) = parts
            parts = as_parts(losses)
        ids = {id(parameter) for parameter in together}
        heads = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
        everything = [*together, *heads, *self._of_the_losses(losses, model)]
        J, used, values = task_gradients(parts, everything)
        group.sum_([J, values])
        named = {id(parameter): name for name, parameter in model.named_parameters()}
        if (place := tuple(named.get(id(parameter), "") for parameter in together)) != self.place:
            self.kept, self.place = {}, place  # others are shared now: nothing is known of their gradients yet
        number = sum(parameter.numel() for parameter in together)
        update = torch.cat(self.update(J[:, :number], J[:, number:], values, parts.tasks))
        rows = split_rows(update, everything)
        add_gradients(everything, [row if u or group.size > 1 else None for row, u in zip(rows, used, strict=True)])
        return Update(values, self.factors)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept of the gradients."""
        return {"kept": dict(self.kept), "place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was kept of the gradients."""
        self.kept, self.place = dict(state["kept"]), tuple(state["place"])

    def before(self, task: str, like: Tensor) -> Tensor:
        """Return what is kept of a task; zeros like `like [P]` if nothing is yet."""
        return self.kept[task].to(like) if task in self.kept else torch.zeros_like(like)


def _sound(numbers: Tensor, tasks: Sequence[str]) -> Tensor:
    """Return whether all of `numbers [K]` are finite; on a CPU, refuse those that are not."""
    if numbers.device.type == "cpu":
        check_finite("norm of the gradient", tasks, numbers.tolist())
    return numbers.isfinite().all()


class DBMTL(_HistoryWeighting):
    """d = Σ α_i ĝ_i, α_i = max_j ‖ĝ_j‖ / ‖ĝ_i‖, ĝ_i a running mean of ∇ log l_i (Lin et al., arXiv:2308.12029).

    "Dual balancing": the logarithm makes losses of any scale alike, α makes all gradients as long as the longest. The
    heads get ∇ log l_i. ĝ_i ← β_t ĝ_i + (1 - β_t) g_i with β_t = β / t^decay, from 0; public code often sets the decay
    to 0. Nothing is added to l_i or ‖ĝ_i‖; a mean below 1e-12 of the longest counts as 0.

    Args:
        beta: β; 0 looks at the present step only.
        decay: how fast β_t falls.
    """

    def __init__(self, beta: float = 0.9, decay: float = 0.5) -> None:
        super().__init__()
        self.beta, self.decay, self.step = beta, decay, 0

    def update(self, shared: Tensor, heads: Tensor, losses: Tensor, tasks: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return Σ α_i ĝ_i and Σ ∇ log l_i."""
        size = positive(self, losses, tasks).to(shared)[:, None]
        now, beta = shared / size, self.beta / (self.step + 1) ** self.decay
        before = torch.stack([self.before(task, now[k]) for k, task in enumerate(tasks)])
        mean = torch.lerp(now, before, beta)
        norms = mean.double().norm(dim=1)
        sound = _sound(norms, tasks)
        longest = norms.max()
        alpha = torch.where(norms > 1e-12 * longest, longest / norms, 0.0)  # what is shorter is a mean that fades away
        self.step += 1
        self.kept |= zip(tasks, torch.where(sound, mean, before).unbind(), strict=True)
        self.factors |= zip(tasks, alpha.unbind(), strict=True)
        direction = sum(a * row.double() for a, row in zip(alpha, mean, strict=True))
        return narrowed(torch.as_tensor(direction), mean), (heads / size).sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Return the running means."""
        return super().state_dict() | {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the running means."""
        super().load_state_dict(state)
        self.step = state["step"]


class ExcessMTL(_HistoryWeighting):
    """Σ w_i l_i, with w_i ← w_i exp(η e_i / e_i(0)), Σ w_i = K, from 1 (He et al., ICML 2024, arXiv:2402.02009).

    e_i = Σ_p g_ip² / √(Σ_t g_ip²) estimates by how much the loss of task i can still fall (its excess risk, with
    AdaGrad's diagonal for the curvature): a task that is far from its end weighs more, one that is merely noisy does
    not. The paper's weights sum to 1. e_i(0) is the first that is not 0. Where a batch lacks some tasks, the weights of
    the others sum to their number. The paper's code adds 1e-7 under the root, which slows what gradients so small do.

    Args:
        eta: η.
    """

    def __init__(self, eta: float = 0.01) -> None:
        super().__init__()
        self.eta = eta
        self.first: dict[str, Tensor] = {}  # e_i(0)
        self.logits: dict[str, Tensor] = {}  # log w_i, of tasks that are absent, too

    def update(self, shared: Tensor, heads: Tensor, losses: Tensor, tasks: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return Σ w_i g_i of all parameters."""
        squares = shared.to(torch.promote_types(shared.dtype, torch.float32)).square()
        before = torch.stack([self.before(task, squares[k]) for k, task in enumerate(tasks)])
        root = (before + squares).sqrt()
        excess = (squares / root.clamp(min=torch.finfo(root.dtype).tiny)).double().sum(1)
        sound = _sound(excess, tasks)
        self.kept |= zip(tasks, torch.where(sound, before + squares, before).unbind(), strict=True)
        excess = torch.where(sound, excess, 0.0)
        log_w = []
        for task, now in zip(tasks, excess.unbind(), strict=True):
            known = self.first[task].to(now) if task in self.first else torch.zeros_like(now)
            moved = torch.where(known > 0, self.eta * now / known, 0.0)
            self.first[task] = torch.where(known > 0, known, now)
            log_w.append(moved + self.logits[task].to(now) if task in self.logits else moved)
        total = torch.logsumexp(torch.stack(log_w), 0) - math.log(len(tasks))
        self.logits |= zip(tasks, log_w, strict=True)
        self.logits = {task: log.to(total) - total for task, log in self.logits.items()}
        w = torch.stack([self.logits[task] for task in tasks]).exp()
        self.factors |= zip(tasks, w.unbind(), strict=True)
        return narrowed(w.to(squares) @ shared.to(squares), shared), w.to(heads) @ heads

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of squares, the first excess risks and the weights."""
        return super().state_dict() | {"first": dict(self.first), "logits": dict(self.logits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over sums, first excess risks and weights."""
        super().load_state_dict(dict(state))
        self.first, self.logits = dict(state["first"]), dict(state["logits"])
