"""Least times of calls, taken in turns: whatever disturbs the machine disturbs all alike.

With several threads a turn begins when those of the one before are at rest: many libraries'
go on waiting busily for a while, on the core that the next one needs.

The clock is the wall's.  The processor's would leave other processes out, but on a virtual
machine it also stands still, later, for time that the host has taken: a least of many would
be made of just those calls.
"""

import contextlib
import gc
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .kernels.cpu import ROWS, VECTOR_BITS, WIDTH
from .kernels.peak import repeat_tile
from .packing import aligned

BATCH = 1e-3  # seconds that calls are timed in one piece, if one call is shorter
LEAST_ROUNDS = 3
TURN = 0.01  # seconds of a turn, in which the caches come to hold what the call needs
TOGETHER = 0.1  # of a turn of several threads
LOOK = 5e-3  # seconds between two looks whether all threads are at rest
LOOKS = 60


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[str]:
    """Keep the process on as many cores as it has threads, where the system can; say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield "not pinned to cores"
        return
    before = os.sched_getaffinity(0)
    cores = sorted(before)[-threads:]
    os.sched_setaffinity(0, cores)
    try:
        yield f"pinned to core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}"
    finally:
        os.sched_setaffinity(0, before)


def let_rest() -> None:
    """Wait until this process uses no processor time, but not without end."""
    for _ in range(LOOKS):
        before = time.process_time()
        time.sleep(LOOK)
        if time.process_time() - before < LOOK / 10:
            return


def timed(run: Callable[[], Any], calls: int, seconds: float) -> tuple[float, float]:
    """Least seconds of a call, measured so many in a piece, and the seconds of all pieces."""
    best = math.inf
    spent = 0.0
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        took = time.perf_counter() - start
        best = min(best, took / calls)
        spent += took
        if spent >= seconds:
            return best, spent


def least_times(
    runs: Mapping[str, Callable[[], Any]], seconds: float, threads: int
) -> dict[str, float]:
    """Least seconds of a call of each, taking turns until each has had its share."""
    together = threads > 1
    calls = {}
    spent = dict.fromkeys(runs, 0.0)
    best = dict.fromkeys(runs, math.inf)
    for name, run in runs.items():
        once = max(timed(run, 1, 0.0)[0], 1e-7)
        calls[name] = max(1, round(BATCH / once))
    share = seconds / len(runs)
    collecting = gc.isenabled()
    gc.disable()
    try:
        rounds = 0
        while waiting := [name for name in runs if rounds < LEAST_ROUNDS or spent[name] < share]:
            for name in waiting:
                run = runs[name]
                if together:
                    let_rest()
                    run()  # the caches are the last one's
                least, took = timed(run, calls[name], TOGETHER if together else TURN)
                best[name] = min(best[name], least)
                spent[name] += took
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return best


def peak_task(dtype: np.dtype[Any]) -> tuple[Callable[[], None], float]:
    """A run of the full tile on data in the first-level cache, and its operations."""
    columns = WIDTH * VECTOR_BITS // 8 // dtype.itemsize
    depth, repeats = 32, 100
    w, x, out = aligned(dtype, (depth, columns), (depth, ROWS), (ROWS, columns))
    w[...] = x[...] = 0.5
    return lambda: repeat_tile(w, x, out, repeats), 2.0 * w.size * ROWS * repeats
