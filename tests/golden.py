"""The numbers that the course notebooks print, for every implementation of the cells.

Each function of CASES takes a module with the public names (fastrnn, fastrnn.reference) and yields
what that module computes beside the printed digits; `check` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pairs = Iterator[tuple[Any, str]]


def check(pairs: Pairs) -> None:
    """Assert that every number is the printed one to within half a unit of its last digit."""
    for got, printed in pairs:
        digits = [Decimal(number) for number in printed.split()]
        # The 1 % is for the rounding of the comparison itself.
        half_units = [0.505 * 10.0 ** int(number.as_tuple().exponent) for number in digits]
        difference = np.ravel(got) - np.array([float(number) for number in digits])
        assert np.all(np.abs(difference) <= half_units), (got, printed)


def draw(**shapes: tuple[int, ...]) -> dict[str, Array]:
    """Standard normal arrays, drawn in the order given from NumPy's legacy generator at seed 1."""
    rng = np.random.RandomState(1)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def spread(**shapes: tuple[int, ...]) -> dict[str, Array]:
    """Arrays whose elements run from -1 to 1 in equal steps."""
    return {
        name: np.linspace(-1, 1, num=int(np.prod(shape))).reshape(shape)
        for name, shape in shapes.items()
    }


def activations(cells: Any) -> Pairs:
    x = np.linspace(-0.5, 0.5, num=12).reshape(3, 4)
    yield (
        cells.tanh(x),
        """-0.46211716 -0.38770051 -0.30786199 -0.22343882
           -0.13552465 -0.04542327  0.04542327  0.13552465
            0.22343882  0.30786199  0.38770051  0.46211716""",
    )
    yield (
        cells.softmax(x),
        """0.22182884 0.22182884 0.22182884 0.22182884
           0.31911211 0.31911211 0.31911211 0.31911211
           0.45905905 0.45905905 0.45905905 0.45905905""",
    )


def rnn_cell_forward_spread(cells: Any) -> Pairs:
    inputs = spread(xt=(3, 10), a_prev=(5, 10))
    parameters = spread(Waa=(5, 5), Wax=(5, 3), Wya=(2, 5), ba=(5, 1), by=(2, 1))
    _, yt_pred, _ = cells.rnn_cell_forward(*inputs.values(), parameters)
    yield (
        yt_pred,
        """0.01173649 0.00919828 0.00893178 0.01089865 0.01526617
           0.02177653 0.02945747 0.03722571 0.04439407 0.05064493
           0.98826351 0.99080172 0.99106822 0.98910135 0.98473383
           0.97822347 0.97054253 0.96277429 0.95560593 0.94935507""",
    )


def rnn_forward_spread(cells: Any) -> Pairs:
    inputs = spread(x=(3, 10, 4), a0=(5, 10))
    parameters = spread(Waa=(5, 5), Wax=(5, 3), Wya=(2, 5), ba=(5, 1), by=(2, 1))
    a, y_pred, caches = cells.rnn_forward(*inputs.values(), parameters)
    yield y_pred[1][3], "0.98938177 0.92781377 0.98516102 0.94756773"
    yield a[4][1], "0.26093070 0.98545286 0.84171072 0.99476474"
    yield caches[1][1][3], "-0.12605042 -0.10924370 -0.09243697 -0.07563025"


def rnn_forward(cells: Any) -> Pairs:
    arrays = draw(
        x=(3, 10, 4),
        a0=(5, 10),
        Waa=(5, 5),
        Wax=(5, 3),
        Wya=(2, 5),
        ba=(5, 1),
        by=(2, 1),
    )
    x, a0 = (arrays.pop(name) for name in ("x", "a0"))
    a, y_pred, _ = cells.rnn_forward(x, a0, arrays)
    yield a[4][1], "-0.99999375 0.77911235 -0.99861469 -0.99833267"
    yield y_pred[1][3], "0.79560373 0.86224861 0.11118257 0.81515947"


