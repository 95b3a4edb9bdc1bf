"""Looking inside: each tool held against networks of which one knows the answer."""

import pytest
import torch
from torch import nn

from mtlkit.cases import find_case
from mtlkit.insight import (
    ATTRIBUTIONS,
    attribution,
    best_patches,
    channel_effects,
    cka,
    conflict_by_layer,
    features_of,
    losses_without,
    randomised,
    rank_agreement,
    share_inside,
    silenced,
)
from mtlkit.insight.channels import channel_means
from mtlkit.lab import ChannelExplorer
from mtlkit.model import Pick, SharedEncoderModel
from mtlkit.tasks import Task


class Channels(nn.Module):
    """Three channels: the image's red, green and blue."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, image):
        return image * self.scale[:, None, None]


class Mean(nn.Module):
    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, h):
        return h[:, self.channel].mean((1, 2))[:, None]


def squared(name):
    return Task(name, lambda output, batch: (output[:, 0] - batch[name]).square().mean(), None, "")


@pytest.fixture
def coloured():
    """A network whose task "red" reads channel 0 only, and "blue" channel 2 only; both are always right."""
    model = SharedEncoderModel(Channels(), {"red": Mean(0), "blue": Mean(2)})
    image = torch.rand(40, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "red": image[:, 0].mean((1, 2)), "blue": image[:, 2].mean((1, 2))}
    return model, [squared("red"), squared("blue")], batch


def test_a_channel_matters_to_the_task_that_reads_it(coloured):
    model, tasks, batch = coloured
    effects = channel_effects(model, tasks, batch, model.encoder)
    variance = [batch[name].var(unbiased=False).item() for name in ("red", "blue")]
    expected = torch.tensor([[variance[0], 0.0], [0.0, 0.0], [0.0, variance[1]]])
    torch.testing.assert_close(effects, expected, atol=1e-6, rtol=1e-4)


def test_silence_ends_and_counts_places(coloured):
    model, tasks, batch = coloured
    means = channel_means(model, batch, model.encoder)
    torch.testing.assert_close(means, batch["image"].mean((0, 2, 3)))
    with silenced(model.encoder, [1], torch.tensor([7.0, 8.0, 9.0])):
        given = model.encoder(batch["image"])
    assert (given[:, 1] == 8).all() and torch.equal(given[:, ::2], batch["image"][:, ::2])
    assert losses_without(model, tasks, batch, model.encoder).abs().max() < 1e-6
    with pytest.raises(ValueError, match=r"no channel 3.*gives 3"), silenced(model.encoder, [3]):
        model.encoder(batch["image"])
    with pytest.raises(ValueError, match="no tensor"), silenced(model, [0]):
        model(batch["image"])
    assert not model._forward_hooks and not model.encoder._forward_hooks


def test_the_places_that_a_channel_likes(coloured):
    model, *_ = coloured
    image = torch.zeros(3, 3, 32, 48)
    image[0, 1, 20:24, 30:34], image[1, 1, 0, 0], image[2, 0] = 1.0, 0.5, 1.0
    first, second = best_patches(model, {"image": image}, model.encoder, 1, n=2, side=8)
    assert first.shape == (3, 8, 8) and first[1].sum() == 16 and second[1, 0, 0] == 0.5


@pytest.mark.parametrize("unbiased", [False, True])
def test_similarity_keeps_to_its_invariances(unbiased):
    random = torch.Generator().manual_seed(0)
    x, other = torch.randn(30, 6, generator=random), torch.randn(30, 4, generator=random)
    turned = torch.linalg.qr(torch.randn(6, 6, generator=random)).Q
    assert cka(x, x, unbiased) == pytest.approx(1)
    assert cka(x, 3 * x @ turned + 5, unbiased) == pytest.approx(1)
    assert cka(x, x[:, torch.randperm(6, generator=random)], unbiased) == pytest.approx(1)
    assert cka(x, other, unbiased) == pytest.approx(cka(other, x, unbiased))
    assert cka(x, x * torch.tensor([100.0, 1, 1, 1, 1, 1]), unbiased) < 0.7  # not to unequal scales
    assert cka(x, x.reshape(30, 2, 3), unbiased) == pytest.approx(1)


def test_biased_similarity_is_the_one_of_kornblith():
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 5, generator=random).double(), torch.randn(12, 7, generator=random).double()
    x, y = x - x.mean(0), y - y.mean(0)
    right = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert cka(x + 3, y, unbiased=False) == pytest.approx(float(right))


def test_unrelated_representations_are_alike_only_by_bias():
    random = torch.Generator().manual_seed(2)
    found = {unbiased: [] for unbiased in (False, True)}
    for _ in range(40):
        x, y = (torch.randn(20, 200, generator=random) for _ in range(2))
        for unbiased, values in found.items():
            values.append(cka(x, y, unbiased))
    assert sum(found[False]) / 40 > 0.8 and abs(sum(found[True]) / 40) < 0.05


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.rand(5, 2), torch.rand(6, 2), "5 and 6 samples"),
        (torch.rand(3, 2), torch.rand(3, 2), "at least 4"),
        (torch.ones(5, 2), torch.rand(5, 2), "the same for all"),
    ],
)
def test_what_cannot_be_compared_is_said(x, y, says):
    with pytest.raises(ValueError, match=says):
        cka(x, y)


def test_features_are_those_of_the_layers(coloured):
    model, _, batch = coloured
    found = features_of(model, batch, {"all": model.encoder, "red": model.heads["red"]})
    torch.testing.assert_close(found["all"], batch["image"])
    torch.testing.assert_close(found["red"][:, 0], batch["red"])


def test_conflict_is_that_of_each_layer():
    encoder = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        for layer in encoder:
            layer.weight.copy_(torch.eye(2))
    model = SharedEncoderModel(encoder, {"a": nn.Identity(), "b": nn.Identity()}, reads="x")
    up = Task("a", lambda o, b: o[:, 0].sum(), None, "")
    down = Task("b", lambda o, b: -o[:, 0].sum() + o[:, 1].sum(), None, "")
    layers = {"first": encoder[0], "second": encoder[1]}
    found = conflict_by_layer(model, [up, down], {"x": torch.tensor([[1.0, 0.0]])}, layers)
    assert found == pytest.approx({"first": -(0.5**0.5), "second": -(0.5**0.5)}, abs=1e-6)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_a_map_shows_what_the_answer_rests_on(method):
    torch.manual_seed(0)

    class Left(nn.Module):
        """Two logits; the first one is the sum of the left half."""

        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, image):
            left = self.relu(image[..., :4].sum((1, 2, 3)))
            return torch.stack([left, -left], 1)

    model = SharedEncoderModel(nn.Identity(), {"side": Left(), "other": Pick(0)})
    maps = attribution(model, "side", torch.rand(2, 3, 8, 8) * 0.5 + 0.5, method)
    assert maps.shape == (2, 8, 8)
    assert (maps[..., :4] > 0).all() and maps[..., 4:].abs().max() == 0


def test_integrated_gradients_add_up():
    """They sum to the difference between the answer for the image and for grey (completeness)."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.Softplus())
    with torch.no_grad():
        head[1].weight.abs_()
    model = SharedEncoderModel(nn.Identity(), {"one": head}).eval()
    image = torch.rand(1, 3, 2, 2) * 0.5 + 0.5  # above grey, with positive weights: no sign is lost
    maps = attribution(model, "one", image, steps=200)
    with torch.no_grad():
        gap = head(image) - head(torch.full_like(image, 0.5))
    assert maps.sum().item() == pytest.approx(gap.item(), rel=1e-3)


