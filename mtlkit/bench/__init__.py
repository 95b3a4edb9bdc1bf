"""Benchmarks: `mtlkit bench WHAT` measures contestants side by side in one run and prints one JSON object last."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("quality", "sharing", "photos", "import", "data", "weighting", "training", "live", "soak")


def run(what: str, seconds: float = 60.0, photos: Path | None = None, figures: Path | None = None) -> dict[str, Any]:
    """Run one of the benchmarks in `NAMES`.

    Args:
        what: its name.
        seconds: budget of each contestant in "quality" and "photos", length of "soak".
        photos: folder with real photographs, for "photos".
        figures: folder for the numbers and the picture of "training".
    """
    from mtlkit.bench import live, quality, speed, training, weighting

    benches: dict[str, Callable[[], dict[str, Any]]] = {
        "quality": lambda: quality.quality(seconds),
        "sharing": quality.sharing,
        "photos": lambda: quality.photographs(photos, seconds),
        "import": speed.import_time,
        "data": speed.scenes_per_second,
        "weighting": weighting.weighting,
        "training": lambda: training.training(figures),
        "live": live.live,
        "soak": lambda: live.soak(seconds),
    }
    return benches[what]()
