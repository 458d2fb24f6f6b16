"""Random problems for the tests: weights, input, initial state and upstream gradient.

A problem depends only on its sizes and its seed. The numbers are drawn in float64 and then
rounded to the asked type, so the float32 problem is the rounded float64 problem.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Problem(NamedTuple):
    """What a forward and a backward call need; in the layout (features, batch, time)."""

    parameters: dict[str, Array]
    x: Array  # (n_x, m, T)
    a0: Array  # (n_a, m)
    da: Array  # (n_a, m, T)


def normal(shape: tuple[int, ...], dtype: DTypeLike = np.float64, seed: int = 0) -> Array:
    """One more standard normal array, for what a problem does not hold (c_prev, dz, ...)."""
    # The second number keeps these draws apart from those of a problem with the same seed.
    return np.random.default_rng((seed, 1)).standard_normal(shape).astype(dtype)


def rnn_problem(
    n_x: int = 3,
    n_a: int = 5,
    m: int = 10,
    T: int = 4,
    n_y: int = 2,
    dtype: DTypeLike = np.float64,
    seed: int = 0,
) -> Problem:
    """An RNN's problem: Wax, Waa, Wya, ba, by scaled by 1/sqrt(n_a), the rest of unit variance."""
    shapes = {
        "Wax": (n_a, n_x),
        "Waa": (n_a, n_a),
        "Wya": (n_y, n_a),
        "ba": (n_a, 1),
        "by": (n_y, 1),
    }
    return _problem(shapes, n_x, n_a, m, T, dtype, seed)


def lstm_problem(
    n_x: int = 3,
    n_a: int = 5,
    m: int = 10,
    T: int = 4,
    n_y: int = 2,
    dtype: DTypeLike = np.float64,
    seed: int = 0,
) -> Problem:
    """An LSTM's problem: W*, b*, Wy, by scaled by 1/sqrt(n_a), the rest of unit variance."""
    shapes: dict[str, tuple[int, int]] = {}
    for gate in "fico":
        shapes["W" + gate] = (n_a, n_a + n_x)
        shapes["b" + gate] = (n_a, 1)
    shapes |= {"Wy": (n_y, n_a), "by": (n_y, 1)}
    return _problem(shapes, n_x, n_a, m, T, dtype, seed)


def _problem(
    shapes: dict[str, tuple[int, int]],
    n_x: int,
    n_a: int,
    m: int,
    T: int,
    dtype: DTypeLike,
    seed: int,
) -> Problem:
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], scale: float = 1.0) -> Array:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    parameters = {key: draw(shape, max(n_a, 1) ** -0.5) for key, shape in shapes.items()}
    return Problem(parameters, draw((n_x, m, T)), draw((n_a, m)), draw((n_a, m, T)))
