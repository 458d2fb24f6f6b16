"""The asv suite: every benchmark is set up and run once, for its first parameters."""

import importlib
import inspect
import itertools
import os
import re
import sys
from pathlib import Path

import pytest

from fastrnn import peers

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
KINDS = re.compile("(time|timeraw|track|peakmem)_.+")
SLOW = {"timeraw_cold", "track_warmup"}  # they compile anew

if not FOLDER.is_dir():
    pytest.skip("an installed package has no benchmarks", allow_module_level=True)


@pytest.fixture(autouse=True)
def without_peers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    common = importlib.import_module("benchmarks.common")
    monkeypatch.setattr(peers, "LIBRARIES", ())
    monkeypatch.setattr(common, "find_spec", lambda name: name in ("numpy", "fastrnn") or None)


def benchmarks(module_name):
    """Class, method and first parameters of each benchmark of a module."""
    module = importlib.import_module(f"benchmarks.{module_name}")
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ == module.__name__:
            methods = [name for name in dir(kind) if KINDS.fullmatch(name)]
            for method in methods:
                yield kind, method, first(kind)


def first(kind):
    """The first of each parameter; asv takes a single list without another around it."""
    params = kind.params
    nested = isinstance(params[0], list | tuple)
    return [values[0] for values in params] if nested else [params[0]]


def test_a_module_for_each_subject():
    assert NAMES == [
        f"bench_{subject}"
        for subject in ("activations", "cells", "functions", "import", "layers", "memory", "ratios")
    ]


@pytest.mark.parametrize("module_name", NAMES)
def test_first_parameters(module_name, monkeypatch):
    found = list(benchmarks(module_name))
    assert found
    for kind, method, params in found:
        if hasattr(kind, "unit"):
            assert method.startswith("track_")
        assert len(params) == len(kind.param_names)
        benchmark = kind()
        try:
            if hasattr(benchmark, "setup"):
                benchmark.setup(*params)
            result = None if method in SLOW else getattr(benchmark, method)(*params)
        except NotImplementedError:
            continue  # what asv skips, too: a peer that is not installed
        if method == "track_growth":
            assert result > -1  # what was freed before in this process may be enough
        elif method.startswith("track_") and method not in SLOW:
            assert result > 0
        if method.startswith("timeraw_") and method not in SLOW:
            statement, setup = result
            compile(statement, method, "exec")
            compile(setup, method, "exec")


@pytest.mark.parametrize("module_name", NAMES)
def test_every_implementation_is_made_or_skipped(module_name):
    for kind, _, params in benchmarks(module_name):
        if "implementation" not in kind.param_names or not hasattr(kind, "make"):
            continue
        for implementation in kind.params[-1]:
            try:
                kind().setup(*params[:-1], implementation)
            except NotImplementedError as error:
                assert implementation not in ("NumPy", "fastrnn"), error


def test_a_wrong_result_is_not_timed(monkeypatch):
    monkeypatch.setattr(peers.Fastrnn, "forward", lambda self, problem: peers.Task(int, wrong))
    layers = importlib.import_module("benchmarks.bench_layers")
    with pytest.raises(RuntimeError, match="h is missing"):
        layers.Forward().setup("rnn", "float32", "3,5,10,4", "fastrnn")


def wrong(_):
    return {}


def test_set_up_once(monkeypatch):
    layers = importlib.import_module("benchmarks.bench_layers")
    benchmark = layers.Forward()
    params = next(itertools.product(*layers.Forward.params))
    benchmark.setup(*params)
    run, number = benchmark.run, benchmark.number
    benchmark.setup(*params)
    assert benchmark.run is run
    assert number > 1  # microseconds are not timed one by one


def test_nothing_is_set_outside_asv(monkeypatch):
    monkeypatch.delitem(sys.modules, "asv_runner", raising=False)
    before = dict(os.environ)
    importlib.reload(importlib.import_module("benchmarks"))
    assert dict(os.environ) == before
