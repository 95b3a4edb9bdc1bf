"""Answers that people have tried, right and wrong, and what every exercise must take or refuse."""

import copy
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torchvision.ops import generalized_box_iou

from mtlkit.exercises import EXERCISES, Exercise, grade
from mtlkit.exercises.differences import learning

FUNCTIONS = {id: found for id, found in EXERCISES.items() if isinstance(found, Exercise)}
LEARNED = [id for id, found in FUNCTIONS.items() if found.observe is learning]
ALL = pytest.mark.parametrize("id", FUNCTIONS)


def _solve(id, *arguments):
    return FUNCTIONS[id].solution(*arguments)


# --- 01.1 to 09.4: written otherwise than the solution, and right ---------------------------------------------------


def loop_sum(losses, weights):
    total = 0.0
    for task in losses:
        total += weights[task] * losses[task]
    return total


def loop_total(h, heads, targets, weights):
    total = torch.zeros(1)
    for name, head in heads.items():
        total = total + weights[name] * (head(h) - targets[name]).pow(2).mean()
    return total


def loop_penalty(a, b):
    total = 0
    for p, q in zip(a, b, strict=True):
        for x, y in zip(p.flatten(), q.flatten(), strict=True):
            total = total + (x - y) ** 2
    return total


def numpy_cosine(g_a, g_b):
    return np.dot(g_a.numpy(), g_b.numpy()) / np.linalg.norm(g_a.numpy()) / np.linalg.norm(g_b.numpy())


def einsum_cosine(g_a, g_b):
    dot = torch.einsum("p,p->", g_a, g_b)
    return dot / torch.einsum("p,p->", g_a, g_a).sqrt() / torch.einsum("p,p->", g_b, g_b).sqrt()


def library_giou(a, b):
    return generalized_box_iou(a[None], b[None])[0, 0]


def masked_by_choice(logits, label):
    seen = label != -1
    if not seen.any():
        return (logits * 0).sum()
    return cross_entropy(logits[seen], label[seen])


def flip_by_copy(image, boxes):
    W = image.shape[2]
    new = boxes.clone()
    new[:, 0], new[:, 2] = W - boxes[:, 2], W - boxes[:, 0]
    return torch.flip(image, dims=[2]), new


def numpy_flip(image, boxes):
    W, boxes = image.shape[2], boxes.numpy()
    return image.numpy()[:, :, ::-1], np.column_stack([W - boxes[:, 2], boxes[:, 1], W - boxes[:, 0], boxes[:, 3]])


def losers_of_lists(weights, norms, cosine):
    (w_a, w_b), (n_a, n_b) = weights, norms
    return [w_a * n_a + w_b * n_b * cosine < 0, w_b * n_b + w_a * n_a * cosine < 0]


def loop_uncertainty(losses, s):
    return sum(l / (2 * torch.exp(x)) + x / 2 for l, x in zip(losses, s, strict=True))  # noqa: E741


def numpy_dwa(before, last, T):
    e = np.exp(last.numpy() / before.numpy() / T)
    return len(e) * e / e.sum()


def mgda_by_search(g_a, g_b):
    w = torch.linspace(0, 1, 400_001, dtype=torch.double)
    a, b = g_a.double(), g_b.double()
    lengths = w**2 * (a @ a) + 2 * w * (1 - w) * (a @ b) + (1 - w) ** 2 * (b @ b)
    return round(float(w[lengths.argmin()]), 6)


def mgda_by_ends(g_a, g_b):
    if g_a @ g_b >= g_a @ g_a:
        return 1.0
    if g_a @ g_b >= g_b @ g_b:
        return 0.0
    return float((g_b - g_a) @ g_b / ((g_a - g_b) @ (g_a - g_b)))


def softmax_mixture(sizes, T):
    return torch.softmax(sizes.log() / T, 0).tolist()


def einsum_adapted(x, W, A, B):
    return torch.einsum("ni,oi->no", x, W) + torch.einsum("ni,ri,or->no", x, A, B)


