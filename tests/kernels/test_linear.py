"""Every product function against NumPy, in all small shapes, between guard bands.

The operands are small integers, so that every sum is exact and the results must be equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import linear
from fastrnn.kernels.cpu import VECTOR_BITS, WIDTH
from fastrnn.kernels.simd import pointer
from tests.kernels.guards import assert_untouched, guarded, guarded_copy, rows_in

Array = NDArray[Any]

ROWS = range(15)
COLUMNS = range(71)
DEPTHS = range(41)

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


def integers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def prefix_products(x: Array, w: Array) -> Array:
    """``[depth] -> x[:, :depth] @ w[:depth]``."""
    terms = x.T[:, :, None] * w[:, None, :]
    return np.concatenate((np.zeros_like(terms[:1]), np.cumsum(terms, axis=0)))


def lanes(dtype: Any) -> int:
    return VECTOR_BITS // 8 // np.dtype(dtype).itemsize


def pack(w: Array) -> Array:
    """``w[k][column]`` as `multiply` takes it; see `fastrnn.packing`."""
    depth, columns = w.shape
    panel = WIDTH * lanes(w.dtype)
    packed = np.zeros((depth, -(-columns // panel) * panel), w.dtype)
    packed[:, :columns] = w
    return packed.reshape(depth, packed.shape[1] // panel, panel).transpose(1, 0, 2).ravel()


# --- wrappers: the kernels' functions, on flat arrays -----------------------------------


@njit(error_model="numpy")
def multiply(rows, columns, out, out_row, start, start_row, kept, x, x_row, w, depth):
    linear.multiply(
        rows, columns, pointer(out), out_row, pointer(start), start_row, kept,
        pointer(x), x_row, pointer(w), depth,
    )  # fmt: skip


@njit(error_model="numpy")
def multiply_between(j0, j1, rows, out, out_row, start, x, x_row, w, depth, backwards):
    linear.multiply_between(
        j0, j1, rows, pointer(out), out_row, pointer(start), 0, True,
        pointer(x), x_row, pointer(w), depth, backwards,
    )  # fmt: skip


@njit(error_model="numpy")
def multiply_packing(rows, columns, out, out_row, kept, x, x_row, w, w_row, depth, packed):
    linear.multiply_packing(
        rows, columns, pointer(out), out_row, kept, pointer(x), x_row, pointer(w), w_row, depth,
        pointer(packed),
    )  # fmt: skip


@njit(error_model="numpy")
def panels_space(array, columns, depth):
    return linear.panels_space(pointer(array), columns, depth)


@njit(error_model="numpy")
def pack_rows(columns, y, y_row, k, depth, packed, packed_depth):
    linear.pack_rows(columns, pointer(y), y_row, k, depth, pointer(packed), packed_depth)


@njit(error_model="numpy")
def pack_columns(columns, y, y_row, depth, packed):
    linear.pack_columns(columns, pointer(y), y_row, depth, pointer(packed))


@njit(error_model="numpy")
def transpose(source, source_row, out, out_row, rows, columns, stored):
    linear.transpose(pointer(source), source_row, pointer(out), out_row, rows, columns, stored)


@njit(error_model="numpy")
def reverse_axes(source, out, i, j, k):
    linear.reverse_axes(pointer(source), pointer(out), i, j, k)


@njit(error_model="numpy")
def row_functions(columns, total, x, x_row, rows, added, copied, zeroed):
    linear.add_rows(columns, pointer(total), pointer(x), x_row, rows)
    linear.add_row(columns, pointer(added), pointer(x))
    linear.copy_row(columns, pointer(copied), pointer(x))
    linear.zero_row(columns, pointer(zeroed))


# --- products ---------------------------------------------------------------------------


@each_type
def test_multiply(dtype: Any) -> None:
    x, w = integers((ROWS[-1], DEPTHS[-1]), dtype), integers((DEPTHS[-1], COLUMNS[-1]), dtype, 1)
    products = prefix_products(x, w)
    old = integers((ROWS[-1], COLUMNS[-1]), dtype, 2)
    for columns in COLUMNS:
        out_row = columns + 3
        outs = {rows: guarded(max(rows * out_row - 3, 0), dtype) for rows in ROWS}
        for depth in DEPTHS:
            packed = guarded_copy(pack(w[:depth, :columns]))
            for rows in ROWS:
                kind = (columns + depth + rows) % 3
                out, shape = outs[rows], (rows, columns)
                result = rows_in(out, shape, out_row)
                operand = guarded_copy(x[:rows, :depth])
                expected = products[depth, :rows, :columns]
                if kind == 0:  # from a bias
                    start, start_row = guarded_copy(old[0, :columns]), 0
                    expected = expected + old[0, :columns]
                elif kind == 1:  # from the output itself
                    result[...] = old[:rows, :columns]
                    start, start_row = out, out_row
                    expected = expected + old[:rows, :columns]
                else:  # from nothing
                    start, start_row = guarded(0, dtype), out_row
                multiply(
                    rows, columns, out, out_row, start, start_row, kind < 2,
                    operand, depth, packed, depth,
                )  # fmt: skip
                assert np.array_equal(result, expected), (rows, columns, depth)
                result[...] = np.nan
        for rows in ROWS:
            assert_untouched(outs[rows], (rows, columns), out_row)


@each_type
def test_multiply_some_rows_at_a_time(dtype: Any) -> None:
    at_once = linear.TILES * linear.ROWS
    rows, columns, depth = 2 * at_once + 1, linear.WRITTEN // at_once + 1, 3
    x, w = integers((rows, depth), dtype), integers((depth, columns), dtype, 1)
    old = integers((rows, columns), dtype, 2)
    packed = guarded_copy(pack(w))
    for start, start_row in (old, columns), (old[0], 0):
        out = guarded(rows * columns, dtype)
        multiply(
            rows, columns, out, columns, guarded_copy(start), start_row, True,
            guarded_copy(x), depth, packed, depth,
        )  # fmt: skip
        assert np.array_equal(out.reshape(rows, columns), x @ w + start)
        assert_untouched(out, (rows, columns), columns)


@each_type
@pytest.mark.parametrize("backwards", [False, True])
def test_multiply_between(backwards: bool, dtype: Any) -> None:
    panel = WIDTH * lanes(dtype)
    H, depth = 5 * panel + 3, 6
    x, w = integers((7, depth), dtype), integers((depth, H), dtype, 1)
    bias = integers((H,), dtype, 2)
    packed, start = guarded_copy(pack(w)), guarded_copy(bias)
    for rows in range(8):
        expected = x[:rows] @ w + bias
        out = guarded(rows * H, dtype)
        for j0 in range(0, H, panel // 2):
            for j1 in {j0, min(j0 + panel // 2, H), min(j0 + 2 * panel, H), H}:
                result = rows_in(out, (rows, H), H)
                result[...] = -99
                multiply_between(
                    j0, j1, rows, out, H, start, guarded_copy(x[:rows]), depth, packed, depth,
                    backwards,
                )  # fmt: skip
                assert np.array_equal(result[:, j0:j1], expected[:, j0:j1]), (rows, j0, j1)
                assert np.all(np.delete(result, np.s_[j0:j1], axis=1) == -99), (rows, j0, j1)
                assert_untouched(out, (rows, H), H)


@each_type
def test_multiply_packing(dtype: Any) -> None:
    x, w = integers((ROWS[-1], DEPTHS[-1]), dtype), integers((DEPTHS[-1], COLUMNS[-1]), dtype, 1)
    products = prefix_products(x, w)
    old = integers((ROWS[-1], COLUMNS[-1]), dtype, 2)
    for columns in COLUMNS:
        out_row, w_row = columns + 5, columns + 2
        outs = {rows: guarded(max(rows * out_row - 5, 0), dtype) for rows in ROWS}
        for depth in DEPTHS[:: 1 if columns in (1, 33, 70) else 5]:
            source = guarded(max(depth * w_row - 2, 0), dtype)
            rows_in(source, (depth, columns), w_row)[...] = w[:depth, :columns]
            packed = guarded(panels_space(source, columns, depth), dtype)
            for rows in ROWS:
                kept = (columns + depth + rows) % 2 == 1
                out = outs[rows]
                result = rows_in(out, (rows, columns), out_row)
                expected = products[depth, :rows, :columns]
                if kept:
                    result[...] = old[:rows, :columns]
                    expected = expected + old[:rows, :columns]
                x_depth = guarded_copy(x[:rows, :depth])
                multiply_packing(
                    rows, columns, out, out_row, kept, x_depth, depth, source, w_row, depth, packed
                )
                assert np.array_equal(result, expected), (rows, columns, depth)
                result[...] = np.nan
            assert_untouched(packed)
        for rows in ROWS:
            assert_untouched(outs[rows], (rows, columns), out_row)


@each_type
def test_multiply_packing_some_panels_at_a_time(dtype: Any) -> None:
    panel = WIDTH * lanes(dtype)
    for depth in (400, linear.PACKED // panel, linear.PACKED // panel + 1):
        rows, columns = 7, (linear.PACKED // (depth * panel) + 2) * panel + 3
        x, w = integers((rows, depth), dtype), integers((depth, columns), dtype, 1)
        space = panels_space(w, columns, depth)
        assert space <= max(linear.PACKED, depth * panel)
        assert space < depth * columns
        packed, out = guarded(space, dtype), guarded(rows * columns, dtype)
        multiply_packing(
            rows, columns, out, columns, False, x.reshape(-1), depth, w.reshape(-1), columns, depth,
            packed,
        )  # fmt: skip
        assert np.array_equal(out.reshape(rows, columns), x @ w)
        assert_untouched(packed)
        assert_untouched(out)


@each_type
def test_a_sum_may_be_interrupted(dtype: Any) -> None:
    """The first terms, then the rest on top of them: the same bits as in one go."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((13, 40), (40, 37)))
    whole = np.zeros((13, 37), dtype)
    flat = whole.reshape(-1)
    multiply(13, 37, flat, 37, flat, 37, False, x.reshape(-1), 40, pack(w), 40)
    np.testing.assert_allclose(whole, x @ w, rtol=1e-5, atol=1e-4)
    for cut in (0, 1, 17, 39, 40):
        out = np.full((13, 37), np.nan, dtype)
        flat = out.reshape(-1)
        rest = np.ascontiguousarray(x[:, cut:]).reshape(-1)
        multiply(13, 37, flat, 37, flat, 37, False, x.reshape(-1), 40, pack(w[:cut]), cut)
        multiply(13, 37, flat, 37, flat, 37, True, rest, 40 - cut, pack(w[cut:]), 40 - cut)
        assert np.array_equal(out, whole)


