"""Products by unpacked matrices, which are read once or a few times.

Packing pays for itself when a matrix is used again.  Here, for few rows, one is turned in
registers (`multiply_unpacked`) or read in place (`multiply_back`); for more, a strip or some panels
of it are packed when their turn comes.  Sums take their terms in the same order as in `linear`.
"""

from ._jit import leaf, part
from .cpu import WIDTH
from .linear import (
    multiply_columns,
    multiply_packing,
    tile_width,
    transpose,
)
from .simd import before_line, lanes
from .tiles import rank_block, tile_columns, tile_load, tile_product, tile_store, tile_zero

FEW = 8  # rows for which packing does not pay
FEW_BACK = 16  # the same on the way back; beyond `FEW`, for columns of whole panels only
STRIP = 128  # rows of a strip of weights that is packed and used at once
NEAR = 8  # adjacent rows of weights that are read side by side
APART = 1024  # elements between rows whose lines share one set of a first-level cache
ASIDE = 4  # vectors from one such set to another
whole_tile = tile_product((WIDTH, 4), (WIDTH, 2), (WIDTH, 1))
part_tile = tile_product((1, 4), (1, 2), (1, 1), whole=False)


@part
def _multiply_strips(
    rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth, packed
):
    """`multiply_unpacked`: a strip of at most `STRIP` by a panel is packed when its turn comes."""
    block = lanes(out)
    width = WIDTH * block
    for j in range(0, columns, width):
        for k in range(0, max(1, depth), STRIP):
            n = min(STRIP, depth - k)
            for v in range(0, tile_width(block, columns - j) * block, block):
                w_v = w + ((j + v) * w_row + k)
                count = max(0, min(block, columns - j - v))
                transpose(w_v, w_row, packed + v, width, count, n, block)
            out_j = out + j
            start_j = out_j if k > 0 else start + j
            start_j_row = out_row if k > 0 else start_row
            multiply_columns(
                rows, out_j, out_row, start_j, start_j_row, True, columns - j,
                x + k, x_row, packed, n, packed,
            )  # fmt: skip


