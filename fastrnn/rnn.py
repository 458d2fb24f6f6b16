"""The simple recurrent network: the notebooks' functions, and the layer object."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import Array, check_steps, checked, common_dtype, ready, weights
from .kernels import cells
from .kernels import rnn as kernels
from .layer import Kernels, Layer, Workspace
from .packing import (
    accumulate_size,
    aligned,
    backward_size,
    cell_scratch,
    chunk,
    forward_size,
    padded,
)
from .steps import Cache, Steps, check_cache, split_caches, stack_caches

KEYS = {"Wax": ("n_a", "n_x"), "Waa": ("n_a", "n_a"), "ba": ("n_a", "1")}
HEAD_KEYS = {"Wya": ("n_y", "n_a"), "by": ("n_y", "1")}
CACHE = ("a_next", "a_prev", "xt", "parameters")


class RNNSteps(Steps):
    """Caches of a run: ``steps[t]`` is ``(a_next, a_prev, xt, parameters)``.

    x : (T, m, n_x), h_prev and h : (T, m, n_a), the old and the new states.
    """

    __slots__ = ("h", "h_prev", "x")

    def __init__(self, parameters: Any, x: Array, h_prev: Array, h: Array) -> None:
        super().__init__(len(x), parameters)
        self.x = x
        self.h_prev = h_prev
        self.h = h

    def step(self, t: int) -> Cache:
        return self.h[t].T, self.h_prev[t].T, self.x[t].T, self.parameters


def rnn_steps(caches: Any) -> RNNSteps:
    """The caches of a run of this cell, gathered if a loop over the cell built them."""
    steps, _ = split_caches(caches)
    return steps if isinstance(steps, RNNSteps) else gather("caches[0]", steps)


def gather(argument: str, caches: Sequence[Cache]) -> RNNSteps:
    """Time-major buffers from plain per-step tuples."""
    parameters, arrays = stack_caches(argument, caches, CACHE)
    return RNNSteps(parameters, arrays["xt"], arrays["a_prev"], arrays["a_next"])


def _forward(
    x: Array, a0: Array, parameters: Any, found: list[Array], sizes: dict[str, int]
) -> tuple[Array, Array, RNNSteps]:
    """`rnn_forward`, of checked arguments."""
    dtype = common_dtype([x, a0, *found])
    D, H, B, T, O = (sizes[axis] for axis in ("n_x", "n_a", "m", "T_x", "n_y"))

    a = np.empty((H, B, T), dtype)
    y = np.empty((O, B, T), dtype)
    x_rows, h = aligned(dtype, (T, B, D), (T + 1, B, H))
    size = max(forward_size(D, H, 1, dtype), padded(O, dtype) * H)
    scratch, y_rows = aligned(dtype, (size,), (T, B, O))
    w_ax, w_aa, b_a, w_ya, b_y = (ready(w, dtype) for w in found)
    kernels.rnn_notebook_forward(
        ready(x, dtype), ready(a0, dtype), w_ax, w_aa, w_ya, b_a, b_y,
        scratch, x_rows, h, y_rows, a, y, chunk(T, B, H, dtype),
    )  # fmt: skip
    return a, y, RNNSteps(parameters, x_rows, h[:-1], h[1:])


def rnn_forward(x: Any, a0: Any, parameters: Any) -> tuple[Array, Array, tuple[RNNSteps, Any]]:
    """Run the network over all time steps::

        a[t] = tanh(Wax x[t] + Waa a[t-1] + ba)
        y[t] = softmax(Wya a[t] + by)

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
        Input of m examples.
    a0 : array_like, shape (n_a, m)
        Initial state.
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``Wya (n_y, n_a)``, ``ba (n_a, 1)``,
        ``by (n_y, 1)``.

    Returns
    -------
    a : ndarray, shape (n_a, m, T_x)
        Hidden states.
    y_pred : ndarray, shape (n_y, m, T_x)
        Predictions.
    caches : tuple
        For `rnn_backward`: ``(per-step caches, x)``; a step's cache is
        ``(a_next, a_prev, xt, parameters)``, made when asked for.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    sizes = {"1": 1}
    found = weights(parameters, KEYS | HEAD_KEYS, sizes)
    x_in = checked("x", x, ("n_x", "m", "T_x"), sizes)
    a0 = checked("a0", a0, ("n_a", "m"), sizes)
    a, y, steps = _forward(x_in, a0, parameters, found, sizes)
    return a, y, (steps, x)


