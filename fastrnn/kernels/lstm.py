"""The LSTM cell: its pointwise forward, its pointwise backward, the loops over time.

Shapes: ``x (T, B, D)``, ``gates (T, B, 4, H)``, ``h (T + 1, B, H)`` and ``c (T + 1, B, H)``
with slot 0 the initial state.  Gates stand in the order i, f, g, o.

Sources: Hochreiter & Schmidhuber (1997), Neural Computation 9(8); the forget gate is
that of Gers, Schmidhuber & Cummins (2000), Neural Computation 12(10).
"""

from ._jit import inline, kernel, leaf, part
from .activations import sigmoid, tanh
from .cpu import ROWS, WIDTH
from .gradients import sum_gradients
from .head import predict
from .linear import (
    HALF,
    STREAM,
    THIN,
    add_row,
    copy_or_zero,
    multiply,
    multiply_between,
    multiply_columns,
    multiply_panel,
    multiply_thin,
    pack_rows,
    reverse_axes,
    tile_width,
    transpose,
    zero_row,
)
from .simd import (
    align,
    distance,
    finish_streams,
    lanes,
    load,
    load_blocks,
    narrow,
    padded,
    paneled,
    pointer,
    store,
    streamed,
    widen,
)
from .team import NEVER, join, leave, meet, share, shares
from .tiles import tile_product

GATES = 4
GATE_I, GATE_F, GATE_G, GATE_O = range(GATES)
PANEL = min(WIDTH, GATES)  # the gates of one block of units, in one panel or in two
IN_ONE = PANEL == GATES
gates_tile = tile_product(*((width, 1) for width in range(2, PANEL + 1)))


@leaf
def step_hidden(o, c):
    """The new hidden state, of the output gate and the new cell state."""
    return o * tanh(c)


@leaf
def step_forward(
    rows, units, sums, between, more, more_between, row, gates, column, keep, c_prev, c, h
):  # fmt: skip
    """One step of `units` adjacent units, from pre-activations to the new state.

    sums : pre-activations, rows `row` apart, of a block of units with gates `between` apart.
    more : those of the block after it, if `h` has vectors of two, with gates `more_between` apart.
    gates : the activated gates, `column` apart, written if `keep`; may be `sums`.
    c_prev, c : old and new cell state; the same memory is allowed.
    h : written; the output gate stands there meanwhile.

    Of several rows the gates come first, then all of `h`: a CPU does not look so far ahead that
    it would begin a row while the one before waits for its last tanh.
    """
    for r in range(rows):
        z, z_more = sums + r * row, more + r * row
        i = sigmoid(load_blocks(h, z + GATE_I * between, z_more + GATE_I * more_between, units))
        f = sigmoid(load_blocks(h, z + GATE_F * between, z_more + GATE_F * more_between, units))
        g = tanh(load_blocks(h, z + GATE_G * between, z_more + GATE_G * more_between, units))
        o = sigmoid(load_blocks(h, z + GATE_O * between, z_more + GATE_O * more_between, units))

        c_r = f * load(c_prev + r * column, units) + i * g

        if keep:
            at = gates + r * GATES * column
            store(at + GATE_I * column, i, units)
            store(at + GATE_F * column, f, units)
            store(at + GATE_G * column, g, units)
            store(at + GATE_O * column, o, units)
        store(c + r * column, c_r, units)
        store(h + r * column, step_hidden(o, c_r) if rows == 1 else o, units)
    if rows > 1:
        for r in range(rows):
            h_r = h + r * column
            store(h_r, step_hidden(load(h_r, units), load(c + r * column, units)), units)


@leaf
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


@leaf
def gate_width(p, units):
    """Elements from one gate to the next of a block: its `units`, if that saves a vector."""
    return units if PANEL * units <= (PANEL - 1) * lanes(p) else lanes(p)


@part
def pack_gate(gate, w, w_row, j0, j1, H, depth, packed):
    """Pack units of one gate's weights ``w (H, depth)`` beside those of the other gates."""
    block = lanes(w)
    panel = PANEL * block
    place = gate % PANEL
    for j in range(j0, j1, block):
        units = min(block, H - j)
        width = gate_width(w, units)
        at = j * GATES * depth + gate // PANEL * panel * depth + place * width
        end = padded(w, PANEL * width) if place == PANEL - 1 else (place + 1) * width
        transpose(w + j * w_row, w_row, packed + at, panel, units, depth, end - place * width)


