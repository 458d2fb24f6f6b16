"""The warning, and the softmax that is shifted by the maximum of the whole matrix."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn import notebooks
from fastrnn.notebooks import (
    NotebookErratumWarning,
    _shared,
    compact,
    exercise,
    from_scratch,
    full_rnn,
    step_by_step,
)
from tests.notebooks import oracle
from tests.notebooks.errata import columns, warned
from tests.notebooks.oracle import same
from tests.problems import lstm_problem, rnn_problem

Array = NDArray[Any]


# The warning


def test_a_mistake_is_told_once_in_a_process() -> None:
    assert issubclass(NotebookErratumWarning, UserWarning)
    assert warned(_shared.tell, "mistake", "softmax") == (None, ["fastrnn.softmax"])
    assert warned(_shared.tell, "mistake", "softmax") == (None, [])
    assert warned(_shared.tell, "other mistake", "softmax") == (None, ["fastrnn.softmax"])


def test_a_warning_turned_into_an_error_is_raised_every_time() -> None:
    for _ in range(2):
        with pytest.raises(NotebookErratumWarning, match=r"mistake; fastrnn\.softmax is right"):
            _shared.tell("mistake", "softmax")


def test_it_is_told_where_fastrnn_was_called() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        full_rnn.softmax(columns(0, 800))
    assert [warning.filename for warning in caught] == [__file__]


def test_public_names() -> None:
    for name in notebooks.__all__:
        assert hasattr(notebooks, name)


# The softmax itself

softmaxes = pytest.mark.parametrize(
    "softmax",
    [full_rnn.softmax, step_by_step.softmax_func, exercise.softmax_forward],
    ids=["softmax", "softmax_func", "softmax_forward"],
)


@softmaxes
@pytest.mark.parametrize("distance", [0, 1, 100, 700, 705])
def test_softmax_of_columns_within_reach(softmax: Any, distance: float) -> None:
    x = columns(distance, 0, distance / 2)
    y, right = warned(softmax, x)
    assert right == []
    assert np.array_equal(y, fastrnn.softmax(x))
    same(y, oracle.softmax(x))


@softmaxes
@pytest.mark.parametrize("distance", [710, 720, 730, 740, 744])
def test_softmax_of_columns_that_lose_digits(softmax: Any, distance: float) -> None:
    x = columns(distance, 0, 0.3)
    y, right = warned(softmax, x)
    assert right == ["fastrnn.softmax"]
    same(y, oracle.softmax(x))


@softmaxes
@pytest.mark.parametrize("distance", [746, 800, 1e4, 1e308])
def test_softmax_of_columns_out_of_reach(softmax: Any, distance: float) -> None:
    x = columns(0, distance, -5)
    y, right = warned(softmax, x)
    assert right == ["fastrnn.softmax"]
    assert np.isnan(y).all(axis=0).tolist() == [True, False, True]
    same(y, oracle.softmax(x))
    assert not np.isnan(fastrnn.softmax(x)).any()


@softmaxes
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_softmax_beside_a_number_that_is_none(softmax: Any, value: float) -> None:
    """One NaN or infinity makes every column NaN; the right softmax loses that column alone."""
    x = columns(1, 2, 3)
    x[1, 1] = value
    y, right = warned(softmax, x)
    assert right == ["fastrnn.softmax"]
    assert np.isnan(y).all()
    assert np.isnan(fastrnn.softmax(x)).all(axis=0).tolist() == [False, True, False]


@softmaxes
def test_softmax_within_one_column(softmax: Any) -> None:
    """Classes far apart are no mistake, nor is a result that is NaN either way."""
    for x in (
        np.array([[0.0], [-1000.0]]),
        np.array([0.0, 5000.0]),
        np.array([[-np.inf], [2.0]]),
        np.array([[np.nan], [2.0]]),
        np.full((2, 3), -np.inf),
        np.zeros((3, 0)),
    ):
        y, right = warned(softmax, x)
        assert right == []
        same(y, fastrnn.softmax(x))


def test_softmax_in_float32() -> None:
    for distance, told in ((80, []), (95, ["fastrnn.softmax"]), (110, ["fastrnn.softmax"])):
        _shared.told.clear()
        x = columns(distance, 0).astype(np.float32)
        y, right = warned(full_rnn.softmax, x)
        assert right == told
        assert y.dtype == np.float32
        same(y, oracle.softmax(x), 1e-6)


# The softmax inside of the forward functions


def underscored(parameters: dict[str, Array]) -> dict[str, Array]:
    return {theirs: parameters[ours] for theirs, ours in step_by_step.KEYS.items()}


class Head(NamedTuple):
    """How to get the predictions of a forward function, of a module or an oracle."""

    module: Any
    oracle: Any
    right: str
    predict: Callable[[Any, Array, Array, Any], Any]
    key: str = "Wya"
    always_told: int = 0

    def problem(self, *sizes: int) -> tuple[dict[str, Array], Array, Array]:
        make: Any = rnn_problem if self.key == "Wya" else lstm_problem
        parameters, x, a0, _ = make(*sizes)
        return parameters, x, a0

    def check(self, x: Array, a0: Array, parameters: Any, told: bool) -> Array:
        """The module's predictions, which are the notebook's, and are told of if they are wrong."""
        y, right = warned(self.predict, self.module, x, a0, parameters)
        assert right == [f"fastrnn.{self.right}"] * (self.always_told + told)
        same(y, self.predict(self.oracle, x, a0, parameters), 1e-10)
        predictions: Array = y
        return predictions

    def rightly(self, x: Array, a0: Array, parameters: Any) -> Array:
        y: Array = self.predict(fastrnn, x, a0, parameters)
        return y


def rnn_sequence(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    return cells.rnn_forward(x, a0, parameters)[1]


def rnn_cell(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    y, *others = cells.rnn_cell_forward(x[:, :, 0], a0, parameters)
    return y if cells in (compact, oracle.Compact) else others[0]


def step_by_step_sequence(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    if cells is fastrnn:
        return rnn_sequence(cells, x, a0, parameters)
    return cells.forward_rnn(x, a0, underscored(parameters))[1]


def step_by_step_cell(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    if cells is fastrnn:
        return rnn_cell(cells, x, a0, parameters)
    return cells.cell_rnn(a0, x[:, :, 0], underscored(parameters))[1]


def lstm_sequence(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    return cells.lstm_forward(x, a0, parameters)[1]


def lstm_cell(cells: Any, x: Array, a0: Array, parameters: Any) -> Any:
    return cells.lstm_cell_forward(x[:, :, 0], a0, 0 * a0, parameters)[2]


HEADS = (
    Head(full_rnn, oracle.FullRNN, "rnn_forward", rnn_sequence),
    Head(full_rnn, oracle.FullRNN, "rnn_cell_forward", rnn_cell),
    Head(compact, oracle.Compact, "rnn_forward", rnn_sequence),
    Head(compact, oracle.Compact, "rnn_cell_forward", rnn_cell),
    Head(exercise, oracle.Exercise, "rnn_forward", rnn_sequence),
    Head(exercise, oracle.Exercise, "rnn_cell_forward", rnn_cell),
    Head(step_by_step, oracle.StepByStep, "rnn_forward", step_by_step_sequence),
    Head(step_by_step, oracle.StepByStep, "rnn_cell_forward", step_by_step_cell),
    Head(from_scratch, oracle.FromScratch, "lstm_forward", lstm_sequence, "Wy", 1),
    Head(from_scratch, oracle.FromScratch, "lstm_cell_forward", lstm_cell, "Wy"),
)
each_head = pytest.mark.parametrize(
    "head", HEADS, ids=lambda head: f"{head.module.__name__.split('.')[-1]}.{head.right}"
)


@each_head
@pytest.mark.parametrize("factor", [3000, 1e5, 3e153, 1e200])
def test_predictions_out_of_reach(head: Head, factor: float) -> None:
    parameters, x, a0 = head.problem(3, 5, 10, 4, 2)
    parameters[head.key] *= factor
    y = head.check(x, a0, parameters, told=True)
    assert np.isnan(y).any()
    assert not np.isnan(head.rightly(x, a0, parameters)).any()


def test_predictions_just_out_of_reach() -> None:
    """Logits as far apart as these weights and states allow, and farther than exp reaches."""
    a = np.ones((4, 2))
    a[:, 1] = -1
    W = np.full((1, 4), 1.5 * _shared.REACH[a.dtype] / 8)
    y = np.ones((1, 2))
    _, told = warned(_shared.spoil, y, a, W, np.zeros((1, 1)), "rnn_forward")
    assert told == ["fastrnn.rnn_forward"]
    assert y[0, 0] == 1
    assert np.isnan(y[0, 1])


@each_head
def test_predictions_of_one_example_are_right(head: Head) -> None:
    """A matrix of one column has only its own maximum."""
    parameters, x, a0 = head.problem(3, 5, 1, 4, 2)
    parameters[head.key] *= 1e4
    y = head.check(x, a0, parameters, told=False)
    assert np.array_equal(y, head.rightly(x, a0, parameters))


@each_head
@pytest.mark.parametrize("sizes", [(3, 5, 10, 4, 2), (3, 20, 6, 4, 50)], ids=str)
def test_predictions_within_reach(head: Head, sizes: tuple[int, ...]) -> None:
    parameters, x, a0 = head.problem(*sizes)
    parameters[head.key] *= 12
    parameters["by"] += 1e4
    y = head.check(x, a0, parameters, told=False)
    assert np.array_equal(y, head.rightly(x, a0, parameters))


@each_head
def test_predictions_beside_a_number_that_is_none(head: Head) -> None:
    parameters, x, a0 = head.problem(3, 5, 10, 4, 2)
    a0[2, 3] = np.nan
    y = head.check(x, a0, parameters, told=True)
    assert np.isnan(y).all()
    right = np.isnan(head.rightly(x, a0, parameters))
    assert right[:, 3].all()
    assert right.sum() == right[:, 3].size


@each_head
@pytest.mark.parametrize("key", ["W", "b"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_of_the_head_that_are_no_numbers(head: Head, key: str, value: float) -> None:
    parameters, x, a0 = head.problem(3, 5, 10, 4, 2)
    parameters[head.key if key == "W" else "by"][1, 0] = value
    y, _ = warned(head.predict, head.module, x, a0, parameters)
    same(y, head.predict(head.oracle, x, a0, parameters))


@each_head
def test_no_example_and_no_step(head: Head) -> None:
    parameters, x, a0 = head.problem(3, 5, 4, 2, 2)
    y, _ = warned(head.predict, head.module, x[:, :0], a0[:, :0], parameters)
    assert y.size == 0


@pytest.mark.parametrize("m", [0, 1])
def test_spoil_of_no_examples(m: int) -> None:
    """However large the weights."""
    y, a, W = np.zeros((2, m, 4 * (1 - m))), np.zeros((5, m, 4 * (1 - m))), np.full((2, 5), 1e3)
    _, told = warned(_shared.spoil, y, a, W, np.zeros((2, 1)), "rnn_forward")
    assert not told