def _backward(da: Array, steps: RNNSteps) -> dict[str, Array]:
    """`rnn_backward`, of a checked `da` and over buffers."""
    H, B, T = da.shape
    sizes = {"1": 1, "n_a": H, "n_x": steps.x.shape[2]}
    w_ax, w_aa, _ = weights(steps.parameters, KEYS, sizes)
    dtype = common_dtype((da, steps.x, steps.h, steps.h_prev, w_ax, w_aa))
    D = sizes["n_x"]
    dx = np.empty((D, B, T), dtype)
    da0 = np.empty((H, B), dtype)
    dw_ax = np.empty((H, D), dtype)
    dw_aa = np.empty((H, H), dtype)
    db = np.empty((H, 1), dtype)
    size = max(backward_size(D, H, 1, dtype), accumulate_size(H, T * B, dtype))
    scratch, dh_out, dz, dh, dx_rows = aligned(
        dtype, (size,), (T, B, H), (T, B, H), (B, H), (T, B, D)
    )
    kernels.rnn_notebook_backward(
        ready(da, dtype), ready(w_ax, dtype), ready(w_aa, dtype), ready(steps.x, dtype),
        ready(steps.h_prev, dtype), ready(steps.h, dtype), dh_out, dz, dh, dx_rows,
        dx, da0, dw_ax, dw_aa, db, scratch,
    )  # fmt: skip
    return {"dx": dx, "da0": da0, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}


def rnn_backward(da: Any, caches: Any) -> dict[str, Array]:
    """Back-propagate through time.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T)
        Gradient of the loss with respect to each hidden state, as far as it does not come
        through later states.  `T` may be less than the steps of the caches: the first
        steps are meant.
    caches : tuple
        What `rnn_forward` returned, or ``(list of the cell function's caches, x)``.

    Returns
    -------
    dict
        ``dx (n_x, m, T)``, ``da0 (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Werbos (1990), "Backpropagation through time", Proceedings of the IEEE 78(10).
    """
    steps = rnn_steps(caches)
    T_x, m, n_a = steps.h.shape
    da = checked("da", da, ("n_a", "m", "T"), {"n_a": n_a, "m": m})
    check_steps("da", da, T_x)
    return _backward(da, steps)


def rnn_cell_forward(xt: Any, a_prev: Any, parameters: Any) -> tuple[Array, Array, Cache]:
    """One step of the network: ``a_next = tanh(Wax xt + Waa a_prev + ba)``.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
        Input of the step.
    a_prev : array_like, shape (n_a, m)
        State before the step.
    parameters : mapping
        As for `rnn_forward`.

    Returns
    -------
    a_next : ndarray, shape (n_a, m)
        State after the step.
    yt_pred : ndarray, shape (n_y, m)
        Prediction, ``softmax(Wya a_next + by)``.
    cache : tuple
        ``(a_next, a_prev, xt, parameters)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """
    sizes = {"1": 1}
    found = weights(parameters, KEYS | HEAD_KEYS, sizes)
    xt = checked("xt", xt, ("n_x", "m"), sizes)
    a_prev = checked("a_prev", a_prev, ("n_a", "m"), sizes)
    dtype = common_dtype([xt, a_prev, *found])
    D, H, B, O = sizes["n_x"], sizes["n_a"], sizes["m"], sizes["n_y"]
    a_next = np.empty((H, B), dtype)
    y = np.empty((O, B), dtype)
    w_ax, w_aa, b_a, w_ya, b_y = (ready(w, dtype) for w in found)
    cells.rnn_cell_forward(
        ready(xt, dtype), ready(a_prev, dtype), w_ax, w_aa, w_ya, b_a, b_y, a_next, y,
        cell_scratch(dtype, 0, B * D, B * H, B * H, B * O),
    )  # fmt: skip
    return a_next, y, (a_next, a_prev, xt, parameters)


