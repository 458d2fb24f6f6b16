"""Weight gradients in passes, against NumPy, between guard bands."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import gradients
from fastrnn.kernels.cpu import VECTOR_BITS, WIDTH
from fastrnn.kernels.gradients import DEPTH, SUMS
from fastrnn.kernels.simd import pointer
from fastrnn.packing import gradients_size
from tests.kernels.guards import assert_untouched, guarded, guarded_copy

Array = NDArray[Any]

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


@njit(error_model="numpy")
def passes(N):
    return gradients.passes(N)


@njit(error_model="numpy")
def sum_gradients(rows, dz, dz_row, db, dw_h, dw_h_row, h, H, dw_x, dw_x_row, x, D, N, scratch):
    gradients.sum_gradients(
        rows, pointer(dz), dz_row, pointer(db), pointer(dw_h), dw_h_row, pointer(h), H,
        pointer(dw_x), dw_x_row, pointer(x), D, N, pointer(scratch),
    )  # fmt: skip


def sums(dz: Array, h: Array, x: Array) -> tuple[Array, Array]:
    """``dw (rows, H + D)`` and ``db``."""
    (N, rows), H, D = dz.shape, h.shape[1], x.shape[1]
    across = H + D
    dw, db = guarded(rows * across, dz.dtype), guarded(rows, dz.dtype)
    scratch = guarded(gradients_size(rows, max(D, H), N, dz.dtype), dz.dtype)
    sum_gradients(
        rows, guarded_copy(dz), rows, db, dw, across, guarded_copy(h), H,
        dw[H:], across, guarded_copy(x), D, N, scratch,
    )  # fmt: skip
    for array in dw, db, scratch:
        assert_untouched(array)
    return dw.reshape(rows, across), db


def test_passes() -> None:
    """Together they cover all rows, none is longer than DEPTH, and they differ by few rows."""
    assert passes(0) == 0
    for N in (1, 2, DEPTH, DEPTH + 1, 3 * DEPTH - 1, 10_001):
        rows = passes(N)
        count = -(-N // rows)
        assert rows <= DEPTH
        assert count == -(-N // DEPTH)
        assert (count - 1) * rows < N <= count * rows


@each_type
def test_sum_gradients(dtype: Any) -> None:
    """Of small integers, so that every sum is exact."""
    rng = np.random.default_rng(0)
    many = SUMS // (WIDTH * VECTOR_BITS // 8 // np.dtype(dtype).itemsize) + 1
    shapes = [*product((0, 1, 5, 23), (0, 1, 17, 70), (0, 3, 40), (0, 1, 9, DEPTH, 2 * DEPTH + 1))]
    for rows, H, D, N in [*shapes, (many, 70, 3, DEPTH + 1)]:
        dz, h, x = (rng.integers(-4, 5, (N, n)).astype(dtype) for n in (rows, H, D))
        dw, db = sums(dz, h, x)
        assert np.array_equal(dw, dz.T @ np.concatenate((h, x), axis=1)), (rows, H, D, N)
        assert np.array_equal(db, dz.sum(axis=0))


@each_type
def test_errors_grow_with_a_pass_not_with_all_rows(dtype: Any) -> None:
    """Each pass is summed alone, and then added to those before it."""
    rng = np.random.default_rng(0)
    N, rows, H, D = 3 * DEPTH, 13, 35, 2
    dz, h, x = (rng.standard_normal((N, n)).astype(dtype) for n in (rows, H, D))
    dw, db = sums(dz, h, x)
    expected = [sums(*(array[k : k + DEPTH] for array in (dz, h, x))) for k in range(0, N, DEPTH)]
    for got, alone in zip((dw, db), zip(*expected, strict=True), strict=True):
        first, second, third = alone
        assert np.array_equal(got, first + second + third)
