"""How fast small things are: importing the kit, making scenes."""

import statistics
import subprocess
import sys
import time
from typing import Any

from mtlkit.data import DigitScenes
from mtlkit.machine import one_thread


def import_time(rounds: int = 7) -> dict[str, Any]:
    """Compare importing the kit with `import torch, torchvision`, each in new processes, in turn."""
    contestants = ("import torch, torchvision", "import mtlkit", "import mtlkit.cases")
    seconds: dict[str, list[float]] = {code: [] for code in contestants}
    for _ in range(rounds + 1):
        for code, values in seconds.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            values.append(time.perf_counter() - started)
    median = {code: statistics.median(values[1:]) for code, values in seconds.items()}
    base = median[contestants[0]]
    return {"seconds": median, "ratio": {code: value / base for code, value in median.items()}}


def scenes_per_second(rounds: int = 5, n: int = 2048) -> dict[str, Any]:
    """Measure how many scenes one core makes in a second."""
    rates = []
    with one_thread():
        DigitScenes("train", n)
        for _ in range(rounds):
            started = time.perf_counter()
            DigitScenes("train", n)
            rates.append(n / (time.perf_counter() - started))
    return {"scenes_per_second": statistics.median(rates), "of": n}
