"""A case: everything that is special about one field, as plain data and a few functions."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from mtlkit.cases.seen import Seen
from mtlkit.data import Loader
from mtlkit.machine import ALONE, Group
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training import MovingAverage, MuonAdamW
from mtlkit.weighting import METHODS, StaticWeights, Weighting

Labels = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Knob:
    """Something about a case's data or model that can be set.

    Attributes:
        default: its value if nothing is said; values have its type.
        about: what it does, in a few words.
        choices: the values there are; any, if none are named.
        low: the least value of a number.
        high: the largest.
        per_task: a dictionary task → value is taken as well.
        live: whether it may be changed while a model trains: it changes what the data are, not their number nor the
            model.
    """

    default: Any
    about: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    per_task: bool = False
    live: bool = False

    def check(self, name: str, value: Any) -> Any:
        """Return `value`, text from a command line as what it says.

        Raises:
            ValueError: if it is of another kind or out of range.
        """
        if self.per_task and isinstance(value, Mapping):
            return {task: self.check(f"{name} of {task}", one) for task, one in value.items()}
        kind = type(self.default)
        try:
            if kind is int and isinstance(value, float) and value != int(value):
                raise ValueError
            if kind is bool and isinstance(value, str):
                value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
            made = kind(value)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{name} is {value!r}: expected {kind.__name__} ({self.about})") from None
        if self.choices and made not in self.choices:
            raise ValueError(f"{name} is {value!r}: expected one of {', '.join(self.choices)}")
        if isinstance(made, int | float) and not self.low <= made <= self.high:
            least = f"at least {self.low:g}" if self.high == math.inf else f"{self.low:g} to {self.high:g}"
            raise ValueError(f"{name} is {value!r}: expected {least} ({self.about})")
        return made


@dataclass(frozen=True)
class Case:
    """Everything that is special about one field. What trains, draws, times or teaches a case needs nothing else.

    The functions that are given `**knobs` name those that they use, and take the others in `**_`.

    Attributes:
        name: under which it is found.
        about: a line that says what is learned from what.
        open_split: (split, seed, **knobs) → the data set of "train", "val" or "test"; map-style, best with a method
            `batch(indices)`. Where there are no validation data, "val" is "test".
        build_model: (labels, **knobs) → an untrained model, drawn from torch's random stream.
        make_tasks: labels → the tasks, one for each head.
        see: (data set, indices, model or `None`, **looks) → what a learner sees of these samples, and of the model's
            answers; `looks` say which boxes are shown (see `mtlkit.cases.seen.see_boxes`), others ignore them.
        read_labels: data set → the names that model and tasks are built from, e.g. `{"classes": ("cat", "dog")}`.
        knobs: name → what can be set.
        settings: name → what is set; the others are at their defaults.
        weights: task → loss weight that is good here; 1 if not named.
        batch_size: samples in a batch.
        seconds: of training that give a good model.
        optimizer: makes the optimiser of a model.
        transform: (**knobs) → what is done to each training sample, or `None`.
        in_lab: what is set otherwise in the live lab, where a step must be short: knobs, "batch_size", "rate".
        source: where it was found, e.g. "my_module:CASE"; its name, if it is one of the kit's.
    """

    name: str
    about: str
    open_split: Callable[..., Any]
    build_model: Callable[..., SharedEncoderModel]
    make_tasks: Callable[[Labels], Sequence[Task]]
    see: Callable[..., Sequence[Seen]]
    read_labels: Callable[[Any], Labels] = lambda _: {}
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 32
    seconds: float = 60.0
    optimizer: Callable[[nn.Module], Any] = MuonAdamW
    transform: Callable[..., Callable[[Any], Any] | None] | None = None
    in_lab: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def with_knobs(self, **values: Any) -> "Case":
        """Return the case with some of its knobs set.

        Raises:
            ValueError: if there is no such knob, or a value is out of range.
        """
        for name in values:
            if name not in self.knobs:
                known = f"it has {', '.join(self.knobs)}" if self.knobs else "it has none"
                raise ValueError(f"the case {self.name!r} has no knob {name!r}; {known}")
        checked = {name: self.knobs[name].check(name, value) for name, value in values.items()}
        return replace(self, settings={**self.settings, **checked})

    def values(self) -> dict[str, Any]:
        """Return the value of every knob."""
        return {name: knob.default for name, knob in self.knobs.items()} | dict(self.settings)

    def open(self, split: str, seed: int = 0) -> Any:
        """Return the data set of a split, "train", "val" or "test"."""
        return self.open_split(split, seed, **self.values())

    def new_model(self, labels: Labels, seed: int = 0) -> SharedEncoderModel:
        """Return an untrained model, the same for the same seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build_model(labels, **self.values())

    def setup(
        self,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        method: str | Weighting = "StaticWeights",
        weights: Mapping[str, float] | None = None,
        only: str | Collection[str] | None = None,
        train_set: Any = None,
        group: Group = ALONE,
    ) -> "Setup":
        """Make everything that a training run needs.

        Args:
            seed: of the data, the initialisation and the order.
            batch_size: samples in a batch; the case's own if not given.
            method: how the losses become one update: a name in `mtlkit.weighting.METHODS`, or a method.
            weights: task → loss weight, for static weights; those not named are the case's own.
            only: the tasks that are learned, if not all: the model then has no other heads.
            train_set: the training data, if they are open already.
            group: the processes that train together.

        Raises:
            ValueError: if the method or a task is unknown, or it takes no weights though some are given.
        """
        train_set = self.open("train", seed) if train_set is None else train_set
        labels = self.read_labels(train_set)
        model, tasks = self.new_model(labels, seed), tuple(self.make_tasks(labels))
        if only is not None:
            only = [only] if isinstance(only, str) else list(only)
            model, tasks = only_tasks(model, tasks, only)
        transform = self.transform(**self.values()) if self.transform else None
        return Setup(
            self,
            seed,
            method if isinstance(method, str) else type(method).__name__,
            only,
            labels,
            train_set,
            Loader(train_set, batch_size or self.batch_size, seed, transform, group),
            model,
            tasks,
            self._weighting(method, weights or {}, [task.name for task in tasks]),
            self.optimizer(model),
            MovingAverage(model),
        )

    def _weighting(self, method: str | Weighting, weights: Mapping[str, float], tasks: Sequence[str]) -> Weighting:
        if isinstance(method, Weighting):
            if weights:
                raise ValueError("give the weights to the method itself: StaticWeights({...})")
            return method
        if method == "StaticWeights":
            return StaticWeights({name: w for name, w in self.weights.items() if name in tasks} | dict(weights))
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
        if weights:
            raise ValueError(f"{method} finds the weights itself: leave them out, or take the method StaticWeights")
        return METHODS[method]()


