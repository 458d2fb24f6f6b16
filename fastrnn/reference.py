"""The specification of every cell in plain NumPy, forward and backward.

The compiled functions of the package must return what these functions return; the tests compare
them. Here the equations stand as they are read on paper, without Numba and without tuning.

Names and layout: ``n_x`` input features, ``n_a`` hidden units, ``n_y`` outputs, ``m`` examples,
``T_x`` time steps; arrays are ``(features, examples)`` or ``(features, examples, time)``. The
gradient of the loss with respect to a quantity has the name of the quantity after a ``d``.

Arrays of float32 give float32 results, and arrays of longdouble give longdouble ones. Anything
else is computed in float64; arrays of different types are first promoted as NumPy does it.

Products are written with ``np.dot``: ``x[:, :, t]`` has no contiguous axis, and before NumPy 2.3
``@`` does not hand such an operand to BLAS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

__all__ = [
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
]

Array: TypeAlias = NDArray[Any]
Parameters: TypeAlias = Mapping[str, Array]
Gradients: TypeAlias = dict[str, Array]
RNNCache: TypeAlias = tuple[Array, Array, Array, Parameters]
LSTMCache: TypeAlias = tuple[
    Array, Array, Array, Array, Array, Array, Array, Array, Array, Parameters
]

_rnn_weights = itemgetter("Wax", "Waa", "Wya", "ba", "by")
_lstm_weights = itemgetter("Wf", "bf", "Wi", "bi", "Wc", "bc", "Wo", "bo", "Wy", "by")

_REAL_TYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.longdouble))


def _real_type(*arrays: Array) -> np.dtype[Any]:
    """The floating type in which a function of these arrays is computed."""
    promoted = np.result_type(*arrays)
    return promoted if promoted in _REAL_TYPES else np.dtype(np.float64)


def _as_real(x: Array) -> Array:
    x = np.asarray(x)
    return x if x.dtype in _REAL_TYPES else x.astype(np.float64)


# Activations


def softmax(x: Array) -> Array:
    """Softmax of each column: ``y_j = exp(x_j) / sum_k exp(x_k)``.

    Every column is shifted by its own maximum, which changes nothing in exact arithmetic and keeps
    the exponentials in range however far apart the columns are.

    Parameters
    ----------
    x : array, shape (n, ...)
        Logits; the sum runs over the first axis.

    Returns
    -------
    array, shape (n, ...)
        A column with a NaN or a ``+inf`` is NaN, and so is one that is ``-inf`` throughout.

    References
    ----------
    Bridle (1990), "Probabilistic interpretation of feedforward classification network outputs".
    """
    x = _as_real(x)
    e = np.exp(x - x.max(axis=0))
    return cast(Array, e / e.sum(axis=0))


def sigmoid(x: Array) -> Array:
    """Logistic function ``1 / (1 + exp(-x))``.

    For negative x it is ``exp(x) / (1 + exp(x))``: the exponential never overflows, and the result
    keeps its relative accuracy as far down as numbers go.

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    array, shape of x
    """
    x = _as_real(x)
    e = np.exp(-np.abs(x))
    return cast(Array, np.where(x >= 0, 1, e) / (1 + e))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    array, shape of x
    """
    return np.tanh(_as_real(x))


# RNN


