"""The kernel's half of the live lab: one training run that is steered while it goes on. No widget is needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlkit.cases import Case, Seen, find_case
from mtlkit.lab.live.branch import Branch, Opened
from mtlkit.lab.live.thread import Trainer
from mtlkit.lab.steering.code import lab_code
from mtlkit.lab.steering.controls import Controls, Setting
from mtlkit.lab.steering.records import Guess, LabRecord, Run, load_runs, save_runs
from mtlkit.machine import one_thread
from mtlkit.training import TrainingError

MOST_RUNS, SAMPLES, AHEAD = 4, 9, 200


class Session(Controls, Trainer):
    """A case that is trained one step at a time, with everything changeable between two steps.

    Args:
        case: a case, or how `mtlkit.cases.find_case` finds it.
        batch_size: small, so that a step is short and an answer quick; the case's own for a lab, if not given.
        seed: of initialisation, data and order.
        weights: task → weight; 1 if not named.
        rate: factor on the optimiser's learning rates.
        method: a name in `mtlkit.weighting.METHODS`.
        data: the case's knobs that may be changed while it trains.
        knobs: other knobs of the case.

    Attributes:
        branch: what is trained and steered.
        other: while the run is forked, the copy that keeps what was set at the fork.
        earlier: runs to compare with.
        guesses: of this run.
        number: how often it began anew.
        versions: grows with everything but steps that a view must be told of.

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
        self.batch_size, self.seed = batch_size or usual_batch_size, seed
        case = found.with_knobs(**{**live, **knobs}).with_knobs(**(data or {}))
        self.opened = Opened(case, seed)
        tasks = case.make_tasks(case.read_labels(self.opened.train))
        Controls.__init__(self, Setting({task.name: 1.0 for task in tasks}, rate=usual_rate, case=case))
        self.change({"weights": weights or {}, "rate": usual_rate if rate is None else rate, "method": method})
        self.change({"data": data or {}})
        Trainer.__init__(self)
        self.earlier: list[Run] = []
        self.number = self.versions = 0
        self.branch: Branch
        self.other: Branch | None = None
        self._build(seed)

    def _build(self, seed: int) -> None:
        """Begin anew; nothing has changed if that fails."""
        if not self.opened.fits(self.case, seed):
            self.opened = Opened(self.case, seed)
        branch = Branch(self, self.opened, {**self.settings(), "seed": seed})
        if self.number:
            branch.measures_gains = self.branch.measures_gains
            self.join()
            if self.run_now.last is not None:
                self._keep(self.run_now)
            self.branch.close()
        self.branch, self.other, self.seed = branch, None, seed
        self.error, self.guesses, self.forked_at = None, list[Guess](), 0
        self.number += 1

    @property
    def case(self) -> Case:
        """What is trained, with its knobs as they are set."""
        assert self.setting.case is not None
        return self.setting.case

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.setting.weights)

    @property
    def run_now(self) -> Run:
        """The present run."""
        return self.branch.run

    @property
    def other_run(self) -> Run | None:
        """While it is forked, the run of the copy that keeps what was set then."""
        return self.other.run if self.other else None

    @property
    def steps_done(self) -> int:
        """How many steps it has."""
        return self.branch.steps_done

    @property
    def scored_at(self) -> int:
        """After which step the last scores were measured."""
        return self.branch.scored_at

    @property
    def used(self) -> Setting:
        """What the last step used."""
        return self.branch.used

    @property
    def score_names(self) -> list[str]:
        """The scores that stand for the tasks, one each."""
        return [task.score_name for task in self.branch.tasks if task.metric is not None]

    def samples(self, model: Any = None, **looks: Any) -> Sequence[Seen]:
        """Return what a learner sees of a few test samples, and of the answers of a model, if one is given."""
        opened = self.branch.data
        return opened.case.see(opened.test, range(min(SAMPLES, len(opened.test))), model, **looks)

    def look(self, **looks: Any) -> Sequence[Seen]:
        """Return the same samples with the answers of the model as it is now."""
        return self.samples(self.branch.setup.model, **looks)

    def settings(self) -> dict[str, Any]:
        """Return what determines a run from here on, as long as nothing is changed."""
        return {
            "case": self.case.source or self.case.name,
            "knobs": self.case.values(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            **self.setting.values(),
        }

    # training

    def advance(self, look: bool = False) -> LabRecord:
        """Train for one step with what is set now; while the run is forked, both copies.

        Args:
            look: measure what each task gained from it.

        Raises:
            TrainingError: if a loss is NaN or infinite or the method cannot be solved; only `reset` mends that.
        """
        with self.lock, one_thread():
            if self.error:
                raise RuntimeError(f"{self.error}; reset the lab")
            self.opened = self.branch.data
            try:
                record = self.branch.advance(look)
                if self.other is not None:
                    self.other.advance()
            except KeyboardInterrupt:  # of a long run in a cell
                for branch in (self.branch, self.other):
                    if branch is not None:
                        branch.resume()
                raise
            except BaseException as error:
                self.error = str(error) if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"
                raise
            for guess in self.guesses:
                if not guess.found and (scores := self.branch.asked.get(guess.step)):
                    guess.found = {name: scores[name] for name in guess.guessed if name in scores}
            self.after_step(record)
            return record

    def run(self, steps: int, schedule: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        """Train here and now, without a thread, the same on every call with the same seed.

        Args:
            steps: how many.
            schedule: number of these steps → what is changed after them: task → weight, or "rate", "method", "data",
                e.g. `{0: {"classify": 0.1}, 100: {"classify": 1.0, "method": "PCGrad"}}`.

        Raises:
            ValueError: if anything in the schedule is unknown or out of range; then no step is done.
        """
        self.pause()
        with self.lock:
            setting = self.setting
            for _, changes in sorted((schedule or {}).items()):
                setting = setting.changed(changes)
            self.branch.script |= {self.steps_done + k: change for k, change in (schedule or {}).items() if k < steps}
            for _ in range(steps):
                self.advance()

    def wait(self, steps: int, timeout: float = 60.0) -> None:
        """Wait until the run has `steps` steps.

        Raises:
            RuntimeError: if training stopped with an error, in its words.
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        self.wait_for(lambda: self.steps_done, steps, timeout)

    def reset(self, seed: int | None = None) -> None:
        """Start again, with the same seed or another; the run so far joins the earlier ones."""
        with self.lock:
            self._build(self.seed if seed is None else seed)

    def _keep(self, *runs: Run) -> None:
        self.earlier, self.versions = [*self.earlier, *runs][-(MOST_RUNS - 1) :], self.versions + 1

    def replay(self, run: Run | None = None) -> None:
        """Start again as a run started (default: the present one), and repeat its changes at the same steps.

        Raises:
            ValueError: if it is a run of another case; then nothing has changed.
        """
        with self.lock:
            run = run or self.run_now
            setting = self._setting_of(run)
            script = run.schedule | (self.branch.script if run is self.run_now else {})
            before = self.setting, self.batch_size
            self.setting, self.batch_size = setting, run.settings["batch_size"]
            try:
                self.reset(run.settings["seed"])
            except BaseException:
                self.setting, self.batch_size = before
                raise
            self.branch.script = dict(script)

    def _setting_of(self, run: Run) -> Setting:
        """Return what was set when `run` began; everything that was changed in it is tried, too."""
        settings, case = run.settings, self.case.source or self.case.name
        if settings.get("case") != case:
            said = f"of the case {settings['case']!r}" if "case" in settings else "of a loop of your own"
            raise ValueError(f"that is a run {said}; this lab trains {self.case.name!r}")
        if set(settings["weights"]) != set(self.tasks):
            raise ValueError(f"that run is of {', '.join(settings['weights'])}; this lab is of {', '.join(self.tasks)}")
        if settings["batch_size"] < 1:
            raise ValueError(f"its batch_size is {settings['batch_size']}: expected 1 or more")
        begin = Setting(self.setting.weights, rate=1.0, case=self.case.with_knobs(**settings["knobs"]))
        setting = last = begin.changed({name: settings[name] for name in ("weights", "rate", "method", "data")})
        for _, changes in sorted(run.schedule.items()):
            last = last.changed(changes)
        return setting

    # to see why

    def fork(self, changes: Mapping[str, Any] | None = None) -> Run:
        """Let two copies go on from here with the same batches: one is steered on, one keeps what is set now.

        Args:
            changes: what is set for the steered one at once, as `change` takes it.

        Returns:
            The run of the copy that keeps what is set now.

        Raises:
            RuntimeError: if the run is forked already.
            ValueError: if something in `changes` is unknown or out of range; then there is no fork.
        """
        with self.lock:
            if self.other:
                raise RuntimeError("the run is forked already: join it first")
            self.setting.changed(changes or {})
            self.forked_at = self.steps_done
            self.other, self.versions = self.branch.twin(), self.versions + 1
            self.change(changes or {})
            return self.other.run

    def join(self) -> None:
        """End the fork: the steered copy goes on alone, the other one joins the earlier runs."""
        with self.lock:
            if self.other is not None:
                self._keep(self.other.run)
                self.other.close()
            self.other = None

    def guess(self, scores: Mapping[str, float], steps: int = AHEAD) -> Guess:
        """Predict the scores after `steps` more steps; later, `Guess.off` tells how far off the guess was.

        Raises:
            ValueError: if there is no such score, or a number is not finite.
        """
        known = self.branch.scores or dict.fromkeys(self.score_names)
        for name, value in scores.items():
            if name not in known:
                raise ValueError(f"there is no score {name!r}; there are {', '.join(known)}")
            if not abs(float(value)) < float("inf"):
                raise ValueError(f"{name} is guessed as {value}: expected a finite number")
        if not scores or steps < 1:
            raise ValueError("a guess needs at least one score, and a step that is still to come")
        with self.lock:
            made = Guess(self.steps_done + steps, {name: float(value) for name, value in scores.items()})
            self.branch.score_at.add(made.step)
            self.guesses.append(made)
            return made

    def code(self) -> str:
        """Return a cell that repeats the present run."""
        with self.lock:
            return lab_code(self.run_now, self.case)

    # keeping

    @property
    def runs(self) -> list[Run]:
        """The earlier runs, that of the other copy while it is forked, and the present one."""
        with self.lock:  # a reset moves one among the earlier ones
            return [*self.earlier, *([self.other.run] if self.other else []), self.run_now]

    def save(self, file: str | Path) -> None:
        """Write all runs into one JSON file."""
        with self.lock:
            save_runs(self.runs, file)

    def load(self, file: str | Path) -> None:
        """Take over the runs of a file as earlier runs, to compare with.

        Raises:
            ValueError: if they are of another case, or it is no such file.
        """
        runs = load_runs(file)
        for run in runs:
            try:
                self._setting_of(run)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file} holds no runs of the lab that can be shown here: {error}") from error
        with self.lock:
            self._keep(*runs)
