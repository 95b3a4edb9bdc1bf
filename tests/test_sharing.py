"""Ways to share a network: shapes, numbers, who trains what, and the cases in which one is another."""

import itertools

import pytest
import torch
from torch import nn

from mtlkit.model import (
    PLE,
    Branched,
    ClassificationHead,
    CrossStitch,
    LearnedSharing,
    MMoE,
    SharedEncoderModel,
    TaskAdapters,
    TaskAttention,
    conv_stages,
    share,
)
from mtlkit.weighting import METHODS

TASKS = ("a.b", "names", "third")
WIDTHS = (4, 8, 8, 8, 8)
ENCODERS = {
    "hard": lambda t: Branched(t, stages, 5),
    "branched": lambda t: Branched(t, stages, 3),
    "alone": lambda t: Branched(t, stages, 0),
    "cross-stitch": lambda t: CrossStitch(t, stages, WIDTHS),
    "attention": lambda t: TaskAttention(t, stages, WIDTHS),
    "mmoe": lambda t: MMoE(t, stages, WIDTHS, fork=2, experts=3),
    "cgc": lambda t: PLE(t, stages, WIDTHS, fork=4),
    "ple": lambda t: PLE(t, stages, WIDTHS, fork=2, own=2, common=1),
    "no common": lambda t: PLE(t, stages, WIDTHS, fork=3, common=0),
    "adapters": lambda t: TaskAdapters(t, stages, WIDTHS),
    "gates": lambda t: LearnedSharing(t, stages),
}


def stages():
    return conv_stages((4, 8, 8), blocks=2)


def size(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def model_of(name, tasks=TASKS):
    torch.manual_seed(0)
    return share(ENCODERS[name](tasks), {task: ClassificationHead(8, 3) for task in tasks})


IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_task_has_features_of_its_own_form(name):
    model = model_of(name)
    found = model.encoder(IMAGES)
    assert list(found) == list(TASKS) and all(h.shape == (2, 8, 4, 4) for h in found.values())
    assert all(logits.shape == (2, 3) for logits in model(IMAGES).values())


@pytest.mark.parametrize("name", ENCODERS)
def test_shared_are_the_parameters_that_more_than_one_task_trains(name):
    model = model_of(name)
    if name == "adapters":
        nn.init.normal_(next(iter(model.encoder.A["names"])))  # where A is 0, features may agree by chance
    reached = {}
    for task, logits in model(IMAGES).items():
        gradients = torch.autograd.grad(
            (logits * torch.randn_like(logits)).sum(), list(model.parameters()), allow_unused=True, retain_graph=True
        )
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            if gradient is not None:
                reached.setdefault(parameter, set()).add(task)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert len(reached) == len(names), "a parameter that no task trains"
    several = {names[p] for p, tasks in reached.items() if len(tasks) > 1}
    assert {names[p] for p in model.shared_parameters()} == several


def test_parameters_are_what_the_formulas_say():
    first, second, *_ = made = stages()
    whole, heads = sum(map(size, made)), 3 * size(ClassificationHead(8, 3))
    count = {name: size(model_of(name)) - heads for name in ENCODERS}
    assert count["hard"] == whole and count["alone"] == 3 * whole
    trunk = size(first, second, made[2])
    assert count["branched"] == trunk + 3 * (whole - trunk)
    assert count["cross-stitch"] == 3 * whole + 9 * sum(WIDTHS)
    norms = sum(size(m) for stage in made[1:] for m in stage.modules() if isinstance(m, nn.BatchNorm2d))
    assert count["adapters"] == whole + 2 * norms + 3 * sum(c * c for c in WIDTHS)
    f = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(WIDTHS))
    masks = sum((1 + (k > 0)) * c * c + c * c + 4 * c for k, c in enumerate(WIDTHS))
    assert count["attention"] == whole + f + 3 * masks
    before = size(first, second)
    assert count["mmoe"] == before + 3 * (whole - before) + 3 * 3 * 8
    last = size(made[4])
    assert count["cgc"] == whole - last + 4 * last + 3 * 2 * 8
    level = [7 * size(made[j]) + 3 * 3 * 8 for j in (2, 3, 4)]
    assert count["ple"] == before + sum(level) + 2 * 7 * 8


def test_a_cross_stitch_of_the_identity_is_a_network_for_each_task():
    alone = Branched(TASKS, stages, 0).eval()
    stitched = CrossStitch(TASKS, stages, WIDTHS, alpha=1.0)
    for task in TASKS:
        stitched.networks[task].load_state_dict(alone.branches[task].state_dict())
    found, expected = stitched.eval()(IMAGES), alone(IMAGES)
    assert all(torch.allclose(found[task], expected[task], atol=1e-6) for task in TASKS)
    mixed = CrossStitch(TASKS, stages, WIDTHS, alpha=0.5)
    assert torch.allclose(mixed.alpha[0].sum(1), torch.ones(3, 4))


