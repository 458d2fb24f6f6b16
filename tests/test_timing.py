"""Least times, taken in turns."""

import os
import types

import pytest

from fastrnn import timing


def set_clock(monkeypatch, clock):
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=clock))


def timed_in_turns(monkeypatch, threads):
    """The calls of two that take a second each."""
    order = []
    seconds = iter(range(10**6))
    set_clock(monkeypatch, lambda: next(seconds))
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

    set_clock(monkeypatch, lambda: now)
    runs = {name: lambda name=name: run(name) for name in "ab"}
    assert timing.least_times(runs, 0.1, 1) == pytest.approx({"a": 0.002, "b": 0.002})


def test_a_turn_is_as_long_as_asked_for(monkeypatch):
    seconds = iter(range(100))
    set_clock(monkeypatch, lambda: next(seconds))
    calls = []
    assert timing.timed(lambda: calls.append(1), 4, 2.5) == (0.25, 3.0)
    assert len(calls) == 3 * 4


@pytest.mark.parametrize("busy", [0, 3, 10**6])
def test_rest_waits_for_busy_threads_but_not_without_end(busy, monkeypatch):
    """A process that is busy during so many looks."""
    used = 0.0
    looks = 0

    def look(seconds):
        nonlocal used, looks
        looks += 1
        used += seconds if looks <= busy else seconds / 100

    clock = types.SimpleNamespace(sleep=look, process_time=lambda: used)
    monkeypatch.setattr(timing, "time", clock)
    timing.let_rest()
    assert looks == min(busy + 1, timing.LOOKS)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_pinned_is_undone():
    before = os.sched_getaffinity(0)
    with timing.pinned(1) as place:
        assert len(os.sched_getaffinity(0)) == 1
        assert "pinned to core" in place
    assert os.sched_getaffinity(0) == before