def only_tasks(
    model: SharedEncoderModel, tasks: Sequence[Task], only: Collection[str]
) -> tuple[SharedEncoderModel, tuple[Task, ...]]:
    """Return the model without the heads of other tasks, and the tasks named in `only`.

    Raises:
        ValueError: if there is no such task.
    """
    if unknown := set(only) - {task.name for task in tasks}:
        raise ValueError(f"there is no task {min(unknown)!r}: expected {', '.join(task.name for task in tasks)}")
    for name in set(model.heads) - set(only):
        del model.heads[name]
    return model, tuple(task for task in tasks if task.name in only)


@dataclass
class Setup:
    """What a training run needs: `train(*setup.parts, average=setup.average, steps=100)`.

    Attributes:
        case: what it was made of.
        seed: of the data, the initialisation and the order.
        method: name of the weighting method.
        only: the tasks that are learned, if not all.
        labels: the names that model and tasks are built from.
        train_set: the training data.
        loader: gives batches of them.
        model: untrained at first.
        tasks: what it learns.
        weighting: how the losses become one update.
        optimizer: moves the parameters.
        average: of the model over the steps; less noisy.
    """

    case: Case
    seed: int
    method: str
    only: list[str] | None
    labels: Labels
    train_set: Any
    loader: Loader
    model: SharedEncoderModel
    tasks: tuple[Task, ...]
    weighting: Weighting
    optimizer: Any
    average: MovingAverage

    @property
    def parts(self) -> tuple[SharedEncoderModel, tuple[Task, ...], Loader, Weighting, Any]:
        """Return what `train` is given first."""
        return self.model, self.tasks, self.loader, self.weighting, self.optimizer

    @property
    def states(self) -> dict[str, Any]:
        """Return name → part, for what a checkpoint must hold."""
        names = ("model", "average", "optimizer", "weighting", "loader")
        return {name: getattr(self, name) for name in names}

    @property
    def config(self) -> dict[str, Any]:
        """Return the plain values from which all this can be made again; a checkpoint keeps them.

        A method that was given as an object is made again with its defaults; its state is in the checkpoint.
        """
        return {
            "case": self.case.source or self.case.name,
            "knobs": self.case.values(),
            "seed": self.seed,
            "batch_size": self.loader.batch_size,
            "method": self.method,
            "only": self.only,
            "labels": {name: list(values) for name, values in self.labels.items()},
        }

    def __str__(self) -> str:
        kinds = [f"{len(names)} {kind.replace('_', ' ')}" for kind, names in self.labels.items()]
        origin = getattr(self.train_set, "label_origin", "")
        said = [f"{len(self.train_set):,} samples", f"tasks {', '.join(t.name for t in self.tasks)}", *kinds]
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"{', '.join(said)}{f' ({origin})' if origin else ''}; {parameters:,} parameters"
