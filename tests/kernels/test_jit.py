"""Compiled kernels on disk: never stale, never fatal; and what kernels are made of."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.codegen import CPUCodeLibrary
from numba.core.dispatcher import Dispatcher

import fastrnn
from fastrnn.kernels import _jit
from fastrnn.kernels.activations import tanh_array

PACKAGE = Path(fastrnn.__file__).parent
ROOT = Path(__file__).parents[2]
SOURCES = sorted((PACKAGE / "kernels").glob("*.py"))

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)

# --- the cache, seen from other processes -----------------------------------------------

# Two kernels that compile quickly: one of elements, one that packs weights.
PROGRAM = """
import json, sys, warnings

import numpy as np

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastrnn
    from fastrnn.kernels import activations, linear, rnn
    from fastrnn.kernels._jit import Late

    kernels = activations.tanh_array, rnn.rnn_pack
    made_by_import = sum(not isinstance(kernel, Late) for kernel in kernels)
    x = np.array([-0.5, 0.25])
    if len(sys.argv) > 1:
        exec(sys.argv[1])
    packed = np.zeros(1000)
    rnn.rnn_pack(np.zeros((2, 1)), np.zeros((2, 2)), np.ones((2, 1)), packed, np.zeros(0), 0, 1)
    print(json.dumps({
        "tanh": fastrnn.tanh(x).tolist(),
        "bias": packed[:2].tolist(),
        "loaded": sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels),
        "compiled": sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels),
        "made_by_import": made_by_import,
        "made": [
            not isinstance(function, Late)
            for function in (rnn.rnn_pack, linear.copy_row, activations.tanh)
        ],
        "warnings": [[w.category.__name__, str(w.message)] for w in caught],
    }))
"""

# One kernel for two types, whose files lie side by side; the order of the types is an argument.
HURRY = """
import json, sys, warnings

import numpy as np

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from fastrnn.activations import tanh
    from fastrnn.kernels.activations import tanh_array

    print("ready", file=sys.stderr, flush=True)
    sys.stdin.readline()
    results = {name: tanh(np.linspace(-3, 3, 50, dtype=name)) for name in sys.argv[1:]}
    print(json.dumps({
        "tanh": {name: result.tolist() for name, result in results.items()},
        "loaded": sum(tanh_array.stats.cache_hits.values()),
        "compiled": sum(tanh_array.stats.cache_misses.values()),
        "warnings": [str(w.message) for w in caught],
    }))
"""
RIGHT = {"tanh": np.tanh([-0.5, 0.25]).tolist(), "bias": [1.0, 1.0]}

# Appended to a source, each shows in the results: the later definition counts.
EDITS = {
    "activations": (
        "@inline\ndef tanh(x):\n    return x + x\n",
        {"tanh": [-1.0, 0.5], "bias": [1.0, 1.0]},
    ),
    "linear": (
        "@inline\ndef copy_row(columns, out, x):\n"
        "    for j in range(columns):\n        store(out + j, load(x + j, 1) + 2.0, 1)\n",
        {**RIGHT, "bias": [3.0, 3.0]},
    ),
    "simd": (
        "@intrinsic\ndef copysign(typingctx, v, sign):\n"
        "    def codegen(context, builder, sig, args):\n        return args[0]\n"
        "    return v(v, v), codegen\n",
        {**RIGHT, "tanh": np.tanh([0.5, 0.25]).tolist()},
    ),
}


class Installation:
    """A copy of the package with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.kernels = folder / "fastrnn" / "kernels"
        shutil.copytree(
            PACKAGE, folder / "fastrnn", ignore=shutil.ignore_patterns("__pycache__", "notebooks")
        )
        # As the real package, but for the parts that have no kernels.
        (folder / "fastrnn" / "__init__.py").write_text("from .activations import tanh\n")

    def start(
        self, *arguments: str, program: str = PROGRAM, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                "NUMBA_CACHE_DIR": str(self.cache),
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> dict[str, Any]:
        return finish(self.start(*arguments, **environment))

    def files(self) -> list[Path]:
        return sorted(file for file in self.cache.rglob("*") if file.is_file())

    def assert_whole(self, count: int) -> None:
        """So many kernels are kept, and nothing else."""
        files = self.files()
        assert [file.suffix for file in files] == [".nbc"] * count
        for file in files:
            content = file.read_bytes()
            assert content[:32] == hashlib.sha256(content[32:]).digest()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate()
    assert process.returncode == 0, error
    result: dict[str, Any] = json.loads(out)
    return result


def assert_results(result: dict[str, Any], expected: dict[str, list[float]]) -> None:
    assert result["made_by_import"] == 0
    for name, numbers in expected.items():
        np.testing.assert_allclose(result[name], numbers, rtol=1e-15)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """With its kernels in the cache, put there by two processes at once."""
    installed = Installation(tmp_path_factory.mktemp("installation"))
    both = [installed.start() for _ in range(2)]
    for process in both:
        result = finish(process)
        assert_results(result, RIGHT)
        assert result["compiled"] + result["loaded"] == 2
        assert result["warnings"] == []
    return installed


def test_the_next_process_compiles_nothing(installation: Installation) -> None:
    result = installation.run()
    assert_results(result, RIGHT)
    assert (result["loaded"], result["compiled"]) == (2, 0)
    assert result["made"] == [True, False, False]  # nor makes what kernels are made of
    assert result["warnings"] == []


def test_threads_that_ask_at_once_get_the_same_function() -> None:
    made = []

    @_jit.late
    def make(function: Any) -> Any:
        time.sleep(0.05)
        made.append(njit(function))
        return made[-1]

    one = make(lambda: 1)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: one(), range(4))) == [1] * 4
    assert made == [one.compiled]


