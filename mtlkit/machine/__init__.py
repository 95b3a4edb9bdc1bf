"""What a training step runs on: devices, threads, precision, processes. Nothing here knows of tasks or models."""

from mtlkit.machine.devices import map_tensors, one_thread, pick_device, tensors_of, to_device
from mtlkit.machine.machine import THIS_MACHINE, Machine
from mtlkit.machine.parallel import ALONE, Group, ParallelError, is_sharded, joined
from mtlkit.machine.precision import LossScale, at_least_float32, pick_precision

__all__ = [
    "ALONE",
    "THIS_MACHINE",
    "Group",
    "LossScale",
    "Machine",
    "ParallelError",
    "at_least_float32",
    "is_sharded",
    "joined",
    "map_tensors",
    "one_thread",
    "pick_device",
    "pick_precision",
    "tensors_of",
    "to_device",
]
