"""Errors of states and gradients at one small size; the README has a table of larger ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastrnn.peers import CELLS, Fastrnn, random_problem
from tests.accuracy import has_exact, measure

# Twice the worst found here, in the units of tests/accuracy.py.
STATES, GRADIENTS = 0.5, 1.0


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
def test_errors_are_less_than_a_unit(cell: str, dtype: Any) -> None:
    if not has_exact(dtype):
        pytest.skip("no longer type than float64 here")
    problem = random_problem(cell, D=8, H=40, B=3, T=50, dtype=np.float32)
    ((states, gradients),) = measure(problem, [(Fastrnn(1), dtype)])
    assert 0 < states <= STATES
    assert 0 < gradients <= GRADIENTS
