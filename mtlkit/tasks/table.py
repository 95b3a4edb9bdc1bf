"""Tasks whose answer is a number."""

from functools import partial

from mtlkit.losses import counting_loss, regression_loss
from mtlkit.tasks.metrics import MeanError
from mtlkit.tasks.task import Task


def regression(name: str, target: str) -> Task:
    """Return the task `name`: which number is it? Its targets are `batch[target]`, NaN where there is none."""
    return Task(
        name,
        partial(regression_loss, target=target),
        partial(MeanError, target),
        "mae",
        higher_is_better=False,
        labelled=lambda batch: batch[target].isfinite(),
    )


def counting(name: str, target: str) -> Task:
    """Return the task `name`: how many are there? Its targets are `batch[target]`, NaN where nobody has counted."""
    return Task(
        name,
        partial(counting_loss, target=target),
        partial(MeanError, target),
        "mae",
        higher_is_better=False,
        labelled=lambda batch: batch[target].isfinite(),
    )
