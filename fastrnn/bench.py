"""``fastrnn bench``: fastrnn beside NumPy and every peer that is installed, on this machine.

A row is one problem.  All implementations compute it once, and what differs from the
reference in float64 by more than `peers.limits` is reported and not timed.  The others are
then timed in turns, and the least time of each counts.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrnn

from . import peers, reference
from .kernels.cpu import ROWS, WIDTH
from .peers import Fastrnn, Peer, Problem, Reference, Results, Task
from .selftest import cpu_name
from .timing import least_times, peak_task, pinned

Sizes = tuple[int, int, int, int]

GRID: tuple[Sizes, ...] = (  # D, H, B, T
    (3, 5, 10, 4),
    (1, 24, 1, 1000),
    (27, 100, 1, 50),
    (256, 256, 1, 1),
    (32, 32, 1, 100),
    (64, 64, 1, 100),
    (128, 128, 32, 50),
    (256, 256, 16, 150),
    (256, 256, 64, 25),
    (512, 512, 4, 25),
    (512, 512, 16, 25),
    (1024, 1024, 16, 25),
)
QUICK_GRID = ((3, 5, 10, 4), (64, 64, 1, 100), (128, 128, 32, 50))
FUNCTIONS_GRID = tuple(sizes for sizes in GRID if sizes[1] <= 128)
DTYPES = ("float32", "float64")
LAYER_TASKS = ("forward", "training")
FUNCTION_TASKS = ("forward", "forward+backward", "cell forward", "cell backward")

SECONDS = 1.5  # timed in a row
QUICK_SECONDS = 0.4

# NumPy's BLAS reads these when it is loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


# --- rows ---------------------------------------------------------------------------


class Row(NamedTuple):
    cell: str
    task: str
    dtype: str
    sizes: Sizes
    microseconds: dict[str, float]
    notes: dict[str, str]  # why an implementation has no time
    wrong: bool  # whether one of them is wrong
    rate: float | None  # GFLOP/s of fastrnn
    peak: float | None  # GFLOP/s of repeat_tile, on all threads

    def over(self, *others: str) -> float | None:
        """How many times as long as fastrnn the fastest of the others takes."""
        times = [self.microseconds[name] for name in others if name in self.microseconds]
        if not times or Fastrnn.name not in self.microseconds:
            return None
        return min(times) / self.microseconds[Fastrnn.name]

    @property
    def over_numpy(self) -> float | None:
        return self.over(Reference.name)

    @property
    def over_peers(self) -> float | None:
        return self.over(*(library.name for library in peers.LIBRARIES))

    def as_json(self) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "task": self.task,
            "dtype": self.dtype,
            **dict(zip("DHBT", self.sizes, strict=True)),
            "microseconds": self.microseconds,
            "best_peer_over_fastrnn": self.over_peers,
            "numpy_over_fastrnn": self.over_numpy,
            "gflops": self.rate,
            "peak_gflops": self.peak,
            "notes": self.notes,
            "wrong": self.wrong,
        }


def verified(
    problem: Problem, makers: Mapping[str, Callable[[], Task]], expected: Results
) -> tuple[dict[str, Callable[[], Any]], dict[str, str], bool]:
    """What may be timed, why the rest may not, and whether any of that is wrong."""
    runs = {}
    notes = {}
    wrong = False
    for name, make in makers.items():
        try:
            task = make()
            errors = peers.differences(problem, task.read(task.run()), expected)
        except peers.UnsupportedError as error:
            notes[name] = str(error)
        except Exception as error:  # of a foreign library anything
            notes[name] = f"failed: {error!r}"
            wrong = True
        else:
            if errors:
                notes[name] = f"wrong: {'; '.join(errors)}"
                wrong = True
            else:
                runs[name] = task.run
    return runs, notes, wrong


def layer_row(
    cell: str,
    task: str,
    dtype: str,
    sizes: Sizes,
    implementations: list[Peer],
    threads: int,
    seconds: float,
) -> Row:
    """One problem for the layer objects: forward alone, or forward and backward."""
    problem = peers.random_problem(cell, *sizes, dtype)
    exact: Task = getattr(Reference(1), task)(problem.astype(np.float64))
    makers = {p.name: lambda p=p: getattr(p, task)(problem) for p in implementations}
    runs, notes, wrong = verified(problem, makers, exact.read(exact.run()))
    rate = peak = None
    microseconds: dict[str, float] = {}
    if runs:
        tile, tile_operations = peak_task(problem.x.dtype)
        times = least_times({**runs, "tile": tile}, seconds, threads)
        peak = threads * tile_operations / times.pop("tile") / 1e9
        microseconds = {name: 1e6 * t for name, t in times.items()}
        if Fastrnn.name in times:
            rate = operations(cell, task, sizes) / times[Fastrnn.name] / 1e9
    return Row(cell, task, dtype, sizes, microseconds, notes, wrong, rate, peak)


def operations(cell: str, task: str, sizes: Sizes) -> float:
    """Multiplications and additions in the products; backward has twice those of forward."""
    D, H, B, T = sizes
    forward = 2.0 * T * B * peers.GATES[cell] * H * (D + H)
    return 3 * forward if task == "training" else forward


def function_task(problem: Problem, task: str, module: Any) -> Task:
    """A notebook function of `reference` or of `fastrnn`."""
    parameters = problem.parameters
    x, da = (np.ascontiguousarray(a.transpose(2, 1, 0)) for a in (problem.x, problem.dh))
    a0, *c0 = (np.ascontiguousarray(state.T) for state in problem.first_states())
    xt, da_next = x[:, :, 0].copy(), da[:, :, 0].copy()
    forward, backward, cell_forward, cell_backward = (
        getattr(module, f"{problem.cell}_{name}")
        for name in ("forward", "backward", "cell_forward", "cell_backward")
    )

    def read_forward(out: Any) -> Results:
        return dict(zip(("a", "y", "c"), out[:-1], strict=False))

    def read_cell(out: Any) -> Results:
        return dict(zip(("a", "c", "y") if c0 else ("a", "y"), out[:-1], strict=True))

    if task == "forward":
        return Task(lambda: forward(x, a0, parameters), read_forward)
    if task == "forward+backward":
        return Task(lambda: backward(da, forward(x, a0, parameters)[-1]), dict)
    if task == "cell forward":
        return Task(lambda: cell_forward(xt, a0, *c0, parameters), read_cell)
    if task == "cell backward":
        cache = cell_forward(xt, a0, *c0, parameters)[-1]
        return Task(lambda: cell_backward(da_next, *c0, cache), dict)
    caches = forward(x, a0, parameters)[-1]
    if task == "backward":
        return Task(lambda: backward(da, caches), dict)
    if task == "head backward":  # with as many classes as inputs
        return Task(lambda: module.output_backward(x, caches), dict)
    raise ValueError(f"no task {task!r}")


def function_row(cell: str, task: str, dtype: str, sizes: Sizes, seconds: float) -> Row:
    """One problem for the notebook functions, with as many classes as inputs."""
    D, H, B, T = sizes
    problem = peers.random_problem(cell, D, H, B, T, dtype, classes=D)
    exact = function_task(problem.astype(np.float64), task, reference)
    makers = {
        Reference.name: lambda: function_task(problem, task, reference),
        Fastrnn.name: lambda: function_task(problem, task, fastrnn),
    }
    runs, notes, wrong = verified(problem, makers, exact.read(exact.run()))
    times = least_times(runs, seconds, 1) if runs else {}
    microseconds = {name: 1e6 * t for name, t in times.items()}
    return Row(cell, task, dtype, sizes, microseconds, notes, wrong, None, None)


# --- the table ----------------------------------------------------------------------


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def duration(microseconds: float) -> str:
    return f"{microseconds:.{1 if microseconds < 100 else 0}f}"


class Table:
    """Rows of text, printed one by one."""

    def __init__(self, names: list[str], libraries: bool, layers: bool) -> None:
        self.names = names
        self.columns = [*names, "NumPy/fastrnn"]
        if libraries:
            self.columns.append("best peer/fastrnn")
        if layers:
            self.columns += ["GFLOP/s", "of FMA"]
        self.libraries = libraries
        self.layers = layers
        self.task_width = 8 if layers else 16

    def head(self) -> str:
        lead = f"{'':5}{'':{self.task_width}} {'':8}{'D,H,B,T':>15}"
        return "  ".join([lead, *(f"{name:>10}" for name in self.columns)])

    def line(self, row: Row) -> str:
        sizes = ",".join(map(str, row.sizes))
        cells = [f"{row.cell:5}{row.task:{self.task_width}} {row.dtype:8}{sizes:>15}"]
        for name in self.names:
            note = row.notes.get(name, "").partition(":")[0]
            missing = note if note in ("wrong", "failed") else "-"
            known = name in row.microseconds
            cells.append(duration(row.microseconds[name]) if known else missing)
        cells.append(number(row.over_numpy))
        if self.libraries:
            cells.append(number(row.over_peers))
        if self.layers:
            share = None if row.rate is None or not row.peak else 100 * row.rate / row.peak
            cells += [number(row.rate, 1), "" if share is None else f"{share:.0f} %"]
        lead, *rest = cells
        widths = [max(10, len(name)) for name in self.columns]
        return "  ".join([lead, *(f"{c:>{w}}" for c, w in zip(rest, widths, strict=True))])


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def summarise(rows: list[Row]) -> list[dict[str, Any]]:
    """Least and geometric mean of the ratios, by cell, task and dtype."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cell, row.task, row.dtype), []).append(row)
    summary = []
    for (cell, task, dtype), members in groups.items():
        entry: dict[str, Any] = {"cell": cell, "task": task, "dtype": dtype}
        for key in ("over_numpy", "over_peers"):
            ratios = [ratio for row in members if (ratio := getattr(row, key)) is not None]
            entry[key] = (
                {"least": min(ratios), "geometric_mean": geometric_mean(ratios)} if ratios else None
            )
        summary.append(entry)
    return summary


