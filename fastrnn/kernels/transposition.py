"""Squares of a matrix turned in registers: a row of vectors in, a column of vectors out."""

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from . import emit
from .emit import Vector


def _dealt(builder, vectors, unit):
    """Vectors of every second `unit` lanes of all, again until one vector is left of each."""
    if len(vectors) == 1:
        return vectors
    lanes = range(2 * vectors[0].type.count)
    pairs = list(zip(vectors[0::2], vectors[1::2], strict=True))
    dealt = []
    for parity in (0, 1):
        order = [p for p in lanes if p // unit % 2 == parity]
        halved = [emit.shuffled(builder, *pair, order) for pair in pairs]
        dealt += _dealt(builder, halved, unit // 2)
    return dealt


def _exchanged(builder, vectors):
    """Rows and columns exchanged in each square of as many lanes as vectors (Eklundh, 1972)."""
    lanes = vectors[0].type.count
    distance = 1
    while distance < len(vectors):
        low = [p if p & distance == 0 else lanes + p - distance for p in range(lanes)]
        high = [p + distance if p & distance == 0 else lanes + p for p in range(lanes)]
        exchanged = list(vectors)
        for i in range(len(vectors)):
            if i & distance == 0:
                pair = vectors[i], vectors[i + distance]
                exchanged[i] = emit.shuffled(builder, *pair, low)
                exchanged[i + distance] = emit.shuffled(builder, *pair, high)
        vectors = exchanged
        distance *= 2
    return vectors


def _columns(builder, vector, halves):
    """Half the columns of a square, from that half of each row.

    Squares of 128 bits are put in their places, then turned: a lane is sooner moved inside of
    these than across, and half a vector on its way from memory.
    """
    half = vector.lanes // 2
    square = min(half, 128 // vector.dtype.bitwidth)
    placed = []
    for r in range(square):
        rows = halves[r::square]
        pairs = zip(rows[0::2], rows[1::2], strict=True)
        joined = [emit.shuffled(builder, *pair, range(vector.lanes)) for pair in pairs]
        placed.append(_dealt(builder, joined, half // 2))
    squares = zip(*placed, strict=True)
    return [column for rows in squares for column in _exchanged(builder, list(rows))]


def load_columns(builder, vector, p, row, first, last=None):
    """`_columns` of the square at `p`, from number `first` on, rows `row` elements apart.

    Beyond number `last`, rows stand for nothing.
    """
    half = Vector(vector.dtype, vector.lanes // 2)
    halves = []
    for r in range(vector.lanes):
        r = row.type(r)
        if last is not None:
            r = builder.select(builder.icmp_signed("<", r, last), r, last)
        at = builder.add(builder.mul(row, r), row.type(first))
        halves.append(emit.load(builder, half, emit.offset(builder, p, at)))
    return _columns(builder, vector, halves)


@intrinsic
def transpose_block(typingctx, source, source_row, out, out_row):
    """``out[j][i] = source[i][j]`` for a square of as many rows as a vector has lanes."""
    vector = source.vector

    def codegen(context, builder, sig, args):
        source, source_row, out, out_row = args
        columns = []
        for first in (0, vector.lanes // 2):
            columns += load_columns(builder, vector, source, source_row, first)
        for r, column in enumerate(columns):
            place = emit.offset(builder, out, builder.mul(out_row, out_row.type(r)))
            emit.store_whole(builder, sig.args[2], place, column)
        return context.get_dummy_value()

    return types.void(source, types.intp, out, types.intp), codegen


@intrinsic
def transpose_part(typingctx, source, source_row, rows, columns, out, out_row, stored):
    """`transpose_block` of `rows` by `columns`, `stored` lanes of each column, zeros after rows."""
    vector = source.vector

    def codegen(context, builder, sig, args):
        source, source_row, rows, columns, out, out_row, stored = args
        none = ir.Constant(rows.type, 0)

        def row(pointer, stride, r):
            return emit.offset(builder, pointer, builder.mul(stride, ir.Constant(stride.type, r)))

        def only_below(limit, r, value):
            below = builder.icmp_signed("<", ir.Constant(limit.type, r), limit)
            return builder.select(below, value, none)

        # A masked access is slow where it could not be made at all: rows that are not there
        # stand at the first one's address.
        loaded = []
        for r in range(vector.lanes):
            at = row(source, only_below(rows, r, source_row), r)
            lanes = emit.below(builder, vector, only_below(rows, r, columns))
            loaded.append(emit.load_part(builder, vector, at, lanes))
        turned = []
        for first in (0, vector.lanes // 2):
            half = range(first, first + vector.lanes // 2)
            halves = [emit.shuffled(builder, value, value, half) for value in loaded]
            turned += _columns(builder, vector, halves)
        for r, column in enumerate(turned):
            at = row(out, only_below(columns, r, out_row), r)
            lanes = emit.below(builder, vector, only_below(columns, r, stored))
            emit.store_part(builder, vector, at, column, lanes)
        return context.get_dummy_value()

    sig = types.void(source, types.intp, types.intp, types.intp, out, types.intp, types.intp)
    return sig, codegen
