"""Exercises and quiz of notebook 08, language."""

import torch
from torch import Tensor

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise
from mtlkit.exercises.questions import Option, Question


def balanced_accuracy(predicted, labels):
    """Return the share of each class that is recognised, averaged over the classes that occur."""
    shares = []
    for one in set(labels.tolist()) - {-1}:
        own = labels == one
        shares.append((predicted[own] == one).double().mean())
    return torch.stack(shares).mean()


def _classified(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    number, classes = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((12, 40), (2, 6)))
    rarer = torch.rand(classes, generator=generator) ** 3 + 0.05
    labels = torch.multinomial(rarer, number, replacement=True, generator=generator)
    right = torch.rand(number, generator=generator) < 0.6
    predicted = torch.where(right, labels, torch.randint(classes, (number,), generator=generator))
    labels = torch.where(labels == classes - 1, labels + int(torch.randint(30, (), generator=generator)), labels)
    kind = int(torch.randint(4, (), generator=generator))
    if kind == 0:  # everything is taken for one class
        predicted = torch.full_like(labels, int(labels[0]))
    if kind != 1:  # else all labels are known
        labels[torch.rand(number, generator=generator) < 0.2] = -1
    labels[0] = 0
    return predicted, labels


def mean_of_word(states, symbols):
    """Return the mean of the states of the symbols that are not 0."""
    there = (symbols > 0)[:, :, None]
    return (states * there).sum(1) / there.sum(1).clamp(min=1)


