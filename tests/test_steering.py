"""What is steered and what is seen of it: settings, files of runs, forks, gains, guesses, runs as code. No browser."""

import gc
import json
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from rows import rows_case
from test_lab import SMALL, Browser, losses, trainers, until

from mtlkit.cases import find_case
from mtlkit.lab import LossWeightingLab
from mtlkit.lab.live.scoring import Scoring
from mtlkit.lab.live.session import Session
from mtlkit.lab.live.thread import FairLock
from mtlkit.lab.steering.controls import Setting


def scored(lab):
    """The scores of a lab's model as it is now."""
    branch = lab.session.branch
    scoring = Scoring(branch.steps_done, branch.setup.model, branch.tasks, branch.data.validation)
    while (scores := scoring.advance()) is None:
        pass
    return scores


# what is set


@pytest.mark.parametrize(
    "changes",
    [
        {"classify": 0.5, "rate": -1},
        {"classify": 0.5, "method": "Magic"},
        {"rate": 0.1, "detect": float("nan")},
        {"rate": 0.1, "detect": "heavy"},
        {"method": "PCGrad", "data": {"colour": 1}},
        {"method": "PCGrad", "data": {"label_noise": 2}},
        {"method": "PCGrad", "data": {"missing": {"nobody": 0.5}}},
        {"method": "PCGrad", "data": 3},
        {"classify": 0.5, "speed": 1},
        {"classify": 0.5, "rate": "fast"},
    ],
)
def test_what_is_refused_changes_nothing_at_all(lab, changes):
    before = lab.session.setting
    with pytest.raises(ValueError, match=r"expected|there is no|there are"):
        lab.session.change(changes)
    assert lab.session.setting is before


def test_a_task_may_be_called_like_anything_else():
    setting = Setting({"rate": 1.0, "weights": 1.0, "plain": 1.0}, rate=0.5)
    new = setting.changed({"weights": {"rate": 2.0}, "rate": 0.1, "plain": 3})
    assert new.weights == {"rate": 2.0, "weights": 1.0, "plain": 3.0} and new.rate == 0.1
    assert setting.changed(new.differences(setting)) == new
    assert setting.changed({"weights": 7}).weights["weights"] == 7


def test_a_bad_new_lab_leaves_the_old_one_alone(lab):
    for wrong in ({"case": "nothing"}, {"weights": {"nobody": 1}}, {"method": "Magic"}, {"scenes": 0}):
        with pytest.raises(ValueError, match=r"Magic|nobody|scenes|nothing"):
            LossWeightingLab("test", **{**SMALL, **wrong})
    assert not lab.session.closed and lab.run(1).records


def test_a_bad_schedule_trains_no_step_and_a_bad_replay_changes_nothing(lab):
    with pytest.raises(ValueError, match="Magic"):
        lab.run(5, {0: {"classify": 0.1}, 3: {"method": "Magic"}})
    assert lab.records == [] and lab.weights["classify"] == 1.0
    lab.run(3)
    run = lab.runs[-1].copy()
    run.schedule[2] = {"classify": -1}
    with pytest.raises(ValueError, match="classify"):
        lab.replay(run)
    assert len(lab.records) == 3


# files


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.update(settings={}),
        lambda run: run["settings"].pop("seed"),
        lambda run: run["settings"].update(weights={}),
        lambda run: run["settings"].update(knobs=3),
        lambda run: run["settings"].update(rate="fast"),
        lambda run: run.update(records=[{"step": "one"}]),
        lambda run: run["records"][0].update(losses={"classify": "much"}),
        lambda run: run["records"][0].update(nonsense=1),
        lambda run: run["records"][0].update(scores={"classify/accuracy": "much"}),
        lambda run: run["records"][0].update(scores=3),
        lambda run: run["records"][0].update(method=3),
        lambda run: run["records"][0].update(cosine="x"),
        lambda run: run["records"][0].update(seconds=10**400),
        lambda run: run["settings"].update(method="Magic"),
        lambda run: run["settings"].update(weights={"classify": "much", "detect": 1}),
        lambda run: run["settings"].update(weights={"classify": 1}),
        lambda run: run["settings"].update(batch_size=-3),
        lambda run: run["settings"]["knobs"].update(label_noise="loud"),
        lambda run: run.update(schedule={"3": {"nobody": 1}}),
        lambda run: run.update(schedule={"soon": {}}),
        lambda run: run.update(schedule={"3": 4}),
        lambda run: run.pop("records"),
    ],
)
def test_a_file_of_runs_that_is_spoilt_is_refused_in_words(lab, tmp_path, spoil):
    lab.run(3)
    file = tmp_path / "runs.json"
    lab.save(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    spoil(content["runs"][0])
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="holds no runs of the lab"):
        lab.load(file)
    assert len(lab.runs) == 1


