"""The training loop, what it needs, and what it tells."""

from mtlkit.machine import pick_device
from mtlkit.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from mtlkit.training.loop import TrainingError, train
from mtlkit.training.memory import measure_memory, predict_memory
from mtlkit.training.optim import MovingAverage, MuonAdamW, one_cycle
from mtlkit.training.records import Progress, Record
from mtlkit.training.scoring import evaluate, fetch

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "MovingAverage",
    "MuonAdamW",
    "Progress",
    "Record",
    "TrainingError",
    "evaluate",
    "fetch",
    "load_checkpoint",
    "measure_memory",
    "one_cycle",
    "pick_device",
    "predict_memory",
    "read_checkpoint",
    "save_checkpoint",
    "train",
]