def rnn_cell_forward(
    xt: Array, a_prev: Array, parameters: Parameters
) -> tuple[Array, Array, RNNCache]:
    """One step of the simple recurrent network, with tanh units and a softmax head::

        a_next  = tanh(Wax xt + Waa a_prev + ba)
        yt_pred = softmax(Wya a_next + by)

    Parameters
    ----------
    xt : array, shape (n_x, m)
        Input of the step.
    a_prev : array, shape (n_a, m)
        Hidden state before the step.
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``Wya (n_y, n_a)``, ``ba (n_a, 1)``,
        ``by (n_y, 1)``.

    Returns
    -------
    a_next : array, shape (n_a, m)
        Hidden state after the step.
    yt_pred : array, shape (n_y, m)
        Prediction of the step; every column sums to 1.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)``, for `rnn_cell_backward`.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    weights = _rnn_weights(parameters)
    Wax, Waa, Wya, ba, by = weights
    dtype = _real_type(xt, a_prev, *weights)
    xt, a_prev = np.asarray(xt, dtype), np.asarray(a_prev, dtype)

    a_next = np.tanh(np.dot(Wax, xt) + np.dot(Waa, a_prev) + ba)
    yt_pred = softmax(np.dot(Wya, a_next) + by)
    return a_next, yt_pred, (a_next, a_prev, xt, parameters)


def rnn_forward(
    x: Array, a0: Array, parameters: Parameters
) -> tuple[Array, Array, tuple[list[RNNCache], Array]]:
    """The RNN over a whole sequence: `rnn_cell_forward` step after step.

    Parameters
    ----------
    x : array, shape (n_x, m, T_x)
        Input sequence.
    a0 : array, shape (n_a, m)
        Initial hidden state.
    parameters : mapping
        As for `rnn_cell_forward`.

    Returns
    -------
    a : array, shape (n_a, m, T_x)
        Hidden state after every step.
    y_pred : array, shape (n_y, m, T_x)
        Prediction of every step.
    caches : tuple
        ``(per-step caches, x)``, for `rnn_backward` and `output_backward`.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    weights = _rnn_weights(parameters)
    dtype = _real_type(x, a0, *weights)
    _, m, T_x = x.shape
    n_y, n_a = parameters["Wya"].shape

    a = np.zeros((n_a, m, T_x), dtype)
    y_pred = np.zeros((n_y, m, T_x), dtype)
    steps = []
    a_next = a0
    for t in range(T_x):
        a_next, yt_pred, cache = rnn_cell_forward(x[:, :, t], a_next, parameters)
        a[:, :, t] = a_next
        y_pred[:, :, t] = yt_pred
        steps.append(cache)
    return a, y_pred, (steps, x)


def rnn_cell_backward(da_next: Array, cache: RNNCache) -> Gradients:
    """Gradients of one RNN step, the head left out (see `output_backward`)::

        dz = da_next * (1 - a_next^2)       z = Wax xt + Waa a_prev + ba

    and from dz, by the product rule, those of everything that z is made of.

    Parameters
    ----------
    da_next : array, shape (n_a, m)
        Gradient with respect to ``a_next``.
    cache : tuple
        The cache of `rnn_cell_forward`.

    Returns
    -------
    dict
        ``dxt (n_x, m)``, ``da_prev (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proceedings of
    the IEEE 78(10).
    """
    a_next, a_prev, xt, parameters = cache

    dz = da_next * (1 - a_next**2)
    return {
        "dxt": np.dot(parameters["Wax"].T, dz),
        "da_prev": np.dot(parameters["Waa"].T, dz),
        "dWax": np.dot(dz, xt.T),
        "dWaa": np.dot(dz, a_prev.T),
        "dba": dz.sum(axis=1, keepdims=True),
    }


def rnn_backward(da: Array, caches: tuple[Sequence[RNNCache], Array]) -> Gradients:
    """Back-propagation through time: `rnn_cell_backward` from the last step to the first.

    A hidden state acts on the loss twice: directly, ``da[:, :, t]``, and through the next step.

    Parameters
    ----------
    da : array, shape (n_a, m, T)
        Gradient with respect to each hidden state as an output of the sequence. With fewer steps
        than x it covers the first T of them, and the later ones have no part in the loss.
    caches : tuple
        ``(per-step caches, x)`` of `rnn_forward`.

    Returns
    -------
    dict
        ``dx (n_x, m, T)``, ``da0 (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proceedings of
    the IEEE 78(10).
    """
    steps, x = caches
    a_next, _, _, parameters = steps[0]
    dtype = _real_type(da, a_next)
    _, m, T = da.shape

    dx = np.zeros((x.shape[0], m, T), dtype)
    totals = {"d" + key: np.zeros(parameters[key].shape, dtype) for key in ("Wax", "Waa", "ba")}
    da_prev = np.zeros(da.shape[:2], dtype)
    for t in reversed(range(T)):
        step = rnn_cell_backward(da[:, :, t] + da_prev, steps[t])
        da_prev = step["da_prev"]
        dx[:, :, t] = step["dxt"]
        for key, total in totals.items():
            total += step[key]
    return {"dx": dx, "da0": da_prev, **totals}


