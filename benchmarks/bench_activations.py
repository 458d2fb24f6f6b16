"""tanh, sigmoid and softmax of whole arrays, beside the NumPy reference."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .bench_functions import MODULES
from .common import BASELINES, DTYPES, Timed, filled


class Activation(Timed):
    params = (["tanh", "sigmoid", "softmax"], DTYPES, [100, 100_000], BASELINES)
    param_names = ("function", "dtype", "elements", "implementation")

    def make(
        self, function: str, dtype: str, elements: int, implementation: str
    ) -> Callable[[], Any]:
        x = filled((10, elements // 10), dtype)
        run = getattr(MODULES[implementation], function)
        expected = getattr(MODULES["NumPy"], function)(x.astype(np.float64))
        # A few roundings in each element, ten more in a softmax's sum.
        if not np.allclose(run(x), expected, rtol=16 * np.finfo(dtype).eps, atol=0):
            raise RuntimeError(f"{function} is wrong")
        return lambda: run(x)

    def time_activation(self, *_: Any) -> None:
        self.run()
