"""Text tasks for one small language model: a first token says which, the model writes on.

English comes from the help texts of Python itself (`pydoc_data.topics`, Python Software Foundation License); the other
tasks are made.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from hashlib import blake2b
from random import Random

import numpy as np
import torch
from torch import Tensor

from mtlkit.data.digits import SPLITS
from mtlkit.data.loader import mixture

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = " " + LETTERS + "0123456789.,'()-+=|"  # "|" ends an answer
LENGTH = 32  # tokens of a sample, the first one included
SIZES = {"english": 20_000, "reverse": 8000, "sort": 4000, "add": 2000, "count": 500}  # distinct training samples
TASKS = tuple(SIZES)
VOCABULARY = (*(f"{task}:" for task in TASKS), *ALPHABET)
_TOKEN = {text: number for number, text in enumerate(VOCABULARY)}


class TextTasks:
    """Samples of several text tasks, drawn with a temperature: task i with probability n_i^(1/T) / Σ n_j^(1/T).

    n_i is the number of distinct samples of task i. T = 1 draws every sample equally often, so that the largest task
    rules; T → ∞ draws every task equally often, so that the smallest repeats its samples (Arivazhagan et al.,
    "Massively multilingual neural machine translation in the wild", arXiv:1907.05019).

    A sample is `{"tokens": int64 [LENGTH - 1], "target": int64 [LENGTH - 1], "task": int64 []}`: the target is what
    follows each token, -1 where it need not be predicted. Training, validation and test samples are disjoint.

    Args:
        split: "train", "val" or "test". Outside of training every task is drawn equally often, from 500 samples.
        n: how many samples are drawn in all.
        temperature: T, above 0; `float("inf")` is allowed.
        seed: of the samples and the draw.
        sizes: task → number of distinct training samples.

    Raises:
        ValueError: if the split or a task is unknown, a number is out of range, or there are too few samples.
    """

    def __init__(
        self,
        split: str,
        n: int = 20_000,
        temperature: float = 1.0,
        seed: int = 0,
        sizes: Mapping[str, int] = SIZES,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        if unknown := set(sizes) - set(TASKS):
            raise ValueError(f"there is no text task {min(unknown)!r}: expected {', '.join(TASKS)}")
        if n < 1 or not temperature > 0 or not all(size > 0 for size in sizes.values()):
            raise ValueError(f"n={n}, temperature={temperature} and all sizes must be above 0")
        self.split, self.sizes = split, dict(sizes)
        if split != "train":
            self.sizes, temperature = dict.fromkeys(sizes, 500), float("inf")
        self.proportions = mixture(self.sizes, temperature)
        pools = {task: _pool(task, split, size, seed) for task, size in self.sizes.items()}
        rng = np.random.default_rng([seed, SPLITS.index(split), 99])
        which = rng.choice(len(pools), n, p=list(self.proportions.values()))
        self.rows = np.empty((n, LENGTH), np.uint8)
        for k, pool in enumerate(pools.values()):
            here = which == k
            self.rows[here] = pool[rng.integers(len(pool), size=here.sum())]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """Return many samples at once."""
        rows = torch.from_numpy(self.rows[indices.numpy()]).long()
        tokens, following = rows[:, :-1], rows[:, 1:]
        english = tokens[:, :1] == _TOKEN["english:"]
        answer = (tokens == _TOKEN["="]).cumsum(1) > 0  # what follows "=" is the answer, up to "|"
        over = (tokens == _TOKEN["|"]).cumsum(1) > 0
        target = torch.where((english | answer) & ~over, following, -1)
        return {"tokens": tokens, "target": target, "task": tokens[:, 0].clone()}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: tensor[0] for name, tensor in self.batch(torch.tensor([index])).items()}


def encode(text: str) -> list[int]:
    """Return the tokens of a text such as "sort:bca=abc|"."""
    task, colon, rest = text.partition(":")
    if colon and f"{task}:" in _TOKEN:
        return [_TOKEN[f"{task}:"], *(_TOKEN[character] for character in rest)]
    return [_TOKEN[character] for character in text]


def decode(tokens: Tensor) -> str:
    """Return the text of `tokens [T]`."""
    return "".join(VOCABULARY[token] for token in tokens.tolist())


def _word(random: Random, letters: str, longest: int) -> str:
    return "".join(random.choices(letters, k=random.randint(3, longest)))


def _reverse(random: Random) -> tuple[str, str]:
    word = _word(random, LETTERS, 8)
    return word, word[::-1]


def _sort(random: Random) -> tuple[str, str]:
    word = _word(random, LETTERS, 8)
    return word, "".join(sorted(word))


def _add(random: Random) -> tuple[str, str]:
    a, b = random.randrange(1000), random.randrange(1000)
    return f"{a}+{b}", str(a + b)[::-1]  # the last digit first: each then follows from what is there


def _count(random: Random) -> tuple[str, str]:
    word = _word(random, "ab", 12)
    return word, str(word.count("a"))


_MADE: dict[str, Callable[[Random], tuple[str, str]]] = {
    "reverse": _reverse,
    "sort": _sort,
    "add": _add,
    "count": _count,
}


@cache
def _english() -> np.ndarray:
    """Return Python's help texts as tokens: lower case, other characters and runs of blanks as one blank."""
    from pydoc_data import topics

    text = " ".join(topics.topics[name] for name in sorted(topics.topics)).lower()
    text = re.sub(f"[^{re.escape(ALPHABET[:-1])}]+| +", " ", re.sub(r"[-=|*]{2,}", " ", text))
    return np.array([_TOKEN[character] for character in re.sub(" +", " ", text)], np.uint8)


