"""Health: tumours in a table, cells under a microscope, calibration and what mistakes cost."""

import numpy as np
import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data import DataError
from mtlkit.data.fields.cells import KINDS, SIZE, WHITE, BloodCells, CountedCells
from mtlkit.data.fields.tumours import MEASURES, Tumours
from mtlkit.experiments.fields.health import (
    COST,
    calibration_error,
    count_by_boxes,
    decided,
    malignant_weighted,
    temperature_of,
)
from mtlkit.losses import counting_loss
from mtlkit.model import CountHead
from mtlkit.tasks import counting
from mtlkit.training import evaluate, train

# tumours


def test_splits_of_tumours_share_nothing_and_are_alike():
    parts = {split: Tumours(split, seed=3) for split in ("train", "val", "test")}
    rows = [tuple(row.tolist()) for part in parts.values() for row in part.features]
    assert len(rows) == 569 == len(set(rows))
    shares = [part.labels["diagnosis"].float().mean().item() for part in parts.values()]
    assert all(abs(share - 212 / 569) < 0.01 for share in shares)  # 212 are malignant
    assert not torch.equal(Tumours("test", 4).features, parts["test"].features)
    train_set = parts["train"]
    assert torch.allclose(train_set.features.mean(0), torch.zeros(20), atol=1e-5)
    assert all(torch.allclose(train_set.labels[name].std(correction=0), torch.ones(()), atol=1e-5) for name in MEASURES)
    malignant = train_set.labels["diagnosis"] == 1
    assert train_set.labels["radius"][malignant].mean() > train_set.labels["radius"][~malignant].mean() + 1


def test_labels_are_missing_by_chance_or_not():
    by_chance, suspicious = (Tumours("train", 0, 0.3, why=why) for why in ("by chance", "suspicious first"))
    for tumours in (by_chance, suspicious):
        assert abs(tumours.labels["radius"].isfinite().float().mean().item() - 0.3) < 0.01
        assert torch.equal(tumours.labels["radius"].isfinite(), tumours.labels["texture"].isfinite())
    size = {
        name: t.features[t.labels["radius"].isfinite(), 0].mean() for name, t in (("c", by_chance), ("s", suspicious))
    }
    assert size["s"] > size["c"] + 0.8
    assert Tumours("test", 0, 0.3).labels["radius"].isfinite().all()
    few = Tumours("train", 0, diagnosed=0.1).labels["diagnosis"]
    assert abs((few >= 0).float().mean().item() - 0.1) < 0.01


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"known": 1.5}, "known=1.5: expected a share from 0 to 1"),
        ({"diagnosed": float("nan")}, "diagnosed=nan"),
        ({"why": "lost"}, "why='lost': expected one of 'by chance', 'suspicious first'"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        Tumours(**options)


def test_a_learner_sees_tumours():
    case = find_case("tumours", known=0.5, diagnosed=0.5)
    setup = case.setup(seed=0)
    rows = case.see(setup.train_set, range(60), setup.model)
    assert {"diagnosis" in row.truth for row in rows} == {"radius" in row.truth for row in rows} == {True, False}
    assert all(set(row.right) == ({"diagnosis"} if "diagnosis" in row.truth else set()) for row in rows)


# decisions


def test_a_weight_in_the_loss_counts_a_malignant_tumour_more():
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.5], [3.0, -3.0]])
    batch = {"diagnosis": torch.tensor([0, 1, -1])}
    p = logits.log_softmax(1)
    assert torch.allclose(malignant_weighted(logits, batch), -(p[0, 0] + COST * p[1, 1]) / (1 + COST))


def test_calibration_error_of_known_cases():
    sure = torch.tensor([0.95] * 10 + [0.05] * 10)
    right = torch.tensor([1] * 9 + [0] + [1] + [0] * 9)
    assert calibration_error(sure, right) == pytest.approx(0.05, abs=1e-6)
    assert calibration_error(torch.tensor([1.0, 0.0]), torch.tensor([1, 0])) == 0
    assert calibration_error(torch.tensor([1.0, 1.0]), torch.tensor([0, 0])) == 1


def test_the_temperature_undoes_what_was_done_to_logits():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 2, generator=random)
    truth = torch.multinomial(logits.softmax(1), 1, generator=random)[:, 0]
    assert temperature_of(logits, truth) == pytest.approx(1, abs=0.1)
    assert temperature_of(5 * logits, truth) == pytest.approx(5, abs=0.5)


def test_a_moved_threshold_misses_less_and_alarms_more():
    half, moved = (decided(how, 0) for how in ("half", "moved threshold"))
    assert moved["missed"] <= half["missed"] and moved["false alarms"] >= half["false alarms"]
    assert half["calibration error"] == moved["calibration error"]


# cells


