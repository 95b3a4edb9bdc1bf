"""What to do in the live lab of notebook 04, and its quiz. Checks look at what the lab recorded."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import torch

from mtlkit.exercises.engine import NOT_ATTEMPTED, Exercise, LabExercise, Verdict
from mtlkit.exercises.questions import Option, Question

LONG = 150  # steps that a phase must last
OFF, ON = 0.02, 0.5  # a weight at most, and at least
ENOUGH = 640  # steps of a run that is compared
EARLY = 540  # by then there is a moment as good as GOOD; with equal weights AP is 0.05 lower
ACCURACY, AP = "classify/accuracy", "detect/ap"
GOOD = {ACCURACY: 0.7, AP: 0.27}
CONSTANT = {ACCURACY: 0.7, AP: 0.32}  # a little less than classify 0.2, detect 1 reach


def starve(lab):
    """Let both tasks learn, then take detect's weight away."""
    lab.reset()
    return lab.run(300, {0: {"classify": 1.0, "detect": 1.0}, 150: {"detect": 0.0}}).records


def _starved(records: Sequence[Any]) -> Verdict:
    if not _was_steered(records):
        return NOT_ATTEMPTED
    phases = _phases(records, lambda r: (r.weights["detect"] <= OFF, r.weights["classify"] >= ON))
    fed = starving = None
    for (off, classify), part in phases:
        if not off and part[0].weights["detect"] >= ON and len(part) >= LONG:
            fed = part
        if off and fed and len(part) >= LONG:
            starving = (classify, part)
    if any(r.weights["classify"] <= OFF for r in records) and not any(r.weights["detect"] <= OFF for r in records):
        return Verdict("wrong", "that starves classify: take detect's weight to 0")
    if fed is None:
        return Verdict("wrong", f"let both learn first: {LONG} steps with detect's weight at {ON} or more")
    if starving is None:
        return Verdict("wrong", f"not for long enough: detect's weight must stay at 0 for {LONG} steps")
    if not starving[0]:
        return Verdict("wrong", "classify must go on learning meanwhile: a weight of 0 for both trains nothing")
    before, after = _loss(fed[-30:], "detect"), _loss(starving[1][-30:], "detect")
    rise = "rose" if after > before else "fell"
    return Verdict("right", f"detect's loss {rise} from {before:.2f} to {after:.2f} while nobody asked for it")


def balance(lab):
    """Turn classify down while the boxes are learned, then up again."""
    lab.reset()
    return lab.run(
        540, {0: {"classify": 0.1, "detect": 1.0, "method": "StaticWeights"}, 300: {"classify": 0.6}}
    ).records


def _balanced(records: Sequence[Any]) -> Verdict:
    if not _was_steered(records):
        return NOT_ATTEMPTED
    early = [record for record in records if record.step <= EARLY and record.scores]
    if not early:
        return NOT_ATTEMPTED
    best = max((r.scores for r in early), key=lambda scores: min(scores[k] - GOOD[k] for k in GOOD))
    said = f"accuracy {best[ACCURACY]:.2f}, AP {best[AP]:.2f}"
    if short := [name for name, least in GOOD.items() if best[name] < least]:
        which = short[0].partition("/")[0]
        return Verdict("wrong", f"your best moment was {said}: {which} came too short; press Reset and try again")
    return Verdict("right", f"{said} at the same time, within {EARLY} steps")


def match(lab):
    """Keep one pair of weights from the first step to the last."""
    lab.reset()
    return lab.run(660, {0: {"classify": 0.2, "detect": 1.0, "method": "StaticWeights"}}).records


def _matched(records: Sequence[Any]) -> Verdict:
    if not records or records[-1].step < LONG:
        return NOT_ATTEMPTED
    if _was_steered(records):
        return Verdict("wrong", "the weights must stay the same from the first step on: press Reset, and hands off")
    if records[-1].step < ENOUGH + 10:
        return Verdict(
            "wrong", f"that are {records[-1].step} steps; let it go on to {ENOUGH + 10}, so that 641 is scored"
        )
    if records[0].method != "StaticWeights":
        return Verdict("wrong", f"that is {records[0].method}: choose static weights")
    weights = records[-1].weights
    ratio = weights["classify"] / weights["detect"] if weights["detect"] else float("inf")
    scores = next(r for r in records if r.step >= ENOUGH + 10).scores
    said = f"classify/detect = {ratio:.2g} gave accuracy {scores[ACCURACY]:.2f}, AP {scores[AP]:.2f}"
    if short := [name for name, least in CONSTANT.items() if scores[name] < least]:
        return Verdict("wrong", f"{said}: {'detect' if AP in short else 'classify'} is too quiet")
    return Verdict("right", f"{said}; the course's constant is 0.2")


