"""NaN, infinities, the largest and smallest numbers in every input, as the reference has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn import reference
from tests.cells import CELLS, Cell, Sizes
from tests.compare import rounding, same_bits
from tests.problems import normal

Array = NDArray[Any]

SIZES: Sizes = (3, 17, 5, 4, 6)  # n_x, n_a, m, T, n_y
VALUES = {
    "nan": lambda info: np.nan,
    "inf": lambda info: np.inf,
    "-inf": lambda info: -np.inf,
    "largest": lambda info: info.max,
    "-largest": lambda info: -info.max,
    "smallest normal": lambda info: info.tiny,
    "subnormal": lambda info: info.smallest_subnormal * 5,
    "-0": lambda info: -0.0,
}

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
each_value = pytest.mark.parametrize("value", VALUES)


def assert_as_special(got: dict[str, Array], exact: dict[str, Array], value: str) -> None:
    """The same NaN and infinities; the rest within rounding, of each element itself or of one.

    Where terms of the largest numbers cancel, it is that of the array's largest element.
    """
    assert set(got) == set(exact)
    for name, array in got.items():
        expected = exact[name]
        finite = np.isfinite(expected)
        assert np.array_equal(array[~finite], expected[~finite], equal_nan=True), name
        array, expected = array[finite], expected[finite]
        scale = np.maximum(1, np.abs(expected))
        if value.endswith("largest"):
            scale = np.max(scale, initial=1)
        errors = np.abs(array / scale - expected / scale)
        bound = rounding(CELLS["lstm"].summands(SIZES), array.dtype)
        assert np.all(errors <= bound), (name, errors.max())


def put(array: Array, special: Any, everywhere: bool, seed: int) -> None:
    """In one place, or in all of a slice, and then so that their sum does not overflow.

    Whether a sum of the largest numbers does depends on its order, and NumPy's on the CPU.
    """
    if everywhere:
        array[..., 0] = special / 1024 if 1 < abs(special) < np.inf else special
    else:
        array.flat[np.random.default_rng(seed).integers(array.size)] = special


@each_cell
@each_type
@each_value
@pytest.mark.parametrize("everywhere", [False, True], ids=["one", "many"])
def test_in_each_input_of_a_sequence(cell: Cell, dtype: Any, value: str, everywhere: bool) -> None:
    special = VALUES[value](np.finfo(dtype))
    names = ("x", "a0", "da", *cell.problem().parameters)
    for n, name in enumerate(names):
        problem = cell.problem(*SIZES, dtype=dtype, seed=n)
        arrays = {**problem.parameters, "x": problem.x, "a0": problem.a0, "da": problem.da}
        put(arrays[name], special, everywhere, n)
        with np.errstate(all="ignore"):
            exact = cell.run(reference, problem)
        assert_as_special(cell.run(fastrnn, problem), exact, value)


@each_cell
@each_type
@each_value
@pytest.mark.parametrize("everywhere", [False, True], ids=["one", "many"])
def test_in_each_input_of_a_step(cell: Cell, dtype: Any, value: str, everywhere: bool) -> None:
    special = VALUES[value](np.finfo(dtype))
    problem = cell.problem(*SIZES, dtype=dtype)
    for name in (*cell.step_inputs(problem), *cell.step_upstream(problem), *problem.parameters):
        problem = cell.problem(*SIZES, dtype=dtype)
        inputs, upstream = cell.step_inputs(problem), cell.step_upstream(problem)
        arrays = {**problem.parameters, **inputs, **upstream}
        put(arrays[name], special, everywhere, len(name))
        with np.errstate(all="ignore"):
            exact = cell.run_step(reference, inputs, upstream, problem.parameters)
        got = cell.run_step(fastrnn, inputs, upstream, problem.parameters)
        assert_as_special(got, exact, value)


@each_type
@each_value
def test_in_the_first_cell_of_a_layer(dtype: Any, value: str) -> None:
    """As a loop over the cell function has it, to the bit."""
    _, n_a, m, T, _ = SIZES
    problem = CELLS["lstm"].problem(*SIZES, dtype=dtype)
    layer = fastrnn.LSTM(problem.parameters)
    c0 = normal((m, n_a), dtype)
    put(c0, VALUES[value](np.finfo(dtype)), False, 0)
    h, (h_last, c_last) = layer.forward(problem.x.T, (problem.a0.T, c0))
    a, c = problem.a0, c0.T
    for t in range(T):
        a, c, _, _ = fastrnn.lstm_cell_forward(problem.x[:, :, t], a, c, problem.parameters)
        assert same_bits(h[t], a.T)
    assert same_bits(h_last, np.ascontiguousarray(a.T))
    assert same_bits(c_last, np.ascontiguousarray(c.T))


@each_cell
@each_type
@pytest.mark.parametrize("value", ["inf", "-inf", "largest", "-largest"])
def test_a_huge_input_gives_finite_states(cell: Cell, dtype: Any, value: str) -> None:
    problem = cell.problem(*SIZES, dtype=dtype)
    problem.x[1] = VALUES[value](np.finfo(dtype))
    results, _ = cell.forward(fastrnn, problem)
    for name, array in results.items():
        assert np.isfinite(array).all(), name
    assert np.abs(results["a"]).max() <= 1


@each_cell
@each_type
def test_subnormal_states_keep_their_digits(cell: Cell, dtype: Any) -> None:
    """Nothing is flushed to zero: what a cell without input and bias forgets, it forgets slowly."""
    info = np.finfo(dtype)
    problem = cell.problem(*SIZES, dtype=dtype)
    for array in (problem.x, *(problem.parameters[key] for key in cell.weights if "b" in key)):
        array[...] = 0
    problem.a0[...] *= info.tiny
    with np.errstate(all="ignore"):
        exact = cell.forward(reference, problem)[0]["a"]
    got = cell.forward(fastrnn, problem)[0]["a"]
    unit = info.smallest_subnormal
    assert 0 < np.abs(exact).max() < 100 * info.tiny
    assert np.abs(got - exact).max() <= 100 * unit + 100 * info.eps * np.abs(exact).max()
