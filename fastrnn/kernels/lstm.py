"""The LSTM cell: its pointwise forward, its pointwise backward, the loops over time.

Shapes: ``x (T, B, D)``, ``gates (T, B, 4, H)``, ``h (T + 1, B, H)`` and ``c (T + 1, B, H)``
with slot 0 the initial state.  Gates stand in the order i, f, g, o.

Sources: Hochreiter & Schmidhuber (1997), Neural Computation 9(8); the forget gate is
that of Gers, Schmidhuber & Cummins (2000), Neural Computation 12(10).
"""

from numba import intp

from ._jit import inline, kernel, part
from .activations import sigmoid, tanh
from .head import predict
from .linear import (
    THIN,
    accumulate,
    accumulate_panel_space,
    add_row,
    add_rows,
    multiply,
    multiply_panel,
    multiply_thin,
    multiply_tile,
    pack_rows,
    passes,
    reverse_axes,
    transpose,
    zero_row,
)
from .simd import WIDTH, lanes, load, narrow, padded, paneled, pointer, store, store_full, tile_zero

GATES = 4
GATE_I, GATE_F, GATE_G, GATE_O = range(GATES)
PANEL = min(WIDTH, GATES)  # the gates of one block of units, in one panel or in two
IN_ONE = PANEL == GATES


@inline
def step_forward(rows, units, sums, between, gates, column, keep, c_prev, c, h):
    """One step of `units` adjacent units, from pre-activations to the new state.

    sums : pre-activations, gates `between` apart.
    gates : the activated gates, `column` apart, written if `keep`; may be `sums`.
    c_prev, c : old and new cell state; the same memory is allowed.
    h : written.
    """
    for r in range(rows):
        z = sums + r * GATES * between
        i = sigmoid(load(z + GATE_I * between, units))
        f = sigmoid(load(z + GATE_F * between, units))
        g = tanh(load(z + GATE_G * between, units))
        o = sigmoid(load(z + GATE_O * between, units))

        c_r = f * load(c_prev + r * column, units) + i * g
        h_r = o * tanh(c_r)

        if keep:
            at = gates + r * GATES * column
            store(at + GATE_I * column, i, units)
            store(at + GATE_F * column, f, units)
            store(at + GATE_G * column, g, units)
            store(at + GATE_O * column, o, units)
        store(c + r * column, c_r, units)
        store(h + r * column, h_r, units)


@inline
def step_backward(rows, units, column, gates, dgates, c_prev, c, dh, dc):
    """One step back of `units` adjacent units, from the state's gradient to the gates'.

    gates : activated gates; dgates : written, the same memory is allowed.
    dh : gradient of the new state; dc : that of the cell, overwritten by the old cell's.
    """
    for r in range(rows):
        at = r * GATES * column
        i = load(gates + (at + GATE_I * column), units)
        f = load(gates + (at + GATE_F * column), units)
        g = load(gates + (at + GATE_G * column), units)
        o = load(gates + (at + GATE_O * column), units)
        tanh_c = tanh(load(c + r * column, units))

        dh_r = load(dh + r * column, units)
        dc_r = load(dc + r * column, units) + dh_r * o * (1.0 - tanh_c * tanh_c)

        di = dc_r * g * i * (1.0 - i)
        df = dc_r * load(c_prev + r * column, units) * f * (1.0 - f)
        dg = dc_r * i * (1.0 - g * g)
        do = dh_r * tanh_c * o * (1.0 - o)

        store(dgates + (at + GATE_I * column), di, units)
        store(dgates + (at + GATE_F * column), df, units)
        store(dgates + (at + GATE_G * column), dg, units)
        store(dgates + (at + GATE_O * column), do, units)
        store(dc + r * column, dc_r * f, units)


@inline
def pack_gate(gate, w, w_row, H, depth, packed):
    """Pack one gate's weights ``w (H, depth)`` between those of the other gates."""
    block = lanes(w)
    for j in range(0, H, block):
        units = min(block, H - j)
        vector = block if units > block // 2 else block // 2
        panel = PANEL * vector
        at = j * GATES * depth + gate // PANEL * panel * depth + gate % PANEL * vector
        transpose(w + j * w_row, w_row, packed + at, panel, units, depth, vector)


