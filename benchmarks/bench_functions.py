"""The notebook functions over whole sequences, beside the NumPy reference."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrnn
from fastrnn import bench, peers, reference

from .common import BASELINES, CELLS, DTYPES, Timed, checked, sizes_of

MODULES = {"NumPy": reference, "fastrnn": fastrnn}


class Functions(Timed):
    params = (CELLS, DTYPES, ["3,5,10,4", "27,100,1,50", "64,64,1,100", "128,128,32,50"], BASELINES)
    param_names = ("cell", "dtype", "n_x,n_a,m,T_x", "implementation")
    task = ""

    def make(self, cell: str, dtype: str, sizes: str, implementation: str) -> Callable[[], Any]:
        D, *rest = sizes_of(sizes)
        problem = peers.random_problem(cell, D, *rest, dtype, classes=D)
        exact = bench.function_task(problem.astype(np.float64), self.task, reference)
        module = MODULES[implementation]
        return checked(problem, lambda: bench.function_task(problem, self.task, module), exact)


class Forward(Functions):
    """rnn_forward, lstm_forward."""

    task = "forward"

    def time_forward(self, *_: Any) -> None:
        self.run()


class Backward(Functions):
    """rnn_backward, lstm_backward."""

    task = "backward"

    def time_backward(self, *_: Any) -> None:
        self.run()


class ForwardBackward(Functions):
    """Both, one after the other."""

    task = "forward+backward"

    def time_forward_backward(self, *_: Any) -> None:
        self.run()


class OutputBackward(Functions):
    """output_backward, with as many classes as inputs."""

    task = "head backward"

    def time_output_backward(self, *_: Any) -> None:
        self.run()
