"""Threads that go through the phases of one call together.

One of them leads: the thread that was called.  Others come when they come, are taken in where
the next phase begins, and then do a share of each.  What a phase writes, the next may read.
A thread waits without end only for those that are at work in the kernel, so one that never
comes, or comes when all is done, does no harm.

Who helps runs the function that leads, with the same arguments but for `places`, without
Python: the leader writes down where both are.  It returns when no helper is in there any more.

A team is a row of int64 words in memory, each in a place of its own (`WORD` apart):

    BUSY             whether somebody leads
    CALLED           how many have been woken for the next call
    PATIENCE         how often the leader looks for them before the first phase
    AWAKE            how many threads look for a call
    OPEN             how many more may come to help
    FUNCTION         where the function is that helps with the call,
    ARGUMENTS        and what it takes
    MODE             how the leader rounds and treats subnormal numbers
    ARRIVED          how many have come to help
    GONE             how many of them have gone again
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

from ._jit import inline, kernel, leaf, part
from .cpu import ARM
from .emit import call_intrinsic

ALONE = 0  # no team in this call
NEVER = None  # no team in any call of a kernel, which is compiled without
WORD = 16  # int64 from a word to the next: no cache line, nor pair of lines, has two of them
BUSY, CALLED, PATIENCE, AWAKE, OPEN, FUNCTION, ARGUMENTS, MODE, ARRIVED, GONE, PLAN = range(11)
ADMITTED, DONE, CPU = range(12, 15)
MEMBER = 3
FEW_ROWS = 4  # up to so many rows take the same time, that of reading the weights
MANY_ROWS = 8  # so many hide that time where the weights are near:
NEAR = 1 << 16  # elements of weights that stay in each CPU's caches
EXCHANGE = 12  # elements read from there in the time of one that another CPU has just written
MEMBERS_BITS = 16  # of a plan, below the phase
OVER = 1 << 40  # a phase that no call comes to
LINGER = 5_000  # looks for a call, some tenth of a millisecond: to be woken takes as long
BRIEFLY = 100  # looks for threads that are awake: some microseconds
FOREVER = 1 << 62  # looks at a thread that is in the kernel
RELAXED = 500  # looks, between which a waiting thread lets others run
ANYONE = -1  # a thread that is waited for, whichever it is
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


def _atomic(operation):
    """A function that changes a word and returns what it was."""

    @intrinsic
    def change(typingctx, team, index, value):
        def codegen(context, builder, sig, args):
            team, index, value = args
            return builder.atomic_rmw(operation, _word(builder, team, index), value, "acq_rel")

        return types.intp(types.intp, types.intp, types.intp), codegen

    return change


_add = _atomic("add")
_replace = _atomic("xchg")


@intrinsic
def _replace_if(typingctx, team, index, was, value):
    """Write a word if it is what it `was`; whether that is so."""

    def codegen(context, builder, sig, args):
        team, index, was, value = args
        at = _word(builder, team, index)
        return builder.extract_value(builder.cmpxchg(at, was, value, "acq_rel", "acquire"), 1)

    return types.boolean(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def _this_call(typingctx):
    """Addresses of a function that helps with this call, and of its arguments.

    It runs the function that this stands in, whose last argument is `places`, with none.
    """

    def codegen(context, builder, sig, args):
        function, word = builder.function, ir.IntType(64)
        returned, given = function.args[:2], function.args[2:]
        kind = ir.LiteralStructType([argument.type for argument in given])
        arguments = cgutils.alloca_once(builder, kind)
        for place, argument in enumerate(given):
            builder.store(argument, cgutils.gep_inbounds(builder, arguments, 0, place))

        name = f"{function.name}.help"
        helper = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word]), name)
        helper.linkage = "internal"
        inside = ir.IRBuilder(helper.append_basic_block())
        taken = inside.load(inside.inttoptr(helper.args[0], kind.as_pointer()))
        passed = [inside.extract_value(taken, place) for place in range(len(given))]
        passed[-1] = passed[-1].type(0)
        own = [inside.alloca(pointer.type.pointee) for pointer in returned]
        inside.call(function, own + passed, attrs=("noinline",))
        inside.ret_void()

        found = [builder.ptrtoint(helper, word), builder.ptrtoint(arguments, word)]
        return context.make_tuple(builder, sig.return_type, found)

    return types.UniTuple(types.intp, 2)(), codegen


@intrinsic
def _run(typingctx, function, arguments):
    """Call a function that `_this_call` has found."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


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
    """Wait until the word, which `other` writes, is at least so much, but for so many looks.

    Where it is known who, it yields only if that was on this CPU: to anything else that wants to
    run, the rest of its time would be lost.
    """
    for look in range(1, looks + 1):
        if _read(team, word) >= least:
            return
        if look % RELAXED == 0 and (other == ANYONE or _read(team, CPU + MEMBER * other) == _cpu()):
            _yield()
        else:
            _pause()


