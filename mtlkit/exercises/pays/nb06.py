"""Exercises and quiz of notebook 06, whether sharing pays."""

import torch
from torch import Tensor

from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def delta_m(joint, alone, errors):
    """Return the mean relative gain in percent; scores named in `errors` are better when smaller."""
    gains = [(joint[name] - alone[name]) / abs(alone[name]) * (-1 if name in errors else 1) for name in alone]
    return 100 * sum(gains) / len(gains)


def _scores(generator: torch.Generator) -> tuple[dict[str, float], dict[str, float], tuple[str, ...]]:
    names = ["first", "second", "third", "fourth", "fifth"][: int(torch.randint(2, 6, (), generator=generator))]
    joint, alone = ({name: float(powers(generator, -2, 1.5)) for name in names} for _ in range(2))
    share = float(torch.randint(0, 4, (), generator=generator)) / 3  # none of them, some, or all
    errors = tuple(name for name in names if float(torch.rand((), generator=generator)) < share)
    order = torch.randperm(len(names), generator=generator).tolist()
    return {names[k]: joint[names[k]] for k in order}, alone, errors


def paired_gap(joint, alone):
    """Return the mean of the differences, seed by seed, and the standard error of that mean."""
    gaps = joint - alone
    return gaps.mean(), gaps.std() / len(gaps) ** 0.5


def _runs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    seeds = int(torch.randint(3, 12, (), generator=generator))
    luck = torch.randn(seeds, generator=generator, dtype=torch.double)
    a, b = (luck + 0.1 * torch.randn(seeds, generator=generator, dtype=torch.double) for _ in range(2))
    scale = float(powers(generator, -1, 2))
    return scale * (0.8 + 0.05 * a), scale * (0.8 + 0.05 * b)


def steps_alone(steps, cost, tasks):
    """Return how many steps each single task gets if all of them together may cost as much as the joint run."""
    return round(steps / cost / tasks)


def _budget(generator: torch.Generator) -> tuple[int, float, int]:
    steps = int(torch.randint(100, 1000, (), generator=generator))
    cost = float(0.5 + 0.5 * torch.rand((), generator=generator))
    return steps, cost, int(torch.randint(2, 7, (), generator=generator))


def best_partner(gains):
    """Return, for each task, the partner with which it gains most."""
    K = len(gains)
    return gains.masked_fill(torch.eye(K, dtype=torch.bool), -torch.inf).argmax(1)


def _gains(generator: torch.Generator) -> tuple[Tensor]:
    K = int(torch.randint(2, 8, (), generator=generator))
    scale, shift = (float(x) for x in torch.randn(2, generator=generator, dtype=torch.double))
    gains = 10 ** (2 * scale) * (torch.randn(K, K, generator=generator, dtype=torch.double) + 4 * shift)
    return (gains + 3 * gains.abs().max() * torch.eye(K) * float(torch.randn((), generator=generator)),)


