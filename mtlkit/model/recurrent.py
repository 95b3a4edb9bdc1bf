"""Encoders that read a sequence one step after another, and a decoder that writes one."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class GRUEncoder(nn.Module):
    """Embedding and a GRU in both directions: `int64 [B, T]` → what each symbol means in its place, and their mean.

    Args:
        symbols: how many there are; 0 is padding: its states are 0, and the mean leaves them out.
        embedding: numbers that stand for a symbol.
        width: of the GRU, in each direction.
    """

    def __init__(self, symbols: int, embedding: int = 32, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.gru = nn.GRU(embedding, width, batch_first=True, bidirectional=True)
        self.channels = 2 * width

    def forward(self, symbols: Tensor, given: Tensor | None = None) -> dict[str, Tensor]:
        """Return "states" `[B, T, 2 * width]` and "mean" `[B, 2 * width]`.

        Args:
            symbols: what is read.
            given: passed on to a `Decoder`, that learns to write it.
        """
        there, most = (symbols > 0)[:, :, None], symbols.shape[1]
        places = torch.arange(1, most + 1, device=symbols.device)
        lengths = (there[:, :, 0] * places).amax(1).clamp(min=1).cpu()  # what fills up stands behind
        packed = pack_padded_sequence(self.embedding(symbols), lengths, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=most)
        states = read * there
        mean = states.sum(1) / there.sum(1).clamp(min=1)
        return {"states": states, "mean": mean} | ({} if given is None else {"given": given})


class Decoder(nn.Module):
    """A GRU that writes one symbol after another and looks back at the states of what was read.

    The attention is that of Luong, Pham and Manning (EMNLP 2015), "general". In training it is given the right symbols
    before each one; else it goes on from its own best ones, and never looks at what is given.

    Args:
        channels: of the encoder's states.
        symbols: that it can write.
        length: symbols that it writes.
        embedding: numbers that stand for a symbol.
        width: of the GRU.
    """

    def __init__(self, channels: int, symbols: int, length: int, embedding: int = 32, width: int = 128) -> None:
        super().__init__()
        self.length, self.start = length, symbols
        self.begin = nn.Linear(channels, width)
        self.embedding = nn.Embedding(symbols + 1, embedding)
        self.gru = nn.GRU(embedding, width, batch_first=True)
        self.query = nn.Linear(width, channels, bias=False)
        self.together = nn.Linear(width + channels, width)
        self.out = nn.Linear(width, symbols)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Return logits `[B, length, symbols]` for the features of a `GRUEncoder`."""
        hidden = self.begin(features["mean"]).tanh()[None]
        first = torch.full((len(features["mean"]), 1), self.start, device=hidden.device)
        if self.training:
            if "given" not in features:
                raise ValueError("a Decoder learns from the right symbols: give them to the encoder as `given`")
            before = torch.cat([first, features["given"][:, : self.length - 1].clamp(min=0)], 1)
            return self._write(self.gru(self.embedding(before), hidden)[0], features["states"])[0]
        logits, symbol = [], first
        for _ in range(self.length):
            state, hidden = self.gru(self.embedding(symbol), hidden)
            logits.append(self._write(state, features["states"])[0])
            symbol = logits[-1].argmax(-1)
        return torch.cat(logits, 1)

    def looks_at(self, features: dict[str, Tensor]) -> Tensor:
        """Return how much each symbol looks at each state `[B, length, T]`, given the right symbols before it."""
        before = torch.cat([torch.full_like(features["given"][:, :1], self.start), features["given"][:, :-1]], 1)
        hidden = self.begin(features["mean"]).tanh()[None]
        return self._write(self.gru(self.embedding(before.clamp(min=0)), hidden)[0], features["states"])[1]

    def _write(self, states: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        match = self.query(states) @ read.mT
        match = match.masked_fill(~read.ne(0).any(-1)[:, None], torch.finfo(match.dtype).min)
        attention = match.softmax(-1)
        return self.out(self.together(torch.cat([states, attention @ read], -1)).tanh()), attention


class RecurrentEncoder(nn.Module):
    """Layers of GRUs in both directions over frames: `[B, T, features]` → `[B, T / stride, 2 * width]`.

    Args:
        features: numbers in a frame.
        width: of each GRU, in each direction.
        layers: how many.
        stride: this many frames are joined into one first; an incomplete last group is cut off.
    """

    def __init__(self, features: int, width: int = 64, layers: int = 2, stride: int = 2) -> None:
        super().__init__()
        self.stride, self.channels = stride, 2 * width
        self.norm = nn.LayerNorm(features * stride)
        self.gru = nn.GRU(features * stride, width, layers, batch_first=True, bidirectional=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Return features `[B, T / stride, 2 * width]`."""
        batch, time, _ = frames.shape
        steps = time // self.stride
        if not steps:
            raise ValueError(f"{time} frames do not fill one step of {self.stride}: give longer sequences")
        together = frames[:, : steps * self.stride].reshape(batch, steps, -1)
        return torch.as_tensor(self.gru(self.norm(together))[0])


class AttentionPool(nn.Module):
    """A classifier for a whole sequence: a mean over its steps, weighted by how much each one matters, then a layer.

    Args:
        channels: of the features.
        classes: how many.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.matters = nn.Linear(channels, 1)
        self.out = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `[B, classes]` for features `[B, T, channels]`."""
        return torch.as_tensor(self.out((self.matters(features).softmax(1) * features).sum(1)))