@part
def pack_bias(gate, b, j0, j1, H, packed):
    """Pack units of one gate's biases ``b (H)`` beside those of the other gates, likewise."""
    block = lanes(b)
    for j in range(j0, j1, block):
        units = min(block, H - j)
        width = gate_width(b, units)
        store(packed + (j * GATES + gate * width), load(b + j, units), width)


@inline
def pack_forward(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, weights, D, H, j0, j1):
    """Units of the forward weights: bias, input to hidden, hidden to hidden."""
    across = GATES * padded(weights, H)
    w_x = weights + across
    w_h = w_x + across * D
    pack_bias(GATE_I, b_i, j0, j1, H, weights)
    pack_bias(GATE_F, b_f, j0, j1, H, weights)
    pack_bias(GATE_G, b_c, j0, j1, H, weights)
    pack_bias(GATE_O, b_o, j0, j1, H, weights)
    pack_gate(GATE_I, w_i + H, H + D, j0, j1, H, D, w_x)
    pack_gate(GATE_F, w_f + H, H + D, j0, j1, H, D, w_x)
    pack_gate(GATE_G, w_c + H, H + D, j0, j1, H, D, w_x)
    pack_gate(GATE_O, w_o + H, H + D, j0, j1, H, D, w_x)
    pack_gate(GATE_I, w_i, H + D, j0, j1, H, H, w_h)
    pack_gate(GATE_F, w_f, H + D, j0, j1, H, H, w_h)
    pack_gate(GATE_G, w_c, H + D, j0, j1, H, H, w_h)
    pack_gate(GATE_O, w_o, H + D, j0, j1, H, H, w_h)


@inline
def pack_backward(w_f, w_i, w_c, w_o, weights, D, H, j0, j1):
    """Units of the backward weights: hidden to hidden, input to hidden, both the other way."""
    units = j1 - j0
    at = j0 * (H + D)
    w_h = weights
    w_x = weights + paneled(weights, H) * GATES * H
    pack_rows(H, w_i + at, H + D, GATE_I * H + j0, units, w_h, GATES * H)
    pack_rows(H, w_f + at, H + D, GATE_F * H + j0, units, w_h, GATES * H)
    pack_rows(H, w_c + at, H + D, GATE_G * H + j0, units, w_h, GATES * H)
    pack_rows(H, w_o + at, H + D, GATE_O * H + j0, units, w_h, GATES * H)
    pack_rows(D, w_i + (at + H), H + D, GATE_I * H + j0, units, w_x, GATES * H)
    pack_rows(D, w_f + (at + H), H + D, GATE_F * H + j0, units, w_x, GATES * H)
    pack_rows(D, w_c + (at + H), H + D, GATE_G * H + j0, units, w_x, GATES * H)
    pack_rows(D, w_o + (at + H), H + D, GATE_O * H + j0, units, w_x, GATES * H)


@part
def pack(
    w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, forward, backward, training, D, H, j0, j1
):  # fmt: skip
    """Units of the forward weights, and of the backward weights for training."""
    block = lanes(forward)
    # A block at a time: its weights are in cache when they are packed the second way.
    for j in range(j0, j1, block):
        end = min(j1, j + block)
        pack_forward(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, forward, D, H, j, end)
        if training:
            pack_backward(w_f, w_i, w_c, w_o, backward, D, H, j, end)


