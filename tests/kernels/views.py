"""Both widths of vector that an array is read by, for tests that take each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from fastrnn.kernels.cpu import VECTOR_BITS
from fastrnn.kernels.simd import narrow, pointer

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
