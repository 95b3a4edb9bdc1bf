"""Between a session and its views: frames to the browser, and what the learner does back to the kernel."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import torch

from mtlkit.cases import SeenImage
from mtlkit.cases.seen import Seen
from mtlkit.lab.front import script, style
from mtlkit.lab.live.records import LabRecord, Run
from mtlkit.lab.live.session import Session
from mtlkit.plots import moving_average
from mtlkit.weighting import METHODS

FRAME, LOOK, URGENT = 0.09, 0.42, 0.03  # seconds between two frames; at least, between looks at the samples, answers
AWAY, WINDOW = 10.0, 20  # seconds without a heartbeat, frames sent but not seen, after which nothing more is done
POINTS = 800  # of a curve that is sent as a whole
LOOKS = {"score_threshold": 0.3, "iou_threshold": 0.4, "most": 8}  # which boxes are shown


class View(anywidget.AnyWidget):
    """What the browser sees: everything travels in messages, so that nothing of it is saved in a notebook."""

    _esm, _css = script("live/drawing", "live/live"), style("live/live")

    def __repr__(self) -> str:
        return "live lab"


class Link:
    """Carries frames from a session to its views, and what the learner does back.

    A view says each second that it is there and which frame it saw last. Without a view the thread waits; a view that
    does not keep up gets no frames until it does, and then everything at once.

    Attributes:
        wants_to_run: whether the learner wants the lab to train.
    """

    def __init__(self, session: Session, view: View, wants_to_run: bool, ask: str, in_sight: bool) -> None:
        self.session, self.view, self.wants_to_run = session, view, wants_to_run
        self.ask, self.in_sight = ask, in_sight
        self.last_beat = -AWAY
        self._sending = threading.Lock()
        self._pending: list[LabRecord] = []
        self._sent_at = self._due = self._looked_at = self._speed_at = 0.0
        self._number = self._seen = self._number_at_beat = 0
        self._speed, self._speed_step = 0.0, 0
        self._stamp, self._used = 0, 0.0
        self._truth: Sequence[Seen] | None = None  # the samples that are looked at, as they are labelled
        self._asked = False  # the learner set something that no step has used yet
        session.after_step, session.may_run = self.stepped, self.is_present
        view.on_msg(self.receive)
        if hasattr(view.comm, "_reply_subshell_for"):  # no public way: else a slider waits while a cell computes
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
            rows = self._rows(self._pending)
            look = {}
            if self._pending and now - self._looked_at >= LOOK:
                self._looked_at = now
                look = {"look": self._look()}
            self._pending, self._sent_at, self._asked = [], now, self._asked and not self._used
            self._number += 1
            self.view.send({"t": "frame", **self._status(), **look}, [rows])
            self._used = 0.0

    def send_all(self) -> None:
        """Send everything a view that knows nothing must know."""
        session = self.session
        with self._sending, session.lock:
            if session.data_changed or self._truth is None:
                self._truth, session.data_changed = session.samples(), False
            records = session.run_now.records[:: 1 + len(session.run_now.records) // POINTS]
            self._pending, self._number = [], self._number + 1
            self._seen = self._number_at_beat = self._number
            self._sent_at = self._looked_at = time.monotonic()
            knobs = [
                {
                    "name": name,
                    "about": knob.about,
                    "choices": knob.choices,
                    "range": [knob.low, knob.high] if math.isfinite(knob.low + knob.high) else None,
                    "perTask": knob.per_task,
                }
                for name, knob in session.case.knobs.items()
                if knob.live
            ]
            samples, images = _packed(self._truth)
            content = {
                "t": "all",
                "ask": self.ask,
                "inSight": self.in_sight,
                "case": session.case.name,
                "tasks": [task.name for task in session.tasks],
                "methods": [name for name in METHODS if name != "EqualWeights"],  # static at 1
                "knobs": knobs,
                "samples": samples,
                "plane": plane_of(session),
                "trail": _trail(session.run_now, plane_of(session)),
                "earlier": [self._outline(run) for run in session.earlier],
                **self._status(),
                "look": self._look(),
            }
            self.in_sight = False  # a reload must not move the page
            self.view.send(content, [self._rows(records), images])

    def _status(self) -> dict[str, Any]:
        session = self.session
        now, step = time.monotonic(), session.steps_done
        if step < self._speed_step or now - self._speed_at > 1:
            self._speed = max(step - self._speed_step, 0) / (now - self._speed_at)
            self._speed_at, self._speed_step = now, step
        last = session.run_now.records[-1] if session.run_now.records else None
        return {
            "n": self._number,
            "running": self.wants_to_run and not session.error,
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
            "scores": {name: _or_none(score) for name, score in last.scores.items()} if last else {},
            "stamp": self._stamp,
            "used": self._used,
        }

    def _look(self) -> list[Any]:
        """Return what the model says of each sample: the line above it, whether that is right, boxes with a name."""
        with self.session.lock:
            return [_said(one) for one in self.session.samples(self.session.setup.model, **LOOKS)]

    def _rows(self, records: list[LabRecord]) -> bytes:
        """Return step, losses, weights of each record: float32."""
        tasks, nan = [task.name for task in self.session.tasks], math.nan
        rows = [
            [record.step, *(record.losses.get(t, nan) for t in tasks), *(record.weights[t] for t in tasks)]
            for record in records
        ]
        return np.array(rows, dtype=np.float32).tobytes()

    def _outline(self, run: Run) -> dict[str, Any]:
        """Return what is drawn of an earlier run."""
        losses = [[r.losses.get(task.name, math.nan) for r in run.records] for task in self.session.tasks]
        curves = [moving_average(np.array(values), 20) for values in losses]
        some = range(0, len(run.records), 1 + len(run.records) // 200)
        points = [
            [run.records[k].step, *(None if np.isnan(c[k]) else round(float(c[k]), 4) for c in curves)] for k in some
        ]
        name = f"seed {run.settings['seed']}, {run.records[-1].method}"
        return {"name": name, "points": points, "trail": _trail(run, plane_of(self.session))}

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
            self._heard(int(content.get("seen", 0)), fresh=kind == "hello")
        except Exception as error:  # the view is the only place where it can be read
            self.view.send({"t": "refused", "why": str(error)})

    def _heard(self, seen: int, fresh: bool) -> None:
        """Take note that a view is there, and of the last frame that it saw."""
        self.last_beat = time.monotonic()
        lost = seen < self._number_at_beat  # sent before the last heartbeat, and still not seen
        self._seen, self._number_at_beat = max(seen, self._seen), self._number
        if self.wants_to_run and not self.session.running and not self.session.error:
            self.session.start()
        if fresh or lost:
            self.send_all()
        elif time.monotonic() - self._sent_at > 0.9:
            self.send_frame()

    def _do(self, what: str) -> None:
        session = self.session
        if what == "start":
            self.wants_to_run = True
        elif what == "pause":
            self.wants_to_run = False
            session.pause()
        elif what == "step":
            self.wants_to_run = False
            session.pause()
            session.advance()
        elif what in ("reset", "seed"):
            session.reset(session.seed + (what == "seed"))
        elif what == "replay":
            self.wants_to_run = True
            session.replay()
        else:
            raise ValueError(f"the lab cannot {what!r}")
        self._looked_at = 0.0
        if what != "start":
            self.send_all()


def plane_of(session: Session) -> list[str]:
    """Return the scores of the first two tasks: the trail is drawn over them."""
    return [task.score_name for task in session.tasks[:2]]


def _trail(run: Run, plane: list[str]) -> list[list[float]]:
    """Return the two scores each time they were measured, over the steps where there is one."""
    trail: list[list[float]] = []
    for record in run.records:
        point = [round(record.scores.get(name, math.nan), 3) for name in plane]
        if not any(map(math.isnan, point)) and (not trail or trail[-1] != point):
            trail.append(point)
    return trail


def _or_none(number: float) -> float | None:
    """Return `None` for NaN: messages are JSON."""
    return None if math.isnan(number) else number


def _packed(seen: Sequence[Seen]) -> tuple[list[Any], bytes]:
    """Return what is true of each sample, and the images as bytes."""
    samples: list[Any] = []
    images = [one.image for one in seen if isinstance(one, SeenImage)]
    for one in seen:
        if isinstance(one, SeenImage):
            boxes = [[round(side, 1) for side in box.corners] for box in one.boxes]
            samples.append({"size": list(one.image.shape[1:]), "truth": ", ".join(one.truth.values()), "boxes": boxes})
        else:
            samples.append({"given": one.given, "right": one.right})
    pixels = [image.permute(1, 2, 0).mul(255).round().to(torch.uint8).contiguous() for image in images]
    return samples, b"".join(image.numpy().tobytes() for image in pixels)


def _said(one: Seen) -> dict[str, Any]:
    """Return what a model says of a sample."""
    if not isinstance(one, SeenImage):
        return {"says": one.answer}
    says = ", ".join(f"{name} {sure:.2f}".replace(" 0.", " .") for name, sure in one.answers.values())
    judged = [one.truth[task] == name for task, (name, _) in one.answers.items() if task in one.truth]
    boxes = [
        [*(round(min(max(side, 0.0), one.image.shape[2 - k % 2]), 1) for k, side in enumerate(box.corners)),
         f"{box.name} {box.score:.1f}".replace(" 0.", " .")]
        for box in one.found
    ]  # fmt: skip
    return {"says": says, "right": all(judged) if judged else None, "boxes": boxes}
