"""The tile whose rate is the machine's limit multiplies, and writes all that it sums."""

from typing import Any

import numpy as np
import pytest

from fastrnn.kernels.cpu import ROWS, VECTOR_BITS, WIDTH
from fastrnn.kernels.peak import repeat_tile


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_repeat_tile(dtype: Any) -> None:
    columns = WIDTH * VECTOR_BITS // 8 // np.dtype(dtype).itemsize
    rng = np.random.default_rng(0)
    w, x = (rng.integers(-4, 5, (7, width)).astype(dtype) for width in (columns, ROWS))
    out = np.full((ROWS, columns), np.nan, dtype)
    repeat_tile(w, x, out, 3)
    np.testing.assert_array_equal(out, 3 * (x.T @ w))
