"""tanh, sigmoid and softmax of whole arrays, beside the NumPy reference and two peers."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from .bench_functions import MODULES
from .common import BASELINES, DTYPES, Timed, filled, peer

PEERS = ["PyTorch", "JAX"]


class Activation(Timed):
    params = (["tanh", "sigmoid", "softmax"], DTYPES, [100, 100_000], BASELINES + PEERS)
    param_names = ("function", "dtype", "elements", "implementation")

    def make(
        self, function: str, dtype: str, elements: int, implementation: str
    ) -> Callable[[], Any]:
        x = filled((10, elements // 10), dtype)
        run = prepared(function, x, implementation)
        expected = getattr(MODULES["NumPy"], function)(x.astype(np.float64))
        # A few roundings in each element, ten more in a softmax's sum.
        if not np.allclose(run(), expected, rtol=16 * np.finfo(dtype).eps, atol=0):
            raise RuntimeError(f"{function} is wrong")
        return run

    def time_activation(self, *_: Any) -> None:
        self.run()


def prepared(function: str, x: np.ndarray, implementation: str) -> Callable[[], Any]:
    """The call to time; the columns of a softmax are those of `x`."""
    if implementation in MODULES:
        run = getattr(MODULES[implementation], function)
        return lambda: run(x)
    peer(implementation)  # sets its threads and precision
    axis = [0] if function == "softmax" else []
    if implementation == "PyTorch":
        torch = import_module("torch")
        tensor, run = torch.from_numpy(x), getattr(torch, function)
        return lambda: run(tensor, *axis)
    jax = import_module("jax")
    array, run = jax.numpy.asarray(x), getattr(jax.nn, function)
    compiled = jax.jit(lambda array: run(array, *axis))
    return lambda: jax.block_until_ready(compiled(array))
