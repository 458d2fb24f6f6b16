"""Vectors and tiles lane by lane: tails of every length, numbers as operands, the CPU's shapes."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import simd
from fastrnn.kernels.simd import (
    HALVED,
    HAS_FMA,
    ROWS,
    VECTOR_BITS,
    WIDTH,
    absolute,
    add_exponent,
    broadcast,
    constant,
    copysign,
    first_lanes,
    fma,
    fold_max,
    fold_sum,
    load,
    load_full,
    narrow,
    padded,
    paneled,
    pointer,
    polynomial,
    rank1,
    select_less,
    store,
    store_full,
    tile_columns,
    tile_load,
    tile_product,
    tile_store,
    tile_zero,
    transpose_block,
    transpose_part,
)
from tests.kernels.guards import assert_untouched, guarded, guarded_copy, rows_in
from tests.problems import normal

Array = NDArray[Any]

HUGE = (2**31 - 1, 2**31, 2**32, 2**33 + 1)  # elements of a row: 32 bits do not hold all

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


@njit(inline="always")
def widest(array):
    return pointer(array)


@njit(inline="always")
def half(array):
    return narrow(pointer(array))


VIEWS = {widest: 1, half: 2}
each_width = pytest.mark.parametrize("view", VIEWS, ids=["widest", "half"])


def lanes(dtype: Any, view: Any = widest) -> int:
    """Elements in a vector that is read through this view of an array."""
    return VECTOR_BITS // 8 // np.dtype(dtype).itemsize // VIEWS[view]


# --- memory -----------------------------------------------------------------------------


@cache
def copy_part(view):
    @njit(error_model="numpy")
    def function(source, at, count, out):
        store_full(view(out), load(view(source) + at, count))

    return function


@cache
def store_part(view):
    @njit(error_model="numpy")
    def function(source, count, out, at):
        store(view(out) + at, load_full(view(source)), count)

    return function


@each_type
@each_width
def test_load_reads_the_first_lanes_and_zeros(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    numbers = normal((3 * n,), dtype)
    for count in range(-2, n + 1):
        source = guarded_copy(numbers[: n + max(count, 0)])
        out = guarded(n, dtype)
        copy_part(view)(source, n, count, out)  # up to the band, no further
        expected = np.zeros(n, dtype)
        expected[: max(count, 0)] = source[n:]
        assert np.array_equal(out, expected)
        assert_untouched(out)
    for more in (n + 1, 1000, *HUGE):
        out = guarded(n, dtype)
        copy_part(view)(guarded_copy(numbers), 1, more, out)
        assert np.array_equal(out, numbers[1 : 1 + n])


@each_type
@each_width
def test_store_writes_the_first_lanes(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    numbers = normal((n,), dtype)
    for count in (*range(-2, n + 3), 1000, *HUGE):
        kept = min(max(count, 0), n)
        out = guarded(1 + kept, dtype)
        store_part(view)(guarded_copy(numbers), count, out, 1)
        assert np.isnan(out[0])
        assert np.array_equal(out[1:], numbers[:kept])
        assert_untouched(out)


# --- arithmetic -------------------------------------------------------------------------

number = constant(float32=0.1, float64=0.2)
tail = polynomial(float32=(1.5, -0.5, 0.25, 0.125), float64=(1.5, -0.5, 0.1, 0.3, -0.2))


@cache
def operations(view):
    @njit(error_model="numpy")
    def function(a, b, c, out, row):
        """Row after row of `out`, in the order of `expected_operations`."""
        p = view(out)
        x, y, z = load_full(view(a)), load_full(view(b)), load_full(view(c))
        store_full(p, x + y)
        store_full(p + row, x - y)
        store_full(p + 2 * row, x * y)
        store_full(p + 3 * row, x / y)
        store_full(p + 4 * row, -x)
        store_full(p + 5 * row, 0.1 + x)
        store_full(p + 6 * row, x - 0.1)
        store_full(p + 7 * row, 0.1 * x)
        store_full(p + 8 * row, 0.1 / x)
        store_full(p + 9 * row, absolute(x))
        store_full(p + 10 * row, copysign(x, y))
        store_full(p + 11 * row, select_less(x, y, x, z))
        store_full(p + 12 * row, select_less(0.1, x, z, 0.3))
        store_full(p + 13 * row, number(x))
        store_full(p + 14 * row, broadcast(view(b) + (row - 1)))
        store_full(p + 15 * row, first_lanes(x, y, 1))
        store_full(p + 16 * row, fold_max(x))
        store_full(p + 17 * row, first_lanes(x, y, 0))
        store_full(p + 18 * row, fma(x, y, z))
        store_full(p + 19 * row, fma(x, 0.1, z))
        store_full(p + 20 * row, tail(x))
        store_full(p + 21 * row, fold_sum(x))

    return function


def expected_operations(x: Array, y: Array, z: Array) -> list[Array]:
    """All but the last ones, which may round otherwise."""
    dtype, single = x.dtype.type, x.dtype == np.float32
    tenth = dtype(0.1)
    return [
        x + y, x - y, x * y, x / y, -x, tenth + x, x - tenth, tenth * x, tenth / x,
        np.abs(x), np.copysign(x, y), np.where(x < y, x, z), np.where(tenth < x, z, dtype(0.3)),
        np.full_like(x, 0.1 if single else 0.2), np.full_like(x, y[-1]),
        np.concatenate((x[:1], y[1:])), np.full_like(x, x.max()), y,
    ]  # fmt: skip


@each_type
@each_width
def test_operations(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    x, y, z = normal((3, n), dtype)
    out = np.full((22, n), np.nan, dtype)
    operations(view)(x, y, z, out, n)
    expected = expected_operations(x, y, z)
    for row, array in enumerate(expected):
        np.testing.assert_array_equal(out[row], array, err_msg=str(row))

    eps = np.finfo(dtype).eps
    wide = [array.astype(np.longdouble) for array in (x, y, z)]
    coefficients = (1.5, -0.5, 0.25, 0.125) if dtype == np.float32 else (1.5, -0.5, 0.1, 0.3, -0.2)
    rest = [
        wide[0] * wide[1] + wide[2],
        wide[0] * dtype(0.1) + wide[2],
        np.polynomial.polynomial.polyval(wide[0], coefficients),
        np.full(n, wide[0].sum()),
    ]
    for row, array in enumerate(rest, len(expected)):
        scale = 1 + np.abs(wide[0]).max() ** 4
        np.testing.assert_allclose(out[row], array, rtol=0, atol=8 * eps * scale, err_msg=str(row))
    assert (out[21] == out[21, 0]).all()


@each_type
@each_width
def test_special_operands(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 1e-40], dtype)
    x, y = np.resize(special, n), np.resize(special[::-1], n)
    for shift in range(len(special)):
        z = np.resize(np.roll(special, shift), n)
        out = np.full((22, n), np.nan, dtype)
        operations(view)(x, z, y, out, n)
        with np.errstate(all="ignore"):
            expected = expected_operations(x, z, y)
        for row, array in enumerate(expected):
            if row != 16:  # the largest of numbers with NaN among them
                np.testing.assert_array_equal(out[row], array, err_msg=str(row))
                number = ~np.isnan(array)
                assert np.array_equal(np.signbit(out[row])[number], np.signbit(array)[number])


@each_type
@each_width
def test_fma_rounds_once_where_the_cpu_can(dtype: Any, view: Any) -> None:
    n, eps = lanes(dtype, view), Fraction(float(np.finfo(dtype).eps))
    x = np.full(n, float(1 + eps), dtype)
    out = np.full((22, n), np.nan, dtype)
    operations(view)(x, x, -np.ones(n, dtype), out, n)
    once, twice = 2 * eps + eps * eps, 2 * eps
    assert (out[18] == float(once if HAS_FMA else twice)).all()


@cache
def scale(view):
    @njit(error_model="numpy")
    def function(v, t, out):
        store_full(view(out), add_exponent(load_full(view(v)), load_full(view(t))))

    return function


@each_type
@each_width
def test_add_exponent(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    magic = 12582912.0 if dtype == np.float32 else 6755399441055744.0
    powers = np.resize([-3, 0, 1, 7, -60, 60], n)
    v, out = normal((n,), dtype), np.zeros(n, dtype)
    scale(view)(v, (magic + powers).astype(dtype), out)
    assert np.array_equal(out, np.ldexp(v, powers))


@cache
def round_up(view):
    @njit(error_model="numpy")
    def function(array, columns):
        p = view(array)
        return padded(p, columns), simd.lanes(p), paneled(p, columns)

    return function


@each_type
@each_width
def test_padded(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    panel = WIDTH * n
    for columns in range(2 * panel):
        expected = -(-columns // n) * n, n, -(-columns // panel) * panel
        assert round_up(view)(np.zeros(1, dtype), columns) == expected


# --- tiles ------------------------------------------------------------------------------


@cache
def tile_products(view):
    @njit(error_model="numpy")
    def function(source, out, out_row, w, x, x_row, depth, columns):
        """``source + x @ w``, three rows of a panel."""
        tile = tile_zero(view(out), WIDTH, 3)
        tile = tile_load(tile, view(source), out_row, columns)
        for k in range(depth):
            tile = rank1(tile, view(w) + k * tile_columns(tile), view(x) + k, x_row)
        tile_store(tile, view(out), out_row, columns)

    return function


@each_type
@each_width
def test_tiles(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    across, depth = WIDTH * n, 5
    row = across + 3
    rng = np.random.default_rng(0)
    x, w, old = (
        rng.integers(-4, 5, shape).astype(dtype)
        for shape in ((3, depth), (depth, across), (3, across))
    )
    for columns in (1, n - 1, n, across - n, across - n + 1, across):
        expected = (old + x @ w)[:, :columns]
        source, out = guarded(2 * row + columns, dtype), guarded(2 * row + columns, dtype)
        rows_in(source, (3, columns), row)[...] = old[:, :columns]
        tile_products(view)(
            source, out, row, guarded_copy(w), guarded_copy(x), depth, depth, columns
        )
        assert np.array_equal(rows_in(out, (3, columns), row), expected)
        assert_untouched(out, (3, columns), row)


@cache
def tile_sums(shape, whole):
    width, rows = shape
    others = [(8, 1), (WIDTH, 5)]
    multiply_tile = tile_product(others[0], shape, others[1], whole=whole)

    @njit(error_model="numpy")
    def function(out, row, start, start_row, kept, columns, x, x_row, w, w_row, depth, later):
        out, start, x, w = widest(out), widest(start), widest(x), widest(w)
        for _ in range(2):
            multiply_tile(
                width, rows, out, row, start, start_row, kept, columns, x, x_row, w, w_row, depth,
                out + later, later,
            )  # fmt: skip

    return function


@each_type
@pytest.mark.parametrize(
    "shape", [(HALVED, 2 * ROWS), (1, 2), (WIDTH, 3), (WIDTH, ROWS), (2 * WIDTH - 1, 1)], ids=str
)
@pytest.mark.parametrize("kept", [True, False])
def test_products_of_tiles(dtype: Any, shape: tuple[int, int], kept: bool) -> None:
    width, rows = shape
    across = width * lanes(dtype) if width != HALVED else lanes(dtype, half)
    depth, panel = 5, WIDTH * lanes(dtype)
    panels = -(-across // panel)
    rng = np.random.default_rng(0)
    x, w, start = (
        rng.integers(-4, 5, shape).astype(dtype)
        for shape in ((rows, depth), (depth, panels * panel), (rows, across))
    )
    packed = guarded_copy(w.reshape(depth, panels, panel).swapaxes(0, 1))
    row = across + 3
    for columns in (1, across - 1, across):
        expected = ((start if kept else 0) + x @ w[:, :across])[:, :columns]
        # Where lines are asked for, nothing need be there.
        products = [(True, packed, panel, at) for at in (0, 1 << 20, 1 << 42, -(1 << 42))]
        if panels == 1:
            products += [(False, guarded_copy(w[:, :columns]), columns, 0)]
        for whole, weights, w_row, later in products:
            out, old = (guarded((rows - 1) * r + columns, dtype) for r in (row, row + 2))
            rows_in(old, (rows, columns), row + 2)[...] = start[:, :columns]
            terms = guarded_copy(np.pad(x, ((0, 0), (0, 2)), constant_values=np.nan))
            tile_sums(shape, whole)(
                out, row, old, row + 2, kept, columns, terms, depth + 2, weights, w_row, depth,
                later,
            )  # fmt: skip
            assert np.array_equal(rows_in(out, (rows, columns), row), expected)
            assert_untouched(out, (rows, columns), row)


@cache
def block(view):
    @njit(error_model="numpy")
    def function(source, source_row, out, out_row):
        transpose_block(view(source), source_row, view(out), out_row)

    return function


@cache
def block_part(view):
    @njit(error_model="numpy")
    def function(source, source_row, rows, columns, out, out_row, stored):
        transpose_part(view(source), source_row, rows, columns, view(out), out_row, stored)

    return function


@each_type
@each_width
def test_transposed_blocks(dtype: Any, view: Any) -> None:
    n = lanes(dtype, view)
    if n == 1:
        pytest.skip("a square of one lane has nothing to exchange")
    matrix = normal((n, n), dtype)
    for rows in range(n + 1):
        for columns in range(n + 1):
            for stored in {rows, n}:
                source = guarded(max(rows * (n + 2) - 2 - (n - columns), 0), dtype)
                out = guarded(max(columns * (n + 3) - 3 - (n - stored), 0), dtype)
                rows_in(source, (rows, columns), n + 2)[...] = matrix[:rows, :columns]
                block_part(view)(source, n + 2, rows, columns, out, n + 3, stored)
                result = rows_in(out, (columns, stored), n + 3)
                assert np.array_equal(result[:, :rows], matrix[:rows, :columns].T)
                assert not result[:, rows:].any()
                assert_untouched(out, (columns, stored), n + 3)
    out = guarded(n * (n + 3) - 3, dtype)
    block(view)(guarded_copy(matrix), n, out, n + 3)
    assert np.array_equal(rows_in(out, (n, n), n + 3), matrix.T)
    assert_untouched(out, (n, n), n + 3)


# --- the CPU ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "arm", "shape", "registers"),
    [
        ("sse2", False, (128, 2, 4), 16),
        ("sse2 avx", False, (256, 2, 6), 16),
        ("sse2 avx avx2 fma", False, (256, 2, 6), 16),
        ("avx avx2 fma avx512f avx512vl", False, (512, 4, 6), 32),
        ("avx avx2 fma avx512f prefer-256-bit", False, (256, 4, 6), 32),
        ("neon", True, (128, 4, 6), 32),
        ("", False, (128, 2, 4), 16),
    ],
)
def test_tile_shape(features: str, arm: bool, shape: tuple[int, int, int], registers: int) -> None:
    bits, width, rows = simd.tile_shape(frozenset(features.split()), arm)
    assert (bits, width, rows) == shape
    # The accumulators, one row of weights and a broadcast at once.
    assert rows * width + width + 1 <= registers


def test_features_are_those_numba_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simd.config, "CPU_FEATURES", "+avx,-fma,+sse2")
    assert simd.cpu_features() == {"avx", "sse2"}
    monkeypatch.setattr(simd.config, "CPU_FEATURES", "")
    assert simd.cpu_features() == frozenset()
    monkeypatch.setattr(simd.config, "CPU_FEATURES", None)
    host = simd.llvm.get_host_cpu_features()
    assert simd.cpu_features() == {name for name, there in host.items() if there}


def test_this_cpu() -> None:
    assert (VECTOR_BITS, WIDTH, ROWS) == simd.tile_shape(simd.FEATURES, simd.ARM)
    assert HAS_FMA or not simd.ARM
