"""Samples become batches in an order that a seed determines and a run can resume: from one source or from several."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.batches import Batch, Sample, check_sample, collate
from mtlkit.data.errors import DataError
from mtlkit.machine import ALONE, Group


class Loader:
    """Endless batches in a shuffled order that the seed and the epoch determine.

    A data set with a method `batch(indices)` is read through it; any other sample by sample, each with a random
    stream of its own (seed, epoch, index), so that order and augmentation do not depend on what ran before.
    The state is one number, the count of batches given out: a resumed run sees the same batches.

    Args:
        dataset: map-style; its samples are dictionaries, or tuples (see `mtlkit.data.collate`).
        batch_size: samples in a batch; every batch is full, an epoch's rest is left out.
        seed: of the order and the augmentation.
        transform: from sample to sample, applied in training (see `mtlkit.data.augment`).
        group: processes of which each gets an equal part of every batch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        seed: int = 0,
        transform: Callable[[Sample], Sample] | None = None,
        group: Group = ALONE,
    ) -> None:
        _check_length(dataset, "the data set")
        self.dataset, self.seed, self.transform, self.group = dataset, seed, transform, group
        self.batch_size = _shared_size(min(batch_size, len(dataset)), group)
        self.batches_given = 0
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in one pass over the data."""
        return len(self.dataset) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, position = divmod(self.batches_given, self.batches_per_epoch)
        if epoch != self._epoch or len(self._order) != len(self.dataset):
            generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.dataset), generator=generator)
        indices = self._order[position * self.batch_size :][: self.batch_size]
        batch = self._fetch(indices.chunk(self.group.size)[self.group.rank], epoch)
        self.batches_given += 1
        return batch

    def _fetch(self, indices: Tensor, epoch: int) -> Batch:
        if self.transform is None and reads_batches(self.dataset):
            return self.dataset.batch(indices)
        return collate([_sample(self.dataset, k, self.transform, self.seed, epoch) for k in indices.tolist()])

    def state_dict(self) -> dict[str, int]:
        """Return where the loader stands."""
        return {"batches_given": self.batches_given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batch at which `state_dict` was taken."""
        self.batches_given = state["batches_given"]


