"""Balancing gradients: how the tasks' gradients are taken, measured, and put back as one update."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.weighting.base import Weighting, check_finite, names, stack

Array = NDArray[np.float64]
BLOCK = 16384  # columns of a Jacobian that are turned into float64 at a time


class GradientWeighting(Weighting):
    """Methods that look at the tasks' gradients g_i of the shared parameters, the rows of J.

    Most need inner products only: they say in `weigh` how G = J Jᵀ becomes weights w, and the update is d = Jᵀ w.
    The heads get the plain gradients of their own losses.

    Args:
        at: "parameters" takes each g_i back through the shared encoder, one after the other: K backward passes.
            "features" takes them at the shared features only, then one pass through the encoder: nearly as cheap as
            a sum of losses, with an upper bound of the true inner products (Sener, Koltun, NeurIPS 2018).
    """

    def __init__(self, at: str = "parameters") -> None:
        super().__init__()
        if at not in ("parameters", "features"):
            raise ValueError(f"gradients are taken at {at!r}: expected 'parameters' or 'features'")
        self.at = at

    def weigh(self, G: Array, tasks: Sequence[str]) -> Array:
        """Return the weights w `[K]` for the Gramian G = J Jᵀ `[K, K]`."""
        raise NotImplementedError

    def combine(self, jacobian: Tensor, tasks: Sequence[str] = ()) -> Tensor:
        """Return the update direction `[P]` for the gradients of `tasks`, the rows of `jacobian [K, P]`.

        Raises:
            WeightingError: if a gradient is NaN or infinite, or the method's equations cannot be solved.
        """
        tasks = names(tasks, len(jacobian))
        G = gramian(jacobian)
        check_finite("squared norm of the gradient", tasks, G.diagonal())
        w = self.weigh(G.cpu().numpy(), tasks)
        self.weights.update(zip(tasks, w.tolist(), strict=True))
        w_row = torch.from_numpy(w).to(G)
        return torch.cat([(w_row @ block.double()).to(jacobian.dtype) for block in jacobian.split(BLOCK, 1)])

    def backward(self, losses: Mapping[str, Tensor], model: Any) -> None:
        """Leave the combined gradient in `.grad` of the shared parameters, and the heads' own in theirs.

        Raises:
            WeightingError: if a loss or a gradient is NaN or infinite, or the method cannot be solved.
        """
        stack(losses)
        tasks, values = list(losses), list(losses.values())
        shared = list(model.shared_parameters())
        known = {id(parameter) for parameter in shared}
        own = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        if self.at == "parameters":
            J = _task_gradients(values, shared, own)
            for parameter, part in zip(shared, _split(self.combine(J, tasks), shared), strict=True):
                parameter.grad = part
        else:
            features = model.features
            (part,) = _split(self.combine(_task_gradients(values, [features], own), tasks), [features])
            features.backward(part)


def jacobian(losses: Mapping[str, Tensor], model: Any) -> Tensor:
    """Return the gradients of `losses` with respect to the shared parameters, one row a task: `[K, P]`.

    A row has the parameters in the order of `shared_parameters()`, the numbers of each as they lie in memory.
    """
    return _task_gradients(list(losses.values()), list(model.shared_parameters()), [], keep=True)


def _task_gradients(
    losses: Sequence[Tensor], at: Sequence[Tensor], own: Sequence[Tensor], keep: bool = False
) -> Tensor:
    """Return J `[K, P]`, one backward pass a row; add the gradients of the tensors `own` to their `.grad`."""
    J = torch.zeros(len(losses), sum(tensor.numel() for tensor in at), dtype=at[0].dtype, device=at[0].device)
    places = [place.unbind() for place in _split(J, at)]
    for k, loss in enumerate(losses):
        retain = keep or k + 1 < len(losses)
        gradients = torch.autograd.grad(loss, [*at, *own], retain_graph=retain, allow_unused=True)
        here = [
            (place[k], gradient) for place, gradient in zip(places, gradients, strict=False) if gradient is not None
        ]
        torch._foreach_copy_([place for place, _ in here], [gradient for _, gradient in here])
        for tensor, gradient in zip(own, gradients[len(at) :], strict=True):
            if gradient is not None:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        del gradients, here  # the next pass takes their memory, still in the cache
    return J


def _split(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """View `rows [..., P]` as tensors `[..., *shape]` for those of `like`, the numbers in the same order in memory."""
    parts = rows.split([tensor.numel() for tensor in like], -1)
    return [
        part.as_strided(part.shape[:-1] + tensor.shape, part.stride()[:-1] + tensor.stride())
        if _is_dense(tensor)
        else part.reshape(part.shape[:-1] + tensor.shape)
        for part, tensor in zip(parts, like, strict=True)
    ]


def _is_dense(tensor: Tensor) -> bool:
    """Whether the strides visit every place in memory once: so for each memory format, not for every view."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def gramian(jacobian: Tensor) -> Tensor:
    """Return G = J Jᵀ `[K, K]` in float64, whatever the precision of `jacobian [K, P]`."""
    G = torch.zeros(len(jacobian), len(jacobian), dtype=torch.double, device=jacobian.device)
    for block in jacobian.split(BLOCK, 1):
        wide = block.double()
        G.addmm_(wide, wide.T)
    return G


class Conflict(NamedTuple):
    """How the tasks' gradients stand to each other. A zero gradient has cosine 0 with all.

    Attributes:
        cosines: `[K, K]`; below 0, a step for one task hurts the other.
        norms: ‖g_i‖ `[K]`.
        dominance: ‖g_i‖ / ‖g_j‖ `[K, K]`; far above 1, a plain sum follows task i.
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
    cosines = torch.where(product > 0, G / product.clamp(min=torch.finfo(torch.double).tiny), 0.0).clamp(-1, 1)
    return Conflict(cosines, norms, norms[:, None] / norms)
