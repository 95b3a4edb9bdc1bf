"""Language: whose name is this, from which language; and a number from English into German."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenRow, answers_of, class_answers
from mtlkit.cases.text import adamw
from mtlkit.data.fields.names import ALPHABET, GENDERS, LANGUAGES
from mtlkit.data.fields.words import LENGTH, Words, read
from mtlkit.model import Decoder, GRUEncoder, Pick, SharedEncoderModel
from mtlkit.tasks import Task, classification, writing

CLASSES = {"language": tuple(LANGUAGES), "gender": GENDERS}


def open_split(split: str, seed: int, **_: Any) -> Words:
    """Return the words of a split; they do not depend on the seed."""
    return Words(split)


def build_model(labels: Labels, *, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: letters and a GRU in both directions are shared; two classifiers and a decoder."""
    encoder = GRUEncoder(len(ALPHABET), width // 2, width)
    heads: dict[str, nn.Module] = {
        task: Pick("mean", nn.Linear(encoder.channels, len(classes))) for task, classes in CLASSES.items()
    }
    heads["german"] = Decoder(encoder.channels, len(ALPHABET), LENGTH)
    return SharedEncoderModel(encoder, heads, reads=("letters", "german"))


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return two classifications and a translation."""
    return (*(classification(task, task, balanced=task == "language") for task in CLASSES), writing("german", "german"))


def see(dataset: Words, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show names with their language and gender, numbers with their German words."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, (batch["letters"], batch["german"]))
    said = {task: class_answers(logits, CLASSES[task]) for task, logits in outputs.items() if task in CLASSES}
    rows: list[Seen] = []
    for k, index in enumerate(indices):
        truth = {task: CLASSES[task][label] for task in CLASSES if (label := int(batch[task][k])) >= 0}
        answers = {task: found[k][0] for task, found in said.items() if task in truth}
        if german := read(batch["german"][k]):
            truth["german"] = german
            if "german" in outputs:
                answers["german"] = read(outputs["german"][k].argmax(-1))
        right = {task: answers[task] == truth[task] for task in answers}
        rows.append(SeenRow({"word": dataset.words[index]}, truth, answers, right))
    return rows


LANGUAGE = Case(
    "language",
    "first names of 14 languages: which language, a man's or a woman's? And numbers from English into German",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={"width": Knob(64, "width of the GRU in each direction", low=8)},
    batch_size=64,
    seconds=60.0,
    optimizer=adamw,
    in_lab={"batch_size": 20},
)
