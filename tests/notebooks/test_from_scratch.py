"""Notebook 002: the first cache of the LSTM, which is wrong, and the printed values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import reference
from fastrnn.notebooks import from_scratch
from tests import golden
from tests.notebooks.errata import warned
from tests.notebooks.oracle import same
from tests.problems import lstm_problem, normal

CELLS = SimpleNamespace(
    tanh=fastrnn.tanh,
    lstm_cell_backward=fastrnn.lstm_cell_backward,
    **{name: getattr(from_scratch, name) for name in from_scratch.__all__},
)


@pytest.mark.parametrize(
    "case",
    [
        golden.activations,
        golden.rnn_cell_forward_spread,
        golden.rnn_forward_spread,
        golden.rnn_forward,
        golden.rnn_cell_backward,
        golden.rnn_backward,
        golden.lstm_cell_backward,
    ],
    ids=lambda case: case.__name__,
)
def test_printed_values_of_the_course(case: Any) -> None:
    golden.check(case(CELLS))


@pytest.mark.parametrize("T", [1, 4])
def test_first_cache_of_the_lstm(T: int) -> None:
    parameters, x, a0, _ = lstm_problem(T=T)
    (*_, (steps, _)), right = warned(from_scratch.lstm_forward, x, a0, parameters)
    assert right == ["fastrnn.lstm_forward"]
    *_, (right_steps, _) = reference.lstm_forward(x, a0, parameters)
    a_next, c_next, a_prev, c_prev, *_ = steps[0]
    assert np.array_equal(a_prev, a_next)
    assert np.array_equal(c_prev, c_next)
    assert not np.allclose(a_prev, right_steps[0][2])
    same(steps[0][4:9], right_steps[0][4:9])
    for t in range(1, T):
        same(steps[t][:9], right_steps[t][:9])
    _, right = warned(from_scratch.lstm_forward, x, a0, parameters)
    assert right == []


def test_fastrnn_goes_the_right_way_back() -> None:
    parameters, x, a0, da = lstm_problem()
    (*_, caches), _ = warned(from_scratch.lstm_forward, x, a0, parameters)
    *_, right = reference.lstm_forward(x, a0, parameters)
    want = reference.lstm_backward(da, right)
    got = fastrnn.lstm_backward(da, caches)
    same([got[key] for key in want], list(want.values()))
    dz = normal((2, 10, 4))
    same(fastrnn.output_backward(dz, caches), reference.output_backward(dz, right))
