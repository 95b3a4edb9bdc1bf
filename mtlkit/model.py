"""Encoders, heads, and the model in which several heads share one encoder."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from mtlkit.precision import at_least_float32


class SharedEncoderModel(nn.Module):
    """h = encoder(x; W_0), shared by all tasks; ŷ_i = head_i(h; W_i), one head a task.

    Args:
        encoder: from the input to shared features.
        heads: task name → module from the shared features to that task's output.
        reads: what of a batch is the input.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module], reads: str = "image") -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.reads = reads
        self.features: Tensor | None = None

    def forward(self, x: Tensor, tasks: Collection[str] | None = None) -> dict[str, Any]:
        """Return task name → output, of `tasks` or of all. In training the shared features h are kept in `features`."""
        features = self.encoder(x)
        self.features = features if self.training else None
        return {name: head(features) for name, head in self.heads.items() if tasks is None or name in tasks}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"features": None}  # a copy of the model is not a copy of its last batch

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield W_0, the parameters that every task trains."""
        return self.encoder.parameters()

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Yield W_i, the parameters that only the task `name` trains."""
        return self.heads[name].parameters()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation, without gradients, and back to what it was, whatever happens."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel; both travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | list[float] = 0.5, std: float | list[float] = 0.25) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor(value).expand(3).reshape(3, 1, 1).clone())

    def forward(self, image: Tensor) -> Tensor:
        """Map images in 0..1 to channels of about zero mean and unit variance."""
        return (image - self.mean) / self.std


class Blocks(nn.Sequential):
    """Modules one after the other, whose inner activations need not be kept for the backward pass.

    Attributes:
        recompute: in training, keep only the input of each module and compute the rest again when its gradient is due
            (activation checkpointing; Chen et al., arXiv:1604.06174): less memory for one more forward pass.
    """

    recompute = False

    def forward(self, x: Any) -> Any:
        """Return what the last module makes of it."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().forward(x)
        for module in self:
            x = checkpoint(module, x, use_reentrant=False, context_fn=lambda m=module: (nullcontext(), _Again(m)))  # type: ignore[misc]
        return x


class _Again(AbstractContextManager[None]):
    """Around computing a module once more, as often as it takes: batch normalisation has counted this batch already."""

    def __init__(self, module: nn.Module) -> None:
        self.norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
        self.before: list[tuple[float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, number) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, number


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


class ResidualBlock(nn.Module):
    """x + two convolutions of x (He et al., "Deep residual learning", CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2dNormActivation(channels, channels),
            Conv2dNormActivation(channels, channels, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x`."""
        return torch.relu(x + self.layers(x))


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
