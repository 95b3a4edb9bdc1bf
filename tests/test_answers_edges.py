"""Answers to 00 to 05 that hold for kind numbers only, or leave traces in what belongs to the caller."""

import copy
import functools
from collections import deque

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, huber_loss, mse_loss

from mtlkit.exercises import EXERCISES, grade


def solve(id, *arguments):
    return EXERCISES[id].solution(*arguments)


def replaced(value):
    return value.detach().clone().requires_grad_()


def other_networks(a, b):
    for k in range(len(a)):
        a[k], b[k] = replaced(a[k]), replaced(b[k])
    return solve("01.3", a, b)


def other_losses(losses):
    losses[:] = map(replaced, losses)
    return solve("02.3", losses)


def other_heads(h, heads, targets, weights):
    for name in list(heads):
        heads[name] = copy.deepcopy(heads[name])
    return solve("02.1", h, heads, targets, weights)


def without_normalisation(model):
    fraction = solve("01.1", model)
    model.encoder[2] = nn.Identity()
    return fraction


def heads_set_to_eval(h, heads, targets, weights):
    return sum(weights[n] * mse_loss(heads[n].eval()(h), targets[n]) for n in heads)


def heads_with_hooks(h, heads, targets, weights):
    for head in heads.values():
        head.register_forward_hook(lambda *_: None)
    return solve("02.1", h, heads, targets, weights)


def heads_of_one_size(h, heads, targets, weights):
    stacked = torch.stack([heads[n](h) for n in heads]) - torch.stack([targets[n] for n in heads])
    return torch.tensor([weights[n] for n in heads]) @ stacked.square().mean((1, 2))


def heads_in_one_row(h, heads, targets, weights):
    rows = [
        torch.cat([weights[n] ** 0.5 * part[n] for n in heads], 1)
        for part in ({n: heads[n](h) for n in heads}, targets)
    ]
    return len(heads) * mse_loss(*rows)


def pcgrad_that_divides_by_nothing(g_a, g_b):
    def off(g, other):
        return g - torch.clamp(g @ other, max=0) / other.norm() ** 2 * other

    return off(g_a, g_b) + off(g_b, g_a)


def mgda_padded(g_a, g_b):
    return (-((g_a - g_b) @ g_b) / ((g_a - g_b).square().sum() + 1e-4)).clamp(0, 1)


def dwa(before, last, T, ratio):
    return len(last) * torch.softmax(ratio(before, last) / T, 0)


def ties_lose(weights, norms, cosine):
    a, b = (w * n for w, n in zip(weights, norms, strict=True))
    return [a + b * cosine <= 0, b + a * cosine <= 0]


class Empty:
    def __call__(self, losses, tokens):
        return None


