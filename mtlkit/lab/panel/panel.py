"""Three lines in anybody's training loop, and its losses are steered by hand while the cell runs."""

import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from IPython.core.getipython import get_ipython
from IPython.display import display
from torch import Tensor
from tqdm import tqdm

from mtlkit import plots
from mtlkit.lab.front import Shown
from mtlkit.lab.panel.loop import TOTALS, OwnLoop
from mtlkit.lab.steering.link import Link, View
from mtlkit.lab.steering.records import LabRecord, Run, load_runs, save_runs
from mtlkit.weighting.checks import check_losses
from mtlkit.weighting.graph import Shared

FRAME = 0.25  # s between two frames: a loop that is not ours is to be slowed as little as can be
MOST_RUNS, PATIENCE, SOMETIMES = 4, 3.0, 2.0  # s without a view, until a line says how far it is; s between two of them


class LossPanel(Shown):
    """Sliders, curves and a dial for a training loop of one's own, shown above the cell that runs.

        panel = LossPanel(["depth", "segment"])
        for batch in loader:
            losses = {"depth": ..., "segment": ...}
            panel.total(losses).backward()

    Making it shows it. Where there is no front end, a line says how far the loop is. A panel that is made under the
    name of another takes that one's place, and shows its run as one to compare with.

    Args:
        tasks: their names.
        name: running a cell again replaces the panel of this name.
        weights: task → weight at first; 1 if not named.
        method: how the losses become one update: a name in `mtlkit.weighting.METHODS`.
        dial_every: steps between two measurements of the gradients' angles and lengths, at one more backward pass a
            task; 0 is never, and if not given their cost stays below half a percent.
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
        method: str = "StaticWeights",
        dial_every: int | None = None,
        replay: Mapping[int, Mapping[str, Any]] | Run | str | Path | None = None,
    ) -> None:
        tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        if not tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"the tasks are {tasks}: expected one name or more, each once")
        before = self._by_name.get(name)
        if before is not None and before.loop.replays_next and replay is None:
            replay = before.runs[-1]
        run = load_runs(replay)[-1] if isinstance(replay, str | Path) else replay
        if isinstance(run, Run):
            weights, method = weights or run.settings["weights"], run.settings["method"]
        script = run.schedule if isinstance(run, Run) else run or {}
        earlier = (
            [one for one in before.runs if one.records and list(one.settings["weights"]) == tasks] if before else []
        )
        self.loop: OwnLoop = OwnLoop(tasks, weights or {}, method, dial_every, script, earlier[-(MOST_RUNS - 1) :])
        if before is not None:
            before.close()
        self.name, self.widget = name, View()
        self._link = Link(self.loop, self.widget, frame=FRAME)
        self._by_name[name] = self
        self._bar: Any = None
        self._began = self._said_at = time.monotonic()
        self._drawn = -1  # steps done when the picture was drawn
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._shell = shell if hasattr(shell := get_ipython(), "kernel") else None
        self._picture: Any = None
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._cell_is_done)
            self._ipython_display_()

    # in the loop

    def total(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """Return the loss `[]` to minimise: the sum of all losses, each times its weight. One call is one step.

        Args:
            losses: task → loss `[]`, or a list in the order of the tasks. Leave out a task without a target.

        Raises:
            ValueError: if a task is unknown, there is no loss, or the method needs the gradients too.
            WeightingError: if a loss is not one number with a graph.
        """
        if self.loop.setting.method not in TOTALS:
            raise ValueError(
                f"{self.loop.setting.method} needs more than the losses: call panel.backward(losses, model) in place "
                "of panel.total(losses).backward()"
            )
        named = self._begin(losses, "total")
        self.loop.measure(named)
        total = self.loop.weighting.weighted(named)
        self._end(named)
        return total

    def backward(self, losses: Mapping[str, Tensor] | Sequence[Tensor], model: Any, shared: Shared = None) -> None:
        """Add the gradient of all losses to `.grad`, by any method. One call is one step.

        Args:
            losses: as in `total`.
            model: whose parameters get it.
            shared: the parameters that the tasks share, or the module that holds them; if not given, those that more
                than one loss reaches.

        Raises:
            ValueError: if a task is unknown or there is no loss.
            WeightingError: if a loss is not a finite number with a graph, or the method cannot be solved.
        """
        named = self._begin(losses, "backward")
        self.loop.measure(named, model, shared)
        self.loop.weighting.backward(named, model, shared=shared)
        self._end(named)

    def observe(self, losses: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        """Show the losses of the same batch again after the optimiser's step: FAMO wants that, others do not mind."""
        self.loop.shows = (self.loop.shows[0], True)
        if self.loop.weighting.second_look:
            self.loop.weighting.observe(self.loop.losses_of(losses))

    def score(self, scores: Mapping[str, float] | None = None, **more: float) -> None:
        """Take note of scores, e.g. `panel.score(accuracy=0.8, miou=0.4)`; a trail shows where they go."""
        self.loop.score({**(scores or {}), **more})

    def _begin(self, losses: Mapping[str, Tensor] | Sequence[Tensor], by: str) -> dict[str, Tensor]:
        named = self.loop.losses_of(losses)
        if not named:
            raise ValueError("there is no loss: no task has a target in this batch; go on to the next one")
        check_losses(named)
        if self.loop.shows[0] != by:
            self.loop.shows = (by, self.loop.shows[1])
        self.loop.begin()
        return named

    def _end(self, losses: Mapping[str, Tensor]) -> None:
        self.loop.end(losses)
        now = time.monotonic()
        if self._link.is_present():
            self._end_of_line()
        elif self._shell is None or now - self._began > PATIENCE:
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
            if self._shell is not None:  # perhaps somebody sees what is sent and cannot answer while a cell runs
                self._link.send_all()

    def _end_of_line(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def run(self, function: Callable[[], Any]) -> "LossPanel":
        """Run a loop in a thread, for front ends that hand nothing to a cell that runs; `wait` ends with it.

        Raises:
            RuntimeError: if one is running already.
        """
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError("a loop is running already: wait for it, or make another panel")

        def looped() -> None:
            try:
                function()
            except BaseException as error:
                self._failure = error
                self.loop.error = f"{type(error).__name__}: {error}"
            self._finish()

        self._failure = self.loop.error = None
        self._thread = threading.Thread(target=looped, name="mtlkit-panel", daemon=True)
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the loop of `run` has ended; raises what ended it.

        Raises:
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        if self._thread is None:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the loop still runs after {timeout:g} s")
        if self._failure is not None:
            raise self._failure

    # what is set, and what happened

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return self.loop.weights

    def set(self, **changes: Any) -> None:
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
        """Return the line that makes a panel which changes again what was changed in this run."""
        self.loop.flush()
        return str(self.loop.do("code"))

    def picture(self) -> plots.Picture:
        """Return what is seen now as a static picture."""
        records = self.records
        names = list(records[-1].scores)[:2] if records else []
        return plots.steered(records, self.loop.run_now.changes(), (), names)

    still = picture

    def __repr__(self) -> str:
        return f"LossPanel {self.name!r}: {self.loop.steps_done} steps"

    # life

    def _ipython_display_(self) -> None:
        self._picture = display(self.picture(), display_id=True)
        self.show_widget()
        self._shown[self.name] = self

    def _cell_is_done(self, _: Any = None) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._finish()

    def _finish(self) -> None:
        """Send the last steps, and let the picture that stays show them."""
        self._end_of_line()
        if self.loop.steps_done == self._drawn:
            return
        self._drawn = self.loop.steps_done
        self._link.send_frame()
        if self._picture is not None:
            self._picture.update(self.picture())

    def close(self) -> None:
        """Let go of the widget; the loop, if it goes on, is no longer steered."""
        self.loop.closed = True
        self._end_of_line()
        self._shown.pop(self.name, None)
        if self._shell is not None:
            with contextlib.suppress(ValueError):
                self._shell.events.unregister("post_run_cell", self._cell_is_done)
        self.widget.close()
