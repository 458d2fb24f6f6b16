"""The products by unpacked weights, against NumPy, between guard bands.

The operands are small integers, so that every sum is exact and the results must be equal;
where the order of the terms is what counts, they are not.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import unpacked
from fastrnn.kernels.cpu import VECTOR_BITS, WIDTH
from fastrnn.kernels.simd import pointer
from fastrnn.packing import CACHE_LINE, aligned, panels_size
from tests.kernels.guards import assert_untouched, guarded, rows_in

Array = NDArray[Any]

ROWS = (0, 1, 2, 3, 5, unpacked.FEW, unpacked.FEW + 1)
SIZES = (0, 1, 8, 17, 33, 65, unpacked.STRIP + 3)

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


def lanes(dtype: Any) -> int:
    return VECTOR_BITS // 8 // np.dtype(dtype).itemsize


class Matrix:
    """Small integers, or nothing yet, whose rows lie further apart than they are long."""

    def __init__(self, shape: tuple[int, int], dtype: Any, seed: int | None = None) -> None:
        rows, columns = self.shape = shape
        self.row = columns + 3
        self.memory = guarded(max(rows * self.row - 3, 0), dtype)
        self.values = rows_in(self.memory, shape, self.row)
        if seed is not None:
            self.values[...] = np.random.default_rng(seed).integers(-4, 5, shape)

    def assert_holds(self, expected: Array) -> None:
        np.testing.assert_array_equal(self.values, expected)
        assert_untouched(self.memory, self.shape, self.row)


@njit(error_model="numpy")
def multiply_unpacked(
    rows, columns, out, out_row, start, start_row, x, x_row, w, w_row, depth, packed
):
    unpacked.multiply_unpacked(
        rows, columns, pointer(out), out_row, pointer(start), start_row,
        pointer(x), x_row, pointer(w), w_row, depth, pointer(packed),
    )  # fmt: skip


@njit(error_model="numpy")
def multiply_back(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed):
    unpacked.multiply_back(
        rows, columns, pointer(out), out_row, kept, pointer(x), x_row, pointer(w), w_row, depth,
        pointer(packed),
    )  # fmt: skip


@each_type
def test_multiply_unpacked(dtype: Any) -> None:
    for rows, columns, depth in product(ROWS, SIZES, SIZES):
        x, w = Matrix((rows, depth), dtype, 0), Matrix((columns, depth), dtype, 1)
        packed = guarded(unpacked.STRIP * WIDTH * lanes(dtype), dtype)
        bias = Matrix((1, columns), dtype, 2)
        out = Matrix((rows, columns), dtype)
        multiply_unpacked(
            rows, columns, out.memory, out.row, bias.memory, 0,
            x.memory, x.row, w.memory, w.row, depth, packed,
        )  # fmt: skip
        expected = bias.values + x.values @ w.values.T
        out.assert_holds(expected)
        multiply_unpacked(
            rows, columns, out.memory, out.row, out.memory, out.row,
            x.memory, x.row, w.memory, w.row, depth, packed,
        )  # fmt: skip
        out.assert_holds(2 * expected - bias.values)
        assert_untouched(packed)


@each_type
@pytest.mark.parametrize("depth", [0, 3, 16, 17, 100])
def test_rows_that_share_a_set_are_multiplied_in_the_same_order(dtype: Any, depth: int) -> None:
    rows, columns = 3, 2 * lanes(dtype) + 1
    rng = np.random.default_rng(depth)
    shapes = ((rows, depth), (columns, depth), columns)
    x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    packed = np.empty(unpacked.STRIP * WIDTH * lanes(dtype), dtype)
    out = np.empty((rows, columns), dtype)
    results = set()
    for row in (depth, unpacked.APART, 2 * unpacked.APART):
        for first in range(CACHE_LINE // out.itemsize):
            (memory,) = aligned(out.dtype, (first + columns * row,))
            memory.fill(np.nan)
            unpacked_w = memory[first:]
            rows_in(unpacked_w, (columns, depth), row)[...] = w
            multiply_unpacked(
                rows, columns, out, columns, bias, 0, x, depth, unpacked_w, row, depth, packed
            )
            results.add(out.tobytes())
    assert len(results) == 1
    np.testing.assert_allclose(out, bias + x @ w.T, rtol=1e-4, atol=1e-5)


@each_type
@pytest.mark.parametrize("depth", [15, 16, 17, 40, 100, unpacked.APART, 2 * unpacked.APART + 1])
def test_few_rows_have_the_sums_of_many(dtype: Any, depth: int) -> None:
    many = unpacked.FEW + 1
    rng = np.random.default_rng(depth)
    for columns in (1, lanes(dtype), 3 * lanes(dtype) + 2):
        shapes = ((many, depth), (columns, depth), columns)
        x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        packed = np.empty(unpacked.STRIP * WIDTH * lanes(dtype), dtype)
        expected, out = np.empty((2, many, columns), dtype)
        multiply_unpacked(
            many, columns, expected, columns, bias, 0, x, depth, w, depth, depth, packed
        )
        for rows in range(1, many):
            multiply_unpacked(
                rows, columns, out, columns, bias, 0, x, depth, w, depth, depth, packed
            )
            np.testing.assert_array_equal(out[:rows], expected[:rows])


@each_type
def test_multiply_back(dtype: Any) -> None:
    """By weights: few rows. Of weight gradients: few terms, too."""
    shapes = {*product(ROWS, SIZES, SIZES), *product(SIZES, SIZES, ROWS)}
    for rows, columns, depth in shapes:
        x, w = Matrix((rows, depth), dtype, 0), Matrix((depth, columns), dtype, 1)
        packed = guarded(panels_size(columns, depth, np.dtype(dtype)), dtype)
        out = Matrix((rows, columns), dtype)
        for kept in (False, True):
            multiply_back(
                rows, columns, out.memory, out.row, kept,
                x.memory, x.row, w.memory, w.row, depth, packed,
            )  # fmt: skip
            out.assert_holds((2 if kept else 1) * (x.values @ w.values))
        assert_untouched(packed)
