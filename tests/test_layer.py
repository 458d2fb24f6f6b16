"""The layer objects: values, workspaces, state, threads, and what holds to the bit."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
import tracemalloc
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn import reference
from fastrnn.checks import ready
from fastrnn.kernels.linear import STREAM
from fastrnn.packing import CACHE_LINE
from tests.cells import CELLS, Cell, Sizes, in_type
from tests.compare import assert_close, assert_same_bits, copied, same_bits
from tests.problems import Problem, normal
from tests.sequences import FORMS, unaligned
from tests.threads import in_chunks, in_every_call

Array = NDArray[Any]

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])

# (n_x, n_a, m, T, n_y), as for the functions; n_y plays no part.
SIZES: tuple[Sizes, ...] = (
    (1, 1, 1, 1, 1),
    (5, 17, 7, 4, 1),
    (3, 65, 2, 3, 1),
    (9, 6, 131, 5, 1),
    (33, 32, 12, 2, 1),
)


def split(state: Any) -> tuple[Array, ...]:
    """A state's arrays."""
    return state if isinstance(state, tuple) else (state,)


def join(arrays: Any) -> Any:
    """A state of these arrays."""
    arrays = tuple(arrays)
    return arrays if len(arrays) > 1 else arrays[0]


def draw_state(cell: Cell, m: int, n_a: int, dtype: Any, seed: int) -> Any:
    return join(normal((m, n_a), dtype, seed + i) for i in range(len(cell.states)))


class Run:
    """A layer's forward and backward pass over a random problem, from a random state."""

    def __init__(self, cell: Cell, sizes: Sizes, dtype: Any, threads: int = 1) -> None:
        _, n_a, m, T, _ = sizes
        self.cell = cell
        self.sizes = sizes
        self.problem: Problem = cell.problem(*sizes, dtype=dtype)
        self.layer = cell.layer(self.problem.parameters, threads)
        self.x = np.ascontiguousarray(self.problem.x.T)
        self.state = draw_state(cell, m, n_a, dtype, 10)
        self.dh = normal((T, m, n_a), dtype, 20)
        self.dstate = draw_state(cell, m, n_a, dtype, 30)

    def __call__(self, x: Array | None = None, rows: slice = slice(None)) -> dict[str, Array]:
        """All results, of some rows of the batch."""
        x = (self.x if x is None else x)[:, rows]
        state, dstate = (join(a[rows] for a in split(s)) for s in (self.state, self.dstate))
        ws = self.layer.workspace(*x.shape[:2])
        h, last = self.layer.forward(x, state, ws)
        results = {"h": h} | dict(zip(("last h", "last c"), split(last), strict=False))
        results = copied(results)
        return results | self.layer.backward(self.dh[:, rows], dstate, ws)


def exact_results(run: Run) -> dict[str, Array]:
    """What a `Run` should give, by a loop over the reference's cells."""
    cell, wide = run.cell, np.longdouble
    parameters, x, _, _ = in_type(run.problem, wide)
    states = [array.T.astype(wide) for array in split(run.state)]
    steps, h = [], []
    for t in range(x.shape[2]):
        *states, _, cache = cell.function(reference, "cell_forward")(
            x[:, :, t], *states, parameters
        )
        steps.append(cache)
        h.append(states[0].T)
    results = {"h": np.stack(h), "last h": states[0].T}
    if len(states) > 1:
        results["last c"] = states[1].T

    carried = [array.T.astype(wide) for array in split(run.dstate)]
    dx, totals = [], {"d" + key: np.zeros(parameters[key].shape, wide) for key in cell.weights}
    for t in reversed(range(x.shape[2])):
        carried[0] = carried[0] + run.dh[t].T
        step = cell.function(reference, "cell_backward")(*carried, steps[t])
        carried = [step[name] for name in ("da_prev", "dc_prev")[: len(carried)]]
        dx.append(step["dxt"].T)
        for key, total in totals.items():
            total += step[key]
    results |= {"dx": np.stack(dx[::-1]), "da0": carried[0].T, **totals}
    if len(carried) > 1:
        results["dc0"] = carried[1].T
    return results


# Values


@each_cell
@each_type
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_as_reference(cell: Cell, sizes: Sizes, dtype: Any) -> None:
    run = Run(cell, sizes, dtype)
    assert_close(run(), exact_results(run), dtype, cell.summands(sizes))


@each_cell
@each_type
@pytest.mark.parametrize("large", [False, True], ids=["", "large"])
def test_equals_the_notebook_function_to_the_bit(cell: Cell, large: bool, dtype: Any) -> None:
    """Without a last cell's gradient and from a cell of zeros, which those always have.

    The weights of a large layer pass the caches by when they are packed.
    """
    problem = cell.problem(100_000 if large else 5, 17, 7, 4, dtype=dtype)
    expected, caches = cell.forward(fastrnn, problem)
    expected |= cell.function(fastrnn, "backward")(problem.da, caches)
    layer = cell.layer(problem.parameters, threads=2)
    packed = layer._await_packed()
    assert large == (packed.forward.nbytes + packed.backward.nbytes > STREAM)
    ws = layer.workspace(4, 7)
    state = join([problem.a0.T, None][: len(cell.states)])
    h, _ = layer.forward(problem.x.T, state, workspace=ws)
    got = {"a": h.T.copy()} | layer.backward(problem.da.T, workspace=ws)
    got |= {"dx": got["dx"].T, "da0": got["da0"].T}
    got.pop("dc0", None)
    assert_same_bits(got, {name: expected[name] for name in got})


@each_cell
@pytest.mark.parametrize("sizes", [(0, 5, 3, 4, 1), (3, 0, 3, 4, 1), (3, 5, 0, 4, 1)], ids=str)
def test_empty_axes(cell: Cell, sizes: Sizes) -> None:
    run = Run(cell, sizes, np.float64)
    assert_close(run(), exact_results(run), np.float64, cell.summands(sizes))
    layer, state = run.layer, run.layer.zero_state(sizes[2])
    assert layer.step(run.x[0], state) is split(state)[0]