@leaf
def multiply_gates(rows, units, sums, start, start_row, x, x_row, w, depth, w_next):
    """``sums = start + x @ w`` for all gates of a block of units; then comes `w_next`."""
    block = lanes(sums)
    row = GATES * block
    width = gate_width(sums, units)
    if IN_ONE:  # noqa: SIM102 - of a constant alone Numba drops the branch
        if rows == 1 and PANEL * width > block:
            gates_tile(
                tile_width(block, PANEL * width), 1, sums, row, start, start_row, True,
                PANEL * width, x, x_row, w, PANEL * block, depth,
            )  # fmt: skip
            return
    if width < block:
        for gate in range(0, GATES, PANEL):
            at = gate * width
            multiply_columns(
                rows, sums + at, row, start + at, start_row, True, PANEL * width,
                x, x_row, w + gate * block * depth, depth, w_next,
            )  # fmt: skip
        return
    if not IN_ONE:  # noqa: SIM102
        if rows <= THIN:
            multiply_thin(rows, sums, row, start, start_row, True, row, x, x_row, w, depth, False)
            return
    for gate in range(0, GATES, PANEL):
        at = gate * block
        multiply_panel(
            rows, sums + at, row, start + at, start_row, True, PANEL * block,
            x, x_row, w + at * depth, depth,
            w + (at + PANEL * block) * depth if gate + PANEL < GATES else w_next,
        )  # fmt: skip


@inline
def multiply_units(
    rows, j0, j1, H, sums, apart, start, start_apart, start_row, x, w, depth, backwards
):  # fmt: skip
    """``sums = start + x @ w`` of units, block after block, `apart` rows from one to the next.

    From the last block to the first if `backwards`.
    """
    block = lanes(sums)
    last = padded(sums, j1) - block
    for j in range(j0, j1, block):
        j = last + j0 - j if backwards else j
        j_next = j - block if backwards else j + block
        multiply_gates(
            rows, min(block, H - j), sums + j * GATES * apart, start + j * GATES * start_apart,
            start_row, x, depth, w + j * GATES * depth, depth, w + j_next * GATES * depth,
        )  # fmt: skip


@part
def input_sums(rows, j0, j1, H, sums, apart, bias, x, w_x, D):
    """``sums = b + x W_x``."""
    multiply_units(rows, j0, j1, H, sums, apart, bias, 1, 0, x, w_x, D, False)


@inline
def add_state_sums(rows, j0, j1, H, sums, apart, h_prev, w_h, backwards):
    """``sums += h W_h``."""
    row = GATES * lanes(sums)
    multiply_units(rows, j0, j1, H, sums, apart, sums, apart, row, h_prev, w_h, H, backwards)


@leaf
def pointwise_blocks(rows, units, j, H, sums, apart, gates, keep, c_prev, c, h):
    """`step_forward` of more than one block and up to two, whose operations take turns."""
    block = lanes(h)
    row = GATES * block
    sums_j = sums + j * GATES * apart
    step_forward(
        rows, units, sums_j, block, sums_j + row * apart, gate_width(sums, H - j - block), row,
        widen(gates + j), H, keep, widen(c_prev + j), widen(c + j), widen(h + j),
    )  # fmt: skip


@leaf
def pointwise_forward(rows, j0, j1, H, sums, apart, gates, keep, c_prev, c, h):
    """`step_forward` of units; `sums` as for `input_sums`, the others (rows, H).

    It comes after the products of all of them: a CPU that waits for one has the others to do.
    """
    block = lanes(h)
    row = GATES * block
    j = j0
    while j + 2 * block <= j1:  # of whole blocks no lane is masked
        pointwise_blocks(rows, 2 * block, j, H, sums, apart, gates, keep, c_prev, c, h)
        j += 2 * block
    units = j1 - j
    sums_j = sums + j * GATES * apart
    width = gate_width(sums, units)
    if units > block:
        pointwise_blocks(rows, units, j, H, sums, apart, gates, keep, c_prev, c, h)
    elif units > block // 2:
        step_forward(
            rows, units, sums_j, width, sums_j, width, row, gates + j, H, keep,
            c_prev + j, c + j, h + j,
        )  # fmt: skip
    elif units > 0:
        half = narrow(sums_j)
        step_forward(
            rows, units, half, width, half, width, row, narrow(gates + j), H, keep,
            narrow(c_prev + j), narrow(c + j), narrow(h + j),
        )  # fmt: skip


