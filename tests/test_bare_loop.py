"""The training loop beside a bare one, written out in plain PyTorch: the same numbers after every step."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training import MovingAverage, evaluate, train
from mtlkit.weighting import StaticWeights


def squares(name):
    return Task(name, lambda out, batch: (out[:, 0] - batch[name]).square().mean(), None, "score")


TASKS = [squares("a"), squares("b")]


class Seen(nn.Module):
    """Passes on what comes, and notes whether it was in training mode."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return x


def model_of(seed=0):
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.3), Seen())
    return SharedEncoderModel(encoder, {"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)}, reads="x").double()


def batches(number=12, scale=1.0):
    stream = torch.Generator().manual_seed(3)
    for _ in range(number):
        x = torch.randn(6, 3, generator=stream, dtype=torch.double)
        yield {"x": x, "a": scale * x[:, 0], "b": scale * x.square().sum(1)}


def vector(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def schedule(progress):
    return 1.5 - progress


@pytest.mark.parametrize("clip", [None, 0.3, 2.0])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_every_step_is_that_of_a_bare_loop(kind, clip):
    steps, weights = 8, {"a": 0.4, "b": 1.7}
    ours, bare = model_of(), model_of()
    average, mean = MovingAverage(ours, 0.8), None
    optimizer = kind(
        [{"params": ours.encoder.parameters(), "lr": 0.05}, {"params": ours.heads.parameters(), "lr": 0.02}]
    )
    plain = kind([{"params": bare.encoder.parameters(), "lr": 0.05}, {"params": bare.heads.parameters(), "lr": 0.02}])
    limits = {"steps": steps, "schedule": schedule, "average": average, "clip": clip, "device": "cpu"}
    torch.manual_seed(7)
    found = [
        (record, vector(ours), vector(average.module))
        for record in train(ours, TASKS, batches(), StaticWeights(weights), optimizer, **limits)
    ]
    torch.manual_seed(7)
    for (record, now, averaged), batch, n in zip(found, batches(steps), range(steps), strict=True):
        for group, rate in zip(plain.param_groups, (0.05, 0.02), strict=True):
            group["lr"] = rate * schedule(n / steps)
        out = bare(batch["x"])
        losses = {t.name: t.loss(out[t.name], batch) for t in TASKS}
        plain.zero_grad()
        sum(weights[name] * loss for name, loss in losses.items()).backward()
        if clip:
            nn.utils.clip_grad_norm_(bare.parameters(), clip)
        plain.step()
        mean = vector(bare) if mean is None else 0.8 * mean + 0.2 * vector(bare)
        assert torch.allclose(now, vector(bare)) and torch.allclose(averaged, mean)
        assert record.step == n + 1 and record.rate == schedule(n / steps) and record.tasks == ("a", "b")
        assert record.losses == pytest.approx({name: loss.item() for name, loss in losses.items()})
        assert record.weights == pytest.approx(weights) and record.conflict is None and record.cosine is None


def test_the_gradient_of_all_parameters_is_clipped_at_ten_unless_told_otherwise():
    for options, longest in (({}, 10.0), ({"clip": 0.5}, 0.5)):
        model = model_of()
        before = vector(model)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        list(
            train(
                model, TASKS, batches(1, 1e6), None, optimizer, steps=1, schedule=lambda _: 1.0, device="cpu", **options
            )
        )
        assert float((vector(model) - before).norm()) == pytest.approx(longest, rel=1e-4)


def test_the_model_trains_in_training_mode_whatever_the_caller_did_between_two_steps():
    model = model_of()
    seen = model.encoder[-1]
    for record in train(model, TASKS, batches(), steps=6, device="cpu"):
        assert seen.modes == [True] * record.step
        if record.step % 2:
            model.eval()
    frozen = model_of()
    frozen.train()
    frozen.encoder[-1].eval()  # a part that is to stay as it is
    for _ in train(frozen, TASKS, batches(), steps=3, device="cpu"):
        frozen.eval()
    assert frozen.encoder[-1].modes == [False] * 3


@pytest.mark.parametrize("every", [1, 3])
def test_the_conflict_is_measured_in_every_nth_step_from_the_first_on(every):
    model, angles = model_of(), []
    model.encoder[2].p = 0.0
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for record, batch in zip(
        train(model, TASKS, batches(), None, optimizer, steps=7, cosine_every=every, device="cpu"),
        batches(),
        strict=False,
    ):
        assert (record.conflict is not None) == ((record.step - 1) % every == 0)
        if record.conflict is not None:
            rows = []
            for task in TASKS:
                twin.zero_grad()
                task.loss(twin(batch["x"])[task.name], batch).backward()
                rows.append(torch.cat([p.grad.flatten() for p in twin.encoder.parameters()]).numpy())
            norms = np.linalg.norm(rows, axis=1)
            angles.append((record.cosine, rows[0] @ rows[1] / norms.prod()))
            assert record.conflict.norms.tolist() == pytest.approx(norms.tolist())
        twin.load_state_dict(model.state_dict())
    assert angles and [a for a, _ in angles] == pytest.approx([b for _, b in angles])


def test_it_ends_with_the_loader_and_goes_on_from_a_record():
    model = model_of()
    records = list(train(model, TASKS, batches(4), steps=10, device="cpu"))
    assert [r.step for r in records] == [1, 2, 3, 4] and records[-1].seconds > records[0].seconds > 0
    rates = [
        r.rate for r in train(model, TASKS, batches(), steps=6, schedule=schedule, after=records[-1], device="cpu")
    ]
    assert rates == [schedule(4 / 6), schedule(5 / 6)]


def test_records_of_several_blocks_are_read_in_any_order():
    model = model_of()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    model.encoder[2].p = 0.0
    records = list(train(model, TASKS, batches(140), StaticWeights({"a": 2.0}), optimizer, steps=140, device="cpu"))
    expected = []
    for batch in batches(140):
        out = model(batch["x"])
        expected.append({task.name: task.loss(out[task.name], batch).item() for task in TASKS})
    for k in (139, 0, 64, 63, 127, 128, 70):
        assert records[k].losses == pytest.approx(expected[k]) and records[k].weights == {"a": 2.0, "b": 1.0}
    again = train(model, TASKS, batches(70), None, optimizer, steps=70, device="cpu")
    halfway = [record.losses["a"] for record in again]  # read at once, step by step
    assert halfway == pytest.approx([e["a"] for e in expected[:70]])


def test_scores_are_the_same_for_any_size_of_batch():
    class Right:
        def __init__(self):
            self.sum = self.number = 0

        def update(self, out, batch):
            self.sum, self.number = self.sum + float(out.sum()), self.number + len(out)

        def compute(self):
            return {"score": self.sum / self.number if self.number else math.nan, "number": float(self.number)}

    tasks = [Task("a", TASKS[0].loss, Right, "score")]
    model, rows = (
        model_of(),
        [{name: value[k] for name, value in batch.items()} for batch in batches(5) for k in range(6)],
    )
    model.train()
    scores = [evaluate(model, tasks, rows, batch_size=size, device="cpu") for size in (1, 7, 30, 64)]
    assert all(found == pytest.approx(scores[0]) for found in scores) and scores[0]["a/number"] == 30 and model.training
    model.eval()
    out = model(torch.stack([row["x"] for row in rows]))["a"]
    assert scores[0]["a/score"] == pytest.approx(out.mean().item())