def print_summary(summary: list[dict[str, Any]]) -> None:
    print(f"\n{'':36}{'NumPy/fastrnn':>22}{'best peer/fastrnn':>22}")
    print(f"{'':36}" + 2 * f"{'least':>11}{'geo. mean':>11}")
    for entry in summary:
        line = f"{entry['cell']:5}{entry['task']:18}{entry['dtype']:13}"
        for key in ("over_numpy", "over_peers"):
            ratios = entry[key] or {}
            line += "".join(
                f"{number(ratios.get(name)):>11}" for name in ("least", "geometric_mean")
            )
        print(line.rstrip())


def print_markdown(rows: list[Row]) -> None:
    """A table of each cell, as in the README."""
    for cell in dict.fromkeys(row.cell for row in rows):
        found = {(row.sizes, row.dtype, row.task): row for row in rows if row.cell == cell}
        # dtype by dtype, the tasks of each in their order
        columns = sorted(dict.fromkeys(kind[1:] for kind in found), key=lambda column: column[0])
        heads = [f"{task} {dtype}" for dtype, task in columns]
        others = "the best peer" if any(row.over_peers for row in found.values()) else "NumPy"
        print(f"\n{cell}, microseconds: fastrnn / {others}\n")
        print(f"| D, H, B, T | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
        for sizes in dict.fromkeys(kind[0] for kind in found):
            cells = [both_times(found[sizes, *column]) for column in columns]
            print(f"| {', '.join(map(str, sizes))} | {' | '.join(cells)} |")


def both_times(row: Row) -> str:
    """fastrnn's, and the best peer's or, without one, NumPy's."""
    time = row.microseconds.get(Fastrnn.name)
    over = row.over_peers or row.over_numpy
    return "" if time is None or over is None else f"{duration(time)} / {duration(over * time)}"


# --- the command --------------------------------------------------------------------


def sizes_of(text: str) -> Sizes:
    """``D,H,B,T``."""
    try:
        D, H, B, T = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted D,H,B,T, as in 64,64,1,100") from None
    if min(D, H, B, T) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted D,H,B,T of 1 or more")
    return D, H, B, T


def positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number of 1 or more")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fastrnn bench``."""
    parser.description = (
        "Time the layers, forward and training, on this machine: fastrnn beside the plain NumPy "
        "reference, and beside PyTorch, ONNX Runtime and JAX if they are installed."
    )
    parser.epilog = "Exit code 0: all results agree; 1: one is wrong, and was not timed."
    add = parser.add_argument
    add("--cell", nargs="+", choices=peers.CELLS, default=peers.CELLS, help="default: both")
    add("--dtype", nargs="+", choices=DTYPES, default=DTYPES, help="default: both")
    add("--sizes", nargs="+", type=sizes_of, metavar="D,H,B,T",
        help="input size, hidden size, batch, steps of each problem")  # fmt: skip
    add("--threads", type=positive, default=1, metavar="N", help="default: %(default)s")
    add("--functions", action="store_true",
        help="time the notebook functions instead of the layers, against NumPy")  # fmt: skip
    add("--quick", action="store_true", help="fewer sizes, shorter: about a minute")
    add("--markdown", action="store_true",
        help="print tables in Markdown at the end, as in the README")  # fmt: skip
    add("--json", metavar="FILE", help="write the results to a file, too; - for them alone")


def with_threads_set(args: argparse.Namespace) -> int | None:
    """The exit code of this command in a process where BLAS has the asked number of threads.

    None if that is this process.
    """
    wanted = {name: str(args.threads) for name in THREAD_VARIABLES}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return None
    argv = ["--threads", str(args.threads), "--cell", *args.cell, "--dtype", *args.dtype]
    if args.sizes:
        argv += ["--sizes", *(",".join(map(str, sizes)) for sizes in args.sizes)]
    argv += ["--functions"] * args.functions + ["--quick"] * args.quick
    argv += ["--markdown"] * args.markdown
    argv += ["--json", args.json] if args.json else []
    command = [sys.executable, "-m", "fastrnn", "bench", *argv]
    with subprocess.Popen(command, env={**os.environ, **wanted}) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)  # the terminal interrupts both
            process.terminate()
            raise


