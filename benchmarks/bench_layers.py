"""The layer objects over time-major arrays, beside NumPy and the peers."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrnn
from fastrnn import peers

from .common import BASELINES, CELLS, DTYPES, PEERS, Timed, checked, peer, sizes_of

SIZES = [
    "3,5,10,4",
    "1,24,1,1000",
    "256,256,1,1",
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
    """Forward and backward from new weights; packing, where it pays, included."""

    task = "training"

    def time_training(self, *_: Any) -> None:
        self.run()


class Step(Timed):
    """One step in place, as in a loop in real time, beside the others' sequences of one step."""

    params = (CELLS, DTYPES, ["1,24,1", "64,64,1", "128,128,16", "512,512,1"], BASELINES + PEERS)
    param_names = ("cell", "dtype", "D,H,B", "implementation")

    def make(self, cell: str, dtype: str, sizes: str, implementation: str) -> Callable[[], Any]:
        problem = peers.random_problem(cell, *sizes_of(sizes), 1, dtype)
        exact = peers.Reference(1).forward(problem.astype(np.float64))
        if implementation == "fastrnn":
            return checked(problem, lambda: self.step(problem), exact)
        library = peer(implementation)
        return checked(problem, lambda: library.forward(problem), exact)

    @staticmethod
    def step(problem: peers.Problem) -> peers.Task:
        layer = getattr(fastrnn, problem.cell.upper())(problem.parameters, training=False)
        first = [state.copy() for state in problem.first_states()]
        state = tuple(first) if len(first) > 1 else first[0]
        return peers.Task(
            lambda: layer.step(problem.x[0], state),
            lambda h: peers.states((h[None], *first)),
        )

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
