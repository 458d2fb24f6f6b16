"""Threads that help with a call, in a team (see `fastrnn.kernels.team`)."""

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .kernels import team

PATIENCE = 3000  # looks for who has been woken: some tens of microseconds
HOT = 1e-4  # seconds from a call to the next, in which a thread stays awake


def cpu_count() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def _move_from(cpu: int) -> None:
    """Have this thread go on elsewhere if it is on this CPU, that of a leader.

    A scheduler may leave a thread for milliseconds with the one that has woken it.
    """
    if cpu >= 0 and team.cpu() == cpu:
        allowed = os.sched_getaffinity(0)
        if len(allowed) > 1:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, allowed - {cpu})
                os.sched_setaffinity(0, allowed)


class Crew(NamedTuple):
    """Threads that a call pays for."""

    members: int  # if they are awake
    woken: int  # if they have to be woken


class Words:
    """Memory in which threads meet: words of zero."""

    def __init__(self, size: int) -> None:
        self._memory = np.zeros(size, np.int64)
        self.address: int = self._memory.ctypes.data

    def __getitem__(self, word: int) -> int:
        return int(self._memory[word * team.WORD])

    def __setitem__(self, word: int, value: int) -> None:
        self._memory[word * team.WORD] = value


def compile_waiting() -> None:
    """Compile what threads call when they begin."""
    words = Words(team.size(1))
    team.serve(words.address, True)
    team.cpu()


class Threads:
    """Threads that end with their owner.

    They need nothing but the GIL, to wake and to go to sleep, and no lock of Numba's, which who
    waits for them may hold.  A thread touches the arrays of a call only while its leader is in the
    kernel, so no call that is cut short leaves anything running.
    """

    def __init__(self, owner: Any, most: int) -> None:
        self.process = os.getpid()
        self._queue: SimpleQueue[Any] = SimpleQueue()
        # That it is put there when the owner dies ends the threads.  No signal comes in between.
        self._owner = weakref.ref(owner, self._queue.put)
        self._words = Words(team.size(most))
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # a signal's handler may call the layer
        self._words[team.PATIENCE] = PATIENCE
        self._called = 0  # for the last call
        self._end = 0.0  # of that
        _all.add(self)

    def lead(self, kernel: Callable[..., None], arguments: tuple[Any, ...], crew: Crew) -> None:
        """Call a kernel, and let threads help, as many as can be had.

        One call at a time has help.
        """
        words = self._words
        helpers, called = crew.members - 1, crew.woken - 1
        begin = perf_counter()
        if called:
            self._call(called)
        if called != self._called:  # should another leader see it, it waits for more or for fewer
            words[team.CALLED] = self._called = called
        kernel(*arguments, words.address, 1 + min(helpers, len(self._threads)))
        if not called and begin - self._end < HOT and words[team.AWAKE] < helpers:
            self._call(helpers)  # for the next call
        self._end = perf_counter()

    def _call(self, count: int) -> None:
        """Wake so many threads, or as many as can be had."""
        if len(self._threads) < count:
            self._start(count)
        # Who has been called and has not come yet need not be called again.
        for _ in range(min(count, len(self._threads)) - self._queue.qsize()):
            self._queue.put(team.cpu())

    def _start(self, count: int) -> None:
        """Have so many threads, or as many as can be had."""
        compile_waiting()
        with self._lock:
            while len(self._threads) < count:
                thread = threading.Thread(
                    target=_serve,
                    args=(self._queue, self._owner, self._words),
                    name="fastrnn",
                    daemon=True,
                )
                self._threads.append(thread)  # first, or an interrupt could leave it unknown
                try:
                    thread.start()
                except RuntimeError:  # "can't start new thread"
                    self._threads.remove(thread)
                    return

    def end(self) -> None:
        """Let the threads end, and wait for it."""
        self._queue.put(self._owner)
        for thread in self._threads:
            with contextlib.suppress(RuntimeError):  # an interrupt kept it from being started
                thread.join()


_all: weakref.WeakSet[Threads] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Compiled code must outlive its last call."""
    for threads in list(_all):
        if threads.process == os.getpid():
            threads.end()


def _serve(queue: SimpleQueue[Any], owner: weakref.ref[Any], words: Words) -> None:
    while True:
        called_from = queue.get()
        if called_from is owner:
            queue.put(owner)  # for the others
            return
        _move_from(called_from)
        if team.serve(words.address, False):
            _move_from(team.cpu())
            team.serve(words.address, True)
