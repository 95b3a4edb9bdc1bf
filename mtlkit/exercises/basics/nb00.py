"""The exercise of notebook 00: how checks work."""

import torch

from mtlkit.exercises.engine import Exercise


def weighted_sum(losses, weights):
    """Return the sum of w_i l_i."""
    return sum(weights[task] * loss for task, loss in losses.items())


def _two_dictionaries(generator: torch.Generator) -> tuple[dict[str, float], dict[str, float]]:
    names = ("classify", "detect", "count", "depth", "edges", "pose", "age", "speech")
    number = int(torch.randint(1, len(names), (), generator=generator))
    tasks = [names[k] for k in torch.randperm(len(names), generator=generator)[:number]]
    losses = (3 * torch.randn(number, generator=generator)).tolist()
    weights = (4 * torch.rand(number, generator=generator)).tolist()
    if number > 2 and torch.rand((), generator=generator) < 0.5:  # two of them count alike
        losses[0], weights[0] = losses[1], weights[1]
    order = torch.randperm(number, generator=generator).tolist()
    return dict(zip(tasks, losses, strict=True)), {tasks[k]: weights[k] for k in order}


def _by_place(losses: dict[str, float], weights: dict[str, float]) -> float:
    return sum(loss * weight for loss, weight in zip(losses.values(), weights.values(), strict=True))


EXERCISES = (
    Exercise(
        "00.1",
        "The number that is minimised",
        "Write `weighted_sum(losses, weights)`: both are dictionaries that map the tasks' names, whatever they are, to numbers. Return "
        "$\\sum_i w_i\\,\\ell_i$, the sum that the sliders above control.",
        1,
        3,
        (
            "A loop over `losses.items()` gives each task's name and loss.",
            "The dictionaries may be in different orders: look a task's weight up by its name.",
            "`sum(weights[task] * loss for task, loss in ...)`",
        ),
        weighted_sum,
        _two_dictionaries,
        (
            ("the weights do not come in the order of the losses: look them up by name", _by_place),
            (
                "that is the sum of the losses: multiply each by its weight",
                lambda losses, weights: sum(losses.values()),
            ),
            (
                "a sum is wanted, not a mean: do not divide by the number of tasks",
                lambda losses, weights: sum(weights[t] * losses[t] for t in losses) / len(losses),
            ),
            (
                "each loss has a weight of its own: sum the products, do not multiply the sums",
                lambda losses, weights: sum(losses.values()) * sum(weights.values()),
            ),
        ),
    ),
)
