"""The layouts of packed weights, rebuilt element by element, and the sizes of scratch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastrnn import packing
from fastrnn.kernels import lstm, rnn
from fastrnn.kernels.cpu import VECTOR_BITS, WIDTH
from fastrnn.kernels.gradients import DEPTH, SUMS
from fastrnn.kernels.team import ALONE
from tests.cells import LSTM, RNN
from tests.kernels.test_gradients import passes
from tests.kernels.test_linear import panels_space

Array = NDArray[Any]

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
SIZES = [(1, 1), (5, 2), (0, 3), (3, 0), (6, 4), (3, 5), (7, 8), (2, 9), (5, 16), (9, 17), (1, 25)]
SIZES += [(4, 64), (70, 33), (3, 28)]
each_size = pytest.mark.parametrize(("D", "H"), SIZES)


def lanes(dtype: Any) -> int:
    return VECTOR_BITS // 8 // np.dtype(dtype).itemsize


def packed_matrix(w: Array) -> list[float]:
    """``w[k][column]``, as the docstring of `packing` says."""
    depth, columns = w.shape
    n = lanes(w.dtype)

    def element(k: int, column: int) -> float:
        return w[k][column] if column < columns else 0.0

    return [
        element(k, (p * WIDTH + v) * n + lane)
        for p in range(-(-columns // (WIDTH * n)))
        for k in range(depth)
        for v in range(WIDTH)
        for lane in range(n)
    ]


def gate_width(gates: int, units: int, n: int) -> int:
    """Lanes of each gate in a panel, of a block of so many units."""
    together = min(WIDTH, gates)
    return units if together * units <= (together - 1) * n else n


def packed_gates(w: Array) -> list[float]:
    """``w[gate][unit][k]``, likewise; NaN is what nothing reads, and so is not written."""
    gates, H, depth = w.shape
    n = lanes(w.dtype)
    together = min(WIDTH, gates)
    packed: list[float] = []
    for j in range(0, H, n):
        units = min(n, H - j)
        width = gate_width(gates, units, n)
        for first in range(0, gates, together):
            panel = np.full((depth, together * n), np.nan)
            panel[:, : -(-together * width // n) * n] = 0
            for place in range(together):
                of_gate = w[first + place, j : j + units]
                panel[:, place * width : place * width + units] = of_gate.T
            packed += panel.ravel().tolist()
    return packed


def packed_biases(biases: list[Array]) -> list[float]:
    """``b[gate][unit]``, likewise."""
    n = lanes(biases[0].dtype)
    H = biases[0].size
    packed = []
    for j in range(0, H, n):
        of_gates = [b.ravel()[j : j + n] for b in biases]
        width = gate_width(len(biases), of_gates[0].size, n)
        row = np.concatenate([np.pad(b, (0, width - b.size)) for b in of_gates])
        packed += [*row.tolist(), *[np.nan] * (len(biases) * n - row.size)]
    return packed


def assert_pieces(packed: Array, *pieces: tuple[int, list[float]]) -> None:
    """Assert that the memory holds these numbers, each from its offset on."""
    for offset, numbers in pieces:
        assert offset + len(numbers) <= packed.size
        np.testing.assert_array_equal(packed[offset : offset + len(numbers)], numbers)


@each_type
@each_size
def test_weights_of_the_rnn(D: int, H: int, dtype: Any) -> None:
    parameters = RNN.problem(D, H, dtype=dtype).parameters
    w_ax, w_aa, b_a = (parameters[key] for key in ("Wax", "Waa", "ba"))
    dtype = np.dtype(dtype)
    bias, across = packing.padded(H, dtype), packing.paneled(H, dtype)

    forward = np.full(packing.forward_size(D, H, 1, dtype), np.nan, dtype)
    backward = np.full(packing.backward_size(D, H, 1, dtype), np.nan, dtype)
    rnn.rnn_pack(w_ax, w_aa, b_a, forward, backward, ALONE, 1)
    assert_pieces(
        forward,
        (0, b_a.ravel().tolist()),
        (bias, packed_matrix(w_ax.T)),
        (bias + across * D, packed_matrix(w_aa.T)),
    )
    assert_pieces(backward, (0, packed_matrix(w_aa)), (across * H, packed_matrix(w_ax)))

    alone = np.full_like(forward, np.nan)
    rnn.rnn_pack(w_ax, w_aa, b_a, alone, backward[:0], ALONE, 1)
    np.testing.assert_array_equal(alone, forward)


@each_type
@each_size
def test_weights_of_the_lstm(D: int, H: int, dtype: Any) -> None:
    parameters = LSTM.problem(D, H, dtype=dtype).parameters
    w_f, w_i, w_c, w_o, b_f, b_i, b_c, b_o = found = [parameters[key] for key in LSTM.weights]
    dtype = np.dtype(dtype)
    across = 4 * packing.padded(H, dtype)
    in_order = np.stack([w_i, w_f, w_c, w_o])  # i, f, g, o
    to_h, to_x = in_order[:, :, :H], in_order[:, :, H:]

    forward = np.full(packing.forward_size(D, H, 4, dtype), np.nan, dtype)
    backward = np.full(packing.backward_size(D, H, 4, dtype), np.nan, dtype)
    lstm.lstm_pack(*found, forward, backward, ALONE, 1)
    assert_pieces(
        forward,
        (0, packed_biases([b_i, b_f, b_c, b_o])),
        (across, packed_gates(to_x)),
        (across * (1 + D), packed_gates(to_h)),
    )
    assert_pieces(
        backward,
        (0, packed_matrix(to_h.reshape(4 * H, H))),
        (4 * H * packing.paneled(H, dtype), packed_matrix(to_x.reshape(4 * H, D))),
    )

    alone = np.full_like(forward, np.nan)
    lstm.lstm_pack(*found, alone, backward[:0], ALONE, 1)
    np.testing.assert_array_equal(alone, forward)


def test_order_of_the_gates() -> None:
    assert (lstm.GATE_I, lstm.GATE_F, lstm.GATE_G, lstm.GATE_O) == (0, 1, 2, 3)


@each_type
def test_padded(dtype: Any) -> None:
    n = lanes(dtype)
    for columns in range(4 * n):
        padded = packing.padded(columns, np.dtype(dtype))
        assert columns <= padded < columns + n
        assert padded % n == 0
        paneled = packing.paneled(columns, np.dtype(dtype))
        assert columns <= paneled < columns + WIDTH * n
        assert paneled % (WIDTH * n) == 0


@each_type
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("make", [packing.aligned, packing.aligned_if_large])
def test_aligned(make: Callable[..., list[Any]], large: bool, dtype: Any) -> None:
    shapes = (3,), (2, 5), (0, 4), (), (7, 1, 3000 if large else 3)
    arrays = make(np.dtype(dtype), *shapes)
    assert tuple(array.shape for array in arrays) == shapes
    for n, array in enumerate(arrays):
        assert array.dtype == dtype
        assert array.flags.carray
        if large or make is packing.aligned:
            assert array.ctypes.data % packing.CACHE_LINE == 0
        array[...] = n
    for n, array in enumerate(arrays):
        assert np.all(array == n)


@each_type
def test_chunk(dtype: Any) -> None:
    dtype = np.dtype(dtype)
    for T in (0, 1, 5, 1000):
        for B in (0, 1, 7, 10_000):
            for width in (0, 4, 4096):
                steps = packing.chunk(T, B, width, dtype)
                assert 1 <= steps <= max(T, 1)
                rows = steps * B
                assert (
                    steps == 1
                    or rows <= packing.CHUNK_ROWS
                    or rows * width * dtype.itemsize <= packing.CHUNK_BYTES
                )


@each_type
def test_short_runs_are_of_few_rows(dtype: Any) -> None:
    def is_short(T: int, B: int, H: int, gates: int = 1) -> bool:
        return packing.is_short(T, B, 3, H, gates, np.dtype(dtype))

    for T, few, many in (1, 16, 128), (2, 4, 32), (3, 1, 12), (4, 1, 5), (5, 0, 4), (8, 0, 2):
        assert is_short(T, few, 5)
        assert not is_short(T, few + 1, 5)
        assert is_short(T, many, 1000)
        assert not is_short(T, many + 1, 1000)
        assert is_short(T, many, 200, 4)
        assert not is_short(T, few + 1, 200, 1)
    assert is_short(0, 7, 5)
    assert not is_short(9, 1, 1000)


@each_type
def test_gradients_size_covers_panels_the_transposed_rows_and_sums_of_a_pass(dtype: Any) -> None:
    array = np.empty(0, dtype)
    for rows, columns in product((0, 1, 17), (0, 1, 70, 5000)):
        for N in (0, 1, 6, 7, 100, DEPTH, DEPTH + 1, 10 * DEPTH):
            size = packing.gradients_size(rows, columns, N, np.dtype(dtype))
            depth = passes(N)
            needed = panels_space(array, columns, depth) + depth * rows
            needed += SUMS if depth < N else 0
            assert needed <= size <= 2 * needed
