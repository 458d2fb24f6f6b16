"""Notebook 001: the gradient of ``W_aa``, which is wrong, and the other printed values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn.notebooks import step_by_step
from tests import golden
from tests.notebooks.errata import warned
from tests.notebooks.oracle import same
from tests.problems import rnn_problem

Array = NDArray[Any]


def problem() -> tuple[dict[str, Array], Array, Array, Array]:
    parameters, x, a0, da = rnn_problem()
    return underscored(parameters), x, a0, da


def underscored(parameters: dict[str, Array]) -> dict[str, Array]:
    return {theirs: parameters[ours] for theirs, ours in step_by_step.KEYS.items()}


def forward(x: Array, a0: Array, parameters: dict[str, Array]) -> Any:
    return step_by_step.forward_rnn(x, a0, underscored(parameters))


@pytest.mark.parametrize(
    "case", [golden.rnn_forward_spread, golden.rnn_forward], ids=lambda case: case.__name__
)
def test_printed_values_of_the_course(case: Any) -> None:
    golden.check(case(SimpleNamespace(rnn_forward=forward)))


def test_gradient_of_a_step() -> None:
    weight_dict, x, a0, da = problem()
    *_, cache = step_by_step.cell_rnn(a0, x[:, :, 0], weight_dict)
    gradients, right = warned(step_by_step.backward_rnnCell, da[:, :, 0], cache)
    assert right == ["fastrnn.rnn_cell_backward"]
    assert gradients["dW_aa"] is weight_dict["W_aa"]
    _, right = warned(step_by_step.backward_rnnCell, da[:, :, 0], cache)
    assert right == []


@pytest.mark.parametrize("T", [1, 4])
def test_gradient_of_a_sequence(T: int) -> None:
    weight_dict, x, a0, da = problem()
    *_, caches = step_by_step.forward_rnn(x[:, :, :T], a0, weight_dict)
    gradients, right = warned(step_by_step.backward_pass, da, caches)
    assert right == ["fastrnn.rnn_backward"]
    same(gradients["dWaa"], T * weight_dict["W_aa"])
    assert gradients["dWaa"] is not weight_dict["W_aa"]
    _, right = warned(step_by_step.backward_pass, da, caches)
    assert right == []


def test_the_other_gradients_are_right() -> None:
    x, a0, parameters, da = golden.rnn_sequence()
    *_, caches = forward(x, a0, parameters)
    gradients, _ = warned(step_by_step.backward_pass, da, caches)
    right = fastrnn.rnn_backward(da, fastrnn.rnn_forward(x, a0, parameters)[-1])
    assert not np.allclose(gradients.pop("dWaa"), right.pop("dWaa"))
    for key, gradient in gradients.items():
        same(gradient, right[key])


def test_the_way_back_needs_no_head() -> None:
    weight_dict, x, a0, da = problem()
    *_, (steps, _) = step_by_step.forward_rnn(x, a0, weight_dict)
    recurrent = {key: weight_dict[key] for key in ("W_ax", "W_aa", "b_a")}
    headless = [(*cache[:3], recurrent) for cache in steps]
    got, _ = warned(step_by_step.backward_pass, da, (headless, x))
    want, _ = warned(step_by_step.backward_pass, da, (steps, x))
    same(got, want)
    warned(step_by_step.backward_rnnCell, da[:, :, 0], headless[0])
