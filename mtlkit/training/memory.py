"""How much memory a training step takes: told beforehand without allocating anything, and measured."""

import copy
import json
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from mtlkit.data import Batch
from mtlkit.machine import pick_device
from mtlkit.model import SharedEncoderModel
from mtlkit.tasks import Task
from mtlkit.training.loop import train
from mtlkit.training.optim import MuonAdamW
from mtlkit.weighting import EqualWeights, Weighting

Optimizer = Callable[[nn.Module], Any]


def predict_memory(
    model: SharedEncoderModel,
    tasks: Sequence[Task],
    batch: Batch,
    weighting: Callable[[], Weighting] = EqualWeights,
    optimizer: Optimizer = MuonAdamW,
    **options: Any,
) -> dict[str, int]:
    """Predict the bytes that training `model` on such a batch takes, by doing two steps on the device "meta".

    Args:
        model: stays as it is.
        tasks: what is learned.
        batch: one of the size wanted; its numbers do not matter.
        weighting: makes the weighting method.
        optimizer: makes the optimiser of a model.
        options: `accumulate` and `recompute` of `mtlkit.training.train`.

    Returns:
        the bytes of the "parameters" (and buffers), of the "gradients", of the "optimizer" state, and the "peak" of all
        tensors together, the batch included. What a library takes for itself while it computes is not in it: on a GPU,
        cuDNN's search for its fastest algorithms, in the first steps, took up to ten times as much (2.5 GB).
    """
    model = _copy(model, torch.device("meta"))
    made, method = optimizer(model), weighting()
    watch = _Watch(model.state_dict().values())
    with watch, _fused_attention():
        _two_steps(model, tasks, batch, method, made, device="meta", **options)
    return {
        "parameters": _bytes(model.state_dict()),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        "optimizer": _bytes(made.state_dict()),
        "peak": watch.peak,
    }


def measure_memory(
    model: SharedEncoderModel,
    tasks: Sequence[Task],
    batch: Batch,
    weighting: Callable[[], Weighting] = EqualWeights,
    optimizer: Optimizer = MuonAdamW,
    device: str | torch.device = "auto",
    **options: Any,
) -> int:
    """Return the peak in bytes that two such steps really took, as the allocator of the device has counted it.

    The model counts in full, whatever else is in memory does not. Arguments as in `predict_memory`.
    """
    device = pick_device(device)
    model = _copy(model, device)
    made, method = optimizer(model), weighting()
    model_bytes = _bytes(model.state_dict())
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _two_steps(model, tasks, batch, method, made, device=device, **options)
        return model_bytes + torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would speak to the terminal
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        _two_steps(model, tasks, batch, method, made, device=device, **options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"] for event in sorted(events, key=lambda e: e.get("ts", 0)) if event["name"] == "[memory]"]
    start = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return model_bytes + max(change["Total Allocated"] for change in changes) - start


def _copy(model: SharedEncoderModel, device: torch.device) -> SharedEncoderModel:
    """Return a copy whose parameters lie where and as training wants them: it will not allocate them anew."""
    return copy.deepcopy(model).to(device).to(memory_format=torch.channels_last)


def _two_steps(
    model: SharedEncoderModel, tasks: Sequence[Task], batch: Batch, method: Weighting, optimizer: Any, **options: Any
) -> None:
    """In the second the optimiser has its state."""
    for _ in train(model, tasks, [batch, batch], method, optimizer, steps=2, schedule=lambda _: 1.0, **options):
        pass


def _bytes(state: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_iter(state) if isinstance(leaf, Tensor))


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Let attention never hold its `[T, T]` matrix, as libraries compute it; on "meta" it would."""
    usual = functional.scaled_dot_product_attention

    def fused(*args: Any, dropout_p: float = 0.0, is_causal: bool = False, **kwargs: Any) -> Tensor:
        if len(args) > 3 or kwargs:  # a mask, or more
            return usual(*args, dropout_p=dropout_p, is_causal=is_causal, **kwargs)  # type: ignore[misc]
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args, dropout_p, is_causal)[0]

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = usual


class _Watch(TorchDispatchMode):
    """Adds up the memory of the tensors that operations make, from when they are made until the last one is gone.

    Args:
        allocated: tensors that are there already, and count.
    """

    def __init__(self, allocated: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}
        for tensor in allocated:
            self._watch(tensor.untyped_storage())

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._watch(tensor.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()  # the same object as long as any tensor uses it
        if key in self._alive:
            return

        def gone(_: Any) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
