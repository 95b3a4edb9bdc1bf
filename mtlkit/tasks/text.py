"""Tasks on text: the tokens that follow, of one job or of all."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mtlkit.data import Batch
from mtlkit.data.text import TASKS
from mtlkit.losses import token_loss
from mtlkit.tasks.task import Task


def text_tasks(tasks: Sequence[str] = TASKS) -> tuple[Task, ...]:
    """Return the text tasks: the loss of each is the mean cross-entropy over the target tokens of its own samples."""
    return tuple(
        Task(
            task,
            lambda logits, batch, k=k: token_loss(logits, _own_target(batch, k)),  # type: ignore[misc]
            partial(TokenScores, k),
            "accuracy",
            labelled=partial(_is_task, number=k),
            units=lambda batch, k=k: (_own_target(batch, k) >= 0).sum(),  # type: ignore[misc]
        )
        for k, task in enumerate(TASKS)
        if task in tasks
    )


def mixed_task() -> Task:
    """Return what a language model is trained for: every target token of the batch counts the same.

    So a task weighs as much as it has tokens in the batch: the mixture of the data is the weighting of the losses.
    """
    return Task(
        "all",
        lambda logits, batch: token_loss(logits, batch["target"]),
        TokenScores,
        "accuracy",
        units=lambda batch: (batch["target"] >= 0).sum(),
    )


class TokenScores:
    """Accuracy and loss over the target tokens of one task, or of all, each given the right ones before it."""

    def __init__(self, number: int | None = None) -> None:
        self.number, self.right, self.loss, self.seen = number, 0, 0.0, 0

    def update(self, output: Tensor, batch: Batch) -> None:
        """Add a batch."""
        target = batch["target"] if self.number is None else _own_target(batch, self.number)
        number = int((target >= 0).sum())
        self.right += int((output.argmax(-1) == target).sum())
        self.loss += float(token_loss(output, target)) * number
        self.seen += number

    def compute(self) -> dict[str, float]:
        """Return `{"accuracy": ..., "loss": ...}`; NaN if there was no target."""
        seen = self.seen or float("nan")
        return {"accuracy": self.right / seen, "loss": self.loss / seen}


def _is_task(batch: Batch, number: int) -> Tensor:
    return batch["task"] == number


def _own_target(batch: Batch, number: int) -> Tensor:
    return torch.where(_is_task(batch, number)[:, None], batch["target"], -1)
