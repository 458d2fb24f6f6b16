"""The simple recurrent cell: its pointwise forward, its pointwise backward, the loops over time.

Shapes: ``x (T, B, D)``, ``h (T + 1, B, H)`` with slot 0 the initial state.  The
pre-activations are written where the hidden state will stand.

Source: Elman (1990), Cognitive Science 14(2), with tanh units.
"""

from ._jit import inline, kernel, part
from .activations import tanh
from .cpu import ROWS, WIDTH
from .gradients import sum_gradients
from .head import predict
from .linear import (
    HALF,
    STREAM,
    add_row,
    copy_or_zero,
    copy_row,
    multiply,
    multiply_between,
    pack_columns,
    pack_rows,
    reverse_axes,
    transpose,
    zero_row,
)
from .simd import align, finish_streams, lanes, load, padded, paneled, pointer, store, streamed
from .team import NEVER, join, leave, meet, share, shares


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
def runs(rows, j0, j1, H):
    """How many runs of adjacent elements the columns from `j0` to `j1` are, and how long."""
    return (1, rows * H) if j1 - j0 == H else (rows, j1 - j0)


@inline
def pack_forward(w_ax, w_aa, b_a, weights, D, H, j0, j1):
    """Units of the forward weights: bias, input to hidden, hidden to hidden."""
    w_x = weights + padded(weights, H)
    w_h = w_x + paneled(weights, H) * D
    copy_row(j1 - j0, weights + j0, b_a + j0)
    pack_columns(j1 - j0, w_ax + j0 * D, D, D, w_x + j0 * D)
    pack_columns(j1 - j0, w_aa + j0 * H, H, H, w_h + j0 * H)


@inline
def pack_backward(w_ax, w_aa, weights, D, H, j0, j1):
    """Units of the backward weights: hidden to hidden, input to hidden, both the other way."""
    w_x = weights + paneled(weights, H) * H
    pack_rows(H, w_aa + j0 * H, H, j0, j1 - j0, weights, H)
    pack_rows(D, w_ax + j0 * D, D, j0, j1 - j0, w_x, H)


@part
def pack(w_ax, w_aa, b_a, forward, backward, training, D, H, j0, j1):
    """Units of the forward weights, and of the backward weights for training."""
    panel = WIDTH * lanes(forward)
    # A panel at a time: its weights are in cache when they are packed the second way.
    for j in range(j0, j1, panel):
        end = min(j1, j + panel)
        pack_forward(w_ax, w_aa, b_a, forward, D, H, j, end)
        if training:
            pack_backward(w_ax, w_aa, backward, D, H, j, end)


@part
def forward_steps(x, weights, h, T, B, D, H, steps, team, places):
    """All steps, each a phase of the team; the inputs' products `steps` at a time."""
    w_x = weights + padded(weights, H)
    w_h = w_x + paneled(weights, H) * D
    rank, phase, members = join(team, places)
    t = phase - 1
    s = t % steps  # of those whose inputs' products are there
    while t < T:
        b0, b1, j0, j1 = shares(rank, members, B, H, HALF * lanes(h), H * H, H)
        rows = b1 - b0
        h_prev = h + (t * B + b0) * H
        h_t = h_prev + B * H
        if s == 0:
            n = min(steps, T - t)
            together = n if rows == B else 1  # steps whose rows lie evenly spaced
            for k in range(0, n, together):
                multiply_between(
                    j0, j1, rows * together, h_t + k * B * H, H, weights, 0, True,
                    x + ((t + k) * B + b0) * D, D, w_x, D, False,
                )  # fmt: skip
        multiply_between(j0, j1, rows, h_t, H, h_t, H, True, h_prev, H, w_h, H, t % 2 == 1)
        count, units = runs(rows, j0, j1, H)
        for r in range(count):
            step_forward(units, h_t + (r * H + j0))
        t += 1
        s = s + 1 if s + 1 < steps else 0
        members = meet(team, places, rank, members, t)
    leave(team, places, rank, members)


