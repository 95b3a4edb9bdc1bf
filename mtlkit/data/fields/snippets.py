"""Sentences from four places, each with how positive people found it: real text, downloaded."""

import csv
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtlkit.data.errors import DataError
from mtlkit.data.memory import InMemory

DOMAINS = ("tweet", "movie", "product", "news")
FILES = {  # in the authors' archive; each line: number, mean of 20 ratings, text
    "tweets_GroundTruth.txt": "tweet",
    "movieReviewSnippets_GroundTruth.txt": "movie",
    "amazonReviewSnippets_GroundTruth.txt": "product",
    "nytEditorialSnippets_GroundTruth.txt": "news",
}
LENGTH = 32  # words; longer sentences are cut
SPLITS = ("train", "val", "test")
WORD = re.compile(r"[a-z']+|[0-9]+|[!?.:;()]+")


class Snippet(NamedTuple):
    """A sentence: which split it belongs to, where it is from, its valence in -4..4, and its text."""

    split: str
    domain: str
    valence: float
    text: str


class Snippets(InMemory):
    """Sentences of tweets, film reviews, product reviews and editorials, with ratings of their sentiment.

    C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
    ICWSM 2014 (MIT).

    A sample is `{"words": int64 [32], "domain": int64 [], "valence": float32 []}`: words as numbers in `vocabulary`, 1
    for one that is rare, filled up with 0; and the mean rating from -4 to 4.

    Args:
        folder: holds the authors' archive, or `snippets.csv.gz` with the columns split, domain, valence, text.
        split: "train", "val" or "test". Sentences of one product review or editorial are all in the same one, and film
            sentences in blocks of a hundred, as neighbours are often of one review. A prepared file has splits of its
            own; where it has no "val", a tenth of its "train" sentences take that place.
        least: how often a word must occur in the training sentences to be known.

    Raises:
        DataError: if there is no such file, or a line of it cannot be read.
    """

    domains = DOMAINS

    def __init__(self, folder: str | Path, split: str = "train", least: int = 3) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
        everything = read_snippets(Path(folder))
        seen = Counter(word for one in everything if one.split == "train" for word in words_of(one.text))
        self.vocabulary = ("", "?", *sorted(word for word, times in seen.items() if times >= least))
        number = {word: k for k, word in enumerate(self.vocabulary)}
        own = [one for one in everything if one.split == split]
        self.texts = [one.text for one in own]
        self.words = torch.zeros(len(own), LENGTH, dtype=torch.int64)
        for k, one in enumerate(own):
            known = [number.get(word, 1) for word in words_of(one.text)[:LENGTH]]
            self.words[k, : len(known)] = torch.tensor(known or [1])
        self.labels = {
            "domain": torch.tensor([DOMAINS.index(one.domain) for one in own]),
            "valence": torch.tensor([one.valence for one in own], dtype=torch.float32),
        }

    def inputs(self, at: Tensor) -> dict[str, Any]:
        """Return the words."""
        return {"words": self.words[at]}


def words_of(text: str) -> list[str]:
    """Return the words, numbers and marks of a text, in small letters."""
    return WORD.findall(text.lower().replace("\u2019", "'"))


@cache
def read_snippets(folder: Path) -> tuple[Snippet, ...]:
    """Return all sentences of a folder, each text once for each domain."""
    try:
        return _read(folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError, AttributeError) as error:
        raise DataError(
            f"the sentences in {folder} are damaged ({error!r}): delete that folder and fetch it again"
        ) from error


def _read(folder: Path) -> tuple[Snippet, ...]:
    prepared = sorted(folder.rglob("snippets.csv.gz"))
    archives = sorted(folder.rglob("hutto_ICWSM_2014.tar.gz"))
    if prepared:
        with gzip.open(prepared[0], "rt", encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        found = [_checked(row["split"], row["domain"], row["valence"], row["text"], prepared[0]) for row in rows]
        if not any(one.split == "val" for one in found):
            found = [
                one._replace(split="val") if one.split == "train" and _part(one.text) < 1 else one for one in found
            ]
    elif archives:
        found = list(_from_archive(archives[0]))
    else:
        raise DataError(f"{folder} has no snippets: mtlkit data get sentiment fetches them")
    return tuple({(one.domain, one.text): one for one in found}.values())


def _from_archive(file: Path) -> list[Snippet]:
    found = []
    with tarfile.open(file) as archive:
        for member in archive:
            domain = FILES.get(Path(member.name).name)
            content = archive.extractfile(member) if domain and member.isfile() else None
            if domain is None or content is None or Path(member.name).name.startswith("._"):
                continue
            for line in io.TextIOWrapper(content, encoding="utf-8", errors="replace"):
                if not line.strip():
                    continue
                number, _, rest = line.rstrip("\n").partition("\t")
                valence, _, text = rest.partition("\t")
                document = number.partition("_")[0] if domain in ("product", "news") else number
                if domain == "movie" and number.isdecimal():
                    document = str(int(number) // 100)
                place = _part(f"{domain} {document}")
                split = "val" if place < 1 else "test" if place < 3 else "train"
                found.append(_checked(split, domain, valence, text.strip(), file))
    if not found:
        raise DataError(f"{file} holds none of {', '.join(FILES)}: delete it and fetch it again")
    return found


def _part(text: str) -> int:
    """Return a number from 0 to 9 that depends on the text alone."""
    return hashlib.sha256(text.encode()).digest()[0] % 10


def _checked(split: str, domain: str, valence: str, text: str, file: Path) -> Snippet:
    try:
        number = float(valence)
    except ValueError:
        raise DataError(f"{file}: the sentence {text[:40]!r} is rated {valence!r}, which is not a number") from None
    if split not in SPLITS or domain not in DOMAINS or not -4 <= number <= 4:
        raise DataError(
            f"{file}: the sentence {text[:40]!r} has split {split!r}, domain {domain!r}, valence {valence}: expected "
            f"one of {', '.join(SPLITS)}, one of {', '.join(DOMAINS)}, and -4 to 4"
        )
    return Snippet(split, domain, number, text)