@part
def forward_steps(x, weights, sums, gates, keep, c, C, h, T, B, D, H, steps, team, places):
    """All steps, each a phase of the team; the inputs' products `steps` at a time.

    sums : room for the pre-activations of `steps` steps, written.
    gates : written if `keep`.  Of the cell `C` steps are kept.
    """
    row = GATES * lanes(sums)
    across = GATES * padded(weights, H)
    w_x = weights + across
    w_h = w_x + across * D
    apart = steps * B
    rank, phase, members = join(team, places)
    t = phase - 1
    s = t % steps  # of those whose inputs' products are there
    while t < T:
        b0, b1, j0, j1 = shares(rank, members, B, H, lanes(sums), GATES * H * H, H)
        rows = b1 - b0
        if s == 0:
            n = min(steps, T - t)
            together = n if rows == B else 1  # steps whose rows lie evenly spaced
            for k in range(0, n, together):
                input_sums(
                    rows * together, j0, j1, H, sums + (k * B + b0) * row, apart, weights,
                    x + ((t + k) * B + b0) * D, w_x, D,
                )  # fmt: skip
        at = t * B + b0
        sums_t = sums + (s * B + b0) * row
        h_prev = h + at * H
        # Every second step backwards: the weights last read are still in cache.
        add_state_sums(rows, j0, j1, H, sums_t, apart, h_prev, w_h, t % 2 == 1)
        pointwise_forward(
            rows, j0, j1, H, sums_t, apart, gates + at * GATES * H, keep,
            c + ((t % C) * B + b0) * H, c + (((t + 1) % C) * B + b0) * H, h_prev + B * H,
        )  # fmt: skip
        t += 1
        s = s + 1 if s + 1 < steps else 0
        members = meet(team, places, rank, members, t)
    leave(team, places, rank, members)


@leaf
def step_back(rows, j0, j1, H, gates, dgates, c_prev, c, dh, dc):
    """`step_backward` of units, of two blocks at once as for `pointwise_forward`."""
    block = lanes(dh)
    j = j0
    while j + 2 * block <= j1:
        step_backward(
            rows, 2 * block, H, widen(gates + j), widen(dgates + j), widen(c_prev + j),
            widen(c + j), widen(dh + j), widen(dc + j),
        )  # fmt: skip
        j += 2 * block
    while j < j1:
        step_backward(
            rows, min(block, H - j), H, gates + j, dgates + j, c_prev + j, c + j, dh + j, dc + j
        )
        j += block


@part
def backward_steps(
    x, h, dh_out, weights, gates, dgates, c_prev, c, dh, dc, dx, dw, db, scratch, scratch_row,
    T, B, D, H, team, places,
):  # fmt: skip
    """All steps back, each a phase of the team, and the gradients that follow, one more.

    h : the old states.  c_prev, c : (T, B, H), the old and the new cells.
    `dh` and `dc` go from the last state's further gradient to the first state's.
    scratch : for each member, `scratch_row` elements apart; may be `weights`, which are read first.
    """
    rank, phase, members = join(team, places)
    while phase <= T + 1:
        b0, b1, j0, j1 = shares(
            rank, members, B, H, HALF * lanes(dh), GATES * H * H, GATES * H
        )  # fmt: skip
        rows = b1 - b0
        dh_b = dh + b0 * H
        t = T - phase
        state = (t * B + b0) * H
        if phase > 1:
            first = t < 0
            multiply_between(
                j0, j1, rows, dh_b, H, dh_b if first else dh_out + state, H, not first,
                dgates + GATES * (state + B * H), GATES * H, weights, GATES * H, phase % 2 == 1,
            )  # fmt: skip
        if phase <= T:
            if phase == 1:
                for b in range(rows):
                    add_row(j1 - j0, dh_b + (b * H + j0), dh_out + (state + b * H + j0))
            step_back(
                rows, j0, j1, H, gates + GATES * state, dgates + GATES * state,
                c_prev + state, c + state, dh_b, dc + b0 * H,
            )  # fmt: skip
        else:
            n0, n1 = share(rank, members, T * B, ROWS)
            g0, g1 = share(rank, members, GATES * H, ROWS)
            input_gradient(dgates + n0 * GATES * H, weights, dx + n0 * D, n1 - n0, D, H)
            weight_gradients(
                x, h, dgates, dw, db, T * B, D, H, g0, g1, scratch + rank * scratch_row
            )
        members = meet(team, places, rank, members, phase)
        phase += 1
    leave(team, places, rank, members)


