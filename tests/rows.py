"""A case of tables with any number of tasks, for tests: eight numbers are given, a function of them is to be found."""

import torch
from torch import nn

from mtlkit.cases import Case, Knob, SeenRow, answers_of
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks.table import regression


class Rows:
    def __init__(self, split, n, tasks, noise, seed):
        stream = torch.Generator().manual_seed(10 * seed + ("train", "val", "test").index(split))
        weights = torch.randn(8, tasks, generator=torch.Generator().manual_seed(1))
        self.x, self.tasks = torch.randn(n, 8, generator=stream), tasks
        self.y = torch.sin(self.x @ weights) + noise * torch.randn(n, tasks, generator=stream)

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        return {"row": self.x[indices]} | {f"y{k}": self.y[indices, k] for k in range(self.tasks)}


def rows_case(tasks, dropout=0.0, adam=True, source=""):
    names = [f"t{k}" for k in range(tasks)]

    def open_split(split, seed, *, noise, **_):
        train = split == "train"
        return Rows(split, 400 if train else 40, tasks, noise if train else 0.0, seed)

    def build_model(labels, **_):
        encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 16), nn.ReLU())
        heads = {name: nn.Sequential(nn.Linear(16, 1), nn.Flatten(0)) for name in names}
        return SharedEncoderModel(encoder, heads, reads="row")

    def see(dataset, indices, model=None, **_):
        batch = dataset.batch(torch.as_tensor(list(indices)))
        answers = answers_of(model, batch["row"])
        return [
            SeenRow(
                {f"x{n}": f"{value:.1f}" for n, value in enumerate(batch["row"][k, :3].tolist())},
                {name: f"{batch[f'y{n}'][k]:.2f}" for n, name in enumerate(names)},
                {name: f"{answers[name][k]:.2f}" for name in answers},
            )
            for k in range(len(indices))
        ]

    return Case(
        "rows",
        "eight numbers, and functions of them",
        open_split,
        build_model,
        lambda labels: tuple(regression(name, f"y{k}") for k, name in enumerate(names)),
        see,
        knobs={"noise": Knob(0.0, "added to the targets in training", low=0, high=1, live=True)},
        optimizer=lambda model: (torch.optim.Adam if adam else torch.optim.SGD)(model.parameters(), 0.01),
        source=source,
    )
