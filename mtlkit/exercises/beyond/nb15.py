"""Exercises and quiz of notebook 15, the capstone."""

import torch
from torch import Tensor

from mtlkit.exercises.engine import Exercise
from mtlkit.exercises.questions import Option, Question


def bootstrap_interval(values, drawn):
    """Return the 2.5 % and the 97.5 % quantile of the means of the drawn values."""
    means = values[drawn].mean(1)
    return torch.quantile(means, 0.025), torch.quantile(means, 0.975)


def _draws(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    number, draws = (int(torch.randint(low, 2 * low, (), generator=generator)) for low in (6, 30))
    values = torch.rand(number, generator=generator).double()
    return values, torch.randint(number, (draws, number), generator=generator)


def suspicious(boxes, width, height, least):
    """Return the indices of the boxes that are thinner than `least` or reach beyond the image."""
    left, top, right, bottom = boxes.unbind(1)
    thin = torch.minimum(right - left, bottom - top) < least
    out = (left < 0) | (top < 0) | (right > width) | (bottom > height)
    return (thin | out).nonzero()[:, 0].tolist()


def _marked(generator: torch.Generator) -> tuple[Tensor, int, int, float]:
    number, width, height, least = (
        int(torch.randint(low, high, (), generator=generator)) for low, high in ((0, 9), (60, 120), (40, 80), (4, 10))
    )
    image = torch.tensor([width, height])
    corner = (torch.rand(number, 2, generator=generator) * image * 0.7).round()
    sides = least + torch.randint(0, 25, (number, 2), generator=generator).float()  # some just as thin as allowed
    boxes = torch.cat([corner, corner + sides], 1)
    for row in boxes:
        fault = int(torch.randint(8, (), generator=generator))
        if fault < 4:  # at the border, and one half pixel beyond it
            row[fault] = [0, 0, width, height][fault] + float(torch.randint(2, (), generator=generator)) * (
                fault - 1.5
            ) / 3
        if fault == 4:
            row[2] = row[0] + least - 0.5
        if fault == 5:  # somebody drew it from right to left
            row[[0, 2]] = row[[2, 0]]
    return boxes, width, height, float(least)


def precision_and_recall(scores, right, objects, least):
    """Return precision and recall of the boxes with a score of at least `least`; precision is 1 if there are none."""
    kept = right[scores >= least]
    return (float(kept.float().mean()) if len(kept) else 1.0), float(kept.sum() / objects)


def _found(generator: torch.Generator) -> tuple[Tensor, Tensor, int, float]:
    number = int(torch.randint(5, 15, (), generator=generator))
    scores = torch.randint(9, (number,), generator=generator) / 8
    right = torch.rand(number, generator=generator) < scores
    objects = max(1, int(right.sum()) + int(torch.randint(0, 4, (), generator=generator)))
    return scores, right, objects, int(torch.randint(1, 10, (), generator=generator)) / 8


EXERCISES = (
    Exercise(
        "15.1",
        "How far may a score be off?",
        "Write `bootstrap_interval(values, drawn)`: `values [N]` is a score for each test image (1 right, 0 wrong, or "
        "between), `drawn [B, N]` are B draws of N image numbers with replacement. Return a pair: the 2.5 % and the 97.5 % "
        "quantile of the B means, as `torch.quantile` gives them.",
        2,
        6,
        (
            "values[drawn] is `[B, N]`: one row for each redrawn test set.",
            "The mean runs over the images, dimension 1.",
            "torch.quantile(means, 0.025), torch.quantile(means, 0.975)",
        ),
        bootstrap_interval,
        _draws,
        (
            (
                "these are quantiles of single images; a test set's score is the *mean* of its images",
                lambda values, drawn: (torch.quantile(values, 0.025), torch.quantile(values, 0.975)),
            ),
            (
                "the mean runs over the images of a draw, dimension 1, not over the draws",
                lambda values, drawn: (
                    torch.quantile(values[drawn].mean(0), 0.025),
                    torch.quantile(values[drawn].mean(0), 0.975),
                ),
            ),
            (
                "95 % lie between them: 2.5 % on each side, not 5 %",
                lambda values, drawn: (
                    torch.quantile(values[drawn].mean(1), 0.05),
                    torch.quantile(values[drawn].mean(1), 0.95),
                ),
            ),
        ),
        calls=12,
    ),
    Exercise(
        "15.2",
        "Look at the boxes first",
        "Write `suspicious(boxes, width, height, least)`: for `boxes [N, 4]` (xyxy, in pixels) of an image of `width` x "
        "`height`, return a list of the indices of those that are thinner than `least` pixels in one direction or the "
        "other, or that reach beyond the image. A box that ends at the border is inside; one whose corners are swapped "
        "has a negative side, and is thin.",
        2,
        8,
        (
            "Take the four columns apart (`unbind`), and ask both questions of all boxes at once.",
            "Thin: the smaller side is below `least`. Out: left or top below 0, right above width, bottom above "
            "height.",
            "(thin | out).nonzero()[:, 0].tolist()",
        ),
        suspicious,
        _marked,
        (
            (
                "one thin side is enough: take the smaller of the two",
                lambda boxes, width, height, least: [
                    k
                    for k in range(len(boxes))
                    if k in suspicious(boxes, width, height, 0)
                    or max(boxes[k, 2] - boxes[k, 0], boxes[k, 3] - boxes[k, 1]) < least
                ],
            ),
            (
                "x goes with the width, y with the height",
                lambda boxes, width, height, least: suspicious(boxes, height, width, least),
            ),
            (
                "boxes may also begin left of the image or above it",
                lambda boxes, width, height, least: (
                    (
                        (torch.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) < least)
                        | (boxes[:, 2] > width)
                        | (boxes[:, 3] > height)
                    )
                    .nonzero()[:, 0]
                    .tolist()
                ),
            ),
            (
                "thin boxes must be listed, too",
                lambda boxes, width, height, least: suspicious(boxes, width, height, -1e9),
            ),
        ),
    ),
    Exercise(
        "15.3",
        "Where to put the threshold",
        "Write `precision_and_recall(scores, right, objects, least)`: a detector has found boxes with `scores [N]`, `right "
        "[N]` (bool) says whether each is right, and there are `objects` real ones. Keep the boxes with a score of at least `least`. "
        "Return the share of them that is right (1 if none is kept), and the share of the real objects that they find.",
        2,
        6,
        (
            "A mask of the scores picks the boxes that are kept, and `right` says which of these are right.",
            "Precision is a share of the kept boxes, recall a share of the real objects.",
            "kept.sum() / objects is the recall.",
        ),
        precision_and_recall,
        _found,
        (
            (
                "recall is a share of the real *objects*, found or not, not of the right boxes",
                lambda scores, right, objects, least: (
                    precision_and_recall(scores, right, objects, least)[0],
                    float(right[scores >= least].sum() / max(1, int(right.sum()))),
                ),
            ),
            (
                "precision and recall are exchanged",
                lambda scores, right, objects, least: precision_and_recall(scores, right, objects, least)[::-1],
            ),
            (
                "a box whose score is exactly `least` is kept, too",
                lambda scores, right, objects, least: precision_and_recall(scores, right, objects, least + 1e-6),
            ),
            (
                "if no box is kept, none is wrong: the precision is 1 then",
                lambda scores, right, objects, least: (
                    float(right[scores >= least].float().mean()),
                    float(right[scores >= least].sum() / objects),
                ),
            ),
            (
                "the boxes below `least` are left out, not kept",
                lambda scores, right, objects, least: precision_and_recall(-scores, right, objects, -least),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "You chose the loss weights by looking at the test scores. What do you write on the card?",
        (
            Option("nothing: the model never saw the test labels", "you did, and chose by them."),
            Option("the scores with wider intervals", "no interval repairs a choice made on the test data."),
            Option(
                "that the test scores flatter, and new test data are needed", "they are validation scores now.", True
            ),
            Option("the mean of validation and test scores", "that hides it."),
        ),
    ),
    Question(
        "A fifth of your photographs have no boxes, because nobody had time. You should",
        (
            Option("leave their boxes out as missing targets", "they still teach the classifier.", True),
            Option("leave these photographs out", "their classes are known, and worth something."),
            Option("treat them as photographs without objects", "the detector would learn to overlook them."),
            Option("draw boxes around the whole image", "wrong boxes are worse than none."),
        ),
    ),
    Question(
        "The bootstrap interval of your AP is 0.61 to 0.69. It does not include",
        (
            Option("the uncertainty from the size of the test set", "that is exactly what it shows."),
            Option("what another seed of the training would change", "train again to see it.", True),
            Option("the mean of the redrawn scores", "it lies inside."),
            Option("the score itself", "it lies inside, too."),
        ),
    ),
    Question(
        "Two photographs of one cat: one in the training data, one in the test data. The score",
        (
            Option("is fair, as the pictures differ", "they share the cat, the sofa and the light."),
            Option("is too low", "knowing the cat helps."),
            Option("cannot be computed", "it can, but it means less."),
            Option("flatters: split by cat", "just as you would split by patient, speaker or street.", True),
        ),
    ),
)
