"""Random sizes, types and memory layouts: as the reference, as the differences, to the bit.

``HYPOTHESIS_PROFILE=long`` (or ``--hypothesis-profile=long``) tries 4000 examples of each
property in the place of 40; the profiles stand in conftest.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import fastrnn
from fastrnn import reference
from tests.cells import CELLS, Cell, Sizes, convert, in_type
from tests.compare import assert_close, assert_same_bits, same_bits
from tests.gradcheck import check_gradients
from tests.problems import Problem, normal
from tests.sequences import FORMS
from tests.threads import in_every_call

Array = NDArray[Any]

cells = st.sampled_from(list(CELLS.values()))
types = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)
FORM_NAMES = ["as drawn", *FORMS]


@st.composite
def sizes(draw: st.DrawFn, least: int = 0, most: int = 70, steps: int = 1) -> Sizes:
    """n_x, n_a, m, T, n_y; long sequences only of small problems, for the time they take.

    The reference has no sequences without a step, nor a softmax of no classes.
    """
    axes = st.integers(least, most)
    n_x, n_a, m = draw(axes), draw(axes), draw(axes)
    work = (n_x + n_a + 1) * (n_a + 1) * (m + 1)
    T = draw(st.integers(steps, max(1, min(most, 1_000_000 // work))))
    return n_x, n_a, m, T, draw(st.integers(1, most))


def laid_out(array: Array, form: str) -> Any:
    return FORMS[form](array) if form in FORMS else array


@st.composite
def layouts(draw: st.DrawFn) -> Any:
    """A function that gives each array that it is called with a layout of its own."""
    forms = iter(draw(st.lists(st.sampled_from(FORM_NAMES), min_size=24, max_size=24)))
    return lambda array: laid_out(array, next(forms))


@given(cells, types, sizes(), seeds, layouts())
def test_as_reference(cell: Cell, dtype: Any, sizes: Sizes, seed: int, layout: Any) -> None:
    problem = cell.problem(*sizes, dtype=dtype, seed=seed)
    _, _, m, T, n_y = sizes
    dz = normal((n_y, m, T), dtype, seed)
    exact = cell.run(reference, in_type(problem, np.float64), dz.astype(np.float64))
    parameters, *arrays = problem
    laid = {key: layout(array) for key, array in parameters.items()}
    got = cell.run(fastrnn, Problem(laid, *map(layout, arrays)), layout(dz))
    assert_close(got, exact, dtype, cell.summands(sizes))


@given(cells, types, sizes(), seeds, layouts())
def test_cell_as_reference(cell: Cell, dtype: Any, sizes: Sizes, seed: int, layout: Any) -> None:
    sizes = (*sizes[:3], 1, sizes[4])
    problem = cell.problem(*sizes, dtype=dtype, seed=seed)
    inputs, upstream = cell.step_inputs(problem), cell.step_upstream(problem)
    given = inputs, upstream, problem.parameters
    wide, laid = (
        [{name: change(array) for name, array in arrays.items()} for arrays in given]
        for change in (lambda array: array.astype(np.float64), layout)
    )
    exact = cell.run_step(reference, *wide)
    got = cell.run_step(fastrnn, *laid)
    for name in ("cache a_prev", "cache c_prev", "cache xt"):  # as they were given
        if name in got:
            got[name] = np.asarray(got[name], dtype)
    assert_close(got, exact, dtype, cell.summands(sizes))


@given(cells, sizes(least=1, most=12), seeds)
def test_gradients(cell: Cell, sizes: Sizes, seed: int) -> None:
    problem = cell.problem(*sizes, seed=seed)
    parameters, x, a0, _ = problem
    target = reference.softmax(normal((sizes[4], *x.shape[1:]), seed=seed))

    def loss(x: Array, a0: Array, **weights: Array) -> Any:
        y = cell.function(fastrnn, "forward")(x, a0, weights)[1]
        return -np.sum(target * np.log(y)) / target[0].size

    results, caches = cell.forward(fastrnn, problem)
    head = fastrnn.output_backward((results["y"] - target) / target[0].size, caches)
    gradients = cell.function(fastrnn, "backward")(head["da"], caches) | head
    check_gradients(loss, {"x": x, "a0": a0, **parameters}, gradients, seed)


@given(cells, types, sizes(steps=0), seeds, st.data())
def test_rows_and_cuts_and_steps_to_the_bit(
    cell: Cell, dtype: Any, sizes: Sizes, seed: int, data: st.DataObject
) -> None:
    _, n_a, m, T, _ = sizes
    parameters, x, a0, da = cell.problem(*sizes, dtype=dtype, seed=seed)
    x, dh = (np.ascontiguousarray(array.T) for array in (x, da))
    layer = cell.layer(parameters)
    first = (a0.T, *(normal((m, n_a), dtype, seed) for _ in cell.states[1:]))
    state = first if len(first) > 1 else first[0]

    ws = layer.workspace(T, m)
    h, _ = layer.forward(x, state, ws)
    whole = h.copy()
    gradients = layer.backward(dh, state, ws)
    names = ("dx", "da0", "dc0")[: 1 + len(cell.states)]
    kept = {name: gradients[name].copy() for name in names}

    # Some rows alone.
    b0 = data.draw(st.integers(0, m), "first row")
    b1 = data.draw(st.integers(b0, m), "last row")
    part = [array[b0:b1] for array in first]
    part_state = tuple(part) if len(part) > 1 else part[0]
    ws = layer.workspace(T, b1 - b0)
    h, _ = layer.forward(x[:, b0:b1], part_state, ws)
    assert same_bits(h, whole[:, b0:b1])
    gradients = layer.backward(dh[:, b0:b1], part_state, ws)
    for name in names:
        expected = kept[name][:, b0:b1] if name == "dx" else kept[name][b0:b1]
        assert same_bits(gradients[name], expected)

    # In two calls, then a step, then the rest.
    assume(T > 0)
    cut = data.draw(st.integers(0, T - 1), "cut")
    h, state = layer.forward(x[:cut], state)
    assert same_bits(h, whole[:cut])
    assert same_bits(layer.step(x[cut], state), whole[cut])
    assert same_bits(layer.forward(x[cut + 1 :], state)[0], whole[cut + 1 :])


@given(cells, types, sizes(steps=0), seeds, st.integers(2, 5))
def test_threads_to_the_bit(cell: Cell, dtype: Any, sizes: Sizes, seed: int, threads: int) -> None:
    _, _, m, T, _ = sizes
    parameters, x, _, da = cell.problem(*sizes, dtype=dtype, seed=seed)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        in_every_call(patch.setattr)
        for count in (1, threads):
            layer = cell.layer(parameters, count)
            ws = layer.workspace(T, m)
            h, _ = layer.forward(x.T, None, ws)
            h = h.copy()
            results.append({"h": h} | layer.backward(da.T, None, ws))
    assert_same_bits(*results)


@st.composite
def windows(draw: st.DrawFn, memory: Array, shape: tuple[int, ...]) -> Array:
    """A view of this shape into the memory: any strides, also zero, also backwards."""
    strides = [draw(st.integers(-20, 20)) for _ in shape]
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    start = draw(st.integers(-low, len(memory) - 1 - high))
    size = memory.itemsize
    return np.lib.stride_tricks.as_strided(
        memory[start:], shape, [stride * size for stride in strides], writeable=draw(st.booleans())
    )


@given(cells, types, sizes(most=20, steps=0), seeds, st.data())
def test_arrays_that_overlap(
    cell: Cell, dtype: Any, sizes: Sizes, seed: int, data: st.DataObject
) -> None:
    """All arguments in one memory, and weights under several keys: as if each were apart."""
    memory = 0.3 * normal((20_000,), dtype, seed)

    def window(array: Array) -> Array:
        return data.draw(windows(memory, array.shape))

    parameters, *arrays = cell.problem(*sizes, dtype=dtype)
    shared = {array.shape: window(array) for array in parameters.values()}
    parameters = {key: shared[array.shape] for key, array in parameters.items()}
    problem = Problem(parameters, *map(window, arrays))
    before = memory.tobytes()
    got = cell.run(fastrnn, problem)
    assert_same_bits(got, cell.run(fastrnn, convert(problem, np.array)))
    assert_same_bits(got, cell.run(fastrnn, problem))

    layer, alone = (cell.layer(p.parameters) for p in (problem, convert(problem, np.array)))
    x, dh = problem.x.T, problem.da.T
    state = (problem.a0.T,) * len(cell.states) if len(cell.states) > 1 else problem.a0.T
    results = []
    for each, copied in ((layer, np.asarray), (alone, np.array)):
        ws = each.workspace(*x.shape[:2])
        h, _ = each.forward(copied(x), state, ws)
        results.append({"h": h} | each.backward(copied(dh), state, ws))
    assert_same_bits(*results)
    assert memory.tobytes() == before


@given(cells, types, sizes(least=1), seeds, st.data())
def test_nan_stays_in_its_row(
    cell: Cell, dtype: Any, sizes: Sizes, seed: int, data: st.DataObject
) -> None:
    n_x, _, m, T, _ = sizes
    problem = cell.problem(*sizes, dtype=dtype, seed=seed)
    clean = cell.run(fastrnn, problem)
    unit, row, t = (data.draw(st.integers(0, size - 1)) for size in (n_x, m, T))
    problem.x[unit, row, t] = np.nan
    got = cell.run(fastrnn, problem)
    others = np.arange(m) != row
    for name in ("a", "y", "c", "dx", "da0"):
        if name in got:
            assert same_bits(got[name][:, others], clean[name][:, others])
    for name in ("a", "y", "c"):
        if name in got:
            assert same_bits(got[name][:, row, :t], clean[name][:, row, :t])
            assert np.isnan(got[name][:, row, t:]).all()
    assert np.isnan(got["dx"][:, row]).all()
