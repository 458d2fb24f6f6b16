"""Threads that help with a call, in a team (see `fastrnn.kernels.team`)."""

import contextlib
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from .kernels import team

PATIENCE = 3000  # looks for helpers before a call begins: some tens of microseconds


def cpu_count() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


class Words:
    """Memory in which threads meet: words of zero."""

    def __init__(self, size: int) -> None:
        self._memory = np.zeros(size, np.int64)
        self.address: int = self._memory.ctypes.data

    def __getitem__(self, word: int) -> int:
        return int(self._memory[word * team.WORD])

    def __setitem__(self, word: int, value: int) -> None:
        self._memory[word * team.WORD] = value


class Threads:
    """Threads that end with their layer.

    Signals may interrupt anything here but the lock and the queue, which are not Python.  A
    thread touches the arrays of a call only while its leader is in the kernel, so no call that
    is cut short leaves anything running.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._bell = Words(1)
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # a signal's handler may call the layer

    def lead(self, kernel: Callable[..., None], arguments: tuple[Any, ...], members: int) -> None:
        """Call a kernel, and let threads help, as many as can be had."""
        with self._lock, contextlib.suppress(RuntimeError):  # "can't start new thread"
            while len(self._threads) < members - 1:
                thread = threading.Thread(
                    target=_serve, args=(self._queue, self._bell), name="fastrnn", daemon=True
                )
                thread.start()
                self._threads.append(thread)
        helpers = min(len(self._threads), members - 1)
        words = Words(team.size(1 + helpers))
        words[team.PLACES] = 1 + helpers
        words[team.PATIENCE] = PATIENCE
        words[team.BELL] = self._bell.address

        def help_out() -> None:
            kernel(*arguments, words.address, False)

        for _ in range(helpers):
            self._queue.put(help_out)
        kernel(*arguments, words.address, True)

    def end(self) -> None:
        """Let the threads end, and wait for it: compiled code must outlive its last call."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


def _serve(queue: "SimpleQueue[Callable[[], None] | None]", bell: Words) -> None:
    while True:
        heard = bell[0]
        try:
            help_out = queue.get_nowait()
        except Empty:
            team.linger(bell.address, heard)  # to sleep and be woken takes longer
            help_out = queue.get()
        if help_out is None:
            return
        with contextlib.suppress(Exception):  # the leader gets along without
            help_out()
        del help_out  # and the arrays that it holds
