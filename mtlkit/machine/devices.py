"""On which device torch computes, and with how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device named; "auto" is CUDA where there is one (under `torchrun` one each), otherwise the CPU.

    Raises:
        ValueError: if CUDA is asked for and there is none.
    """
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here: take device 'cpu' or 'auto'")
    return device


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`. On the way to a GPU it is pinned first, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for a while: results and times then do not depend on what else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
