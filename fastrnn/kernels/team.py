"""Threads that go through the phases of one call together.

One of them leads: the thread that was called.  Others come when they come, are taken in where
the next phase begins, and then do a share of each.  What a phase writes, the next may read.
A thread waits without end only for those that are at work in the kernel, so one that never
comes, or comes when all is done, does no harm.

A team is a row of int64 words in memory, each in a place of its own (`WORD` apart):

    PLACES           for how many there are places, the leader's included
    PATIENCE         how often the leader looks for others before the first phase
    BELL             where a word lies that the leader adds one to when it begins, or 0
    MODE             how the leader rounds and treats subnormal numbers
    BEGUN            whether it has begun
    ARRIVED          how many have come to help
    PLAN, PLAN + 1   of even and of odd phases: the phase and its members

and for each member, `MEMBER` words from one rank to the next:

    ADMITTED         the phase in which a helper begins; `OVER` for none
    DONE             the last phase that a helper has done
    CPU              where the member was when it last came or went on to the next phase

Phases count from 1.
"""

import os
import sys

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from ._jit import inline, kernel, part
from .simd import ARM, call_intrinsic

ALONE = 0  # no team in this call
NEVER = None  # no team in any call of a kernel, which is compiled without
WORD = 16  # int64 from a word to the next: no cache line, nor pair of lines, has two of them
PLACES, PATIENCE, BELL, MODE, BEGUN, ARRIVED, PLAN = range(7)
ADMITTED, DONE, CPU = range(8, 11)
MEMBER = 3
FEW_ROWS = 4  # rows that take as long as fewer: the weights have to come
MEMBERS_BITS = 16  # of a plan, below the phase
OVER = 1 << 40  # a phase that no call comes to
LOOKS = 20_000  # at a leader that has not begun: some half a millisecond
LINGER = 5_000  # looks at a bell
FOREVER = 1 << 62  # looks at a thread that is in the kernel
RELAXED = 500  # looks, between which a waiting thread lets others run
ANYONE = -1  # who is waited for, wherever that runs
CAN_YIELD = hasattr(os, "sched_yield")
KNOWS_CPU = sys.platform == "linux"


def size(places: int) -> int:
    """Numbers that make a team with so many places."""
    return WORD * (ADMITTED + MEMBER * places)


# --- memory that threads share ------------------------------------------------------


def _word(builder, team, index):
    at = builder.mul(index, index.type(8 * WORD))
    return builder.inttoptr(builder.add(team, at), index.type.as_pointer())


@intrinsic
def _read(typingctx, team, index):
    """A word, and after it all that was written before it."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(_word(builder, *args), "acquire", 8)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def _write(typingctx, team, index, value):
    """Write a word after all that was written so far."""

    def codegen(context, builder, sig, args):
        team, index, value = args
        builder.store_atomic(value, _word(builder, team, index), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def _count(typingctx, team, index):
    """Add one to a word; what it was."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", _word(builder, *args), args[1].type(1), "acq_rel")

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Let the other thread of this core go first, and the line that is looked at come."""

    def codegen(context, builder, sig, args):
        if ARM:
            call_intrinsic(builder, "llvm.aarch64.isb", ir.VoidType(), [ir.IntType(32)(15)])
        else:
            call_intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _mode(typingctx):
    """The control register of this thread's floating-point arithmetic."""

    def codegen(context, builder, sig, args):
        if ARM:
            return call_intrinsic(builder, "llvm.aarch64.get.fpcr", ir.IntType(64), [])
        slot = cgutils.alloca_once(builder, ir.IntType(32))
        call_intrinsic(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [_bytes(builder, slot)])
        return builder.zext(builder.load(slot), ir.IntType(64))

    return types.intp(), codegen


@intrinsic
def _set_mode(typingctx, mode):
    """Give this thread's floating-point arithmetic what `_mode` was in another."""

    def codegen(context, builder, sig, args):
        if ARM:
            call_intrinsic(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), args)
        else:
            slot = cgutils.alloca_once_value(builder, builder.trunc(args[0], ir.IntType(32)))
            call_intrinsic(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [_bytes(builder, slot)])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


def _bytes(builder, slot):
    return builder.bitcast(slot, ir.IntType(8).as_pointer())


_yield = types.ExternalFunction("sched_yield", types.int32()) if CAN_YIELD else _pause


@part
def _no_cpu():
    return -1


_cpu = types.ExternalFunction("sched_getcpu", types.int32()) if KNOWS_CPU else _no_cpu