@each_cell
@each_type
def test_no_steps(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (3, 5, 2, 0, 1), dtype)
    results = run()
    assert results["h"].shape == (0, 2, 5)
    for name, kept in zip(("last h", "last c"), split(run.state), strict=False):
        assert same_bits(results[name], kept)
    for name, kept in zip(("da0", "dc0"), split(run.dstate), strict=False):
        assert same_bits(results[name], kept)
    assert all(not results["d" + key].any() for key in cell.weights)


@each_cell
@each_type
def test_zeros_are_the_default_state(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), dtype)
    layer, zero = run.layer, run.layer.zero_state(5)
    ws = layer.workspace(4, 5)
    results = []
    nothing = join([None] * len(cell.states))
    for state, dstate in ((None, None), (zero, zero), (nothing, nothing)):
        h, last = layer.forward(run.x, state, ws)
        kept = dict(enumerate(array.copy() for array in (h, *split(last))))
        gradients = layer.backward(run.dh, dstate, ws)
        results.append(kept | copied(gradients))
        run()  # leaves other values in the workspace
        layer.forward(run.x, run.state, ws)
        layer.backward(run.dh, run.dstate, ws)
    for other in results[1:]:
        assert_same_bits(results[0], other)
    for array in split(zero):
        assert array.shape == (5, 17)
        assert array.dtype == dtype
        assert not array.any()


def test_a_state_in_part() -> None:
    """None in a tuple is zero, whatever the others are."""
    run = Run(CELLS["lstm"], (3, 5, 2, 4, 1), np.float64)
    h0, c0 = run.state
    zero = np.zeros_like(h0)
    for part, whole in (((h0, None), (h0, zero)), ((None, c0), (zero, c0))):
        h, _ = run.layer.forward(run.x, part)
        assert same_bits(h, run.layer.forward(run.x, whole)[0])


@each_cell
def test_results_without_a_workspace(cell: Cell) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), np.float32)
    h, last = run.layer.forward(run.x, run.state)
    kept = [array.copy() for array in (h, *split(last))]
    again, again_last = run.layer.forward(run.x[::-1], run.state)
    arrays = [h, *split(last)]
    assert all(same_bits(a, b) for a, b in zip(arrays, kept, strict=True))
    for array in arrays:
        for other in (again, *split(again_last)):
            assert not np.shares_memory(array, other)
    assert not np.shares_memory(h, split(last)[0])


# Types and forms


@each_cell
@each_type
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_arrays(cell: Cell, form: str, dtype: Any) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), dtype)
    expected = run()
    change = FORMS[form]
    layer = cell.layer({key: change(array) for key, array in run.problem.parameters.items()})
    assert layer.dtype == dtype
    run.layer = layer
    run.state, run.dstate = (join(map(change, split(s))) for s in (run.state, run.dstate))
    ws = layer.workspace(4, 5)
    h, last = layer.forward(change(run.x), run.state, ws)
    got = {"h": h, **dict(zip(("last h", "last c"), split(last), strict=False))}
    got = copied(got)
    assert_same_bits(got | layer.backward(change(run.dh), run.dstate, ws), expected)
    state = layer.zero_state(5)
    first, other = layer.step(change(run.x[0]), state), layer.zero_state(5)
    assert same_bits(first, layer.step(run.x[0], other))


@each_cell
@pytest.mark.parametrize("given", ["int64", "float16", "float32", "bool"])
def test_every_call_computes_in_the_layer_type(cell: Cell, given: str) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), np.float64)
    run.x, run.dh = (np.rint(array).astype(given) for array in (run.x, run.dh))
    got = run()
    assert all(array.dtype == np.float64 for array in got.values())
    run.x, run.dh = run.x.astype(float), run.dh.astype(float)
    assert_same_bits(got, run())


@each_cell
def test_arrays_from_another_process(cell: Cell) -> None:
    """Unpickled, an array's dtype equals NumPy's own but is another object."""
    run = Run(cell, (3, 17, 5, 4, 1), np.float64)
    parameters, x, state, dh = pickle.loads(
        pickle.dumps((run.problem.parameters, run.x, run.state, run.dh))
    )
    layer = cell.layer(parameters)
    ws = layer.workspace(4, 5)
    h, _ = layer.forward(x, state, ws)
    assert same_bits(h, run.layer.forward(run.x, run.state)[0])
    layer.backward(dh, None, ws)
    assert same_bits(layer.step(x[0], state), run.layer.step(run.x[0], run.state))


@each_cell
def test_attributes(cell: Cell) -> None:
    parameters = cell.problem(3, 17, dtype=np.float32).parameters
    layer = cell.layer(parameters, 2, training=False)
    assert (layer.D, layer.H, layer.threads, layer.training) == (3, 17, 2, False)
    for name in ("D", "H", "dtype", "threads", "training"):
        with pytest.raises(AttributeError):
            setattr(layer, name, getattr(layer, name))
    assert layer.dtype == np.float32
    mixed = parameters | {cell.weights[-1]: parameters[cell.weights[-1]].astype(np.float64)}
    assert cell.layer(mixed).dtype == np.float64
    head = cell.layer({key: parameters[key] for key in cell.weights})
    assert head.training
    assert head.threads == 1
    ws = head.workspace(4, 5)
    assert (ws.T, ws.B, ws.training) == (4, 5, True)
    few = head.workspace(4, 5, training=False)
    assert not few.training
    assert 4 * 5 * 17 * 4 <= few.nbytes < ws.nbytes


@each_cell
def test_nothing_given_is_changed(cell: Cell) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), np.float64)
    given = [*run.problem.parameters.values(), run.x, run.dh, *split(run.state), *split(run.dstate)]
    before = [array.tobytes() for array in given]
    run()
    x_t = run.x[0].copy()
    run.layer.step(x_t, run.layer.zero_state(5))
    assert [array.tobytes() for array in given] == before
    assert same_bits(x_t, run.x[0])


# To the bit


@each_cell
@each_type
def test_a_second_run_equals_the_first(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 33, 7, 4, 1), dtype)
    first = copied(run())
    assert_same_bits(run(), first)
    assert_same_bits(Run(cell, (5, 33, 7, 4, 1), dtype)(), first)


