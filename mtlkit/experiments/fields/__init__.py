"""Four fields: together or alone, and what is special about each: `mtlkit experiments fields`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mtlkit.cases import find_case
from mtlkit.experiments.budget import Budget
from mtlkit.experiments.fields.driving import driving_experiments
from mtlkit.experiments.fields.health import cells_experiments, tumours_experiments
from mtlkit.experiments.fields.language import language_experiments
from mtlkit.experiments.fields.speech import speech_experiments
from mtlkit.experiments.table import Experiment
from mtlkit.experiments.weighting import Problem, contest_of


def together_or_alone(name: str, steps: int, weighted: tuple[str, ...], **knobs: Any) -> Problem:
    """Return the comparison of a field: each task alone, and together with equal weights, others, and two methods."""
    return Problem(
        find_case(name, **knobs),
        Budget(steps=steps),
        (0.3, 3),
        name,
        weighted,
        stand_ins=(0.3, 3),
        rates=(1.0, 3.0),
        seeds=2,
        runs=5,
        methods=("EqualWeights", "Uncertainty", "NashMTL"),
        standard="EqualWeights",
        kind="fields",
    )


FIELDS: dict[str, tuple[Callable[[], Problem], Callable[[], list[Experiment]]]] = {
    "language": (partial(together_or_alone, "language", 600, ("german",)), language_experiments),
    "speech": (partial(together_or_alone, "speech", 300, ("digits",), clips=2000, voices="espeak"), speech_experiments),
    "tumours": (partial(together_or_alone, "tumours", 300, ("diagnosis",)), tumours_experiments),
    "cells": (partial(together_or_alone, "cells", 250, ("detect",), smears=1200, test_smears=400), cells_experiments),
    "roads": (partial(together_or_alone, "roads", 250, ("detect",), scenes=2000, test_scenes=600), driving_experiments),
}


def field_experiments(name: str) -> list[Experiment]:
    """Return the experiments of a field, in the order in which they must be run."""
    problem, special = FIELDS[name]
    return [*contest_of(problem()).experiments(), *special()]
