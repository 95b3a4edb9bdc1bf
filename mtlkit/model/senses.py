"""Two senses and one mind."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation


class TwoSenses(nn.Module):
    """A stem for pictures, one for sounds, and a trunk that both go through.

    A spectrogram is a picture of a sound, so the stems are alike: three convolutions, averages over a grid, a layer.

    Args:
        width: of the features.
        share: whether there is one trunk for both, or one for each.
    """

    def __init__(self, width: int = 64, share: bool = True) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({"see": _stem(width, (2, 2), (3, 3)), "hear": _stem(width, (4, 2), (6, 2))})
        first = _trunk(width)
        self.trunks = nn.ModuleDict({"see": first, "hear": first if share else _trunk(width)})

    def forward(self, image: Tensor, frames: Tensor) -> dict[str, Tensor]:
        """Return features `[B, width]` of pictures `[B, 1, H, W]` ("see") and spectrograms `[B, T, mels]` ("hear")."""
        given = {"see": image, "hear": frames[:, None]}
        return {name: torch.as_tensor(self.trunks[name](stem(given[name]))) for name, stem in self.stems.items()}

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the trunk that both go through; none, if each has its own."""
        if self.trunks["see"] is self.trunks["hear"]:
            yield from self.trunks["see"].parameters()


def _stem(width: int, stride: tuple[int, int], grid: tuple[int, int]) -> nn.Module:
    return nn.Sequential(
        Conv2dNormActivation(1, 16, stride=stride),
        Conv2dNormActivation(16, 32, stride=2),
        Conv2dNormActivation(32, 32),
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Linear(32 * grid[0] * grid[1], width),
    )


def _trunk(width: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)
    )
