"""Nothing is kept of a call that is over; see `tests.stress.memory`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress.fuzz import Call
from tests.stress.memory import NOISE, growth

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_no_function_grows() -> None:
    command = [sys.executable, "-m", "tests.stress.memory", "--calls", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_growth_is_seen() -> None:
    kept: list[bytes] = []
    kib, _ = growth(Call(lambda: kept.append(b"x" * 2_000_000 + b"%d" % len(kept)), {}), 40)
    assert kib > NOISE
