"""exp, tanh, sigmoid and softmax against longer arithmetic: errors, limits, tails, bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import activations
from fastrnn.kernels.activations import (
    BESIDE,
    sigmoid_array,
    softmax_array,
    softmax_columns,
    tanh_array,
)
from fastrnn.kernels.cpu import HAS_FMA, VECTOR_BITS
from fastrnn.kernels.simd import lanes, load, pointer, store
from tests.kernels.guards import assert_untouched, guarded, guarded_copy
from tests.problems import normal

Array = NDArray[Any]

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
each_function = pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])


@njit(error_model="numpy")
def exp_array(x, out):
    p, q = pointer(x), pointer(out)
    for k in range(0, x.size, lanes(p)):
        n = min(lanes(p), x.size - k)
        store(q + k, activations.exp(load(p + k, n)), n)


KERNELS = {"exp": exp_array, "sigmoid": sigmoid_array, "tanh": tanh_array}

# Units in the last place; what a run over all float32 and 10**8 float64 numbers finds, rounded up.
BOUNDS = {"exp": 0.9, "sigmoid": 1.5 if HAS_FMA else 1.6, "tanh": 1.45}


def apply(name: str, x: Array) -> Array:
    out = np.full_like(x, 7)
    KERNELS[name](x, out)
    return out


def exact(name: str, x: Array) -> Array:
    """In the next longer type: float64 for float32, the platform's longest for float64."""
    if x.dtype == np.float32:
        x = np.clip(x.astype(np.float64), -700, 700)  # NumPy takes long where exp overflows
    elif np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no type longer than float64 here")
    else:
        x = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            return 1 / (1 + np.exp(-x))
        return getattr(np, name)(x)


def units(out: Array, expected: Array) -> Array:
    """Differences in units in the last place of the expected value, in the type of `out`."""
    info = np.finfo(out.dtype)
    mantissa, _ = np.frexp(expected)
    with np.errstate(all="ignore"):
        binade = np.abs(expected / mantissa) / 2  # a power of two; NaN for 0
        return np.abs(out - expected) / np.fmax(binade * info.eps, info.smallest_subnormal)


def around(points: Array, steps: int = 40) -> Array:
    """Each point and its neighbours in the points' own type, of both signs."""
    integer = points.view(np.int32 if points.dtype == np.float32 else np.int64)
    near = (integer[:, None] + np.arange(-steps, steps + 1, dtype=integer.dtype)).ravel()
    near = near.view(points.dtype)
    return np.concatenate([near, -near])


def hard_cases(dtype: Any) -> Array:
    """Where a formula, a rounding or a binade of an argument or result changes."""
    info = np.finfo(dtype)
    ln2 = np.log(2)
    edges = np.concatenate(
        [
            np.arange(1, 80) * ln2 / 2,  # reduction
            [0.3489 + 0.349, 19.5 * ln2, 22.5 * ln2, 48.5 * ln2, 51.5 * ln2],
            np.log(2.0 ** np.arange(1, 60) - 1 + 1e-3),  # sigmoid near a power of two
            np.arctanh(1 - 2.0 ** -np.arange(1.0, 50.0)),
            [9.01, 17.33, 19.06, 20.0, 37.43, 40.0, 89.0, 104.0, 710.0, 746.0],
            -np.log(float(info.smallest_normal)) + np.arange(-2, info.nmant + 2) * ln2,
            2.0 ** np.arange(info.minexp / 2, 7),
        ]
    ).astype(dtype)
    subnormal = np.arange(1, 50).astype(dtype) * info.smallest_subnormal
    return np.concatenate([around(edges), subnormal, -subnormal])


def dense(dtype: Any) -> Array:
    if dtype == np.float32:  # a prime step through all bit patterns
        patterns = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32)
        x = patterns.view(np.float32)
        return x[np.isfinite(x)]
    scales = 10.0 ** np.linspace(-12, 2.9, 60)
    return (np.linspace(-1, 1, 5001) * scales[:, None]).ravel()


@each_function
@each_type
@pytest.mark.parametrize("sample", [dense, hard_cases])
def test_error(name: str, dtype: Any, sample: Any) -> None:
    x = sample(dtype)
    expected = exact(name, x)
    out = apply(name, x)
    representable = np.abs(expected) <= np.finfo(dtype).max
    errors = units(out, expected)[representable]
    worst = errors.argmax()
    assert errors[worst] <= BOUNDS[name], f"at {x[representable][worst]!r}"
    assert np.isinf(out[~representable]).all()


@each_type
def test_limits(dtype: Any) -> None:
    info = np.finfo(dtype)
    x = np.array([np.inf, info.max, 0.0, -0.0, -info.max, -np.inf, np.nan, -np.nan], dtype)
    np.testing.assert_array_equal(apply("exp", x), [np.inf, np.inf, 1, 1, 0, 0, np.nan, np.nan])
    np.testing.assert_array_equal(apply("sigmoid", x), [1, 1, 0.5, 0.5, 0, 0, np.nan, np.nan])
    out = apply("tanh", x)
    np.testing.assert_array_equal(out, [1, 1, 0.0, -0.0, -1, -1, np.nan, np.nan])
    assert np.signbit(out[2:5]).tolist() == [False, True, True]