@each_cell
@each_type
def test_a_row_alone_equals_the_row_in_its_batch(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 13, 3, 1), dtype)
    names = ("h", "last h", "last c", "dx", "da0", "dc0")
    whole = {name: array.copy() for name, array in run().items() if name in names}
    for B in range(1, 14):
        for first in {0, 13 - B}:
            rows = slice(first, first + B)
            got = run(rows=rows)
            for name, array in whole.items():
                expected = array[rows] if array.ndim == 2 else array[:, rows]
                assert same_bits(got[name], expected), (B, name)


@each_cell
@each_type
def test_a_sequence_may_be_cut_anywhere(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 3, 7, 1), dtype)
    layer = run.layer
    h, last = layer.forward(run.x, run.state)
    for cut in range(8):
        for ws in (None, layer.workspace(7 - cut, 3), layer.workspace(7 - cut, 3, training=False)):
            first, state = layer.forward(run.x[:cut], run.state)
            second, state = layer.forward(run.x[cut:], state, ws)
            assert same_bits(np.concatenate((first, second)), h)
            assert all(same_bits(a, b) for a, b in zip(split(state), split(last), strict=True))
    # One workspace for both halves: a state that is a view into it may be given back.
    for training in (True, False):
        ws = layer.workspace(1, 3, training)
        state = run.state
        for t in range(7):
            h_t, state = layer.forward(run.x[t : t + 1], state, ws)
            assert same_bits(h_t[0], h[t])


@each_cell
@each_type
def test_a_backward_pass_may_be_cut_anywhere(cell: Cell, dtype: Any) -> None:
    """Within rounding: the gradient handed on is rounded before the next step's is added."""
    sizes = 5, 17, 3, 7, 1
    run = Run(cell, sizes, dtype)
    layer, names = run.layer, ("da0", "dc0")[: len(cell.states)]
    whole = run()
    for cut in range(8):
        first, second = layer.workspace(cut, 3), layer.workspace(7 - cut, 3)
        _, state = layer.forward(run.x[:cut], run.state, first)
        layer.forward(run.x[cut:], state, second)
        late = layer.backward(run.dh[cut:], run.dstate, second)
        early = layer.backward(run.dh[:cut], join(late[name] for name in names), first)
        got = {"dx": np.concatenate((early["dx"], late["dx"]))}
        got |= {name: early[name] for name in names}
        got |= {"d" + key: early["d" + key] + late["d" + key] for key in cell.weights}
        assert_close(got, {name: whole[name] for name in got}, dtype, cell.summands(sizes))


@each_cell
@each_type
@pytest.mark.parametrize("B", [1, 2, 5, 6, 13])
def test_steps_equal_the_sequence(cell: Cell, B: int, dtype: Any) -> None:
    run = Run(cell, (5, 17, B, 6, 1), dtype)
    layer = run.layer
    h, last = layer.forward(run.x, run.state)
    state = join(array.copy() for array in split(run.state))
    for t in range(6):
        h_t = layer.step(run.x[t], state)
        assert h_t is split(state)[0]
        assert same_bits(h_t, h[t])
    assert all(same_bits(a, b) for a, b in zip(split(state), split(last), strict=True))

    # From the state that forward returned, and back into forward.
    _, state = layer.forward(run.x[:2], run.state)
    layer.step(run.x[2], state)
    assert same_bits(layer.forward(run.x[3:], state)[0], h[3:])


