"""``fastrnn selftest``: every kernel against the reference, on the CPU at hand.

The reference runs in a wider type, on the same rounded numbers, and stands for the exact
result.  tanh and sigmoid are held against decimal arithmetic, in units in the last place
(ulp) of each result; the others in `eps`, the rounding error of the type, times the
largest element of the array.  A result may be off by one eps for each summand of its sums,
``D + H`` in a step and ``T B`` in a weight's gradient, and a few for the cell's formula.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import numpy as np

import fastrnn

from . import reference
from .checks import Array
from .kernels import cpu
from .kernels import lstm as lstm_kernels
from .lstm import HEAD_KEYS as LSTM_HEAD
from .lstm import KEYS as LSTM_KEYS
from .peers import last_cell_gradient
from .rnn import HEAD_KEYS as RNN_HEAD
from .rnn import KEYS as RNN_KEYS
from .threads import cpu_count

ACTIVATION_BOUND = 1.5  # ulp
FORMULA = 16  # eps
# D, H, B, T, O: one of each, less than a vector, a tile and its tails, several panels.
SIZES = ((1, 1, 1, 1, 1), (3, 5, 2, 4, 2), (11, 17, 7, 3, 5), (33, 70, 13, 6, 9))


class Check(NamedTuple):
    """How far one result of a function is from the exact one."""

    function: str
    result: str
    error: float  # in ulp or eps; NaN if the result is
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound


# --- activations --------------------------------------------------------------------


def exact_tanh(x: Decimal) -> Decimal:
    """By its definition, with digits to spare for what cancels."""
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def exact_sigmoid(x: Decimal) -> Decimal:
    """By its definition."""
    return 1 / (1 + (-x).exp())


def check_activations(dtype: np.dtype[Any]) -> Iterator[Check]:
    """The activations: tanh and sigmoid from tiny to huge, softmax of few and many classes."""
    rng = np.random.default_rng(0)
    deep = -float(np.log(np.finfo(dtype).smallest_subnormal))  # further down a sigmoid is zero
    x = np.concatenate(
        [rng.normal(0, scale, 300) for scale in (1e-6, 0.1, 1, 5)] + [rng.uniform(-deep, 20, 300)]
    ).astype(dtype)
    with localcontext(prec=60):
        for name, exact in ("tanh", exact_tanh), ("sigmoid", exact_sigmoid):
            y = getattr(fastrnn, name)(x)
            wanted = [exact(Decimal(float(value))) for value in x]
            units = np.spacing(abs(np.array(wanted, dtype=float)).astype(dtype))
            errors = [
                float(abs(Decimal(float(found)) - right) / Decimal(float(unit)))
                if np.isfinite(found)
                else np.nan
                for found, right, unit in zip(y, wanted, units, strict=True)
            ]
            yield Check(name, "y", float(np.max(errors)), ACTIVATION_BOUND)
            special = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], dtype)
            same = np.array_equal(
                getattr(fastrnn, name)(special), getattr(reference, name)(special), equal_nan=True
            )
            yield Check(name, "NaN, inf", 0.0 if same else np.nan, 0.0)
    for classes in 1, 7, 103:
        z = rng.normal(0, 3, (classes, 29)).astype(dtype)
        exact_y = reference.softmax(z.astype(wider(dtype)))
        yield measure("softmax", "y", fastrnn.softmax(z), exact_y, FORMULA + classes)


# --- cells --------------------------------------------------------------------------


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the exact results."""
    return np.dtype(np.float64 if dtype == np.float32 else np.longdouble)


def measure(function: str, result: str, found: Array, exact: Array, bound: float) -> Check:
    """The largest difference, in eps of the largest element."""
    if found.shape != exact.shape:
        return Check(function, result, np.nan, bound)
    scale = np.finfo(found.dtype).eps * max(float(abs(exact).max()), 1e-30)
    return Check(function, result, float((abs(found - exact) / scale).max()), bound)


def draw(
    keys: dict[str, tuple[str, str]], D: int, H: int, B: int, T: int, O: int, dtype: np.dtype[Any]
) -> tuple[dict[str, Array], Array, Array, Array, Array]:
    """Parameters scaled by 1/sqrt(H), x, a0, da and dz."""
    rng = np.random.default_rng((D, H, B, T, O))
    sizes = {"n_x": D, "n_a": H, "n_y": O, "n_a + n_x": H + D, "1": 1}
    parameters = {
        key: rng.normal(0, H**-0.5, [sizes[axis] for axis in axes]).astype(dtype)
        for key, axes in keys.items()
    }
    shapes = (D, B, T), (H, B), (H, B, T), (O, B, T)
    x, a0, da, dz = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    return parameters, x, a0, da, dz


