"""The kernels for 64-bit ARM, by their assembly: one of them, and that a bad one is noticed."""

from __future__ import annotations

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
    assert done.stdout == "lstm_step float32: product loops 3x24 3x20 3x16 3x12 3x8 7x4\n"


def test_a_tile_that_does_not_fit_the_registers_is_noticed() -> None:
    done = run("multiply_tile", "--rows", "8")
    assert done.returncode != 0
    assert "[sp" in done.stderr