@each_cell
@each_type
@pytest.mark.parametrize(
    "sizes",
    [
        (5, 17, 13, 5, 1),
        (3, 133, 1, 7, 1),
        (9, 2, 2, 1, 1),
        (0, 9, 4, 3, 1),
        (70, 131, 9, 4, 1),
        (6, 40, 33, 5, 1),  # rows are split in a team of two or three, else units
        *((3, n_a, 1, 50, 1) for n_a in (1, 2, 4)),  # units that no team splits
    ],
    ids=str,
)
def test_threads_change_nothing(
    cell: Cell, sizes: Sizes, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_every_call(monkeypatch.setattr)
    expected = Run(cell, sizes, dtype)()
    for threads in (2, 3, 20):
        run = Run(cell, sizes, dtype, threads)
        for _ in range(2):
            assert_same_bits(run(), expected)


@each_cell
@each_type
@pytest.mark.parametrize("fresh", [False, True], ids=["given state", "no state"])
def test_all_members_of_a_team_do_a_share(
    cell: Cell, fresh: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_every_call(monkeypatch.setattr)
    run = Run(cell, (5, 17, 13, 4, 1), dtype, threads=3)
    run()  # who has been woken sleeps again while a kernel is compiled
    ws = run.layer.workspace(4, 13)
    for array in (*ws.forward, *ws.backward):
        if isinstance(array, np.ndarray):
            array[...] = np.nan
    run.layer.forward(run.x, None if fresh else run.state, ws)
    run.layer.backward(run.dh, None if fresh else run.dstate, ws)
    scratch = ws.backward[-1]
    assert len(scratch) == 3
    assert not np.isnan(scratch).all(axis=1).any()


@each_cell
@each_type
def test_the_workspace_changes_nothing(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), dtype)
    h, last = run.layer.forward(run.x, run.state)
    for training in (True, False):
        ws = run.layer.workspace(4, 7, training)
        for _ in range(2):
            got, state = run.layer.forward(run.x, run.state, ws)
            assert same_bits(got, h)
            assert all(same_bits(a, b) for a, b in zip(split(state), split(last), strict=True))
    inference = cell.layer(run.problem.parameters, training=False)
    assert same_bits(inference.forward(run.x, run.state)[0], h)


@each_cell
@each_type
def test_chunks_of_the_input_product_change_nothing(
    cell: Cell, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(cell, (5, 17, 3, 7, 1), dtype)
    expected = run()
    for steps in (1, 2, 5):  # which do not divide the seven
        in_chunks(3 * steps, monkeypatch.setattr)
        assert fastrnn.packing.chunk(7, 3, 17, run.layer.dtype) == steps
        assert_same_bits(run(), expected)


# NaN, infinity, huge numbers


@each_cell
@each_type
@pytest.mark.parametrize("row", [0, 3, 5, 6, 12])
def test_nan_stays_in_its_row_and_goes_forth(cell: Cell, row: int, dtype: Any) -> None:
    run = Run(cell, (5, 17, 13, 4, 1), dtype)
    clean = copied(run())
    x = run.x.copy()
    x[2, row, 3] = np.nan
    got = run(x)
    others = np.arange(13) != row
    assert same_bits(got["h"][:, others], clean["h"][:, others])
    assert same_bits(got["h"][:2, row], clean["h"][:2, row])
    assert np.isnan(got["h"][2:, row]).all()
    assert same_bits(got["dx"][:, others], clean["dx"][:, others])
    assert np.isnan(got["dx"][:, row]).all()
    for name in ("last h", "last c", "da0", "dc0"):
        if name in got:
            assert same_bits(got[name][others], clean[name][others])
            assert np.isnan(got[name][row]).all()
    for key in cell.weights:
        assert np.isnan(got["d" + key]).all()

    for kind in ("state", "dstate"):
        run = Run(cell, (5, 17, 13, 4, 1), dtype)
        split(getattr(run, kind))[-1][row, 16] = np.nan
        got = run()
        for name in ("h", "dx"):
            assert same_bits(got[name][:, others], clean[name][:, others])
        assert np.isnan(got["dx"][0, row]).all()
        if kind == "dstate":
            assert same_bits(got["h"], clean["h"])


@each_cell
@each_type
def test_nan_in_one_step_of_a_loop(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), dtype)
    clean, dirty = run.layer.zero_state(7), run.layer.zero_state(7)
    others = np.arange(7) != 4
    for t in range(4):
        x_t = run.x[t].copy()
        run.layer.step(x_t, clean)
        if t == 1:
            x_t[4, 0] = np.nan
        run.layer.step(x_t, dirty)
        for a, b in zip(split(dirty), split(clean), strict=True):
            assert same_bits(a[others], b[others])
            assert np.isnan(a[4]).all() if t > 0 else same_bits(a, b)


@each_cell
@each_type
def test_a_nan_gradient_stays_in_its_row_and_goes_back(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), dtype)
    clean = copied(run())
    run.dh[2, 3, 5] = np.nan
    got = run()
    others = np.arange(7) != 3
    assert same_bits(got["h"], clean["h"])
    assert same_bits(got["dx"][:, others], clean["dx"][:, others])
    assert same_bits(got["dx"][3:], clean["dx"][3:])
    assert np.isnan(got["dx"][:3, 3]).all()


@each_cell
@each_type
def test_infinite_and_huge_input(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), dtype)
    huge = 1e300 if dtype == np.float64 else 1e30
    run.x[0, 0, 0], run.x[1, 3, 4], run.x[:2, 5], run.x[3, 6] = np.inf, -np.inf, huge, -huge
    results = run()
    assert all(np.isfinite(results[name]).all() for name in ("h", "last h", "dx", "da0"))
    assert np.abs(results["h"]).max() <= 1
    state = run.layer.zero_state(7)
    for t in range(4):
        assert np.isfinite(run.layer.step(run.x[t], state)).all()


# Workspaces


@each_cell
@each_type
def test_results_are_views_into_the_workspace(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (3, 17, 5, 4, 1), dtype)
    ws = run.layer.workspace(4, 5)
    results = []
    for _ in range(2):
        h, last = run.layer.forward(run.x, run.state, ws)
        gradients = run.layer.backward(run.dh, run.dstate, ws)
        results.append([h, *split(last), *gradients.values()])
    for first, second in zip(*results, strict=True):
        assert first.__array_interface__["data"] == second.__array_interface__["data"]
    assert len(gradients) == 1 + len(cell.states) + len(cell.weights)
    gradients.clear()
    run.layer.forward(run.x, None, ws)
    assert len(run.layer.backward(run.dh, None, ws)) > 0

    # No two of the gradients, nor one of them and a state, are the same memory.
    arrays = results[0]
    for n, array in enumerate(arrays[1:], 1):
        for other in arrays[max(n + 1, 1 + len(cell.states)) :]:
            assert not np.shares_memory(array, other)


@each_cell
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_no_kernel_reads_the_shape_of_a_callers_array_object(cell: Cell) -> None:
    """None has bounds checks; and another number of axes would be compiled for."""
    run = Run(cell, (3, 17, 5, 4, 1), np.float64)
    ws = run.layer.workspace(4, 5)

    def results(change: Callable[[Array], None]) -> list[Array]:
        x, dh = run.x.copy(), run.dh.copy()
        h, last = run.layer.forward(x, run.state, ws)
        assert h.shape == (4, 5, 17)
        kept = [array.copy() for array in (h, *split(last))]
        for array in (x, h, *split(last)):
            change(array)
        gradients = run.layer.backward(dh, run.dstate, ws).values()
        kept += [array.copy() for array in gradients]
        for array in gradients:
            change(array)
        return kept

    def change(array: Array) -> None:
        array.shape = (array.size,)
        array.flags.writeable = False

    expected = results(lambda array: None)
    kernels = run.layer._kernels.forward, run.layer._kernels.backward
    compiled = [list(kernel.signatures) for kernel in kernels]
    results(change)
    for got, array in zip(results(lambda array: None), expected, strict=True):
        assert same_bits(got.ravel(), array.ravel())
    assert [list(kernel.signatures) for kernel in kernels] == compiled


@each_cell
def test_what_is_returned_without_a_workspace_keeps_nothing_else(cell: Cell) -> None:
    h, last = Run(cell, (3, 64, 8, 50, 1), np.float64).layer.forward(np.ones((50, 8, 3)))
    for array in (h, *split(last)):
        memory = array.base if array.base is not None else array
        assert memory.nbytes < 1.1 * array.nbytes + CACHE_LINE


