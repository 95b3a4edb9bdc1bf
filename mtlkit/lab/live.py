"""The live lab: change the loss weights while the model trains, and see it bend."""

import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import torch

from mtlkit import plots
from mtlkit.data import DigitScenes
from mtlkit.data.scenes import SCENE_CLASSES
from mtlkit.lab.front import script, style
from mtlkit.lab.records import LabRecord, Run
from mtlkit.lab.session import TASKS, Session
from mtlkit.metrics import find_objects
from mtlkit.model import evaluating
from mtlkit.weighting import METHODS

SCENES = 9
FRAME, BOXES, URGENT = 0.09, 0.42, 0.03  # seconds between two frames; at least, between looks at the scenes, answers
AWAY, WINDOW = 10.0, 20  # seconds without a heartbeat, frames sent but not seen, after which nothing more is done
POINTS = 800  # of a curve that is sent as a whole
WARM_UP = 30  # steps before the lab is first shown, so that there is something to see without a front end too


class _View(anywidget.AnyWidget):
    """What the browser sees: everything travels in messages, so that nothing of it is saved in a notebook."""

    _esm, _css = script("live"), style("live")

    def __repr__(self) -> str:
        return "live lab"


class Link:
    """Carries frames from a session to its views, and what the learner does back.

    A view says each second that it is there and which frame it saw last. Without a view the thread waits; a view that
    does not keep up gets no frames until it does, and then everything at once.
    """

    def __init__(self, session: Session, view: _View, wish: bool, ask: str, in_sight: bool) -> None:
        self.session, self.view, self.wish, self.ask, self.in_sight = session, view, wish, ask, in_sight
        self.last_beat = -AWAY
        self._sending = threading.Lock()
        self._pending: list[LabRecord] = []
        self._sent_at = self._due = self._boxes_at = self._speed_at = 0.0
        self._number = self._seen = self._number_at_beat = 0
        self._speed, self._speed_step = 0.0, 0
        self._stamp, self._used, self._images = 0, 0.0, b""
        self._asked = False  # the learner set something that no step has used yet
        session.after_step, session.may_run = self.stepped, self.is_present
        view.on_msg(self.receive)
        if hasattr(view.comm, "_reply_subshell_for"):  # else a slider waits while a cell computes
            view.comm._reply_subshell_for = lambda data, default: default

    def is_present(self) -> bool:
        """Whether a view was heard of lately."""
        return time.monotonic() - self.last_beat < AWAY

    # from the kernel to the browser

    def stepped(self, record: LabRecord | None) -> None:
        """Send a frame if it is time, or at once if this step was the first with what the learner set."""
        now, session, answer = time.monotonic(), self.session, False
        if record is not None:
            self._pending.append(record)
            wanted = session.weights, session.rate, session.method
            answer = self._asked and (record.weights, record.rate, record.method) == wanted
            if answer and not self._used:
                self._used = 1000 * time.time()
        if record is None or now >= self._due or (answer and now - self._sent_at >= URGENT):
            self._due = max(self._due + FRAME, now + FRAME / 2)  # the mean rate does not depend on a step's length
            if self.session.data_changed:
                self.send_all()
            else:
                self.send_frame()

    def send_frame(self) -> None:
        """Send what is new since the last frame."""
        with self._sending:
            if self._number - self._seen > WINDOW:
                return
            now = time.monotonic()
            buffers = [_rows(self._pending)]
            if self._pending and now - self._boxes_at >= BOXES:
                self._boxes_at = now
                buffers.append(self._look())
            self._pending, self._sent_at, self._asked = [], now, self._asked and not self._used
            self._number += 1
            self.view.send({"t": "frame", **self._status()}, buffers)
            self._used = 0.0

    def send_all(self) -> None:
        """Send everything a view that knows nothing must know."""
        session = self.session
        with self._sending, session.lock:
            if session.data_changed or not self._images:
                self.scenes = DigitScenes("test", SCENES, scene_class=session.data["scene_class"])
                self._images = self.scenes.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
                session.data_changed = False
            records = session.run_now.records[:: 1 + len(session.run_now.records) // POINTS]
            self._pending, self._number = [], self._number + 1
            self._seen = self._number_at_beat = self._number
            self._sent_at = self._boxes_at = time.monotonic()
            truth = [[*box, int(label)] for box, label in self._true_boxes()]
            content = {
                "t": "all",
                "ask": self.ask,
                "inSight": self.in_sight,
                "tasks": TASKS,
                "methods": [name for name in METHODS if name != "EqualWeights"],  # static at 1
                "sceneClasses": list(SCENE_CLASSES),
                "classes": self.scenes.classes,
                "labels": self.scenes.labels.tolist(),
                "truth": truth,
                "side": self.scenes.size,
                "trail": _trail(session.run_now),
                "earlier": [_outline(run) for run in session.earlier],
                **self._status(),
            }
            self.in_sight = False  # a reload must not move the page
            self.view.send(content, [_rows(records), self._look(), self._images])

    def _true_boxes(self) -> list[tuple[list[int], int]]:
        found = []
        for scene, (boxes, labels) in enumerate(zip(self.scenes.boxes, self.scenes.box_labels, strict=True)):
            found += [
                ([scene, *map(int, box)], int(label)) for box, label in zip(boxes, labels, strict=True) if label >= 0
            ]
        return found

    def _status(self) -> dict[str, Any]:
        session = self.session
        now, step = time.monotonic(), session.steps_done
        if step < self._speed_step or now - self._speed_at > 1:
            self._speed = max(step - self._speed_step, 0) / (now - self._speed_at)
            self._speed_at, self._speed_step = now, step
        last = session.run_now.records[-1] if session.run_now.records else None
        return {
            "n": self._number,
            "running": self.wish and not session.error,
            "error": session.error or "",
            "seed": session.seed,
            "step": step,
            "speed": round(self._speed, 1),
            "batch": session.batch_size,
            "weights": session.weights,
            "rate": session.rate,
            "method": session.method,
            "data": session.data,
            "cosine": last.cosine if last else None,
            "norms": last.norms if last else {},
            "scores": last.scores if last else {},
            "stamp": self._stamp,
            "used": self._used,
        }

    def _look(self) -> bytes:
        """Return class and confidence of each scene, then scene, corners, class and confidence of each box: bytes."""
        with self.session.lock, evaluating(self.session.case.model):
            outputs = self.session.case.model(
                self.scenes.images.float().div_(255).contiguous(memory_format=torch.channels_last)
            )
        confidence, label = outputs["classify"].softmax(1).max(1)
        rows = [torch.stack([label.float(), 255 * confidence], 1).flatten()]
        for scene, found in enumerate(find_objects(outputs["detect"], score_threshold=0.3, iou_threshold=0.4, most=8)):
            corners = found["boxes"].clamp(0, self.scenes.size) * (255 / self.scenes.size)
            number = torch.full((len(corners), 1), float(scene))
            rest = torch.stack([found["labels"].float(), 255 * found["scores"]], 1)
            rows.append(torch.cat([number, corners, rest], 1).flatten())
        return torch.cat(rows).round().to(torch.uint8).numpy().tobytes()

    # from the browser to the kernel

    def receive(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        """Do what a view asks for; say in the view what was wrong with it."""
        session = self.session
        if session.closed:
            return
        kind = content.get("t")
        try:
            if kind == "set":
                session.change(content["changes"])
                self._stamp, self._asked, self._used = int(content["stamp"]), True, 0.0
                if not session.running:  # no step will answer
                    self.send_frame()
            elif kind == "do":
                self._do(content["what"])
            self._beat(int(content.get("seen", 0)), fresh=kind == "hello")
        except (ValueError, RuntimeError) as error:
            self.view.send({"t": "refused", "why": str(error)})

    def _beat(self, seen: int, fresh: bool) -> None:
        self.last_beat = time.monotonic()
        lost = seen < self._number_at_beat  # sent before the last heartbeat, and still not seen
        self._seen, self._number_at_beat = max(seen, self._seen), self._number
        if self.wish and not self.session.running and not self.session.error:
            self.session.start()
        if fresh or lost:
            self.send_all()
        elif time.monotonic() - self._sent_at > 0.9:
            self.send_frame()

    def _do(self, what: str) -> None:
        session = self.session
        if what == "start":
            self.wish = True
        elif what == "pause":
            self.wish = False
            session.pause()
        elif what == "step":
            self.wish = False
            session.pause()
            session.advance()
        elif what in ("reset", "seed"):
            session.reset(session.seed + (what == "seed"))
        elif what == "replay":
            self.wish = True
            session.replay()
        else:
            raise ValueError(f"the lab cannot {what!r}")
        self._boxes_at = 0.0
        if what != "start":
            self.send_all()


class LossWeightingLab:
    """Train classification + detection while weights, method, learning rate and data are changed.

    Show it in a notebook to steer by hand. Without a front end, or in a script, `run` trains under a schedule. What
    the learner sets goes into `records`. A lab that is made under the name of another closes that one.

    Args:
        name: running a cell again replaces the lab of this name.
        start: train as soon as the lab is seen.
        ask: a sentence above it.
        in_sight: after *Run All* JupyterLab is at the end of the page: come back to the lab, until the reader acts.
        settings: as in `mtlkit.lab.session.Session`: scenes, batch_size, seed, weights, rate, method, data.
    """

    _by_name: ClassVar["weakref.WeakValueDictionary[str, LossWeightingLab]"] = weakref.WeakValueDictionary()
    _shown: ClassVar[dict[str, "LossWeightingLab"]] = {}  # a lab on the screen lives on, even without a variable

    def __init__(
        self, name: str = "lab", *, start: bool = True, ask: str = "", in_sight: bool = False, **settings: Any
    ) -> None:
        if name in self._by_name:
            self._by_name[name].close()
        self.name, self.session, self.widget = name, Session(**settings), _View()
        self._link = Link(self.session, self.widget, start, ask, in_sight)
        self._by_name[name] = self
        weakref.finalize(self, _end, self.session, self.widget).atexit = False  # then there is nobody left to tell

    @property
    def records(self) -> list[LabRecord]:
        """What happened so far in this run, one record a step (thinned out in long runs)."""
        return list(self.session.run_now.records)

    @property
    def runs(self) -> list[Run]:
        """Up to four runs: the earlier ones, then the present one."""
        return [*self.session.earlier, self.session.run_now]

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight; set it to change some."""
        return self.session.weights

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self.set(**weights)

    def set(self, **changes: Any) -> None:
        """Change what the next step uses: a task's weight, `rate`, `method` or `data`, as by hand."""
        self.session.change(changes)

    def start(self) -> None:
        """Train from now on, as long as a front end shows the lab."""
        self._link.wish = True
        if self._link.is_present():
            self.session.start()

    def pause(self) -> None:
        """Stop after the present step."""
        self._link.wish = False
        self.session.pause()

    def step(self) -> LabRecord:
        """Pause, and train for one step."""
        self.pause()
        return self.session.advance()

    def reset(self, seed: int | None = None) -> None:
        """Begin anew, with the same seed or another; the run so far stays for comparison."""
        self.session.reset(seed)

    def replay(self, run: Run | None = None) -> None:
        """Begin anew as `run` began (the present one if none is given), and change what was changed, at the same steps.

        It is seen where the lab is shown; elsewhere `run` does its steps. The numbers are those of the first time.
        """
        self.session.replay(run)

    def run(self, steps: int, schedule: Mapping[int, Mapping[str, Any]] | None = None) -> "LossWeightingLab":
        """Train under a schedule, here and now: see `Session.run`. The same seed gives the same numbers."""
        self._link.wish = False
        self.session.run(steps, schedule)
        return self

    def wait(self, steps: int, timeout: float = 60.0) -> None:
        """Wait until the run has `steps` steps; raises what stopped the training."""
        self.session.wait(steps, timeout)

    def save(self, file: str | Path) -> None:
        """Write all runs into one JSON file."""
        self.session.save(file)

    def load(self, file: str | Path) -> None:
        """Take over the runs of a file, to compare with."""
        self.session.load(file)

    def close(self) -> None:
        """Stop, end the thread and take the widget away."""
        self._shown.pop(self.name, None)
        _end(self.session, self.widget)

    def picture(self) -> plots.Picture:
        """Return what is seen now as a static picture."""
        scenes = DigitScenes("test", SCENES, scene_class=self.session.data["scene_class"])
        with self.session.lock:
            return plots.steered(self.records, self.session.run_now.changes(), self.session.case.model, scenes)

    def __repr__(self) -> str:
        return f"LossWeightingLab {self.name!r}: {len(self.records)} records"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.records and not self.session.error:
            self.session.run(WARM_UP)
        self._shown[self.name] = self
        data, metadata = self.picture()._repr_mimebundle_()
        view: Any = self.widget._repr_mimebundle_(**options)
        return (view[0] if isinstance(view, tuple) else view) | data, metadata


def _end(session: Session, widget: _View) -> None:
    session.close()
    widget.close()


def _rows(records: list[LabRecord]) -> bytes:
    """Return step, losses, weights of each record: float32."""
    nan = float("nan")
    rows = [
        [record.step, *(record.losses.get(t, nan) for t in TASKS), *(record.weights[t] for t in TASKS)]
        for record in records
    ]
    return np.array(rows, dtype=np.float32).tobytes()


def _trail(run: Run) -> list[list[float]]:
    """Return accuracy and AP each time they were measured."""
    trail: list[list[float]] = []
    for record in run.records:
        point = [round(value, 3) for value in record.scores.values()]
        if point and (not trail or trail[-1] != point):
            trail.append(point)
    return trail


def _outline(run: Run) -> dict[str, Any]:
    """Return what is drawn of an earlier run."""
    curves = [plots.moving_average(np.array([r.losses.get(t, np.nan) for r in run.records]), 20) for t in TASKS]
    some = range(0, len(run.records), 1 + len(run.records) // 200)
    points = [[run.records[k].step, *(None if np.isnan(c[k]) else round(float(c[k]), 4) for c in curves)] for k in some]
    name = f"seed {run.settings['seed']}, {run.records[-1].method}"
    return {"name": name, "points": points, "trail": _trail(run)}
