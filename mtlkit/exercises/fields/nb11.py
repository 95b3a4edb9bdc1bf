"""Exercises and quiz of notebook 11, health."""

import torch
from torch import Tensor

from mtlkit.exercises.differences import learning
from mtlkit.exercises.engine import Exercise, powers
from mtlkit.exercises.questions import Option, Question


def known_loss(output, target):
    """Return the mean squared error over the targets that are not NaN; if none is, 0 that is still in the graph."""
    known = ~target.isnan()
    wanted = torch.where(known, target, 0.0)
    return ((output - wanted).square() * known).sum() / known.sum().clamp(min=1)


def _measured(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    number = int(torch.randint(3, 12, (), generator=generator))
    output, target = (
        float(powers(generator, -1, 1.5)) * torch.randn(number, generator=generator, dtype=torch.double)
        for _ in range(2)
    )
    target[torch.rand(number, generator=generator) < 0.3] = 0.0
    missing = float(torch.randint(0, 5, (), generator=generator)) / 4  # none of them, some, or all
    target[torch.rand(number, generator=generator) < missing] = torch.nan
    return output.requires_grad_(), target


def best_threshold(missed, alarm):
    """Return the probability of illness above which an alarm costs less than silence."""
    return alarm / (alarm + missed)


def _costs(generator: torch.Generator) -> tuple[float, float]:
    missed, alarm = powers(generator, -2, 3, 2).tolist()
    return missed, alarm


def binned_error(p, y, bins):
    """Return Σ_b n_b / n · |mean of p - mean of y| over equally wide bins."""
    which = (p * bins).long().clamp(max=bins - 1)
    total = torch.zeros((), dtype=p.dtype)
    for b in range(bins):
        own = which == b
        if own.any():
            total = total + own.sum() / len(p) * (p[own].mean() - y[own].to(p).mean()).abs()
    return total


def _predicted(generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
    number, bins = (
        int(torch.randint(8, 60, (), generator=generator)),
        int(torch.randint(2, 12, (), generator=generator)),
    )
    p = torch.rand(number, generator=generator, dtype=torch.double)
    y = (torch.rand(number, generator=generator) < p**2).long()
    p[0], p[1] = 1.0, 0.0
    return p, y, bins


EXERCISES = (
    Exercise(
        "11.1",
        "Labels that nobody recorded",
        "Write `known_loss(output, target)`: both `[N]`; a target that was not measured is NaN. Return the mean squared "
        "error over those that are known, and 0, still connected to `output`, if none is.",
        2,
        8,
        (
            "NaN times 0 is NaN: take the NaN out of the target before you compute with it.",
            "torch.where(known, target, 0.0), and a mask on the squares.",
            "Divide by the number of known targets, at least 1.",
        ),
        known_loss,
        _measured,
        (
            (
                "you divided by all samples; the mean is over those that are known",
                lambda output, target: (
                    (output - torch.where(target.isnan(), 0.0, target)).square() * ~target.isnan()
                ).mean(),
            ),
            (
                "NaN times 0 is NaN: take it out of the target before you compute with it",
                lambda output, target: (
                    ((output - target).square() * ~target.isnan()).sum() / (~target.isnan()).sum().clamp(min=1)
                ),
            ),
            (
                "a missing target was taken for 0: the network then learns zeros",
                lambda output, target: (output - target.nan_to_num(0.0)).square().mean(),
            ),
            (
                "where nothing is known the loss must be 0, not NaN",
                lambda output, target: (output[~target.isnan()] - target[~target.isnan()]).square().mean(),
            ),
            (
                "the value is right, but the gradient is NaN: NaN was used before it was masked; take it out first",
                lambda output, target: (
                    torch.where(target.isnan(), 0.0, (output - target).square()).sum()
                    / (~target.isnan()).sum().clamp(min=1)
                ),
            ),
            (
                "the loss is detached: nothing would be learned from it",
                lambda output, target: known_loss(output.detach(), target),
            ),
        ),
        observe=learning,
    ),
    Exercise(
        "11.2",
        "When to raise the alarm",
        "Write `best_threshold(missed, alarm)`: `missed` is the cost of missing an illness, `alarm` that of a false "
        "alarm. Return the probability of illness above which an alarm costs less, on average, than silence.",
        2,
        6,
        (
            "With probability p of illness, silence costs p · missed on average. And an alarm?",
            "An alarm costs (1 - p) · alarm.",
            "Set both equal and solve for p.",
        ),
        best_threshold,
        _costs,
        (
            (
                "the wrong way round: the more a miss costs, the *lower* the threshold",
                lambda missed, alarm: missed / (alarm + missed),
            ),
            ("that is the ratio of the costs; a threshold is a probability", lambda missed, alarm: alarm / missed),
            ("0.5 is right only where both mistakes cost the same", lambda missed, alarm: 0.5),
        ),
    ),
    Exercise(
        "11.3",
        "Does 80 % mean 80 %?",
        "Write `binned_error(p, y, bins)`, the calibration error: `p [N]` are probabilities, and "
        "`y [N]` (`int64`) is 1 where the event happened. Put them into `bins` bins of equal width (p = 1 belongs to "
        "the last one) and return "
        "$\\sum_b \\frac{n_b}{n}\\,|\\bar p_b - \\bar y_b|$.",
        2,
        10,
        (
            "(p * bins).long() is the number of the bin; p = 1 would land one bin too far.",
            "In each bin that is not empty: the mean of p, the mean of y, their distance.",
            "Weight each distance by the share of the samples that are in the bin.",
        ),
        binned_error,
        _predicted,
        (
            (
                "every bin counted the same; weight it by its share of the samples",
                lambda p, y, bins: torch.stack(
                    [
                        (p[w].mean() - y[w].to(p).mean()).abs()
                        for b in range(bins)
                        if (w := (p * bins).long().clamp(max=bins - 1) == b).any()
                    ]
                ).mean(),
            ),
            (
                "p = 1 belongs to the last bin; it got none, or one of its own",
                lambda p, y, bins: binned_error(p[p < 1], y[p < 1], bins) * (p < 1).double().mean(),
            ),
            (
                "p = 1 belongs to the last bin; it got none, or one of its own",
                lambda p, y, bins: (
                    binned_error(p[p < 1], y[p < 1], bins) * (p < 1).double().mean()
                    + (p == 1).double().mean() * (1 - y[p == 1].to(p).mean()).abs()
                ),
            ),
            (
                "an empty bin has no mean (NaN): leave it out",
                lambda p, y, bins: sum(
                    (w := (p * bins).long().clamp(max=bins - 1) == b).sum()
                    / len(p)
                    * (p[w].mean() - y[w].to(p).mean()).abs()
                    for b in range(bins)
                ),
            ),
            (
                "without bins, or without |...| in each, mistakes of both kinds cancel out",
                lambda p, y, bins: (p.mean() - y.to(p).mean()).abs(),
            ),
            (
                "that is the mean distance of single samples: no probability but 0 and 1 could ever be right",
                lambda p, y, bins: (p - y).abs().mean(),
            ),
        ),
    ),
)

QUIZ = (
    Question(
        "Measurements were taken of suspicious tumours only. A network trained on them alone is scored on all tumours. "
        "What goes wrong?",
        (
            Option("there are too few of them for a network of this size", "as many chosen at random would do better."),
            Option("it hardly saw any small ones", "what is missing depends on the value that is missing.", True),
            Option("the loss becomes NaN where one is missing", "missing targets are left out of it."),
            Option("the diagnosis of all others is lost", "it is there for all of them."),
        ),
    ),
    Question(
        "Missing an illness costs ten times as much as a false alarm. Which is the soundest first step?",
        (
            Option("weight the ill ten times as much in the loss", "that distorts the probabilities, and hides it."),
            Option("leave out half of the healthy", "that leaves less to learn from."),
            Option("train longer", "the costs would still be unknown to the network."),
            Option("move the threshold", "if the costs change, nothing is trained again.", True),
        ),
    ),
    Question(
        "A temperature of 2, found on validation data, divides the logits. What changes?",
        (
            Option("which class has the largest probability", "dividing all by one number keeps their order."),
            Option("how sure the network says it is", "the ratios of all probabilities move towards 1.", True),
            Option("the accuracy on new data", "the order of the classes is the same."),
            Option("the features that the encoder computes", "only one number is fitted."),
        ),
    ),
    Question(
        "A report says: accuracy 0.95 for all patients. What should be asked next?",
        (
            Option(
                "whether somebody else has reached 0.96 on the same patients",
                "a point more says little without knowing for whom.",
            ),
            Option(
                "how large the network is, and how long it was trained for",
                "that matters to the machine, not to the patient.",
            ),
            Option("how it does for each group, in both kinds of mistake", "the mean may hide both.", True),
            Option("which optimiser was used", "the patients do not care."),
        ),
    ),
)
