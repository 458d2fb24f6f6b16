"""Notebook 001, the RNN with its own names: ``W_ax``, ``W_aa``, ``W_ya``, ``b_a``, ``b_y``."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .. import activations, rnn
from ..checks import Array, checked, sequence, weights
from ..rnn import RNNSteps, rnn_steps
from ..steps import Cache
from ._shared import softmax, spoil, steps_of_x, tell

__all__ = ["backward_pass", "backward_rnnCell", "cell_rnn", "forward_rnn", "softmax_func"]

CELL_KEYS = {"W_ax": "Wax", "W_aa": "Waa", "b_a": "ba"}
KEYS = CELL_KEYS | {"W_ya": "Wya", "b_y": "by"}
AXES = {"W_ax": ("n_a", "n_x"), "W_aa": ("n_a", "n_a"), "b_a": ("n_a", "1")}

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _in_own_names(**names: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Let a function's errors name arguments and weights as the notebook does."""
    names |= {ours: theirs for theirs, ours in KEYS.items()} | {"parameters": "weight_dict"}
    pattern = re.compile(rf"\b({'|'.join(names)})\b")

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @wraps(function)
        def renaming(*arguments: Given.args, **keywords: Given.kwargs) -> Result:
            try:
                return function(*arguments, **keywords)
            except (TypeError, ValueError, KeyError) as error:
                message = pattern.sub(lambda match: names[match[0]], str(error.args[0]))
                raise type(error)(message) from None

        return renaming

    return decorate


