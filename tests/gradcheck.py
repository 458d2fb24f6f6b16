"""Gradients against central differences, in one random direction per argument.

A wrong element of a gradient goes unseen only if the direction is orthogonal to the error, which
for a random direction does not happen; and the cost is two losses per argument, not per element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def check_gradients(
    loss: Callable[..., Any],
    arguments: Mapping[str, Array],
    gradients: Mapping[str, Array],
    seed: int = 0,
) -> None:
    """Assert, for each name, that ``gradients["d" + name]`` is that of ``loss(**arguments)``.

    With eps the rounding error of an argument's type, a step of eps^(1/3) balances truncation,
    step^2, against rounding, eps / step: both are eps^(2/3), times a constant that 100 covers for
    losses whose derivatives do not grow much from one order to the next.
    """
    rng = np.random.default_rng(seed)
    for name, value in arguments.items():
        gradient = gradients["d" + name]
        assert gradient.shape == value.shape, name
        step = np.cbrt(np.finfo(value.dtype).eps)
        direction = rng.standard_normal(value.shape).astype(value.dtype)
        direction /= max(np.linalg.norm(direction.astype(float)), 1e-300)
        forth = loss(**{**arguments, name: value + step * direction})
        back = loss(**{**arguments, name: value - step * direction})
        expected = (forth - back) / (2 * step)
        bound = 100 * step**2 * (abs(forth) + np.linalg.norm(gradient.astype(float)))
        assert abs(np.sum(gradient * direction) - expected) <= bound, name
