"""The simple recurrent network: the notebooks' functions, and the layer object."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from .checks import Arguments, Array, check_steps
from .kernels import cells, short
from .kernels import rnn as kernels
from .layer import Kernels, Layer
from .packing import (
    aligned,
    aligned_if_large,
    backward_scratch_size,
    backward_size,
    chunk,
    forward_size,
    gradients_size,
    is_short,
    paneled,
    scratch,
    short_backward_size,
    unpacked_backward_size,
    unpacked_scratch,
    unpacked_scratch_size,
)
from .steps import Cache, Steps, split_cache, split_caches, stack_caches
from .workspace import Workspace

WEIGHTS = {"Wax": ("n_a", "n_x"), "Waa": ("n_a", "n_a")}
KEYS = WEIGHTS | {"ba": ("n_a", "1")}
HEAD_KEYS = {"Wya": ("n_y", "n_a"), "by": ("n_y", "1")}
CACHE = ("a_next", "a_prev", "xt", "parameters")

FORWARD = Arguments(
    {"x": ("n_x", "m", "T_x"), "a0": ("n_a", "m")}, KEYS | HEAD_KEYS, weights_first=True
)
BACKWARD = Arguments(
    {"x in caches": ("T_x", "m", "n_x")}
    | dict.fromkeys(("a_prev in caches", "a_next in caches"), ("T_x", "m", "n_a"))
    | {"da": ("n_a", "m", "T")},
    WEIGHTS,
    weights_first=False,
)
CELL_FORWARD = Arguments(
    {"xt": ("n_x", "m"), "a_prev": ("n_a", "m")}, KEYS | HEAD_KEYS, weights_first=True
)
CELL_BACKWARD = Arguments(
    dict.fromkeys(("a_next in cache", "a_prev in cache"), ("n_a", "m"))
    | {"xt in cache": ("n_x", "m"), "da_next": ("n_a", "m")},
    WEIGHTS,
    weights_first=False,
)


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


def rnn_steps(caches: Any, keys: Collection[str] = WEIGHTS) -> RNNSteps:
    """The caches of a run of this cell, gathered if a loop over the cell built them.

    keys : of the weights, which are the same in all steps.
    """
    steps, _ = split_caches(caches)
    if isinstance(steps, RNNSteps):
        return steps
    parameters, arrays = stack_caches(steps, CACHE, keys)
    return RNNSteps(parameters, arrays["xt"], arrays["a_prev"], arrays["a_next"])


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
    dtype, arrays = FORWARD.ready((x, a0), parameters)
    x_in, a0, w_ax, w_aa, b_a, w_ya, b_y = arrays
    D, B, T = x_in.shape
    O, H = w_ya.shape
    a = np.empty((H, B, T), dtype)
    y = np.empty((O, B, T), dtype)
    x_rows, h = aligned_if_large(dtype, (T, B, D), (T + 1, B, H))
    arguments = x_in, a0, w_ax, w_aa, w_ya, b_a, b_y, x_rows, h, a, y
    if is_short(T, B, D, H, 1, dtype):
        short.rnn_short_notebook_forward(*arguments, unpacked_scratch(dtype, 0, T * B * O))
    else:
        packed = max(forward_size(D, H, 1, dtype), paneled(O, dtype) * H)
        steps = chunk(T, B, H, dtype)
        kernels.rnn_notebook_forward(*arguments, scratch(dtype, T * B * O, packed), steps)
    return a, y, (RNNSteps(parameters, x_rows, h[:-1], h[1:]), x)


def rnn_backward(da: Any, caches: Any) -> dict[str, Array]:
    """Back-propagate through time.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T)
        Gradient of the loss with respect to each hidden state, as far as it does not come
        through later states.  `T` may be less than the steps of the caches: the first
        steps are meant.
    caches : tuple
        What `rnn_forward` returned, or ``(list of the cell function's caches, x)``, of steps
        with the same weights.  These are read as they are now.

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
    dtype, arrays = BACKWARD.ready((steps.x, steps.h_prev, steps.h, da), steps.parameters)
    x_rows, h_prev, h, da, w_ax, w_aa = arrays
    check_steps("da", da, len(x_rows))
    H, B, T = da.shape
    D = w_ax.shape[1]
    dx = np.empty((D, B, T), dtype)
    da0 = np.empty((H, B), dtype)
    dw_ax = np.empty((H, D), dtype)
    dw_aa = np.empty((H, H), dtype)
    db = np.empty((H, 1), dtype)
    arguments = da, w_ax, w_aa, x_rows, h_prev, h, dx, da0, dw_ax, dw_aa, db
    sizes = T * B * H, T * B * H, B * H, T * B * D
    if is_short(T, B, D, H, 1, dtype):
        packed = short_backward_size(T * B, D, H, 1, dtype)
        short.rnn_short_notebook_backward(*arguments, unpacked_scratch(dtype, packed, *sizes))
    else:
        packed = max(backward_size(D, H, 1, dtype), gradients_size(H, max(D, H), T * B, dtype))
        kernels.rnn_notebook_backward(*arguments, scratch(dtype, *sizes, packed))
    return {"dx": dx, "da0": da0, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}


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
    dtype, arrays = CELL_FORWARD.ready((xt, a_prev), parameters)
    xt, a_prev, w_ax, w_aa, b_a, w_ya, b_y = arrays
    D, B = xt.shape
    O, H = w_ya.shape
    a_next = np.empty((H, B), dtype)
    y = np.empty((O, B), dtype)
    cells.rnn_cell_forward(
        xt, a_prev, w_ax, w_aa, w_ya, b_a, b_y, a_next, y,
        unpacked_scratch(dtype, 0, B * D, 2 * B * H, B * O),
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

    References
    ----------
    Werbos (1990), "Backpropagation through time", Proceedings of the IEEE 78(10).
    """
    saved, parameters = split_cache("cache", cache, CACHE)
    dtype, arrays = CELL_BACKWARD.ready((*saved, da_next), parameters)
    a_next, a_prev, xt, da_next, w_ax, w_aa = arrays
    D, B = xt.shape
    H = len(a_next)
    dxt = np.empty((D, B), dtype)
    da_prev = np.empty((H, B), dtype)
    dw_ax = np.empty((H, D), dtype)
    dw_aa = np.empty((H, H), dtype)
    db = np.empty((H, 1), dtype)
    cells.rnn_cell_backward(
        da_next, a_next, a_prev, xt, w_ax, w_aa, dxt, da_prev, dw_ax, dw_aa, db,
        np.empty(_cell_backward_scratch_size(B, D, H, dtype), dtype),
    )  # fmt: skip
    return {"dxt": dxt, "da_prev": da_prev, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}


@lru_cache(256)
def _cell_backward_scratch_size(B: int, D: int, H: int, dtype: np.dtype[Any]) -> int:
    """Elements of scratch of `cells.rnn_cell_backward`: one look-up in a call of microseconds."""
    packed = unpacked_backward_size(B, D, H, 1, dtype)
    return unpacked_scratch_size(dtype, packed, B * D, B * H, B * H, B * H)


class RNNWorkspace(Workspace):
    """Buffers of an `RNN`: the states and all gradients."""

    def __init__(self, layer: "RNN", T: int, B: int, training: bool) -> None:
        D, H, dtype = layer.D, layer.H, layer.dtype
        crew = layer._crew(T, B)
        (h,) = memory = aligned(dtype, (T + 1, B, H))
        self.h = h
        self.forward = h, chunk(T, B, H, dtype)
        self.last = (h[-1],)
        if training:
            short_run = is_short(T, B, D, H, 1, dtype)
            size = backward_scratch_size(short_run, T * B, D, H, 1, dtype)
            dx, dz, dw_ax, dw_aa, db, dh, scratch = gradients = aligned(
                dtype, (T, B, D), (T, B, H), (H, D), (H, H), (H, 1), (B, H),
                (crew.members, size),
            )  # fmt: skip
            memory += gradients
            self.backward = dz, dh, dx, dw_ax, dw_aa, db, scratch
            if short_run:
                self.short = h, scratch
            self.gradients = {"dx": dx, "da0": dh, "dWax": dw_ax, "dWaa": dw_aa, "dba": db}
        super().__init__(layer, T, B, training, crew, memory)


class RNN(Layer):
    """A simple recurrent layer over time-major arrays, with weights packed once.

    Parameters
    ----------
    parameters : mapping
        ``Wax (n_a, n_x)``, ``Waa (n_a, n_a)``, ``ba (n_a, 1)``, as for `rnn_forward`; other
        keys are not looked at.
    threads : int
        Threads that `forward`, `backward` and `update` are spread over where that pays, at most
        one for each CPU; the results are the same to the bit.
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
    _matrices = 2
    _gates = 1
    _state = ("h",)
    _kernels = Kernels(
        kernels.rnn_pack,
        kernels.rnn_forward,
        kernels.rnn_step,
        kernels.rnn_backward,
        short.rnn_short_forward,
        short.rnn_short_backward,
    )

    def _workspace(self, T: int, B: int, training: bool) -> RNNWorkspace:
        return RNNWorkspace(self, T, B, training)
