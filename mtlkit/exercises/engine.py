"""What an exercise is, and how an answer is checked."""

import copy
import dis
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.exercises.differences import NotATensorError, difference, named_tensors

Function = Callable[..., Any]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")  # of a module


@dataclass(frozen=True)
class Statement:
    """What every exercise says, and how an answer to it is judged.

    Attributes:
        id: notebook and number, e.g. "02.3".
        title: a few words.
        statement: what to write or do, in Markdown.
        difficulty: 1 (a line) to 3 (think first).
        minutes: that it takes.
        hints: three, each saying more than the one before.
        solution: a right answer, or what leads to one; its source is what `solution` shows.
    """

    id: str
    title: str
    statement: str
    difficulty: int
    minutes: int
    hints: tuple[str, str, str]
    solution: Function

    def source(self) -> str:
        """Return the source of the solution."""
        return textwrap.dedent(inspect.getsource(self.solution)).strip()

    def text(self, solved: bool = True) -> str:
        """Return the exercise in Markdown: statement, then hints and solution folded away.

        Args:
            solved: with the third hint and the solution; without them in a class that may not see them.
        """
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        hints = self.hints if solved else self.hints[:2]
        folded = "".join(_fold(f"Hint {k}", hint) for k, hint in enumerate(hints, 1))
        if solved:
            folded += _fold("Solution", f"```python\n{self.source()}\n```")
        return f"**Exercise {self.id} · {self.title}** ({stars}, {self.minutes} min)\n\n{self.statement}\n\n{folded}"

    def judge(self, answer: Any, seed: int = 0) -> "Verdict":
        """Say whether `answer` is right, and if not, what is wrong with it; another seed draws other inputs."""
        raise NotImplementedError


