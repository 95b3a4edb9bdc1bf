"""What to do in the live lab of notebook 04, and its quiz. Checks look at what the lab recorded."""

from collections.abc import Sequence
from typing import Any

import torch

from mtlkit.exercises.engine import NOT_ATTEMPTED, Exercise, LabExercise, Verdict
from mtlkit.exercises.labruns import (
    ENOUGH,
    NO_METHOD,
    changes_of,
    fault_of_a_hand,
    fault_of_a_method,
    is_untouched,
    judged_of,
    judged_run,
    learns,
    mean_loss,
    phases,
    surroundings,
    was_steered,
)
from mtlkit.exercises.questions import Option, Question

LONG = 150  # steps that a phase must last
ON = 0.5  # detect's weight while it learns, at least
EARLY = 540  # by then there is a moment as good as GOOD; with equal weights AP is 0.05 lower
ACCURACY, AP = "classify/accuracy", "detect/ap"
GOOD = {ACCURACY: 0.6, AP: 0.27}  # a little less than the solution reached on three kinds of processor
CONSTANT = {ACCURACY: 0.65, AP: 0.32}  # a little less than 0.3 : 1 reached on two kinds of processor


def starve(lab):
    """Let both tasks learn, then take detect's weight away."""
    lab.reset()
    return lab.run(300, {0: {"classify": 1.0, "detect": 1.0}, 150: {"detect": 0.0}}).records


def _starved(run: Any) -> Verdict:
    records = run.records
    off = {task: any(r.weights[task] == 0 for r in records) for task in ("classify", "detect")}
    if not was_steered(records) and not any(off.values()):
        return NOT_ATTEMPTED
    if off["classify"] and not off["detect"]:
        return Verdict("wrong", "that starves classify: take detect's weight to 0")
    fed, starving, paused = list[Any](), list[Any](), False
    for state, part, steps in phases(records, _state):
        if state == "fed" and steps >= LONG and not starving:
            fed = part
        elif state == "starving" and fed and steps >= LONG and not starving:
            starving = part
    for silent, part, steps in phases(records, lambda record: record.weights["detect"] == 0):
        paused = paused or (silent and bool(fed) and steps >= LONG and part[0].step > fed[-1].step)
    if not fed or (not starving and not any(_state(r) != "fed" for r in records if r.step > fed[-1].step)):
        return Verdict(
            "wrong",
            f"let both learn first: {LONG} steps with classify above 0 and detect's weight at {ON} or more, and only "
            "then take detect's weight to 0",
        )
    if not starving and paused:
        return Verdict("wrong", "classify must go on learning meanwhile: a weight of 0 for both trains nothing")
    if not starving:
        return Verdict("wrong", f"not for long enough: detect's weight must stay at 0 for {LONG} steps")
    if not learns(fed) or not learns(starving):
        return Verdict("wrong", "with a learning rate of 0 nothing learns: put it back where it was, and Reset")
    before, after = mean_loss(fed[-30:], "detect"), mean_loss(starving[-30:], "detect")
    if before is None or after is None:
        return Verdict("wrong", "no scene had boxes then, so detect's loss is unknown: bring the boxes back")
    rise = "rose" if after > before else "fell"
    return Verdict("right", f"detect's loss {rise} from {before:.2f} to {after:.2f} while its weight was 0")


def _state(record: Any) -> str:
    classify, detect = record.weights["classify"], record.weights["detect"]
    if detect == 0:
        return "starving" if classify > 0 else "nothing"
    return "fed" if detect >= ON and classify > 0 else "something else"


def balance(lab):
    """Turn classify down while the boxes are learned, then up again."""
    lab.reset()
    return lab.run(
        540, {0: {"classify": 0.1, "detect": 1.0, "method": "StaticWeights"}, 300: {"classify": 0.6}}
    ).records


def _balanced(run: Any) -> Verdict:
    scored = [record for record in run.records if record.step <= EARLY and record.scores]
    if not scored or is_untouched(run, EARLY):
        return NOT_ATTEMPTED
    best = max((r.scores for r in scored), key=lambda scores: min(scores[k] - GOOD[k] for k in GOOD))
    said = f"accuracy {best[ACCURACY]:.2f}, AP {best[AP]:.2f}"
    if short := [name.partition("/")[0] for name, least in GOOD.items() if best[name] < least]:
        words = f"{' and '.join(short)} fell short"
        return Verdict("wrong", f"your best moment was {said}: {words}; press Reset and try again")
    return Verdict("right", f"{said} at the same time, within {EARLY} steps")