@kernel
def serve(team, looks, anywhere):
    """Help with calls, until none has come within so many looks.

    anywhere : help on the CPU of the leader, too.
    Returns True if it left because a call is led there.
    """
    _add(team, AWAKE, 1)
    look, left, beside = 0, looks, False
    while left > 0 and not beside:
        look += 1
        free = _read(team, OPEN)
        if free > 0:
            beside = KNOWS_CPU and not anywhere and _read(team, CPU) == _cpu()
            if not beside and _replace_if(team, OPEN, free, free - 1):
                _run(_read(team, FUNCTION), _read(team, ARGUMENTS))
                _add(team, GONE, 1)
                left = looks
            continue
        # While there is a call that needs no more help, the next one may be near.
        if _read(team, BUSY) == 0 or look % 8 == 0:
            left -= 1
        if look % RELAXED == 0:
            _yield()
        else:
            _pause()
    _add(team, AWAKE, -1)
    return beside


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
def _open(team, places, function, arguments):
    """Let others come to a call for which there are so many places; returns how many begin it."""
    before = _read(team, ARRIVED)  # one that did not come then may be kept from it by other work
    _write(team, BUSY, 1)
    for word in (ARRIVED, GONE, PLAN, PLAN + 1):
        _write(team, word, 0)
    for other in range(1, places):
        _write(team, ADMITTED + MEMBER * other, 0)
        _write(team, DONE + MEMBER * other, 0)
    _write(team, MODE, _mode())
    _write(team, FUNCTION, function)
    _write(team, ARGUMENTS, arguments)
    _write(team, CPU, _cpu())
    _write(team, OPEN, places - 1)
    called = min(places - 1, _replace(team, CALLED, 0))
    if called > 0:
        _await(team, ARRIVED, called, _read(team, PATIENCE), ANYONE)
    else:
        _await(team, ARRIVED, min(places - 1, before, _read(team, AWAKE)), BRIEFLY, ANYONE)
    return _plan(team, 1, 1)


@part
def _come(team):
    """Rank of a thread that comes to help, the phase in which it begins, and its members."""
    _set_mode(_read(team, MODE))
    rank = 1 + _add(team, ARRIVED, 1)
    _write(team, CPU + MEMBER * rank, _cpu())
    _await(team, ADMITTED + MEMBER * rank, 1, FOREVER, 0)
    phase = _read(team, ADMITTED + MEMBER * rank)
    if phase == OVER:
        return rank, phase, 1
    return rank, phase, _members(team, phase)


@inline
def join(team, places):
    """Rank of this thread, the phase in which it begins, and that phase's members.

    Inline, since a helper runs the function that `_this_call` stands in.

    places : for how many there are places, the leader's included; 1 without a team, 0 for a
        helper.
    """
    if team is NEVER or places == 1:
        return 0, 1, 1
    if places == 0:
        return _come(team)
    function, arguments = _this_call()
    return 0, 1, _open(team, places, function, arguments)


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
def meet(team, places, rank, members, phase):
    """The members of the next phase, when all have done their shares of this one."""
    if team is NEVER or places == 1:
        return members
    return _meet(team, rank, members, phase)


@part
def _close(team, members, places):
    came = places - 1 - _replace(team, OPEN, 0)
    for other in range(members, places):
        _write(team, ADMITTED + MEMBER * other, OVER)
    _await(team, GONE, came, FOREVER, ANYONE)
    _write(team, BUSY, 0)


@leaf
def leave(team, places, rank, members):
    """There are no more phases; `members` as of the last `meet`."""
    if team is NEVER or places == 1:
        return
    if rank == 0:
        _close(team, members, places)


@inline
def share(rank, members, length, whole):
    """Begin and end of a thread's share of a length that is split between wholes only."""
    if members == 1:
        return 0, length
    wholes = (length + whole - 1) // whole
    return (
        min(length, wholes * rank // members * whole),
        min(length, wholes * (rank + 1) // members * whole),
    )


@leaf
def shares(rank, members, rows, columns, whole, weights, exchanged):
    """Rows and columns of a thread's share, from `b0` to `b1` and from `j0` to `j1`.

    Columns are split where there are wholes for that and it is as even: then each thread reads
    only its own weights.  But rows are where it takes longer to read of the others' columns what
    the next step needs.

    weights : of all columns.  exchanged : elements of a row, a part of them each thread's.
    """
    if members == 1:
        return 0, rows, 0, columns
    widest = (columns + members * whole - 1) // (members * whole) * whole
    tallest = max(FEW_ROWS, (rows + members - 1) // members)
    by_rows = rows >= members * MANY_ROWS and weights <= min(NEAR, EXCHANGE * rows * exchanged)
    if not by_rows and widest < columns and widest * rows <= tallest * columns:
        j0, j1 = share(rank, members, columns, whole)
        return 0, rows, j0, j1
    b0, b1 = share(rank, members, rows, 1)
    return b0, b1, 0, columns
