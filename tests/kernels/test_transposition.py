"""Transposed squares: every number of rows and columns."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import njit

from fastrnn.kernels.transposition import transpose_block, transpose_part
from tests.kernels.guards import assert_untouched, guarded, guarded_copy, rows_in
from tests.kernels.views import each_type, each_width, lanes
from tests.problems import normal


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