# threads


def test_what_goes_wrong_between_two_steps_stops_the_lab_in_words_and_reset_mends_it(lab, browser):
    lab.wait(2)
    lab.session.may_run = lambda: 1 / 0
    until(lambda: browser.last.get("error"))
    assert "ZeroDivisionError" in browser.last["error"] and not browser.last["running"] and not lab.session.running
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        lab.wait(10_000)
    lab.session.may_run = lab._link.is_present
    browser.press("reset")
    browser.press("start")
    lab.wait(2)
    assert len(trainers()) == 1


@pytest.mark.parametrize("error", [SystemExit("enough"), KeyboardInterrupt("stop"), MemoryError("full")])
def test_even_an_exception_that_ends_threads_is_said(lab, browser, error):
    lab.wait(1)

    def advance(look=False):
        raise error

    lab.session.advance = advance
    until(lambda: lab.session.error)
    assert type(error).__name__ in lab.session.error
    del lab.session.advance
    browser.press("reset")
    browser.press("start")
    lab.wait(2)


def test_a_reset_while_it_trains_leaves_no_step_of_the_old_run(lab, browser):
    lab.wait(5)
    for _ in range(20):
        lab.wait(2)
        browser.press("reset")
        assert [record.step for record in lab.records] == list(range(1, len(lab.records) + 1))
        assert all(record.step <= lab.session.steps_done + 1 for record in lab._link._pending)


def test_single_steps_and_steps_of_the_thread_are_the_same(lab, browser):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # a single step is done where the learner's cells run
    browser.press("pause")
    lab.reset()
    for _ in range(6):
        browser.press("step")
    first = losses(lab)
    browser.press("replay")
    lab.wait(6)
    browser.press("pause")
    assert losses(lab)[:6] == first
    torch.set_num_threads(threads)


def test_who_waits_for_a_step_gets_the_next_turn():
    lock, order, stop = FairLock(), [], threading.Event()

    def train():
        while not stop.is_set():
            with lock, lock:
                order.append("step")
                time.sleep(0.005)

    thread = threading.Thread(target=train)
    thread.start()
    until(lambda: order)
    for _ in range(5):
        before = len(order)
        with lock:
            assert len(order) <= before + 2
    stop.set()
    thread.join()


# the messages


def test_each_change_is_acknowledged_and_sends_no_more_than_that(lab, browser):
    lab.wait(3)
    sent = len(browser.frames)
    for weight in (0.5, 0.6, 0.7):
        browser.set(classify=weight)
    got = [content["stamp"] for content, _ in browser.frames[sent:] if content["t"] == "got"]
    assert got == [("me", 1), ("me", 2), ("me", 3)]
    assert not any(content["t"] == "all" for content, _ in browser.frames[sent:])
    browser.set(classify=-1)
    refused = [content for content, _ in browser.frames if content["t"] == "refused"]
    assert refused[-1]["stamp"] == ("me", 4) and "classify" in refused[-1]["why"]
    until(lambda: browser.last["stamp"] == ["me", 3])
    assert lab.records[-1].weights["classify"] == 0.7


def test_a_stamp_is_answered_by_the_step_that_used_it(lab, browser):
    lab.wait(2)
    browser.set(classify=0.125)
    until(lambda: browser.last["stamp"] == ["me", 1])
    at = browser.last["step"]
    assert lab.records[at - 1].weights["classify"] == 0.125


