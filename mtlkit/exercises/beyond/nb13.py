"""Exercises and quiz of notebook 13, looking inside."""

import torch
from torch import Tensor

from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def needed(whole, without, task, m):
    """Return the m channels without which a task's loss rises most, the most needed first."""
    return (without - whole)[:, task].argsort(descending=True)[:m].tolist()


def _losses(generator: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
    channels, tasks = (int(torch.randint(low, low + 5, (), generator=generator)) for low in (4, 2))
    whole = 5 * torch.rand(tasks, generator=generator)
    without = whole + torch.randn(channels, tasks, generator=generator)
    task, m = (int(torch.randint(low, most, (), generator=generator)) for low, most in ((0, tasks), (1, channels + 1)))
    return whole, without, task, m


def linear_cka(x, y):
    """Return ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), columns centred."""
    x, y = x - x.mean(0), y - y.mean(0)
    return (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())


def _spaces(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    n, a, b = (int(torch.randint(low, low + 6, (), generator=generator)) for low in (8, 2, 2))
    x = torch.randn(n, a, generator=generator)
    related = float(torch.randint(2, (), generator=generator))
    mixed = related * x @ torch.randn(a, b, generator=generator) + torch.randn(n, b, generator=generator)
    x, mixed = x + 3 * torch.randn(a, generator=generator), mixed + 3 * torch.randn(b, generator=generator)
    return float(powers(generator, -1, 1)) * x, float(powers(generator, -1, 1)) * mixed


def rank_correlation(a, b):
    """Return the correlation of the ranks of all pixels."""
    ranks = [one.flatten().argsort().argsort().double() for one in (a, b)]
    ranks = [one - one.mean() for one in ranks]
    return (ranks[0] @ ranks[1]) / (ranks[0].norm() * ranks[1].norm())


def _maps(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    height, width = (int(size) for size in torch.randint(3, 9, (2,), generator=generator))
    a = torch.rand(height, width, generator=generator).double() ** 4
    sign = float(torch.randint(3, (), generator=generator)) - 1  # alike, unrelated, opposite
    b = sign * a + 0.3 * torch.rand(height, width, generator=generator).double()
    return a, b.exp()


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return (a @ b) / (a.norm() * b.norm())


def _ranks(a: Tensor) -> Tensor:
    return a.flatten().argsort().argsort().double()


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    return (_ranks(a) - _ranks(a).mean()) @ (_ranks(b) - _ranks(b).mean())


def _in_order(a: Tensor, b: Tensor) -> Tensor:
    return _pearson(a.flatten().argsort().double(), b.flatten().argsort().double())


EXERCISES = (
    Exercise(
        "13.1",
        "Which channels does a task need?",
        "Write `needed(whole, without, task, m)`: `whole [K]` are the losses of K tasks, `without [C, K]` those with "
        "each of C channels silenced in turn. Return a list of the m channels without which the loss of task "
        "number `task` rises most, the most needed one first.",
        1,
        5,
        (
            "What counts is how much a loss *rises*: without - whole.",
            "Column `task` of that difference belongs to the task; sort it in descending order.",
            "(without - whole)[:, task].argsort(descending=True)[:m].tolist()",
        ),
        needed,
        _losses,
        (
            (
                "these are the channels that are needed least",
                lambda whole, without, task, m: (without - whole)[:, task].argsort()[:m].tolist(),
            ),
            (
                "a channel without which the loss *falls* is not needed: keep the sign of the change",
                lambda whole, without, task, m: (without - whole)[:, task].abs().argsort(descending=True)[:m].tolist(),
            ),
            (
                "that is the order for all tasks together; use the column of `task` only",
                lambda whole, without, task, m: (without - whole).sum(1).argsort(descending=True)[:m].tolist(),
            ),
        ),
        calls=12,
    ),
    Exercise(
        "13.2",
        "How alike are two spaces?",
        "Write `linear_cka(x, y)`: the linear CKA of `x [N, A]` and `y [N, B]`, two representations of the same N samples: "
        "$\\|Y^\\top X\\|^2 / (\\|X^\\top X\\| \\, \\|Y^\\top Y\\|)$ with Frobenius norms, after subtracting "
        "from every column its mean over the samples.",
        2,
        8,
        (
            "Centre first: x - x.mean(0).",
            "tensor.norm() of a matrix is the Frobenius norm.",
            "(y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())",
        ),
        linear_cka,
        _spaces,
        (
            (
                "the columns are not centred: subtract the mean over the samples first",
                lambda x, y: (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()),
            ),
            (
                "the numerator is the *square* of a norm, just as the denominator is a product of two norms",
                lambda x, y: linear_cka(x, y) / ((y - y.mean(0)).T @ (x - x.mean(0))).norm(),
            ),
            (
                "that is the square root of the right value",
                lambda x, y: linear_cka(x, y).sqrt(),
            ),
            (
                "you centred each sample (row); subtract from each column its mean over the samples",
                lambda x, y: (
                    ((y - y.mean(1, keepdim=True)).T @ (x - x.mean(1, keepdim=True))).norm() ** 2
                    / (
                        ((x - x.mean(1, keepdim=True)).T @ (x - x.mean(1, keepdim=True))).norm()
                        * ((y - y.mean(1, keepdim=True)).T @ (y - y.mean(1, keepdim=True))).norm()
                    )
                ),
            ),
        ),
        calls=12,
    ),
    Exercise(
        "13.3",
        "Does the map change?",
        "Write `rank_correlation(a, b)`: Spearman's rank correlation of two maps `[H, W]` without equal pixels: the "
        "correlation of the *ranks* of all pixels.",
        2,
        8,
        (
            "The rank of a pixel is the number of pixels smaller than it.",
            "flatten().argsort().argsort() gives the ranks.",
            "Subtract the mean of each, and divide their inner product by both norms.",
        ),
        rank_correlation,
        _maps,
        (
            ("that is the correlation of the pixels themselves; take their ranks first", _pearson),
            ("argsort gives the order, not the ranks: apply it twice", _in_order),
            (
                "that is a covariance; divide by the norms of both, so that it lies between -1 and 1",
                lambda a, b: _covariance(a, b) / a.numel(),
            ),
            ("divide by the norms of both: a correlation lies between -1 and 1", lambda a, b: _covariance(a, b)),
            (
                "ranks have a mean: subtract it before you multiply",
                lambda a, b: torch.cosine_similarity(_ranks(a), _ranks(b), 0),
            ),
        ),
        calls=12,
    ),
)

QUIZ = (
    Question(
        "Without channel 12 no task's loss changes. What follows?",
        (
            Option("the channel is never active", "it may be active in every picture, and nobody reads it."),
            Option("another channel may say the same", "only silencing both would show it.", True),
            Option("the channel can be left out of training", "it may have helped while the others were learned."),
            Option("the layer is too small", "if anything it has room to spare."),
        ),
    ),
    Question(
        "A saliency map looks the same after the head's weights have been drawn anew. The map",
        (
            Option("is robust, which is good", "it is robust against what the network has learned."),
            Option("explains the encoder only", "perhaps, but then it does not explain the answer."),
            Option(
                "shows the picture more than the answer", "what does not depend on the head cannot explain it.", True
            ),
            Option("needs more steps", "more steps change the weights, which this map ignores."),
        ),
    ),
    Question(
        "Two random networks have a CKA of 0.97 in their first layers. That is because",
        (
            Option(
                "they see the same pictures", "much of a representation is the input; compare with random ones.", True
            ),
            Option("they have the same seed", "they were drawn with different ones."),
            Option("CKA is always near 1", "for unrelated representations it is near 0."),
            Option("random networks have learned the task", "they have learned nothing."),
        ),
    ),
    Question(
        "The cosine of two tasks' gradients in a layer is -0.4 at one step. You should",
        (
            Option("give each task a layer of its own there", "not before you know whether it helps."),
            Option("take a method that removes conflict", "a single step is no reason to."),
            Option("lower both weights", "an angle does not change with the weights."),
            Option("look at more steps, batches and seeds", "one cosine of one batch is mostly noise.", True),
        ),
    ),
)