def losers(weights, norms, cosine):
    """Return, for each of two tasks, whether a small step against the weighted sum raises its loss."""
    a, b = (w * n for w, n in zip(weights, norms, strict=True))
    return torch.tensor([a + b * cosine < 0, b + a * cosine < 0])


def _dial(generator: torch.Generator) -> tuple[list[float], list[float], float]:
    weights, norms = (10 ** (2 * torch.rand(2, 2, generator=generator) - 1)).tolist()
    return weights, norms, float(2 * torch.rand((), generator=generator) - 1.2)


def by_hand(lab):
    """Train PCGrad first, then the same network by hand."""
    lab.reset()
    lab.run(660, {0: {"method": "PCGrad", "classify": 1.0, "detect": 1.0}})
    lab.reset()
    lab.run(660, {0: {"method": "StaticWeights", "classify": 0.2}})
    return lab.runs


def _beaten(runs: Sequence[Any]) -> Verdict:
    runs = [run for run in runs if run.records]
    if len(runs) < 2 and not (runs and _was_steered(runs[0].records)):
        return NOT_ATTEMPTED
    hand, by_method = (
        runs[-1],
        [run for run in runs[:-1] if run.records[-1].method not in ("StaticWeights", "EqualWeights")],
    )
    if not by_method:
        return Verdict("wrong", "there is no earlier run of a method: let one train, then press Reset and steer")
    other = by_method[-1]
    name = other.records[-1].method
    if any(record.method != "StaticWeights" for record in hand.records):
        return Verdict("wrong", "the last run is not by hand: choose static weights before its first step")
    if (hand.settings["seed"], hand.settings["data"]) != (other.settings["seed"], other.settings["data"]):
        return Verdict("wrong", "the two runs differ in seed or data: use Reset, not New seed")
    last = min(run.records[-1].step for run in (hand, other))
    if last < ENOUGH + 10:
        return Verdict("wrong", f"the shorter run has {last} steps: both need {ENOUGH + 10}")
    mine, its = (
        sum(next(r for r in reversed(run.records) if r.step <= last).scores.values()) / 2 for run in (hand, other)
    )
    said = f"mean of accuracy and AP after {last} steps: you {mine:.3f}, {name} {its:.3f}"
    return Verdict("right", said) if mine > its else Verdict("wrong", f"{said}; once more")


def _was_steered(records: Sequence[Any]) -> bool:
    return any(a.weights != b.weights for a, b in pairwise(records))


def _phases(records: Sequence[Any], of: Any) -> list[tuple[Any, list[Any]]]:
    return [(key, list(part)) for key, part in groupby(records, of)]


def _loss(records: Sequence[Any], task: str) -> float:
    values = [record.losses[task] for record in records if task in record.losses]
    return sum(values) / max(len(values), 1)


