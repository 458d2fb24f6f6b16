"""The softmax head: predictions from hidden states, and the way back.

Shapes: ``h (N, H)``, one row for each step of each example, ``y (N, O)`` with `O` classes.
"""

from ._jit import kernel, leaf, part
from .activations import softmax_row
from .gradients import sum_gradients
from .linear import multiply, pack_columns, pack_rows, reverse_axes
from .simd import align, padded, pointer


@leaf
def softmax_each(N, O, y):
    """Turn each row of ``y (N, O)`` from logits to probabilities."""
    if O > 0:
        for n in range(N):
            softmax_row(y + n * O, y + n * O, O)


@part
def predict(h, w_y, b_y, packed, y, N, H, O):
    """``y = softmax(h @ w_y.T + b_y)``, row by row; `packed` holds whole panels."""
    pack_columns(O, w_y, H, H, packed)
    multiply(N, O, y, O, b_y, 0, True, h, H, packed, H)
    softmax_each(N, O, y)


@kernel
def output_backward(dz, h, w_y, da, dw, db, scratch):
    """From the gradient of the logits to those of the hidden states and the head.

    dz : (O, B, T), h : (T, B, H), w_y : (O, H), read.
    da : (H, B, T), dw : (O, H), db : (O, 1), written.
    """
    O, B, T = dz.shape
    H = w_y.shape[1]
    N = T * B
    h, w_y, dw = pointer(h), pointer(w_y), pointer(dw)
    rows = align(pointer(scratch))
    dh = rows + padded(rows, N * O)
    packed = dh + padded(rows, N * H)
    reverse_axes(pointer(dz), rows, O, B, T)

    pack_rows(H, w_y, H, 0, O, packed, O)
    multiply(N, H, dh, H, dh, H, False, rows, O, packed, O)
    reverse_axes(dh, pointer(da), T, B, H)

    sum_gradients(O, rows, O, pointer(db), dw, H, h, H, dw, H, h, 0, N, packed)
