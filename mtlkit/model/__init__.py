"""Encoders, heads, and the model in which several heads share one encoder."""

from mtlkit.model.adapters import LowRank, add_adapters
from mtlkit.model.blocks import Blocks, Normalize, ResidualBlock
from mtlkit.model.experts import PLE, MMoE
from mtlkit.model.recurrent import AttentionPool, Decoder, GRUEncoder, RecurrentEncoder
from mtlkit.model.senses import TwoSenses
from mtlkit.model.shared import Pick, SharedEncoderModel, evaluating, read_input
from mtlkit.model.sharing import Branched, CrossStitch, LearnedSharing, TaskAdapters, TaskAttention, share
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
    "LearnedSharing",
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
    "TwoSenses",
    "add_adapters",
    "conv_stages",
    "evaluating",
    "flops_of",
    "parameters_of",
    "read_input",
    "share",
    "write_on",
]