# forks, gains, guesses, code


def test_without_a_change_both_copies_of_a_fork_do_the_same(lab):
    lab.run(5, {1: {"method": "PCGrad"}})
    other = lab.fork()
    lab.run(6)
    assert [r.losses for r in other.records] == losses(lab) and len(other.records) == 11


@pytest.mark.parametrize("method", ["StaticWeights", "Uncertainty", "GradDrop", "NashMTL", "FAMO", "DWA", "GradNorm"])
def test_a_fork_copies_what_a_method_remembers(lab, method):
    lab.set(method=method)
    lab.run(4)
    other = lab.fork()
    lab.run(4)
    assert [r.losses for r in other.records] == losses(lab)


def test_a_fork_is_told_apart_by_its_change_and_joins_the_earlier_runs(lab):
    plain = losses(LossWeightingLab("plain", **SMALL).run(10))
    lab.run(4)
    other = lab.fork(classify=0.01)
    with pytest.raises(RuntimeError, match="forked already"):
        lab.fork()
    lab.run(6)
    assert [r.losses for r in other.records] == plain  # the copy that keeps what was set is as if nothing had been done
    assert losses(lab)[:5] == plain[:5] and losses(lab)[-1] != plain[-1]
    assert lab.records[-1].weights["classify"] == 0.01 and other.records[-1].weights["classify"] == 1.0
    lab.join()
    assert lab.runs[-2] is other and lab.session.other is None
    lab.run(1)
    assert len(other.records) == 10
    with pytest.raises(ValueError, match="Magic"):
        lab.fork(method="Magic")
    assert lab.session.other is None
    lab.fork()
    lab.reset()
    assert lab.session.other is None and lab.records == []


def test_a_model_with_drop_out_is_replayed_and_forked_to_the_last_digit():
    lab = LossWeightingLab("dropout", case=rows_case(2, dropout=0.5), start=False)
    lab.run(6)
    first = losses(lab)
    torch.rand(3)  # somebody else draws
    state = torch.get_rng_state()
    lab.reset()
    assert losses(lab.run(6)) == first and torch.equal(torch.get_rng_state(), state)
    other = lab.fork()
    lab.run(3)
    assert [r.losses for r in other.records] == losses(lab)
    lab.close()


def test_gains_are_predicted_by_the_gradients_and_measured_on_the_same_batch():
    for dropout in (0.0, 0.4):
        lab = LossWeightingLab("gains", case=rows_case(3, dropout=dropout, adam=False), rate=1e-2, start=False)
        lab.run(3)
        record = lab.step()  # so short a step is nearly straight
        assert list(record.gains) == ["t0", "t1", "t2"]
        for predicted, happened in record.gains.values():
            assert happened == pytest.approx(predicted, rel=0.02, abs=3e-7)
        assert sum(predicted for predicted, _ in record.gains.values()) < 0  # down the sum of the losses
        model = lab.session.branch.setup.model
        before = [p.clone() for p in model.parameters()]
        rate = LossWeightingLab("gains2", case=rows_case(3, dropout=dropout, adam=False), rate=1e-2, start=False)
        rate.run(4)  # the same steps without a look: looking changes nothing
        same = rate.session.branch.setup.model.parameters()
        assert all(torch.equal(a, b) for a, b in zip(before, same, strict=True))
        lab.close()
        rate.close()


def test_the_gain_of_a_sgd_step_is_minus_the_rate_times_the_inner_products():
    lab = LossWeightingLab("exact", case=rows_case(2, adam=False), start=False, weights={"t0": 3.0, "t1": 0.5})
    lab.run(2)
    branch = lab.session.branch
    record = lab.step()
    step = branch.setup.optimizer.param_groups[0]["lr"]
    total = 0.0
    for parameter in branch.setup.model.parameters():
        total -= step * float(parameter.grad.double().square().sum())  # of the weighted sum along its own gradient
    weighted = 3.0 * record.gains["t0"][0] + 0.5 * record.gains["t1"][0]
    assert weighted == pytest.approx(total, rel=1e-4)
    lab.close()


