"""Kernels check no bounds: none reads or writes beyond an array, not even what it throws away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")

DTYPES = "float32", "float64"


def run(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kernels.guard_pages", *arguments]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("where", ["end", "start"])
def test_no_access_beyond_an_array(where: str) -> None:
    # In a new checkout these compile every kernel: for both types at once.
    for process in [run(where, dtype) for dtype in DTYPES]:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out == "no access beyond an array\n"


def test_such_an_access_is_seen() -> None:
    process = run("end", "float64", "fault")
    process.communicate()
    assert process.returncode < 0
