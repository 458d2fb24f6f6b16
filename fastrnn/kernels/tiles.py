"""Register tiles: the accumulators of a small matrix product, in Numba.

A `Tile` is ``rows x width`` vectors that stay in registers.  A `tile_product` is a loop of one
step, `rank1`: ``tile[r][v] += x[r] * w[v]``, a fused multiply-add per vector.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from . import emit
from .cpu import WIDTH
from .emit import Tile, Vector
from .transposition import load_columns

HALVED = 0  # the width of a tile of one half vector
BUSY_ROWS = 4  # of a tile that waits for nothing but its sums


@intrinsic(prefer_literal=True)
def tile_zero(typingctx, p, width, rows):
    """A tile of zeros with the type of `p`; `width` and `rows` are constants."""
    tile = Tile(p.vector, width.literal_value, rows.literal_value)

    def codegen(context, builder, sig, args):
        return _zeros(tile)

    return tile(p, width, rows), codegen


@intrinsic
def tile_columns(typingctx, tile):
    """Elements across a tile; known when compiling."""
    columns = tile.width * tile.vector.lanes

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, columns)

    return types.intp(tile), codegen


def _zeros(tile):
    return ir.Constant(emit.registers_ir(tile), None)


def _load_weights(builder, tile, w, panel, lanes=None):
    """A row of weights for a tile; if that is wider than `WIDTH`, from panels so far apart.

    lanes : for each vector those that there are, if not all.
    """
    weights = []
    for v in range(tile.width):
        begin = builder.mul(panel, panel.type(v // WIDTH))
        offset = builder.add(begin, panel.type(v % WIDTH * tile.vector.lanes))
        place = emit.offset(builder, w, offset)
        if lanes is None:
            weights.append(emit.load(builder, tile.vector, place))
        else:
            weights.append(emit.load_part(builder, tile.vector, place, lanes[v]))
    return weights


def _add_rank1(builder, tile, registers, weights, x, x_row):
    for r in range(tile.rows):
        element = emit.offset(builder, x, builder.mul(x_row, ir.Constant(x_row.type, r)))
        x_r = emit.splat(builder, tile.vector, builder.load(element))
        for v, w_v in enumerate(weights):
            at = r * tile.width + v
            total = emit.fma(builder, tile.vector, x_r, w_v, builder.extract_value(registers, at))
            registers = builder.insert_value(registers, total, at)
    return registers


@intrinsic
def rank1(typingctx, tile, w, x, x_row):
    """``tile[r][v] + x[r] * w[v]`` for a tile within a panel.

    `w` is a row of vectors, ``x[r]`` at ``x + r * x_row``.
    """

    def codegen(context, builder, sig, args):
        registers, w, x, x_row = args
        weights = _load_weights(builder, tile, w, x_row.type(0))
        return _add_rank1(builder, tile, registers, weights, x, x_row)

    return tile(tile, w, x, types.intp), codegen


def _say_nothing(builder, attributes=()):
    """An empty statement, which LLVM moves no load across."""
    nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
    builder.call(nothing, [], attrs=attributes)


def _keep_rolled(builder):
    """Keep the loop around this as it is: many loads, each in a stride of its own, prefetch badly.

    LLVM may not copy the statement to where it does not know whether it would be run.
    """
    _say_nothing(builder, ("convergent",))


def _tile_places(builder, tile, p, row):
    """Each register's vector and number, and its address in rows so far apart."""
    for r in range(tile.rows):
        begin = emit.offset(builder, p, builder.mul(row, ir.Constant(row.type, r)))
        for v in range(tile.width):
            place = emit.offset(builder, begin, ir.Constant(row.type, v * tile.vector.lanes))
            yield v, r * tile.width + v, place


def _tile_lanes(builder, tile, columns):
    """For each vector of a row the lanes that there are, as of `emit.below`."""
    vector = tile.vector
    return [emit.below(builder, vector, columns, v * vector.lanes) for v in range(tile.width)]


def _load_tile(builder, tile, p, row, columns):
    registers = _zeros(tile)
    lanes = _tile_lanes(builder, tile, columns)
    for v, at, place in _tile_places(builder, tile, p, row):
        value = emit.load_part(builder, tile.vector, place, lanes[v])
        registers = builder.insert_value(registers, value, at)
    return registers


def _store_tile(builder, tile, registers, p, row, columns):
    lanes = _tile_lanes(builder, tile, columns)
    for v, at, place in _tile_places(builder, tile, p, row):
        value = builder.extract_value(registers, at)
        emit.store_part(builder, tile.vector, place, value, lanes[v])


@intrinsic
def tile_load(typingctx, tile, p, row, columns):
    """The tile at `p`, rows `row` elements apart: of each at most the first `columns`."""

    def codegen(context, builder, sig, args):
        return _load_tile(builder, tile, *args[1:])

    return tile(tile, p, types.intp, types.intp), codegen


@intrinsic
def tile_store(typingctx, tile, p, row, columns):
    """Write the tile at `p`, laid out as for `tile_load`."""

    def codegen(context, builder, sig, args):
        _store_tile(builder, tile, *args)
        return context.get_dummy_value()

    return types.void(tile, p, types.intp, types.intp), codegen