def test_maps_are_of_scenes_too_and_leave_the_model_as_it_is():
    case = find_case("scenes", scenes=8, val_scenes=2, test_scenes=2)
    setup = case.setup()
    batch = setup.train_set.batch(range(2))
    before = {name: value.clone() for name, value in setup.model.state_dict().items()}
    for task in ("classify", "detect"):
        for method in ATTRIBUTIONS:
            assert attribution(setup.model, task, batch["image"], method, steps=4).shape == (2, 64, 64)
    assert all(torch.equal(before[name], value) for name, value in setup.model.state_dict().items())
    assert setup.model.training and all(p.grad is None for p in setup.model.parameters())
    with pytest.raises(ValueError, match=r"no attribution 'x'.*saliency"):
        attribution(setup.model, "detect", batch["image"], "x")
    with pytest.raises(ValueError, match=r"no task 'x'.*classify, detect"):
        attribution(setup.model, "x", batch["image"])


def test_only_the_named_parts_are_drawn_anew():
    model = find_case("scenes", scenes=8).setup().model
    made = randomised(model, lambda m: [m.heads["detect"]], seed=1)
    same = {
        name: torch.equal(a, b)
        for (name, a), (_, b) in zip(model.named_parameters(), made.named_parameters(), strict=True)
    }
    assert all(equal for name, equal in same.items() if not name.startswith("heads.detect"))
    assert not same["heads.detect.layers.0.0.weight"]


def test_ranks_and_shares_of_maps():
    maps = torch.arange(12.0).reshape(1, 3, 4)
    assert rank_agreement(maps, maps**3).item() == pytest.approx(1)
    assert rank_agreement(maps, -maps).item() == pytest.approx(-1)
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]]])  # half of it, once
    assert share_inside(torch.ones(1, 3, 4), boxes).item() == pytest.approx(1)
    left = torch.zeros(1, 3, 4)
    left[..., 0] = 1
    assert share_inside(left, boxes).item() == pytest.approx(2)
    with pytest.raises(ValueError, match="no box"):
        share_inside(left, torch.zeros(1, 2, 4))


def test_the_explorer_shows_the_channel_that_is_clicked(coloured):
    model, tasks, batch = coloured
    batch = batch | {"image": torch.nn.functional.interpolate(batch["image"], (32, 32))}
    batch |= {"red": batch["image"][:, 0].mean((1, 2)), "blue": batch["image"][:, 2].mean((1, 2))}
    explorer = ChannelExplorer(model, tasks, batch)
    assert explorer["channel"] == 0 and "'red' rises by 0.0" in explorer.says and "rank 1 of 3" in explorer.says
    assert [point[0] for point in explorer.widget.points] == [0, 1, 2]
    assert explorer.widget.points[0][1] > explorer.widget.points[1][1] == 0
    explorer.widget.values = [2]  # as a click does
    assert explorer.says.startswith("Without channel 2: the loss of 'red' rises by 0.000")
    assert "channel 2" in explorer.picture().alt
