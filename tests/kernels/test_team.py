"""Threads that go through the phases of a call: each does its share, once, in order."""

from __future__ import annotations

import os
import threading
import time
import timeit
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from fastrnn.kernels import team
from fastrnn.threads import Words

Array = NDArray[Any]
MODULUS = 1_000_003


@njit(nogil=True, error_model="numpy")
def work(phases, cells, done, members_of, lag, words, places):
    """Each phase makes a row of `cells` from the one before, so none may begin too early.

    done : how often each cell was written.  members_of : of each phase, by rank.
    lag : turns of an idle loop before a share, by phase and rank.
    """
    width = cells.shape[1]
    rank, phase, members = team.join(words, places)
    while phase <= phases:
        for _ in range(lag[phase, rank]):
            team._pause()
        begin, end = team.share(rank, members, width, 1)
        for j in range(begin, end):
            following = cells[phase - 1, (j + 1) % width]
            cells[phase, j] = (3 * cells[phase - 1, j] + following + 1) % MODULUS
            done[phase, j] += 1
        members_of[phase, rank] = members
        members = team.meet(words, places, rank, members, phase)
        phase += 1
    team.leave(words, places, rank, members)


@njit(error_model="numpy")
def shares(rank, members, rows, columns, whole, weights=team.NEAR + 1):
    return team.shares(rank, members, rows, columns, whole, weights, columns)


class Call:
    """A call of `work` by a team with so many places."""

    phases, width = 60, 13

    def __init__(self, places: int, patience: int = 0, longest: int = 0, seed: int = 0) -> None:
        """The leader looks for others as often as `patience` says."""
        self.places = places
        self.words = Words(team.size(places))
        self.words[team.CALLED] = (places - 1) if patience else 0
        self.words[team.PATIENCE] = patience
        self.cells = np.zeros((self.phases + 1, self.width), np.int64)
        self.done = np.zeros_like(self.cells)
        self.members_of = np.zeros((self.phases + 1, places), np.int64)
        lags = np.random.default_rng(seed).integers(0, longest + 1, self.members_of.shape)
        self.arrays = self.cells, self.done, self.members_of, lags
        self.is_over = False

    def lead(self) -> None:
        work(self.phases, *self.arrays, self.words.address, self.places)
        assert self.words[team.GONE] == self.words[team.ARRIVED]  # nobody is in there any more
        self.is_over = True

    def help_out(self) -> None:
        team.serve(self.words.address, team.LINGER, True)

    def help_in_the_end(self) -> None:
        """Help, however late the leader begins."""
        while not self.is_over:
            self.help_out()

    def check(self) -> Array:
        """Assert that all is right; members of each phase."""
        expected = np.zeros_like(self.cells)
        for phase in range(1, self.phases + 1):
            before = expected[phase - 1]
            expected[phase] = (3 * before + np.roll(before, -1) + 1) % MODULUS
        np.testing.assert_array_equal(self.cells, expected)
        assert not self.done[0].any()
        assert (self.done[1:] == 1).all()
        members = self.members_of[1:, 0]
        taken = np.arange(self.places) < members[:, None]
        np.testing.assert_array_equal(self.members_of[1:], np.where(taken, members[:, None], 0))
        assert (np.diff(members) >= 0).all()
        return members


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    Call(1).lead()


def test_one_thread_needs_no_team() -> None:
    call = Call(1)
    work(call.phases, *call.arrays, team.ALONE, 1)
    assert (call.check() == 1).all()


def test_a_leader_does_all_when_nobody_comes() -> None:
    for places in (1, 2, 5):
        call = Call(places, patience=100)
        call.lead()
        assert (call.check() == 1).all()


@pytest.mark.parametrize("places", [2, 3, 6])
def test_all_from_the_first_phase_on(places: int) -> None:
    for seed in range(20):
        call = Call(places, patience=10**9, longest=300, seed=seed)
        threads = [threading.Thread(target=call.help_in_the_end) for _ in range(places - 1)]
        for thread in threads:
            thread.start()
        call.lead()
        for thread in threads:
            thread.join()
        assert (call.check() == places).all()


@pytest.mark.parametrize("places", [2, 3, 6])
def test_threads_that_come_at_any_time(places: int) -> None:
    rng = np.random.default_rng(places)
    seen = set()
    for seed in range(150):
        call = Call(places, longest=600, seed=seed)
        delays = rng.uniform(0, 8e-4, places - 1).tolist()

        def come(delay: float, call: Call = call) -> None:
            time.sleep(delay)
            call.help_out()

        threads = [threading.Thread(target=come, args=(delay,)) for delay in delays]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 8e-4))
        call.lead()
        for thread in threads:
            thread.join()
        seen |= set(call.check().tolist())
    assert len(seen) > 1