def tile_product(*shapes, whole=True):
    """An intrinsic: a product by tiles of these shapes, vectors across (or `HALVED`) and rows.

    It is a loop of `rank1` between `tile_load` and `tile_store`, in LLVM's terms: for so many tiles
    Numba would take longer to compile it than all else.

    whole : whether weights, like those of a panel, fill all vectors.
    """

    def codegen(context, builder, sig, args):
        out, later = sig.args[2], sig.args[-2]
        chosen = builder.add(builder.shl(args[0], args[0].type(8)), args[1])
        end, other = (builder.append_basic_block(name) for name in ("end", "other"))
        choice = builder.switch(chosen, other)
        for width, rows in shapes:
            block = builder.append_basic_block("tile")
            choice.add_case(chosen.type((width << 8) + rows), block)
            with builder.goto_block(block):
                tile = _tile(out.vector, width, rows)
                asks = not isinstance(later, types.Omitted) and rows >= BUSY_ROWS
                _multiply_tile(builder, tile, whole, asks, *args[2:])
                builder.branch(end)
        with builder.goto_block(other):
            emit.call_intrinsic(builder, "llvm.trap", ir.VoidType(), [])
            builder.unreachable()
        builder.position_at_end(end)
        return context.get_dummy_value()

    @intrinsic
    def multiply_tile(
        typingctx, width, rows, out, out_row, start, start_row, kept, columns, x, x_row,
        w, w_row, depth, later=None, step=None,
    ):  # fmt: skip
        """``out = start + x @ w`` for a tile of `width` and `rows`, which is one of the shapes.

        Unless `kept`, `start` stands for zeros and is not read; of each row at most `columns` are
        read and written.  Rows of weights lie `w_row` apart; beyond `WIDTH` vectors they are those
        of the next panel, which begins after all rows of this one.

        later, step : `depth` lines, from `later` on and `step` elements apart, that will be read
            later: asked for by a tile that has sums enough to wait for nothing else.
        """
        n = types.intp
        ahead = (later, n) if later is not None else (types.Omitted(None),) * 2
        sig = types.void(n, n, out, n, start, n, types.boolean, n, x, n, w, n, n, *ahead)
        return sig, codegen

    return multiply_tile


def _tile(vector, width, rows):
    if width == HALVED:
        return Tile(Vector(vector.dtype, vector.lanes // 2), 1, rows)
    return Tile(vector, width, rows)


def _multiply_tile(
    builder, tile, whole, asks,
    out, out_row, start, start_row, kept, columns, x, x_row, w, w_row, depth, later, step,
):  # fmt: skip
    """Emit the product of one tile, as `multiply_tile` describes it."""
    total = cgutils.alloca_once_value(builder, _zeros(tile))
    with builder.if_then(kept):
        builder.store(_load_tile(builder, tile, start, start_row, columns), total)
    lanes = None if whole else _tile_lanes(builder, tile, columns)
    panels_apart = builder.mul(depth, w_row)
    with cgutils.for_range(builder, depth) as loop:
        if whole and tile.rows == 1:
            _keep_rolled(builder)
        w_k = emit.offset(builder, w, builder.mul(loop.index, w_row))
        x_k = emit.offset(builder, x, loop.index)
        weights = _load_weights(builder, tile, w_k, panels_apart, lanes)
        before = builder.load(total)
        builder.store(_add_rank1(builder, tile, before, weights, x_k, x_row), total)
        if asks:
            emit.prefetch(builder, emit.offset(builder, later, builder.mul(loop.index, step)))
    _store_tile(builder, tile, builder.load(total), out, out_row, columns)


@intrinsic
def rank_block(typingctx, tile, w, w_row, x, x_row, columns, skipped):
    """`rank1` for as many ``k`` as a vector has lanes, by unpacked weights ``w[column][k]``.

    The tile is one vector wide; the rows of `w` are turned into columns in registers.  Beyond
    `columns` there is nothing in `w`, and of the tile nothing of use; the first `skipped` ``k``
    add nothing.
    """
    vector = tile.vector

    def codegen(context, builder, sig, args):
        registers, w, w_row, x, x_row, columns, skipped = args
        last = builder.sub(columns, columns.type(1))
        _say_nothing(builder)  # two blocks at once would not fit into the registers
        for first in (0, vector.lanes // 2):
            turned = load_columns(builder, vector, w, w_row, first, last)
            for k, weights in enumerate(turned, first):
                is_skipped = builder.icmp_signed("<", skipped.type(k), skipped)
                for r in range(tile.rows):
                    at = builder.add(builder.mul(x_row, x_row.type(r)), x_row.type(k))
                    x_r = emit.splat(builder, vector, builder.load(emit.offset(builder, x, at)))
                    before = builder.extract_value(registers, r)
                    total = emit.fma(builder, vector, x_r, weights, before)
                    total = builder.select(is_skipped, before, total)
                    registers = builder.insert_value(registers, total, r)
        return registers

    sig = tile(tile, w, types.intp, x, types.intp, types.intp, types.intp)
    return sig, codegen
