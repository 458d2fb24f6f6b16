"""Mutation testing: small mistakes put into the sources one at a time; the tests must see each.

    python -m tests.mutations [--only TEXT ...] [--jobs N] [--stages N] [--list]

takes an hour or two on one core; not part of the tests. The mistakes are made from the syntax
trees, the same ones every time: spread evenly over the functions of a file, and in the kernels
of the cells at least a changed sign, a dropped statement or term, and an exchanged gate in each
function that has such. Each is tried in a copy of the project, by the cheapest tests that should
see it first. A failing test, a crash and an endless loop see it. What Numba's compiler refuses
was no mistake that could be made, and another one takes its place.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from queue import SimpleQueue

from fastrnn.kernels import cpu

ROOT = Path(__file__).parents[1]
CPU_SECONDS = 40, 300, 900  # for the first tests, and so on; longer is an endless loop

SEQUENCES = "tests/test_rnn.py tests/test_lstm.py tests/test_layer.py"
ALL = f"{SEQUENCES} tests/kernels --ignore-glob=*/test_jit.py --ignore-glob=*/test_arm.py"
API = f"tests/test_checks.py {SEQUENCES} tests/kernels/test_memory.py tests/notebooks"
RNN = "tests/test_rnn.py tests/test_layer.py -k 'rnn and f64'"
LSTM = "tests/test_lstm.py tests/test_layer.py -k 'lstm and f64'"
LAYER = "tests/test_layer.py -k 'f64 and not notebook"  # and the cell
SEQUENCE = "-k 'sequence_as_reference and f64'"
UNPACKED = "-k 'unpacked and f64'"
CELL = "-k 'cell_as_reference and f64'"

# A file, how many mutations, the first tests by the function's name, then all others in turn.
PARTS: tuple[tuple[str, int, dict[str, str], list[str]], ...] = (
    ("kernels/rnn.py", 36,
     {"^step_": "tests/kernels/test_formulas.py -k 'rnn and f64'",
      "pack": "tests/test_packing.py -k 'rnn and f64'",
      "notebook": f"tests/test_rnn.py {SEQUENCE}", "": f"{LAYER} and rnn'"}, [RNN, ALL]),
    ("kernels/lstm.py", 60,
     {"^step_": "tests/kernels/test_formulas.py -k 'lstm and f64'",
      "pack": "tests/test_packing.py -k 'lstm and f64'",
      "notebook": f"tests/test_lstm.py {SEQUENCE}", "": f"{LAYER} and lstm'"}, [LSTM, ALL]),
    ("kernels/short.py", 20,
     {"lstm|gate|sums": f"tests/test_lstm.py {UNPACKED}", "": f"tests/test_rnn.py {UNPACKED}"},
     [f"{SEQUENCES} -k f64", ALL]),
    ("kernels/cells.py", 14,
     {"lstm": f"tests/test_lstm.py {CELL}", "": f"tests/test_rnn.py {CELL}"},
     [f"{SEQUENCES} -k f64", ALL]),
    ("kernels/head.py", 6, {"": f"tests/test_rnn.py {SEQUENCE}"}, [RNN, ALL]),
    ("kernels/linear.py", 20,
     {"": "tests/kernels/test_linear.py -k f64"}, [RNN, ALL]),
    ("kernels/team.py", 30, {"": "tests/kernels/test_team.py"}, [f"{LAYER} and threads'"]),
    ("kernels/unpacked.py", 16, {"": f"tests/test_rnn.py {CELL}"}, [f"{SEQUENCES} -k f64", ALL]),
    ("kernels/gradients.py", 8,
     {"": "tests/kernels/test_gradients.py -k 'f64 or passes'"}, [RNN, ALL]),
    ("kernels/activations.py", 16, {"": "tests/kernels/test_activations.py"}, [RNN, ALL]),
    ("kernels/cpu.py", 4, {"": "tests/kernels/test_cpu.py"}, []),
    ("kernels/emit.py", 6, {"": "tests/kernels/test_simd.py tests/kernels/test_tiles.py"},
     ["tests/kernels/test_transposition.py tests/kernels/test_linear.py -k f64", ALL]),
    ("kernels/simd.py", 8, {"": "tests/kernels/test_simd.py"},
     ["tests/kernels/test_linear.py -k f64", ALL]),
    ("kernels/tiles.py", 8, {"": "tests/kernels/test_tiles.py"},
     ["tests/kernels/test_linear.py tests/kernels/test_unpacked.py -k f64", ALL]),
    ("kernels/transposition.py", 4, {"": "tests/kernels/test_transposition.py"},
     ["tests/kernels/test_linear.py -k f64", ALL]),
    ("rnn.py", 8, {"": RNN}, [API]),
    ("lstm.py", 10, {"": LSTM}, [API]),
    ("head.py", 4, {"": f"{SEQUENCES} -k sequence_as"}, [API]),
    ("layer.py", 16, {"": "tests/test_layer.py -k f64"}, [API]),
    ("workspace.py", 6, {"": "tests/test_layer.py -k f64"}, [API]),
    ("threads.py", 6, {"": "tests/stress/test_threads.py"}, ["tests/test_layer.py -k threads"]),
    ("forks.py", 4, {"": "tests/stress/test_processes.py"}, []),
    ("steps.py", 8, {"": f"tests/test_checks.py {RNN}"}, [API]),
    ("packing.py", 8, {"": "tests/test_packing.py"}, [API]),
    ("checks.py", 12, {"": "tests/test_checks.py"}, [API]),
    ("weights.py", 6, {"": "tests/test_weights.py"}, ["tests/test_demo.py"]),
    ("activations.py", 4, {"": "tests/kernels/test_activations.py"}, [API]),
    *((f"notebooks/{name}.py", 3, {"": "tests/notebooks"}, [])
      for name in ("_shared", "compact", "exercise", "from_scratch", "full_rnn", "step_by_step")),
)  # fmt: skip
FORMULA = {"sign": 8, "term": 8, "gate": 4}  # of these kinds in a cell's formula
CELLS = tuple(f"kernels/{name}.py" for name in ("rnn", "lstm", "short", "cells", "head"))

# What is no mistake when changed: words for people, hints for the CPU, sizes that only cost time.
SKIPPED = {"__repr__", "_describe", "_reason", "warnings.warn", "raise NotImplementedError"}
SKIPPED |= {"__all__", "__slots__", "STRIP", "DEPTH", "SUMS", "PACKED"}
SKIPPED |= {"CHUNK_BYTES", "LARGE_BYTES"}
SKIPPED |= {"STREAM", "finish_streams", "is_short", "SHORT_ROWS", "LARGE_ROWS", "ASIDE"}
SKIPPED |= {"CHUNK_ROWS", "PACKING", "FEW", "FEW_BACK", "NEAR", "APART", "_keep_rolled"}
SKIPPED |= {"WOKEN_WORK", "AWAKE_WORK", "STEP_WORK", "_crew", "PATIENCE", "BRIEFLY", "HOT"}
SKIPPED |= {"_say_nothing", "WRITTEN", "TILES", "AGAIN", "CROWDED", "SMALL", "EXCHANGE"}
SKIPPED |= {"prefetch", "emit.prefetch", "stored.set_metadata", "BUSY_ROWS", "asked"}
SKIPPED |= {"LINGER", "RELAXED", "WORD", "_pause"}
PRESENT = {name for name in ("HAS_FMA", "HAS_MASKS") if getattr(cpu, name)}
# Expressions whose other values give the same results, by file.
EQUIVALENT: dict[str, dict[str, str]] = {
    "kernels/linear.py": {
        "tall if rows >= tall else min(rows, 2)": "the same rows in other tiles",
        "columns <= lanes(out) // 2": "half a vector, or the whole",
        "columns <= lanes(out)": "a row of one vector, in a register or not",
        "tile_product(*((width, 1) for width in range(1, CHAINS + 1)), "
        "*([(CHAINS // 2, 2)] if PAIRS else []))": "shapes in any order",
        **dict.fromkeys(
            (
                "lanes(out) * LINE_BITS // VECTOR_BITS",
                "(w_next + depth * asked, line) if asked < panel else (x_next, size)",
                "n - 1 if backwards else n + 1",
                "w + n_next * panel * depth",
            ),
            "what is asked for changes no sum",
        ),
    },
    "kernels/tiles.py": {
        "not isinstance(later, types.Omitted) and rows >= BUSY_ROWS": "this changes no sum",
        "whole and tile.rows == 1": "a loop, rolled or not",
    },
    "kernels/unpacked.py": {
        "lead > 0": "of no terms, the sums that it starts from",
        "tile_width(block, columns - j) * block": "whole vectors, of which each one begun is taken",
        "range(0, columns, block)": "whole blocks",
        "range(0, whole, panel)": "whole panels",
        "4 if rows - r >= 4 else min(2, rows - r)": "the same rows in other tiles",
    },
    "kernels/rnn.py": {
        "forward.nbytes + backward.nbytes": "past the caches or not",
        "t % 2 == 1": "panels in either direction",
        "phase % 2 == 1": "panels in either direction",
    },
    "kernels/lstm.py": {
        "forward.nbytes + backward.nbytes": "past the caches or not",
        "t % 2 == 1": "blocks in either direction",
        "j + 2 * block <= j1": "lanes of whole blocks, masked or not",
        "units > block": "one whole block: in a register, or in half of two",
        "phase % 2 == 1": "panels in either direction",
        "PANEL * units <= (PANEL - 1) * lanes(p)": "gates side by side, or a vector apart",
    },
}

# How a compiler says that this is no program.
REFUSED = r"numba\.core\.errors|LLVM IR parsing error|object has no attribute '(vector|width|rows)'"

GATES = ["GATE_I", "GATE_F", "GATE_G", "GATE_O"]
EITHER_WAY = (
    ("sign", ast.Add, ast.Sub), ("comparison", ast.Lt, ast.LtE), ("comparison", ast.Gt, ast.GtE),
    ("comparison", ast.Eq, ast.NotEq), ("comparison", ast.Is, ast.IsNot),
    ("comparison", ast.In, ast.NotIn), ("operator", ast.And, ast.Or),
)  # fmt: skip
OPERATORS: dict[type, tuple[str, type]] = {
    **{a: (kind, b) for kind, a, b in EITHER_WAY},
    **{b: (kind, a) for kind, a, b in EITHER_WAY},
    ast.Mult: ("operator", ast.Add), ast.Div: ("operator", ast.Mult),
    ast.FloorDiv: ("operator", ast.Mult), ast.Mod: ("operator", ast.FloorDiv),
    ast.Pow: ("operator", ast.Mult),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A mistake: what stands instead of some bytes of a file."""

    path: str
    line: int
    function: str
    kind: str
    span: tuple[int, int]
    before: str
    after: str

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        place = f"{self.path}:{self.line} {self.function or 'module'}"
        return f"{self.kind:10s} {place}: {before}  ->  {after}"


