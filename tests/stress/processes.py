"""A layer's work in this process and then in others, which must have the same results.

    python -m tests.stress.processes fork|spawn|forkserver|loky|threading|during

`during` forks while other threads are in the middle of calls, or compile.

Run by `test_processes`: a fork out of a process with threads is best had in one of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core.compiler_lock import global_compiler_lock

import fastrnn
from tests.cells import CELLS
from tests.compare import assert_same_bits, copied
from tests.problems import normal
from tests.threads import in_every_call

T, B, D, H = 6, 7, 5, 17
WORKERS = 3

layers: dict[str, Any] = {}


def work(name: str) -> dict[str, Any]:
    """Everything that a layer with threads returns; the layer is kept, also over a fork."""
    cell = CELLS[name]
    in_every_call()
    problem = cell.problem(D, H, B, T)
    layer = layers.setdefault(name, cell.layer(problem.parameters, 3))
    workspace = layer.workspace(T, B)
    h, _ = layer.forward(np.ascontiguousarray(problem.x.T), None, workspace)
    gradients = layer.backward(normal((T, B, H)), None, workspace)
    return {"h": h.copy(), **gradients, **cell.run(fastrnn, problem)}


def elsewhere(method: str, names: list[str]) -> list[dict[str, Any]]:
    if method in ("loky", "threading"):
        from joblib import Parallel, delayed

        from tests.stress import processes  # what is in __main__ would be sent, layers included

        found: list[dict[str, Any]] = Parallel(WORKERS, backend=method)(
            delayed(processes.work)(name) for name in names
        )
        return found
    with multiprocessing.get_context(method).Pool(WORKERS) as pool:
        return pool.map_async(work, names).get(timeout=300)


class Halted:
    """A function that a thread is inside of; it goes on after a while."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.inside = threading.Event()

    def __call__(self, *arguments: Any) -> None:
        self.inside.set()
        time.sleep(0.3)
        self.function(*arguments)


def fork_during(call: Callable[[], Any], halted: Halted, check: Callable[[], None]) -> None:
    """Fork while another thread's call is inside of `halted`; check in both processes."""
    thread = threading.Thread(target=call)
    thread.start()
    assert halted.inside.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    thread.join()
    check()


def forks_during_calls(name: str) -> None:
    in_every_call()
    problem = CELLS[name].problem(D, H, B, T)
    layer = CELLS[name].layer(problem.parameters, 3)
    x, workspace = np.ascontiguousarray(problem.x.T), layer.workspace(T, B)
    pack, kernels = layer._pack, layer._kernels

    def run() -> dict[str, Any]:
        h, _ = layer.forward(x, None, workspace)
        results = {"h": h} | layer.backward(normal((T, B, H)), None, workspace)
        return copied(results)

    def check() -> None:
        layer._pack, layer._kernels = pack, kernels
        assert_same_bits(run(), expected)

    expected = run()
    layer._pack = halted = Halted(pack)
    fork_during(lambda: layer.update(problem.parameters), halted, check)
    halted = Halted(kernels.forward)
    layer._kernels = kernels._replace(forward=halted)
    fork_during(lambda: layer.forward(x, None, workspace), halted, check)
    layer.update(problem.parameters, copy=False)
    layer._pack = halted = Halted(pack)
    fork_during(lambda: layer.forward(x), halted, check)
    layer.update(problem.parameters, copy=False)
    alone = CELLS[name].layer(problem.parameters)
    alone.update(problem.parameters, copy=False)
    halted = Halted(kernels.short_forward)
    alone._kernels = kernels._replace(short_forward=halted)
    short = alone.workspace(1, 2)
    fork_during(lambda: alone.forward(x[:1, :2].copy(), None, short), halted, check)


def forks_during_compilation() -> None:
    def compile_slowly() -> None:
        with global_compiler_lock:
            halted()

    halted = Halted(lambda: None)
    fork_during(compile_slowly, halted, lambda: njit(lambda: 1)())


def main(method: str) -> None:
    if method == "during":
        forks_during_compilation()
        for name in CELLS:
            forks_during_calls(name)
        print("the same everywhere")
        return
    expected = {name: work(name) for name in CELLS}
    names = [*CELLS] * 4
    for name, found in zip(names, elsewhere(method, names), strict=True):
        assert_same_bits(found, expected[name])
    for name in CELLS:
        assert_same_bits(work(name), expected[name])
    print("the same everywhere")


if __name__ == "__main__":
    main(sys.argv[1])