@each_cell
@each_type
def test_a_call_with_a_workspace_allocates_no_array(cell: Cell, dtype: Any) -> None:
    # Every array of this problem is larger than what is allowed for Python's own objects.
    run = Run(cell, (64, 64, 64, 16, 1), dtype)
    layer, ws, state = run.layer, run.layer.workspace(16, 64), run.layer.zero_state(64)
    few = layer.workspace(16, 64, training=False)
    x_t = run.x[0]

    def call() -> None:
        layer.forward(run.x, run.state, few)
        layer.forward(run.x, run.state, ws)
        layer.backward(run.dh, run.dstate, ws)
        layer.step(x_t, state)

    def peak() -> int:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before

    call()
    tracemalloc.start()
    try:
        peak()
        assert peak() < 8000 < x_t.nbytes
        array = np.empty(8000)  # NumPy reports its arrays to tracemalloc
        assert tracemalloc.get_traced_memory()[0] > array.nbytes
    finally:
        tracemalloc.stop()


@each_cell
@each_type
def test_arrays_that_lie_in_the_workspace(cell: Cell, dtype: Any) -> None:
    """What a call returned may be given to the next one, though that overwrites it."""
    run = Run(cell, (17, 17, 5, 4, 1), dtype)
    ws, other = run.layer.workspace(4, 5), run.layer.workspace(4, 5)

    def both(x: Array, dh: Array, workspace: Any) -> dict[str, Array]:
        h, _ = run.layer.forward(x, None, workspace)
        results = {"h": h} | run.layer.backward(h if dh is None else dh, None, workspace)
        return copied(results)

    both(run.x, run.dh, ws)
    dx = ws.gradients["dx"]
    for x, dh in ((ws.out, run.dh), (dx, run.dh), (run.x, dx), (run.x, None)):
        expected = both(*(a if a is None else a.copy() for a in (x, dh)), other)
        assert_same_bits(both(x, dh, ws), expected)
    one = run.layer.workspace(1, 5), run.layer.workspace(1, 5)
    expected = both(run.x[:1], run.dh[:1], one[0])
    expected = both(run.x[:1], expected["da0"][None], one[1])
    got = run.layer.forward(run.x[:1], None, one[0])[0].copy()
    got = {"h": got} | run.layer.backward(one[0].gradients["da0"][None], None, one[0])
    assert_same_bits(got, expected)


class Subclass(np.ndarray):
    pass


SAME_MEMORY: dict[str, Callable[[Array], Any]] = {
    "subclass": lambda array: array.view(Subclass),
    "dlpack": np.from_dlpack,
    "memoryview": memoryview,
    "buffer": lambda array: np.asarray(memoryview(array)),
    "strided": np.lib.stride_tricks.as_strided,
    "metadata": lambda array: array.view(np.dtype(array.dtype, metadata={"unit": "m"})),
}


@each_cell
@pytest.mark.parametrize("seen", SAME_MEMORY.values(), ids=SAME_MEMORY)
def test_arrays_that_lie_in_the_workspace_by_other_ways(cell: Cell, seen: Any) -> None:
    run = Run(cell, (130, 130, 5, 4, 1), np.float64)

    def both(see: Callable[[Array], Any]) -> dict[str, Array]:
        ws = run.layer.workspace(4, 5)
        h, _ = run.layer.forward(run.x, None, ws)
        h, _ = run.layer.forward(see(h), None, ws)
        gradients = run.layer.backward(see(h), None, ws)
        return copied({"h": h} | gradients)

    assert_same_bits(both(seen), both(np.copy))


@each_cell
@each_type
def test_the_state_may_be_the_input_of_a_step(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (17, 17, 5, 4, 1), dtype)
    state, other = (join(array.copy() for array in split(run.state)) for _ in range(2))
    for _ in range(3):
        h = run.layer.step(split(state)[0], state)
        assert same_bits(h, run.layer.step(split(other)[0].copy(), other))


@pytest.mark.parametrize("steps", [0, 1])
def test_h_and_c_are_two_arrays(steps: int) -> None:
    run = Run(CELLS["lstm"], (3, 17, 5, 4, 1), np.float64)
    for _ in range(steps):
        run.layer.step(run.x[0], run.layer.zero_state(5))
    memory = np.zeros((10, 17))
    h = memory[:5]
    for c in (h, h[:], memory[1:6], memory[4:9]):
        for state in ((h, c), (c, h)):
            with pytest.raises(
                ValueError, match=r"^state\[0\] and state\[1\] share memory; wanted"
            ):
                run.layer.step(run.x[0], state)
    assert not memory.any()
    for state in ((h, memory[5:]), (memory[5:].copy(), h.copy())):  # side by side is apart
        run.layer.step(run.x[0], state)


@each_cell
@each_type
def test_steps_of_whatever_input_and_number_of_examples(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), dtype)
    # A layer of the other type has a kernel of its own.
    other = np.float32 if dtype == np.float64 else np.float64
    cell.layer(in_type(run.problem, other).parameters).step(
        run.x[0].astype(other), join(a.astype(other) for a in split(run.state))
    )
    for B in (3, 7, 1, 0, 5):
        x_t = np.ascontiguousarray(run.x[0, :B])
        wanted = None
        for form in (np.copy, *FORMS.values()):
            state = join(array[:B].copy() for array in split(run.state))
            run.layer.step(form(x_t), state)
            wanted = state if wanted is None else wanted
            for got, first in zip(split(state), split(wanted), strict=True):
                assert same_bits(got, first)


