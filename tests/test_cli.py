"""The command line itself: help, versions, exit codes, pipes, and how light an import is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn
from fastrnn import cli

ROOT = Path(fastrnn.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}


def python(code: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("argv", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_help_fits_the_screen(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*argv, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: fastrnn")
    assert max(map(len, out.splitlines())) <= 80


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in cli.COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fastrnn ")
    assert "numba " in out and "numpy " in out and "Python 3." in out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "<command>"),
        (["dream"], "dream"),
        (["--depth"], "<command>"),
        (["selftest", "--depth"], "--depth"),
        (["demo", "x"], "x"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_one_line(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn") and ": error: " in err and named in err
    assert err.count("\n") == 1


def test_the_process_ends_with_the_exit_code() -> None:
    command = [sys.executable, "-m", "fastrnn"]
    assert subprocess.run([*command, "--version"], env=ENVIRONMENT, check=False).returncode == 0
    wrong = subprocess.run([*command, "x"], env=ENVIRONMENT, capture_output=True, check=False)
    assert wrong.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGPIPE")
def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrnn", "--version"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=300)
    assert err == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "fastrnn", "--version"],
            env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert process.returncode == 1
    assert process.stderr.startswith("fastrnn: error: ")
    assert process.stderr.count("\n") == 1


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrnn import selftest

    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "run", interrupted)
    assert cli.main(["selftest"]) == 130
    assert capsys.readouterr().err == "fastrnn: interrupted\n"


def test_importing_fastrnn_is_light() -> None:
    found = python(
        "import sys, numpy, numpy.typing, numba\n"
        "before = set(sys.modules)\n"
        "import fastrnn\n"
        "print(*sorted(set(sys.modules) - before), sep='\\n')\n"
    ).split()
    assert all(name.split(".")[0] == "fastrnn" or name in ALLOWED for name in found), found
    own = {name.split(".")[1] for name in found if "." in name}
    commands = {"cli", "demo", "bench", "timing", "selftest", "weights"}
    assert not own & (commands | {"reference", "notebooks"})


# Standard library, and what numba itself loads on demand.
ALLOWED = {"hashlib", "pickle", "_queue", "queue", "signal", "threading", "weakref"}


def test_importing_fastrnn_leaves_all_to_be_compiled() -> None:
    found = python(
        "import sys, fastrnn\n"
        "from fastrnn.kernels._jit import Late\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "found = [\n"
        "    type(value)\n"
        "    for name, module in list(sys.modules.items())\n"
        "    if name.startswith('fastrnn.kernels')\n"
        "    for value in vars(module).values()\n"
        "    if isinstance(value, Late | Dispatcher)\n"
        "]\n"
        "print(len(found), sum(kind is not Late for kind in found))\n"
    ).split()
    assert int(found[0]) > 20
    assert found[1] == "0"


def test_asking_for_help_does_not_load_the_commands() -> None:
    found = python(
        "import sys\n"
        "from fastrnn.cli import main\n"
        "main(['--help'])\n"
        "print(*(name for name in sys.modules if name.startswith('fastrnn.')), sep='\\n')\n"
    ).splitlines()
    assert "fastrnn.cli" in found
    assert not {"fastrnn.demo", "fastrnn.bench", "fastrnn.selftest"} & set(found)
