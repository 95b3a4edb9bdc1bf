"""Methods that turn several losses into one update."""

from mtlkit.weighting.base import Parts, Update, Weighting
from mtlkit.weighting.checks import NotFiniteError, WeightingError, WeightingWarning
from mtlkit.weighting.directions import (
    IMTLG,
    MGDA,
    MGDAUB,
    AlignedMTL,
    CAGrad,
    ConFIG,
    FairGrad,
    NashMTL,
    SDMGrad,
    UPGrad,
)
from mtlkit.weighting.gradients import Conflict, GradientWeighting, conflict, jacobian
from mtlkit.weighting.histories import DBMTL, ExcessMTL
from mtlkit.weighting.learned import FAMO, IMTLL, GradNorm, Uncertainty
from mtlkit.weighting.losses import (
    DWA,
    UWSO,
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
        *(EqualWeights, StaticWeights, Uncertainty, UWSO, IMTLL, GeometricMean, DWA, RandomWeights),
        *(Tchebycheff, SmoothTchebycheff, FAMO, GradNorm, ExcessMTL),
        *(GradDrop, PCGrad, GradVac, MGDA, MGDAUB, CAGrad, SDMGrad, NashMTL, FairGrad, IMTLG, ConFIG, AlignedMTL),
        *(UPGrad, DBMTL),
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
