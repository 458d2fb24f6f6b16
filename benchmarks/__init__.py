"""The asv suite; ``asv run --quick --python=same`` tries it, ``asv run HEAD^!`` measures.

Everything runs on one thread but what says otherwise.  The peers (PyTorch, ONNX Runtime,
JAX) are timed where they are installed; asv's own environments do not have them.
"""

import os
import sys
from pathlib import Path

if "asv_runner" in sys.modules:
    # Before NumPy is loaded, and with it its BLAS.
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["VECLIB_MAXIMUM_THREADS"] = "1"
    # Compiled kernels of one commit only, whatever the wheels in asv's cache are.
    folder = Path(os.environ.get("ASV_ENV_DIR") or Path(__file__).parents[1] / ".asv")
    commit = os.environ.get("ASV_COMMIT") or "working-copy"
    os.environ["NUMBA_CACHE_DIR"] = str(folder / "numba" / commit)
