"""Loss weights that are searched while a network trains: bandits, and a policy that is rewarded.

All learn from rewards: by how much the losses of some validation scenes have fallen, in the mean over the tasks and in
shares of themselves, since the last look. A look is charged as a step.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mtlkit.cases import Setup
from mtlkit.data import Batch
from mtlkit.model import evaluating, read_input
from mtlkit.training import train
from mtlkit.weighting import StaticWeights

ARMS = (0.1, 0.2, 0.5, 1.0, 2.0)  # weights of the first task; the other one weighs 1
EVERY = 10  # steps between two looks


class Searcher(Protocol):
    """Chooses the weight of the first task, and hears how well that went."""

    def choose(self, losses: Tensor) -> float:
        """Return the weight for the next steps, given the losses `[K]` of validation samples."""

    def hear(self, reward: float) -> None:
        """Take note of a reward."""


class EpsilonGreedy:
    """The arm that was best so far; with probability ε any arm.

    R. Sutton, A. Barto, "Reinforcement Learning", 2nd edition, section 2.2; newer rewards count more (section 2.5).

    Args:
        arms: weights.
        seed: of the choice.
        epsilon: how often any arm is taken.
        rate: by which part the estimate moves towards a reward.
    """

    def __init__(self, arms: Sequence[float], seed: int, epsilon: float = 0.2, rate: float = 0.3) -> None:
        self.arms, self.epsilon, self.rate = list(arms), epsilon, rate
        self.random = torch.Generator().manual_seed(seed)
        self.values = torch.full((len(arms),), math.inf)  # each is tried once
        self.chosen = 0

    def choose(self, losses: Tensor) -> float:
        """Return the weight of an arm."""
        if torch.rand((), generator=self.random) < self.epsilon:
            self.chosen = int(torch.randint(len(self.arms), (), generator=self.random))
        else:
            self.chosen = int(self.values.argmax())
        return self.arms[self.chosen]

    def hear(self, reward: float) -> None:
        """Move the arm's value towards the reward."""
        old = float(self.values[self.chosen])
        self.values[self.chosen] = reward if old == math.inf else old + self.rate * (reward - old)


class Exp3:
    """Weights of the arms grow with e^(γ r / (p K)), and none is ever forgotten.

    P. Auer, N. Cesa-Bianchi, Y. Freund, R. Schapire, "The Nonstochastic Multiarmed Bandit Problem", SIAM J. Comput. 32,
    2002, figure 1. Rewards are brought to 0..1 by their place among those so far.

    Args:
        arms: weights.
        seed: of the choice.
        gamma: share of the choices that go to any arm.
    """

    def __init__(self, arms: Sequence[float], seed: int, gamma: float = 0.2) -> None:
        self.arms, self.gamma = list(arms), gamma
        self.random = torch.Generator().manual_seed(seed)
        self.w = torch.ones(len(arms), dtype=torch.float64)
        self.chosen, self.heard = 0, list[float]()

    @property
    def p(self) -> Tensor:
        """Probabilities of the arms `[K]`."""
        return (1 - self.gamma) * self.w / self.w.sum() + self.gamma / len(self.arms)

    def choose(self, losses: Tensor) -> float:
        """Return the weight of an arm."""
        self.chosen = int(torch.multinomial(self.p, 1, generator=self.random))
        return self.arms[self.chosen]

    def hear(self, reward: float) -> None:
        """Let the arm's weight grow."""
        self.heard.append(reward)
        place = sum(one <= reward for one in self.heard) / len(self.heard)
        self.w[self.chosen] *= math.exp(self.gamma * place / (float(self.p[self.chosen]) * len(self.arms)))
        self.w /= self.w.max()


class Policy:
    """A Gaussian over log-weights whose mean is linear in what the losses say, trained by REINFORCE.

    R. Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine
    Learning 8, 1992; the baseline is the running mean of the rewards.

    Args:
        seed: of the choice.
        rate: of learning.
        spread: of the Gaussian, in powers of e.
    """

    def __init__(self, seed: int, rate: float = 0.3, spread: float = 0.5) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.theta, self.rate, self.spread = torch.zeros(3, dtype=torch.float64), rate, spread
        self.first: Tensor | None = None
        self.scale, self.baseline = 1e-3, 0.0
        self.state, self.noise = torch.zeros(3, dtype=torch.float64), 0.0

    def choose(self, losses: Tensor) -> float:
        """Return a weight from 0.02 to 50."""
        if self.first is None:
            self.first = losses
        fallen = (losses / self.first).log().double()  # how far each has come
        self.state = torch.tensor([1.0, float(fallen[0]), float(fallen[1])], dtype=torch.float64)
        self.noise = self.spread * float(torch.randn((), generator=self.random))
        return float((self.theta @ self.state + self.noise).clamp(math.log(0.02), math.log(50)).exp())

    def hear(self, reward: float) -> None:
        """Move the mean towards what was better than usual, away from what was worse."""
        advantage = reward - self.baseline
        self.baseline += 0.1 * advantage
        self.scale += 0.1 * (abs(advantage) - self.scale)
        self.theta += self.rate * advantage / self.scale * self.noise * self.state  # ∝ advantage ∇ log π


def searched(setup: Setup, searcher: Searcher, looked_at: Batch, steps: int) -> Iterator[tuple[int, float, float]]:
    """Train with weights that a searcher chooses, and yield (steps charged, weight, reward) at every look.

    Args:
        setup: with static weights of two tasks.
        searcher: chooses.
        looked_at: the validation samples whose losses it hears of.
        steps: that may be charged: a look counts as one.
    """
    method: Any = setup.weighting
    if not isinstance(method, StaticWeights):
        raise ValueError(f"{type(method).__name__} sets its weights itself: make the setup with static weights")
    first = setup.tasks[0].name
    looks = steps // (EVERY + 1)
    before = losses_of(setup, looked_at)
    method.weights = {first: (weight := searcher.choose(before))}
    for record in train(*setup.parts, average=setup.average, steps=steps - looks, device="cpu"):
        if record.step % EVERY == 0:
            now = losses_of(setup, looked_at)
            reward = float((1 - now / before).mean())
            searcher.hear(reward)
            yield record.step + record.step // EVERY, weight, reward
            before, weight = now, searcher.choose(now)
            method.weights = {first: weight}


def losses_of(setup: Setup, batch: Mapping[str, Any]) -> Tensor:
    """Return the losses `[K]` of a batch, in the order of the tasks."""
    with evaluating(setup.model):
        outputs = setup.model(read_input(setup.model, batch))
        return torch.stack([task.loss(outputs[task.name], dict(batch)) for task in setup.tasks])