@lru_cache(64)
def _pool(task: str, split: str, size: int, seed: int) -> np.ndarray:
    """Return `uint8 [size, LENGTH]`: distinct samples of a task that no other split has.

    Raises:
        ValueError: if there are not so many.
    """
    rows = _windows(split, size, seed) if task == "english" else _questions(task, split, size, seed)
    if len(rows) < size:
        raise ValueError(
            f"sizes asks for {size:,} distinct samples of {task!r} for {split!r}, but there are only {len(rows):,}: "
            "ask for no more"
        )
    padded = np.full((size, LENGTH), _TOKEN["|"], np.uint8)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    padded.flags.writeable = False  # it is kept
    return padded


def _windows(split: str, size: int, seed: int) -> list[list[int]]:
    """Return up to `size` different pieces of English: each split has its part of the text, and no piece of another."""
    text = _english()
    first, last = (int(share * len(text)) for share in {"train": (0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1)}[split])
    before = text[:first].tobytes()  # sentences come back in the help texts, so some pieces are in two parts
    rows: dict[bytes, list[int]] = {}
    for begin in np.random.default_rng([seed, SPLITS.index(split)]).permutation(np.arange(first, last - LENGTH)):
        piece = text[begin : begin + LENGTH - 1]
        if (key := piece.tobytes()) not in rows and key not in before:
            rows[key] = [_TOKEN["english:"], *piece.tolist()]
        if len(rows) == size:
            break
    return list(rows.values())


def _questions(task: str, split: str, size: int, seed: int) -> list[list[int]]:
    """Return up to `size` different questions with their answers; fewer if there seem to be no more."""
    random, rows, in_vain = Random(f"{seed} {task} {split}"), dict[str, list[int]](), 0
    while len(rows) < size and in_vain < 200_000:
        question, answer = _MADE[task](random)
        in_vain += 1
        if question not in rows and _split_of(question) == split:
            rows[question], in_vain = encode(f"{task}:{question}={answer}|"), 0
    return list(rows.values())


def _split_of(question: str) -> str:
    """Assign every question to one split, whatever the seed: 8 in 10 to training, by a hash of all its characters."""
    number = int.from_bytes(blake2b(question.encode(), digest_size=8).digest(), "big") % 10
    return "train" if number < 8 else "val" if number == 8 else "test"
