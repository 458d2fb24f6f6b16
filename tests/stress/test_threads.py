"""Many threads, interrupts, and what a layer does when it has no threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.kernels.team import ADMITTED, MEMBER, OVER
from fastrnn.layer import Layer
from tests.cells import CELLS, LSTM, Cell
from tests.compare import assert_same_bits, copied, same_bits
from tests.problems import normal
from tests.stress import interrupts
from tests.threads import in_chunks, in_every_call

T, B, D, H = 6, 7, 5, 17
THREADS = 16
CPUS = fastrnn.threads.cpu_count()

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@pytest.fixture(autouse=True, params=[True, False], ids=["awaited", "any time"])
def every_call_is_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers with threads use them for calls of any size."""
    in_every_call(monkeypatch.setattr, awaited=request.param)


def in_threads(work: Callable[[int], None], count: int = THREADS) -> None:
    """Call ``work(n)`` in so many threads at once; raise what the first one to fail raised."""
    failures: list[BaseException] = []
    begin = threading.Barrier(count)

    def guarded(n: int) -> None:
        begin.wait()
        try:
            work(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failures:
        raise failures[0]


class Task:
    """A layer's work over a random problem."""

    def __init__(self, cell: Cell, seed: int = 0) -> None:
        self.problem = cell.problem(D, H, B, T, seed=seed)
        self.parameters = self.problem.parameters
        self.x = np.ascontiguousarray(self.problem.x.T)
        self.dh = normal((T, B, H))

    def run(self, layer: Layer, between: Callable[[], None] = lambda: None) -> dict[str, Any]:
        ws = layer.workspace(T, B)
        h, _ = layer.forward(self.x, None, ws)
        between()
        return {"h": h} | layer.backward(self.dh, None, ws)


@each_cell
def test_threads_share_weights(cell: Cell) -> None:
    problem = Task(cell).problem
    expected = cell.run(fastrnn, problem)

    def work(_: int) -> None:
        for _ in range(10):
            assert_same_bits(cell.run(fastrnn, problem), expected)

    in_threads(work)


@each_cell
def test_threads_share_a_layer_that_has_threads(cell: Cell) -> None:
    task = Task(cell)
    layer = cell.layer(task.parameters, 3)
    expected = task.run(layer)

    def work(_: int) -> None:
        for _ in range(10):
            assert_same_bits(task.run(layer), expected)
            state = layer.zero_state(B)
            for x_t, h_t in zip(task.x, expected["h"], strict=True):
                assert same_bits(layer.step(x_t, state), h_t)

    in_threads(work)


@each_cell
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", ["copy", "packed later", "unpacked"])
def test_update_beside_other_calls(
    cell: Cell, threads: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass there and back has the weights from before or those from after, never some of both."""
    monkeypatch.setattr(f"fastrnn.{cell.name}.is_short", lambda *_: how == "unpacked")
    tasks = [Task(cell), Task(cell)]
    tasks[1].parameters = cell.problem(D, H, B, T, seed=1).parameters
    layer = cell.layer(tasks[0].parameters, threads)
    expected = [tasks[0].run(cell.layer(task.parameters)) for task in tasks]
    seen = [0, 0]
    readers = {2, 3, 4, 5}

    def work(n: int) -> None:
        k = n
        while readers and n not in readers:
            k += 1
            layer.update(tasks[k % 2].parameters, copy=how == "copy" or k % 5 == 0)
        try:
            while n in readers and (k < 20 or (not all(seen) and k < 10_000)):
                k += 1
                got = tasks[0].run(layer)
                which = int(same_bits(got["h"], expected[1]["h"]))
                assert_same_bits(got, expected[which])
                seen[which] += 1
        finally:
            readers.discard(n)

    in_threads(work, 6)
    assert all(seen)


@each_cell
@pytest.mark.parametrize("short", [False, True], ids=["packed", "unpacked"])
@pytest.mark.parametrize("copies", [(True, True), (True, False), (False, True), (False, False)])
def test_backward_has_the_weights_of_its_forward(
    cell: Cell, copies: tuple[bool, bool], short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"fastrnn.{cell.name}.is_short", lambda *_: short)
    task, other = Task(cell), cell.problem(D, H, B, T, seed=1).parameters
    layer = cell.layer(task.parameters)
    expected = task.run(layer)

    def update() -> None:
        for _ in range(3):
            layer.update(other, copy=copies[1])
            layer.forward(task.x)

    layer.update(task.parameters, copy=copies[0])
    assert_same_bits(task.run(layer, update), expected)
    assert not same_bits(task.run(layer)["h"], expected["h"])


@each_cell
@pytest.mark.parametrize("short", [False, True], ids=["packed", "unpacked"])
@pytest.mark.parametrize("copy", [True, False], ids=["copy", "no copy"])
def test_backward_has_the_weights_of_its_forward_after_an_update_that_failed(
    cell: Cell, copy: bool, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"fastrnn.{cell.name}.is_short", lambda *_: short)
    task, other = Task(cell), cell.problem(D, H, B, T, seed=1).parameters
    layer = cell.layer(task.parameters)
    expected = task.run(layer)
    layer.update(task.parameters, copy=copy)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    def update() -> None:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(layer, "_pack", fail)
            layer.update(other)
        assert_same_bits(task.run(layer), expected)
        for _ in range(3):
            layer.update(other)

    assert_same_bits(task.run(layer, update), expected)
    assert_same_bits(task.run(layer), task.run(cell.layer(other)))


def test_an_update_packs_in_place_unless_a_call_reads_there() -> None:
    task = Task(LSTM)
    layer = fastrnn.LSTM(task.parameters)

    def place() -> int:
        return layer._packed.forward.__array_interface__["data"][0]

    first = place()
    for _ in range(3):
        task.run(layer)
        layer.update(task.parameters)
        assert place() == first
    ws = layer.workspace(T, B)
    layer.forward(task.x, None, ws)
    layer.update(task.parameters)
    assert place() != first
    second = place()
    layer.update(task.parameters)
    assert place() == second

    # Weights that wait have their place, too.
    layer.update(task.parameters, copy=False)
    layer.update(task.parameters)
    assert place() == second
    layer.update(task.parameters, copy=False)
    layer.forward(task.x)
    assert place() == second


@each_cell
def test_one_thread_packs_weights_that_wait(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(cell)
    layer = cell.layer(task.parameters)
    expected, pack, packed = task.run(layer), layer._pack, [0]

    def slowly(*arguments: Any) -> None:
        packed[0] += 1
        time.sleep(0.01)
        pack(*arguments)

    monkeypatch.setattr(layer, "_pack", slowly)
    layer.update(task.parameters, copy=False)
    in_threads(lambda _: assert_same_bits(task.run(layer), expected))
    assert packed == [1]


@each_cell
def test_one_workspace_serves_one_thread_at_a_time(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another is refused, or, when both come at the same moment, waits."""
    task = Task(cell)
    layer = cell.layer(task.parameters)
    ws = layer.workspace(T, B)
    expected, _ = layer.forward(task.x)
    inside, most, refused = [0], [0], [0]

    def forward(*arguments: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.0001)
        kernels.forward(*arguments)
        inside[0] -= 1

    kernels = layer._kernels
    monkeypatch.setattr(layer, "_kernels", kernels._replace(forward=forward))

    def work(_: int) -> None:
        for _ in range(20):
            try:
                layer.forward(task.x, None, ws)
            except RuntimeError as error:
                assert "workspace is in use" in str(error)
                refused[0] += 1

    in_threads(work)
    assert most == [1]
    assert refused[0] > 0
    h, _ = layer.forward(task.x, None, ws)
    assert same_bits(h, expected)


@each_cell
def test_without_threads_to_be_had_a_call_runs_in_its_own(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(cell)
    expected = task.run(cell.layer(task.parameters))

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert_same_bits(task.run(cell.layer(task.parameters, 3)), expected)


@each_cell
def test_an_error_before_the_kernel_is_raised_and_does_no_harm(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the threads have been woken."""
    task = Task(cell)
    layer = cell.layer(task.parameters, 3)
    ws = layer.workspace(T, B)
    expected, _ = layer.forward(task.x)
    kernels = layer._kernels

    def fail(*_: Any) -> None:
        raise MemoryError("in one thread")

    for _ in range(5):
        monkeypatch.setattr(layer, "_kernels", kernels._replace(forward=fail))
        with pytest.raises(MemoryError, match="in one thread"):
            layer.forward(task.x, None, ws)
        monkeypatch.setattr(layer, "_kernels", kernels)
        ws.h[...] = np.nan
        assert same_bits(layer.forward(task.x, None, ws)[0], expected)


@each_cell
def test_threads_that_come_late(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken in between any two steps, in the middle of a chunk of them, too."""
    monkeypatch.setattr(fastrnn.threads, "PATIENCE", 0)
    in_chunks(12, monkeypatch.setattr)
    rng = np.random.default_rng(0)
    monkeypatch.setattr(fastrnn.threads, "_move_from", lambda _: time.sleep(rng.uniform(0, 1e-3)))
    admitted: set[int] = set()
    for trial in range(200):
        if trial >= 40 and len(admitted - {0, OVER}) > 2:
            break
        steps, batch = int(rng.choice([2, 3000])), int(rng.choice([1, 4, 9, 20]))
        units, members = int(rng.choice([3, 33, 40])), int(rng.choice([2, 3]))
        problem = cell.problem(D, units, batch, steps, seed=trial)
        x, dh = np.ascontiguousarray(problem.x.T), normal((steps, batch, units))
        results = []
        for count in (1, members):
            layer = cell.layer(problem.parameters, count)
            ws = layer.workspace(steps, batch)
            for array in (*ws.forward, *ws.backward):
                if isinstance(array, np.ndarray):
                    array[...] = np.nan
            h, _ = layer.forward(x, None, ws)
            h = h.copy()
            if layer._threads:
                (helpers,) = layer._threads._idle
                admitted.add(helpers._words[ADMITTED + MEMBER])
                time.sleep(0.002)  # they fall asleep
            results.append(copied({"h": h} | layer.backward(dh, None, ws)))
            if layer._threads:
                admitted.add(helpers._words[ADMITTED + MEMBER])
        assert_same_bits(*results)
    assert len(admitted - {0, OVER}) > 2 or CPUS < 2


@each_cell
def test_a_call_waits_for_no_thread_that_is_busy_elsewhere(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(cell)
    busy = threading.Event()
    monkeypatch.setattr(fastrnn.threads, "PATIENCE", 1000)
    monkeypatch.setattr(fastrnn.threads, "_move_from", lambda _: busy.wait(60))
    layer = cell.layer(task.parameters, 3)
    expected = task.run(layer)
    for _ in range(10):
        assert_same_bits(task.run(layer), expected)
    x = task.x.copy()
    seen = weakref.ref(x)
    layer.forward(x)
    del x
    assert seen() is None
    (helpers,) = layer._threads._idle
    assert helpers._queue.qsize() <= 2
    busy.set()
    assert_same_bits(task.run(layer), expected)


@each_cell
def test_all_threads_compute_in_the_mode_of_the_caller(cell: Cell) -> None:
    """Whether subnormal numbers are zero, say, which another library has set for its thread."""
    set_rounding = ctypes.CDLL(None).fesetround
    task = Task(cell)
    layer, alone = cell.layer(task.parameters, 3), cell.layer(task.parameters)
    nearest = task.run(layer)
    upward = 0x400000 if platform.machine() in ("aarch64", "arm64") else 0x800
    assert set_rounding(upward) == 0
    try:
        results = [copied(task.run(which)) for which in (alone, layer)]
    finally:
        set_rounding(0)
    assert_same_bits(*results)
    assert not same_bits(results[0]["h"], nearest["h"])
    assert_same_bits(task.run(layer), nearest)


@pytest.mark.skipif(sys.platform != "linux", reason="CPUs cannot be chosen here")
@pytest.mark.skipif(fastrnn.threads.cpu_count() < 2, reason="only one CPU")
def test_who_helps_leaves_the_cpu_of_the_leader() -> None:
    where = ctypes.CDLL(None).sched_getcpu
    moved = []

    def helper() -> None:
        allowed = os.sched_getaffinity(0)
        cpu = where()
        fastrnn.threads._move_from(cpu)
        moved.append((cpu, where()))
        assert os.sched_getaffinity(0) == allowed

    in_threads(lambda _: helper(), 4)
    assert len(moved) == 4
    assert any(before != after for before, after in moved)
    allowed = os.sched_getaffinity(0)
    fastrnn.threads._move_from(-1)
    assert os.sched_getaffinity(0) == allowed


@each_cell
def test_a_handler_is_told_that_its_layer_is_being_updated(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(cell)
    layer = cell.layer(task.parameters, 2)
    expected = task.run(layer)

    def pack(*_: object) -> None:
        for call in (lambda: layer.forward(task.x), lambda: layer.update(task.parameters)):
            with pytest.raises(RuntimeError, match=r"^layer is being updated"):
                call()

    with monkeypatch.context() as patch:
        patch.setattr(layer, "_pack", pack)
        layer.update(task.parameters)
    layer.update(task.parameters)
    assert_same_bits(task.run(layer), expected)


@each_cell
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_handler_may_use_a_layer_that_packs_weights_that_waited(
    cell: Cell, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, other = Task(cell), cell.problem(D, H, B, T, seed=1).parameters
    layer = cell.layer(task.parameters)
    expected = [task.run(cell.layer(parameters)) for parameters in (task.parameters, other)]
    pack = layer._pack

    def interrupted(handler: Callable[[], None]) -> Callable[..., None]:
        def pack_around(*arguments: Any) -> None:
            monkeypatch.setattr(layer, "_pack", pack)
            if late:
                pack(*arguments)
            handler()
            if not late:
                pack(*arguments)

        return pack_around

    def run() -> None:
        assert_same_bits(task.run(layer), expected[0])

    for handler, after in (
        (run, 0),
        (lambda: layer.update(other), 1),
        (lambda: layer.update(other, copy=False), 1),
    ):
        layer.update(task.parameters, copy=False)
        monkeypatch.setattr(layer, "_pack", interrupted(handler))
        run()
        assert_same_bits(task.run(layer), expected[after])


def with_signal(entry: int, handler: Callable[[], None], call: Callable[[], Any]) -> bool:
    """Call both, the handler where `call` enters its function number `entry`; whether it has one.

    There Python looks for signals.
    """
    entries = [0]

    def trace(_: Any, event: str, __: Any) -> None:
        if event == "call":
            entries[0] += 1
            if entries[0] == entry:
                sys.settrace(None)
                handler()

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return entries[0] >= entry


@each_cell
@pytest.mark.parametrize("copy", [True, False], ids=["copy", "no copy"])
@pytest.mark.parametrize("waits", [False, True], ids=["packed", "waits"])
def test_signals_in_any_function_of_an_update(cell: Cell, waits: bool, copy: bool) -> None:
    """After an interrupt, a refusal, or a handler's update, one of the updates is in force."""
    old, new, third = (cell.problem(D, H, B, T, seed=seed).parameters for seed in range(3))
    task = Task(cell)
    h = [task.run(cell.layer(parameters))["h"] for parameters in (old, new, third)]

    def interrupt() -> None:
        raise KeyboardInterrupt

    for kind in "interrupt", "use", "update":
        for entry in range(1, 100):
            layer = cell.layer(old)
            layer.update(old, copy=not waits)
            handler = {
                "interrupt": interrupt,
                "use": lambda layer=layer: layer.forward(task.x),
                "update": lambda layer=layer: layer.update(third, copy=copy),
            }[kind]
            came, allowed = True, {0, 1}
            with contextlib.suppress(KeyboardInterrupt, RuntimeError):
                came = with_signal(entry, handler, lambda layer=layer: layer.update(new, copy=copy))
                allowed = {1, 2} if came and kind == "update" else {1}
            found = task.run(layer)["h"]
            assert any(same_bits(found, h[which]) for which in allowed), (kind, entry)
            layer.update(old)
            assert same_bits(task.run(layer)["h"], h[0])
            if not came:
                break
        assert not came


@each_cell
def test_signals_in_any_function_while_weights_that_waited_are_packed(cell: Cell) -> None:
    task, other = Task(cell), cell.problem(D, H, B, T, seed=1).parameters
    h = [task.run(cell.layer(parameters))["h"] for parameters in (task.parameters, other)]

    def interrupt() -> None:
        raise KeyboardInterrupt

    for kind, after in (("interrupt", 0), ("use", 0), ("update", 1), ("no copy", 1)):
        for entry in range(1, 100):
            layer = cell.layer(other)
            layer.update(task.parameters, copy=False)
            handler = {
                "interrupt": interrupt,
                "use": lambda layer=layer: layer.forward(task.x),
                "update": lambda layer=layer: layer.update(other),
                "no copy": lambda layer=layer: layer.update(other, copy=False),
            }[kind]
            came = True
            with contextlib.suppress(KeyboardInterrupt):
                came = with_signal(entry, handler, lambda layer=layer: layer.forward(task.x))
            if not came:
                break
            assert same_bits(layer.forward(task.x)[0], h[after]), (kind, entry)
            assert layer._packed is not None
        assert not came


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals")
def test_interrupts_leave_layers_usable() -> None:
    assert interrupts.run(60, seed=0) >= 60


class Halfway(threading.Thread):
    """A thread that an interrupt has kept from getting further than to know its number."""

    ident = 1


def test_a_thread_that_never_started_does_not_keep_the_others_from_ending() -> None:
    task = Task(LSTM)
    layer = LSTM.layer(task.parameters, 3)
    task.run(layer)
    (helpers,) = layer._threads._idle
    threads = helpers._threads
    threads.insert(0, Halfway())
    helpers.end()
    assert not any(thread.is_alive() for thread in threads[1:])
    assert_same_bits(task.run(layer), task.run(LSTM.layer(task.parameters)))
