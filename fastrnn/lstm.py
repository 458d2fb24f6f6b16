"""The LSTM: the notebooks' functions, and the layer object."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from .checks import Arguments, Array, check_steps
from .kernels import cells, short
from .kernels import lstm as kernels
from .kernels.lstm import GATE_F, GATE_G, GATE_I, GATE_O, GATES
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
    padded,
    paneled,
    scratch,
    short_backward_size,
    unpacked_backward_size,
    unpacked_scratch,
    unpacked_scratch_size,
)
from .steps import Cache, Steps, split_cache, split_caches, stack_caches
from .workspace import Workspace

WEIGHTS = {f"W{gate}": ("n_a", "n_a + n_x") for gate in "fico"}
KEYS = WEIGHTS | {f"b{gate}": ("n_a", "1") for gate in "fico"}
HEAD_KEYS = {"Wy": ("n_y", "n_a"), "by": ("n_y", "1")}
CACHE = ("a_next", "c_next", "a_prev", "c_prev", "ft", "it", "cct", "ot", "xt", "parameters")
GRADIENT_KEYS = [
    (f"dW{name}", f"db{name}", gate)
    for name, gate in (("f", GATE_F), ("i", GATE_I), ("c", GATE_G), ("o", GATE_O))
]

FORWARD = Arguments(
    {"x": ("n_x", "m", "T_x"), "a0": ("n_a", "m")}, KEYS | HEAD_KEYS, weights_first=True
)
BACKWARD = Arguments(
    {"x in caches": ("T_x", "m", "n_x"), "gates in caches": ("T_x", "m", "4", "n_a")}
    | {f"{name} in caches": ("T_x", "m", "n_a") for name in ("c_prev", "c_next", "a_prev")}
    | {"da": ("n_a", "m", "T")},
    WEIGHTS,
    weights_first=False,
)
CELL_FORWARD = Arguments(
    {"xt": ("n_x", "m"), "a_prev": ("n_a", "m"), "c_prev": ("n_a", "m")},
    KEYS | HEAD_KEYS,
    weights_first=True,
)
CELL_BACKWARD = Arguments(
    {f"{name} in cache": ("n_x" if name == "xt" else "n_a", "m") for name in CACHE[:-1]}
    | dict.fromkeys(("da_next", "dc_next"), ("n_a", "m")),
    WEIGHTS,
    weights_first=False,
)


class LSTMSteps(Steps):
    """Caches of a run: ``steps[t]`` is
    ``(a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)``.

    x : (T, m, n_x), gates : (T, m, 4, n_a), h_prev, h, c_prev, c : (T, m, n_a), the old and
    the new states and cells.
    """

    __slots__ = ("c", "c_prev", "gates", "h", "h_prev", "x")

    def __init__(
        self,
        parameters: Any,
        x: Array,
        gates: Array,
        h_prev: Array,
        h: Array,
        c_prev: Array,
        c: Array,
    ) -> None:
        super().__init__(len(x), parameters)
        self.x = x
        self.gates = gates
        self.h_prev = h_prev
        self.h = h
        self.c_prev = c_prev
        self.c = c

    def step(self, t: int) -> Cache:
        gates = self.gates[t]
        return (
            self.h[t].T,
            self.c[t].T,
            self.h_prev[t].T,
            self.c_prev[t].T,
            gates[:, GATE_F].T,
            gates[:, GATE_I].T,
            gates[:, GATE_G].T,
            gates[:, GATE_O].T,
            self.x[t].T,
            self.parameters,
        )


def lstm_steps(caches: Any, keys: Collection[str] = WEIGHTS) -> LSTMSteps:
    """The caches of a run of this cell, gathered if a loop over the cell built them.

    keys : of the weights, which are the same in all steps.
    """
    steps, _ = split_caches(caches)
    if isinstance(steps, LSTMSteps):
        return steps
    parameters, arrays = stack_caches(steps, CACHE, keys)
    gates = np.stack([arrays[name] for name in ("it", "ft", "cct", "ot")], axis=2)
    return LSTMSteps(
        parameters,
        arrays["xt"],
        gates,
        arrays["a_prev"],
        arrays["a_next"],
        arrays["c_prev"],
        arrays["c_next"],
    )


def lstm_forward(
    x: Any, a0: Any, parameters: Any
) -> tuple[Array, Array, Array, tuple[LSTMSteps, Any]]:
    """Run the network over all time steps, from a cell of zeros::

        f, i, o = sigmoid(W [a[t-1]; x[t]] + b)     with Wf bf, Wi bi, Wo bo
        g       = tanh(Wc [a[t-1]; x[t]] + bc)
        c[t]    = f * c[t-1] + i * g
        a[t]    = o * tanh(c[t])
        y[t]    = softmax(Wy a[t] + by)

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
        Input of m examples.
    a0 : array_like, shape (n_a, m)
        Initial state.
    parameters : mapping
        ``Wf Wi Wc Wo (n_a, n_a + n_x)``, ``bf bi bc bo (n_a, 1)``, ``Wy (n_y, n_a)``,
        ``by (n_y, 1)``.

    Returns
    -------
    a : ndarray, shape (n_a, m, T_x)
        Hidden states.
    y : ndarray, shape (n_y, m, T_x)
        Predictions.
    c : ndarray, shape (n_a, m, T_x)
        Cell states.
    caches : tuple
        For `lstm_backward`: ``(per-step caches, x)``; a step's cache is ``(a_next, c_next,
        a_prev, c_prev, ft, it, cct, ot, xt, parameters)``, made when asked for.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8);
    Gers, Schmidhuber & Cummins (2000), "Learning to forget", Neural Computation 12(10).
    """
    dtype, arrays = FORWARD.ready((x, a0), parameters)
    x_in, a0, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, w_y, b_y = arrays
    D, B, T = x_in.shape
    O, H = w_y.shape
    a = np.empty((H, B, T), dtype)
    c = np.empty((H, B, T), dtype)
    y = np.empty((O, B, T), dtype)
    x_rows, gates, c_rows, h = aligned_if_large(
        dtype, (T, B, D), (T, B, GATES, H), (T + 1, B, H), (T + 1, B, H)
    )
    arguments = (
        x_in, a0, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
        x_rows, gates, c_rows, h, a, c, y,
    )  # fmt: skip
    if is_short(T, B, D, H, GATES, dtype):
        short.lstm_short_notebook_forward(*arguments, unpacked_scratch(dtype, 0, T * B * O))
    else:
        packed = max(forward_size(D, H, GATES, dtype), paneled(O, dtype) * H)
        across = GATES * padded(H, dtype)
        steps = chunk(T, B, across, dtype)
        sizes = T * B * O, steps * B * across, packed
        kernels.lstm_notebook_forward(*arguments, scratch(dtype, *sizes), steps)
    caches = LSTMSteps(parameters, x_rows, gates, h[:-1], h[1:], c_rows[:-1], c_rows[1:])
    return a, y, c, (caches, x)


def gate_gradients(dw: Array, db: Array) -> dict[str, Array]:
    """The weights' gradients under the notebooks' keys, as views."""
    gradients = {}
    for dw_key, db_key, gate in GRADIENT_KEYS:
        gradients[dw_key] = dw[gate]
        gradients[db_key] = db[gate]
    return gradients


def lstm_backward(da: Any, caches: Any) -> dict[str, Array]:
    """Back-propagate through time.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T)
        Gradient of the loss with respect to each hidden state, as far as it does not come
        through later states.  `T` may be less than the steps of the caches: the first
        steps are meant.
    caches : tuple
        What `lstm_forward` returned, or ``(list of the cell function's caches, x)``, of steps
        with the same weights.  These are read as they are now.

    Returns
    -------
    dict
        ``dx (n_x, m, T)``, ``da0 (n_a, m)``; ``dWf dWi dWc dWo (n_a, n_a + n_x)``,
        ``dbf dbi dbc dbo (n_a, 1)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Werbos (1990), "Backpropagation through time", Proceedings of the IEEE 78(10);
    Graves & Schmidhuber (2005), "Framewise phoneme classification", Neural Networks 18(5-6).
    """
    steps = lstm_steps(caches)
    saved = steps.x, steps.gates, steps.c_prev, steps.c, steps.h_prev
    dtype, arrays = BACKWARD.ready((*saved, da), steps.parameters)
    x_rows, gates, c_prev, c, h_prev, da, w_f, w_i, w_c, w_o = arrays
    check_steps("da", da, len(x_rows))
    H, B, T = da.shape
    D = x_rows.shape[2]
    dx = np.empty((D, B, T), dtype)
    da0 = np.empty((H, B), dtype)
    dw = np.empty((GATES, H, H + D), dtype)
    db = np.empty((GATES, H, 1), dtype)
    arguments = da, w_f, w_i, w_c, w_o, x_rows, gates, c_prev, c, h_prev, dx, da0, dw, db
    sizes = T * B * H, T * B * GATES * H, B * H, B * H, T * B * D
    if is_short(T, B, D, H, GATES, dtype):
        packed = short_backward_size(T * B, D, H, GATES, dtype)
        short.lstm_short_notebook_backward(*arguments, unpacked_scratch(dtype, packed, *sizes))
    else:
        packed = max(
            backward_size(D, H, GATES, dtype), gradients_size(GATES * H, max(D, H), T * B, dtype)
        )
        kernels.lstm_notebook_backward(*arguments, scratch(dtype, *sizes, packed))
    return {"dx": dx, "da0": da0} | gate_gradients(dw, db)


def lstm_cell_forward(
    xt: Any, a_prev: Any, c_prev: Any, parameters: Any
) -> tuple[Array, Array, Array, Cache]:
    """One step of the network; the equations are those of `lstm_forward`.

    Parameters
    ----------
    xt : array_like, shape (n_x, m)
        Input of the step.
    a_prev, c_prev : array_like, shape (n_a, m)
        State and cell before the step.
    parameters : mapping
        As for `lstm_forward`.

    Returns
    -------
    a_next, c_next : ndarray, shape (n_a, m)
        State and cell after the step.
    yt_pred : ndarray, shape (n_y, m)
        Prediction.
    cache : tuple
        ``(a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8);
    Gers, Schmidhuber & Cummins (2000), "Learning to forget", Neural Computation 12(10).
    """
    dtype, arrays = CELL_FORWARD.ready((xt, a_prev, c_prev), parameters)
    xt, a_prev, c_prev, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, w_y, b_y = arrays
    D, B = xt.shape
    O, H = w_y.shape
    a_next = np.empty((H, B), dtype)
    c_next = np.empty((H, B), dtype)
    gates = np.empty((GATES, H, B), dtype)
    y = np.empty((O, B), dtype)
    cells.lstm_cell_forward(
        xt, a_prev, c_prev, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
        a_next, c_next, gates, y,
        unpacked_scratch(dtype, 0, B * D, 2 * B * H, 2 * B * H, B * H * GATES, B * O),
    )  # fmt: skip
    ft, it, cct, ot = gates[GATE_F], gates[GATE_I], gates[GATE_G], gates[GATE_O]
    cache = a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters
    return a_next, c_next, y, cache


def lstm_cell_backward(da_next: Any, dc_next: Any, cache: Any) -> dict[str, Array]:
    """Back-propagate through one step.

    Parameters
    ----------
    da_next, dc_next : array_like, shape (n_a, m)
        Gradients of the loss with respect to the state and the cell after the step.
    cache : tuple
        What `lstm_cell_forward` returned last.

    Returns
    -------
    dict
        ``dxt (n_x, m)``, ``da_prev``, ``dc_prev (n_a, m)``; ``dWf dWi dWc dWo
        (n_a, n_a + n_x)``, ``dbf dbi dbc dbo (n_a, 1)``.

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument does not fit; the message names it.

    References
    ----------
    Graves & Schmidhuber (2005), "Framewise phoneme classification", Neural Networks 18(5-6).
    """
    saved, parameters = split_cache("cache", cache, CACHE)
    dtype, arrays = CELL_BACKWARD.ready((*saved, da_next, dc_next), parameters)
    _, c_next, a_prev, c_prev, ft, it, cct, ot, xt, da_next, dc_next, w_f, w_i, w_c, w_o = arrays
    D, B = xt.shape
    H = len(c_next)
    dxt = np.empty((D, B), dtype)
    da_prev = np.empty((H, B), dtype)
    dc_prev = np.empty((H, B), dtype)
    dw = np.empty((GATES, H, H + D), dtype)
    db = np.empty((GATES, H, 1), dtype)
    cells.lstm_cell_backward(
        da_next, dc_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, w_f, w_i, w_c, w_o,
        dxt, da_prev, dc_prev, dw, db,
        np.empty(_cell_backward_scratch_size(B, D, H, dtype), dtype),
    )  # fmt: skip
    return {"dxt": dxt, "da_prev": da_prev, "dc_prev": dc_prev} | gate_gradients(dw, db)


@lru_cache(256)
def _cell_backward_scratch_size(B: int, D: int, H: int, dtype: np.dtype[Any]) -> int:
    """Elements of scratch of `cells.lstm_cell_backward`: one look-up in a call of microseconds."""
    packed = unpacked_backward_size(B, D, H, GATES, dtype)
    return unpacked_scratch_size(
        dtype, packed, B * (H + D), B * H, B * H, B * H, B * H, B * H * GATES
    )


class LSTMWorkspace(Workspace):
    """Buffers of an `LSTM`: the gates, state and cell, and all gradients."""

    def __init__(self, layer: "LSTM", T: int, B: int, training: bool) -> None:
        D, H, dtype = layer.D, layer.H, layer.dtype
        crew = layer._crew(T, B)
        across = padded(H, dtype)
        steps = chunk(T, B, GATES * across, dtype)
        kept, cells = (T, T + 1) if training else (0, 1)
        # Alone, since without a workspace it is all that is kept.
        (h,) = aligned(dtype, (T + 1, B, H))
        sums, gates, c = aligned(
            dtype, (steps, B, GATES, across), (kept, B, GATES, H), (cells, B, H)
        )
        memory = [h, sums, gates, c]
        self.h = h
        self.forward = sums, gates, c, h, steps
        self.last = h[-1], c[-1]
        if training:
            short_run = is_short(T, B, D, H, GATES, dtype)
            size = backward_scratch_size(short_run, T * B, D, H, GATES, dtype)
            dx, dw, db, dh, dc, scratch = gradients = aligned(
                dtype, (T, B, D), (GATES, H, H + D), (GATES, H, 1), (B, H), (B, H),
                (crew.members, size),
            )  # fmt: skip
            memory += gradients
            self.backward = gates, c, dh, dc, dx, dw, db, scratch
            if short_run:
                self.short = gates, c, h, scratch
            self.gradients = {"dx": dx, "da0": dh, "dc0": dc} | gate_gradients(dw, db)
        super().__init__(layer, T, B, training, crew, memory)


class LSTM(Layer):
    """An LSTM layer over time-major arrays, with weights packed once.

    Parameters
    ----------
    parameters : mapping
        ``Wf Wi Wc Wo (n_a, n_a + n_x)`` on ``[a_prev; xt]``, ``bf bi bc bo (n_a, 1)``, as for
        `lstm_forward`; other keys are not looked at.
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
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8);
    Gers, Schmidhuber & Cummins (2000), "Learning to forget", Neural Computation 12(10).
    """

    _keys = KEYS
    _matrices = GATES
    _gates = GATES
    _state = ("h", "c")
    _kernels = Kernels(
        kernels.lstm_pack,
        kernels.lstm_forward,
        kernels.lstm_step,
        kernels.lstm_backward,
        short.lstm_short_forward,
        short.lstm_short_backward,
    )

    def _workspace(self, T: int, B: int, training: bool) -> LSTMWorkspace:
        return LSTMWorkspace(self, T, B, training)
