"""The largest error of exp, sigmoid and tanh: all of float32, and many float64 numbers.

    python -m tests.kernels.exhaustive [float64 numbers, 10**8 unless given]

takes minutes; not part of the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from tests.kernels.test_activations import KERNELS, Array, apply, exact, hard_cases, units

CHUNK = 1 << 16


def all_float32() -> Iterator[Array]:
    for first in range(0, 1 << 32, CHUNK):
        x = np.arange(first, first + CHUNK, dtype=np.uint64).astype(np.uint32).view(np.float32)
        yield x[np.isfinite(x)]


def many_float64(numbers: int) -> Iterator[Array]:
    """Hard cases; then in turn all magnitudes, and a range where the functions are busy."""
    yield hard_cases(np.float64)
    random = np.random.default_rng(0)
    for n in range(numbers // CHUNK + 1):
        magnitudes = 10.0 ** random.uniform(-12, 2.9, CHUNK)
        signs = random.choice([-1.0, 1.0], CHUNK)
        busy = random.uniform(*[(-2, 2), (-8, 4), (-40, 40), (0.55, 0.85)][n % 4], CHUNK)
        yield np.where(random.random(CHUNK) < 0.25, signs * magnitudes, busy)


def worst(name: str, chunks: Iterator[Array]) -> tuple[float, float, int]:
    """The largest error in units in the last place, where, and how many were compared."""
    largest, place, count = 0.0, 0.0, 0
    for x in chunks:
        if x.size:
            expected = exact(name, x)
            inside = np.abs(expected) <= np.finfo(x.dtype).max
            out = apply(name, x)
            assert np.isinf(out[~inside]).all()
            errors = np.where(inside, units(out, expected), 0)
            at = errors.argmax()
            if not errors[at] <= largest:
                largest, place = float(errors[at]), float(x[at])
            count += x.size
    return largest, place, count


if __name__ == "__main__":
    numbers = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**8
    for name in KERNELS:
        for dtype, chunks in ("float32", all_float32()), ("float64", many_float64(numbers)):
            error, place, count = worst(name, chunks)
            print(f"{name:8s} {dtype}  {error:.4f} ulp at {place!r}, of {count}", flush=True)
