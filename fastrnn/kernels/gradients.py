"""Gradients of weights: sums over the rows of all steps, in passes.

A pass is one chain of additions.  Its sums are added to those of the passes before it, so that
rounding errors grow with the rows of a pass and the number of passes, not with their product.
"""

from ._jit import inline, part
from .cpu import WIDTH
from .linear import add_row, add_rows, panels_space, transpose, zero_row
from .simd import lanes
from .unpacked import multiply_back

DEPTH = 512  # rows of a pass, at most: a packed panel stays in L2
SUMS = 1 << 15  # elements of a pass that wait to be added


@inline
def passes(N):
    """Rows of one pass over `N` rows: at most `DEPTH`, and all passes about equal."""
    count = max(1, (N + DEPTH - 1) // DEPTH)
    return (N + count - 1) // count


@part
def _sum_product(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed, sums):
    """``out = x @ w``, or as a whole added to it."""
    if not kept:
        multiply_back(rows, columns, out, out_row, False, x, x_row, w, w_row, depth, packed)
        return
    panel = WIDTH * lanes(out)  # no more: `packed` is as large as the first pass needs it
    at_once = SUMS // panel
    for j in range(0, columns, panel):
        n = min(panel, columns - j)
        for r0 in range(0, rows, at_once):
            r1 = min(r0 + at_once, rows)
            multiply_back(
                r1 - r0, n, sums, panel, False, x + r0 * x_row, x_row, w + j, w_row, depth, packed
            )
            for r in range(r0, r1):
                add_row(n, out + (r * out_row + j), sums + (r - r0) * panel)


@part
def sum_gradients(
    rows, dz, dz_row, db, dw_h, dw_h_row, h, H, dw_x, dw_x_row, x, D, N, scratch
):  # fmt: skip
    """``dw_h = dz^T h``, ``dw_x = dz^T x`` and ``db``, the sums of ``dz (N, rows)``.

    scratch : `fastrnn.packing.gradients_size` elements.
    """
    depth = passes(N)
    packed = scratch
    sums = packed + panels_space(h, max(D, H), depth)
    transposed = sums + (SUMS if N > DEPTH else 0)
    for k in range(0, max(1, N), max(1, depth)):
        n, kept = min(depth, N - k), k > 0
        dz_k = dz + k * dz_row
        total = transposed if kept else db
        zero_row(rows, total)
        add_rows(rows, total, dz_k, dz_row, n)
        if kept:
            add_row(rows, db, total)
        transpose(dz_k, dz_row, transposed, n, n, rows, n)
        _sum_product(rows, H, dw_h, dw_h_row, kept, transposed, n, h + k * H, H, n, packed, sums)
        _sum_product(rows, D, dw_x, dw_x_row, kept, transposed, n, x + k * D, D, n, packed, sums)
