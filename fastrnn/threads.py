"""Threads that help with a call, in a team (see `fastrnn.kernels.team`)."""

import atexit
import contextlib
import os
import threading
import weakref
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


def _move_from(cpu: int) -> None:
    """Have this thread go on elsewhere if it is on this CPU.

    A scheduler may leave a thread for milliseconds with the one that has woken it.
    """
    if cpu >= 0 and team.cpu() == cpu:
        allowed = os.sched_getaffinity(0)
        if len(allowed) > 1:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, allowed - {cpu})
                os.sched_setaffinity(0, allowed)


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
    """Compile what threads call before they help."""
    words = Words(team.size(1))
    words[team.BEGUN] = 1
    team.begun(words.address)
    team.linger(words.address, -1)
    team.cpu()


class Threads:
    """Threads that end with their owner.

    They need nothing but the GIL: what they call is compiled before, so that who waits for them
    may hold Numba's lock.  A thread touches the arrays of a call only while its leader is in the
    kernel, so no call that is cut short leaves anything running.
    """

    def __init__(self, owner: Any) -> None:
        self.process = os.getpid()
        self._queue: SimpleQueue[Any] = SimpleQueue()
        # That it is put there when the owner dies ends the threads.  No signal comes in between.
        self._owner = weakref.ref(owner, self._queue.put)
        self._bell = Words(1)
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # a signal's handler may call the layer
        _all.add(self)

    def lead(self, kernel: Callable[..., None], arguments: tuple[Any, ...], members: int) -> None:
        """Call a kernel, and let threads help, as many as can be had."""
        if len(self._threads) < members - 1:
            self._start(members - 1)
        # What still waits in the queue keeps as many from coming.
        helpers = min(members - 1, max(0, len(self._threads) - self._queue.qsize()))
        words = Words(team.size(1 + helpers))
        words[team.PLACES] = 1 + helpers
        words[team.PATIENCE] = PATIENCE
        words[team.BELL] = self._bell.address
        task = [arguments]
        cpu = team.cpu()

        def help_out() -> None:
            _move_from(cpu)
            for arguments in task:
                # The leader begins in compiled code: then the kernel is compiled.
                if team.begun(words.address):
                    kernel(*arguments, words.address, False)

        try:
            for _ in range(helpers):
                self._queue.put(help_out)
            kernel(*arguments, words.address, True)
        finally:
            task.clear()  # whoever has not come does not keep the arrays

    def _start(self, count: int) -> None:
        """Have so many threads, or as many as can be had."""
        compile_waiting()
        with self._lock:
            while len(self._threads) < count:
                thread = threading.Thread(
                    target=_serve,
                    args=(self._queue, self._owner, self._bell),
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


def _serve(queue: SimpleQueue[Any], owner: weakref.ref[Any], bell: Words) -> None:
    while True:
        heard = bell[0]
        try:
            help_out = queue.get_nowait()
        except Empty:
            team.linger(bell.address, heard)  # to sleep and be woken takes longer
            help_out = queue.get()
        if help_out is owner:
            queue.put(owner)  # for the others
            return
        with contextlib.suppress(Exception):  # the leader gets along without
            help_out()
        del help_out
