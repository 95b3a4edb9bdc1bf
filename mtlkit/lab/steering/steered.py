"""What can be steered from the browser: a lab's own run, or somebody's own loop."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mtlkit.cases.seen import Seen
from mtlkit.lab.steering.controls import Setting
from mtlkit.lab.steering.records import LabRecord, Run


class Steered(Protocol):
    """What `Link` asks of a run.

    Attributes:
        lock: held during a step.
        setting: what is set.
        used: what the last step used.
        tasks: their names.
        run_now: the present run.
        other_run: while it is forked, the copy that keeps what was set then.
        earlier: runs to compare with.
        steps_done: of the present run.
        scored_at: after which step the last scores were measured.
        shows: another value where the samples, or the whole run, are others.
        wanted: whether it is to go on.
        running: whether steps are being done.
        error: what stopped it, in words.
        closed: whether it is closed for good.
        over: whether there will be no further step, as far as that is known.
        after_step: called after each step, with its record where it is known at once.
        after_error: called when an error has ended it.
        may_run: asked before each step.
    """

    lock: Any
    setting: Setting
    earlier: list[Run]
    wanted: bool
    error: str | None
    closed: bool
    over: bool
    after_step: Any
    after_error: Any
    may_run: Any

    @property
    def used(self) -> Setting: ...  # noqa: D102
    @property
    def tasks(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def run_now(self) -> Run: ...  # noqa: D102
    @property
    def other_run(self) -> Run | None: ...  # noqa: D102
    @property
    def steps_done(self) -> int: ...  # noqa: D102
    @property
    def scored_at(self) -> int: ...  # noqa: D102
    @property
    def shows(self) -> Any: ...  # noqa: D102
    @property
    def running(self) -> bool: ...  # noqa: D102

    def change(self, changes: Mapping[str, Any], stamp: tuple[str, int] | None = None) -> None:
        """Set several things at once."""

    def take(self) -> Sequence[LabRecord]:
        """Return the new records that `after_step` was not given, each once."""

    def start(self) -> None:
        """Train from now on."""

    def do(self, what: str, **more: Any) -> Any:
        """Do what a button says; return what the view is to be told, if anything."""

    def describe(self) -> dict[str, Any]:
        """Return what does not change while it runs: buttons, methods, knobs."""

    def state(self) -> dict[str, Any]:
        """Return what else a frame says."""

    def samples(self) -> Sequence[Seen]:
        """Return what a learner sees of some samples."""

    def look(self, **looks: Any) -> Sequence[Seen]:
        """Return the same with the answers of the model as it is now."""
