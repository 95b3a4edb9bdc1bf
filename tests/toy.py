"""A new case, as somebody would add one: its data and its case. Two numbers are given; what is their sum, and is the
first one larger? The third file that a new case takes is its test: test_cases.py.
"""

import torch
from torch import nn

from mtlkit.cases import Case, Knob, SeenText, answers_of
from mtlkit.losses import classification_loss
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Accuracy, Task

# data


class Pairs:
    """Pairs of numbers in -1..1, with their sum and whether the first is larger."""

    def __init__(self, split, n, seed=0, noise=0.0):
        stream = torch.Generator().manual_seed(10 * seed + ("train", "val", "test").index(split))
        self.pairs = 2 * torch.rand(n, 2, generator=stream) - 1
        self.sums = self.pairs.sum(1) + noise * torch.randn(n, generator=stream)

    def __len__(self):
        return len(self.pairs)

    def batch(self, indices):
        pairs = self.pairs[indices]
        return {"pair": pairs, "sum": self.sums[indices], "larger": (pairs[:, 0] > pairs[:, 1]).long()}


# case


class MeanError:
    """Mean absolute error of the sum."""

    def __init__(self):
        self.total, self.seen = 0.0, 0

    def update(self, output, batch):
        self.total += float((output[:, 0] - batch["sum"]).abs().sum())
        self.seen += len(output)

    def compute(self):
        return {"error": self.total / self.seen}


def open_split(split, seed, *, pairs, noise, **_):
    return Pairs(split, pairs if split == "train" else 50, seed, noise if split == "train" else 0.0)


def build_model(labels, *, width, **_):
    encoder = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return SharedEncoderModel(encoder, {"sum": nn.Linear(width, 1), "larger": nn.Linear(width, 2)}, reads="pair")


def make_tasks(labels):
    return (
        Task(
            "sum",
            lambda output, batch: (output[:, 0] - batch["sum"]).square().mean(),
            MeanError,
            "error",
            higher_is_better=False,
        ),
        Task(
            "larger",
            lambda logits, batch: classification_loss(logits, batch, "larger"),
            lambda: Accuracy("larger"),
            "accuracy",
        ),
    )


def see(dataset, indices, model=None, **_):
    batch = dataset.batch(torch.as_tensor(indices))
    said = [f"{found:.2f}" for found in answers_of(model, batch["pair"])["sum"][:, 0].tolist()] if model else None
    return [
        SeenText("sum", f"{a:.2f} + {b:.2f} =", f"{a + b:.2f}", said[k] if said else None)
        for k, (a, b) in enumerate(batch["pair"].tolist())
    ]


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


TOY = Case(
    "toy",
    "two numbers: their sum, and which is larger",
    open_split,
    build_model,
    make_tasks,
    see,
    knobs={
        "pairs": Knob(200, "training pairs", low=1),
        "width": Knob(16, "of the hidden layers", low=1),
        "noise": Knob(0.0, "added to the sums in training", low=0, high=1, live=True),
    },
    weights={"larger": 0.5},
    batch_size=20,
    optimizer=sgd,
    source="toy:TOY",
)
