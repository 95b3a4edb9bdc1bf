"""What the notebooks say in numbers, held against the tables, the code and the outputs that the numbers are from."""

import math
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from test_landscape import ends_apart

from mtlkit.cases import find_case
from mtlkit.data.loader import mixture
from mtlkit.data.molecules import SIZES as MOLECULES
from mtlkit.data.text import SIZES
from mtlkit.experiments import PROBLEMS, compare, read, summarise
from mtlkit.experiments.ranks import PUBLISHED_QM9, agreement
from mtlkit.lab import MixingExplorer
from mtlkit.model import add_adapters
from mtlkit.weighting import METHODS, GradientWeighting

FILES = {file.name[:2]: file for file in (Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb")}
NUMBER = r"(-?\d{1,3}(?:,\d{3})+|-?\d+(?:\.\d+)?)"
# what a reader takes for a finding: a decimal, thousands, a percentage, a multiple
FINDING = re.compile(r"(?<![\w.,-])(?:\d{1,3}(?:,\d{3})+|\d+\.\d+(?! ·)|\d+ %|\d+(?:\.\d+)? times)(?!\.?\d)")
NOT_PROSE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|exercise \d+\.\d|\]\([^)]*\)")


@cache
def cells(number):
    return nbformat.read(FILES[number], as_version=4).cells


@cache
def text_of(number):
    whole = " ".join(" ".join(cell.source for cell in cells(number) if cell.cell_type == "markdown").split())
    return whole.split("## References")[0]


def printed(number, pattern):
    """Return the numbers that a notebook has printed in a place where the pattern has N."""
    outputs = [o for cell in cells(number) if cell.cell_type == "code" for o in cell.outputs]
    found = re.search(pattern.replace("N", NUMBER), "\n".join(o.get("text", "") for o in outputs))
    assert found, f"notebook {number} prints nothing like {pattern!r}"
    return [value(group) for group in found.groups()]


def value(said):
    return float(said.replace(",", ""))


@cache
def table(name):
    return summarise(read(name))


def mean(name, setting, column):
    return table(name)[setting][column].mean


SCORES = {
    "scenes": {"classify": "classify/accuracy", "detect": "detect/ap"},
    "multimnist": {"left": "left/accuracy", "right": "right/accuracy"},
}


@cache
def compared(which):
    return compare(read(f"weighting_{which}"), SCORES[which.removesuffix("_seconds")])


def gain(which, setting):
    return compared(which).summary[setting]["test Δm"].mean


def text(setting, task, column="accuracy"):
    return mean("text", setting, f"val {task}/{column}")


def parameters(which, *heads):
    model = find_case(which).new_model({"classes": "abcde", "box_classes": "0123456789"})
    return sum(p.numel() for p in model.encoder.parameters()) + sum(
        p.numel() for head in heads for p in model.task_parameters(head)
    )


def joint_to_both(column="cost", name="weighting_scenes_costs"):
    costs = {setting: found[column].mean for setting, found in table(name).items()}
    return costs["EqualWeights"] / (costs["classify alone"] + costs["detect alone"])


def seen_at(temperature):
    return MixingExplorer(temperature).seen()


def trained_adapters():
    model = add_adapters(find_case("text").new_model({}), len(SIZES))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# notebook → (what it says, with N for each number; the values)
