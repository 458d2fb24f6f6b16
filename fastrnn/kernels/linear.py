"""The tile loops: products by packed matrices.

A product is ``out = start + x @ w`` with `w` in panels (see `fastrnn.packing`); `start`
is a bias (its rows 0 apart), the output itself (to add to it), any other rows or, unless `kept`,
nothing: then it is not read, not even with all lanes masked, which would wait for it.  Each
output element is one accumulator that takes its terms in the order of ``k``, so its bits
depend on nothing but its own row of `x` and its own column of `w`: not on the tile it
falls in, the rows around it, or where a sum over ``k`` is interrupted and taken up again.

Operands are described in elements: ``_row`` from one row to the next.
"""

from ._jit import inline, leaf, part
from .cpu import LINE_BITS, ROWS, VECTOR_BITS, WIDTH
from .simd import lanes, load, paneled, pointer, store, store_full
from .tiles import HALVED, tile_product
from .transposition import transpose_block, transpose_part

HALF = WIDTH // 2  # of a panel; `multiply_between` begins at one or at the other
PAIRS = WIDTH < 4
THIN = 3 if PAIRS else 1  # rows for which a panel has too few sums to keep the CPU busy
STREAM = 12 << 20  # bytes of packed weights that caches do not keep until they are used
WRITTEN = 1 << 15  # elements that `multiply` writes before it goes on with other rows,
TILES = 10  # but at least so many tiles of rows, for which it reads the weights once
CHAINS = 8  # vectors of a tile of one row: enough sums to keep the CPU busy
PACKED = 1 << 15  # elements that `multiply_packing` packs at once, or one panel if that is more