RIGHT = {
    "00.1": [loop_sum, lambda losses, weights: np.dot([losses[t] for t in losses], [weights[t] for t in losses])],
    "01.1": [
        lambda model: Fraction(
            sum(p.numel() for p in model.shared_parameters()), sum(p.numel() for p in model.parameters())
        ),
        lambda model: torch.tensor([_solve("01.1", model)]),
    ],
    "01.2": [
        lambda encoder, heads: Fraction(encoder + sum(heads), len(heads) * encoder + sum(heads)),
        lambda encoder, heads: Decimal(encoder + sum(heads)) / Decimal(len(heads) * encoder + sum(heads)),
        lambda encoder, heads: np.float32((encoder + np.sum(heads)) / (len(heads) * encoder + np.sum(heads))),
    ],
    "01.3": [loop_penalty, lambda a, b: sum(torch.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)).reshape(1)],
    "02.1": [loop_total, lambda h, heads, t, w: torch.stack([w[n] * mse_loss(heads[n](h), t[n]) for n in t]).sum()],
    "02.2": [numpy_cosine, einsum_cosine, lambda a, b: torch.cosine_similarity(a, b, dim=0).reshape(1)],
    "02.3": [lambda losses: sum(loss / loss.item() for loss in losses) + 0 * losses[0]],
    "02.4": [lambda lr, K: Fraction(lr) / K, lambda lr, K: [lr / K], lambda lr, K, momentum=0.9: lr / K],
    "03.1": [library_giou],
    "03.2": [masked_by_choice],
    "03.3": [flip_by_copy, numpy_flip],
    "04.4": [losers_of_lists, lambda *a: np.array(losers_of_lists(*a))],
    "05.1": [loop_uncertainty],
    "05.2": [numpy_dwa],
    "05.4": [mgda_by_ends],
    "09.1": [
        softmax_mixture,
        lambda sizes, T: (sizes.numpy() ** (1 / T) / (sizes.numpy() ** (1 / T)).sum())[::-1][::-1],
    ],
    "09.2": [lambda losses, tokens: sum(l * n for l, n in zip(losses, tokens, strict=True)) / tokens.sum()],  # noqa: E741
    "09.3": [einsum_adapted, lambda x, W, A, B: x @ (W + B @ A).T],
    "09.4": [lambda width, layers, tokens: np.int64(72) * width * width * layers * tokens],
}


# --- and wrong ------------------------------------------------------------------------------------------------------


def three_tasks(h, heads, targets, weights):
    a, b, c = heads
    return sum(weights[n] * mse_loss(heads[n](h), targets[n]) for n in (a, b, c))


def scaled_in_place(losses):
    for k, loss in enumerate(losses):
        losses[k] = loss / loss.detach()
    return sum(losses)


def popped(losses, weights):
    return sum(losses.pop(task) * weights[task] for task in list(losses))


def fresh_leaf(logits, label):
    seen = label >= 0
    if not seen.any():
        return torch.zeros((), requires_grad=True)
    return cross_entropy(logits[seen], label[seen])


def flip_in_place(image, boxes):
    boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
    return image.flip(-1), boxes


def flip_needs_a_box(image, boxes):
    return image.flip(-1), torch.stack([_solve("03.3", image, box[None])[1][0] for box in boxes])


