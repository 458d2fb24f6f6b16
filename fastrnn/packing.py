"""How weights and scratch lie in memory.

A vector holds ``lanes`` adjacent columns of a matrix, a panel `WIDTH` vectors.  A matrix
``w[k][column]`` is packed panel after panel, each ``[k][vector][lane]``, so that a tile
reads its weights in one run::

    packed = [w[k][(p * WIDTH + v) * lanes + lane]
              for p in panels for k in range(depth) for v in range(WIDTH) for lane in range(lanes)]

Columns are padded with zero weights to whole panels; nothing else is but an LSTM's sums.  The
forward weights of a cell with G gates are its bias, the input's and the state's weights.
In those the gates of a unit lie side by side, in the order of `fastrnn.kernels.lstm`::

    packed = [w[gate][j * lanes + lane][k]
              for j in blocks for k in range(depth) for gate in range(G) for lane in range(lanes)]

(half of the gates at a time where a panel has two vectors), and so do the biases.  The last block
may have fewer units than a vector has lanes: if that saves a vector of the panel, its gates lie
one right after the other, and only the vectors that these fill are written.  The backward
weights are the same matrices the other way, the gates one after the other in ``k``.
"""

from ctypes import addressof, c_char
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from .checks import Array
from .kernels.cpu import LINE_BITS, VECTOR_BITS, WIDTH
from .kernels.gradients import DEPTH, SUMS
from .kernels.linear import PACKED
from .kernels.unpacked import STRIP

CACHE_LINE = LINE_BITS // 8  # bytes; vectors that cross a line load at half the speed
SMALL = 1 << 14  # bytes of arrays of a single call that are not worth aligning
CHUNK_BYTES = 1 << 18  # input products taken at once; they stay near the CPU
CHUNK_ROWS = 256  # or as many rows as pay for reading the weights from further away
# Most rows (steps times examples) of a run of 0, 1, 2, ... steps that packs no weights,
SHORT_ROWS = 0, 16, 8, 4, 4, 0, 0, 0, 0
# and the same where those of all gates have `LARGE_BYTES` or more.
LARGE_ROWS = 0, 128, 64, 36, 20, 20, 18, 16, 16
LARGE_BYTES = 1 << 19
SHORT_STEPS = len(SHORT_ROWS) - 1


