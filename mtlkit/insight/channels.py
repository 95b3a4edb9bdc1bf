"""Which shared channels a task needs: what it loses without one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.data import Batch
from mtlkit.insight.similarity import features_of
from mtlkit.model import evaluating, read_input
from mtlkit.tasks import Task


@contextmanager
def silenced(module: nn.Module, channels: Sequence[int], fill: Tensor | float = 0.0) -> Iterator[None]:
    """Replace some channels of what a module gives by a constant, while the context lasts.

    Args:
        module: gives a tensor `[B, C, ...]`.
        channels: which of the C.
        fill: what stands there in their place: a number, or one for each of the C channels, e.g. their means `[C]`.

    Raises:
        ValueError: if there is no such channel, or the module gives no such tensor.
    """
    chosen = list(channels)

    def replace(_: nn.Module, __: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise ValueError(f"{type(module).__name__} gives no tensor [B, C, ...]: name a module that does")
        if wrong := [c for c in chosen if not 0 <= c < output.shape[1]]:
            raise ValueError(f"there is no channel {wrong[0]}: {type(module).__name__} gives {output.shape[1]}")
        values = torch.as_tensor(fill, dtype=output.dtype, device=output.device).expand(output.shape[1])
        output = output.clone()
        output[:, chosen] = values[chosen].reshape(1, -1, *[1] * (output.ndim - 2))
        return output

    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def channel_means(model: nn.Module, batch: Batch, module: nn.Module) -> Tensor:
    """Return the mean of each channel of what a module gives, over samples and places `[C]`."""
    return _given_by(model, batch, module).transpose(0, 1).flatten(1).mean(1)


def losses_without(
    model: nn.Module,
    tasks: Sequence[Task],
    batch: Batch,
    module: nn.Module,
    channels: Sequence[int] = (),
    fill: Tensor | float = 0.0,
) -> Tensor:
    """Return the losses `[K]` of a batch when some channels are `silenced`; of the network as it is, if none are."""
    with evaluating(model), silenced(module, channels, fill):
        outputs = model(read_input(model, batch))
        return torch.stack([task.loss(outputs[task.name], batch) for task in tasks])


def channel_effects(model: nn.Module, tasks: Sequence[Task], batch: Batch, module: nn.Module) -> Tensor:
    """Return by how much each loss rises when a channel is replaced by its mean `[C, K]`.

    Small and negative numbers are channels that the task can do without *as long as the others are there*: of two
    channels that say the same thing, neither has an effect.

    Args:
        model: trained.
        tasks: the K tasks.
        batch: held-out samples, some hundreds in one batch.
        module: the part of the model whose channels are tried, e.g. its encoder.
    """
    means = channel_means(model, batch, module)
    whole = losses_without(model, tasks, batch, module)
    return torch.stack([losses_without(model, tasks, batch, module, [c], means) - whole for c in range(len(means))])


def best_patches(
    model: nn.Module, batch: Mapping[str, Any], module: nn.Module, channel: int, n: int = 9, side: int = 24
) -> list[Tensor]:
    """Return the parts of images `[3, side, side]` at which a channel is largest, one an image, the largest first.

    Args:
        model: trained.
        batch: with "image" `[B, 3, H, W]`.
        module: gives a map `[B, C, h, w]` of these images.
        channel: which of the C.
        n: how many.
        side: of a part, in pixels.
    """
    maps = _given_by(model, batch, module)[:, channel]
    height, width = batch["image"].shape[-2:]
    found = []
    for k in maps.flatten(1).amax(1).argsort(descending=True)[:n].tolist():
        row, column = divmod(int(maps[k].argmax()), maps.shape[2])
        y, x = (
            min(max(round((at + 0.5) * size / cells - side / 2), 0), size - side)
            for at, size, cells in ((row, height, maps.shape[1]), (column, width, maps.shape[2]))
        )
        found.append(batch["image"][k, :, y : y + side, x : x + side])
    return found


def _given_by(model: nn.Module, batch: Mapping[str, Any], module: nn.Module) -> Tensor:
    return features_of(model, batch, {"it": module})["it"]