@each_type
def test_a_row_does_not_depend_on_the_tile_it_falls_in(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((14, 40), (40, 70)))
    alone = np.zeros((14, 70), dtype)
    for r in range(14):
        multiply(1, 70, alone[r], 70, alone[r], 70, False, x[r], 40, pack(w), 40)
    for rows in ROWS:
        out = np.zeros((rows, 70), dtype)
        multiply(rows, 70, out.reshape(-1), 70, alone[0], 0, False, x.reshape(-1), 40, pack(w), 40)
        assert np.array_equal(out, alone[:rows])


# --- packing, transposing, sums ---------------------------------------------------------


@each_type
def test_pack_rows_and_columns(dtype: Any) -> None:
    w = integers((DEPTHS[-1], COLUMNS[-1]), dtype)
    for columns in COLUMNS:
        for depth in DEPTHS[:: 1 if columns in (1, 33, 70) else 7]:
            part = w[:depth, :columns]
            expected = pack(part)

            y_row = columns + 2
            source = guarded(max(depth * y_row - 2, 0), dtype)
            rows_in(source, (depth, columns), y_row)[...] = part
            packed = guarded(expected.size, dtype)
            first = depth // 3  # in two pieces, as the gates are packed
            rest = source[first * y_row :]
            pack_rows(columns, source, y_row, 0, first, packed, depth)
            pack_rows(columns, rest, y_row, first, depth - first, packed, depth)
            assert np.array_equal(packed, expected)
            assert_untouched(packed)

            y_row = depth + 3
            source = guarded(max(columns * y_row - 3, 0), dtype)
            rows_in(source, (columns, depth), y_row)[...] = part.T
            packed = guarded(expected.size, dtype)
            pack_columns(columns, source, y_row, depth, packed)
            assert np.array_equal(packed, expected)
            assert_untouched(packed)


