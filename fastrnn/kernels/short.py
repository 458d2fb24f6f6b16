"""Runs of few steps, by weights as they lie.

Packing weights costs more than it saves where only a few steps use them.  Sums take their terms
in the same order as those of `rnn` and `lstm`, and so the bits are the same.
"""

from ._jit import inline, kernel, part
from .head import softmax_each
from .linear import add_row, add_rows, copy_or_zero, copy_row, reverse_axes, transpose, zero_row
from .lstm import GATE_F, GATE_G, GATE_I, GATE_O, GATES
from .lstm import step_back as lstm_step_back
from .lstm import step_forward as lstm_step_forward
from .lying import accumulate_lying, multiply_back, multiply_lying
from .rnn import step_backward as rnn_step_backward
from .rnn import step_forward as rnn_step_forward
from .rnn import weight_gradients as rnn_weight_gradients
from .simd import align, lanes, padded, pointer


@inline
def predict_lying(h, w_y, b_y, y, packed, N, H, O):
    """`head.predict`: ``y (N, O)`` from ``h (N, H)``."""
    multiply_lying(N, O, y, O, b_y, 0, h, H, w_y, H, H, packed)
    softmax_each(N, O, y)


# --- the simple recurrent cell --------------------------------------------------------


@part
def rnn_steps_forward(x, w_ax, w_aa, b_a, h, packed, T, B, D, H):
    """`rnn.forward_steps`: ``h (T + 1, B, H)``."""
    z = h + B * H
    multiply_lying(T * B, H, z, H, b_a, 0, x, D, w_ax, D, D, packed)
    for t in range(T):
        state = t * B * H
        multiply_lying(B, H, z + state, H, z + state, H, h + state, H, w_aa, H, H, packed)
        rnn_step_forward(B * H, z + state)


@part
def rnn_steps_backward(
    x, w_ax, w_aa, h_prev, h, dh_out, dz, dh, dx, dw_ax, dw_aa, db, scratch, T, B, D, H
):
    """`rnn.backward_steps`.

    scratch : `fastrnn.packing.short_backward_size` elements.
    """
    for t in range(T - 1, -1, -1):
        at = t * B * H
        if t == T - 1:
            add_row(B * H, dh, dh_out + at)
        rnn_step_backward(B * H, h + at, dh, dz + at)
        if t > 0:
            copy_row(B * H, dh, dh_out + (at - B * H))
        multiply_back(B, H, dh, H, t > 0, dz + at, H, w_aa, H, H, scratch)
    multiply_back(T * B, D, dx, D, False, dz, H, w_ax, D, H, scratch)
    rnn_weight_gradients(x, h_prev, dz, dw_ax, dw_aa, db, T * B, D, H, 0, H, scratch)


@kernel
def rnn_short_forward(h0, x, w_ax, w_aa, b_a, h, scratch):
    """`rnn.rnn_forward`.

    scratch : what `fastrnn.packing.lying_scratch` gives.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h = pointer(h)
    copy_or_zero(B * H, h, h0)
    rnn_steps_forward(
        pointer(x), pointer(w_ax), pointer(w_aa), pointer(b_a), h, align(pointer(scratch)),
        T, B, D, H,
    )  # fmt: skip


@kernel
def rnn_short_backward(
    dh_last, x, h, dh_out, w_ax, w_aa, b_a, dz, dh, dx, dw_ax, dw_aa, db, scratch
):
    """`rnn.rnn_backward`; `b_a` is not read.

    scratch : what `fastrnn.packing.lying_scratch` gives for `short_backward_size`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h, dh = pointer(h), pointer(dh)
    copy_or_zero(B * H, dh, dh_last)
    rnn_steps_backward(
        pointer(x), pointer(w_ax), pointer(w_aa), h, h + B * H, pointer(dh_out), pointer(dz), dh,
        pointer(dx), pointer(dw_ax), pointer(dw_aa), pointer(db), align(pointer(scratch)),
        T, B, D, H,
    )  # fmt: skip


