"""The compiled layer: every file here imports only numpy, numba and its siblings."""
