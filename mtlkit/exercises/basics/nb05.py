"""Exercises and quiz of notebook 05, weighting methods."""

import torch
from torch import Tensor

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def uncertainty_total(losses, s):
    """Return Σ ½ e^{-s_i} l_i + ½ s_i."""
    return (0.5 * torch.exp(-s) * losses + 0.5 * s).sum()


def _losses_and_s(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    K = int(torch.randint(1, 6, (), generator=generator))
    losses = powers(generator, -3, 2, K).requires_grad_()
    return losses, (3 * torch.randn(K, generator=generator)).requires_grad_()


def dwa_weights(before, last, T):
    """Return K softmax(r / T), r = last / before."""
    return len(last) * torch.softmax(last / before / T, 0)


def _two_epochs(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    K = int(torch.randint(2, 7, (), generator=generator))
    before, ratio = powers(generator, -3, 2, K), 0.1 + 2 * torch.rand(K, generator=generator)
    return before, before * ratio, float(powers(generator, -0.7, 1))


def pcgrad(g_a, g_b):
    """Return the sum of both gradients, each without the part that opposes the other."""
    dot = g_a @ g_b
    if dot >= 0:
        return g_a + g_b
    return (g_a - dot / (g_b @ g_b) * g_b) + (g_b - dot / (g_a @ g_a) * g_a)


def _project(g: Tensor, other: Tensor) -> Tensor:
    return g - min(0.0, float(g @ other)) / (other @ other) * other


def _pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    P = int(torch.randint(2, 9, (), generator=generator))
    g_a, g_b = torch.randn(2, P, generator=generator)
    long_a, long_b = float(powers(generator, -1.5, 1.5)) * powers(generator, 0, 0.5, 2)
    return long_a * g_a / g_a.norm(), long_b * g_b / g_b.norm()


def _pair_or_none(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    g_a, g_b = _pair(generator)
    which = torch.rand((), generator=generator)
    return 0 * g_a if which < 0.15 else g_a, 0 * g_b if which > 0.85 else g_b


def _pair_that_may_agree(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    g_a, g_b = _pair(generator)
    longer, shorter = g_a + 2 * torch.rand((), generator=generator) * g_b, g_b
    return (longer, shorter) if torch.rand((), generator=generator) < 0.5 else (shorter, longer)


def mgda_weight(g_a, g_b):
    """Return the weight of g_a in the shortest convex combination of both."""
    gap = g_a - g_b
    return (-(gap @ g_b) / (gap @ gap)).clamp(0, 1)


EXERCISES = (
    Exercise(
        "05.1",
        "Uncertainty weighting",
        "Write `uncertainty_total(losses, s)` for `losses [K]` and learned numbers `s [K]`: "
        "$\\sum_i \\tfrac12 e^{-s_i} \\ell_i + \\tfrac12 s_i$. Both the losses and `s` need its gradient. Then think: "
        "for which $s_i$ is it smallest, and what is the total then if $\\ell_i = 0.01$?",
        1,
        6,
        (
            "`torch.exp(-s) * losses` weights the losses.",
            "The second term keeps s from running away to infinity, where no task would count at all.",
            "(0.5 * torch.exp(-s) * losses + 0.5 * s).sum(). It is smallest at s = log l: then ½ + ½ log 0.01 = -1.8.",
        ),
        uncertainty_total,
        _losses_and_s,
        (
            (
                "the sign of s in the exponent is wrong: a large s must make a task count *less*",
                lambda losses, s: (0.5 * torch.exp(s) * losses + 0.5 * s).sum(),
            ),
            (
                "without ½ s nothing holds s back: all weights would go to 0",
                lambda losses, s: (0.5 * torch.exp(-s) * losses).sum(),
            ),
            ("that is the mean; the sum is asked for", lambda losses, s: uncertainty_total(losses, s) / len(losses)),
            (
                "the factors ½ are missing",
                lambda losses, s: (torch.exp(-s) * losses + s).sum(),
            ),
            (
                "the weights were detached: s does not learn from the losses",
                lambda losses, s: (0.5 * torch.exp(-s).detach() * losses + 0.5 * s).sum(),
            ),
            (
                "the sign of the second term is wrong: it would reward a large s",
                lambda losses, s: (0.5 * torch.exp(-s) * losses - 0.5 * s).sum(),
            ),
        ),
        learning,
    ),
    Exercise(
        "05.2",
        "Dynamic weight averaging",
        "Write `dwa_weights(before, last, T)`: given the tasks' mean losses two windows ago, `before [K]`, and in the "
        "last window, `last [K]`, return the weights $K\\,\\mathrm{softmax}(r/T)$ with $r_i$ = last / before. A task "
        "whose loss falls slowly gets a larger weight.",
        1,
        6,
        (
            "r near 1: the loss hardly fell. r near 0: it fell a lot.",
            "`torch.softmax(r / T, 0)` sums to 1.",
            "The weights must sum to K, so that equal weights are all 1.",
        ),
        dwa_weights,
        _two_epochs,
        (
            (
                "the ratio is upside down: the task that learned most would get most",
                lambda before, last, T: len(last) * torch.softmax(before / last / T, 0),
            ),
            (
                "these sum to 1; multiply by K, so that equal weights are all 1",
                lambda before, last, T: torch.softmax(last / before / T, 0),
            ),
            (
                "a high temperature T must make the weights more equal: divide by it",
                lambda before, last, T: len(last) * torch.softmax(last / before * T, 0),
            ),
            (
                "the sign is wrong: the task that learned most would get most",
                lambda before, last, T: len(last) * torch.softmax(-last / before / T, 0),
            ),
            (
                "DWA looks at the *ratio* of the losses, not at their difference: it must not depend on their units",
                lambda before, last, T: len(last) * torch.softmax((last - before) / T, 0),
            ),
        ),
    ),
    Exercise(
        "05.3",
        "PCGrad for two tasks",
        "Write `pcgrad(g_a, g_b)` for two gradients `[P]`. If they conflict (negative inner product), subtract from "
        "each its component along the *original* other one; then return their sum. If they do not conflict, return the "
        "plain sum. Either gradient may be zero.",
        2,
        10,
        (
            "The component of g_a along g_b is (g_a·g_b / ‖g_b‖²) g_b.",
            "Compute the inner product once, before anything is changed.",
            "g_a - dot/(g_b @ g_b) * g_b, and the same with a and b exchanged; both only if dot < 0.",
        ),
        pcgrad,
        _pair_or_none,
        (
            (
                "you also projected where the gradients agree: that throws away what both tasks want",
                lambda a, b: (a - a @ b / (b @ b) * b) + (b - a @ b / (a @ a) * a),
            ),
            (
                "you divided by the norm; the component along g_b needs the *squared* norm",
                lambda a, b: a - min(0.0, float(a @ b)) / b.norm() * b + b - min(0.0, float(a @ b)) / a.norm() * a,
            ),
            (
                "only the first gradient was changed, or the second was projected against the *already changed* one: "
                "remove from each the part that opposes the *original* other",
                lambda a, b: _project(a, b) + _project(b, _project(a, b)),
            ),
            ("that is the mean of the two; the sum is asked for", lambda a, b: pcgrad(a, b) / 2),
            (
                "the sign is wrong: the conflict was doubled instead of removed",
                lambda a, b: a + b + min(0.0, float(a @ b)) * (b / (b @ b) + a / (a @ a)),
            ),
            ("that is the plain sum: remove the conflict first", lambda a, b: a + b),
        ),
    ),
    Exercise(
        "05.4",
        "MGDA for two tasks",
        "Write `mgda_weight(g_a, g_b)` for two different gradients: the weight $w$ in 0..1 that makes "
        "$w\\,g_a + (1-w)\\,g_b$ *shortest*. (Set the "
        "derivative of its squared length to zero, then mind the ends.) It shows who is favoured: the task "
        "with the shorter gradient.",
        3,
        12,
        (
            "The squared length is ‖g_b + w (g_a - g_b)‖², a parabola in w.",
            "Its minimum: w = -(g_a - g_b)·g_b / ‖g_a - g_b‖².",
            "Outside 0..1 the nearest end is best: `.clamp(0, 1)`.",
        ),
        mgda_weight,
        _pair_that_may_agree,
        (
            (
                "w must stay in 0..1: outside, one task is trained *backwards*",
                lambda a, b: -((a - b) @ b) / ((a - b) @ (a - b)),
            ),
            (
                "that is the weight of g_b; the weight of g_a is asked for",
                lambda a, b: 1 - mgda_weight(a, b),
            ),
            (
                "the sign is wrong: look again at the minimum of the parabola",
                lambda a, b: ((a - b) @ b / ((a - b) @ (a - b))).clamp(0, 1),
            ),
            (
                "w is not always ½: that holds only for gradients of equal length, but MGDA uses their lengths",
                lambda a, b: torch.tensor(0.5),
            ),
            (
                "divide by the *squared* length of the gap",
                lambda a, b: (-((a - b) @ b) / (a - b).norm()).clamp(0, 1),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "With uncertainty weighting the total loss is -1.3. What is wrong?",
        (
            Option("the learning rate is too high", "in that case the losses would rise; look at them."),
            Option("a loss is negative", "all losses may be positive; it is ½ log l that is negative."),
            Option("nothing", "at the optimum the total is Σ ½(1 + log l_i), negative for small losses.", True),
            Option("s was clamped", "a clamped s stops the weights; the total says nothing about that."),
        ),
    ),
    Question(
        "One task has converged: its gradient is nearly zero. What does MGDA do?",
        (
            Option("it ignores that task", "on the contrary: short gradients dominate the shortest combination."),
            Option("it nearly stops", "the shortest combination is at most as long as the shortest gradient.", True),
            Option("it follows the longest gradient", "that is what a plain sum does."),
            Option("it fails", "the problem has a solution, a short one."),
        ),
    ),
    Question(
        "Taking the gradients at the shared features instead of the parameters",
        (
            Option("is exact and cheaper", "it is cheaper, but its inner products belong to an upper bound."),
            Option("costs one pass through the encoder instead of K", "this is why MGDA-UB does it.", True),
            Option("needs more memory for the Jacobian of the encoder", "that Jacobian is never formed."),
            Option("works for heads only", "the combined gradient is sent on through the encoder."),
        ),
    ),
    Question(
        "A new method beats *equal* weights on your data. You conclude that",
        (
            Option(
                "it beats static weights, of which equal weights are one",
                "equal weights are only one point of the static front; try the others.",
            ),
            Option(
                "it resolves the conflict between the tasks' gradients",
                "it may just have found a better ratio of the tasks.",
            ),
            Option("you should also compare with tuned static weights", "at equal budget, over several seeds.", True),
            Option("equal weights are useless", "on other data they may be near the best point of the front."),
        ),
    ),
)