EXERCISES = (
    LabExercise(
        "04.1",
        "Starve a task",
        f"Let both tasks learn for {LONG} steps with detect's weight at {ON} or more. Then take detect's weight to 0 and "
        f"leave it there for {LONG} steps, while classify goes on. *Predict first:* does detect's loss stay where it is? "
        "Then run the check.",
        1,
        4,
        (
            "The slider's leftmost place is 0.",
            "`lab.records[-1].step` says how far you are; you can go on after a check that was too early.",
            "Reset, wait until step 150, detect to 0 (Home key), wait until step 300, check.",
        ),
        starve,
        _starved,
    ),
    LabExercise(
        "04.2",
        "Find the balance",
        f"Reset, and steer so that within {EARLY} steps there is a moment with accuracy at least "
        f"{GOOD[ACCURACY]} *and* AP at least {GOOD[AP]}. With equal weights AP comes too late.",
        2,
        8,
        (
            "Who is loud at the start? The arrows say it.",
            "Boxes take longer to learn than backgrounds: give detection a lead.",
            "Begin with classify at 0.1, and turn it up to 0.6 at about step 300.",
        ),
        balance,
        _balanced,
    ),
    LabExercise(
        "04.3",
        "One constant",
        "Reset, choose static weights, set both sliders before the first step (Pause, Reset, set, Start), and then keep "
        f"your hands off until step {ENOUGH + 10}. Find a ratio that reaches accuracy {CONSTANT[ACCURACY]} and AP "
        f"{CONSTANT[AP]} there: what the course's tuned constant reaches, with a little to spare.",
        2,
        10,
        (
            "Only the ratio of the weights matters much: the optimiser divides by the gradient's size.",
            "With 1 : 1 detection is too quiet.",
            "The course's other notebooks use classify 0.2, detect 1.",
        ),
        match,
        _matched,
    ),
    Exercise(
        "04.4",
        "Read the dial",
        "Write `losers(weights, norms, cosine)`: from the two tasks' weights, the lengths of their gradients and the cosine "
        "between them, return a tensor of two booleans: does a small step against the *weighted sum* raise that task's "
        "loss?",
        2,
        8,
        (
            "A small step along $-d$ changes $\\ell_i$ by $-\\eta\\, g_i \\cdot d$: it rises if $g_i \\cdot d < 0$.",
            "$g_A \\cdot (w_A g_A + w_B g_B) = \\|g_A\\| (w_A \\|g_A\\| + w_B \\|g_B\\| \\cos)$.",
            "Task A loses if $w_A \\|g_A\\| + w_B \\|g_B\\| \\cos < 0$; for B swap the letters.",
        ),
        losers,
        _dial,
        (
            (
                "a negative cosine alone hurts nobody: the other's weighted gradient must also be long enough",
                lambda weights, norms, cosine: torch.tensor([cosine < 0, cosine < 0]),
            ),
            (
                "the weights are missing: the step follows the weighted sum",
                lambda weights, norms, cosine: losers([1, 1], norms, cosine),
            ),
            (
                "you named the winners: a task loses where its gradient points against the sum",
                lambda weights, norms, cosine: ~losers(weights, norms, cosine),
            ),
            (
                "the two are swapped: the task with the *shorter* weighted gradient is the one in danger",
                lambda weights, norms, cosine: losers(weights, norms, cosine).flip(0),
            ),
        ),
        calls=24,
    ),
    LabExercise(
        "04.5",
        "Beat a method by hand",
        f"Choose a method other than static weights, press Reset and let it train for {ENOUGH + 10} steps. Press Reset again, "
        "choose static weights, and steer the same network by hand, as long. Better is the higher mean of accuracy and "
        "AP at the end of the shorter run. The check takes `lab.runs`.",
        3,
        10,
        (
            "The method's run is there as dotted lines: stay below them.",
            "What helped in 04.2 helps here.",
            "Even a constant can be enough: classify at 0.2.",
        ),
        by_hand,
        _beaten,
    ),
)

QUIZ = (
    Question(
        "detect's weight goes to 0, and detect's loss *rises*. Why?",
        (
            Option(
                "its head goes on training with the wrong sign",
                "its head gets no gradient at all and stands still.",
            ),
            Option("the encoder moves on under a head that stands still", "it follows classify alone.", True),
            Option("the weighted loss grows when a weight falls", "the picture shows losses *before* weighting."),
            Option("weight decay erases the detection head", "it shrinks it a little; far too slowly for this."),
        ),
    ),
    Question(
        "The arrows make 120°, and detect's is four times as long. A step along the sum",
        (
            Option("hurts both tasks", "the sum of two gradients can never point against both."),
            Option("helps both a little", "for that the lengths would have to be nearer to each other."),
            Option("helps detect and hurts classify", "1 + 4 cos 120° = -1 < 0 for classify.", True),
            Option("helps classify and hurts detect", "4 + cos 120° = 3.5 > 0 for detect."),
        ),
    ),
    Question(
        "You multiply *both* weights by 10. With this optimiser (AdamW and Muon)",
        (
            Option("the network learns ten times faster", "that is what plain SGD would try."),
            Option(
                "nearly nothing changes",
                "both divide by the gradient's size; the ratio of the weights rules.",
                True,
            ),
            Option("training explodes", "the gradient is also clipped, and its direction is the same."),
            Option("the arrows change their angle", "the angle does not depend on lengths."),
        ),
    ),
    Question(
        "You found a schedule that beats PCGrad on seed 0. What may you claim?",
        (
            Option("hand-made schedules beat PCGrad", "one seed, one problem, and a schedule tuned on its score."),
            Option("PCGrad does not work", "you did not even tune its learning rate."),
            Option("nothing before other seeds are run", "and both sides have had the same tuning.", True),
            Option("the schedule is optimal", "it is better than one other run."),
        ),
    ),
)
