"""Exercises and quiz of notebook 01, tasks and sharing."""

import torch
from torch import Tensor, nn

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question
from mtlkit.model import SharedEncoderModel


def shared_fraction(model):
    """Return the fraction of the model's parameters that all tasks train."""
    shared = sum(p.numel() for p in model.shared_parameters())
    return shared / sum(p.numel() for p in model.parameters())


def _model(generator: torch.Generator) -> tuple[SharedEncoderModel]:
    tasks = int(torch.randint(2, 5, (), generator=generator))
    width, hidden, *outputs = torch.randint(2, 9, (2 + tasks,), generator=generator).tolist()
    encoder = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden))
    return (SharedEncoderModel(encoder, {f"task {k}": nn.Linear(hidden, n) for k, n in enumerate(outputs)}),)


def _numbers(model: SharedEncoderModel) -> tuple[int, int]:
    shared = sum(p.numel() for p in model.shared_parameters())
    return shared, sum(p.numel() for p in model.parameters())


def joint_to_separate(encoder, heads):
    """Return the parameters of the joint model as a fraction of those of one network per task."""
    return (encoder + sum(heads)) / (len(heads) * encoder + sum(heads))


def _sizes(generator: torch.Generator) -> tuple[int, list[int]]:
    tasks = int(torch.randint(1, 6, (), generator=generator))
    encoder = int(torch.randint(10, 1000, (), generator=generator))
    heads = torch.randint(10, 500, (tasks,), generator=generator).tolist()
    return encoder, heads if tasks == 1 or torch.rand((), generator=generator) < 0.5 else [heads[0], *heads]


def soft_sharing_penalty(a, b):
    """Return the sum of squared differences over all parameters."""
    return sum((p - q).square().sum() for p, q in zip(a, b, strict=True))