def rnn_cell_backward(cells: Any) -> Pairs:
    arrays = draw(
        xt=(3, 10),
        a_prev=(5, 10),
        Wax=(5, 3),
        Waa=(5, 5),
        Wya=(2, 5),
        ba=(5, 1),
        by=(2, 1),
        da_next=(5, 10),
    )
    xt, a_prev, da_next = (arrays.pop(name) for name in ("xt", "a_prev", "da_next"))
    _, _, cache = cells.rnn_cell_forward(xt, a_prev, arrays)
    yield (
        cells.rnn_cell_backward(da_next, cache)["dxt"][2],
        """-0.02886535 0.15285269 -0.24771553 -0.15388680 -0.30123978
           0.43068929 0.14488960 0.07010807 -0.22645813 0.09275214""",
    )


def rnn_sequence() -> tuple[Array, Array, dict[str, Array], Array]:
    """x, a0, parameters and da of the course's test of rnn_backward."""
    arrays = draw(
        x=(3, 10, 4),
        a0=(5, 10),
        Wax=(5, 3),
        Waa=(5, 5),
        Wya=(2, 5),
        ba=(5, 1),
        by=(2, 1),
        da=(5, 10, 4),
    )
    x, a0, da = (arrays.pop(name) for name in ("x", "a0", "da"))
    return x, a0, arrays, da


def rnn_backward(cells: Any) -> Pairs:
    x, a0, parameters, da = rnn_sequence()
    _, _, caches = cells.rnn_forward(x, a0, parameters)
    gradients = cells.rnn_backward(da, caches)
    yield gradients["dx"][1][2], "-2.07101689 -0.59255627 0.02466855 0.01483317"
    yield gradients["da0"][2][3], "-0.314942375127"
    yield gradients["dWax"][3][1], "11.2641044965"
    yield gradients["dWaa"][1][2], "2.30333312658"
    yield gradients["dba"][4], "-0.74747722"


def rnn_backward_without_carry(cells: Any) -> Pairs:
    """What notebook 004 prints: its steps do not pass da_prev on, so each stands alone."""
    x, a0, parameters, da = rnn_sequence()
    _, _, (steps, _) = cells.rnn_forward(x, a0, parameters)
    alone = [cells.rnn_cell_backward(da[:, :, t], steps[t]) for t in range(4)]
    yield [step["dxt"][1, 2] for step in alone], "-0.15028183 -0.34554547 0.02071758 0.01483317"
    yield alone[0]["da_prev"][2][3], "-0.172688931839"


def lstm_cell_backward(cells: Any) -> Pairs:
    arrays = draw(
        xt=(3, 10),
        a_prev=(5, 10),
        c_prev=(5, 10),
        Wf=(5, 8),
        bf=(5, 1),
        Wi=(5, 8),
        bi=(5, 1),
        Wo=(5, 8),
        bo=(5, 1),
        Wc=(5, 8),
        bc=(5, 1),
        Wy=(2, 5),
        by=(2, 1),
        da_next=(5, 10),
        dc_next=(5, 10),
    )
    names = ("xt", "a_prev", "c_prev", "da_next", "dc_next")
    xt, a_prev, c_prev, da_next, dc_next = (arrays.pop(name) for name in names)
    *_, cache = cells.lstm_cell_forward(xt, a_prev, c_prev, arrays)
    gradients = cells.lstm_cell_backward(da_next, dc_next, cache)
    yield gradients["dxt"][1][2], "3.23055911511"
    yield gradients["da_prev"][2][3], "-0.0639621419711"
    yield gradients["dc_prev"][2][3], "0.797522038797"
    yield gradients["dWf"][3][1], "-0.147954838164"
    yield gradients["dWi"][1][2], "1.05749805523"
    yield gradients["dWc"][3][1], "2.30456216369"
    yield gradients["dWo"][1][2], "0.331311595289"


CASES = (
    activations,
    rnn_cell_forward_spread,
    rnn_forward_spread,
    rnn_forward,
    rnn_cell_backward,
    rnn_backward,
    rnn_backward_without_carry,
    lstm_cell_backward,
)
