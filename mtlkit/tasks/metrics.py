"""Scores: accuracy, and COCO average precision by a well-kept evaluator."""

import contextlib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mtlkit.data import Batch
from mtlkit.model import Detections

MAX_DETECTIONS = 100


class Accuracy:
    """Share of labelled samples whose largest logit is at their label.

    Args:
        target: where in the batch the labels are.
    """

    def __init__(self, target: str = "label") -> None:
        self.target = target
        self.right = self.seen = 0

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add a batch: `logits [B, classes]`."""
        label = batch[self.target]
        labelled = label >= 0
        self.right += int((logits.argmax(1) == label)[labelled].sum())
        self.seen += int(labelled.sum())

    def compute(self) -> dict[str, float]:
        """Return `{"accuracy": ...}` in 0..1; NaN if no sample had a label."""
        return {"accuracy": self.right / self.seen if self.seen else float("nan")}


class BalancedAccuracy(Accuracy):
    """Accuracy, and "balanced": the share of each class that is recognised, averaged over the classes that occur."""

    def __init__(self, target: str = "label") -> None:
        super().__init__(target)
        self.by_class: dict[int, list[bool]] = {}

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add a batch: `logits [B, classes]`."""
        super().update(logits, batch)
        for label, said in zip(batch[self.target].tolist(), logits.argmax(1).tolist(), strict=True):
            if label >= 0:
                self.by_class.setdefault(label, []).append(said == label)

    def compute(self) -> dict[str, float]:
        """Return `{"accuracy": ..., "balanced": ...}` in 0..1; NaN if no sample had a label."""
        shares = [sum(right) / len(right) for right in self.by_class.values()]
        return super().compute() | {"balanced": sum(shares) / len(shares) if shares else float("nan")}


class MapOverlap:
    """Intersection over union of the map that is said (logit above 0) with the right one, over all pictures.

    Args:
        target: where in the batch the maps are, 1 and 0, NaN where it is not known.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.both = self.either = 0

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add a batch: `logits [B, H, W]`."""
        wanted = batch[self.target].reshape(logits.shape)
        said, right, known = logits > 0, wanted > 0.5, wanted.isfinite()
        self.both += int((said & right & known).sum())
        self.either += int(((said | right) & known).sum())

    def compute(self) -> dict[str, float]:
        """Return `{"iou": ...}` in 0..1; NaN if there is nothing to find and nothing was said."""
        return {"iou": self.both / self.either if self.either else float("nan")}


class MeanError:
    """Mean absolute and root mean squared error over the samples whose target is not NaN.

    Args:
        target: where in the batch the numbers are.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.absolute = self.squared = 0.0
        self.seen = 0

    def update(self, output: Tensor, batch: Batch) -> None:
        """Add a batch: `output [B]` or `[B, 1]`."""
        wanted = batch[self.target].to(output).reshape(output.shape)
        away = (output - wanted)[wanted.isfinite()].double()
        self.absolute += float(away.abs().sum())
        self.squared += float(away.square().sum())
        self.seen += away.numel()

    def compute(self) -> dict[str, float]:
        """Return `{"mae": ..., "rmse": ...}` in the target's unit; NaN if no sample had one."""
        seen = self.seen or float("nan")
        return {"mae": self.absolute / seen, "rmse": (self.squared / seen) ** 0.5}


def find_objects(
    output: Detections, *, score_threshold: float = 0.01, iou_threshold: float = 0.5, most: int = MAX_DETECTIONS
) -> list[dict[str, Tensor]]:
    """Turn dense predictions into objects: best-scoring cells first, duplicates removed class by class.

    Returns:
        For each image `{"boxes": [N, 4] xyxy pixels, "scores": [N] in 0..1, "labels": int64 [N]}`, N at most `most`,
        sorted by score.
    """
    scores, classes_by_cell = output.logits.float().flatten(1).sigmoid().topk(min(3 * most, output.logits[0].numel()))
    cells = output.boxes.shape[-2] * output.boxes.shape[-1]
    boxes = output.boxes.flatten(2).mT.gather(1, (classes_by_cell % cells)[:, :, None].expand(-1, -1, 4))
    labels = classes_by_cell // cells
    found = []
    for box, score, label in zip(boxes, scores, labels, strict=True):
        likely = score > score_threshold
        box, score, label = box[likely], score[likely], label[likely]
        keep = batched_nms(box, score, label, iou_threshold)[:most]
        found.append({"boxes": box[keep], "scores": score[keep], "labels": label[keep]})
    return found


