"""Recordings of people: known speakers, and one who is in no training clip."""

from collections.abc import Mapping
from functools import partial

from mtlkit.cases import find_case
from mtlkit.data import data_folder
from mtlkit.experiments.fields.common import scored, table_of
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import data

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
COLUMNS = ("test word/accuracy", "test voice/accuracy", "test digits/error", "seconds")


def recordings(only: str | None, stranger: str, seed: int) -> Mapping[str, float]:
    """Train on the recordings of `mtlkit data get fsdd`, and score on others: of known speakers, or of a stranger."""
    case = find_case("speech", folder=str(data_folder() / "fsdd"), stranger=stranger)
    setup = case.setup(seed=seed, only=only, method="EqualWeights", train_set=data(case, "train"))
    found = scored(setup, 400, {"test": data(case, "test")})
    return {name: value for name, value in found.items() if name in COLUMNS}


def speech_experiments() -> list[Experiment]:
    """Return the table."""
    tasks: Mapping[str, str | None] = {"together": None} | {f"{one} alone": one for one in ("word", "voice", "digits")}
    settings = {f"{name}, known speakers": partial(recordings, only, "") for name, only in tasks.items()} | {
        f"{name}, without {speaker}": partial(recordings, only, speaker)
        for name, only in tasks.items()
        if only != "voice"
        for speaker in SPEAKERS
    }
    return [table_of("speech_people", "400 steps of 32", COLUMNS, settings, seeds=3)]
