"""Wrong calls are refused, by name and without a trace; see `tests.stress.fuzz`."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import notebooks
from fastrnn.layer import Layer
from tests.stress.fuzz import NOTEBOOKS, Call, all_calls, complaint, is_right

ROOT = Path(__file__).parents[2]


def test_wrong_calls_are_refused() -> None:
    command = [sys.executable, "-m", "tests.stress.fuzz", "--calls", "3000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_public_function_is_called_wrongly(tmp_path: Path) -> None:
    called = {getattr(call.function, "__func__", call.function) for call in all_calls(tmp_path)}
    public = [getattr(fastrnn, name) for name in fastrnn.__all__]
    for name in NOTEBOOKS:
        module = getattr(notebooks, name)
        public += [getattr(module, each) for each in module.__all__]
    methods = inspect.getmembers(Layer, inspect.isfunction)
    public += [method for name, method in methods if not name.startswith("_")]
    assert set(NOTEBOOKS) | {"NotebookErratumWarning"} == set(notebooks.__all__)
    assert not [function for function in public if function not in called]


def refused(x: Any) -> None:
    raise ValueError("x is wrong")


def unnamed(x: Any) -> None:
    raise ValueError("something is wrong")


def changed(x: Any) -> None:
    x[0] = 1.0
    raise ValueError("x is wrong")


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (refused, None),
        (unnamed, "names no argument"),
        (changed, "changed an argument"),
        (lambda x: x, "was not refused"),
        (lambda x: x[9], "raised IndexError"),
    ],
)
def test_what_is_amiss_is_seen(function: Callable[..., Any], found: str | None) -> None:
    arguments = {"x": np.zeros(3)}
    fault = complaint(Call(function, arguments), arguments)
    assert fault is None if found is None else fault is not None and fault.startswith(found)


def test_which_breaks_are_right() -> None:
    call = Call(
        refused,
        {"x": np.zeros((3, 4, 2))},
        {("x",): ("n_x", "any", "T or less")},
        optional={("y",)},
    )
    for shape, right in (
        ((3, 9, 1), True),
        ((3, 9, 3), False),
        ((4, 9, 2), False),
        ((3, 4), False),
    ):
        assert is_right(call, ("x",), np.zeros(shape)) == right
    assert not is_right(call, ("x",), np.zeros((3, 4, 2), complex))
    assert not is_right(call, ("x",), None)
    assert is_right(call, ("y",), None)
