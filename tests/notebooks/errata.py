"""How the tests see a notebook's mistake: one warning, at the caller's line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.notebooks import NotebookErratumWarning


def warned(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str]]:
    """What a function returns, and the functions of fastrnn that its warnings name as right."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        result = function(*arguments)
    assert all(warning.category is NotebookErratumWarning for warning in caught)
    here = Path(__file__).parent
    assert all(Path(warning.filename).parent == here for warning in caught)
    messages = [str(warning.message) for warning in caught]
    assert all(message.endswith(" is right") for message in messages)
    return result, sorted(message.split("; ")[-1].removesuffix(" is right") for message in messages)


def columns(*maxima: float) -> NDArray[Any]:
    """Logits of three classes, one column for each maximum."""
    logits: NDArray[Any] = np.array([[0.0], [-1.0], [-2.5]]) + np.array(maxima)
    return logits
