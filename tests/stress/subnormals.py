"""What subnormal numbers cost: a layer's forward pass over normal input, and over subnormal.

    python -m tests.stress.subnormals

Without bias, states and all products are then as small as the input.
"""

from __future__ import annotations

import timeit

import numpy as np

from tests.cells import CELLS, Cell

T, B, D, H = 50, 16, 64, 64


def seconds(cell: Cell, dtype: np.dtype, scale: float) -> float:
    """The least of many times of a forward pass over input of this size."""
    problem = cell.problem(D, H, B, T, dtype=dtype)
    weights = {key: w if "W" in key else w * 0 for key, w in problem.parameters.items()}
    layer = cell.layer(weights, training=False)
    workspace = layer.workspace(T, B)
    x = np.ascontiguousarray(problem.x.T) * dtype.type(scale)
    return min(timeit.repeat(lambda: layer.forward(x, None, workspace), number=5, repeat=20)) / 5


if __name__ == "__main__":
    for cell in CELLS.values():
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            normal, small = (seconds(cell, dtype, s) for s in (1.0, np.finfo(dtype).tiny / 100))
            print(f"{cell.name} {dtype}: {normal * 1e6:.0f} us, subnormal {small * 1e6:.0f} us, "
                  f"{small / normal:.1f} times as long")  # fmt: skip
