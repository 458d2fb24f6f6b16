"""``fastrnn bench``: what it prints, what it refuses to time, what it hands to machines."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fastrnn import bench, peers

SMALL = (3, 5, 2, 4)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No peers, no waiting, and no other process, which could not be told so."""
    monkeypatch.setattr(peers, "LIBRARIES", ())
    monkeypatch.setattr(bench, "SECONDS", 1e-3)
    monkeypatch.setattr(bench, "QUICK_SECONDS", 1e-3)
    for name in bench.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")


def parse(*argv):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(argv)


def run(*argv):
    return bench.run(parse(*argv))


class Stub(peers.Peer):
    """A peer that computes what fastrnn does, but for what a test changes."""

    name = "Stub"
    needs = ("fastrnn",)

    def change(self, results):
        return results

    def altered(self, task):
        return peers.Task(task.run, lambda out: self.change(task.read(out)))

    def forward(self, problem):
        return self.altered(peers.Fastrnn(1).forward(problem))

    def training(self, problem):
        return self.altered(peers.Fastrnn(1).training(problem))


def test_table(capsys):
    assert run("--sizes", "3,5,2,4") == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if "3,5,2,4" in line]
    assert len(rows) == 8  # cells, tasks, dtypes
    assert "NumPy/fastrnn" in out
    assert "PyTorch" not in out


def test_choice_of_rows(capsys):
    assert run("--sizes", "3,5,2,4", "1,1,1,1", "--cell", "rnn", "--dtype", "float32") == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if ",1 " in line]
    assert rows == [["rnn", task, "float32", "1,1,1,1"] for task in ("forward", "training")]


def test_functions(capsys):
    assert run("--functions", "--sizes", "3,5,2,4", "--dtype", "float64") == 0
    out = capsys.readouterr().out
    starts = [
        line.partition("float64")[0].split(maxsplit=1)
        for line in out.splitlines()
        if "3,5,2,4" in line
    ]
    assert [(cell, task.strip()) for cell, task in starts] == [
        (cell, task) for cell in peers.CELLS for task in bench.FUNCTION_TASKS
    ]


def test_functions_run_on_one_thread(capsys):
    assert run("--functions", "--threads", "2") == 2
    assert "one thread" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["backward", "head backward"])
@pytest.mark.parametrize("cell", peers.CELLS)
def test_function_tasks_of_the_suite(cell, task):
    problem = peers.random_problem(cell, *SMALL, "float32", classes=SMALL[0])
    results = {}
    for module, dtype in ((bench.fastrnn, "float32"), (bench.reference, "float64")):
        made = bench.function_task(problem.astype(dtype), task, module)
        results[dtype] = made.read(made.run())
    assert not peers.differences(problem, results["float32"], results["float64"])


def test_markdown(capsys):
    assert run("--sizes", "3,5,2,4", "1,2,1,3", "--cell", "lstm", "--markdown") == 0
    out = capsys.readouterr().out
    head, line, first, second = out.splitlines()[-4:]
    tasks = "forward float32 | training float32 | forward float64 | training float64"
    assert head == f"| D, H, B, T | {tasks} |"
    assert line == "|---|---|---|---|---|"
    for sizes, row in ("3, 5, 2, 4", first), ("1, 2, 1, 3", second):
        start, *cells = row.strip("| ").split(" | ")
        assert start == sizes
        assert len(cells) == 4
        assert all(float(time) > 0 for cell in cells for time in cell.split(" / "))


def test_json_to_stdout(capsys):
    assert run("--sizes", "3,5,2,4", "--json", "-") == 0
    results = json.loads(capsys.readouterr().out)
    assert not results["wrong"]
    assert {row["cell"] for row in results["rows"]} == set(peers.CELLS)
    for row in results["rows"]:
        assert set(row["microseconds"]) == {"NumPy", "fastrnn"}
        assert min(row["microseconds"].values()) > 0
        assert row["numpy_over_fastrnn"] > 0
        assert row["best_peer_over_fastrnn"] is None
        assert 0 < row["gflops"] < row["peak_gflops"]


def test_json_to_a_file(tmp_path, capsys):
    path = tmp_path / "out.json"
    assert run("--sizes", "3,5,2,4", "--cell", "rnn", "--json", str(path)) == 0
    assert len(json.loads(path.read_text())["rows"]) == 4
    assert "3,5,2,4" in capsys.readouterr().out


def test_json_that_cannot_be_written(tmp_path, capsys):
    path = tmp_path / "missing" / "out.json"
    assert run("--sizes", "3,5,2,4", "--json", str(path)) == 2
    err = capsys.readouterr().err
    assert str(path) in err
    assert err.count("\n") == 1


