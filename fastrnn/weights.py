"""A trained character model in a file: an ``.npz`` of its weights and its characters."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .checks import Array, common_dtype, ready, weights
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


def check_writable(path: Path) -> None:
    """Refuse a path that `save` could not write to; nothing is left behind.

    Parameters
    ----------
    path : Path
        The file to be.

    Raises
    ------
    WeightsError
        It is no regular file, or its folder is missing or closed.
    """
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
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"cannot write {path}: {_reason(error)}") from None


def save(path: Path, parameters: dict[str, Array], characters: str) -> None:
    """Write a model; an existing file is replaced only when the new one is whole.

    Parameters
    ----------
    path : Path
        The file, readable with ``numpy.load(path, allow_pickle=False)``.
    parameters : dict
        As for `fastrnn.lstm_forward`.
    characters : str
        What the model reads and writes, sorted: its inputs and outputs are in this order.

    Raises
    ------
    WeightsError
        The file cannot be written.
    """
    path = path.resolve()
    try:
        try:
            with _partial(path).open("wb") as file:
                arrays: dict[str, Any] = {**parameters, "characters": np.array(list(characters))}
                np.savez(file, **arrays)
            _partial(path).replace(path)
        finally:
            _partial(path).unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {_reason(error)}") from None


def load(path: Path) -> tuple[dict[str, Array], str]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : Path
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
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is not a whole .npz archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive}
        characters = arrays.pop("characters")
        if characters.ndim != 1 or characters.dtype != np.dtype("U1"):
            raise ValueError(f"characters has shape {characters.shape}, dtype {characters.dtype}")
        keys = KEYS | HEAD_KEYS
        sizes = {"1": 1, "n_y": len(characters), "n_x": len(characters)}
        if (gate := arrays.get("Wf")) is not None and gate.ndim == 2:
            sizes |= {"n_a": gate.shape[0], "n_a + n_x": gate.shape[0] + len(characters)}
        found = weights(arrays, keys, sizes)
        if "".join(characters) != "".join(sorted(set(characters))) or "" in characters:
            raise ValueError("its characters are not different and in order")
        if not all(np.isfinite(array).all() for array in found):
            raise ValueError("its weights are not all finite")
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {_reason(error)}") from None
    except Exception as error:  # of a damaged file NumPy and zipfile raise almost anything
        raise WeightsError(f"{path} holds no character model: {_reason(error)}") from None
    dtype = common_dtype(found)
    return dict(zip(keys, [ready(a, dtype) for a in found], strict=True)), "".join(characters)
