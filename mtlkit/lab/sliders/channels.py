"""A widget that shows what a shared channel likes, and what each task loses without it."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from mtlkit import plots
from mtlkit.data import Batch
from mtlkit.insight import best_patches, channel_effects
from mtlkit.lab.sliders.base import SliderExplorer
from mtlkit.tasks import Task

CHANNEL = "channel"


class ChannelExplorer(SliderExplorer):
    """The channels of shared features as points: the further out, the more a task needs one. Click one.

    Args:
        model: trained, with an "image" as its input.
        tasks: at least two; the points lie in the plane of the first two.
        batch: held-out samples, some hundreds in one batch.
        module: gives a map `[B, C, h, w]`; the model's encoder, if not given.
        channel: at first; the one that the first task needs most, if not given.
    """

    def __init__(
        self,
        model: Any,
        tasks: Sequence[Task],
        batch: Batch,
        module: nn.Module | None = None,
        channel: int | None = None,
    ) -> None:
        self.model, self.batch, self.module = model, batch, module or model.encoder
        self.names = [task.name for task in tasks]
        self.effects = channel_effects(model, tasks, batch, self.module)
        first = int(self.effects[:, 0].argmax()) if channel is None else channel
        points = [[k, *row[:2]] for k, row in enumerate(self.effects.tolist())]
        super().__init__(
            {CHANNEL: (first, 0, len(self.effects) - 1, 1)},
            points=points,
            axes=[f"rise in the loss of {name!r} without it" for name in self.names[:2]],
        )

    def draw(self) -> tuple[plots.Picture, str]:
        """Return the parts of images that the channel likes, and what the tasks lose without it."""
        channel = int(self[CHANNEL])
        own = dict(zip(self.names, self.effects[channel].tolist(), strict=True))
        places = {
            name: int((self.effects[:, k] > self.effects[channel, k]).sum()) + 1 for k, name in enumerate(self.names)
        }
        patches = best_patches(self.model, self.batch, self.module, channel)
        picture = plots.gallery(patches, title=f"channel {channel} is largest at these places")
        says = ", ".join(
            f"the loss of {name!r} rises by {effect:.3f} (rank {places[name]} of {len(self.effects)})"
            for name, effect in own.items()
        )
        return picture, f"Without channel {channel}: {says}."