# LSTM


def lstm_cell_forward(
    xt: Array, a_prev: Array, c_prev: Array, parameters: Parameters
) -> tuple[Array, Array, Array, LSTMCache]:
    """One step of the long short-term memory, with a softmax head::

        ft  = sigmoid(Wf [a_prev; xt] + bf)     forget gate
        it  = sigmoid(Wi [a_prev; xt] + bi)     input gate
        cct = tanh(Wc [a_prev; xt] + bc)        candidate
        ot  = sigmoid(Wo [a_prev; xt] + bo)     output gate
        c_next  = ft * c_prev + it * cct
        a_next  = ot * tanh(c_next)
        yt_pred = softmax(Wy a_next + by)

    Parameters
    ----------
    xt : array, shape (n_x, m)
        Input of the step.
    a_prev : array, shape (n_a, m)
        Hidden state before the step.
    c_prev : array, shape (n_a, m)
        Cell state before the step.
    parameters : mapping
        ``Wf``, ``Wi``, ``Wc``, ``Wo (n_a, n_a + n_x)``, of which the first n_a columns act on
        ``a_prev``; ``bf``, ``bi``, ``bc``, ``bo (n_a, 1)``; ``Wy (n_y, n_a)``, ``by (n_y, 1)``.

    Returns
    -------
    a_next : array, shape (n_a, m)
        Hidden state after the step.
    c_next : array, shape (n_a, m)
        Cell state after the step.
    yt_pred : array, shape (n_y, m)
        Prediction of the step; every column sums to 1.
    cache : tuple
        ``(a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)``, for
        `lstm_cell_backward`.

    References
    ----------
    Hochreiter and Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8).
    Gers, Schmidhuber and Cummins (2000), "Learning to forget: continual prediction with LSTM",
    Neural Computation 12(10), for the forget gate. There are no peephole connections.
    """
    weights = _lstm_weights(parameters)
    Wf, bf, Wi, bi, Wc, bc, Wo, bo, Wy, by = weights
    dtype = _real_type(xt, a_prev, c_prev, *weights)
    xt, a_prev, c_prev = (np.asarray(array, dtype) for array in (xt, a_prev, c_prev))

    ax = np.concatenate((a_prev, xt))
    ft = sigmoid(np.dot(Wf, ax) + bf)
    it = sigmoid(np.dot(Wi, ax) + bi)
    cct = np.tanh(np.dot(Wc, ax) + bc)
    ot = sigmoid(np.dot(Wo, ax) + bo)
    c_next = ft * c_prev + it * cct
    a_next = ot * np.tanh(c_next)
    yt_pred = softmax(np.dot(Wy, a_next) + by)
    cache = (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)
    return a_next, c_next, yt_pred, cache


