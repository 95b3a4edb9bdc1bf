"""Random Jacobians of every awkward kind: what the properties of the weighting methods are tested on."""

import torch

KINDS = ("plain", "spread", "rank-deficient", "parallel", "opposite", "zero row", "small", "large", "float32")


def jacobians(number=1000, seed=0):
    """Yield (kind, J [K, P]): K from 1 to 10, norms spread up to 1e4, overall scale 1e-6 to 1e6."""
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
        yield kind, J
