"""Exercises and quiz of notebook 09, large models."""

import torch
from torch import Tensor

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def mixture_of(sizes, T):
    """Return n_i^(1/T) / Σ n_j^(1/T)."""
    shares = sizes ** (1 / T)
    return shares / shares.sum()


def _sizes(generator: torch.Generator) -> tuple[Tensor, float]:
    sizes = torch.randint(
        10, 10_000, (int(torch.randint(2, 7, (), generator=generator)),), generator=generator
    ).double()
    return sizes, float(powers(generator, -0.5, 0.5))


def accumulated_loss(losses, tokens):
    """Return Σ tokens_k losses_k / Σ tokens_k."""
    return (losses * tokens).sum() / tokens.sum()


def _parts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    P = int(torch.randint(2, 7, (), generator=generator))
    losses = (torch.rand(P, generator=generator) + 0.5).requires_grad_()
    return losses, torch.randint(1, 200, (P,), generator=generator)


def adapted(x, W, A, B):
    """Return x Wᵀ + x Aᵀ Bᵀ."""
    return x @ W.T + x @ A.T @ B.T


def _layer(generator: torch.Generator) -> tuple[Tensor, ...]:
    N, into, out, r = torch.randint(1, 8, (4,), generator=generator).tolist()
    shapes = ((N, into), (out, into), (r, into), (out, r))
    x, W, A, B = (torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes)
    return x, W.detach(), A, B  # W is frozen


def step_flops(width, layers, tokens):
    """Return 3 x 24 width² operations for each layer and token."""
    return 3 * 24 * width**2 * layers * tokens


def _sizes_of_a_step(generator: torch.Generator) -> tuple[int, int, int]:
    width, layers, tokens = (int(torch.randint(low, 40 * low, (), generator=generator)) for low in (1, 1, 100))
    return width, layers, tokens


EXERCISES = (
    Exercise(
        "09.1",
        "Mixing by temperature",
        "Write `mixture_of(sizes, T)`: from the number of samples of each task, `sizes [K]`, return the probabilities "
        "`[K]` with which each task is drawn, $n_i^{1/T} / \\sum_j n_j^{1/T}$. T = 1 draws in proportion to the sizes; "
        "a high T draws all tasks almost equally often.",
        1,
        5,
        (
            "`sizes ** (1 / T)` raises every size to the power.",
            "Divide by the sum, so that the probabilities add up to 1.",
            "It is also softmax(log n / T): the sizes' logarithms are the scores, T is the temperature.",
        ),
        mixture_of,
        _sizes,
        (
            (
                "the exponent is inverted: a *high* temperature must make the shares more equal",
                lambda n, T: mixture_of(n, 1 / T),
            ),
            ("these are not probabilities yet: divide by their sum", lambda n, T: n ** (1 / T)),
            ("softmax takes *logarithms* of the sizes: log n / T", lambda n, T: torch.softmax(n / T, 0)),
            ("T is not used: these are the shares at T = 1", lambda n, T: n / n.sum()),
        ),
    ),
    Exercise(
        "09.2",
        "Accumulation that counts correctly",
        "A batch is processed in parts. You have each part's *mean* loss, `losses [P]`, and its number of target "
        "tokens, `tokens [P]`. Write `accumulated_loss(losses, tokens)`: the mean over all tokens of the batch. "
        "(Widely used libraries took the mean of the means until late 2024.)",
        1,
        5,
        (
            "A part with twice the tokens must count twice.",
            "mean loss x tokens is the sum over the tokens of the part.",
            "(losses * tokens).sum() / tokens.sum()",
        ),
        accumulated_loss,
        _parts,
        (
            ("that is the mean of the means: a token in a short part would count more", lambda loss, n: loss.mean()),
            ("that is the sum over all tokens; divide by their number", lambda loss, n: (loss * n).sum()),
            ("divide by the number of tokens, not of parts", lambda loss, n: (loss * n).sum() / len(n)),
            (
                "the losses were detached: the model does not learn from them",
                lambda loss, n: accumulated_loss(loss.detach(), n),
            ),
            (
                "these are already means: multiply by the tokens, do not divide",
                lambda loss, n: (loss / n).sum() / n.sum(),
            ),
        ),
        learning,
    ),
    Exercise(
        "09.3",
        "An adapter",
        "Write `adapted(x, W, A, B)`: the output `[N, out]` of a layer with the frozen matrix `W [out, in]` and the "
        "low-rank correction $BA$ beside it, for `x [N, in]`, `A [r, in]`, `B [out, r]`: $xW^\\top + xA^\\top B^\\top$.",
        2,
        8,
        (
            "First down to r numbers: `x @ A.T`.",
            "Then up again: `... @ B.T`. The big product B A is never formed.",
            "x @ W.T + x @ A.T @ B.T",
        ),
        adapted,
        _layer,
        (
            ("the frozen layer is missing: an adapter only corrects it", lambda x, W, A, B: x @ A.T @ B.T),
            ("the adapter is missing", lambda x, W, A, B: x @ W.T + 0 * (A.sum() + B.sum())),
            ("the correction is added, not subtracted", lambda x, W, A, B: x @ W.T - x @ A.T @ B.T),
            (
                "the gradient does not reach A: it was detached",
                lambda x, W, A, B: x @ W.T + x @ A.detach().T @ B.T,
            ),
        ),
        learning,
    ),
    Exercise(
        "09.4",
        "Operations of a step",
        "Write `step_flops(width, layers, tokens)`: how many floating-point operations the matrices of the blocks cost "
        "in one training step. A block has matrices of $12\\,\\text{width}^2$ numbers in all; each number costs two "
        "operations per token forward, and the backward pass costs twice the forward pass. Return an exact "
        "integer.",
        2,
        8,
        (
            "Forward: 2 x 12 width² operations per layer and token.",
            "Backward needs two products for each forward one: the gradient of the input and that of the weights.",
            "3 * 24 * width**2 * layers * tokens",
        ),
        step_flops,
        _sizes_of_a_step,
        (
            ("the backward pass is missing: it costs twice the forward pass", lambda w, n, t: step_flops(w, n, t) / 3),
            (
                "each number takes a multiplication *and* an addition: twice as many",
                lambda w, n, t: step_flops(w, n, t) / 2,
            ),
            (
                "the backward pass costs twice as much as the forward pass, not the same",
                lambda w, n, t: step_flops(w, n, t) * 2 / 3,
            ),
            ("the operations grow with the *square* of the width", lambda w, n, t: step_flops(w, n, t) / w),
        ),
    ),
)

