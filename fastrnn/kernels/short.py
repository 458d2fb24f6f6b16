"""Runs of few steps, by unpacked weights.

Packing weights costs more than it saves where only a few steps use them.  Sums take their terms
in the same order as those of `rnn` and `lstm`, and so the bits are the same.
"""

from ._jit import inline, kernel, part
from .cpu import ROWS
from .gradients import sum_gradients
from .head import softmax_each
from .linear import add_row, copy_or_zero, copy_row, reverse_axes, transpose, zero_row
from .lstm import GATE_F, GATE_G, GATE_I, GATE_O, GATES
from .lstm import step_back as lstm_step_back
from .lstm import step_forward as lstm_step_forward
from .rnn import runs
from .rnn import step_backward as rnn_step_backward
from .rnn import step_forward as rnn_step_forward
from .rnn import weight_gradients as rnn_weight_gradients
from .simd import align, lanes, padded, pointer
from .team import NEVER, join, leave, meet, share
from .unpacked import multiply_back, multiply_unpacked


@inline
def predict_unpacked(h, w_y, b_y, y, packed, N, H, O):
    """`head.predict`: ``y (N, O)`` from ``h (N, H)``."""
    multiply_unpacked(N, O, y, O, b_y, 0, h, H, w_y, H, H, packed)
    softmax_each(N, O, y)


# --- the simple recurrent cell --------------------------------------------------------


@part
def rnn_steps_forward(x, w_ax, w_aa, b_a, h, packed, packed_row, T, B, D, H, team, places):
    """`rnn.forward_steps`: ``h (T + 1, B, H)``.

    packed : for each member of the team, `packed_row` elements apart.
    """
    z = h + B * H
    rank, phase, members = join(team, places)
    packed = packed + rank * packed_row
    while phase <= T:
        j0, j1 = share(rank, members, H, lanes(h))
        units = j1 - j0
        w_x, w_h = w_ax + j0 * D, w_aa + j0 * H
        if phase == 1:
            multiply_unpacked(T * B, units, z + j0, H, b_a + j0, 0, x, D, w_x, D, D, packed)
        h_prev = h + (phase - 1) * B * H
        h_t = h_prev + (B * H + j0)
        multiply_unpacked(B, units, h_t, H, h_t, H, h_prev, H, w_h, H, H, packed)
        count, adjacent = runs(B, j0, j1, H)
        for r in range(count):
            rnn_step_forward(adjacent, h_t + r * H)
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@part
def rnn_steps_backward(
    x, w_ax, w_aa, h_prev, h, dh_out, dz, dh, dx, dw_ax, dw_aa, db, scratch, scratch_row,
    T, B, D, H, team, places,
):  # fmt: skip
    """`rnn.backward_steps`.

    scratch : for each member, `scratch_row` elements apart, `fastrnn.packing.short_backward_size`
        elements.
    """
    rank, phase, members = join(team, places)
    scratch = scratch + rank * scratch_row
    while phase <= T + 1:
        j0, j1 = share(rank, members, H, lanes(h))
        count, adjacent = runs(B, j0, j1, H)
        t = T - phase
        at = t * B * H + j0
        if phase > 1:
            for r in range(count if t >= 0 else 0):
                copy_row(adjacent, dh + (r * H + j0), dh_out + (at + r * H))
            dz_t = dz + (t + 1) * B * H
            multiply_back(B, j1 - j0, dh + j0, H, t >= 0, dz_t, H, w_aa + j0, H, H, scratch)
        if phase <= T:
            for r in range(count):
                j = r * H
                if phase == 1:
                    add_row(adjacent, dh + (j0 + j), dh_out + (at + j))
                rnn_step_backward(adjacent, h + (at + j), dh + (j0 + j), dz + (at + j))
        else:
            d0, d1 = share(rank, members, D, lanes(h))
            g0, g1 = share(rank, members, H, ROWS)
            multiply_back(T * B, d1 - d0, dx + d0, D, False, dz, H, w_ax + d0, D, H, scratch)
            rnn_weight_gradients(x, h_prev, dz, dw_ax, dw_aa, db, T * B, D, H, g0, g1, scratch)
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@kernel
def rnn_short_forward(h0, x, w_ax, w_aa, b_a, h, scratch, team, places):
    """`rnn.rnn_forward`.

    scratch : for each member of the team, as `fastrnn.packing.unpacked_scratch` gives.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h = pointer(h)
    copy_or_zero(B * H, h, h0)
    rnn_steps_forward(
        pointer(x), pointer(w_ax), pointer(w_aa), pointer(b_a), h,
        align(pointer(scratch)), scratch.shape[1], T, B, D, H, team, places,
    )  # fmt: skip


@kernel
def rnn_short_backward(
    dh_last, x, h, dh_out, w_ax, w_aa, dz, dh, dx, dw_ax, dw_aa, db, scratch, team, places
):
    """`rnn.rnn_backward`.

    scratch : for each member of the team, as `fastrnn.packing.unpacked_scratch` gives for
        `short_backward_size`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h, dh = pointer(h), pointer(dh)
    copy_or_zero(B * H, dh, dh_last)
    rnn_steps_backward(
        pointer(x), pointer(w_ax), pointer(w_aa), h, h + B * H, pointer(dh_out), pointer(dz), dh,
        pointer(dx), pointer(dw_ax), pointer(dw_aa), pointer(db),
        align(pointer(scratch)), scratch.shape[1], T, B, D, H, team, places,
    )  # fmt: skip