def versions(implementations: list[Peer]) -> dict[str, str]:
    found = {p.name: p.version for p in implementations}
    return found | {"numba": metadata.version("numba")}


def header(args: argparse.Namespace, place: str, found: dict[str, str],
           missing: dict[str, str]) -> list[str]:  # fmt: skip
    """What the figures mean and where they come from."""
    lines = [
        f"{cpu_name()}, {place}, {args.threads} thread{'s' * (args.threads > 1)}",
        ", ".join(f"{name} {version}".rstrip() for name, version in found.items()),
        *(f"{name} is left out: {reason}" for name, reason in missing.items()),
        "microseconds, the least of many, in turns; every result is checked first",
    ]
    if not args.functions:
        lines += [
            "forward: inference, weights packed beforehand; training: forward and backward from "
            "new weights, in a short run not copied",
            "NumPy: the reference, with a softmax head of one class; of FMA: share of what a tile "
            f"of {ROWS} x {WIDTH} vectors does in L1",
        ]
    return lines


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for, as it goes into JSON; printed meanwhile if text is wanted."""
    text = args.json != "-"
    seconds = QUICK_SECONDS if args.quick else SECONDS
    grid = QUICK_GRID if args.quick else FUNCTIONS_GRID if args.functions else GRID
    rows: list[Row] = []
    with pinned(args.threads) as place:
        libraries, missing = ([], {}) if args.functions else peers.installed(args.threads)
        implementations = [Reference(args.threads), Fastrnn(args.threads), *libraries]
        found = versions(implementations)
        lines = header(args, place, found, missing)
        table = Table([p.name for p in implementations], bool(libraries), not args.functions)
        if text:
            print("\n".join([*lines, "", table.head()]), flush=True)
        for sizes, cell, task, dtype in itertools.product(
            args.sizes or grid,
            args.cell,
            FUNCTION_TASKS if args.functions else LAYER_TASKS,
            args.dtype,
        ):
            if args.functions:
                row = function_row(cell, task, dtype, sizes, seconds)
            else:
                row = layer_row(cell, task, dtype, sizes, implementations, args.threads, seconds)
            rows.append(row)
            if text:
                print(table.line(row), flush=True)

    summary = summarise(rows)
    if text:
        print_summary(summary)
        for note in dict.fromkeys(
            f"{name}: {note}" for row in rows for name, note in row.notes.items()
        ):
            print(note)
        if args.markdown:
            print_markdown(rows)
    return {
        "machine": cpu_name(),
        "threads": args.threads,
        "place": place,
        "versions": found,
        "missing": missing,
        "rows": [row.as_json() for row in rows],
        "summary": summary,
        "wrong": any(row.wrong for row in rows),
    }


def run(args: argparse.Namespace) -> int:
    """The command ``fastrnn bench``; its exit code."""
    if args.functions and args.threads > 1:
        print("fastrnn bench: error: the notebook functions run on one thread", file=sys.stderr)
        return 2
    if args.json not in (None, "-"):
        try:
            Path(args.json).touch()
        except OSError as error:
            print(
                f"fastrnn bench: error: cannot write {args.json}: {error.strerror}", file=sys.stderr
            )
            return 2
    code = with_threads_set(args)
    if code is not None:
        return code
    try:
        results = measure(args)
    except MemoryError:
        print("fastrnn bench: error: not enough memory for these sizes", file=sys.stderr)
        return 2
    if args.json:
        content = json.dumps(results, indent=1) + "\n"
        if args.json == "-":
            sys.stdout.write(content)
        else:
            Path(args.json).write_text(content, encoding="utf-8")
    return 1 if results["wrong"] else 0
