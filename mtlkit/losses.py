"""What each task pays. A loss takes a head's output and the batch and returns one scalar.

Targets may be missing in some or all samples of a batch: the loss is the mean over what is labelled, and where
nothing is labelled it is 0, still attached to the graph so that `backward` works.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import generalized_box_iou_loss

from mtlkit.data import Batch
from mtlkit.model import Detections


def classification_loss(logits: Tensor, batch: Batch, target: str = "label") -> Tensor:
    """Cross-entropy `[]` of `logits [B, classes]` with `batch[target] [B]`, over the samples that have a label."""
    label = batch[target]
    total = cross_entropy(logits.float(), label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


def detection_loss(output: Detections, batch: Batch, *, box_weight: float = 2.5) -> Tensor:
    """Box-class loss + `box_weight` x box loss `[]`, both sums divided by the number of responsible cells.

    A responsible cell (see `responsible_cells`) pays 1 - GIoU for its box (Rezatofighi et al., CVPR 2019). The target
    of its class is not 1 but rises from 0.3 to 1 with the IoU that its box has reached, so that the score learns how
    good the box is. Every other target is 0 (quality focal loss, Li et al., "Generalized Focal Loss", NeurIPS 2020,
    section 3.1, with a floor so that classes are learned before boxes are good).

    Images whose boxes are missing (`has_boxes` false) pay nothing; images known to be empty do.
    """
    logits, boxes = output.logits.float().flatten(2), output.boxes.flatten(2).mT  # (B, C, cells), (B, cells, 4)
    owner, responsible = responsible_cells(batch, output.logits.shape[-2:])
    number = responsible.sum().clamp(min=1)
    truth = batch["boxes"].gather(1, owner[:, :, None].expand(-1, -1, 4))
    truth = torch.where(responsible[:, :, None], truth, truth.new_tensor([0.0, 0.0, 1.0, 1.0]))  # any box with an area
    box_loss = (generalized_box_iou_loss(boxes, truth) * responsible).sum() / number

    quality = (0.3 + 0.7 * paired_iou(boxes.detach(), truth)) * responsible
    label = batch["box_labels"].gather(1, owner).clamp(min=0)
    target = torch.zeros_like(logits).scatter(1, label[:, None], quality[:, None])
    focus = (target - logits.detach().sigmoid()).square()
    cost = focus * binary_cross_entropy_with_logits(logits, target, reduction="none")
    class_loss = (cost.flatten(1).sum(1) * batch["has_boxes"]).sum() / number
    return class_loss + box_weight * box_loss


def responsible_cells(batch: Batch, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """Say for each cell of a `grid` (rows, columns) which box it answers for, if any.

    A cell answers for the box whose centre is nearest to its own, if that is at most one stride away along x and y:
    about four cells a box (centre sampling, Tian et al., "FCOS", ICCV 2019, in its follow-up of 2020).

    Returns:
        index of the nearest box `int64 [B, cells]`, and whether the cell is responsible `bool [B, cells]`.
    """
    boxes, real = batch["boxes"], batch["box_labels"] >= 0
    scale = boxes.new_tensor([grid[1] / batch["image"].shape[-1], grid[0] / batch["image"].shape[-2]])
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 * scale  # (B, M, 2), in strides
    y, x = torch.meshgrid(*(torch.arange(side, device=boxes.device) + 0.5 for side in grid), indexing="ij")
    cells = torch.stack([x.flatten(), y.flatten()], 1)  # (cells, 2)
    distance = (cells[:, None] - centre[:, None]).abs().amax(-1)  # (B, cells, M)
    nearest, owner = torch.where(real[:, None], distance, torch.inf).min(-1)
    return owner, nearest <= 1


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU `[...]` of boxes `a [..., 4]` with `b [..., 4]`, one by one."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b))
    return shared / (area_a + area_b - shared)
