"""The panel in somebody's own loop, without a browser: the losses of any model, and any method."""

import io
import json
import sys
import threading
import time

import pytest
import torch
from test_lab import until
from torch import nn

from mtlkit.lab import LossPanel
from mtlkit.lab.panel import panel as panel_module
from mtlkit.lab.panel.loop import TOTALS
from mtlkit.weighting import METHODS, NotFiniteError, WeightingError, conflict

TASKS = ["depth", "segment"]


class Own(nn.Module):
    """A model that knows nothing of mtlkit."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.depth, self.segment = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 3)

    def losses(self, seed=0):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))
        h = self.trunk(x).relu()
        target = (x[:, 0] > 0).long()
        return {
            "depth": (self.depth(h)[:, 0] - x[:, 1]).square().mean(),
            "segment": nn.functional.cross_entropy(self.segment(h), target),
        }


@pytest.fixture
def own():
    return Own()


@pytest.fixture
def panel():
    made = LossPanel(TASKS, name="test")
    yield made
    made.close()


def grads(model):
    return [p.grad.clone() for p in model.parameters()]


def train(panel, model, steps, by="total", schedule=()):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(steps):
        if step in schedule:
            panel.set(**schedule[step])
        optimizer.zero_grad()
        losses = model.losses(step)
        if by == "total":
            panel.total(losses).backward()
        else:
            panel.backward(losses, model)
        optimizer.step()


def test_the_total_is_the_weighted_sum_and_so_is_its_gradient(panel, own):
    panel.set(depth=0.25, segment=2)
    total = panel.total(own.losses())
    expected = 0.25 * own.losses()["depth"] + 2 * own.losses()["segment"]
    assert total.item() == pytest.approx(expected.item())
    total.backward()
    found = grads(own)
    own.zero_grad()
    expected.backward()
    assert all(torch.allclose(a, b) for a, b in zip(found, grads(own), strict=True))
    assert panel.records[-1].weights == {"depth": 0.25, "segment": 2.0}
    assert panel.records[-1].losses == {k: pytest.approx(v.item()) for k, v in own.losses().items()}


@pytest.mark.parametrize("name", TOTALS)
def test_methods_on_losses_are_those_of_the_kit_step_by_step(name):
    panel, one, two = LossPanel(TASKS, name="methods", method=name), Own(), Own()
    method = METHODS[name]()
    for model, backward in (
        (one, lambda m, losses: panel.total(losses).backward()),
        (two, lambda m, losses: method.backward(losses, m)),
    ):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(4):
            optimizer.zero_grad()
            backward(model, model.losses(step))
            optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    panel.close()


def test_what_methods_need_no_more_than_the_losses():
    assert {"StaticWeights", "Uncertainty", "DWA", "RandomWeights", "IMTLL"} <= set(TOTALS)
    assert not {"FAMO", "GradNorm", "PCGrad", "NashMTL"} & set(TOTALS)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("MGDAUB",)])
def test_any_method_leaves_its_gradient(name):
    panel, one, two = LossPanel(TASKS, name="any", method=name), Own(), Own()
    panel.set(depth=0.5)
    method = METHODS[name]()
    panel.backward(one.losses(), one)
    losses = two.losses()
    method.backward({"depth": 0.5 * losses["depth"], "segment": losses["segment"]}, two)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads(one), grads(two), strict=True))
    panel.close()


def test_a_method_is_taken_up_while_the_loop_runs(panel, own):
    train(panel, own, 6, "backward", {2: {"method": "PCGrad"}, 4: {"method": "Uncertainty", "depth": 0.1}})
    assert [record.method for record in panel.records] == ["StaticWeights"] * 2 + ["PCGrad"] * 2 + ["Uncertainty"] * 2
    assert panel.runs[-1].schedule == {2: {"method": "PCGrad"}, 4: {"depth": 0.1, "method": "Uncertainty"}}


def test_a_gradient_method_with_total_says_what_to_call(panel, own):
    panel.set(method="PCGrad")
    with pytest.raises(ValueError, match=r"panel.backward\(losses, model\)"):
        panel.total(own.losses())


def test_the_methods_offered_follow_from_how_it_is_called(panel, own):
    panel.total(own.losses()).backward()
    assert panel.loop.describe()["methods"] == [name for name in TOTALS if name != "EqualWeights"]
    panel.backward(own.losses(), own)
    offered = panel.loop.describe()["methods"]
    assert "PCGrad" in offered and "FAMO" not in offered and "MGDAUB" not in offered
    panel.observe(own.losses())
    assert "FAMO" in panel.loop.describe()["methods"]


def test_famo_sees_the_losses_again(own):
    panel, other, famo = LossPanel(TASKS, name="famo", method="FAMO"), Own(), METHODS["FAMO"]()
    for model, backward, observe in (
        (own, lambda losses: panel.backward(losses, own), panel.observe),
        (other, lambda losses: famo.backward(losses, other), lambda losses: famo.observe(losses)),
    ):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(4):
            optimizer.zero_grad()
            backward(model.losses(step))
            optimizer.step()
            with torch.no_grad():
                observe(model.losses(step))
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), other.parameters(), strict=True))
    panel.close()


def test_a_task_may_be_left_out_and_a_list_is_in_order(panel, own):
    losses = own.losses()
    assert panel.total({"segment": losses["segment"]}).item() == pytest.approx(losses["segment"].item())
    assert panel.records[-1].tasks == ("segment",)
    assert panel.total(list(own.losses().values())).item() == pytest.approx(sum(losses.values()).item())


def test_all_weights_zero_moves_nothing(panel, own):
    panel.set(depth=0, segment=0)
    panel.total(own.losses()).backward()
    assert all(not gradient.any() for gradient in grads(own))


def test_what_is_wrong_is_said(panel, own):
    losses = own.losses()
    for wrong, words in (
        ({"depht": losses["depth"]}, "'depht'.*depth, segment"),
        ({}, "no loss"),
        ([losses["depth"]], "there are 1 losses"),
        ({"depth": losses["depth"].detach(), "segment": losses["segment"]}, "'depth'"),
        ({"depth": losses["depth"].expand(3), "segment": losses["segment"]}, "'depth'"),
        ({"depth": 1.0, "segment": losses["segment"]}, "'depth'"),
    ):
        with pytest.raises((ValueError, WeightingError), match=words):
            panel.total(wrong)
    assert panel.records == []
    for tasks in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="one name or more"):
            LossPanel(tasks)
    with pytest.raises(ValueError, match="nobody"):
        LossPanel(TASKS, weights={"nobody": 1})
    with pytest.raises(ValueError, match="no rate"):
        panel.set(rate=0.1)
    with pytest.raises(ValueError, match="Magic"):
        LossPanel(TASKS, method="Magic")


def test_a_nan_is_noted_and_stops_nobodys_loop(panel, own):
    losses = own.losses()
    panel.total({"depth": losses["depth"] * float("nan"), "segment": losses["segment"]})
    assert len(panel.records) == 1 and "'depth'" in panel.loop.state()["note"]
    with pytest.raises(NotFiniteError, match="depth"):
        panel.backward({"depth": own.losses()["depth"] * float("nan"), "segment": own.losses()["segment"]}, own)


def test_the_dial_shows_the_gradients_of_what_both_losses_reach(own):
    panel = LossPanel(TASKS, name="dial", dial_every=2)
    panel.total(own.losses()).backward()
    shared = list(own.trunk.parameters())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for loss in own.losses().values()
    ]
    expected = conflict(torch.stack(rows))
    assert panel.records[-1].cosine == pytest.approx(expected.mean_cosine)
    assert list(panel.records[-1].norms.values()) == pytest.approx(expected.norms.tolist())
    own.zero_grad()
    before = panel.records[-1].norms
    panel.total(own.losses(1)).backward()
    assert panel.records[-1].norms is before  # not in this step
    never = LossPanel(TASKS, name="never", dial_every=0)
    never.total(own.losses())
    assert never.records[-1].norms == {}
    panel.close()
    never.close()


def test_the_dial_leaves_the_training_as_it_is():
    models = []
    for every in (0, 1):
        panel, model = LossPanel(TASKS, name="same", dial_every=every), Own()
        train(panel, model, 5)
        models.append(model)
        panel.close()
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


def test_a_model_whose_gradients_cannot_be_taken_twice_loses_its_dial_and_nothing_else():
    from torch.utils.checkpoint import checkpoint

    panel, own = LossPanel(TASKS, name="recompute", dial_every=1), Own()
    x = torch.randn(8, 4, requires_grad=True)
    h = checkpoint(own.trunk, x, use_reentrant=True)
    panel.total({"depth": own.depth(h).square().mean(), "segment": own.segment(h).square().mean()}).backward()
    assert "cannot be measured" in panel.loop.state()["note"] and own.trunk.weight.grad is not None
    panel.close()


def test_a_run_is_replayed_also_from_a_file_and_as_code(own, tmp_path):
    first = LossPanel(TASKS, name="first", weights={"depth": 0.5})
    train(first, own, 8, schedule={2: {"segment": 0.1}, 5: {"method": "DWA", "depth": 2}})
    first.save(tmp_path / "runs.json")
    names = {"LossPanel": LossPanel}
    exec(first.code().replace("LossPanel(", "LossPanel(name='coded', tasks=", 1), names)
    again = [
        LossPanel(TASKS, name="run", replay=first.runs[-1]),
        LossPanel(TASKS, name="file", replay=tmp_path / "runs.json"),
        names["panel"],
    ]
    for panel in again:
        train(panel, Own(), 8)
        assert [(r.losses, r.weights, r.method) for r in panel.records] == [
            (r.losses, r.weights, r.method) for r in first.records
        ]
        assert panel.runs[-1].schedule == first.runs[-1].schedule
        panel.close()
    first.close()


def test_the_button_replays_the_next_time_the_cell_runs(own):
    panel = LossPanel(TASKS, name="button")
    train(panel, own, 4, schedule={2: {"depth": 0.1}})
    panel.loop.do("replay")
    assert "changed again" in panel.loop.state()["note"]
    second = LossPanel(TASKS, name="button")
    train(second, Own(), 4)
    assert [r.weights for r in second.records] == [r.weights for r in panel.records]
    assert panel.loop.closed and [run.schedule for run in second.runs] == [{2: {"depth": 0.1}}] * 2
    third = LossPanel(TASKS, name="button")
    assert third.loop.script == {} and len(third.runs) == 3
    third.close()


def test_a_long_loop_is_thinned_out_and_every_step_reaches_the_views(panel, own):
    taken, panel.loop.after_step = [], lambda: None
    loss = own.losses()["depth"]
    for _ in range(300):
        panel.loop.begin()
        panel.loop.end({"depth": loss})
        if panel.loop.steps_done % 7 == 0:
            panel.records  # noqa: B018  somebody else looks
            taken += panel.loop.take()
    taken += panel.loop.take()
    assert [record.step for record in taken] == list(range(1, 301))


def test_pause_step_and_go_on_hold_the_loop(panel, own):
    losses = own.losses()
    done = []

    def loop():
        for _ in range(200):
            panel.total(losses)
            done.append(1)
            time.sleep(0.002)

    panel.run(loop)
    until(lambda: len(done) > 3)
    panel.loop.do("pause")
    until(lambda: len(done) == panel.loop.steps_done)
    time.sleep(0.1)
    at = len(done)
    time.sleep(0.15)
    assert len(done) <= at + 1
    at = len(done)
    panel.loop.do("step")
    until(lambda: len(done) == at + 1)
    time.sleep(0.15)
    assert len(done) == at + 1
    panel.loop.do("start")
    panel.wait(30)
    assert len(done) == 200
    seconds = [record.seconds for record in panel.records]
    assert seconds == sorted(seconds)


def test_a_loop_in_a_thread_tells_what_ended_it(panel, own):
    panel.run(lambda: panel.total(own.losses()) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        panel.wait(30)
    assert "ZeroDivisionError" in panel.loop.error
    stop = threading.Event()
    panel.run(stop.wait)
    with pytest.raises(RuntimeError, match="running already"):
        panel.run(stop.wait)
    with pytest.raises(TimeoutError):
        panel.wait(0.01)
    stop.set()
    panel.wait(30)


def test_scores_make_a_trail_and_a_picture(panel, own):
    for k in range(4):
        panel.total(own.losses())
        panel.score(miou=k / 4, error=1 - k / 4)
    panel.total(own.losses())
    assert panel.records[-1].scores == {"miou": 0.75, "error": 0.25}
    assert "miou" in panel.picture().alt and "depth" in panel.picture().alt


def test_without_a_front_end_a_line_says_how_far_it_is(own, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(panel_module, "SOMETIMES", 0.0)
    panel = LossPanel(TASKS, name="line")
    train(panel, own, 5)
    panel.close()
    assert "step" in said.getvalue() and "depth" in said.getvalue()


def test_what_is_saved_is_plain_json(panel, own, tmp_path):
    train(panel, own, 3)
    panel.save(tmp_path / "runs.json")
    content = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))
    assert len(content["runs"][0]["records"]) == 3
