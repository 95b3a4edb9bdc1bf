"""What the notebooks say in numbers, held against the tables, the code and the outputs that the numbers are from."""

import inspect
import math
import re
from functools import cache

import numbers_fields
import pytest
from numbers_said import (
    COUNT,
    FILES,
    FINDING,
    NOT_PROSE,
    NUMBER,
    counted,
    ends,
    gap,
    mean,
    printed,
    shown,
    table,
    text_of,
    told_by_tables,
    value,
)
from test_landscape import ends_apart

from mtlkit.cases import find_case
from mtlkit.data.facts import FACTS
from mtlkit.data.fields.names import LANGUAGES, known_names
from mtlkit.data.loader import mixture
from mtlkit.data.molecules import SIZES as MOLECULES
from mtlkit.data.text import SIZES
from mtlkit.experiments import (
    PROBLEMS,
    compare,
    differences,
    experiments_of,
    read,
    spread_ratio,
    summarise,
    with_delta_m,
)
from mtlkit.experiments.architectures import HARD
from mtlkit.experiments.beyond.insight import LAYERS
from mtlkit.experiments.beyond.search import EVERY
from mtlkit.experiments.claims import LABELS
from mtlkit.experiments.fields.language import FEW, LOW
from mtlkit.experiments.ranks import PUBLISHED_QM9, agreement
from mtlkit.experiments.troubles import SIZES as MIXED
from mtlkit.insight import ATTRIBUTIONS
from mtlkit.lab import MixingExplorer
from mtlkit.lab.landscape.landscape import Landscape
from mtlkit.lab.live.branch import SCORE_EVERY
from mtlkit.model import add_adapters
from mtlkit.weighting import METHODS, GradientWeighting

SCORES = {
    "scenes": {"classify": "classify/accuracy", "detect": "detect/ap"},
    "multimnist": {"left": "left/accuracy", "right": "right/accuracy"},
}


AP = "test detect/ap"


@cache
def compared(which):
    return compare(read(f"weighting_{which}"), SCORES[which.removesuffix("_seconds")])


def gain(which, setting):
    return compared(which).summary[setting]["test Δm"].mean


def transferred(opponent, setting, how):
    return gap("claims_transfer", f"test {how}", opponent, setting).mean


def frozen_before_tuned(origin):
    return mean("claims_transfer", origin, "test frozen") - mean("claims_transfer", origin, "test fine-tuned")


@cache
def gains_of_pairs():
    """Return (task, partner) → what the task gained from it, in points; the partner may be "all five"."""
    found = {}
    for task in FACTS:
        for other in [*FACTS, "all five"]:
            group = "+".join(one for one in FACTS if other == "all five" or one in (task, other))
            if other != task:
                found[task, other] = 100 * gap("claims_pairs", f"test {task}/accuracy", task, group).mean
    return found


def joint_ones():
    return [name for name in compared("scenes_seconds").summary if not name.endswith(" alone")]


def ahead(alone, column):
    """Return how many joint networks have a higher mean than a single-task network, with equal seconds."""
    summary = compared("scenes_seconds").summary
    return sum(summary[name][column].mean > summary[alone][column].mean for name in joint_ones())


NARROW = ("cross-stitch", "attention", "MMoE", "PLE", "adapters")


@cache
def ways_table(which):
    return with_delta_m(read(f"architectures_{which}"), SCORES[which.removesuffix("_seconds")])


def ways_gain(which, way):
    return summarise(ways_table(which))[way]["test Δm"].mean


def ways_gap(which, way):
    others = [one for one in summarise(ways_table(which)) if not one.endswith(" alone") and one != HARD]
    return differences(ways_table(which), "test Δm", HARD, others)[way]


def field_gap(which, score, opponent, setting):
    """Return the difference to a single task, corrected for the five ways to train together."""
    rows = read(f"fields_{which}")
    together = [name for name in summarise(rows) if not name.endswith(" alone")]
    return differences(rows, f"test {score}", opponent, together)[setting]


def few_gap(n, opponent, helper):
    return gap("fields_language_few", "test gender/accuracy", f"{n} {LOW}, {opponent}", f"{n} {LOW}, {helper}")