def match(lab):
    """Keep one pair of weights from the first step to the last."""
    lab.reset()
    return lab.run(660, {0: {"classify": 0.3, "detect": 1.0, "method": "StaticWeights"}}).records


def _matched(run: Any) -> Verdict:
    if not run.records or run.records[-1].step < LONG:
        return NOT_ATTEMPTED
    if run.records[0].step != 1:
        return Verdict("wrong", f"this list begins at step {run.records[0].step}: pass lab.runs")
    records, judged = judged_of(run.records)
    changed = changes_of(run)
    if "weights" in changed:
        return Verdict("wrong", "the weights must stay the same from the first step on: press Reset, and hands off")
    if judged is None:
        return Verdict("wrong", f"only {records[-1].step} steps so far; go on to {ENOUGH}, so that step 641 is scored")
    if other := {record.method for record in records} - {"StaticWeights"}:
        return Verdict("wrong", f"this run used {min(other)}: choose static weights before the first step")
    if changed:
        return Verdict(
            "wrong", "learning rate and data must stay as they were at the first step: press Reset, and touch nothing"
        )
    weights, scores = judged.weights, judged.scores
    ratio = weights["classify"] / weights["detect"] if weights["detect"] else float("inf")
    said = f"classify/detect = {ratio:.2g} gave accuracy {scores[ACCURACY]:.2f}, AP {scores[AP]:.2f}"
    short = [name for name, least in CONSTANT.items() if scores[name] < least]
    if len(short) == 2:
        return Verdict("wrong", f"{said}: both fell short; is the learning rate the one that the lab begins with?")
    if short:
        return Verdict("wrong", f"{said}: {'detect' if AP in short else 'classify'} is too quiet")
    return Verdict("right", f"{said}; notebook 05 tunes it over ten seeds, and takes 0.2")


def losers(weights, norms, cosine):
    """Return, for each of two tasks, whether a small step against the weighted sum raises its loss."""
    a, b = (w * n for w, n in zip(weights, norms, strict=True))
    return torch.tensor([a + b * cosine < 0, b + a * cosine < 0])


def _dial(generator: torch.Generator) -> tuple[list[float], list[float], float]:
    weights, norms = (10 ** (2 * torch.rand(2, 2, generator=generator) - 1)).tolist()
    off, cosine = (float(torch.rand((), generator=generator)) for _ in range(2))
    if off < 0.2:  # the slider's leftmost place
        weights[int(off < 0.1)] = 0.0
    if off > 0.9:  # the step changes nothing for one of them, or for both
        return ([0.0, weights[1]], norms, 0.0) if off > 0.95 else ([weights[0]] * 2, [norms[0]] * 2, -1.0)
    return weights, norms, 1.9 * cosine - 1  # more often in conflict


def by_hand(lab):
    """Train with Tchebycheff first, which serves only the worst task, then steer the same network by hand."""
    lab.reset()
    lab.run(660, {0: {"method": "Tchebycheff", "classify": 1.0, "detect": 1.0}})
    lab.reset()
    lab.run(660, {0: {"method": "StaticWeights", "classify": 0.5}})
    return lab.runs


def _beaten(runs: Sequence[Any]) -> Verdict:
    runs = [run for run in runs if run.records]
    faults = [fault_of_a_method(run) for run in runs]
    others = [k for k, fault in enumerate(faults) if not fault]
    if not others:
        if len(runs) < 2 and not (runs and was_steered(runs[0].records)):
            return NOT_ATTEMPTED
        said = next((fault for fault in reversed(faults) if fault and fault != NO_METHOD), NO_METHOD)
        return Verdict("wrong", said)
    hands = [k for k in range(len(runs)) if k > others[0] and not fault_of_a_hand(runs[k])]
    if not hands:
        later = runs[others[0] + 1 :]
        return Verdict("wrong", fault_of_a_hand(later[-1]) if later else "now press Reset and steer by hand")
    pairs = [
        (runs[k], runs[h]) for h in hands for k in others if k < h and surroundings(runs[k]) == surroundings(runs[h])
    ]
    if not pairs:
        return Verdict("wrong", "the two runs differ in seed, data or learning rate: use Reset, and steer weights only")
    results = [(*map(_result, pair), pair[0].records[0].method) for pair in pairs]
    its, mine, name = max(results, key=lambda result: result[1] - result[0])
    said = f"mean of accuracy and AP after {ENOUGH} steps: you {mine:.3f}, {name} {its:.3f}"
    return Verdict("right", said) if mine > its else Verdict("wrong", f"{said} (your best attempt); try again")


