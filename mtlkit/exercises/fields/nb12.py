"""Exercises and quiz of notebook 12, driving."""

import torch
from torch import Tensor

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise
from mtlkit.exercises.questions import Option, Question


def focal(logits, targets, gamma):
    """Return the mean of |y - p|^γ times the cross-entropy, the factor without a gradient."""
    cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # always finite
    return ((targets - logits.sigmoid()).abs().detach() ** gamma * cost).mean()


def _cells(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    number = int(torch.randint(3, 20, (), generator=generator))
    logits = (2 * torch.randn(number, generator=generator, dtype=torch.double)).requires_grad_()
    targets = (torch.rand(number, generator=generator) < 0.3).double()
    return logits, targets, float(torch.randint(0, 5, (), generator=generator)) / 2


def overlap(said, right):
    """Return the intersection of two maps over their union, 1 if both are empty."""
    either = (said | right).sum()
    return (said & right).sum() / either if either else torch.tensor(1.0)


def _maps(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    height, width = (int(n) for n in torch.randint(2, 9, (2,), generator=generator))
    shares = (torch.randint(0, 4, (2,), generator=generator) / 4).tolist()
    if torch.rand((), generator=generator) < 0.2:
        shares = [0.0, 0.0]
    said, right = (torch.rand(height, width, generator=generator) < share for share in shares)
    return said, right


def share_of_rare(rare, others, times):
    """Return the share of rare samples among the draws, if each is drawn `times` times as often as any other."""
    return times * rare / (times * rare + others)


def _numbers(generator: torch.Generator) -> tuple[int, int, float]:
    rare, others = (
        int(torch.randint(5, 200, (), generator=generator)),
        int(torch.randint(20, 2000, (), generator=generator)),
    )
    return rare, others, int(torch.randint(3, 60, (), generator=generator)) / 2


EXERCISES = (
    Exercise(
        "12.1",
        "A focus on what is hard",
        "Write `focal(logits, targets, gamma)`: both `[N]` in the same dtype, targets are 0 or 1. Return the mean of "
        "$|y - p|^\\gamma \\cdot (-\\log$ of the probability of the right answer$)$ with $p = \\sigma(\\text{logit})$, the "
        "factor *without* a gradient, as in the kit's detection loss.",
        3,
        10,
        (
            "The probability of the right answer is p where y = 1 and 1 - p where y = 0.",
            "The factor is small where p is near y: what is nearly right hardly counts.",
            "detach() the factor, multiply, take the mean.",
        ),
        focal,
        _cells,
        (
            (
                "the factor has a gradient: detach it",
                lambda logits, targets, gamma: (
                    (targets - logits.sigmoid()).abs() ** gamma
                    * -(targets * logits.sigmoid().log() + (1 - targets) * (1 - logits.sigmoid()).log())
                ).mean(),
            ),
            (
                "the factor is missing: that is plain cross-entropy",
                lambda logits, targets, gamma: focal(logits, targets, 0.0),
            ),
            (
                "the wrong way round: the factor must be *large* where p is far from y",
                lambda logits, targets, gamma: (
                    (1 - (targets - logits.sigmoid()).abs()).detach() ** gamma
                    * -(targets * logits.sigmoid().log() + (1 - targets) * (1 - logits.sigmoid()).log())
                ).mean(),
            ),
            (
                "that is the sum; the mean was asked for",
                lambda logits, targets, gamma: focal(logits, targets, gamma) * len(logits),
            ),
        ),
        observe=learning,
    ),
    Exercise(
        "12.2",
        "How well do two maps agree?",
        "Write `overlap(said, right)`: two maps, `bool [H, W]`. Return intersection over union, and 1 if both are empty.",
        1,
        4,
        (
            "said & right is true where both say yes.",
            "said | right is true where at least one of them does.",
            "If nothing is true there, the maps agree: 1.",
        ),
        overlap,
        _maps,
        (
            (
                "that is the share of places that agree; the many empty ones flatter it",
                lambda said, right: (said == right).double().mean(),
            ),
            (
                "you divided by the right map alone: whoever says yes everywhere gets 1",
                lambda said, right: (said & right).sum() / right.sum() if right.any() else torch.tensor(1.0),
            ),
            (
                "that is Dice, 2 x intersection over the sum of both; divide by the union",
                lambda said, right: (
                    2 * (said & right).sum() / (said.sum() + right.sum()) if (said | right).any() else torch.tensor(1.0)
                ),
            ),
            (
                "two empty maps agree: 1, not NaN",
                lambda said, right: (said & right).sum() / (said | right).sum(),
            ),
        ),
        calls=24,
    ),
    Exercise(
        "12.3",
        "Drawing what is rare",
        "Write `share_of_rare(rare, others, times)`: there are `rare` scenes at night and `others` by day, and a scene at "
        "night is drawn `times` times as often as one by day. What share of the scenes in a batch is at night?",
        1,
        4,
        (
            "Give each scene a weight: `times` at night, 1 by day.",
            "The share is the weight of all scenes at night over the weight of all scenes.",
            "times * rare / (times * rare + others)",
        ),
        share_of_rare,
        _numbers,
        (
            (
                "`times` is for each *scene*, and there are `rare` of them",
                lambda rare, others, times: times / (times + 1),
            ),
            ("the scenes at night belong to the whole as well", lambda rare, others, times: times * rare / others),
            (
                "that is their share in the data, as if `times` were 1",
                lambda rare, others, times: rare / (rare + others),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "Pedestrians at night are 1 % of all boxes, and missing one is deadly. Why does the AP over all boxes hide it?",
        (
            Option("AP is wrong for boxes as small as theirs are", "it is the same measure for every size."),
            Option("they hardly change a mean over all boxes", "score separately what matters.", True),
            Option("AP does not look at pedestrians that stand at the side", "it does, as one class among others."),
            Option("at night there are no boxes", "there are, and they are annotated."),
        ),
    ),
    Question(
        "Scenes at night are drawn ten times as often. What is the price?",
        (
            Option("a step takes longer", "a batch is as large as before."),
            Option(
                "the same few scenes come again and again",
                "they are learned by heart, and fewer scenes by day are seen.",
                True,
            ),
            Option("the loss is ten times as large, and so is its gradient", "it is a mean over what is in the batch."),
            Option("there is none", "what comes more often takes the place of something else."),
        ),
    ),
    Question(
        "Three networks answer in 5 ms, one joint network in 2 ms. In a car this means",
        (
            Option("the joint network is more accurate", "time says nothing about that."),
            Option(
                "an answer comes sooner, or a cheaper computer suffices",
                "what it gains in accuracy is another question.",
                True,
            ),
            Option("three times the memory for the joint one", "it has one encoder; the three have three."),
            Option("nothing, as cars have fast computers", "energy, heat and price count in every car."),
        ),
    ),
    Question(
        "Drawn scenes give AP 0.5, and it rises with every hour of work on the drawing. What does that say about real roads?",
        (
            Option("real roads will give 0.5, too", "there is no reason why they should."),
            Option("hardly anything until it is measured there", "what is drawn has no surprises of its own.", True),
            Option("that real roads will be easier, since one can see more", "nobody knows before it is tried."),
            Option("that drawing is useless", "it can teach, and it can test what is known to be in it."),
        ),
    ),
)
