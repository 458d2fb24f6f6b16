"""Figures that are no times: ratios, rates, accuracy, seconds of compiling."""

import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

import fastrnn
from fastrnn import bench, peers, timing
from fastrnn.threads import cpu_count

from .common import CELLS, DTYPES, FIND, PEERS, peer, sizes_of

SIZES = ["64,64,1,100", "512,512,16,25"]
SECONDS = 0.5  # of timing for a figure


class BestPeer:
    """How many times as long the best of the installed peers takes, timed in turns."""

    params = (CELLS, ["forward", "training"], DTYPES, SIZES)
    param_names = ("cell", "task", "dtype", "D,H,B,T")
    unit = "best peer / fastrnn"

    @timing.pinned(1)
    def setup(self, *_: Any) -> None:
        self.libraries = peers.installed(1)[0]
        if not self.libraries:
            raise NotImplementedError(f"none of {', '.join(PEERS)} is installed")

    @timing.pinned(1)
    def track_best_peer(self, cell: str, task: str, dtype: str, sizes: str) -> float:
        row = bench.layer_row(
            cell, task, dtype, sizes_of(sizes), [peers.Fastrnn(1), *self.libraries], 1, SECONDS
        )
        if row.wrong:
            raise RuntimeError(str(row.notes))
        return row.over_peers


class Rate:
    """Operations in the products, against what the full tile does on data in L1."""

    params = (CELLS, ["forward", "training"], DTYPES, SIZES)
    param_names = BestPeer.param_names
    unit = "% of FMA rate"

    @timing.pinned(1)
    def track_rate(self, cell: str, task: str, dtype: str, sizes: str) -> float:
        row = bench.layer_row(cell, task, dtype, sizes_of(sizes), [peers.Fastrnn(1)], 1, SECONDS)
        if row.wrong:
            raise RuntimeError(str(row.notes))
        return 100 * row.rate / row.peak


class Threads:
    """How many times as fast two threads are as one."""

    sizes = ("512,512,1,25", "512,512,4,25", "512,512,16,25")
    params = (CELLS, ["forward", "training"], DTYPES, sizes)
    param_names = BestPeer.param_names
    unit = "times"

    def setup(self, *_: Any) -> None:
        if cpu_count() < 2:
            raise NotImplementedError("only one core")

    def track_two_threads(self, cell: str, task: str, dtype: str, sizes: str) -> float:
        problem = peers.random_problem(cell, *sizes_of(sizes), dtype)
        runs = {str(n): getattr(peer("fastrnn", n), task)(problem).run for n in (1, 2)}
        times = timing.least_times(runs, SECONDS, 2)
        return times["1"] / times["2"]


class Step:
    """What a step of one example costs, of 32 inputs and units, as steps become many."""

    params = (CELLS, ["forward", "training"], [100, 1_000, 10_000, 100_000])
    param_names = ("cell", "task", "T")
    unit = "ns"

    def track_step(self, cell: str, task: str, T: int) -> float:
        return nanoseconds(cell, task, B=1, T=T)


class RowOfStep:
    """The same as rows become many, of 20 steps."""

    params = (*Step.params[:2], [16, 64, 256, 1_024])
    param_names = ("cell", "task", "B")
    unit = "ns"

    def track_row(self, cell: str, task: str, B: int) -> float:
        return nanoseconds(cell, task, B, T=20)


def nanoseconds(cell: str, task: str, B: int, T: int) -> float:
    """For each step of each row; flat if nothing but the work itself grows."""
    problem = peers.random_problem(cell, 32, 32, B, T, "float32")
    runs = {"fastrnn": getattr(peers.Fastrnn(1), task)(problem).run}
    return 1e9 * timing.least_times(runs, SECONDS, 1)["fastrnn"] / (T * B)


class Accuracy:
    """The worst error in a million arguments."""

    params = (["tanh", "sigmoid"], DTYPES)
    param_names = ("function", "dtype")
    unit = "ulp"

    def setup(self, function: str, dtype: str) -> None:
        self.wide = np.float64 if dtype == "float32" else np.longdouble
        if np.finfo(self.wide).nmant < np.finfo(dtype).nmant + 10:
            raise NotImplementedError("no wider type to compare with")

    def track_ulp(self, function: str, dtype: str) -> float:
        rng = np.random.default_rng(0)
        x = np.concatenate([scale * rng.standard_normal(250_000) for scale in (1e-3, 0.3, 2, 10)])
        x = x.astype(dtype)
        found, exact = (
            getattr(fastrnn, function)(x),
            getattr(peers.reference, function)(x.astype(self.wide)),
        )
        unit = np.spacing(np.abs(exact).astype(dtype)).astype(self.wide)
        return float((np.abs(found - exact) / unit).max())


class Compiling:
    """All that a user calls, for one type, from an empty cache."""

    params = ("float32",)  # float64 takes about as long
    param_names = ("dtype",)
    unit = "s"
    timeout = 600

    def track_warmup(self, dtype: str) -> float:
        code = f"{FIND}import fastrnn; print(fastrnn.warmup({dtype!r}))"
        with tempfile.TemporaryDirectory() as folder:
            environment: dict[str, Any] = {**os.environ, "NUMBA_CACHE_DIR": folder}
            command = [sys.executable, "-c", code]
            out = subprocess.run(command, env=environment, check=True, capture_output=True)
        return float(out.stdout)
