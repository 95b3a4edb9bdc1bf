"""On which device torch computes, and with how many threads."""

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named; "auto" is CUDA where there is one (under `torchrun` one each), otherwise the CPU.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: expected auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda":
        number = torch.cuda.device_count()
        if not torch.cuda.is_available():
            raise ValueError("there is no CUDA device here: take device 'cpu' or 'auto'")
        if (device.index or 0) >= number:
            raise ValueError(f"there is no device {device}: expected cuda:0 to cuda:{number - 1}")
    elif device.type not in ("cpu", "meta"):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise ValueError(f"the device {str(device)!r} cannot be used here: take device 'cpu' or 'auto'") from error
    return device


def to_device(tree: Any, device: torch.device) -> Any:
    """Return `tree`, its tensors on `device`. On the way to a GPU they are pinned first: nobody waits for the copy."""

    def move(tensor: Tensor) -> Tensor:
        to_gpu = device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available()
        if (
            to_gpu and not tensor.is_pinned()
        ):  # dense: a view, as grey images in three channels, cannot be pinned itself
            tensor = torch.empty_like(tensor, pin_memory=True).copy_(tensor)
        return tensor.to(device, non_blocking=True)

    return map_tensors(move, tree)


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in `tree`: in dictionaries, lists, tuples and data classes."""
    if isinstance(tree, Tensor):
        yield tree
        return
    if is_dataclass(tree) and not isinstance(tree, type):
        tree = [getattr(tree, field.name) for field in fields(tree)]
    if isinstance(tree, Mapping | list | tuple):
        for branch in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors_of(branch)


def map_tensors(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return `tree` with every tensor in it changed, as `tensors_of` finds them; anything else stays."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, MutableMapping):
        same = copy(tree)  # of its own kind, with what else it can do
        for name, branch in tree.items():
            same[name] = map_tensors(change, branch)
        return same
    if isinstance(tree, Mapping):
        return {name: map_tensors(change, branch) for name, branch in tree.items()}
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: map_tensors(change, getattr(tree, f.name)) for f in fields(tree) if f.init})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tensors(change, branch) for branch in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map_tensors(change, branch) for branch in tree)
    return tree


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for a while: results and times then do not depend on what else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
