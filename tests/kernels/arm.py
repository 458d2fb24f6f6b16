"""Compile every kernel for a 64-bit ARM CPU, on any CPU, and read the assembly.

    python -m tests.kernels.arm [kernel ...] [--dtype float32] [--cpu neoverse-n1]

takes minutes for all kernels.  Nothing compiled is run.  It fails

- where a kernel calls anything but its own parts, Numba's runtime, Python and the scheduler: a
  vector operation without an instruction would be a call for each number;
- where the loop of a product is not a tile's: one fused multiply-add on vectors for each
  register, no call, and nothing that is kept on the stack;
- where float32 is computed one by one.  (In float64 the last unit of an LSTM is half a
  vector, which is one number.)
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.core import config
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

TRIPLE = "aarch64-unknown-linux-gnu"
OWN_CALLS = re.compile(r"_ZN7fastrnn|NRT_|numba_|Py|mem(cpy|move|set)$|sched_(yield|getcpu)$")

Signature = tuple[Dispatcher, tuple[Any, ...]]


def pretend(cpu: str) -> None:
    """Let Numba compile for this CPU; before the kernels are imported."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.get_process_triple = lambda: TRIPLE
    config.CPU_NAME = cpu
    config.CPU_FEATURES = "+neon"


def signatures(dtype: str) -> list[Signature]:
    """Each kernel with the types that it is called with, found by calls that do nothing."""
    import fastrnn
    from fastrnn import layer
    from fastrnn.timing import peak_task

    found = []

    def note(self: Dispatcher, *args: Any) -> Any:
        found.append((self, tuple(self.typeof_pyval(arg) for arg in args)))
        return lambda *args: True  # a step has been done

    compile_and_call, fixed = Dispatcher._compile_for_args, layer.fixed
    Dispatcher._compile_for_args = note
    layer.fixed = lambda kernel, arguments: kernel
    try:
        fastrnn.warmup(dtype)
        peak_task(np.dtype(dtype))[0]()
    finally:
        Dispatcher._compile_for_args, layer.fixed = compile_and_call, fixed
    return list(dict.fromkeys(found))


def assembly(kernel: Dispatcher, types: tuple[Any, ...]) -> str:
    kernel._cache = NullCache()  # what comes from a cache has no assembly
    kernel.compile(types)
    code: str = kernel.inspect_asm(kernel.signatures[-1])
    return code


def innermost_loops(code: str) -> Iterator[str]:
    """From each label to the last jump back to it, where no other such loop is inside."""
    lines = code.splitlines()
    labels: dict[str, int] = {}
    ends: dict[int, int] = {}
    for n, line in enumerate(lines):
        if label := re.match(r"(\S+):", line):
            labels[label[1]] = n
        elif (jump := re.match(r"\t(?:b|b\.\w+|cbn?z|tbn?z)\t(?:.*, )?(\S+)$", line)) and (
            jump[1] in labels
        ):
            ends[labels[jump[1]]] = n
    for begin, end in ends.items():
        if not any(begin < other and ends[other] <= end for other in ends):
            yield "\n".join(lines[begin : end + 1])


def product_loops(code: str) -> Iterator[str]:
    """Loops that do nothing but sum products; those of activations do more.

    What has a label inside goes over rows, and sums what is left of an unrolled loop elsewhere.
    """
    for loop in innermost_loops(code):
        if len(re.findall(r"^\S+:", loop, re.MULTILINE)) > 1:
            continue
        if set(re.findall(r"\t(f\w+)\tv", loop)) == {"fmla"}:
            yield loop


def check(code: str, dtype: str) -> str:
    """Assert what the module promises; returns what the kernel's product loops are made of."""
    from fastrnn.kernels.cpu import ROWS, WIDTH

    calls = Counter(re.findall(r"^\tbl\t(\S+)", code, re.MULTILINE))
    assert calls
    foreign = [name for name in calls if not OWN_CALLS.match(name)]
    assert not foreign, f"calls {foreign}"

    sums = Counter()
    for loop in product_loops(code):
        count = len(re.findall(r"\tfmla\tv\d+\.[24][sd]", loop))
        assert "\tbl\t" not in loop, loop
        assert "[sp" not in loop, loop
        sums[count] += 1
    tiles = {rows * width for rows in range(1, ROWS + 1) for width in range(1, WIDTH + 1)}
    tiles |= set(range(1, 9))  # of one row
    assert sums.keys() <= tiles, sums
    assert "multiply_panel" not in code or ROWS * WIDTH in sums, sums

    if dtype == "float32":
        single = re.findall(r"^\tf(?:n?m(?:add|sub)|mul|add|sub|div)\t[sd]\d.*", code, re.MULTILINE)
        assert not single, single
    return " ".join(f"{sums[count]}x{count}" for count in sorted(sums, reverse=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.arm")
    parser.add_argument("kernel", nargs="*", help="all unless given")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="both unless given")
    parser.add_argument("--cpu", default="neoverse-n1")
    parser.add_argument("--rows", type=int, help="of a tile; too many, to see that it is noticed")
    options = parser.parse_args()
    pretend(options.cpu)

    from fastrnn.kernels import cpu

    assert (cpu.ARM, cpu.HAS_FMA, cpu.VECTOR_BITS) == (True, True, 128)
    cpu.ROWS = options.rows or cpu.ROWS
    dtypes = [options.dtype] if options.dtype else ["float32", "float64"]
    # All of them first: what has been compiled for ARM cannot be called.
    for dtype, found in [(dtype, signatures(dtype)) for dtype in dtypes]:
        kernels = {kernel.py_func.__name__: (kernel, types) for kernel, types in found}
        for name in options.kernel or kernels:
            loops = check(assembly(*kernels[name]), dtype)
            print(f"{name} {dtype}: product loops {loops or 'none'}", flush=True)


if __name__ == "__main__":
    main()