@cache
def negative_gaps():
    rows = read("claims_negative")
    names = [name for name in summarise(rows) if name.startswith("detect +")]
    return differences(rows, AP, "detect alone", names)


def text(setting, task, column="accuracy"):
    return mean("text", setting, f"val {task}/{column}")


def parameters(which, *heads):
    model = find_case(which).new_model({"classes": "abcde", "box_classes": "0123456789"})
    return sum(p.numel() for p in model.encoder.parameters()) + sum(
        p.numel() for head in heads for p in model.task_parameters(head)
    )


def joint_to_both(column="cost", name="weighting_scenes_costs", method="EqualWeights"):
    costs = {setting: found[column].mean for setting, found in table(name).items()}
    return costs[method] / (costs["classify alone"] + costs["detect alone"])


def seen_at(temperature):
    return MixingExplorer(temperature).seen()


def trained_adapters():
    model = add_adapters(find_case("text").new_model({}), len(SIZES))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def inside(which, setting, column):
    return mean(f"insight_{which}", setting, column)


# notebook → (what it says, with N for each number; the values)
CLAIMS = {
    "00": [],
    "01": [
        (
            r"every weighting method, at N to N of the cost",
            lambda: ends(joint_to_both(method=name) for name in METHODS if name in table("weighting_scenes_costs")),
        ),
        (
            r"twice their AP \(N against N\); ten seeds cannot tell the accuracies apart \(N against N\)",
            lambda: [
                compared("scenes_seconds").summary[name][f"test {score}"].mean
                for score, alone in (("detect/ap", "detect alone"), ("classify/accuracy", "classify alone"))
                for name in ("static 0.2", alone)
            ],
        ),
        ("Each of ours has one set of at least N", lambda: [round(parameters("scenes", "classify"), -3)]),
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
        ("In N dimensions", lambda: [parameters("scenes")]),
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
        (r"about ±N on the accuracy", lambda: [1.96 * math.sqrt(0.8 * 0.2 / 64)]),
    ],
    "05": [
        (
            r"is N %, where the constant 0.2 reaches N %",
            lambda: [gain("scenes_seconds", name) for name in ("NashMTL", "static 0.2")],
        ),
        (
            r"FairGrad, are better than the best constant, by N, N and N points of Δm; three are worse, .*? other N",
            lambda: [
                *(compared("scenes").gaps[name].mean for name in ("NashMTL", "IMTLG", "FairGrad")),
                len(compared("scenes").gaps) - len(compared("scenes").better()) - len(compared("scenes").worse()),
            ],
        ),
        (
            r".ash-MTL and IMTL-G are N and N points of Δm ahead of ConFIG",
            lambda: [gain("scenes", name) - gain("scenes", "ConFIG") for name in ("NashMTL", "IMTLG")],
        ),
        (
            r"most of the N joint networks are ahead, mainly in detection: N have a higher AP, N a higher",
            lambda: [len(joint_ones()), ahead("detect alone", AP), ahead("classify alone", "test classify/accuracy")],
        ),
        (
            r"with equal seconds, it is N points behind",
            lambda: [gain("scenes_seconds", "EqualWeights") - gain("scenes_seconds", "PCGrad")],
        ),
        (r"a step of these three costs N times as much", lambda: [mean("weighting_scenes_costs", "NashMTL", "cost")]),
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
        (r"Ours has N pairs", lambda: [find_case("multimnist").values()["pairs"]]),
        (r"an encoder of only N parameters", lambda: [parameters("multimnist")]),
    ],
    "06": [
        (
            r"by N, N, N, N and N points, from 10 labels to 1,000",
            lambda: [
                100 * gap("claims_labels", "test accuracy", f"alone, {n} labels", f"together, {n} labels").mean
                for n in LABELS
            ],
        ),
        (
            r"fine-tuned \(by N and N points\)",
            lambda: [100 * transferred(f, "detect + count", "fine-tuned") for f in ("count", "detect")],
        ),
        (r"which features to read; N parameters only", lambda: [round(parameters("scenes"), -4)]),
        (
            r"by N to N points\. With 300 labels",
            lambda: sorted(100 * frozen_before_tuned(one) for one in ("detect", "count", "detect + count"))[::2],
        ),
        (r"The largest number, \+N for the sum", lambda: [max(gains_of_pairs().values())]),
        (
            r"each of its partners N to N points",
            lambda: sorted(-gains_of_pairs()[one, "colour"] for one in FACTS if one != "colour")[::3],
        ),
        (
            r"takes N points of AP, the one that competes \(texture\) N, random labels N",
            lambda: [
                -100 * gap("claims_negative", AP, "detect alone", f"detect + {one}").mean
                for one in ("count", "texture", "random")
            ],
        ),
        (
            r"gained from the same pair, from N to N",
            lambda: [
                mean("claims_negative", one, "test classify/accuracy") for one in ("count alone", "detect + count")
            ],
        ),
        (
            r"most of the AP: N beside texture and N beside random labels",
            lambda: [mean("claims_negative", f"detect + {one}, weight 0.2", AP) for one in ("texture", "random")],
        ),
        (
            r"from alone, p = N\); but the accuracy of texture is then N instead of N",
            lambda: [
                negative_gaps()["detect + random, weight 0.2"].p,
                *(
                    mean("claims_negative", f"detect + texture{how}", "test classify/accuracy")
                    for how in (", weight 0.2", "")
                ),
            ],
        ),
        (
            r"notebook 07\) gave N, a wider network N, .ash-MTL N\.",
            lambda: [
                mean("claims_negative", f"detect + texture, {one}", AP) for one in ("fork 3", "wider", "Nash-MTL")
            ],
        ),
        (
            r"they took N, N and N steps in place of N\.",
            lambda: [
                mean("claims_negative", f"detect + texture{one}", "steps")
                for one in (", fork 3", ", wider", ", Nash-MTL", "")
            ],
        ),
        (
            r"better than alone, by N points: a",
            lambda: [100 * gap("claims_mixture", "test right/accuracy", "right alone", "T = inf").mean],
        ),
        (
            r'"scale": alone N %, equal weights N %',
            lambda: [
                100 * mean("claims_troubles", f"scale: {one}", "test left/accuracy")
                for one in ("left alone", "equal weights")
            ],
        ),
        (
            r"balances lengths hides it \(N %\)",
            lambda: [100 * mean("claims_troubles", "scale: NashMTL", "test left/accuracy")],
        ),
        (r"T = N\. \(3\) Three times", lambda: [2.1] if abs(mixture(MIXED, 2.1)["right"] - 0.1) < 0.005 else []),
        (r"\(1\) N, on average", lambda: [64 * mixture(MIXED, 1.0)["right"]]),
    ],
    "07": [
        (r"hard sharing, by N points, and that", lambda: [ways_gap("scenes", "fork 1").mean]),
        (r"beyond chance \(N % against N %\)", lambda: [ways_gain("scenes", way) for way in ("fork 1", HARD)]),
        (r"hard sharing is N % ahead", lambda: [ways_gain("scenes_seconds", HARD)]),
        (
            r"up to N times as much, and a budget of N to N steps",
            lambda: [
                max(one["cost"].mean for one in table("architectures_scenes_costs").values()),
                *ends(mean("architectures_scenes_seconds", way, "steps") for way in (*NARROW, "fork 3")),
            ],
        ),
    ],
    "08": [
        ("have from N to N names", lambda: [f(map(len, known_names().values())) for f in (min, max)]),
        (r"every time scores N %", lambda: [100 / len(LANGUAGES)]),
        (
            r'"Language" loses N points when',
            lambda: [-100 * field_gap("language", "language/balanced", "language alone", "EqualWeights").mean],
        ),
        (
            r"600 joint steps cost as much as N steps of each classifier alone plus N of the translator",
            lambda: [mean("fields_language_seconds", f"{one} alone", "steps") for one in ("language", "german")],
        ),
        (
            r"is now N points ahead\. German, which has too few steps alone, gains N points .*? \(p = N\)",
            lambda: [
                -100 * field_gap("language_seconds", "language/balanced", "language alone", "EqualWeights").mean,
                100 * field_gap("language_seconds", "german/exact", "german alone", "EqualWeights").mean,
                field_gap("language_seconds", "german/exact", "german alone", "EqualWeights").p,
            ],
        ),
        (
            r"in numbers: N % against N %\. And yet .*? more than the N % that",
            lambda: [
                100 * one
                for one in printed("08", "shared by three tasks .*? probe: N\ngender alone .*? probe: N\n.*? one: N")
            ],
        ),
        (
            r"Italian adds N points\. Turkish adds nothing; at 100 names it even takes N",
            lambda: [100 * few_gap(10, "nothing", "Italian").mean, -100 * few_gap(100, "nothing", "Turkish").mean],
        ),
        (
            r"between the two helpers, N, N and N points",
            lambda: [100 * few_gap(n, "Turkish", "Italian").mean for n in FEW],
        ),
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
        (r"at any temperature \(N to N, too small", lambda: [text("T = 1", "add"), text("T = inf", "add")]),
        (
            r'learns the new jobs best, "add" to N \(.*?\) and "count" to N',
            lambda: [text("all weights", "add"), text("all weights", "count")],
        ),
        (r"English falls to N, below", lambda: [text("all weights", "english")]),
        (r'enough for "add" \(N; "count" N\)', lambda: [text("adapters", "add"), text("adapters", "count")]),
        (r"adapters hold N numbers for five tasks", lambda: [trained_adapters()]),
        (
            r"would have a loss of N, says the law, and N % of the fits lie between N and N",
            lambda: printed("09", r"231,744,000 parameters: N, N % of the fits between N and N"),
        ),
        (
            r"at N parameters, the fits agree on N to N, but N was measured",
            lambda: [
                mean("text", "width 48", "parameters"),
                *printed("09", r"60,576 parameters: 1.82, 95 % of the fits between N and N"),
                text("width 48", "english", "loss"),
            ],
        ),
        (r"the same procedure says N, far outside", lambda: printed("09", "without the largest size: N at")),
    ],
    "13": [
        (
            r"needs most are worth N more to it than eight drawn ones",
            lambda: [gap("insight_channels", "detect", "drawn", "of detect").mean],
        ),
        (r"Of the eight, N on average are in both sets", lambda: [inside("channels", "none", "in both")]),
        (r"hardly notices \(N\)", lambda: [inside("maps", "guided backprop, classify", "head drawn anew")]),
        (
            r"a correlation of N remains when the head is drawn anew, and of N to N when the whole",
            lambda: [
                inside("maps", "input x gradient, classify", "head drawn anew"),
                *ends(inside("maps", f"{one}, classify", "all drawn anew") for one in ATTRIBUTIONS),
            ],
        ),
        (
            r'For "detect" N to N times as much lies',
            lambda: ends(inside("maps", f"{one}, detect", "on digits") for one in ATTRIBUTIONS),
        ),
        (
            r"still agree in every layer \(N and more\)",
            lambda: [min(inside("similarity", "both, step 400", layer) for layer in LAYERS)],
        ),
        (
            r"and N at the end; with \"detect\" alone it falls to N",
            lambda: [inside("similarity", f"{one}, step 400", "layer 6") for one in ("classify", "detect")],
        ),
        (r"against each other \(N in layer 6", lambda: [inside("conflicts", "step 400", "layer 6")]),
    ],
}


