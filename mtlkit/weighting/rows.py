"""Gradients as the rows of one matrix: taken task by task, and put back into the shape of the parameters."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from mtlkit.weighting.checks import WeightingError, values_of


class TaskGradients(NamedTuple):
    """The gradients of K losses, summed over the parts of a batch.

    Attributes:
        jacobian: one row a task `[K, P]`.
        reached: which of the tensors any loss depends on; the columns of the others are 0.
        losses: the losses themselves `[K]`, in float64.
    """

    jacobian: Tensor
    reached: list[bool]
    losses: Tensor


def task_gradients(
    parts: Iterable[Mapping[str, Tensor]],
    tensors: Sequence[Tensor],
    also_into: Sequence[Tensor] = (),
    keep_graph: bool = False,
) -> TaskGradients:
    """Take the gradients of K losses with respect to `tensors`, in one backward pass a loss and part.

    Args:
        parts: the losses of each part of the batch, of the same tasks in the same order.
        tensors: those of which the rows are made, P numbers in all.
        also_into: further tensors, to whose `.grad` the gradients of all losses are added.
        keep_graph: leave the graph for a further backward pass.
    """
    J, values, reached = torch.empty(0), torch.empty(0), [False] * len(tensors)
    for n, losses in enumerate(parts):
        values = values + values_of(losses) if n else values_of(losses)
        if n == 0:
            size, like = sum(tensor.numel() for tensor in tensors), (*tensors, *also_into)[0]
            kind = reduce(torch.promote_types, [tensor.dtype for tensor in tensors] or [like.dtype])
            if kind.is_complex:
                raise WeightingError("gradients of complex parameters cannot be compared: keep them as pairs of reals")
            J = torch.zeros(len(losses), size, dtype=kind, device=like.device)
            places = [place.unbind() for place in split_rows(J, tensors)]
        write = torch._foreach_add_ if n else torch._foreach_copy_
        for k, loss in enumerate(losses.values()):
            retain = keep_graph or k + 1 < len(losses)
            gradients = torch.autograd.grad(loss, [*tensors, *also_into], retain_graph=retain, allow_unused=True)
            reached = [old or g is not None for old, g in zip(reached, gradients, strict=False)]
            here = [
                (place[k], g.to_dense() if g.is_sparse else g)
                for place, g in zip(places, gradients, strict=False)
                if g is not None
            ]
            if here:
                write([place for place, _ in here], [g for _, g in here])
            add_gradients(also_into, gradients[len(tensors) :])
            del gradients, here  # the next pass takes their memory, still in the cache
    return TaskGradients(J, reached, values)


def add_gradients(tensors: Iterable[Tensor], gradients: Iterable[Tensor | None]) -> None:
    """Add to the `.grad` of each tensor what belongs to it, as a backward pass does."""
    for tensor, gradient in zip(tensors, gradients, strict=True):
        if gradient is not None:
            gradient = gradient.to(tensor.dtype)
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def split_rows(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
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