def rnn_cell_backward(da_next: Any, cache: Any) -> dict[str, Array]:
    """Back-propagate through one step.

    Parameters
    ----------
    da_next : array_like, shape (n_a, m)
        Gradient of the loss with respect to the state after the step.
    cache : tuple
        What `rnn_cell_forward` returned last.

    Returns
    -------
    dict
        ``dxt (n_x, m)``, ``da_prev (n_a, m)``, ``dWax (n_a, n_x)``, ``dWaa (n_a, n_a)``,
        ``dba (n_a, 1)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.
    """
    sizes = {"1": 1}
    saved, parameters = check_cache("cache", cache, CACHE, sizes)
    da_next = checked("da_next", da_next, ("n_a", "m"), sizes)
    w_ax, w_aa, _ = weights(parameters, KEYS, sizes)
    dtype = common_dtype([da_next, *saved, w_ax, w_aa])
    D, H, B = sizes["n_x"], sizes["n_a"], sizes["m"]
    dxt = np.empty((D, B), dtype)
    da_prev = np.empty((H, B), dtype)
    dw_ax = np.empty((H, D), dtype)
    dw_aa = np.empty((H, H), dtype)
    db = np.empty((H, 1), dtype)
    a_next, a_prev, xt = (ready(array, dtype) for array in saved)
    cells.rnn_cell_backward(
        ready(da_next, dtype), a_next, a_prev, xt, ready(w_ax, dtype), ready(w_aa, dtype),
        dxt, da_prev, dw_ax, dw_aa, db,
        cell_scratch(dtype, max(B, H), B * D, B * H, B * H, B * H),
    )  # fmt: skip
    return {"dxt": dxt, "da_prev": da_prev, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}


class RNNWorkspace(Workspace):
    """Buffers of an `RNN`: the states and all gradients."""

    def __init__(self, layer: "RNN", T: int, B: int, training: bool) -> None:
        D, H, dtype = layer.D, layer.H, layer.dtype
        (h,) = memory = aligned(dtype, (T + 1, B, H))
        self.h = h
        self.forward = h, chunk(T, B, H, dtype)
        self.first = (h[0],)
        self.last = (h[-1],)
        if training:
            size = accumulate_size(H, T * B, dtype)
            gradients = aligned(
                dtype, (T, B, D), (T, B, H), (H, D), (H, H), (H, 1), (B, H),
                *[(size,)] * layer.threads,
            )  # fmt: skip
            self.dx, self.dgates, dw_ax, dw_aa, db, dh, *self.scratch = gradients
            memory += gradients
            self.backward = h, self.dgates, dh
            self.dstate = (dh,)
            self.dweights = dw_ax, dw_aa, db
            self.gradients = {"dx": self.dx, "da0": dh, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}
        super().__init__(layer, T, B, training, memory)


class RNN(Layer):
    """A simple recurrent layer over time-major arrays, with weights packed once.

    Parameters
    ----------
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``ba (n_a, 1)``, as for `rnn_forward`; other
        keys are not looked at.
    threads : int
        Threads that one large call is spread over; the results are the same to the bit.
    training : bool
        Whether to pack the weights for `backward` too.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).
    """

    _keys = KEYS
    _gates = 1
    _state = ("h",)
    _kernels = Kernels(
        kernels.rnn_forward,
        kernels.rnn_step,
        kernels.rnn_backward_steps,
        kernels.rnn_input_gradient,
        kernels.rnn_weight_gradients,
    )

    def _weights(self, parameters: Any, sizes: dict[str, int]) -> list[Array]:
        return weights(parameters, KEYS, sizes)

    def _pack(self, found: list[Array]) -> None:
        w_ax, w_aa, b_a = found
        kernels.rnn_pack(w_ax, w_aa, b_a, self._packed)
        if self.training:
            kernels.rnn_pack_backward(w_ax, w_aa, self._packed_backward)

    def _workspace(self, T: int, B: int, training: bool) -> RNNWorkspace:
        return RNNWorkspace(self, T, B, training)
