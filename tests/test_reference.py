"""The specification itself: printed values, finite differences, PyTorch, types, edge cases."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrnn import reference
from tests import golden
from tests.compare import TORCH_SIZES, assert_as_torch, part, torch_arrays
from tests.gradcheck import check_gradients
from tests.problems import lstm_problem, normal, rnn_problem

Array = NDArray[Any]


class Cell(NamedTuple):
    problem: Callable[..., Any]
    forward: Callable[..., Any]  # (x, a0, parameters) -> a, y, ..., caches
    backward: Callable[..., Any]


CELLS = {
    "rnn": Cell(rnn_problem, reference.rnn_forward, reference.rnn_backward),
    "lstm": Cell(lstm_problem, reference.lstm_forward, reference.lstm_backward),
}
HEADS = "Wya", "Wy", "by"
SIZES = ((3, 5, 10, 4, 2), (4, 17, 3, 6, 5), (1, 1, 1, 1, 2), (7, 2, 1, 9, 3))

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
each_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


def all_arrays(results: Any) -> list[Array]:
    """The arrays among what a forward or a backward function returns."""
    values = results.values() if isinstance(results, dict) else results
    return [value for value in values if not isinstance(value, tuple)]


# Printed values


@pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case.__name__)
def test_printed_values_of_the_course(case: Callable[[Any], golden.Pairs]) -> None:
    golden.check(case(reference))


def test_a_wrong_digit_is_seen() -> None:
    golden.check(iter([(0.12345678, "0.12345678")]))
    with pytest.raises(AssertionError):
        golden.check(iter([(0.12345678, "0.12345679")]))


# Gradients by central differences, in the longest type there is, for the sharpest bound


@each_cell
@each_size
def test_gradients_of_the_hidden_states(cell: Cell, sizes: tuple[int, ...]) -> None:
    parameters, x, a0, da = cell.problem(*sizes, dtype=np.longdouble)

    def loss(x: Array, a0: Array, **weights: Array) -> Any:
        return np.sum(cell.forward(x, a0, parameters | weights)[0] * da)

    *_, caches = cell.forward(x, a0, parameters)
    weights = {key: value for key, value in parameters.items() if key not in HEADS}
    check_gradients(loss, {"x": x, "a0": a0, **weights}, cell.backward(da, caches))


@each_cell
@each_size
def test_gradients_through_the_softmax_head(cell: Cell, sizes: tuple[int, ...]) -> None:
    parameters, x, a0, _ = cell.problem(*sizes, dtype=np.longdouble)
    target = reference.softmax(normal((sizes[-1], *x.shape[1:]), np.longdouble))

    def loss(x: Array, a0: Array, **weights: Array) -> Any:
        return -np.sum(target * np.log(cell.forward(x, a0, weights)[1]))

    _, y, *_, caches = cell.forward(x, a0, parameters)
    head = reference.output_backward(y - target, caches)
    gradients = cell.backward(head["da"], caches) | head
    check_gradients(loss, {"x": x, "a0": a0, **parameters}, gradients)


@each_cell
@pytest.mark.parametrize("T", [0, 1, 3])
def test_a_short_gradient_covers_the_first_steps(cell: Cell, T: int) -> None:
    parameters, x, a0, da = cell.problem(T=4)
    dz = normal((2, 10, T))
    *_, caches = cell.forward(x, a0, parameters)
    gradients = cell.backward(da[:, :, :T], caches) | reference.output_backward(dz, caches)
    assert gradients["dx"].shape == (3, 10, T)
    assert gradients["da"].shape == (5, 10, T)

    silent = np.zeros_like(da)
    silent[:, :, :T] = da[:, :, :T]
    silent_dz = np.zeros((2, 10, 4))
    silent_dz[:, :, :T] = dz
    whole = cell.backward(silent, caches) | reference.output_backward(silent_dz, caches)
    assert not whole["dx"][:, :, T:].any()
    for key, gradient in gradients.items():
        expected = whole[key][:, :, :T] if key in ("dx", "da") else whole[key]
        np.testing.assert_allclose(gradient, expected, rtol=1e-14, atol=1e-15, err_msg=key)


def test_gradients_of_the_rnn_cell() -> None:
    parameters, x, a_prev, da = rnn_problem(T=1, dtype=np.longdouble)
    xt, da_next = x[:, :, 0], da[:, :, 0]

    def loss(xt: Array, a_prev: Array, **weights: Array) -> Any:
        return np.sum(reference.rnn_cell_forward(xt, a_prev, parameters | weights)[0] * da_next)

    *_, cache = reference.rnn_cell_forward(xt, a_prev, parameters)
    weights = {key: value for key, value in parameters.items() if key not in HEADS}
    gradients = reference.rnn_cell_backward(da_next, cache)
    check_gradients(loss, {"xt": xt, "a_prev": a_prev, **weights}, gradients)


def test_gradients_of_the_lstm_cell() -> None:
    parameters, x, a_prev, da = lstm_problem(T=1, dtype=np.longdouble)
    xt, da_next = x[:, :, 0], da[:, :, 0]
    c_prev, dc_next = normal((2, 5, 10), np.longdouble)

    def loss(xt: Array, a_prev: Array, c_prev: Array, **weights: Array) -> Any:
        a_next, c_next, _, _ = reference.lstm_cell_forward(xt, a_prev, c_prev, parameters | weights)
        return np.sum(a_next * da_next + c_next * dc_next)

    *_, cache = reference.lstm_cell_forward(xt, a_prev, c_prev, parameters)
    weights = {key: value for key, value in parameters.items() if key not in HEADS}
    gradients = reference.lstm_cell_backward(da_next, dc_next, cache)
    arguments = {"xt": xt, "a_prev": a_prev, "c_prev": c_prev, **weights}
    check_gradients(loss, arguments, gradients)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_a_wrong_gradient_is_seen(dtype: Any) -> None:
    x = normal((4, 3), dtype)
    check_gradients(lambda x: np.sum(x**3), {"x": x}, {"dx": 3 * x**2})
    wrong = 3 * x**2
    wrong[2, 1] += 1
    with pytest.raises(AssertionError):
        check_gradients(lambda x: np.sum(x**3), {"x": x}, {"dx": wrong})


# PyTorch, from the files of tests/data/make_torch.py


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("sizes", TORCH_SIZES)
def test_sequence_as_pytorch(name: str, sizes: str) -> None:
    cell, arrays = CELLS[name], torch_arrays(f"{name}_{sizes}")
    a, y, *c, caches = cell.forward(arrays["x"], arrays["a0"], arrays)
    outputs = {"a": a, "y": y} | ({"c_last": c[0][:, :, -1]} if c else {})
    assert_as_torch(outputs, {key: arrays[key] for key in outputs})

    assert_as_torch(cell.backward(arrays["da"], caches), part(arrays, "hidden/"))

    # Cross-entropy, averaged over the m * T predictions.
    one_hot = np.arange(len(y))[:, None, None] == arrays["labels"]
    head = reference.output_backward((y - one_hot) / arrays["labels"].size, caches)
    assert_as_torch(cell.backward(head["da"], caches) | head, part(arrays, "head/"))


def test_lstm_cell_as_pytorch() -> None:
    arrays = torch_arrays("lstm_cell_2_17_3")
    a_next, c_next, _, cache = reference.lstm_cell_forward(
        arrays["xt"], arrays["a_prev"], arrays["c_prev"], arrays
    )
    outputs = {"a_next": a_next, "c_next": c_next}
    assert_as_torch(outputs, {key: arrays[key] for key in outputs})
    gradients = reference.lstm_cell_backward(arrays["da_next"], arrays["dc_next"], cache)
    assert_as_torch(gradients, part(arrays, "hidden/"))


# Shapes and caches


def test_rnn_caches_hold_what_the_cell_returned() -> None:
    parameters, x, a0, _ = rnn_problem()
    a, y_pred, caches = reference.rnn_forward(x, a0, parameters)
    steps, x_kept = caches
    assert x_kept is x
    assert len(steps) == 4
    a_prev = a0
    for t, cache in enumerate(steps):
        a_next, yt_pred, expected = reference.rnn_cell_forward(x[:, :, t], a_prev, parameters)
        assert cache[-1] is parameters
        for kept, array in zip(cache[:-1], expected[:-1], strict=True):
            np.testing.assert_array_equal(kept, array)
        np.testing.assert_array_equal(a[:, :, t], a_next)
        np.testing.assert_array_equal(y_pred[:, :, t], yt_pred)
        a_prev = a_next


def test_lstm_caches_hold_what_the_cell_returned() -> None:
    parameters, x, a0, _ = lstm_problem()
    a, y, c, caches = reference.lstm_forward(x, a0, parameters)
    steps, x_kept = caches
    assert x_kept is x
    assert len(steps) == 4
    a_prev, c_prev = a0, np.zeros_like(a0)
    for t, cache in enumerate(steps):
        a_next, c_next, yt_pred, expected = reference.lstm_cell_forward(
            x[:, :, t], a_prev, c_prev, parameters
        )
        assert cache[-1] is parameters
        for kept, array in zip(cache[:-1], expected[:-1], strict=True):
            np.testing.assert_array_equal(kept, array)
        np.testing.assert_array_equal(a[:, :, t], a_next)
        np.testing.assert_array_equal(c[:, :, t], c_next)
        np.testing.assert_array_equal(y[:, :, t], yt_pred)
        a_prev, c_prev = a_next, c_next


@pytest.mark.parametrize(
    ("cell", "keys"),
    [
        ("rnn", "dx da0 dWax dWaa dba"),
        ("lstm", "dx da0 dWf dbf dWi dbi dWc dbc dWo dbo"),
    ],
)
def test_gradient_keys_and_shapes(cell: str, keys: str) -> None:
    parameters, x, a0, da = CELLS[cell].problem()
    *_, caches = CELLS[cell].forward(x, a0, parameters)
    gradients = CELLS[cell].backward(da, caches)
    assert set(gradients) == set(keys.split())
    for key, value in {"x": x, "a0": a0, **parameters}.items():
        assert key in HEADS or gradients["d" + key].shape == value.shape

    head = reference.output_backward(normal((2, 10, 4)), caches)
    W = "Wya" if cell == "rnn" else "Wy"
    assert set(head) == {"da", "d" + W, "dby"}
    assert head["da"].shape == da.shape
    assert head["d" + W].shape == parameters[W].shape
    assert head["dby"].shape == parameters["by"].shape


@each_cell
def test_no_steps(cell: Cell) -> None:
    parameters, x, a0, _ = cell.problem(T=0)
    a, y, *_, (steps, _) = cell.forward(x, a0, parameters)
    assert a.shape == (5, 10, 0)
    assert y.shape == (2, 10, 0)
    assert steps == []


@each_cell
def test_nothing_given_is_changed(cell: Cell) -> None:
    problem = cell.problem()
    parameters, x, a0, da = problem
    for array in (*parameters.values(), x, a0, da):
        array.flags.writeable = False
    *_, caches = cell.forward(x, a0, parameters)
    cell.backward(da, caches)


# Types


@each_cell
@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.longdouble, np.longdouble),
        (np.float16, np.float64),
        (np.int64, np.float64),
        (np.int8, np.float64),
        (np.bool_, np.float64),
    ],
    ids=lambda dtype: np.dtype(dtype).name,
)
def test_type_of_the_results(cell: Cell, given: Any, computed: Any) -> None:
    parameters, x, a0, da = cell.problem(dtype=given)
    results = cell.forward(x, a0, parameters)
    dz = normal((2, 10, 4), given)
    backward = cell.backward(da, results[-1]) | reference.output_backward(dz, results[-1])
    for array in all_arrays(results) + all_arrays(backward):
        assert array.dtype == computed

    # The same numbers, given in the type of the computation, have the same results.
    same = {key: value.astype(computed) for key, value in parameters.items()}
    twin = cell.forward(x.astype(computed), a0.astype(computed), same)
    for array, expected in zip(all_arrays(results), all_arrays(twin), strict=True):
        np.testing.assert_array_equal(array, expected)


@each_cell
@pytest.mark.parametrize("wide", ["x", "a0", "by"])
def test_one_float64_array_makes_all_results_float64(cell: Cell, wide: str) -> None:
    parameters, x, a0, _ = cell.problem(dtype=np.float32)
    arrays = {"x": x, "a0": a0, **parameters}
    arrays[wide] = arrays[wide].astype(np.float64)
    x, a0 = arrays.pop("x"), arrays.pop("a0")
    for array in all_arrays(cell.forward(x, a0, arrays)):
        assert array.dtype == np.float64


@each_cell
def test_float32_is_the_rounded_float64(cell: Cell) -> None:
    sizes = (4, 17, 3, 6, 5)
    results = []
    for dtype in (np.float32, np.float64):
        parameters, x, a0, da = cell.problem(*sizes, dtype=dtype)
        *forward, caches = cell.forward(x, a0, parameters)
        results.append(forward + all_arrays(cell.backward(da, caches)))
    for single, double in zip(*results, strict=True):
        # 25 products a sum, 6 steps, and the rounding of the problem itself: well below 100 eps.
        bound = 100 * np.finfo(np.float32).eps * np.abs(double).max()
        assert np.abs(single - double).max() <= bound


# Activations


def exact_sigmoid(x: float) -> Decimal:
    with localcontext() as context:
        context.prec = 40
        return 1 / (1 + (-Decimal(x)).exp())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_relatively_accurate(dtype: Any) -> None:
    limits = np.finfo(dtype)
    x = np.concatenate((np.linspace(-745, 745, 299), np.linspace(-40, 40, 161), [1e-30, -0.0]))
    x = x.astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = reference.sigmoid(x)
    assert got.dtype == dtype
    for argument, value in zip(x, got, strict=True):
        exact = exact_sigmoid(float(argument))
        # exp, the sum, the quotient: 1 ulp or less each; a subnormal result has no better than one.
        bound = Decimal(4 * float(limits.eps)) * exact + Decimal(float(limits.smallest_subnormal))
        assert abs(Decimal(float(value)) - exact) <= bound


def test_sigmoid_edge_cases() -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = reference.sigmoid(np.array([-np.inf, -1e308, -745.0, 0.0, 1e308, np.inf, np.nan]))
    np.testing.assert_array_equal(got, [0, 0, 5e-324, 0.5, 1, 1, np.nan])


def test_tanh_edge_cases() -> None:
    got = reference.tanh(np.array([-np.inf, -711.0, -0.0, 5e-324, 711.0, np.inf, np.nan]))
    np.testing.assert_array_equal(got, [-1, -1, 0, 5e-324, 1, 1, np.nan])
    assert np.signbit(got[2])


@pytest.mark.parametrize("function", [reference.sigmoid, reference.tanh, reference.softmax])
def test_activations_keep_shape_and_choose_type(function: Callable[[Array], Array]) -> None:
    for shape in ((3,), (3, 4), (3, 4, 2)):
        for given, computed in (
            (np.float32, np.float32),
            (np.longdouble, np.longdouble),
            (np.float16, np.float64),
            (np.int8, np.float64),
        ):
            got = function(normal(shape).astype(given))
            assert got.shape == shape
            assert got.dtype == computed


def test_softmax_of_columns_far_apart() -> None:
    x = np.array([[0.0, 1e4, -1e4, 1e300], [1.0, 1e4 + 1, -1e4 + 1, 1e300]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = reference.softmax(x)
    for column in (0, 1, 2):
        np.testing.assert_array_equal(y[:, column], reference.softmax(x[:, 0]))
    np.testing.assert_array_equal(y[:, 3], [0.5, 0.5])


def test_softmax_is_positive_and_sums_to_one() -> None:
    y = reference.softmax(10 * normal((7, 50)))
    assert np.all(y > 0)
    # Seven quotients and their sum, each rounded by half an eps at most.
    np.testing.assert_allclose(y.sum(axis=0), 1, rtol=0, atol=8 * np.finfo(float).eps)


def test_softmax_keeps_a_tiny_probability() -> None:
    np.testing.assert_array_equal(reference.softmax(np.array([[0.0], [-745.0]])), [[1], [5e-324]])


def test_softmax_edge_cases_stay_in_their_column() -> None:
    nan, inf = np.nan, np.inf
    x = np.array([[nan, inf, -inf, -inf, 2.0], [1.0, 1.0, 1.0, -inf, 2.0]])
    with np.errstate(invalid="ignore"):
        y = reference.softmax(x)
    np.testing.assert_array_equal(y, [[nan, nan, 0, nan, 0.5], [nan, nan, 1, nan, 0.5]])