@kernel
def cpu():
    """The CPU that this thread is on, or -1 where the system does not tell."""
    return _cpu()


@part
def _await(team, word, least, looks, other):
    """Whether the word, which `other` writes, is at least so much within so many looks.

    It yields only to a thread that was on this CPU: where anything else wants to run, the rest of
    its time is lost.
    """
    for look in range(1, looks + 1):
        if _read(team, word) >= least:
            return True
        if look % RELAXED == 0 and (other == ANYONE or _read(team, CPU + MEMBER * other) == _cpu()):
            _yield()
        else:
            _pause()
    return False


@kernel
def begun(team):
    """Whether the leader has begun, now or soon."""
    return _await(team, BEGUN, 1, LOOKS, ANYONE)


@kernel
def linger(bell, heard):
    """Wait for a bell to be rung once more than `heard`, but not for long."""
    _await(bell, 0, heard + 1, LINGER, ANYONE)


# --- phases -------------------------------------------------------------------------


@part
def _members(team, phase):
    return _read(team, PLAN + phase % 2) % (1 << MEMBERS_BITS)


@part
def _plan(team, phase, members):
    """Take in who has come, when the `members` of the phase before have done theirs."""
    _write(team, CPU, _cpu())
    now = 1 + _read(team, ARRIVED)
    _write(team, PLAN + phase % 2, (phase << MEMBERS_BITS) + now)
    for other in range(1, members):
        _await(team, DONE + MEMBER * other, phase - 1, FOREVER, other)
    for other in range(members, now):
        _write(team, ADMITTED + MEMBER * other, phase)
    return now


@part
def join(team, leads):
    """Rank of this thread, the phase in which it begins, and how many there are in it.

    A thread that does not lead comes when the leader has `begun`.
    """
    if team is NEVER or team == ALONE:
        return 0, 1, 1
    if leads:
        _write(team, MODE, _mode())
        _write(team, BEGUN, 1)
        if _read(team, BELL) != 0:
            _count(_read(team, BELL), 0)
        _await(team, ARRIVED, _read(team, PLACES) - 1, _read(team, PATIENCE), ANYONE)
        return 0, 1, _plan(team, 1, 1)
    _set_mode(_read(team, MODE))
    rank = 1 + _count(team, ARRIVED)
    _write(team, CPU + MEMBER * rank, _cpu())
    _await(team, ADMITTED + MEMBER * rank, 1, FOREVER, 0)
    phase = _read(team, ADMITTED + MEMBER * rank)
    if phase == OVER:
        return rank, phase, 1
    return rank, phase, _members(team, phase)


@part
def _meet(team, rank, members, phase):
    coming = phase + 1
    if rank == 0:
        return _plan(team, coming, members)
    _write(team, CPU + MEMBER * rank, _cpu())
    _write(team, DONE + MEMBER * rank, phase)
    _await(team, PLAN + coming % 2, coming << MEMBERS_BITS, FOREVER, 0)
    for other in range(1, members):
        _await(team, DONE + MEMBER * other, phase, FOREVER, other)
    return _members(team, coming)


@inline
def meet(team, rank, members, phase):
    """The members of the next phase, when all have done their shares of this one."""
    if team is NEVER or team == ALONE:
        return members
    return _meet(team, rank, members, phase)


@part
def _dismiss(team, members):
    for other in range(members, _read(team, PLACES)):
        _write(team, ADMITTED + MEMBER * other, OVER)


@inline
def leave(team, rank, members):
    """There are no more phases; `members` as of the last `meet`."""
    if team is NEVER or team == ALONE:
        return
    if rank == 0:
        _dismiss(team, members)


@inline
def share(rank, members, length, whole):
    """Begin and end of a thread's share of a length that is split between wholes only."""
    wholes = (length + whole - 1) // whole
    return (
        min(length, wholes * rank // members * whole),
        min(length, wholes * (rank + 1) // members * whole),
    )


@inline
def shares(rank, members, rows, columns, whole):
    """Rows and columns of a thread's share, from `b0` to `b1` and from `j0` to `j1`.

    Columns are split where there are wholes for that and it is as even: then each thread reads
    only its own weights.
    """
    if members == 1:
        return 0, rows, 0, columns
    widest = (columns + members * whole - 1) // (members * whole) * whole
    tallest = max(FEW_ROWS, (rows + members - 1) // members)
    if widest < columns and widest * rows <= tallest * columns:
        j0, j1 = share(rank, members, columns, whole)
        return 0, rows, j0, j1
    b0, b1 = share(rank, members, rows, 1)
    return b0, b1, 0, columns