def lstm_forward(
    x: Array, a0: Array, parameters: Parameters
) -> tuple[Array, Array, Array, tuple[list[LSTMCache], Array]]:
    """The LSTM over a whole sequence: `lstm_cell_forward` step after step, from cell state zero.

    Parameters
    ----------
    x : array, shape (n_x, m, T_x)
        Input sequence.
    a0 : array, shape (n_a, m)
        Initial hidden state.
    parameters : mapping
        As for `lstm_cell_forward`.

    Returns
    -------
    a : array, shape (n_a, m, T_x)
        Hidden state after every step.
    y : array, shape (n_y, m, T_x)
        Prediction of every step.
    c : array, shape (n_a, m, T_x)
        Cell state after every step.
    caches : tuple
        ``(per-step caches, x)``, for `lstm_backward` and `output_backward`.

    References
    ----------
    Hochreiter and Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8).
    Gers, Schmidhuber and Cummins (2000), "Learning to forget: continual prediction with LSTM",
    Neural Computation 12(10), for the forget gate.
    """
    weights = _lstm_weights(parameters)
    dtype = _real_type(x, a0, *weights)
    _, m, T_x = x.shape
    n_y, n_a = parameters["Wy"].shape

    a = np.zeros((n_a, m, T_x), dtype)
    y = np.zeros((n_y, m, T_x), dtype)
    c = np.zeros((n_a, m, T_x), dtype)
    steps = []
    a_next, c_next = a0, np.zeros((n_a, m), dtype)
    for t in range(T_x):
        a_next, c_next, yt_pred, cache = lstm_cell_forward(x[:, :, t], a_next, c_next, parameters)
        a[:, :, t] = a_next
        y[:, :, t] = yt_pred
        c[:, :, t] = c_next
        steps.append(cache)
    return a, y, c, (steps, x)


def lstm_cell_backward(da_next: Array, dc_next: Array, cache: LSTMCache) -> Gradients:
    """Gradients of one LSTM step, the head left out (see `output_backward`)::

        dc  = dc_next + da_next * ot * (1 - tanh(c_next)^2)
        dzf = dc * c_prev * ft * (1 - ft)
        dzi = dc * cct * it * (1 - it)
        dzc = dc * it * (1 - cct^2)
        dzo = da_next * tanh(c_next) * ot * (1 - ot)
        dc_prev = dc * ft

    dz being the gradient of a gate before its activation; from it follow, by the product rule,
    those of the gate's weights and of ``[a_prev; xt]``, which all four gates share.

    Parameters
    ----------
    da_next : array, shape (n_a, m)
        Gradient with respect to ``a_next``.
    dc_next : array, shape (n_a, m)
        Gradient with respect to ``c_next``, apart from what reaches it through ``a_next``.
    cache : tuple
        The cache of `lstm_cell_forward`.

    Returns
    -------
    dict
        ``dxt (n_x, m)``, ``da_prev``, ``dc_prev (n_a, m)``, ``dWf``, ``dWi``, ``dWc``,
        ``dWo (n_a, n_a + n_x)``, ``dbf``, ``dbi``, ``dbc``, ``dbo (n_a, 1)``.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proceedings of
    the IEEE 78(10).
    Gers, Schmidhuber and Cummins (2000), "Learning to forget: continual prediction with LSTM",
    Neural Computation 12(10), for the cell; the gradient here is not truncated as it is there.
    """
    _, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters = cache
    Wf, _, Wi, _, Wc, _, Wo, _, _, _ = _lstm_weights(parameters)
    n_a = len(a_prev)

    tanh_c = np.tanh(c_next)
    dc = dc_next + da_next * ot * (1 - tanh_c**2)
    dzf = dc * c_prev * ft * (1 - ft)
    dzi = dc * cct * it * (1 - it)
    dzc = dc * it * (1 - cct**2)
    dzo = da_next * tanh_c * ot * (1 - ot)

    ax = np.concatenate((a_prev, xt))
    dax = np.dot(Wf.T, dzf) + np.dot(Wi.T, dzi) + np.dot(Wc.T, dzc) + np.dot(Wo.T, dzo)
    gradients = {"dxt": dax[n_a:], "da_prev": dax[:n_a], "dc_prev": dc * ft}
    for gate, dz in zip("fico", (dzf, dzi, dzc, dzo), strict=True):
        gradients["dW" + gate] = np.dot(dz, ax.T)
        gradients["db" + gate] = dz.sum(axis=1, keepdims=True)
    return gradients


