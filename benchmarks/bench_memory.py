"""The peak of memory."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrnn import peers

from .common import BASELINES, CELLS, PEERS, peer, sizes_of

SIZES = ["256,256,64,100", "512,512,16,25", "64,64,1,1000"]


class Prepared:
    """Library and code are loaded by a small problem; the large one is still to be made ready."""

    params = (CELLS, ["forward", "training"], SIZES, BASELINES + PEERS)
    param_names = ("cell", "task", "D,H,B,T", "implementation")

    def setup(self, cell: str, task: str, sizes: str, implementation: str) -> None:
        library = peer(implementation)
        # Of so many steps that it takes the same kernels as the large one.
        small = peers.random_problem(cell, 1, 1, 1, 20, "float32")
        large = peers.random_problem(cell, *sizes_of(sizes), "float32")
        try:
            getattr(library, task)(small).run()
        except peers.UnsupportedError as error:
            raise NotImplementedError(str(error)) from None
        self.make: Callable[[], peers.Task] = lambda: getattr(library, task)(large)


class Process(Prepared):
    """Of the whole process, with the library itself."""

    params = (*Prepared.params[:2], SIZES[:1], BASELINES + PEERS)

    def peakmem_process(self, *_: Any) -> None:
        self.make().run()


class Growth(Prepared):
    """By how much one layer, its buffers and one call raise the peak of the process."""

    unit = "MB"

    def setup(self, *params: Any) -> None:
        if not Path("/proc/self/clear_refs").exists():
            raise NotImplementedError("only Linux can forget a process's peak")
        libc = ctypes.CDLL(None)
        if not hasattr(libc, "malloc_trim"):
            raise NotImplementedError("only glibc gives freed memory back when asked")
        super().setup(*params)
        # Else what was freed before is used again, and the peak does not rise.
        libc.malloc_trim(0)

    def track_growth(self, *_: Any) -> float:
        before = self.kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        self.make().run()
        return (self.kilobytes("VmHWM") - before) / 1000

    @staticmethod
    def kilobytes(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(key))
