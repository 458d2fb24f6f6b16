"""What each notebook computes, in plain NumPy: the specification, and where the notebook departs.

A class stands for a notebook and has its functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import reference

Array = NDArray[Any]


def softmax(x: Array) -> Array:
    """Shifted by the maximum of everything."""
    e = np.exp(x - x.max())
    y: Array = e / e.sum(axis=0)
    return y


def head(a: Array, W: Array, b: Array) -> Array:
    """`softmax` of each step's logits."""
    steps = [softmax(np.dot(W, a[:, :, t]) + b) for t in range(a.shape[2])]
    return np.stack(steps, axis=2)


class FullRNN:
    """Notebook 000."""

    softmax = staticmethod(softmax)
    rnn_cell_backward = staticmethod(reference.rnn_cell_backward)
    rnn_backward = staticmethod(reference.rnn_backward)

    @staticmethod
    def rnn_cell_forward(xt: Array, a_prev: Array, parameters: Any) -> Any:
        a, _, cache = reference.rnn_cell_forward(xt, a_prev, parameters)
        return a, head(a[:, :, None], parameters["Wya"], parameters["by"])[:, :, 0], cache

    @staticmethod
    def rnn_forward(x: Array, a0: Array, parameters: Any) -> Any:
        a, _, caches = reference.rnn_forward(x, a0, parameters)
        return a, head(a, parameters["Wya"], parameters["by"]), caches


class StepByStep:
    """Notebook 001: its own keys, states computed anew on the way back, ``dW_aa`` is ``W_aa``."""

    softmax_func = staticmethod(softmax)

    @staticmethod
    def renamed(weight_dict: Any) -> dict[str, Array]:
        return {key.replace("_", ""): array for key, array in weight_dict.items()}

    @classmethod
    def recomputed(cls, cache: Any) -> Any:
        _, a_prev, x_t, weight_dict = cache
        return reference.rnn_cell_forward(x_t, a_prev, cls.renamed(weight_dict))[2]

    @classmethod
    def cell_rnn(cls, a_prev: Array, x_curr: Array, weight_dict: Any) -> Any:
        a, y, cache = FullRNN.rnn_cell_forward(x_curr, a_prev, cls.renamed(weight_dict))
        return a, y, (*cache[:3], weight_dict)

    @classmethod
    def forward_rnn(cls, x: Array, a0: Array, weight_dict: Any) -> Any:
        a, y, (steps, x) = FullRNN.rnn_forward(x, a0, cls.renamed(weight_dict))
        return a, y, ([(*step[:3], weight_dict) for step in steps], x)

    @classmethod
    def backward_rnnCell(cls, da_t_1: Array, cache: Any) -> Any:  # noqa: N802
        g = reference.rnn_cell_backward(da_t_1, cls.recomputed(cache))
        return {
            "da_t_1": g["da_prev"],
            "dx_t": g["dxt"],
            "dW_aa": cache[3]["W_aa"],
            "db_a": g["dba"],
            "dW_ax": g["dWax"],
        }

    @classmethod
    def backward_pass(cls, da: Array, caches: Any) -> Any:
        steps, x = caches
        T = x.shape[2]
        g = reference.rnn_backward(da[:, :, :T], ([cls.recomputed(step) for step in steps], x))
        g["dWaa"] = T * steps[0][3]["W_aa"]
        return {key: g[key] for key in ("dx", "dWaa", "dWax", "dba", "da0")}


class FromScratch(FullRNN):
    """Notebook 002: the LSTM's first cache has no previous states."""

    sigmoid = staticmethod(reference.sigmoid)

    @staticmethod
    def lstm_cell_forward(xt: Array, a_prev: Array, c_prev: Array, parameters: Any) -> Any:
        a, c, _, cache = reference.lstm_cell_forward(xt, a_prev, c_prev, parameters)
        return a, c, softmax(np.dot(parameters["Wy"], a) + parameters["by"]), cache

    @staticmethod
    def lstm_forward(x: Array, a0: Array, parameters: Any) -> Any:
        a, _, c, (steps, x) = reference.lstm_forward(x, a0, parameters)
        steps[0] = (*steps[0][:2], *steps[0][:2], *steps[0][4:])
        return a, head(a, parameters["Wy"], parameters["by"]), c, (steps, x)


class Compact:
    """Notebook 003: the cell returns ``(y, cache)``, and its cache has ``a_prev`` first."""

    softmax = staticmethod(softmax)

    @staticmethod
    def swapped(cache: Any) -> Any:
        return (cache[1], cache[0], *cache[2:])

    @classmethod
    def rnn_cell_forward(cls, xt: Array, a_prev: Array, parameters: Any) -> Any:
        _, y, cache = FullRNN.rnn_cell_forward(xt, a_prev, parameters)
        return y, cls.swapped(cache)

    @classmethod
    def rnn_forward(cls, x: Array, a0: Array, parameters: Any) -> Any:
        a, y, (steps, x) = FullRNN.rnn_forward(x, a0, parameters)
        return a, y, ([cls.swapped(step) for step in steps], x)

    @classmethod
    def rnn_cell_backward(cls, da_next: Array, cache: Any) -> Any:
        return reference.rnn_cell_backward(da_next, cls.swapped(cache))

    @classmethod
    def rnn_backward(cls, da: Array, caches: Any) -> Any:
        steps, x = caches
        return reference.rnn_backward(
            da[:, :, : x.shape[2]], ([cls.swapped(step) for step in steps], x)
        )


class Exercise:
    """Notebook 004: tanh by a quotient of exponentials, and a way back without a carry."""

    softmax_forward = staticmethod(softmax)
    rnn_cell_backward = staticmethod(reference.rnn_cell_backward)

    @staticmethod
    def tanh_forward(x: Array) -> Array:
        up, down = np.exp(x), np.exp(-x)
        quotient: Array = (up - down) / (up + down)
        return quotient

    @classmethod
    def rnn_cell_forward(cls, xt: Array, a_prev: Array, parameters: Any) -> Any:
        Wax, Waa, ba = (parameters[key] for key in ("Wax", "Waa", "ba"))
        a = cls.tanh_forward(np.dot(Wax, xt) + np.dot(Waa, a_prev) + ba)
        y = head(a[:, :, None], parameters["Wya"], parameters["by"])[:, :, 0]
        return a, y, (a, a_prev, xt, parameters)

    @classmethod
    def rnn_forward(cls, x: Array, a0: Array, parameters: Any) -> Any:
        steps = []
        for t in range(x.shape[2]):
            a0, _, cache = cls.rnn_cell_forward(x[:, :, t], a0, parameters)
            steps.append(cache)
        a = np.stack([cache[0] for cache in steps], axis=2)
        return a, head(a, parameters["Wya"], parameters["by"]), (steps, x)

    @staticmethod
    def rnn_backward(da: Array, caches: Any) -> Any:
        T = da.shape[2]
        alone = [reference.rnn_cell_backward(da[:, :, t], caches[0][t]) for t in range(T)]
        sums: dict[str, Array] = {
            key: np.sum([g[key] for g in alone], axis=0) for key in ("dWax", "dWaa", "dba")
        }
        dx = np.stack([g["dxt"] for g in alone], axis=2)
        return {"dx": dx, "da0": alone[0]["da_prev"], **sums}


def same(got: Any, want: Any, tolerance: float = 1e-11) -> None:
    """Assert the same keys in the same order, the same lengths, shapes and numbers."""
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, tuple | list):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            same(one, other, tolerance)
    else:
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
