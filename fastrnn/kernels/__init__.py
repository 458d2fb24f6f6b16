"""The compiled layer: its files import only each other, Numba and llvmlite."""
