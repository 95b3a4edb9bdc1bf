"""What an exercise is, and how an answer is checked."""

import copy
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]


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

    def text(self) -> str:
        """Return the exercise in Markdown: statement, then hints and solution folded away."""
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        folded = "".join(_fold(f"Hint {k}", hint) for k, hint in enumerate(self.hints, 1))
        solution = _fold("Solution", f"```python\n{self.source()}\n```")
        return f"**Exercise {self.id} · {self.title}** ({stars}, {self.minutes} min)\n\n{self.statement}\n\n{folded}{solution}"

    def judge(self, answer: Any) -> "Verdict":
        """Say whether `answer` is right, and if not, what is wrong with it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Exercise(Statement):
    """A function that the learner writes, compared with the solution on random inputs.

    Attributes:
        inputs: draws the arguments of one call from a random generator.
        mistakes: wrong answers that people give, each with the sentence that tells them so.
        observe: from the answer and its arguments to what is compared; by default what the answer returns.
        calls: how many draws are compared.
    """

    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    mistakes: tuple[tuple[str, Function], ...]
    observe: Callable[[Function, tuple[Any, ...]], Any] = lambda answer, inputs: answer(*inputs)
    calls: int = 8

    def draws(self) -> list[tuple[Any, ...]]:
        """Return the arguments of all calls: the same in every session."""
        generator = torch.Generator().manual_seed(sum(map(ord, self.id)))
        return [self.inputs(generator) for _ in range(self.calls)]

    def judge(self, answer: Any) -> "Verdict":
        """Compare an answer with the solution on several random inputs and say what differs, in words."""
        return _compare(self, answer)


@dataclass(frozen=True)
class LabExercise(Statement):
    """Something to do in the live lab, judged by what it recorded.

    Attributes:
        verdict: from `lab.records` (or `lab.runs`, as the statement says) to what `check` prints. The solution takes
            the learner's `lab` and makes such records with it.
    """

    verdict: Callable[[Any], "Verdict"]

    def judge(self, answer: Any) -> "Verdict":
        """Judge the records of a lab."""
        if answer is ... or answer is None:
            return NOT_ATTEMPTED
        if not isinstance(answer, list):
            return Verdict("wrong", f"a list is expected here, not {type(answer).__name__}: lab.records or lab.runs")
        return self.verdict(answer)


@dataclass(frozen=True)
class Verdict:
    """What a check found: "right", "wrong" or "not attempted", and a sentence."""

    state: str
    message: str


NOT_ATTEMPTED = Verdict("not attempted", "not attempted yet")


class _NotAttempted(Exception):
    pass


def _compare(exercise: Exercise, answer: Any) -> Verdict:
    if answer is ... or answer is None:
        return NOT_ATTEMPTED
    if not callable(answer):
        return Verdict("wrong", f"a function is expected here, not {type(answer).__name__}: pass its name, without ()")
    found, expected = [], []
    for arguments in exercise.draws():
        expected.append(exercise.observe(exercise.solution, copy.deepcopy(arguments)))
        try:
            found.append(exercise.observe(_attempt(answer), copy.deepcopy(arguments)))
        except (_NotAttempted, NotImplementedError):
            return NOT_ATTEMPTED
        except Exception as error:  # whatever a learner's code raises is said in words
            return Verdict("wrong", f"it raised {type(error).__name__}: {error}")
    differences = [difference(a, b) for a, b in zip(found, expected, strict=True)]
    wrong = [text for text in differences if text]
    if not wrong:
        return Verdict("right", f"right, on {len(found)} random inputs")
    for sentence, mistake in exercise.mistakes:
        if _same_mistake(exercise, mistake, found):
            return Verdict("wrong", sentence)
    if len(found) > 1 and not any(difference(found[0], other) for other in found[1:]):
        return Verdict(
            "wrong", "it returns the same whatever it is given: use the arguments, not numbers of one example"
        )
    return Verdict("wrong", f"{wrong[0]} (in {len(wrong)} of {len(found)} random inputs)")


def _attempt(answer: Function) -> Function:
    def call(*arguments: Any) -> Any:
        result = answer(*arguments)
        if result is None or result is ...:
            raise _NotAttempted
        return result

    return call


def _same_mistake(exercise: Exercise, mistake: Function, found: Sequence[Any]) -> bool:
    for arguments, result in zip(exercise.draws(), found, strict=True):
        try:
            wrong = exercise.observe(mistake, copy.deepcopy(arguments))
        except Exception:  # a mistake may be one that cannot even run on every input
            return False
        if difference(result, wrong):
            return False
    return True


def difference(found: Any, expected: Any, what: str = "the result") -> str:
    """Say in words how `found` differs from `expected`; an empty string if it does not."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"{what} should be a dictionary of {', '.join(map(str, expected))}"
        pairs = [(found[key], expected[key], f"{what} of {key!r}") for key in expected]
    elif isinstance(expected, tuple | list):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"{what} should have {len(expected)} parts"
        names = getattr(expected, "_fields", [f"part {k + 1} of {what}" for k in range(len(expected))])
        pairs = [(a, b, name.replace("_", " ")) for a, b, name in zip(found, expected, names, strict=True)]
    else:
        return _number_difference(found, expected, what)
    return next((text for text in (difference(*pair) for pair in pairs) if text), "")


def _number_difference(found: Any, expected: Any, what: str) -> str:
    try:
        a, b = (torch.as_tensor(value).detach().double() for value in (found, expected))
    except (TypeError, ValueError, RuntimeError):
        return f"{what} should be numbers, not {type(found).__name__}"
    if a.shape != b.shape:
        return f"{what} has the shape {list(a.shape)}, expected {list(b.shape)}"
    if torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True):
        return ""
    if a.numel() == 1:
        return f"{what} is {a.item():.4g}, expected {b.item():.4g}"
    k = int((a - b).abs().nan_to_num(torch.inf).argmax())
    at = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(k), a.shape))
    return f"{what} is {a.flatten()[k].item():.4g} at [{at}], expected {b.flatten()[k].item():.4g}"


def value_and_gradients(answer: Function, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return the scalar that `answer` gives, and its gradient for each tensor that wants one (0 where detached)."""
    value = torch.as_tensor(answer(*arguments))
    wanted = [tensor for tensor in _tensors(arguments) if tensor.requires_grad]
    gradients: list[Tensor | None] = [None] * len(wanted)
    if value.requires_grad:
        gradients = list(torch.autograd.grad(value.sum(), wanted, allow_unused=True))
    kept = [torch.zeros_like(t) if g is None else g for t, g in zip(wanted, gradients, strict=True)]
    return {"value": value.detach(), "gradient": torch.cat([g.flatten() for g in kept])}


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, torch.nn.Module):
        return list(tree.parameters())
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [tensor for part in tree for tensor in _tensors(part)]
    return [tree] if isinstance(tree, Tensor) else []


def _fold(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"
