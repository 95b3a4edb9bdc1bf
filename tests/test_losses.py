import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou, generalized_box_iou

from mtlkit.data import collate
from mtlkit.losses import classification_loss, detection_loss, paired_iou, regression_loss, responsible_cells
from mtlkit.model import Detections
from mtlkit.tasks import regression


def batch_of(*box_lists, size=64, labels=None):
    """Make a batch of black images; `None` in place of a list of (x0, y0, x1, y1, class) means boxes are missing."""
    samples = []
    for k, boxes in enumerate(box_lists):
        sample = {"image": torch.zeros(3, size, size)}
        if boxes is not None:
            table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
            sample |= {"boxes": table[:, :4], "box_labels": table[:, 4].long()}
        if labels is not None and labels[k] is not None:
            sample["label"] = torch.tensor(labels[k])
        samples.append(sample)
    return collate(samples)


def dense(batch, classes=3, fill=-8.0):
    """Make predictions that say "nothing here" everywhere, with gradients."""
    n, cells = len(batch["image"]), batch["image"].shape[-1] // 8
    logits = torch.full((n, classes, cells, cells), fill, requires_grad=True)
    boxes = torch.tensor([8.0, 8.0, 24.0, 24.0]).reshape(1, 4, 1, 1).expand(n, 4, cells, cells).clone()
    return Detections(logits, boxes.requires_grad_())


def test_classification_loss_is_the_mean_over_labelled_samples():
    logits = torch.randn(4, 5)
    batch = {"label": torch.tensor([2, -1, 0, -1])}
    expected = cross_entropy(logits[[0, 2]], torch.tensor([2, 0]))
    assert torch.isclose(classification_loss(logits, batch), expected)


def test_no_label_in_a_batch_costs_zero_with_a_graph():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = classification_loss(logits, {"label": torch.full((3,), -1)})
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros(3, 5))

    batch = batch_of(None, None)
    output = dense(batch)
    loss = detection_loss(output, batch)
    loss.backward()
    assert loss == 0 and output.logits.grad.abs().sum() == 0 and output.boxes.grad.abs().sum() == 0


def test_an_image_without_boxes_pays_for_what_it_claims_and_one_with_missing_boxes_does_not():
    claims = lambda batch: dense(batch, fill=3.0)  # noqa: E731
    empty, missing = batch_of([]), batch_of(None)
    assert detection_loss(claims(empty), empty) > 1
    assert detection_loss(claims(missing), missing) == 0


def test_a_missing_sample_leaves_the_gradient_of_the_others_alone():
    boxes = [(8, 8, 24, 24, 1)]
    one, two = batch_of(boxes), batch_of(boxes, None)
    output_one, output_two = dense(one, fill=0.5), dense(two, fill=0.5)
    detection_loss(output_one, one).backward()
    detection_loss(output_two, two).backward()
    assert torch.allclose(output_one.logits.grad[0], output_two.logits.grad[0])
    assert output_two.logits.grad[1].abs().sum() == 0


def test_perfect_boxes_cost_nothing_and_better_boxes_cost_less():
    batch = batch_of([(8, 8, 24, 24, 1)])
    right = dense(batch)
    wrong = Detections(right.logits, right.boxes + 3)
    box_only = lambda output: detection_loss(output, batch, box_weight=1) - detection_loss(output, batch, box_weight=0)  # noqa: E731
    assert abs(box_only(right)) < 1e-5
    assert box_only(wrong) > 0.3


def test_the_class_target_is_higher_where_the_box_is_better():
    """At the target the gradient vanishes: the best score for a good box is above that for a poor one."""
    batch = batch_of([(8, 8, 24, 24, 1)])
    best = {}
    for shift in (0.0, 4.0):
        output = dense(batch)
        scores = torch.linspace(0.05, 0.999, 100)
        losses = []
        for score in scores:
            logits = output.logits.detach().clone()
            logits[0, 1, 1:3, 1:3] = torch.logit(score)
            losses.append(detection_loss(Detections(logits, output.boxes + shift), batch, box_weight=0))
        best[shift] = scores[torch.stack(losses).argmin()]
    assert best[0.0] > 0.97
    assert best[4.0] < 0.8


def test_four_cells_answer_for_a_box_and_the_nearest_box_wins():
    batch = batch_of([(8, 8, 24, 24, 1), (40, 8, 56, 24, 2)])
    owner, responsible = responsible_cells(batch, torch.Size((8, 8)))
    grid = torch.where(responsible, owner, -1).reshape(8, 8)
    assert (grid >= 0).sum() == 8
    assert (grid[1:3, 1:3] == 0).all() and (grid[1:3, 5:7] == 1).all()


def test_two_boxes_close_together_each_keep_a_cell():
    batch = batch_of([(0, 0, 16, 16, 0), (9, 0, 25, 16, 1)])
    owner, responsible = responsible_cells(batch, torch.Size((8, 8)))
    assert set(owner[responsible].tolist()) == {0, 1}


@pytest.mark.parametrize("n", [1, 5])
def test_paired_iou_is_the_diagonal_of_all_pairs(n):
    corner = torch.rand(2, n, 2) * 10
    a, b = torch.cat([corner, corner + 1 + torch.rand(2, n, 2) * 10], 2)
    assert torch.allclose(paired_iou(a, b), box_iou(a, b).diagonal())


