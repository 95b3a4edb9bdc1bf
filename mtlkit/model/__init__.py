"""Encoders, heads, and the model in which several heads share one encoder."""

from mtlkit.model.adapters import LowRank, add_adapters
from mtlkit.model.blocks import Blocks, Normalize, ResidualBlock
from mtlkit.model.shared import Pick, SharedEncoderModel, evaluating, read_input
from mtlkit.model.transformer import LanguageModel, TransformerBlock, flops_of, parameters_of, write_on
from mtlkit.model.vision import ClassificationHead, ConvEncoder, DetectionHead, Detections, ResNetEncoder

__all__ = [
    "Blocks",
    "ClassificationHead",
    "ConvEncoder",
    "DetectionHead",
    "Detections",
    "LanguageModel",
    "LowRank",
    "Normalize",
    "Pick",
    "ResNetEncoder",
    "ResidualBlock",
    "SharedEncoderModel",
    "TransformerBlock",
    "add_adapters",
    "evaluating",
    "flops_of",
    "parameters_of",
    "read_input",
    "write_on",
]
