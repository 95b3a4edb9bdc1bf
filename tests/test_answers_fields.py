"""Answers to the exercises on fields and frontiers that people gave, or that tried to get through."""

import math
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from mtlkit.exercises import EXERCISES, grade

NAME = re.compile(r"Write `(\w+)\(")
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))


def solve(id, *arguments):
    return EXERCISES[id].solution(*arguments)


def without_equal_ones(points):
    kept = [
        p
        for k, p in enumerate(points)
        if not any(j != k and q[0] >= p[0] and q[1] >= p[1] for j, q in enumerate(points))
    ]
    return solve("14.2", kept)


def refuses_nothing(id):
    def answer(first, *others):
        if not len(first):
            raise ValueError("nothing there")
        return solve(id, first, *others)

    return answer


def mean_with_nan_behind(states, symbols):
    there = (symbols > 0)[:, :, None]
    mean = (states * there).sum(1) / there.sum(1)
    return torch.where(mean.isnan(), 0.0, mean)


def mean_by_einsum(states, symbols):
    there = (symbols > 0).double()
    return torch.einsum("btc,bt->bc", states, there / there.sum(1, keepdim=True).clamp(min=1))


def look_by_einsum(query, states, there):
    match = torch.einsum("bc,btc->bt", query, states).masked_fill(~there, -math.inf)
    return torch.einsum("bt,btc->bc", match.softmax(1), states)


def looking_without_softmax(query, states, there):
    shares = (query[:, None] * states).sum(-1).exp() * there
    return ((shares / shares.sum(1, keepdim=True))[:, :, None] * states).sum(1)


def looking_with_a_small_number(query, states, there):
    match = (query[:, None] * states).sum(-1).masked_fill(~there, -20.0)
    return (match.softmax(1)[:, :, None] * states).sum(1)


def ten_classes(predicted, labels):
    shares = [(predicted[labels == c] == c).double().mean() for c in range(10)]
    return torch.stack(shares).nanmean()


def heard_in_a_default(path, out=[]):  # noqa: B006
    out += solve("10.1", path)
    return out


def six_frames(p, symbol):
    return solve("10.2", p[:6], symbol)


def recall_below_nine_tenths(scores, right, objects, least):
    precision, recall = solve("15.3", scores, right, objects, least)
    return precision, min(recall, 0.9)


def both_1_if_nothing_is_kept(scores, right, objects, least):
    return solve("15.3", scores, right, objects, least) if (scores >= least).any() else (1.0, 1.0)


def areas_by_a_grid(points):
    xs, ys = (sorted({0.0, *(p[k] for p in points)}) for k in (0, 1))
    return sum(
        (b - a) * (d - c) for a, b in pairwise(xs) for c, d in pairwise(ys) if any(x >= b and y >= d for x, y in points)
    )


def boxes_in_a_loop(boxes, width, height, least):
    return [
        k
        for k, (a, b, c, d) in enumerate(boxes.tolist())
        if c - a < least or d - b < least or a < 0 or b < 0 or c > width or d > height
    ]


def dice(said, right):
    return 2 * (said & right).sum() / (said.sum() + right.sum()) if (said | right).any() else torch.tensor(1.0)


