"""Exercises and quiz of notebook 02, the loss."""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def total_loss(h, heads, targets, weights):
    """Return Σ w_i mse(f_i(h), y_i)."""
    return sum(weights[name] * mse_loss(heads[name](h), targets[name]) for name in heads)


def _heads(generator: torch.Generator) -> tuple[Tensor, dict[str, nn.Module], dict[str, Tensor], dict[str, float]]:
    B, C, n, tasks = torch.randint(2, 7, (4,), generator=generator).tolist()
    h = torch.randn(B, C, generator=generator, requires_grad=True)
    known = ("depth", "normal", "edge", "albedo", "mask", "pose", "age")
    names = [known[k] for k in torch.randperm(len(known), generator=generator)[:tasks]]
    outputs = {name: n if torch.rand((), generator=generator) < 0.7 else 1 for name in names}
    heads: dict[str, nn.Module] = {name: nn.Linear(C, outputs[name]) for name in names}
    for head in heads.values():
        for p in head.parameters():
            p.data = torch.randn(p.shape, generator=generator)
    orders = [[names[k] for k in torch.randperm(len(names), generator=generator)] for _ in range(2)]
    targets = {name: torch.randn(B, outputs[name], generator=generator) for name in orders[0]}
    weights = {name: float(0.1 + 2 * torch.rand((), generator=generator)) for name in orders[1]}
    return h, heads, targets, weights


def cosine(g_a, g_b):
    """Return the cosine of the angle between two gradients."""
    return g_a @ g_b / (g_a.norm() * g_b.norm())