class AveragePrecision:
    """COCO average precision: `ap` over IoU 0.50:0.95, and `ap50`, at most 100 detections an image.

    Where an image has more objects than that, as many detections as it has objects. Finding what lies in an ignored
    box (`batch["ignored"]`: a crowd, too difficult) counts neither for nor against.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.truth: list[dict] = []
        self.found: list[list[float]] = []
        self.images: list[int] = []
        self.seen, self.most = 0, MAX_DETECTIONS
        self._of_images: list[Any] = []

    def update(self, output: Detections, batch: Batch) -> None:
        """Add a batch of dense predictions."""
        self.most = max(self.most, int((batch["box_labels"] >= 0).sum(1).max()))
        self.add(find_objects(output, most=self.most), batch)

    def add(self, found: Sequence[dict[str, Tensor]], batch: Batch) -> None:
        """Add the objects found in a batch, in the form of `find_objects`; images with missing boxes are left out."""
        size = batch["image"].shape[-2:]
        none = torch.empty(len(found), 0)
        for k, objects in enumerate(found):
            self.seen += 1
            if not batch["has_boxes"][k]:
                continue
            self.images.append(self.seen)
            self._add_truth(batch["boxes"][k], batch["box_labels"][k])
            self._add_truth(batch.get("ignored", none)[k], batch.get("ignored_labels", none)[k], crowd=1)
            corners = objects["boxes"].cpu().clamp(min=torch.zeros(4), max=torch.tensor([size[1], size[0]] * 2))
            xywh = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
            rows = torch.cat([xywh, objects["scores"].cpu()[:, None], objects["labels"].cpu()[:, None]], 1)
            self.found.extend([self.seen, *row] for row in rows.tolist())

    def _add_truth(self, boxes: Tensor, labels: Tensor, crowd: int = 0) -> None:
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if label >= 0:
                x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
                self.truth.append(
                    {
                        "id": len(self.truth) + 1,  # the evaluator takes 0 for "no match"
                        "image_id": self.seen,
                        "category_id": label,
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": crowd,
                    }
                )

    def ground_truth(self) -> dict:
        """Return the true boxes as a COCO data set."""
        return {
            "images": [{"id": image} for image in self.images],
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.classes)],
            "annotations": self.truth,
        }

    def detections(self) -> list[dict]:
        """Return the objects found as COCO results."""
        return [
            {"image_id": int(image), "bbox": xywh, "score": score, "category_id": int(label)}
            for image, *xywh, score, label in self.found
        ]

    def compute(self) -> dict[str, float]:
        """Return `{"ap": ..., "ap50": ...}` in 0..1; NaN if there was no true box."""
        return self.resampled([self.images])[0]

    def resampled(self, draws: Sequence[Sequence[int]]) -> list[dict[str, float]]:
        """Return what `compute` would, had the images been others: drawn with replacement from those that were added.

        Args:
            draws: numbers of images each, from 1 for the first one that was added; those without boxes do not count.
        """
        if all(row["iscrowd"] for row in self.truth):
            return [{"ap": float("nan"), "ap50": float("nan")}] * len(draws)
        if not self.found:
            return [{"ap": 0.0, "ap50": 0.0}] * len(draws)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator = self._evaluated()
            return [self._accumulated(evaluator, drawn) for drawn in draws]

    def by_class(self) -> dict[str, float]:
        """Return class → its AP; NaN for one that has no true box."""
        found = dict.fromkeys(self.classes, float("nan"))
        if self.found and not all(row["iscrowd"] for row in self.truth):
            with contextlib.redirect_stdout(io.StringIO()):
                evaluator = self._evaluated()
                self._accumulated(evaluator, self.images)
            precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [IoUs, recalls, classes], -1 where there is none
            for k, name in enumerate(self.classes):
                there = precision[:, :, k][precision[:, :, k] > -1]
                found[name] = float(there.mean()) if there.size else float("nan")
        elif self.truth:
            found |= {self.classes[row["category_id"]]: 0.0 for row in self.truth if not row["iscrowd"]}
        return found

    def _evaluated(self) -> Any:
        from faster_coco_eval import COCO, COCOeval_faster  # here: it is slow to import

        truth = COCO(self.ground_truth())
        evaluator = COCOeval_faster(truth, truth.loadRes(self.detections()), "bbox", separate_eval=True)
        evaluator.params.maxDets = [1, 10, self.most]
        evaluator.evaluate()
        self._of_images = list(evaluator._evalImgs_cpp)  # by class, then area, then image
        return evaluator

    def _accumulated(self, evaluator: Any, drawn: Sequence[int]) -> dict[str, float]:
        place = {image: k for k, image in enumerate(self.images)}
        chosen = [place[image] for image in drawn if image in place]
        number = len(self.images)
        evaluator._evalImgs_cpp = [
            self._of_images[start + k] for start in range(0, len(self._of_images), number) for k in chosen
        ]
        evaluator._paramsEval.imgIds = list(range(len(chosen)))
        evaluator.accumulate()
        evaluator.summarize()
        return {"ap": float(evaluator.stats[0]), "ap50": float(evaluator.stats[1])}


def delta_m(
    scores: Mapping[str, float], baselines: Mapping[str, float], lower_is_better: Collection[str] = ()
) -> float:
    """Return Δm, the mean relative gain over the single-task baselines in percent: *positive is better than alone*.

    Δm = 100/K Σ (-1)^{lower_is_better} (M_i - B_i) / |B_i|. Papers use both signs: say which. (From Maninis,
    Radosavovic, Kokkinos, "Attentive single-tasking of multiple tasks", CVPR 2019.)

    Args:
        scores: M, name → score of the multi-task model.
        baselines: B, the same names → score of the single-task models.
        lower_is_better: names of the scores that are errors.

    Raises:
        ValueError: if the names differ, there are none, a baseline is 0 or not finite, or `lower_is_better` has another
            name.
    """
    lower_is_better = [lower_is_better] if isinstance(lower_is_better, str) else lower_is_better
    if not scores or (unknown := [name for name in lower_is_better if name not in scores]):
        named = "there is no score" if not scores else f"lower_is_better has {unknown[0]!r}, which is not a score"
        raise ValueError(f"{named}: expected names among {', '.join(baselines)}")
    if scores.keys() != baselines.keys():
        raise ValueError(f"scores of {', '.join(scores)} cannot be compared with baselines of {', '.join(baselines)}")
    if zero := [name for name, baseline in baselines.items() if baseline == 0 or not math.isfinite(baseline)]:
        raise ValueError(f"the baseline of {zero[0]!r} is {baselines[zero[0]]}: a gain relative to it is undefined")
    gains = [
        (-1 if name in lower_is_better else 1) * (score - baselines[name]) / abs(baselines[name])
        for name, score in scores.items()
    ]
    return 100 * sum(gains) / len(gains)
