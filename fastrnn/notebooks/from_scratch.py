"""Notebook 002, the RNN forward and backward and the LSTM forward.

The notebook takes `softmax` and `sigmoid` from a helper file; they are here. It has a heading for
the LSTM's way back and no code for it: `fastrnn.lstm_backward` is the function, and it takes the
caches of `lstm_forward`.
"""

from typing import Any

from .. import lstm
from ..activations import sigmoid
from ..checks import Array
from ..lstm import LSTMSteps
from ..steps import Cache
from ._shared import softmax, spoil, tell
from .full_rnn import rnn_backward, rnn_cell_backward, rnn_cell_forward, rnn_forward

__all__ = [
    "lstm_cell_forward",
    "lstm_forward",
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "sigmoid",
    "softmax",
]


class FromScratchSteps(LSTMSteps):
    """Caches of a run, as the notebook leaves them: the first one has no previous states."""

    __slots__ = ()

    def step(self, t: int) -> Cache:
        a_next, c_next, a_prev, c_prev, *others = super().step(t)
        if t == 0:
            a_prev, c_prev = a_next, c_next
        return a_next, c_next, a_prev, c_prev, *others


def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Any
) -> tuple[Array, Array, Array, Cache]:
    """One step of the LSTM::

        ft, it, ot = sigmoid(W [a_prev; xt] + b)     with Wf bf, Wi bi, Wo bo
        cct    = tanh(Wc [a_prev; xt] + bc)
        c_next = ft * c_prev + it * cct
        a_next = ot * tanh(c_next)

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
    a_prev, c_prev : array_like, shape (n_a, m)
    parameters : mapping
        ``Wf``, ``Wi``, ``Wc``, ``Wo (n_a, n_a + n_x)``, ``bf``, ``bi``, ``bc``, ``bo (n_a, 1)``,
        ``Wy (n_y, n_a)``, ``by (n_y, 1)``.

    Returns
    -------
    a_next, c_next : ndarray, shape (n_a, m)
    yt_pred : ndarray, shape (n_y, m)
        ``softmax(Wy a_next + by)``.
    cache : tuple
        ``(a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)``.

    Warns
    -----
    NotebookErratumWarning
        The notebook's `softmax` has underflowed; `fastrnn.lstm_cell_forward` is right.
    """
    a_next, c_next, yt_pred, cache = lstm.lstm_cell_forward(xt, a_prev, c_prev, parameters)
    spoil(yt_pred, a_next, parameters["Wy"], parameters["by"], "lstm_cell_forward")
    return a_next, c_next, yt_pred, cache


def lstm_forward(
    x: Any, a0: Any, parameters: Any
) -> tuple[Array, Array, Array, tuple[LSTMSteps, Any]]:
    """`lstm_cell_forward` over all time steps, from a cell of zeros.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
    a0 : array_like, shape (n_a, m)
    parameters : mapping
        As for `lstm_cell_forward`.

    Returns
    -------
    a : ndarray, shape (n_a, m, T_x)
    y : ndarray, shape (n_y, m, T_x)
    c : ndarray, shape (n_a, m, T_x)
    caches : tuple
        ``(per-step caches, x)``. `fastrnn.lstm_backward` gives the right gradients of them; of a
        list made from them it cannot.

    Warns
    -----
    NotebookErratumWarning
        In the first step's cache, ``a_prev`` and ``c_prev`` are views that the step's results
        overwrite: they read as ``a_next`` and ``c_next``; `fastrnn.lstm_forward` is right. So it
        is where the notebook's `softmax` has underflowed.
    """
    a, y, c, (steps, x) = lstm.lstm_forward(x, a0, parameters)
    spoil(y, a, parameters["Wy"], parameters["by"], "lstm_forward")
    as_left = FromScratchSteps(
        steps.parameters, steps.x, steps.gates, steps.h_prev, steps.h, steps.c_prev, steps.c
    )
    if len(steps) > 0:
        tell(
            "The notebook's lstm_forward overwrites a_prev and c_prev in the first cache with "
            "a_next and c_next",
            "lstm_forward",
        )
    return a, y, c, (as_left, x)
