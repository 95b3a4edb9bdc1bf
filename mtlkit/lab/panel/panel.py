"""Three lines in anybody's training loop, and its losses are steered by hand while the cell runs."""

import contextlib
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from IPython.core.getipython import get_ipython
from torch import Tensor, nn
from tqdm import tqdm

from mtlkit import plots
from mtlkit.lab.front import Shown
from mtlkit.lab.panel.loop import TOTALS, OwnLoop
from mtlkit.lab.panel.thread import LoopThread, go_on_or_end
from mtlkit.lab.steering.link import Link, View
from mtlkit.lab.steering.records import LabRecord, Run, load_runs, save_runs
from mtlkit.plots.style import Kept
from mtlkit.weighting import WeightingError
from mtlkit.weighting.graph import Shared

FRAME = 0.25  # s between two frames: a loop that is not ours is to be slowed as little as can be
MOST_RUNS, PATIENCE, SOMETIMES = 4, 3.0, 2.0  # s without a view, until a line says how far it is; s between two of them


class LossPanel(Shown):
    """Sliders, curves and a dial for your own training loop, shown above the running cell.

        panel = LossPanel(["depth", "segment"])
        for batch in loader:
            losses = {"depth": ..., "segment": ...}
            panel.total(losses).backward()

    Making it shows it. Where there is no front end, a line says how far the loop is. A new panel with the name of an
    earlier one replaces it, and shows the earlier run for comparison.

    Args:
        tasks: their names.
        name: running a cell again replaces the panel of this name.
        weights: task → weight at first; 1 if not named.
        method: how the losses become one update: a name in `mtlkit.weighting.METHODS`.
        dial_every: steps between two measurements of the gradients' angles and lengths. Each costs one more backward
            pass per task, which also runs hooks and recomputes activations. 0 is never; by default they cost less
            than half a percent.
        replay: what is changed at which step: steps done → changes, or a run, or a file that `save` wrote.

    Raises:
        ValueError: if there is no task, two have one name, or something to be set is unknown or out of range.
    """

    _by_name: ClassVar["weakref.WeakValueDictionary[str, LossPanel]"] = weakref.WeakValueDictionary()
    _shown: ClassVar[dict[str, "LossPanel"]] = {}  # on the screen it lives on, even without a variable

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        name: str = "panel",
        weights: Mapping[str, float] | None = None,
        method: str | None = None,
        dial_every: int | None = None,
        replay: Mapping[int, Mapping[str, Any]] | Run | str | Path | None = None,
    ) -> None:
        tasks = _checked(tasks)
        if dial_every is not None and dial_every < 0:
            raise ValueError(f"dial_every is {dial_every}: expected a number of steps, or 0 for never")
        before = self._by_name.get(name)
        same = before is not None and list(before.loop.tasks) == tasks
        if before is not None and same and before.loop.replays_next and replay is None:
            replay = before.runs[-1]
        run, script = _replayed(replay)
        if run is not None:
            weights, method = weights or run.settings["weights"], method or run.settings["method"]
        earlier = [one for one in before.runs if one.records] if before is not None and same else []
        self.loop: OwnLoop = OwnLoop(
            tasks, weights or {}, method or "StaticWeights", dial_every, script, earlier[-(MOST_RUNS - 1) :]
        )
        if before is not None:
            before.close()
        self.name, self.widget = name, View()
        self._link = Link(self.loop, self.widget, frame=FRAME)
        self._by_name[name] = self
        self._bar: Any = None
        self._began = self._said_at = time.monotonic()
        self._drawn = -1  # steps done when the picture was drawn
        self._thread: LoopThread | None = None
        self._shell: Any = get_ipython()
        self._in_kernel = hasattr(self._shell, "kernel")
        self._picture: Kept | None = None
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._cell_is_done)
        if self._in_kernel:
            self._ipython_display_()

    # in the loop

    def total(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """Return the loss `[]` to minimise: the sum of all losses, each times its weight. One call is one step.

        Under `torch.no_grad` it returns the sum with the learner's weights, and is no step.

        Args:
            losses: task → loss `[]`, or a list in the order of the tasks. Leave out a task without a target.

        Raises:
            ValueError: if a task is unknown, there is no loss, or the method needs the gradients too.
            WeightingError: if a loss is not one number with a graph.
        """
        named = self.loop.losses_of(losses)
        if not torch.is_grad_enabled():  # a validation: no step
            return torch.stack([self.weights[task] * loss for task, loss in named.items()]).sum()
        self._begin("total")
        if self.loop.used.method not in TOTALS:
            raise ValueError(
                f"{self.loop.used.method} needs more than the losses: call panel.backward(losses, model) in place "
                "of panel.total(losses).backward()"
            )
        self.loop.measure(named)
        try:
            total = self.loop.weighting.weighted(named)
        except WeightingError as error:
            if not self.loop.fall_back(error):
                raise
            self.loop.begin()
            total = self.loop.weighting.weighted(named)
        self._end(named)
        return total

    def backward(self, losses: Mapping[str, Tensor] | Sequence[Tensor], model: Any, shared: Shared = None) -> None:
        """Add the gradient of all losses to `.grad`, by any method. One call is one step.

        Args:
            losses: as in `total`.
            model: whose parameters get it; or a list of modules.
            shared: the parameters that the tasks share, or the module that holds them; if not given, those that more
                than one loss reaches.

        Raises:
            ValueError: if a task is unknown or there is no loss.
            WeightingError: if a loss is not a finite number with a graph, or the method cannot be solved.
        """
        named = self.loop.losses_of(losses)
        if isinstance(model, list | tuple):
            model = nn.ModuleList(model)
        if not isinstance(model, nn.Module):
            raise ValueError(f"the model is {model!r}: expected a torch.nn.Module, or a list of them")
        self._begin("backward")
        self.loop.measure(named, model, shared)
        before = [(parameter, parameter.grad) for parameter in model.parameters()]
        try:
            self.loop.weighting.backward(named, model, shared=shared)
        except WeightingError as error:
            if not self.loop.fall_back(error):
                raise
            for parameter, gradient in before:  # this step is left out
                parameter.grad = gradient
        self._end(named)

    def observe(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        """Show the losses of the same batch again after the optimiser's step: FAMO needs it; others ignore it."""
        with torch.enable_grad():  # they may be without a graph
            named = {task: loss.detach().requires_grad_() for task, loss in self.loop.named(losses).items()}
            named = self.loop.losses_of(named)
        self.loop.shows = (self.loop.shows[0], True)
        if self.loop.weighting.second_look:
            self.loop.weighting.observe(named)

    def score(self, scores: Mapping[str, float] | None = None, **more: float) -> None:
        """Take note of scores after the last step, e.g. `panel.score(miou=0.4)`; a trail shows where they go."""
        self.loop.score({**(scores or {}), **more})

    def _begin(self, by: str) -> None:
        go_on_or_end()
        if self.loop.closed:
            raise RuntimeError(
                f"this panel is closed: another one with the name {self.name!r} has replaced it; give each its own "
                "name=..."
            )
        self.loop.shows = (by, self.loop.shows[1])
        self.loop.begin()
        go_on_or_end()  # it may have been paused meanwhile

    def _end(self, losses: Mapping[str, Tensor]) -> None:
        self.loop.end(losses)
        now = time.monotonic()
        if self._link.is_present():
            self._end_of_line()
        elif not self._in_kernel or now - self._began > PATIENCE:
            self._say_how_far(now)
        elif self._bar is not None:
            self._bar.update()

    def _say_how_far(self, now: float) -> None:
        if self._bar is None:
            self._bar = tqdm(initial=self.loop.steps_done - 1, unit="step", file=sys.stderr, mininterval=0.5)
        self._bar.update()
        if now - self._said_at > SOMETIMES:
            self._said_at = now
            losses = self.records[-1].losses
            weights = self.loop.used.weights
            words = (f"{task} {loss:.3g} (weight {weights[task]:.2g})" for task, loss in losses.items())
            self._bar.set_postfix_str(", ".join(words), refresh=False)
            if self._in_kernel:  # perhaps somebody sees what is sent and cannot answer while a cell runs
                self._link.send_all()

    def _end_of_line(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def run(self, function: Callable[[], Any]) -> None:
        """Run a loop in a thread, for front ends that send nothing to a running cell; `wait` waits for it.

        The thread begins with PyTorch's usual settings: set autocast, default types and devices in the function.

        Raises:
            RuntimeError: if one is running already.
        """
        if self._thread is not None and self._thread.runs:
            raise RuntimeError("a loop is running already: wait for it, or stop it")
        self.loop.error = None
        self._thread = LoopThread(function, self._has_ended)

    def _has_ended(self, error: BaseException | None) -> None:
        if error is not None:
            self.loop.error = f"{type(error).__name__}: {error}"
        self._finish()

    def stop(self) -> None:
        """End the loop of `run` at its next step."""
        if self._thread is not None and self._thread.runs:
            self._thread.stop()
            self.loop.do("start")  # it may be paused
            with contextlib.suppress(TimeoutError):
                self._thread.join(10)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the loop of `run` has ended; raises what ended it.

        Raises:
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.error is not None:
                raise self._thread.error

    # what is set, and what happened

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return self.loop.weights

    def set(self, /, **changes: Any) -> None:
        """Change what the next step uses: a task's weight, or `method`, as by hand."""
        self.loop.change(changes)

    @property
    def records(self) -> list[LabRecord]:
        """What happened in this run, one record a step (thinned out in long runs)."""
        self.loop.flush()
        return list(self.loop.run_now.records)

    @property
    def runs(self) -> list[Run]:
        """Up to four runs: the earlier ones, then the present one."""
        self.loop.flush()
        return [*self.loop.earlier, self.loop.run_now]

    def save(self, file: str | Path) -> None:
        """Write all runs into one JSON file."""
        save_runs(self.runs, file)

    def code(self) -> str:
        """Return the statement that makes a panel which repeats the changes of this run."""
        self.loop.flush()
        return str(self.loop.do("code"))

    def picture(self) -> plots.Picture:
        """Return what is seen now as a static picture."""
        records = self.records
        names = list(records[-1].scores)[:2] if records else []
        return plots.steered(records, self.loop.run_now.changes(), (), names)

    still = picture

    def __deepcopy__(self, memo: Any) -> "LossPanel":
        return self  # a copy of a model that holds it is steered by the same hand

    def __repr__(self) -> str:
        return f"LossPanel {self.name!r}: {self.loop.steps_done} steps"

    # life

    def _ipython_display_(self) -> None:
        self._picture = Kept(self.picture())
        self.show_widget()
        self._shown[self.name] = self

    def _cell_is_done(self, _: Any = None) -> None:
        if self._thread is None or not self._thread.runs:
            self._finish()

    def _finish(self) -> None:
        """Send the last steps, and let the picture that stays show them."""
        self._end_of_line()
        if self.loop.steps_done == self._drawn:
            return
        self._drawn, self.loop.over = self.loop.steps_done, True
        self._link.send_frame()
        if self._picture is not None:
            self._picture.update(self.picture())

    def close(self) -> None:
        """Let go of the widget, and end the loop of `run`; a further step is refused."""
        self.loop.closed = True
        self._end_of_line()
        self.stop()
        if self._shown.get(self.name) is self:
            del self._shown[self.name]
        if self._shell is not None:
            with contextlib.suppress(ValueError):
                self._shell.events.unregister("post_run_cell", self._cell_is_done)
        self.widget.close()


def _checked(tasks: Sequence[str]) -> list[str]:
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"the tasks are {names}: expected one name or more, each only once")
    return names


def _replayed(replay: Any) -> tuple[Run | None, Mapping[int, Mapping[str, Any]]]:
    """Return the run that is to be replayed, if it is one, and what is to be changed after how many steps."""
    if isinstance(replay, str | Path):
        runs = load_runs(replay)
        if not runs:
            raise ValueError(f"{replay} holds no step that could be replayed")
        replay = runs[-1]
    if isinstance(replay, Run):
        return replay, replay.schedule
    if replay is not None and not isinstance(replay, Mapping):
        raise ValueError(f"replay is {replay!r}: expected steps done → changes, a run, or a file that `save` wrote")
    return None, replay or {}
