"""A trained character model in a file: an ``.npz`` of its weights and its characters."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .checks import Array, checked, common_dtype, ready, weights
from .lstm import HEAD_KEYS, KEYS


class WeightsError(ValueError):
    """A file of weights cannot be read or written; the message is one line and names it."""


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {type(path).__name__}; wanted the path of a file")
    return Path(path)


def _model(parameters: Any, characters: Any) -> dict[str, Array]:
    """The weights of a model of these characters, of one type; an error names what does not fit."""
    if not isinstance(characters, str):
        raise TypeError(f"characters is {type(characters).__name__}; wanted str")
    if characters != "".join(sorted(set(characters))) or "\0" in characters or not characters:
        raise ValueError("characters are not different and in order")
    keys = KEYS | HEAD_KEYS
    n = len(characters)
    sizes = {"1": 1, "n_y": n, "n_x": n}
    if isinstance(parameters, Mapping) and "Wf" in parameters:
        sizes["n_a"] = len(checked("parameters['Wf']", parameters["Wf"], KEYS["Wf"], {}))
    found = weights(parameters, keys, sizes)
    if not all(np.isfinite(array).all() for array in found):
        raise ValueError("parameters are not all finite")
    dtype = common_dtype(found)
    return dict(zip(keys, [ready(a, dtype) for a in found], strict=True))


def check_writable(path: str | Path) -> None:
    """Refuse a path that `save` could not write to; nothing is left behind.

    Parameters
    ----------
    path : str or Path
        The file to be.

    Raises
    ------
    WeightsError
        It is no regular file, or its folder is missing or closed.
    TypeError
        `path` is no path.
    """
    path = _path(path)
    try:
        path = path.resolve()
        if path.exists():
            if not path.is_file():
                raise WeightsError(f"cannot write {path}: it is not a regular file")
            with path.open("ab"):
                pass
        with _partial(path).open("wb"):
            pass
        _partial(path).unlink()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"cannot write {path}: {_reason(error)}") from None


def save(path: str | Path, parameters: dict[str, Array], characters: str) -> None:
    """Write a model; an existing file is replaced only when the new one is whole.

    Parameters
    ----------
    path : str or Path
        The file, readable with ``numpy.load(path, allow_pickle=False)``.
    parameters : dict
        As for `fastrnn.lstm_forward`.
    characters : str
        What the model reads and writes, sorted: its inputs and outputs are in this order.

    Raises
    ------
    WeightsError
        The file cannot be written.
    TypeError, ValueError, KeyError
        What would not be read again; the message names it.
    """
    path = _path(path)
    arrays: dict[str, Any] = _model(parameters, characters)
    arrays["characters"] = np.array(list(characters))
    try:
        path = path.resolve()
        try:
            with _partial(path).open("wb") as file:
                np.savez(file, **arrays)
            _partial(path).replace(path)
        finally:
            _partial(path).unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"cannot write {path}: {_reason(error)}") from None


def load(path: str | Path) -> tuple[dict[str, Array], str]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    parameters : dict
        As for `fastrnn.lstm_forward`, all float32 or all float64.
    characters : str
        What the model reads and writes.

    Raises
    ------
    WeightsError
        The file is missing, damaged, or of another kind.
    TypeError
        `path` is no path.
    """
    path = _path(path)
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a whole .npz archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive}
        stored = arrays.pop("characters")
        if stored.ndim != 1 or stored.dtype != np.dtype("U1") or "" in stored:
            raise ValueError(f"characters has shape {stored.shape}, dtype {stored.dtype}")
        characters = "".join(stored)
        return _model(arrays, characters), characters
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {_reason(error)}") from None
    except Exception as error:  # of a damaged file NumPy and zipfile raise almost anything
        raise WeightsError(f"{path} holds no character model: {_reason(error)}") from None
