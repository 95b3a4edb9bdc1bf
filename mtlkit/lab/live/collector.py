"""Python's garbage collector, held back while a lab trains in sight."""

import gc
import threading

RARELY = 1000  # collections of middle-aged objects after which everything is gone through; by default 10

_before: list[tuple[int, int, int]] = []  # thresholds, while at least one lab has asked for patience
_patient: set[int] = set()
_lock = threading.Lock()


def hold_back(who: int) -> None:
    """Let only young objects be collected until `give_back`.

    A collection of everything that was imported stops the process for 0.2 s, again and again, and a slider waits.
    """
    with _lock:
        if not _patient:
            _before[:] = [gc.get_threshold()]
            gc.set_threshold(*_before[0][:2], RARELY)
        _patient.add(who)


def give_back(who: int) -> None:
    """Let the collector work as before, if nobody else needs patience."""
    with _lock:
        _patient.discard(who)
        if not _patient and _before:
            gc.set_threshold(*_before.pop())