@part
def _multiply_blocks(rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth):
    """`multiply_unpacked` of few rows, by blocks of weights that are turned in registers."""
    # fmt: off
    whole = columns - columns % lanes(out)
    r = 0
    while rows - r >= 4:
        _multiply_block_tile(tile_zero(out, 1, 4), r, whole, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
        r += 4
    if rows - r == 3:
        _multiply_block_tile(tile_zero(out, 1, 3), r, whole, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
    elif rows - r == 2:
        _multiply_block_tile(tile_zero(out, 1, 2), r, whole, out, out_row, start, start_row,
                             x, x_row, w, w_row, depth)
    elif rows - r == 1:
        _multiply_block_row(tile_zero(out, 1, 1), whole, out + r * out_row, start + r * start_row,
                            x + r * x_row, w, w_row, depth)
    if whole < columns:
        for r in range(rows):
            _multiply_block_end(tile_zero(out, 1, 1), columns - whole, out + (r * out_row + whole),
                                start + (r * start_row + whole), x + r * x_row, w + whole * w_row,
                                w_row, depth)
    # fmt: on


@leaf
def _add_blocks(total, x, x_row, w, w_row, columns, depth):
    """`total`, and `depth` terms.

    The last ones that fill no block are those of a block that ends there, whose first terms
    are skipped; so a block of `w` and `x` lies before the end even if `depth` is less.
    """
    block = tile_columns(total)
    for k in range(0, depth - block + 1, block):
        total = rank_block(total, w + k, w_row, x + k, x_row, columns, 0)
    left = depth % block
    if left > 0:
        k = depth - block
        total = rank_block(total, w + k, w_row, x + k, x_row, columns, block - left)
    return total


@leaf
def _multiply_block_tile(
    tile, r, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth
):
    block = tile_columns(tile)
    for j in range(0, columns, block):
        total = tile_load(tile, start + (r * start_row + j), start_row, block)
        total = _add_blocks(total, x + r * x_row, x_row, w + j * w_row, w_row, block, depth)
        tile_store(total, out + (r * out_row + j), out_row, block)


@leaf
def _multiply_block_row(tile, columns, out, start, x, w, w_row, depth):
    """One row, whose chain of sums alone takes longer than to turn the weights.

    The second half of a block goes with the first half of the next; not two blocks side by side,
    whose lines may share one set of a first-level cache.
    """
    if columns == 0:
        return
    block = tile_columns(tile)
    half = depth // (2 * block) * block
    if half % (APART // 2) == 0:  # float64's rows that share one are half as far apart
        half = max(0, half - ASIDE * block)
    last = columns - block
    total = tile_load(tile, start, 0, block)
    for k in range(0, half, block):
        total = rank_block(total, w + k, w_row, x + k, 0, block, 0)
    for j in range(0, columns, block):
        beside = half if j < last else 0
        w_j, w_next = w + (j * w_row + half), w + (j + block) * w_row
        following = tile_load(tile, start + min(j + block, last), 0, block)
        for k in range(0, beside, block):
            total = rank_block(total, w_j + k, w_row, x + (half + k), 0, block, 0)
            following = rank_block(following, w_next + k, w_row, x + k, 0, block, 0)
        done = half + beside
        total = _add_blocks(total, x + done, 0, w_j + beside, w_row, block, depth - done)
        tile_store(total, out + j, 0, block)
        total = following


@leaf
def _multiply_block_end(tile, columns, out, start, x, w, w_row, depth):
    """Columns, fewer than a block, of one row."""
    total = tile_load(tile, start, 0, columns)
    tile_store(_add_blocks(total, x, 0, w, w_row, columns, depth), out, 0, columns)


@part
def multiply_unpacked(
    rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth, packed
):
    """``out = start + x @ w.T`` for an unpacked ``w (columns, depth)``."""
    block = lanes(out)
    # Where all rows of a block share a set, a line that two vectors cross is gone at the second.
    lead = before_line(w) if w_row % APART == 0 else 0
    # Columns that fill no block are turned again for each row.
    turned = columns if rows <= FEW // 2 else columns - columns % block
    if rows > FEW or depth - lead < block:
        turned = 0
    _multiply_strips(
        rows, columns - turned, out + turned, out_row, start + turned, start_row, x, x_row,
        w + turned * w_row, w_row, depth, packed,
    )  # fmt: skip
    if turned == 0:
        return
    if lead > 0:
        _multiply_strips(
            rows, turned, out, out_row, start, start_row, x, x_row, w, w_row, lead, packed
        )
        start, start_row = out, out_row
    _multiply_blocks(
        rows, turned, out, out_row, start, start_row, x + lead, x_row, w + lead, w_row, depth - lead
    )


@part
def _multiply_rows(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth):
    """`multiply_back` by unpacked weights: a few rows of `w` at a time."""
    block = lanes(out)
    panel = WIDTH * block
    whole = columns - columns % panel
    for k in range(0, depth, NEAR):
        n = min(NEAR, depth - k)
        kept_k = kept or k > 0
        r = 0
        while r < rows:
            size = 4 if rows - r >= 4 else min(2, rows - r)
            out_r, x_r, w_k = out + r * out_row, x + (r * x_row + k), w + k * w_row
            for j in range(0, whole, panel):
                whole_tile(
                    WIDTH, size, out_r + j, out_row, out_r + j, out_row, kept_k, panel,
                    x_r, x_row, w_k + j, w_row, n,
                )  # fmt: skip
            for j in range(whole, columns, block):
                part_tile(
                    1, size, out_r + j, out_row, out_r + j, out_row, kept_k, columns - j,
                    x_r, x_row, w_k + j, w_row, n,
                )  # fmt: skip
            r += size


@part
def multiply_back(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed):
    """``out = x @ w``, or added to it, for an unpacked ``w (depth, columns)``."""
    unpacked = columns
    if rows > FEW:
        unpacked -= columns % (WIDTH * lanes(out))
    if depth == 0 or (rows > FEW_BACK and depth > FEW):
        unpacked = 0
    if unpacked > 0:
        _multiply_rows(rows, unpacked, out, out_row, kept, x, x_row, w, w_row, depth)
    multiply_packing(
        rows, columns - unpacked, out + unpacked, out_row, kept, x, x_row, w + unpacked, w_row,
        depth, packed,
    )  # fmt: skip
