"""A session as its views have it: what the buttons do, and what there is to set."""

import math
from collections.abc import Sequence
from typing import Any

from mtlkit.lab.live.session import AHEAD, MOST_RUNS, Session
from mtlkit.lab.steering.records import LabRecord
from mtlkit.weighting import METHODS


class Desk(Session):
    """A `Session` that a `Link` can carry to a browser."""

    over = False

    @property
    def shows(self) -> tuple[int, ...]:
        """Another value where the run, the samples, or the runs to compare with are others."""
        return self.number, self.versions, self.branch.data.number

    def take(self) -> Sequence[LabRecord]:
        """Return nothing: each record is told at once."""
        return ()

    def do(self, what: str, **more: Any) -> Any:
        """Do what a button says; return what the view is to be told, if anything."""
        if what in ("start", "replay"):
            self.wanted = True
        elif what in ("pause", "step"):
            self.wanted = False
            self.pause()
        if what == "step":
            self.advance(look=True)
        elif what in ("reset", "seed"):
            self.reset(self.seed + (what == "seed"))
        elif what == "replay":
            self.replay()
        elif what == "fork":
            self.fork()
        elif what == "join":
            self.join()
        elif what == "guess":
            self.guess(more["scores"])
        elif what == "gains":
            self.branch.measures_gains = bool(more["on"])
        elif what == "code":
            return self.code()
        elif what not in ("start", "pause"):
            raise ValueError(f"the lab does not know the action {what!r}")
        return None

    def describe(self) -> dict[str, Any]:
        """Return what a view must know that does not change while it runs."""
        knobs = [
            {
                "name": name,
                "about": knob.about,
                "choices": knob.choices,
                "kind": type(knob.default).__name__,
                "range": [knob.low, knob.high] if math.isfinite(knob.low + knob.high) else None,
                "perTask": knob.per_task,
            }
            for name, knob in self.case.knobs.items()
            if knob.live
        ]
        methods = [name for name in METHODS if name != "EqualWeights"]  # static at 1
        return {
            "buttons": ["start", "step", "reset", "seed", "replay"],
            "mend": "Press Reset to start again.",
            "case": self.case.name,
            "methods": methods,
            "knobs": knobs,
            "scoreNames": self.score_names,
            "ahead": AHEAD,
        }

    def state(self) -> dict[str, Any]:
        """Return what else a frame says."""
        guesses = [[guess.step, guess.guessed, guess.found, guess.off] for guess in self.guesses[-MOST_RUNS:]]
        return {"seed": self.seed, "batch": self.batch_size, "guesses": guesses, "forkedAt": self.forked_at}
