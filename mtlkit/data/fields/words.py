"""Words of three jobs for one reader: names (which language, whose?) and numbers (from English into German)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from num2words import num2words
from torch import Tensor

from mtlkit.data.fields.names import ALPHABET, LANGUAGES, SHARES, names_of, plain
from mtlkit.data.memory import InMemory

LENGTH = 32  # letters of the longest English number below 1,000, and one
LARGEST = 999


class Words(InMemory):
    """First names of 14 languages, and the numbers from 0 to 999 in English words with their German ones.

    A sample is `{"letters": int64 [32], "language": int64 [], "gender": int64 [], "german": int64 [32]}`; a name has no
    "german" (-1 everywhere), a number no "language" and no "gender" (-1), and a name of both men and women no "gender"
    either. Letters are numbers in `ALPHABET`; in "german", a 0 follows the last letter, and -1 follows that.

    Args:
        split: "train", "val" or "test": 70, 10 and 20 % of each language's names, and of the numbers.
        names: language → how many of its names there are; all, if not named.
        numbers: whether there are numbers.
        seed: of which names these are.
    """

    def __init__(
        self, split: str = "train", names: Mapping[str, int] | None = None, numbers: bool = True, seed: int = 0
    ) -> None:
        if unknown := set(names or {}) - set(LANGUAGES):
            raise ValueError(f"unknown language {min(unknown)!r}: expected some of {', '.join(LANGUAGES)}")
        self.words: list[str] = []
        language, gender, german = [], [], []
        for number, (one, of_language) in enumerate(names_of(split).items()):
            order = np.random.default_rng((seed, number)).permutation(len(of_language))
            for k in sorted(order[: dict(names or {}).get(one, len(order))]):
                name, which = of_language[k]
                self.words.append(name)
                language.append(number)
                gender.append(which)
        pairs = numbers_of(split) if numbers else []
        german = [[-1] * LENGTH for _ in self.words]
        for english, other in pairs:
            self.words.append(english)
            german.append(_spelled(other))
        nothing = [-1] * len(pairs)
        mixed = (
            np.random.default_rng(0).permutation(len(self.words)).tolist()
        )  # so that the first ones are of all kinds
        self.words = [self.words[k] for k in mixed]
        self.letters = torch.tensor([_spelled(word, fill=0) for word in self.words]).reshape(-1, LENGTH)
        self.labels = {
            "language": torch.tensor(language + nothing)[mixed],
            "gender": torch.tensor(gender + nothing)[mixed],
            "german": torch.tensor(german).reshape(-1, LENGTH)[mixed],
        }

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return the letters."""
        return {"letters": self.letters[at]}


def numbers_of(split: str) -> list[tuple[str, str]]:
    """Return the numbers of a split, in English and in German words."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(LARGEST + 1)
    low, high = (round(share * len(order)) for share in SHARES[split])
    return [(plain(num2words(n)), plain(num2words(n, lang="de"))) for n in sorted(order[low:high].tolist())]


def spell(word: str) -> Tensor:
    """Return a word as numbers in `ALPHABET`, `int64 [32]`, filled up with zeros; longer ones are cut."""
    return torch.tensor(_spelled(plain(word), fill=0))


def read(numbers: Tensor) -> str:
    """Return the word that numbers `[32]` spell, up to the first 0 or -1."""
    letters = []
    for number in numbers.tolist():
        if number <= 0:
            break
        letters.append(ALPHABET[number])
    return "".join(letters)


def _spelled(word: str, fill: int = -1) -> list[int]:
    numbers = [ALPHABET.index(letter) for letter in word.replace(" ", "-")[: LENGTH - 1]] + [0]
    return numbers + [fill] * (LENGTH - len(numbers))