@inline
def pack_bias(gate, b, H, packed):
    """Pack one gate's biases ``b (H)`` between those of the other gates."""
    block = lanes(b)
    for j in range(0, H, block):
        store_full(packed + (j * GATES + gate * block), load(b + j, H - j))


@inline
def pack_forward(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, weights, D, H):
    """The forward weights: bias, input to hidden, hidden to hidden."""
    across = GATES * padded(weights, H)
    w_x = weights + across
    w_h = w_x + across * D
    pack_bias(GATE_I, b_i, H, weights)
    pack_bias(GATE_F, b_f, H, weights)
    pack_bias(GATE_G, b_c, H, weights)
    pack_bias(GATE_O, b_o, H, weights)
    pack_gate(GATE_I, w_i + H, H + D, H, D, w_x)
    pack_gate(GATE_F, w_f + H, H + D, H, D, w_x)
    pack_gate(GATE_G, w_c + H, H + D, H, D, w_x)
    pack_gate(GATE_O, w_o + H, H + D, H, D, w_x)
    pack_gate(GATE_I, w_i, H + D, H, H, w_h)
    pack_gate(GATE_F, w_f, H + D, H, H, w_h)
    pack_gate(GATE_G, w_c, H + D, H, H, w_h)
    pack_gate(GATE_O, w_o, H + D, H, H, w_h)


@inline
def pack_backward(w_f, w_i, w_c, w_o, weights, D, H):
    """The backward weights: hidden to hidden, input to hidden, both the other way."""
    w_h = weights
    w_x = weights + paneled(weights, H) * GATES * H
    pack_rows(H, w_i, H + D, GATE_I * H, H, w_h, GATES * H)
    pack_rows(H, w_f, H + D, GATE_F * H, H, w_h, GATES * H)
    pack_rows(H, w_c, H + D, GATE_G * H, H, w_h, GATES * H)
    pack_rows(H, w_o, H + D, GATE_O * H, H, w_h, GATES * H)
    pack_rows(D, w_i + H, H + D, GATE_I * H, H, w_x, GATES * H)
    pack_rows(D, w_f + H, H + D, GATE_F * H, H, w_x, GATES * H)
    pack_rows(D, w_c + H, H + D, GATE_G * H, H, w_x, GATES * H)
    pack_rows(D, w_o + H, H + D, GATE_O * H, H, w_x, GATES * H)


@inline
def _multiply_panels(rows, block, sums, start, start_row, x, x_row, w, depth):
    row = GATES * block
    vector = lanes(sums)
    columns = GATES * vector
    if IN_ONE:
        if rows == 1:
            multiply_tile(
                tile_zero(sums, PANEL, 1), 0, sums, row, start, start_row, vector, block, vector,
                columns, x, x_row, 1, w, depth,
            )  # fmt: skip
            return
    else:
        if rows <= THIN:
            multiply_thin(
                rows, sums, row, start, intp(start_row), vector, block, vector, columns,
                x, x_row, 1, w, depth,
            )  # fmt: skip
            return
    for gate in range(0, GATES, PANEL):
        multiply_panel(
            rows, sums + gate * block, row, start + gate * block, intp(start_row), vector,
            block, vector, columns, x, x_row, 1, w + gate * vector * depth, depth,
        )  # fmt: skip


@inline
def multiply_gates(rows, units, sums, start, start_row, x, x_row, w, depth):
    """``sums (rows, 4, block) = start + x @ w``: all gates of `units` adjacent units."""
    block = lanes(sums)
    if units > block // 2:
        _multiply_panels(rows, block, sums, start, start_row, x, x_row, w, depth)
    else:
        _multiply_panels(
            rows, block, narrow(sums), narrow(start), start_row, narrow(x), x_row, narrow(w), depth
        )


@inline
def input_sums(rows, H, sums, apart, bias, x, w_x, D):
    """``sums = b + x W_x`` of all units, block after block, `apart` rows from one to the next."""
    block = lanes(sums)
    for j in range(0, H, block):
        multiply_gates(
            rows, min(block, H - j), sums + j * GATES * apart, bias + j * GATES, 0,
            x, D, w_x + j * GATES * D, D,
        )  # fmt: skip


