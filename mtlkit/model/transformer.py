"""A small language model, and what it costs on paper."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlkit.data.text import LENGTH, VOCABULARY
from mtlkit.model.blocks import Blocks
from mtlkit.model.shared import evaluating


class Linear(nn.Linear):
    """A linear layer that is told the task of each sample and does the same for all. An adapter may take its place."""

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Return `[B, T, out]` for `x [B, T, in]`; `task` is not looked at."""
        return super().forward(x)


class TransformerBlock(nn.Module):
    """Causal self-attention, then a layer of 4x the width, each after a normalisation and added to what came in.

    Vaswani et al., "Attention is all you need", NeurIPS 2017; normalised first as in Xiong et al., ICML 2020.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attend, self.project = Linear(width, 3 * width), Linear(width, width)
        self.widen, self.narrow = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Return features of the shape of `x [B, T, width]`; place t has seen the places up to t.

        Args:
            x: features.
            task: `int64 [B]`, number of each sample's task, for adapters.
        """
        q, k, v = self.attend(self.norms[0](x), task).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, width / heads)
        x = x + self.project(seen.transpose(1, 2).flatten(2), task)
        return x + self.narrow(functional.gelu(self.widen(self.norms[1](x), task)), task)


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
        """Return the logits; their matrix is that of the embedding (Press, Wolf, EACL 2017).

        The first token of a text says which task it is.
        """
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        return self.norm(self.blocks(x, tokens[:, 0])) @ self.embed.weight.T


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
