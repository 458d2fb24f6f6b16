"""Notebook 004: the tanh that overflows, the way back without a carry, and the printed values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn.notebooks import exercise
from tests import golden
from tests.notebooks.errata import warned
from tests.notebooks.oracle import Exercise, same
from tests.problems import rnn_problem

Array = NDArray[Any]

CELLS = SimpleNamespace(
    tanh=exercise.tanh_forward,
    softmax=exercise.softmax_forward,
    **{name: getattr(exercise, name) for name in exercise.__all__},
)


@pytest.mark.parametrize(
    "case",
    [
        golden.activations,
        golden.rnn_cell_forward_spread,
        golden.rnn_forward_spread,
        golden.rnn_forward,
        golden.rnn_cell_backward,
        golden.rnn_backward_without_carry,
    ],
    ids=lambda case: case.__name__,
)
def test_printed_values_of_the_course(case: Any) -> None:
    golden.check(case(CELLS))


# tanh


def test_tanh_before_its_exponentials_overflow() -> None:
    x = np.array([0, 1e-300, 1e-9, 0.3, 20, 100, 709, 709.78])
    y, right = warned(exercise.tanh_forward, np.array([x, -x]))
    assert right == []
    assert np.array_equal(y, fastrnn.tanh(np.array([x, -x])))
    same(y, Exercise.tanh_forward(np.array([x, -x])), 1e-14)


@pytest.mark.parametrize("big", [709.79, 800, 1e300, np.inf])
def test_tanh_after_its_exponentials_overflow(big: float) -> None:
    x = np.array([big, -big, 1.0])
    y, right = warned(exercise.tanh_forward, x)
    assert right == ["fastrnn.tanh"]
    assert np.isnan(y).tolist() == [True, True, False]
    same(y, Exercise.tanh_forward(x))
    assert fastrnn.tanh(x)[:2].tolist() == [1, -1]
    assert warned(exercise.tanh_forward, x)[1] == []


def test_tanh_of_scalars_nothing_and_nan() -> None:
    for x in (0.5, 800.0, np.nan, np.zeros((3, 0)), [1, 2], np.float32(0.5)):
        y, right = warned(exercise.tanh_forward, x)
        assert right == (["fastrnn.tanh"] if np.any(np.asarray(x) > 700) else [])
        same(y, Exercise.tanh_forward(np.asarray(x)), 1e-7)
        assert type(y) is type(fastrnn.tanh(x))


def test_tanh_in_float32() -> None:
    x = np.array([88, 88.7, 88.75, -90], np.float32)
    y, _ = warned(exercise.tanh_forward, x)
    assert y.dtype == np.float32
    assert np.isnan(y).tolist() == [False, False, True, True]


# tanh inside of the forward functions


def overflowing(T: int = 4, dtype: Any = np.float64) -> tuple[Any, Array, Array, Array]:
    """Example 3 overflows at the second step, in one unit, and example 5 at the third."""
    parameters, x, a0, da = rnn_problem(T=T, dtype=dtype)
    x[:, 3, 1] = 0
    x[0, 3, 1] = 1.02 * 709 / abs(parameters["Wax"][:, 0]).max()
    x[:, 5, 2] = 1e6
    return parameters, x, a0, da


def test_sequence_whose_tanh_overflows() -> None:
    parameters, x, a0, da = overflowing()
    (a, y, caches), right = warned(exercise.rnn_forward, x, a0, parameters)
    assert right == ["fastrnn.rnn_forward"]
    assert np.isnan(a[:, 3]).sum(axis=0).tolist() == [0, 1, 5, 5]
    assert np.isnan(a[:, 5]).sum(axis=0).tolist() == [0, 0, 5, 5]
    assert np.isnan(a).sum() == 21
    assert np.isnan(y).all(axis=(0, 1)).tolist() == [False, True, True, True]
    assert not np.isnan(y[:, :, 0]).any()

    *want, plain = Exercise.rnn_forward(x, a0, parameters)
    same((a, y), want)
    same([cache[:3] for cache in caches[0]], [cache[:3] for cache in plain[0]])
    got, _ = warned(exercise.rnn_backward, da, caches)
    same(got, Exercise.rnn_backward(da, plain))
    for correct in fastrnn.rnn_forward(x, a0, parameters)[:2]:
        assert not np.isnan(correct).any()


def test_cell_whose_tanh_overflows() -> None:
    parameters, x, a0, _ = overflowing()
    (a, y, cache), right = warned(exercise.rnn_cell_forward, x[:, :, 1], a0, parameters)
    assert right == ["fastrnn.rnn_cell_forward"]
    assert np.isnan(a).sum() == 1
    assert np.isnan(y).all()
    *want, plain = Exercise.rnn_cell_forward(x[:, :, 1], a0, parameters)
    same((a, y), want)
    same(cache[:3], plain[:3])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["x", "a0", "Wax", "Waa", "ba"])
def test_numbers_that_are_none(value: float, where: str) -> None:
    parameters, x, a0, _ = rnn_problem()
    arrays = {"x": x, "a0": a0, **parameters}
    arrays[where][(1, 0, 2)[: arrays[where].ndim]] = value
    (a, y, caches), _ = warned(exercise.rnn_forward, x, a0, parameters)
    *want, plain = Exercise.rnn_forward(x, a0, parameters)
    same((a, y), want)
    same([cache[:3] for cache in caches[0]], [cache[:3] for cache in plain[0]])
    (*got, _), _ = warned(exercise.rnn_cell_forward, x[:, :, 2], a0, parameters)
    *want, _ = Exercise.rnn_cell_forward(x[:, :, 2], a0, parameters)
    same(got, want)


@pytest.mark.parametrize("factor", [40, 500])
def test_states_at_one_without_an_overflow(factor: float) -> None:
    """Below 709 the quotient is 1 as it should be; a bound or the exact check tells."""
    parameters, x, a0, _ = rnn_problem()
    x *= factor / np.abs(np.tensordot(parameters["Wax"], x, 1)).max()
    (a, y, _), right = warned(exercise.rnn_forward, x, a0, parameters)
    assert right == []
    assert np.abs(a).max() == 1
    correct = fastrnn.rnn_forward(x, a0, parameters)
    assert np.array_equal(a, correct[0])
    assert np.array_equal(y, correct[1])
    same((a, y), Exercise.rnn_forward(x, a0, parameters)[:2])


def test_overflow_in_float32() -> None:
    parameters, x, a0, _ = overflowing(dtype=np.float32)
    x[0, 3, 1] /= 8
    (a, y, _), right = warned(exercise.rnn_forward, x, a0, parameters)
    assert right == ["fastrnn.rnn_forward"]
    assert a.dtype == y.dtype == np.float32
    same((a, y), Exercise.rnn_forward(x, a0, parameters)[:2], 1e-5)


def test_overflow_of_one_step() -> None:
    parameters, x, a0, _ = overflowing()
    (a, _, _), _ = warned(exercise.rnn_forward, x[:, :, 1:2], a0, parameters)
    same(a, Exercise.rnn_forward(x[:, :, 1:2], a0, parameters)[0])


# The way back


def test_backward_carries_nothing() -> None:
    x, a0, parameters, da = golden.rnn_sequence()
    *_, caches = exercise.rnn_forward(x, a0, parameters)
    gradients, right = warned(exercise.rnn_backward, da, caches)
    assert right == ["fastrnn.rnn_backward"]
    got = gradients["dx"][1][2], gradients["da0"][2][3]
    printed = "-0.15028183 -0.34554547 0.02071758 0.01483317", "-0.172688931839"
    golden.check(zip(got, printed, strict=True))
    assert all(gradient.flags.c_contiguous for gradient in gradients.values())
    assert warned(exercise.rnn_backward, da, caches)[1] == []


@pytest.mark.parametrize("shape", [(3, 4, 0), (3, 0, 2), (0, 4, 2), (0, 4, 0)])
def test_backward_of_nothing(shape: tuple[int, int, int]) -> None:
    D, B, T = shape
    parameters = {"Wax": np.ones((5, D)), "Waa": np.ones((5, 5)), "ba": np.zeros((5, 1))}
    parameters |= {"Wya": np.ones((2, 5)), "by": np.zeros((2, 1))}
    *_, caches = exercise.rnn_forward(np.ones(shape), np.zeros((5, B)), parameters)
    gradients, _ = warned(exercise.rnn_backward, np.ones((5, B, T)), caches)
    assert {key: gradient.shape for key, gradient in gradients.items()} == {
        "dx": shape, "da0": (5, B), "dWax": (5, D), "dWaa": (5, 5), "dba": (5, 1),
    }  # fmt: skip


def test_backward_of_one_step_is_right() -> None:
    parameters, x, a0, da = rnn_problem()
    *_, caches = exercise.rnn_forward(x, a0, parameters)
    gradients, right = warned(exercise.rnn_backward, da[:, :, :1], caches)
    assert right == []
    same(gradients, fastrnn.rnn_backward(da[:, :, :1], caches))
