"""Exercises and quiz of notebook 10, speech."""

from itertools import groupby

import torch
from torch import Tensor

from mtlkit.exercises.engine import Exercise
from mtlkit.exercises.questions import Option, Question


def collapse(path):
    """Return the symbols of a path: merge repetitions, then drop the blanks (0)."""
    heard, before = [], 0
    for symbol in path:
        if symbol != before and symbol != 0:
            heard.append(symbol)
        before = symbol
    return heard


def _path(generator: torch.Generator) -> tuple[list[int]]:
    length = int(torch.randint(0, 14, (), generator=generator))
    kinds = int(torch.randint(2, 6, (), generator=generator))
    scale = 1 if torch.rand((), generator=generator) < 0.5 else 11
    return ((scale * torch.randint(0, kinds, (length,), generator=generator)).tolist(),)


def probability_of_one(p, symbol):
    """Return the probability that a CTC network hears `symbol` and nothing else: the sum over all its paths."""
    T, total = len(p), 0.0
    for first in range(T):
        for last in range(first, T):
            total = total + p[:first, 0].prod() * p[first : last + 1, symbol].prod() * p[last + 1 :, 0].prod()
    return total


def _frames(generator: torch.Generator) -> tuple[Tensor, int]:
    length, symbols = (int(torch.randint(1, most, (), generator=generator)) for most in (13, 7))
    p = torch.randn(length, symbols + 1, generator=generator, dtype=torch.double).softmax(1)
    return p, int(torch.randint(1, symbols + 1, (), generator=generator))


def edits(heard, said):
    """Return how many insertions, deletions and replacements turn `heard` into `said`."""
    row = list(range(len(said) + 1))
    for i, one in enumerate(heard, 1):
        new = [i]
        for j, other in enumerate(said, 1):
            new.append(min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (one != other)))
        row = new
    return row[-1]


def _sequences(generator: torch.Generator) -> tuple[list[int], list[int]]:
    lengths = torch.randint(0, 7, (2,), generator=generator).tolist()
    heard, said = (torch.randint(9, 13, (n,), generator=generator).tolist() for n in lengths)
    kind = int(torch.randint(6, (), generator=generator))
    if kind == 0 and heard:
        return heard, []
    if kind == 1 and len(said) > 1:  # two neighbours have changed places
        return [said[1], said[0], *said[2:]], said
    return ([], []) if kind == 2 and not said else (heard, said)


def _differing(heard, said):
    return sum(a != b for a, b in zip(heard, said, strict=False)) + abs(len(heard) - len(said))


