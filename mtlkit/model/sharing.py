"""Between one network and one for each task: encoders that give every task features of its own.

A network is cut into *stages*, one after the other; `stages()` makes fresh ones at each call. Each class is one way to
share them, in the symbols of its paper. It returns task → features, for heads that `share` puts behind it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d
from torchvision.ops import Conv2dNormActivation

from mtlkit.model.blocks import NORMS, Blocks
from mtlkit.model.shared import Heads, Pick, SharedEncoderModel

Stages = Callable[[], Sequence[nn.Module]]


def share(encoder: Any, heads: Mapping[str, nn.Module], reads: str | Sequence[str] = "image") -> SharedEncoderModel:
    """Return a model of an encoder of this file: each head reads the features of its task.

    Args:
        encoder: gives task → features, and says with `shared()` which of its parameters several tasks train.
        heads: task → module from features to output.
        reads: what of a batch is the input.
    """
    picks = {task: Pick(task, head) for task, head in heads.items()}
    return SharedEncoderModel(encoder, picks, reads, shared=list(encoder.shared()))


class Branched(nn.Module):
    """h_i = branch_i(trunk(x)): the first stages are shared, and each task has the others for itself.

    With all of them shared this is hard sharing (Caruana 1997), with none of them one network a task.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        fork: how many of them are shared.

    Raises:
        ValueError: if there are not so many stages.
    """

    def __init__(self, tasks: Sequence[str], stages: Stages, fork: int) -> None:
        super().__init__()
        first = _checked(stages(), fork)
        self.trunk = Blocks(*first[:fork])
        self.branches = Heads({task: Blocks(*(stages() if k else first)[fork:]) for k, task in enumerate(tasks)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        h = self.trunk(x)
        return {task: branch(h) for task, branch in self.branches.items()}

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the trunk."""
        return self.trunk.parameters()


