"""Text: five jobs for one small language model, told apart by the first token."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mtlkit.cases.case import Case, Knob, Labels
from mtlkit.cases.seen import Seen, SeenText, answers_of
from mtlkit.data.text import LENGTH, SIZES, TASKS, VOCABULARY, TextTasks, decode
from mtlkit.model import LanguageModel, SharedEncoderModel
from mtlkit.tasks import Task, text_tasks

SHOWN = 16  # tokens of an English text that are given


def open_split(
    split: str, seed: int, *, samples: int, val_samples: int, test_samples: int, temperature: float, **_: Any
) -> TextTasks:
    """Return the samples of a split; outside of training every job is drawn equally often."""
    n = {"train": samples, "val": val_samples, "test": test_samples}.get(split, 1)
    return TextTasks(split, n, temperature, seed, SIZES)


def text_model(width: int = 64, layers: int = 2, heads: int = 4, seed: int = 0) -> SharedEncoderModel:
    """Return an untrained model of which all tasks share everything: their heads have no parameters."""
    return TEXT.with_knobs(width=width, layers=layers, heads=heads).new_model({}, seed)


def build_model(labels: Labels, *, width: int, layers: int, heads: int, **_: Any) -> SharedEncoderModel:
    """Return an untrained model; its head "all" is for `mtlkit.tasks.mixed_task`."""
    encoder = LanguageModel(len(VOCABULARY), LENGTH - 1, width, layers, heads)
    return SharedEncoderModel(encoder, {task: nn.Identity() for task in (*TASKS, "all")}, reads="tokens")


def make_tasks(labels: Labels) -> tuple[Task, ...]:
    """Return one task a job."""
    return text_tasks()


def adamw(model: nn.Module, rate: float = 3e-3) -> torch.optim.AdamW:
    """Return AdamW for the parameters that are to be trained."""
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in chosen)
    return torch.optim.AdamW(chosen, rate, weight_decay=0.01, fused=fused)


def see(dataset: TextTasks, indices: Sequence[int], model: nn.Module | None = None, **_: Any) -> list[Seen]:
    """Show texts: what is given, and what follows token by token, each after the right ones before it."""
    batch = dataset.batch(torch.as_tensor(indices))
    outputs: Mapping[str, Any] = answers_of(model, batch["tokens"])
    lines: list[Seen] = []
    for k, (tokens, target) in enumerate(zip(batch["tokens"], batch["target"], strict=True)):
        paid = (target >= 0).nonzero()[:, 0]
        paid = paid[paid >= SHOWN] if len(paid) > SHOWN else paid  # English is paid for from the first character on
        task = TASKS[int(batch["task"][k])]
        answer = decode(outputs["all"][k].argmax(-1)[paid]) if outputs else None
        lines.append(SeenText(task, decode(tokens[: int(paid[0]) + 1]), decode(target[paid]), answer))
    return lines


TEXT = Case(
    "text",
    "English + four synthetic jobs on letters and numbers, one small language model; no download",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "samples": Knob(40_000, "training samples", low=1),
        "val_samples": Knob(2000, "validation samples", low=1),
        "test_samples": Knob(2000, "test samples", low=1),
        "temperature": Knob(2.0, "temperature of the mixture: 1 draws by size, infinity equally", low=1e-3, live=True),
        "width": Knob(64, "numbers that stand for a token", low=4),
        "layers": Knob(2, "transformer blocks", low=1),
        "heads": Knob(4, "attention heads", low=1),
    },
    optimizer=adamw,
    in_lab={"samples": 4000, "val_samples": 250, "batch_size": 16, "width": 32},
)
