"""Tiles element by element, each shape and every number of columns."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import njit

from fastrnn.kernels.cpu import ROWS, WIDTH
from fastrnn.kernels.tiles import (
    HALVED,
    rank1,
    tile_columns,
    tile_load,
    tile_product,
    tile_store,
    tile_zero,
)
from tests.kernels.guards import assert_untouched, guarded, guarded_copy, rows_in
from tests.kernels.views import each_type, each_width, half, lanes, widest


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