@dataclass(frozen=True)
class Exercise(Statement):
    """A function that the learner writes, compared with the solution on random inputs.

    Attributes:
        inputs: draws the arguments of one call from a random generator.
        mistakes: wrong answers that people give, each with the sentence that tells them so.
        observe: (answer, its arguments by name) → what is compared; by default what the answer returns.
        calls: how many draws are compared.
    """

    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    mistakes: tuple[tuple[str, Function], ...]
    observe: Callable[[Function, Mapping[str, Any]], Any] = lambda answer, inputs: answer(*inputs.values())
    calls: int = 16

    def draws(self, seed: int = 0) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls: the same in every session. The learner's random stream stays as it is."""
        generator = torch.Generator().manual_seed(sum(map(ord, self.id)) + 1000 * seed)
        with torch.random.fork_rng(devices=[]):
            return [self.inputs(generator) for _ in range(self.calls)]

    def named(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """Return a copy of the arguments of one call, by the names that the solution gives them."""
        return dict(zip(inspect.signature(self.solution).parameters, copy.deepcopy(arguments), strict=True))

    def judge(self, answer: Any, seed: int = 0) -> "Verdict":
        """Compare an answer with the solution on several random inputs and say what differs, in words."""
        return _compare(self, answer, seed)


def powers(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Draw numbers of every size between 10^low and 10^high, evenly on a logarithmic scale."""
    return 10 ** (low + (high - low) * torch.rand(shape, generator=generator))


@dataclass(frozen=True)
class LabExercise(Statement):
    """Something to do in the live lab, judged by what it recorded.

    Attributes:
        verdict: from a run, or from all runs, to what `check` prints. The solution takes the learner's `lab` and makes
            such runs with it.
        of: "records" of one run, or "runs". For records `lab.runs` will do, too: the last run is meant, and what was
            set meanwhile is known in full.
    """

    verdict: Callable[[Any], "Verdict"]
    of: str = "records"

    def judge(self, answer: Any, seed: int = 0) -> "Verdict":
        """Judge the records of a lab; nothing is drawn."""
        if answer is ... or answer is None:
            return NOT_ATTEMPTED
        wanted = f"lab.{self.of}"
        if not isinstance(answer, list):
            return Verdict("wrong", f"expected a list, not {type(answer).__name__}: pass {wanted}")
        runs: list[Any] = answer
        if self.of == "records":
            whole = bool(answer) and hasattr(answer[-1], "records")
            runs = [answer[-1] if whole else SimpleNamespace(records=answer, settings={}, schedule={})]
        if not all(hasattr(run, "records") and all(hasattr(r, "losses") for r in run.records) for run in runs):
            return Verdict("wrong", f"this is not a list of {self.of}: pass {wanted}")
        records = [record for run in runs for record in run.records[:1]]
        if unknown := [task for record in records[:1] for task in record.weights if task not in ("classify", "detect")]:
            return Verdict(
                "wrong", f"that lab has a task {unknown[0]!r}: expected a lab on the scenes, with classify and detect"
            )
        return self.verdict(runs if self.of == "runs" else runs[0])


@dataclass(frozen=True)
class Verdict:
    """What a check found: "right", "wrong" or "not attempted", and a sentence."""

    state: str
    message: str


NOT_ATTEMPTED = Verdict("not attempted", "not attempted yet")


class _NotAttempted(Exception):
    pass


class _NothingReturned(Exception):
    pass


class _Changed(Exception):
    pass


def _compare(exercise: Exercise, answer: Any, seed: int) -> Verdict:
    if answer is ... or answer is None:
        return NOT_ATTEMPTED
    if not callable(answer):
        return Verdict("wrong", f"expected a function, not {type(answer).__name__}: pass its name, without ()")
    draws = exercise.draws(seed)
    found, expected, missing = [], [], []
    for arguments in draws:
        with torch.enable_grad():
            expected.append(exercise.observe(exercise.solution, exercise.named(arguments)))
        try:
            named = exercise.named(arguments)
            with torch.enable_grad():  # whatever the notebook, or the answer, has switched off
                found.append(_kept(exercise.observe(_attempt(answer, list(named)), named)))
        except _NotAttempted:
            missing.append(_told(exercise, arguments))
        except _NothingReturned:
            return Verdict("wrong", "it returns nothing: is there a return in every branch?")
        except NotATensorError as other:
            return Verdict("wrong", f"expected one tensor, not {other}")
        except _Changed as change:
            return Verdict("wrong", f"it changes {change}")
        except (Exception, SystemExit) as error:  # whatever a learner's code raises is said in words
            return Verdict("wrong", f"it raised {type(error).__name__}: {error} (with {_told(exercise, arguments)})")
    if len(missing) == len(draws):
        return NOT_ATTEMPTED
    if missing:
        return Verdict("wrong", f"it is not finished: it raises NotImplementedError with {missing[0]}")
    differences = [difference(a, b) for a, b in zip(found, expected, strict=True)]
    wrong = [text for text in differences if text]
    if not wrong:
        return Verdict("right", f"right, on {len(found)} random inputs")
    for sentence, mistake in exercise.mistakes:
        if _same_mistake(exercise, mistake, found, seed):
            return Verdict("wrong", sentence)
    if len(found) > 1 and not any(difference(found[0], other) for other in found[1:]):
        return Verdict(
            "wrong", f"{wrong[0]}; it returns the same value for every input: is an argument unused or rounded away?"
        )
    return Verdict("wrong", f"{wrong[0]} (for {len(wrong)} of {len(found)} random inputs)")


def _attempt(answer: Function, names: Sequence[str]) -> Function:
    def call(*arguments: Any) -> Any:
        before, held = copy.deepcopy(arguments), [_objects(argument) for argument in arguments]
        try:
            result = answer(*arguments)
        except NotImplementedError as error:
            if not _is_raised_by_a_line(error):  # PyTorch's own, of what it cannot do
                raise RuntimeError(str(error)) from error
            raise _NotAttempted from error
        if result is None or result is ...:
            raise _NotAttempted if _is_stub(answer) else _NothingReturned
        for name, old, new, objects in zip(names, before, arguments, held, strict=True):
            if change := _change(name, old, new, objects):
                raise _Changed(change)
        return result

    return call


def _kept(result: Any) -> Any:
    """Return what an answer gave, so that a later call cannot change it."""
    if isinstance(result, Tensor):
        return result.detach().clone()
    if type(result) in (list, tuple):
        return type(result)(map(_kept, result))
    return dict(zip(result, map(_kept, result.values()), strict=True)) if type(result) is dict else result


def _told(exercise: Exercise, arguments: tuple[Any, ...]) -> str:
    """Say with which arguments an answer was called, in a line."""

    def short(value: Any) -> str:
        text = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
        return text if len(text) <= 60 else f"a {type(value).__name__}"

    return ", ".join(f"{name}: {short(value)}" for name, value in exercise.named(arguments).items())


def _is_raised_by_a_line(error: Exception) -> bool:
    """Whether an error comes from a line `raise ...`, as in a stub, not from something that failed."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    if where is None:
        return False
    steps = dis.get_instructions(where.tb_frame.f_code)
    return any(step.offset == where.tb_lasti and step.opname == "RAISE_VARARGS" for step in steps)


def _is_stub(answer: Function) -> bool:
    """Whether a function does nothing but return."""
    while isinstance(answer := inspect.unwrap(answer), functools.partial):
        answer = answer.func
    code = getattr(answer if hasattr(answer, "__code__") else type(answer).__call__, "__code__", None)
    if code is None:  # not written in Python
        return False
    does = {step.opname for step in dis.get_instructions(code)}
    return does <= {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR", "COPY_FREE_VARS"}


def _objects(value: Any) -> list[Any]:
    """Return every tensor and module in a tree of arguments, those inside of modules included."""
    if isinstance(value, nn.Module):
        return [*value.modules(), *value.parameters(), *value.buffers()]
    if isinstance(value, dict | list | tuple):
        parts = value.values() if isinstance(value, dict) else value
        return [found for part in parts for found in _objects(part)]
    return [value] if isinstance(value, Tensor) else []


def _change(name: str, old: Any, new: Any, objects: Sequence[Any]) -> str:
    """Say what was changed of an argument, given a copy of it and the objects it held before; "" if nothing was."""
    now = _objects(new)
    if len(now) != len(objects) or any(a is not b for a, b in zip(objects, now, strict=True)) or not _equal(old, new):
        return f"`{name}` in place, but it belongs to the caller: work on a copy, or make a new one"
    for (path, a), (_, b) in zip(named_tensors(old, name), named_tensors(new, name), strict=True):
        if (a.grad is None) != (b.grad is None):
            return f"`{path}.grad`: return the result and leave the backward pass to the caller"
        if a.requires_grad != b.requires_grad:
            return f"`{path}.requires_grad`, but it belongs to the caller: work on a copy (.detach().clone())"
    for a, b in zip(_objects(old), now, strict=True):
        if isinstance(b, nn.Module) and a.training != b.training:
            return f"the mode of `{name}`, or of a part of it: leave .train() and .eval() to the caller"
        if isinstance(b, nn.Module) and any(len(getattr(a, kind)) != len(getattr(b, kind)) for kind in HOOKS):
            return f"`{name}` by a hook that stays: remove it before you return"
    return ""


def _equal(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, nn.Module):
        return all(map(_equal, old.parameters(), new.parameters())) and all(map(_equal, old.buffers(), new.buffers()))
    if isinstance(old, Tensor):
        alike = old.shape == new.shape and old.dtype == new.dtype
        return alike and bool(((old == new) | (old != old) & (new != new)).all())  # NaN stays NaN
    if isinstance(old, dict):
        return list(old) == list(new) and all(_equal(old[key], new[key]) for key in old)
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(_equal, old, new))
    return bool(old == new)


def _same_mistake(exercise: Exercise, mistake: Function, found: Sequence[Any], seed: int) -> bool:
    for arguments, result in zip(exercise.draws(seed), found, strict=True):
        try:
            wrong = exercise.observe(mistake, exercise.named(arguments))
        except Exception:  # a mistake may be one that cannot even run on every input
            return False
        if difference(result, wrong) or difference(wrong, result):
            return False
    return True


def _fold(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"
