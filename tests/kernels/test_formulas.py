"""The cells' pointwise functions alone, against the reference, between guard bands.

The reference's cells are fed with weights that hand the pre-activations through as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn import reference
from fastrnn.kernels import lstm, rnn
from fastrnn.kernels.cpu import VECTOR_BITS
from fastrnn.kernels.simd import pointer, widen
from tests.compare import assert_close
from tests.kernels.guards import assert_untouched, guarded
from tests.problems import normal

Array = NDArray[Any]

ROUNDINGS = 8  # on the longest way through one formula

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
each_place = pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in place"])
each_count = pytest.mark.parametrize("rows", [1, 3])


@njit(error_model="numpy")
def rnn_forward(units, h):
    rnn.step_forward(units, pointer(h))


@njit(error_model="numpy")
def rnn_backward(units, h, dh, dz):
    rnn.step_backward(units, pointer(h), pointer(dh), pointer(dz))


@njit(error_model="numpy")
def lstm_forward(rows, units, sums, between, gates, column, keep, c_prev, c, h):
    lstm.step_forward(
        rows, units, pointer(sums), between, pointer(sums), between, 4 * between,
        pointer(gates), column, keep, pointer(c_prev), pointer(c), pointer(h),
    )  # fmt: skip


@njit(error_model="numpy")
def lstm_backward(rows, units, column, gates, dgates, c_prev, c, dh, dc):
    lstm.step_backward(
        rows, units, column, pointer(gates), pointer(dgates), pointer(c_prev), pointer(c),
        pointer(dh), pointer(dc),
    )  # fmt: skip


@njit(error_model="numpy")
def lstm_forward_two(
    rows, units, sums, between, more, more_between, row, gates, column, c_prev, c, h
):
    lstm.step_forward(
        rows, units, pointer(sums), between, pointer(more), more_between, row,
        widen(pointer(gates)), column, True, widen(pointer(c_prev)), widen(pointer(c)),
        widen(pointer(h)),
    )  # fmt: skip


@njit(error_model="numpy")
def lstm_backward_two(rows, units, column, gates, dgates, c_prev, c, dh, dc):
    lstm.step_backward(
        rows, units, column, widen(pointer(gates)), widen(pointer(dgates)),
        widen(pointer(c_prev)), widen(pointer(c)), widen(pointer(dh)), widen(pointer(dc)),
    )  # fmt: skip


class Lines:
    """Lines of units, each in a line of memory that is longer, between guard bands."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, values: Array | None = None) -> None:
        *lines, self.units = shape
        self.lines = int(np.prod(lines))
        self.column = self.units + 3
        self.memory = guarded(self.lines * self.column, dtype)
        self.values = self.memory.reshape(*lines, self.column)[..., : self.units]
        if values is not None:
            self.values[...] = values

    def read(self) -> Array:
        assert_untouched(self.memory, (self.lines, self.units), self.column)
        return self.values


def part_vectors(dtype: Any) -> tuple[int, ...]:
    lanes = VECTOR_BITS // 8 // np.dtype(dtype).itemsize
    return 1, lanes - 1, lanes


@each_type
def test_rnn(dtype: Any) -> None:
    for units in (1, 7, 35):
        z, dh = (normal((1, units), dtype, seed) for seed in (0, 1))
        weights = {"Wax": np.eye(units), "Waa": np.zeros((units, units))}
        weights |= {"ba": np.zeros((units, 1)), "Wya": np.zeros((1, units)), "by": np.zeros((1, 1))}
        wide = z.T.astype(np.longdouble)
        h_exact, _, cache = reference.rnn_cell_forward(wide, np.zeros((units, 1)), weights)
        dz_exact = reference.rnn_cell_backward(dh.T.astype(np.longdouble), cache)["dxt"]

        h = Lines((1, units), dtype, z)
        rnn_forward(units, h.memory)
        dz = Lines((1, units), dtype)
        rnn_backward(units, h.memory, Lines((1, units), dtype, dh).memory, dz.memory)
        got = {"h": h.read(), "dz": dz.read()}
        assert_close(got, {"h": h_exact.T, "dz": dz_exact.T}, dtype, ROUNDINGS)


