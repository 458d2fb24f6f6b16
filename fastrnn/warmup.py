"""Compile the kernels on purpose, so that no later call waits for it."""

import time
from typing import Any

import numpy as np

from .activations import sigmoid, softmax, tanh
from .checks import FLOAT32, FLOAT64
from .head import output_backward
from .lstm import HEAD_KEYS as LSTM_HEAD
from .lstm import KEYS as LSTM_KEYS
from .lstm import LSTM, lstm_backward, lstm_cell_backward, lstm_cell_forward, lstm_forward
from .packing import SHORT_STEPS
from .rnn import HEAD_KEYS as RNN_HEAD
from .rnn import KEYS as RNN_KEYS
from .rnn import RNN, rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward
from .threads import compile_waiting


def warmup(dtypes: Any = ("float32", "float64")) -> float:
    """Compile every kernel, or load it from the cache on disk.

    Without it a kernel is compiled by the first call that needs it, once on a machine, and
    loaded by the first call in each process.

    Parameters
    ----------
    dtypes : dtype or iterable of dtype
        float32, float64 or both: the types that will be computed in.

    Returns
    -------
    float
        Seconds that it took.

    Raises
    ------
    TypeError, ValueError
        A dtype is neither.
    """
    one = isinstance(dtypes, str | type | np.dtype)
    try:
        given = [dtypes] if one else list(dtypes)
        wanted = [np.dtype(dtype) for dtype in given]
    except TypeError:
        raise TypeError(f"dtypes is {dtypes!r}; wanted float32, float64 or both") from None
    for name, dtype in zip(given, wanted, strict=True):
        if name is None or dtype not in (FLOAT32, FLOAT64):  # to NumPy, None is float64
            raise ValueError(f"dtypes has {name!r}; wanted float32, float64 or both")
    start = time.perf_counter()
    for dtype in wanted:
        _call_everything(dtype)
    compile_waiting()
    return time.perf_counter() - start


def _call_everything(dtype: np.dtype[Any]) -> None:
    """Call what ends in a kernel, on arrays as small as can be."""
    one = np.zeros((1, 1, 1), dtype)
    state = np.zeros((1, 1), dtype)
    sizes = {"n_a": 1, "n_x": 1, "n_y": 1, "n_a + n_x": 2, "1": 1}

    for activation in softmax, sigmoid, tanh:
        activation(one)
    softmax(one.ravel())  # of one column
    rnn, lstm = (
        {key: np.zeros([sizes[axis] for axis in axes], dtype) for key, axes in keys.items()}
        for keys in (RNN_KEYS | RNN_HEAD, LSTM_KEYS | LSTM_HEAD)
    )
    rnn_cell_backward(state, rnn_cell_forward(state, state, rnn)[-1])
    lstm_cell_backward(state, state, lstm_cell_forward(state, state, state, lstm)[-1])
    for steps in 1, SHORT_STEPS + 1:  # unpacked weights, and packed
        x = np.zeros((1, 1, steps), dtype)
        rnn_backward(x, rnn_forward(x, state, rnn)[-1])
        lstm_backward(x, lstm_forward(x, state, lstm)[-1])
    output_backward(one, rnn_forward(one, state, rnn)[-1])

    for layer, weights in (RNN(rnn), rnn), (LSTM(lstm), lstm):
        layer.step(state, layer.zero_state(1))
        workspace = layer.workspace(1, 1)
        for copy in True, False:  # packed, and unpacked
            layer.update(weights, copy=copy)
            layer.forward(one, workspace=workspace)
            layer.backward(one, workspace=workspace)