CLAIMS = {
    "00": [],
    "01": [
        (r"it is ahead of them by N %, in the mean", lambda: [gain("scenes_seconds", "static 0.2")]),
        ("Ours has some N and more", lambda: [round(parameters("scenes", "classify"), -3)]),
        (
            r"took N times the processor time .*? with N times the parameters",
            lambda: [
                joint_to_both(),
                parameters("scenes", "classify", "detect")
                / (parameters("scenes", "classify") + parameters("scenes", "detect")),
            ],
        ),
    ],
    "02": [
        ("detection, N shared parameters", lambda: [parameters("scenes")]),
        ("In a space of N dimensions", lambda: [parameters("scenes")]),
        ("its ends lie up to N apart", lambda: [ends_apart(0.01)]),
    ],
    "03": [
        (r"falls from N \(that is ln 5", lambda: [math.log(5)]),
        (r"lands at N = ln 10", lambda: [math.log(10)]),
        (
            r"AP went from N to N and accuracy from N to N \(`data/results/weighting_scenes_rates.csv`",
            lambda: [
                mean("weighting_scenes_rates", setting, f"val {score}")
                for score in ("detect/ap", "classify/accuracy")
                for setting in ("EqualWeights x 1", "static 0.2 x 1")
            ],
        ),
    ],
    "04": [
        ("true directions live in N dimensions", lambda: [parameters("scenes")]),
        (r"about ±N on the accuracy", lambda: [math.sqrt(0.8 * 0.2 / 64)]),
    ],
    "05": [
        (
            r"is N %, where the constant 0.2 reaches N %\. \*\*PCGrad\*\*, perhaps the best known, gains N %",
            lambda: [gain("scenes_seconds", name) for name in ("NashMTL", "static 0.2", "PCGrad")],
        ),
        (
            r"IMTLG and FairGrad are better than the best constant by N, N and N points",
            lambda: [compared("scenes").gaps[name].mean for name in ("NashMTL", "IMTLG", "FairGrad")],
        ),
        (r"their step costs N times as much", lambda: [mean("weighting_scenes_costs", "NashMTL", "cost")]),
        (r"eleven properties of N small molecules", lambda: [sum(MOLECULES.values())]),
        (
            r"a step of .ash-MTL on eleven tasks costs N times as much",
            lambda: [mean("weighting_molecules_costs", "NashMTL", "cost")],
        ),
        (
            "all lie at most N points of Δm away",
            lambda: [
                max(
                    abs(gap.mean)
                    for which in ("multimnist", "multimnist_seconds")
                    for name, gap in compared(which).gaps.items()
                    if name != "UWSO"
                )
            ],
        ),
        (r"Our version has N pairs", lambda: [find_case("multimnist").values()["pairs"]]),
        (r"an encoder of N parameters", lambda: [parameters("multimnist")]),
    ],
    "09": [
        ("language model: N parameters", lambda: [parameters("text")]),
        (r"\(1\) N times, all of them.*?gone through N times", lambda: [seen_at(1.0)["english"]] * 2),
        (
            r"At about T = N: each of them N times or so",
            lambda: [3.2, seen_at(3.2)["count"]] if abs(mixture(SIZES, 3.2)["count"] - 0.1) < 0.002 else [],
        ),
        (r"English falls from N to N", lambda: [text("T = 1", "english"), text("T = inf", "english")]),
        (r'"reverse" from N to N', lambda: [text("T = 1", "reverse"), text("T = inf", "reverse")]),
        (r'"count" rises from N to N', lambda: [text("T = 1", "count"), text("T = inf", "count")]),
        (r'"sort" hardly cares \(N to N\)', lambda: [text("T = 1", "sort"), text("T = inf", "sort")]),
        (r"at any temperature \(N to N\)", lambda: [text("T = 1", "add"), text("T = inf", "add")]),
        (r"learns the new jobs best, N and N", lambda: [text("all weights", "add"), text("all weights", "count")]),
        (r"English falls to N, below", lambda: [text("all weights", "english")]),
        (r'enough for "add" \(N; "count" N\)', lambda: [text("adapters", "add"), text("adapters", "count")]),
        (r"\(N numbers are trained for five tasks", lambda: [trained_adapters()]),
        (
            r"would have a loss of N, says the law, and N % of the fits lie between N and N",
            lambda: printed("09", r"231,744,000 parameters: N, N % of the fits between N and N"),
        ),
        (
            r"at N parameters, the fits agree on N to N, and N was measured",
            lambda: [
                mean("text", "width 48", "parameters"),
                *printed("09", r"60,576 parameters: 1.82, 95 % of the fits between N and N"),
                text("width 48", "english", "loss"),
            ],
        ),
        (r"the same procedure says N, far outside", lambda: printed("09", "without the largest size: N at")),
    ],
}

