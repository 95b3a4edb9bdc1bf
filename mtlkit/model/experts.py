"""Sharing by experts: several copies of a part of the network, and gates that mix them for each task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.model.blocks import Blocks
from mtlkit.model.shared import Heads
from mtlkit.model.sharing import Stages, checked, fitting


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
        first = checked(stages(), fork, low=1, spare=1)
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
        self.trunk = Blocks(*fitting(checked(stages(), fork, low=1, spare=1), widths)[:fork])
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


def _pooled(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def _mixed(logits: Tensor, made: Tensor) -> Tensor:
    """Return Σ_i softmax(logits)_i made_i, for logits `[B, I]` and `made [I, B, ...]`."""
    return torch.einsum("bi,ib...->b...", logits.softmax(1), made)
