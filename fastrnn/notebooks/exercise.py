"""Notebook 004, the RNN of a course exercise, with its own tanh and softmax."""

from typing import Any

import numpy as np

from .. import activations, rnn
from ..checks import FLOAT32, FLOAT64, Array, check_steps, checked
from ..rnn import RNNSteps, rnn_cell_backward, rnn_steps
from ..steps import Cache
from ._shared import softmax, spoil, tell

__all__ = [
    "rnn_backward",
    "rnn_cell_backward",
    "rnn_cell_forward",
    "rnn_forward",
    "softmax_forward",
    "tanh_forward",
]

# The exponential of anything lower is finite.
LIMIT = {FLOAT64: 709.0, FLOAT32: 88.0}


def _largest(x: Array) -> Any:
    """The largest magnitude; NaN if there is one. Without an array of magnitudes."""
    return max(x.max(initial=0), -x.min(initial=0))


def _largest_row(W: Array) -> Any:
    return np.abs(W).sum(axis=1).max(initial=0)


def _overflows(z: Array, right: str) -> Array:
    """Where the notebook's tanh of ``z`` divides infinity by infinity."""
    with np.errstate(over="ignore"):
        over: Array = np.isinf(np.exp(np.abs(z)))
    if over.any():
        tell("The notebook's tanh is NaN where an exponential overflows", right)
    return over


def tanh_forward(x: Any) -> Array:
    """Hyperbolic tangent, as ``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``.

    Parameters
    ----------
    x : array_like, any shape

    Returns
    -------
    ndarray, shape of x

    Warns
    -----
    NotebookErratumWarning
        An exponential has overflowed, from ``|x| = 709.8`` (float32: 88.7) on, and made the
        result NaN; `fastrnn.tanh` is right.
    """
    out = activations.tanh(x)
    z = np.asarray(x, out.dtype)
    if not _largest(z) < LIMIT[out.dtype]:
        out = np.where(_overflows(z, "tanh"), np.nan, out)[()]
    return out


def softmax_forward(x: Any) -> Array:
    """Softmax of each column, shifted by the maximum of the whole array.

    Parameters
    ----------
    x : array_like, shape (n, ...)
        Logits; the sum runs over the first axis.

    Returns
    -------
    ndarray, shape of x

    Warns
    -----
    NotebookErratumWarning
        A column whose maximum lies more than 708 (float32: 87) below that of the array loses
        digits, from 745 (104) on it is NaN, and so is every column beside a NaN or an infinity.
        `fastrnn.softmax` is right.
    """
    return softmax(x)


def _overflown(a: Array, x: Array, a_prev: Array, parameters: Any, right: str) -> Array:
    """Which of the states ``a`` the notebook's tanh makes NaN, each step by itself."""
    none = np.zeros((), bool)
    # Where an exponential overflows, the right tanh is 1 or -1.
    if _largest(a) < 1:
        return none
    Wax, Waa, ba = (np.asarray(parameters[key], a.dtype) for key in ("Wax", "Waa", "ba"))
    with np.errstate(all="ignore"):
        bound = _largest_row(Wax) * _largest(x) + _largest_row(Waa) * _largest(a_prev)
        if bound + _largest(ba) < LIMIT[a.dtype]:
            return none
        z = np.tensordot(Wax, x, 1) + np.tensordot(Waa, a_prev, 1)
        z += ba.reshape(-1, *[1] * (a.ndim - 1))
    return _overflows(z, right)


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> tuple[Array, Array, Cache]:
    """One step: ``a_next = tanh_forward(Waa a_prev + Wax xt + ba)``.

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
        ``softmax_forward(Wya a_next + by)``.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)``.

    Warns
    -----
    NotebookErratumWarning
        `tanh_forward` has overflowed, or `softmax_forward` has underflowed;
        `fastrnn.rnn_cell_forward` is right.
    """
    right = "rnn_cell_forward"
    a_next, yt_pred, cache = rnn.rnn_cell_forward(xt, a_prev, parameters)
    _, a_prev, xt, _ = cache
    over = _overflown(a_next, xt, a_prev, parameters, right)
    if over.any():
        a_next[over] = np.nan
        yt_pred[:] = np.nan
    spoil(yt_pred, a_next, parameters["Wya"], parameters["by"], right)
    return a_next, yt_pred, (a_next, a_prev, xt, parameters)


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
        `tanh_forward` has overflowed, or `softmax_forward` has underflowed;
        `fastrnn.rnn_forward` is right.
    """
    right = "rnn_forward"
    a, y_pred, caches = rnn.rnn_forward(x, a0, parameters)
    steps = caches[0]
    over = _overflown(a, steps.x.T, steps.h_prev.T, parameters, right)
    if over.any():
        # One NaN makes all later states of its example NaN, and all predictions of these steps.
        reached = np.logical_or.accumulate(over.any(axis=0), axis=1)
        over[:, :, 1:] |= reached[:, :-1]
        a[over] = np.nan
        steps.h[over.T] = np.nan
        y_pred[:, :, reached.any(axis=0)] = np.nan
    spoil(y_pred, a, parameters["Wya"], parameters["by"], right)
    return a, y_pred, caches


def rnn_backward(da: Any, caches: Any) -> dict[str, Array]:
    """`rnn_cell_backward` of every step, each alone.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T)
        Gradient with respect to each hidden state. With fewer steps than x it covers the first.
    caches : tuple
        The caches of `rnn_forward`, or ``(list of the caches of rnn_cell_forward, x)``.

    Returns
    -------
    dict
        ``dx (n_x, m, T)``, ``da0 (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.

    Warns
    -----
    NotebookErratumWarning
        No step passes its ``da_prev`` on to the step before, so with more than one step every
        gradient lacks what reaches it through later steps; `fastrnn.rnn_backward` is right.
    """
    steps, x = rnn_steps(caches), caches[1]
    _, m, n_a = steps.h.shape
    da = checked("da", da, ("n_a", "m", "T"), {"n_a": n_a, "m": m})
    check_steps("da", da, len(steps))
    T = da.shape[2]
    if T <= 1:
        return rnn.rnn_backward(da, (steps, x))
    # Steps that stand alone are examples of one step.
    saved = steps.x, steps.h_prev, steps.h
    rows = (buffer[:T].reshape(1, T * m, buffer.shape[2]) for buffer in saved)
    gradients = rnn.rnn_backward(
        da.transpose(0, 2, 1).reshape(n_a, T * m, 1), (RNNSteps(steps.parameters, *rows), x)
    )
    dx = gradients["dx"].reshape(steps.x.shape[2], T, m).transpose(0, 2, 1)
    gradients["dx"] = np.ascontiguousarray(dx)
    gradients["da0"] = gradients["da0"][:, :m].copy()
    tell("The notebook's rnn_backward never carries da_prev to the step before", "rnn_backward")
    return gradients
