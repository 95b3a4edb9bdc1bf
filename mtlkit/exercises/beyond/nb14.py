"""Exercises and quiz of notebook 14, frontiers."""

import math
from itertools import pairwise

import torch

from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def exp3(w, p, chosen, reward, gamma):
    """Return the weights of the arms after a reward in 0..1: the chosen one times e^(γ r / (p K))."""
    new = list(w)
    new[chosen] *= math.exp(gamma * reward / (p[chosen] * len(w)))
    return new


def _arms(generator: torch.Generator) -> tuple[list[float], list[float], int, float, float]:
    K = int(torch.randint(2, 7, (), generator=generator))
    w = powers(generator, -2, 3, K).double().tolist()
    p = torch.rand(K, generator=generator).double() + 0.2
    gamma = float(0.1 + 0.8 * torch.rand((), generator=generator).double())
    chosen = int(torch.randint(K, (), generator=generator))
    return w, (p / p.sum()).tolist(), chosen, float(torch.rand((), generator=generator).double()), gamma


def _exp3(w, p, chosen, exponent):
    new = list(w)
    new[chosen] *= math.exp(exponent)
    return new


def hypervolume(points):
    """Return the area between (0, 0) and the points that no other beats."""
    area, height = 0.0, 0.0
    for x, y in sorted(points, reverse=True):
        if y > height:
            area, height = area + x * (y - height), y
    return area


def _points(generator: torch.Generator) -> tuple[list[tuple[float, float]]]:
    number = int(torch.randint(0, 9, (), generator=generator))
    most = int(torch.randint(3, 20, (), generator=generator))
    points = [(x / 8, y / 8) for x, y in torch.randint(most, (number, 2), generator=generator).tolist()]
    twice = torch.rand((), generator=generator) < 0.4  # every point twice
    return (points + points[::-1] if twice else points,)


def predicted_gains(gains, groups):
    """Return for each task the mean of its gains from the others of its group; 0 if it is alone."""
    found = [0.0] * len(gains)
    for group in groups:
        for task in group:
            others = [gains[task][other] for other in group if other != task]
            if others:
                found[task] = sum(others) / len(others)
    return found


def _groups(generator: torch.Generator) -> tuple[list[list[float]], list[list[int]]]:
    K = int(torch.randint(4, 8, (), generator=generator))
    gains = torch.randn(K, K, generator=generator).double()
    order = torch.randperm(K, generator=generator).tolist()
    cuts = sorted(
        torch.randint(1, K, (int(torch.randint(1, 4, (), generator=generator)),), generator=generator).tolist()
    )
    ends = [0, *cuts, K]
    return gains.tolist(), [order[a:b] for a, b in pairwise(ends) if a < b]


def _boxes(points: list[tuple[float, float]]) -> float:
    return sum(x * y for x, y in points)