NAMES = ("classify", "detect", "count", "depth", "edges")
WRONG = {
    "00.1": [
        lambda ls, w: sum(w[t] * ls[t] for t in sorted(ls)[:4]),
        lambda ls, w: sum(abs(ls[t] * w[t]) for t in ls),
        lambda ls, w: sum(w[t] * min(ls[t], 1.0) for t in ls),
        lambda ls, w: sum(min(max(w[t], 0), 1) * ls[t] for t in ls),
        lambda ls, w: sum({w[t] * ls[t] for t in ls}),
        lambda ls, w: sum(w.get(t, 0) * ls.get(t, 0) for t in NAMES),
    ],
    "01.1": [
        lambda model: model.encoder.eval() and solve("01.1", model),
        lambda model: [head.eval() for head in model.heads.values()] and solve("01.1", model),
        without_normalisation,
        lambda model: (
            sum(p.numel() for p in model.shared_parameters()) / sum(v.numel() for v in model.state_dict().values())
        ),
    ],
    "01.2": [
        lambda e, h: 0.0 if len(h) == 1 else solve("01.2", e, h),
        lambda e, h: (e + sum(set(h))) / (len(h) * e + sum(set(h))),
    ],
    "01.3": [
        other_networks,
        lambda a, b: sum((p - q).square().sum() for p in a for q in b if p.shape == q.shape),
        lambda a, b: sum(2 * huber_loss(p, q, reduction="sum", delta=10.0) for p, q in zip(a, b, strict=True)),
    ],
    "02.1": [
        other_heads,
        heads_set_to_eval,
        heads_with_hooks,
        lambda h, heads, t, w: (
            next(iter(heads.values())).register_forward_pre_hook(lambda *_: None) and solve("02.1", h, heads, t, w)
        ),
        heads_of_one_size,
        heads_in_one_row,
        lambda h, heads, t, w: sum(
            w[n] * (heads[n](h) - t[n]).square().sum() / t[next(iter(t))].numel() for n in heads
        ),
        lambda h, heads, t, w: sum(
            w[n] * mse_loss(heads[n](h), t[n]) for n in ("depth", "normal", "edge", "albedo") if n in heads
        ),
    ],
    "02.2": [
        lambda a, b: a @ b / (a.norm().clamp(min=1) * b.norm().clamp(min=1)),
        lambda a, b: a @ b / (a.norm() * b.norm()).clamp(min=1.0),
        lambda a, b: a @ b / (a.norm() * b.norm() + 1e-4),
    ],
    "02.3": [
        other_losses,
        lambda losses: sum(one / one.detach().clamp(min=0.1) for one in losses),
        lambda losses: sum(one / one.detach().clamp(max=2) for one in losses),
        lambda losses: sum(one / (one.detach() + 1e-5) for one in losses),
    ],
    "02.4": [
        lambda lr, K: round(lr / K, 5),
        lambda lr, K: max(lr / K, 1e-2),
        lambda lr, K: min(lr / K, 0.5),
    ],
    "04.4": [ties_lose],
    "05.1": [
        lambda losses, s: solve("05.1", losses, s.clamp(-2, 2)),
        lambda losses, s: (0.5 * torch.exp(-s.clamp(-4, 4)) * losses + 0.5 * s).sum(),
        lambda losses, s: solve("05.1", losses.clamp(min=0.1), s),
        lambda losses, s: solve("05.1", losses.clamp(max=2), s),
    ],
    "05.2": [
        functools.partial(dwa, ratio=lambda before, last: last / before.clamp(min=0.2)),
        functools.partial(dwa, ratio=lambda before, last: last / (before + 1e-5)),
        lambda before, last, T: solve("05.2", before, last, min(T, 2.5)),
    ],
    "05.3": [
        pcgrad_that_divides_by_nothing,
        lambda a, b: a - (a @ b).clamp(max=0) / (b @ b + 1e-4) * b + b - (a @ b).clamp(max=0) / (a @ a + 1e-4) * a,
    ],
    "05.4": [mgda_padded],
    "09.1": [
        lambda sizes, T: solve("09.1", sizes, max(T, 1.0)),
        lambda sizes, T: sizes / sizes.sum() if T <= 1 else solve("09.1", sizes, T),
    ],
}
RIGHT = {
    "02.1": [
        lambda h, heads, t, w: sum(w.get(n) * mse_loss(heads.get(n)(h), t.get(n)) for n in w),
        lambda h, heads, t, w: sum(w[n] * mse_loss(head(h), t[n]) for n, head in heads.copy().items()),
        lambda h, heads, t, w: sum(w[n] * mse_loss(heads[n](h), t[n]) for n in reversed(heads | {})),
    ],
    "02.2": [lambda a, b: a @ b / (a.norm() * b.norm() + 1e-8)],
    "05.2": [lambda before, last, T: solve("05.2", before, last, T).to_sparse()],
    "05.3": [lambda a, b: a + b if a @ b >= 0 or not a.any() or not b.any() else solve("05.3", a, b)],
}


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in WRONG.items() for answer in answers])
@pytest.mark.parametrize("seed", range(5))
def test_what_holds_for_kind_numbers_only_is_refused(id, answer, seed):
    assert EXERCISES[id].judge(answer, seed).state == "wrong"


@pytest.mark.parametrize(("id", "answer"), [(id, answer) for id, answers in RIGHT.items() for answer in answers])
@pytest.mark.parametrize("seed", range(5))
def test_what_a_dictionary_can_do_and_unusual_results_are_taken(id, answer, seed):
    verdict = EXERCISES[id].judge(answer, seed)
    assert verdict.state == "right", verdict.message


def backward_first(a, b):
    solve("01.3", a, b).backward()
    return solve("01.3", a, b)


@torch.no_grad()
def decorated_stub(g_a, g_b): ...


def half_written(g_a, g_b):
    if g_a @ g_b < 0:
        raise NotImplementedError("later")
    return g_a + g_b


@pytest.mark.parametrize(
    ("id", "answer", "said"),
    [
        ("01.3", backward_first, "`a[0].grad`: return the result and leave the backward pass to the caller"),
        ("02.2", lambda a, b: a.requires_grad_() @ b, "`g_a.requires_grad`, but it belongs to the caller"),
        ("01.1", lambda m: m.encoder.eval() and solve("01.1", m), "the mode of `model`"),
        ("02.1", heads_with_hooks, "`heads` by a hook that stays"),
        (
            "02.1",
            lambda h, f, t, w: (w[n] * mse_loss(f[n](h), t[n]) for n in f),
            "not a generator (is sum(...) or list(...) around",
        ),
        (
            "02.4",
            lambda lr, K: (lr / K for _ in range(1)),
            "numbers, not generator (is sum(...) or list(...) around it missing?)",
        ),
        ("02.1", lambda *_: "12", "expected one tensor, not a str"),
        ("02.1", lambda *_: {1.0}, "expected one tensor, not a set"),
        ("02.1", lambda *a: solve("02.1", *a) * 1j, "expected one tensor, not a complex one"),
        ("05.2", lambda *a: deque(solve("05.2", *a)), "numbers, not deque"),
        ("05.3", half_written, "it is not finished: it raises NotImplementedError with g_a: a tensor ["),
        ("05.3", decorated_stub, "not attempted yet"),
        ("05.3", lambda a, b: exit(), "it raised SystemExit"),
        ("09.2", functools.partial(lambda losses, tokens, more: print(end=more), more=""), "it returns nothing"),
        ("09.2", Empty(), "not attempted yet"),
        ("09.3", lambda x, W, A, B: solve("09.3", x, W.requires_grad_(), A, B), "`W.requires_grad`"),
        ("03.2", lambda logits, label: cross_entropy(label, logits), "it raised"),
    ],
)
def test_messages_say_what_happened(id, answer, said):
    assert said in grade(id, answer).message