@each_place
@each_count
@each_type
def test_lstm(in_place: bool, rows: int, dtype: Any) -> None:
    for units in part_vectors(dtype):
        z = normal((rows, lstm.GATES, units), dtype)
        c_prev, dh, dc = (normal((rows, units), dtype, seed) for seed in (1, 2, 3))
        exact = exact_lstm(*(array.astype(np.longdouble) for array in (z, c_prev, dh, dc)))

        sums = Lines(z.shape, dtype, z)
        gates = sums if in_place else Lines(z.shape, dtype)
        column = gates.column
        old = Lines(c_prev.shape, dtype, c_prev)
        new = old if in_place else Lines(c_prev.shape, dtype)
        h = Lines(c_prev.shape, dtype)
        for keep, kept, after in (
            (False, Lines(z.shape, dtype), Lines(c_prev.shape, dtype)),
            (True, gates, new),
        ):
            lstm_forward(
                rows, units, sums.memory, column, kept.memory, column, keep,
                old.memory, after.memory, h.memory,
            )  # fmt: skip
            assert keep or np.isnan(kept.read()).all()
        got = {"gates": gates.read().copy(), "c": new.read().copy(), "h": h.read()}

        old = Lines(c_prev.shape, dtype, c_prev)
        new = Lines(c_prev.shape, dtype, got["c"])
        dgates = gates if in_place else Lines(z.shape, dtype)
        dh_lines, dc_lines = Lines(dh.shape, dtype, dh), Lines(dc.shape, dtype, dc)
        lstm_backward(
            rows, units, column, gates.memory, dgates.memory, old.memory, new.memory,
            dh_lines.memory, dc_lines.memory,
        )  # fmt: skip
        got |= {"dgates": dgates.read(), "dc_prev": dc_lines.read()}
        assert_close(got, exact, dtype, ROUNDINGS)


@each_count
@each_type
def test_lstm_of_two_blocks_of_units_at_once(rows: int, dtype: Any) -> None:
    *_, block = part_vectors(dtype)
    for units in (2 * block, 2 * block - 1, block + 1):
        z = normal((rows, lstm.GATES, units), dtype)
        c_prev, dh, dc = (normal((rows, units), dtype, seed) for seed in (1, 2, 3))
        exact = exact_lstm(*(array.astype(np.longdouble) for array in (z, c_prev, dh, dc)))

        sums = Lines((*z.shape[:2], block), dtype, z[..., :block])
        row, width = lstm.GATES * sums.column, units - block
        more = guarded(rows * row, dtype)
        for gate in range(lstm.GATES):
            of_gate = more.reshape(rows, row)[:, gate * width : (gate + 1) * width]
            of_gate[...] = z[:, gate, block:]
        gates = Lines(z.shape, dtype)
        old, new, h = (Lines(c_prev.shape, dtype) for _ in range(3))
        old.values[...] = c_prev
        lstm_forward_two(
            rows, units, sums.memory, sums.column, more, width, row,
            gates.memory, gates.column, old.memory, new.memory, h.memory,
        )  # fmt: skip
        got = {"gates": gates.read().copy(), "c": new.read(), "h": h.read()}

        dh_lines, dc_lines = Lines(dh.shape, dtype, dh), Lines(dc.shape, dtype, dc)
        lstm_backward_two(
            rows, units, gates.column, gates.memory, gates.memory, old.memory, new.memory,
            dh_lines.memory, dc_lines.memory,
        )  # fmt: skip
        got |= {"dgates": gates.read(), "dc_prev": dc_lines.read()}
        assert_close(got, exact, dtype, ROUNDINGS)


def exact_lstm(z: Array, c_prev: Array, dh: Array, dc: Array) -> dict[str, Array]:
    rows, gates, units = z.shape
    through = np.hstack([np.zeros((gates * units, units)), np.eye(gates * units)])
    weights = {"Wy": np.zeros((1, units)), "by": np.zeros((1, 1))}
    for gate, weight in zip("ifco", np.split(through, gates), strict=True):
        weights |= {f"W{gate}": weight, f"b{gate}": np.zeros((units, 1))}
    h_prev = np.zeros((units, rows))
    a, c, _, cache = reference.lstm_cell_forward(z.reshape(rows, -1).T, h_prev, c_prev.T, weights)
    _, _, _, _, f, i, g, o, _, _ = cache
    back = reference.lstm_cell_backward(dh.T, dc.T, cache)
    return {
        "gates": np.stack([i.T, f.T, g.T, o.T], axis=1),
        "c": c.T,
        "h": a.T,
        "dgates": back["dxt"].T.reshape(z.shape),
        "dc_prev": back["dc_prev"].T,
    }