# notebook → what it says with a number that is no finding: a setting, a definition, a task for the reader
GIVEN = {
    "00": [],
    "01": ["less than 30 % of", "more than 90 %, although"],
    "02": ["a ratio of 1 to 1,000"],
    "03": [
        "an offset of about 0.5",
        "from 0.50 to 0.95; AP50 uses 0.50 alone",
        "overlap to 0.95",
        "With 300 steps, the mean of three seeds",
    ],
    "04": [
        "2,000 scenes, 16 in a batch",
        "from 0.01 to 10",
        "is 100 times larger",
        "Take away 95 %",
        "weights to 0.01",
    ],
    "05": [
        "with losses of 0.1 and 2.0",
        "a cross-entropy of 1.3 among five textures and a detection loss of 1.3",
        "in 95 % of bootstrap draws",
        "(p below 0.05)",
        "with the weight 0.1",
        "change a score by 0.01",
    ],
    "06": [
        "in 3,000 scenes whose boxes are known",
        "with 95 % intervals",
        "3,000 pictures in which something has to be found",
        "A weight of 0.2",
        "100,000 samples of one, 1,000 of the other",
        "a tenth of 32,000 draws, for 1,000 samples",
        "seen 32 times each",
        "dividing by 1,000",
    ],
    "07": ["began at 0.9 (own) and 0.1 (other)"],
    "08": [
        "24,000 sentences",
        'Turn "german" down to 0.1',
        "the *ceiling* is 100 %",
    ],
    "13": ["A CKA of 0.9 is nothing"],
    "09": [
        "from 500 to 20,000 distinct",
        "get 10 % of the draws",
        "the same 48,000 texts",
        "500 steps after 1,500",
        "whether 48,000 texts",
        "a factor of 1,000",
    ],
}