WRONG = {
    "00.1": [
        popped,
        lambda losses, weights: sum(a * b for a, b in zip(losses.values(), reversed(weights.values()), strict=True)),
        lambda losses, weights: sum(losses[t] * weights[t] for t in ("classify", "detect", "count")),
    ],
    "01.1": [
        lambda model: _solve("01.1", model.requires_grad_(False)),
        lambda model: _solve("01.1", model.eval()),
        lambda model: _solve("01.1", model.double()),
        lambda model: torch.rand(()),
    ],
    "01.2": [lambda encoder, heads: (encoder + sum(heads[:3])) / (3 * encoder + sum(heads[:3]))],
    "01.3": [
        lambda a, b: sum((a[k] - b[k]).square().sum() for k in range(3)),
        lambda a, b: sum((p - q).square().sum() for p, q in zip(a, b, strict=True)).item(),
        lambda a, b: sum((p.detach() - q).square().sum() for p, q in zip(a, b, strict=True)),
    ],
    "02.1": [
        three_tasks,
        lambda h, heads, t, w: sum(
            a * mse_loss(m(h), y) for m, y, a in zip(heads.values(), t.values(), w.values(), strict=True)
        ),
        lambda h, heads, t, w: (
            _solve("02.1", h, heads, t, w).backward(retain_graph=True) or _solve("02.1", h, heads, t, w)
        ),
        lambda h, heads, t, w: torch.tensor(_solve("02.1", h, heads, t, w).item(), requires_grad=True),
        lambda h, heads, t, w: sum(w[n] * mse_loss(heads[n](h).reshape(6, 2), t[n]) for n in heads),
    ],
    "02.2": [lambda a, b: a[:5] @ b[:5] / (a[:5].norm() * b[:5].norm()), lambda a, b: a.div_(a.norm()) @ b / b.norm()],
    "02.3": [
        scaled_in_place,
        lambda losses: losses[0] / losses[0].detach() + losses[1] / losses[1].detach() + losses[2] / losses[2].detach(),
        lambda losses: float(len(losses)),
    ],
    "02.4": [lambda lr, K: lr / 4, lambda lr, K: 0.1],
    "03.1": [
        lambda a, b: library_giou(a, b).item(),
        lambda a, b: library_giou(a, b.detach()),
        lambda a, b: (library_giou(a, b) + 1) / 2,
        lambda a, b: library_giou(a, b).clamp(min=-0.8),
        lambda a, b: library_giou(a.clamp(min=0), b.clamp(min=0)),
    ],
    "03.2": [
        fresh_leaf,
        lambda logits, label: logits.sum() * 0 if label[0] == -1 else cross_entropy(logits, label, ignore_index=-1),
        lambda logits, label: cross_entropy(logits[:, :3], label.clamp(max=2), ignore_index=-1),
    ],
    "03.3": [flip_in_place, flip_needs_a_box, lambda image, boxes: (image.flip(-1), 20 - boxes)],
    "04.4": [lambda weights, norms, cosine: [cosine < -0.5] * 2],
    "05.1": [
        lambda losses, s: (0.5 * torch.exp(-s) * losses + 0.5 * s).sum().item(),
        lambda losses, s: (0.5 * torch.exp(-s[:3]) * losses[:3] + 0.5 * s[:3]).sum(),
        lambda losses, s: (0.5 * torch.exp(-s) * losses.detach() + 0.5 * s).sum(),
    ],
    "05.2": [
        lambda before, last, T: 4 * torch.softmax(last / before / T, 0),
        lambda before, last, T: len(last) * torch.softmax(last.div_(before) / T, 0),
    ],
    "05.3": [lambda a, b: a.sub_(a @ b / (b @ b) * b) + b],
    "05.4": [
        lambda a, b: (-((a - b) @ b) / ((a - b) @ (a - b))).clamp(min=0),
        lambda a, b: (-((a - b) @ b) / ((a - b) @ (a - b))).clamp(max=1),
        lambda a, b: b.norm() / (a.norm() + b.norm()),
    ],
    "09.1": [lambda sizes, T: sizes.pow_(1 / T) / sizes.sum()],
    "09.2": [lambda losses, tokens: (losses * tokens).sum().item() / tokens.sum()],
    "09.3": [lambda x, W, A, B: (x @ W.T + x @ A.T @ B.T).detach()],
    "09.4": [lambda width, layers, tokens: 72 * width**2 * layers],
}


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in RIGHT.items() for answer in answers])
def test_a_right_answer_is_taken_however_it_is_written(id, answer):
    verdict = grade(id, answer)
    assert verdict.state == "right", verdict.message


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in WRONG.items() for answer in answers])
def test_a_wrong_answer_is_refused(id, answer):
    assert grade(id, answer).state == "wrong"


@ALL
def test_more_keywords_and_a_number_in_a_list_of_one_are_taken(id):
    def answer(*arguments, verbose=False):
        result = _solve(id, *arguments)
        one = isinstance(result, torch.Tensor) and result.ndim == 0
        return result.reshape(1) if one else result

    assert grade(id, answer).state == "right"


def _spoil(value):
    """Change something in place; return whether there was something to change."""
    if isinstance(value, torch.nn.Module):
        return _spoil(list(value.parameters()))
    if isinstance(value, torch.Tensor):
        if not value.numel():
            return False
        with torch.no_grad():
            value.logical_not_() if value.dtype == torch.bool else value.add_(1)
        return True
    if isinstance(value, dict):
        return bool(value) and value.pop(next(iter(value))) is not None
    if isinstance(value, list):
        return bool(value) and (any(map(_spoil, value)) or value.pop() is not None)
    return False


