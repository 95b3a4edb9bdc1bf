"""The panel in somebody's own loop, without a browser: the losses of any model, and any method."""

import contextlib
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
    for losses in (own.losses(), {"depth": own.losses()["depth"] * float("nan"), "segment": own.losses()["segment"]}):
        panel.total(losses).backward()
        panel.backward(losses, own)
        assert all(p.grad is None for p in own.parameters())


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
    assert "are repeated" in panel.loop.state()["note"]
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


def test_a_loop_in_a_thread_tells_what_ended_it(panel, own, capsys):
    assert panel.run(lambda: panel.total(own.losses()) and 1 / 0) is None  # else it would be shown a second time
    with pytest.raises(ZeroDivisionError):
        panel.wait(30)
    assert "ZeroDivisionError" in panel.loop.error and "ZeroDivisionError" in capsys.readouterr().err
    stop = threading.Event()
    panel.run(stop.wait)
    with pytest.raises(RuntimeError, match="running already"):
        panel.run(stop.wait)
    with pytest.raises(TimeoutError):
        panel.wait(0.01)
    stop.set()
    panel.wait(30)


def test_a_panel_that_takes_its_place_ends_the_loop_of_the_old_one(own):
    for paused in (False, True):
        box = {"panel": LossPanel(TASKS, name="place")}
        first = box["panel"]

        def loop(box=box):
            while True:
                with contextlib.suppress(Exception):
                    box["panel"].total(own.losses())  # by name, as in a cell
                time.sleep(0.002)

        first.run(loop)
        until(lambda first=first: first.loop.steps_done > 3)
        if paused:
            first.loop.do("pause")
        box["panel"] = LossPanel(TASKS, name="place")
        until(lambda first=first: not first._thread.runs)
        assert box["panel"].loop.steps_done <= 1
        with pytest.raises(RuntimeError, match="closed"):
            first.total(own.losses())
        box["panel"].close()


def test_stop_ends_the_loop_of_run(panel, own):
    panel.run(lambda: [panel.total(own.losses()) for _ in iter(int, 1)])
    until(lambda: panel.loop.steps_done > 3)
    panel.stop()
    panel.wait(10)
    assert panel.loop.over


def test_readers_in_other_threads_disturb_nothing(panel, own):
    """As many threads as a busy page has: heartbeats, buttons, somebody who looks at the records."""
    stop, failures = threading.Event(), []

    def read(act):
        while not stop.is_set():
            try:
                act()
                time.sleep(0.001)
            except Exception as error:
                failures.append(error)

    panel._link.frame = 0.0
    panel.widget.send = lambda *_: None
    hello = {"t": "hello", "seen": 10**9}
    acts = (lambda: panel.records, lambda: panel._link.receive(None, hello, []), panel.loop.take)
    readers = [threading.Thread(target=read, args=(act,)) for act in acts]
    for reader in readers:
        reader.start()
    loss = own.losses()
    panel.run(lambda: [panel.total(loss) for _ in range(400)])
    panel.wait(60)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == [] and len(panel.records) == 400 and not panel.loop._warned


def test_what_a_step_used_is_what_is_recorded(panel, own):
    measure = panel.loop.measure

    def measured(*some):
        measure(*some)
        if panel.loop.steps_done == 2:
            panel.set(depth=0.125)  # from another thread, in the midst of a step

    panel.loop.measure = measured
    totals = [panel.total(own.losses()).item() for _ in range(5)]
    losses = {name: loss.item() for name, loss in own.losses().items()}
    for total, record in zip(totals, panel.records, strict=True):
        assert total == pytest.approx(sum(record.weights[task] * losses[task] for task in TASKS))
    assert panel.runs[-1].schedule == {3: {"depth": 0.125}}


@pytest.mark.parametrize("name", [name for name in TOTALS if name not in ("EqualWeights", "StaticWeights")])
def test_one_loss_that_is_not_finite_spoils_no_method(name, own):
    panel = LossPanel(TASKS, name="spoilt", method=name)
    for value in (1.0, float("inf"), float("nan"), 1.0, 1.0):
        losses = own.losses()
        total = panel.total({"depth": value * losses["depth"], "segment": losses["segment"]})
        assert bool(total.isfinite()) == (value == 1.0)
    assert panel.loop.dial_every is None and panel.records[-1].norms
    panel.close()


