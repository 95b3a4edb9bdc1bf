"""One file for a whole training run: weights, optimiser, loader, random stream. Loading it cannot run code."""

import glob
import json
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mtlkit.training.records import Progress

FORMAT = "mtlkit-3"
PROGRESS = ("step", "seconds", "loss_scale")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message names the file."""


class Stateful(Protocol):
    """Anything whose state a checkpoint can hold: model, average, optimiser, weighting, loader."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Checkpoint(Progress):
    """What a file says: `train(after=...)` goes on from it; `config` is what the model was built from."""

    config: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | Path, progress: Progress, config: dict[str, Any], **parts: Stateful) -> None:
    """Write the state of `parts` to one file in the safetensors format, all or nothing.

    The file is written beside `path` and then moved over it: whatever happens meanwhile, `path` holds a whole
    checkpoint, the new one or the one before. Who may read it is what the system gives to any new file.

    Args:
        path: where; its folder is made.
        progress: the record of the last step.
        config: plain values needed to build the model again.
        parts: name → anything with a `state_dict`.

    Raises:
        CheckpointError: if the file cannot be written (no space, no permission), or something in it is no plain value.
    """
    path = Path(path)
    tensors = _random_states()
    about = {"format": FORMAT, "config": config} | {name: getattr(progress, name) for name in PROGRESS}
    try:
        about["parts"] = {name: _take_apart(part.state_dict(), name, tensors) for name, part in parts.items()}
        content = save(tensors, {"mtlkit": json.dumps(about)})
    except Exception as error:  # whatever the libraries say of numbers and values that a file cannot hold
        raise CheckpointError(f"cannot write {path}: something in it is not a plain value ({error})") from error
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):  # of a save that was killed
            left.unlink(missing_ok=True)
    except OSError as error:
        kept = f"; the previous checkpoint is intact: {path}" if path.exists() else ""
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}. Free some space or choose another folder{kept}"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return progress and configuration of a checkpoint without loading its tensors.

    Raises:
        CheckpointError: if the file is absent, cut off, or not one of ours.
    """
    return _progress(_about(Path(path)))


def load_checkpoint(path: str | Path, **parts: Stateful) -> Checkpoint:
    """Load the state of `parts` from a file that `save_checkpoint` wrote, and the random streams with it.

    If one does not fit, all are what they were before.

    Raises:
        CheckpointError: if the file is absent, cut off, or not one of ours, or does not fit a part.
    """
    path = Path(path)
    about = _about(path)
    for name in parts:
        if name not in about["parts"]:
            raise CheckpointError(f"{path} has no {name!r}; it has {', '.join(about['parts'])}")
    with safe_open(path, "pt") as file:
        before: dict[str, Any] = {}
        name = next(iter(parts), "random stream")
        try:
            states = {name: _put_together(about["parts"][name], file.get_tensor) for name in parts}
            streams = {key: file.get_tensor(key) for key in file.keys() if key.startswith("rng")}  # noqa: SIM118
            for name, part in parts.items():
                kept: dict[str, Tensor] = {}
                before[name] = _put_together(_take_apart(part.state_dict(), name, kept), kept.__getitem__)
                part.load_state_dict(states[name])
            name = "random stream"
            _set_random_states(streams)
        except Exception as error:  # whatever a part says of a state that is not its own
            for changed, state in before.items():
                with suppress(Exception):  # the others are brought back all the same
                    parts[changed].load_state_dict(state)
            raise CheckpointError(f"{path} does not fit this {name}: {error}") from error
    return _progress(about)


def _progress(about: dict[str, Any]) -> Checkpoint:
    scale = about["loss_scale"]
    return Checkpoint(about["step"], about["seconds"], tuple(scale) if scale else None, about["config"])


def _about(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("mtlkit", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole mtlkit checkpoint ({error}): train again or take another file"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by this mtlkit: expected the format {FORMAT}")
    kinds = {"step": int, "seconds": (int, float), "loss_scale": (list, type(None)), "config": dict, "parts": dict}
    for name, kind in kinds.items():
        if name not in about or not isinstance(about[name], kind):  # type: ignore[arg-type]
            raise CheckpointError(f"{path} is damaged: its {name!r} is {about.get(name)!r}; take another file")
    scale = about["loss_scale"]
    if scale is not None and (len(scale) != 2 or not all(isinstance(number, int | float) for number in scale)):
        raise CheckpointError(f"{path} is damaged: its 'loss_scale' is {scale!r}; take another file")
    return about


def _random_states() -> dict[str, Tensor]:
    """Return the random streams: the CPU's, and that of each device of the accelerator if it is in use."""
    states = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"rng.cuda.{k}": state for k, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["rng"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"rng.cuda.{k}" in states:
            torch.cuda.set_rng_state(states[f"rng.cuda.{k}"], k)


def _take_apart(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested state into `tensors` and return the rest as JSON can hold it."""
    if isinstance(tree, Tensor):
        while name in tensors:  # "a.b" beside b of a
            name += "'"
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        if strange := [key for key in tree if not isinstance(key, str | int | float | None)]:
            raise TypeError(f"the key {strange[0]!r} of {name}: expected text or a number")
        return {"dict": [[key, _take_apart(value, f"{name}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [_take_apart(value, f"{name}.{k}", tensors) for k, value in enumerate(tree)]}
    return tree


def _put_together(outline: Any, tensor: Callable[[str], Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    if "tensor" in outline:
        return tensor(outline["tensor"])
    if "list" in outline:
        return [_put_together(value, tensor) for value in outline["list"]]
    return {key: _put_together(value, tensor) for key, value in outline["dict"]}
