"""The simple recurrent cell: its pointwise forward, its pointwise backward, the loops over time.

Shapes: ``x (T, B, D)``, ``h (T + 1, B, H)`` with slot 0 the initial state.  The
pre-activations are written where the hidden state will stand.

Source: Elman (1990), Cognitive Science 14(2), with tanh units.
"""

from ._jit import inline, kernel
from .activations import tanh
from .head import predict
from .linear import (
    accumulate,
    accumulate_panel_space,
    add_row,
    add_rows,
    copy_row,
    multiply,
    pack_columns,
    pack_rows,
    passes,
    reverse_axes,
    transpose,
    zero_row,
)
from .simd import lanes, load, padded, paneled, pointer, store


@inline
def step_forward(units, h):
    """One step of adjacent units: ``h`` from its pre-activation, in place."""
    for j in range(0, units, lanes(h)):
        store(h + j, tanh(load(h + j, units - j)), units - j)


@inline
def step_backward(units, h, dh, dz):
    """One step back of adjacent units: the pre-activation's gradient from the state's."""
    for j in range(0, units, lanes(h)):
        h_j = load(h + j, units - j)
        store(dz + j, (1.0 - h_j * h_j) * load(dh + j, units - j), units - j)


@inline
def pack_forward(w_ax, w_aa, b_a, weights, D, H):
    """The forward weights: bias, input to hidden, hidden to hidden."""
    copy_row(H, weights, b_a)
    w_x = weights + padded(weights, H)
    pack_columns(H, w_ax, D, D, w_x)
    pack_columns(H, w_aa, H, H, w_x + paneled(weights, H) * D)


@inline
def pack_backward(w_ax, w_aa, weights, D, H):
    """The backward weights: hidden to hidden, input to hidden, both the other way."""
    pack_rows(H, w_aa, H, 0, H, weights, H)
    pack_rows(D, w_ax, D, 0, H, weights + paneled(weights, H) * H, H)


@inline
def forward_steps(x, weights, h, T, B, D, H, steps, b0, b1):
    """All steps of the rows from `b0` to `b1`; the inputs' products `steps` at a time."""
    rows = b1 - b0
    w_x = weights + padded(weights, H)
    w_h = w_x + paneled(weights, H) * D
    for t0 in range(0, T, steps):
        n = min(steps, T - t0)
        if rows == B:
            multiply(n * B, H, h + (t0 + 1) * B * H, H, weights, 0, H, x + t0 * B * D, D, 1, w_x, D)
        for t in range(t0, t0 + n):
            h_prev = h + (t * B + b0) * H
            h_t = h_prev + B * H
            if rows != B:
                multiply(rows, H, h_t, H, weights, 0, H, x + (t * B + b0) * D, D, 1, w_x, D)
            multiply(rows, H, h_t, H, h_t, H, H, h_prev, H, 1, w_h, H)
            step_forward(rows * H, h_t)


@inline
def backward_steps(dh_out, weights, h, dz, dh, T, B, H, b0, b1):
    """All steps back of the rows from `b0` to `b1`; `dh` from the last state's to the first's.

    h : (T, B, H), the new states.
    """
    rows = b1 - b0
    dh = dh + b0 * H
    if T > 0:
        add_row(rows * H, dh, dh_out + ((T - 1) * B + b0) * H)
    for t in range(T - 1, -1, -1):
        at = (t * B + b0) * H
        step_backward(rows * H, h + at, dh, dz + at)
        start = dh_out + (at - B * H) if t > 0 else dh
        multiply(
            rows, H, dh, H, start, H, H if t > 0 else 0,
            dz + at, H, 1, weights, H,
        )  # fmt: skip


@inline
def weight_gradients(x, h, dz, dw_ax, dw_aa, db, N, D, H, g0, g1, scratch):
    """Rows `g0` to `g1` of ``dw_ax (H, D)``, ``dw_aa (H, H)`` and ``db (H)``, over `N` rows.

    h : the old states.
    """
    depth = passes(N)
    transposed = scratch + accumulate_panel_space(h, depth)
    zero_row(g1 - g0, db + g0)
    k = 0
    while k == 0 or k < N:
        n = min(depth, N - k)
        kept = 1 if k > 0 else 0
        dz_k = dz + (k * H + g0)
        add_rows(g1 - g0, db + g0, dz_k, H, n)
        transpose(dz_k, H, transposed, n, n, g1 - g0, n)
        accumulate(g1 - g0, H, dw_aa + g0 * H, H, transposed, n, h + k * H, H, n, kept * H, scratch)
        accumulate(g1 - g0, D, dw_ax + g0 * D, D, transposed, n, x + k * D, D, n, kept * D, scratch)
        k += max(depth, 1)


@inline
def input_gradient(dz, weights, dx, rows, D, H):
    """``dx (rows, D)`` from ``dz (rows, H)``."""
    w_x = weights + paneled(weights, H) * H
    multiply(rows, D, dx, D, dx, D, 0, dz, H, 1, w_x, H)


# --- what the layer object calls ----------------------------------------------------


@kernel
def rnn_pack(w_ax, w_aa, b_a, forward, backward):
    """Pack ``Wax (H, D)``, ``Waa (H, H)`` and ``ba (H, 1)`` for the products.

    backward : may be empty, for inference.
    """
    H, D = w_ax.shape
    training = backward.size > 0
    w_ax, w_aa, b_a = pointer(w_ax), pointer(w_aa), pointer(b_a)
    pack_forward(w_ax, w_aa, b_a, pointer(forward), D, H)
    if training:
        pack_backward(w_ax, w_aa, pointer(backward), D, H)