@part
def backward_steps(
    x, h_prev, h, dh_out, weights, dz, dh, dx, dw_ax, dw_aa, db, scratch, scratch_row,
    T, B, D, H, team, places,
):  # fmt: skip
    """All steps back, each a phase of the team, and the gradients that follow, one more.

    h_prev, h : (T, B, H), the old and the new states.
    `dh` goes from the last state's further gradient to the first state's.
    scratch : for each member, `scratch_row` elements apart; may be `weights`, which are read first.
    """
    rank, phase, members = join(team, places)
    while phase <= T + 1:
        b0, b1, j0, j1 = shares(rank, members, B, H, HALF * lanes(dh), H * H, H)
        rows = b1 - b0
        dh_b = dh + b0 * H
        t = T - phase
        at = (t * B + b0) * H
        if phase > 1:
            first = t < 0
            multiply_between(
                j0, j1, rows, dh_b, H, dh_b if first else dh_out + at, H, not first,
                dz + (at + B * H), H, weights, H, phase % 2 == 1,
            )  # fmt: skip
        if phase <= T:
            count, units = runs(rows, j0, j1, H)
            for r in range(count):
                j = r * H + j0
                if phase == 1:
                    add_row(units, dh_b + j, dh_out + (at + j))
                step_backward(units, h + (at + j), dh_b + j, dz + (at + j))
        else:
            n0, n1 = share(rank, members, T * B, ROWS)
            g0, g1 = share(rank, members, H, ROWS)
            input_gradient(dz + n0 * H, weights, dx + n0 * D, n1 - n0, D, H)
            weight_gradients(
                x, h_prev, dz, dw_ax, dw_aa, db, T * B, D, H, g0, g1,
                scratch + rank * scratch_row,
            )  # fmt: skip
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@inline
def weight_gradients(x, h, dz, dw_ax, dw_aa, db, N, D, H, g0, g1, scratch):
    """Rows `g0` to `g1` of ``dw_ax (H, D)``, ``dw_aa (H, H)`` and ``db (H)``, over `N` rows.

    h : the old states.
    """
    sum_gradients(
        g1 - g0, dz + g0, H, db + g0, dw_aa + g0 * H, H, h, H, dw_ax + g0 * D, D, x, D, N, scratch
    )


@inline
def input_gradient(dz, weights, dx, rows, D, H):
    """``dx (rows, D)`` from ``dz (rows, H)``."""
    w_x = weights + paneled(weights, H) * H
    multiply(rows, D, dx, D, dx, D, False, dz, H, w_x, H)


# --- what the layer object calls ----------------------------------------------------


@kernel
def rnn_pack(w_ax, w_aa, b_a, forward, backward, team, places):
    """Pack ``Wax (H, D)``, ``Waa (H, H)`` and ``ba (H, 1)`` for the products.

    backward : may be empty, for inference.
    team, places : see `fastrnn.kernels.team`.
    """
    H, D = w_ax.shape
    training = backward.size > 0
    large = forward.nbytes + backward.nbytes > STREAM
    w_ax, w_aa, b_a = pointer(w_ax), pointer(w_aa), pointer(b_a)
    forward, backward = pointer(forward), pointer(backward)
    rank, phase, members = join(team, places)
    if phase == 1:
        j0, j1 = share(rank, members, H, WIDTH * lanes(forward))
        if large:
            pack(w_ax, w_aa, b_a, streamed(forward), streamed(backward), training, D, H, j0, j1)
            finish_streams()
        else:
            pack(w_ax, w_aa, b_a, forward, backward, training, D, H, j0, j1)
        members = meet(team, places, rank, members, phase)
    leave(team, places, rank, members)


