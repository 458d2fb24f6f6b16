"""The asv suite; ``asv run --quick --python=same`` tries it, ``asv run HEAD^!`` measures.

Everything runs on one thread but what says otherwise.  The peers (PyTorch, ONNX Runtime,
JAX) are timed where they are installed; asv's own environments do not have them.
"""

import ctypes
import hashlib
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def sources() -> str:
    """A digest of the package that is measured."""
    (folder,) = find_spec("fastrnn").submodule_search_locations
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def limit_threads() -> None:
    """One thread for every BLAS; NumPy's, which asv has loaded by now, must be told."""
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["VECLIB_MAXIMUM_THREADS"] = "1"
    package = Path(find_spec("numpy").origin).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for library in folder.glob("*openblas*"):
            with suppress(OSError, AttributeError):
                ctypes.CDLL(str(library)).scipy_openblas_set_num_threads64_(1)


if "asv_runner" in sys.modules:
    limit_threads()
    # asv may keep old wheels, Numba old kernels: each state of the package has its own.
    cache = Path(__file__).parents[1] / ".asv" / "numba" / sources()
    os.environ["NUMBA_CACHE_DIR"] = str(cache)
