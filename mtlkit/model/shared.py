"""The model in which several heads share one encoder."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.machine import map_tensors


class SharedEncoderModel(nn.Module):
    """h = encoder(x; W_0), shared by all tasks; ŷ_i = head_i(h; W_i), one head a task.

    A network that gives all outputs at once is an encoder, too: its heads are `Pick`, and `shared` says which of its
    parameters the tasks share.

    Args:
        encoder: from the input to shared features: a tensor, or a tuple, list or dictionary of several.
        heads: task name → module from the shared features to that task's output.
        reads: what of a batch is the input; several names for an encoder of several arguments.
        shared: the parameters that the tasks share, or the module that holds them; those of the encoder, if not given.
    """

    def __init__(
        self,
        encoder: nn.Module,
        heads: Mapping[str, nn.Module],
        reads: str | Sequence[str] = "image",
        shared: nn.Module | Iterable[nn.Parameter] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = Heads(heads)
        self.reads = reads if isinstance(reads, str) else tuple(reads)
        self.features: Any = None
        self._shared_names = None if shared is None else _names_of(encoder, shared)

    def forward(self, x: Any, tasks: Collection[str] | None = None) -> dict[str, Any]:
        """Return task name → output, of `tasks` or of all. In training the shared features h are kept in `features`."""
        features = self.encode(x)
        self.features = features if self.training else None
        return {name: head(features) for name, head in self.heads.items() if tasks is None or name in tasks}

    def encode(self, x: Any) -> Any:
        """Return the shared features h: a tensor, or what the encoder packs several in."""
        features = self.encoder(x) if isinstance(self.reads, str) else self.encoder(*x)
        if isinstance(features, Tensor):
            return features
        # one may be made of another: the heads read copies that are not, so that each has a gradient of its own
        return map_tensors(lambda map_: map_ if map_.is_sparse else map_.view_as(map_), features)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"features": None}  # a copy of the model is not a copy of its last batch

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield W_0, the parameters that every task trains."""
        for name, parameter in self.encoder.named_parameters():
            if self._shared_names is None or any(f"{name}.".startswith(f"{own}.") for own in self._shared_names):
                yield parameter

    @property
    def shares_a_part(self) -> bool:
        """Whether the tasks share a part of the encoder only."""
        return self._shared_names is not None

    def task_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Yield W_i, the parameters that only the task `name` trains."""
        return self.heads[name].parameters()


def _names_of(encoder: nn.Module, shared: nn.Module | Iterable[nn.Parameter]) -> list[str]:
    """Return the names, within an encoder, of a module (and what it may get later) or of parameters."""
    if isinstance(shared, nn.Module):
        if names := [name for name, module in encoder.named_modules() if module is shared]:
            return names[:1] if names[0] else [name for name, _ in encoder.named_children()]
        raise ValueError("shared=... is a module that is not a part of the encoder: give one that is")
    ids = {id(parameter) for parameter in shared}
    names = [name for name, parameter in encoder.named_parameters() if id(parameter) in ids]
    if len(names) < len(ids):
        raise ValueError(f"shared=... has {len(ids) - len(names)} parameters that are not the encoder's: give its own")
    return names


class Pick(nn.Module):
    """A head that takes one of several shared features, or an output that the encoder has already made.

    Args:
        key: its name in a dictionary, or its place in a tuple or list.
        then: what comes after; nothing, if not given.
    """

    def __init__(self, key: str | int, then: nn.Module | None = None) -> None:
        super().__init__()
        self.key, self.then = key, then or nn.Identity()

    def forward(self, features: Any) -> Any:
        """Return what `then` makes of it."""
        return self.then(features[self.key])


class Heads(nn.ModuleDict):
    """Task name → head, whatever the name: `nn.ModuleDict` takes none with a dot, and none of its own attributes'.

    Such a name is kept under another one, with "~" for what is not allowed. That is what a checkpoint shows.
    """

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        for name, head in heads.items():
            self[name] = head

    def __getitem__(self, name: str) -> nn.Module:
        return super().__getitem__(self.names[name])

    def __setitem__(self, name: str, head: nn.Module) -> None:
        if not name:
            raise ValueError("a head has the name '': give each task a name")
        kept = self.names.get(name) or name.replace("~", "~~").replace(".", "~")
        while name not in self.names and hasattr(self, kept):
            kept = f"~{kept}"
        self.names[name] = kept
        super().__setitem__(kept, head)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(self.names.pop(name))

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def clear(self) -> None:
        """Take all heads away."""
        super().clear()
        self.names.clear()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def keys(self) -> Any:
        """Return the names of the tasks."""
        return self.names.keys()

    def items(self) -> Any:
        """Return the names of the tasks with their heads."""
        return [(name, self[name]) for name in self.names]


def read_input(model: nn.Module, batch: Mapping[str, Any]) -> Any:
    """Return what `model`, or an average of one, reads of a batch: a tensor, or several in a tuple.

    Raises:
        ValueError: if the batch lacks it.
    """
    reads = getattr(getattr(model, "module", model), "reads", "image")
    for name in [reads] if isinstance(reads, str) else reads:
        if name not in batch:
            raise ValueError(
                f"the model reads {name!r}, but the batch has {', '.join(map(repr, batch))}: name the input with "
                "SharedEncoderModel(..., reads=...)"
            )
    return batch[reads] if isinstance(reads, str) else tuple(batch[name] for name in reads)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation, without gradients, and each of its modules back to what it was, come what may."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
