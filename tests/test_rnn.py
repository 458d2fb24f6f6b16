"""The RNN's functions: values, gradients, caches, types, and what holds to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fastrnn
from tests import golden
from tests.cells import RNN
from tests.sequences import SequenceTests

CASES = [case for case in golden.CASES if case.__name__.startswith("rnn")]


class TestRNN(SequenceTests):
    cell = RNN

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    def test_printed_values_of_the_course(self, case: Callable[[Any], golden.Pairs]) -> None:
        golden.check(case(fastrnn))
