"""The layer objects over time-major arrays, beside NumPy and the peers."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastrnn
from fastrnn import peers, reference

from .common import BASELINES, CELLS, DTYPES, PEERS, Timed, checked, filled, peer, sizes_of

SIZES = [
    "3,5,10,4",
    "1,24,1,1000",
    "64,64,1,100",
    "128,128,32,50",
    "512,512,16,25",
]


class Layer(Timed):
    params = (CELLS, DTYPES, SIZES, BASELINES + PEERS)
    param_names = ("cell", "dtype", "D,H,B,T", "implementation")
    task = ""

    def make(self, cell: str, dtype: str, sizes: str, implementation: str) -> Callable[[], Any]:
        problem = peers.random_problem(cell, *sizes_of(sizes), dtype)
        exact = getattr(peers.Reference(1), self.task)(problem.astype(np.float64))
        task = getattr(peer(implementation), self.task)
        return checked(problem, lambda: task(problem), exact)


class Forward(Layer):
    """Inference: weights packed beforehand."""

    task = "forward"

    def time_forward(self, *_: Any) -> None:
        self.run()


class Training(Layer):
    """Forward and backward from new weights: packing included."""

    task = "training"

    def time_training(self, *_: Any) -> None:
        self.run()


class Step(Timed):
    """One step in place, as in a loop in real time; NumPy's has a head of one class."""

    params = (CELLS, DTYPES, ["1,24,1", "64,64,1", "128,128,16", "512,512,1"], BASELINES)
    param_names = ("cell", "dtype", "D,H,B", "implementation")

    def make(self, cell: str, dtype: str, sizes: str, implementation: str) -> Callable[[], Any]:
        problem = peers.random_problem(cell, *sizes_of(sizes), 1, dtype)
        first = problem.first_states()
        x_t, columns = problem.x[0], [state.T.copy() for state in first]
        step = getattr(reference, f"{cell}_cell_forward")
        rows = x_t.T.copy()
        expected = step(rows, *columns, problem.parameters)[0].T

        layer = getattr(fastrnn, cell.upper())(problem.parameters, training=False)
        state = layer.zero_state(len(x_t))
        (state if cell == "rnn" else state[0])[...] = first[0]
        result = {"h": layer.step(x_t, state)}
        if errors := peers.differences(problem, result, {"h": expected}):
            raise RuntimeError("; ".join(errors))
        if implementation == "fastrnn":
            return lambda: layer.step(x_t, state)
        return lambda: step(rows, *columns, problem.parameters)

    def time_step(self, *_: Any) -> None:
        self.run()


class Update(Timed):
    """Packing new weights, for forward and backward."""

    params = (CELLS, DTYPES, ["5,3", "64,64", "512,512", "1024,1024"])
    param_names = ("cell", "dtype", "D,H")

    def make(self, cell: str, dtype: str, sizes: str) -> Callable[[], Any]:
        parameters = peers.random_problem(cell, *sizes_of(sizes), 1, 1, dtype).parameters
        layer = getattr(fastrnn, cell.upper())(parameters)
        return lambda: layer.update(parameters)

    def time_update(self, *_: Any) -> None:
        self.run()


class Growth:
    """What a step costs as steps become many, and a row as rows do: both should stay flat."""

    params = (CELLS, ["T=100", "T=1000", "T=10000", "T=100000", "B=16", "B=128", "B=1024"])
    param_names = ("cell", "size")
    unit = "ns"

    def track_forward(self, cell: str, size: str) -> float:
        axis, length = size[0], int(size[2:])
        return self.per_unit(cell, *((length, 1) if axis == "T" else (20, length)))

    def per_unit(self, cell: str, T: int, B: int) -> float:
        """Nanoseconds for a step of one example: 32 inputs and units."""
        parameters = peers.random_problem(cell, 32, 32, 1, 1, "float32").parameters
        layer = getattr(fastrnn, cell.upper())(parameters, training=False)
        x, workspace = filled((T, B, 32), "float32"), layer.workspace(T, B)
        best = np.inf
        for _ in range(max(3, 200_000 // (T * B))):
            start = time.perf_counter()
            layer.forward(x, None, workspace)
            best = min(best, time.perf_counter() - start)
        return float(1e9 * best / (T * B))
