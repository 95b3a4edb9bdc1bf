"""Five questions about one scene, all answered by classifiers on one encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenImage, answers_of, class_answers
from mtlkit.data.facts import FACTS, SceneFacts
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification


def open_split(split: str, seed: int, *, scenes: int, val_scenes: int, test_scenes: int, **_: Any) -> SceneFacts:
    """Return the scenes of a split."""
    return SceneFacts(split, {"train": scenes, "val": val_scenes, "test": test_scenes}[split], seed)


def build_model(labels: Labels, *, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model."""
    encoder = ConvEncoder((width // 4, width // 2, width))
    return SharedEncoderModel(encoder, {name: ClassificationHead(width, len(FACTS[name]), grid=2) for name in FACTS})


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return one classification a question."""
    return tuple(classification(name, name) for name in FACTS)


def see(dataset: SceneFacts, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show scenes with all their labels."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, batch["image"])
    answers = {name: class_answers(logits, FACTS[name]) for name, logits in outputs.items()}
    return [
        SeenImage(
            batch["image"][k],
            {name: FACTS[name][label] for name in FACTS if (label := int(batch[name][k])) >= 0},
            {name: said[k] for name, said in answers.items()},
        )
        for k in range(len(indices))
    ]


QUESTIONS = Case(
    "facts",
    "five questions about one scene: its texture, how many digits, their sum, where, which colour; no download",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "scenes": Knob(6000, "training scenes", low=1),
        "val_scenes": Knob(300, "validation scenes", low=1),
        "test_scenes": Knob(1000, "test scenes", low=1),
        "width": Knob(32, "channels of the feature map", low=8),
    },
    in_lab={"scenes": 2000, "val_scenes": 64, "test_scenes": 64, "batch_size": 16, "rate": 0.5},
)
