"""softmax, sigmoid and tanh of whole arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import Array, as_array, common_dtype, ready
from .kernels import activations as kernels


def _elementwise(kernel: Callable[..., None], x: Any) -> Array:
    x = as_array("x", x)
    source = ready(x, common_dtype((x,)))
    out = np.empty_like(source)
    kernel(source.reshape(-1), out.reshape(-1))
    return out[()]


def sigmoid(x: Any) -> Array:
    """Logistic function ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array_like, any shape
        Real numbers.

    Returns
    -------
    ndarray, shape of x (a number for a number)
        float32 for float32, else float64; within 1.5 units in the last place (1.6 on a CPU
        without fused multiply-add), also where it is close to 0.  NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        `x` is not an array of real numbers.
    """
    return _elementwise(kernels.sigmoid_array, x)


def tanh(x: Any) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array_like, any shape
        Real numbers.

    Returns
    -------
    ndarray, shape of x (a number for a number)
        float32 for float32, else float64; within 1.5 units in the last place.  NaN gives NaN.

    Raises
    ------
    TypeError, ValueError
        `x` is not an array of real numbers.
    """
    return _elementwise(kernels.tanh_array, x)


def softmax(x: Any) -> Array:
    """Softmax over the first axis: ``exp(x) / exp(x).sum(axis=0)``.

    Each column is shifted by its own maximum, so columns far apart do not underflow.

    Parameters
    ----------
    x : array_like, shape (n, ...)
        Real numbers.

    Returns
    -------
    ndarray, shape of x
        float32 for float32, else float64.  A column that holds NaN or +inf, or nothing but
        -inf, is NaN.

    Raises
    ------
    TypeError, ValueError
        `x` is not an array of real numbers, or has no axis.

    References
    ----------
    Bridle (1990), "Probabilistic interpretation of feedforward classification network
    outputs".
    """
    x = as_array("x", x)
    if x.ndim == 0:
        raise ValueError("x has shape (), no axis; wanted (n, ...)")
    x = ready(x, common_dtype((x,)))
    out = np.empty(x.shape, x.dtype)
    if out.size == 0:
        return out
    if x.ndim == 1:
        kernels.softmax_array(x, out)
    else:
        scratch = np.empty(2 * kernels.BESIDE, x.dtype)
        kernels.softmax_columns(x.reshape(-1), out.reshape(-1), len(x), x[0].size, scratch)
    return out
