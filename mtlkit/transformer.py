"""A small language model that learns several text tasks at once, and adapters for it."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlkit.data import Batch
from mtlkit.data.text import LENGTH, TASKS, VOCABULARY
from mtlkit.model import Blocks, SharedEncoderModel, evaluating
from mtlkit.precision import at_least_float32
from mtlkit.tasks import Task


class TransformerBlock(nn.Module):
    """Causal self-attention, then a layer of 4x the width, each after a normalisation and added to what came in.

    Vaswani et al., "Attention is all you need", NeurIPS 2017; normalised first as in Xiong et al., ICML 2020.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of `x [B, T, width]`; place t has seen the places up to t."""
        q, k, v = self.attend(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, width / heads)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.widen(self.norms[1](x))))


class LanguageModel(nn.Module):
    """Tokens `int64 [B, T]` → logits `[B, T, vocabulary]` of the token that follows each.

    Args:
        vocabulary: how many tokens there are.
        length: the longest text.
        width: numbers that stand for a token.
        layers: how many `TransformerBlock`s.
        heads: of attention.
    """

    def __init__(self, vocabulary: int, length: int, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        blocks = [TransformerBlock(width, heads) for _ in range(layers)]
        self.blocks, self.norm = Blocks(*blocks), nn.LayerNorm(width)
        for embedding in (self.embed, self.place):
            nn.init.normal_(embedding.weight, std=0.02)
        for block in blocks:  # what is added to the stream is small at first, the more so the deeper the model
            for last in (block.project, block.narrow):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits; their matrix is that of the embedding (Press, Wolf, EACL 2017)."""
        for module in self.blocks.modules():
            if isinstance(module, LowRank):
                module.task = tokens[:, 0]
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        return self.norm(self.blocks(x)) @ self.embed.weight.T


class LowRank(nn.Module):
    """W x + B_k A_k x: a frozen layer W and, for each task k, a product of two thin matrices that is trained.

    LoRA (Hu et al., ICLR 2022, arXiv:2106.09685), one a task. B starts at 0, so that nothing changes at first.

    Args:
        layer: W; it is frozen.
        tasks: how many tasks.
        rank: rows of A_k.

    Attributes:
        task: `int64 [B]`, the task of each sample of the batch under way.
    """

    def __init__(self, layer: nn.Linear, tasks: int, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(tasks, rank, layer.in_features) / math.sqrt(layer.in_features))
        self.B = nn.Parameter(torch.zeros(tasks, layer.out_features, rank))
        self.task = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, T, out]` for `x [B, T, in]`."""
        return self.layer(x) + x @ self.A[self.task].mT @ self.B[self.task].mT


def add_adapters(model: nn.Module, tasks: int, rank: int = 4) -> nn.Module:
    """Freeze `model` and put a `LowRank` in the place of every layer of its blocks; return the model."""
    model.requires_grad_(False)
    for block in [module for module in model.modules() if isinstance(module, TransformerBlock)]:
        for name in ("attend", "project", "widen", "narrow"):
            setattr(block, name, LowRank(getattr(block, name), tasks, rank))
    return model


def text_model(width: int = 64, layers: int = 2, heads: int = 4, seed: int = 0) -> SharedEncoderModel:
    """Return an untrained model of which all tasks share everything: their heads have no parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = LanguageModel(len(VOCABULARY), LENGTH - 1, width, layers, heads)
    return SharedEncoderModel(encoder, {task: nn.Identity() for task in (*TASKS, "all")}, reads="tokens")


def text_tasks(tasks: Sequence[str] = TASKS) -> tuple[Task, ...]:
    """Return the text tasks: each pays the cross-entropy of its own samples' targets, a mean over tokens."""
    return tuple(
        Task(
            task,
            lambda logits, batch, k=k: _mean_loss(logits, _own_target(batch, k)),  # type: ignore[misc]
            partial(TokenScores, task, k),
            task,
            labelled=partial(_is_task, number=k),
            units=lambda batch, k=k: (_own_target(batch, k) >= 0).sum(),  # type: ignore[misc]
        )
        for k, task in enumerate(TASKS)
        if task in tasks
    )


def mixed_task() -> Task:
    """Return what a language model is trained for: every target token of the batch counts the same.

    So a task weighs as much as it has tokens in the batch: the mixture of the data is the weighting of the losses.
    """
    return Task(
        "all",
        lambda logits, batch: _mean_loss(logits, batch["target"]),
        lambda: TokenScores("all"),
        "all",
        units=lambda batch: (batch["target"] >= 0).sum(),
    )


class TokenScores:
    """Accuracy and loss over a task's target tokens, or over all, each given the right ones before."""

    def __init__(self, name: str, number: int | None = None) -> None:
        self.name, self.number, self.right, self.loss, self.all = name, number, 0, 0.0, 0

    def update(self, output: Tensor, batch: Batch) -> None:
        """Add a batch."""
        target = batch["target"] if self.number is None else _own_target(batch, self.number)
        number = int((target >= 0).sum())
        self.right += int((output.argmax(-1) == target).sum())
        self.loss += float(_mean_loss(output, target)) * number
        self.all += number

    def compute(self) -> dict[str, float]:
        """Return accuracy and loss under the task's name and with "_loss" behind it; NaN if there was no target."""
        number = self.all or float("nan")
        return {self.name: self.right / number, f"{self.name}_loss": self.loss / number}


def _is_task(batch: Batch, number: int) -> Tensor:
    return batch["task"] == number


def _own_target(batch: Batch, number: int) -> Tensor:
    return torch.where(_is_task(batch, number)[:, None], batch["target"], -1)


def _mean_loss(logits: Tensor, target: Tensor) -> Tensor:
    total = functional.cross_entropy(
        at_least_float32(logits).flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / (target >= 0).sum().clamp(min=1)


def parameters_of(width: int, layers: int, length: int = LENGTH - 1, vocabulary: int = len(VOCABULARY)) -> int:
    """Return how many parameters a `LanguageModel` has, by counting on paper: about 12 width² a layer."""
    return layers * (12 * width**2 + 13 * width) + (vocabulary + length) * width + 2 * width


def flops_of(
    width: int, layers: int, batch_size: int, length: int = LENGTH - 1, vocabulary: int = len(VOCABULARY)
) -> int:
    """Return the floating-point operations of a training step, by counting on paper: forward, and twice that backward.

    A matrix `[a, b]` costs 2ab operations a token (one multiplication, one addition): 24 width² a layer, 2 width a
    word of the vocabulary; attention 4 width a pair of places (Kaplan et al., arXiv:2001.08361, table 1).
    """
    a_token = layers * (24 * width**2 + 4 * width * length) + 2 * width * vocabulary
    return 3 * a_token * length * batch_size


def write_on(model: nn.Module, prompt: Sequence[int], tokens: int, end: int | None = None) -> list[int]:
    """Return what the model writes after the tokens of `prompt`: always the most likely token, up to `end`."""
    text, device = list(prompt), next(model.parameters()).device
    with evaluating(model):
        while len(text) < len(prompt) + tokens and text[-1] != end:
            text.append(int(model(torch.tensor([text], device=device))["all"][0, -1].argmax()))
    return text[len(prompt) :]