@kernel
def rnn_short_notebook_forward(x, a0, w_ax, w_aa, w_ya, b_a, b_y, x_rows, h, a, y, scratch):
    """`rnn.rnn_notebook_forward`.

    scratch : what `fastrnn.packing.unpacked_scratch` gives for ``y (T, B, O)``.
    """
    D, B, T = x.shape
    O, H = w_ya.shape
    x_rows, h, y_rows = pointer(x_rows), pointer(h), align(pointer(scratch))
    packed = y_rows + padded(y_rows, T * B * O)
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    rnn_steps_forward(
        x_rows, pointer(w_ax), pointer(w_aa), pointer(b_a), h, packed, 0, T, B, D, H, NEVER, 1
    )
    reverse_axes(h + B * H, pointer(a), T, B, H)
    predict_unpacked(h + B * H, pointer(w_ya), pointer(b_y), y_rows, packed, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def rnn_short_notebook_backward(
    da, w_ax, w_aa, x_rows, h_prev, h, dx, da0, dw_ax, dw_aa, db, scratch
):
    """`rnn.rnn_notebook_backward`.

    scratch : what `fastrnn.packing.unpacked_scratch` gives for the arrays below.
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
        dx_rows, pointer(dw_ax), pointer(dw_aa), pointer(db), packed, 0, T, B, D, H, NEVER, 1,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)


# --- the LSTM -------------------------------------------------------------------------


@inline
def input_sums(gate, w, b, gates, x, packed, N, D, H, j0, j1):
    """Units `j0` to `j1` of one gate's ``b + x W_x`` of ``gates (N, 4, H)``."""
    at, w_x = gates + (gate * H + j0), w + (j0 * (H + D) + H)
    multiply_unpacked(N, j1 - j0, at, GATES * H, b + j0, 0, x, D, w_x, H + D, D, packed)


@inline
def add_state_sums(gate, w, gates, h, packed, B, D, H, j0, j1):
    """Add to units of one gate of ``gates (B, 4, H)`` their ``h W_h``."""
    at, w_h = gates + (gate * H + j0), w + j0 * (H + D)
    multiply_unpacked(B, j1 - j0, at, GATES * H, at, GATES * H, h, H, w_h, H + D, H, packed)


@part
def lstm_steps_forward(
    x, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, gates, c, h, packed, packed_row,
    T, B, D, H, team, places,
):  # fmt: skip
    """`lstm.forward_steps`: ``gates (T, B, 4, H)``, ``c`` and ``h (T + 1, B, H)``.

    packed : for each member of the team, `packed_row` elements apart.
    """
    rank, phase, members = join(team, places)
    packed = packed + rank * packed_row
    while phase <= T:
        j0, j1 = share(rank, members, H, lanes(h))
        if phase == 1:
            input_sums(GATE_F, w_f, b_f, gates, x, packed, T * B, D, H, j0, j1)
            input_sums(GATE_I, w_i, b_i, gates, x, packed, T * B, D, H, j0, j1)
            input_sums(GATE_G, w_c, b_c, gates, x, packed, T * B, D, H, j0, j1)
            input_sums(GATE_O, w_o, b_o, gates, x, packed, T * B, D, H, j0, j1)
        state = (phase - 1) * B * H
        gates_t = gates + GATES * state
        c_t, h_t = c + state, h + state
        add_state_sums(GATE_F, w_f, gates_t, h_t, packed, B, D, H, j0, j1)
        add_state_sums(GATE_I, w_i, gates_t, h_t, packed, B, D, H, j0, j1)
        add_state_sums(GATE_G, w_c, gates_t, h_t, packed, B, D, H, j0, j1)
        add_state_sums(GATE_O, w_o, gates_t, h_t, packed, B, D, H, j0, j1)
        for j in range(j0, j1, lanes(h)):
            lstm_step_forward(
                B, min(lanes(h), H - j), gates_t + j, H, gates_t + j, H, GATES * H, gates_t + j, H,
                True, c_t + j, c_t + (B * H + j), h_t + (B * H + j),
            )  # fmt: skip
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@inline
def through_gate(gate, w, dgates, kept, out, out_row, columns, packed, N, D, H):
    """Add one gate's part to ``out (N, columns)``, of which the first adds only if `kept`."""
    multiply_back(
        N, columns, out, out_row, kept or gate != GATE_I, dgates + gate * H, GATES * H,
        w, H + D, H, packed,
    )  # fmt: skip


@inline
def through_gates(w_f, w_i, w_c, w_o, dgates, kept, out, out_row, a0, a1, packed, N, D, H):
    """``out = dgates W^T``, or added to it, by the columns `a0` to `a1` of all weights."""
    columns = a1 - a0
    through_gate(GATE_I, w_i + a0, dgates, kept, out, out_row, columns, packed, N, D, H)
    through_gate(GATE_F, w_f + a0, dgates, kept, out, out_row, columns, packed, N, D, H)
    through_gate(GATE_G, w_c + a0, dgates, kept, out, out_row, columns, packed, N, D, H)
    through_gate(GATE_O, w_o + a0, dgates, kept, out, out_row, columns, packed, N, D, H)


@inline
def weight_gradients(joined, dgates, dw, db, scratch, N, D, H, g0, g1):
    """`lstm.weight_gradients`, from old states and inputs side by side: ``joined (N, H + D)``."""
    across = H + D
    out = dw + g0 * across
    sum_gradients(
        g1 - g0, dgates + g0, GATES * H, db + g0, out, across, joined, across, out, across,
        joined, 0, N, scratch,
    )  # fmt: skip


@part
def lstm_steps_backward(
    x, w_f, w_i, w_c, w_o, h_prev, dh_out, gates, dgates, c_prev, c, dh, dc, dx, dw, db,
    scratch, scratch_row, T, B, D, H, team, places,
):  # fmt: skip
    """`lstm.backward_steps`.

    scratch : for each member, `scratch_row` elements apart, `fastrnn.packing.short_backward_size`
        elements.
    """
    across = H + D
    rank, phase, members = join(team, places)
    joined = scratch + rank * scratch_row
    packed = joined + padded(joined, T * B * across)
    while phase <= T + 1:
        j0, j1 = share(rank, members, H, lanes(h_prev))
        count, adjacent = runs(B, j0, j1, H)
        t = T - phase
        at = t * B * H
        if phase > 1 and T > 1:
            for r in range(count if t >= 0 else 0):
                copy_row(adjacent, dh + (r * H + j0), dh_out + (at + r * H + j0))
            dgates_t = dgates + GATES * (at + B * H)
            through_gates(w_f, w_i, w_c, w_o, dgates_t, t >= 0, dh + j0, H, j0, j1, packed, B, D, H)
        if phase <= T:
            if phase == 1:
                for r in range(count):
                    add_row(adjacent, dh + (r * H + j0), dh_out + (at + r * H + j0))
            gates_t, dgates_t = gates + GATES * at, dgates + GATES * at
            lstm_step_back(B, j0, j1, H, gates_t, dgates_t, c_prev + at, c + at, dh, dc)
        else:
            if T == 1:  # no step waits for dh: rows of weights are read in one run
                a0, a1 = share(rank, members, across, lanes(h_prev))
                through_gates(
                    w_f, w_i, w_c, w_o, dgates, False, joined + a0, across, a0, a1, packed, B, D, H
                )
                h1, d0, d1 = min(a1, H), max(a0, H), max(a1, H)
                for r in range(B):
                    row = joined + r * across
                    copy_row(h1 - min(a0, H), dh + (r * H + a0), row + a0)
                    copy_row(d1 - d0, dx + (r * D + d0 - H), row + d0)
            else:
                d0, d1 = share(rank, members, D, lanes(h_prev))
                through_gates(
                    w_f, w_i, w_c, w_o, dgates, False, dx + d0, D, H + d0, H + d1, packed,
                    T * B, D, H,
                )  # fmt: skip
            for r in range(T * B):
                copy_row(H, joined + r * across, h_prev + r * H)
                copy_row(D, joined + (r * across + H), x + r * D)
            g0, g1 = share(rank, members, GATES * H, ROWS)
            weight_gradients(joined, dgates, dw, db, packed, T * B, D, H, g0, g1)
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@kernel
def lstm_short_forward(
    h0, c0, x, w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, gates, c, h, scratch, team, places
):  # fmt: skip
    """`lstm.lstm_forward`, gates and all cells kept.

    scratch : for each member of the team, as `fastrnn.packing.unpacked_scratch` gives.
    """
    T, B, D = x.shape
    H = h.shape[2]
    c, h = pointer(c), pointer(h)
    copy_or_zero(B * H, h, h0)
    copy_or_zero(B * H, c, c0)
    lstm_steps_forward(
        pointer(x), pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), pointer(gates), c, h,
        align(pointer(scratch)), scratch.shape[1], T, B, D, H, team, places,
    )  # fmt: skip