def _renamed(weight_dict: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    """The weights under the names that `fastrnn` has for them."""
    if not isinstance(weight_dict, Mapping):
        raise TypeError(
            f"weight_dict is {type(weight_dict).__name__}; "
            f"wanted a mapping with the keys {', '.join(keys)}"
        )
    missing = [key for key in keys if key not in weight_dict]
    if missing:
        raise KeyError(f"weight_dict lacks {', '.join(missing)}; wanted {', '.join(keys)}")
    return {ours: weight_dict[theirs] for theirs, ours in keys.items()}


def _state(x_t: Any, a_prev: Any, weight_dict: Any) -> Array:
    """``a_cur`` of a step, without the head of the cell."""
    sizes = {"1": 1}
    W_ax, W_aa, b_a = weights(weight_dict, AXES, sizes)
    x_t = checked("x_t", x_t, ("n_x", "m"), sizes)
    a_prev = checked("a_prev", a_prev, ("n_a", "m"), sizes)
    return activations.tanh(np.dot(W_ax, x_t) + np.dot(W_aa, a_prev) + b_a)


@_in_own_names(x="yhat")
def softmax_func(yhat: Any) -> Array:
    """Softmax of each column, shifted by the maximum of the whole array.

    Parameters
    ----------
    yhat : array_like, shape (n, ...)
        Logits; the sum runs over the first axis.

    Returns
    -------
    ndarray, shape of yhat

    Warns
    -----
    NotebookErratumWarning
        A column whose maximum lies more than 708 (float32: 87) below that of the array loses
        digits, from 745 (104) on it is NaN, and so is every column beside a NaN or an infinity.
        `fastrnn.softmax` is right.
    """
    return softmax(yhat)


@_in_own_names(xt="x_curr")
def cell_rnn(a_prev: Any, x_curr: Any, weight_dict: Any) -> tuple[Array, Array, Cache]:
    """One step: ``a_curr = tanh(W_ax x_curr + W_aa a_prev + b_a)``.

    Parameters
    ----------
    a_prev : array_like, shape (n_a, m)
    x_curr : array_like, shape (n_x, m)
    weight_dict : mapping
        ``W_ax (n_a, n_x)``, ``W_aa (n_a, n_a)``, ``W_ya (n_y, n_a)``, ``b_a (n_a, 1)``,
        ``b_y (n_y, 1)``.

    Returns
    -------
    a_curr : ndarray, shape (n_a, m)
    y_hat_curr : ndarray, shape (n_y, m)
        ``softmax_func(W_ya a_curr + b_y)``.
    cache : tuple
        ``(a_curr, a_prev, x_curr, weight_dict)``.

    Warns
    -----
    NotebookErratumWarning
        `softmax_func` has underflowed; `fastrnn.rnn_cell_forward` is right.
    """
    parameters = _renamed(weight_dict, KEYS)
    a_curr, y_hat_curr, cache = rnn.rnn_cell_forward(x_curr, a_prev, parameters)
    spoil(y_hat_curr, a_curr, parameters["Wya"], parameters["by"], "rnn_cell_forward")
    return a_curr, y_hat_curr, (*cache[:3], weight_dict)


@_in_own_names()
def forward_rnn(x: Any, a0: Any, weight_dict: Any) -> tuple[Array, Array, tuple[RNNSteps, Any]]:
    """`cell_rnn` over all time steps.

    Parameters
    ----------
    x : array_like, shape (n_x, m, T_x)
    a0 : array_like, shape (n_a, m)
    weight_dict : mapping
        As for `cell_rnn`.

    Returns
    -------
    a_all : ndarray, shape (n_a, m, T_x)
    y_hat_all : ndarray, shape (n_y, m, T_x)
    caches : tuple
        ``(per-step caches, x)``.

    Warns
    -----
    NotebookErratumWarning
        `softmax_func` has underflowed; `fastrnn.rnn_forward` is right.
    """
    parameters = _renamed(weight_dict, KEYS)
    a_all, y_hat_all, (steps, x) = rnn.rnn_forward(x, a0, parameters)
    spoil(y_hat_all, a_all, parameters["Wya"], parameters["by"], "rnn_forward")
    return a_all, y_hat_all, (RNNSteps(weight_dict, steps.x, steps.h_prev, steps.h), x)


def _tell_of_the_gradient(right: str) -> None:
    tell("The notebook returns W_aa itself as its gradient", right)


@_in_own_names(da_next="da_t_1", xt="x_t", a_next="a_cur")
def backward_rnnCell(da_t_1: Any, cache: Any) -> dict[str, Array]:  # noqa: N802
    """Gradients of one step.

    The hidden state is computed anew from the cached input and previous state, as in the
    notebook; the one in the cache is not read.

    Parameters
    ----------
    da_t_1 : array_like, shape (n_a, m)
        Gradient with respect to the state after the step.
    cache : tuple
        The cache of `cell_rnn`.

    Returns
    -------
    dict
        ``da_t_1 (n_a, m)``, the gradient with respect to the state before the step,
        ``dx_t (n_x, m)``, ``dW_aa (n_a, n_a)``, ``db_a (n_a, 1)``, ``dW_ax (n_a, n_x)``.

    Warns
    -----
    NotebookErratumWarning
        ``dW_aa`` is ``W_aa`` itself; `fastrnn.rnn_cell_backward` is right.
    """
    _, a_prev, x_t, weight_dict = sequence("cache", cache, 4, "(a_cur, a_prev, x_t, weight_dict)")
    a_cur = _state(x_t, a_prev, weight_dict)
    parameters = _renamed(weight_dict, CELL_KEYS)
    gradients = rnn.rnn_cell_backward(da_t_1, (a_cur, a_prev, x_t, parameters))
    _tell_of_the_gradient("rnn_cell_backward")
    return {
        "da_t_1": gradients["da_prev"],
        "dx_t": gradients["dxt"],
        "dW_aa": weight_dict["W_aa"],
        "db_a": gradients["dba"],
        "dW_ax": gradients["dWax"],
    }


@_in_own_names(xt="x_t", a_next="a_cur")
def backward_pass(da: Any, caches: Any) -> dict[str, Array]:
    """`backward_rnnCell` from the last step to the first.

    Parameters
    ----------
    da : array_like, shape (n_a, m, T_x)
        Gradient with respect to each hidden state; steps beyond those of x are not read.
    caches : tuple
        The caches of `forward_rnn`, or ``(list of the caches of cell_rnn, x)``. The states in a
        list are not read, but computed anew as in `backward_rnnCell`.

    Returns
    -------
    dict
        ``dx (n_x, m, T_x)``, ``dWaa (n_a, n_a)``, ``dWax (n_a, n_x)``, ``dba (n_a, 1)``,
        ``da0 (n_a, m)``.

    Warns
    -----
    NotebookErratumWarning
        ``dWaa`` is ``W_aa`` times the number of steps; `fastrnn.rnn_backward` is right.
    """
    steps, (given, x) = rnn_steps(caches, CELL_KEYS), caches
    da = steps_of_x(da, x)
    h = steps.h
    if steps is not given:
        # All steps at once, as examples of one step.
        x_t, a_prev = (rows.reshape(-1, rows.shape[2]).T for rows in (steps.x, steps.h_prev))
        h = _state(x_t, a_prev, steps.parameters).T.reshape(h.shape)
    parameters = _renamed(steps.parameters, CELL_KEYS)
    run = RNNSteps(parameters, steps.x, steps.h_prev, h)
    gradients = rnn.rnn_backward(da, (run, x))
    _tell_of_the_gradient("rnn_backward")
    dtype = gradients["dWax"].dtype
    return {
        "dx": gradients["dx"],
        "dWaa": np.multiply(parameters["Waa"], da.shape[2], dtype=dtype),
        "dWax": gradients["dWax"],
        "dba": gradients["dba"],
        "da0": gradients["da0"],
    }