def _states(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    batch, length, channels = (int(n) for n in torch.randint(2, 8, (3,), generator=generator))
    symbols = torch.randint(1, 29, (batch, length), generator=generator)
    ends = torch.randint(0, length + 1, (batch, 1), generator=generator)
    symbols[torch.arange(length)[None] >= ends] = 0
    states = torch.randn(batch, length, channels, generator=generator, dtype=torch.double)
    return states.requires_grad_(), symbols


def look_back(query, states, there):
    """Return Σ_t a_t h_t, where a is the softmax of q·h_t over the states that are there."""
    match = (query[:, None] * states).sum(-1).masked_fill(~there, -torch.inf)
    return (match.softmax(1)[:, :, None] * states).sum(1)


def _looks(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels = (int(n) for n in torch.randint(2, 7, (3,), generator=generator))
    large = 300.0 if torch.rand((), generator=generator) < 0.3 else 1.0
    query = large * torch.randn(batch, channels, generator=generator, dtype=torch.double)
    states = torch.randn(batch, length, channels, generator=generator, dtype=torch.double)
    there = torch.rand(batch, length, generator=generator) < 0.6
    there[torch.arange(batch), torch.randint(length, (batch,), generator=generator)] = True
    return query.requires_grad_(), states.requires_grad_(), there


EXERCISES = (
    Exercise(
        "08.1",
        "Every language counts the same",
        "Write `balanced_accuracy(predicted, labels)`: both are `int64 [N]`, a label of -1 means *unlabelled*. Return "
        "the share of each class that was recognised, averaged over the classes that occur among the labels.",
        2,
        8,
        (
            "First leave out the samples without a label.",
            "For each class: what share of the samples with that label was predicted right?",
            "Take the mean of these shares: each class counts once, however many samples it has.",
        ),
        balanced_accuracy,
        _classified,
        (
            (
                "that is plain accuracy: the most frequent class dominates it",
                lambda predicted, labels: (predicted == labels)[labels >= 0].double().mean(),
            ),
            (
                "samples without a label (-1) do not form a class",
                lambda predicted, labels: torch.stack(
                    [(predicted[labels == one] == one).double().mean() for one in set(labels.tolist())]
                ).mean(),
            ),
            (
                "you took the share among those *predicted* to be the class (precision), not among those that are",
                lambda predicted, labels: torch.stack(
                    [(labels[predicted == one] == one).double().mean() for one in set(labels.tolist()) - {-1}]
                ).nanmean(),
            ),
            (
                "you took the share among those *predicted* to be the class (precision), not among those that are",
                lambda predicted, labels: torch.stack(
                    [
                        (labels[(predicted == one) & (labels >= 0)] == one).double().mean().nan_to_num()
                        for one in set(labels.tolist()) - {-1}
                    ]
                ).mean(),
            ),
        ),
    ),
    Exercise(
        "08.2",
        "The mean of a word",
        "Write `mean_of_word(states, symbols)`: `states [B, T, C]` are a network's states, one for each letter, "
        "and `symbols [B, T]` the letters, 0 after the end of a word. Return `[B, C]`: the mean of the states over the "
        "letters of each word, and 0 for a word without any.",
        2,
        6,
        (
            "symbols > 0 says where there is a letter.",
            "Give it a third dimension of size 1, multiply the states by it, and add up over T.",
            "Divide by the number of letters of each word, but by at least 1.",
        ),
        mean_of_word,
        _states,
        (
            (
                "you divided by T: then short words have small features",
                lambda states, symbols: (states * (symbols > 0)[:, :, None]).mean(1),
            ),
            ("the padding (0) was averaged as well", lambda states, symbols: states.mean(1)),
            (
                "you divided by the number of letters in the whole batch, not in each word",
                lambda states, symbols: (states * (symbols > 0)[:, :, None]).sum(1) / (symbols > 0).sum(),
            ),
            (
                "a word without letters gives NaN: divide by at least 1",
                lambda states, symbols: (states * (symbols > 0)[:, :, None]).sum(1) / (symbols > 0).sum(1)[:, None],
            ),
        ),
        observe=learning,
    ),
    Exercise(
        "08.3",
        "Looking back",
        "Write `look_back(query, states, there)`: `query [B, C]` is what the decoder asks for, `states [B, T, C]` what was "
        "read, and `there` (`bool [B, T]`) says which states are letters: at least one per word, in any place. Return "
        "$\\sum_t a_t h_t$ `[B, C]`, where $a$ is the softmax of $q \\cdot h_t$ over the letters.",
        3,
        10,
        (
            "The inner products are `[B, T]`: (query[:, None] * states).sum(-1).",
            "Before the softmax, put minus infinity where there is no letter.",
            "Give the shares a third dimension, multiply the states by them, and add up over T.",
        ),
        look_back,
        _looks,
        (
            (
                "the padding got a share, too: put minus infinity there *before* the softmax",
                lambda query, states, there: (((query[:, None] * states).sum(-1).softmax(1))[:, :, None] * states).sum(
                    1
                ),
            ),
            (
                "you masked after the softmax, so the shares no longer sum to 1",
                lambda query, states, there: (
                    ((query[:, None] * states).sum(-1).softmax(1) * there)[:, :, None] * states
                ).sum(1),
            ),
            (
                "softmax runs over the letters of a word (dimension 1), not over the batch",
                lambda query, states, there: (
                    (query[:, None] * states)
                    .sum(-1)
                    .masked_fill(~there, -torch.inf)
                    .softmax(0)
                    .nan_to_num()[:, :, None]
                    * states
                ).sum(1),
            ),
            (
                "that is only the best state; the softmax mixes all of them",
                lambda query, states, there: states[
                    torch.arange(len(states)),
                    (query[:, None] * states).sum(-1).masked_fill(~there, -torch.inf).argmax(1),
                ],
            ),
            (
                "e to the power of a large number overflows: use torch.softmax, which subtracts the largest one first",
                lambda query, states, there: (
                    ((query[:, None] * states).sum(-1).exp() * there)[:, :, None]
                    / ((query[:, None] * states).sum(-1).exp() * there).sum(1)[:, None, None]
                    * states
                ).sum(1),
            ),
        ),
        observe=learning,
        calls=12,
    ),
)

QUIZ = (
    Question(
        'A classifier of 14 languages says "Icelandic" to every name, and a third of the names are Icelandic. Its '
        "balanced accuracy is",
        (
            Option("one third", "that is its accuracy: the share of all names that it gets right."),
            Option("1/14", "one language at 100 %, thirteen at 0 %.", True),
            Option("zero", "the Icelandic names are all recognised."),
            Option("one half", "it would be that with two languages."),
        ),
    ),
    Question(
        "Why is the decoder given the correct letters so far during training?",
        (
            Option(
                "so that the encoder need not be trained at the same time as the decoder",
                "its states are what the decoder looks back at.",
            ),
            Option(
                "because without them it could not write a single word",
                "it can: when scored, it continues from its own letters.",
            ),
            Option(
                "because one mistake would spoil all that follows",
                "teacher forcing: each letter is learned as if all before it had been right.",
                True,
            ),
            Option("to save memory", "all letters of a word are computed at once, which takes more, if anything."),
        ),
    ),
    Question(
        "Names have no German translation, numbers have no gender. In a batch of both, the shared encoder gets its "
        "gradient from",
        (
            Option("every sample that has a target of some task", "each loss is a mean over its own samples.", True),
            Option("samples with all targets", "there are none here, and yet it learns."),
            Option(
                "numbers only, because the loss of a translation is larger",
                "the losses are added; none of them is dropped.",
            ),
            Option("names only, as there are more", "the mean is over each task's own samples, however few."),
        ),
    ),
    Question(
        "Two languages help a third one equally, though only one of them is related to it. A careful conclusion:",
        (
            Option("relatedness never matters for names", "that is more than one comparison can say."),
            Option(
                "names of any kind may help",
                "in this case; the intervals say how certain that is.",
                True,
            ),
            Option("the related language was spelled wrongly", "nothing points to that."),
            Option("the test is broken, and proves nothing", "a result that surprises is no proof of a fault."),
        ),
    ),
)
