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

PATIENCE = 3000  # looks for threads that have been woken: some tens of microseconds
HOT = 1e-4  # seconds from a call to the next, in which a thread stays awake
AGAIN = 1e-3  # seconds until threads that have fallen asleep between such calls are called again
CROWDED = 1e-2  # seconds without help after calls that there were not CPUs enough for


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
    """How many threads a call is worth."""

    members: int  # if they are awake
    woken: int  # if they have to be woken

    @property
    def alone(self) -> tuple[int, ...]:
        """What a kernel takes last of a caller that nobody helps; `Threads.lead` adds a team."""
        return (team.ALONE, 1) if self.members == 1 else ()


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
    team.serve(words.address, 0, False)
    team.cpu()


class Helpers:
    """Threads that help a leader, one call at a time.

    To wake and to sleep they need only the GIL, never Numba's lock, which the thread that waits for
    them may hold.  A thread touches the arrays of a call only while its leader is in the
    kernel, so no call that is cut short leaves anything running.  They end when this does.
    """

    def __init__(self, places: int) -> None:
        self.process = os.getpid()
        self._queue: SimpleQueue[Any] = SimpleQueue()
        # Put there when this dies, which ends the threads.  It is C code: no signal's handler
        # comes in between.
        self._end = weakref.ref(self, self._queue.put)
        self._words = Words(team.size(places))
        self._words[team.PATIENCE] = PATIENCE
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()  # a signal's handler may call a layer
        self._last_end = self._last_call = 0.0
        _all.add(self)

    def lead(
        self, kernel: Callable[..., None], arguments: tuple[Any, ...], members: int, woken: int
    ) -> None:
        """Call a kernel, and let threads help.

        members, woken : with the leader, if they are awake, and if they have to be woken.
        """
        words = self._words
        begin = perf_counter()
        if woken > 1:
            self._call(woken - 1)
            words[team.CALLED] = woken - 1
        kernel(*arguments, words.address, min(members, 1 + len(self._threads)))
        if (
            members > 1
            and woken == 1
            and begin - self._last_end < HOT
            and begin - self._last_call > AGAIN
            and words[team.AWAKE] < members - 1
        ):
            self._call(members - 1)  # for the next call
            self._last_call = begin
        self._last_end = perf_counter()

    def _call(self, count: int) -> None:
        """Wake so many threads, or as many as can be had."""
        if len(self._threads) < count:
            self._start(count)
        # A thread that has been called and has not come yet need not be called again.
        for _ in range(min(count, len(self._threads)) - self._queue.qsize()):
            self._queue.put(team.cpu())

    def _start(self, count: int) -> None:
        """Have so many threads, or as many as can be had."""
        if _all_end:
            return
        compile_waiting()
        with self._lock:
            while len(self._threads) < count:
                thread = threading.Thread(
                    target=_serve,
                    args=(self._queue, self._end, self._words),
                    name="fastrnn",
                    daemon=True,
                )
                self._threads.append(thread)  # first, or an interrupt could leave it unknown
                try:
                    thread.start()
                except BaseException as error:
                    if thread.ident is None:
                        self._threads.remove(thread)
                    if not isinstance(error, RuntimeError):  # "can't start new thread"
                        raise
                    return

    def end(self) -> None:
        """Let the threads end, and wait for it."""
        # Taken away, so that a thread that still calls a layer does not keep them awake.
        ending, self._threads = self._threads, []
        self._queue.put(self._end)
        for thread in ending:
            with contextlib.suppress(RuntimeError):  # an interrupt kept it from being started
                thread.join()


class Threads:
    """The threads that help with the calls of all layers of a process.

    Layers that are called in turn have the same helpers, which are awake then; calls at the same
    moment have some each, as far as there are CPUs for all.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._cpus = cpu_count()
        self._idle: list[Helpers] = []  # last the one that has just helped
        self._at_work: dict[Helpers, int] = {}  # threads of each call
        self._crowded = 0.0  # when there were last more of them than CPUs

    def lead(self, kernel: Callable[..., None], arguments: tuple[Any, ...], crew: Crew) -> None:
        """Call a kernel, and let threads help, as many as can be had."""
        begin = perf_counter()
        free = self._cpus - sum(self._at_work.values())
        if free < min(crew.members, self._cpus):
            self._crowded = begin
        members = 1 if begin - self._crowded < CROWDED else min(crew.members, free)
        try:
            helpers = self._idle.pop()
        except IndexError:
            helpers = Helpers(self._cpus)
        try:
            self._at_work[helpers] = members
            helpers.lead(kernel, arguments, members, min(crew.woken, members))
        finally:
            self._at_work.pop(helpers, None)
            self._idle.append(helpers)


def shared_threads() -> Threads:
    """Those of this process; they end when nobody keeps them any more."""
    global _shared
    threads = None if _shared is None else _shared()
    if threads is None or threads.process != os.getpid():  # a fork has none of its parent's
        threads = Threads()
        _shared = weakref.ref(threads)
    return threads


_shared: weakref.ref[Threads] | None = None
_all: weakref.WeakSet[Helpers] = weakref.WeakSet()
_all_end = False


@atexit.register
def _end_all() -> None:
    """Compiled code must outlive its last call."""
    global _all_end
    _all_end = True
    for helpers in list(_all):
        if helpers.process == os.getpid():
            helpers.end()


def _serve(queue: SimpleQueue[Any], end: weakref.ref[Any], words: Words) -> None:
    while True:
        called_from = queue.get()
        if called_from is end:
            queue.put(end)  # for the others
            return
        _move_from(called_from)
        if team.serve(words.address, team.LINGER, False):
            _move_from(team.cpu())
            team.serve(words.address, team.LINGER, False)