@kernel
def lstm_short_backward(
    dh_last, dc_last, x, h, dh_out, w_f, w_i, w_c, w_o, gates, c, dh, dc, dx, dw, db, scratch,
    team, places,
):  # fmt: skip
    """`lstm.lstm_backward`.

    scratch : for each member of the team, as `fastrnn.packing.unpacked_scratch` gives for
        `short_backward_size`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    gates, c, dh, dc = pointer(gates), pointer(c), pointer(dh), pointer(dc)
    copy_or_zero(B * H, dh, dh_last)
    copy_or_zero(B * H, dc, dc_last)
    lstm_steps_backward(
        pointer(x), pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), pointer(h),
        pointer(dh_out), gates, gates, c, c + B * H, dh, dc, pointer(dx), pointer(dw), pointer(db),
        align(pointer(scratch)), scratch.shape[1], T, B, D, H, team, places,
    )  # fmt: skip


@kernel
def lstm_short_notebook_forward(
    x, a0, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
    x_rows, gates, c_rows, h, a, c, y, scratch,
):  # fmt: skip
    """`lstm.lstm_notebook_forward`.

    scratch : what `fastrnn.packing.unpacked_scratch` gives for ``y (T, B, O)``.
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
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), gates, c_rows, h, packed, 0,
        T, B, D, H, NEVER, 1,
    )  # fmt: skip
    reverse_axes(h + B * H, pointer(a), T, B, H)
    reverse_axes(c_rows + B * H, pointer(c), T, B, H)
    predict_unpacked(h + B * H, pointer(w_y), pointer(b_y), y_rows, packed, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def lstm_short_notebook_backward(
    da, w_f, w_i, w_c, w_o, x_rows, gates, c_prev, c, h_prev, dx, da0, dw, db, scratch
):
    """`lstm.lstm_notebook_backward`.

    scratch : what `fastrnn.packing.unpacked_scratch` gives for the arrays below.
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
        pointer(dw), pointer(db), packed, 0, T, B, D, H, NEVER, 1,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
