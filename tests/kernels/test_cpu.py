"""The shapes of vectors and tiles that each CPU gets."""

from __future__ import annotations

import pytest

from fastrnn.kernels import cpu
from fastrnn.kernels.cpu import HAS_FMA, ROWS, VECTOR_BITS, WIDTH


@pytest.mark.parametrize(
    ("features", "arm", "shape", "registers"),
    [
        ("sse2", False, (128, 2, 4), 16),
        ("sse2 avx", False, (256, 2, 6), 16),
        ("sse2 avx avx2 fma", False, (256, 2, 6), 16),
        ("avx avx2 fma avx512f avx512vl", False, (512, 4, 6), 32),
        ("avx avx2 fma avx512f prefer-256-bit", False, (256, 4, 6), 32),
        ("neon", True, (128, 4, 6), 32),
        ("", False, (128, 2, 4), 16),
    ],
)
def test_tile_shape(features: str, arm: bool, shape: tuple[int, int, int], registers: int) -> None:
    bits, width, rows = cpu.tile_shape(frozenset(features.split()), arm)
    assert (bits, width, rows) == shape
    # The accumulators, one row of weights and a broadcast at once.
    assert rows * width + width + 1 <= registers


def test_features_are_those_numba_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", "+avx,-fma,+sse2")
    assert cpu.cpu_features() == {"avx", "sse2"}
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", "")
    assert cpu.cpu_features() == frozenset()
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", None)
    host = cpu.llvm.get_host_cpu_features()
    assert cpu.cpu_features() == {name for name, there in host.items() if there}


def test_this_cpu() -> None:
    assert (VECTOR_BITS, WIDTH, ROWS) == cpu.tile_shape(cpu.FEATURES, cpu.ARM)
    assert HAS_FMA or not cpu.ARM