# notebook → which tables it tells of; their heads say how many steps, their rows how many seeds
TABLES = {
    "05": ("weighting_",),
    "06": ("claims_",),
    "07": ("architectures_",),
    "08": ("fields_language",),
    "09": ("text",),
    "10": ("fields_speech",),
    "11": ("fields_tumours", "fields_cells"),
    "12": ("fields_roads",),
    "13": ("insight_",),
    "14": ("frontiers_",),
}
# notebook → counts that its text has from elsewhere: what it says → the number, or `None` where it asks for so much
COUNTS = {
    "00": {"It moves every 128 steps": lambda: SCORE_EVERY},
    "02": {"on its way after 100 steps": lambda: inspect.signature(Landscape.path).parameters["steps"].default},
    "04": {"the two scores to be in 200 steps": lambda: None, "200 steps later": lambda: None},
    "05": {
        "All eight methods": lambda: len(re.findall(r" w = .* gains +\d.*, +\d", shown("05"))),
        "Three methods, NashMTL": lambda: len(compared("scenes").better()),
        "three methods beat it": lambda: len(compared("scenes").better()),
    },
    "12": {"after 100 steps, six": lambda: None},
    "14": {
        "run for 300 steps, and write": lambda: None,
        "Three seeds. After 300": lambda: None,
        "for ten steps, sees": lambda: EVERY,
        "ten steps ahead": lambda: EVERY,
        "of its ten runs": lambda: len({row.seed for row in read("frontiers_search")}),
    },
    "15": {"run for 400 steps with": lambda: None},
}