@ALL
def test_changing_an_argument_is_refused(id):
    names = list(FUNCTIONS[id].named(FUNCTIONS[id].draws()[0]))
    refused = 0
    for place, name in enumerate(names):

        def answer(*arguments, place=place):
            result = (
                copy.deepcopy([_solve(id, *copy.deepcopy(arguments))])[0]
                if id not in LEARNED
                else _solve(id, *arguments)
            )
            _spoil(arguments[place])
            return result

        if any(_spoil(copy.deepcopy(draw[place])) for draw in FUNCTIONS[id].draws()):
            verdict = grade(id, answer)
            assert verdict.state == "wrong" and f"`{name}` in place" in verdict.message, (name, verdict.message)
            refused += 1
    assert refused or id in ("02.4", "06.3", "09.4", "11.2", "12.3")  # which are given numbers only


@pytest.mark.parametrize("id", LEARNED)
def test_a_loss_that_nothing_learns_from_is_refused(id):
    def leaf(*arguments):
        return torch.tensor(_solve(id, *arguments).tolist(), requires_grad=True)

    for answer in (leaf, lambda *a: _solve(id, *a).tolist(), lambda *a: _solve(id, *a).detach()):
        assert grade(id, answer).state == "wrong"
    assert "learn" in grade(id, leaf).message or "no gradient reaches" in grade(id, leaf).message


def test_what_is_missing_is_said_in_words():
    def sometimes(g_a, g_b):
        return _solve("05.3", g_a, g_b) if g_a @ g_b < 0 else None

    assert "returns nothing" in grade("05.3", sometimes).message
    assert "returns nothing" in grade("00.1", lambda losses, weights: print(end="")).message
    assert "not implemented for" in grade("03.2", lambda logits, label: cross_entropy(label, logits)).message
    assert "expected one tensor, not a list" in grade("02.1", lambda *a: [_solve("02.1", *a)]).message
    assert "`losses` in place" in grade("02.3", lambda losses: losses.__setitem__(0, 1.0) or sum(losses)).message
    assert grade("02.2", lambda a, b: _solve("02.2", a, b) + 1j).state == "wrong"


def test_a_check_leaves_the_random_stream_and_takes_place_with_gradients():
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    with torch.no_grad():
        assert grade("02.1", lambda *a: _solve("02.1", *a).detach()).state == "wrong"
        assert grade("02.1", FUNCTIONS["02.1"].solution).state == "right"
    assert torch.equal(torch.rand(1), first)


def test_it_is_said_where_a_gradient_is_missing():
    def half(a, b):
        return sum((p - q).square().sum() for p, q in zip(a, [b[0].detach(), *b[1:]], strict=True))

    assert grade("01.3", half).message.startswith("the value is right, but no gradient reaches `b[0]`")

    def twice(h, heads, targets, weights):
        total = _solve("02.1", h, heads, targets, weights)
        return 2 * total - total.detach()

    assert grade("02.1", twice).message.startswith("the gradient with respect to `h` is ")


@ALL
def test_the_solution_of_another_exercise_is_refused(id):
    for other, found in FUNCTIONS.items():
        if other != id:
            assert grade(id, found.solution).state == "wrong"


def _sizes(value):
    """Return every size in a tree of arguments."""
    if isinstance(value, torch.nn.Module):
        return [size for p in value.parameters() for size in p.shape]
    if isinstance(value, torch.Tensor):
        return list(value.shape)
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return [len(value), *(size for part in inner for size in _sizes(part))]
    return []


# a box has four numbers; a dial, a stitch and a point two
FIXED = {"03.1": {4}, "04.4": {2}, "03.3": {4}, "07.1": {2}, "14.2": {2}, "15.2": {4}}


@ALL
def test_every_size_varies_from_draw_to_draw(id):
    """So that none can be written into an answer."""
    for place in range(len(FUNCTIONS[id].draws()[0])):
        sizes = [_sizes(draw[place]) for draw in FUNCTIONS[id].draws()]
        for one in zip(*sizes, strict=False):  # the first ones, if their number varies
            assert len(set(one)) > 1 or set(one) <= FIXED.get(id, set()), (id, place, one)