def test_regression_counts_known_targets_only():
    batch = {"y": torch.tensor([1.0, float("nan"), 3.0, float("nan")])}
    output = torch.tensor([[2.0], [5.0], [1.0], [0.0]], requires_grad=True)
    loss = regression_loss(output, batch, "y")
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4) / 2)
    assert output.grad.flatten().tolist() == pytest.approx([1, 0, -2, 0])
    nothing = regression_loss(output, {"y": torch.full((4,), float("nan"))}, "y")
    nothing.backward()
    assert nothing.item() == 0
    task = regression("size", "y")
    scores = task.metric()
    scores.update(output.detach(), batch)
    assert scores.compute() == pytest.approx({"mae": 1.5, "rmse": 2.5**0.5}) and task.count(batch) == (2, 2)


@pytest.mark.parametrize("side", [32, 33, 39, 40])
def test_cells_are_counted_as_the_encoders_make_them(side):
    """Parts of a batch are put together by that number; an encoder of stride 8 rounds up."""
    from mtlkit.cases import find_case

    for encoder in ("conv", "resnet18"):
        setup = find_case("scenes", scenes=2, encoder=encoder).setup(batch_size=2)
        batch = setup.train_set.batch(torch.arange(2))
        batch["image"] = torch.nn.functional.interpolate(batch["image"], (side, side + 9))
        batch["boxes"] = batch["boxes"] * (side / 64)
        with torch.no_grad():
            grid = setup.model(batch["image"])["detect"].logits.shape[-2:]
        expected = responsible_cells(batch, grid)[1].sum()
        assert setup.tasks[1].count(batch)[1] == expected


# --- detection, written a second time: a loop over images and cells, on images that are not square ------------------


def loop_loss(logits, boxes, batch, box_weight, focus):
    """Return the loss in float64; `logits [B, C, H, W]`, `boxes [B, 4, H, W]`."""
    (height, width), (rows, columns) = batch["image"].shape[-2:], logits.shape[-2:]
    classes, box_loss, number = 0.0, 0.0, 0
    for b in range(len(logits)):
        if not batch["has_boxes"][b]:
            continue
        known = [k for k, label in enumerate(batch["box_labels"][b].tolist()) if label >= 0]
        for r in range(rows):
            for c in range(columns):
                x, y = (c + 0.5) * width / columns, (r + 0.5) * height / rows
                away = {}
                for k in known:
                    x0, y0, x1, y1 = batch["boxes"][b, k].tolist()
                    off_x, off_y = abs(x - (x0 + x1) / 2) * columns / width, abs(y - (y0 + y1) / 2) * rows / height
                    away[k] = max(off_x, off_y)
                owner = min(away, key=away.get) if away and min(away.values()) <= 1 else None
                said, box = logits[b, :, r, c].double(), boxes[b, :, r, c].double()
                target = torch.zeros(len(said), dtype=torch.double)
                if owner is not None:
                    truth = batch["boxes"][b, owner].double()
                    number += 1
                    box_loss = box_loss + 1 - generalized_box_iou(box[None], truth[None])[0, 0]
                    label = int(batch["box_labels"][b, owner])
                    target[label] = 0.3 + 0.7 * box_iou(box.detach()[None], truth[None])[0, 0]
                p = said.sigmoid()
                cross = -(target * p.log() + (1 - target) * (1 - p).log())
                classes = classes + ((target - p.detach()).abs() ** focus * cross).sum()
    return (classes + box_weight * box_loss) / max(number, 1)


def crowded(seed):
    """Draw a batch of three images of 48 x 80: with boxes, with missing ones, known to be empty; and predictions."""
    generator = torch.Generator().manual_seed(seed)

    def corners(n):
        start = torch.rand(n, 2, generator=generator) * torch.tensor([60.0, 30.0])
        return torch.cat([start, start + 4 + 16 * torch.rand(n, 2, generator=generator)], 1)

    boxes = corners(4)
    labels = torch.randint(3, (4,), generator=generator)
    image = torch.zeros(3, 48, 80)
    empty = {"boxes": torch.zeros(0, 4), "box_labels": torch.zeros(0, dtype=torch.long)}
    two = {"boxes": corners(2), "box_labels": torch.tensor([2, 0])}
    batch = collate([{"image": image, "boxes": boxes, "box_labels": labels}, {"image": image},
                     {"image": image} | empty, {"image": image} | two])  # fmt: skip
    logits = torch.randn(4, 3, 6, 10, generator=generator)
    return batch, logits, corners(4 * 60).reshape(4, 6, 10, 4).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weights", [{}, {"box_weight": 0.7, "focus": 0.0}, {"box_weight": 4.0, "focus": 3.0}])
def test_the_detection_loss_and_its_gradients_are_those_of_a_loop_over_cells(seed, weights):
    batch, logits, boxes = crowded(seed)
    found = []
    for loss in (
        lambda a, b: detection_loss(Detections(a, b), batch, **weights),
        lambda a, b: loop_loss(a, b, batch, **({"box_weight": 2.5, "focus": 2.0} | weights)),
    ):
        inputs = logits.clone().requires_grad_(), boxes.clone().requires_grad_()
        value = loss(*inputs)
        found.append((value.detach().double(), *(g.double() for g in torch.autograd.grad(value, inputs))))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_one_responsible_cell_counts_as_one():
    box = {"boxes": torch.tensor([[1.0, 2, 6, 7]]), "box_labels": torch.tensor([1])}
    batch = collate([{"image": torch.zeros(3, 8, 8)} | box])
    logits, boxes = torch.randn(1, 2, 1, 1), torch.tensor([2.0, 1, 7, 5]).reshape(1, 4, 1, 1)
    expected = loop_loss(logits, boxes, batch, 2.5, 2.0)
    assert detection_loss(Detections(logits, boxes), batch).item() == pytest.approx(float(expected), rel=1e-5)
