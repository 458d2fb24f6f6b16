"""Memory of a process that calls every public function over and over.

    python -m tests.stress.memory [--calls 100000]

After a first round nothing may be kept: the second half of the calls must leave the process no
larger than the first half did, and none of Numba's allocations alive.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
import warnings
from pathlib import Path

from numba.core.runtime import _nrt_python, rtsys

import fastrnn
from fastrnn import notebooks, weights
from tests.stress.fuzz import Call, all_calls

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
NOISE = 64  # KiB that a process grows by now and then, whatever it runs
SLOW = fastrnn.warmup, weights.save, weights.load, weights.check_writable


def resident() -> int:
    """Bytes of this process that are in memory (on Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def numba_alive() -> int:
    """Allocations of Numba's run time that were not freed."""
    _nrt_python.memsys_enable_stats()
    stats = rtsys.get_allocation_stats()
    return int(stats.alloc - stats.free)


def repeat(call: Call, times: int) -> None:
    for _ in range(times):
        call.prepare()
        call.function(**call.arguments)


def growth(call: Call, times: int) -> tuple[int, int]:
    """KiB and Numba's allocations that the second half of so many calls adds."""
    repeat(call, times // 2)
    gc.collect()
    gc.freeze()  # collecting again takes no time then over Numba's many objects
    before, alive = resident(), numba_alive()
    repeat(call, times - times // 2)
    gc.collect()
    return (resident() - before) // 1024, numba_alive() - alive


def run(calls: int) -> list[str]:
    """What grows when each function is called so often; files a hundredth as often."""
    found = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", notebooks.NotebookErratumWarning)
        for call in all_calls(Path(folder)):
            times = max(calls // 100, 20) if call.function in SLOW else calls
            kib, alive = growth(call, times)
            if kib > NOISE or alive:
                name = f"{call.function.__module__}.{call.function.__qualname__}"
                found.append(f"{name}: {kib} KiB, {alive} allocations in {times // 2} calls")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    start, before = time.perf_counter(), resident()
    found = run(options.calls)
    print(*found, sep="\n")
    print(f"{options.calls} calls of each function in {time.perf_counter() - start:.0f} s: "
          f"{len(found)} grow; the process by {(resident() - before) // 1024} KiB")  # fmt: skip
    return len(found) > 0


if __name__ == "__main__":
    raise SystemExit(main())
