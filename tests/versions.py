"""The tests with the oldest Python, NumPy and Numba that pyproject.toml allows, and the newest.

    python3 tests/versions.py [--python interpreter] ... [arguments of pytest]

takes ten minutes and downloads packages.  The interpreters are those named, or each
``python3.N`` on the path; the oldest that is allowed must be among them.  Both environments
are made in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

Version = tuple[int, ...]


def versions_of(interpreters: Iterable[str]) -> dict[Version, str]:
    """Those of the interpreters that run, by major and minor version."""
    found = {}
    for path in interpreters:
        command = [path, "-c", "import sys; print(*sys.version_info[:2])"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            found[tuple(map(int, asked.stdout.split()))] = path
    return found


def on_path(first: Version) -> list[str]:
    names = [f"python{first[0]}.{minor}" for minor in range(first[1], first[1] + 20)]
    return [path for path in map(shutil.which, names) if path]


def run_suite(interpreter: str, requirements: list[str], arguments: list[str]) -> bool:
    """Whether the tests pass in a fresh environment with these packages."""
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/venv/bin/python"
        commands = [
            [interpreter, "-m", "venv", f"{folder}/venv"],
            [python, "-m", "pip", "install", "-q", *requirements, "-e", f"{ROOT}[test]"],
            [python, "-m", "pip", "list"],
            [python, "-m", "pytest", "-q", *arguments],
        ]
        environment = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/kernels"}
        environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        for command in commands:
            print("$", *command, flush=True)
            if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
                return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 tests/versions.py")
    parser.add_argument("--python", action="append", metavar="interpreter")
    named, rest = parser.parse_known_args()

    oldest = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    found = versions_of(named.python or on_path(oldest))
    if oldest not in found:
        sys.exit(f"no Python {'.'.join(map(str, oldest))} among {list(found.values())}")
    newest = max(found)

    dependencies = PROJECT["dependencies"]
    pinned = [requirement.replace(">=", "==") for requirement in dependencies]
    passed = [
        run_suite(found[oldest], pinned, rest),
        run_suite(found[newest], dependencies, rest),
    ]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
