"""The kernel's half of the live lab: one training run that is steered while it goes on. No widget is needed."""

import atexit
import copy
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit.data import DigitScenes
from mtlkit.lab.records import LabRecord, Run, load_runs, save_runs
from mtlkit.parallel import ALONE, Group
from mtlkit.recipe import Case, Recipe
from mtlkit.records import Record
from mtlkit.threads import one_thread
from mtlkit.training import TrainingError, train
from mtlkit.weighting import METHODS, StaticWeights, Weighting
from mtlkit.weighting.base import Losses, Parts

TASKS = ("classify", "detect")
CONFLICT_EVERY, SCORE_EVERY, CHUNK = 32, 128, 8  # steps, steps, images scored between two steps
VALIDATION_SCENES = 64
MOST_RUNS = 4
SCENE_CLASSES = 5  # the classifier's outputs; "count" uses four of them

_alive: "weakref.WeakSet[Session]" = weakref.WeakSet()


class SteeredWeighting(Weighting):
    """The learner's weights in front of any method, which then sees w_i l_i. A task that weighs 0 takes no part.

    Attributes:
        wanted: gives task name → w_i. Asked after the forward pass, as late as can be.
        used: the w_i of the last step.
        method: combines the scaled losses.
    """

    def __init__(self, wanted: Callable[[], dict[str, float]], method: Weighting) -> None:
        self.wanted, self.used, self.method = wanted, wanted(), method

    @property
    def factors(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Task name → the factor with which its gradient went into the update: the learner's times the method's."""
        one = torch.ones((), dtype=torch.double)
        return {task: w * self.method.factors.get(task, one) for task, w in self.used.items()}

    @property
    def second_look(self) -> bool:  # type: ignore[override]
        """Whether the method must see the losses again."""
        return self.method.second_look

    def _scaled(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: self.used[task] * loss for task, loss in losses.items() if self.used[task] > 0}

    def backward(self, losses: Losses, model: Any, group: Group = ALONE) -> None:
        """Leave the method's gradient of the scaled losses in `.grad`; none if every weight is 0."""
        for part in Parts.of(losses):  # a lab's batch is in one part
            self.used = self.wanted()
            if scaled := self._scaled(part):
                self.method.backward(scaled, model, group)

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Show the method the scaled losses after the update."""
        if scaled := self._scaled(losses):
            self.method.observe(scaled)


class Session:
    """Classification + detection on DigitScenes, one step at a time, with everything changeable between two steps.

    `weights`, `rate`, `method` and `data` may be set from any thread; the next step uses them. A lock makes sure that
    two threads never train the same model.

    Args:
        scenes: training scenes.
        batch_size: small, so that a step is short and an answer quick.
        seed: of initialisation, data and order.
        weights: task → weight; 1 if not named.
        rate: factor on the optimiser's learning rates.
        method: a name in `mtlkit.weighting.METHODS`.
        data: `scene_class`, `missing` and `label_noise` of `DigitScenes`.

    Raises:
        ValueError: if a task, a method, a rate or an argument of the data is unknown or out of range.
    """

    def __init__(
        self,
        *,
        scenes: int = 2000,
        batch_size: int = 16,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        rate: float = 0.5,
        method: str = "StaticWeights",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.scenes, self.batch_size, self.seed = scenes, batch_size, seed
        self._weights, self._rate, self._method = dict.fromkeys(TASKS, 1.0), rate, method
        self._data: dict[str, Any] = {"scene_class": "texture", "missing": 0.0, "label_noise": 0.0}
        self.change({**(weights or {}), "rate": rate, "method": method, "data": data or {}})
        self.lock, self.wake = threading.RLock(), threading.Event()
        self.error: str | None = None
        self.earlier: list[Run] = []
        self.after_step: Callable[[LabRecord | None], None] = lambda record: None  # None after an error
        self.may_run: Callable[[], bool] = lambda: True
        self.closed = False
        self._thread: threading.Thread | None = None
        self._made_of: tuple[Any, ...] | None = None  # what determines the scenes at hand
        self._build()
        _alive.add(self)
        weakref.finalize(self, self.wake.set)  # the thread then sees that there is nothing left to train

    # what the learner sets

    @property
    def weights(self) -> dict[str, float]:
        """Task → weight."""
        return dict(self._weights)

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        if unknown := set(weights) - set(TASKS):
            raise ValueError(f"there is no task {min(unknown)!r}: the tasks are {' and '.join(TASKS)}")
        self._weights = self._weights | {k: float(w) for k, w in StaticWeights(weights).weights.items()}

    @property
    def rate(self) -> float:
        """Factor on the optimiser's learning rates."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not 0 <= rate < math.inf:
            raise ValueError(f"the rate is {rate}: expected a finite number, 0 or more")
        self._rate = float(rate)

    @property
    def method(self) -> str:
        """Name of the weighting method. A method that is set anew begins without a memory."""
        return self._method

    @method.setter
    def method(self, method: str) -> None:
        if method not in METHODS:
            raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
        self._method = method

    @property
    def data(self) -> dict[str, Any]:
        """`scene_class`, `missing` and `label_noise` of the scenes."""
        return dict(self._data)

    @data.setter
    def data(self, data: Mapping[str, Any]) -> None:
        if unknown := set(data) - set(self._data):
            raise ValueError(f"there is no knob {min(unknown)!r} of the data; there are {', '.join(self._data)}")
        wanted = self._data | dict(data)
        DigitScenes("val", 1, **wanted)  # raises in words
        self._data = wanted

    # training

    def _build(self) -> None:
        if (made_of := (self.seed, self.scenes, self.data)) != self._made_of:
            self._made_of, self._used_data = made_of, self.data
            self._scenes, self.validation = self._train_set(), self._validation_set()
            self._scenes.classes = (*self._scenes.classes, "-")[:SCENE_CLASSES]  # so many outputs, whatever is set
        self.case = Case(Recipe(batch_size=self.batch_size, seed=self.seed), train_set=self._scenes)
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
            self.case.model,
            self.case.tasks,
            self.case.loader,
            self.weighting,
            self.case.optimizer,
            steps=10**12,
            schedule=lambda _: self._rate,
            device="cpu",
            cosine_every=CONFLICT_EVERY,
        )

    def _train_set(self) -> DigitScenes:
        return DigitScenes("train", self.scenes, seed=self.seed, **self._used_data)

    def _validation_set(self) -> DigitScenes:
        return DigitScenes("val", VALIDATION_SCENES, seed=self.seed, scene_class=self._used_data["scene_class"])

    def settings(self) -> dict[str, Any]:
        """Return what determines a run from here on, as long as nothing is changed."""
        return {
            "seed": self.seed,
            "scenes": self.scenes,
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
            if self._data != self._used_data:
                self._used_data = self.data
                self.case.loader.dataset, self.validation = self._train_set(), self._validation_set()
                self._made_of = None
                self.data_changed = True
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
        return {**weights, "rate": self._rate, "method": self._used_method, "data": self._used_data}

    def _measure(self, record: Record) -> None:
        if record.conflict is not None and len(record.tasks) == len(TASKS):
            norms = record.conflict.norms.tolist()
            self._conflict = record.cosine, dict(zip(record.tasks, norms, strict=True))
        if (record.step - 1) % SCORE_EVERY == 0:
            self._scoring = self._score()
        if self._scoring is not None and (scores := next(self._scoring)):
            self._scores, self._scoring = scores, None

    @torch.no_grad()
    def _score(self) -> Iterator[dict[str, float]]:
        """Score the model as it is now on the validation scenes, a few between two steps; yield the scores at last."""
        model = copy.deepcopy(self.case.model).eval()
        metrics = {task.name: task.metric() for task in self.case.tasks}
        for indices in torch.arange(len(self.validation)).split(CHUNK):
            batch = self.validation.batch(indices)
            for name, output in model(batch["image"]).items():
                metrics[name].update(output, batch)
            yield {}
        scores = {name: score for metric in metrics.values() for name, score in metric.compute().items()}
        yield {task.score: scores[task.score] for task in self.case.tasks}

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

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set several things at once: task → weight, or "rate", "method", "data"."""
        self.weights = {name: value for name, value in changes.items() if name not in ("rate", "method", "data")}
        for name in changes.keys() & {"rate", "method", "data"}:  # the others may be set by another thread right now
            setattr(self, name, changes[name])

    # running

    @property
    def running(self) -> bool:
        """Whether the thread trains, or will as soon as it may."""
        return self.wake.is_set() and not self.closed

    def start(self) -> None:
        """Train in a thread until `pause`; there is never more than one."""
        if self.closed or self.error:
            raise RuntimeError(f"{self.error}; reset the lab" if self.error else "this lab is closed: make a new one")
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
            try:
                record = self.advance()
            except Exception as error:
                self.error = self.error or f"{type(error).__name__}: {error}"
                self.wake.clear()
        self.after_step(record)

    def pause(self) -> None:
        """Stop after the present step."""
        self.wake.clear()
        with self.lock:  # wait for it
            pass

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
            settings = dict(run.settings)
            self.scenes, self.batch_size = settings.pop("scenes"), settings.pop("batch_size")
            seed, weights = settings.pop("seed"), settings.pop("weights")
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

    # keeping

    def save(self, file: str | Path) -> None:
        """Write all runs into one JSON file."""
        save_runs([*self.earlier, self.run_now], file)

    def load(self, file: str | Path) -> None:
        """Take over the runs of a file as earlier runs, to compare with."""
        self.earlier = [*self.earlier, *load_runs(file)][-(MOST_RUNS - 1) :]


def _loop(session: "weakref.ref[Session]", wake: threading.Event) -> None:
    """Train while the session lives and wants to. One torch thread, so that the browser has a core."""
    torch.set_num_threads(1)
    while True:
        wake.wait()
        one = session()
        if one is None or one.closed:
            return
        if not one.may_run():
            time.sleep(0.05)
        else:
            one.turn()
        del one


@atexit.register
def _close_all() -> None:
    for session in list(_alive):
        session.close()
