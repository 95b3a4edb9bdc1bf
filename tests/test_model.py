import pytest
import torch
from models import small_model

from mtlkit.model import (
    ClassificationHead,
    ConvEncoder,
    DetectionHead,
    Normalize,
    ResNetEncoder,
    SharedEncoderModel,
)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_every_parameter_is_shared_or_of_one_task():
    model = small_model()
    parts = [model.shared_parameters(), model.task_parameters("classify"), model.task_parameters("detect")]
    found = [id(p) for part in parts for p in part]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert len(set(found)) == len(found)


def test_the_small_encoder_has_100k_to_400k_parameters():
    assert 100_000 <= parameters(ConvEncoder()) <= 400_000
    assert 100_000 <= parameters(small_model()) <= 400_000


@pytest.mark.parametrize("encoder", [ConvEncoder(), ResNetEncoder()], ids=["conv", "resnet18"])
def test_outputs_have_the_documented_shapes(encoder):
    heads = {"classify": ClassificationHead(encoder.channels, 5), "detect": DetectionHead(encoder.channels, 7)}
    output = SharedEncoderModel(encoder, heads)(torch.rand(2, 3, 96, 64))
    assert output["classify"].shape == (2, 5)
    assert output["detect"].logits.shape == (2, 7, 12, 8)
    assert output["detect"].boxes.shape == (2, 4, 12, 8)


def test_every_predicted_box_holds_the_centre_of_its_cell():
    boxes = DetectionHead(4, 3, stride=8)(torch.randn(1, 4, 2, 5)).boxes[0]
    x = torch.arange(5) * 8 + 4.0
    y = (torch.arange(2) * 8 + 4.0)[:, None]
    assert (boxes[0] < x).all() and (x < boxes[2]).all()
    assert (boxes[1] < y).all() and (y < boxes[3]).all()


def test_normalize_gives_zero_mean_and_unit_variance():
    image = torch.rand(4, 3, 8, 8)
    mean, std = image.mean((0, 2, 3)), image.std((0, 2, 3))
    out = Normalize(mean.tolist(), std.tolist())(image)
    assert out.mean((0, 2, 3)).abs().max() < 1e-5
    assert (out.std((0, 2, 3)) - 1).abs().max() < 1e-4
    assert {"mean", "std"} <= set(Normalize().state_dict())


def test_the_seed_determines_the_initial_weights():
    one, two, other = (small_model(seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