@each_cell
def test_states_that_are_as_good(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dtype that is equal, a tuple with names: a step looks again, but makes nothing anew."""
    run = Run(cell, (5, 17, 7, 4, 1), np.float32)
    named = namedtuple("named", cell.states)
    wanted = join(array.copy() for array in split(run.state))
    run.layer.step(run.x[0], wanted)
    monkeypatch.setattr("fastrnn.layer.fixed", None)
    monkeypatch.setattr("fastrnn.layer.aligned", None)
    states = [pickle.loads(pickle.dumps(run.state))]
    if len(cell.states) > 1:
        states.append(named(*(array.copy() for array in run.state)))
    for state in states:
        h = run.layer.step(run.x[0], state)
        assert h is split(state)[0]
        for got, first in zip(split(state), split(wanted), strict=True):
            assert same_bits(got, first)


@each_cell
def test_a_workspace_has_no_more_scratch_than_parts(cell: Cell) -> None:
    parameters = cell.problem(3, 17).parameters
    few, many = (cell.layer(parameters, threads).workspace(4, 5) for threads in (1, 10**9))
    assert few.nbytes == many.nbytes


@each_cell
def test_workspaces_that_do_not_fit(cell: Cell) -> None:
    run = Run(cell, (3, 5, 2, 4, 1), np.float64)
    layer, other = run.layer, cell.layer(run.problem.parameters)
    ws = layer.workspace(4, 2)
    with pytest.raises(ValueError, match=r"^workspace belongs to another layer; wanted"):
        other.forward(run.x, None, ws)
    with pytest.raises(ValueError, match=r"^workspace belongs to another layer; wanted"):
        other.backward(run.dh, None, ws)
    for x in (run.x[:3], run.x[:, :1]):
        with pytest.raises(ValueError, match=r"^x has . steps of . .*wanted .* 4 steps of 2"):
            layer.forward(x, None, ws)
    for dh in (run.dh[:3], run.dh[:, :1]):
        with pytest.raises(ValueError, match=r"^dh has . steps of . .*wanted .* 4 steps of 2"):
            layer.backward(dh, None, ws)
    for wrong in (3, "ws", run.x):
        kind = type(wrong).__name__
        with pytest.raises(TypeError, match=f"^workspace is {kind}; wanted what workspace"):
            layer.forward(run.x, None, wrong)
    for wrong in (None, 3):
        with pytest.raises(TypeError, match=r"^workspace is .*; wanted what workspace"):
            layer.backward(run.dh, None, wrong)
    del other
    gc.collect()
    with pytest.raises(ValueError, match=r"^workspace belongs to another layer"):
        cell.layer(run.problem.parameters).forward(run.x, None, ws)


@each_cell
@pytest.mark.parametrize("threads", [1, 2])
def test_layers_and_workspaces_are_not_copied(cell: Cell, threads: int) -> None:
    run = Run(cell, (3, 5, 2, 4, 1), np.float64, threads)
    for single, instead in (
        (run.layer, "the parameters"),
        (run.layer.workspace(4, 2), "another of its layer's, by workspace"),
    ):
        message = f"^{type(single).__name__} cannot be copied or pickled; wanted {instead}"
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=message):
                call(single)


@each_cell
def test_a_workspace_holds_one_forward_pass(cell: Cell) -> None:
    run = Run(cell, (3, 5, 2, 4, 1), np.float64)
    layer, message = run.layer, r"^workspace holds no forward pass; wanted"
    ws = layer.workspace(4, 2)
    with pytest.raises(ValueError, match=message):
        layer.backward(run.dh, None, ws)
    layer.forward(run.x, None, ws)
    layer.backward(run.dh, None, ws)
    with pytest.raises(ValueError, match=message):
        layer.backward(run.dh, None, ws)

    few = layer.workspace(4, 2, training=False)
    layer.forward(run.x, None, few)
    with pytest.raises(ValueError, match=message):
        layer.backward(run.dh, None, few)

    # A refused call leaves what the workspace holds.
    layer.forward(run.x, None, ws)
    with pytest.raises(ValueError, match="dh has shape"):
        layer.backward(run.dh[:, :, :2], None, ws)
    with pytest.raises(ValueError, match="x has shape"):
        layer.forward(run.x[:, :, :2], None, ws)
    layer.backward(run.dh, None, ws)


@each_cell
def test_a_workspace_serves_one_call_at_a_time(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(cell, (3, 5, 2, 4, 1), np.float64)
    ws = run.layer.workspace(4, 2)

    def slow(array: Array, dtype: Any) -> Array:
        """Another call begins while this one's arrays are being converted."""
        ws.lock.acquire()
        return ready(array, dtype)

    x, dh = run.x.astype(np.float32), run.dh.astype(np.float32)
    for call in (
        lambda: run.layer.forward(x, None, ws),
        lambda: run.layer.backward(dh, None, ws),
    ):
        for during in False, True:
            if during:
                monkeypatch.setattr(fastrnn.layer, "ready", slow)
            else:
                ws.lock.acquire()
            try:
                with pytest.raises(RuntimeError, match="workspace is in use"):
                    call()
            finally:
                ws.lock.release()
                monkeypatch.undo()
    run.layer.forward(run.x, None, ws)
    run.layer.backward(run.dh, None, ws)


@each_cell
def test_one_layer_in_many_threads(cell: Cell) -> None:
    """Each with its own workspace and state."""
    run = Run(cell, (5, 17, 7, 6, 1), np.float64)
    expected, (h, _) = run(), run.layer.forward(run.x)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                assert_same_bits(run(), expected)
                state = run.layer.zero_state(7)
                for t in range(6):
                    assert same_bits(run.layer.step(run.x[t], state), h[t])
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def pool_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("fastrnn") and t.is_alive()]


def have_ended(threads: list[threading.Thread]) -> bool:
    """Whether these threads end before long."""
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
        time.sleep(0.001)
    return not any(thread.is_alive() for thread in threads)