class CrossStitch(nn.Module):
    """x̃_i = Σ_j α_ij x_j after every stage of K networks, α for each channel (Misra et al., CVPR 2016).

    With α the identity these are K networks that know nothing of each other.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        widths: channels of each stage's output.
        alpha: α_ii at first; the other tasks share the rest.
    """

    def __init__(self, tasks: Sequence[str], stages: Stages, widths: Sequence[int], alpha: float = 0.9) -> None:
        super().__init__()
        self.networks = Heads({task: nn.ModuleList(_fitting(stages(), widths)) for task in tasks})
        rest = (1 - alpha) / max(1, len(tasks) - 1)
        first = rest + (alpha - rest) * torch.eye(len(tasks))
        self.alpha = nn.ParameterList(first[:, :, None].repeat(1, 1, channels) for channels in widths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        xs = [x] * len(self.networks)
        for stage, alpha in enumerate(self.alpha):
            made = [network[stage](x) for x, (_, network) in zip(xs, self.networks.items(), strict=True)]
            xs = list(torch.einsum("ijc,jbc...->ibc...", alpha, torch.stack(made)))
        return dict(zip(self.networks, xs, strict=True))

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield all parameters: through the units every task reaches every network."""
        return self.parameters()


class TaskAttention(nn.Module):
    """â_i^j = a_i^j ⊙ p^j, a_i^j = h(g([u^j; f(â_i^{j-1})])): one network, and masks for each task ("MTAN"; Liu, Johns,
    Davison, CVPR 2019, section 3). u^j is what the first module of stage j gives, p^j what the last one gives.

    With masks of 1 it is hard sharing.

    Args:
        tasks: their names.
        stages: makes the stages of a network; each is a sequence of modules that give maps `[B, C, H, W]`.
        widths: channels of each stage's output, those of its first module's included.
    """  # noqa: D205

    def __init__(self, tasks: Sequence[str], stages: Stages, widths: Sequence[int]) -> None:
        super().__init__()
        parts: Any = _fitting(stages(), widths)
        self.trunk: Any = nn.ModuleList(nn.ModuleList([Blocks(stage[0]), Blocks(*stage[1:])]) for stage in parts)
        self.f = nn.ModuleList(map(Conv2dNormActivation, widths[:-1], widths[1:]))
        before = [0, *widths[:-1]]
        self.masks: Any = Heads({task: nn.ModuleList(map(_Mask, before, widths)) for task in tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        attended: dict[str, Tensor | None] = dict.fromkeys(self.masks)
        for j, (first, rest) in enumerate(self.trunk):
            u = first(x)
            x = p = rest(u)
            if j:
                attended = {task: self.f[j - 1](a) for task, a in attended.items()}
            attended = {task: masks[j](u, attended[task], p) * p for task, masks in self.masks.items()}
        return attended  # type: ignore[return-value]

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the network and of f."""
        yield from self.trunk.parameters()
        yield from self.f.parameters()


class _Mask(nn.Module):
    """a = h(g([u; f(â)])) in 0..1, of the size of p; f(â) is given."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.g = Conv2dNormActivation((2 if before else 1) * channels, channels, 1)
        self.h = Conv2dNormActivation(channels, channels, 1, activation_layer=None)

    def forward(self, u: Tensor, attended: Tensor | None, p: Tensor) -> Tensor:
        """Return the mask `[B, C, H, W]`."""
        size = p.shape[-2:]
        seen = [adaptive_max_pool2d(u, size) if u.shape[-2:] != size else u]
        if attended is not None:
            seen.append(adaptive_max_pool2d(attended, size))
        return self.h(self.g(torch.cat(seen, 1))).sigmoid()


class MMoE(nn.Module):
    """f^k(x) = Σ_i g^k(x)_i f_i(x), g^k = softmax(W_gk x): experts, and a gate for each task (Ma et al., KDD 2018).

    The experts are copies of the stages behind the fork. The gates read x averaged over its places. With one expert it
    is hard sharing.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        widths: channels of each stage's output.
        fork: how many stages come before the experts; at least 1.
        experts: how many.

    Raises:
        ValueError: if no stage comes before the experts or behind the fork.
    """

    def __init__(self, tasks: Sequence[str], stages: Stages, widths: Sequence[int], fork: int, experts: int) -> None:
        super().__init__()
        first = _checked(stages(), fork, low=1, spare=1)
        self.trunk = Blocks(*first[:fork])
        self.experts = nn.ModuleList(Blocks(*(stages() if k else first)[fork:]) for k in range(experts))
        self.gates = Heads({task: nn.Linear(widths[fork - 1], experts, bias=False) for task in tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        h = self.trunk(x)
        made = torch.stack([expert(h) for expert in self.experts])
        return {task: _mixed(gate(_pooled(h)), made) for task, gate in self.gates.items()}

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of trunk and experts."""
        yield from self.trunk.parameters()
        yield from self.experts.parameters()


def _stage(stages: Stages, number: int) -> nn.Module:
    return stages()[number]


class PLE(nn.Module):
    """x^k ← g^k(x^k) [E_k(x^k); E_s(x^s)] at every level: experts of each task, and shared ones (Tang et al.,
    "Progressive layered extraction", RecSys 2020). x^s ← the same with a gate over all experts, but at the last level.

    Each stage behind the fork is a level; one level is the paper's "customized gate control". Without shared experts
    these are branches; with shared ones only, an MMoE in every stage.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        widths: channels of each stage's output.
        fork: how many stages come before the levels; at least 1.
        own: experts of each task.
        common: shared experts.

    Raises:
        ValueError: if no stage comes before the levels or behind the fork.
    """  # noqa: D205

    def __init__(
        self, tasks: Sequence[str], stages: Stages, widths: Sequence[int], fork: int, own: int = 1, common: int = 1
    ) -> None:
        super().__init__()
        self.trunk = Blocks(*_fitting(_checked(stages(), fork, low=1, spare=1), widths)[:fork])
        if own + common < 1:
            raise ValueError(f"own={own}, common={common}: expected one expert at least")
        self.own, levels = own, range(fork, len(widths))
        self.levels: Any = nn.ModuleList(
            _Level(tasks, partial(_stage, stages, j), widths[j - 1], own, common, j == levels[-1]) for j in levels
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        common: Tensor | None = self.trunk(x)
        inputs = dict.fromkeys(self.levels[0].gates, common)
        for level in self.levels:
            inputs, common = level(inputs, common)
        return inputs  # type: ignore[return-value]

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the trunk and of what a task's features reach through the shared experts."""
        yield from self.trunk.parameters()
        for k, level in enumerate(self.levels):
            yield from level.common.parameters()
            if not level.common or level.gate is None:
                continue
            yield from level.gate.parameters()
            yield from level.experts.parameters()
            if self.own and k + 2 < len(self.levels):
                yield from level.gates.parameters()


class _Level(nn.Module):
    def __init__(
        self,
        tasks: Sequence[str],
        stage: Callable[[], nn.Module],
        channels: int,
        own: int,
        common: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.experts: Any = Heads({task: nn.ModuleList(stage() for _ in range(own)) for task in tasks})
        self.common = nn.ModuleList(stage() for _ in range(common))
        self.gates = Heads({task: nn.Linear(channels, own + common, bias=False) for task in tasks})
        number = own * len(tasks) + common
        self.gate = None if last or not common else nn.Linear(channels, number, bias=False)

    def forward(self, inputs: Mapping[str, Tensor], x_s: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return task → x^k, and x^s."""
        of_all = [expert(x_s) for expert in self.common]
        of_task = {task: [expert(inputs[task]) for expert in experts] for task, experts in self.experts.items()}
        made = {
            task: _mixed(gate(_pooled(inputs[task])), torch.stack([*of_task[task], *of_all]))
            for task, gate in self.gates.items()
        }
        if self.gate is None:
            return made, x_s
        everything = torch.stack([*(one for own in of_task.values() for one in own), *of_all])
        return made, _mixed(self.gate(_pooled(x_s)), everything)


class TaskAdapters(nn.Module):
    """x + A_i x after every stage: one network, and a small matrix for each task (Rebuffi, Bilen, Vedaldi, "Learning
    multiple visual domains with residual adapters", NeurIPS 2017). Every task has a way of its own through the network.

    Behind the first adapter the tasks' features differ, so each task has batch normalisation of its own there, as in
    the paper. A is 0 at first, and then it is hard sharing.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        widths: channels of each stage's output.
    """  # noqa: D205

    def __init__(self, tasks: Sequence[str], stages: Stages, widths: Sequence[int]) -> None:
        super().__init__()
        self.first, *others = _fitting(stages(), widths)
        self.ways: Any = Heads({task: nn.ModuleList(map(_with_own_norms, others)) for task in tasks})
        self.A: Any = Heads({task: nn.ParameterList(torch.zeros(c, c) for c in widths) for task in tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        found = {}
        first = self.first(x)
        for task, matrices in self.A.items():
            h = _adapted(first, matrices[0])
            for stage, A in zip(self.ways[task], matrices[1:], strict=True):
                h = _adapted(stage(h), A)
            found[task] = h
        return found

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the network but for the tasks' own normalisation."""
        yield from self.first.parameters()
        for module in next(iter(self.ways.items()))[1].modules():
            if not isinstance(module, NORMS):
                yield from module.parameters(recurse=False)


def _with_own_norms(stage: nn.Module) -> nn.Module:
    """Return a copy with batch normalisation of its own; every other layer is the same one."""
    same = {id(m): m for m in stage.modules() if not isinstance(m, NORMS) and not list(m.children())}
    return copy.deepcopy(stage, same)


def _fitting(made: Sequence[nn.Module], widths: Sequence[int]) -> list[nn.Module]:
    if len(made) != len(widths):
        raise ValueError(f"{len(widths)} widths for {len(made)} stages: give the channels of each stage's output")
    return list(made)


def _adapted(x: Tensor, A: Tensor) -> Tensor:
    return x + torch.einsum("oc,bc...->bo...", A, x)


def _pooled(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def _mixed(logits: Tensor, made: Tensor) -> Tensor:
    """Return Σ_i softmax(logits)_i made_i, for logits `[B, I]` and `made [I, B, ...]`."""
    return torch.einsum("bi,ib...->b...", logits.softmax(1), made)


def _checked(made: Sequence[nn.Module], fork: int, low: int = 0, spare: int = 0) -> list[nn.Module]:
    if not low <= fork <= len(made) - spare:
        raise ValueError(f"fork={fork}: expected {low} to {len(made) - spare}, as there are {len(made)} stages")
    return list(made)
