"""Random Jacobians of every awkward kind: what the properties of the weighting methods are tested on."""

import math

import torch

KINDS = (
    *("plain", "spread", "rank-deficient", "parallel", "opposite", "zero row", "small", "large", "float32"),
    *("far apart", "many", "one coordinate", "duplicated", "bfloat16"),
)
ANGLES = [10.0**-k for k in range(9)] + [math.pi / 2] + [math.pi - 10.0**-k for k in range(9)]


def jacobians(number=1400, seed=0):
    """Yield (kind, J [K, P]): K from 1 to 20, norms spread up to 1e12, overall scale 1e-6 to 1e6."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.double)

    def spread(K, decades):
        return 10 ** (decades * torch.rand(K, 1, generator=generator, dtype=torch.double))

    for n in range(number):
        kind, K = KINDS[n % len(KINDS)], 1 + (n // len(KINDS)) % 10
        P = K + int(torch.randint(0, 30, (), generator=generator))
        J = normal(K, P)
        if kind == "spread":
            J = J * spread(K, 4)
        elif kind == "rank-deficient":
            rank = max(1, K - 2)
            J = normal(K, rank) @ normal(rank, P) * spread(K, 1)
        elif kind == "parallel":
            J = normal(1, P) + 1e-3 * normal(K, P)
        elif kind == "opposite":
            J[-1] = -J[0] * (1 if n % 2 else 3)
        elif kind == "zero row":
            J[n % K] = 0
        elif kind == "small":
            J = 1e-6 * J * spread(K, 2)
        elif kind == "large":
            J = 1e6 * J * spread(K, 2)
        elif kind == "float32":
            J = (10 ** float(12 * torch.rand((), generator=generator) - 6) * J * spread(K, 2)).float()
        elif kind == "far apart":
            J = 1e-6 * J * spread(K, 12)
        elif kind == "many":
            J = normal(10 + K, 10 + K + P)
        elif kind == "one coordinate":
            J = J[:, :1] * spread(K, 2)
        elif kind == "duplicated":
            J[-1] = J[0] * (1 if n % 2 else 2)
        elif kind == "bfloat16":
            J = (J * spread(K, 2)).bfloat16()
        yield kind, J


def pairs(per_angle=21, seed=0):
    """Yield (angle, J [2, P]): two gradients at each of `ANGLES`, with lengths up to 1e6 apart."""
    generator = torch.Generator().manual_seed(seed)
    for angle in ANGLES:
        for n in range(per_angle):
            P = 2 + 7 * (n % 3)
            a, b = torch.linalg.qr(torch.randn(P, 2, generator=generator, dtype=torch.double)).Q.T
            other = math.cos(angle) * a + math.sin(angle) * b
            if angle > 3:  # π - ε is known to 1e-16 only, so the sine of a small ε would be lost
                other = -math.cos(math.pi - angle) * a + math.sin(round(math.pi - angle, 12)) * b
            ratio = 10 ** (12 * float(torch.rand((), generator=generator)) - 6) if n % 2 else 1.0
            yield angle, torch.stack([a, ratio * other])


def cones(number=400, seed=0):
    """Yield (angle, J [3, P]): three gradients within a narrow cone of 1e-8 to 1e-1 rad, with different lengths."""
    generator = torch.Generator().manual_seed(seed)
    for n in range(number):
        angle = 10.0 ** -(1 + n % 8)
        axis = torch.zeros(6, dtype=torch.double)
        axis[0] = 1.0
        around = torch.randn(3, 6, generator=generator, dtype=torch.double) * angle
        yield angle, (axis + around) * 10 ** (4 * torch.rand(3, 1, generator=generator, dtype=torch.double))
