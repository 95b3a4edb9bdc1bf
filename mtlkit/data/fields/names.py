"""First names: from which language, a man's or a woman's? From the word lists of Faker (MIT), a package on PyPI."""

import unicodedata
from collections import defaultdict
from functools import cache
from importlib import import_module

import numpy as np

LANGUAGES = {
    "Danish": ("da_DK",),
    "Dutch": ("nl_NL",),
    "English": ("en_GB", "en_US"),
    "Finnish": ("fi_FI",),
    "French": ("fr_FR", "fr_QC"),
    "German": ("de_DE",),
    "Icelandic": ("is_IS",),
    "Indonesian": ("id_ID",),
    "Irish": ("ga_IE",),
    "Italian": ("it_IT",),
    "Romanian": ("ro_RO",),
    "Spanish": ("es_ES", "es_CL", "es_CO"),
    "Swedish": ("sv_SE",),
    "Turkish": ("tr_TR",),
}
GENDERS = ("male", "female")
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz-"  # the first stands for what follows a name
SHARES = {"train": (0.0, 0.7), "val": (0.7, 0.8), "test": (0.8, 1.0)}


def names_of(split: str) -> dict[str, list[tuple[str, int]]]:
    """Return language → names of a split with the number of their gender in `GENDERS`, -1 for both.

    Only names that are in one language's list are kept, without accents, and each once. A split has 70, 10 or
    20 % of each language's names, drawn once and for all.

    Raises:
        ValueError: if there is no such split.
    """
    if split not in SHARES:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SHARES)}")
    found = {}
    for number, (language, names) in enumerate(known_names().items()):
        order = np.random.Generator(np.random.PCG64(number)).permutation(len(names))
        low, high = (round(share * len(order)) for share in SHARES[split])
        found[language] = [names[k] for k in sorted(order[low:high])]
    return found


def plain(name: str) -> str:
    """Return a name in small letters without accents: what only a spelling would give away does not count."""
    special = str.maketrans(
        {"ß": "ss", "æ": "ae", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i", "ł": "l", "\u2019": "'"}
    )
    letters = unicodedata.normalize("NFD", name.strip().lower().translate(special))
    return "".join(letter for letter in letters if letter in ALPHABET)


@cache
def known_names() -> dict[str, list[tuple[str, int]]]:
    """Return language → its names with the number of the gender, -1 for both; no name is in two languages."""
    everything = _all_lists()
    found: dict[str, list[tuple[str, int]]] = {language: [] for language in LANGUAGES}
    for name, uses in sorted(everything.items()):
        languages = {language for language, _ in uses}
        if len(languages) == 1:
            genders = {gender for _, gender in uses}
            found[languages.pop()].append((name, genders.pop() if len(genders) == 1 else -1))
    return found


def ambiguous() -> tuple[int, int]:
    """Return how many names stand in the lists of several languages, and how many there are in all."""
    everything = _all_lists()
    return sum(len({language for language, _ in uses}) > 1 for uses in everything.values()), len(everything)


@cache
def _all_lists() -> dict[str, set[tuple[str, int]]]:
    uses: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for language, places in LANGUAGES.items():
        for place in places:
            lists = import_module(f"faker.providers.person.{place}").Provider
            for gender, which in enumerate(GENDERS):
                for name in getattr(lists, f"first_names_{which}"):
                    if len(spelled := plain(name)) > 1:
                        uses[spelled].add((language, gender))
    return dict(uses)
