"""Between one network and one for each task: encoders that give every task features of its own.

A network is cut into *stages*, one after the other; `stages()` makes fresh ones at each call. Each class is one way to
share them, in the symbols of its paper. It returns task → features, for heads that `share` puts behind it.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d
from torchvision.ops import Conv2dNormActivation

from mtlkit.model.blocks import NORMS, Blocks
from mtlkit.model.shared import Heads, Pick, SharedEncoderModel

Stages = Callable[[], Sequence[nn.Module]]


def share(encoder: Any, heads: Mapping[str, nn.Module], reads: str | Sequence[str] = "image") -> SharedEncoderModel:
    """Return a model of an encoder that gives every task features of its own: each head reads the features of its task.

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
        first = checked(stages(), fork)
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
        self.networks = Heads({task: nn.ModuleList(fitting(stages(), widths)) for task in tasks})
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
        parts: Any = fitting(stages(), widths)
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


class LearnedSharing(nn.Module):
    """x_i ← g_i S(x_i) + (1 - g_i) O_i(x_i) in every stage: gates choose between a common stage and one of their own.

    g = σ(s a) for each task and stage is learned with everything else: in a continuous form what X. Sun et al.,
    "AdaShare", NeurIPS 2020, and P. Guo, C.-Y. Lee, D. Ulbricht, "Learning to Branch", ICML 2020, choose one way or the
    other. With g = 1 it is hard sharing, with g = 0 one network a task.

    Args:
        tasks: their names.
        stages: makes the stages of a network.
        held: the gates stay at a half.
        sharpness: s in g = σ(s a); the larger, the faster gates open and close.
    """

    def __init__(self, tasks: Sequence[str], stages: Stages, held: bool = False, sharpness: float = 20.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.common = nn.ModuleList(stages())
        self.own: Any = Heads({task: nn.ModuleList(stages()) for task in tasks})
        self.a = nn.ParameterList(torch.zeros(len(self.common)) for _ in tasks).requires_grad_(not held)

    def gates(self) -> Tensor:
        """Return g `[K, stages]`: 1 is common, 0 is a task's own."""
        return (self.sharpness * torch.stack(list(self.a))).sigmoid()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return task → features."""
        found = {}
        for (task, own), a in zip(self.own.items(), self.a, strict=True):
            h, g = x, (self.sharpness * a).sigmoid()
            for stage, other, share in zip(self.common, own, g, strict=True):
                h = share * stage(h) + (1 - share) * other(h)
            found[task] = h
        return found

    def shared(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the common stages."""
        return self.common.parameters()


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
        self.first, *others = fitting(stages(), widths)
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


def fitting(made: Sequence[nn.Module], widths: Sequence[int]) -> list[nn.Module]:
    """Return the stages, if there are as many as widths."""
    if len(made) != len(widths):
        raise ValueError(f"{len(widths)} widths for {len(made)} stages: give the channels of each stage's output")
    return list(made)


def _adapted(x: Tensor, A: Tensor) -> Tensor:
    return x + torch.einsum("oc,bc...->bo...", A, x)


def checked(made: Sequence[nn.Module], fork: int, low: int = 0, spare: int = 0) -> list[nn.Module]:
    """Return the stages, if there is such a fork; `spare` of them must lie behind it."""
    if not low <= fork <= len(made) - spare:
        raise ValueError(f"fork={fork}: expected {low} to {len(made) - spare}, as there are {len(made)} stages")
    return list(made)
