"""Speech: which digit, who says it, and the digits of a sequence."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenRow, answers_of, class_answers
from mtlkit.data.fields.sounds import MELS
from mtlkit.data.fields.speech import Speech, SpokenDigits
from mtlkit.data.fields.voices import DIGITS
from mtlkit.model import AttentionPool, RecurrentEncoder, SharedEncoderModel
from mtlkit.tasks import Task, classification, heard_in, hearing


def open_split(
    split: str,
    seed: int,
    *,
    clips: int,
    val_clips: int,
    test_clips: int,
    voices: str,
    folder: str,
    stranger: str,
    **_: Any,
) -> Any:
    """Return the clips of a split: made ones, or the recordings in `folder`."""
    if folder:
        return SpokenDigits(folder, split, stranger)
    return Speech(split, {"train": clips, "val": val_clips, "test": test_clips}[split], seed, voices)


def read_labels(dataset: Any) -> Labels:
    """Return the names of the voices."""
    return {"voices": dataset.voices}


def build_model(labels: Labels, *, width: int, stride: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: two layers of GRUs over the frames are shared; two classifiers, and CTC."""
    encoder = RecurrentEncoder(MELS, width, stride=stride)
    channels = encoder.channels
    heads = {
        "word": AttentionPool(channels, len(DIGITS)),
        "voice": AttentionPool(channels, len(labels["voices"])),
        "digits": nn.Linear(channels, len(DIGITS) + 1),
    }
    return SharedEncoderModel(encoder, heads, reads="frames")


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return two classifications and a sequence to be heard."""
    return classification("word", "word"), classification("voice", "voice"), hearing("digits", "digits")


def see(dataset: Any, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show clips: what is said and who says it."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, batch["frames"])
    names = {"word": DIGITS, "voice": dataset.voices}
    said = {task: class_answers(logits, names[task]) for task, logits in outputs.items() if task in names}
    heard = heard_in(outputs["digits"]) if "digits" in outputs else []
    rows: list[Seen] = []
    for k, index in enumerate(indices):
        truth = {task: names[task][label] for task in names if (label := int(batch[task][k])) >= 0}
        answers = {task: found[k][0] for task, found in said.items() if task in truth}
        if spoken := _digits(batch["digits"][k]):
            truth["digits"] = spoken
            if heard:
                answers["digits"] = _digits(torch.tensor(heard[k])) or "nothing"
        right = {task: answers[task] == truth[task] for task in answers}
        rows.append(SeenRow({"clip": str(index)}, truth, answers, right))
    return rows


def _digits(symbols: Tensor) -> str:
    return " ".join(str(symbol - 1) for symbol in symbols.tolist() if symbol > 0)


SPEECH = Case(
    "speech",
    "spoken digits: which one, who says it, and sequences of them; made in memory, or recordings: speech:FOLDER",
    open_split,
    build_model,
    make_tasks,
    see,
    read_labels,
    knobs={
        "clips": Knob(3000, "training clips", low=1),
        "val_clips": Knob(300, "validation clips", low=1),
        "test_clips": Knob(1000, "test clips", low=1),
        "voices": Knob("auto", "who speaks", choices=("auto", "espeak", "formants")),
        "width": Knob(64, "width of each GRU in each direction", low=8),
        "stride": Knob(4, "frames of 10 ms joined into one step of the network", low=1),
        "folder": Knob("", "folder of recordings, instead of generated clips"),
        "stranger": Knob("", "the speaker who is in no training clip"),
    },
    batch_size=32,
    seconds=90.0,
    in_lab={"clips": 600, "val_clips": 48, "test_clips": 48, "batch_size": 8, "width": 32, "stride": 8},
)
