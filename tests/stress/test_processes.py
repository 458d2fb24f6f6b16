"""Other processes: forked, spawned, started at the same moment, interrupted, without room."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHODS = "fork", "spawn", "loky", "threading", "during"


@pytest.mark.parametrize("method", METHODS)
def test_results_are_the_same_in_other_processes(method: str) -> None:
    if method in ("loky", "threading"):
        pytest.importorskip("joblib")
    elif {"during": "fork"}.get(method, method) not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    command = [sys.executable, "-m", "tests.stress.processes", method]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stdout == "the same everywhere\n", done.stderr
    assert done.returncode == 0