def test_cells_are_where_their_boxes_are():
    smears = BloodCells("val", 30)
    assert smears.images.shape == (30, 3, SIZE, SIZE)
    for k in range(30):
        sample = smears[k]
        assert sample["red"] == (sample["box_labels"] == 0).sum() >= 1
        white = (sample["box_labels"] == 1).sum()
        assert white == (0 if WHITE[int(sample["label"])] == "no white cell" else 1)
        boxes = sample["boxes"]
        assert (boxes >= 0).all() and (boxes <= SIZE).all() and (boxes[:, 2:] > boxes[:, :2] + 2).all()
        for box, kind in zip(boxes.round().int().tolist(), sample["box_labels"].tolist(), strict=True):
            inside = sample["image"][:, box[1] : box[3], box[0] : box[2]].mean((1, 2))
            corner = sample["image"][:, 2, 2]
            assert inside[1] < corner[1] + 0.08 and (kind == 0 or inside[2] > inside[1])  # darker in green; purple
    assert torch.equal(BloodCells("val", 5).images, smears.images[:5])
    assert not torch.equal(BloodCells("val", 5, seed=1).images, smears.images[:5])


def test_all_smears_are_counted_even_where_boxes_are_missing():
    some = BloodCells("train", 10, boxed=3)
    assert some.has_boxes.tolist() == [True] * 3 + [False] * 7 and some.more["red"].min() >= 1
    assert "boxes" not in some[5] and "boxes" in some[2] and (some.box_labels[5] == -1).all()
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        BloodCells("dev", 1)


def test_the_counting_loss_is_poissons():
    from scipy.stats import poisson

    rates, counts = torch.tensor([2.0, 7.5, 1.0], requires_grad=True), torch.tensor([3.0, 9.0, float("nan")])
    loss = counting_loss(rates, {"red": counts}, "red")
    right = -np.mean([poisson.logpmf(3, 2.0), poisson.logpmf(9, 7.5)])
    assert loss.item() == pytest.approx(right, abs=0.03)  # Stirling's formula
    (gradient,) = torch.autograd.grad(loss, rates)
    assert torch.allclose(gradient, torch.tensor([(1 - 3 / 2.0) / 2, (1 - 9 / 7.5) / 2, 0.0]))
    assert counting_loss(rates, {"red": torch.full((3,), float("nan"))}, "red") == 0
    assert counting("count", "red").count({"red": counts}) == (2, 2)


def test_a_count_is_a_sum_over_places():
    head = CountHead(8).eval()
    features = torch.randn(2, 8, 4, 4)
    assert head(features).shape == (2,) and (head(features) > 0).all()
    assert head(torch.zeros(1, 8, 12, 12)).item() / head(torch.zeros(1, 8, 3, 3)).item() > 9


def test_counting_by_boxes_needs_a_threshold():
    case = find_case("cells", smears=16, val_smears=8, test_smears=8)
    setup = case.setup(seed=0)
    error = count_by_boxes(setup.model, case.open("val"), case.open("test"))
    assert 0 <= error < 30


def test_the_case_learns_and_is_seen():
    case = find_case("cells", smears=24, val_smears=6, test_smears=6, boxed=0.5)
    setup = case.setup(seed=0, batch_size=8)
    records = list(train(*setup.parts, steps=4, device="cpu"))
    assert set(records[-1].losses) == {"classify", "detect", "count"}
    test = case.open("test")
    assert test.has_boxes.all() and "count/mae" in evaluate(setup.model, setup.tasks, test, device="cpu")
    seen = case.see(test, range(3), setup.model)
    assert seen[0].truth["count"].endswith("red cells") and seen[0].answers["count"][1] is None and seen[0].boxes


@pytest.mark.filterwarnings("ignore::mtlkit.data.photos.faults.DataWarning")
def test_real_cells_are_counted_after_each_transform(real_data):
    train_set = CountedCells(str(real_data / "bccd" / "BCCD"), "train", 64)
    sample = train_set[0]
    red = train_set.box_classes.index("RBC")
    assert sample["red"] == (sample["box_labels"] == red).sum() > 3
    half = {**sample, "boxes": sample["boxes"][:2], "box_labels": sample["box_labels"][:2]}
    assert train_set.after_transform(half)["red"] == (sample["box_labels"][:2] == red).sum()
    case = find_case("cells", folder=str(real_data / "bccd" / "BCCD"), size=64)
    test = case.open("test")
    assert case.see(test, [0])[0].truth["count"].endswith("red cells") and set(test.box_classes) >= {"RBC", "WBC"}


def test_real_smears_are_varied_in_training_and_drawn_ones_are_not(real_data):
    real = find_case("cells", folder=str(real_data / "bccd" / "BCCD"), size=64).setup(seed=0, batch_size=4)
    drawn = find_case("cells", smears=8).setup(seed=0, batch_size=4)
    assert real.loader.transform is not None and drawn.loader.transform is None


def test_a_folder_without_red_cells_says_so(tmp_path):
    from photo_folders import voc

    voc(tmp_path)
    with pytest.raises(DataError, match="none of 'RBC': there is nothing to count"):
        find_case("cells", folder=str(tmp_path), size=64).open("train")


def test_kinds():
    assert KINDS == ("red cell", "white cell", "platelet")
