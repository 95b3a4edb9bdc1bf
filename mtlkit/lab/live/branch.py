"""One model under training in the live lab: a step at a time, with everything changeable between two steps."""

import copy
import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mtlkit.cases import Case
from mtlkit.lab.live.gains import gains
from mtlkit.lab.live.scoring import Scoring, copied
from mtlkit.lab.steering.controls import Controls, Setting
from mtlkit.lab.steering.pull import Pull
from mtlkit.lab.steering.records import LabRecord, Run
from mtlkit.lab.steering.weighting import SteeredWeighting
from mtlkit.training import Progress, Record, train
from mtlkit.weighting import METHODS

CONFLICT_EVERY, SCORE_EVERY = 32, 128  # steps

_drawing = threading.Lock()  # the random stream of PyTorch is one for all threads


_numbers = itertools.count()


class Opened:
    """The data sets of a case with its knobs as they are; each is opened when it is first asked for."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed, self.number = case, seed, next(_numbers)
        self.train = case.open("train", seed)

    @cached_property
    def validation(self) -> Any:  # noqa: D102
        return self.case.open("val", self.seed)

    @cached_property
    def test(self) -> Any:  # noqa: D102
        return self.case.open("test", 0)

    def fits(self, case: Case, seed: int) -> bool:
        """Whether they are those of `case` with `seed`."""
        return seed == self.seed and (case is self.case or case.values() == self.case.values())


class Branch:
    """Trains one model by what its controls say, and keeps the run.

    Args:
        controls: asked before each step; the weights after the forward pass, as late as can be.
        data: of the case that is set.
        settings: what the run begins with.

    Attributes:
        scores: name → score, measured last.
        asked: step → scores, of the steps in `score_at`.
        scored_at: the step after which the model was as those scores say.
        used: what the last step used.
        measures_gains: whether it is measured now and then what each task gained from a step.
        score_at: steps after which the scores are measured out of turn.
    """

    def __init__(self, controls: Controls, data: Opened, settings: Mapping[str, Any]) -> None:
        self.controls, self.data, self.used = controls, data, controls.setting
        seed, batch_size = settings["seed"], settings["batch_size"]
        self.setup = data.case.setup(seed=seed, batch_size=batch_size, train_set=data.train)
        self.tasks = self.setup.tasks
        self.run, self.steps_done, self.seconds = Run(settings), 0, 0.0
        self.scores: dict[str, float] = {}
        self.scored_at = 0
        self.measures_gains, self.score_at, self.asked = False, set[int](), dict[int, dict[str, float]]()
        self.script: dict[int, Mapping[str, Any]] = {}  # steps done → what is to be changed then
        self._pull = Pull()
        self._scorings: list[Scoring] = []
        self._random: Tensor | None = torch.Generator().manual_seed(seed).get_state()
        self._begin(METHODS[self.used.method]())

    def _begin(self, method: Any) -> None:
        self.weighting = SteeredWeighting(self._weights_now, method)
        self._late = self.used
        self._steps: Any = train(
            self.setup.model,
            self.tasks,
            self._batches(),
            self.weighting,
            self.setup.optimizer,
            steps=10**12,
            schedule=lambda _: self._rate,
            device="cpu",
            cosine_every=CONFLICT_EVERY,
            after=Progress(self.steps_done, self.seconds),
        )

    def _batches(self) -> Iterator[Any]:
        for batch in self.setup.loader:
            self._batch = batch
            yield batch

    def _weights_now(self) -> dict[str, float]:
        self._late = self.controls.setting
        return dict(self._late.weights)

    def twin(self) -> "Branch":
        """Return a branch that goes on from the same state with the same batches, and keeps what is set now."""
        other = copy.copy(self)
        other.controls, other.run, other.script = Controls(self.controls.setting), self.run.copy(), dict(self.script)
        other.measures_gains, other.score_at, other.asked = False, set(self.score_at), dict(self.asked)
        model, loader = copied(self.setup.model), copy.copy(self.setup.loader)
        optimizer = self.setup.case.optimizer(model)
        optimizer.load_state_dict(copy.deepcopy(self.setup.optimizer.state_dict()))
        other.setup = replace(self.setup, model=model, loader=loader, optimizer=optimizer)
        other._scorings = [scoring.copy() for scoring in self._scorings]
        method = METHODS[self.used.method]()
        method.load_state_dict(copy.deepcopy(self.weighting.method.state_dict()))
        other._begin(method)
        return other

    def advance(self, look: bool = False) -> LabRecord:
        """Train for one step with what is set now.

        Args:
            look: measure what each task gained from it.

        Raises:
            TrainingError: if a loss is NaN or infinite or the method cannot be solved.
        """
        if changes := self.script.pop(self.steps_done, None):
            self.controls.change(changes)
        setting = self._late = self.controls.setting
        if setting.method != self.used.method:
            self.weighting.method = METHODS[setting.method]()
        case = setting.case
        if case is not None and not self.data.fits(case, self.data.seed):
            self.data = Opened(case, self.data.seed)
        self.setup.loader.dataset, self._rate = self.data.train, 1.0 if setting.rate is None else setting.rate
        look = look or (self.measures_gains and self.steps_done % SCORE_EVERY == SCORE_EVERY // 2)
        before = [p.detach().clone() for p in self.setup.model.parameters()] if look else []
        random = self._random
        with self._own_random_numbers():
            record = next(self._steps)
        self._remember(setting, record)
        self._measure(record)
        done = LabRecord(
            record.step,
            record.seconds,
            setting.method,
            record.rate,
            dict(self.used.weights),
            record.losses,
            self._pull.cosine,
            self._pull.norms,
            self.scores,
            self._pull.cosines,
            gains(self.setup.model, self.tasks, self._batch, before, random) if look else {},
        )
        self.run.add(done)
        self.steps_done, self.seconds = done.step, done.seconds
        return done

    def _remember(self, setting: Setting, record: Record) -> None:
        """Keep what this step used, and note in the schedule what the one before had not."""
        whole = (self._late.method, self._late.rate, self._late.case) == (setting.method, setting.rate, setting.case)
        used = replace(setting, weights=self.weighting.used, stamp=self._late.stamp if whole else setting.stamp)
        if replace(used, stamp=self.used.stamp) != self.used and (changed := used.differences(self.used)):
            self.run.schedule[record.step - 1] = changed
        self.used = used

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Let a step that draws random numbers draw its own; the first one shows whether any does."""
        if self._random is None:
            yield
            return
        with _drawing:
            others = torch.get_rng_state()
            torch.set_rng_state(self._random)
            try:
                yield
            finally:
                before, self._random = self._random, torch.get_rng_state()
                torch.set_rng_state(others)
        if not self.steps_done and torch.equal(before, self._random):
            self._random = None

    def resume(self) -> None:
        """Go on after a step was interrupted."""
        self._begin(self.weighting.method)

    def close(self) -> None:
        """Let go of model and data at once, without waiting for the collector."""
        self._steps.close()
        self.weighting.wanted = dict

    def _measure(self, record: Record) -> None:
        if record.conflict is not None:
            self._pull = self._pull.after(record.tasks, record.conflict)
        if (record.step - 1) % SCORE_EVERY == 0 or record.step in self.score_at:
            self._scorings.append(Scoring(record.step, self.setup.model, self.tasks, self.data.validation))
        for scoring in list(self._scorings):
            if (scores := scoring.advance()) is not None:
                self._scorings.remove(scoring)
                self.scores, self.scored_at = scores, scoring.step
                if scoring.step in self.score_at:
                    self.asked[scoring.step] = scores