def turned(array: Array) -> Array:
    """Between ``(features, batch, time)`` and ``(time, batch, features)``."""
    return array.transpose()


def check_step(
    cell: str,
    xt: Array,
    states: list[Array],
    dstates: list[Array],
    parameters: dict[str, Array],
    bound: float,
) -> Iterator[Check]:
    """The functions of one step, on states before it and gradients of those after it."""
    forward, backward = f"{cell}_cell_forward", f"{cell}_cell_backward"
    wide = wider(xt.dtype)
    *found, cache = getattr(fastrnn, forward)(xt, *states, parameters)
    *exact, exact_cache = getattr(reference, forward)(
        xt.astype(wide),
        *(state.astype(wide) for state in states),
        {key: w.astype(wide) for key, w in parameters.items()},
    )
    names = (*("a_next", "c_next")[: len(states)], "yt_pred")
    for name, array, right in zip(names, found, exact, strict=True):
        yield measure(forward, name, array, right, bound)
    gradients = getattr(fastrnn, backward)(*dstates, cache)
    wanted = getattr(reference, backward)(*(d.astype(wide) for d in dstates), exact_cache)
    for name, right in wanted.items():
        yield measure(backward, name, gradients[name], right, bound)


def check_cell(cell: str, dtype: np.dtype[Any]) -> Iterator[Check]:
    """The functions and the layer object of the RNN or the LSTM."""
    is_lstm = cell == "lstm"
    keys = LSTM_KEYS | LSTM_HEAD if is_lstm else RNN_KEYS | RNN_HEAD
    names = ("a", "y", "c") if is_lstm else ("a", "y")
    for D, H, B, T, O in SIZES:
        bound = FORMULA + D + H + T * B
        values = parameters, x, a0, da, dz = draw(keys, D, H, B, T, O, dtype)
        wide = wider(dtype)
        exact_parameters = {key: w.astype(wide) for key, w in parameters.items()}
        exact_x, exact_a0, exact_da, exact_dz = (array.astype(wide) for array in values[1:])
        states, dstates = [a0, da[:, :, -1]], [da[:, :, 0], a0]
        count = 2 if is_lstm else 1
        yield from check_step(cell, x[:, :, 0], states[:count], dstates[:count], parameters, bound)

        forward, backward = f"{cell}_forward", f"{cell}_backward"
        *exact, exact_caches = getattr(reference, forward)(exact_x, exact_a0, exact_parameters)
        exact_gradients = getattr(reference, backward)(exact_da, exact_caches)

        *found, caches = getattr(fastrnn, forward)(x, a0, parameters)
        for name, array, right in zip(names, found, exact, strict=True):
            yield measure(forward, name, array, right, bound)
        gradients = getattr(fastrnn, backward)(da, caches)
        for name, right in exact_gradients.items():
            yield measure(backward, name, gradients[name], right, bound)
        head = fastrnn.output_backward(dz, caches)
        for name, right in reference.output_backward(exact_dz, exact_caches).items():
            yield measure("output_backward", name, head[name], right, bound + O)

        name = cell.upper()
        layer = getattr(fastrnn, name)(parameters)
        workspace = layer.workspace(T, B)
        rows = np.ascontiguousarray(turned(x))
        h, state = layer.forward(rows, (a0.T, None) if is_lstm else a0.T, workspace)
        yield measure(f"{name}.forward", "h", h, turned(exact[0]), bound)
        if is_lstm:
            yield measure(f"{name}.forward", "c", state[1], exact[2][:, :, -1].T, bound)

        stepped = layer.zero_state(B)
        (stepped[0] if is_lstm else stepped)[...] = a0.T
        same = all(np.array_equal(layer.step(rows[t], stepped), h[t]) for t in range(T))
        yield Check(f"{name}.step", "same bits", 0.0 if same else np.nan, 0.0)

        gradients = layer.backward(turned(da), workspace=workspace)
        if is_lstm:
            exact_gradients["dc0"] = last_cell_gradient(exact_da, exact_caches[0]).T
        exact_gradients["dx"] = turned(exact_gradients["dx"])
        exact_gradients["da0"] = exact_gradients["da0"].T
        for key, right in exact_gradients.items():
            yield measure(f"{name}.backward", key, gradients[key], right, bound)


