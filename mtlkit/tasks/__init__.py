"""What is learned: a task has a name, a loss, a metric, and which way is better."""

from mtlkit.tasks.metrics import Accuracy, AveragePrecision, MeanError, delta_m, find_objects
from mtlkit.tasks.table import regression
from mtlkit.tasks.task import Metric, Task
from mtlkit.tasks.text import TokenScores, mixed_task, text_tasks
from mtlkit.tasks.vision import classification, classification_and_detection

__all__ = [
    "Accuracy",
    "AveragePrecision",
    "MeanError",
    "Metric",
    "Task",
    "TokenScores",
    "classification",
    "classification_and_detection",
    "delta_m",
    "find_objects",
    "mixed_task",
    "regression",
    "text_tasks",
]
