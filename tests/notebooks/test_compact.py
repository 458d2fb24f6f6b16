"""Notebook 003: its caches, and the printed values of the course."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import fastrnn
from fastrnn import reference
from fastrnn.notebooks import compact
from tests import golden
from tests.notebooks.oracle import same
from tests.problems import normal, rnn_problem

CELLS = SimpleNamespace(rnn_forward=compact.rnn_forward, rnn_backward=compact.rnn_backward)


@pytest.mark.parametrize(
    "case",
    [golden.rnn_forward_spread, golden.rnn_forward, golden.rnn_backward],
    ids=lambda case: case.__name__,
)
def test_printed_values_of_the_course(case: Any) -> None:
    golden.check(case(CELLS))


def test_backward_reads_no_globals() -> None:
    """The weights of the cache count, whatever else there is."""
    compact.Wax = compact.Waa = None  # type: ignore[attr-defined]
    try:
        parameters, x, a0, da = rnn_problem()
        _, cache = compact.rnn_cell_forward(x[:, :, 0], a0, parameters)
        *_, right = reference.rnn_cell_forward(x[:, :, 0], a0, parameters)
        same(
            compact.rnn_cell_backward(da[:, :, 0], cache),
            reference.rnn_cell_backward(da[:, :, 0], right),
        )
    finally:
        del compact.Wax, compact.Waa  # type: ignore[attr-defined]


def test_fastrnn_takes_its_caches() -> None:
    parameters, x, a0, da = rnn_problem()
    *_, caches = compact.rnn_forward(x, a0, parameters)
    *_, right = reference.rnn_forward(x, a0, parameters)
    dz = normal((2, 10, 4))
    same(fastrnn.rnn_backward(da, caches), reference.rnn_backward(da, right))
    same(fastrnn.output_backward(dz, caches), reference.output_backward(dz, right))
