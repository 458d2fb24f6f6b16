"""How far states and gradients are from the exact ones: fastrnn's, and PyTorch's in float32.

    python -m tests.accuracy

prints the README's table, in ten minutes: the reference in longdouble is slow.  The inputs are
float32 numbers for both types.

An error is an array's largest, relative to the array's largest element.  Its unit is
``eps (1 + log2 n)``, n being the roundings on the longest way through both passes: about what
sums in pairs would leave, the best that is usual.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastrnn.peers import CELLS, Fastrnn, Peer, Problem, Reference, Results, Torch, random_problem
from tests import cells

D = 32
GRID = (16, 1, 1000), (16, 64, 1000), (128, 1, 100), (1024, 1, 10), (1024, 1, 1000)  # H, B, T

Errors = tuple[float, float]  # the worst of the states', of the gradients'


def has_exact(dtype: DTypeLike) -> bool:
    """Whether longdouble is exact beside this type; on some systems it is float64."""
    return bool(np.finfo(np.longdouble).eps < np.finfo(dtype).eps)


def results(peer: Peer, problem: Problem) -> tuple[Results, Results]:
    """The states, and the gradients."""
    forward, training = peer.forward(problem), peer.training(problem)
    return forward.read(forward.run()), training.read(training.run())


def unit(problem: Problem) -> float:
    (T, B, D), H = problem.x.shape, problem.h0.shape[1]
    n = cells.CELLS[problem.cell].summands((D, H, B, T, 0))
    return float(np.finfo(problem.x.dtype).eps) * (1 + math.log2(n))


def worst(got: Results, exact: Results) -> float:
    assert got.keys() == exact.keys()
    errors = [np.abs(got[name] - exact[name]).max() / np.abs(exact[name]).max() for name in exact]
    return float(np.max(errors))


def measure(problem: Problem, contestants: Iterable[tuple[Peer, DTypeLike]]) -> list[Errors]:
    """The errors of each peer in a type."""
    exact = results(Reference(1), problem.astype(np.longdouble))
    found = []
    for peer, dtype in contestants:
        rounded = problem.astype(dtype)
        pairs = zip(results(peer, rounded), exact, strict=True)
        states, gradients = (worst(*pair) / unit(rounded) for pair in pairs)
        found.append((states, gradients))
    return found


def main() -> None:
    contestants: list[tuple[Any, DTypeLike]] = [(Fastrnn(1), np.float32)]
    try:
        contestants.append((Torch(1), np.float32))
    except ImportError:
        print("PyTorch is not installed", file=sys.stderr)
    if has_exact(np.float64):
        contestants.append((Fastrnn(1), np.float64))
    else:
        print("longdouble is float64 here: nothing to compare float64 with", file=sys.stderr)

    titles = [f"{peer.name} {np.dtype(dtype)}" for peer, dtype in contestants]
    print("|", " | ".join(["cell, H, B, T", *titles]), "|")
    print("|---" * (1 + len(titles)) + "|")
    for cell in CELLS:
        for H, B, T in GRID:
            problem = random_problem(cell, D, H, B, T, np.float32)
            errors = [f"{a:.2f} / {b:.2f}" for a, b in measure(problem, contestants)]
            row = [f"{cell.upper()}, {H}, {B}, {T}", *errors]
            print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
