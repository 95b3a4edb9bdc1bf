"""Benchmarks: `mtlkit bench WHAT` measures contestants side by side in one run and prints one JSON object last."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlkit.cases import Case

NAMES = ("quality", "sharing", "photos", "import", "data", "weighting", "training", "live", "panel", "soak")


def run(
    what: str,
    seconds: float = 60.0,
    photos: Path | None = None,
    figures: Path | None = None,
    case: "str | Case" = "scenes",
    device: str = "cpu",
) -> dict[str, Any]:
    """Run one of the benchmarks in `NAMES`.

    Args:
        what: its name.
        seconds: budget of each contestant in "quality" and "photos", length of "soak".
        photos: folder with real photographs, for "photos".
        figures: folder for the numbers and the picture of "training".
        case: what "quality", "sharing", "training", "live" and "soak" train.
        device: where "weighting" and "training" compute.
    """
    from mtlkit.bench import live, panel, quality, speed, training, weighting
    from mtlkit.cases import find_case

    benches: dict[str, Callable[[], dict[str, Any]]] = {
        "quality": lambda: quality.quality(find_case(case), seconds),
        "sharing": lambda: quality.sharing(find_case(case)),
        "photos": lambda: quality.photographs(photos, seconds),
        "import": speed.import_time,
        "data": speed.scenes_per_second,
        "weighting": lambda: weighting.weighting(device),
        "training": lambda: training.training(find_case(case), figures, device),
        "live": lambda: live.live(find_case(case)),
        "panel": panel.panel,
        "soak": lambda: live.soak(find_case(case), seconds),
    }
    return benches[what]()