CLAIMS |= numbers_fields.CLAIMS
GIVEN |= numbers_fields.GIVEN


@pytest.mark.parametrize(
    ("number", "claim", "values"), [(n, *claim) for n, claims in CLAIMS.items() for claim in claims]
)
def test_what_a_notebook_says_is_what_its_source_says(number, claim, values):
    found = re.search(claim.replace("N", NUMBER), text_of(number))
    assert found, f"notebook {number} no longer says {claim!r}"
    for said, right in zip(found.groups(), values(), strict=True):
        decimals = len(said.partition(".")[2])
        assert abs(value(said) - right) <= 0.5001 * 10**-decimals, (claim, said, right)


def sourced(number):
    """Return where in a notebook's text the numbers have a source, or are none."""
    text = text_of(number)
    known = [m.span() for claim, _ in CLAIMS[number] for m in re.finditer(claim.replace("N", NUMBER), text)]
    for phrase in GIVEN[number]:
        assert phrase in text, f"notebook {number} no longer says {phrase!r}"
        known += [m.span() for m in re.finditer(re.escape(phrase), text)]
    return known + [m.span() for m in NOT_PROSE.finditer(text)]


@pytest.mark.parametrize("number", sorted(FILES))
def test_every_number_in_the_text_has_a_source(number):
    text, known = text_of(number), sourced(number)
    loose = [m for m in FINDING.finditer(text) if not any(a <= m.start() < b for a, b in known)]
    assert not loose, [text[max(0, m.start() - 50) : m.end() + 20] for m in loose]