@inline
def add_state_sums(rows, H, sums, apart, h_prev, w_h, backwards):
    """``sums += h W_h``, likewise; from the last block to the first if `backwards`."""
    block = lanes(sums)
    last = padded(sums, H) - block
    for n in range(0, H, block):
        j = last - n if backwards else n
        sums_j = sums + j * GATES * apart
        multiply_gates(
            rows, min(block, H - j), sums_j, sums_j, GATES * block, h_prev, H,
            w_h + j * GATES * H, H,
        )  # fmt: skip


@inline
def pointwise_forward(rows, H, sums, apart, gates, keep, c_prev, c, h):
    """`step_forward` of all units; `sums` as for `input_sums`, the others (rows, H).

    It comes after the products of all of them: a CPU that waits for one has the others to do.
    """
    block = lanes(h)
    for j in range(0, H, block):
        units = min(block, H - j)
        sums_j = sums + j * GATES * apart
        if units > block // 2:
            step_forward(rows, units, sums_j, block, gates + j, H, keep, c_prev + j, c + j, h + j)
        else:
            step_forward(
                rows, units, narrow(sums_j), block, narrow(gates + j), H, keep,
                narrow(c_prev + j), narrow(c + j), narrow(h + j),
            )  # fmt: skip


@part
def forward_steps(x, weights, sums, gates, keep, c, C, h, T, B, D, H, steps, b0, b1):
    """All steps of the rows from `b0` to `b1`; the inputs' products `steps` at a time.

    sums : room for the pre-activations of `steps` steps, written.
    gates : written if `keep`.  Of the cell `C` steps are kept.
    """
    rows = b1 - b0
    row = GATES * lanes(sums)
    across = GATES * padded(weights, H)
    w_x = weights + across
    w_h = w_x + across * D
    apart = steps * rows
    together = steps if rows == B else 1  # steps whose rows lie evenly spaced
    sums = sums + steps * b0 * across
    for t0 in range(0, T, steps):
        n = min(steps, T - t0)
        for t in range(t0, t0 + n, together):
            input_sums(
                rows * min(together, t0 + n - t), H, sums + (t - t0) * rows * row, apart, weights,
                x + (t * B + b0) * D, w_x, D,
            )  # fmt: skip
        for t in range(t0, t0 + n):
            at = t * B + b0
            sums_t = sums + (t - t0) * rows * row
            h_prev = h + at * H
            # Every second step backwards: the weights last read are still in cache.
            add_state_sums(rows, H, sums_t, apart, h_prev, w_h, t % 2 == 1)
            pointwise_forward(
                rows, H, sums_t, apart, gates + at * GATES * H, keep,
                c + ((t % C) * B + b0) * H, c + (((t + 1) % C) * B + b0) * H, h_prev + B * H,
            )  # fmt: skip


@inline
def backward_steps(dh_out, weights, gates, dgates, c_prev, c, dh, dc, T, B, H, b0, b1):
    """All steps back of the rows from `b0` to `b1`.

    c_prev, c : (T, B, H), the old and the new cells.
    `dh` and `dc` go from the last state's further gradient to the first state's.
    """
    rows = b1 - b0
    block = lanes(dh)
    dh = dh + b0 * H
    dc = dc + b0 * H
    if T > 0:
        add_row(rows * H, dh, dh_out + ((T - 1) * B + b0) * H)
    for t in range(T - 1, -1, -1):
        state = (t * B + b0) * H
        at = GATES * state
        for j in range(0, H, block):
            step_backward(
                rows, min(block, H - j), H, gates + (at + j), dgates + (at + j),
                c_prev + (state + j), c + (state + j), dh + j, dc + j,
            )  # fmt: skip
        start = dh_out + (state - B * H) if t > 0 else dh
        multiply(
            rows, H, dh, H, start, H, H if t > 0 else 0,
            dgates + at, GATES * H, 1, weights, GATES * H,
        )  # fmt: skip