# --- what can be changed ----------------------------------------------------------------


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Kind, what is changed, and what to put there instead."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.Compare(ops=[op]) if type(op) in OPERATORS:
            kind, other = OPERATORS[type(op)]
            changed = {"ops": [other()]} if isinstance(node, ast.Compare) else {"op": other()}
            yield kind, node, type(node)(**vars(node) | changed)
            if isinstance(node, ast.BinOp):
                dropped = "term" if kind == "sign" else "factor"
                yield dropped, node, node.left
                if isinstance(op, ast.Add | ast.Mult):
                    yield dropped, node, node.right
        case ast.UnaryOp(op=ast.USub() | ast.Not() as op, operand=operand):
            yield "sign" if isinstance(op, ast.USub) else "branch", node, operand
        case ast.Name(name, ast.Load()) if name in GATES:
            yield from (("gate", node, ast.Name(gate)) for gate in GATES if gate != name)
        case ast.Constant(bool() | int() | float() as value):
            number = value + 1 if isinstance(value, int) else value * 1.01 or 0.01
            yield "constant", node, ast.Constant(not value if isinstance(value, bool) else number)
        case ast.Call(ast.Name("min" | "max" as name) as function):
            yield "operator", function, ast.Name("max" if name == "min" else "min")
        case ast.Call(ast.Name("range"), [end] | [_, end, *_]):
            yield "range", end, ast.BinOp(end, ast.Sub(), ast.Constant(1))
        case ast.Call(ast.Name("fma" | "isinstance")):
            pass
        case ast.Call(function, args, keywords):
            for i, (a, b) in enumerate(pairwise(args)):
                if ast.unparse(a) != ast.unparse(b):
                    swapped = [*args[:i], b, a, *args[i + 2 :]]
                    yield "arguments", node, ast.Call(function, swapped, keywords)
        case ast.IfExp(test, body, orelse):
            yield "branch", node, ast.IfExp(test, orelse, body)
        case ast.If(test) if not isinstance(test, ast.UnaryOp):
            yield "branch", test, ast.UnaryOp(ast.Not(), test)
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "statement", node, ast.Pass()
        case ast.Assign([ast.Subscript() | ast.Attribute()]):
            yield "statement", node, ast.Pass()
        case ast.FunctionDef():
            for assignment in reassigned(node):
                yield "statement", assignment, ast.Pass()