panel_tile = tile_product(*((WIDTH, rows) for rows in range(1, ROWS + 1)))
narrow_tile = tile_product(
    *((width, rows) for width in range(1, WIDTH) for rows in (1, 2, ROWS)),
    *((HALVED, rows) for rows in (1, 2, 2 * ROWS)),
)
thin_tile = tile_product(
    *((width, 1) for width in range(1, CHAINS + 1)), *([(CHAINS // 2, 2)] if PAIRS else [])
)


@part
def multiply_panel(
    rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth, w_next
):  # fmt: skip
    """``out = start + x @ w`` for all rows of one panel.

    Of each row at most `columns` are read and written.  The last rows are divided evenly: a
    tile of one or two would wait for its weights.  The first tiles ask for a share each of the
    panel that will be read next, `w_next`, the others for the next rows, which mostly lie one
    right after the other.
    """
    panel = WIDTH * lanes(out)
    line = lanes(out) * LINE_BITS // VECTOR_BITS
    asked = 0  # elements of each row of `w_next`
    while rows > 0:
        size = ROWS if rows >= 2 * ROWS else rows if rows <= ROWS else (rows + 1) // 2
        x_next = x + size * x_row
        later, step = (w_next + depth * asked, line) if asked < panel else (x_next, size)
        panel_tile(
            WIDTH, size, out, out_row, start, start_row, kept, columns, x, x_row, w, panel, depth,
            later, step,
        )  # fmt: skip
        rows -= size
        out = out + size * out_row
        start = start + size * start_row
        x = x_next
        asked += line


@part
def multiply_narrow(
    width, rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth
):  # fmt: skip
    """`multiply_panel` for columns that fit a narrower tile: some vectors, or half of one."""
    panel = WIDTH * lanes(out)
    tall = 2 * ROWS if width == HALVED else ROWS
    while rows > 0:
        size = tall if rows >= tall else min(rows, 2)
        narrow_tile(
            width, size, out, out_row, start, start_row, kept, columns, x, x_row, w, panel, depth
        )  # fmt: skip
        rows -= size
        out = out + size * out_row
        start = start + size * start_row
        x = x + size * x_row


@inline
def tile_width(block, columns):
    """Vectors across the tile that is wide enough for the first `columns` of a panel."""
    return min(WIDTH, (columns + block - 1) // block)


@leaf
def multiply_columns(
    rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth, w_next
):  # fmt: skip
    """``out = start + x @ w`` for the first `columns` of a panel; then comes `w_next`."""
    width = tile_width(lanes(out), columns)
    if width == WIDTH:
        multiply_panel(
            rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth, w_next
        )
    else:
        if columns <= lanes(out) // 2:  # many a CPU does two half vectors in the time of a whole
            width = HALVED
        multiply_narrow(
            width, rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth
        )


@part
def multiply_thin(
    rows, out, out_row, start, start_row, kept, columns, x, x_row, w, depth, backwards
):  # fmt: skip
    """`multiply_panel` of at most `THIN` rows for adjacent panels; how many columns are done.

    An addition takes some four cycles, and two can begin in each: the eight sums of a tile of
    one row, or of two by four, leave none of them empty.  Of one row all columns are done, of
    more those of whole fours of vectors; from the last tile to the first if `backwards`.
    """
    block = lanes(out)
    across, tiles = CHAINS * block, (columns + CHAINS * block - 1) // (CHAINS * block)
    if rows > 1:
        across, tiles = CHAINS // 2 * block, (columns + block - 1) // (CHAINS // 2 * block)
    for n in range(tiles if rows > 0 else 0):
        at = (tiles - 1 - n if backwards else n) * across
        left = columns - at
        for r in range(0, rows, 2):
            thin_tile(
                min(across, left + block - 1) // block, min(2, rows - r), out + (at + r * out_row),
                out_row, start + (at + r * start_row), start_row, kept, left,
                x + r * x_row, x_row, w + at * depth, WIDTH * block, depth,
            )  # fmt: skip
    return min(columns, tiles * across)


@inline
def multiply_between(
    j0, j1, rows, out, out_row, start, start_row, kept, x, x_row, w, depth, backwards
):  # fmt: skip
    """``out = start + x @ w`` for columns `j0` to `j1`; `j0` halves a panel or is whole.

    From the last panel to the first if `backwards`, as in every second step of time: the weights
    that the step before has read last are still in cache.
    """
    panel = WIDTH * lanes(out)
    if rows <= THIN and j0 % panel == 0:
        j0 += multiply_thin(
            rows, out + j0, out_row, start + j0, start_row, kept, j1 - j0,
            x, x_row, w + j0 * depth, depth, backwards,
        )  # fmt: skip
    first = j0 // panel
    end = (j1 + panel - 1) // panel if j0 < j1 else first
    for n in range(first, end):
        n = first + end - 1 - n if backwards else n
        n_next = n - 1 if backwards else n + 1
        j = max(j0, n * panel)
        multiply_columns(
            rows, out + j, out_row, start + j, start_row, kept, min(j1, (n + 1) * panel) - j,
            x, x_row, w + (n * panel * depth + j - n * panel), depth, w + n_next * panel * depth,
        )  # fmt: skip


@part
def multiply(rows, columns, out, out_row, start, start_row, kept, x, x_row, w, depth):
    """``out = start + x @ w`` over adjacent columns.

    A panel writes a short piece of each row: some rows at a time, so that the next panel finds
    the lines that it shares with it still in cache, and the CPU sees whole rows being written.
    """
    at_once = ROWS * max(TILES, WRITTEN // (ROWS * max(1, columns)))
    for r in range(0, rows, at_once):
        multiply_between(
            0, columns, min(at_once, rows - r), out + r * out_row, out_row,
            start + r * start_row, start_row, kept, x + r * x_row, x_row, w, depth, False,
        )  # fmt: skip


# --- packing ------------------------------------------------------------------------


@inline
def _pack_panel(y, y_row, columns, across, depth, packed):
    """Copy `depth` rows of at most a panel's columns, and zeros after them, `across` in all."""
    block = lanes(y)
    width = WIDTH * block
    for k in range(depth):
        for v in range(0, across, block):
            store_full(packed + (k * width + v), load(y + (k * y_row + v), columns - v))


@part
def pack_rows(columns, y, y_row, k, depth, packed, packed_depth):
    """Pack ``w[k + i][column] = y[i * y_row + column]`` for `multiply`, `depth` rows.

    `packed_depth` is the depth of the whole product.
    """
    width = WIDTH * lanes(y)
    for j in range(0, columns, width):
        packed_j = packed + (j * packed_depth + k * width)
        _pack_panel(y + j, y_row, columns - j, width, depth, packed_j)


@part
def transpose(source, source_row, out, out_row, rows, columns, stored):
    """``out[j][i] = source[i][j]``, the first `stored` of each of its rows.

    `stored` is `rows`, or more by less than a vector, or a vector for no rows; zeros follow.
    """
    if columns == 1 and source_row == 1 and stored == rows:
        copy_row(rows, out, source)
        return
    if rows == 1 and out_row == 1 and stored == rows:
        copy_row(columns, out, source)
        return
    block = lanes(source)
    for i in range(0, stored, block):
        for j in range(0, columns, block):
            from_block = source + (i * source_row + j)
            to_block = out + (j * out_row + i)
            if rows - i >= block and columns - j >= block:
                transpose_block(from_block, source_row, to_block, out_row)
            else:
                transpose_part(
                    from_block, source_row, rows - i, columns - j, to_block, out_row, stored - i
                )


@leaf
def pack_columns(columns, y, y_row, depth, packed):
    """Pack the matrix ``w[k][column] = y[column * y_row + k]`` for `multiply`."""
    block = lanes(y)
    width = WIDTH * block
    for j in range(0, paneled(y, columns), block):
        into = packed + (j // width * width * depth + j % width)
        count = max(0, min(block, columns - j))
        transpose(y + j * y_row, y_row, into, width, count, depth, block)


@part
def reverse_axes(source, out, I, J, K):
    """``out[k][j][i] = source[i][j][k]``."""
    if K == 1:
        transpose(source, J, out, I, I, J, I)
    else:
        for j in range(J):
            transpose(source + j * K, J * K, out + j * I, J * I, I, K, I)


# --- products by what is packed when its turn comes -----------------------------------


@part
def multiply_packing(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed):
    """``out = x @ w``, or added to it, for ``w (depth, columns)``, some panels of it at a time.

    packed : `panels_space` elements.
    """
    panel = WIDTH * lanes(out)
    at_once = _panels_at_once(out, depth)
    for j0 in range(0, columns, at_once):
        j1 = min(j0 + at_once, columns)
        for j in range(j0, j1, panel):
            across = tile_width(lanes(out), j1 - j) * lanes(out)
            _pack_panel(w + j, w_row, j1 - j, across, depth, packed + (j - j0) * depth)
        out_j = out + j0
        multiply(rows, j1 - j0, out_j, out_row, out_j, out_row, kept, x, x_row, packed, depth)


@inline
def _panels_at_once(p, depth):
    """Columns, of whole panels, that `multiply_packing` packs at once."""
    panel = WIDTH * lanes(p)
    return max(1, PACKED // max(1, depth * panel)) * panel


@inline
def panels_space(p, columns, depth):
    """Elements that `multiply_packing` packs at once."""
    return depth * min(paneled(p, columns), _panels_at_once(p, depth))


# --- rows ---------------------------------------------------------------------------


@inline
def add_rows(columns, out, x, x_row, rows):
    """``out += sum over rows of x``, row after row."""
    if columns <= lanes(out):
        total = load(out, columns)
        for r in range(rows):
            total = total + load(x + r * x_row, columns)
        store(out, total, columns)
        return
    for r in range(rows):
        add_row(columns, out, x + r * x_row)


@leaf
def add_row(columns, out, x):
    """``out += x``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(out + j, columns - j) + load(x + j, columns - j), columns - j)


@leaf
def copy_row(columns, out, x):
    """``out = x``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(x + j, columns - j), columns - j)


@inline
def copy_or_zero(columns, out, given):
    """``out = given``, which is an array, or zero if that is empty."""
    if given.size > 0:
        copy_row(columns, out, pointer(given))
    else:
        zero_row(columns, out)


@leaf
def zero_row(columns, out):
    """``out = 0``."""
    for j in range(0, columns, lanes(out)):
        store(out + j, load(out, 0), columns - j)
