"""How an answer differs from what is expected, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


class NotATensorError(Exception):
    """An answer is several things where one tensor is expected."""


@dataclass(frozen=True)
class Learning:
    """A number that is to be learned from.

    Attributes:
        value: of it.
        gradients: name of a tensor → the gradient with respect to it, `None` where none reaches it.
    """

    value: Tensor
    gradients: dict[str, Tensor | None]

    def differs_from(self, expected: "Learning") -> str:
        """Say in words how it differs from what is expected."""
        if text := difference(self.value, expected.value):
            return text
        if self.gradients.keys() != expected.gradients.keys():
            return "it has gradients with respect to other tensors than expected"
        cut, expected_cut = (all(g is None for g in each.gradients.values()) for each in (self, expected))
        if cut and not expected_cut:
            return (
                "the value is right, but nothing learns from it: it is not connected to the graph (.item(), .detach() "
                "or a new tensor?)"
            )
        for name, right in expected.gradients.items():
            mine = self.gradients[name]
            if mine is None and right is not None:
                return f"the value is right, but no gradient reaches `{name}`: it is cut off on the way (.detach()?)"
            if mine is not None:
                wanted = torch.zeros_like(mine) if right is None else right
                if text := difference(mine, wanted, f"the gradient with respect to `{name}`"):
                    return text
        return ""


def difference(found: Any, expected: Any, what: str = "the result") -> str:
    """Say in words how `found` differs from `expected`; an empty string if it does not."""
    if isinstance(expected, Learning):
        return found.differs_from(expected)
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"{what} should be a dictionary with the keys {', '.join(map(str, expected))}"
        pairs = [(found[key], expected[key], f"{what} for {key!r}") for key in expected]
    elif isinstance(expected, tuple | list):
        if isinstance(found, Tensor | np.ndarray) and found.ndim and isinstance(expected, tuple):
            found = tuple(found)  # as many rows as parts
        if not isinstance(found, tuple | list):
            how = " (.tolist()?)" if isinstance(found, Tensor | np.ndarray) else ""
            return f"{what} should be a {type(expected).__name__} of {len(expected)}, not {type(found).__name__}{how}"
        if len(found) != len(expected):
            parts = "1 part" if len(expected) == 1 else f"{len(expected)} parts"
            return f"{what} should have {parts}, but has {len(found)}"
        if any(isinstance(b, int) and isinstance(a, list) for a, b in zip(found, expected, strict=True)):
            return f"{what} should be a list of numbers, not of lists"
        names = getattr(expected, "_fields", [f"part {k + 1} of {what}" for k in range(len(expected))])
        pairs = [(a, b, name.replace("_", " ")) for a, b, name in zip(found, expected, names, strict=True)]
    else:
        return _number_difference(found, expected, what)
    return next((text for text in (difference(*pair) for pair in pairs) if text), "")


def _number_difference(found: Any, expected: Any, what: str) -> str:
    try:
        a, b = _numbers(found), _numbers(expected)
    except (TypeError, ValueError, RuntimeError):
        return f"{what} should be numbers, not {_kind(found)}"
    if a.numel() == 1 and b.ndim == 0:  # [1] and [] are the same to who reads it
        a = a.reshape(())
    if a.shape != b.shape:
        return f"{what} has the shape {list(a.shape)}, expected {list(b.shape)}"
    whole = isinstance(expected, int)
    if torch.allclose(a, b, rtol=0.0 if whole else 1e-4, atol=0.0 if whole else 1e-6, equal_nan=True):
        return ""
    if a.numel() == 1:
        return f"{what} is {_told_apart(a.item(), b.item())}"
    k = int((a - b).abs().nan_to_num(torch.inf).argmax())
    at = ", ".join(str(int(i)) for i in torch.unravel_index(torch.tensor(k), a.shape))
    return f"{what} is {_told_apart(a.flatten()[k].item(), b.flatten()[k].item(), f' at [{at}]')}"


def _told_apart(found: float, expected: float, where: str = "") -> str:
    """Return both numbers with as many digits as it takes to see that they differ."""
    for digits in (4, 6, 9, 17):
        one, other = f"{found:.{digits}g}", f"{expected:.{digits}g}"
        if one != other and ("e" not in one + other or digits == 17 or abs(expected) < 1e-3):
            break
    return f"{one}{where}, expected {other}"


def _numbers(value: Any) -> Tensor:
    """Return anything that is made of numbers in float64: tensors, arrays, fractions, decimals, lists of them."""
    if isinstance(value, Tensor | np.ndarray) and "complex" in str(value.dtype):
        raise TypeError("real numbers are expected")
    if isinstance(value, Tensor):
        return value.detach().to_dense().double()
    if hasattr(value, "__array__"):  # of NumPy, or of a library that speaks its language
        return torch.from_numpy(np.array(value, dtype=np.float64))
    if isinstance(value, list | tuple):
        return torch.stack([_numbers(each) for each in value]) if value else torch.empty(0, dtype=torch.double)
    if isinstance(value, str):
        raise TypeError("a text is no number")
    return torch.tensor(float(value), dtype=torch.double)


def _kind(value: Any) -> str:
    """Say what something is that should be numbers."""
    return type(value).__name__ + (
        " (is sum(...) or list(...) around it missing?)" if isinstance(value, Iterator) else ""
    )


def learning(answer: Callable[..., Any], arguments: Mapping[str, Any]) -> Learning:
    """Return the number that `answer` gives, and its gradient for each tensor that wants one."""
    wanted = {name: tensor for name, tensor in named_tensors(arguments) if tensor.requires_grad}
    value = answer(*arguments.values())
    if isinstance(value, list | tuple):
        raise NotATensorError(f"a {_kind(value)}")
    if not isinstance(value, Tensor):
        try:
            value = _numbers(value)
        except (TypeError, ValueError) as error:
            raise NotATensorError(f"a {_kind(value)}") from error
    if value.is_complex():
        raise NotATensorError("a complex one: take its real part")
    gradients: Sequence[Tensor | None] = [None] * len(wanted)
    if value.requires_grad:
        mixed = torch.rand(value.shape, generator=torch.Generator().manual_seed(0)) + 0.5 if value.numel() > 1 else 1.0
        gradients = torch.autograd.grad((mixed * value).sum(), list(wanted.values()), allow_unused=True)
    return Learning(value.detach(), dict(zip(wanted, gradients, strict=True)))


def named_tensors(tree: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Return each tensor in a tree of arguments after where it lies there, such as "heads['depth'].weight"."""
    if isinstance(tree, torch.nn.Module):
        return [(f"{name}.{inner}", parameter) for inner, parameter in tree.named_parameters()]
    if isinstance(tree, Mapping):
        named = [(f"{name}[{key!r}]" if name else str(key), part) for key, part in tree.items()]
    elif isinstance(tree, list | tuple):
        named = [(f"{name}[{k}]", part) for k, part in enumerate(tree)]
    else:
        return [(name, tree)] if isinstance(tree, Tensor) else []
    return [found for inner, part in named for found in named_tensors(part, inner)]
