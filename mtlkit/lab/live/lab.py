"""The live lab: change the loss weights while the model trains, and see it bend."""

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mtlkit import plots
from mtlkit.cases import Case
from mtlkit.lab.live.link import LOOKS, Link, View, plane_of
from mtlkit.lab.live.records import LabRecord, Run
from mtlkit.lab.live.session import Session

WARM_UP = 30  # steps before the lab is first shown, so that there is something to see without a front end too


class LossWeightingLab:
    """Train a case while weights, method, learning rate and data are changed.

    Show it in a notebook to steer by hand. Without a front end, or in a script, `run` trains under a schedule. What
    the learner sets goes into `records`. A lab that is made under the name of another closes that one.

    Args:
        name: running a cell again replaces the lab of this name.
        case: what is trained: a case, or how `mtlkit.cases.find_case` finds it.
        start: train as soon as the lab is seen.
        ask: a sentence above it.
        in_sight: after *Run All* JupyterLab is at the end of the page: come back to the lab, until the reader acts.
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
        if name in self._by_name:
            self._by_name[name].close()
        self.name, self.session, self.widget = name, Session(case, **settings), View()
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
        self._link.wants_to_run = True
        if self._link.is_present():
            self.session.start()

    def pause(self) -> None:
        """Stop after the present step."""
        self._link.wants_to_run = False
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
        self._link.wants_to_run = False
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
        session = self.session
        with session.lock:
            seen = session.samples(session.setup.model, **LOOKS)
        return plots.steered(self.records, session.run_now.changes(), seen, plane_of(session))

    def __repr__(self) -> str:
        return f"LossWeightingLab {self.name!r}: {len(self.records)} records"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.records and not self.session.error:
            self.session.run(WARM_UP)
        self._shown[self.name] = self
        data, metadata = self.picture()._repr_mimebundle_()
        view: Any = self.widget._repr_mimebundle_(**options)
        return (view[0] if isinstance(view, tuple) else view) | data, metadata


def _end(session: Session, widget: View) -> None:
    session.close()
    widget.close()
