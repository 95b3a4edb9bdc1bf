"""Looking inside a trained network: channels, attribution, similarity, conflict over the layers (notebook 13)."""

from mtlkit.insight.attribution import METHODS as ATTRIBUTIONS
from mtlkit.insight.attribution import attribution, randomised, rank_agreement, share_inside
from mtlkit.insight.channels import best_patches, channel_effects, losses_without, silenced
from mtlkit.insight.conflicts import conflict_by_layer
from mtlkit.insight.similarity import cka, features_of

__all__ = [
    "ATTRIBUTIONS",
    "attribution",
    "best_patches",
    "channel_effects",
    "cka",
    "conflict_by_layer",
    "features_of",
    "losses_without",
    "randomised",
    "rank_agreement",
    "share_inside",
    "silenced",
]
