import contextlib
import io
import math

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtlkit.data import DigitScenes
from mtlkit.model import Detections
from mtlkit.tasks.metrics import Accuracy, AveragePrecision, find_objects


def noisy_detections(scenes, indices, generator):
    """Truth with shifted boxes, some wrong classes, some invented objects: an imperfect detector."""
    found = []
    for index in indices:
        sample = scenes[index]
        n = len(sample["boxes"])
        boxes = torch.cat([sample["boxes"], torch.tensor([[5.0, 5.0, 20.0, 30.0]])])
        boxes = boxes + torch.randn(boxes.shape, generator=generator) * 1.5
        labels = torch.cat([sample["box_labels"], torch.tensor([3])])
        wrong = torch.rand(n + 1, generator=generator) < 0.15
        labels = torch.where(wrong, (labels + 1) % 10, labels)
        found.append({"boxes": boxes, "scores": torch.rand(n + 1, generator=generator), "labels": labels})
    return found


def test_ap_equals_pycocotools_on_the_same_detections():
    scenes, indices = DigitScenes("test", 60), range(60)
    metric = AveragePrecision(scenes.box_classes)
    metric.add(noisy_detections(scenes, indices, torch.Generator().manual_seed(1)), scenes.batch(torch.arange(60)))
    ours = metric.compute()

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = metric.ground_truth()
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(metric.detections()), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert ours["ap"] == pytest.approx(evaluator.stats[0], abs=1e-9)
    assert ours["ap50"] == pytest.approx(evaluator.stats[1], abs=1e-9)
    assert 0.05 < ours["ap"] < ours["ap50"] < 0.95


def test_truth_scores_one_and_images_with_missing_boxes_do_not_count():
    scenes = DigitScenes("test", 40, missing={"detect": 0.5})
    batch = scenes.batch(torch.arange(40))
    found = []
    for index in range(40):
        sample = scenes[index]
        n = len(sample.get("boxes", ()))
        invented = {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
        right = {"boxes": sample["boxes"], "scores": torch.ones(n), "labels": sample["box_labels"]} if n else invented
        found.append(right)
    metric = AveragePrecision(scenes.box_classes)
    metric.add(found, batch)
    assert metric.compute() == {"ap": 1.0, "ap50": 1.0}


def test_scores_without_targets_are_nan_and_without_detections_zero():
    scenes = DigitScenes("test", 4)
    batch = scenes.batch(torch.arange(4))
    nothing = Detections(torch.full((4, 10, 8, 8), -20.0), torch.zeros(4, 4, 8, 8))
    metric = AveragePrecision(scenes.box_classes)
    metric.update(nothing, batch)
    assert metric.compute() == {"ap": 0.0, "ap50": 0.0}
    assert math.isnan(AveragePrecision(scenes.box_classes).compute()["ap"])
    assert math.isnan(Accuracy().compute()["accuracy"])


def test_accuracy_counts_labelled_samples_only():
    metric = Accuracy()
    logits = torch.eye(4)
    metric.update(logits, {"label": torch.tensor([0, 1, 0, -1])})
    assert metric.compute() == {"accuracy": 2 / 3}


def test_find_objects_removes_duplicates_and_keeps_at_most_a_hundred():
    logits, boxes = torch.full((1, 2, 20, 20), 2.0), torch.rand(1, 4, 20, 20) * 100
    boxes[:, 2:] = boxes[:, :2] + 5
    assert len(find_objects(Detections(logits, boxes))[0]["boxes"]) == 100

    same = torch.tensor([10.0, 10, 20, 20]).reshape(1, 4, 1, 1).expand(1, 4, 2, 2)
    scores = torch.tensor([3.0, 2.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    objects = find_objects(Detections(scores, same))[0]
    assert objects["scores"].tolist() == [pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())]
    assert objects["labels"].tolist() == [0]


def test_find_objects_reports_class_box_and_score_of_the_best_cell():
    logits = torch.full((1, 3, 4, 4), -9.0)
    logits[0, 2, 1, 3] = 1.5
    boxes = torch.arange(64.0).reshape(1, 4, 4, 4)
    objects = find_objects(Detections(logits, boxes))[0]
    assert objects["labels"].tolist() == [2]
    assert objects["boxes"].tolist() == [boxes[0, :, 1, 3].tolist()]
    assert objects["scores"][0] == pytest.approx(torch.sigmoid(torch.tensor(1.5)).item())
