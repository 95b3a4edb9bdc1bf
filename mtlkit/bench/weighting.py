"""What each weighting method costs, beside a plain sum of losses and beside TorchJD."""

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mtlkit.machine import pick_device
from mtlkit.model import ClassificationHead, ConvEncoder, SharedEncoderModel
from mtlkit.weighting import METHODS, AlignedMTL, EqualWeights, GradientWeighting, UPGrad, Weighting


def weighting(device: str = "cpu", rounds: int = 15, steps: int = 4, batch_size: int = 32) -> dict[str, Any]:
    """Time forward + backward of every weighting method, as ratios to a plain sum of losses, for 2 and 5 tasks.

    Methods that go back K times are held against the "floor": one forward pass and K backward passes with nothing done
    to the gradients. `torchjd` entries are TorchJD's `mtl_backward` and `jac_to_grad` at their defaults. All take
    turns, so that all meet the same machine.
    Freed memory stays with the process: whether it goes back to the system and is fetched anew, at up to a tenth of a
    step, is a matter of who frees what last.
    """
    keep_freed_memory()
    return {f"K={K}": _weighting(K, rounds, steps, batch_size, pick_device(device)) for K in (2, 5)}


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the rest of the process."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only the C library of Linux has this
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD


def _weighting(K: int, rounds: int, steps: int, batch_size: int, device: torch.device) -> dict[str, float]:
    torch.manual_seed(0)
    image, labels = torch.rand(batch_size, 3, 64, 64).to(device), torch.randint(10, (K, batch_size)).to(device)
    encoder = ConvEncoder()
    model = SharedEncoderModel(encoder, {f"task {k}": ClassificationHead(encoder.channels, 10) for k in range(K)})
    model.train().to(device).to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)

    def losses() -> dict[str, Tensor]:
        model.zero_grad()
        outputs = model(image)
        return {name: cross_entropy(output, labels[k]) for k, (name, output) in enumerate(outputs.items())}

    def ours(method: Weighting) -> Callable[[], None]:
        def step() -> None:
            method.backward(losses(), model)
            if method.second_look:
                with torch.no_grad():
                    method.observe(losses())

        return step

    def floor() -> None:
        for loss in losses().values():
            loss.backward(retain_graph=True)

    methods: dict[str, Weighting] = {name: make() for name, make in METHODS.items()}
    features: dict[str, Weighting] = {
        "AlignedMTL at features": AlignedMTL(at="features"),
        "UPGrad at features": UPGrad(at="features"),
    }
    contestants: dict[str, Callable[[], None]] = {"floor": floor}
    contestants |= {name: ours(method) for name, method in (methods | features).items()} | torchjd_passes(
        K, model, losses
    )
    plain = ours(EqualWeights())

    def goes_back_k_times(name: str) -> bool:
        method = methods.get(name)
        return name.startswith("torchjd") or (isinstance(method, GradientWeighting) and name != "MGDAUB")

    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, step in contestants.items():  # each right after what it is held against
            base, mine = seconds_of(floor if goes_back_k_times(name) else plain, steps), seconds_of(step, steps)
            if turn:  # the first round warms up
                ratios[name].append(mine / base)
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    for name, ratio in medians.items():
        print(f"K={K} {name:<24}{ratio:.3f} of the {'floor' if goes_back_k_times(name) else 'plain sum'}", flush=True)
    return medians


def torchjd_passes(
    K: int, model: SharedEncoderModel, losses: Callable[[], dict[str, Tensor]]
) -> dict[str, Callable[[], None]]:
    """Return "torchjd METHOD" → the forward pass of `losses` and TorchJD's method; nothing where it is absent."""
    try:
        from torchjd import aggregation
        from torchjd.autojac import jac_to_grad, mtl_backward
    except ImportError:
        print("torchjd is not installed: its side of the comparison is left out (pip install 'torchjd[full]')")
        return {}

    def step(aggregator: Any) -> None:
        values = list(losses().values())
        assert model.features is not None
        chunk = 1 if model.features.is_cuda else None  # batched, channels_last is refused there (PyTorch 2.11)
        mtl_backward(values, features=model.features, parallel_chunk_size=chunk)
        jac_to_grad(model.shared_parameters(), aggregator)

    settings = {"CAGrad": (0.5,), "NashMTL": (K,), "FairGrad": (2.0,)}
    steps: dict[str, Callable[[], None]] = {}
    for name in (
        "PCGrad",
        "MGDA",
        "CAGrad",
        "NashMTL",
        "FairGrad",
        "IMTLG",
        "ConFIG",
        "AlignedMTL",
        "UPGrad",
        "GradDrop",
    ):
        try:
            steps[f"torchjd {name}"] = partial(step, getattr(aggregation, name)(*settings.get(name, ())))
        except ImportError as error:  # some need a solver of their own
            print(f"torchjd's {name} is left out: {error}")
    return steps


def seconds_of(step: Callable[[], Any], steps: int) -> float:
    """Return how long a step takes, the mean of so many; a GPU has then finished them."""
    started = _now()
    for _ in range(steps):
        step()
    return (_now() - started) / steps


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