@pytest.mark.parametrize("number", sorted(FILES))
def test_every_count_of_steps_and_seeds_has_a_source(number):
    """It is a claim, or in the notebook's code, or in a table's head, or is given above."""
    text, known = text_of(number), sourced(number)
    for phrase, source in COUNTS.get(number, {}).items():
        assert phrase in text, f"notebook {number} no longer says {phrase!r}"
        said = next(word for word in re.findall(r"\w+", phrase.lower()) if counted(word))
        assert source() in (None, counted(said)), phrase
        known += [m.span() for m in re.finditer(re.escape(phrase), text)]
    tables = TABLES.get(number, ())
    sources = shown(number) + "\n" + told_by_tables(tables)
    for found in COUNT.finditer(text):
        if not any(a <= found.start() < b for a, b in known):
            exact = rf"(?<![\d.]){counted(found[1].lower())}(?![\d.]|,\d)"
            of_seeds = tables and found[0].endswith("seeds")
            assert re.search(exact, told_by_tables(tables, seeds=True) if of_seeds else sources), text[
                max(0, found.start() - 50) : found.end() + 20
            ]


def test_the_verdicts_of_notebook_05_follow_from_its_tables():
    seconds, steps = compared("scenes_seconds"), compared("scenes")
    assert seconds.tuned == "static 0.2" and seconds.beyond() == [] and set(seconds.worse()) == set(seconds.gaps)
    gradients = [name for name, made in METHODS.items() if issubclass(made, GradientWeighting)]
    assert max(gradients, key=lambda name: gain("scenes_seconds", name)) == "NashMTL"
    assert steps.better() == ["NashMTL", "IMTLG", "FairGrad"] and len(steps.beyond()) > 5
    digits = [compared("multimnist"), compared("multimnist_seconds")]
    assert all(found.tuned == "EqualWeights" and found.better() == [] for found in digits)
    assert sum(share > 0.5 for share in seconds.front.beyond.values()) == 5  # beyond the line, though not beyond chance
    assert [set(found.worse()) for found in digits] == [{"UWSO", "Tchebycheff"}, {"UWSO", "IMTLG", "FairGrad"}]
    for which, scores in SCORES.items():
        for end in ("", "_seconds"):
            rows = with_delta_m(read(f"weighting_{which}{end}"), scores)
            found = differences(rows, "test Δm", "EqualWeights", ["PCGrad"])["PCGrad"]
            assert found.mean < 2 and (found.p > 0.05 or found.mean < 0)  # PCGrad is not better than equal weights
    constant, accuracy = seconds.summary["static 0.2"], "test classify/accuracy"
    methods = {name: seconds.summary[name] for name in seconds.gaps}
    assert sum(found[accuracy].mean > constant[accuracy].mean for found in methods.values()) == 11
    assert all(found[AP].mean < constant[AP].mean for found in methods.values())
    rows = read("weighting_scenes_seconds")
    assert differences(rows, accuracy, "classify alone", joint_ones())["static 0.2"].p > 0.05
    right_ahead = {
        setting: sum(
            row.values["test right/accuracy"] > row.values["test left/accuracy"]
            for row in read("weighting_multimnist")
            if row.setting == setting
        )
        for setting in ("static 0.1", "static 10")
    }
    assert right_ahead == {"static 0.1": 9, "static 10": 0}
    alone = [seconds.summary[f"{task} alone"]["seconds"].mean for task in SCORES["scenes"]]
    assert sum(alone) == pytest.approx(seconds.summary["NashMTL"]["seconds"].mean, rel=0.1)
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


def test_the_verdicts_of_notebook_06_follow_from_its_tables():
    few = [gap("claims_labels", "test accuracy", f"alone, {n} labels", f"together, {n} labels") for n in LABELS]
    assert all(one.mean > 0 and one.p < 0.05 for one in few)
    both = {f: gap("claims_transfer", f"test {f}", "detect", "detect + count").p for f in ("frozen", "fine-tuned")}
    assert both["fine-tuned"] < 0.05 < both["frozen"]
    for task in FACTS:  # nobody gains
        rows = read("claims_pairs")
        groups = [name for name in summarise(rows) if task in name.split("+") and name != task]
        found = differences(rows, f"test {task}/accuracy", task, groups)
        assert not any(one.p < 0.05 and one.mean > 0 for one in found.values())
        assert task == "colour" or found["+".join(FACTS)].p < 0.05
        _, low, high = spread_ratio(rows, f"test {task}/accuracy", task, "+".join(FACTS))
        assert (low > 1) is (task == "where") and (high < 1) is (task == "texture")
    gaps = negative_gaps()
    assert [name for name, one in gaps.items() if one.p > 0.05] == ["detect + random, weight 0.2"]
    assert all(one.mean < 0 for one in gaps.values())
    right = gap("claims_mixture", "test right/accuracy", "right alone", "T = inf")
    assert right.mean > 0 and right.p < 0.05
    rows = read("claims_mixture")
    left = differences(rows, "test left/accuracy", "left alone", [f"T = {t}" for t in ("1", "2", "5", "inf")])
    assert all(one.mean < 0 and one.p < 0.1 for one in left.values())


