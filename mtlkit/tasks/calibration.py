"""Whether "80 % sure" means right in 80 % of the cases."""

import math

from torch import Tensor
from torch.nn.functional import cross_entropy


def calibration_error(sure: Tensor, right: Tensor, bins: int = 10) -> float:
    """Return the expected calibration error: how far, on average, probabilities are from observed frequencies.

    Args:
        sure: probabilities `[N]`: of class 1, or of the class that was said.
        right: whether that came true `[N]`.
        bins: equally wide ones.
    """
    which = (sure * bins).long().clamp(max=bins - 1)
    gaps = [
        (which == b).float().mean() * (sure[which == b].mean() - right[which == b].float().mean()).abs()
        for b in range(bins)
        if (which == b).any()
    ]
    return float(sum(gaps))


def temperature_of(logits: Tensor, truth: Tensor) -> float:
    """Return the number by which logits `[N, classes]` are divided so that their cross-entropy is least.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar  # slow to import

    found = minimize_scalar(
        lambda log_t: float(cross_entropy(logits / math.exp(log_t), truth)), bounds=(-3, 3), method="bounded"
    )
    return math.exp(found.x)
