"""``fastrnn selftest``: it passes, and it does not pass when a kernel is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import cli, selftest

FLOAT64 = np.dtype(np.float64)
CELLS = "rnn", "lstm", "rnn_cell", "lstm_cell"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second process, and the cells at one size."""
    monkeypatch.setattr(selftest, "cpu_count", lambda: 1)
    monkeypatch.setattr(selftest, "SIZES", ((3, 5, 2, 4, 2),))


def failures(checks: Iterator[selftest.Check]) -> set[tuple[str, str]]:
    return {(check.function, check.result) for check in checks if not check.passed}


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(selftest, "cpu_count", lambda: 1)
    assert cli.main(["selftest"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    cache = next(line for line in out.splitlines() if line.startswith("cache "))
    assert max(map(len, out.replace(cache, "").splitlines())) <= 80
    for line in "CPU ", "features ", "in use ", "vector ", "tile ", "versions ", "all ":
        assert f"\n{line}" in f"\n{out}"
    for function in (
        "tanh", "sigmoid", "softmax", "output_backward",
        *(f"{cell}_{way}" for cell in CELLS for way in ("forward", "backward")),
        *(f"{cell}.{way}" for cell in ("RNN", "LSTM") for way in ("forward", "backward", "step")),
    ):  # fmt: skip
        assert f"\n{function} " in out


def test_every_result_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["selftest", "--all"]) == 0
    out = capsys.readouterr().out
    for key in "dx", "da0", "dc0", "dWf", "dWi", "dWc", "dWo", "dbf", "dbi", "dbc", "dbo":
        assert f"\nLSTM.backward {key} " in out
    for key in "dx", "da0", "dWax", "dWaa", "dba":
        assert f"\nrnn_backward {key} " in out


def test_a_wrong_kernel_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = fastrnn.LSTM._kernels

    def wrong(*args: Any) -> None:
        right.backward(*args)
        args[9][...] *= 1.001  # the weights' gradients

    monkeypatch.setattr(fastrnn.LSTM, "_kernels", right._replace(backward=wrong))
    assert cli.main(["selftest"]) == 1
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.startswith("LSTM.backward"))
    assert row.count("FAILED") == 2
    assert "\nFAILED: " in out
    assert out.count("FAILED") == 3


LSTM_WEIGHTS = [f"d{kind}{gate}" for kind in "Wb" for gate in "fico"]
FUNCTIONS: dict[str, list[tuple[str, str]]] = {
    "rnn": [
        *(("rnn_backward", key) for key in ("dx", "da0", "dWax", "dWaa", "dba")),
        *(("rnn_cell_backward", key) for key in ("dxt", "da_prev", "dWax", "dWaa", "dba")),
    ],
    "lstm": [
        *(("lstm_backward", key) for key in ("dx", "da0", *LSTM_WEIGHTS)),
        *(("lstm_cell_backward", key) for key in ("dxt", "da_prev", "dc_prev", *LSTM_WEIGHTS)),
    ],
}


@pytest.mark.parametrize("cell", FUNCTIONS)
def test_each_gradient_is_looked_at(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failures(selftest.check_cell(cell, FLOAT64)) == set()
    for function, key in FUNCTIONS[cell]:
        right = getattr(fastrnn, function)

        def wrong(*args: Any, right: Any = right, key: str = key) -> Any:
            gradients = right(*args)
            gradients[key].flat[-1] += 1e-9
            return gradients

        with monkeypatch.context() as patch:
            patch.setattr(fastrnn, function, wrong)
            assert failures(selftest.check_cell(cell, FLOAT64)) == {(function, key)}


OUTPUTS = {
    "rnn_forward": ("a", "y"),
    "lstm_forward": ("a", "y", "c"),
    "rnn_cell_forward": ("a_next", "yt_pred"),
    "lstm_cell_forward": ("a_next", "c_next", "yt_pred"),
}


@pytest.mark.parametrize(
    ("function", "at", "name"),
    [(function, at, name) for function, names in OUTPUTS.items() for at, name in enumerate(names)],
)
def test_each_output_is_looked_at(
    function: str, at: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(fastrnn, function)

    def wrong(*args: Any) -> Any:
        results = right(*args)
        changed = results[at].copy()
        changed.flat[-1] += 1e-9
        return *results[:at], changed, *results[at + 1 :]

    monkeypatch.setattr(fastrnn, function, wrong)
    found = failures(selftest.check_cell(function.split("_")[0], FLOAT64))
    assert found == {(function, name)}


def test_a_step_must_have_the_bits_of_the_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fastrnn.RNN.step

    def wrong(self: Any, x_t: Any, state: Any) -> Any:
        h = right(self, x_t, state)
        h[0, 0] = np.nextafter(h[0, 0], 2)
        return h

    monkeypatch.setattr(fastrnn.RNN, "step", wrong)
    assert failures(selftest.check_cell("rnn", FLOAT64)) == {("RNN.step", "same bits")}


@pytest.mark.parametrize(
    ("name", "wrong", "result"),
    [
        ("tanh", lambda y: y * (1 + 1e-15), "y"),
        ("sigmoid", lambda y: np.maximum(y, 1e-15), "y"),
        ("softmax", lambda y: y * (1 + 1e-14), "y"),
        ("tanh", lambda y: np.nan_to_num(y), "NaN, inf"),
        ("sigmoid", lambda y: np.where(y == 1, np.nan, y), "NaN, inf"),
        ("softmax", lambda y: np.where(y > 0.9, np.nan, y), "y"),
    ],
)
def test_each_activation_is_looked_at(
    name: str, wrong: Callable[[Any], Any], result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(fastrnn, name)
    monkeypatch.setattr(fastrnn, name, lambda x: wrong(right(x)))
    found = failures(selftest.check_activations(FLOAT64))
    assert (name, result) in found
    assert {function for function, _ in found} == {name}


def test_what_cannot_run_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(fastrnn, "lstm_forward", broken)
    assert cli.main(["selftest"]) == 1
    out = capsys.readouterr().out
    assert "no such instruction" in out and "and more" not in out


@pytest.mark.parametrize(("cores", "started"), [(1, 0), (2, 1)])
def test_another_process_compiles_meanwhile(
    cores: int, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        commands.append(command)
        processes.append(real([command[0], "-c", "pass"], **options))
        return processes[-1]

    real = subprocess.Popen
    monkeypatch.setattr(selftest, "cpu_count", lambda: cores)
    monkeypatch.setattr(selftest.subprocess, "Popen", start)
    with selftest.compiling_beside("float64"):
        assert len(commands) == started
    for command in commands:
        assert command[-1] == "import fastrnn; fastrnn.warmup('float64')"
    assert all(process.poll() is not None for process in processes)
