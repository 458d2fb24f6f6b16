"""Pointers and vectors lane by lane: tails of every length, numbers as operands."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import simd
from fastrnn.kernels.cpu import HAS_FMA, WIDTH
from fastrnn.kernels.simd import (
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
    padded,
    paneled,
    polynomial,
    select_less,
    store,
    store_full,
)
from tests.kernels.guards import assert_untouched, guarded, guarded_copy
from tests.kernels.views import HUGE, each_type, each_width, lanes
from tests.problems import normal

Array = NDArray[Any]


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