@lru_cache(256)
def padded(columns: int, dtype: np.dtype[Any]) -> int:
    """`columns` rounded up to whole vectors."""
    lanes = VECTOR_BITS // 8 // dtype.itemsize
    return -(-columns // lanes) * lanes


@lru_cache(256)
def paneled(columns: int, dtype: np.dtype[Any]) -> int:
    """`columns` rounded up to whole panels."""
    return -(-columns // (WIDTH * padded(1, dtype))) * WIDTH * padded(1, dtype)


@lru_cache(256)
def forward_size(D: int, H: int, gates: int, dtype: np.dtype[Any]) -> int:
    """Elements of a cell's forward weights: bias, ``D`` and ``H`` rows."""
    across = gates * padded(H, dtype)
    return across + max(across, paneled(H, dtype)) * (D + H)


@lru_cache(256)
def backward_size(D: int, H: int, gates: int, dtype: np.dtype[Any]) -> int:
    """Elements of a cell's backward weights."""
    return gates * H * (paneled(H, dtype) + paneled(D, dtype))


@lru_cache(256)
def panels_size(columns: int, depth: int, dtype: np.dtype[Any]) -> int:
    """Elements that are packed at once of a matrix of at most so many columns and such depth."""
    return min(depth * paneled(columns, dtype), max(depth * paneled(1, dtype), PACKED))


@lru_cache(256)
def gradients_size(rows: int, columns: int, N: int, dtype: np.dtype[Any]) -> int:
    """Elements of scratch for weight gradients of `rows` rows summed over `N`.

    What is packed, what is transposed, and sums of a pass that are added to those before it.
    """
    depth = min(DEPTH, N)
    return panels_size(columns, depth, dtype) + depth * rows + (SUMS if N > DEPTH else 0)


@lru_cache(256)
def chunk(T: int, B: int, width: int, dtype: np.dtype[Any]) -> int:
    """Steps whose input products are taken at once; at least one."""
    row = max(1, width * dtype.itemsize)
    rows = max(CHUNK_BYTES // row, CHUNK_ROWS)
    return max(1, min(T, rows // max(1, B)))


def aligned(dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> list[Array]:
    """Uninitialised arrays in one piece of memory, each from a cache line's start."""
    *offsets, end = _offsets(dtype.itemsize, shapes)
    try:
        memory = np.empty(end + CACHE_LINE, np.uint8)
        start = -addressof(c_char.from_buffer(memory.data)) % CACHE_LINE
        return [
            np.ndarray(shape, dtype, memory, start + offset)
            for shape, offset in zip(shapes, offsets, strict=True)
        ]
    except (ValueError, OverflowError):  # what NumPy says of sizes that no address reaches
        raise MemoryError(f"no room for arrays of shapes {shapes}") from None


def aligned_if_large(dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> list[Array]:
    """As `aligned`, for a single call: to align a few lines would take longer than it saves."""
    if _offsets(dtype.itemsize, shapes)[-1] > SMALL:
        return aligned(dtype, *shapes)
    return [np.empty(shape, dtype) for shape in shapes]


@lru_cache(256)
def _offsets(itemsize: int, shapes: tuple[tuple[int, ...], ...]) -> list[int]:
    """Where each array begins, and where the last one ends."""
    lines = [-(-prod(shape) * itemsize // CACHE_LINE) for shape in shapes]
    return [line * CACHE_LINE for line in accumulate(lines, initial=0)]


def scratch(dtype: np.dtype[Any], *sizes: int) -> Array:
    """Memory that a kernel divides into arrays of these sizes, each from a whole vector on."""
    return np.empty(_scratch_size(dtype, sizes), dtype)


@lru_cache(256)
def _scratch_size(dtype: np.dtype[Any], sizes: tuple[int, ...]) -> int:
    return CACHE_LINE // dtype.itemsize + sum(padded(size, dtype) for size in sizes)


def unpacked_scratch(dtype: np.dtype[Any], packed: int, *sizes: int) -> Array:
    """Scratch for a kernel that takes unpacked weights: arrays of these sizes, and a strip.

    On the way back not a strip is packed, but `packed` elements.
    """
    return np.empty(unpacked_scratch_size(dtype, packed, *sizes), dtype)


@lru_cache(256)
def unpacked_scratch_size(dtype: np.dtype[Any], packed: int, *sizes: int) -> int:
    """Elements of `unpacked_scratch`."""
    return _scratch_size(dtype, (*sizes, max(STRIP * WIDTH * padded(1, dtype), packed)))


@lru_cache(256)
def unpacked_backward_size(rows: int, D: int, H: int, gates: int, dtype: np.dtype[Any]) -> int:
    """Elements that a kernel packs that takes unpacked weights, on the way back.

    Panels of weights; then what their gradients take.
    """
    return max(panels_size(H + D, H, dtype), gradients_size(gates * H, H + D, rows, dtype))


@lru_cache(256)
def short_backward_size(rows: int, D: int, H: int, gates: int, dtype: np.dtype[Any]) -> int:
    """Elements of scratch for the way back of a short run, and of others of as many rows.

    An LSTM's old states and inputs side by side, beside what is packed.
    """
    return padded(rows * (H + D), dtype) + unpacked_backward_size(rows, D, H, gates, dtype)


def backward_scratch_size(
    short: bool, rows: int, D: int, H: int, gates: int, dtype: np.dtype[Any]
) -> int:
    """Elements of scratch for each thread that goes back through a layer's run of so many rows."""
    if short:
        return unpacked_scratch_size(dtype, short_backward_size(rows, D, H, gates, dtype))
    return gradients_size(gates * H, max(D, H), rows, dtype)


@lru_cache(256)
def is_short(T: int, B: int, D: int, H: int, gates: int, dtype: np.dtype[Any]) -> bool:
    """Whether a run uses its weights too seldom for packing to pay.

    The state's weights are used once in each step.  The larger they are, the further away is
    what packing writes.
    """
    large = gates * H * (D + H) * dtype.itemsize >= LARGE_BYTES
    return T <= SHORT_STEPS and T * B <= (LARGE_ROWS if large else SHORT_ROWS)[T]
