"""Kernels check no bounds: none reads or writes beyond an array, not even what it throws away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no mprotect")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.kernels.guard_pages", *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("where", ["end", "start"])
def test_no_access_beyond_an_array(where: str) -> None:
    done = run(where)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no access beyond an array\n"


def test_such_an_access_is_seen() -> None:
    assert run("end", "fault").returncode < 0