@inline
def weight_gradients(x, h, dgates, dw, db, N, D, H, g0, g1, scratch):
    """Rows `g0` to `g1` of ``dw (4 H, H + D)`` and ``db (4 H)``, over `N` rows.

    h : the old states.
    """
    out = dw + g0 * (H + D)
    sum_gradients(
        g1 - g0, dgates + g0, GATES * H, db + g0, out, H + D, h, H, out + H, H + D, x, D, N, scratch
    )


@inline
def input_gradient(dgates, weights, dx, rows, D, H):
    """``dx (rows, D)`` from ``dgates (rows, 4, H)``."""
    w_x = weights + paneled(weights, H) * GATES * H
    multiply(rows, D, dx, D, dx, D, False, dgates, GATES * H, w_x, GATES * H)


# --- what the layer object calls ----------------------------------------------------


@kernel
def lstm_pack(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, forward, backward, team, places):
    """Pack ``W* (H, H + D)``, on ``[a_prev; xt]``, and ``b* (H, 1)`` for the products.

    backward : may be empty, for inference.
    team, places : see `fastrnn.kernels.team`.
    """
    H, across = w_f.shape
    D = across - H
    training = backward.size > 0
    large = forward.nbytes + backward.nbytes > STREAM
    w_f, w_i, w_c, w_o = pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o)
    b_f, b_i, b_c, b_o = pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o)
    forward, backward = pointer(forward), pointer(backward)
    rank, phase, members = join(team, places)
    if phase == 1:
        j0, j1 = share(rank, members, H, lanes(forward))
        if large:
            pack(
                w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, streamed(forward), streamed(backward),
                training, D, H, j0, j1,
            )  # fmt: skip
            finish_streams()
        else:
            pack(w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o, forward, backward, training, D, H, j0, j1)
        members = meet(team, places, rank, members, phase)
    leave(team, places, rank, members)


