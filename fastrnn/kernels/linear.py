"""The tile loops: every matrix product of the package.

A product is ``out = start + x @ w`` with `w` in panels (see `fastrnn.packing`); `start`
is a bias (its rows 0 apart), the output itself (to add to it), or any other rows.  Each
output element is one accumulator that takes its terms in the order of ``k``, so its bits
depend on nothing but its own row of `x` and its own column of `w`: not on the tile it
falls in, the rows around it, or where a sum over ``k`` is interrupted and taken up again.

Operands are described in elements: ``_row`` from one row to the next, ``_step`` from one
``k`` to the next, ``column`` from one vector of a panel to the next.
"""

from numba import intp

from ._jit import inline, part
from .simd import (
    ROWS,
    WIDTH,
    lanes,
    load,
    rank1,
    store,
    store_full,
    tile_columns,
    tile_like,
    tile_load,
    tile_prefetch,
    tile_store,
    tile_zero,
    transpose_block,
    transpose_part,
)

THIN = 3  # rows for which a panel has too few sums to keep the CPU busy
DEPTH = 512  # rows that one pass of `accumulate` sums: a packed panel stays in L2


@inline
def _multiply_tile(
    tile, r, out, out_row, start, start_row, kept, column, count, x, x_row, x_step, w, depth
):
    """The tile's rows, from row `r` on, of ``out = start + x @ w``; all panels that it spans."""
    w_step = tile_columns(tile)
    x = x + r * x_row
    tile = tile_load(tile, start + r * start_row, column, start_row, kept)
    tile_prefetch(tile, out + r * out_row, column, out_row)
    for k in range(depth):
        tile = rank1(tile, w + k * w_step, depth * w_step, x + k * x_step, x_row)
    tile_store(tile, out + r * out_row, column, out_row, count)


@part
def multiply_panel(
    panel, rows, out, out_row, start, start_row, kept, column, count, x, x_row, x_step, w, depth
):
    """``out = start + x @ w`` for all rows of one panel, `count` lanes of each vector.

    `panel` is any tile as wide as the panel.  Of `start` the first `kept` lanes are read,
    the others are zero: with ``kept = 0`` the product starts from nothing.  Eight rows go
    as two fours: a tile of two rows would wait for its weights.
    """
    # fmt: off
    r = 0
    while rows - r >= ROWS and rows - r != 8:
        _multiply_tile(tile_like(panel, ROWS), r, out, out_row, start, start_row, kept, column,
                       count, x, x_row, x_step, w, depth)
        r += ROWS
    while rows - r >= 4:
        _multiply_tile(tile_like(panel, 4), r, out, out_row, start, start_row, kept, column,
                       count, x, x_row, x_step, w, depth)
        r += 4
    if rows - r >= 2:
        _multiply_tile(tile_like(panel, 2), r, out, out_row, start, start_row, kept, column,
                       count, x, x_row, x_step, w, depth)
        r += 2
    if rows - r == 1:
        _multiply_tile(tile_like(panel, 1), r, out, out_row, start, start_row, kept, column,
                       count, x, x_row, x_step, w, depth)
    # fmt: on


@part
def multiply_thin(
    rows, vectors, out, out_row, start, start_row, kept, column, count, x, x_row, x_step, w, depth
):
    """`multiply_panel` of at most `THIN` rows for several panels; `vectors` is a multiple of 4.

    An addition takes some four cycles, and two can begin in each: the eight sums of a tile of
    one row, or of two by four, leave none of them empty.
    """
    # fmt: off
    done = 0
    while done < vectors:
        at = done * column
        w_done = w + done * lanes(out) * depth
        if rows == 1 and vectors - done >= 8:
            _multiply_tile(tile_zero(out, 8, 1), 0, out + at, out_row, start + at, start_row, kept,
                           column, count, x, x_row, x_step, w_done, depth)
            done += 8
            continue
        if rows >= 2:
            _multiply_tile(tile_zero(out, 4, 2), 0, out + at, out_row, start + at, start_row, kept,
                           column, count, x, x_row, x_step, w_done, depth)
        if rows % 2 == 1:
            _multiply_tile(tile_zero(out, 4, 1), rows - 1, out + at, out_row, start + at,
                           start_row, kept, column, count, x, x_row, x_step, w_done, depth)
        done += 4
    # fmt: on


@inline
def multiply(rows, columns, out, out_row, start, start_row, kept, x, x_row, x_step, w, depth):
    """``out = start + x @ w`` over adjacent columns: wide panels, then single vectors.

    `kept` is `columns`, or 0 to start from nothing.
    """
    wide = tile_zero(out, WIDTH, 1)
    single = tile_zero(out, 1, 1)
    column = lanes(out)
    done = 0
    if rows <= THIN:
        done = columns - columns % (4 * column)
        multiply_thin(
            rows, done // column, out, out_row, start, intp(start_row), min(column, kept),
            column, column, x, x_row, x_step, w, depth,
        )  # fmt: skip
    while columns - done >= tile_columns(wide):
        multiply_panel(
            wide, rows, out + done, out_row, start + done, intp(start_row), min(column, kept),
            column, column, x, x_row, x_step, w + done * depth, depth,
        )  # fmt: skip
        done += tile_columns(wide)
    while columns - done > 0:
        count = min(column, columns - done)
        multiply_panel(
            single, rows, out + done, out_row, start + done, intp(start_row), min(count, kept),
            column, count, x, x_row, x_step, w + done * depth, depth,
        )  # fmt: skip
        done += column


