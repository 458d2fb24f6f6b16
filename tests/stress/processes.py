"""A layer's work in this process and then in others, which must have the same results.

    python -m tests.stress.processes fork|spawn|forkserver|loky|threading

Run by `test_processes`: a fork out of a process with threads is best had in one of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

import numpy as np

import fastrnn
from tests.cells import CELLS
from tests.compare import assert_same_bits
from tests.problems import normal

T, B, D, H = 6, 7, 5, 17
WORKERS = 3

layers: dict[str, Any] = {}


def work(name: str) -> dict[str, Any]:
    """Everything that a layer with threads returns; the layer is kept, also over a fork."""
    cell = CELLS[name]
    fastrnn.layer.THREAD_WORK = 1
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


def main(method: str) -> None:
    expected = {name: work(name) for name in CELLS}
    names = [*CELLS] * 4
    for name, found in zip(names, elsewhere(method, names), strict=True):
        assert_same_bits(found, expected[name])
    for name in CELLS:
        assert_same_bits(work(name), expected[name])
    print("the same everywhere")


if __name__ == "__main__":
    main(sys.argv[1])
