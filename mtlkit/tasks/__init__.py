"""What is learned: a task has a name, a loss, a metric, and which way is better."""

from mtlkit.tasks.calibration import calibration_error, temperature_of
from mtlkit.tasks.metrics import (
    Accuracy,
    AveragePrecision,
    BalancedAccuracy,
    MapOverlap,
    MeanError,
    delta_m,
    find_objects,
)
from mtlkit.tasks.sequences import SequenceErrors, WrittenRight, edit_distance, heard_in, hearing, writing
from mtlkit.tasks.table import counting, regression
from mtlkit.tasks.task import Metric, Task
from mtlkit.tasks.text import TokenScores, mixed_task, text_tasks
from mtlkit.tasks.vision import classification, classification_and_detection, segmentation

__all__ = [
    "Accuracy",
    "AveragePrecision",
    "BalancedAccuracy",
    "MapOverlap",
    "MeanError",
    "Metric",
    "SequenceErrors",
    "Task",
    "TokenScores",
    "WrittenRight",
    "calibration_error",
    "classification",
    "classification_and_detection",
    "counting",
    "delta_m",
    "edit_distance",
    "find_objects",
    "heard_in",
    "hearing",
    "mixed_task",
    "regression",
    "segmentation",
    "temperature_of",
    "text_tasks",
    "writing",
]
