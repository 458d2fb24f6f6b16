"""Least times, taken in turns."""

import os
import threading
import time

import numpy as np
import pytest

from fastrnn import timing


def timed_in_turns(monkeypatch, threads):
    """The calls of two that take a second each."""
    order = []
    seconds = iter(range(10**6))
    monkeypatch.setattr(timing, "clock_for", lambda threads: (lambda: next(seconds), "seconds"))
    monkeypatch.setattr(timing, "let_rest", lambda: order.append("rest"))
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    assert timing.least_times(runs, 1.0, threads) == {"a": 1.0, "b": 1.0}
    return order


def test_least_times_takes_turns(monkeypatch):
    assert timed_in_turns(monkeypatch, threads=1) == ["a", "b"] * (1 + timing.LEAST_ROUNDS)


def test_with_threads_each_turn_begins_at_rest_and_warm(monkeypatch):
    turns = ["rest", "a", "a", "rest", "b", "b"]
    assert timed_in_turns(monkeypatch, threads=2) == ["a", "b", *turns * timing.LEAST_ROUNDS]


def test_a_turn_is_long_enough_to_be_warm(monkeypatch):
    """Calls of 2 ms, but of 5 ms where the other one was the last to run."""
    now = 0.0
    last = None

    def run(name):
        nonlocal now, last
        now += 0.002 if name == last else 0.005
        last = name

    monkeypatch.setattr(timing, "clock_for", lambda threads: (lambda: now, "seconds"))
    runs = {name: lambda name=name: run(name) for name in "ab"}
    assert timing.least_times(runs, 0.1, 1) == pytest.approx({"a": 0.002, "b": 0.002})


def test_a_turn_is_as_long_as_asked_for():
    seconds = iter(range(100))
    calls = []
    assert timing.timed(lambda: calls.append(1), 4, 2.5, lambda: next(seconds)) == (0.25, 3.0)
    assert len(calls) == 3 * 4


def test_rest_waits_for_busy_threads():
    stop = threading.Event()
    array = np.zeros(10**7)

    def be_busy():
        while not stop.is_set():
            np.sqrt(array, array)  # without the GIL

    thread = threading.Thread(target=be_busy)
    timer = threading.Timer(0.1, stop.set)
    thread.start()
    timer.start()
    start = time.perf_counter()
    timing.let_rest()
    waited = time.perf_counter() - start
    thread.join()
    assert waited >= 0.1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_pinned_is_undone():
    before = os.sched_getaffinity(0)
    with timing.pinned(1) as place:
        assert len(os.sched_getaffinity(0)) == 1
        assert "pinned to core" in place
    assert os.sched_getaffinity(0) == before
