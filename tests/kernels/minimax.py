"""The polynomials of ``fastrnn/kernels/activations.py``: Remez's exchange in 60 digits.

    python -m tests.kernels.minimax

prints the coefficients, rounded to the type, and the largest relative error that exp(r) and
tanh(h) would have in exact arithmetic.  Needs mpmath; not part of the tests.

Source: Muller, Elementary Functions, 3rd edition, 2016, section 3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

Function = Callable[[Any], Any]
Fit = tuple[list[Any], Any]  # coefficients, error
mp.mp.dps = 60
LN2 = mp.log(2)


def minimax(f: Function, weight: Function, low: Any, high: Any, degree: int) -> Fit:
    """The polynomial with the smallest ``max |weight (p - f)|``, and that error."""
    n = degree + 2

    def chebyshev(k: int, points: int) -> Any:
        return (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (points - 1))

    grid = [chebyshev(k, 60 * n) for k in range(60 * n)]
    places = [chebyshev(k, n) for k in range(n)]
    for _ in range(40):
        # Errors of one size and alternating sign at n places ...
        rows = [
            [weight(x) * x**j for j in range(degree + 1)] + [(-1) ** i]
            for i, x in enumerate(places)
        ]
        *coefficients, level = mp.lu_solve(mp.matrix(rows), [weight(x) * f(x) for x in places])
        # ... which move to the extrema between the error's changes of sign.
        errors = [weight(x) * (mp.polyval(coefficients[::-1], x) - f(x)) for x in grid]
        runs: list[tuple[Any, Any]] = []
        for x, error in zip(grid, errors, strict=True):
            if runs and error * runs[-1][1] > 0:
                runs[-1] = max(runs[-1], (x, error), key=lambda run: abs(run[1]))
            else:
                runs.append((x, error))
        while len(runs) > n:
            runs.remove(min((runs[0], runs[-1]), key=lambda run: abs(run[1])))
        places = [x for x, _ in runs]
        largest = max(abs(error) for _, error in runs)
        if largest < abs(level) * mp.mpf("1.001"):
            break
    return coefficients, largest


def expm1_tail(degree: int) -> Fit:
    """``(expm1(r) - r) / r**2``, for the error of exp(r), with some weight where that is 0."""
    bound = LN2 / 2 * mp.mpf("1.002")  # r is rounded
    return minimax(
        lambda r: mp.hyp1f1(1, 3, r) / 2,
        lambda r: (r**2 + LN2**2 / 200) / mp.exp(r),
        -bound,
        bound,
        degree,
    )


def coth_tail(degree: int) -> Fit:
    """``(h coth(h) - 1) / h**2`` in h**2, for that of tanh(h), with some weight where it is 0."""
    bound = mp.mpf("0.7") ** 2

    def u(z: Any) -> Any:
        return mp.sqrt(z) * mp.coth(mp.sqrt(z)) if z else mp.mpf(1)

    return minimax(
        lambda z: (u(z) - 1) / z if z else mp.mpf(1) / 3,
        lambda z: (z + bound / 50) / u(z) ** 2,
        mp.mpf(0),
        bound,
        degree,
    )


if __name__ == "__main__":
    for tail, degrees in (expm1_tail, (4, 9)), (coth_tail, (3, 7)):
        for dtype, degree in zip((np.float32, np.float64), degrees, strict=True):
            coefficients, error = tail(degree)
            print(f"{tail.__name__} {dtype.__name__}, error 2**{float(mp.log(error, 2)):.1f}")
            for coefficient in coefficients:
                print(f"    {dtype(mp.nstr(coefficient, 30))!s},")
