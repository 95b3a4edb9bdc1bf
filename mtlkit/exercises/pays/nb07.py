"""Exercises and quiz of notebook 07, architectures."""

import torch
from torch import Tensor

from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def cross_stitch(x_a, x_b, alpha):
    """Return α_AA x_A + α_AB x_B and α_BA x_A + α_BB x_B."""
    return alpha[0, 0] * x_a + alpha[0, 1] * x_b, alpha[1, 0] * x_a + alpha[1, 1] * x_b


def _maps(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    axes = int(torch.randint(2, 5, (), generator=generator))
    shape = [int(size) for size in torch.randint(1, 6, (axes,), generator=generator)]
    x_a, x_b = (torch.randn(*shape, generator=generator) for _ in range(2))
    return x_a, x_b, torch.randn(2, 2, generator=generator)


def mixture(h, experts, W):
    """Return Σ_i g_i f_i(h), g = softmax(h Wᵀ)."""
    g = torch.softmax(h @ W.T, 1)
    return sum(g[:, i : i + 1] * expert for i, expert in enumerate(experts))


def _experts(generator: torch.Generator) -> tuple[Tensor, list[Tensor], Tensor]:
    batch, width, number, out = (int(size) for size in torch.randint(2, 7, (4,), generator=generator))
    experts = [torch.randn(batch, out, generator=generator) for _ in range(number)]
    h = float(powers(generator, -1, 2)) * torch.randn(batch, width, generator=generator)
    return h, experts, torch.randn(number, width, generator=generator)


def parameters_of_fork(stages, head, tasks, fork):
    """Return the parameters of a network whose first `fork` stages are shared by all tasks."""
    return sum(stages[:fork]) + tasks * (sum(stages[fork:]) + head)


def _network(generator: torch.Generator) -> tuple[list[int], int, int, int]:
    number = int(torch.randint(2, 7, (), generator=generator))
    stages = [int(size) for size in torch.randint(100, 5000, (number,), generator=generator)]
    head = int(torch.randint(50, 500, (), generator=generator))
    tasks = int(torch.randint(2, 6, (), generator=generator))
    return stages, head, tasks, int(torch.randint(0, number + 1, (), generator=generator))


EXERCISES = (
    Exercise(
        "07.1",
        "A cross-stitch unit",
        "Write `cross_stitch(x_a, x_b, alpha)`: given feature maps of the same shape from two networks, and "
        "`alpha [2, 2]`, return the pair of maps that they go on with. Row 0 of `alpha` makes A's map: how much of A, "
        "how much of B.",
        1,
        5,
        (
            "Each new map is a weighted sum of both old ones.",
            "For A: alpha[0, 0] * x_a + alpha[0, 1] * x_b.",
            "Return a pair; for B the same with row 1, from the *old* maps.",
        ),
        cross_stitch,
        _maps,
        (
            (
                "rows and columns are exchanged: row 0 says what A is made of",
                lambda a, b, alpha: cross_stitch(a, b, alpha.T),
            ),
            (
                "B was made of the *new* A; both are made of the old maps",
                lambda a, b, alpha: (
                    alpha[0, 0] * a + alpha[0, 1] * b,
                    alpha[1, 0] * (alpha[0, 0] * a + alpha[0, 1] * b) + alpha[1, 1] * b,
                ),
            ),
            (
                "you took only each network's own share: without the other's, nothing is exchanged",
                lambda a, b, alpha: (alpha[0, 0] * a, alpha[1, 1] * b),
            ),
        ),
    ),
    Exercise(
        "07.2",
        "Experts and a gate",
        "Write `mixture(h, experts, W)`: `h [B, D]` are features, `experts` is a list of the outputs of I experts, "
        "each `[B, O]`, and `W [I, D]` is a task's gate. Return $\\sum_i g_i f_i$ with $g = \\mathrm{softmax}(W h)$: "
        "every sample gets its own mixture.",
        2,
        8,
        (
            "h @ W.T is `[B, I]`: one number for each sample and expert.",
            "Softmax over the experts, dimension 1.",
            "g[:, i : i + 1] * experts[i], added over i.",
        ),
        mixture,
        _experts,
        (
            (
                "your softmax runs over the samples; the shares of one sample's *experts* must sum to 1",
                lambda h, experts, W: sum(
                    torch.softmax(h @ W.T, 0)[:, i : i + 1] * expert for i, expert in enumerate(experts)
                ),
            ),
            (
                "without the softmax these are not shares",
                lambda h, experts, W: sum((h @ W.T)[:, i : i + 1] * expert for i, expert in enumerate(experts)),
            ),
            (
                "that is the plain mean of the experts: the gate is not used",
                lambda h, experts, W: sum(experts) / len(experts),
            ),
            (
                "every sample has a gate of its own; you took one for the whole batch",
                lambda h, experts, W: sum(
                    torch.softmax(h @ W.T, 1).mean(0)[i] * expert for i, expert in enumerate(experts)
                ),
            ),
        ),
    ),
    Exercise(
        "07.3",
        "What a fork costs",
        "Write `parameters_of_fork(stages, head, tasks, fork)`: `stages` lists the number of parameters of each stage, "
        "`head` is that of one task's head. The first `fork` stages are shared; each of `tasks` tasks has its own copy "
        "of the others, and its own head. How many parameters are there?",
        1,
        4,
        (
            "Shared stages are counted once.",
            "Everything after the fork is counted once per task, heads included.",
            "sum(stages[:fork]) + tasks * (sum(stages[fork:]) + head)",
        ),
        parameters_of_fork,
        _network,
        (
            ("each task has a head, too", lambda stages, head, tasks, fork: parameters_of_fork(stages, 0, tasks, fork)),
            (
                "one head is not enough: each task has its own",
                lambda stages, head, tasks, fork: parameters_of_fork(stages, 0, tasks, fork) + head,
            ),
            (
                "the *first* stages are shared, the last ones are the tasks' own",
                lambda stages, head, tasks, fork: tasks * (sum(stages[:fork]) + head) + sum(stages[fork:]),
            ),
            (
                "that is hard sharing: after the fork every task has its own copy of the stages",
                lambda stages, head, tasks, fork: sum(stages) + tasks * head,
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "A cross-stitch network whose α are the identity",
        (
            Option("is hard sharing with one more layer", "nothing is shared: each network reads its own maps."),
            Option("is one network for each task", "no task reads what another has made.", True),
            Option("no longer trains its first layers", "each network is trained by its own task."),
            Option("is a mixture of experts with one expert each", "there is no gate, and nothing to choose from."),
        ),
    ),
    Question(
        "Two architectures are compared at equal *depth and width*. What is unfair about it?",
        (
            Option(
                "nothing, if both were run with the same seeds",
                "seeds tell how much luck there is, not who had more to work with.",
            ),
            Option(
                "one may win by having more parameters",
                "hold parameters or seconds equal instead.",
                True,
            ),
            Option("deeper networks are better at any budget", "depth and width are equal here."),
            Option("the learning rate should differ with the width", "the widths are equal here."),
        ),
    ),
    Question(
        "With adapters each task goes through the shared network",
        (
            Option("once for all tasks", "after the first adapter the features of the tasks differ."),
            Option(
                "along its own path",
                "few extra parameters, but nearly as many operations as separate networks.",
                True,
            ),
            Option("without training it", "here it is trained with them; in notebook 09 it is frozen."),
            Option("in a random order", "each task has its own matrices after every stage."),
        ),
    ),
    Question(
        "After training, the gate of task A gives 0.99 to one expert and the gate of task B to another. That means",
        (
            Option(
                "the tasks share hardly anything after the trunk",
                "they have found separate branches by themselves.",
                True,
            ),
            Option("the gates have failed", "they have found what suits the loss; it may be the best there is."),
            Option("the tasks are related", "related tasks would have reason to mix the same experts."),
            Option("one expert is too small", "that cannot be read from the gates."),
        ),
    ),
)
