"""The kernel's half of the live lab: one training run that is steered while it goes on. No widget is needed."""

import atexit
import copy
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtlkit.cases import Case, Seen, find_case
from mtlkit.lab.live.collector import give_back, hold_back
from mtlkit.lab.live.controls import Controls, live_knobs
from mtlkit.lab.live.records import LabRecord, Run, load_runs, save_runs
from mtlkit.lab.live.steering import SteeredWeighting
from mtlkit.machine import one_thread
from mtlkit.model import read_input
from mtlkit.training import Record, TrainingError, fetch, train
from mtlkit.weighting import METHODS

CONFLICT_EVERY, SCORE_EVERY, CHUNK = 32, 128, 8  # steps, steps, samples scored between two steps
MOST_SCORED = 64  # validation samples
MOST_RUNS, SAMPLES = 4, 9

_alive: "weakref.WeakSet[Session]" = weakref.WeakSet()


class Session(Controls):
    """A case that is trained one step at a time, with everything changeable between two steps.

    A lock makes sure that two threads never train the same model.

    Args:
        case: a case, or how `mtlkit.cases.find_case` finds it.
        batch_size: small, so that a step is short and an answer quick; the case's own for a lab, if not given.
        seed: of initialisation, data and order.
        weights: task → weight; 1 if not named.
        rate: factor on the optimiser's learning rates.
        method: a name in `mtlkit.weighting.METHODS`.
        data: the case's knobs that may be changed while it trains.
        knobs: other knobs of the case.

    Raises:
        ValueError: if a task, a method, a rate or a knob is unknown or out of range.
    """

    def __init__(
        self,
        case: str | Case = "scenes",
        *,
        batch_size: int | None = None,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        rate: float | None = None,
        method: str = "StaticWeights",
        data: Mapping[str, Any] | None = None,
        **knobs: Any,
    ) -> None:
        found = find_case(case)
        live = {name: value for name, value in found.in_lab.items() if name not in found.settings}
        usual_batch_size, usual_rate = live.pop("batch_size", found.batch_size), live.pop("rate", 1.0)
        self.batch_size, rate = batch_size or usual_batch_size, usual_rate if rate is None else rate
        self.seed, self.lock, self.wake = seed, threading.RLock(), threading.Event()
        self.error: str | None = None
        self.earlier: list[Run] = []
        self.after_step: Callable[[LabRecord | None], None] = lambda record: None  # None after an error
        self.may_run: Callable[[], bool] = lambda: True
        self.closed = False
        self._thread: threading.Thread | None = None
        self._opened: tuple[Any, ...] | None = None  # what determines the data sets at hand
        self.case = found.with_knobs(**{**live, **knobs}).with_knobs(**(data or {}))
        self._open()
        tasks = self.case.make_tasks(self.case.read_labels(self._train_set))
        super().__init__(self.case, tuple(task.name for task in tasks))
        self.change({**(weights or {}), "rate": rate, "method": method, "data": data or {}})
        self._build()
        _alive.add(self)
        weakref.finalize(self, self.wake.set)  # the thread then sees that there is nothing left to train
        weakref.finalize(self, give_back, id(self))

    # training

    def _open(self) -> None:
        """Open training and validation data, if others are set than those at hand."""
        case = self.case  # another thread may set another one meanwhile
        wanted = (self.seed, case.values())
        if wanted != self._opened:
            self._train_set, self.validation = case.open("train", self.seed), case.open("val", self.seed)
            self._test_set: Any = None
            self._opened, self._used_case, self.data_changed = wanted, case, True

    def samples(self, model: Any = None, **looks: Any) -> Sequence[Seen]:
        """Return what a learner sees of a few test samples, and of the answers of a model, if one is given."""
        if self._test_set is None:
            self._test_set = self._used_case.open("test", 0)
        return self._used_case.see(self._test_set, range(min(SAMPLES, len(self._test_set))), model, **looks)

    def _build(self) -> None:
        self._open()
        self.setup = self.case.setup(seed=self.seed, batch_size=self.batch_size, train_set=self._train_set)
        self.tasks = self.setup.tasks
        self.weighting = SteeredWeighting(lambda: self._weights, METHODS[self._method]())
        self._used_method = self._method
        self._scores: dict[str, float] = {}
        self._conflict: tuple[float | None, dict[str, float]] = (None, {})
        self._scoring: Iterator[dict[str, float]] | None = None
        self.error, self.data_changed = None, True
        self.run_now, self.steps_done = Run(self.settings()), 0
        self._before = self._what_is_set(self._weights)
        self._script: dict[int, Mapping[str, Any]] = {}  # steps done → what is to be changed then
        self._steps = train(
            self.setup.model,
            self.tasks,
            self.setup.loader,
            self.weighting,
            self.setup.optimizer,
            steps=10**12,
            schedule=lambda _: self._rate,
            device="cpu",
            cosine_every=CONFLICT_EVERY,
        )

    def settings(self) -> dict[str, Any]:
        """Return what determines a run from here on, as long as nothing is changed."""
        return {
            "case": self.case.source or self.case.name,
            "knobs": self.case.values(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "weights": self.weights,
            "rate": self._rate,
            "method": self._method,
            "data": self.data,
        }

    def advance(self) -> LabRecord:
        """Train for one step with what is set now.

        Raises:
            TrainingError: if a loss is NaN or infinite or the method cannot be solved; only `reset` mends that.
        """
        with self.lock:
            if changes := self._script.pop(self.steps_done, None):
                self.change(changes)
            if self._method != self._used_method:
                self.weighting.method, self._used_method = METHODS[self._method](), self._method
            self._open()
            self.setup.loader.dataset = self._train_set
            try:
                record = next(self._steps)
            except StopIteration:
                raise RuntimeError(f"{self.error}; reset the lab") from None
            except TrainingError as error:
                self.error = str(error)
                raise
            now = self._what_is_set(self.weighting.used) | {"rate": record.rate}
            if changed := {name: value for name, value in now.items() if value != self._before[name]}:
                self.run_now.schedule[record.step - 1] = changed
                self._before = now
            self._measure(record)
            cosine, norms = self._conflict
            done = LabRecord(
                record.step, record.seconds, self._used_method, record.rate, self.weighting.used, record.losses, cosine,
                norms, self._scores,
            )  # fmt: skip
            self.run_now.add(done)
            self.steps_done = done.step
            return done

    def _what_is_set(self, weights: Mapping[str, float]) -> dict[str, Any]:
        data = live_knobs(self._used_case)
        return {**weights, "rate": self._rate, "method": self._used_method, "data": data}

    def _measure(self, record: Record) -> None:
        if record.conflict is not None and len(record.tasks) == len(self.tasks):
            norms = record.conflict.norms.tolist()
            cosine = record.cosine if len(self.tasks) > 1 else None
            self._conflict = cosine, dict(zip(record.tasks, norms, strict=True))
        if (record.step - 1) % SCORE_EVERY == 0:
            self._scoring = self._score()
        if self._scoring is not None and (scores := next(self._scoring)):
            self._scores, self._scoring = scores, None

    @torch.no_grad()
    def _score(self) -> Iterator[dict[str, float]]:
        """Score the model as it is now on validation samples, a few between two steps; yield the scores at last."""
        model = copy.deepcopy(self.setup.model).eval()
        metrics = {task.name: task.metric() for task in self.tasks if task.metric is not None}
        number = min(MOST_SCORED, len(self.validation))
        for indices in torch.arange(number).split(CHUNK):
            batch = fetch(self.validation, indices)
            for name, output in model(read_input(model, batch), list(metrics)).items():
                metrics[name].update(output, batch)
            yield {}
        yield {task.score_name: metrics[task.name].compute()[task.score] for task in self.tasks if task.name in metrics}

    def run(self, steps: int, schedule: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        """Train here and now, without a thread, the same on every call with the same seed.

        Args:
            steps: how many.
            schedule: after so many of these steps → what is changed then: task → weight, or "rate", "method", "data",
                e.g. `{0: {"classify": 0.1}, 100: {"classify": 1.0, "method": "PCGrad"}}`.
        """
        self.pause()
        with one_thread(), self.lock:
            self._script |= {self.steps_done + k: changes for k, changes in (schedule or {}).items() if k < steps}
            for _ in range(steps):
                self.advance()

    # running

    @property
    def running(self) -> bool:
        """Whether the thread trains, or will as soon as it may."""
        return self.wake.is_set() and not self.closed

    def start(self) -> None:
        """Train in a thread until `pause`; there is never more than one."""
        if self.closed or self.error:
            raise RuntimeError(f"{self.error}; reset the lab" if self.error else "this lab is closed: make a new one")
        hold_back(id(self))
        self.wake.set()
        if self._thread is None:
            self._thread = threading.Thread(
                target=_loop, args=(weakref.ref(self), self.wake), name="mtlkit-lab", daemon=True
            )
            self._thread.start()

    def turn(self) -> None:
        """Do one step of the thread: an exception becomes `error`, in words, and stops it."""
        record = None
        with self.lock:
            if not self.running:
                return
            hold_back(id(self))
            try:
                record = self.advance()
            except Exception as error:
                self._stop_with(error)
        try:
            self.after_step(record)
        except Exception as error:
            self._stop_with(error)

    def _stop_with(self, error: Exception) -> None:
        self.error = self.error or f"{type(error).__name__}: {error}"
        self.wake.clear()
        give_back(id(self))

    def pause(self) -> None:
        """Stop after the present step."""
        self.wake.clear()
        with self.lock:  # wait for it
            give_back(id(self))

    def reset(self, seed: int | None = None) -> None:
        """Begin anew, with the same seed or another; the run so far joins the earlier ones."""
        with self.lock:
            if len(self.run_now.records) > 1:
                self.earlier = [*self.earlier, self.run_now][-(MOST_RUNS - 1) :]
            self.seed = self.seed if seed is None else seed
            self._build()

    def replay(self, run: Run | None = None) -> None:
        """Begin anew as a run began (the present one if none is given), and change then what was changed in it."""
        with self.lock:
            run = run or self.run_now
            self._check_case(run)
            settings = {name: value for name, value in run.settings.items() if name != "case"}
            self.case = self.case.with_knobs(**settings.pop("knobs"))
            self.batch_size, seed, weights = (settings.pop(name) for name in ("batch_size", "seed", "weights"))
            self.change(weights | settings)
            self.reset(seed)
            self._script = dict(run.schedule)

    def wait(self, steps: int, timeout: float = 60.0) -> None:
        """Wait until the run has `steps` steps.

        Raises:
            RuntimeError: if training stopped with an error, in its words.
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while self.steps_done < steps:
            if self.error:
                raise RuntimeError(self.error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.steps_done} of {steps} steps after {timeout:g} s; was the lab started?")
            time.sleep(0.01)

    def close(self) -> None:
        """End the thread."""
        self.closed = True
        self.wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)
        give_back(id(self))

    # keeping

    def save(self, file: str | Path) -> None:
        """Write all runs into one JSON file."""
        save_runs([*self.earlier, self.run_now], file)

    def load(self, file: str | Path) -> None:
        """Take over the runs of a file as earlier runs, to compare with.

        Raises:
            ValueError: if they are of another case, or it is no such file.
        """
        runs = load_runs(file)
        for run in runs:
            self._check_case(run)
        self.earlier = [*self.earlier, *runs][-(MOST_RUNS - 1) :]

    def _check_case(self, run: Run) -> None:
        if (case := run.settings["case"]) != (self.case.source or self.case.name):
            raise ValueError(f"that is a run of the case {case!r}; this lab trains {self.case.name!r}")


def _loop(session: "weakref.ref[Session]", wake: threading.Event) -> None:
    """Train while the session lives and wants to. One torch thread, so that the browser has a core."""
    torch.set_num_threads(1)
    while True:
        wake.wait()
        one = session()
        if one is None or one.closed:
            return
        if not one.may_run():
            give_back(id(one))
            time.sleep(0.05)
        else:
            one.turn()
        del one


@atexit.register
def _close_all() -> None:
    for session in list(_alive):
        session.close()