def test_the_verdicts_of_notebook_07_follow_from_its_tables():
    def beyond_chance(which):
        found = {way: ways_gap(which, way) for way in (*(f"fork {k}" for k in range(FORKS[which[:5]])), *NARROW)}
        return {way: one.mean > 0 for way, one in found.items() if one.p < 0.05}

    assert beyond_chance("scenes") == {"fork 1": True}
    assert beyond_chance("scenes_seconds") == dict.fromkeys(["fork 3", *NARROW], False)
    assert beyond_chance("multimnist") == {"fork 0": False}
    assert beyond_chance("multimnist_seconds") == dict.fromkeys(["fork 0", "fork 1", *NARROW], False)
    assert max(ways_gain("scenes", way) for way in summarise(ways_table("scenes")) if not way.endswith("alone")) < 0
    costs = table("architectures_scenes_costs")
    assert max(costs, key=lambda way: costs[way]["cost"].mean) == "attention"


FORKS = {"scene": 5, "multi": 3}


def test_the_verdicts_of_notebook_08_follow_from_its_tables():
    for end in ("", "_seconds"):
        language = field_gap(f"language{end}", "language/balanced", "language alone", "EqualWeights")
        assert language.mean < 0 and language.p < 0.05
        for task, score in (("gender", "gender/accuracy"), ("german", "german/exact")):
            assert field_gap(f"language{end}", score, f"{task} alone", "EqualWeights").p > 0.05
        rows = with_delta_m(read(f"fields_language{end}"), LANGUAGE)
        assert all(found["test Δm"].mean < 0 for name, found in summarise(rows).items() if not name.endswith("alone"))
    assert few_gap(10, "nothing", "Italian").p < 0.05 and few_gap(100, "nothing", "Turkish").p < 0.05
    assert all(few_gap(n, "Turkish", "Italian").p < 0.05 for n in FEW)
    assert few_gap(10, "nothing", "Turkish").mean < 0 < few_gap(10, "nothing", "all others").mean
    assert all(few_gap(100, "nothing", one).p > 0.05 for one in ("Italian", "all others"))


def test_the_verdicts_of_notebook_13_follow_from_its_tables():
    for own, other in (("classify", "detect"), ("detect", "classify")):
        needed, spared = (gap("insight_channels", own, "drawn", f"of {one}") for one in (own, other))
        assert needed.mean > 0 > spared.mean and max(needed.p, spared.p) < 0.05
    assert inside("channels", "none", "in both") < 8 * 8 / 64
    for task in ("classify", "detect"):
        changes = {one: inside("maps", f"{one}, {task}", "head drawn anew") for one in ATTRIBUTIONS}
        assert max(changes, key=changes.get) == "guided backprop"
    on_digits = {one: inside("maps", f"{one}, classify", "on digits") for one in ATTRIBUTIONS}
    assert [one for one, share in on_digits.items() if share > 1] == ["guided backprop"]
    first, last = (table("insight_conflicts")[f"step {step}"] for step in (1, 400))
    assert all(abs(row["layer 1"].mean) < row["layer 1"].half for row in table("insight_conflicts").values())
    assert abs(first["layer 6"].mean) < 0.05 and last["layer 6"].mean + last["layer 6"].half < 0


LANGUAGE = {"language": "language/balanced", "gender": "gender/accuracy", "german": "german/exact"}


def test_the_claims_take_an_hour_of_two_cores():
    rows = [row for made in experiments_of("claims") for row in read(made.name)]
    assert sum(row.values.get("seconds", 0) for row in rows) / 2 < 3600