def test_too_large_for_the_memory(monkeypatch, capsys):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(peers, "random_problem", full)
    assert run("--sizes", "9,9,9,9") == 2
    assert capsys.readouterr().err == "fastrnn bench: error: not enough memory for these sizes\n"


def test_summary_of_ratios():
    rows = [
        bench.Row("rnn", "forward", "float32", SMALL, times, {}, False, None, None)
        for times in ({"NumPy": 8.0, "fastrnn": 2.0}, {"NumPy": 9.0, "fastrnn": 9.0})
    ]
    (entry,) = bench.summarise(rows)
    assert entry["over_numpy"] == {"least": 1.0, "geometric_mean": pytest.approx(2.0)}
    assert entry["over_peers"] is None


def test_ratio_to_the_best_peer(monkeypatch):
    monkeypatch.setattr(peers, "LIBRARIES", (peers.Torch, peers.Jax))
    times = {"NumPy": 1.0, "fastrnn": 2.0, "PyTorch": 6.0, "JAX": 5.0}
    row = bench.Row("rnn", "forward", "float32", SMALL, times, {}, False, None, None)
    assert row.over_peers == 2.5
    assert row.over_numpy == 0.5


@pytest.mark.parametrize("task", bench.LAYER_TASKS)
@pytest.mark.parametrize("cell", peers.CELLS)
def test_a_wrong_result_is_not_timed(cell, task, monkeypatch, capsys):
    class Wrong(Stub):
        def change(self, results):
            key = min(results)
            return results | {key: results[key] + np.float32(1e-3)}

    monkeypatch.setattr(peers, "LIBRARIES", (Wrong,))
    assert run("--sizes", "3,5,2,4", "--cell", cell, "--dtype", "float32", "--json", "-") == 1
    results = json.loads(capsys.readouterr().out)
    row = next(row for row in results["rows"] if row["task"] == task)
    assert row["wrong"]
    assert set(row["microseconds"]) == {"NumPy", "fastrnn"}
    assert "off by" in row["notes"]["Stub"]


def test_a_wrong_fastrnn_is_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(peers.Fastrnn, "forward", lambda self, problem: peers.Task(int, nan))
    assert run("--sizes", "3,5,2,4", "--cell", "rnn", "--dtype", "float64") == 1
    out = capsys.readouterr().out
    assert "wrong: h is off by nan" in out
    assert next(line for line in out.splitlines() if "rnn  forward" in line).count("wrong") == 1


def nan(_):
    return {"h": np.full((4, 2, 5), np.nan), "h_last": np.zeros((2, 5))}


def test_a_peer_that_fails(monkeypatch, capsys):
    class Failing(Stub):
        def forward(self, problem):
            raise OSError("no such instruction")

        def training(self, problem):
            raise peers.UnsupportedError("no training")

    monkeypatch.setattr(peers, "LIBRARIES", (Failing,))
    assert run("--sizes", "3,5,2,4", "--cell", "rnn") == 1
    out = capsys.readouterr().out
    assert "failed: OSError('no such instruction')" in out
    assert "Stub: no training" in out


def test_missing_peers_are_named(monkeypatch, capsys):
    class Missing(Stub):
        name = "Absent"
        needs = ("no_such_library",)

    monkeypatch.setattr(peers, "LIBRARIES", (Missing,))
    assert run("--sizes", "3,5,2,4", "--cell", "rnn", "--dtype", "float32") == 0
    assert "Absent is left out: No module named 'no_such_library'" in capsys.readouterr().out


@pytest.mark.parametrize("cell", peers.CELLS)
@pytest.mark.parametrize("gates", ["ifco", "iofc"])
def test_stacking_is_undone(cell, gates):
    problem = peers.random_problem(cell, *SMALL, "float64")
    gradients = peers.unstacked(problem, gates, *peers.stacked(problem, gates))
    for key, w in gradients.items():
        np.testing.assert_array_equal(w, problem.parameters[key[1:]])
    assert len(gradients) == (3 if cell == "rnn" else 8)


@pytest.mark.parametrize("text", ["3,5,2", "3,5,2,0", "a", "3,5,2,4,1"])
def test_bad_sizes(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--sizes", text)
    assert stop.value.code == 2
    assert "wanted D,H,B,T" in capsys.readouterr().err


def test_the_command_as_users_run_it():
    environment = {k: v for k, v in os.environ.items() if k not in bench.THREAD_VARIABLES}
    argv = ["--quick", "--sizes", "1,1,1,1", "--cell", "rnn", "--dtype", "float64", "--json", "-"]
    command = [sys.executable, "-m", "fastrnn", "bench", "--functions", *argv]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["task"] for row in rows] == list(bench.FUNCTION_TASKS)
