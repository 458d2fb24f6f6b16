"""Arrays between guard bands: what a kernel reads there turns its results into NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
BAND = 67  # elements; more than a panel, and no multiple of a vector


def guarded(size: int, dtype: DTypeLike) -> Array:
    """Flat memory for a kernel, all NaN, with NaN before and after it."""
    memory = np.full(size + 2 * BAND, np.nan, dtype)
    return memory[BAND : BAND + size]


def guarded_copy(array: Array) -> Array:
    """The elements of an array, flat, between guard bands."""
    copy = guarded(array.size, array.dtype)
    copy[:] = array.ravel()
    return copy


def rows_in(memory: Array, shape: tuple[int, int], row: int) -> Array:
    """A matrix in flat memory whose rows lie `row` elements apart."""
    itemsize = memory.itemsize
    return np.lib.stride_tricks.as_strided(memory, shape, (row * itemsize, itemsize))


def assert_untouched(memory: Array, shape: tuple[int, int] | None = None, row: int = 0) -> None:
    """Assert that the bands are still NaN, and what lies between the rows of a matrix."""
    whole = memory.base
    assert whole is not None
    assert np.isnan(whole[:BAND]).all()
    assert np.isnan(whole[BAND + memory.size :]).all()
    if shape is not None:
        outside = memory.copy()
        rows_in(outside, shape, row)[...] = np.nan
        assert np.isnan(outside).all()
