"""What each process of a parallel run does in the tests: `torchrun parallel_worker.py FOLDER`."""

import copy
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from models import small_model

from mtlkit.data import DigitScenes
from mtlkit.machine.parallel import ALONE, joined
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import classification_and_detection
from mtlkit.training import forward, train
from mtlkit.weighting import METHODS

BATCH = 12


def batches(group=ALONE):
    """Three batches, or this process's part of them; labels are missing very unevenly, in the second all classes."""
    data = DigitScenes("train", 3 * BATCH, seed=3)
    parts = []
    for n in range(3):
        batch = data.batch(torch.arange(n * BATCH, (n + 1) * BATCH))
        batch["image"] = batch["image"].double()
        batch["label"][1 : BATCH // 2] = -1
        if n == 1:
            batch["label"][:] = -1
        batch["has_boxes"][BATCH // 2 + 1 :] = False
        batch["box_labels"][~batch["has_boxes"]] = -1
        parts.append({name: tensor.chunk(group.size)[group.rank] for name, tensor in batch.items()})
    return parts


def without_batch_norm(model: SharedEncoderModel) -> SharedEncoderModel:
    """Normalise every sample by itself."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(module, name, torch.nn.GroupNorm(4, child.num_features))
    return model


def vector(model):
    """All parameters in a row."""
    return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])


def updates(names=tuple(METHODS), change_model=lambda model: model, group=ALONE, device="cpu", **options):
    """Method → what a few steps of plain gradient descent change, and what is recorded."""
    results = {}
    for name in names:
        model = change_model(small_model()).double()
        before, records, wrapped = vector(model), [], []

        def wrap(model, steps=records, at=wrapped, usual=forward._data_parallel):
            at.append(len(steps))
            return usual(model)

        with patch.object(forward, "_data_parallel", wrap):
            for record in train(
                model,
                classification_and_detection([str(digit) for digit in range(10)]),
                batches(group),
                METHODS[name](),
                torch.optim.SGD(model.parameters(), lr=0.02),
                steps=3,
                schedule=lambda _: 1.0,
                device=device,
                group=group,
                **options,
            ):
                records.append(record)  # noqa: PERF402  # `wrap` counts them meanwhile
        results[name] = {
            "change": vector(model) - before,
            "statistics": torch.cat([b.double().flatten() for b in model.buffers()] or [torch.zeros(1)]),
            "losses": [record.losses for record in records],
            "weights": records[-1].weights,
            "wrapped after": wrapped,
        }
    return results


NORMS = {
    "1d, not affine": (torch.nn.BatchNorm1d(3, affine=False), (8, 3)),
    "2d, cumulative": (torch.nn.BatchNorm2d(3, momentum=None), (8, 3, 4, 5)),
    "3d": (torch.nn.BatchNorm3d(3), (8, 3, 2, 3, 2)),
    "without statistics": (torch.nn.BatchNorm2d(3, track_running_stats=False), (8, 3, 4, 5)),
}


def normalised(group=ALONE):
    """Name of a normalisation → statistics after two batches, of which processes have unequal parts, and gradients."""
    results = {}
    for name, (norm, shape) in copy.deepcopy(NORMS).items():
        norm.double()
        group.prepare(norm)
        stream = torch.Generator().manual_seed(0)
        for _ in range(2):
            x = torch.randn(shape, generator=stream, dtype=torch.double) + 3
            part = (x.split((5, 3))[group.rank] if group.size > 1 else x).requires_grad_()
            (norm(part).pow(3).sum() * 0.5).backward()
        results[name] = [group.sum(p.grad) for p in norm.parameters()] + [b.double() for b in norm.buffers()]
    return results


if __name__ == "__main__":
    with joined(torch.device("cpu"), timeout=60) as group:
        torch.save(normalised(group), Path(sys.argv[1]) / f"norms {group.rank}.pt")
        torch.save(updates(group=group), Path(sys.argv[1]) / f"{group.rank}.pt")
