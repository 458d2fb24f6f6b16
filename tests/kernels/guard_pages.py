"""Run every kernel on arrays that end, or begin, where a page without access begins, or ends.

A read or a write beyond an array then kills the process, so `test_memory` runs this one:
``python -m tests.kernels.guard_pages end float32``, ``... start float64``.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np

import fastrnn
from fastrnn import activations, head, layer, lstm, packing, rnn, threads
from tests.cells import CELLS, Cell, convert
from tests.problems import normal
from tests.threads import in_chunks, in_every_call

PAGE = mmap.PAGESIZE
NO_ACCESS = 0
SIZES = (  # n_x, n_a, m, T, n_y
    (1, 1, 1, 1, 1),
    (3, 5, 0, 4, 2),
    (3, 5, 2, 3, 7),
    (17, 33, 13, 2, 70),
    (2, 9, 65, 9, 3),
    (150, 131, 3, 2, 5),
    (3, 2, 26, 4, 2),
    (5, 4, 3, 2, 3),
    (9, 33, 8, 1, 70),
    (1024, 20, 1, 2, 1),  # rows of Wax that share a set of a first-level cache
    (1000, 24, 1, 1, 1),  # rows of Wf
)
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

at_end = True


def fenced(shape: Any, dtype: Any = np.float64) -> np.ndarray:
    """An array of NaN between two pages without access, tight against one of them."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = max(1, -(-size // PAGE))
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    for fence in (address, address + (pages + 1) * PAGE):
        if libc.mprotect(fence, PAGE, NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    offset = PAGE + (pages * PAGE - size if at_end else 0)
    array: np.ndarray = np.ndarray(shape, dtype, memory, offset)
    array.fill(np.nan if dtype.kind == "f" else 0)
    return array


def fenced_copy(array: np.ndarray) -> np.ndarray:
    copy = fenced(array.shape, array.dtype)
    copy[...] = array
    return copy


def fenced_pieces(dtype: np.dtype, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """In the place of `fastrnn.packing.aligned`."""
    return [fenced(shape, dtype) for shape in shapes]


class FencedNumPy:
    """In the place of a module's ``np``."""

    empty = staticmethod(fenced)
    zeros = staticmethod(fenced)  # of integers

    @staticmethod
    def empty_like(array: np.ndarray) -> np.ndarray:
        return fenced(array.shape, array.dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def run(cell: Cell, sizes: tuple[int, ...], dtype: Any) -> None:
    _, n_a, m, T, n_y = sizes
    problem = convert(cell.problem(*sizes, dtype=dtype), fenced_copy)
    module = {"rnn": rnn, "lstm": lstm}[cell.name]
    for short in True, False:
        module.is_short = lambda *_, short=short: short  # type: ignore[attr-defined]
        found = cell.run(fastrnn, problem, fenced_copy(normal((n_y, m, T), dtype)))
    found |= cell.run_step(
        fastrnn,
        {name: fenced_copy(array) for name, array in cell.step_inputs(problem).items()},
        {name: fenced_copy(array) for name, array in cell.step_upstream(problem).items()},
        problem.parameters,
    )
    for count, training in ((1, True), (3, True), (1, False)):
        layer_ = cell.layer(problem.parameters, count, training=training)
        x = fenced_copy(np.ascontiguousarray(problem.x.T))
        dh = fenced_copy(normal((T, m, n_a), dtype))
        for short in True, False:
            module.is_short = lambda *_, short=short: short  # type: ignore[attr-defined]
            ws = layer_.workspace(T, m)
            layer_.update(problem.parameters, copy=False)
            found["h"], _ = layer_.forward(x, layer_.zero_state(m), ws)
            if training:
                found |= layer_.backward(dh, None, ws)
        layer_.forward(x)
        layer_.step(fenced_copy(x[0]), layer_.zero_state(m))
    for name in ("sigmoid", "tanh", "softmax"):
        found[name] = getattr(fastrnn, name)(problem.x)
    wrong = [name for name, array in found.items() if not np.isfinite(array).all()]
    assert not wrong, (cell.name, sizes, dtype, wrong)


def main() -> None:
    global at_end
    where, dtype, *fault = sys.argv[1:]
    at_end = where == "end"
    in_every_call()
    in_chunks(4)  # two steps of two examples, then the third alone
    for module in (head, layer, lstm, rnn):
        module.aligned = fenced_pieces  # type: ignore[attr-defined]
        module.aligned_if_large = fenced_pieces  # type: ignore[attr-defined]
    for module in (activations, head, lstm, packing, rnn, threads):
        module.np = FencedNumPy()  # type: ignore[attr-defined]
    # From one element after a line's start on, all the room that `align` is given is used.
    scratch_size = packing._scratch_size
    packing._scratch_size = lambda *arguments: scratch_size(*arguments) - 1  # type: ignore
    if fault:  # to see that the fence holds
        array = fenced((3,))
        ctypes.memset(array.ctypes.data + array.nbytes, 0, 1)
    for cell in CELLS.values():
        for sizes in SIZES:
            run(cell, sizes, dtype)
    print("no access beyond an array")


if __name__ == "__main__":
    main()
