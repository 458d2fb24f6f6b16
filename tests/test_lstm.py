"""The LSTM's functions: values, gradients, caches, types, and what holds to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fastrnn
from tests import golden
from tests.cells import LSTM
from tests.compare import assert_as_torch, part, torch_arrays
from tests.sequences import SequenceTests

CASES = [case for case in golden.CASES if case.__name__.startswith("lstm")]


class TestLSTM(SequenceTests):
    cell = LSTM

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    def test_printed_values_of_the_course(self, case: Callable[[Any], golden.Pairs]) -> None:
        golden.check(case(fastrnn))

    def test_cell_as_pytorch(self) -> None:
        arrays = torch_arrays("lstm_cell_2_17_3")
        a_next, c_next, _, cache = fastrnn.lstm_cell_forward(
            arrays["xt"], arrays["a_prev"], arrays["c_prev"], arrays
        )
        outputs = {"a_next": a_next, "c_next": c_next}
        assert_as_torch(outputs, {key: arrays[key] for key in outputs})
        gradients = fastrnn.lstm_cell_backward(arrays["da_next"], arrays["dc_next"], cache)
        assert_as_torch(gradients, part(arrays, "hidden/"))