@each_type
def test_transpose(dtype: Any) -> None:
    vector = lanes(dtype)
    for rows in (0, 1, 2, 7, 8, 15, 16, 17, 33, 40):
        for columns in (0, 1, 3, 4, 16, 31, 32, 35):
            for stored in {rows, -(-rows // vector) * vector}:
                matrix = integers((rows, columns), dtype)
                source_row, out_row = columns + 2, stored + 3
                source = guarded(max(rows * source_row - 2, 0), dtype)
                rows_in(source, (rows, columns), source_row)[...] = matrix
                out = guarded(max(columns * out_row - 3, 0), dtype)
                transpose(source, source_row, out, out_row, rows, columns, stored)
                result = rows_in(out, (columns, stored), out_row)
                assert np.array_equal(result[:, :rows], matrix.T)
                assert not result[:, rows:].any()
                assert_untouched(out, (columns, stored), out_row)


@each_type
def test_reverse_axes(dtype: Any) -> None:
    for shape in np.ndindex(4, 4, 4):
        shape = tuple((0, 1, 5, 33)[n] for n in shape)
        array = integers(shape, dtype)
        out = guarded(array.size, dtype)
        reverse_axes(guarded_copy(array), out, *shape)
        assert np.array_equal(out.reshape(shape[::-1]), array.T)
        assert_untouched(out)


@each_type
def test_row_functions(dtype: Any) -> None:
    for columns in COLUMNS:
        for rows in range(1, 4):
            x_row = columns + 2
            matrix = integers((rows, columns), dtype)
            source = guarded(max(rows * x_row - 2, 0), dtype)
            rows_in(source, (rows, columns), x_row)[...] = matrix
            old = integers((columns,), dtype, 1)
            outs = total, added, copied, zeroed = (
                guarded_copy(old), guarded_copy(old),
                guarded(columns, dtype), guarded(columns, dtype),
            )  # fmt: skip
            row_functions(columns, total, source, x_row, rows, added, copied, zeroed)
            assert np.array_equal(total, old + matrix.sum(axis=0))
            assert np.array_equal(added, old + matrix[0])
            assert np.array_equal(copied, matrix[0])
            assert np.array_equal(zeroed, np.zeros(columns))
            for out in outs:
                assert_untouched(out)