# --- packing ------------------------------------------------------------------------


@inline
def _pack_panel(panel, y, y_row, columns, depth, packed):
    """Copy `depth` rows of at most a panel's columns, one after the other, zeros after."""
    column = lanes(y)
    width = tile_columns(panel)
    for k in range(depth):
        for v in range(0, width, column):
            store_full(packed + (k * width + v), load(y + (k * y_row + v), columns - v))


@part
def pack_rows(columns, y, y_row, k, depth, packed, packed_depth):
    """Pack ``w[k + i][column] = y[i * y_row + column]`` for `multiply`, `depth` rows.

    `packed_depth` is the depth of the whole product.
    """
    wide = tile_zero(y, WIDTH, 1)
    single = tile_zero(y, 1, 1)
    done = 0
    while columns - done >= tile_columns(wide):
        _pack_panel(
            wide, y + done, y_row, columns - done, depth,
            packed + (done * packed_depth + k * tile_columns(wide)),
        )  # fmt: skip
        done += tile_columns(wide)
    while columns - done > 0:
        _pack_panel(
            single, y + done, y_row, columns - done, depth,
            packed + (done * packed_depth + k * tile_columns(single)),
        )  # fmt: skip
        done += tile_columns(single)


@part
def transpose(source, source_row, out, out_row, rows, columns, stored):
    """``out[j][i] = source[i][j]``, the first `stored` of each of its rows.

    `stored` is `rows`, or `rows` rounded up to whole vectors, which then end in zeros.
    """
    if columns == 1 and source_row == 1 and stored == rows:
        copy_row(rows, out, source)
        return
    if rows == 1 and out_row == 1 and stored == rows:
        copy_row(columns, out, source)
        return
    block = lanes(source)
    for i in range(0, rows, block):
        for j in range(0, columns, block):
            from_block = source + (i * source_row + j)
            to_block = out + (j * out_row + i)
            if rows - i >= block and columns - j >= block:
                transpose_block(from_block, source_row, to_block, out_row)
            else:
                transpose_part(
                    from_block, source_row, rows - i, columns - j, to_block, out_row, stored - i
                )


@inline
def pack_columns(columns, y, y_row, depth, packed):
    """Pack the matrix ``w[k][column] = y[column * y_row + k]`` for `multiply`."""
    column = lanes(y)
    wide = columns - columns % (WIDTH * column)
    for j in range(0, columns, column):
        if j < wide:
            into = j // (WIDTH * column) * (WIDTH * column) * depth + j % (WIDTH * column)
            step = WIDTH * column
        else:
            into = j * depth
            step = column
        transpose(
            y + j * y_row, y_row, packed + into, step, min(column, columns - j), depth, column
        )


@inline
def reverse_axes(source, out, I, J, K):
    """``out[k][j][i] = source[i][j][k]``."""
    if K == 1:
        transpose(source, J, out, I, I, J, I)
    else:
        for j in range(J):
            transpose(source + j * K, J * K, out + j * I, J * I, I, K, I)


# --- sums over rows -----------------------------------------------------------------


@inline
def accumulate(rows, columns, out, out_row, x_t, x_row, y, y_row, depth, kept, packed):
    """``out += sum over k of outer(x[k], y[k])``, the product that gives weight gradients.

    x_t : the transpose of `x`, ``x_t[i][k] = x[k][i]``.
    y : ``y[k][j]``; each panel of its columns is copied to `packed`.
    kept : `columns`, or 0 to start from nothing.
    """
    wide = tile_zero(out, WIDTH, 1)
    single = tile_zero(out, 1, 1)
    column = lanes(out)
    done = 0
    while columns - done >= tile_columns(wide):
        _pack_panel(wide, y + done, y_row, columns - done, depth, packed)
        multiply_panel(
            wide, rows, out + done, out_row, out + done, out_row, min(column, kept),
            column, column, x_t, x_row, 1, packed, depth,
        )  # fmt: skip
        done += tile_columns(wide)
    while columns - done > 0:
        count = min(column, columns - done)
        _pack_panel(single, y + done, y_row, columns - done, depth, packed)
        multiply_panel(
            single, rows, out + done, out_row, out + done, out_row, min(count, kept),
            column, count, x_t, x_row, 1, packed, depth,
        )  # fmt: skip
        done += column


@inline
def passes(depth):
    """Rows of one pass over `depth` rows: at most `DEPTH`, and all passes about equal."""
    count = (depth + DEPTH - 1) // DEPTH
    return (depth + count - 1) // max(count, 1)


@inline
def accumulate_panel_space(p, depth):
    """Elements that `accumulate` packs at once."""
    return depth * tile_columns(tile_zero(p, WIDTH, 1))


@inline
def add_rows(columns, out, x, x_row, rows):
    """``out += sum over rows of x``, row after row."""
    for r in range(rows):
        add_row(columns, out, x + r * x_row)


@inline
def add_row(columns, out, x):
    """``out += x``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(out + j, columns - j) + load(x + j, columns - j), columns - j)


@inline
def copy_row(columns, out, x):
    """``out = x``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(x + j, columns - j), columns - j)


@inline
def zero_row(columns, out):
    """``out = 0``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(out, 0), columns - j)
