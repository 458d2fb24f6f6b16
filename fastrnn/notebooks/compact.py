"""Notebook 003, the RNN whose cell returns ``(yt_pred, cache)``, the previous state first.

The notebook's `rnn_cell_backward` reads ``Wax`` and ``Waa`` as global variables; here they come
from the cache.
"""

from typing import Any

from .. import rnn
from ..checks import Array, sequence
from ..rnn import RNNSteps
from ..steps import Cache, split_caches
from ._shared import softmax, spoil, steps_of_x

__all__ = ["rnn_backward", "rnn_cell_backward", "rnn_cell_forward", "rnn_forward", "softmax"]


class CompactSteps(RNNSteps):
    """Caches of a run: ``steps[t]`` is ``(a_prev, a_next, xt, parameters)``."""

    __slots__ = ()

    def step(self, t: int) -> Cache:
        return _swapped(super().step(t))


def _swapped(cache: Any) -> Cache:
    """A step's cache with its two states in the other order."""
    first, second, xt, parameters = sequence("cache", cache, 4, "(a_prev, a_next, xt, parameters)")
    return second, first, xt, parameters


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> tuple[Array, Cache]:
    """One step: ``a_next = tanh(Wax xt + Waa a_prev + ba)``.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
    a_prev : array_like, shape (n_a, m)
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``Wya (n_y, n_a)``, ``ba (n_a, 1)``,
        ``by (n_y, 1)``.

    Returns
    -------
    yt_pred : ndarray, shape (n_y, m)
        ``softmax(Wya a_next + by)``.
    cache : tuple
        ``(a_prev, a_next, xt, parameters)``.

    Warns
    -----
    NotebookErratumWarning
        The notebook's `softmax` has underflowed; `fastrnn.rnn_cell_forward` is right.
    """
    a_next, yt_pred, cache = rnn.rnn_cell_forward(xt, a_prev, parameters)
    spoil(yt_pred, a_next, parameters["Wya"], parameters["by"], "rnn_cell_forward")
    return yt_pred, _swapped(cache)


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
    a, y_pred, (steps, x) = rnn.rnn_forward(x, a0, parameters)
    spoil(y_pred, a, parameters["Wya"], parameters["by"], "rnn_forward")
    return a, y_pred, (CompactSteps(parameters, steps.x, steps.h_prev, steps.h), x)


def rnn_cell_backward(da_next: Any, cache: Any) -> dict[str, Array]:
    """Gradients of one step.

    Parameters
    ----------
    da_next : array_like, shape (n_a, m)
        Gradient with respect to the state after the step.
    cache : tuple
        The cache of `rnn_cell_forward`.

    Returns
    -------
    dict
        ``dxt (n_x, m)``, ``da_prev (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.
    """
    return rnn.rnn_cell_backward(da_next, _swapped(cache))


def rnn_backward(da: Any, caches: Any) -> dict[str, Array]:
    """`rnn_cell_backward` from the last step to the first.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient with respect to each hidden state; steps beyond those of x are not read.
    caches : tuple
        The caches of `rnn_forward`, or ``(list of the caches of rnn_cell_forward, x)``.

    Returns
    -------
    dict
        ``dx (n_x, m, T_x)``, ``da0 (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.
    """
    steps, x = split_caches(caches)
    if not isinstance(steps, RNNSteps):
        steps = [_swapped(cache) for cache in steps]
    return rnn.rnn_backward(steps_of_x(da, x), (steps, x))