class MixedLoader:
    """Endless batches drawn from several sources of unequal size, such as one data set for each task.

    Each sample of a batch comes from source i with probability p_i = n_i^(1/T) / Σ n_j^(1/T), n_i its number of
    samples: T = 1 draws by size, T = infinity equally, 2 to 5 lie between. Within a source the samples come in a
    shuffled order, each once before any comes again. What a sample lacks is marked as `mtlkit.data.collate` does it;
    `batch["source"]` says where each one comes from.

    The state is how many batches were given out, and how many samples of each source: a resumed run sees the same.

    Args:
        sources: name → map-style data set.
        batch_size: samples in a batch.
        seed: of the draw, the order and the augmentation.
        temperature: T, above 0.
        transform: from sample to sample, as in `Loader`.
        group: processes of which each gets an equal part of every batch.

    Raises:
        DataError: if there is no source, one is empty, or a batch cannot be shared out.
        ValueError: if the temperature is not above 0.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        batch_size: int = 32,
        seed: int = 0,
        temperature: float = 1.0,
        transform: Callable[[Sample], Sample] | None = None,
        group: Group = ALONE,
    ) -> None:
        if not sources:
            raise DataError("there is no source: give at least one, name → data set")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: expected a number above 0, or infinity")
        for name, source in sources.items():
            _check_length(source, f"the source {name!r}")
        self.sources, self.batch_size, self.seed = dict(sources), _shared_size(batch_size, group), seed
        self.transform, self.group = transform, group
        self.proportions = mixture({name: len(source) for name, source in sources.items()}, temperature)
        self.batches_given, self.drawn = 0, dict.fromkeys(sources, 0)
        self._orders: dict[str, tuple[int, Tensor]] = {}

    @property
    def batches_per_epoch(self) -> int:
        """Batches that hold as many samples as there are in all sources together."""
        return max(1, sum(len(source) for source in self.sources.values()) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        names = list(self.sources)
        stream = torch.Generator().manual_seed(_mix(self.seed, self.batches_given))
        which = torch.multinomial(
            torch.tensor(list(self.proportions.values())), self.batch_size, replacement=True, generator=stream
        ).tolist()
        places = []
        for number in which:
            places.append((number, *divmod(self.drawn[names[number]], len(self.sources[names[number]]))))
            self.drawn[names[number]] += 1
        share = self.batch_size // self.group.size
        own = places[self.group.rank * share :][:share]
        batch = collate([self._sample(names[number], number, epoch, place) for number, epoch, place in own])
        if "source" in batch:
            raise DataError("samples have a key 'source', which says here where they come from: give it another name")
        batch["source"] = torch.tensor([number for number, _, _ in own])
        self.batches_given += 1
        return batch

    def _sample(self, name: str, number: int, epoch: int, place: int) -> Mapping[str, Any]:
        source = self.sources[name]
        if name not in self._orders or self._orders[name][0] != epoch or len(self._orders[name][1]) != len(source):
            generator = torch.Generator().manual_seed(_mix(self.seed, number, epoch))
            self._orders[name] = epoch, torch.randperm(len(source), generator=generator)
        sample = _sample(source, int(self._orders[name][1][place]), self.transform, self.seed, number, epoch)
        if not isinstance(sample, Mapping):
            raise DataError(
                f"a sample of the source {name!r} is a {type(sample).__name__}: expected a dictionary, whose keys say "
                "which targets it has"
            )
        return sample

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader stands."""
        return {"batches_given": self.batches_given, "drawn": dict(self.drawn)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch at which `state_dict` was taken.

        Raises:
            ValueError: if it was taken with other sources.
        """
        if list(state["drawn"]) != list(self.drawn):
            raise ValueError(f"the sources were {', '.join(state['drawn'])}; these are {', '.join(self.drawn)}")
        self.batches_given, self.drawn = state["batches_given"], dict(state["drawn"])


def mixture(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Return source → probability with which a sample of it is drawn at this temperature."""
    logits = np.log(list(sizes.values())) / temperature
    p = np.exp(logits - logits.max())
    return dict(zip(sizes, (p / p.sum()).tolist(), strict=True))


def reads_batches(dataset: Any) -> bool:
    """Whether a data set is read by a method `batch(indices)`; others' methods of that name do something else."""
    method = getattr(dataset, "batch", None)
    if not callable(method):
        return False
    return not hasattr(dataset, "__getitem__") or next(iter(signature(method).parameters), "") == "indices"


def _check_length(dataset: Any, what: str) -> None:
    try:
        if len(dataset):
            return
    except TypeError as error:
        raise DataError(f"{what} has no length: expected a map-style data set, or pass its batches to train") from error
    raise DataError(f"{what} is empty: there is nothing to train on")


def _shared_size(batch_size: int, group: Group) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected 1 or more")
    if batch_size % group.size:
        raise DataError(
            f"a batch of {batch_size} cannot be shared out among {group.size} processes: "
            f"take a batch size that is a multiple of {group.size}"
        )
    return batch_size


def _sample(dataset: Any, index: int, transform: Callable[[Sample], Sample] | None, *stream: int) -> Any:
    """Read a sample with a random stream of its own."""
    with torch.random.fork_rng(devices=[]), _other_streams():
        number = _mix(*stream, index)
        torch.default_generator.manual_seed(number)  # torch.manual_seed also begins the GPU's stream anew
        random.seed(number)
        np.random.seed(number % 2**32)
        if hasattr(dataset, "__getitem__"):
            sample = dataset[index]
        else:
            sample = {name: values[0] for name, values in dataset.batch(torch.tensor([index])).items()}
        check_sample(sample, index, dataset)
        if transform is None:
            return sample
        after = getattr(dataset, "after_transform", None)  # what follows from what the transform has left
        return after(transform(sample)) if after else transform(sample)


@contextmanager
def _other_streams() -> Iterator[None]:
    """Leave the random streams of Python and numpy, which a transform may use, where they were."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _mix(*numbers: int) -> int:
    return hash(numbers) % 2**63  # of integers: the same in every process