def test_processes_that_compile_at_the_same_moment(tmp_path: Path) -> None:
    installed = Installation(tmp_path)
    orders = ("float32", "float64"), ("float64", "float32")
    processes = [installed.start(*orders[n % 2], program=HURRY) for n in range(8)]
    for process in processes:
        assert process.stderr
        assert process.stderr.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    results = [finish(process) for process in processes]
    installed.assert_whole(2)
    results.append(finish(installed.start(*orders[0], program=HURRY)))
    for result in results:
        for name, numbers in result["tanh"].items():
            expected = np.tanh(np.linspace(-3, 3, 50, dtype=name))
            np.testing.assert_allclose(numbers, expected, rtol=4 * np.finfo(name).eps)
        assert result["tanh"] == results[0]["tanh"]
        assert result["loaded"] + result["compiled"] == 2
        assert result["warnings"] == []
    assert (results[-1]["loaded"], results[-1]["compiled"]) == (2, 0)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_never_answered_by_a_stale_kernel(installation: Installation, name: str) -> None:
    source = installation.kernels / f"{name}.py"
    original = source.read_text()
    addition, expected = EDITS[name]
    try:
        source.write_text(f"{original}\n\n{addition}")
        result = installation.run()
        assert_results(result, expected)
        assert (result["loaded"], result["compiled"]) == (0, 2)
    finally:
        source.write_text(original)
    # The old source finds its old kernels.
    result = installation.run()
    assert_results(result, RIGHT)
    assert (result["loaded"], result["compiled"]) == (2, 0)


