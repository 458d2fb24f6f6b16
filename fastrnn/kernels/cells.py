"""One step of each cell in the notebooks' layout, ``(features, batch)``, by unpacked weights."""

from ._jit import kernel
from .gradients import sum_gradients
from .linear import transpose
from .lstm import GATE_F, GATE_G, GATE_I, GATE_O, GATES
from .lstm import step_back as lstm_step_back
from .rnn import step_backward as rnn_step_backward
from .short import (
    lstm_steps_forward,
    predict_unpacked,
    rnn_steps_forward,
    through_gates,
    weight_gradients,
)
from .simd import align, padded, pointer
from .team import NEVER
from .unpacked import multiply_back


@kernel
def rnn_cell_forward(xt, a_prev, w_ax, w_aa, w_ya, b_a, b_y, a_next, y, scratch):
    """``a_next (H, B)`` and ``y (O, B)`` from ``xt (D, B)`` and ``a_prev (H, B)``.

    scratch : what `fastrnn.packing.unpacked_scratch` gives for the arrays below.
    """
    D, B = xt.shape
    O, H = w_ya.shape
    x_rows = align(pointer(scratch))
    h_rows = x_rows + padded(x_rows, B * D)
    y_rows = h_rows + padded(x_rows, 2 * B * H)
    packed = y_rows + padded(x_rows, B * O)
    h_next = h_rows + B * H
    transpose(pointer(xt), B, x_rows, D, D, B, D)
    transpose(pointer(a_prev), B, h_rows, H, H, B, H)
    rnn_steps_forward(
        x_rows, pointer(w_ax), pointer(w_aa), pointer(b_a), h_rows, packed, 0, 1, B, D, H, NEVER, 1
    )
    transpose(h_next, H, pointer(a_next), B, B, H, B)
    predict_unpacked(h_next, pointer(w_ya), pointer(b_y), y_rows, packed, B, H, O)
    transpose(y_rows, O, pointer(y), B, B, O, B)


@kernel
def rnn_cell_backward(
    da_next, a_next, a_prev, xt, w_ax, w_aa, dxt, da_prev, dw_ax, dw_aa, db, scratch
):
    """All gradients of a step, from ``da_next (H, B)``; the saved values as they were given."""
    D, B = xt.shape
    H = a_next.shape[0]
    x_rows = align(pointer(scratch))
    h_rows = x_rows + padded(x_rows, B * D)
    dz = h_rows + padded(x_rows, B * H)
    dz_rows = dz + padded(x_rows, B * H)
    packed = dz_rows + padded(x_rows, B * H)
    rnn_step_backward(H * B, pointer(a_next), pointer(da_next), dz)
    transpose(dz, B, dz_rows, H, H, B, H)
    transpose(pointer(xt), B, x_rows, D, D, B, D)
    transpose(pointer(a_prev), B, h_rows, H, H, B, H)
    sum_gradients(
        H, dz_rows, H, pointer(db), pointer(dw_aa), H, h_rows, H, pointer(dw_ax), D, x_rows, D, B,
        packed,
    )  # fmt: skip
    multiply_back(B, D, x_rows, D, False, dz_rows, H, pointer(w_ax), D, H, packed)
    multiply_back(B, H, h_rows, H, False, dz_rows, H, pointer(w_aa), H, H, packed)
    transpose(x_rows, D, pointer(dxt), B, B, D, B)
    transpose(h_rows, H, pointer(da_prev), B, B, H, B)


@kernel
def lstm_cell_forward(
    xt, a_prev, c_prev, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
    a_next, c_next, gates, y, scratch,
):  # fmt: skip
    """``a_next``, ``c_next (H, B)``, ``gates (4, H, B)`` and ``y (O, B)`` of one step."""
    D, B = xt.shape
    O, H = w_y.shape
    x_rows = align(pointer(scratch))
    h_rows = x_rows + padded(x_rows, B * D)
    c_rows = h_rows + padded(x_rows, 2 * B * H)
    gate_rows = c_rows + padded(x_rows, 2 * B * H)
    y_rows = gate_rows + padded(x_rows, B * GATES * H)
    packed = y_rows + padded(x_rows, B * O)
    h_next, c_next_rows = h_rows + B * H, c_rows + B * H
    transpose(pointer(xt), B, x_rows, D, D, B, D)
    transpose(pointer(a_prev), B, h_rows, H, H, B, H)
    transpose(pointer(c_prev), B, c_rows, H, H, B, H)
    lstm_steps_forward(
        x_rows, pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), gate_rows, c_rows, h_rows,
        packed, 0, 1, B, D, H, NEVER, 1,
    )  # fmt: skip
    transpose(h_next, H, pointer(a_next), B, B, H, B)
    transpose(c_next_rows, H, pointer(c_next), B, B, H, B)
    transpose(gate_rows, GATES * H, pointer(gates), B, B, GATES * H, B)
    predict_unpacked(h_next, pointer(w_y), pointer(b_y), y_rows, packed, B, H, O)
    transpose(y_rows, O, pointer(y), B, B, O, B)


@kernel
def lstm_cell_backward(
    da_next, dc_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, w_f, w_i, w_c, w_o,
    dxt, da_prev, dc_prev, dw, db, scratch,
):  # fmt: skip
    """All gradients of a step, from ``da_next`` and ``dc_next (H, B)``.

    dw : (4, H, H + D), db : (4, H), written.
    """
    D, B = xt.shape
    H = c_next.shape[0]
    across = H + D
    joined = align(pointer(scratch))
    c_prev_rows = joined + padded(joined, B * across)
    c_rows = c_prev_rows + padded(joined, B * H)
    dh_rows = c_rows + padded(joined, B * H)
    dc_rows = dh_rows + padded(joined, B * H)
    gates = dc_rows + padded(joined, B * H)
    packed = gates + padded(joined, B * GATES * H)
    transpose(pointer(a_prev), B, joined, across, H, B, H)
    transpose(pointer(xt), B, joined + H, across, D, B, D)
    transpose(pointer(c_prev), B, c_prev_rows, H, H, B, H)
    transpose(pointer(c_next), B, c_rows, H, H, B, H)
    transpose(pointer(da_next), B, dh_rows, H, H, B, H)
    transpose(pointer(dc_next), B, dc_rows, H, H, B, H)
    transpose(pointer(ft), B, gates + GATE_F * H, GATES * H, H, B, H)
    transpose(pointer(it), B, gates + GATE_I * H, GATES * H, H, B, H)
    transpose(pointer(cct), B, gates + GATE_G * H, GATES * H, H, B, H)
    transpose(pointer(ot), B, gates + GATE_O * H, GATES * H, H, B, H)
    lstm_step_back(B, 0, H, H, gates, gates, c_prev_rows, c_rows, dh_rows, dc_rows)
    transpose(dc_rows, H, pointer(dc_prev), B, B, H, B)
    weight_gradients(joined, gates, pointer(dw), pointer(db), packed, B, D, H, 0, GATES * H)
    through_gates(
        pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), gates, False, joined, across,
        0, across, packed, B, D, H,
    )  # fmt: skip
    transpose(joined, across, pointer(da_prev), B, B, H, B)
    transpose(joined + H, across, pointer(dxt), B, B, D, B)