GROUPS: dict[str, Callable[[np.dtype[Any]], Iterator[Check]]] = {
    "activations": check_activations,
    "RNN": lambda dtype: check_cell("rnn", dtype),
    "LSTM": lambda dtype: check_cell("lstm", dtype),
}


def check_all(dtype: np.dtype[Any]) -> list[Check]:
    """Every check for one type; what cannot even run has failed."""
    checks: list[Check] = []
    for group, function in GROUPS.items():
        try:
            checks += function(dtype)
        except Exception as error:  # a compiler may raise anything
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            checks.append(Check(group, text[:50], np.nan, 0.0))
    return checks


# --- the machine --------------------------------------------------------------------


def cpu_name() -> str:
    """What the CPU calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """What the kernels are compiled for, by whom, and where they are kept."""
    target = os.environ.get("NUMBA_CPU_NAME") or llvmlite.binding.get_host_cpu_name()
    known = ["avx512f", "avx2", "avx", "fma", "sse4.2", "sse2", "neon", "prefer-256-bit"]
    features = [name for name in known if name in cpu.FEATURES]
    bits = cpu.VECTOR_BITS
    fused = "fused multiply-add" if cpu.HAS_FMA else "no fused multiply-add"
    masks = "masked loads and stores" if cpu.HAS_MASKS else "no masks"
    folder = lstm_kernels.lstm_forward.stats.cache_path
    return {
        "CPU": f"{cpu_name()}, compiled for {target}",
        "features": " ".join(features),
        "in use": f"{fused}, {masks}",
        "vector": f"{bits} bits: {bits // 32} of float32, {bits // 64} of float64",
        "tile": f"{cpu.ROWS} rows of {cpu.WIDTH} vectors",
        "versions": f"numba {numba.__version__}, numpy {np.__version__}, "
        f"llvmlite {llvmlite.__version__}, Python {platform.python_version()}",
        "cache": folder or "none: the kernels are compiled in every process",
    }


# --- the command --------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fastrnn selftest``."""
    parser.description = "Check every kernel against the reference, on this CPU, in both types."
    parser.epilog = "Exit code 0: all within their bounds; 1: a check failed."
    parser.add_argument("--all", action="store_true", help="list every result of every function")


@contextlib.contextmanager
def compiling_beside(dtype: str) -> Iterator[None]:
    """Another process compiles for this type meanwhile, if there is a core for it."""
    if cpu_count() < 2 or not sys.executable:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-c", f"import fastrnn; fastrnn.warmup('{dtype}')"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        process.wait()
    finally:
        process.kill()
        process.wait()


def worst(checks: list[Check]) -> Check:
    """The one furthest out, by its own bound."""
    return max(checks, key=lambda c: (not c.passed, c.error / c.bound if c.bound else 0.0))


def cell_of(checks: list[Check]) -> str:
    """One cell of the table: the worst error, its bound and its result."""
    if not checks:
        return ""
    check = worst(checks)
    error = f"{check.error:5.2f}" if check.passed else f"FAILED {check.error:.3g}"
    return f"{error} of {check.bound:<4g} {check.result}"


def run(args: argparse.Namespace) -> int:
    """The command ``fastrnn selftest``; its exit code."""
    start = time.perf_counter()
    for name, value in machine().items():
        print(f"{name:10}{value}")
    print("\na first run compiles every kernel, which takes a minute or two", flush=True)
    with compiling_beside("float64"):
        single = check_all(np.dtype(np.float32))
    double = check_all(np.dtype(np.float64))

    rows: dict[tuple[str, str], tuple[list[Check], list[Check]]] = {}
    for at, checks in enumerate((single, double)):
        for check in checks:
            key = check.function, check.result if args.all else ""
            rows.setdefault(key, ([], []))[at].append(check)
    print("\nworst error against the exact result, and how large it may be")
    print(f"{'':27}{'float32':26}float64")
    for (function, result), (left, right) in rows.items():
        unit = "ulp" if function in ("tanh", "sigmoid") else "eps"
        name = f"{function} {result}".strip()
        print(f"{name:23}{unit:4}{cell_of(left):26}{cell_of(right)}".rstrip())

    failed = sum(not check.passed for check in single + double)
    verdict = f"FAILED: {failed} of" if failed else "all"
    passed = "checks" if failed else "checks passed"
    count = len(single) + len(double)
    print(f"\n{verdict} {count} {passed}, in {time.perf_counter() - start:.1f} s")
    return 1 if failed else 0
