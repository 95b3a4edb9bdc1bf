"""Encoders and heads for images."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from mtlkit.machine import at_least_float32
from mtlkit.model.blocks import Blocks, Normalize, ResidualBlock


class ConvEncoder(nn.Module):
    """A small convolutional encoder: `[B, 3, H, W]` in 0..1 → `[B, channels, H/8, W/8]`.

    Args:
        widths: channels at strides 2, 4 and 8; the last is `channels`.
        blocks: residual blocks of two 3x3 convolutions at stride 8.
    """

    stride = 8

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64), blocks: int = 2) -> None:
        super().__init__()
        a, b, self.channels = widths
        self.layers = Blocks(
            Normalize(),
            Conv2dNormActivation(3, a, stride=2),
            Conv2dNormActivation(a, b, stride=2),
            Conv2dNormActivation(b, b),
            Conv2dNormActivation(b, self.channels, stride=2),
            *(ResidualBlock(self.channels) for _ in range(blocks)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the shared feature map."""
        return self.layers(image)


def conv_stages(widths: tuple[int, int, int] = (16, 32, 64), blocks: int = 2) -> list[Blocks]:
    """Return the stages of a `ConvEncoder`: strides 2, 4 and 8, and each residual block; for `mtlkit.model.sharing`."""
    layers: Any = ConvEncoder(widths, blocks).layers
    first, second, *others = layers
    parts = [[nn.Sequential(first, second)], others[:2], *([layer] for layer in others[2:])]
    return [Blocks(*part) for part in parts]


class ResNetEncoder(nn.Module):
    """torchvision's ResNet-18 for photographs: `[B, 3, H, W]` in 0..1 → `[B, channels, H/8, W/8]`.

    A feature pyramid (Lin et al., CVPR 2017) adds what strides 16 and 32 have seen to the map of stride 8.

    Args:
        channels: of the shared feature map.
        weights: as in `torchvision.models.resnet18`; `None` starts from scratch and needs no network.
    """

    stride = 8

    def __init__(self, channels: int = 128, weights: str | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # of ImageNet
        self.body = resnet18(weights=weights)
        del self.body.avgpool, self.body.fc
        for name in ("layer1", "layer2", "layer3", "layer4"):
            setattr(self.body, name, Blocks(*getattr(self.body, name)))
        self.pyramid = FeaturePyramidNetwork([128, 256, 512], channels)

    def forward(self, image: Tensor) -> Tensor:
        """Return the shared feature map."""
        body = self.body
        x = body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(self.normalize(image))))))
        maps = {"8": body.layer2(x)}
        maps["16"] = body.layer3(maps["8"])
        maps["32"] = body.layer4(maps["16"])
        return self.pyramid(maps)["8"]


class ClassificationHead(nn.Module):
    """Average pooling, one hidden layer, logits: `[B, C, H, W]` → `[B, classes]`.

    Args:
        channels: of the feature map.
        classes: how many logits.
        hidden: width of the hidden layer.
        grid: average over each of `grid` x `grid` parts of the map; above 1, where things are is not lost.
    """

    def __init__(self, channels: int, classes: int, hidden: int = 64, grid: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
            nn.Linear(channels * grid**2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[B, classes]`."""
        return self.layers(features)


class Detections(NamedTuple):
    """What a detection head says of every cell of a feature map."""

    logits: Tensor  # [B, classes, H, W]
    boxes: Tensor  # [B, 4, H, W], xyxy in pixels of the input


class DetectionHead(nn.Module):
    """Anchor-free detector: each cell of the feature map says what is centred there and how far it reaches.

    A convolution gives, for each cell, one logit a class and the logarithm of the distances from the cell's centre
    to the left, top, right and bottom side, in strides (Tian et al., "FCOS", ICCV 2019, section 3.1).
    """

    def __init__(self, channels: int, classes: int, stride: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.classes, self.stride = classes, stride
        last = nn.Conv2d(hidden, classes + 4, 1)
        # begin with "nothing here", for most cells are empty, and with boxes of three strides
        last.bias = nn.Parameter(torch.tensor([-4.0] * classes + [0.4] * 4))
        self.layers = nn.Sequential(Conv2dNormActivation(channels, hidden), last)

    def forward(self, features: Tensor) -> Detections:
        """Return logits and boxes of every cell."""
        logits, distances = self.layers(features).split((self.classes, 4), 1)
        y, x = (torch.arange(side, device=features.device) + 0.5 for side in features.shape[-2:])
        centre = torch.stack(torch.meshgrid(x, y, indexing="xy"))  # (2, H, W), in strides
        left_top, right_bottom = at_least_float32(distances).clamp(-6, 6).exp().split(2, 1)
        return Detections(logits, self.stride * torch.cat([centre - left_top, centre + right_bottom], 1))


class CountHead(nn.Module):
    """How many there are: each cell of the feature map says how many it has, and the sum is the answer.

    A density map (Lempitsky and Zisserman, NeurIPS 2010), here at the stride of the encoder.
    """

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        last = nn.Conv2d(hidden, 1, 1)
        last.bias = nn.Parameter(torch.tensor([-2.0]))  # begin with about a tenth in each cell
        self.layers = nn.Sequential(Conv2dNormActivation(channels, hidden), last, nn.Softplus())

    def forward(self, features: Tensor) -> Tensor:
        """Return numbers `[B]`, 0 or more, for a feature map `[B, C, H, W]`."""
        return torch.as_tensor(self.layers(features).flatten(1).sum(1))


class MapHead(nn.Module):
    """Yes or no in each part of the picture: `[B, C, H, W]` → logits `[B, scale * H, scale * W]`.

    A convolution gives the `scale`² logits of each cell at once (Shi et al., CVPR 2016, "sub-pixel").
    """

    def __init__(self, channels: int, scale: int = 2, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2dNormActivation(channels, hidden), nn.Conv2d(hidden, scale**2, 1), nn.PixelShuffle(scale)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of the map."""
        return torch.as_tensor(self.layers(features)[:, 0])
