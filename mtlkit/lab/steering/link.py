"""Between a run that is steered and its views: frames to the browser, and what the learner does back to the kernel."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget

from mtlkit.cases.seen import Seen
from mtlkit.lab.front import script, style
from mtlkit.lab.steering import packing
from mtlkit.lab.steering.records import LabRecord, plain
from mtlkit.lab.steering.steered import Steered

FRAME, LOOK, URGENT = 0.09, 0.42, 0.02  # seconds between two frames; at least, between looks at the samples, answers
AWAY, WINDOW = 10.0, 20  # seconds without a heartbeat, frames sent but not seen, after which nothing more is done
LOOKS = {"score_threshold": 0.3, "iou_threshold": 0.4, "most": 8}  # which boxes are shown
SHARE = 0.05  # of the time, at most, for looks at the samples


class View(anywidget.AnyWidget):
    """What the browser sees: everything travels in messages, so that nothing of it is saved in a notebook."""

    _esm, _css = (
        script(*(f"steering/{name}" for name in ("curves", "pulls", "controls", "why", "live"))),
        style("steering/live"),
    )

    def __repr__(self) -> str:
        return "live lab"


class Link:
    """Carries frames from a run to its views, and what the learner does back.

    A view says each second that it is there and which frame it saw last. Without a view a lab waits; a view that does
    not keep up gets no frames until it does. A view that has missed a frame asks for everything. What a learner sets
    is acknowledged at once, so that a view has one such message under way at a time, and answered by the first frame
    whose step used it.

    Args:
        session: what is steered.
        view: its views in the browser.
        ask: a sentence above it.
        in_sight: come back to it after *Run All*.
        frame: seconds between two frames that answer nothing.
    """

    def __init__(
        self, session: Steered, view: View, ask: str = "", in_sight: bool = False, frame: float = FRAME
    ) -> None:
        self.session, self.view, self.ask, self.in_sight = session, view, ask, in_sight
        self.last_beat, self.frame = -AWAY, frame
        self._sending = threading.RLock()
        self._pending: list[LabRecord] = []
        self._pending_other: list[LabRecord] = []
        self._sent_at = self._due = self._looked_at = self._speed_at = self._look_costs = 0.0
        self._number = self._seen = 0
        self._speed, self._speed_step = 0.0, 0
        self._answered, self._used_at = session.used.stamp, 0.0
        self._shows: Any = None  # which samples, of which run
        self._truth: Sequence[Seen] = ()
        self._told: tuple[Any, ...] = ()  # measured values that the views have
        self._marks = 0  # changes that they know of
        session.after_step, session.after_error, session.may_run = self.stepped, self.send_frame, self.is_present
        view.on_msg(self.receive)
        if hasattr(view.comm, "_reply_subshell_for"):  # no public way: else a slider waits while a cell computes
            view.comm._reply_subshell_for = lambda data, default: default

    def is_present(self) -> bool:
        """Whether a view was heard of lately."""
        return time.monotonic() - self.last_beat < AWAY

    # from the kernel to the browser

    def stepped(self, record: LabRecord | None = None) -> None:
        """Send a frame if it is time, or at once if this step was the first with what the learner set."""
        now = time.monotonic()
        if record is not None and not self.is_present():
            self._shows = None  # whoever comes needs everything
            return
        if record is not None:
            with self._sending:
                self._pending.append(record)
                if (other := self.session.other_run) is not None and other.last is not None:
                    self._pending_other.append(other.last)
        answers = self.session.used.stamp != self._answered
        if answers and not self._used_at:
            self._used_at = 1000 * time.time()
        if now >= self._due or (answers and now - self._sent_at >= URGENT):
            self._due = max(self._due + self.frame, now + self.frame / 2)  # the same mean rate for steps of any length
            self.send_frame(look=not answers)  # an answer does not wait for a look

    def send_frame(self, look: bool = False) -> None:
        """Send what is new since the last frame; everything, if that was of another run or of other samples.

        Args:
            look: with what the model says now of the samples, if it is time; never while another thread trains it.
        """
        if self._shows != self.session.shows:
            self.send_all()
            return
        with self._sending:
            if self._number - self._seen > WINDOW:
                return
            now = time.monotonic()
            self._pending += self.session.take()
            rows, other = (packing.rows(some, self.session.tasks) for some in (self._pending, self._pending_other))
            says = {}
            if look and self._pending and now - self._looked_at >= max(LOOK, self._look_costs / SHARE):
                says = {"look": self._look()}
            self._pending, self._pending_other = [], []
            self._send({"t": "frame", **self._status(), **says}, [rows, other])

    def send_all(self) -> None:
        """Send everything a view that knows nothing must know."""
        session = self.session
        with session.lock, self._sending:
            if self._shows != session.shows:
                self._truth, self._shows = session.samples(), session.shows
            session.take()
            run, other = session.run_now, session.other_run
            self._pending, self._pending_other, self._told, self._marks = [], [], (), 0
            self._seen = self._number + 1
            samples, images = packing.packed(self._truth)
            content = {
                "t": "all",
                "ask": self.ask,
                "inSight": self.in_sight,
                **session.describe(),
                "tasks": list(session.tasks),
                "samples": samples,
                "trail": packing.trail(run),
                "otherTrail": packing.trail(other) if other else [],
                "earlier": [packing.outline(one, session.tasks) for one in session.earlier],
                **self._status(),
                "look": self._look(),
            }
            self.in_sight = False  # a reload must not move the page
            rows = [packing.rows(packing.thinned(one.records), session.tasks) if one else b"" for one in (run, other)]
            self._send(content, [*rows, images])

    def _send(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self._number += 1
        self._sent_at, self._used_at, self._answered = time.monotonic(), 0.0, self.session.used.stamp
        self.view.send(plain({"n": self._number, **content}), buffers)

    def _status(self) -> dict[str, Any]:
        """Return what is so now; what is measured now and then, only if the views do not have it."""
        session, setting = self.session, self.session.setting
        now, step = time.monotonic(), session.steps_done
        if step < self._speed_step or now - self._speed_at > 1:
            self._speed = max(step - self._speed_step, 0) / (now - self._speed_at)
            self._speed_at, self._speed_step = now, step
        content = {
            "running": session.wanted and not session.error and not session.over,
            "heard": self.is_present(),
            "error": session.error or "",
            "step": step,
            "speed": round(self._speed, 2),
            "stamp": session.used.stamp if session.running else setting.stamp,
            "used": self._used_at,
            "forked": (other := session.other_run) is not None,
            **setting.values(),
            **session.state(),
        }
        if len(changes := session.run_now.changes()) > self._marks:
            content["changes"], self._marks = changes[self._marks :], len(changes)
        if other is not None and other.last is not None and other.last.scores:
            content["otherScores"] = [other.last.step, other.last.scores]
        if (last := session.run_now.last) is not None:
            told = last.norms, last.cosines, last.scores, last.gains or (self._told[3] if self._told else {})
            if any(new is not old for new, old in zip(told, self._told or (None,) * 4, strict=True)):
                self._told = told
                content |= {
                    "cosine": last.cosine,
                    "cosines": last.cosines,
                    "norms": {task: round(norm, 5) for task, norm in last.norms.items()},
                    "scores": {name: round(score, 4) for name, score in last.scores.items()},
                    "scoredAt": session.scored_at,
                    "gains": told[3],
                }
        return content

    def _look(self) -> list[dict[str, Any]]:
        started = time.monotonic()
        seen = self.session.look(**LOOKS)
        self._looked_at = time.monotonic()
        self._look_costs = self._looked_at - started
        return [packing.said(one) for one in seen]

    # from the browser to the kernel

    def receive(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        """Do what a view asks for; say in the view what was wrong with it."""
        session = self.session
        if session.closed:
            return
        kind, self.last_beat = content.get("t"), time.monotonic()
        self._seen = max(self._seen, min(int(content.get("seen", 0)), self._number))
        stamp = tuple(content.get("stamp", ()))
        try:
            if kind == "set":
                session.change(content["changes"], (str(stamp[0]), int(stamp[1])))
                self.view.send({"t": "got", "stamp": stamp})
                if not session.running:  # no step will answer
                    self.send_frame()
            elif kind == "do":
                self._do(content)
            elif kind == "hello":
                self.send_all()
            else:
                self._beat()
        except Exception as error:  # the view is the only place where it can be read
            self.view.send({"t": "refused", "why": str(error), "stamp": stamp})
        if session.wanted and not session.running and not session.error:
            session.start()

    def _beat(self) -> None:
        """Answer a heartbeat where the training does not: a view then knows that the kernel is there."""
        if self._number - self._seen > WINDOW:  # no more frames are sent before this one is seen
            self.send_all()
        elif time.monotonic() - self._sent_at > 0.9:
            self.send_frame()

    def _do(self, content: Mapping[str, Any]) -> None:
        more = {name: value for name, value in content.items() if name not in ("t", "seen", "what", "stamp")}
        answer = self.session.do(content["what"], **more)
        if answer is not None:
            self.view.send({"t": "answer", "what": content["what"], "answer": answer})
        elif content["what"] in ("start", "gains", "guess"):
            self.send_frame()
        else:
            self.send_all()
