"""Parts of a call, spread over threads: whole again after a fork, an interrupt or a failure."""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue


class Part:
    """A part of a call, which runs in the thread that comes to it first."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._call: Callable[[], None] | None = call

    def run(self) -> None:
        """Run it, or wait for the thread that does."""
        with self._lock:
            if self._call is not None:
                self._call()
                self._call = None  # if it raises, the next thread to run it finds out why

    def withdraw(self) -> None:
        """See to it that it does not run, or wait for the thread that does."""
        with self._lock:
            self._call = None


class Threads:
    """Threads that run parts of calls; they end with their layer.

    Signals may interrupt anything here but the locks and the queue, which are not Python.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._queue: SimpleQueue[Part | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def hand_over(self, parts: Sequence[Part]) -> None:
        """Let a thread run each of these, if threads can be had."""
        with self._lock, contextlib.suppress(RuntimeError):  # "can't start new thread"
            while len(self._threads) < len(parts):
                thread = threading.Thread(
                    target=_serve, args=(self._queue,), name="fastrnn", daemon=True
                )
                thread.start()
                self._threads.append(thread)
        if self._threads:
            for part in parts:
                self._queue.put(part)

    def end(self) -> None:
        """Let the threads end, and wait for it: compiled code must outlive its last call."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


def _serve(queue: "SimpleQueue[Part | None]") -> None:
    for part in iter(queue.get, None):
        with contextlib.suppress(Exception):  # which the caller sees when it runs the part itself
            part.run()
