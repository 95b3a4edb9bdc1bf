"""Balancing gradients: how the tasks' gradients are taken, measured, and put back as one update."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtlkit.machine import ALONE, Group
from mtlkit.weighting.base import Losses, Update, Weighting, adding_up, as_parts, refuse_data_parallel
from mtlkit.weighting.checks import NotFiniteError, WeightingError, check_finite, constants, names, narrowed
from mtlkit.weighting.graph import Shared, feature_tensors, reached, shared_parameters
from mtlkit.weighting.rows import add_gradients, split_rows, task_gradients
from mtlkit.weighting.solvers import Array

BLOCK = 16384  # columns of a Jacobian that are turned into float64 at a time
ILL = 1e-6  # the smallest eigenvalue of the cosines, of the largest, below which J Jᵀ has lost too many digits


class GradientWeighting(Weighting):
    """Methods that look at the tasks' gradients g_i of the shared parameters, the rows of J.

    Most need lengths and angles only: they say in `weigh` how these become weights w, and the update is d = Jᵀ w.
    The heads get the plain gradients of their own losses.

    Args:
        at: "parameters" takes each g_i back through the shared encoder, one after the other: K backward passes.
            "features" takes them at the shared features only, then one pass through the encoder: nearly as cheap as
            a sum of losses; the length of their combination bounds that of the true one (Sener, Koltun, NeurIPS 2018).
    """

    def __init__(self, at: str = "parameters") -> None:
        super().__init__()
        if at not in ("parameters", "features"):
            raise ValueError(f"gradients are taken at {at!r}: expected 'parameters' or 'features'")
        self.at = at
        self._others: dict[tuple[str, ...], list[Tensor]] = {}  # tasks → what their losses train outside of the model

    def weigh(self, J: Array, tasks: Sequence[str]) -> Array:
        """Return the weights w `[K]` for the gradients `J [K, R]`, in any coordinates that keep lengths and angles."""
        raise NotImplementedError

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = (), group: Group = ALONE) -> Tensor:
        """Return the update direction `[P]` for the gradients of `tasks`, the rows of `jacobian [K, P]`.

        Args:
            jacobian: the gradients.
            tasks: their names.
            group: processes that hold different columns of one Jacobian each.

        Raises:
            WeightingError: if a gradient is NaN or infinite, or the method's equations cannot be solved.
        """
        tasks = names(tasks, len(jacobian))
        w = constants(self.weigh(coordinates(jacobian, tasks, group), tasks).tolist(), gramian(jacobian[:, :0]))
        self.factors |= zip(tasks, w.unbind(), strict=True)
        return torch.cat([narrowed(w @ block.double(), jacobian) for block in jacobian.split(BLOCK, 1)])

    def one_pass(self, parts: int) -> bool:
        """Never: the tasks' gradients are taken one by one."""
        return False

    def backward(self, losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Update:
        """Add the combined gradient to `.grad` of the shared parameters, and the heads' own to theirs.

        Several processes, or the parts of a batch, add up their Jacobians before they are combined. A loss that
        reaches none of the shared parameters has the gradient 0.

        Raises:
            WeightingError: if a loss or a gradient is NaN or infinite, or the method cannot be solved.
        """
        refuse_data_parallel(model, group, type(self).__name__)
        parts, shared = as_parts(losses), shared_parameters(model, losses, shared)
        if len(parts) == 1:
            (losses,) = parts
            parts = as_parts(losses)
        if self.at == "features" and len(parts) > 1:
            raise WeightingError(
                f"{type(self).__name__} takes gradients at the features of the whole batch, whose graph would have to "
                "stay in memory: use accumulate=1, or a method at='parameters'"
            )
        ids = {id(parameter) for parameter in shared}
        heads = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
        heads += self._of_the_losses(losses, model)
        if not shared and not heads:
            raise WeightingError("no parameter of the model is trained: set requires_grad of some of them")
        with adding_up(model, group):
            if self.at == "parameters":
                J, used, values = task_gradients(parts, shared, heads)
                group.sum_([J, values, *(p.grad for p in heads if p.grad is not None)])
                rows = split_rows(self._combine_or_name_the_loss(J, parts.tasks, values, ALONE), shared)
                add_gradients(shared, [row if u or group.size > 1 else None for row, u in zip(rows, used, strict=True)])
            else:
                (part,) = parts
                features = feature_tensors(model, type(self).__name__)
                self._check_ways(part, features, ids)
                J, _, values = task_gradients([part], features, heads)
                direction = self._combine_or_name_the_loss(J, parts.tasks, values, group)
                if features:
                    torch.autograd.backward(features, split_rows(direction, features))
                group.sum_([values, *(p.grad for p in model.parameters() if p.grad is not None)])
        return Update(values, self.factors)

    def _of_the_losses(self, losses: Losses, model: Any) -> list[Tensor]:
        """Return what the losses train and the model does not hold, such as a temperature; looked for once."""
        if not isinstance(losses, Mapping):
            return []
        if (tasks := tuple(losses)) not in self._others:
            known = set(model.parameters())
            found = (tensor for loss in losses.values() for tensor in reached(loss))
            self._others[tasks] = [tensor for tensor in dict.fromkeys(found) if tensor not in known]
        return self._others[tasks]

    def _check_ways(self, losses: Mapping[str, Tensor], features: Sequence[Tensor], shared: set[int]) -> None:
        for task, loss in losses.items():
            if any(id(parameter) in shared for parameter in reached(loss, features)):
                raise WeightingError(
                    f"the task {task!r} uses a shared parameter after the shared features (tied weights?), where "
                    f"{type(self).__name__} does not see it: take a method at='parameters'"
                )

    def _combine_or_name_the_loss(self, J: Tensor, tasks: Sequence[str], losses: Tensor, group: Group) -> Tensor:
        if not J.shape[1]:  # nothing shared is trained: there is nothing to combine
            return J.sum(0)
        try:
            return self.combine(J, tasks, group)
        except NotFiniteError as error:
            check_finite("loss", tasks, losses.tolist())  # on a GPU nobody has looked at the losses yet
            error.losses = losses
            raise


def jacobian(losses: Losses, model: Any, group: Group = ALONE, shared: Shared = None) -> Tensor:
    """Return the gradients of `losses` with respect to the trained shared parameters, one row a task: `[K, P]`.

    A row has the parameters in the order of `shared_parameters()`, the numbers of each as they lie in memory.
    Arguments as in `Weighting.backward`.
    """
    parts, chosen = as_parts(losses), shared_parameters(model, losses, shared)
    if not chosen:
        return torch.zeros(len(parts.tasks), 0, device=next(model.parameters()).device)
    return group.sum(task_gradients(parts, chosen, keep_graph=True).jacobian)


def fetch_gramian(G: Tensor) -> Array:
    """Bring a Gramian `[K, K]` to where it is solved: the one place in a step at which the process waits for the GPU.

    The problems behind the methods are solved exactly, by active sets and Newton steps whose number depends on the
    data; there is no such thing without looking. On the device "meta", which holds no numbers, the gradients are
    taken as orthonormal.
    """
    return np.eye(len(G)) if G.is_meta else G.cpu().numpy()


def coordinates(jacobian: Tensor, tasks: Sequence[str], group: Group = ALONE) -> Array:
    """Return the rows of `jacobian [K, P]` in K coordinates or fewer, with their lengths and angles: `[K, R]`.

    They are read off G = J Jᵀ where that is well conditioned; else, from the triangular factor of J.

    Raises:
        NotFiniteError: if a gradient is NaN or infinite.
    """
    G = fetch_gramian(group.sum(gramian(jacobian)))
    check_finite("squared norm of the gradient", tasks, G.diagonal().tolist())
    norms = np.sqrt(G.diagonal())
    here = norms > 0
    if not here.any():
        return np.zeros((len(G), 1))
    values, V = np.linalg.eigh(G[here][:, here] / np.outer(norms[here], norms[here]))
    J = np.zeros((len(G), len(values)))
    if values[0] > ILL * values[-1]:
        J[here] = V * np.sqrt(values)
    else:
        J[here] = triangle(jacobian[torch.from_numpy(here).to(jacobian.device)], norms[here], group)
    return norms[:, None] * J


def triangle(jacobian: Tensor, norms: Array, group: Group = ALONE) -> Array:
    """Return the transposed triangular factor of the unit gradients `[K, K]`: Rᵀ, (J / ‖g‖)ᵀ = Q R."""
    size = torch.as_tensor(norms, device=jacobian.device)[:, None]
    R = torch.zeros(len(jacobian), len(jacobian), dtype=torch.double, device=jacobian.device)
    for block in jacobian.split(BLOCK, 1):
        R = torch.linalg.qr(torch.cat([R, (block.double() / size).T]), mode="r").R
    if group.size > 1:
        everyone = R.new_zeros(group.size, *R.shape)
        everyone[group.rank] = R
        R = torch.linalg.qr(group.sum(everyone).flatten(0, 1), mode="r").R
    return R.T.cpu().numpy()


def gramian(jacobian: Tensor) -> Tensor:
    """Return G = J Jᵀ `[K, K]` in float64, whatever the precision of `jacobian [K, P]`."""
    G = torch.zeros(len(jacobian), len(jacobian), dtype=torch.double, device=jacobian.device)
    for block in jacobian.split(BLOCK, 1):
        wide = block.double()
        G.addmm_(wide, wide.T)
    return G


class Conflict(NamedTuple):
    """How the tasks' gradients relate to each other. A zero gradient has cosine 0 with all.

    Attributes:
        cosines: `[K, K]`; below 0, a step for one task hurts the other.
        norms: ‖g_i‖ `[K]`.
        dominance: ‖g_i‖ / ‖g_j‖ `[K, K]`; far above 1, a plain sum follows task i. Of two zero gradients it is 1.
    """

    cosines: Tensor
    norms: Tensor
    dominance: Tensor

    @property
    def mean_cosine(self) -> float:
        """The mean over all pairs of different tasks; NaN for one task alone."""
        K = len(self.norms)
        return float((self.cosines.sum() - self.cosines.trace()) / (K * (K - 1))) if K > 1 else float("nan")


def conflict(jacobian: Tensor) -> Conflict:
    """Measure angle and size of the gradients in the rows of `jacobian [K, P]`, in float64."""
    G = gramian(jacobian)
    norms = G.diagonal().sqrt()
    product = norms[:, None] * norms
    cosines = torch.where(product == 0, 0.0, G / product).clamp(-1, 1)
    return Conflict(cosines, norms, torch.where(norms[:, None] == norms, 1.0, norms[:, None] / norms))
