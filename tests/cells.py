"""The two cells as the tests see them: names, shapes, functions, by one description of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastrnn
from tests.problems import Problem, lstm_problem, normal, rnn_problem

Array = NDArray[Any]
Sizes = tuple[int, int, int, int, int]  # n_x, n_a, m, T, n_y


@dataclass(frozen=True)
class Cell:
    """A cell; its functions are those of the module given: `fastrnn` or its reference."""

    name: str
    problem: Callable[..., Problem]
    layer: Callable[..., Any]
    gates: int
    states: tuple[str, ...]  # what a step hands on to the next
    weights: tuple[str, ...]  # all but the head's
    head: str
    cache: tuple[str, ...]

    def function(self, module: ModuleType, kind: str) -> Callable[..., Any]:
        """`kind` is forward, backward, cell_forward or cell_backward."""
        found: Callable[..., Any] = getattr(module, f"{self.name}_{kind}")
        return found

    def forward(self, module: ModuleType, problem: Problem) -> tuple[dict[str, Array], Any]:
        """The results of the sequence by name, and the caches."""
        *arrays, caches = self.function(module, "forward")(
            problem.x, problem.a0, problem.parameters
        )
        return dict(zip(("a", "y", "c"), arrays, strict=False)), caches

    def run(
        self, module: ModuleType, problem: Problem, dz: Array | None = None
    ) -> dict[str, Array]:
        """Everything that the sequence functions return, there and back, by name."""
        arrays, caches = self.forward(module, problem)
        if dz is None:
            dz = normal(arrays["y"].shape, arrays["y"].dtype)
        backward = self.function(module, "backward")
        return arrays | backward(problem.da, caches) | module.output_backward(dz, caches)

    def step_inputs(self, problem: Problem) -> dict[str, Array]:
        """Arguments of the cell's forward function."""
        a_prev = problem.a0
        names = ("a_prev", "c_prev")[: len(self.states)]
        cells = [normal(a_prev.shape, a_prev.dtype, seed) for seed in (2, 3)]
        states = dict(zip(names, (a_prev, cells[0]), strict=False))
        return {"xt": problem.x[:, :, 0], **states}

    def step_upstream(self, problem: Problem) -> dict[str, Array]:
        """Gradients that the cell's backward function is given."""
        names = ("da_next", "dc_next")[: len(self.states)]
        a0 = problem.a0
        return {name: normal(a0.shape, a0.dtype, 4 + i) for i, name in enumerate(names)}

    def run_step(
        self,
        module: ModuleType,
        inputs: Mapping[str, Array],
        upstream: Mapping[str, Array],
        parameters: Mapping[str, Array],
    ) -> dict[str, Array]:
        """Everything that the cell functions return, there and back, by name."""
        *arrays, yt_pred, cache = self.function(module, "cell_forward")(
            *inputs.values(), parameters
        )
        names = ("a_next", "c_next")[: len(self.states)]
        kept = dict(zip(self.cache[:-1], cache[:-1], strict=True))
        backward = self.function(module, "cell_backward")(*upstream.values(), cache)
        return {
            **dict(zip(names, arrays, strict=True)),
            "yt_pred": yt_pred,
            **{f"cache {name}": array for name, array in kept.items()},
            **backward,
        }

    def loop(self, module: ModuleType, problem: Problem) -> tuple[list[Any], Array]:
        """Caches as a user's own loop over the cell function builds them."""
        step = self.function(module, "cell_forward")
        states = [problem.a0, np.zeros_like(problem.a0)][: len(self.states)]
        caches = []
        for t in range(problem.x.shape[2]):
            *states, _, cache = step(problem.x[:, :, t], *states, problem.parameters)
            caches.append(cache)
        return caches, problem.x

    def summands(self, sizes: Sizes) -> int:
        """Roundings on the longest way through a forward and a backward pass."""
        n_x, n_a, m, T, n_y = sizes
        there = T * (n_x + n_a + 1) + n_a + 1
        back = n_y + T * (self.gates * n_a + 1) + T * m
        return there + back


RNN = Cell(
    name="rnn",
    problem=rnn_problem,
    layer=fastrnn.RNN,
    gates=1,
    states=("h",),
    weights=("Wax", "Waa", "ba"),
    head="Wya",
    cache=("a_next", "a_prev", "xt", "parameters"),
)
LSTM = Cell(
    name="lstm",
    problem=lstm_problem,
    layer=fastrnn.LSTM,
    gates=4,
    states=("h", "c"),
    weights=tuple(kind + gate for kind in "Wb" for gate in "fico"),
    head="Wy",
    cache=(
        *("a_next", "c_next", "a_prev", "c_prev"),
        *("ft", "it", "cct", "ot", "xt", "parameters"),
    ),
)
CELLS = {cell.name: cell for cell in (RNN, LSTM)}


def convert(problem: Problem, change: Callable[[Array], Any]) -> Problem:
    """The problem with every array changed so."""
    parameters, *arrays = problem
    changed = {key: change(array) for key, array in parameters.items()}
    return Problem(changed, *(change(array) for array in arrays))


def in_type(problem: Problem, dtype: DTypeLike) -> Problem:
    return convert(problem, lambda array: array.astype(dtype))
