"""How many losses become one update."""

from mtlkit.weighting.base import Parts, Update, Weighting
from mtlkit.weighting.checks import NotFiniteError, WeightingError, WeightingWarning
from mtlkit.weighting.directions import IMTLG, MGDA, MGDAUB, AlignedMTL, CAGrad, ConFIG, FairGrad, NashMTL, UPGrad
from mtlkit.weighting.gradients import Conflict, GradientWeighting, conflict, jacobian
from mtlkit.weighting.learned import FAMO, IMTLL, GradNorm, Uncertainty
from mtlkit.weighting.losses import (
    DWA,
    EqualWeights,
    GeometricMean,
    RandomWeights,
    SmoothTchebycheff,
    StaticWeights,
    Tchebycheff,
)
from mtlkit.weighting.projections import GradDrop, GradVac, PCGrad

METHODS: dict[str, type[Weighting]] = {
    method.__name__: method
    for method in (
        *(EqualWeights, StaticWeights, Uncertainty, IMTLL, GeometricMean, DWA, RandomWeights),
        *(Tchebycheff, SmoothTchebycheff, FAMO, GradNorm),
        *(GradDrop, PCGrad, GradVac, MGDA, MGDAUB, CAGrad, NashMTL, FairGrad, IMTLG, ConFIG, AlignedMTL, UPGrad),
    )
}

__all__ = [
    "METHODS",
    "Conflict",
    "GradientWeighting",
    "NotFiniteError",
    "Parts",
    "Update",
    "Weighting",
    "WeightingError",
    "WeightingWarning",
    "conflict",
    "jacobian",
    *METHODS,
]
