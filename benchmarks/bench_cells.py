"""The notebook functions for one step, beside the NumPy reference."""

from typing import Any

from .bench_functions import Functions
from .common import BASELINES, CELLS, DTYPES


class Cell(Functions):
    params = (CELLS, DTYPES, ["3,5,10,1", "27,100,1,1", "128,128,32,1", "512,512,1,1"], BASELINES)


class Forward(Cell):
    """rnn_cell_forward, lstm_cell_forward."""

    task = "cell forward"

    def time_cell_forward(self, *_: Any) -> None:
        self.run()


class Backward(Cell):
    """rnn_cell_backward, lstm_cell_backward."""

    task = "cell backward"

    def time_cell_backward(self, *_: Any) -> None:
        self.run()