def test_a_guess_is_held_against_the_scores_of_its_step(lab):
    lab.run(2)
    with pytest.raises(ValueError, match="no score 'beauty'"):
        lab.guess({"beauty": 1.0})
    with pytest.raises(ValueError, match="finite"):
        lab.guess({"detect/ap": float("nan")})
    guess = lab.guess({"classify/accuracy": 0.5, "detect/ap": 0.25}, steps=20)
    assert guess.step == 22 and guess.off is None
    lab.run(21)
    assert guess.off is None
    lab.run(15)
    # the scores are those of the model after step 22, measured in a run that made no guess
    other = LossWeightingLab("referee", **SMALL).run(22)
    scores = scored(other)
    assert guess.found == {name: scores[name] for name in guess.guessed}
    off = ((scores["classify/accuracy"] - 0.5) ** 2 + (scores["detect/ap"] - 0.25) ** 2) ** 0.5
    assert guess.off == pytest.approx(off) and lab.guesses == [guess]
    other.close()


def test_a_run_as_code_repeats_it(lab):
    lab.run(8, {0: {"classify": 0.3}, 3: {"method": "PCGrad", "data": {"scene_class": "count"}}, 6: {"rate": 0.1}})
    names = {}
    exec(lab.code(), names)
    assert losses(names["lab"]) == losses(lab) and names["lab"] is not lab
    names["lab"].close()


# any case


@pytest.mark.parametrize("K", [1, 2, 3, 6])
def test_a_lab_takes_one_to_six_tasks(K):
    lab = LossWeightingLab("many", case=rows_case(K))
    browser = Browser(lab)
    lab.wait(40)
    browser.press("step")
    tasks = [f"t{k}" for k in range(K)]
    assert browser.last["tasks"] == tasks and set(browser.last["norms"]) == set(tasks)
    pairs = {(a, b) for a, others in browser.last["cosines"].items() for b in others}
    assert pairs == {(f"t{a}", f"t{b}") for a in range(K) for b in range(a + 1, K)}
    assert set(browser.last["gains"]) == set(tasks)
    assert {"row", "truth"} <= browser.last["samples"][0].keys()
    picture = lab.picture()
    assert "t0" in picture.alt
    lab.close()


def test_cosines_are_those_of_the_gradients():
    lab = LossWeightingLab("cosines", case=rows_case(3), start=False)
    lab.run(1)
    from mtlkit.training import train

    setup = lab.session.case.setup(seed=0, batch_size=lab.session.batch_size)
    record = next(train(*setup.parts, steps=5, cosine_every=1, device="cpu"))
    expected = record.conflict.cosines
    found = lab.records[-1].cosines
    assert found == {
        "t0": {"t1": pytest.approx(float(expected[0, 1])), "t2": pytest.approx(float(expected[0, 2]))},
        "t1": {"t2": pytest.approx(float(expected[1, 2]))},
    }
    lab.close()


def test_the_text_case_measures_its_cosines_though_few_batches_have_all_tasks():
    lab = LossWeightingLab("text", case=find_case("text"), start=False)
    lab.run(200)
    assert len(lab.records[-1].norms) == 5
    lab.close()


def test_a_session_needs_no_widget():
    session = Session("scenes", **SMALL)
    session.run(2)
    assert session.steps_done == 2
    session.close()


@pytest.mark.parametrize(
    "metric",
    [None, lambda: Nothing({}), lambda: Nothing({"score": torch.ones(2)}), lambda: Nothing({"score": float("nan")})],
)
def test_a_case_is_trained_whatever_its_metrics_say(metric):
    plain = rows_case(2)
    case = replace(
        plain,
        make_tasks=lambda labels: tuple(replace(t, metric=metric, score="score") for t in plain.make_tasks(labels)),
    )
    lab = LossWeightingLab("metrics", case=case)
    browser = Browser(lab)
    lab.wait(150)
    browser.press("step")
    json.dumps([content for content, _ in browser.frames], allow_nan=False)  # as a browser gets it
    assert lab.picture().alt
    lab.close()


