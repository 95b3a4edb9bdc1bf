"""One file for a whole training run: weights, optimiser, loader, random stream. Loading it cannot run code."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mtlkit.training.records import Progress

FORMAT = "mtlkit-2"


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
    checkpoint, the new one or the one before.

    Args:
        path: where; its folder is made.
        progress: the record of the last step.
        config: plain values needed to build the model again.
        parts: name → anything with a `state_dict`.

    Raises:
        CheckpointError: if the file cannot be written (no space, no permission).
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    outline = {name: _take_apart(part.state_dict(), name, tensors) for name, part in parts.items()}
    about = {"format": FORMAT, "step": progress.step, "seconds": progress.seconds, "config": config, "parts": outline}
    unfinished = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            unfinished = Path(file.name)
            file.write(save(tensors, {"mtlkit": json.dumps(about)}))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        kept = f"; the checkpoint from before is whole: {path}" if path.exists() else ""
        raise CheckpointError(
            f"cannot write {path}: {error.strerror}. Free some space or choose another folder{kept}"
        ) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return progress and configuration of a checkpoint without loading its tensors.

    Raises:
        CheckpointError: if the file is absent, cut off, or not one of ours.
    """
    about = _about(Path(path))
    return Checkpoint(about["step"], about["seconds"], about["config"])


def load_checkpoint(path: str | Path, **parts: Stateful) -> Checkpoint:
    """Load the state of `parts` from a file that `save_checkpoint` wrote, and the random stream with it.

    Raises:
        CheckpointError: if the file is absent, cut off, or not one of ours, or does not fit a part.
    """
    path = Path(path)
    about = _about(path)
    with safe_open(path, "pt") as file:
        for name, part in parts.items():
            if name not in about["parts"]:
                raise CheckpointError(f"{path} has no {name!r}; it has {', '.join(about['parts'])}")
            try:
                part.load_state_dict(_put_together(about["parts"][name], file))
            except (RuntimeError, ValueError, KeyError) as error:
                raise CheckpointError(f"{path} does not fit this {name}: {error}") from error
        torch.set_rng_state(file.get_tensor("rng"))
    return Checkpoint(about["step"], about["seconds"], about["config"])


def _about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("mtlkit", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole mtlkit checkpoint ({error}): train again or take another file"
        ) from error
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by this mtlkit: expected the format {FORMAT}")
    return about


def _take_apart(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested state into `tensors` and return the rest as JSON can hold it."""
    if isinstance(tree, Tensor):
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        return {"dict": [[key, _take_apart(value, f"{name}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [_take_apart(value, f"{name}.{k}", tensors) for k, value in enumerate(tree)]}
    return tree


def _put_together(outline: Any, file: Any) -> Any:
    if not isinstance(outline, dict):
        return outline
    if "tensor" in outline:
        return file.get_tensor(outline["tensor"])
    if "list" in outline:
        return [_put_together(value, file) for value in outline["list"]]
    return {key: _put_together(value, file) for key, value in outline["dict"]}
