"""Products by matrices as they lie, which are read once or a few times.

Packing pays for itself when a matrix is used again.  Here one is turned in registers
(`multiply_lying` of few rows, else it packs a strip when its turn comes) or read in place
(`multiply_back`, but for columns that fill no panel).  Sums take their terms in the same order as
in `linear`.
"""

from ._jit import leaf, part
from .linear import accumulate, multiply_columns, tile_across, transpose
from .simd import (
    WIDTH,
    before_line,
    lanes,
    rank1,
    rank_block,
    tile_columns,
    tile_load,
    tile_store,
    tile_zero,
)

FEW = 8  # rows for which packing does not pay
STRIP = 128  # rows of a strip of weights that is packed and used at once
NEAR = 8  # adjacent rows of weights that are read side by side
APART = 1024  # elements between rows whose lines share one set of a first-level cache


@part
def _multiply_strips(
    rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth, packed
):
    """`multiply_lying`: a strip of at most `STRIP` by a panel is packed when its turn comes."""
    block = lanes(out)
    width = WIDTH * block
    for j in range(0, columns, width):
        k = 0
        while k == 0 or k < depth:
            n = min(STRIP, depth - k)
            for v in range(0, tile_across(block, columns - j), block):
                lying = w + ((j + v) * w_row + k)
                count = max(0, min(block, columns - j - v))
                transpose(lying, w_row, packed + v, width, count, n, block)
            out_j = out + j
            start_j = out_j if k > 0 else start + j
            start_j_row = out_row if k > 0 else start_row
            multiply_columns(
                rows, out_j, out_row, start_j, start_j_row, True, columns - j,
                x + k, x_row, packed, n,
            )  # fmt: skip
            k += STRIP


@part
def _multiply_blocks(rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth):
    """`multiply_lying` of few rows, by whole blocks of weights that are turned in registers."""
    # fmt: off
    r = 0
    while rows - r >= 4:
        _multiply_block_tile(tile_zero(out, 1, 4), r, columns, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
        r += 4
    if rows - r >= 2:
        _multiply_block_tile(tile_zero(out, 1, 2), r, columns, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
        r += 2
    if rows - r == 1:
        _multiply_block_tile(tile_zero(out, 1, 1), r, columns, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
    # fmt: on


@leaf
def _multiply_block_tile(
    tile, r, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth
):
    block = tile_columns(tile)
    for j in range(0, columns, block):
        total = tile_load(tile, start + (r * start_row + j), start_row, block)
        for k in range(0, depth, block):
            total = rank_block(total, w + (j * w_row + k), w_row, x + (r * x_row + k), x_row)
        tile_store(total, out + (r * out_row + j), out_row, block)


@part
def multiply_lying(
    rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth, packed
):
    """``out = start + x @ w.T`` for ``w (columns, depth)`` as it lies."""
    block = lanes(out)
    blocks = columns - columns % block
    # Where all rows of a block share a set, a line that two vectors cross is gone at the second.
    lead = before_line(w) if w_row % APART == 0 else 0
    blocks_depth = (depth - lead) // block * block
    if rows > FEW or blocks_depth <= 0:
        blocks = 0
    _multiply_strips(
        rows, columns - blocks, out + blocks, out_row, start + blocks, start_row, x, x_row,
        w + blocks * w_row, w_row, depth, packed,
    )  # fmt: skip
    if blocks == 0:
        return
    if lead > 0:
        _multiply_strips(
            rows, blocks, out, out_row, start, start_row, x, x_row, w, w_row, lead, packed
        )
        start, start_row = out, out_row
    _multiply_blocks(
        rows, blocks, out, out_row, start, start_row, x + lead, x_row, w + lead, w_row, blocks_depth
    )  # fmt: skip
    done = lead + blocks_depth
    if done < depth:
        _multiply_strips(
            rows, blocks, out, out_row, out, out_row, x + done, x_row,
            w + done, w_row, depth - done, packed,
        )  # fmt: skip


@part
def _multiply_rows(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth):
    """`multiply_back` of whole panels, as they lie: a few rows of `w` at a time."""
    # fmt: off
    for k in range(0, depth, NEAR):
        n = min(NEAR, depth - k)
        w_k = w + k * w_row
        r = 0
        while rows - r >= 4:
            _multiply_rows_tile(tile_zero(out, WIDTH, 4), r, columns, out, out_row, kept or k > 0,
                                x + k, x_row, w_k, w_row, n)
            r += 4
        if rows - r >= 2:
            _multiply_rows_tile(tile_zero(out, WIDTH, 2), r, columns, out, out_row, kept or k > 0,
                                x + k, x_row, w_k, w_row, n)
            r += 2
        if rows - r == 1:
            _multiply_rows_tile(tile_zero(out, WIDTH, 1), r, columns, out, out_row, kept or k > 0,
                                x + k, x_row, w_k, w_row, n)
    # fmt: on


@leaf
def _multiply_rows_tile(tile, r, columns, out, out_row, kept, x, x_row, w, w_row, depth):
    for j in range(0, columns, tile_columns(tile)):
        at = out + (r * out_row + j)
        total = tile
        if kept:
            total = tile_load(tile, at, out_row, tile_columns(tile))
        for k in range(depth):
            total = rank1(total, w + (k * w_row + j), 0, x + (r * x_row + k), x_row)
        tile_store(total, at, out_row, tile_columns(tile))


@part
def multiply_back(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed):
    """``out = x @ w``, or added to it, for ``w (depth, columns)`` as it lies."""
    whole = columns - columns % (WIDTH * lanes(out)) if depth > 0 else 0
    if whole > 0:
        _multiply_rows(rows, whole, out, out_row, kept, x, x_row, w, w_row, depth)
    accumulate(
        rows, columns - whole, out + whole, out_row, x, x_row, w + whole, w_row, depth,
        kept, packed,
    )  # fmt: skip


@part
def accumulate_lying(rows, columns, out, out_row, x_t, x_row, y, y_row, depth, kept, packed):
    """`accumulate`; few rows of `x` and `y`, or of `out`, by `y` as it lies."""
    if depth <= FEW or rows <= FEW:
        multiply_back(rows, columns, out, out_row, kept, x_t, x_row, y, y_row, depth, packed)
    else:
        accumulate(rows, columns, out, out_row, x_t, x_row, y, y_row, depth, kept, packed)
