"""Losses and scores beside slow second writings, on inputs that hypothesis draws: any sizes, gaps, several batches."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from mtlkit.data import collate
from mtlkit.losses import (
    DataError,
    check_classes,
    classification_loss,
    counting_loss,
    ctc_loss,
    map_loss,
    regression_loss,
    token_loss,
)
from mtlkit.model import Detections
from mtlkit.tasks import calibration_error, delta_m, temperature_of
from mtlkit.tasks.metrics import Accuracy, AveragePrecision, BalancedAccuracy, MapOverlap, MeanError, find_objects
from mtlkit.tasks.sequences import SequenceErrors, WrittenRight, edit_distance, hearing, writing

often = settings(derandomize=True, max_examples=60, deadline=None, database=None)
seeds = st.integers(0, 2**16)


def gen(seed):
    return torch.Generator().manual_seed(seed)


def log_softmax(row):
    return [x - math.log(sum(math.exp(y - max(row)) for y in row)) - max(row) for x in row]


def nats(logits, label):
    """Return the cross-entropy of one row of logits."""
    return -log_softmax(logits.tolist())[label]


@often
@given(seeds, st.integers(1, 6), st.integers(2, 5))
def test_class_and_token_losses_are_means_over_what_is_labelled(seed, n, classes):
    logits = torch.randn(n, classes, generator=gen(seed), dtype=torch.double)
    label = torch.randint(-1, classes, (n,), generator=gen(seed + 1))
    each = [nats(row, int(k)) for row, k in zip(logits, label, strict=True) if k >= 0]
    expected = sum(each) / max(1, len(each))
    assert float(classification_loss(logits, {"label": label})) == pytest.approx(expected)
    assert float(token_loss(logits[None], label[None])) == pytest.approx(expected)


@often
@given(seeds, st.lists(st.sampled_from([0.0, 1.0, 2.5, 7.0, math.nan]), min_size=1, max_size=6))
def test_errors_and_counts_are_means_over_what_is_known(seed, wanted):
    said = 0.1 + 5 * torch.rand(len(wanted), 1, generator=gen(seed), dtype=torch.double)
    pairs = [(float(a), w) for a, w in zip(said, wanted, strict=True) if not math.isnan(w)]
    batch = {"y": torch.tensor(wanted)}
    squares = sum((a - w) ** 2 for a, w in pairs) / max(1, len(pairs))
    assert float(regression_loss(said, batch, "y")) == pytest.approx(squares)
    stirling = [w * math.log(w) - w + 0.5 * math.log(2 * math.pi * w) if w > 1 else 0.0 for _, w in pairs]
    likely = [a - w * math.log(a + 1e-8) + s for (a, w), s in zip(pairs, stirling, strict=True)]
    assert float(counting_loss(said, batch, "y")) == pytest.approx(sum(likely) / max(1, len(pairs)))


def test_a_known_target_of_one_sample_is_not_diluted():
    batch = {"y": torch.tensor([3.0, math.nan]), "m": torch.tensor([[[1.0, math.nan]]])}
    assert float(regression_loss(torch.tensor([1.0, 9.0]), batch, "y")) == 4
    assert float(map_loss(torch.zeros(1, 1, 2), batch, "m")) == pytest.approx(math.log(2))
    assert float(token_loss(torch.zeros(1, 2, 4), torch.tensor([[3, -1]]))) == pytest.approx(math.log(4))


@pytest.mark.parametrize("bad", [-0.01, 1.01, 2.0])
def test_a_map_out_of_range_is_refused_and_its_ends_are_not(bad):
    logits = torch.zeros(1, 1, 3)
    assert map_loss(logits, {"m": torch.tensor([[[0.0, 1.0, 0.5]]])}, "m") > 0
    assert map_loss(logits, {"m": torch.full((1, 1, 3), math.nan)}, "m") == 0
    with pytest.raises(DataError, match="'m' has values outside"):
        map_loss(logits, {"m": torch.tensor([[[0.0, 1.0, bad]]])}, "m")


def test_classes_are_refused_beyond_both_ends():
    check_classes(torch.tensor([-1, 0, 4]), 5, "x")
    check_classes(torch.tensor([], dtype=torch.long), 5, "x")
    for bad in (-2, 5):
        with pytest.raises(DataError, match=rf"'x' holds the label {bad}, but there are 5"):
            check_classes(torch.tensor([1, bad]), 5, "x")
    with pytest.raises(DataError, match="'target' holds the label 4"):
        token_loss(torch.zeros(1, 1, 4), torch.tensor([[4]]))


def collapsed(path):
    return [k for k, _ in itertools.groupby(path) if k]


@often
@given(seeds, st.lists(st.sampled_from([[], [1], [2], [1, 2], [2, 2], [1, 2, 1]]), min_size=1, max_size=3))
def test_ctc_adds_up_all_paths(seed, sequences):
    T, S = 5, 3
    logits = torch.randn(len(sequences), T, S, generator=gen(seed), dtype=torch.double)
    each = []
    for row, said in zip(logits, sequences, strict=True):
        p = [[math.exp(x) for x in log_softmax(frame)] for frame in row.tolist()]
        paths = (path for path in itertools.product(range(S), repeat=T) if collapsed(path) == said)
        if said:
            each.append(-math.log(sum(math.prod(p[t][k] for t, k in enumerate(path)) for path in paths)) / len(said))
    target = torch.tensor([said + [-1] * (3 - len(said)) for said in sequences])
    expected = sum(each) / max(1, len(each))
    assert float(ctc_loss(logits, {"y": target}, "y")) == pytest.approx(expected)


def test_ctc_refuses_holes_and_too_few_frames_and_nothing_else():
    ctc_loss(torch.zeros(3, 3, 3), {"y": torch.tensor([[1, 1], [2, -1], [-1, -1]])}, "y")
    for hole in ([[1, -1, 2]], [[-1, 1, 2]], [[1, 0, 1]]):
        with pytest.raises(DataError, match=r"sequence 0 of the batch is .* give its symbols first"):
            ctc_loss(torch.zeros(1, 9, 3), {"y": torch.tensor(hole)}, "y")
    with pytest.raises(DataError, match="has 3 symbols, 1 of them repeated, but only 3"):
        ctc_loss(torch.zeros(1, 3, 3), {"y": torch.tensor([[1, 2, 2]])}, "y")
    with pytest.raises(DataError, match="sequence 1 of the batch has 2 symbols, 1 of them repeated, but only 2 frames"):
        ctc_loss(torch.zeros(2, 2, 3), {"y": torch.tensor([[1, 2], [2, 2]])}, "y")


# --- scores: batch by batch as all at once --------------------------------------------------------------------------


@often
@given(seeds, st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_scores_of_several_batches_are_those_of_all_samples(seed, sizes):
    n, g = sum(sizes), gen(seed)
    logits, label = torch.randn(n, 3, generator=g), torch.randint(-1, 3, (n,), generator=g)
    number = torch.where(torch.rand(n, generator=g) < 0.3, math.nan, torch.randn(n, generator=g))
    maps = torch.randint(0, 3, (n, 2, 3), generator=g).float() / 2
    maps = torch.where(maps == 0.5, math.nan, maps)
    said, written = torch.randn(n, 4, 3, generator=g), torch.randint(-1, 3, (n, 4), generator=g)
    written[torch.rand(n, generator=g) < 0.3] = -1
    heard = torch.tensor([[2, 1, -1, -1]]).repeat(n, 1)
    heard[label < 0] = -1
    outputs = {
        Accuracy: (logits, label), BalancedAccuracy: (logits, label), MeanError: (logits[:, :1], number),
        MapOverlap: (said[:, :2], maps), WrittenRight: (said, written), SequenceErrors: (said, heard),
    }  # fmt: skip
    found = {}
    for kind, (output, target) in outputs.items():
        metric = kind("y")
        for a, b in zip(output.split(sizes), target.split(sizes), strict=True):
            metric.update(a, {"y": b})
        found |= {f"{kind.__name__} {name}": value for name, value in metric.compute().items()}

    def mean(values):
        return sum(values) / len(values) if values else math.nan

    right = [int(row.argmax()) == k for row, k in zip(logits, label.tolist(), strict=True)]
    shares = [mean([r for r, k in zip(right, label.tolist(), strict=True) if k == c]) for c in range(3)]
    away = [float(a - b) for a, b in zip(logits[:, 0], number, strict=True) if not math.isnan(b)]
    both = sum(1 for a, b in zip(said[:, :2].flatten(), maps.flatten(), strict=True) if a > 0 and b == 1)
    either = sum(
        1 for a, b in zip(said[:, :2].flatten(), maps.flatten(), strict=True) if not math.isnan(b) and (a > 0 or b == 1)
    )
    lines = [
        [int(a.argmax()) == b for a, b in zip(x, y, strict=True) if b >= 0]
        for x, y in zip(said, written.tolist(), strict=True)
    ]
    lines = [line for line in lines if line]
    edits = [
        edit_distance(collapsed(row.argmax(-1).tolist()), [2, 1]) for row, k in zip(said, label, strict=True) if k >= 0
    ]
    labelled = [r for r, k in zip(right, label, strict=True) if k >= 0]
    expected = {
        "Accuracy accuracy": mean(labelled), "BalancedAccuracy accuracy": mean(labelled),
        "BalancedAccuracy balanced": mean([s for s in shares if not math.isnan(s)]),
        "MeanError mae": mean([abs(x) for x in away]), "MeanError rmse": mean([x * x for x in away]) ** 0.5,
        "MapOverlap iou": both / either if either else math.nan,
        "WrittenRight exact": mean([all(line) for line in lines]),
        "WrittenRight letters": mean([one for line in lines for one in line]),
        "SequenceErrors error": mean(edits) / 2, "SequenceErrors wrong": mean([e > 0 for e in edits]),
    }  # fmt: skip
    assert found == pytest.approx(expected, nan_ok=True)


def test_what_counts_as_labelled_in_sequences():
    batch = {"y": torch.tensor([[0, -1], [2, 0], [-1, -1]])}
    task = writing("w", "y")
    assert task.labelled(batch).tolist() == [True, True, False] and int(task.units(batch)) == 3
    assert task.score_name == "w/exact" and task.higher_is_better
    ear = hearing("h", "y")
    assert ear.labelled({"y": torch.tensor([[1, -1], [-1, -1]])}).tolist() == [True, False]
    assert ear.score_name == "h/error" and ear.higher_is_better is False
    assert isinstance(ear.metric(), SequenceErrors) and ear.metric().target == "y" and task.metric().target == "y"


@often
@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.tuples(st.floats(0.1, 9), st.floats(-9, -0.1) | st.floats(0.1, 9)), min_size=1
    )
)
def test_delta_m_is_positive_where_each_score_is_better_than_alone(pairs):
    errors = [name for name in pairs if name in "bd"]
    scores, alone = ({name: pair[k] for name, pair in pairs.items()} for k in (0, 1))
    gains = [(-1 if n in errors else 1) * 100 * (scores[n] - alone[n]) / abs(alone[n]) for n in pairs]
    assert delta_m(scores, alone, errors) == pytest.approx(sum(gains) / len(gains), abs=1e-9)
    better = {name: value + (-0.01 if name in errors else 0.01) for name, value in alone.items()}
    assert delta_m(better, alone, errors) > 0 > delta_m(alone, better, errors)


@often
@given(seeds, st.integers(1, 30), st.integers(1, 12))
def test_the_calibration_error_is_a_mean_over_bins(seed, n, bins):
    p = torch.rand(n, generator=gen(seed), dtype=torch.double)
    p[0] = 1.0
    right = torch.rand(n, generator=gen(seed + 1)) < 0.5
    rows = list(zip(p.tolist(), right.tolist(), strict=True))
    groups = [[(x, r) for x, r in rows if min(int(x * bins), bins - 1) == b] for b in range(bins)]
    expected = sum(abs(sum(x - r for x, r in group)) for group in groups) / n
    assert calibration_error(p, right, bins) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(p, right) == pytest.approx(calibration_error(p, right, 10))


@pytest.mark.parametrize("factor", [0.06, 0.5, 1.0, 3.0, 18.0])
def test_the_temperature_undoes_a_factor_on_the_logits(factor):
    logits = torch.randn(4000, 5, generator=gen(0), dtype=torch.double)
    truth = torch.distributions.Categorical(logits=logits).sample()
    best = temperature_of(logits, truth)
    assert 0.8 < best < 1.25 and temperature_of(factor * logits, truth) == pytest.approx(factor * best, rel=1e-3)


# --- detection: images and grids that are not square ----------------------------------------------------------------


@often
@given(seeds, st.integers(1, 4), st.integers(1, 5), st.sampled_from([1, 3, 100]), st.sampled_from([0.01, 0.5, 0.8]))
def test_objects_are_the_best_cells_without_duplicates(seed, rows, columns, most, threshold):
    g = gen(seed)
    logits = 2 * torch.randn(2, 3, rows, columns, generator=g)
    corner = 20 * torch.rand(2, 2, rows, columns, generator=g)
    boxes = torch.cat([corner, corner + 5 + 10 * torch.rand(2, 2, rows, columns, generator=g)], 1)
    found = find_objects(Detections(logits, boxes), score_threshold=threshold, iou_threshold=0.4, most=most)
    for b, objects in enumerate(found):
        cells = [
            (float(logits[b, c, y, x].sigmoid()), c, boxes[b, :, y, x])
            for c in range(3) for y in range(rows) for x in range(columns)
        ]  # fmt: skip
        cells = sorted(cells, key=lambda cell: -cell[0])[: 3 * most]
        kept = []
        for score, c, box in cells:
            if score > threshold and all(d != c or box_iou(box[None], other[None]) <= 0.4 for _, d, other in kept):
                kept.append((score, c, box))
        kept = kept[:most]
        assert objects["labels"].tolist() == [c for _, c, _ in kept]
        assert objects["scores"].tolist() == pytest.approx([score for score, *_ in kept])
        assert torch.equal(objects["boxes"], torch.stack([box for *_, box in kept]) if kept else torch.empty(0, 4))


def wide(boxes, labels, **more):
    """Return a batch of one image, 40 high and 90 wide."""
    sample = {"image": torch.zeros(3, 40, 90), "boxes": torch.tensor(boxes), "box_labels": torch.tensor(labels)}
    return collate([sample | more])


def one(box, score=0.9, label=0):
    return {"boxes": torch.tensor([box]), "scores": torch.tensor([score]), "labels": torch.tensor([label])}


def test_found_boxes_are_cut_at_the_image_which_is_not_square():
    batch = wide([[70.0, 30.0, 90.0, 40.0], [0.0, 0.0, 10.0, 10.0]], [0, 0])
    metric = AveragePrecision(["x"])
    both = [one([70.0, 30.0, 130.0, 95.0]), one([-30.0, -40.0, 10.0, 10.0], 0.8)]
    metric.add([{name: torch.cat([a[name] for a in both]) for name in both[0]}], batch)
    assert [row["bbox"] for row in metric.detections()] == [[70, 30, 20, 10], [0, 0, 10, 10]]
    assert metric.compute() == {"ap": 1.0, "ap50": 1.0}


def test_what_lies_in_an_ignored_box_counts_neither_way():
    batch = wide([[0.0, 0.0, 10.0, 10.0]], [0])
    batch |= {"ignored": torch.tensor([[[50.0, 0.0, 90.0, 40.0]]]), "ignored_labels": torch.tensor([[0]])}
    right, inside, outside = (
        one([0.0, 0.0, 10.0, 10.0], 0.5),
        one([60.0, 10.0, 70.0, 30.0]),
        one([20.0, 0.0, 30.0, 9.0]),
    )
    for false, ap in ((inside, 1.0), (outside, 0.5)):
        metric = AveragePrecision(["x"])
        metric.add([{name: torch.cat([false[name], right[name]]) for name in right}], batch)
        assert metric.compute()["ap50"] == pytest.approx(ap)


def test_more_objects_than_a_hundred_can_all_be_found():
    corner = torch.tensor([[x, y] for x in range(0, 120, 8) for y in range(0, 80, 8)], dtype=torch.float32)  # 150
    boxes = torch.cat([corner, corner + 6], 1)
    sample = {"image": torch.zeros(3, 80, 120), "boxes": boxes, "box_labels": torch.zeros(150, dtype=torch.long)}
    output = Detections(torch.full((1, 1, 10, 15), 2.0), boxes.T.reshape(1, 4, 10, 15))
    metric = AveragePrecision(["x"])
    metric.update(output, collate([sample]))
    assert metric.most == 150 and metric.compute() == {"ap": 1.0, "ap50": 1.0}


def test_the_truth_of_every_class_is_told_and_missing_boxes_are_not():
    image = torch.zeros(3, 40, 90)
    batch = collate([
        {"image": image, "boxes": torch.tensor([[1.0, 2.0, 11.0, 22.0]]), "box_labels": torch.tensor([1])},
        {"image": image},
        {"image": image, "boxes": torch.tensor([[5.0, 5.0, 9.0, 9.0]]), "box_labels": torch.tensor([0])},
    ])  # fmt: skip
    nothing = {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0)}
    metric = AveragePrecision(["x", "y"])
    metric.add([nothing] * 3, batch)
    told = metric.ground_truth()
    assert [row["bbox"] for row in told["annotations"]] == [[1, 2, 10, 20], [5, 5, 4, 4]]
    assert [row["area"] for row in told["annotations"]] == [200, 16]
    assert [row["category_id"] for row in told["annotations"]] == [1, 0]
    assert [row["id"] for row in told["images"]] == [1, 3] and not any(row["iscrowd"] for row in told["annotations"])
    assert np.isnan(AveragePrecision(["x"]).by_class()["x"]) and metric.by_class() == {"x": 0.0, "y": 0.0}
