"""Health: a diagnosis and three measurements from a real table. For learning only; nothing here is a medical device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenRow, answers_of, class_answers
from mtlkit.cases.text import adamw
from mtlkit.data.fields.tumours import MEASURES, WHY, Tumours
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task, classification, regression


def open_split(split: str, seed: int, *, known: float, diagnosed: float, why: str, **_: Any) -> Tumours:
    """Return the tumours of a split; the seed draws the splits, too."""
    return Tumours(split, seed, known, diagnosed, why)


def build_model(labels: Labels, *, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: two hidden layers are shared, each answer has one of its own."""
    encoder = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    outputs = {"diagnosis": 2} | dict.fromkeys(MEASURES, 1)
    heads = {task: nn.Linear(width, number) for task, number in outputs.items()}
    return SharedEncoderModel(encoder, heads, reads="features")


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return a classification and three regressions."""
    return (classification("diagnosis", "diagnosis"), *(regression(name, name) for name in MEASURES))


def see(dataset: Tumours, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show tumours: two of what is given, the diagnosis and the measurements in standard deviations."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, batch["features"])
    said = class_answers(outputs["diagnosis"], dataset.classes) if "diagnosis" in outputs else []
    rows: list[Seen] = []
    for k in range(len(indices)):
        given = {name: f"{float(batch['features'][k, dataset.names.index(name)]):+.1f}" for name in dataset.names[:2]}
        truth = {"diagnosis": dataset.classes[label]} if (label := int(batch["diagnosis"][k])) >= 0 else {}
        truth |= {name: f"{value:+.1f}" for name in MEASURES if (value := float(batch[name][k])) == value}
        answers = {"diagnosis": said[k][0]} if said else {}
        answers |= {name: f"{float(outputs[name][k, 0]):+.1f}" for name in MEASURES if name in outputs}
        right = (
            {"diagnosis": answers["diagnosis"] == truth["diagnosis"]}
            if {"diagnosis"} <= truth.keys() & answers.keys()
            else {}
        )
        rows.append(SeenRow(given, truth, answers, right))
    return rows


TUMOURS = Case(
    "tumours",
    "569 real tumours from a table: malignant or not, and three measurements; for learning only",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "known": Knob(1.0, "share of the training tumours that were measured", low=0, high=1),
        "diagnosed": Knob(1.0, "share of the training tumours with a diagnosis", low=0, high=1),
        "why": Knob(WHY[0], "which ones were measured", choices=WHY),
        "width": Knob(32, "width of the hidden layers", low=1),
    },
    batch_size=32,
    seconds=5.0,
    optimizer=adamw,
)
