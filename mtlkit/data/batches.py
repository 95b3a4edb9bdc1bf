"""What a batch is: a dictionary, named and cut into parts; how samples become one, with what is missing marked."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.errors import DataError
from mtlkit.machine import tensors_of

Sample = dict[str, Any]
Batch = dict[str, Any]  # most values are tensors [B, ...]
BOXES = (("boxes", "box_labels"), ("ignored", "ignored_labels"))


class AbsentError(KeyError):
    """A batch has no such key; a task that needs it takes no part in the step.

    Attributes:
        key: what was asked for.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class NamedBatch(dict[str, Any]):
    """A batch that says by an error of its own that it lacks a key: any other `KeyError` is somebody's mistake."""

    def __missing__(self, key: str) -> Any:
        raise AbsentError(key)


def named(batch: Any, reads: str | Sequence[str], tasks: Sequence[str]) -> NamedBatch:
    """Return a batch as a dictionary; what comes as a list is named after the model's inputs and the tasks, in order.

    Args:
        batch: a dictionary; or a list `[inputs..., target of each task...]`, or `[inputs..., {name: target}]`.
        reads: the names of the inputs.
        tasks: the names of the tasks.

    Raises:
        DataError: if it is something else.
    """
    if hasattr(batch, "_asdict"):
        batch = batch._asdict()
    if isinstance(batch, Mapping):
        return NamedBatch(batch)
    inputs = [reads] if isinstance(reads, str) else list(reads)
    if isinstance(batch, list | tuple):
        targets = list(batch[-1]) if batch and isinstance(batch[-1], Mapping) else list(tasks)
        if both := set(inputs) & set(targets):
            raise DataError(
                f"a batch is a list, in which {min(both)!r} is both an input and a target: use dictionaries, or "
                "rename the input (reads=...) or the task"
            )
        if len(batch) == len(inputs) + 1 and isinstance(batch[-1], Mapping):
            return NamedBatch({**dict(zip(inputs, batch, strict=False)), **batch[-1]})
        if len(batch) == len(inputs) + len(tasks):
            return NamedBatch(zip((*inputs, *tasks), batch, strict=True))
    kind = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, list | tuple) else f"{type(batch).__name__}"
    raise DataError(
        f"a batch is {kind}: expected a dictionary of tensors, or a list of the input {', '.join(inputs)} and one "
        f"target for each of the tasks {', '.join(tasks)}"
    )


def batch_size(tree: Any) -> int:
    """Return the number of samples in a batch, or in what a model reads of it.

    Raises:
        DataError: if there is no tensor in it.
    """
    if isinstance(tree, list):
        return len(tree)  # one entry a sample
    for tensor in tensors_of(tree):
        if tensor.ndim:
            return len(tensor)
    raise DataError("there is no tensor in the batch: expected a dictionary of tensors [B, ...]")


def cut(tree: Any, number: int, size: int) -> list[Any]:
    """Return the parts of a batch of `size` samples; what has not one entry a sample is in each of them."""
    if isinstance(tree, Tensor) and tree.ndim and len(tree) == size:
        return list(tree.tensor_split(number))
    if isinstance(tree, Mapping):
        parts = {name: cut(branch, number, size) for name, branch in tree.items()}
        return [{name: branches[k] for name, branches in parts.items()} for k in range(number)]
    if isinstance(tree, np.ndarray) and tree.ndim and len(tree) == size:
        return np.array_split(tree, number)
    whole = [isinstance(one, Tensor) and one.ndim > 0 and len(one) == size for one in tree] if _is_row(tree) else []
    if len(whole) == size and not all(whole):  # one entry a sample
        return [tree[part[0] : part[-1] + 1] for part in np.array_split(np.arange(size), number)]
    if isinstance(tree, list | tuple):
        branches = [cut(branch, number, size) for branch in tree]
        return [_like(tree, [branch[k] for branch in branches]) for k in range(number)]
    return [tree] * number


def _is_row(tree: Any) -> bool:
    return isinstance(tree, list | tuple) and not hasattr(tree, "_fields")


