"""The command line: ``fastrnn`` and ``python -m fastrnn``.

A command is a module of the same name with ``add_arguments(parser)`` and
``run(args) -> int``; it is imported only when its name is on the command line.
"""

import argparse
import contextlib
import os
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import NoReturn

from . import __version__

COMMANDS = {
    "demo": "train a character-level LSTM on real text, and check it against NumPy",
    "bench": "time fastrnn against NumPy, and PyTorch, ONNX Runtime and JAX if installed",
    "selftest": "check every kernel against the reference on this CPU",
}

EPILOG = """\
fastrnn <command> --help tells the options of a command.

The first run on a machine compiles the kernels and keeps them; later runs
begin at once. NUMBA_CACHE_DIR says where they are kept, NUMBA_CPU_NAME and
NUMBA_CPU_FEATURES for what CPU they are compiled.

exit codes: 0 fine, 1 a check failed, 2 an option or a file that cannot be
            used, 130 Ctrl-C, 141 the reader of the output went away
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


class Lines(argparse.RawDescriptionHelpFormatter):
    """A help text that keeps its lines, but for those that are too long."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = [textwrap.wrap(line, width) or [""] for line in text.splitlines()]
        return "".join(f"{indent}{part}\n" for line in lines for part in line)


def version() -> str:
    """The versions of fastrnn and of what it runs on."""
    others = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "numba"))
    return f"fastrnn {__version__}\n{others}, Python {sys.version.split()[0]}"


class Version(argparse.Action):
    """``--version``: looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the versions and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(version())
        parser.exit()


def parser_for(argv: Sequence[str]) -> Parser:
    """The parser, with the options of the commands that `argv` names."""
    parser = Parser(
        prog="fastrnn",
        description="RNN and LSTM for NumPy, as fast as the CPU allows.",
        epilog=EPILOG,
        formatter_class=Lines,
    )
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(dest="command", metavar="<command>", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=Lines)
        if name in argv:
            module = import_module(f".{name}", __package__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def forget_output() -> None:
    """Let what is left of the output go nowhere: Python flushes it once more when it ends."""
    with contextlib.suppress(AttributeError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default the process's.

    Returns
    -------
    int
        The exit code; `fastrnn --help` lists them.
    """
    argv = sys.argv[1:] if argv is None else argv
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a sample may not fit the terminal's encoding
    try:
        try:
            args = parser_for(argv).parse_args(argv)
            code = int(args.run(args))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("fastrnn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        forget_output()
        return 141
    except OSError as error:
        forget_output()
        print(f"fastrnn: error: {error}", file=sys.stderr)
        return 1
    return code