def _result(run: Any) -> float:
    """Return the mean of accuracy and AP at the moment that is judged."""
    scores = judged_run(run)[1].scores
    return (scores[ACCURACY] + scores[AP]) / 2


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
            "The slider's leftmost position is 0.",
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
            "Which task is loudest at the start? The arrows show it.",
            "Boxes take longer to learn than backgrounds: give detection a head start.",
            "Begin with classify at 0.1, and turn it up to 0.6 at about step 300.",
        ),
        balance,
        _balanced,
    ),
    LabExercise(
        "04.3",
        "One constant",
        "Reset, choose static weights, set both sliders before the first step (Pause, Reset, set, Start), and then keep "
        f"your hands off, data and learning rate included, until step {ENOUGH}. Find a ratio that reaches accuracy "
        f"{CONSTANT[ACCURACY]} and AP {CONSTANT[AP]} there.",
        2,
        10,
        (
            "Only the ratio of the weights matters much: the optimiser divides by the gradient's size.",
            "With 1 : 1 detection is too quiet.",
            "Try classify at 0.3, detect at 1.",
        ),
        match,
        _matched,
    ),
    Exercise(
        "04.4",
        "Read the dial",
        "Write `losers(weights, norms, cosine)`: from the two tasks' weights, the lengths of their gradients (two lists of two "
        "numbers) and the cosine between them, return a tensor of two booleans: does a small step against the "
        "*weighted sum* raise that task's loss? (A loss that stays the same is not raised.)",
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
        calls=40,
    ),
    LabExercise(
        "04.5",
        "Beat a method by hand",
        "Set both sliders to 1. Pause, choose any method but static weights from the menu, Reset, Start, and leave it "
        f"alone for {ENOUGH} steps. Then Pause, choose static weights, Reset, Start, and steer the same network by "
        "hand for as many steps, with nothing but the two sliders. The higher mean of accuracy and AP at step "
        f"{ENOUGH} wins; you may try several times. The check takes `lab.runs`, which holds the last four runs.",
        3,
        10,
        (
            "The method's run is there as dotted lines: stay below them.",
            "What helped in 04.2 helps here.",
            "Even a constant can be enough, for example against Tchebycheff: classify at 0.5.",
        ),
        by_hand,
        _beaten,
        of="runs",
    ),
)

QUIZ = (
    Question(
        "detect's weight goes to 0, and detect's loss *rises*. Why?",
        (
            Option(
                "its head goes on training, but its loss has the wrong sign",
                "its head gets no gradient at all and does not change.",
            ),
            Option("the encoder moves on under a head that stands still", "it follows classify alone.", True),
            Option(
                "the weighted loss grows whenever one of its weights falls",
                "the picture shows losses *before* weighting.",
            ),
            Option(
                "weight decay erases the detection head",
                "without a gradient nothing touches the head, weight decay included.",
            ),
        ),
    ),
    Question(
        "The arrows are 120° apart; detect's is four times as long. A step along the sum",
        (
            Option("hurts both tasks", "the sum of two gradients can never point against both."),
            Option("helps both a little", "that would need lengths that are closer to each other."),
            Option("helps detect and hurts classify", "1 + 4 cos 120° = -1 < 0 for classify.", True),
            Option("helps classify and hurts detect", "4 + cos 120° = 3.5 > 0 for detect."),
        ),
    ),
    Question(
        "You multiply *both* weights by 10. With this optimiser (AdamW and Muon)",
        (
            Option("the network learns ten times faster", "that is what plain SGD would try."),
            Option(
                "almost nothing changes",
                "both divide by the gradient's size; only the ratio of the weights matters.",
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
            Option("nothing before other seeds are run", "both sides also need the same tuning.", True),
            Option("the schedule is optimal", "it is better than one other run."),
        ),
    ),
)
