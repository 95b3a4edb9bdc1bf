"""What a training step runs on, as one value."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mtlkit.machine.devices import pick_device
from mtlkit.machine.parallel import ALONE, Group
from mtlkit.machine.precision import pick_precision


@dataclass(frozen=True)
class Machine:
    """What a training step runs on, and how it is carried out, but not what is learned.

    Attributes:
        device: "auto" takes CUDA where there is one.
        precision: "auto" computes in float32 on a CPU, on a GPU in bfloat16 (float16 where it has none); or say which.
        accumulate: go through each batch in so many parts, one after the other: less memory, the same update (but
            batch normalisation sees the parts).
        recompute: keep the activations between a model's `Blocks` only: less memory, one more forward pass.
        compile: mode of `torch.compile` for encoder and heads, e.g. "default", or "reduce-overhead" for CUDA graphs.
        group: the processes that train together, each on its part of every batch (`mtlkit.machine.joined`). A model
            may be sharded over them beforehand (`torch.distributed.fsdp.fully_shard`).
        clock: gives the seconds for limits and records: wall-clock time, or with `time.process_time` the processor time
            of this process.

    Raises:
        ValueError: if a value is out of range, or two of them exclude each other.
    """

    device: str | torch.device = "auto"
    precision: str = "auto"
    accumulate: int = 1
    recompute: bool = False
    compile: str | None = None
    group: Group = ALONE
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate={self.accumulate}: expected 1 or more parts of a batch")
        if self.compile:
            from torch._inductor import list_mode_options  # there is no public name for it

            if self.compile not in (modes := list_mode_options()):
                raise ValueError(f"compile={self.compile!r}: expected one of {', '.join(modes)}")
        if self.compile and self.recompute:
            raise ValueError("torch.compile decides by itself what it recomputes: use compile or recompute, not both")

    def pick_device(self) -> torch.device:
        """Return the device; see `mtlkit.machine.pick_device`."""
        return pick_device(self.device)

    def pick_precision(self) -> torch.dtype | None:
        """Return the type for `torch.autocast`, or `None` for float32; see `mtlkit.machine.pick_precision`."""
        return pick_precision(self.precision, self.pick_device())


THIS_MACHINE = Machine()  # as it comes: a GPU where there is one, one process