@kernel
def rnn_forward(x, weights, h, steps, fresh, b0, b1):
    """``h (T + 1, B, H)``, slot 0 read, from ``x (T, B, D)``; rows `b0` to `b1`.

    fresh : whether the first state is zero, whatever slot 0 holds.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h = pointer(h)
    if fresh:
        zero_row((b1 - b0) * H, h + b0 * H)
    forward_steps(pointer(x), pointer(weights), h, T, B, D, H, steps, b0, b1)


@kernel
def rnn_step(x, weights, z, h):
    """One step: ``h (B, H)`` in place, from ``x (B, D)``; `z` as large as `h`, written."""
    B, D = x.shape
    H = h.shape[1]
    weights, z, h = pointer(weights), pointer(z), pointer(h)
    w_x = weights + padded(weights, H)
    w_h = w_x + paneled(weights, H) * D
    multiply(B, H, z, H, weights, 0, H, pointer(x), D, 1, w_x, D)
    multiply(B, H, z, H, z, H, H, h, H, 1, w_h, H)
    step_forward(B * H, z)
    copy_row(B * H, h, z)


@kernel
def rnn_backward_steps(dh_out, weights, h, dz, dh, fresh, b0, b1):
    """``dz (T, B, H)`` from ``dh_out (T, B, H)`` and `h`; rows `b0` to `b1`.

    dh : (B, H), the last state's further gradient, overwritten by the first's.
    fresh : whether that further gradient is zero, whatever `dh` holds.
    """
    T, B, H = dh_out.shape
    dh = pointer(dh)
    if fresh:
        zero_row((b1 - b0) * H, dh + b0 * H)
    backward_steps(
        pointer(dh_out), pointer(weights), pointer(h) + B * H, pointer(dz), dh, T, B, H, b0, b1
    )


@kernel
def rnn_input_gradient(dz, weights, dx, t0, t1):
    """Steps `t0` to `t1` of ``dx (T, B, D)``."""
    B, D = dx.shape[1:]
    H = dz.shape[2]
    at = t0 * B
    rows = (t1 - t0) * B
    input_gradient(pointer(dz) + at * H, pointer(weights), pointer(dx) + at * D, rows, D, H)


@kernel
def rnn_weight_gradients(x, h, dz, dw_ax, dw_aa, db, scratch, g0, g1):
    """Rows `g0` to `g1` of the weights' gradients."""
    T, B, D = x.shape
    weight_gradients(
        pointer(x), pointer(h), pointer(dz), pointer(dw_ax), pointer(dw_aa), pointer(db),
        T * B, D, h.shape[2], g0, g1, pointer(scratch),
    )  # fmt: skip


# --- what the notebook functions call -----------------------------------------------


@kernel
def rnn_notebook_forward(
    x, a0, w_ax, w_aa, w_ya, b_a, b_y, scratch, x_rows, h, y_rows, a, y, steps
):
    """The whole of `rnn_forward`, in the notebooks' layout.

    x : (D, B, T), a0 : (H, B), weights as the notebooks have them; read.
    x_rows : (T, B, D), h : (T + 1, B, H), kept for the way back; written.
    y_rows : (T, B, O), written on the way; a : (H, B, T), y : (O, B, T), written.
    """
    D, B, T = x.shape
    O, H = w_ya.shape
    scratch, x_rows, h, y_rows = pointer(scratch), pointer(x_rows), pointer(h), pointer(y_rows)
    pack_forward(pointer(w_ax), pointer(w_aa), pointer(b_a), scratch, D, H)
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    forward_steps(x_rows, scratch, h, T, B, D, H, steps, 0, B)
    reverse_axes(h + B * H, pointer(a), T, B, H)
    predict(h + B * H, pointer(w_ya), pointer(b_y), scratch, y_rows, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def rnn_notebook_backward(
    da, w_ax, w_aa, x_rows, h_prev, h, dh_out, dz, dh, dx_rows, dx, da0, dw_ax, dw_aa, db, scratch
):
    """The whole of `rnn_backward`, in the notebooks' layout.

    da : (H, B, T), w_*, x_rows : (T or more, B, D), h_prev, h : (T or more, B, H), the old
        and the new states; read.
    dh_out, dz : (T, B, H), dh : (B, H), dx_rows : (T, B, D), written on the way.
    dx : (D, B, T), da0 : (H, B), dw_ax : (H, D), dw_aa : (H, H), db : (H, 1), written.
    """
    H, B, T = da.shape
    D = w_ax.shape[1]
    dh_out, dz, x_rows = pointer(dh_out), pointer(dz), pointer(x_rows)
    dh, dx_rows, scratch = pointer(dh), pointer(dx_rows), pointer(scratch)
    pack_backward(pointer(w_ax), pointer(w_aa), scratch, D, H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    backward_steps(dh_out, scratch, pointer(h), dz, dh, T, B, H, 0, B)
    transpose(dh, H, pointer(da0), B, B, H, B)
    input_gradient(dz, scratch, dx_rows, T * B, D, H)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
    weight_gradients(
        x_rows, pointer(h_prev), dz, pointer(dw_ax), pointer(dw_aa), pointer(db),
        T * B, D, H, 0, H, scratch,
    )  # fmt: skip