def _two_gradients(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    P = int(torch.randint(2, 9, (), generator=generator))
    g_a, g_b = torch.randn(2, P, generator=generator)
    long_a, long_b = powers(generator, -1.5, 2, 2)
    return long_a * g_a / g_a.norm(), long_b * g_b / g_b.norm()


def log_like_total(losses):
    """Return Σ l_i / (l_i as a constant)."""
    return sum(loss / loss.detach() for loss in losses)


def _losses(generator: torch.Generator) -> tuple[list[Tensor]]:
    x = powers(generator, -4, 3, int(torch.randint(1, 6, (), generator=generator)))
    return ([value.clone().requires_grad_() for value in x],)


def same_steps(lr, K):
    """Return the learning rate with which the *sum* makes the steps that the *mean* makes with `lr`."""
    return lr / K


def _rate(generator: torch.Generator) -> tuple[float, int]:
    return float(powers(generator, -3, 1)), int(torch.randint(2, 9, (), generator=generator))


EXERCISES = (
    Exercise(
        "02.1",
        "The total loss",
        "Write `total_loss(h, heads, targets, weights)`, the weighted total $\\sum_i w_i\\,\\ell_i$. `h` are the shared "
        "features `[B, C]`; `heads`, `targets`, `weights` are dictionaries that hold a module, a tensor and a number "
        "for each task, whatever its name and however many numbers it predicts; $\\ell_i$ is `mse_loss(prediction, target)`. Return a scalar tensor whose gradient reaches *h* "
        "and all heads.",
        1,
        8,
        (
            "One prediction per task, all from the same `h`: `heads[name](h)`.",
            "Multiply each task's loss by `weights[name]`, then add them up.",
            "`sum(... for name in heads)` of tensors is a tensor and keeps the graph. No `.item()`, no `.detach()`.",
        ),
        total_loss,
        _heads,
        (
            (
                "you divided by the number of tasks: that is the mean, a hidden factor 1/K in the learning rate",
                lambda h, heads, targets, weights: total_loss(h, heads, targets, weights) / len(heads),
            ),
            (
                "the value is right, but the features do not learn: h was detached",
                lambda h, heads, targets, weights: total_loss(h.detach(), heads, targets, weights),
            ),
            (
                "the value is right, but nothing learns: the total is cut off from the graph (.item() or .detach())",
                lambda h, heads, targets, weights: total_loss(h, heads, targets, weights).detach(),
            ),
            (
                "the weights were not used",
                lambda h, heads, targets, weights: total_loss(h, heads, targets, dict.fromkeys(heads, 1.0)),
            ),
            (
                "the popular mistake: outputs and targets of all tasks were mixed before the loss. Each task compares "
                "its own output with its own target",
                lambda h, heads, targets, weights: mse_loss(
                    sum(weights[n] * heads[n](h) for n in heads), sum(weights[n] * targets[n] for n in heads)
                ),
            ),
            (
                "the sign is wrong: minimising this makes every task worse",
                lambda h, heads, targets, weights: -total_loss(h, heads, targets, weights),
            ),
        ),
        learning,
    ),
    Exercise(
        "02.2",
        "Do they conflict?",
        "Write `cosine(g_a, g_b)` for two gradients `[P]`: the cosine of the angle between them, from -1 (opposite) "
        "through 0 (unrelated) to 1 (same direction). It must not depend on how long they are.",
        1,
        5,
        (
            "The inner product is `g_a @ g_b`.",
            "Divide it by both lengths; a length is `g.norm()`.",
            "g_a @ g_b / (‖g_a‖ ‖g_b‖). Keep the sign: it is the whole point.",
        ),
        cosine,
        _two_gradients,
        (
            ("this is the inner product: it grows with the lengths. Divide by both norms", lambda a, b: a @ b),
            ("you divided by the *squared* norms", lambda a, b: a @ b / (a.norm() * b.norm()) ** 2),
            ("you lost the sign, and with it the conflict", lambda a, b: cosine(a, b).abs()),
            ("this is the angle; its cosine is asked for", lambda a, b: torch.acos(cosine(a, b))),
            ("you divided by only one of the two norms", lambda a, b: a @ b / a.norm()),
            ("you divided by only one of the two norms", lambda a, b: a @ b / b.norm()),
        ),
    ),
    Exercise(
        "02.3",
        "Detach the right thing",
        "You want every task to count the same, whatever its unit. Idea: divide each loss by its own current value, "
        "*taken as a constant*. Write `log_like_total(losses)` for a list of scalar tensors. Its value is K, which says "
        "nothing; its gradient must be $\\sum_i \\nabla \\ell_i / \\ell_i$, that of $\\sum_i \\log \\ell_i$.",
        2,
        8,
        (
            "What is the gradient of l / l? Of l / 2?",
            "`loss.detach()` has the same value, but is a constant for autograd.",
            "Only the *denominator* should be a constant.",
        ),
        log_like_total,
        _losses,
        (
            (
                "nothing learns: l / l is the constant 1, so its gradient is 0. Detach only the denominator",
                lambda losses: sum(loss / loss for loss in losses),
            ),
            (
                "you detached the numerator: the gradient has the wrong sign, every task gets worse",
                lambda losses: sum(loss.detach() / loss for loss in losses),
            ),
            (
                "you divided by the mean loss: larger losses still count more. Divide each by itself",
                lambda losses: sum(losses) / torch.stack(losses).mean().detach(),
            ),
            (
                "that is the mean over tasks; the sum is asked for",
                lambda losses: log_like_total(losses) / len(losses),
            ),
        ),
        learning,
    ),
    Exercise(
        "02.4",
        "Sum or mean?",
        "A paper trains with the *mean* of K losses, plain SGD and learning rate `lr`. Your code takes the *sum*. Write "
        "`same_steps(lr, K)`: the learning rate that makes your steps equal theirs.",
        1,
        3,
        (
            "Write one SGD step for each: parameter minus learning rate times gradient.",
            "The gradient of the sum is K times the gradient of the mean.",
            "Your rate times K must equal theirs.",
        ),
        same_steps,
        _rate,
        (
            ("the wrong way round: the sum's gradient is already K times longer", lambda lr, K: lr * K),
            ("with the same rate your steps are K times longer than theirs", lambda lr, K: lr),
            ("all K losses are averaged: divide by K, not by K - 1", lambda lr, K: lr / (K - 1)),
            ("the gradient grows in proportion to K, not to its root", lambda lr, K: lr / K**0.5),
        ),
    ),
)

QUIZ = (
    Question(
        "L = l(y_1 + y_2, ŷ_1 + ŷ_2) cannot be the loss of two tasks, because",
        (
            Option(
                "a sum over tasks must be divided by their number",
                "sum or mean only changes the scale of the gradient.",
            ),
            Option("it mixes what belongs to different tasks", "each task compares its own ŷ with its own y.", True),
            Option("losses must be positive", "this one may well be positive, and still meaningless."),
            Option("a loss compares one number with one other number", "it may compare vectors, images or sentences."),
        ),
    ),
    Question(
        "Two losses are equal in size. Do they pull equally hard at the shared parameters?",
        (
            Option(
                "yes, a gradient is as long as its loss is large",
                "size and slope are different things; think of a plateau: high, but flat.",
            ),
            Option("no, their gradients may differ in length", "gradients move parameters, losses do not.", True),
            Option("no, the one that comes first always pulls harder", "a sum does not care about order."),
            Option(
                "yes, but only with Adam, which evens lengths out",
                "Adam rescales the *sum*; it cannot tell who contributed what.",
            ),
        ),
    ),
    Question(
        "cos(g_1, g_2) = -0.8 and both gradients have the same length. Their sum",
        (
            Option("is zero", "only for cosine -1."),
            Option("hurts both tasks", "g_1·(g_1 + g_2) = ‖g‖²(1 - 0.8) > 0: it helps both, a little."),
            Option("helps each task, but far less than its own gradient", "a fifth of ‖g‖² is left for each.", True),
            Option("helps the longer one and hurts the shorter one", "that needs different lengths: dominance."),
        ),
    ),
    Question(
        "`total = sum(loss.item() for loss in losses)`; then `total.backward()`. What happens?",
        (
            Option("an error: a float has no backward", "here you are lucky: the mistake is loud.", True),
            Option("it trains as usual, as the values are the same", "`.item()` leaves the graph behind."),
            Option("it trains, but slowly", "nothing is left to be differentiated."),
            Option("only the heads learn", "no parameter is connected to a Python float."),
        ),
    ),
)
