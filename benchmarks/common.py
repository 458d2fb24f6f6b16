"""What the benchmarks share: how calls are timed, and how they are checked first."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn import peers, timing

DTYPES = ["float32", "float64"]
CELLS = ["rnn", "lstm"]
BASELINES = ["fastrnn", "NumPy"]  # the first is what a page of asv shows at first
PEERS = [library.name for library in peers.LIBRARIES]
KINDS = {kind.name: kind for kind in (peers.Reference, peers.Fastrnn, *peers.LIBRARIES)}

SAMPLE = 0.01  # seconds
# For processes of their own, which do not inherit it from asv.
FIND = f"import sys; sys.path.append({str(Path(fastrnn.__file__).parents[1])!r})\n"


def sizes_of(text: str) -> tuple[int, ...]:
    """``D,H,B,T``; so written, they are labels in asv's tables."""
    return tuple(map(int, text.split(",")))


def peer(name: str, threads: int = 1) -> peers.Peer:
    """An implementation by name; not installed is not implemented, which asv skips."""
    kind = KINDS[name]
    if any(find_spec(package) is None for package in kind.needs):
        raise NotImplementedError(f"{name} is not installed")
    return kind(threads)


def checked(
    problem: peers.Problem, task: Callable[[], peers.Task], exact: peers.Task
) -> Callable[[], Any]:
    """What to time, once its result has been compared with the exact one."""
    try:
        made = task()
    except peers.UnsupportedError as error:
        raise NotImplementedError(str(error)) from None
    errors = peers.differences(problem, made.read(made.run()), exact.read(exact.run()))
    if errors:
        raise RuntimeError("; ".join(errors))
    return made.run


class Timed:
    """Base of the ``time_`` benchmarks: a subclass makes what is called, `setup` does the rest.

    asv runs `setup` before every call; it acts once, and sets how many calls are a sample.
    Meanwhile the process stays on one core: not every peer lets its threads be counted.
    """

    rounds = 1
    repeat = (3, 10, 0.3)
    warmup_time = 0.02
    number = 1
    ready: tuple[Any, ...] | None = None

    def make(self, *params: Any) -> Callable[[], Any]:
        raise NotImplementedError

    def setup(self, *params: Any) -> None:
        self.place = ExitStack()
        self.place.enter_context(timing.pinned(1))
        if self.ready == params:
            return
        self.run = self.make(*params)
        seconds = min(self.seconds() for _ in range(3))
        self.number = max(1, round(SAMPLE / seconds))
        self.ready = params

    def teardown(self, *params: Any) -> None:
        self.place.close()

    def seconds(self) -> float:
        start = time.perf_counter()
        self.run()
        return max(time.perf_counter() - start, 1e-7)


def filled(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Normal numbers; pages never written to would be read faster than any real ones."""
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)
