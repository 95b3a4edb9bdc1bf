import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from mtlkit.training.optim import MovingAverage, MuonAdamW, one_cycle


def small_net(memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 2, 1))
    return net.to(memory_format=memory_format)


def step(net, optimizer, times=3):
    generator = torch.Generator().manual_seed(1)
    for _ in range(times):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 9, 9, generator=generator)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def test_kernels_move_as_torchs_muon_moves_the_flattened_matrix():
    net = small_net()
    optimizer = MuonAdamW(net, muon_lr=0.1, muon_decay=0.2)
    kernel = net[2].weight
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    reference = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.2, ns_steps=3)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 9, 9)).square().mean().backward()
        matrix.grad = kernel.grad.flatten(1).clone()
        optimizer.step()
        reference.step()
        assert torch.equal(kernel.flatten(1), matrix)


def test_only_kernels_that_mix_features_belong_to_muon():
    net = small_net()
    optimizer = MuonAdamW(net)
    assert [id(k) for k in optimizer.kernels] == [id(net[2].weight)]
    handled = {id(p) for p in optimizer.adamw.param_groups[0]["params"]} | {id(k) for k in optimizer.kernels}
    assert handled == {id(p) for p in net.parameters()}


def test_the_memory_format_does_not_change_the_update():
    """Muon commutes with a reordering of columns, up to its own bfloat16."""
    plain = step(net := small_net(), MuonAdamW(net))
    last = step(net := small_net(torch.channels_last), MuonAdamW(net))
    for a, b in zip(plain, last, strict=True):
        assert torch.allclose(a, b, atol=5e-3)


def test_a_model_converted_after_the_optimizer_was_made_still_trains():
    early, late = small_net(torch.channels_last), small_net()
    first, second = MuonAdamW(early), MuonAdamW(late)
    late.to(memory_format=torch.channels_last)
    for a, b in zip(step(early, first), step(late, second), strict=True):
        assert torch.equal(a, b)


def test_a_state_saved_in_another_memory_format_is_read_right():
    whole = small_net(torch.channels_last)
    optimizer = MuonAdamW(whole)
    step(whole, optimizer)
    resumed = small_net(torch.channels_last)
    resumed.load_state_dict(whole.state_dict())
    other = MuonAdamW(resumed)
    state = deepcopy(optimizer.state_dict())
    for moments in state["adamw"]["state"].values():
        moments.update({name: moment.contiguous() for name, moment in moments.items()})
    other.load_state_dict(state)
    for a, b in zip(step(whole, optimizer), step(resumed, other), strict=True):
        assert torch.equal(a, b)


def test_one_cycle_rises_for_a_tenth_and_falls_to_zero():
    values = [one_cycle(k / 100) for k in range(101)]
    assert values[10] == pytest.approx(1) == max(values)
    assert values[:11] == sorted(values[:11]) and values[10:] == sorted(values[10:], reverse=True)
    assert values[0] > 0 and values[100] == pytest.approx(0)


@pytest.mark.parametrize("save", [False, True])
def test_momentum_survives_a_change_of_the_memory_format(save):
    """Also when it is loaded into a model that is converted afterwards, as `train` does."""

    def momentum(turn):
        net = small_net()
        optimizer = MuonAdamW(net)
        step(net, optimizer, 3)
        if save:
            state = deepcopy(optimizer.state_dict())
            optimizer = MuonAdamW(net)
            optimizer.load_state_dict(state)
        for memory_format in turn:
            net.to(memory_format=memory_format)
            step(net, optimizer, 1)
        (kept,) = optimizer.muon.state[optimizer.matrices[0]].values()
        kernel = net[2].weight
        if kernel.is_contiguous(memory_format=torch.channels_last):
            return kept.view(6, 3, 3, 8).permute(0, 3, 1, 2)
        return kept.view(kernel.shape)

    plain, last = torch.contiguous_format, torch.channels_last
    expected = momentum([plain] * 3)
    for turn in ([plain, plain, last], [last, plain, last], [last, last, plain]):
        assert (momentum(turn) - expected).norm() < 0.01 * expected.norm()


def test_models_without_kernels_and_with_nothing_else_are_optimised():
    for net, x in ((nn.Linear(3, 2), torch.randn(4, 3)), (nn.Conv2d(4, 2, 3, bias=False), torch.randn(4, 4, 5, 5))):
        before = [p.detach().clone() for p in net.parameters()]
        optimizer = MuonAdamW(net)
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert all(not torch.equal(p, old) and p.grad is None for p, old in zip(net.parameters(), before, strict=True))
        with pytest.raises(ValueError, match="belongs to another model"):
            optimizer.load_state_dict(MuonAdamW(small_net()).state_dict())
    frozen = small_net()
    frozen[2].requires_grad_(False)
    assert not MuonAdamW(frozen).kernels
    with pytest.raises(ValueError, match="no parameter of the model is trained"):
        MuonAdamW(frozen.requires_grad_(False))


def test_rates_and_decays_are_those_of_the_docstring():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, (1, 2)), torch.nn.Conv2d(5, 2, 1))
    optimizer = MuonAdamW(model)
    assert [kernel.shape for kernel in optimizer.kernels] == [(5, 4, 1, 2)]
    groups = [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
    assert groups == [(8e-3, 0.01, 5), (0.03, 0.3, 1)]
    chosen = MuonAdamW(model, muon_lr=0.1, adamw_lr=0.2, muon_decay=0.3, adamw_decay=0.4)
    assert [(g["initial_lr"], g["weight_decay"]) for g in chosen.param_groups] == [(0.2, 0.4), (0.1, 0.3)]


@pytest.mark.parametrize("warmup", [0.1, 0.25])
def test_one_cycle_is_a_line_and_half_a_cosine(warmup):
    for n in range(101):
        p = n / 100
        rise, fall = p / warmup, 0.5 + 0.5 * math.cos(math.pi * (p - warmup) / (1 - warmup))
        assert one_cycle(p, warmup) == pytest.approx(max(rise, 1e-3) if p < warmup else fall)
    assert one_cycle(0.05) == 0.5 and one_cycle(0) == 1e-3 and one_cycle(0.55) == pytest.approx(0.5)


def test_the_average_follows_parameters_and_buffers_and_starts_on_the_model():
    model = torch.nn.BatchNorm1d(2).double()
    average, slow = MovingAverage(model), MovingAverage(model, decay=0.9)
    assert average.decay == 0.99
    expected = {}
    for n in range(4):
        with torch.no_grad():
            for value in (model.weight, model.running_mean):
                value.copy_(torch.randn(2, dtype=torch.double))
            model.num_batches_tracked.fill_(n)
        for name in ("weight", "running_mean"):
            value = getattr(model, name).detach().clone()
            expected[name] = value if n == 0 else 0.9 * expected[name] + 0.1 * value
        average.update_parameters(model)
        slow.update_parameters(model)
        assert int(slow.module.num_batches_tracked) == n and int(slow.n_averaged) == n + 1
        assert all(torch.allclose(getattr(slow.module, name), value) for name, value in expected.items())
    again = MovingAverage(model, decay=0.5)
    again.load_state_dict(slow.state_dict())  # goes on, and does not start anew
    before = again.module.weight.clone()
    again.update_parameters(model)
    assert torch.allclose(again.module.weight, (before + model.weight) / 2)