def _two_networks(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    shapes = [(4, 3), (4,), (2, 4), (5,), (1, 2), (1, 2)][int(torch.randint(0, 5, (), generator=generator)) :]
    scale = float(powers(generator, -1, 2))
    a, b = ([scale * torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    return [t.requires_grad_() for t in a], [t.requires_grad_() for t in b]


EXERCISES = (
    Exercise(
        "01.1",
        "How much is shared?",
        "Write `shared_fraction(model)` for a `SharedEncoderModel`: what fraction (0 to 1) of *all* its parameters is "
        "trained by every task? `model.shared_parameters()` and `model.parameters()` yield tensors.",
        1,
        5,
        (
            "A parameter is one number; a tensor `p` holds `p.numel()` of them.",
            "Add up `p.numel()` twice: over `model.shared_parameters()` and over `model.parameters()`.",
            "The fraction is shared / all, and all includes the shared ones.",
        ),
        shared_fraction,
        _model,
        (
            (
                "you counted tensors, not numbers: a tensor p holds p.numel() parameters",
                lambda model: len(list(model.shared_parameters())) / len(list(model.parameters())),
            ),
            (
                "that is the fraction that is *not* shared",
                lambda model: 1 - _numbers(model)[0] / _numbers(model)[1],
            ),
            (
                "you divided by the task-specific parameters; divide by all of them",
                lambda model: _numbers(model)[0] / (_numbers(model)[1] - _numbers(model)[0]),
            ),
            ("that is a number of parameters, not a fraction of all", lambda model: _numbers(model)[0]),
        ),
    ),
    Exercise(
        "01.2",
        "What does sharing save?",
        "One joint model has an encoder of `encoder` parameters and one head per task, `heads` (a list of parameter "
        "counts). Separate networks need the encoder once per task. Write `joint_to_separate(encoder, heads)`: the "
        "parameters of the joint model divided by those of all separate networks together.",
        1,
        5,
        (
            "How many tasks are there? One per head.",
            "Both sides have all the heads; they differ in how often the encoder is counted.",
            "(encoder + all heads) / (K · encoder + all heads).",
        ),
        joint_to_separate,
        _sizes,
        (
            (
                "this is 1/K, which would be right if the heads were free; count each of them once on both sides",
                lambda encoder, heads: 1 / len(heads),
            ),
            (
                "this is the inverse: divide joint by separate; the result is at most 1",
                lambda encoder, heads: (len(heads) * encoder + sum(heads)) / (encoder + sum(heads)),
            ),
            (
                "separate networks need one encoder for *each* task, including the first",
                lambda encoder, heads: (encoder + sum(heads)) / ((len(heads) - 1) * encoder + sum(heads)),
            ),
            (
                "the joint model has heads too: count them",
                lambda encoder, heads: encoder / (len(heads) * encoder + sum(heads)),
            ),
        ),
    ),
    Exercise(
        "01.3",
        "Soft sharing",
        "In soft sharing each task keeps a network of its own, and a penalty holds the networks close together. Write "
        "`soft_sharing_penalty(a, b)` for two lists of parameter tensors of equal shapes: the sum over *all* numbers of "
        "the squared difference. It must pull at both networks, so both need its gradient.",
        2,
        8,
        (
            "Walk through the two lists side by side with `zip(a, b)`.",
            "`(p - q).square().sum()` is what one pair of tensors contributes.",
            "Do not detach anything: the penalty pulls both networks.",
        ),
        soft_sharing_penalty,
        _two_networks,
        (
            (
                "you took means: then a small layer's numbers count more than a large layer's. Sum over all numbers",
                lambda a, b: sum((p - q).square().mean() for p, q in zip(a, b, strict=True)),
            ),
            (
                "the second network gets no gradient: do not detach it",
                lambda a, b: sum((p - q.detach()).square().sum() for p, q in zip(a, b, strict=True)),
            ),
            (
                "these are absolute differences; square them",
                lambda a, b: sum((p - q).abs().sum() for p, q in zip(a, b, strict=True)),
            ),
            (
                "these are distances; the penalty is the distance *squared*",
                lambda a, b: sum((p - q).square().sum().sqrt() for p, q in zip(a, b, strict=True)),
            ),
            ("only the first tensor was compared: go through all of them", lambda a, b: (a[0] - b[0]).square().sum()),
            (
                "the sign is wrong: this would push the networks apart",
                lambda a, b: -sum((p - q).square().sum() for p, q in zip(a, b, strict=True)),
            ),
        ),
        learning,
    ),
)

QUIZ = (
    Question(
        "Which parameters does the loss of task 2 move in a hard-sharing network?",
        (
            Option(
                "only its head, which holds everything specific to the task",
                "its gradient flows on through the head into the encoder.",
            ),
            Option("the encoder and its head", "it never touches the other tasks' heads.", True),
            Option(
                "all parameters, those of the other heads too",
                "the other heads are not on the path from the input to its output.",
            ),
            Option(
                "only the encoder, which all tasks share", "the head lies on the path from the features to its output."
            ),
        ),
    ),
    Question(
        "Two tasks, one encoder of 900 parameters, heads of 100 each. What fraction of the "
        "parameters of two separate networks does the joint model have?",
        (
            Option("50 %", "only the encoder is shared; the heads are needed either way."),
            Option("45 %", "900 / 2000 leaves the heads of the joint model out."),
            Option("55 %", "(900 + 200) / (2 · 900 + 200) = 1100 / 2000.", True),
            Option("90 %", "that is the encoder's share of one single-task network."),
        ),
    ),
    Question(
        "“Sharing always lowers the cost.” What is true?",
        (
            Option("K - 1 encoders are saved, which may be little", "the heads cost the same either way.", True),
            Option("yes: the cost is divided by the number of tasks", "only if the heads were free."),
            Option(
                "no: what the encoder saves is spent on the heads",
                "this notebook measured a saving in parameters, operations and seconds.",
            ),
            Option(
                "it lowers memory, but neither operations nor seconds", "the encoder also runs once instead of twice."
            ),
        ),
    ),
    Question(
        "In soft sharing, two tasks",
        (
            Option("use one encoder, each with half the weight", "that would still be hard sharing."),
            Option("have networks of their own, held close by a penalty", "this saves nothing in size.", True),
            Option("share heads but not encoders", "heads have different outputs; they are what is *not* shared."),
            Option("take turns in training", "that is a schedule; it can be used with any kind of sharing."),
        ),
    ),
)
