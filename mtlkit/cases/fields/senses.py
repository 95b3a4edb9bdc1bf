"""Two senses: a written and a spoken digit, through one trunk."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenImage, answers_of, class_answers
from mtlkit.data.fields.senses import Senses
from mtlkit.model import Pick, SharedEncoderModel, TwoSenses
from mtlkit.tasks import Task, classification

BOTH = ("see", "hear")


def open_split(
    split: str,
    seed: int,
    *,
    pairs: int,
    pictures: int,
    clips: int,
    val_pairs: int,
    test_pairs: int,
    voices: str,
    **_: Any,
) -> Senses:
    """Return the pairs of a split."""
    if split == "train":
        return Senses(split, pairs, seed, pictures, clips, voices)
    return Senses(split, {"val": val_pairs, "test": test_pairs}.get(split, 1), seed, voices=voices)


def build_model(labels: Labels, *, share: str, width: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model: two stems, and a trunk, or a trunk and a head, that both share."""
    encoder = TwoSenses(width, share != "nothing")
    heads = {name: nn.Linear(width, 10) for name in BOTH}
    if share == "trunk and head":
        heads["hear"] = heads["see"]
    return SharedEncoderModel(
        encoder,
        {name: Pick(name, nn.Sequential(nn.ReLU(), head)) for name, head in heads.items()},
        reads=("image", "frames"),
        shared=encoder.shared(),
    )


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return two classifications."""
    return tuple(classification(name, name) for name in BOTH)


def see(dataset: Senses, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show each picture beside the spectrogram of its clip."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs = answers_of(model, (batch["image"], batch["frames"]))
    answers = {name: class_answers(logits, dataset.classes) for name, logits in outputs.items()}
    sounds = batch["frames"].transpose(1, 2).flip(1)[:, None]
    sounds = (sounds - sounds.amin((2, 3), keepdim=True)) / 6
    pictures = [interpolate(part, (56, width)).clamp(0, 1) for part, width in ((batch["image"], 56), (sounds, 112))]
    both = torch.cat(pictures, 3).expand(-1, 3, -1, -1)
    return [
        SeenImage(
            both[k],
            {name: dataset.classes[int(batch[name][k])] for name in BOTH},
            {name: said[k] for name, said in answers.items()},
        )
        for k in range(len(indices))
    ]


SENSES = Case(
    "senses",
    "a written and a spoken digit: which one is seen + which one is heard, through one trunk; no download",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "pairs": Knob(4000, "training pairs", low=1),
        "pictures": Knob(0, "different pictures in them; 0: all", low=0),
        "clips": Knob(0, "different clips in them; 0: all", low=0),
        "val_pairs": Knob(300, "validation pairs", low=1),
        "test_pairs": Knob(1000, "test pairs", low=1),
        "voices": Knob("auto", "who speaks", choices=("auto", "espeak", "formants")),
        "share": Knob("trunk", "what both senses share", choices=("nothing", "trunk", "trunk and head")),
        "width": Knob(64, "width of the features", low=4),
    },
    batch_size=64,
    seconds=30.0,
    in_lab={"pairs": 1000, "val_pairs": 128, "batch_size": 16, "rate": 0.5},
)