@each_cell
def test_threads_end_with_their_layer(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    in_every_call(monkeypatch.setattr)
    gc.collect()
    assert have_ended(pool_threads())  # of other tests
    run = Run(cell, (3, 17, 5, 4, 1), np.float64, threads=3)
    run()
    started = pool_threads()
    assert 0 < len(started) <= 2
    run()
    assert pool_threads() == started
    del run
    gc.collect()
    assert have_ended(started)


@each_cell
def test_threads_end_with_a_layer_in_a_cycle(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    in_every_call(monkeypatch.setattr)
    gc.collect()
    assert have_ended(pool_threads())
    run = Run(cell, (3, 17, 5, 4, 1), np.float64, threads=3)
    run()
    started = pool_threads()
    run.layer.itself = run.layer
    del run
    gc.collect()
    assert have_ended(started)


@each_cell
def test_small_calls_start_no_thread(cell: Cell) -> None:
    before = pool_threads()
    Run(cell, (3, 17, 5, 4, 1), np.float64, threads=3)()
    assert pool_threads() == before


# New weights


@each_cell
@each_type
def test_update_takes_effect_there_and_back(cell: Cell, dtype: Any) -> None:
    old, new = (Run(cell, (5, 17, 7, 4, 1), dtype) for _ in range(2))
    new.problem = cell.problem(5, 17, 7, 4, dtype=dtype, seed=1)
    new.layer = cell.layer(new.problem.parameters)
    before, expected = old(), new()
    old.layer.update(new.problem.parameters)
    after = old()
    assert_same_bits(after, expected)
    assert not same_bits(before["h"], after["h"])
    state, other = old.layer.zero_state(7), new.layer.zero_state(7)
    assert same_bits(old.layer.step(old.x[0], state), new.layer.step(old.x[0], other))

    # Each weight on its own, and what was not given anew stays.
    for key in cell.weights:
        parameters = dict(old.problem.parameters)
        parameters[key] = new.problem.parameters[key]
        old.layer.update(parameters)
        assert_same_bits(old(), with_weights(old, parameters)())


def with_weights(run: Run, parameters: dict[str, Array]) -> Run:
    other = Run(run.cell, run.sizes, run.layer.dtype)
    other.layer = run.cell.layer(parameters)
    return other


@each_cell
def test_the_layer_keeps_its_own_weights(cell: Cell) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), np.float64)
    expected = run()
    for array in run.problem.parameters.values():
        array[...] = 0
    assert_same_bits(run(), expected)


@each_cell
@pytest.mark.parametrize("copy", [True, False], ids=["copy", "no copy"])
@pytest.mark.parametrize("B", [2, 9])
def test_update_in_another_type_keeps_the_layer_type(cell: Cell, B: int, copy: bool) -> None:
    run = Run(cell, (5, 17, B, 1, 1), np.float32)
    expected = run()
    wide = {key: w.astype(np.float64) for key, w in run.problem.parameters.items()}
    run.layer.update(wide, copy=copy)
    assert run.layer.dtype == np.float32
    assert_same_bits(run(), expected)


# Unpacked weights


@each_cell
@each_type
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1, 1),
        (0, 9, 4, 1, 1),
        (40, 70, 9, 1, 1),
        (70, 40, 16, 1, 1),
        (33, 65, 1, 1, 1),
        (3, 17, 4, 2, 1),
        (130, 40, 1, 4, 1),
    ],
    ids=str,
)
def test_threads_change_nothing_by_unpacked_weights(
    cell: Cell, sizes: Sizes, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_every_call(monkeypatch.setattr)
    expected = Run(cell, sizes, dtype)()
    for threads in (2, 3, 20):
        run = Run(cell, sizes, dtype, threads)
        for _ in range(3):
            run.layer.update(run.problem.parameters, copy=False)
            assert_same_bits(run(), expected)
            assert run.layer._waiting is not None  # nothing has asked for packed weights


@each_cell
@each_type
@pytest.mark.parametrize(
    "sizes", [*SIZES, (0, 5, 3, 2, 1), (3, 0, 3, 2, 1), (3, 5, 0, 2, 1), (3, 5, 2, 0, 1)], ids=str
)
def test_weights_that_are_not_copied_give_the_same_bits(
    cell: Cell, sizes: Sizes, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(cell, sizes, dtype)
    expected = copied(run())
    for short in True, False:
        monkeypatch.setattr(f"fastrnn.{cell.name}.is_short", lambda *_, short=short: short)
        run.layer.update(run.problem.parameters, copy=False)
        assert_same_bits(run(), expected)
        assert (run.layer._packed is None) == short


@each_cell
@each_type
def test_unpacked_weights_from_no_state(cell: Cell, dtype: Any) -> None:
    run = Run(cell, (5, 17, 3, 2, 1), dtype)
    ws = run.layer.workspace(2, 3)
    results = []
    for _ in "packed", "unpacked":
        h, last = run.layer.forward(run.x, None, ws)
        got = {"h": h} | dict(zip(("last h", "last c"), split(last), strict=False))
        got = copied(got)
        results.append(got | copied(run.layer.backward(run.dh, None, ws)))
        run()  # leaves other values in the workspace
        run.layer.update(run.problem.parameters, copy=False)
    assert_same_bits(*results)


@each_cell
def test_weights_are_packed_when_a_call_needs_it(cell: Cell) -> None:
    parameters = cell.problem(5, 17, seed=1).parameters
    short, long = (Run(cell, (5, 17, 3, T, 1), np.float64) for T in (2, 9))
    layer = short.layer
    fresh = with_weights(short, parameters).layer
    ws = layer.workspace(2, 3)
    state = layer.zero_state(3)
    long.layer = layer
    calls: dict[str, Callable[[], Any]] = {
        "a long run": lambda: long()["h"],
        "no workspace": lambda: layer.forward(short.x)[0],
        "no training": lambda: layer.forward(short.x, None, layer.workspace(2, 3, False))[0],
        "a step": lambda: layer.step(short.x[0], layer.zero_state(3)),
    }
    expected = {}
    for name, call in calls.items():
        layer.update(parameters)
        expected[name] = call().copy()
        layer.update(short.problem.parameters)
        layer.update(parameters, copy=False)
        layer.forward(short.x, state, ws)
        assert layer._packed is None
        assert same_bits(call(), expected[name]), name
        assert layer._packed is not None
        # The way back of a forward before that.
        got = copied(layer.backward(short.dh, None, ws))
        other = fresh.workspace(2, 3)
        fresh.forward(short.x, state, other)
        assert_same_bits(got, fresh.backward(short.dh, None, other))


@each_cell
def test_update_copies_unless_told_not_to(cell: Cell) -> None:
    run = Run(cell, (5, 17, 3, 2, 1), np.float64)
    expected = run()
    own = {key: array.copy() for key, array in run.problem.parameters.items()}
    run.layer.update(own)
    for array in own.values():
        array[...] = 0
    assert_same_bits(run(), expected)
    run.layer.update(own, copy=False)
    for key, array in own.items():
        array[...] = run.problem.parameters[key]
    assert_same_bits(run(), expected)


@each_cell
def test_arrays_that_are_not_copied_may_be_made_read_only(cell: Cell) -> None:
    """For another kind of array kernels would be compiled anew."""
    run = Run(cell, (5, 17, 3, 2, 1), np.float64)
    expected = run()
    own = {key: array.copy() for key, array in run.problem.parameters.items()}
    run.layer.update(own, copy=False)
    for array in own.values():
        array.flags.writeable = False
    kernels = run.layer._kernels.short_forward, run.layer._kernels.short_backward
    before = [len(kernel.signatures) for kernel in kernels]
    assert_same_bits(run(), expected)
    assert [len(kernel.signatures) for kernel in kernels] == before


@each_cell
def test_weights_that_wait_and_are_never_used(cell: Cell) -> None:
    run = Run(cell, (5, 17, 3, 2, 1), np.float64)
    expected = run()
    wrong = cell.problem(5, 17, seed=1).parameters
    for copy_ in True, False:
        for _ in range(3):
            run.layer.update(wrong, copy=False)
        run.layer.update(run.problem.parameters, copy=copy_)
        assert_same_bits(run(), expected)


@each_cell
def test_a_layer_for_inference_packs_what_it_was_given(cell: Cell) -> None:
    run = Run(cell, (5, 17, 3, 2, 1), np.float64)
    layer = cell.layer(cell.problem(5, 17, seed=1).parameters, training=False)
    layer.update(run.problem.parameters, copy=False)
    for ws in None, layer.workspace(2, 3):
        assert same_bits(layer.forward(run.x, run.state, ws)[0], run()["h"])


@each_cell
@pytest.mark.parametrize("wrong", [None, 0, "no"])
def test_copy_is_a_bool(cell: Cell, wrong: Any) -> None:
    run = Run(cell, (5, 17, 3, 2, 1), np.float64)
    with pytest.raises(TypeError, match=rf"^copy is {type(wrong).__name__}; wanted a bool"):
        run.layer.update(run.problem.parameters, copy=wrong)


@each_cell
def test_a_layer_for_inference(cell: Cell) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), np.float64)
    layer = cell.layer(run.problem.parameters, training=False)
    with pytest.raises(ValueError, match=r"^training is True; wanted False"):
        layer.workspace(4, 7, training=True)
    ws = layer.workspace(4, 7)
    assert not ws.training
    h, _ = layer.forward(run.x, None, ws)
    assert same_bits(h, run.layer.forward(run.x)[0])
    with pytest.raises(ValueError, match=r"^workspace holds no forward pass; wanted a training"):
        layer.backward(run.dh, None, ws)
    layer.update(cell.problem(5, 17, 7, 4, seed=1).parameters)
    assert not same_bits(layer.forward(run.x)[0], run.layer.forward(run.x)[0])


