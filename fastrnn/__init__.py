"""The fastest RNN and LSTM on a CPU, behind the functions of the step-by-step notebooks."""

from .activations import sigmoid, softmax, tanh
from .head import output_backward
from .lstm import LSTM, lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from .rnn import RNN, rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward
from .warmup import warmup

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "RNN",
    "lstm_backward",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "output_backward",
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "sigmoid",
    "softmax",
    "tanh",
    "warmup",
]