RIGHT = {
    "08.2": [mean_by_einsum],
    "08.3": [look_by_einsum],
    "12.2": [lambda said, right: np.float64(solve("12.2", said, right))],
    "12.3": [lambda rare, others, times: [times * rare / (times * rare + others)]],
    "13.3": [lambda a, b: np.corrcoef(*(one.flatten().argsort().argsort().numpy() for one in (a, b)))[0, 1]],
    "14.2": [areas_by_a_grid],
    "15.1": [lambda values, drawn: np.quantile(values.numpy()[drawn.numpy()].mean(1), [0.025, 0.975])],
    "15.2": [boxes_in_a_loop],
}
WRONG = {
    "08.1": [ten_classes],
    "08.2": [mean_with_nan_behind, lambda states, symbols: solve("08.2", states.detach(), symbols)],
    "08.3": [
        looking_without_softmax,
        looking_with_a_small_number,
        lambda query, states, there: solve("08.3", query.detach(), states, there),
    ],
    "10.1": [heard_in_a_default],
    "10.2": [six_frames],
    "12.2": [dice],
    "12.3": [lambda rare, others, times: solve("12.3", rare, others, int(times))],
    "13.2": [lambda x, y: solve("13.2", x, y).clamp(min=0.3)],
    "13.3": [lambda a, b: abs(solve("13.3", a, b)), lambda a, b: solve("13.3", a, b).clamp(min=0)],
    "14.2": [
        without_equal_ones,
        refuses_nothing("14.2"),
        lambda points: solve("14.2", [(min(x, 1.0), min(y, 1.0)) for x, y in points]),
    ],
    "15.2": [
        refuses_nothing("15.2"),
        lambda boxes, width, height, least: solve("15.2", boxes, width, height, least + 0.1),
        lambda boxes, width, height, least: solve("15.2", boxes, width - 0.1, height - 0.1, least),
        lambda boxes, width, height, least: solve("15.2", boxes.abs() + 1e-9, width, height, least),
        lambda boxes, width, height, least: [[k] for k in solve("15.2", boxes, width, height, least)],
        lambda boxes, width, height, least: torch.tensor(solve("15.2", boxes, width, height, least)).squeeze().tolist(),
        lambda boxes, width, height, least: solve(
            "15.2",
            torch.cat([boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])], 1),
            *(width, height, least),
        ),
    ],
    "15.3": [
        recall_below_nine_tenths,
        both_1_if_nothing_is_kept,
        lambda scores, right, objects, least: solve("15.3", scores, right, objects, least + 0.01),
        lambda scores, right, objects, least: (
            float(right[scores >= least].sum() / max(1, int((scores >= least).sum()))),
            solve("15.3", scores, right, objects, least)[1],
        ),
    ],
}


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in RIGHT.items() for answer in answers])
def test_a_right_answer_is_taken(id, answer):
    verdict = grade(id, answer)
    assert verdict.state == "right", verdict.message


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in WRONG.items() for answer in answers])
def test_a_wrong_answer_is_not(id, answer):
    assert grade(id, answer).state == "wrong"


def test_messages_say_with_what_it_failed_and_what_was_set():
    assert "(with path: [])" in grade("10.1", lambda path: [path[0]]).message
    assert "y: a tensor [" in grade("11.3", lambda p, y, bins: y.mean()).message
    backward = grade("12.1", lambda logits, y, gamma: (loss := solve("12.1", logits, y, gamma)).backward() or loss)
    assert "`logits.grad`" in backward.message
    assert "tolist" in grade("13.1", lambda *given: torch.tensor(solve("13.1", *given))).message


def test_solutions_hold_where_numbers_are_large():
    assert solve("12.1", torch.tensor([200.0, -200.0]), torch.tensor([1.0, 0.0]), 2.0) == 0
    assert solve("14.2", [(0.5, 0.5), (0.5, 0.5)]) == 0.25 and solve("14.2", []) == 0


@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_a_stub_has_the_name_that_its_exercise_asks_for(file):
    code = "\n".join(cell.source for cell in nbformat.read(file, 4).cells if cell.cell_type == "code")
    checked = re.findall(r'^check\("(\d\d\.\d)", (\w+)\)', code, re.M)
    for id in {id for id, _ in checked}:
        asked = NAME.search(EXERCISES[id].statement)
        assert asked is None or (id, asked.group(1)) in checked


@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_a_shown_solution_runs_where_it_is_shown(file):
    code = [cell.source for cell in nbformat.read(file, 4).cells if cell.cell_type == "code"]
    scope = {}
    exec(next(source for source in code if "from mtlkit" in source), scope)
    for id in re.findall(r'^check\("(\d\d\.\d)", \w+\)', "\n".join(code), re.M):
        exec(EXERCISES[id].source(), scope)
        assert grade(id, scope[EXERCISES[id].solution.__name__]).state == "right", id
