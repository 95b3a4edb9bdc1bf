"""What stops a whole process now and then, held back while a lab trains in sight: a slider must not wait for it."""

import gc
import sys
import threading

RARELY = 1000  # collections of middle-aged objects after which everything is gone through; by default 10
SOON = 0.0005  # s that a thread computes while another waits for its turn; a message passes several threads

_before: list[tuple[tuple[int, int, int], float]] = []  # what was set before the first lab asked for it
_patient: set[int] = set()
_lock = threading.Lock()


def hold_back(who: int) -> None:
    """Let only young objects be collected, and threads take turns sooner, until `give_back`.

    A collection of everything that was imported stops the process for 0.2 s, again and again.
    """
    with _lock:
        if not _patient:
            _before[:] = [(gc.get_threshold(), sys.getswitchinterval())]
            gc.set_threshold(*_before[0][0][:2], RARELY)
            sys.setswitchinterval(SOON)
        _patient.add(who)


def give_back(who: int) -> None:
    """Set all as it was before, if no other lab trains."""
    with _lock:
        _patient.discard(who)
        if not _patient and _before:
            thresholds, interval = _before.pop()
            gc.set_threshold(*thresholds)
            sys.setswitchinterval(interval)