@kernel
def lstm_forward(h0, c0, x, weights, sums, gates, c, h, steps, team, places):
    """``h`` and ``c (T + 1, B, H)`` from ``x (T, B, D)`` and the first state, which is slot 0.

    h0, c0 : (B, H), or empty for zero.
    sums : (steps, B, 4, H padded), written on the way.
    gates : (T, B, 4, H), written with the activated gates; where only the result counts, it may
        be empty, and (1, B, H) is enough for `c`, which is then updated in place.
    team, places : see `fastrnn.kernels.team`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    copy_or_zero(B * H, pointer(h), h0)
    copy_or_zero(B * H, pointer(c), c0)
    forward_steps(
        pointer(x), pointer(weights), pointer(sums), pointer(gates), gates.size > 0,
        pointer(c), c.shape[0], pointer(h), T, B, D, H, steps, team, places,
    )  # fmt: skip


@kernel
def lstm_step(D, H, x, weights, sums, h, c):
    """One step: ``h`` and ``c (B, H)`` in place, from ``x (B, D)``.

    sums : (B or more, 4, H padded), written on the way.
    Returns whether the arrays have these shapes, and `h` and `c` memory of their own; if not,
    nothing is written.
    """
    B = len(x)
    if x.shape[1] != D or h.shape != (B, H) or c.shape != (B, H) or len(sums) < B:
        return False
    x, weights, sums, h, c = pointer(x), pointer(weights), pointer(sums), pointer(h), pointer(c)
    if abs(distance(h, c)) < B * H:
        return False
    across = GATES * padded(weights, H)
    w_x = weights + across
    input_sums(B, 0, H, H, sums, B, weights, x, w_x, D)
    add_state_sums(B, 0, H, H, sums, B, h, w_x + across * D, False)
    pointwise_forward(B, 0, H, H, sums, B, sums, False, c, c, h)
    return True


@kernel
def lstm_backward(
    dh_last, dc_last, x, h, dh_out, weights, gates, c, dh, dc, dx, dw, db, scratch, team, places
):
    """All gradients, from ``dh_out (T, B, H)`` and what `lstm_forward` was given and has written.

    dh_last, dc_last : (B, H), the last state's further gradients, or empty for zero.
    gates : overwritten by their gradients.
    dh, dc : (B, H), the first state's gradients, written.
    dx : (T, B, D), dw : (4, H, H + D), db : (4, H, 1), written.
    scratch : a row for each member of the team.
    team, places : see `fastrnn.kernels.team`.
    """
    T, B, D = x.shape
    H = h.shape[2]
    gates, c, dh, dc = pointer(gates), pointer(c), pointer(dh), pointer(dc)
    copy_or_zero(B * H, dh, dh_last)
    copy_or_zero(B * H, dc, dc_last)
    backward_steps(
        pointer(x), pointer(h), pointer(dh_out), pointer(weights), gates, gates, c, c + B * H,
        dh, dc, pointer(dx), pointer(dw), pointer(db), pointer(scratch), scratch.shape[1],
        T, B, D, H, team, places,
    )  # fmt: skip


# --- what the notebook functions call -----------------------------------------------


@kernel
def lstm_notebook_forward(
    x, a0, w_f, w_i, w_c, w_o, w_y, b_f, b_i, b_c, b_o, b_y,
    x_rows, gates, c_rows, h, a, c, y, scratch, steps,
):  # fmt: skip
    """The whole of `lstm_forward`, in the notebooks' layout.

    x : (D, B, T), a0 : (H, B), weights as the notebooks have them; read.
    x_rows : (T, B, D), gates : (T, B, 4, H), c_rows, h : (T + 1, B, H), kept for the way
        back; written.
    a, c : (H, B, T), y : (O, B, T), written.
    """
    D, B, T = x.shape
    O, H = w_y.shape
    x_rows, gates, c_rows, h = pointer(x_rows), pointer(gates), pointer(c_rows), pointer(h)
    y_rows = align(pointer(scratch))
    sums = y_rows + padded(h, T * B * O)
    packed = sums + steps * B * GATES * padded(h, H)
    pack_forward(
        pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o),
        pointer(b_f), pointer(b_i), pointer(b_c), pointer(b_o), packed, D, H, 0, H,
    )  # fmt: skip
    reverse_axes(pointer(x), x_rows, D, B, T)
    transpose(pointer(a0), B, h, H, H, B, H)
    zero_row(B * H, c_rows)
    forward_steps(x_rows, packed, sums, gates, True, c_rows, T + 1, h, T, B, D, H, steps, NEVER, 1)
    reverse_axes(h + B * H, pointer(a), T, B, H)
    reverse_axes(c_rows + B * H, pointer(c), T, B, H)
    predict(h + B * H, pointer(w_y), pointer(b_y), packed, y_rows, T * B, H, O)
    reverse_axes(y_rows, pointer(y), T, B, O)


@kernel
def lstm_notebook_backward(
    da, w_f, w_i, w_c, w_o, x_rows, gates, c_prev, c, h_prev, dx, da0, dw, db, scratch
):
    """The whole of `lstm_backward`, in the notebooks' layout.

    da : (H, B, T), w_*, x_rows (T or more, B, D), gates (T or more, B, 4, H); read.
    c_prev, c, h_prev : (T or more, B, H), the old and the new cells, the old states; read.
    dx : (D, B, T), da0 : (H, B), dw : (4 H, H + D), db : (4 H), written.
    """
    H, B, T = da.shape
    D = w_f.shape[1] - H
    dh_out = align(pointer(scratch))
    dgates = dh_out + padded(dh_out, T * B * H)
    dh = dgates + padded(dh_out, T * B * GATES * H)
    dc = dh + padded(dh_out, B * H)
    dx_rows = dc + padded(dh_out, B * H)
    packed = dx_rows + padded(dh_out, T * B * D)
    pack_backward(pointer(w_f), pointer(w_i), pointer(w_c), pointer(w_o), packed, D, H, 0, H)
    reverse_axes(pointer(da), dh_out, H, B, T)
    zero_row(B * H, dh)
    zero_row(B * H, dc)
    backward_steps(
        pointer(x_rows), pointer(h_prev), dh_out, packed, pointer(gates), dgates,
        pointer(c_prev), pointer(c), dh, dc, dx_rows, pointer(dw), pointer(db), packed, 0,
        T, B, D, H, NEVER, 1,
    )  # fmt: skip
    transpose(dh, H, pointer(da0), B, B, H, B)
    reverse_axes(dx_rows, pointer(dx), T, B, D)
