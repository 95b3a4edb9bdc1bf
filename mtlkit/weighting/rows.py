"""Gradients as the rows of one matrix: taken task by task, and put back into the shape of the parameters."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


def task_gradients(
    parts: Iterable[Mapping[str, Tensor]], at: Sequence[Tensor], own: Sequence[Tensor] = (), keep: bool = False
) -> tuple[Tensor, list[bool]]:
    """Take the gradients of K losses, summed over the parts of a batch, in one backward pass a loss and part.

    Returns:
        J `[K, P]`, and which of the tensors `at` any loss depends on; the columns of the others are 0.

    Args:
        parts: the losses of each part of the batch, of the same tasks in the same order.
        at: the tensors of which the rows are made, P numbers in all.
        own: further tensors, to whose `.grad` the gradients of all losses are added.
        keep: leave the graph for a further backward pass.
    """
    J, reached = torch.empty(0), [False] * len(at)
    for n, losses in enumerate(parts):
        if n == 0:
            J = torch.zeros(len(losses), sum(tensor.numel() for tensor in at), dtype=at[0].dtype, device=at[0].device)
            places = [place.unbind() for place in split_rows(J, at)]
        write = torch._foreach_add_ if n else torch._foreach_copy_
        for k, loss in enumerate(losses.values()):
            retain = keep or k + 1 < len(losses)
            gradients = torch.autograd.grad(loss, [*at, *own], retain_graph=retain, allow_unused=True)
            reached = [old or g is not None for old, g in zip(reached, gradients, strict=False)]
            here = [(place[k], g) for place, g in zip(places, gradients, strict=False) if g is not None]
            write([place for place, _ in here], [g for _, g in here])
            for tensor, gradient in zip(own, gradients[len(at) :], strict=True):
                if gradient is not None:
                    tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
            del gradients, here  # the next pass takes their memory, still in the cache
    return J, reached


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
