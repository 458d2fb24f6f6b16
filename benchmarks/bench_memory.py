"""The peak of memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrnn import peers

from .common import BASELINES, CELLS, PEERS, peer, sizes_of

SIZES = "256,256,64,100"
TASKS = ["forward", "training"]


class Prepared:
    """Library and code are loaded by a small problem; the large one is still to be made ready."""

    params = (CELLS, TASKS, BASELINES + PEERS)
    param_names = ("cell", "task", "implementation")

    def setup(self, cell: str, task: str, implementation: str) -> None:
        library = peer(implementation)
        small = peers.random_problem(cell, 1, 1, 1, 1, "float32")
        large = peers.random_problem(cell, *sizes_of(SIZES), "float32")
        try:
            getattr(library, task)(small).run()
        except peers.UnsupportedError as error:
            raise NotImplementedError(str(error)) from None
        self.make: Callable[[], peers.Task] = lambda: getattr(library, task)(large)


class Process(Prepared):
    """Of the whole process, with the library itself."""

    def peakmem_process(self, *_: Any) -> None:
        self.make().run()


class Growth(Prepared):
    """By how much one layer, its buffers and one call raise the peak of the process."""

    unit = "MB"

    def setup(self, *params: Any) -> None:
        if not Path("/proc/self/clear_refs").exists():
            raise NotImplementedError("only Linux can forget a process's peak")
        super().setup(*params)

    def track_growth(self, *_: Any) -> float:
        before = self.kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        self.make().run()
        return (self.kilobytes("VmHWM") - before) / 1000

    @staticmethod
    def kilobytes(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(key))