# States for step


@each_cell
@pytest.mark.parametrize("steps", [0, 1])  # the first is another matter
def test_states_that_step_cannot_overwrite(cell: Cell, steps: int) -> None:
    run = Run(cell, (5, 17, 7, 4, 1), np.float64)
    for _ in range(steps):
        run.layer.step(run.x[0], run.layer.zero_state(7))
    x_t, many = run.x[0], len(cell.states) > 1
    name = r"state\[0\]" if many else "state"
    good = np.zeros((7, 17))

    def state(array: Any) -> Any:
        return (array, good) if many else array

    locked = good.copy()
    locked.flags.writeable = False
    for wrong, error, message in (
        (good.astype(np.float32), ValueError, "is float32, .*wanted float64"),
        (np.asfortranarray(good), ValueError, ".*C-contiguous False.*; wanted"),
        (locked, ValueError, ".*writeable False; wanted"),
        (unaligned(good), ValueError, ".*aligned False, .*; wanted .*aligned"),
        (np.zeros((6, 17)), ValueError, r"has shape \(6, 17\); wanted"),
        (np.zeros((7, 16)), ValueError, r"has shape \(7, 16\); wanted"),
        (np.zeros(17), ValueError, r"has shape \(17,\), 1 axes; wanted"),
        (good.tolist(), TypeError, "is list; wanted an ndarray"),
        (np.ma.array(good, mask=True), TypeError, "is MaskedArray; wanted an ndarray"),
        (good.astype(">f8"), ValueError, "is >f8, .*wanted float64"),
        (None, TypeError, "is None; wanted"),
    ):
        with pytest.raises(error, match=f"^{name} {message}"):
            run.layer.step(x_t, state(wrong))
    if many:
        for wrong in ((good,), (good, good, good)):
            with pytest.raises(ValueError, match=r"^state has . items; wanted a tuple \(h, c\)"):
                run.layer.step(x_t, wrong)
        for other in (good, [good, good]):
            with pytest.raises(TypeError, match=r"^state is .*; wanted a tuple \(h, c\)"):
                run.layer.step(x_t, other)
        with pytest.raises(ValueError, match=r"^state\[1\] has shape"):
            run.layer.step(x_t, (good, good[:6]))
    else:
        for call in (run.layer.step, lambda _, wrong: run.layer.forward(run.x, wrong)):
            with pytest.raises(ValueError, match=r"^state has shape \(1, 7, 17\), 3 axes; wanted"):
                call(x_t, (good,))
    for x_wrong, message in (
        (run.x[0, :, :4], r"\(7, 4\)"),
        (run.x[0, :, :4].copy(), r"\(7, 4\)"),
        (run.x, r"\(4, 7, 5\)"),
        (run.x[0, 0], r"\(5,\)"),
    ):
        with pytest.raises(ValueError, match=f"^x_t has shape {message}.*wanted"):
            run.layer.step(x_wrong, state(good))
    with pytest.raises(TypeError, match=r"^x_t is None; wanted"):
        run.layer.step(None, state(good))
    assert not good.any()
