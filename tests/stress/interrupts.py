"""Interrupts at random moments of a layer's calls; the next call must give what it always gave.

    python -m tests.stress.interrupts [--interrupts 1000] [--seed 0]

A signal whose handler raises KeyboardInterrupt, as Ctrl-C does, comes at a random moment of
forward, backward and update, from one thread and from two, and often once more soon after.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.cells import CELLS, Cell
from tests.compare import assert_same_bits, copied
from tests.problems import normal
from tests.threads import in_every_call

LONG = 20, 16  # steps and examples
SHORT = 2, 3  # few enough for unpacked weights
D, H = 16, 64
QUIET = 0.2  # seconds; other threads have been seen to run a handler 10 ms late


class Trial:
    """A layer's work, over and over with one workspace, or with a new layer each time."""

    def __init__(
        self, cell: Cell, threads: int, new: bool = False, copy: bool = True, short: bool = False
    ) -> None:
        self.sizes = T, B = SHORT if short else LONG
        problem = cell.problem(D, H, B, T)
        self.parameters = problem.parameters
        self.make = partial(cell.layer, problem.parameters, threads)
        self.new = new
        self.copy = copy
        self.kept: list[Any] = []  # Python cannot pass on an interrupt of what ends with a layer
        self.layer = self.make()
        self.workspace = self.layer.workspace(*self.sizes)
        self.state = self.layer.zero_state(B)
        self.x = np.ascontiguousarray(problem.x.T)
        self.dh = normal((T, B, H))
        self.expected = self()

    def __call__(self) -> dict[str, Any]:
        if self.new:
            self.kept += self.layer, self.workspace
            self.layer = self.make()
            self.workspace = self.layer.workspace(*self.sizes)
        self.layer.update(self.parameters, copy=self.copy)
        h, _ = self.layer.forward(self.x, self.state, self.workspace)
        results = {"h": h.copy()} | self.layer.backward(self.dh, None, self.workspace)
        return copied(results)


class Interrupts:
    """A signal whose handler raises KeyboardInterrupt while `armed`."""

    armed = False
    came = False

    def __call__(self, *_: object) -> None:
        self.came = True
        if self.armed:
            raise KeyboardInterrupt

    def cut(self, call: Callable[[], Any], after: float, again: float) -> bool:
        """Whether a call that is interrupted after so many seconds, and again, was cut short."""
        done = False
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, after, again)
            try:
                call()
                done = True
            finally:
                self.armed = False
        except KeyboardInterrupt:
            self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        return not done

    def settle(self) -> None:
        """Stop the timer, and wait until no signal is on its way any more.

        One that the system has given to another thread is not pending, but comes when that
        thread gets a CPU.
        """
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.came = True
        while self.came:
            self.came = False
            time.sleep(QUIET)


def cut_calls(interrupt: Interrupts, interrupts: int, seed: int) -> int:
    """Interrupt so many calls; how many calls that took."""
    rng = np.random.default_rng(seed)
    calls = cut = 0
    with pytest.MonkeyPatch.context() as patch:
        in_every_call(patch.setattr)
        trials = [
            Trial(cell, threads, copy=copy)
            for cell in CELLS.values() for threads in (1, 2) for copy in (True, False)
        ]  # fmt: skip
        trials += [Trial(cell, threads=1, copy=False, short=True) for cell in CELLS.values()]
        trials += [Trial(cell, threads=2, new=True) for cell in CELLS.values()]
        start = time.perf_counter()
        for trial in trials:
            trial()
        span = (time.perf_counter() - start) / len(trials)
        while cut < interrupts:
            trial = trials[calls % len(trials)]
            again = float(rng.choice([0, 1e-5, 1e-4]))
            cut += interrupt.cut(trial, float(rng.uniform(1e-6, span)), again)
            trial.kept.clear()
            assert_same_bits(trial(), trial.expected)
            calls += 1
    return calls


def run(interrupts: int, seed: int) -> int:
    """`cut_calls` with its handler in place."""
    interrupt = Interrupts()
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        return cut_calls(interrupt, interrupts, seed)
    finally:
        interrupt.settle()
        signal.signal(signal.SIGALRM, previous)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--interrupts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    calls = run(options.interrupts, options.seed)
    seconds = time.perf_counter() - start
    print(f"{options.interrupts} of {calls} calls interrupted in {seconds:.0f} s; "
          "each next call as the first")  # fmt: skip


if __name__ == "__main__":
    main()