EXERCISES = (
    Exercise(
        "10.1",
        "From frames to symbols",
        "Write `collapse(path)`: `path` is a list with one symbol for each frame; 0 is the blank, and the list may be "
        "empty. Return the list of symbols that were heard: merge repeated symbols, then drop the blanks. "
        "`[0, 3, 3, 0, 3, 2]` is heard as `[3, 3, 2]`.",
        1,
        5,
        (
            "Remember the symbol of the previous frame.",
            "A symbol counts if it differs from the one before, and is not the blank.",
            "A blank between two threes keeps them apart, because repetitions are merged *first*.",
        ),
        collapse,
        _path,
        (
            (
                "blanks were taken out first: then two equal symbols with a blank between them become one",
                lambda path: [s for s, _ in groupby(s for s in path if s)],
            ),
            ("repetitions were not merged", lambda path: [s for s in path if s]),
            ("the blanks are still there", lambda path: [s for k, s in enumerate(path) if k == 0 or s != path[k - 1]]),
            ("each symbol is left only once: order and number were lost", lambda path: sorted(set(path) - {0})),
        ),
        calls=40,
    ),
    Exercise(
        "10.2",
        "All ways to say one thing",
        "Write `probability_of_one(p, symbol)`: `p [T, S]` holds the probability of each symbol in each frame; column "
        "0 is the blank. Return the probability that the network hears `[symbol]`: the sum over all paths that "
        "collapse to it (any number of blanks, possibly none; then the symbol once or more; then any number of "
        "blanks).",
        3,
        12,
        (
            "A path is determined by the first and the last frame that have the symbol.",
            "Its probability: blanks before, the symbol from first to last, blanks after, all multiplied.",
            "Add up over all first <= last; p[:first, 0].prod() is 1 if there is nothing before.",
        ),
        probability_of_one,
        _frames,
        (
            (
                "that is only the best path; CTC adds up *all* paths",
                lambda p, symbol: max(
                    p[:i, 0].prod() * p[i : j + 1, symbol].prod() * p[j + 1 :, 0].prod()
                    for i in range(len(p))
                    for j in range(i, len(p))
                ),
            ),
            (
                "the symbol may last for several frames, too",
                lambda p, symbol: sum(p[:i, 0].prod() * p[i, symbol] * p[i + 1 :, 0].prod() for i in range(len(p))),
            ),
            (
                "frames before and after are not free: they must be blank",
                lambda p, symbol: sum(p[i : j + 1, symbol].prod() for i in range(len(p)) for j in range(i, len(p))),
            ),
        ),
    ),
    Exercise(
        "10.3",
        "How wrong was it?",
        "Write `edits(heard, said)`: two lists of symbols. Return the smallest number of insertions, deletions and "
        "replacements that turn one into the other.",
        3,
        15,
        (
            "Keep a row: entry j says how many edits turn what was heard so far into the first j symbols that were said.",
            "A new entry is the minimum of: the one above + 1, the one to the left + 1, the one above left (+ 1 if "
            "different).",
            "It begins with 0, 1, 2, ...: from nothing, every symbol is an insertion.",
        ),
        edits,
        _sequences,
        (
            (
                "compared place by place, one missing symbol spoils all that follow; a single insertion mends that",
                _differing,
            ),
            ("only the lengths were compared", lambda heard, said: abs(len(heard) - len(said))),
            (
                "a replacement is one edit, not two",
                lambda heard, said: len(heard) + len(said) - 2 * _common(heard, said),
            ),
        ),
        calls=40,
    ),
)


def _common(a, b):
    row = [0] * (len(b) + 1)
    for one in a:
        corner = 0
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], corner + 1 if one == other else max(row[j], row[j - 1])
    return row[-1]


QUIZ = (
    Question(
        "Why does CTC need a blank?",
        (
            Option(
                "to fill up recordings that are shorter than others",
                "those are filled with silence; the blank means more than that.",
            ),
            Option("so that a symbol can occur twice in a row", "without it, two equal ones would merge.", True),
            Option(
                "because a softmax always needs one class more than there are",
                "softmax works with any number of classes.",
            ),
            Option("to mark the end", "nothing marks the end: the frames are simply over."),
        ),
    ),
    Question(
        "A network is perfect on its training voices and bad on new ones. The first thing to look at:",
        (
            Option("the learning rate", "the training data are learned well already."),
            Option("how many different voices it has heard", "many clips of few voices teach only these voices.", True),
            Option("whether there are still more digits for it to learn", "the digits were the same."),
            Option("the number of mel bands in its spectrograms", "the same bands suffice for the known voices."),
        ),
    ),
    Question(
        "Each clip's spectrogram is given the mean 0 and the standard deviation 1. That takes away",
        (
            Option("how loud it is", "the six speakers differ in loudness by a factor of up to nine.", True),
            Option("who it is that speaks", "pitch and formants are still there."),
            Option("how long the clip is", "the number of frames stays."),
            Option("what is said in it", "it is in the shape, not in the level."),
        ),
    ),
    Question(
        '"Who speaks" and "what is said" share one network. Where would you expect a conflict?',
        (
            Option("nowhere: both listen to the same sound", "the same sound can be read in two ways."),
            Option(
                "in the encoder: one should ignore the voice, the other needs it",
                "one task wants to forget what the other needs.",
                True,
            ),
            Option(
                "in the heads, as they have different sizes and learn at different rates",
                "each task has its own head: there they cannot meet.",
            ),
            Option("in the spectrogram", "it has no parameters."),
        ),
    ),
)