EXERCISES = (
    Exercise(
        "14.1",
        "A bandit learns",
        "Write `exp3(w, p, chosen, reward, gamma)`: `w` lists the weights of K arms, `p` the probabilities with which they "
        "are drawn; arm `chosen` was drawn and brought a `reward` in 0..1. Return a new list in which its weight is "
        "multiplied by $e^{\\gamma r / (p K)}$.",
        2,
        6,
        (
            "Only the arm that was drawn changes.",
            "Its reward is divided by its probability: an arm that is rarely drawn learns more from each draw.",
            "new[chosen] *= math.exp(gamma * reward / (p[chosen] * len(w)))",
        ),
        exp3,
        _arms,
        (
            (
                "divide the reward by the probability of the arm: a rare draw counts for more",
                lambda w, p, chosen, reward, gamma: _exp3(w, p, chosen, gamma * reward / len(w)),
            ),
            (
                "γ is shared by K arms: divide by their number",
                lambda w, p, chosen, reward, gamma: _exp3(w, p, chosen, gamma * reward / p[chosen]),
            ),
            (
                "γ is missing",
                lambda w, p, chosen, reward, gamma: _exp3(w, p, chosen, reward / (p[chosen] * len(w))),
            ),
            (
                "the arms that were not drawn stay as they are",
                lambda w, p, chosen, reward, gamma: [
                    one * math.exp(gamma * reward / (q * len(w))) for one, q in zip(w, p, strict=True)
                ],
            ),
        ),
        calls=12,
    ),
    Exercise(
        "14.2",
        "The area below a front",
        "Write `hypervolume(points)`: `points` lists pairs of scores, 0 or more, where more is better; the list may be "
        "empty. Return the area of all places (x, y), from (0, 0) on, for which some point is at least as good in both "
        "scores.",
        3,
        10,
        (
            "Draw three points: the area is a staircase.",
            "Go through the points from the largest x on; a point adds something only if its y tops all before it.",
            "It adds x * (y - the largest y so far).",
        ),
        hypervolume,
        _points,
        (
            ("rectangles overlap: an area below two points counts once", _boxes),
            (
                "that is the largest single rectangle; the others add their own corners",
                lambda points: max((x * y for x, y in points), default=0.0),
            ),
            (
                "a point that another one beats must add nothing",
                lambda points: sum(
                    x * (y - before)
                    for (x, y), before in zip(
                        sorted(points, reverse=True), [0.0, *(y for _, y in sorted(points, reverse=True))], strict=False
                    )
                ),
            ),
        ),
    ),
    Exercise(
        "14.3",
        "The expected gain of a grouping",
        "Write `predicted_gains(gains, groups)`: `gains[i][j]` is what task i gained when it was trained with task j, and "
        "`groups` lists groups of tasks, each task in one of them. A task is expected to gain the *mean* of its gains from "
        "the others in its group, and 0 if it is alone. Return a list of the expected gains of tasks 0, 1, 2, ...",
        2,
        8,
        (
            "Go through the groups, and in each through its tasks.",
            "Row i is the task that gains, column j its partner; leave out i itself.",
            "If a task has partners, divide the sum by their number; found[task] = ... keeps the order of the tasks.",
        ),
        predicted_gains,
        _groups,
        (
            (
                "row and column are exchanged: `gains[i][j]` is what *i* gains",
                lambda gains, groups: predicted_gains([list(column) for column in zip(*gains, strict=True)], groups),
            ),
            (
                "a task's gain is the mean over its partners, not their sum",
                lambda gains, groups: [
                    sum(gains[task][other] for group in groups if task in group for other in group if other != task)
                    for task in range(len(gains))
                ],
            ),
            (
                "a task is not its own partner",
                lambda gains, groups: [
                    sum(gains[task][other] for other in group) / len(group) if len(group) > 1 else 0.0
                    for task in range(len(gains))
                    for group in groups
                    if task in group
                ],
            ),
            (
                "divide by the number of its *partners*: the task itself does not count",
                lambda gains, groups: [
                    sum(gains[task][other] for other in group if other != task) / len(group)
                    for task in range(len(gains))
                    for group in groups
                    if task in group
                ],
            ),
            (
                "a task is not its own partner, and alone it gains 0",
                lambda gains, groups: [
                    sum(gains[task][other] for other in group) / len(group)
                    for task in range(len(gains))
                    for group in groups
                    if task in group
                ],
            ),
            (
                "the answers are in the order of the groups; they should be in the order of the tasks",
                lambda gains, groups: [predicted_gains(gains, groups)[task] for group in groups for task in group],
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "A search over weights takes 20 runs and finds weights that beat equal weights. What is a fair baseline?",
        (
            Option("equal weights, trained once", "the search has spent twenty times as much."),
            Option("equal weights, trained twenty times as long", "both have spent the same.", True),
            Option("the mean of its own 20 runs", "that says how lucky the best one was, not whether searching pays."),
            Option("the training method inside the search", "that is the same method."),
        ),
    ),
    Question(
        "A bandit over weights is rewarded by how fast losses fall. It may learn to prefer weights that",
        (
            Option("are best in the end", "it sees only the next few steps."),
            Option("make the losses fall *now*", "what pays soon need not be what pays in the end.", True),
            Option("are equal", "only if these make losses fall fastest."),
            Option("it has tried least", "a bandit tries them, but prefers what paid."),
        ),
    ),
    Question(
        "Suppose that one network, told the preference, had a front with a larger area than five networks' at equal cost. "
        "Why could that be?",
        (
            Option("it has trained longer on what all preferences share", "five networks learn it five times.", True),
            Option("area does not depend on training", "every point of the front does."),
            Option("it has five times the parameters", "it has hardly more than one of the five."),
            Option("preferences are drawn at random", "that alone makes no network better."),
        ),
    ),
    Question(
        "Groups are chosen by gains that were measured in pairs. What do the pairs not tell you?",
        (
            Option("which task suffers", "they do, row by row."),
            Option("how noisy they are", "measured with several seeds, they do."),
            Option("who gains from whom", "that is what they are."),
            Option("what three tasks do to each other", "a third one can change the gain of two.", True),
        ),
    ),
)
