"""Notebook 000: the printed values of the course."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import fastrnn
from fastrnn.notebooks import full_rnn
from tests import golden

CELLS = SimpleNamespace(
    tanh=fastrnn.tanh, **{name: getattr(full_rnn, name) for name in full_rnn.__all__}
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
    ],
    ids=lambda case: case.__name__,
)
def test_printed_values_of_the_course(case: Any) -> None:
    golden.check(case(CELLS))
