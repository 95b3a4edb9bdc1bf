"""Language, real: where is a sentence from, and how positive did people find it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenRow, answers_of, class_answers
from mtlkit.cases.text import adamw
from mtlkit.data import data_folder
from mtlkit.data.fields.snippets import DOMAINS, Snippets
from mtlkit.model import GRUEncoder, Pick, SharedEncoderModel
from mtlkit.tasks import Task, classification, regression


def open_split(split: str, seed: int, *, folder: str, **_: Any) -> Snippets:
    """Return the sentences of a split; they do not depend on the seed."""
    return Snippets(folder or data_folder() / "hutto_sentiment", split)


def read_labels(dataset: Snippets) -> Labels:
    """Return the words that are known."""
    return {"vocabulary": dataset.vocabulary}


def build_model(labels: Labels, *, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: an embedding of words and a GRU are shared."""
    encoder = GRUEncoder(len(labels["vocabulary"]), width, width)
    heads = {"domain": len(DOMAINS), "valence": 1}
    return SharedEncoderModel(
        encoder, {task: Pick("mean", nn.Linear(encoder.channels, n)) for task, n in heads.items()}, reads="words"
    )


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return a classification and a regression."""
    return classification("domain", "domain", balanced=True), regression("valence", "valence")


def see(dataset: Snippets, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show sentences with their place and their rating."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, batch["words"])
    said = class_answers(outputs["domain"], DOMAINS) if "domain" in outputs else []
    rows: list[Seen] = []
    for k, index in enumerate(indices):
        truth = {"domain": DOMAINS[int(batch["domain"][k])], "valence": f"{float(batch['valence'][k]):+.1f}"}
        answers = {"domain": said[k][0]} if said else {}
        right = {"domain": said[k][0] == truth["domain"]} if said else {}
        if "valence" in outputs:
            answers["valence"] = f"{float(outputs['valence'][k, 0]):+.1f}"
        rows.append(SeenRow({"text": dataset.texts[index][:80]}, truth, answers, right))
    return rows


SNIPPETS = Case(
    "snippets",
    "real sentences: from which of four places, and how positive? (mtlkit data get sentiment)",
    open_split,
    build_model,
    make_tasks,
    see,
    read_labels,
    {
        "folder": Knob("", "holds the sentences; hutto_sentiment/ in the data folder, if not given"),
        "width": Knob(48, "width of embedding and GRU", low=8),
    },
    batch_size=64,
    seconds=60.0,
    optimizer=adamw,
    in_lab={"batch_size": 24, "rate": 0.5},
)