@kernel
def rnn_short_notebook_forward(x, a0, w_ax, w_aa, w_ya, b_a, b_y, x_rows, h, a, y, scratch):
    """`rnn.rnn_notebook_forward`.

    scratch : what `fastrnn.packing.lying_scratch` gives for ``y (T, B, O)``.
    """
    D, B, T = x.shape
    O, H = w_ya.shape
    x_rows, h, y_rows = pointer(x_rows), pointer(h), align(pointer(scratch))
    packed = y_rows + padded(y_rows, T * B * O)
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    rnn_steps_forward(x_rows, pointer(w_ax), pointer(w_aa), pointer(b_a), h, packed, T, B, D, H)
    reverse_axes(h + B * H, pointer(a), T, B, H)
    predict_lying(h + B * H, pointer(w_ya), pointer(b_y), y_rows, packed, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def rnn_short_notebook_backward(
    da, w_ax, w_aa, x_rows, h_prev, h, dx, da0, dw_ax, dw_aa, db, scratch
):
    """`rnn.rnn_notebook_backward`.

    scratch : what `fastrnn.packing.lying_scratch` gives for the arrays below.
    """
    H, B, T = da.shape
    D = w_ax.shape[1]
    dh_out = align(pointer(scratch))
    dz = dh_out + padded(dh_out, T * B * H)
    dx_rows = dz + padded(dh_out, T * B * H)
    dh = dx_rows + padded(dh_out, T * B * D)
    packed = dh + padded(dh_out, B * H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    rnn_steps_backward(
        pointer(x_rows), pointer(w_ax), pointer(w_aa), pointer(h_prev), pointer(h), dh_out, dz, dh,
        dx_rows, pointer(dw_ax), pointer(dw_aa), pointer(db), packed, T, B, D, H,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)


# --- the LSTM -------------------------------------------------------------------------


@inline
def input_sums(gate, w, b, gates, x, packed, N, D, H):
    """One gate's ``b + x W_x`` of ``gates (N, 4, H)``."""
    multiply_lying(N, H, gates + gate * H, GATES * H, b, 0, x, D, w + H, H + D, D, packed)


@inline
def add_state_sums(gate, w, gates, h, packed, B, D, H):
    """Add to one gate of ``gates (B, 4, H)`` its ``h W_h``."""
    at = gates + gate * H
    multiply_lying(B, H, at, GATES * H, at, GATES * H, h, H, w, H + D, H, packed)


@part
def lstm_steps_forward(
    x, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, gates, c, h, packed, T, B, D, H
):  # fmt: skip
    """`lstm.forward_steps`: ``gates (T, B, 4, H)``, ``c`` and ``h (T + 1, B, H)``."""
    input_sums(GATE_F, w_f, b_f, gates, x, packed, T * B, D, H)
    input_sums(GATE_I, w_i, b_i, gates, x, packed, T * B, D, H)
    input_sums(GATE_G, w_c, b_c, gates, x, packed, T * B, D, H)
    input_sums(GATE_O, w_o, b_o, gates, x, packed, T * B, D, H)
    for t in range(T):
        state = t * B * H
        gates_t = gates + GATES * state
        c_t, h_t = c + state, h + state
        add_state_sums(GATE_F, w_f, gates_t, h_t, packed, B, D, H)
        add_state_sums(GATE_I, w_i, gates_t, h_t, packed, B, D, H)
        add_state_sums(GATE_G, w_c, gates_t, h_t, packed, B, D, H)
        add_state_sums(GATE_O, w_o, gates_t, h_t, packed, B, D, H)
        for j in range(0, H, lanes(h)):
            lstm_step_forward(
                B, min(lanes(h), H - j), gates_t + j, H, gates_t + j, H, GATES * H, gates_t + j, H,
                True, c_t + j, c_t + (B * H + j), h_t + (B * H + j),
            )  # fmt: skip


@inline
def through_gate(gate, w, dgates, kept, out, columns, packed, N, D, H):
    """Add one gate's part to ``out (N, columns)``, of which the first adds only if `kept`."""
    at = dgates + gate * H
    multiply_back(
        N, columns, out, columns, kept or gate != GATE_I, at, GATES * H,
        w, H + D, H, packed,
    )  # fmt: skip


@inline
def through_gates(w_f, w_i, w_c, w_o, dgates, kept, out, columns, packed, N, D, H):
    """``out (N, columns) = dgates W^T``, or added to it, by some columns of all weights."""
    through_gate(GATE_I, w_i, dgates, kept, out, columns, packed, N, D, H)
    through_gate(GATE_F, w_f, dgates, kept, out, columns, packed, N, D, H)
    through_gate(GATE_G, w_c, dgates, kept, out, columns, packed, N, D, H)
    through_gate(GATE_O, w_o, dgates, kept, out, columns, packed, N, D, H)


@inline
def weight_gradients(joined, dgates, transposed, dw, db, packed, N, D, H):
    """`lstm.weight_gradients`, from old states and inputs side by side: ``joined (N, H + D)``."""
    rows, across = GATES * H, H + D
    zero_row(rows, db)
    add_rows(rows, db, dgates, rows, N)
    transpose(dgates, rows, transposed, N, N, rows, N)
    accumulate_lying(rows, across, dw, across, transposed, N, joined, across, N, False, packed)


@part
def lstm_steps_backward(
    x, w_f, w_i, w_c, w_o, h_prev, dh_out, gates, dgates, c_prev, c, dh, dc, dx, dw, db, scratch,
    T, B, D, H,
):  # fmt: skip
    """`lstm.backward_steps`.

    scratch : `fastrnn.packing.short_backward_size` elements.
    """
    across = H + D
    joined = scratch
    transposed = joined + padded(joined, T * B * across)
    packed = transposed + padded(joined, T * B * GATES * H)
    for t in range(T - 1, -1, -1):
        at = t * B * H
        if t == T - 1:
            add_row(B * H, dh, dh_out + at)
        dgates_t = dgates + GATES * at
        lstm_step_back(B, 0, H, H, gates + GATES * at, dgates_t, c_prev + at, c + at, dh, dc)
        if t > 0:
            copy_row(B * H, dh, dh_out + (at - B * H))
        if T > 1:
            through_gates(w_f, w_i, w_c, w_o, dgates_t, t > 0, dh, H, packed, B, D, H)
    if T == 1:  # no step waits for dh: rows of weights are read in one run
        through_gates(w_f, w_i, w_c, w_o, dgates, False, joined, across, packed, B, D, H)
        for r in range(B):
            copy_row(H, dh + r * H, joined + r * across)
            copy_row(D, dx + r * D, joined + (r * across + H))
    else:
        w_f, w_i, w_c, w_o = w_f + H, w_i + H, w_c + H, w_o + H
        through_gates(w_f, w_i, w_c, w_o, dgates, False, dx, D, packed, T * B, D, H)
    for r in range(T * B):
        copy_row(H, joined + r * across, h_prev + r * H)
        copy_row(D, joined + (r * across + H), x + r * D)
    weight_gradients(joined, dgates, transposed, dw, db, packed, T * B, D, H)


@kernel
def lstm_short_forward(
    h0, c0, x, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, gates, c, h, scratch
):  # fmt: skip
    """`lstm.lstm_forward`, gates and all cells kept.

    scratch : what `fastrnn.packing.lying_scratch` gives.
    """
    T, B, D = x.shape
    H = h.shape[2]
    c, h = pointer(c), pointer(h)
    copy_or_zero(B * H, h, h0)
    copy_or_zero(B * H, c, c0)
    lstm_steps_forward(
        pointer(x), pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), pointer(gates), c, h,
        align(pointer(scratch)), T, B, D, H,
    )  # fmt: skip


@kernel
def lstm_short_backward(
    dh_last, dc_last, x, h, dh_out, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o,
    gates, c, dh, dc, dx, dw, db, scratch,
):  # fmt: skip
    """`lstm.lstm_backward`; the biases are not read.

    scratch : what `fastrnn.packing.lying_scratch` gives for `short_backward_size`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    gates, c, dh, dc = pointer(gates), pointer(c), pointer(dh), pointer(dc)
    copy_or_zero(B * H, dh, dh_last)
    copy_or_zero(B * H, dc, dc_last)
    lstm_steps_backward(
        pointer(x), pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), pointer(h),
        pointer(dh_out), gates, gates, c, c + B * H, dh, dc, pointer(dx), pointer(dw), pointer(db),
        align(pointer(scratch)), T, B, D, H,
    )  # fmt: skip


@kernel
def lstm_short_notebook_forward(
    x, a0, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
    x_rows, gates, c_rows, h, a, c, y, scratch,
):  # fmt: skip
    """`lstm.lstm_notebook_forward`.

    scratch : what `fastrnn.packing.lying_scratch` gives for ``y (T, B, O)``.
    """
    D, B, T = x.shape
    O, H = w_y.shape
    x_rows, gates, c_rows, h = pointer(x_rows), pointer(gates), pointer(c_rows), pointer(h)
    y_rows = align(pointer(scratch))
    packed = y_rows + padded(h, T * B * O)
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    zero_row(B * H, c_rows)
    lstm_steps_forward(
        x_rows, pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), gates, c_rows, h, packed,
        T, B, D, H,
    )  # fmt: skip
    reverse_axes(h + B * H, pointer(a), T, B, H)
    reverse_axes(c_rows + B * H, pointer(c), T, B, H)
    predict_lying(h + B * H, pointer(w_y), pointer(b_y), y_rows, packed, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def lstm_short_notebook_backward(
    da, w_f, w_i, w_c, w_o, x_rows, gates, c_prev, c, h_prev, dx, da0, dw, db, scratch
):
    """`lstm.lstm_notebook_backward`.

    scratch : what `fastrnn.packing.lying_scratch` gives for the arrays below.
    """
    H, B, T = da.shape
    D = w_f.shape[1] - H
    dh_out = align(pointer(scratch))
    dgates = dh_out + padded(dh_out, T * B * H)
    dx_rows = dgates + padded(dh_out, T * B * GATES * H)
    dh = dx_rows + padded(dh_out, T * B * D)
    dc = dh + padded(dh_out, B * H)
    packed = dc + padded(dh_out, B * H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    zero_row(B * H, dc)
    lstm_steps_backward(
        pointer(x_rows), pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), pointer(h_prev),
        dh_out, pointer(gates), dgates, pointer(c_prev), pointer(c), dh, dc, dx_rows,
        pointer(dw), pointer(db), packed, T, B, D, H,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
