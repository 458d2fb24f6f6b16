"""Notebook 000, the RNN forward and backward, in the names that `fastrnn` itself uses."""

from typing import Any

from .. import rnn
from ..checks import Array
from ..rnn import RNNSteps, rnn_backward, rnn_cell_backward
from ..steps import Cache
from ._shared import softmax, spoil

__all__ = ["rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward", "softmax"]


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> tuple[Array, Array, Cache]:
    """One step: ``a_next = tanh(Waa a_prev + Wax xt + ba)``.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
    a_prev : array_like, shape (n_a, m)
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``Wya (n_y, n_a)``, ``ba (n_a, 1)``,
        ``by (n_y, 1)``.

    Returns
    -------
    a_next : ndarray, shape (n_a, m)
    yt_pred : ndarray, shape (n_y, m)
        ``softmax(Wya a_next + by)``.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)``.

    Warns
    -----
    NotebookErratumWarning
        The notebook's `softmax` has underflowed; `fastrnn.rnn_cell_forward` is right.
    """
    a_next, yt_pred, cache = rnn.rnn_cell_forward(xt, a_prev, parameters)
    spoil(yt_pred, a_next, parameters["Wya"], parameters["by"], "rnn_cell_forward")
    return a_next, yt_pred, cache


def rnn_forward(x: Any, a0: Any, parameters: Any) -> tuple[Array, Array, tuple[RNNSteps, Any]]:
    """`rnn_cell_forward` over all time steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
    a0 : array_like, shape (n_a, m)
    parameters : mapping
        As for `rnn_cell_forward`.

    Returns
    -------
    a : ndarray, shape (n_a, m, T_x)
    y_pred : ndarray, shape (n_y, m, T_x)
    caches : tuple
        ``(per-step caches, x)``.

    Warns
    -----
    NotebookErratumWarning
        The notebook's `softmax` has underflowed; `fastrnn.rnn_forward` is right.
    """
    a, y_pred, caches = rnn.rnn_forward(x, a0, parameters)
    spoil(y_pred, a, parameters["Wya"], parameters["by"], "rnn_forward")
    return a, y_pred, caches
