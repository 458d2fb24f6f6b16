"""The kernels for 64-bit ARM, by their assembly: one of them, and that a bad one is noticed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="loads ELF code")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.kernels.arm", "--dtype", "float32", *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_kernel_is_all_vectors_and_tiles() -> None:
    done = run("lstm_step")
    assert done.returncode == 0, done.stderr
    # How often a loop is there is the compiler's choice, and differs between its versions.
    assert done.stdout.startswith("lstm_step float32: product loops ")
    sums = {int(count) for count in re.findall(r"\d+x(\d+)", done.stdout)}
    assert sums >= {4 * rows for rows in (6, 5, 4, 3, 2, 1)}


def test_a_tile_that_does_not_fit_the_registers_is_noticed() -> None:
    done = run("repeat_tile", "--rows", "8")
    assert done.returncode != 0
    assert "[sp" in done.stderr
