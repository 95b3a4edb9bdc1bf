"""The live lab: change the loss weights while the model trains, and see it bend."""

import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mtlkit import plots
from mtlkit.cases import Case
from mtlkit.lab.front import Shown
from mtlkit.lab.live.desk import Desk
from mtlkit.lab.live.session import AHEAD
from mtlkit.lab.steering.link import LOOKS, Link, View
from mtlkit.lab.steering.records import Guess, LabRecord, Run

WARM_UP, PATIENCE = (
    30,
    6.0,
)  # steps, or seconds, before it is first shown: there is then something to see without a view


class LossWeightingLab(Shown):
    """Train a case while weights, method, learning rate and data are changed.

    Show it in a notebook to steer by hand. Without a front end, or in a script, `run` trains under a schedule. What
    the learner sets goes into `records`. A new lab closes an earlier one of the same name.

    Args:
        name: running a cell again replaces the lab of this name.
        case: what is trained: a case, or how `mtlkit.cases.find_case` finds it.
        start: train as soon as the lab is seen.
        ask: a sentence above it.
        in_sight: scroll back to the lab after *Run All*, which ends at the foot of the page, until the reader acts.
        settings: batch_size, seed, weights, rate, method, data, and the case's knobs, e.g. `scenes=500`.
    """

    _by_name: ClassVar["weakref.WeakValueDictionary[str, LossWeightingLab]"] = weakref.WeakValueDictionary()
    _shown: ClassVar[dict[str, "LossWeightingLab"]] = {}  # a lab on the screen lives on, even without a variable

    def __init__(
        self,
        name: str = "lab",
        *,
        case: str | Case = "scenes",
        start: bool = True,
        ask: str = "",
        in_sight: bool = False,
        **settings: Any,
    ) -> None:
        session = Desk(case, **settings)  # if that fails, the other lab lives on
        if name in self._by_name:
            self._by_name[name].close()
        self.name, self.session, self.widget = name, session, View()
        session.wanted = start
        self._link = Link(session, self.widget, ask, in_sight)
        self._by_name[name] = self
        weakref.finalize(self, _end, self.session, self.widget).atexit = False  # then there is nobody left to tell

    @property
    def records(self) -> list[LabRecord]:
        """What happened so far in this run, one record a step (thinned out in long runs)."""
        return list(self.session.run_now.records)

    @property
    def runs(self) -> list[Run]:
        """Up to four runs, the present one last; while it is forked, one more."""
        return self.session.runs

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight; set it to change some."""
        return self.session.weights

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self.session.change({"weights": weights})

    def set(self, /, **changes: Any) -> None:
        """Change what the next step uses: a task's weight, `rate`, `method` or `data`, as by hand."""
        self.session.change(changes)

    def start(self) -> None:
        """Train from now on, as long as a front end shows the lab."""
        self.session.wanted = True
        if self._link.is_present():
            self.session.start()

    def pause(self) -> None:
        """Stop after the present step."""
        self.session.wanted = False
        self.session.pause()

    def step(self) -> LabRecord:
        """Pause, and train for one step."""
        self.pause()
        return self.session.advance(look=True)

    def reset(self, seed: int | None = None) -> None:
        """Start again, with the same seed or another; the run so far stays for comparison."""
        self.session.reset(seed)

    def replay(self, run: Run | None = None) -> None:
        """Start again as `run` started (default: the present one), and repeat its changes at the same steps.

        You see it where the lab is shown; elsewhere call `run` for its steps. The numbers are those of the first time.
        """
        self.session.replay(run)

    def fork(self, /, **changes: Any) -> Run:
        """Continue as two copies on the same batches, of which one gets `changes`: what differs is their effect.

        The lab continues with the changes; the run that is returned keeps the settings from before. Both get a record
        per step until `join`.
        """
        return self.session.fork(changes)

    def join(self) -> None:
        """End the fork: the changed run goes on alone, the other one stays for comparison."""
        self.session.join()

    def guess(self, scores: Mapping[str, float], steps: int = AHEAD) -> Guess:
        """Predict the scores after `steps` more steps; later, `off` tells how far off the guess was."""
        return self.session.guess(scores, steps)

    @property
    def guesses(self) -> list[Guess]:
        """The guesses of this run."""
        return list(self.session.guesses)

    def code(self) -> str:
        """Return a cell that repeats this run, to the last digit."""
        return self.session.code()

    def run(self, steps: int, schedule: Mapping[int, Mapping[str, Any]] | None = None) -> "LossWeightingLab":
        """Train under a schedule, here and now: see `Session.run`. The same seed gives the same numbers."""
        self.session.wanted = False
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

    def still(self) -> plots.Picture:
        """Return what is seen now as a static picture."""
        session = self.session
        if not self.records and not session.error:
            until = time.monotonic() + PATIENCE
            while len(self.records) < WARM_UP and time.monotonic() < until:
                session.run(1)
        with session.lock:
            return plots.steered(
                self.records, session.run_now.changes(), session.look(**LOOKS), session.score_names[:2]
            )

    picture = still

    def __repr__(self) -> str:
        return f"LossWeightingLab {self.name!r}: {len(self.records)} records"

    def _ipython_display_(self) -> None:
        super()._ipython_display_()
        self._shown[self.name] = self


def _end(session: Desk, widget: View) -> None:
    session.close()
    widget.close()
