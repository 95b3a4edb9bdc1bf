"""How alike two representations of the same samples are."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtlkit.model import evaluating, read_input


def cka(x: Tensor, y: Tensor, unbiased: bool = True) -> float:
    """Return the linear centred kernel alignment of two representations: 1 if they are alike, 0 if unrelated.

    It does not change when either is rotated, permuted, scaled or moved; it does when directions are scaled unequally.
    S. Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019.

    Args:
        x: `[N, ...]`, all but the first axis are taken as one.
        y: `[N, ...]` of the same N samples; its width may be another one.
        unbiased: estimate it without the bias that unrelated representations with more numbers than samples seem alike
            (L. Song et al., JMLR 13, 2012, equation 5); the estimate may then lie a little below 0 or above 1.

    Raises:
        ValueError: if the numbers of samples differ, there are fewer than four, or one representation is constant.
    """
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(f"representations of {len(x)} and {len(y)} samples: expected the same samples, at least 4")
    grams = []
    for one in (x, y):
        flat = one.detach().double().flatten(1)
        flat = flat - flat.mean(0)
        grams.append(flat @ flat.T)
    alike = _unbiased if unbiased else _biased
    own = [float(alike(g, g)) for g in grams]
    if min(own) <= 0:
        raise ValueError("a representation is the same for all samples: its similarity to another is undefined")
    return float(alike(*grams)) / (own[0] * own[1]) ** 0.5


def _biased(k: Tensor, m: Tensor) -> Tensor:
    return (k * m).sum()


def _unbiased(k: Tensor, m: Tensor) -> Tensor:
    """Return the unbiased estimator of the Hilbert-Schmidt independence criterion, times N (N - 3)."""
    n = len(k)
    k, m = (one - one.diag().diag() for one in (k, m))
    ones = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (k * m).sum() + ones - 2 / (n - 2) * (k.sum(0) @ m.sum(0))


def features_of(model: nn.Module, batch: Mapping[str, Any], layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return layer → what it gives for a batch, without gradients.

    Args:
        model: whose forward pass is run.
        batch: what it reads.
        layers: name → a module of it.
    """
    found: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model):
            model(read_input(model, batch))
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[name] for name in layers}