class Nothing:
    def __init__(self, scores):
        self.scores = scores

    def update(self, output, batch):
        pass

    def compute(self):
        return self.scores


def test_an_interrupted_run_can_go_on_and_any_other_end_is_said(lab, monkeypatch):
    branch, interrupted = lab.session.branch, iter([KeyboardInterrupt()])
    forward = branch.setup.model.forward

    def once(*some, **more):
        for error in interrupted:
            raise error
        return forward(*some, **more)

    monkeypatch.setattr(branch.setup.model, "forward", once)
    with pytest.raises(KeyboardInterrupt):
        lab.run(5)
    assert lab.run(3).records[-1].step == 3 and lab.session.error is None
    interrupted = iter([KeyError("disk")])
    with pytest.raises(KeyError):
        lab.step()
    assert "disk" in lab.session.error
    with pytest.raises(RuntimeError, match="disk"):
        lab.step()
    lab.reset()
    assert lab.run(2).records


def test_another_seed_means_other_data_also_after_a_knob_was_turned():
    lab = LossWeightingLab("seeds", case=rows_case(2), start=False)
    lab.run(3, {1: {"data": {"noise": 0.5}}})
    lab.reset(5)
    fresh = LossWeightingLab("fresh", case=rows_case(2), start=False, seed=5, data={"noise": 0.5})
    assert losses(lab.run(3)) == losses(fresh.run(3))
    lab.close()
    fresh.close()


def test_a_replay_during_a_replay_loses_nothing(lab):
    lab.run(10, {3: {"classify": 0.5}, 6: {"method": "PCGrad"}})
    first = losses(lab)
    lab.replay()
    lab.replay()
    lab.run(4)
    other = lab.fork()
    lab.run(6)
    assert losses(lab) == first and [r.losses for r in other.records] == first
    lab.replay()
    lab.run(4)
    lab.replay()
    assert losses(lab.run(10)) == first


def test_guesses_close_together_and_beside_a_usual_measurement_are_each_held_against_their_step():
    lab = LossWeightingLab("guesses", case=rows_case(2), start=False)
    lab.run(120)
    guesses = [lab.guess({"t0/mae": 0.5}, steps) for steps in (6, 8, 9)]  # 129 is measured anyway
    lab.run(30)
    for guess in guesses:
        other = LossWeightingLab("other", case=rows_case(2), start=False).run(guess.step)
        assert guess.found == {"t0/mae": scored(other)["t0/mae"]}
        other.close()
    lab.close()


@pytest.mark.parametrize("steps", [127, 129, 131, 133])
def test_a_fork_amid_a_measurement_is_exact_in_its_scores_too(steps):
    lab = LossWeightingLab("amid", case=rows_case(2), start=False)
    lab.run(steps)
    other = lab.fork()
    lab.run(20)
    assert [r.scores for r in other.records] == [r.scores for r in lab.records]
    lab.close()


def test_a_model_that_draws_without_a_module_for_it_is_replayed_and_forked():
    plain = rows_case(2)

    class Drops(torch.nn.Module):
        def forward(self, x):
            self.last = torch.nn.functional.dropout(x, 0.5, self.training)  # and keeps what has a graph
            return self.last

    def build_model(labels, **knobs):
        model = plain.build_model(labels, **knobs)
        model.encoder.append(Drops())
        model.encoder.p = torch.nn.Parameter(torch.ones(16))  # a name that means nothing
        return model

    lab = LossWeightingLab("draws", case=replace(plain, build_model=build_model), start=False)
    lab.run(8)
    first = losses(lab)
    torch.rand(5)
    lab.reset()
    assert losses(lab.run(8)) == first
    other = lab.fork()
    lab.run(4)
    assert [r.losses for r in other.records] == losses(lab) and lab.step().gains
    lab.close()


