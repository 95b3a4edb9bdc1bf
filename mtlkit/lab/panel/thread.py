"""The user's own loop in a thread, for front ends that send nothing to a running cell."""

import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

_stopped: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


class LoopStopped(BaseException):
    """Ends a loop in a thread at its next step; no `except Exception` of that loop keeps it alive."""


def go_on_or_end() -> None:
    """Raise `LoopStopped` if the present thread was told to stop."""
    if threading.current_thread() in _stopped:
        raise LoopStopped("this loop was stopped")


class LoopThread:
    """Runs a loop.

    Args:
        function: the loop.
        ended: called afterwards, with the error that ended it, if one did.
    """

    def __init__(self, function: Callable[[], Any], ended: Callable[[BaseException | None], None]) -> None:
        self.error: BaseException | None = None

        def looped() -> None:
            try:
                function()
            except LoopStopped:
                pass
            except BaseException as error:
                self.error = error
                traceback.print_exception(error)
            ended(self.error)

        self._thread = threading.Thread(target=looped, name="mtlkit-panel", daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether the loop goes on."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Tell it to end at its next step, whichever panel that asks."""
        _stopped.add(self._thread)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end.

        Raises:
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            if self.runs:
                raise TimeoutError(f"the loop is still running after {timeout:g} s")