@each_type
def test_symmetry_and_order(dtype: Any) -> None:
    x = np.sort(np.abs(np.concatenate([dense(dtype), hard_cases(dtype)])))
    assert (apply("tanh", -x) == -apply("tanh", x)).all()
    assert (apply("tanh", x) <= 1).all()
    assert (np.abs(apply("sigmoid", x) + apply("sigmoid", -x) - 1) <= np.finfo(dtype).eps).all()
    x = np.concatenate([-x[::-1], x])
    for name in KERNELS:
        out = apply(name, x)
        out = out[np.isfinite(out)]
        # Errors of 1.5 units can exchange neighbours, and no more.
        assert (np.diff(out) >= -3 * np.spacing(np.abs(out[:-1]))).all()


@each_type
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_tails(name: str, dtype: Any) -> None:
    """Any length and place of an element gives the same bits; nothing outside is touched."""
    block = VECTOR_BITS // 8 // np.dtype(dtype).itemsize
    x = 3 * normal((2 * block + 2,), dtype)
    alone = np.concatenate([apply(name, x[k : k + 1]) for k in range(x.size)])
    for size in range(2 * block + 2):
        for start in (0, 1):
            source = guarded_copy(x[start : start + size])
            out = guarded(size, dtype)
            KERNELS[name](source, out)
            np.testing.assert_array_equal(out, alone[start : start + size])
            assert_untouched(out)
            KERNELS[name](source, source)
            np.testing.assert_array_equal(source, out)


# --- softmax ----------------------------------------------------------------------------


def softmax_of_rows(z: Array) -> Array:
    rows = []
    for row in z:
        rows.append(guarded(row.size, z.dtype))
        softmax_array(guarded_copy(row), rows[-1])
        assert_untouched(rows[-1])
    return np.array(rows)


def softmax_of_columns(z: Array) -> Array:
    """The same, from columns."""
    out, scratch = guarded(z.size, z.dtype), guarded(2 * BESIDE, z.dtype)
    softmax_columns(guarded_copy(z.T), out, *z.T.shape, scratch)
    assert_untouched(out)
    assert_untouched(scratch)
    return out.reshape(z.T.shape).T


each_softmax = pytest.mark.parametrize("softmax", [softmax_of_rows, softmax_of_columns])


@each_type
@each_softmax
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 9, 16, 17, 33, 100, 10_000])
def test_softmax(dtype: Any, classes: int, softmax: Any) -> None:
    z = 3 * normal((35, classes), dtype)
    out = softmax(z)
    longer = z.astype(np.longdouble)
    longer -= longer.max(axis=1, keepdims=True)
    expected = np.exp(longer)
    expected /= expected.sum(axis=1, keepdims=True)
    # z minus the maximum is rounded, the exponential, each sum, and the quotient.
    sums = classes
    if softmax is softmax_of_rows:
        block = VECTOR_BITS // 8 // np.dtype(dtype).itemsize
        sums = classes / block + np.log2(block)
    bound = (-longer.min() + 2 * (1 + sums + 1) + 2) / 2 * np.finfo(dtype).eps
    assert (np.abs(out - expected) <= bound * expected).all()

    for r in range(len(z)):
        np.testing.assert_array_equal(softmax(z[r : r + 1])[0], out[r])
    many = np.tile(z, (BESIDE // len(z) + 1, 1))  # more than are taken at once
    np.testing.assert_array_equal(softmax(many)[-len(z) :], out)
    row = z[0].copy()
    softmax_array(row, row)
    np.testing.assert_array_equal(row, softmax_of_rows(z)[0])
    flat = z.T.flatten()
    softmax_columns(flat, flat, *z.T.shape, np.empty(2 * BESIDE, dtype))
    np.testing.assert_array_equal(flat, softmax_of_columns(z).T.ravel())


@each_type
@each_softmax
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_softmax_of_what_is_not_finite(dtype: Any, classes: int, softmax: Any) -> None:
    z = normal((8, classes), dtype)
    plain = softmax(z)
    z[1, 0] = np.nan
    z[2, -1] = np.nan
    z[3, -1] = np.inf
    z[4, 0] = -np.inf
    z[5] = -np.inf
    z[6] *= np.finfo(dtype).max / 8
    out = softmax(z)
    np.testing.assert_array_equal(out[[0, 7]], plain[[0, 7]])
    assert np.isnan(out[[1, 2, 3, 5]]).all()
    assert out[4, 0] == 0
    assert out[4].sum() == pytest.approx(1, rel=1e-6)
    np.testing.assert_array_equal(out[6], z[6] == z[6].max())
