"""The live lab without a browser: every control, and what happens under stress. Nothing here asserts a time."""

import asyncio
import gc
import json
import threading
import time

import numpy as np
import pytest
import torch

from mtlkit.lab import LossWeightingLab, front
from mtlkit.lab.live import lab as lab_module
from mtlkit.lab.live.branch import Branch
from mtlkit.lab.live.scoring import Scoring
from mtlkit.lab.live.session import MOST_RUNS
from mtlkit.lab.steering import link as link_module
from mtlkit.lab.steering.records import MOST_RECORDS, LabRecord, Run
from mtlkit.weighting import METHODS

SMALL = {"scenes": 64, "batch_size": 4}


def trainers():
    return [thread for thread in threading.enumerate() if thread.name == "mtlkit-lab"]


def until(condition, seconds=30.0):
    """Wait for what another thread is about to do; the limit only keeps a broken test from hanging."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Browser:
    """Stands in for a view: takes frames and answers as the script in the browser does."""

    def __init__(self, lab, alive=True):
        self.lab, self.frames, self.seen, self.stamp = lab, [], 0, 0
        lab.widget.send = self.take
        if alive:
            self.say(t="hello")

    def take(self, content, buffers=()):
        self.frames.append((content, buffers))
        self.seen = content.get("n", self.seen)

    def say(self, **content):
        self.lab._link.receive(self.lab.widget, {"seen": self.seen, **content}, [])

    def set(self, **changes):
        self.stamp += 1
        self.say(t="set", changes=changes, stamp=["me", self.stamp])

    def press(self, what):
        self.say(t="do", what=what)

    @property
    def last(self):
        """The present state, as the script in the browser puts it together from the frames."""
        state = {}
        for content, _ in self.frames:
            if content["t"] in ("all", "frame"):
                state = content if content["t"] == "all" else state | content | {"t": "frame"}
        return state


def losses(lab):
    return [record.losses for record in lab.records]


def test_a_schedule_gives_the_same_numbers_each_time():
    schedule = {0: {"classify": 0.1}, 4: {"classify": 2.0, "method": "PCGrad"}, 6: {"rate": 0.1}}
    runs = [LossWeightingLab("same", **SMALL).run(8, schedule) for _ in range(2)]
    assert losses(runs[0]) == losses(runs[1])
    assert [record.weights["classify"] for record in runs[0].records] == [0.1] * 4 + [2.0] * 4
    assert [record.method for record in runs[0].records] == ["StaticWeights"] * 4 + ["PCGrad"] * 4
    assert [record.rate for record in runs[0].records] == [0.5] * 6 + [0.1] * 2
    assert runs[0].session.run_now.changes() == [5, 7]
    assert losses(runs[0]) != losses(LossWeightingLab("same", **SMALL).run(8))
    late = LossWeightingLab("late", **SMALL).run(2, {2: {"classify": 0.1}})  # not among these two steps
    assert late.run(2).weights["classify"] == 1.0


def test_without_a_front_end_it_shows_a_picture_of_the_same_steps_and_no_thread_runs(lab, monkeypatch):
    shown = []
    monkeypatch.setattr(front, "display", shown.append)
    monkeypatch.setattr(front, "publish_display_data", shown.append)
    lab._ipython_display_()
    picture, view, _ = shown
    data, metadata = picture._repr_mimebundle_()
    assert len(lab.records) == lab_module.WARM_UP and not trainers()
    assert data["text/plain"] == metadata["image/png"]["alt"]
    assert list(view) == ["application/vnd.jupyter.widget-view+json"]
    assert len(data["image/png"]) * 3 / 4 <= 100_000
    lab._ipython_display_()
    assert len(lab.records) == lab_module.WARM_UP  # shown again, it does not train on


def test_it_trains_in_one_thread_once_a_view_is_there(lab):
    lab.start()
    assert not trainers()
    browser = Browser(lab)
    lab.wait(3)
    assert len(trainers()) == 1
    lab.start()
    browser.press("start")
    assert len(trainers()) == 1
    steps = [record.step for record in lab.records]
    assert steps == list(range(1, len(steps) + 1))


def test_every_control(lab, browser):
    lab.wait(2)
    browser.press("pause")
    assert not browser.last["running"]
    at = lab.session.steps_done
    browser.press("step")
    assert lab.session.steps_done == at + 1
    browser.set(classify=0.25)
    browser.set(rate=0.1, detect=3)
    browser.set(method="NashMTL")
    browser.press("step")
    record = lab.records[-1]
    assert record.weights == {"classify": 0.25, "detect": 3.0} and record.rate == 0.1 and record.method == "NashMTL"
    before = lab.session.branch.setup.loader.dataset
    browser.set(data={"scene_class": "count", "label_noise": 0.5})
    browser.press("step")
    assert lab.session.branch.setup.loader.dataset is not before
    assert browser.last["data"]["scene_class"] == "count" and browser.last["samples"][0]["truth"].endswith(
        ("digit", "digits")
    )
    browser.press("reset")
    assert lab.records == [] and lab.session.seed == 0 and len(lab.runs) == 2
    assert browser.last["earlier"][0]["points"][0][0] == 1
    browser.press("seed")
    assert lab.session.seed == 1
    browser.press("start")
    lab.wait(2)
    assert lab.records[-1].weights == {"classify": 0.25, "detect": 3.0}  # a reset keeps what the learner set


def test_the_same_seed_again_gives_the_same_run(lab):
    lab.run(4)
    first = losses(lab)
    lab.reset()
    assert losses(lab.run(4)) == first
    lab.reset(seed=5)
    assert losses(lab.run(4)) != first


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_taken_up_during_training(lab, method):
    lab.run(3, {1: {"method": method, "classify": 0.5}})
    assert lab.records[-1].method == method


def test_a_weight_scales_the_losses_before_the_method_sees_them(lab):
    lab.set(method="MGDA", classify=1e-3)  # the shortest gradient takes it all
    lab.run(2)
    assert lab.session.branch.weighting.method.weights["classify"] > 0.9


def test_a_weight_of_zero_for_every_task_trains_nothing_and_is_no_error(lab, browser):
    lab.wait(1)
    browser.press("pause")
    browser.set(classify=0, detect=0)
    parameters = list(lab.session.branch.setup.model.parameters())
    before = [p.clone() for p in parameters]
    browser.press("step")
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True)) and not browser.last["error"]
    browser.set(detect=1)
    browser.press("step")
    assert not all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


def test_missing_labels_leave_a_task_out(lab):
    lab.set(data={"missing": {"classify": 1.0}})
    lab.run(2)
    assert lab.records[-1].tasks == ("detect",)


def test_a_frame_is_small_and_holds_every_step(lab, browser):
    lab.wait(40)
    lab.pause()
    browser.say(t="beat")
    lab._link.send_frame()
    rows = [np.frombuffer(buffers[0], np.float32).reshape(-1, 3) for content, buffers in browser.frames if buffers]
    steps = np.concatenate(rows)[:, 0]
    assert sorted(set(steps)) == list(range(1, lab.session.steps_done + 1))
    frames = [(content, buffers) for content, buffers in browser.frames if content["t"] == "frame"]
    sizes = [len(json.dumps(content)) + sum(map(len, buffers)) for content, buffers in frames]
    assert np.mean(sizes) <= 2000
    content = next(content for content, buffers in browser.frames if content["t"] == "all")
    assert content["tasks"] == ["classify", "detect"] and len(content["samples"]) == 9


def test_a_frame_costs_little_of_the_kernel():
    lab = LossWeightingLab("cost")
    browser = Browser(lab, alive=False)
    lab.run(2)
    lab._link.send_all()
    torch.set_num_threads(1)
    record, spent, frames = lab.records[-1], [], 40
    for number in range(frames):  # as in life: five steps a frame, the scenes in every fourth
        lab._link._pending = [record] * 5
        lab._link._looked_at = 0.0 if number % 4 == 0 else float("inf")
        browser.lab._link._seen = lab._link._number
        started = time.thread_time()
        lab._link.send_frame()
        spent.append(time.thread_time() - started)
    torch.set_num_threads(2)
    lab.close()
    in_rounds = np.array(spent).reshape(-1, 4).mean(1)
    assert 1000 * np.median(in_rounds) <= 3.0  # CPU of this thread, in ms


def test_500_moves_leave_the_last_one_in_force(lab, browser):
    lab.wait(2)
    for k in range(500):
        browser.set(classify=10 ** (k / 250 - 1))
    at = lab.session.steps_done
    lab.wait(at + 3)
    assert lab.records[-1].weights["classify"] == pytest.approx(10 ** (499 / 250 - 1))
    until(lambda: browser.last.get("stamp") == ["me", 500])
    assert len(trainers()) == 1


def test_a_view_that_does_not_keep_up_gets_no_more_frames_and_then_everything(lab, browser):
    lab.wait(2)
    browser.take = lambda content, buffers=(): browser.frames.append((content, buffers))  # it no longer looks
    lab.widget.send = browser.take
    lab._link._number = browser.seen + link_module.WINDOW + 1
    sent = len(browser.frames)
    lab.wait(lab.session.steps_done + 20)
    assert len(browser.frames) == sent
    browser.say(t="beat")
    browser.say(t="beat")
    assert any(content["t"] == "all" for content, _ in browser.frames[sent:])


def test_without_heartbeats_it_waits_and_goes_on_when_the_view_is_back(lab, browser, monkeypatch):
    lab.wait(2)
    monkeypatch.setattr(link_module, "AWAY", 0.0)
    until(lambda: not lab._link.is_present())
    time.sleep(0.3)
    at = lab.session.steps_done
    time.sleep(0.3)
    assert lab.session.steps_done == at
    monkeypatch.setattr(link_module, "AWAY", 10.0)
    browser.say(t="hello")
    assert browser.last["t"] == "all" or browser.frames[-2][0]["t"] == "all"
    lab.wait(at + 2)


def test_a_cell_that_is_run_twice_replaces_its_lab():
    first = LossWeightingLab("twice", **SMALL)
    Browser(first)
    first.wait(1)
    second = LossWeightingLab("twice", **SMALL)
    assert first.session.closed and not trainers()
    second.close()


def test_two_labs_train_side_by_side():
    labs = [LossWeightingLab(name, **SMALL) for name in ("left", "right")]
    for lab in labs:
        Browser(lab)
    for lab in labs:
        lab.wait(3)
    assert len(trainers()) == 2
    for lab in labs:
        lab.close()
    assert not trainers()


def test_training_here_and_in_the_thread_never_overlap(lab, browser, monkeypatch):
    inside, most = 0, 0
    original = Branch._measure

    def counted(self, record):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        original(self, record)
        inside -= 1

    monkeypatch.setattr(Branch, "_measure", counted)
    lab.wait(2)
    lab.run(10)
    browser.press("start")
    lab.step()
    assert most == 1


def test_a_loss_that_becomes_nan_stops_the_lab_names_the_task_and_reset_mends_it(lab, browser):
    lab.wait(2)
    browser.press("pause")
    with torch.no_grad():
        next(lab.session.branch.setup.model.task_parameters("detect")).fill_(float("nan"))
    browser.press("start")
    with pytest.raises(RuntimeError, match="'detect'"):
        lab.wait(10_000)
    until(lambda: browser.last.get("error"))
    assert "'detect'" in browser.last["error"] and not browser.last["running"]
    with pytest.raises(RuntimeError, match="reset the lab"):
        lab.session.start()
    browser.press("reset")
    assert not browser.last["error"]
    browser.press("start")
    lab.wait(2)


def test_any_other_exception_is_shown_in_words(lab, browser, monkeypatch):
    lab.wait(1)
    monkeypatch.setattr(lab.session.branch, "_measure", lambda record: 1 / 0)
    until(lambda: browser.last.get("error"))
    assert "ZeroDivisionError" in browser.last["error"]


def test_what_cannot_be_set_is_refused_in_words(lab, browser):
    lab.wait(1)
    for changes, word in (({"classify": -1}, "classify"), ({"method": "Magic"}, "Magic"), ({"speed": 1}, "speed")):
        browser.set(**changes)
        refusals = [content["why"] for content, _ in browser.frames if content["t"] == "refused"]
        assert word in refusals[-1]
    with pytest.raises(ValueError, match="rate"):
        lab.set(rate=-1)
    with pytest.raises(ValueError, match="knob"):
        lab.set(data={"colour": 1})
    with pytest.raises(ValueError, match="label_noise"):
        lab.set(data={"label_noise": 2})


def test_nothing_is_left_after_close_or_garbage_collection():
    lab = LossWeightingLab("gone", **SMALL)
    Browser(lab)
    lab.wait(1)
    lab.close()
    lab.close()
    assert not trainers()
    with pytest.raises(RuntimeError, match="closed"):
        lab.session.start()
    lab = LossWeightingLab("lost", **SMALL)
    Browser(lab)
    lab.wait(1)
    lab.widget.send = lambda *_: None  # the stand-in of a browser holds the lab
    del lab
    gc.collect()
    until(lambda: not trainers())


def test_a_long_run_is_thinned_out_and_keeps_its_ends():
    run = Run({})
    weights, n = {"classify": 1.0}, 3 * MOST_RECORDS
    for step in range(1, n + 1):
        run.add(LabRecord(step, 0.0, "StaticWeights", 1.0, weights, {}))
    steps = [record.step for record in run.records]
    assert len(steps) <= MOST_RECORDS and steps[0] == 1 and n - steps[-1] < run.stride == 4
    assert set(np.diff(steps)) == {4}


def test_runs_are_kept_compared_and_saved(lab, tmp_path):
    for seed in range(6):
        lab.reset(seed)
        lab.run(3, {2: {"classify": 0.5}})
    assert len(lab.runs) == MOST_RUNS and lab.runs[0].settings["seed"] == 2
    file = tmp_path / "runs.json"
    lab.save(file)
    other = LossWeightingLab("reader", **SMALL)
    other.load(file)
    assert other.runs[-2].records == lab.records and other.runs[-2].settings == lab.runs[-1].settings
    other.close()
    (tmp_path / "no.json").write_text('{"runs": 3}', encoding="utf-8")
    with pytest.raises(ValueError, match="holds no runs"):
        lab.load(tmp_path / "no.json")


SCHEDULE = {
    0: {"classify": 0.3},
    4: {"detect": 2.0, "rate": 0.2},
    6: {"method": "PCGrad", "data": {"scene_class": "count"}},
    9: {"classify": 0.0},
}


def test_a_run_is_replayed_to_the_last_digit_also_from_a_file(lab, tmp_path):
    lab.run(12, SCHEDULE)
    first = lab.runs[-1]
    assert list(first.schedule) == list(SCHEDULE) and first.changes() == [5, 7, 10]
    lab.replay()
    assert lab.records == [] and lab.weights == {"classify": 1.0, "detect": 1.0}
    assert losses(lab.run(12)) == [record.losses for record in first.records]
    lab.save(tmp_path / "runs.json")
    other = LossWeightingLab("elsewhere", scenes=32, seed=3)
    other.load(tmp_path / "runs.json")
    other.replay(other.runs[0])
    other.run(12)
    assert losses(other) == losses(lab) and other.runs[-1].schedule == first.schedule
    other.close()


def test_what_was_steered_by_hand_is_replayed_in_sight(lab, browser):
    for weight in (0.5, 0.25, 2.0):
        browser.set(classify=weight)
        lab.wait(lab.session.steps_done + 3)
    browser.press("pause")
    done = lab.session.steps_done
    first = [(record.weights, record.losses) for record in lab.records]
    browser.press("replay")
    lab.wait(done)
    assert [(record.weights, record.losses) for record in lab.records[:done]] == first
    assert browser.last["running"]


def test_where_only_answers_arrive_each_heartbeat_brings_everything(lab, browser):
    """As on Colab, which does not show what a thread sends: a view that has missed frames asks for everything."""
    inside = threading.main_thread()
    lab.widget.send = lambda *sent: browser.take(*sent) if threading.current_thread() is inside else None
    lab.wait(3)
    for _ in range(3):
        at = lab.session.steps_done
        lab.wait(at + 20)
        lab._link._sent_at = lab._link._seen = 0  # a second later, as nothing was seen
        browser.say(t="beat")
        browser.say(t="hello")
        assert browser.last["t"] == "all" and browser.last["step"] >= at + 20


def test_scores_are_those_of_evaluate(lab):
    from mtlkit.training import evaluate

    lab.set(data={"scene_class": "texture"})
    lab.run(1)
    model = lab.session.branch.setup.model
    expected = evaluate(model, lab.session.branch.tasks, lab.session.branch.data.validation, device="cpu")
    scoring = Scoring(1, model, lab.session.branch.tasks, lab.session.branch.data.validation)
    while (scores := scoring.advance()) is None:
        pass
    assert scores == {name: pytest.approx(expected[name]) for name in ("classify/accuracy", "detect/ap", "detect/ap50")}


def test_the_collector_is_held_back_only_while_a_lab_trains():
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    labs = [LossWeightingLab(name, **SMALL) for name in ("one", "two")]
    assert gc.get_threshold() == usual and gc.get_freeze_count() == frozen
    browsers = [Browser(lab) for lab in labs]
    assert gc.get_threshold()[2] > usual[2] and gc.get_threshold()[:2] == usual[:2]
    browsers[0].press("pause")
    assert gc.get_threshold()[2] > usual[2]  # the other one trains
    browsers[1].press("pause")
    assert gc.get_threshold() == usual
    browsers[0].press("start")
    assert gc.get_threshold()[2] > usual[2]
    for lab in labs:
        lab.close()
    assert gc.get_threshold() == usual and gc.isenabled()


def test_a_pause_that_meets_a_step_leaves_the_collector_as_it_was():
    """The thread is about to begin a step when the learner presses Pause."""
    usual = gc.get_threshold()
    lab = LossWeightingLab("meet", **SMALL)
    lab.session.wake.set()  # as if the thread had seen it
    lab.session.pause()
    lab.session.turn()
    assert gc.get_threshold() == usual and lab.records == []
    lab.close()


def test_the_server_sends_small_messages_at_once(monkeypatch):
    from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

    import mtlkit.jupyter as extension

    done = []

    class Handler:
        def set_nodelay(self, value):
            done.append(value)

    async def opened(self, kernel_id):
        done.append(kernel_id)

    monkeypatch.setattr(KernelWebsocketHandler, "open", opened)
    (point,) = extension._jupyter_server_extension_points()
    assert point["module"] == extension.__name__
    extension._load_jupyter_server_extension(None)
    asyncio.run(KernelWebsocketHandler.open(Handler(), "a kernel"))
    assert done == [True, "a kernel"]