def _like(tree: Any, values: list[Any]) -> Any:
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def collate(samples: Sequence[Any]) -> Any:
    """Stack samples and mark what is missing in some of them.

    Numbers and tensors of one shape are stacked. Where a sample lacks a key that another one has, it gets -1 (whole
    numbers), NaN (others) or `False`; what cannot be a tensor, such as text, becomes a list, with `None` there.
    Boxes are padded with the label -1. Images always come with the targets of the course's case, so that its tasks find
    them.

    Args:
        samples: dictionaries with keys of their own; or tuples of equal length, which give a list.

    Returns:
        for images: `{"image": float32 [B, 3, H, W], "label": int64 [B] (-1 = absent), "boxes": float32 [B, M, 4],
        "box_labels": int64 [B, M] (-1 = padding), "has_boxes": bool [B]}`, M the largest number of boxes; and whatever
        else the samples have.

    Raises:
        DataError: if an image has a NaN or infinite pixel, or what should be stacked differs in shape.
    """
    samples = [sample._asdict() if hasattr(sample, "_asdict") else sample for sample in samples]
    if all(isinstance(sample, list | tuple) for sample in samples):
        if len({len(sample) for sample in samples}) > 1:
            raise DataError("samples are tuples of different lengths: let the data set give dictionaries")
        return [_stack(f"entry {k}", column) for k, column in enumerate(zip(*samples, strict=True))]
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise DataError(f"a sample is a {type(samples[0]).__name__}: expected a dictionary, or a tuple of tensors")
    keys = list(dict.fromkeys(key for sample in samples for key in sample))
    pairs = [pair for pair in BOXES if any(pair[0] in sample and pair[1] in sample for sample in samples)]
    padded = {key for pair in pairs for key in pair}
    batch = {key: _stack(key, [sample.get(key) for sample in samples]) for key in keys if key not in padded}
    if isinstance(batch.get("image"), Tensor):
        there = torch.tensor([sample.get("image") is not None for sample in samples])
        finite = batch["image"].isfinite().flatten(1).all(1) | ~there
        if not finite.all():
            at = int((~finite).nonzero()[0])
            raise DataError(f"image {at} of the batch has NaN or infinite pixels: mend the source or its transform")
        batch.setdefault("label", torch.full((len(samples),), -1))
        pairs += [] if "boxes" in keys else [BOXES[0]]
    for boxes, labels in pairs:
        batch |= _padded(samples, boxes, labels)
        if boxes == "boxes":
            batch["has_boxes"] = torch.tensor(["boxes" in sample for sample in samples])
    return batch


def _stack(key: str, values: Sequence[Any]) -> Any:
    """Put the values of one key together; `None` stands for a missing one."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, Mapping) for value in there):
        return collate([{} if value is None else value for value in values])
    if not there or not all(map(_is_number, there)):
        return list(values)
    tensors = [torch.as_tensor(value) for value in there]
    if len(shapes := {tuple(tensor.shape) for tensor in tensors}) > 1:
        raise DataError(
            f"the values of {key!r} in one batch differ in size {sorted(shapes)}: make them equal in the data set or a "
            "transform"
        )
    kind = reduce(torch.promote_types, [tensor.dtype for tensor in tensors])
    if len(there) == len(values):
        return torch.stack([tensor.to(kind) for tensor in tensors])
    if not kind.is_floating_point and kind != torch.bool:
        kind = torch.int64  # has a -1
    mark = torch.full(tensors[0].shape, float("nan") if kind.is_floating_point else kind != torch.bool and -1).to(kind)
    found = iter(tensors)
    return torch.stack([mark if value is None else next(found).to(kind) for value in values])


def _is_number(value: Any) -> bool:
    """Whether a value is, or holds, numbers that a tensor can hold."""
    if isinstance(value, Tensor):
        return True
    return isinstance(value, np.ndarray | np.generic | int | float) and np.asarray(value).dtype.kind in "biufc"


def _padded(samples: Sequence[Sample], boxes: str, labels: str) -> Batch:
    found = [sample.get(labels, torch.empty(0, dtype=torch.int64)) for sample in samples]
    most = max(1, *(len(own) for own in found))
    corners, numbers = torch.zeros(len(samples), most, 4), torch.full((len(samples), most), -1)
    for i, own in enumerate(found):
        if len(own):
            corners[i, : len(own)] = samples[i][boxes]
            numbers[i, : len(own)] = own
    return {boxes: corners, labels: numbers}


def check_sample(sample: Sample, index: int, dataset: Any) -> None:
    """Raise a `DataError` in words if a target of `sample` cannot be right.

    Labels are held against `dataset.classes` and `dataset.box_classes` where it has them.
    """
    if not isinstance(sample, Mapping) or "image" not in sample:
        return  # the names of others' targets mean what they want
    label, boxes, box_labels = sample.get("label"), sample.get("boxes"), sample.get("box_labels")
    classes = getattr(dataset, "classes", None)
    one = classes is not None and _is_number(label) and np.asarray(label).size == 1
    if label is not None and classes is not None and one and not -1 <= int(label) < len(classes):
        raise DataError(f"sample {index}: its label is {int(label)}, but the {len(classes)} classes count from 0")
    if boxes is None or box_labels is None:
        return
    if len(boxes) != len(box_labels):
        raise DataError(f"sample {index}: it has {len(boxes)} boxes but {len(box_labels)} box_labels")
    height, width = sample["image"].shape[-2:]
    number = len(getattr(dataset, "box_classes", ())) or float("inf")
    for (x0, y0, x1, y1), box_label in zip(boxes.tolist(), box_labels.tolist(), strict=True):
        box = f"the box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not 0 <= box_label < number:
            raise DataError(
                f"sample {index}: its box_labels hold {box_label}, but the {number} box classes count from 0"
            )
        if not (x0 < x1 and y0 < y1):
            raise DataError(f"sample {index}: {box} has no area; leave it out")
        if not (x0 >= 0 and y0 >= 0 and x1 <= width + 0.5 and y1 <= height + 0.5):
            raise DataError(f"sample {index}: {box} reaches outside the image of {width}x{height} pixels; cut it")