def test_damaged_files_are_compiled_anew_and_overwritten(installation: Installation) -> None:
    files = installation.files()
    for n, file in enumerate(files):
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        file.write_bytes((content[: len(content) // 2], bytes(damaged))[n % 2])
    result = installation.run()
    assert_results(result, RIGHT)
    assert (result["loaded"], result["compiled"]) == (0, 2)
    assert result["warnings"] == []
    result = installation.run()
    assert_results(result, RIGHT)
    assert (result["loaded"], result["compiled"]) == (2, 0)


def assert_one_warning(result: dict[str, Any]) -> None:
    assert_results(result, RIGHT)
    ((category, message),) = result["warnings"]
    assert category == "CacheWarning"
    assert "NUMBA_CACHE_DIR" in message


def test_no_folder_to_write_to_costs_one_warning(tmp_path: Path) -> None:
    # A folder below a file cannot be made, whoever asks.
    blocked = tmp_path / "file"
    blocked.write_text("")
    installed = Installation(tmp_path)
    (installed.kernels / "__pycache__").write_text("")
    below = str(blocked / "cache")
    nowhere = {"HOME": below, "XDG_CACHE_HOME": below, "LOCALAPPDATA": below, "USERPROFILE": below}
    assert_one_warning(installed.run(NUMBA_CACHE_DIR=below, **nowhere))


def test_a_folder_that_can_no_longer_be_written_costs_one_warning(
    installation: Installation, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    spoil = f"import shutil; shutil.rmtree({cache!r}); open({cache!r}, 'w').close()"
    use = f"fastrnn.tanh(x); {spoil}; fastrnn.tanh(x.astype('f'))"
    assert_one_warning(installation.run(use, NUMBA_CACHE_DIR=cache))


def test_a_full_disk_costs_one_warning(installation: Installation, tmp_path: Path) -> None:
    """A file may begin there, but not grow."""
    pytest.importorskip("resource")
    full = Installation(tmp_path)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert_one_warning(full.run(limit))
    full.assert_whole(0)
    # The kernels that were kept when there was room are loaded.
    result = installation.run(limit)
    assert_results(result, RIGHT)
    assert (result["loaded"], result["warnings"]) == (2, [])


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "another bit"])
def test_no_damage_is_taken_for_a_kernel(tmp_path: Path, damage: str) -> None:
    files = _jit.KernelFiles(str(tmp_path), "name", "stamp")
    files.save("key", {"some": "data"})
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    damaged = {
        "empty": [b""],
        "cut": [content[:length] for length in range(1, len(content))],
        "longer": [content + b"\0"],
        "another bit": [
            content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            for at in range(len(content))
            for bit in range(8)
        ],
    }
    for wrong in damaged[damage]:
        file.write_bytes(wrong)
        assert files.load("key") is None
    files.save("key", {"some": "data"})
    assert file.read_bytes() == content
    assert files.load("key") == {"some": "data"}


def test_a_file_that_cannot_be_opened_is_compiled_anew(tmp_path: Path) -> None:
    files = _jit.KernelFiles(str(tmp_path), "name", "stamp")
    files.save("key", {"some": "data"})
    assert files.load("key") == {"some": "data"}
    assert files.load("other key") is None
    assert _jit.KernelFiles(str(tmp_path), "name", "other stamp").load("key") is None
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    assert files.load("key") is None


# --- the digest that ties kernels to their sources --------------------------------------


@each_source
def test_every_source_is_in_the_digest(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    shutil.copytree(source.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert _jit.digest_sources(folder) == _jit.SOURCES
    copy = folder / source.name
    copy.write_text(source.read_text() + "\n")
    edited = _jit.digest_sources(folder)
    copy.rename(folder / f"{source.stem}_renamed.py")
    renamed = _jit.digest_sources(folder)
    (folder / f"{source.stem}_renamed.py").unlink()
    removed = _jit.digest_sources(folder)
    assert len({_jit.SOURCES, edited, renamed, removed}) == 4


def test_the_digest_of_an_archive(tmp_path: Path) -> None:
    """A package may be imported from a zip file, which has no folder to look into."""
    shutil.make_archive(str(tmp_path / "app"), "zip", ROOT, "fastrnn")
    program = "from fastrnn.kernels import _jit; print(_jit.__file__, _jit.SOURCES)"
    env = os.environ | {"PYTHONPATH": str(tmp_path / "app.zip")}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE)
    file, digest = found.stdout.split()
    assert "app.zip" in file
    assert digest == _jit.SOURCES


def test_no_sources_no_digest(tmp_path: Path) -> None:
    for folder in tmp_path, tmp_path / "missing":
        assert _jit.digest_sources(folder) is None


def test_without_sources_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only they tell one version's kernels from another's."""
    monkeypatch.setattr(_jit, "SOURCES", None)
    monkeypatch.setattr(_jit._warn_uncached, "done", False)

    def square(x: float) -> float:
        return x * x

    with pytest.warns(_jit.CacheWarning, match="no source files"):
        assert _jit.kernel(square)(3.0) == 9.0


# --- what kernels are made of -----------------------------------------------------------


def imports(source: Path) -> Iterator[tuple[int, str, str]]:
    """Level, module and name of everything that a file imports."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield 0, name.name, ""
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield node.level, node.module or "", name.name


@each_source
def test_kernels_import_only_numpy_numba_and_each_other(source: Path) -> None:
    siblings = {other.stem for other in SOURCES}
    outside = {"numpy", "numba", "llvmlite"} | set(sys.stdlib_module_names)
    for level, module, name in imports(source):
        if level:
            assert level == 1
            assert (module or name) in siblings
        else:
            assert module.split(".")[0] in outside, module


@each_source
def test_only_one_file_chooses_numba_options(source: Path) -> None:
    if source.stem != "_jit":
        for _, module, name in imports(source):
            assert not (module.split(".")[0] == "numba" and "jit" in name)
            assert name not in ("vectorize", "guvectorize", "stencil", "cfunc", "prange")


@pytest.mark.parametrize("name", ["reference", "checks", "steps"])
def test_nothing_else_imports_numba(name: str) -> None:
    for _, module, _ in imports(PACKAGE / f"{name}.py"):
        assert module.split(".")[0] not in ("numba", "llvmlite")


def dispatchers() -> dict[str, Any]:
    found = {}
    for source in SOURCES:
        module = importlib.import_module(f"fastrnn.kernels.{source.stem}")
        for name, value in vars(module).items():
            if isinstance(value, _jit.Late | Dispatcher) and value.__module__ == module.__name__:
                found[f"{source.stem}.{name}"] = value
    return found


@pytest.mark.parametrize("name", dispatchers())
def test_numba_options(name: str) -> None:
    dispatcher = dispatchers()[name]
    options = dict(dispatcher.targetoptions)
    assert options.pop("nopython", True)
    assert options.pop("error_model") == "numpy"
    assert options.pop("boundscheck") is False
    kept = isinstance(dispatcher._cache, _jit.KernelCache)
    assert options.pop("nogil", False) == kept
    # The rest says how functions are put together: no fastmath, no parallel.
    assert options.keys() <= {"inline", "forceinline", "no_cpython_wrapper", "no_cfunc_wrapper"}


def test_without_a_compiler_there_is_nothing_to_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import fastrnn"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith("ImportError: NUMBA_DISABLE_JIT is set")


def test_operations_keep_their_order() -> None:
    """No instruction of a compiled kernel may be reordered, or may take NaN for impossible."""
    options = {key: value for key, value in tanh_array.targetoptions.items() if key != "nopython"}
    anew = njit(tanh_array.py_func, **options)  # one from the cache has no code to look at
    anew(np.zeros(1), np.zeros(1))
    flags = {"fast", "reassoc", "nnan", "ninf", "nsz", "arcp", "contract", "afn"}
    for code in anew.inspect_llvm().values():
        lines = [line.split() for line in code.splitlines()]
        arithmetic = [words for words in lines if {"fadd", "fmul", "fsub", "fdiv"} & set(words)]
        assert arithmetic
        assert not any(flags & set(words) for words in arithmetic)


@pytest.fixture
def handled_interrupts() -> Iterator[None]:
    """Ctrl-C as usual, also where the tests were started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handled_interrupts")
def test_an_interrupt_waits_until_numba_has_started() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), _jit.uninterrupted():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _jit.uninterrupted():
        pass


def test_a_warning_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit._warn_uncached, "done", False)
    with pytest.warns(_jit.CacheWarning, match="NUMBA_CACHE_DIR"):
        _jit._warn_unwritten(OSError("no space"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _jit._warn_unwritten(OSError("no space"))


def test_a_number_in_the_source_is_no_type_of_its_own() -> None:
    @_jit.part
    def twice(n):
        return n + n

    @njit
    def call(n):
        return twice(1) + twice(2) + twice(n)

    assert call(3) == 12
    assert len(twice.signatures) == 1


def test_a_kernel_of_fixed_types_refuses_all_others() -> None:
    @_jit.kernel
    def add(x: Any, count: Any) -> Any:
        return x[0] + count

    fixed = _jit.fixed(add, (np.zeros(1), 1))
    assert fixed is _jit.fixed(add, (np.ones(5), 7))
    assert fixed(np.ones(2), 2) == 3
    locked = np.ones(1)
    locked.flags.writeable = False
    wrong = (np.ones(1, np.float32), np.ones((1, 1)), np.ones(4)[::2], locked)
    for x in (*wrong, [1.0], None, object()):
        with pytest.raises(TypeError):
            fixed(x, 1)
    for arguments in ((), (np.ones(1),), (np.ones(1), 1, 1), (np.ones(1), None)):
        with pytest.raises(TypeError):
            fixed(*arguments)
    assert len(fixed.signatures) == 1
    assert add.signatures == fixed.signatures
    assert _jit.fixed(add, (np.zeros(1, np.float32), 1)) is not fixed
    assert len(fixed.signatures) == 1


def test_a_part_is_optimised_with_its_kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    optimised = []
    optimise = CPUCodeLibrary._optimize_final_module

    def record(library: CPUCodeLibrary) -> None:
        optimised.append(library.name)
        optimise(library)

    monkeypatch.setattr(CPUCodeLibrary, "_optimize_final_module", record)

    @_jit.leaf
    def twice(n):
        return n + n

    @_jit.part
    def four_times(n):
        return twice(twice(n))

    @njit
    def call(n):
        return four_times(n)

    assert call(3) == 12
    assert len(optimised) == 1
    assert call.__name__ in optimised[0]


RAISES = """
from fastrnn.kernels._jit import kernel, part

@part
def refuse(n):
    raise ValueError("refused", n)

@kernel
def call(n):
    refuse(n)

for n in 1, 2:
    try:
        call(n)
    except ValueError as error:
        print(*error.args, len(call.stats.cache_hits))
"""


def test_what_a_part_raises_arrives(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(RAISES)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    for cached in 0, 1:
        done = subprocess.run(
            [sys.executable, program], cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout.split("\n")[:2] == [f"refused {n} {cached}" for n in (1, 2)], done.stderr
