"""The losses of the tasks. A loss takes a head's output and the batch and returns one scalar.

Targets may be missing in some or all samples of a batch: the loss is the mean over what is labelled, and where
nothing is labelled it is 0, still attached to the graph so that `backward` works.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax, poisson_nll_loss
from torch.nn.functional import ctc_loss as torch_ctc_loss

from mtlkit.data import Batch, DataError
from mtlkit.machine import at_least_float32
from mtlkit.model import Detections


def classification_loss(logits: Tensor, batch: Batch, target: str = "label") -> Tensor:
    """Cross-entropy `[]` of `logits [B, classes]` with `batch[target] [B]`, over the samples that have a label."""
    label = batch[target]
    check_classes(label, logits.shape[1], target)
    total = cross_entropy(at_least_float32(logits), label.long(), ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


def regression_loss(output: Tensor, batch: Batch, target: str) -> Tensor:
    """Mean squared error `[]` of `output [B]` or `[B, 1]` with `batch[target] [B]`, over targets that are not NaN."""
    output = at_least_float32(output)
    wanted = batch[target].to(output).reshape(output.shape)
    known = wanted.isfinite()
    return ((output - torch.where(known, wanted, 0.0)).square() * known).sum() / known.sum().clamp(min=1)


def counting_loss(output: Tensor, batch: Batch, target: str) -> Tensor:
    """Negative log-likelihood `[]` of counts `batch[target] [B]` under Poisson's law with means `output [B]`.

    A mean over targets that are not NaN. Its minimum is about ½ log(2π n) for a count n, not 0.
    """
    output = at_least_float32(output)
    wanted = batch[target].to(output).reshape(output.shape)
    known = wanted.isfinite()
    each = poisson_nll_loss(output, torch.where(known, wanted, 0.0), log_input=False, full=True, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def map_loss(logits: Tensor, batch: Batch, target: str) -> Tensor:
    """Binary cross-entropy `[]` of a map of `logits [B, H, W]` with `batch[target] [B, H, W]` in 0..1.

    A mean over the places that are not NaN.

    Raises:
        DataError: if the target is of another size, or out of range.
    """
    wanted = batch[target]
    if wanted.shape != logits.shape:
        raise DataError(f"{target!r} is a map of {[*wanted.shape]}, but the head gives one of {[*logits.shape]}")
    known = wanted.isfinite()
    if wanted.device.type == "cpu" and known.any() and not ((wanted >= 0) & (wanted <= 1))[known].all():
        raise DataError(f"{target!r} has values outside 0..1: mark unknown places with NaN")
    wanted = torch.where(known, wanted, 0.0).to(at_least_float32(logits))
    each = binary_cross_entropy_with_logits(at_least_float32(logits), wanted, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def check_classes(label: Tensor, classes: int, name: str) -> None:
    """Raise a `DataError` if a label is neither -1 nor a class from 0, but not on a GPU, which reports it by itself."""
    if label.device.type == "cpu" and label.numel():
        low, high = (int(end) for end in label.aminmax())
        if low < -1 or high >= classes:
            raise DataError(
                f"{name!r} holds the label {high if high >= classes else low}, but there are {classes} classes: number "
                "them from 0, and mark missing labels with -1"
            )


def token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy `[]` of `logits [B, T, vocabulary]` with `target [B, T]`, over the targets that are not -1."""
    check_classes(target, logits.shape[-1], "target")
    total = cross_entropy(at_least_float32(logits).flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum")
    return total / (target >= 0).sum().clamp(min=1)


def ctc_loss(logits: Tensor, batch: Batch, target: str) -> Tensor:
    """CTC loss `[]` of `logits [B, T, symbols]` with `batch[target] [B, L]`, a mean over the labelled sequences.

    The loss of a sequence is the negative logarithm of the probability of its symbols, divided by their number. Symbols
    count from 1, as 0 is the blank; -1 is padding.

    Raises:
        DataError: if a sequence has a hole, or more symbols than its frames can hold.
    """
    said, known = batch[target].long(), (batch[target] > 0).any(1)
    check_classes(said, logits.shape[-1], target)
    if not len(said):
        return at_least_float32(logits).sum()
    lengths = (said > 0).sum(1)
    frames = torch.full_like(lengths, logits.shape[1])
    if said.device.type == "cpu":
        if (holes := (said[:, 1:] > 0) & (said[:, :-1] <= 0)).any():
            at = int(holes.any(1).nonzero()[0])
            raise DataError(f"sequence {at} of the batch is {said[at].tolist()}: give its symbols first, then -1")
        repeats = ((said[:, 1:] == said[:, :-1]) & (said[:, 1:] > 0)).sum(1)
        if (short := lengths + repeats > frames).any():
            at = int(short.nonzero()[0])
            raise DataError(
                f"sequence {at} of the batch has {int(lengths[at])} symbols, {int(repeats[at])} of them repeated, "
                f"but only {logits.shape[1]} frames: use longer recordings, or a smaller stride"
            )
    log_probabilities = log_softmax(at_least_float32(logits), -1).transpose(0, 1)
    each = torch_ctc_loss(log_probabilities, said.clamp(min=1), frames, lengths, reduction="none")
    return (each / lengths.clamp(min=1) * known).sum() / known.sum().clamp(min=1)


def detection_loss(output: Detections, batch: Batch, *, box_weight: float = 2.5, focus: float = 2.0) -> Tensor:
    """Box-class loss + `box_weight` x box loss `[]`, both sums divided by the number of responsible cells.

    `focus` is the exponent by which cells that are nearly right count less; 0 counts all the same.

    A responsible cell (see `responsible_cells`) adds 1 - GIoU for its box (Rezatofighi et al., CVPR 2019). The target
    of its class is not 1 but rises from 0.3 to 1 with the IoU that its box has reached, so that the score learns how
    good the box is. Every other target is 0 (quality focal loss, Li et al., "Generalized Focal Loss", NeurIPS 2020,
    section 3.1, with a floor so that classes are learned before boxes are good).

    Images whose boxes are missing (`has_boxes` false) are left out of the loss; images known to be empty count.
    """
    logits = at_least_float32(output.logits).flatten(2)  # (B, C, cells)
    boxes = output.boxes.flatten(2).mT  # (B, cells, 4)
    owner, responsible = responsible_cells(batch, output.logits.shape[-2:])
    number = responsible.sum().clamp(min=1)
    truth = batch["boxes"].gather(1, owner[:, :, None].expand(-1, -1, 4))
    any_box = (torch.arange(4, device=truth.device) > 1).to(truth)  # (0, 0, 1, 1), one with an area
    truth = torch.where(responsible[:, :, None], truth, any_box)
    box_loss = ((1 - paired_giou(boxes, truth)) * responsible).sum() / number

    quality = (0.3 + 0.7 * paired_iou(boxes.detach(), truth)) * responsible
    label = batch["box_labels"].gather(1, owner).clamp(min=0)
    target = torch.zeros_like(logits).scatter(1, label[:, None], quality[:, None])
    uncertain = (target - logits.detach().sigmoid()).abs().pow(focus)
    cost = uncertain * binary_cross_entropy_with_logits(logits, target, reduction="none")
    class_loss = (cost.flatten(1).sum(1) * batch["has_boxes"]).sum() / number
    return class_loss + box_weight * box_loss


def responsible_cells(batch: Batch, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Say for each cell of a `grid` (rows, columns) which box it is responsible for, if any.

    A cell is responsible for the box whose centre is nearest to its own, if that is at most one stride away along x
    and y: about four cells per box (centre sampling, Tian et al., "FCOS", ICCV 2019, in its follow-up of 2020).

    Returns:
        index of the nearest box `int64 [B, cells]`, and whether the cell is responsible `bool [B, cells]`.
    """
    boxes, real = batch["boxes"], (batch["box_labels"] >= 0) & batch["has_boxes"][:, None]
    height, width = batch["image"].shape[-2:]
    centre_x = (boxes[..., 0] + boxes[..., 2]) / 2 * (grid[1] / width)  # (B, M), in strides
    centre_y = (boxes[..., 1] + boxes[..., 3]) / 2 * (grid[0] / height)
    y, x = torch.meshgrid(*(torch.arange(side, device=boxes.device) + 0.5 for side in grid), indexing="ij")
    away_x, away_y = x.reshape(-1, 1) - centre_x[:, None], y.reshape(-1, 1) - centre_y[:, None]
    distance = torch.maximum(away_x.abs(), away_y.abs())  # (B, cells, M)
    nearest, owner = torch.where(real[:, None], distance, torch.inf).min(-1)
    return owner, nearest <= 1


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU `[...]` of boxes `a [..., 4]` with `b [..., 4]`, one by one."""
    shared, union, _ = _areas(a, b)
    return shared / union


def paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU `[...]` of boxes `a [..., 4]` with `b [..., 4]`, one by one (Rezatofighi et al.).

    The value of `torchvision.ops.generalized_box_iou_loss` is 1 minus this; it picks out the boxes that overlap, and a
    GPU has to be waited for until it is known how many do.
    """
    shared, union, hull = _areas(a, b)
    return shared / union - (hull - union) / hull


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the area of the intersection, of the union and of the smallest box around both."""
    start, end = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = _area(start, torch.maximum(start, end))
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    return shared, _area(*a.split(2, -1)) + _area(*b.split(2, -1)) - shared, hull


def _area(left_top: Tensor, right_bottom: Tensor) -> Tensor:
    width, height = (right_bottom - left_top).unbind(-1)
    return width * height
