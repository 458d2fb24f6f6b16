"""What the notebooks have in common: the warning about mistakes, and the softmax."""

import sys
import warnings
from typing import Any

import numpy as np

from .. import activations
from ..checks import FLOAT32, FLOAT64, Array, checked

# Down to minus this, exponentials are normal numbers.
REACH = {FLOAT64: 708.0, FLOAT32: 87.0}

told: set[str] = set()


class NotebookErratumWarning(UserWarning):
    """A result is what the notebook returns, and the notebook is mistaken."""


def tell(mistake: str, right: str) -> None:
    """Warn of a mistake, once in a process, at the line that called into fastrnn.

    Python's own "once" filter would leave the choice to the program and to pytest, and its
    default shows a warning again at every line that leads to it. If a filter turns the warning
    into an error, every call raises.
    """
    message = f"{mistake}; fastrnn.{right} is right"
    if message in told:
        return
    level = 1
    while sys._getframe(level).f_globals.get("__name__", "").startswith("fastrnn."):
        level += 1
    warnings.warn(message, NotebookErratumWarning, stacklevel=level + 1)
    told.add(message)


def _shift(y: Array, z: Array, top: Array, right: str) -> None:
    """Turn ``y``, the softmax of each column of ``z``, into what a shift by ``top`` gives."""
    with np.errstate(all="ignore"):
        wrong = ~(z.max(axis=0) - top > -REACH[y.dtype]) & ~np.isnan(y[0])
        if np.any(wrong):
            e = np.exp(z - top)
            y[:, wrong] = (e / e.sum(axis=0))[:, wrong]
            tell(
                "The notebook's softmax subtracts the maximum of the whole matrix, and columns "
                "far below it underflow or turn into NaN",
                right,
            )


def softmax(x: Any) -> Array:
    """Softmax of each column, shifted by the maximum of the whole array.

    Parameters
    ----------
    x : array_like, shape (n, ...)
        Logits; the sum runs over the first axis.

    Returns
    -------
    ndarray, shape of x

    Warns
    -----
    NotebookErratumWarning
        In exact arithmetic the shift does not matter. But a column whose maximum lies more than
        708 (float32: 87) below that of the array loses digits, from 745 (104) on it is NaN, and
        so is every column beside a NaN or an infinity. `fastrnn.softmax` is right.
    """
    y = activations.softmax(x)
    z = np.asarray(x, y.dtype)
    if y.size and not z.max() < z.min() + REACH[y.dtype]:
        _shift(y, z, z.max(), "softmax")
    return y


def spoil(y: Array, a: Array, W: Any, b: Any, right: str) -> None:
    """Turn the right predictions of a forward function into the notebook's, in place.

    Parameters
    ----------
    y : ndarray, shape (n_y, m) or (n_y, m, T_x)
        The predictions; each step has a softmax of its own.
    a : ndarray, shape (n_a, m) or (n_a, m, T_x)
        The states that they were made from.
    W, b : array_like, shapes (n_y, n_a) and (n_y, 1)
        The weights of the head.
    right : str
        The function of `fastrnn` to name in a warning.
    """
    if y.size == 0:
        return
    W = np.asarray(W, y.dtype)
    reach = REACH[y.dtype]
    # Nothing is NaN if no prediction is. States are in [-1, 1], so the logits of two columns
    # differ by at most 2 sum |W| in each row, which is at most 2 sqrt(n_a sum W^2).
    numbers = np.vdot(y, y) >= 0
    if numbers and 4 * len(a) * float(np.vdot(W, W)) < reach**2:
        return
    with np.errstate(all="ignore"):
        if numbers and 2 * np.abs(W).sum(axis=1).max(initial=0) < reach:
            return
        b = np.asarray(b, y.dtype).reshape(-1, *[1] * (a.ndim - 1))
        z = np.tensordot(W, a, 1) + b
    _shift(y, z, z.max(axis=(0, 1)), right)


def steps_of_x(da: Any, x: Any) -> Array:
    """The steps of ``da`` that a notebook reads which takes their number from ``x``."""
    da = checked("da", da, ("n_a", "m", "T_x"), {})
    T_x = checked("x in caches", x, ("n_x", "m", "T_x"), {}).shape[2]
    if da.shape[2] < T_x:
        raise ValueError(
            f"da has shape {da.shape}, {da.shape[2]} steps; wanted at least {T_x}, as many as x has"
        )
    first: Array = da[:, :, :T_x]
    return first
