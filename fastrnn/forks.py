"""Forks in the middle of other threads' calls.

The child has no other thread, so nothing there ends what those have begun: the fork waits for
some of it, and the child gives up the rest.
"""

import contextlib
import os
import threading
import weakref
from typing import Any

from .kernels._jit import compiler_lock

_adding = threading.RLock()  # held while forking, and while adding to one of these
_awaited: weakref.WeakSet[Any] = weakref.WeakSet()
_given_up: weakref.WeakSet[Any] = weakref.WeakSet()
_held: list[Any] = []  # locks


def await_before_forks(owner: Any) -> None:
    """Let forks wait until ``owner.lock`` is free: half of its work is of no use to the child.

    They wait for Numba's compiler, too.
    """
    with _adding:
        _awaited.add(owner)


def renew_after_forks(owner: Any) -> None:
    """Let ``owner.renew()`` be called in the child."""
    with _adding:
        _given_up.add(owner)


def _before() -> None:
    _adding.acquire()
    # A thread that holds an owner's lock may be compiling: the compiler's comes last.
    for lock in [*(owner.lock for owner in _awaited), compiler_lock]:
        _held.append(lock)  # first, or an interrupt could leave it held
        lock.acquire()


def _after() -> None:
    while _held:
        with contextlib.suppress(RuntimeError):  # "cannot release un-acquired lock"
            _held.pop().release()
    _adding.release()


def _after_in_child() -> None:
    for owner in _given_up:
        owner.renew()
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