@pytest.mark.parametrize("name", ["attention", "mmoe", "ple", "adapters"])
def test_what_is_hard_sharing_in_its_simplest_case(name):
    torch.manual_seed(0)
    hard = Branched(TASKS, stages, 5).eval()
    expected = hard.trunk(IMAGES)
    if name == "adapters":
        encoder = TaskAdapters(TASKS, stages, WIDTHS)
        encoder.first.load_state_dict(hard.trunk[0].state_dict())
        for task in TASKS:
            encoder.ways[task].load_state_dict(nn.ModuleList(hard.trunk[1:]).state_dict())
    elif name == "attention":
        encoder = TaskAttention(TASKS, stages, WIDTHS)
        for (first, rest), known in zip(encoder.trunk, hard.trunk, strict=True):
            first[0].load_state_dict(known[0].state_dict())
            rest.load_state_dict(nn.Sequential(*known[1:]).state_dict())
        for masks in (encoder.masks[task] for task in TASKS):
            for mask in masks:
                nn.init.zeros_(mask.h[1].weight)
                nn.init.constant_(mask.h[1].bias, 30.0)
    elif name == "mmoe":
        encoder = MMoE(TASKS, stages, WIDTHS, fork=2, experts=1)
        for stage, known in zip([*encoder.trunk, *encoder.experts[0]], hard.trunk, strict=True):
            stage.load_state_dict(known.state_dict())
    else:
        encoder = PLE(TASKS, stages, WIDTHS, fork=2, own=0, common=1)
        encoder.trunk.load_state_dict(hard.trunk[:2].state_dict())
        for level, stage in zip(encoder.levels, hard.trunk[2:], strict=True):
            level.common[0].load_state_dict(stage.state_dict())
    for found in encoder.eval()(IMAGES).values():
        assert torch.allclose(found, expected, atol=1e-6)


def test_gates_are_those_of_the_formula():
    torch.manual_seed(0)
    encoder = MMoE(TASKS, stages, WIDTHS, fork=2, experts=2).eval()
    h = encoder.trunk(IMAGES)
    g = (h.mean((2, 3)) @ encoder.gates["names"].weight.T).softmax(1)
    first, second = (expert(h) for expert in encoder.experts)
    expected = g[:, 0, None, None, None] * first + g[:, 1, None, None, None] * second
    assert torch.allclose(encoder(IMAGES)["names"], expected, atol=1e-6)


def test_features_may_be_vectors():
    def layers():
        return [nn.Sequential(nn.Linear(5, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4), nn.ReLU())]

    x = torch.rand(6, 5)
    for encoder in (
        Branched(TASKS, layers, 1),
        CrossStitch(TASKS, layers, (4, 4)),
        MMoE(TASKS, layers, (4, 4), fork=1, experts=2),
        PLE(TASKS, layers, (4, 4), fork=1),
        TaskAdapters(TASKS, layers, (4, 4)),
    ):
        model = share(encoder, {task: nn.Linear(4, 1) for task in TASKS}, reads="x")
        assert all(y.shape == (6, 1) for y in model(x).values())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Branched(TASKS, stages, 6), "fork=6: expected 0 to 5"),
        (lambda: MMoE(TASKS, stages, WIDTHS, fork=0, experts=2), "fork=0: expected 1 to 4"),
        (lambda: PLE(TASKS, stages, WIDTHS, fork=5), "fork=5: expected 1 to 4"),
    ],
)
def test_a_fork_where_no_stage_is_left_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("method", ["EqualWeights", "NashMTL", "GradNorm", "DBMTL"])
def test_every_kind_of_method_trains_them(name, method):
    model = model_of(name)
    weighting = METHODS[method]()
    losses = {task: logits.square().mean() for task, logits in model(IMAGES).items()}
    if name == "alone" and method != "EqualWeights":
        return  # nothing is shared
    weighting.backward(losses, model)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert isinstance(model, SharedEncoderModel)


def test_adapters_share_every_layer_but_the_normalisation():
    encoder = TaskAdapters(TASKS, stages, WIDTHS)
    encoder.train()(IMAGES)
    (_, one), (_, other), *_ = encoder.ways.items()
    for a, b in zip(one.modules(), other.modules(), strict=True):
        if isinstance(a, nn.BatchNorm2d):
            assert a is not b and a.num_batches_tracked == 1
        elif not list(a.children()):
            assert a is b


@pytest.mark.parametrize("make", [CrossStitch, TaskAttention, TaskAdapters, lambda *a: PLE(*a, fork=1)])
def test_as_many_widths_as_stages(make):
    with pytest.raises(ValueError, match="4 widths for 5 stages"):
        make(TASKS, stages, WIDTHS[:-1])


def test_ple_needs_an_expert():
    with pytest.raises(ValueError, match="own=0, common=0: expected one expert at least"):
        PLE(TASKS, stages, WIDTHS, fork=1, own=0, common=0)
    encoder = PLE(TASKS, stages, WIDTHS, fork=2, own=0, common=2)
    shared = set(map(id, encoder.shared()))
    assert not any(id(p) in shared for level in encoder.levels for p in level.gates.parameters())


def test_open_gates_are_hard_sharing_and_closed_ones_two_networks():
    gated = LearnedSharing(TASKS, stages).eval()
    assert torch.equal(gated.gates(), torch.full((3, 5), 0.5))
    hard, alone = Branched(TASKS, stages, 5).eval(), Branched(TASKS, stages, 0).eval()
    hard.trunk.load_state_dict(gated.common.state_dict())
    for task in TASKS:
        alone.branches[task].load_state_dict(gated.own[task].state_dict())
    for way, network in ((1.0, hard), (-1.0, alone)):
        with torch.no_grad():
            for a in gated.a:
                a.fill_(100 * way)
            for task, h in network(IMAGES).items():
                torch.testing.assert_close(gated(IMAGES)[task], h)
    assert not any(a.requires_grad for a in LearnedSharing(TASKS, stages, held=True).a)