# notebook → what it says with a number that is no finding: a setting, a definition, a task for the reader
GIVEN = {
    "00": [],
    "01": ["less than 30 % of", "more than 90 %, although"],
    "02": ["From $w_A = 0.1$", "$w_A = 0.01$"],
    "03": ["from 0.50 to 0.95; AP50 uses 0.50 alone", "overlap to 0.95", "With 300 steps, the mean of three seeds"],
    "04": [
        "2,000 scenes, 16 in a batch",
        "from 0.01 to 10",
        "is 100 times larger",
        "Take away 95 %",
        "weights to 0.01",
    ],
    "05": [
        "with losses of 0.1 and 2.0",
        "a cross-entropy of 1.3 among five textures is poor, and so is a detection loss of 1.3",
        "in 95 % of the draws",
    ],
    "09": [
        "from 500 to 20,000 distinct",
        "get 10 % of the draws",
        "the same 48,000 texts",
        "whether 48,000 texts",
        "a factor of 1,000",
    ],
}


@pytest.mark.parametrize(
    ("number", "claim", "values"), [(n, *claim) for n, claims in CLAIMS.items() for claim in claims]
)
def test_what_a_notebook_says_is_what_its_source_says(number, claim, values):
    found = re.search(claim.replace("N", NUMBER), text_of(number))
    assert found, f"notebook {number} no longer says {claim!r}"
    for said, right in zip(found.groups(), values(), strict=True):
        decimals = len(said.partition(".")[2])
        assert abs(value(said) - right) <= 0.5001 * 10**-decimals, (claim, said, right)


@pytest.mark.parametrize("number", sorted(FILES))
def test_every_number_in_the_text_has_a_source(number):
    text = text_of(number)
    known = [m.span() for claim, _ in CLAIMS[number] for m in re.finditer(claim.replace("N", NUMBER), text)]
    for phrase in GIVEN[number]:
        assert phrase in text, f"notebook {number} no longer says {phrase!r}"
        known += [m.span() for m in re.finditer(re.escape(phrase), text)]
    known += [m.span() for m in NOT_PROSE.finditer(text)]
    loose = [m for m in FINDING.finditer(text) if not any(a <= m.start() < b for a, b in known)]
    assert not loose, [text[max(0, m.start() - 50) : m.end() + 20] for m in loose]


def test_the_verdicts_of_notebook_05_follow_from_its_tables():
    seconds, steps = compared("scenes_seconds"), compared("scenes")
    assert seconds.tuned == "static 0.2" and seconds.beyond() == [] and set(seconds.worse()) == set(seconds.gaps)
    gradients = [name for name, made in METHODS.items() if issubclass(made, GradientWeighting)]
    assert max(gradients, key=lambda name: gain("scenes_seconds", name)) == "NashMTL"
    assert steps.better() == ["NashMTL", "IMTLG", "FairGrad"] and len(steps.beyond()) > 5
    digits = [compared("multimnist"), compared("multimnist_seconds")]
    assert all(found.tuned == "EqualWeights" and found.better() == [] for found in digits)
    assert steps.gaps["PCGrad"].p > 0.05 and digits[0].gaps["PCGrad"].p > 0.05
    assert all(gain("scenes", name) < 0 for name in steps.gaps)  # single tasks are ahead with equal steps


def test_the_verdict_on_eleven_tasks_follows_from_its_tables():
    scores = PROBLEMS["molecules"].scores()
    steps, seconds = (
        compare(read(f"weighting_molecules{end}"), scores, set(scores.values())) for end in ("", "_seconds")
    )

    def order(found):
        return agreement({name: -found.summary[name]["test Δm"].mean for name in PUBLISHED_QM9}, PUBLISHED_QM9)

    first = sorted(PUBLISHED_QM9, key=lambda name: -steps.summary[name]["test Δm"].mean)
    assert first[:2] == ["FairGrad", "NashMTL"] and {"FairGrad", "NashMTL"} < set(
        sorted(PUBLISHED_QM9, key=PUBLISHED_QM9.get)[:3]
    )
    assert order(steps).low > 0.4 and order(seconds).low < 0 < order(seconds).high
    assert seconds.better() == ["Uncertainty", "IMTLL", "GeometricMean"]
    assert not any(issubclass(METHODS[name], GradientWeighting) for name in seconds.better())
