"""Encoders, heads, and the model in which several heads share one encoder."""

from mtlkit.model.adapters import LowRank, add_adapters
from mtlkit.model.blocks import Blocks, Normalize, ResidualBlock
from mtlkit.model.recurrent import AttentionPool, Decoder, GRUEncoder, RecurrentEncoder
from mtlkit.model.shared import Pick, SharedEncoderModel, evaluating, read_input
from mtlkit.model.sharing import PLE, Branched, CrossStitch, MMoE, TaskAdapters, TaskAttention, share
from mtlkit.model.transformer import LanguageModel, TransformerBlock, flops_of, parameters_of, write_on
from mtlkit.model.vision import (
    ClassificationHead,
    ConvEncoder,
    CountHead,
    DetectionHead,
    Detections,
    MapHead,
    ResNetEncoder,
    conv_stages,
)

__all__ = [
    "PLE",
    "AttentionPool",
    "Blocks",
    "Branched",
    "ClassificationHead",
    "ConvEncoder",
    "CountHead",
    "CrossStitch",
    "Decoder",
    "DetectionHead",
    "Detections",
    "GRUEncoder",
    "LanguageModel",
    "LowRank",
    "MMoE",
    "MapHead",
    "Normalize",
    "Pick",
    "RecurrentEncoder",
    "ResNetEncoder",
    "ResidualBlock",
    "SharedEncoderModel",
    "TaskAdapters",
    "TaskAttention",
    "TransformerBlock",
    "add_adapters",
    "conv_stages",
    "evaluating",
    "flops_of",
    "parameters_of",
    "read_input",
    "share",
    "write_on",
]