@inline
def weight_gradients(x, h, dgates, dw, db, N, D, H, g0, g1, scratch):
    """Rows `g0` to `g1` of ``dw (4 H, H + D)`` and ``db (4 H)``, over `N` rows.

    h : the old states.
    """
    depth = passes(N)
    transposed = scratch + accumulate_panel_space(h, depth)
    out = dw + g0 * (H + D)
    rows = g1 - g0
    zero_row(rows, db + g0)
    k = 0
    while k == 0 or k < N:
        n = min(depth, N - k)
        kept = 1 if k > 0 else 0
        dgates_k = dgates + (k * GATES * H + g0)
        add_rows(rows, db + g0, dgates_k, GATES * H, n)
        transpose(dgates_k, GATES * H, transposed, n, n, rows, n)
        accumulate(rows, H, out, H + D, transposed, n, h + k * H, H, n, kept * H, scratch)
        accumulate(rows, D, out + H, H + D, transposed, n, x + k * D, D, n, kept * D, scratch)
        k += max(depth, 1)


@inline
def input_gradient(dgates, weights, dx, rows, D, H):
    """``dx (rows, D)`` from ``dgates (rows, 4, H)``."""
    w_x = weights + paneled(weights, H) * GATES * H
    multiply(rows, D, dx, D, dx, D, 0, dgates, GATES * H, 1, w_x, GATES * H)


# --- what the layer object calls ----------------------------------------------------


@kernel
def lstm_pack(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, forward, backward):
    """Pack ``W* (H, H + D)``, on ``[a_prev; xt]``, and ``b* (H, 1)`` for the products.

    backward : may be empty, for inference.
    """
    H, across = w_f.shape
    D = across - H
    training = backward.size > 0
    w_f, w_i, w_c, w_o = pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o)
    b_f, b_i, b_c, b_o = pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o)
    pack_forward(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, pointer(forward), D, H)
    if training:
        pack_backward(w_f, w_i, w_c, w_o, pointer(backward), D, H)


@kernel
def lstm_forward(x, weights, sums, gates, c, h, steps, fresh, b0, b1):
    """``h`` and ``c (T + 1, B, H)``, slot 0 read, from ``x (T, B, D)``; rows `b0` to `b1`.

    sums : (steps, B, 4, H padded), written on the way.
    gates : (T, B, 4, H), written with the activated gates; where only the result counts, it may
        be empty, and (1, B, H) is enough for `c`, which is then updated in place.
    fresh : whether the first state is zero, whatever slot 0 holds.
    """
    T, B, D = x.shape
    H = h.shape[2]
    if fresh:
        zero_row((b1 - b0) * H, pointer(h) + b0 * H)
        zero_row((b1 - b0) * H, pointer(c) + b0 * H)
    forward_steps(
        pointer(x), pointer(weights), pointer(sums), pointer(gates), gates.size > 0,
        pointer(c), c.shape[0], pointer(h), T, B, D, H, steps, b0, b1,
    )  # fmt: skip


@kernel
def lstm_step(x, weights, sums, h, c):
    """One step: ``h`` and ``c (B, H)`` in place, from ``x (B, D)``.

    sums : (B, 4, H padded), written on the way.
    """
    B, D = x.shape
    H = h.shape[1]
    x, weights, sums, h, c = pointer(x), pointer(weights), pointer(sums), pointer(h), pointer(c)
    across = GATES * padded(weights, H)
    w_x = weights + across
    input_sums(B, H, sums, B, weights, x, w_x, D)
    add_state_sums(B, H, sums, B, h, w_x + across * D, False)
    pointwise_forward(B, H, sums, B, sums, False, c, c, h)


@kernel
def lstm_backward_steps(dh_out, weights, gates, c, dh, dc, fresh, b0, b1):
    """The gates' gradients, over the gates, from ``dh_out (T, B, H)``; rows `b0` to `b1`.

    dh, dc : (B, H), the last state's further gradients, overwritten by the first's.
    fresh : whether these further gradients are zero, whatever `dh` and `dc` hold.
    """
    T, B, H = dh_out.shape
    gates, c, dh, dc = pointer(gates), pointer(c), pointer(dh), pointer(dc)
    if fresh:
        zero_row((b1 - b0) * H, dh + b0 * H)
        zero_row((b1 - b0) * H, dc + b0 * H)
    backward_steps(
        pointer(dh_out), pointer(weights), gates, gates, c, c + B * H, dh, dc, T, B, H, b0, b1
    )


