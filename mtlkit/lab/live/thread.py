"""The one thread in which a lab trains."""

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch

from mtlkit.lab.live.collector import give_back, hold_back

_alive: "weakref.WeakSet[Trainer]" = weakref.WeakSet()


class FairLock:
    """A lock that goes to whoever waits for it: else the thread that trains takes it again before anybody wakes up."""

    def __init__(self) -> None:
        self._turn, self._lock = threading.Lock(), threading.RLock()
        self._owner = self._depth = 0

    def __enter__(self) -> None:
        if self._owner == threading.get_ident():  # it has it already
            self._lock.acquire()
        else:
            with self._turn:
                self._lock.acquire()
        self._owner, self._depth = threading.get_ident(), self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
        self._lock.release()


class Trainer:
    """Does `advance` again and again in a thread, from `start` to `pause`.

    A lock makes sure that two threads never train the same model.

    Attributes:
        lock: held during a step.
        error: what stopped the training, in words.
        wanted: whether the learner wants it to train.
        after_step: called by `advance` with the lock held: nothing begins anew before the views know of a step.
        after_error: called when an error has stopped the training.
        may_run: whether the thread may go on; asked before each step.
    """

    def __init__(self) -> None:
        self.lock, self.wake = FairLock(), threading.Event()
        self.error: str | None = None
        self.closed = self.wanted = False
        self.after_step: Callable[[Any], None] = lambda record: None
        self.after_error: Callable[[], None] = lambda: None
        self.may_run: Callable[[], bool] = lambda: True
        self._thread: threading.Thread | None = None
        _alive.add(self)
        weakref.finalize(self, self.wake.set)  # the thread then sees that there is nothing left to train
        weakref.finalize(self, give_back, id(self))

    def advance(self) -> Any:
        """Train for one step."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether the thread trains, or will as soon as it may."""
        return self.wake.is_set() and not self.closed

    def start(self) -> None:
        """Train in a thread until `pause`; there is never more than one.

        Raises:
            RuntimeError: if an error has stopped it, or it is closed.
        """
        if self.closed or self.error:
            raise RuntimeError(f"{self.error}; reset the lab" if self.error else "this lab is closed: make a new one")
        hold_back(id(self))
        self.wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=_loop, args=(weakref.ref(self), self.wake), name="mtlkit-lab", daemon=True
            )
            self._thread.start()

    def turn(self) -> None:
        """Do one step of the thread: whatever goes wrong becomes `error`, in words, and stops the training."""
        try:
            if not self.may_run():
                give_back(id(self))
                time.sleep(0.05)
                return
            with self.lock:
                if not self.running:
                    return
                hold_back(id(self))
                self.advance()
        except BaseException as error:  # also sys.exit in somebody's data set: the thread must not end unseen
            self._stop_with(error)

    def _stop_with(self, error: BaseException) -> None:
        self.error = self.error or f"{type(error).__name__}: {error}"
        self.wake.clear()
        give_back(id(self))
        try:
            self.after_error()
        except Exception as second:  # nobody is left to tell; `wait` and the heartbeat will
            self.error = f"{self.error}; and then {type(second).__name__}: {second}"

    def pause(self) -> None:
        """Stop after the present step."""
        self.wake.clear()
        with self.lock:  # wait for it
            give_back(id(self))

    def wait_for(self, done: Callable[[], int], steps: int, timeout: float) -> None:
        """Wait until so many steps are `done`.

        Raises:
            RuntimeError: if training stopped with an error, in its words.
            TimeoutError: if it takes longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while done() < steps:
            if self.error:
                raise RuntimeError(self.error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done()} of {steps} steps after {timeout:g} s; was the lab started?")
            time.sleep(0.01)

    def close(self) -> None:
        """End the thread."""
        self.closed = True
        self.wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)
        give_back(id(self))


def _loop(trainer: "weakref.ref[Trainer]", wake: threading.Event) -> None:
    """Train while the trainer lives and wants to. One torch thread, so that the browser has a core."""
    torch.set_num_threads(1)
    while True:
        wake.wait()
        one = trainer()
        if one is None or one.closed:
            return
        one.turn()
        del one


@atexit.register
def _close_all() -> None:
    for trainer in list(_alive):
        trainer.close()