def reassigned(function: ast.AST) -> Iterator[ast.AST]:
    """Assignments to names that have a value already: without them the old one stays."""
    bound = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    assignments = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    for node in sorted(assignments, key=lambda node: node.lineno):
        names = {name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)}
        if names <= bound and all(isinstance(t, ast.Name | ast.Tuple) for t in node.targets):
            yield node
        bound |= names


def addresses(tree: ast.AST) -> Iterator[ast.AST]:
    """What says where elements stand and how many, no part of a formula."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("load" | "store"), [where, *_, count]):
                yield from (*ast.walk(where), *ast.walk(count))
            case ast.Assign([ast.Name("at")], value):
                yield from ast.walk(value)


def mutable(node: ast.AST, function: str, same: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """The nodes that can be changed, each with the name of its function."""
    text = ast.unparse(node)
    name = re.match(r"(?:@.*\n)*(?:def |class )?([\w.]*)", text)
    if isinstance(node, ast.stmt) and name and {name[1], text} & SKIPPED:
        return
    if isinstance(node, ast.expr) and text in same:
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    yield function, node
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from mutable(child, function, same)
                if isinstance(child, ast.If) and ast.unparse(child.test) in PRESENT:
                    break  # what follows is for other CPUs


def mutants_of(path: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    source = (ROOT / "fastrnn" / path).read_bytes()
    starts = [0, *accumulate(map(len, source.splitlines(keepends=True)))]
    tree = ast.parse(source)
    same = set(EQUIVALENT.get(path, ()))
    gone = same - {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}
    if gone:
        raise SystemExit(f"{path} has none of these any more: {gone}")
    indexes = set(addresses(tree))
    mutants = {}
    for function, node in mutable(tree, "", same):
        for kind, target, other in changes(node):
            assert isinstance(target, ast.expr | ast.stmt)
            assert target.end_lineno is not None and target.end_col_offset is not None
            begin = starts[target.lineno - 1] + target.col_offset
            end = starts[target.end_lineno - 1] + target.end_col_offset
            after = ast.unparse(other)
            if not isinstance(other, ast.Pass):
                after = f"({after})"
            mutants[begin, end, after] = Mutant(
                f"fastrnn/{path}", target.lineno, function,
                "index" if node in indexes and kind != "gate" else kind,
                (begin, end), ast.unparse(target), after,
            )  # fmt: skip
    return list(mutants.values())


def chosen(path: str, count: int, only: list[str]) -> list[list[Mutant]]:
    """Queues of mutants; of each as many are tried as it stands here times."""
    queues: dict[str, dict[str, list[Mutant]]] = {}
    for mutant in mutants_of(path):
        if not only or any(text in str(mutant) for text in only):
            queues.setdefault(mutant.function, {}).setdefault(mutant.kind, []).append(mutant)
    rng = random.Random(path)
    slots: Counter[tuple[str, str]] = Counter()
    for function, kinds in queues.items():
        for queue in kinds.values():
            rng.shuffle(queue)
        if path in CELLS:
            formula = function.startswith("step_")
            dropped = "term" if formula or "statement" not in kinds else "statement"
            for kind in ("sign", dropped, "gate"):
                wanted = FORMULA[kind] if formula else 1
                slots[function, kind] = min(wanted, len(kinds.get(kind, ())))
    left = [(f, kind) for f, kinds in queues.items() for kind in sorted(kinds)]
    rng.shuffle(left)
    while slots.total() < count:
        left = [slot for slot in left if slots[slot] < len(queues[slot[0]][slot[1]])]
        if not left:
            break
        used = Counter(function for function, _ in slots.elements())
        slots[min(left, key=lambda slot: (used[slot[0]], slots[slot]))] += 1
    return [queues[function][kind] for function, kind in slots.elements()]


# --- trying them ------------------------------------------------------------------------


class Tree:
    """A copy of the project, for one mutation at a time, with compiled kernels of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.environment = os.environ | {
            "NUMBA_CACHE_DIR": str(folder / "kernels"),
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",  # it would be told apart by size and second alone
            "COLUMNS": "500",
        }
        self.sound: set[str] = set()  # tests that pass without a mutation

    def run(self, tests: str, seconds: int) -> tuple[int, str]:
        """Exit code and output of pytest with at most so many seconds of the CPU."""
        done = subprocess.run(
            ["sh", "-c", 'ulimit -c 0; ulimit -t "$0"; exec "$@"', str(seconds), sys.executable,
             "-m", "pytest", "-qx", "--tb=no", "-p", "no:cacheprovider", *shlex.split(tests)],
            cwd=self.root, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def verdict(self, mutant: Mutant, stages: list[str]) -> str | None:
        """What saw the mutation; "" if nothing did, None if it cannot be compiled."""
        begin, end = mutant.span
        file = self.root / mutant.path
        whole = file.read_bytes()
        for tests, seconds in zip(stages, CPU_SECONDS, strict=False):
            if tests not in self.sound:  # this leaves compiled kernels behind, too
                code, output = self.run(tests, CPU_SECONDS[-1])
                if code:
                    raise SystemExit(f"fails without a mutation: pytest {tests}\n{output}")
                self.sound.add(tests)
            file.write_bytes(whole[:begin] + mutant.after.encode() + whole[end:])
            try:
                code, output = self.run(tests, seconds)
            finally:
                file.write_bytes(whole)
            if code:
                failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.*)", output, re.MULTILINE)
                reason = failed[1] if failed else f"exit code {code}"
                return None if re.search(REFUSED, reason) else reason.partition(" - ")[0]
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Small mistakes: do the tests see each?")
    parser.add_argument("--only", nargs="*", default=[], help="mutations whose line has this text")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at a time")
    parser.add_argument("--stages", type=int, help="only so many groups of tests for each")
    parser.add_argument("--list", action="store_true", help="show the mutations, try none")
    options = parser.parse_args()

    tasks = []
    for path, count, first, others in PARTS:
        for queue in chosen(path, count, options.only):
            function = queue[0].function
            tests = next(first[name] for name in first if re.search(name, function))
            tasks.append((queue, [tests, *others][: options.stages]))
    if options.list:
        print(*(queue.pop(0) for queue, _ in tasks), sep="\n")
        return 0

    caught: Counter[str] = Counter()
    survived: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for job in range(options.jobs):
            trees.put(Tree(Path(folder, str(job))))

        def attempt(task: tuple[list[Mutant], list[str]]) -> None:
            queue, stages = task
            tree = trees.get()
            seen = None
            while queue and seen is None:
                mutant = queue.pop(0)
                begin = time.perf_counter()
                seen = tree.verdict(mutant, stages)
            trees.put(tree)
            if seen is not None:
                result = f"caught by {seen}" if seen else "SURVIVED"
                print(f"{mutant}\n    {result}, {time.perf_counter() - begin:.0f} s", flush=True)
                caught[mutant.path] += bool(seen)
                survived.extend([] if seen else [mutant])

        list(pool.map(attempt, tasks))

    tried = caught + Counter(mutant.path for mutant in survived)
    for path, number in [*tried.items(), ("all", tried.total())]:
        seen = caught[path] if path in tried else caught.total()
        print(f"{path:36s} {seen:3d} of {number:3d} caught")
    print(*(f"survived: {mutant}" for mutant in survived), sep="\n")
    return bool(survived)


if __name__ == "__main__":
    raise SystemExit(main())
