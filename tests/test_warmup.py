"""`fastrnn.warmup` leaves nothing to compile."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import fastrnn
from fastrnn.kernels._jit import Late
from tests.problems import lstm_problem, normal, rnn_problem
from tests.test_cli import python


def kernels() -> dict[str, Any]:
    """All functions that Python calls into compiled code."""
    return {
        f"{name}.{key}": value
        for name, module in list(sys.modules.items())
        if name.startswith("fastrnn.kernels.") and name != "fastrnn.kernels.peak"  # bench's own
        for key, value in vars(module).items()
        if isinstance(value, Late | Dispatcher) and value.targetoptions.get("nogil")
    }


def signatures() -> dict[str, list[Any]]:
    return {name: list(kernel.signatures) for name, kernel in kernels().items()}


def unwritable(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def use_everything(dtype: str) -> None:
    """Shapes, layouts and options that `warmup` did not use."""
    for cell, problem in ("rnn", rnn_problem), ("lstm", lstm_problem):
        parameters, x, a0, da = problem(4, 19, 5, 3, 6, dtype)
        *_, caches = getattr(fastrnn, f"{cell}_forward")(x[:, ::-1], a0, parameters)
        da.flags.writeable = False
        getattr(fastrnn, f"{cell}_backward")(da[:, :, :2], caches)
        getattr(fastrnn, f"{cell}_backward")(da, (caches[0][:], x))
        fastrnn.output_backward(normal((6, 5, 3), dtype), caches)

        layer = getattr(fastrnn, cell.upper())(parameters, threads=2)
        layer.update(parameters)
        workspace = layer.workspace(3, 5)
        layer.forward(x.transpose(), workspace=workspace)
        layer.backward(da.transpose(), workspace=workspace)
        layer.forward(x.transpose())
        short = layer.workspace(1, 5)
        for change in np.asfortranarray, np.float64, unwritable:
            layer.update({key: change(w) for key, w in parameters.items()}, copy=False)
            layer.forward(x.transpose()[:1], workspace=short)
            layer.backward(da.transpose()[:1], workspace=short)
        layer.step(x[:, :, 0].T, layer.zero_state(5))

    a0 = normal((19, 5), dtype)
    parameters, x, *_ = rnn_problem(4, 19, 5, 3, 6, dtype)
    *_, rnn_cache = fastrnn.rnn_cell_forward(x[:, :, 0], a0, parameters)
    fastrnn.rnn_cell_backward(a0, rnn_cache)
    parameters, x, *_ = lstm_problem(4, 19, 5, 3, 6, dtype)
    *_, lstm_cache = fastrnn.lstm_cell_forward(x[:, :, 0], a0, a0, parameters)
    fastrnn.lstm_cell_backward(a0, a0, lstm_cache)
    for function in fastrnn.softmax, fastrnn.sigmoid, fastrnn.tanh:
        function(a0[:, 0])


def check_all_is_ready() -> None:
    assert fastrnn.warmup() > 0
    ready = signatures()
    assert len(ready) >= 15
    for name, found in ready.items():
        floats = any("float" in str(types) for types in found)
        assert {"float32" in str(types) for types in found} == {False, floats}, name
    for dtype in "float32", "float64":
        use_everything(dtype)
    assert signatures() == ready


def test_every_kernel_is_ready_and_stays_so() -> None:
    """In a process of its own: here other tests have compiled some."""
    python("from tests.test_warmup import check_all_is_ready\ncheck_all_is_ready()")


def test_only_the_types_asked_for() -> None:
    found = python(
        "import fastrnn\n"
        "from tests.test_warmup import signatures\n"
        "print(fastrnn.warmup('float32') > 0)\n"
        "print(*(types for found in signatures().values() for types in found), sep='\\n')\n"
    )
    assert found.startswith("True\n")
    assert "float32" in found
    assert "float64" not in found


@pytest.mark.parametrize("dtypes", ["float32", np.float32, np.dtype("f4"), [np.float32], ()])
def test_types_as_numpy_takes_them(dtypes: Any) -> None:
    assert fastrnn.warmup(dtypes) >= 0


@pytest.mark.parametrize(
    ("dtypes", "error"),
    [
        ("float16", ValueError),
        ([">f8"], ValueError),
        (["int"], ValueError),
        ([None], ValueError),  # which NumPy takes for float64
        (None, TypeError),
        (7, TypeError),
        ("nonsense", TypeError),
    ],
)
def test_other_types_are_refused(dtypes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^dtypes .*wanted float32, float64 or both"):
        fastrnn.warmup(dtypes)