@kernel
def rnn_forward(h0, x, weights, h, steps, team, places):
    """``h (T + 1, B, H)`` from ``x (T, B, D)`` and the first state, which is slot 0.

    h0 : (B, H), or empty for zero.
    team, places : see `fastrnn.kernels.team`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h = pointer(h)
    copy_or_zero(B * H, h, h0)
    forward_steps(pointer(x), pointer(weights), h, T, B, D, H, steps, team, places)


@kernel
def rnn_step(D, H, x, weights, z, h):
    """One step: ``h (B, H)`` in place, from ``x (B, D)``.

    z : (B or more, 1, H or more), written on the way.
    Returns whether the arrays have these shapes; if not, nothing is written.
    """
    B = len(x)
    if x.shape[1] != D or h.shape != (B, H) or len(z) < B:
        return False
    weights, z, h = pointer(weights), pointer(z), pointer(h)
    w_x = weights + padded(weights, H)
    w_h = w_x + paneled(weights, H) * D
    multiply(B, H, z, H, weights, 0, True, pointer(x), D, w_x, D)
    multiply(B, H, z, H, z, H, True, h, H, w_h, H)
    step_forward(B * H, z)
    copy_row(B * H, h, z)
    return True


@kernel
def rnn_backward(
    dh_last, x, h, dh_out, weights, dz, dh, dx, dw_ax, dw_aa, db, scratch, team, places
):
    """All gradients, from ``dh_out (T, B, H)`` and what `rnn_forward` was given and has written.

    dh_last : (B, H), the last state's further gradient, or empty for zero.
    dz : (T, B, H), gradients of the pre-activations, written.
    dh : (B, H), the first state's gradient, written.
    dx : (T, B, D), dw_ax : (H, D), dw_aa : (H, H), db : (H, 1), written.
    scratch : a row for each member of the team.
    team, places : see `fastrnn.kernels.team`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    h, dh = pointer(h), pointer(dh)
    copy_or_zero(B * H, dh, dh_last)
    backward_steps(
        pointer(x), h, h + B * H, pointer(dh_out), pointer(weights), pointer(dz), dh,
        pointer(dx), pointer(dw_ax), pointer(dw_aa), pointer(db),
        pointer(scratch), scratch.shape[1], T, B, D, H, team, places,
    )  # fmt: skip


# --- what the notebook functions call -----------------------------------------------


@kernel
def rnn_notebook_forward(x, a0, w_ax, w_aa, w_ya, b_a, b_y, x_rows, h, a, y, scratch, steps):
    """The whole of `rnn_forward`, in the notebooks' layout.

    x : (D, B, T), a0 : (H, B), weights as the notebooks have them; read.
    x_rows : (T, B, D), h : (T + 1, B, H), kept for the way back; written.
    a : (H, B, T), y : (O, B, T), written.
    """
    D, B, T = x.shape
    O, H = w_ya.shape
    x_rows, h, y_rows = pointer(x_rows), pointer(h), align(pointer(scratch))
    packed = y_rows + padded(y_rows, T * B * O)
    pack_forward(pointer(w_ax), pointer(w_aa), pointer(b_a), packed, D, H, 0, H)
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    forward_steps(x_rows, packed, h, T, B, D, H, steps, NEVER, 1)
    reverse_axes(h + B * H, pointer(a), T, B, H)
    predict(h + B * H, pointer(w_ya), pointer(b_y), packed, y_rows, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def rnn_notebook_backward(da, w_ax, w_aa, x_rows, h_prev, h, dx, da0, dw_ax, dw_aa, db, scratch):
    """The whole of `rnn_backward`, in the notebooks' layout.

    da : (H, B, T), w_*, x_rows : (T or more, B, D), h_prev, h : (T or more, B, H), the old
        and the new states; read.
    dx : (D, B, T), da0 : (H, B), dw_ax : (H, D), dw_aa : (H, H), db : (H, 1), written.
    """
    H, B, T = da.shape
    D = w_ax.shape[1]
    dh_out = align(pointer(scratch))
    dz = dh_out + padded(dh_out, T * B * H)
    dh = dz + padded(dh_out, T * B * H)
    dx_rows = dh + padded(dh_out, B * H)
    packed = dx_rows + padded(dh_out, T * B * D)
    pack_backward(pointer(w_ax), pointer(w_aa), packed, D, H, 0, H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    backward_steps(
        pointer(x_rows), pointer(h_prev), pointer(h), dh_out, packed, dz, dh, dx_rows,
        pointer(dw_ax), pointer(dw_aa), pointer(db), packed, 0, T, B, D, H, NEVER, 1,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