EXERCISES = (
    Exercise(
        "06.1",
        "The mean relative gain",
        "Write `delta_m(joint, alone, errors)`: given dictionaries score → value of the joint model and of single-task "
        "models, return the mean relative gain in percent. Scores named in `errors` are errors: for them *less* is a "
        "gain.",
        1,
        6,
        (
            "The gain in one score is (joint - alone) / alone.",
            "An error that falls from 2 to 1 is a gain of +50 %.",
            "100 * the mean of the gains, with the opposite sign for errors.",
        ),
        delta_m,
        _scores,
        (
            (
                "errors count with the wrong sign: when one falls, that is a gain",
                lambda joint, alone, errors: delta_m(joint, alone, ()),
            ),
            ("in percent, please: times 100", lambda joint, alone, errors: delta_m(joint, alone, errors) / 100),
            (
                "divide by the score of the *single-task* model: that is what you compare with",
                lambda joint, alone, errors: -delta_m(alone, joint, errors),
            ),
            (
                "the mean over the scores is asked for, not the sum",
                lambda joint, alone, errors: delta_m(joint, alone, errors) * len(alone),
            ),
            (
                "the sign is reversed: above 0 should mean that the joint model is better",
                lambda joint, alone, errors: -delta_m(joint, alone, errors),
            ),
        ),
    ),
    Exercise(
        "06.2",
        "Paired by seed",
        "Write `paired_gap(joint, alone)`: two settings' scores `[S]` on the same seeds. Return a pair: the mean of "
        "the differences and the standard error of that mean (the standard deviation of the differences with S - 1, "
        "divided by √S). Run k used the same data order in both settings, so they share much of their luck.",
        2,
        8,
        (
            "Subtract first, seed by seed; then take mean and standard deviation.",
            "`torch.std` divides by S - 1 already.",
            "gaps = joint - alone; gaps.mean(), gaps.std() / len(gaps) ** 0.5",
        ),
        paired_gap,
        _runs,
        (
            (
                "that treats the two as unrelated: subtract seed by seed first, so that shared luck cancels out",
                lambda joint, alone: (
                    joint.mean() - alone.mean(),
                    ((joint.var() + alone.var()) / len(joint)) ** 0.5,
                ),
            ),
            (
                "that is the standard deviation of one difference; for their mean, divide it by √S",
                lambda joint, alone: ((joint - alone).mean(), (joint - alone).std()),
            ),
            (
                "divide by S - 1 under the root: squared deviations from a sample mean are too small on average",
                lambda joint, alone: (
                    (joint - alone).mean(),
                    (joint - alone).std(correction=0) / len(joint) ** 0.5,
                ),
            ),
            ("the difference is reversed: take joint - alone", lambda joint, alone: paired_gap(alone, joint)),
        ),
    ),
    Exercise(
        "06.3",
        "An equal budget",
        "Joint training runs for `steps` steps. A step of a single task takes `cost` times as long (below 1). Write "
        "`steps_alone(steps, cost, tasks)`: how many steps does *each* of `tasks` single tasks get, rounded to the "
        "nearest whole number, if all of them together may take as long as the joint run?",
        2,
        5,
        (
            "The joint run takes `steps`, in units of its own steps.",
            "`tasks` runs of n steps take tasks x n x cost of these units.",
            "Set the two equal, solve for n, and `round`.",
        ),
        steps_alone,
        _budget,
        (
            (
                "that gives every single task the whole time: together they would take `tasks` times as long",
                lambda steps, cost, tasks: round(steps / cost),
            ),
            (
                "a cheaper step buys *more* steps: divide by the cost",
                lambda steps, cost, tasks: round(steps * cost / tasks),
            ),
            ("you left out what a step costs", lambda steps, cost, tasks: round(steps / tasks)),
        ),
        calls=12,
    ),
    Exercise(
        "06.4",
        "Who should be trained together?",
        "Row i, column j of `gains [K, K]` is what task i gained from being trained with task j; the diagonal means "
        "nothing. Write `best_partner(gains)`: return for each task the index of its best partner, never itself. Leave "
        "`gains` unchanged.",
        2,
        7,
        (
            "`argmax(1)` would do, if it were not for the diagonal.",
            "Work on a copy in which the diagonal is minus infinity.",
            "gains.masked_fill(torch.eye(K, dtype=torch.bool), -torch.inf).argmax(1)",
        ),
        best_partner,
        _gains,
        (
            (
                "the diagonal does not count: no task is its own partner",
                lambda gains: gains.argmax(1),
            ),
            (
                "that is whom each task *helps* most; row i is what task i gains",
                lambda gains: best_partner(gains.T),
            ),
            (
                "the best partner is the one with the largest gain, not the largest absolute value",
                lambda gains: best_partner(gains.abs()),
            ),
            (
                "a zero on the diagonal wins where all gains are negative: use minus infinity",
                lambda gains: (gains * (1 - torch.eye(len(gains)))).argmax(1),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "A joint model beats single-task models. Each of them had the joint model's learning rate. You",
        (
            Option("conclude that sharing helps", "perhaps the single tasks only needed another learning rate."),
            Option(
                "tune the learning rate of the single tasks on their own first",
                "a baseline must be at its best.",
                True,
            ),
            Option(
                "tune the learning rate of the joint model only, and report the better ratio",
                "that makes it less fair.",
            ),
            Option(
                "repeat it with more seeds, until the interval is narrow enough",
                "more seeds make a biased comparison more certain, not fairer.",
            ),
        ),
    ),
    Question(
        "Ten seeds: joint training gains 0.010 in the mean, and the 95 % interval of the paired difference is ±0.014.",
        (
            Option("joint training is better by 0.010", "zero lies within the interval."),
            Option("there is no difference between the two", "a difference of 0.02 lies within the interval as well."),
            Option("this experiment cannot tell", "it allows for -0.004 to 0.024.", True),
            Option("ten seeds are too few for an interval", "Student's t takes care of small numbers."),
        ),
    ),
    Question(
        "Two tasks have 100,000 and 1,000 samples of their own, and are drawn equally often. What is the danger?",
        (
            Option("the large task is not learned at all", "it gets half of all batches."),
            Option("the small one's samples come round a hundred times as often", "they may be memorised.", True),
            Option("the loader runs out of samples of the small task", "it begins again from the start."),
            Option(
                "batches without one of the tasks cannot be trained on",
                "a task without labels simply does not take part.",
            ),
        ),
    ),
    Question(
        "All weighting methods and every constant give the same poor score for one task. The first thing to look at is",
        (
            Option("the task alone", "if it is as poor alone, no weight can help: check data, loss and head.", True),
            Option("a newer weighting method", "it combines the same gradients in another way."),
            Option(
                "the angle between the gradients",
                "later: an angle explains a conflict, not a task that learns nothing.",
            ),
            Option("a larger batch", "that makes a gradient less noisy, not different."),
        ),
    ),
)
