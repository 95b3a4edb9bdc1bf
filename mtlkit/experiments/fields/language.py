"""What a language with few names gains from others."""

from collections.abc import Mapping
from functools import partial

from mtlkit.cases import find_case
from mtlkit.data.fields.names import LANGUAGES
from mtlkit.data.fields.words import Words
from mtlkit.experiments.fields.common import scored, table_of
from mtlkit.experiments.table import Experiment

LOW, FEW, HELPERS = "Spanish", (10, 30, 100), ("nothing", "Italian", "Turkish", "all others")
HELP = 147  # names: all that Italian has for training


def few_names(names: int, helper: str, seed: int) -> Mapping[str, float]:
    """Train "gender" on few names of one language and those of another, or of all; score it on that language."""
    others = {} if helper == "all others" else dict.fromkeys(LANGUAGES, 0)
    others |= {helper: HELP} if helper in LANGUAGES else {}
    train_set = Words("train", others | {LOW: names}, numbers=False, seed=seed)
    test = Words("test", dict.fromkeys(LANGUAGES, 0) | {LOW: 1000}, numbers=False)
    setup = find_case("language").setup(seed=seed, only="gender", method="EqualWeights", train_set=train_set)
    found = scored(setup, 400, {"test": test})
    return {column: found[column] for column in ("test gender/accuracy", "seconds")}


def language_experiments() -> list[Experiment]:
    """Return the table."""
    settings = {f"{n} {LOW}, {helper}": partial(few_names, n, helper) for n in FEW for helper in HELPERS}
    return [table_of("language_few", "400 steps of 64", ["test gender/accuracy", "seconds"], settings)]