def lstm_backward(da: Array, caches: tuple[Sequence[LSTMCache], Array]) -> Gradients:
    """Back-propagation through time: `lstm_cell_backward` from the last step to the first.

    A hidden state acts on the loss twice: directly, ``da[:, :, t]``, and through the next step. A
    cell state does so only through its own hidden state and the next step.

    Parameters
    ----------
    da : array, shape (n_a, m, T)
        Gradient with respect to each hidden state as an output of the sequence. With fewer steps
        than x it covers the first T of them, and the later ones have no part in the loss.
    caches : tuple
        ``(per-step caches, x)`` of `lstm_forward`.

    Returns
    -------
    dict
        ``dx (n_x, m, T)``, ``da0 (n_a, m)``, ``dWf``, ``dWi``, ``dWc``,
        ``dWo (n_a, n_a + n_x)``, ``dbf``, ``dbi``, ``dbc``, ``dbo (n_a, 1)``.

    References
    ----------
    Werbos (1990), "Backpropagation through time: what it does and how to do it", Proceedings of
    the IEEE 78(10).
    """
    steps, x = caches
    a_next, *_, parameters = steps[0]
    dtype = _real_type(da, a_next)
    _, m, T = da.shape

    dx = np.zeros((x.shape[0], m, T), dtype)
    totals = {
        "d" + kind + gate: np.zeros(parameters[kind + gate].shape, dtype)
        for gate in "fico"
        for kind in "Wb"
    }
    da_prev = np.zeros(da.shape[:2], dtype)
    dc_prev = np.zeros(da.shape[:2], dtype)
    for t in reversed(range(T)):
        step = lstm_cell_backward(da[:, :, t] + da_prev, dc_prev, steps[t])
        da_prev, dc_prev = step["da_prev"], step["dc_prev"]
        dx[:, :, t] = step["dxt"]
        for key, total in totals.items():
            total += step[key]
    return {"dx": dx, "da0": da_prev, **totals}


# Softmax head


def output_backward(
    dz: Array, caches: tuple[Sequence[RNNCache] | Sequence[LSTMCache], Array]
) -> Gradients:
    """Gradients of the head ``y = softmax(z)``, ``z = W a + b``, shared by all steps::

        da[:, :, t] = W^T dz[:, :, t]
        dW = sum_t dz[:, :, t] a[:, :, t]^T
        db = sum_t dz[:, :, t] summed over the examples

    The gradient starts at z, where that of a cross-entropy loss is simply the prediction minus
    the one-hot label. The ``da`` returned is what `rnn_backward` or `lstm_backward` takes.

    Parameters
    ----------
    dz : array, shape (n_y, m, T)
        Gradient with respect to the logits z; with fewer steps than x it covers the first T.
    caches : tuple
        ``(per-step caches, x)`` of `rnn_forward` or `lstm_forward`; the length of a step's cache
        tells which.

    Returns
    -------
    dict
        ``da (n_a, m, T)``, ``dby (n_y, 1)``, and ``dWya`` for an RNN or ``dWy`` for an LSTM,
        ``(n_y, n_a)``.

    References
    ----------
    Bridle (1990), "Probabilistic interpretation of feedforward classification network outputs".
    """
    steps, _ = caches
    a_next, *_, parameters = steps[0]
    head = "Wya" if len(steps[0]) == 4 else "Wy"
    W = parameters[head]
    dtype = _real_type(dz, a_next)
    n_y, m, T = dz.shape

    da = np.zeros((W.shape[1], m, T), dtype)
    dW = np.zeros(W.shape, dtype)
    for t in range(T):
        da[:, :, t] = np.dot(W.T, dz[:, :, t])
        dW += np.dot(dz[:, :, t], steps[t][0].T)
    dby = dz.sum(axis=(1, 2), dtype=dtype).reshape(n_y, 1)
    return {"da": da, "d" + head: dW, "dby": dby}
