"""Driving: drawn roads, the map of the free road, rare scenes, answering times."""

import math

import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.cases.fields.roads import tinted
from mtlkit.data import DataError
from mtlkit.data.fields.roads import CONDITIONS, KINDS, Roads
from mtlkit.experiments.fields.driving import (
    NIGHT,
    TIMES,
    _drawn_more_often,
    answer_times,
    night_weighted,
    pedestrians_found,
)
from mtlkit.losses import detection_loss, map_loss
from mtlkit.model import MapHead
from mtlkit.tasks import MapOverlap, segmentation
from mtlkit.training import evaluate, train


@pytest.fixture(scope="module")
def roads():
    return Roads("val", 120)


def test_roads_are_made_from_a_seed(roads):
    assert roads.images.shape == (120, 3, 64, 96) and roads.more["road"].shape == (120, 16, 24)
    assert torch.equal(Roads("val", 5).images, roads.images[:5])
    assert not torch.equal(Roads("test", 5).images, roads.images[:5])
    assert set(roads.labels.tolist()) == set(range(5)) and set(roads.box_labels.unique().tolist()) == {-1, 0, 1, 2}


def test_boxes_lie_in_the_picture_and_near_things_are_larger(roads):
    for k in range(len(roads)):
        boxes = roads[k]["boxes"]
        assert (boxes >= 0).all() and (boxes[:, ::2] <= 96).all() and (boxes[:, 1::2] <= 64).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 0.5).all()
    vehicles = roads.boxes[roads.box_labels == KINDS.index("vehicle")]
    foot, high = vehicles[:, 3], vehicles[:, 3] - vehicles[:, 1]
    assert torch.corrcoef(torch.stack([foot, high]))[0, 1] > 0.7


def test_the_free_road_is_grey_and_nothing_stands_on_it(roads):
    day = (roads.labels == CONDITIONS.index("day")).nonzero()[:, 0].tolist()
    colours = []
    for k in day:
        free = roads.more["road"][k].repeat_interleave(4, 0).repeat_interleave(4, 1) > 0
        colours.append(roads.batch([k])["image"][0][:, free].median(1).values)
        assert not free[:16].any()  # no road in the sky
    colour = torch.stack(colours).mean(0)
    assert (colour - colour.mean()).abs().max() < 0.06 and 0.25 < colour.mean() < 0.5


def test_conditions_look_as_they_are_called(roads):
    light = {
        name: roads.batch((roads.labels == k).nonzero()[:, 0])["image"].mean().item()
        for k, name in enumerate(CONDITIONS)
    }
    assert light["night"] < 0.2 < light["dusk"] < light["day"] and light["fog"] > light["rain"] > light["dusk"]


def test_the_share_of_night():
    assert (Roads("train", 60, night=0.0).labels != NIGHT).all() and (
        Roads("train", 20, night=1.0).labels == NIGHT
    ).all()
    with pytest.raises(ValueError, match="night=2: expected a share from 0 to 1"):
        Roads("train", 1, night=2)
    with pytest.raises(IndexError, match="sample 1 of 1"):
        Roads("train", 1)[1]


# the map


def test_the_map_loss_leaves_out_what_is_not_known():
    logits = torch.tensor([[[2.0, -1.0], [0.0, 3.0]]], requires_grad=True)
    target = torch.tensor([[[1.0, 0.0], [float("nan"), 0.0]]])
    right = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(3))]
    assert map_loss(logits, {"road": target}, "road").item() == pytest.approx(sum(right) / 3)
    nothing = map_loss(logits, {"road": torch.full((1, 2, 2), float("nan"))}, "road")
    assert nothing == 0 and nothing.requires_grad
    with pytest.raises(DataError, match=r"'road' is a map of \[1, 3, 2\], but the head gives one of \[1, 2, 2\]"):
        map_loss(logits, {"road": torch.zeros(1, 3, 2)}, "road")
    assert segmentation("road", "road").count({"road": target}) == (1, 3)


