"""How the tests compare arrays: within rounding, to the bit, with PyTorch's numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
DATA = Path(__file__).parent / "data"


def rounding(summands: int, dtype: DTypeLike) -> float:
    """How far a sum of so many terms of order one may be from the exact one.

    Each addition rounds by at most half an eps of the sum so far, up as often as down, so that
    the errors of n of them add up like a random walk: to more than 8 sqrt(n) eps almost never
    (Higham & Mary 2019, "A new approach to probabilistic rounding error analysis", SIAM J. Sci.
    Comput. 41(5)).
    """
    return 8 * math.sqrt(summands) * float(np.finfo(dtype).eps)


def assert_close(
    got: Mapping[str, Array], exact: Mapping[str, Array], dtype: DTypeLike, summands: int
) -> None:
    """Assert that these results have this type and are, within rounding, the exact ones.

    The unit is an array's largest element, or one where all are less: ``1 - a**2`` is no more
    exact than ``1`` is.
    """
    assert set(got) == set(exact)
    for name, array in got.items():
        assert array.dtype == dtype, name
        assert array.shape == exact[name].shape, name
        scale = max(1.0, float(np.abs(exact[name]).max(initial=0)))
        error = float(np.abs(array - exact[name]).max(initial=0))
        assert error <= rounding(summands, dtype) * scale, name


def copied(results: Mapping[str, Array]) -> dict[str, Array]:
    """Results that are views, as they are now."""
    return {name: array.copy() for name, array in results.items()}


def assert_same_bits(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Assert that the results are the same to the bit; NaN is like NaN."""
    assert set(got) == set(expected)
    for name, array in got.items():
        assert same_bits(array, expected[name]), name


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have the same type, shape, numbers, signs of zero, and NaN."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and np.array_equal(a, b, equal_nan=True)
        and np.array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b))
    )


# What PyTorch computed; the files are written by tests/data/make_torch.py.

TORCH_SIZES = "3_5_10_4_2", "1_1_1_1_1", "2_17_3_5_4", "11_8_1_13_3"


def torch_arrays(name: str) -> dict[str, Array]:
    return dict(np.load(DATA / f"torch_{name}.npz"))


def part(arrays: Mapping[str, Array], kind: str) -> dict[str, Array]:
    """The arrays whose names begin so, under the rest of their names."""
    return {key[len(kind) :]: array for key, array in arrays.items() if key.startswith(kind)}


def assert_as_torch(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """To 1e-11 of the largest element: the sums are ordered otherwise, so small ones may cancel."""
    assert expected
    for key, array in expected.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(got[key], array, rtol=1e-11, atol=1e-11 * scale, err_msg=key)