def test_the_same_team_for_one_call_after_another() -> None:
    call = Call(3, patience=10**9)
    for seed in range(50):
        again = Call(3, longest=100, seed=seed)
        again.words = call.words
        again.words[team.CALLED] = 2
        threads = [threading.Thread(target=again.help_in_the_end) for _ in range(2)]
        for thread in threads:
            thread.start()
        again.lead()
        for thread in threads:
            thread.join()
        assert (again.check() == 3).all()


def test_who_comes_when_all_is_done_does_nothing() -> None:
    call = Call(3)
    call.lead()
    before = [array.copy() for array in call.arrays]
    call.help_out()
    call.help_out()
    for array, as_before in zip(call.arrays, before, strict=True):
        np.testing.assert_array_equal(array, as_before)


def test_who_helps_does_not_wait_for_a_leader_that_never_begins() -> None:
    call = Call(2)
    call.help_out()
    assert not call.done.any()
    call.lead()
    assert (call.check() == 1).all()


def test_who_waits_for_a_call_is_awake_and_goes_to_sleep() -> None:
    words = Words(team.size(2))
    seen = threading.Event()

    def wait() -> None:
        while not seen.is_set():
            team.serve(words.address, team.LINGER, True)

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 60
    while not words[team.AWAKE]:
        assert time.monotonic() < deadline
    seen.set()
    thread.join()
    assert words[team.AWAKE] == 0


def test_who_waits_does_so_longer_while_somebody_leads() -> None:
    words = Words(team.size(2))

    def least_time(busy: int) -> float:
        """Seconds of a call, the least of some: a busy machine can stretch any one of them."""
        words[team.BUSY] = busy
        return min(
            timeit.repeat(
                lambda: team.serve(words.address, team.LINGER, True), number=10, repeat=10
            )
        )

    assert least_time(1) > 3 * least_time(0)


@pytest.mark.skipif(not team.KNOWS_CPU, reason="the CPU is not known here")
def test_who_is_on_the_cpu_of_the_leader_says_so() -> None:
    words = Words(team.size(2))
    said = []

    def look() -> None:
        (cpu, *_) = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpu})  # of this thread
        for there in (cpu, cpu + 1):
            words[team.CPU] = there
            words[team.OPEN] = 1 if there == cpu else 0
            said.append(team.serve(words.address, team.LINGER, False))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert said == [True, False]
    assert words[team.AWAKE] == 0


def test_shares_are_all_there_is_once_in_wholes() -> None:
    for members in range(1, 7):
        for whole in (1, 4, 32):
            for length in range(70):
                bounds = [team.share.py_func(r, members, length, whole) for r in range(members)]
                assert [0, *(end for _, end in bounds)] == [*(begin for begin, _ in bounds), length]
                assert all(begin % whole == 0 or begin == length for begin, _ in bounds)


@pytest.mark.parametrize("whole", [4, 16])
def test_a_share_is_rows_or_columns(whole: int) -> None:
    for members in range(1, 6):
        for rows in (0, 1, 3, 4, 9, 64):
            for columns in (0, 1, 5, 16, 17, 100):
                for weights in (0, team.NEAR + 1):
                    times = np.zeros((rows, columns), int)
                    for rank in range(members):
                        b0, b1, j0, j1 = shares(rank, members, rows, columns, whole, weights)
                        times[b0:b1, j0:j1] += 1
                        assert (b0, b1) == (0, rows) or (j0, j1) == (0, columns)
                        assert j0 % whole == 0 or j0 == columns
                    assert (times == 1).all()


def test_few_rows_are_not_split() -> None:
    """A thread would read all weights for each."""
    assert shares(0, 2, 4, 100, 16) == (0, 4, 0, 48)
    assert shares(0, 2, 64, 16, 16) == (0, 32, 0, 16)
    assert shares(1, 2, 1, 4, 16) == (0, 1, 0, 4)
    assert shares(0, 2, 64, 64, 16) == (0, 64, 0, 32)
    assert shares(0, 2, 15, 64, 16, 64) == (0, 15, 0, 32)


def test_rows_are_split_where_weights_are_nearer_than_what_others_write() -> None:
    for exchanged in (64, 256):  # of a row: the next step reads so much
        limit = min(team.NEAR, team.EXCHANGE * 16 * exchanged)
        of_rows = team.shares.py_func(1, 2, 16, 64, 16, limit, exchanged)
        assert of_rows == (8, 16, 0, 64)
        of_columns = team.shares.py_func(1, 2, 16, 64, 16, limit + 1, exchanged)
        assert of_columns == (0, 16, 32, 64)


@njit
def unknown_cpu():
    return team._no_cpu()


def test_the_cpu_or_that_it_is_not_known() -> None:
    assert unknown_cpu() == -1
    assert team.cpu() in (os.sched_getaffinity(0) if team.KNOWS_CPU else {-1})
