"""Somebody's own training loop, as a `Link` steers it: it asks for the total of its losses, and that is a step."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtlkit.cases.seen import Seen
from mtlkit.lab.steering.code import panel_code
from mtlkit.lab.steering.controls import Controls, Setting
from mtlkit.lab.steering.pull import Pull
from mtlkit.lab.steering.records import MOST_RECORDS, LabRecord, Run
from mtlkit.lab.steering.weighting import SteeredWeighting
from mtlkit.training.records import Block
from mtlkit.weighting import METHODS, NotFiniteError, Weighting, conflict
from mtlkit.weighting.checks import check_losses
from mtlkit.weighting.graph import Shared, reached, shared_parameters
from mtlkit.weighting.rows import task_gradients

SHARE = 0.005  # of the loop's time, at most, for the dial, if nothing else is asked for
MANY = 256  # steps that may wait to be read
TOTALS = [
    name
    for name, method in METHODS.items()
    if method.total is not Weighting.total
    and method.before_backward is Weighting.before_backward
    and method.backward is Weighting.backward
    and not method.second_look
]  # methods whose weights follow from the losses alone


class OwnLoop(Controls):
    """What a learner steers, and what happened, in a loop that is not ours.

    Args:
        tasks: their names.
        weights: task → weight; 1 if not named.
        method: name of a weighting method.
        dial_every: steps between two measurements of the gradients, 0 for never; `None` keeps their cost below half a
            percent.
        script: steps done → what is changed then.
        earlier: runs to compare with.
    """

    closed = False

    def __init__(
        self,
        tasks: Sequence[str],
        weights: Mapping[str, float],
        method: str,
        dial_every: int | None,
        script: Mapping[int, Mapping[str, Any]],
        earlier: Sequence[Run],
    ) -> None:
        super().__init__(Setting(dict.fromkeys(tasks, 1.0)).changed({"weights": weights, "method": method}))
        last = self.setting
        for done, changes in sorted(script.items()):
            if isinstance(done, bool) or not isinstance(done, int) or done < 0:
                raise ValueError(f"a change is planned after {done!r} steps: expected a whole number, 0 or more")
            last = last.changed(changes)
        self.script, self.earlier, self.dial_every = dict(script), list(earlier), dial_every
        self.lock, self.wanted = threading.RLock(), True
        self.error: str | None = None
        self.after_step: Callable[[], None] = lambda: None
        self.after_error: Callable[[], None] = lambda: None
        self.may_run: Callable[[], bool] = lambda: True
        self.used = self.setting
        self.weighting = SteeredWeighting(self._weights_now, METHODS[method]())
        self.run_now, self.steps_done, self.scored_at = Run(self.setting.values()), 0, 0
        self.replays_next, self.shows = False, ("total", False)  # by what it is asked, and whether it sees losses again
        self._go_on, self._once = threading.Event(), False
        self._go_on.set()
        self._began: float | None = None
        self._recording = threading.Lock()  # of what is pending; nothing else is waited for while it is held
        self.over = False  # whether the loop has ended, as far as that is known
        self._paused_for = 0.0
        self._pending: deque[tuple[Any, ...]] = deque()
        self._block, self._untold = Block(), deque[LabRecord](maxlen=MOST_RECORDS)
        self._pull = Pull()
        self._scores: dict[str, float] = {}
        self._dial_due = 0.0
        self._warned = ""

    @property
    def other_run(self) -> Run | None:
        """Nothing: a loop that is not ours cannot be forked."""
        return None

    def _weights_now(self) -> dict[str, float]:
        return dict(self.used.weights)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.setting.weights)

    @property
    def running(self) -> bool:
        """Whether steps are being done, as far as it can be seen from here."""
        return self.wanted and self._began is not None

    # a step

    def named(self, losses: Any) -> dict[str, Tensor]:
        """Return task → loss, in the order of the tasks.

        Raises:
            ValueError: if a task is unknown, or a list has not one loss a task.
        """
        if isinstance(losses, Tensor):
            losses = [losses] if losses.ndim == 0 else list(losses)
        if not isinstance(losses, Mapping | Sequence):
            raise ValueError(f"the losses are {losses!r}: expected task → loss, or a list in the order of the tasks")
        if not isinstance(losses, Mapping):
            if len(losses) != len(self.tasks):
                raise ValueError(f"there are {len(losses)} losses: expected one for each of {', '.join(self.tasks)}")
            losses = dict(zip(self.tasks, losses, strict=True))
        if unknown := [name for name in losses if name not in self.setting.weights]:
            raise ValueError(f"there is a loss for {unknown[0]!r}; this panel's tasks are {', '.join(self.tasks)}")
        return {task: losses[task] for task in self.tasks if task in losses}

    def losses_of(self, losses: Any) -> dict[str, Tensor]:
        """Return task → loss, checked.

        Raises:
            ValueError: if a task is unknown, there is no loss, or a list has not one loss a task.
            WeightingError: if a loss is not one number with a graph.
        """
        losses = self.named(losses)
        if not losses:
            raise ValueError("there is no loss: no task has a target in this batch; skip it")
        check_losses(losses)
        return losses

    def begin(self) -> None:
        """Wait while it is paused, and take over what is set now."""
        self.over = False
        if not self._go_on.is_set():
            paused = time.perf_counter()
            while not self._go_on.wait(0.05) and not self.closed:
                if self._once:
                    self._once = False
                    break
            self._paused_for += time.perf_counter() - paused
        if self._began is None:
            self._began = time.perf_counter()
        if changes := self.script.pop(self.steps_done, None):
            self.change(changes)
        setting = self.setting
        if setting.method != self.used.method:
            self.weighting.method = METHODS[setting.method]()
        if setting is not self.used:
            if changed := setting.differences(self.used):
                if self.steps_done:
                    self.run_now.schedule[self.steps_done] = changed
                else:
                    self.run_now.settings = setting.values()
            self.used = setting

    def end(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of a step; its losses are read later, many at once."""
        self.steps_done += 1
        seconds = time.perf_counter() - self._began - self._paused_for  # type: ignore[operator]
        numbers = [loss.detach() for loss in losses.values()]
        stacked = torch.stack([number if number.device.type == "mps" else number.double() for number in numbers])
        with self._recording:
            if self._block.full:
                self._block = Block()
            place, state = self._block.add(stacked), (self._pull, self._scores)
            self._pending.append((self.steps_done, seconds, self.used, tuple(losses), self._block, place, state))
        if len(self._pending) > MANY:
            self.flush()
        try:
            self.after_step()
        except Exception as error:  # what only serves the views must not end the loop
            self._warned = f"The panel could not be drawn: {type(error).__name__}: {error}"

    def fall_back(self, error: Exception) -> bool:
        """Take static weights again if a method that was chosen in a view cannot go on; return whether that helps."""
        if self.used.method == "StaticWeights" or not self.setting.stamp[0]:
            return False
        self._warned = f"{self.used.method} cannot go on ({error}); static weights took over."
        self.change({"method": "StaticWeights"})
        return True

    def take(self) -> list[LabRecord]:
        """Return the records that were not taken yet. Waits for the device."""
        self.flush()
        with self._recording:
            taken = list(self._untold)
            self._untold.clear()
        return taken

    def flush(self) -> None:
        """Turn what is pending into records. Waits for the device."""
        with self._recording:
            while self._pending:
                step, seconds, used, tasks, block, place, (pull, scores) = self._pending.popleft()
                losses = dict(zip(tasks, block.read(place), strict=True))
                weights = dict(used.weights)
                self._untold.append(
                    LabRecord(
                        *(step, seconds, used.method, None, weights, losses),
                        *(pull.cosine, pull.norms, scores, pull.cosines),
                    )
                )
                self.run_now.add(self._untold[-1])
                if not self._warned and (strange := [task for task, loss in losses.items() if loss - loss != 0]):
                    self._warned = f"The loss of {strange[0]!r} was {losses[strange[0]]} at step {step}."

    def measure(self, losses: Mapping[str, Tensor], model: Any = None, shared: Shared = None) -> None:
        """Measure angles and lengths of the tasks' gradients, if it is time; the graph stays."""
        now = time.perf_counter()
        due = now >= self._dial_due if self.dial_every is None else self.steps_done % max(self.dial_every, 1) == 0
        if self.dial_every == 0 or not due:
            return
        tasks = tuple(losses)
        parameters = shared_parameters(model or _Reached(losses), losses, shared)
        if parameters and torch.is_grad_enabled():
            try:
                found = conflict(task_gradients([losses], parameters, keep_graph=True).jacobian)
            except NotFiniteError:  # another step will do
                return
            except Exception as error:  # any autograd function may refuse, e.g. one that recomputes
                self.dial_every, self._warned = 0, f"The gradients cannot be measured here: {error}"
                return
            self._pull = self._pull.after(tasks, found)
        self._dial_due = time.perf_counter() + (time.perf_counter() - now) / SHARE

    def score(self, scores: Mapping[str, float]) -> None:
        """Take note of scores, as they are after the last step."""
        self._scores, self.scored_at = self._scores | {name: float(v) for name, v in scores.items()}, self.steps_done
        self.flush()
        if self.run_now.last is not None:
            self.run_now.amend(replace(self.run_now.last, scores=self._scores))

    # for its views

    def start(self) -> None:
        """Nothing to do: the loop runs by itself."""

    def do(self, what: str, **more: Any) -> Any:
        """Do what a button says; return what the view is to be told, if anything."""
        if what in ("start", "pause", "step"):
            self.wanted = what == "start"
            self._once = what == "step"
            (self._go_on.set if self.wanted else self._go_on.clear)()
        elif what == "replay":
            self.replays_next = not self.replays_next
        elif what == "code":
            return panel_code(self.run_now)
        elif what != "gains":
            raise ValueError(f"the panel does not know the action {what!r}")
        return None

    def describe(self) -> dict[str, Any]:
        """Return what a view must know that does not change while it runs."""
        methods = [
            name
            for name, method in METHODS.items()
            if name != "EqualWeights"
            and (name in TOTALS if self.shows[0] == "total" else self.shows[1] or not method.second_look)
            and getattr(method(), "at", "parameters") == "parameters"  # the features of a model that is not ours
        ]
        waits = "This front end sends nothing to a running cell: put the loop into a function for panel.run(function)."
        return {
            "buttons": ["start", "step", "replay"],
            "goOn": "▶ Continue",
            "waits": waits,
            "titles": {
                "start": "pause the loop, or let it continue",
                "step": "let the loop do one step, then pause it",
                "replay": "repeat your changes the next time this cell runs; press again to cancel",
            },
            "mend": "",
            "methods": methods,
            "knobs": [],
            "scoreNames": list(self._scores),
            "ahead": 0,
        }

    def state(self) -> dict[str, Any]:
        """Return what else a frame says."""
        replays = "The next time this cell runs, your changes are repeated." if self.replays_next else ""
        return {"note": replays or self._warned, "guesses": []}

    def samples(self) -> Sequence[Seen]:
        """Return nothing: of somebody's data nothing is known."""
        return ()

    def look(self, **looks: Any) -> Sequence[Seen]:
        """Return nothing."""
        return ()


class _Reached:
    """Stands for a model of which only the losses are known."""

    def __init__(self, losses: Mapping[str, Tensor]) -> None:
        self.losses = losses

    def parameters(self) -> list[Tensor]:
        """Return all that any loss reaches and that is trained."""
        return list(dict.fromkeys(tensor for loss in self.losses.values() for tensor in reached(loss)))
