"""The way back through the softmax head of the sequence functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import Arguments, Array, check_steps
from .kernels import head as kernels
from .lstm import CACHE as LSTM_CACHE
from .lstm import LSTMSteps, lstm_steps
from .packing import gradients_size, paneled, scratch
from .rnn import RNNSteps, rnn_steps
from .steps import split_caches

BACKWARD = {
    key: Arguments(
        {"a_next in caches": ("T_x", "m", "n_a"), "dz": ("n_y", "m", "T")},
        {key: ("n_y", "n_a")},
        weights_first=False,
    )
    for key in ("Wya", "Wy")
}


def output_backward(dz: Any, caches: Any) -> dict[str, Array]:
    """Gradients through the softmax head ``y = softmax(z)``, ``z = Wya a + by``.

    Parameters
    ----------
    dz : array_like, shape (n_y, m, T)
        Gradient of the loss with respect to the logits z; for the mean cross-entropy it is
        ``(y - targets) / (m T)``.  `T` may be less than the steps of the caches: the first
        steps are meant.
    caches : tuple
        What `rnn_forward` or `lstm_forward` returned, or ``(list of a cell function's caches, x)``,
        of steps with the same weights.

    Returns
    -------
    dict
        ``da (n_a, m, T)``, for `rnn_backward` or `lstm_backward`, and ``dWya (n_y, n_a)``,
        ``dby (n_y, 1)``; the LSTM's are ``dWy``, ``dby``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs".
    """
    first = split_caches(caches)[0]
    is_lstm = isinstance(first, LSTMSteps) or (
        not isinstance(first, RNNSteps)
        and len(first) > 0
        and isinstance(first[0], Sequence)
        and len(first[0]) == len(LSTM_CACHE)
    )
    key = "Wy" if is_lstm else "Wya"
    gather = lstm_steps if is_lstm else rnn_steps
    steps: LSTMSteps | RNNSteps = gather(caches, (key,))
    dtype, (h, dz, w_y) = BACKWARD[key].ready((steps.h, dz), steps.parameters)
    check_steps("dz", dz, len(h))
    n_y, m, T = dz.shape
    n_a = w_y.shape[1]
    da = np.empty((n_a, m, T), dtype)
    dw = np.empty((n_y, n_a), dtype)
    db = np.empty((n_y, 1), dtype)
    packed = max(paneled(n_a, dtype) * n_y, gradients_size(n_y, n_a, T * m, dtype))
    kernels.output_backward(
        dz, h, w_y, da, dw, db, scratch(dtype, T * m * n_y, T * m * n_a, packed)
    )
    return {"da": da, f"d{key}": dw, "dby": db}
