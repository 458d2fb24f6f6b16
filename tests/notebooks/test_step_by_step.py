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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, a0, p: step_by_step.softmax_func(None), "yhat is None"),
        (lambda x, a0, p: step_by_step.cell_rnn(a0, x, p), "x_curr has shape"),
        (
            lambda x, a0, p: step_by_step.cell_rnn(a0, x[:, :, 0], p | {"b_a": 1}),
            "weight_dict['b_a'] ",
        ),
        (
            lambda x, a0, p: step_by_step.forward_rnn(x, a0, p | {"W_ya": a0}),
            "weight_dict['W_ya'] ",
        ),
        (lambda x, a0, p: step_by_step.forward_rnn(x, a0, {}), "weight_dict lacks W_ax, "),
    ],
)
def test_errors_have_the_names_of_the_notebook(call: Any, message: str) -> None:
    parameters, x, a0, _ = problem()
    with pytest.raises((TypeError, ValueError, KeyError)) as caught:
        call(x, a0, parameters)
    assert caught.value.args[0].startswith(message)


def test_gradients_that_do_not_fit() -> None:
    parameters, x, a0, da = problem()
    cache = step_by_step.cell_rnn(a0, x[:, :, 0], parameters)[-1]
    with pytest.raises(ValueError, match=r"^da_t_1 has shape"):
        step_by_step.backward_rnnCell(da, cache)
    steps, _ = step_by_step.forward_rnn(x, a0, parameters)[-1]
    for caches in ((steps, x[0]), (steps, None)):
        with pytest.raises((TypeError, ValueError), match=r"^x in caches "):
            step_by_step.backward_pass(da, caches)
