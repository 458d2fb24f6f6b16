"""The rate of fused multiply-adds that a full tile reaches on data in the first-level cache."""

from ._jit import kernel
from .cpu import ROWS, WIDTH
from .simd import pointer
from .tiles import rank1, tile_columns, tile_store, tile_zero


@kernel
def repeat_tile(w, x, out, repeats):
    """``out = repeats * (x.T @ w)``: ``w (depth, columns)``, ``x (depth, ROWS)``, read.

    `columns` is the elements across a full tile; ``out (ROWS, columns)`` is written.
    """
    depth, columns = w.shape
    w, x, out = pointer(w), pointer(x), pointer(out)
    tile = tile_zero(out, WIDTH, ROWS)
    for _ in range(repeats):
        for k in range(depth):
            tile = rank1(tile, w + k * tile_columns(tile), x + k * ROWS, 1)
    tile_store(tile, out, columns, columns)
