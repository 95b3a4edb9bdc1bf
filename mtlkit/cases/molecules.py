"""Molecules: eleven properties from the places of the atoms."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenRow, answers_of
from mtlkit.data.molecules import FEATURES, PROPERTIES, SIZES, Molecules
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task, regression


def open_split(
    split: str, seed: int, *, molecules: int, val_molecules: int, test_molecules: int, **_: Any
) -> Molecules:
    """Return the molecules of a split; they do not depend on the seed."""
    return Molecules(split, {"train": molecules, "val": val_molecules, "test": test_molecules}[split])


def build_model(labels: Labels, *, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: three hidden layers that all properties share, and one for each."""
    layers = [
        nn.Sequential(nn.Linear(before, width), nn.LayerNorm(width), nn.SiLU()) for before in (FEATURES, width, width)
    ]
    heads = {name: nn.Sequential(nn.Linear(width, 64), nn.SiLU(), nn.Linear(64, 1)) for name in PROPERTIES}
    return SharedEncoderModel(nn.Sequential(*layers), heads, reads="features")


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return one regression a property."""
    return tuple(regression(name, name) for name in PROPERTIES)


def adam(model: nn.Module) -> torch.optim.Adam:
    """Return Adam, as the benchmark has it."""
    return torch.optim.Adam(model.parameters(), 1e-3)


def see(dataset: Molecules, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show molecules: their atoms, and each property in standard deviations from the mean."""
    batch = dataset.batch(torch.as_tensor(indices))
    answers = answers_of(model, batch["features"])
    return [
        SeenRow(
            {"atoms": dataset.formula(index)},
            {name: f"{float(batch[name][k]):+.2f}" for name in PROPERTIES},
            {name: f"{float(output[k, 0]):+.2f}" for name, output in answers.items()},
        )
        for k, index in enumerate(indices)
    ]


MOLECULES = Case(
    "molecules",
    "QM9: eleven properties of a molecule from where its atoms are; needs pip install mtlkit[molecules]",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "molecules": Knob(SIZES["train"], "training molecules", low=1, high=SIZES["train"]),
        "val_molecules": Knob(SIZES["val"], "validation molecules", low=1, high=SIZES["val"]),
        "test_molecules": Knob(SIZES["test"], "test molecules", low=1, high=SIZES["test"]),
        "width": Knob(256, "width of the hidden layers", low=1),
    },
    batch_size=120,
    seconds=60.0,
    optimizer=adam,
    in_lab={"molecules": 20_000, "val_molecules": 500, "test_molecules": 500, "width": 128},
)
