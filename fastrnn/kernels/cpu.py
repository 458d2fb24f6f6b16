"""What fits this CPU: `VECTOR_BITS` in a vector, and tiles of `ROWS` by `WIDTH` vectors."""

import llvmlite.binding as llvm
from numba.core import config


def cpu_features() -> frozenset[str]:
    """The features Numba compiles for: the host's, or those of NUMBA_CPU_FEATURES."""
    if config.CPU_FEATURES is not None:
        flags = config.CPU_FEATURES.split(",")
    else:
        flags = llvm.get_host_cpu_features().flatten().split(",")
    return frozenset(flag[1:] for flag in flags if flag.startswith("+"))


def tile_shape(features: frozenset[str], arm: bool) -> tuple[int, int, int]:
    """Bits in a vector, vectors across a tile, rows of a full tile.

    The accumulators, one row of weights and a broadcast share 32 registers
    (AVX-512, 64-bit ARM) or 16 (all else).
    """
    if arm:
        return 128, 4, 6
    if "avx512f" in features:
        return (256 if "prefer-256-bit" in features else 512), 4, 6
    if "avx" in features:
        return 256, 2, 6
    return 128, 2, 4


ARM = llvm.get_process_triple().startswith(("aarch64", "arm64"))
FEATURES = cpu_features()
HAS_FMA = ARM or "fma" in FEATURES or "avx512f" in FEATURES
HAS_MASKS = "avx512f" in FEATURES
VECTOR_BITS, WIDTH, ROWS = tile_shape(FEATURES, ARM)
LINE_BITS = 512  # of a cache line
# A vector is a cache line: memory takes it without reading it first.
LINES = VECTOR_BITS == LINE_BITS