def test_a_method_from_the_page_that_cannot_go_on_ends_nobodys_loop(own):
    panel = LossPanel(TASKS, name="page")
    panel.loop.change({"method": "GeometricMean"}, ("a view", 1))
    total = panel.total({"depth": -own.losses()["depth"], "segment": own.losses()["segment"]})
    assert total.item() == pytest.approx((own.losses()["segment"] - own.losses()["depth"]).item())
    assert "static weights took over" in panel.loop.state()["note"] and panel.loop.method == "StaticWeights"
    panel.loop.change({"method": "FairGrad"}, ("a view", 2))
    panel.loop.weighting.backward = lambda *_, **__: (_ for _ in ()).throw(WeightingError("no way"))
    panel.backward(own.losses(), own)
    assert all(p.grad is None for p in own.parameters()) and panel.loop.method == "StaticWeights"
    panel.close()
    by_code = LossPanel(TASKS, name="page", replay={1: {"method": "PCGrad"}})
    by_code.total(own.losses())
    with pytest.raises(ValueError, match=r"panel.backward\(losses, model\)"):
        by_code.total(own.losses())
    by_code.close()


def test_a_validation_is_no_step(own):
    panel = LossPanel(TASKS, name="validation", replay={1: {"depth": 9}})
    panel.total(own.losses())
    with torch.no_grad():
        found = panel.total(own.losses())
    assert found.item() == pytest.approx(sum(own.losses().values()).item()) and panel.loop.steps_done == 1
    panel.total(own.losses())
    assert panel.records[-1].weights["depth"] == 9
    panel.close()


def test_nobody_takes_the_records_and_memory_stays_bounded(panel, own):
    panel.loop.after_step = lambda: None
    loss = own.losses()
    for _ in range(10_000):
        panel.loop.end(loss) if panel.loop._began else panel.loop.begin()
    assert len(panel.loop._pending) <= 256 and len(panel.loop._untold) <= 4096 and len(panel.records) <= 4096


def test_cosines_do_not_depend_on_the_order_of_the_losses(own):
    panel = LossPanel(TASKS, name="order", dial_every=1)
    panel.total(own.losses())
    panel.total(dict(reversed(own.losses().items())))
    assert list(panel.records[-1].cosines) == ["depth"] and list(panel.records[-1].cosines["depth"]) == ["segment"]
    assert panel.records[-1].cosine == pytest.approx(panel.records[0].cosine)
    panel.close()


def test_losses_that_are_not_finite_are_saved_as_json_has_it(panel, own, tmp_path):
    panel.total({"depth": own.losses()["depth"] * float("nan"), "segment": own.losses()["segment"]})
    panel.save(tmp_path / "runs.json")
    text = (tmp_path / "runs.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: 1 / 0)
    again = LossPanel(TASKS, name="nan", replay=tmp_path / "runs.json")
    again.close()


def test_a_replay_of_nothing_or_of_nonsense_is_refused(panel, own, tmp_path):
    panel.save(tmp_path / "empty.json")
    for replay, words in (
        (tmp_path / "empty.json", "no step"),
        ([1, 2], "expected steps done"),
        ({"1": {}}, "whole number"),
        ({-1: {}}, "whole number"),
        ({2.5: {}}, "whole number"),
        ({1: {"nobody": 1}}, "nobody"),
    ):
        with pytest.raises(ValueError, match=words):
            LossPanel(TASKS, name="nonsense", replay=replay)
    train(panel, own, 2)
    other = LossPanel(TASKS, name="other", replay=panel.runs[-1], method="DWA")
    assert other.loop.method == "DWA"
    other.loop.do("replay")
    changed = LossPanel(["x", "y"], name="other")  # the tasks of the cell were edited
    assert changed.loop.script == {} and changed.runs[:-1] == []
    changed.close()


def test_odd_arguments_are_refused_when_the_panel_is_made(own):
    with pytest.raises(ValueError, match="one name or more"):
        LossPanel([0, 1])
    with pytest.raises(ValueError, match="dial_every"):
        LossPanel(TASKS, dial_every=-1)
    single = LossPanel("depth", name="single")
    assert single.total(own.losses()["depth"]).item() == pytest.approx(own.losses()["depth"].item())
    single.set(depth=2)
    with pytest.raises(ValueError, match=r"torch.nn.Module"):
        single.backward([own.losses()["depth"]], None)
    single.backward([own.losses()["depth"]], [own])
    assert own.trunk.weight.grad is not None
    with pytest.raises(ValueError, match="expected task"):
        single.observe(5)
    single.close()


def test_a_score_after_the_last_step_is_kept(panel, own, tmp_path):
    panel.total(own.losses())
    panel.score(miou=0.5)
    panel.save(tmp_path / "runs.json")
    kept = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))
    assert kept["runs"][0]["records"][-1]["scores"] == {"miou": 0.5} and panel.records[-1].scores == {"miou": 0.5}


def test_scores_make_a_trail_and_a_picture(panel, own):
    for k in range(4):
        panel.total(own.losses())
        panel.score(miou=k / 4, error=1 - k / 4)
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
