"""Import and first calls, each in a fresh process."""

import os
import subprocess
import sys

from .common import FIND

COLLECTED = "import gc, numpy, numba; gc.collect()\n"
IMPORTS = {
    "numpy, numba": COLLECTED,
    "numpy, numba, fastrnn": COLLECTED + "import fastrnn\n",
}
PROBLEM = f"""
{FIND}
import numpy as np
import fastrnn
from fastrnn import peers
problem = peers.random_problem("lstm", 3, 5, 10, 4, "float32")
x, h0 = problem.x.transpose(2, 1, 0).copy(), problem.h0.T.copy()
da = problem.dh.transpose(2, 1, 0).copy()
"""
FORWARD = "out = fastrnn.lstm_forward(x, h0, problem.parameters)\n"
TRAINING = FORWARD + "fastrnn.lstm_backward(da, out[-1])\n"
CALLS = {"lstm_forward": FORWARD, "lstm_forward and lstm_backward": TRAINING}
UNCACHED = """
import atexit, os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""


class Import:
    """What fastrnn adds is the difference.

    Numba leaves so many new objects that Python is about to look through all there are, which
    takes longer than our import and would fall into it: here that is done before.
    """

    params = tuple(IMPORTS)
    param_names = ("modules",)
    rounds = 1
    repeat = (3, 5, 10.0)
    number = 1

    def timeraw_import(self, modules: str) -> tuple[str, str]:
        return IMPORTS[modules], FIND


class FirstCall:
    """The first call in a process, its import apart."""

    params = tuple(CALLS)
    param_names = ("call",)
    rounds = 1
    number = 1
    warmup_time = 0
    timeout = 300

    def setup(self, call: str) -> None:
        """Fill the cache, in a process of its own as the calls are."""
        if "NUMBA_CACHE_DIR" in os.environ:
            subprocess.run([sys.executable, "-c", PROBLEM + CALLS[call]], check=True)

    def timeraw_cold(self, call: str) -> tuple[str, str]:
        """Compiling."""
        return CALLS[call], UNCACHED + PROBLEM

    timeraw_cold.repeat = 1
    timeraw_cold.min_run_count = 1

    def timeraw_cached(self, call: str) -> tuple[str, str]:
        """Loading compiled kernels from disk."""
        return CALLS[call], PROBLEM

    timeraw_cached.repeat = (3, 5, 10.0)