def test_overlap_is_intersection_over_union():
    metric = MapOverlap("road")
    metric.update(
        torch.tensor([[[1.0, 1.0], [-1.0, 1.0]]]), {"road": torch.tensor([[[1.0, 0.0], [1.0, float("nan")]]])}
    )
    assert metric.compute() == {"iou": 1 / 3}
    assert math.isnan(MapOverlap("x").compute()["iou"])


def test_the_map_head_is_twice_as_fine_as_the_features():
    head = MapHead(8).eval()
    assert head(torch.randn(2, 8, 8, 12)).shape == (2, 16, 24)
    features = torch.zeros(1, 8, 8, 12)
    features[0, :, 2, 3] = 5.0
    there = (head(features) - head(torch.zeros(1, 8, 8, 12)))[0].abs() > 1e-6
    y, x = there.nonzero().T
    assert y.min() >= 2 and y.max() <= 7 and x.min() >= 4 and x.max() <= 9  # about rows 4, 5 and columns 6, 7


def test_free_road_is_tinted_green():
    image, free = torch.zeros(3, 8, 8), torch.zeros(2, 2, dtype=torch.bool)
    free[0, 1] = True
    shown = tinted(image, free)
    assert shown[1, :4, 4:].min() > 0.2 and shown[:, 4:].max() == 0


# rare scenes


def batch_of(roads, indices):
    return {name: value.clone() for name, value in roads.batch(indices).items()}


def test_the_focus_is_an_exponent(roads):
    case = find_case("roads", scenes=8)
    model = case.new_model({"classes": CONDITIONS, "box_classes": KINDS})
    batch = batch_of(roads, range(8))
    output = model(batch["image"])["detect"]
    plain, none, more = (detection_loss(output, batch, focus=focus).item() for focus in (2.0, 0.0, 4.0))
    assert detection_loss(output, batch).item() == pytest.approx(plain) and none > plain > more


def test_night_counts_more_in_the_loss_and_in_the_draw(roads):
    model = find_case("roads").new_model({"classes": CONDITIONS, "box_classes": KINDS}).eval()
    night = (roads.labels == NIGHT).nonzero()[:, 0][:4]
    others = (roads.labels != NIGHT).nonzero()[:, 0][:4]
    for indices, factor in ((night, TIMES), (others, 1)):
        batch = batch_of(roads, indices)
        output = model(batch["image"])["detect"]
        assert night_weighted(output, batch).item() == pytest.approx(
            factor * detection_loss(output, batch).item(), rel=1e-4
        )
    setup = find_case("roads", scenes=200, night=0.05).setup(seed=0)
    share = (setup.train_set.labels == NIGHT).float().mean().item()
    loader = _drawn_more_often(setup, 0)
    drawn = torch.cat([next(loader)["label"] for _ in range(20)])
    assert (drawn == NIGHT).float().mean().item() == pytest.approx(
        TIMES * share / (TIMES * share + 1 - share), abs=0.06
    )


def test_pedestrians_are_scored_alone(roads):
    model = find_case("roads").new_model({"classes": CONDITIONS, "box_classes": KINDS})
    assert 0 <= pedestrians_found(model, roads) < 0.2


def test_one_network_answers_sooner_than_three():
    found = answer_times(1, 0)
    assert found["ratio"] == pytest.approx(found["one network"] / found["three networks"]) and found["one network"] > 0


def test_the_case_learns_and_is_seen():
    case = find_case("roads", scenes=24, val_scenes=6, test_scenes=6)
    setup = case.setup(seed=0, batch_size=8)
    records = list(train(*setup.parts, steps=4, device="cpu"))
    assert set(records[-1].losses) == {"classify", "detect", "road"}
    test = case.open("test")
    assert "road/iou" in evaluate(setup.model, setup.tasks, test, device="cpu")
    assert case.see(test, range(2), setup.model)[0].image.shape == (3, 64, 96) and len(case.see(test, range(2))) == 2