QUIZ = (
    Question(
        "A language model trains on 90 % English and 10 % sums, with one loss, the mean over all tokens. Its loss weights are",
        (
            Option(
                "absent: there is one loss, so nothing to weigh",
                "it is a sum over tasks all the same, each with its share of tokens.",
            ),
            Option(
                "1 for both tasks, as nobody set any",
                "a token of the small task would then count more than one of English.",
            ),
            Option("the tasks' shares of the tokens", "the mixture of the data *is* the weighting.", True),
            Option("learned together with the network", "nothing in the loss can change them."),
        ),
    ),
    Question(
        "You raise the mixing temperature from 1 to 5. What gets *worse*, most likely?",
        (
            Option("the smallest task, early on", "it is drawn more often now, so it learns faster at first."),
            Option("the largest task", "its share of the draws falls, and the budget is the same.", True),
            Option("nothing: more balance is better", "a budget is divided, not enlarged."),
            Option("the speed of a step", "a step costs the same, whatever is in the batch."),
        ),
    ),
    Question(
        "What does activation checkpointing save, and what does it cost?",
        (
            Option(
                "optimiser memory, for a little accuracy in the last digits",
                "it does not touch the optimiser, and the update is the same.",
            ),
            Option("activations, for about a third more operations", "the forward pass is done twice.", True),
            Option("parameters, for time", "all parameters stay."),
            Option("time, for memory", "it is the other way round."),
        ),
    ),
    Question(
        "Two processes hold half a batch each, 30 and 10 labels of a task. Each divides by its own number. "
        "The average is",
        (
            Option("right: averages of averages are averages", "only where all parts are equally large."),
            Option(
                "wrong: a label in the second half counts three times as much",
                "an average of the two is right if both divide by 20, half of all 40.",
                True,
            ),
            Option("wrong only for gradient methods", "a plain sum of losses is just as wrong."),
            Option("right after enough steps", "the bias does not average out: it always favours scarce labels."),
        ),
    ),
)