@kernel
def lstm_input_gradient(dgates, weights, dx, t0, t1):
    """Steps `t0` to `t1` of ``dx (T, B, D)``."""
    B, D = dx.shape[1:]
    H = dgates.shape[3]
    at = t0 * B
    rows = (t1 - t0) * B
    input_gradient(
        pointer(dgates) + at * GATES * H, pointer(weights), pointer(dx) + at * D, rows, D, H
    )


@kernel
def lstm_weight_gradients(x, h, dgates, dw, db, scratch, g0, g1):
    """Rows `g0` to `g1` of ``dw (4 H, H + D)`` and ``db (4 H)``."""
    T, B, D = x.shape
    weight_gradients(
        pointer(x), pointer(h), pointer(dgates), pointer(dw), pointer(db), T * B, D, h.shape[2],
        g0, g1, pointer(scratch),
    )  # fmt: skip


# --- what the notebook functions call -----------------------------------------------


@kernel
def lstm_notebook_forward(
    x, a0, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
    scratch, x_rows, sums, gates, c_rows, h, y_rows, a, c, y, steps,
):  # fmt: skip
    """The whole of `lstm_forward`, in the notebooks' layout.

    x : (D, B, T), a0 : (H, B), weights as the notebooks have them; read.
    x_rows : (T, B, D), gates : (T, B, 4, H), c_rows, h : (T + 1, B, H), kept for the way
        back; written.
    sums : (steps, B, 4, H padded), y_rows : (T, B, O), written on the way.
    a, c : (H, B, T), y : (O, B, T), written.
    """
    D, B, T = x.shape
    O, H = w_y.shape
    scratch, x_rows, gates = pointer(scratch), pointer(x_rows), pointer(gates)
    c_rows, h, y_rows = pointer(c_rows), pointer(h), pointer(y_rows)
    pack_forward(
        pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), scratch, D, H,
    )  # fmt: skip
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    zero_row(B * H, c_rows)
    forward_steps(
        x_rows, scratch, pointer(sums), gates, True, c_rows, T + 1, h, T, B, D, H, steps, 0, B
    )
    reverse_axes(h + B * H, pointer(a), T, B, H)
    reverse_axes(c_rows + B * H, pointer(c), T, B, H)
    predict(h + B * H, pointer(w_y), pointer(b_y), scratch, y_rows, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def lstm_notebook_backward(
    da, w_f, w_i, w_c, w_o, x_rows, gates, c_prev, c, h_prev,
    dh_out, dgates, dh, dc, dx_rows, dx, da0, dw, db, scratch,
):  # fmt: skip
    """The whole of `lstm_backward`, in the notebooks' layout.

    da : (H, B, T), w_*, x_rows (T or more, B, D), gates (T or more, B, 4, H); read.
    c_prev, c, h_prev : (T or more, B, H), the old and the new cells, the old states; read.
    dh_out (T, B, H), dgates (T, B, 4, H), dh, dc (B, H), dx_rows (T, B, D), written on the way.
    dx : (D, B, T), da0 : (H, B), dw : (4 H, H + D), db : (4 H), written.
    """
    H, B, T = da.shape
    D = w_f.shape[1] - H
    x_rows, gates = pointer(x_rows), pointer(gates)
    dh_out, dgates, dh, dc = pointer(dh_out), pointer(dgates), pointer(dh), pointer(dc)
    dx_rows, scratch = pointer(dx_rows), pointer(scratch)
    pack_backward(pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), scratch, D, H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    zero_row(B * H, dc)
    backward_steps(
        dh_out, scratch, gates, dgates, pointer(c_prev), pointer(c), dh, dc, T, B, H, 0, B
    )
    transpose(dh, H, pointer(da0), B, B, H, B)
    input_gradient(dgates, scratch, dx_rows, T * B, D, H)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
    weight_gradients(
        x_rows, pointer(h_prev), dgates, pointer(dw), pointer(db), T * B, D, H, 0, GATES * H,
        scratch,
    )  # fmt: skip