@pytest.mark.parametrize("name", ["scenes", "text", "rows", "toy:TOY"])
def test_the_code_of_any_run_repeats_it(name):
    settings = {
        "scenes": {"scenes": 64, "label_noise": 0.25, "data": {"missing": {"classify": 0.5}}},
        "text": {"samples": 300, "temperature": float("inf"), "layers": 1},
        "rows": {"noise": 0.5},
        "toy:TOY": {"pairs": 150, "width": 8},
    }[name]
    case = rows_case(2) if name == "rows" else find_case(name, **({"pairs": 100} if name == "toy:TOY" else {}))
    lab = LossWeightingLab("coded", case=case, start=False, batch_size=4, seed=3, **settings)
    first, *_ = lab.weights
    lab.run(6, {2: {first: 0.5, "rate": 0.25}, 4: {"method": "PCGrad"}})
    code, names = lab.code(), {"case": case}
    assert name != "rows" or "your own Case object" in code
    exec(code, names)
    assert losses(names["lab"]) == losses(lab)
    lab.close()
    names["lab"].close()


def test_the_code_of_a_long_run_has_all_its_steps():
    lab = LossWeightingLab("long", case=rows_case(1), start=False)
    lab.session.branch.run.stride = 4
    lab.run(6)
    assert "lab.run(6," in lab.code()
    lab.close()


def test_a_reset_or_replay_that_fails_changes_nothing(lab):
    lab.run(2)
    before = lab.session.setting, lab.session.seed, lab.session.run_now, lab.session.batch_size
    for _ in range(2):
        with pytest.raises((RuntimeError, OverflowError, ValueError)):
            lab.reset(2**70)
    run = lab.session.run_now.copy()
    run.settings["batch_size"] = -3
    with pytest.raises(ValueError, match="batch_size"):
        lab.replay(run)
    assert before == (lab.session.setting, lab.session.seed, lab.session.run_now, lab.session.batch_size)
    assert lab.session.earlier == [] and len(lab.run(1).records) == 3


def test_what_is_done_in_code_reaches_the_views(lab, browser, tmp_path):
    browser.press("pause")
    at = len(browser.frames)
    lab.run(20)
    lab._link.send_frame()
    rows = [np.frombuffer(buffers[0], np.float32).reshape(-1, 3) for _, buffers in browser.frames if len(buffers) > 1]
    assert set(range(1, lab.session.steps_done + 1)) == set(np.concatenate(rows)[:, 0])
    lab.save(tmp_path / "runs.json")
    for act in (lambda: lab.load(tmp_path / "runs.json"), lab.fork, lab.join):
        at = len(browser.frames)
        act()
        lab._link.send_frame()
        assert any(content["t"] == "all" for content, _ in browser.frames[at:])
    assert len(browser.last["earlier"]) == 2


def test_a_forked_run_is_saved_with_its_copy(lab, tmp_path):
    lab.run(2)
    lab.fork(classify=0.1)
    lab.run(2)
    lab.save(tmp_path / "runs.json")
    assert len(json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))["runs"]) == len(lab.runs) == 2


def test_no_model_of_an_ended_run_is_kept(lab):
    gone = []
    for _ in range(3):
        lab.run(2)
        lab.fork()
        lab.run(1)
        gone += [weakref.ref(branch.setup.model) for branch in (lab.session.branch, lab.session.other)]
        gc.disable()  # as the collector is held back while a lab trains
        lab.reset()
    gc.enable()
    assert [reference for reference in gone if reference() is not None] == []


def test_weights_of_a_task_called_rate_are_weights():
    plain = rows_case(1)
    named = replace(
        plain,
        make_tasks=lambda labels: tuple(replace(task, name="rate") for task in plain.make_tasks(labels)),
        build_model=lambda labels, **knobs: renamed(plain.build_model(labels, **knobs)),
        see=lambda *some, **more: [],
    )
    lab = LossWeightingLab("named", case=named, start=False)
    lab.weights = {"rate": 0.5}
    lab.run(2, {1: {"weights": {"rate": 0.25}}})
    assert lab.weights == {"rate": 0.25} and lab.session.rate == 1.0
    assert lab.runs[-1].schedule == {0: {"weights": {"rate": 0.5}}, 1: {"weights": {"rate": 0.25}}}
    lab.close()


def renamed(model):
    model.heads["rate"] = model.heads["t0"]
    del model.heads["t0"]
    return model
