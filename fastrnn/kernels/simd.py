"""Pointers, vectors and register tiles for Numba: the machine, as three types.

A `Pointer` walks over array memory in elements: ``p + n``.  It holds no reference
and checks no bound, and knows the vectors that are read through it: the CPU's widest,
half of them (`narrow`), or two at once (`widen`); and whether what is written through it
passes the caches by (`streamed`).

A `Vector` is a SIMD register of floats, or two, with ``+ - * /``, `fma` and the few bit
operations that activations need.  A Python number beside a vector takes the
vector's own type.

A `Tile` is ``rows x width`` vectors that stay in registers: the accumulators of a
small matrix product.  A `tile_product` is a loop of one step, `rank1`: ``tile[r][v] +=
x[r] * w[v]``, a fused multiply-add per vector.

`VECTOR_BITS`, `WIDTH` and `ROWS` say what fits this CPU.
"""

import operator

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.datamodel import models
from numba.core.extending import intrinsic, lower_builtin, register_model
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

# --- this CPU -----------------------------------------------------------------------


def cpu_features() -> frozenset[str]:
    """The features Numba compiles for: the host's, or those of NUMBA_CPU_FEATURES."""
    if config.CPU_FEATURES is not None:
        flags = config.CPU_FEATURES.split(",")
    else:
        flags = llvm.get_host_cpu_features().flatten().split(",")
    return frozenset(flag[1:] for flag in flags if flag.startswith("+"))


def tile_shape(features: frozenset[str], arm: bool) -> tuple[int, int, int]:
    """Bits in a vector, vectors across a tile, rows of a full tile.

    The accumulators, one row of weights and a broadcast share 32 registers
    (AVX-512, 64-bit ARM) or 16 (all else).
    """
    if arm:
        return 128, 4, 6
    if "avx512f" in features:
        return (256 if "prefer-256-bit" in features else 512), 4, 6
    if "avx" in features:
        return 256, 2, 6
    return 128, 2, 4


ARM = llvm.get_process_triple().startswith(("aarch64", "arm64"))
FEATURES = cpu_features()
HAS_FMA = ARM or "fma" in FEATURES or "avx512f" in FEATURES
HAS_MASKS = "avx512f" in FEATURES
VECTOR_BITS, WIDTH, ROWS = tile_shape(FEATURES, ARM)
LINE_BITS = 512  # of a cache line
# A vector is a cache line: memory takes it without reading it first.
LINES = VECTOR_BITS == LINE_BITS

# --- types --------------------------------------------------------------------------


class Vector(types.Type):
    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Vector({dtype} x {lanes})")


class Pointer(types.Type):
    def __init__(self, vector, streams=False):
        self.vector = vector
        self.dtype = vector.dtype
        self.streams = streams
        super().__init__(f"{'Streamed' if streams else ''}Pointer({vector})")


class Tile(types.Type):
    def __init__(self, vector, width, rows):
        self.vector = vector
        self.width = width
        self.rows = rows
        super().__init__(f"Tile({vector}, {width}, {rows})")


def _scalar_ir(dtype):
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def _vector_ir(vector):
    return ir.VectorType(_scalar_ir(vector.dtype), vector.lanes)


def _integer_ir(vector):
    return ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.lanes)


def _registers_ir(tile):
    return ir.ArrayType(_vector_ir(tile.vector), tile.rows * tile.width)


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _scalar_ir(fe_type.dtype).as_pointer())


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _vector_ir(fe_type))


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _registers_ir(fe_type))


# --- emitting LLVM ------------------------------------------------------------------


def call_intrinsic(builder, name, result, args):
    """Call an LLVM intrinsic by its mangled name."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in args]), name
    )
    return builder.call(function, args)


def _suffix(vector):
    return f"v{vector.lanes}f{vector.dtype.bitwidth}"


def _shuffled(builder, a, b, order):
    """Lanes of `a` and, numbered on from these, of `b`."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(a, b, order)


def _splat(builder, vector, scalar):
    empty = ir.Constant(_vector_ir(vector), ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffled(builder, first, empty, [0] * vector.lanes)


def _constant(vector, value):
    return ir.Constant(_vector_ir(vector), [value] * vector.lanes)


def _integer_constant(vector, value):
    return ir.Constant(_integer_ir(vector), [value] * vector.lanes)


def _fma(builder, vector, a, b, c):
    if HAS_FMA:
        return call_intrinsic(builder, f"llvm.fma.{_suffix(vector)}", a.type, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def _offset(builder, pointer, elements):
    return builder.gep(pointer, [elements])


def _load(builder, vector, pointer):
    where = builder.bitcast(pointer, _vector_ir(vector).as_pointer())
    return builder.load(where, align=vector.dtype.bitwidth // 8)


def _store(builder, vector, pointer, value):
    where = builder.bitcast(pointer, _vector_ir(vector).as_pointer())
    builder.store(value, where, align=vector.dtype.bitwidth // 8)


def _store_whole(builder, target, pointer, value):
    """`_store` through a pointer of type `target`; if that streams, to the start of a line."""
    vector = target.vector
    if not target.streams:
        _store(builder, vector, pointer, value)
        return
    where = builder.bitcast(pointer, value.type.as_pointer())
    stored = builder.store(value, where, align=vector.lanes * vector.dtype.bitwidth // 8)
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))


def _mask(builder, vector, count, first=0):
    """Lanes below `count`, when the first one is number `first`."""
    word = ir.IntType(32)
    lanes = ir.VectorType(word, vector.lanes)
    end = count.type(first + vector.lanes)  # where more is there, 32 bits might not hold it
    count = builder.select(builder.icmp_signed("<", count, end), count, end)
    limit = builder.insert_element(
        ir.Constant(lanes, ir.Undefined), builder.trunc(count, word), ir.Constant(word, 0)
    )
    limit = _shuffled(builder, limit, limit, [0] * vector.lanes)
    numbers = ir.Constant(lanes, list(range(first, first + vector.lanes)))
    return builder.icmp_signed("<", numbers, limit)


def _below(builder, vector, count, first=0):
    """`_mask`, and whether that is all lanes."""
    full = builder.icmp_signed(">=", count, ir.Constant(count.type, first + vector.lanes))
    return _mask(builder, vector, count, first), full


def _masked_load(builder, vector, pointer, mask):
    kind = _vector_ir(vector)
    where = builder.bitcast(pointer, kind.as_pointer())
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    return call_intrinsic(
        builder,
        f"llvm.masked.load.{_suffix(vector)}.p0",
        kind,
        [where, align, mask, _constant(vector, 0.0)],
    )


def _masked_store(builder, vector, pointer, value, mask):
    where = builder.bitcast(pointer, value.type.as_pointer())
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    name = f"llvm.masked.store.{_suffix(vector)}.p0"
    call_intrinsic(builder, name, ir.VoidType(), [value, where, align, mask])


def _load_part(builder, vector, pointer, lanes):
    """Load the lanes that `_below` names, the others zero; memory beyond them is not read."""
    mask, is_full = lanes
    if HAS_MASKS:
        return _masked_load(builder, vector, pointer, mask)
    slot = cgutils.alloca_once(builder, _vector_ir(vector))
    with builder.if_else(is_full) as (full, part):
        with full:
            builder.store(_load(builder, vector, pointer), slot)
        with part:
            builder.store(_masked_load(builder, vector, pointer, mask), slot)
    return builder.load(slot)


def _store_part(builder, vector, pointer, value, lanes):
    """Store the lanes that `_below` names; memory beyond them is not touched."""
    mask, is_full = lanes
    if HAS_MASKS:
        _masked_store(builder, vector, pointer, value, mask)
        return
    with builder.if_else(is_full) as (full, part):
        with full:
            _store(builder, vector, pointer, value)
        with part:
            _masked_store(builder, vector, pointer, value, mask)


def _prefetch(builder, pointer):
    """Have a line brought to the second-level cache; nothing need be there."""
    byte, word = ir.IntType(8), ir.IntType(32)
    where = builder.bitcast(pointer, byte.as_pointer())
    to_read, level, data = word(0), word(2), word(1)
    call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [where, to_read, level, data])


# --- pointers -----------------------------------------------------------------------


@intrinsic
def pointer(typingctx, array):
    """The first element of a C-contiguous array."""

    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    vector = Vector(array.dtype, VECTOR_BITS // array.dtype.bitwidth)
    return Pointer(vector)(array), codegen


def _to_line(builder, pointer):
    """The address, and bytes from there to the first start of a cache line."""
    word = ir.IntType(64)
    address = builder.ptrtoint(pointer, word)
    return address, builder.and_(builder.neg(address), ir.Constant(word, LINE_BITS // 8 - 1))


@intrinsic
def before_line(typingctx, p):
    """Elements from `p` to the first start of a cache line."""
    size = p.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        _, left = _to_line(builder, args[0])
        return builder.udiv(left, left.type(size))

    return types.intp(p), codegen


@intrinsic
def distance(typingctx, p, q):
    """Elements from `p` to `q`."""
    size = p.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        begin, end = (builder.ptrtoint(address, ir.IntType(64)) for address in args)
        return builder.sdiv(builder.sub(end, begin), ir.Constant(ir.IntType(64), size))

    return types.intp(p, p), codegen


@intrinsic
def align(typingctx, p):
    """The first cache line's start from `p` on."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(builder.add(*_to_line(builder, args[0])), args[0].type)

    return p(p), codegen


@intrinsic
def narrow(typingctx, p):
    """The same address, for vectors half as wide."""
    half = Pointer(Vector(p.dtype, p.vector.lanes // 2))

    def codegen(context, builder, sig, args):
        return args[0]

    return half(p), codegen


@intrinsic
def widen(typingctx, p):
    """The same address, for vectors of two registers: each operation is done on both, in turns."""
    both = Pointer(Vector(p.dtype, 2 * p.vector.lanes))

    def codegen(context, builder, sig, args):
        return args[0]

    return both(p), codegen


@intrinsic
def streamed(typingctx, p):
    """The same address; `store_full` and `transpose_block` pass the caches by, line by line.

    They may only write to the start of a line then.  It is for more than caches hold until it is
    read, and `finish_streams` ends it.
    """
    past = Pointer(p.vector, streams=LINES)

    def codegen(context, builder, sig, args):
        return args[0]

    return past(p), codegen


@intrinsic
def finish_streams(typingctx):
    """Let other threads that see what is written next see what was streamed."""

    def codegen(context, builder, sig, args):
        if LINES:
            call_intrinsic(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def lanes(typingctx, p):
    """Elements in a vector of a pointer's type, known when compiling."""

    def codegen(context, builder, sig, args):
        return context.get_constant(types.intp, p.vector.lanes)

    return types.intp(p), codegen


@intrinsic
def padded(typingctx, p, columns):
    """`columns` rounded up to whole vectors of a pointer's type."""
    count = p.vector.lanes

    def codegen(context, builder, sig, args):
        up = builder.add(args[1], ir.Constant(args[1].type, count - 1))
        return builder.and_(up, ir.Constant(args[1].type, -count))

    return types.intp(p, types.intp), codegen


@intrinsic
def paneled(typingctx, p, columns):
    """`columns` rounded up to whole panels of a pointer's type."""
    panel = WIDTH * p.vector.lanes

    def codegen(context, builder, sig, args):
        up = builder.add(args[1], args[1].type(panel - 1))
        return builder.and_(up, args[1].type(-panel))

    return types.intp(p, types.intp), codegen


@infer_global(operator.add)
class PointerOffset(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)


@lower_builtin(operator.add, Pointer, types.Integer)
def _lower_pointer_offset(context, builder, sig, args):
    return _offset(builder, *args)


# --- vectors ------------------------------------------------------------------------


@intrinsic
def load(typingctx, p, count):
    """The vector at `p`: its first `count` lanes, zero in the rest."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        p, count = args
        return _load_part(builder, vector, p, _below(builder, vector, count))

    return vector(p, types.intp), codegen


@intrinsic
def store(typingctx, p, v, count):
    """Write the first `count` lanes of `v` at `p`."""

    def codegen(context, builder, sig, args):
        p, value, count = args
        _store_part(builder, v, p, value, _below(builder, v, count))
        return context.get_dummy_value()

    return types.void(p, v, types.intp), codegen


@intrinsic
def load_blocks(typingctx, like, p, more, count):
    """`load` for the vectors of `like`, which are as wide as those of `p` or as two of them.

    The second one is then at `more`.
    """
    block = p.vector
    blocks = like.vector.lanes // block.lanes

    def codegen(context, builder, sig, args):
        _, *places, count = args
        parts = []
        for k, place in enumerate(places[:blocks]):
            left = builder.sub(count, count.type(k * block.lanes))
            parts.append(_load_part(builder, block, place, _below(builder, block, left)))
        return _shuffled(builder, parts[0], parts[-1], range(like.vector.lanes))

    return like.vector(like, p, p, types.intp), codegen


@intrinsic
def load_full(typingctx, p):
    """The whole vector at `p`."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        return _load(builder, vector, args[0])

    return vector(p), codegen


@intrinsic
def store_full(typingctx, p, v):
    """Write the whole vector `v` at `p`."""

    def codegen(context, builder, sig, args):
        _store_whole(builder, p, *args)
        return context.get_dummy_value()

    return types.void(p, v), codegen


@intrinsic
def broadcast(typingctx, p):
    """The element at `p` in every lane."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        return _splat(builder, vector, builder.load(args[0]))

    return vector(p), codegen


def _operand(builder, vector, kind, value):
    """A vector as it is; a number as a vector of the same type."""
    if isinstance(kind, Vector):
        return value
    if isinstance(value, ir.Constant):
        return _constant(vector, value.constant)
    scalar = _scalar_ir(vector.dtype)
    if value.type != scalar:
        value = builder.fptrunc(value, scalar)
    return _splat(builder, vector, value)


def _define_operator(function, instruction):
    @infer_global(function)
    class VectorOperator(AbstractTemplate):
        def generic(self, args, kws):
            vectors = [a for a in args if isinstance(a, Vector)]
            if not vectors or not all(isinstance(a, Vector | types.Float) for a in args):
                return None
            return signature(vectors[0], *args)

    def lower(context, builder, sig, args):
        vector = sig.return_type
        a, b = (_operand(builder, vector, *pair) for pair in zip(sig.args, args, strict=True))
        return getattr(builder, instruction)(a, b)

    for kinds in (Vector, Vector), (Vector, types.Float), (types.Float, Vector):
        lower_builtin(function, *kinds)(lower)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


@infer_global(operator.neg)
class VectorNegation(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Vector):
            return signature(args[0], args[0])


@lower_builtin(operator.neg, Vector)
def _lower_negation(context, builder, sig, args):
    return builder.fneg(args[0])


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c`` in one rounding where the CPU can; one operand may be a number."""
    vector = next(kind for kind in (a, b, c) if isinstance(kind, Vector))

    def codegen(context, builder, sig, args):
        operands = [_operand(builder, vector, *pair) for pair in zip(sig.args, args, strict=True)]
        return _fma(builder, vector, *operands)

    return vector(a, b, c), codegen


def polynomial(*, float32, float64):
    """An intrinsic for c[0] + c[1] x + c[2] x**2 + ..., its coefficients by dtype.

    Horner's scheme; a long one with odd and even powers apart, each in x**2, so that its
    chain of dependent steps is half as long.
    """
    coefficients = {32: float32, 64: float64}

    @intrinsic
    def evaluate(typingctx, x):
        def codegen(context, builder, sig, args):
            def horner(coefficients, x_):
                *lower, total = coefficients
                for c in reversed(lower):
                    total = _fma(builder, x, total, x_, c)
                return total

            first, *rest = (_constant(x, c) for c in coefficients[x.dtype.bitwidth])
            if len(rest) < 5:
                return horner([first, *rest], args[0])
            square = builder.fmul(args[0], args[0])
            rest = [horner(rest[0::2], square), horner(rest[1::2], square)]
            return horner([first, *rest], args[0])

        return x(x), codegen

    return evaluate


def constant(*, float32, float64):
    """An intrinsic for a number in every lane of a vector like `v`, by dtype."""
    numbers = {32: float32, 64: float64}

    @intrinsic
    def splat(typingctx, v):
        def codegen(context, builder, sig, args):
            return _constant(v, numbers[v.dtype.bitwidth])

        return v(v), codegen

    return splat


@intrinsic
def select_less(typingctx, a, b, x, y):
    """``x`` in the lanes where ``a < b``, else ``y``, also where a or b is NaN."""
    vector = next(kind for kind in (a, b, x, y) if isinstance(kind, Vector))

    def codegen(context, builder, sig, args):
        a, b, x, y = (_operand(builder, vector, *pair) for pair in zip(sig.args, args, strict=True))
        return builder.select(builder.fcmp_ordered("<", a, b), x, y)

    return vector(a, b, x, y), codegen


@intrinsic
def absolute(typingctx, v):
    """``|v|``."""

    def codegen(context, builder, sig, args):
        return call_intrinsic(builder, f"llvm.fabs.{_suffix(v)}", args[0].type, args)

    return v(v), codegen


@intrinsic
def copysign(typingctx, v, sign):
    """The magnitude of the first with the sign of the second."""

    def codegen(context, builder, sig, args):
        return call_intrinsic(builder, f"llvm.copysign.{_suffix(v)}", args[0].type, args)

    return v(v, v), codegen


@intrinsic
def add_exponent(typingctx, v, t):
    """``v * 2**n``, n an integer in the low bits of `t`; out of range it wraps around."""
    mantissa = {32: 23, 64: 52}[t.dtype.bitwidth]

    def codegen(context, builder, sig, args):
        kind = _integer_ir(t)
        v, n = (builder.bitcast(_operand(builder, t, *pair), kind) for pair in zip(sig.args, args))
        n = builder.shl(n, _integer_constant(t, mantissa))
        return builder.bitcast(builder.add(v, n), _vector_ir(t))

    return t(v, t), codegen


@intrinsic
def first_lanes(typingctx, v, rest, count):
    """The first `count` lanes of `v`, then those of `rest`, a vector or a number."""

    def codegen(context, builder, sig, args):
        mask = _mask(builder, v, args[2])
        return builder.select(mask, args[0], _operand(builder, v, sig.args[1], args[1]))

    return v(v, rest, types.intp), codegen


def _define_fold(combine):
    """An intrinsic that combines all lanes pairwise; each lane gets the same result."""

    @intrinsic
    def fold(typingctx, v):
        def codegen(context, builder, sig, args):
            total = args[0]
            step = v.lanes // 2
            while step:
                order = [lane ^ step for lane in range(v.lanes)]
                total = combine(builder, total, _shuffled(builder, total, total, order))
                step //= 2
            return total

        return v(v), codegen

    return fold


fold_sum = _define_fold(lambda builder, a, b: builder.fadd(a, b))
fold_max = _define_fold(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), b, a))


# --- tiles --------------------------------------------------------------------------

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
    return ir.Constant(_registers_ir(tile), None)


def _load_weights(builder, tile, w, panel, lanes=None):
    """A row of weights for a tile; if that is wider than `WIDTH`, from panels so far apart.

    lanes : for each vector those that there are, if not all.
    """
    weights = []
    for v in range(tile.width):
        begin = builder.mul(panel, panel.type(v // WIDTH))
        offset = builder.add(begin, panel.type(v % WIDTH * tile.vector.lanes))
        place = _offset(builder, w, offset)
        if lanes is None:
            weights.append(_load(builder, tile.vector, place))
        else:
            weights.append(_load_part(builder, tile.vector, place, lanes[v]))
    return weights


def _add_rank1(builder, tile, registers, weights, x, x_row):
    for r in range(tile.rows):
        element = _offset(builder, x, builder.mul(x_row, ir.Constant(x_row.type, r)))
        x_r = _splat(builder, tile.vector, builder.load(element))
        for v, w_v in enumerate(weights):
            at = r * tile.width + v
            total = _fma(builder, tile.vector, x_r, w_v, builder.extract_value(registers, at))
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
        begin = _offset(builder, p, builder.mul(row, ir.Constant(row.type, r)))
        for v in range(tile.width):
            place = _offset(builder, begin, ir.Constant(row.type, v * tile.vector.lanes))
            yield v, r * tile.width + v, place


def _tile_lanes(builder, tile, columns):
    """For each vector of a row the lanes that there are, as of `_below`."""
    vector = tile.vector
    return [_below(builder, vector, columns, v * vector.lanes) for v in range(tile.width)]


def _load_tile(builder, tile, p, row, columns):
    registers = _zeros(tile)
    lanes = _tile_lanes(builder, tile, columns)
    for v, at, place in _tile_places(builder, tile, p, row):
        value = _load_part(builder, tile.vector, place, lanes[v])
        registers = builder.insert_value(registers, value, at)
    return registers


def _store_tile(builder, tile, registers, p, row, columns):
    lanes = _tile_lanes(builder, tile, columns)
    for v, at, place in _tile_places(builder, tile, p, row):
        value = builder.extract_value(registers, at)
        _store_part(builder, tile.vector, place, value, lanes[v])


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
            call_intrinsic(builder, "llvm.trap", ir.VoidType(), [])
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
        w_k = _offset(builder, w, builder.mul(loop.index, w_row))
        x_k = _offset(builder, x, loop.index)
        weights = _load_weights(builder, tile, w_k, panels_apart, lanes)
        before = builder.load(total)
        builder.store(_add_rank1(builder, tile, before, weights, x_k, x_row), total)
        if asks:
            _prefetch(builder, _offset(builder, later, builder.mul(loop.index, step)))
    _store_tile(builder, tile, builder.load(total), out, out_row, columns)


# --- transposition ------------------------------------------------------------------


def _dealt(builder, vectors, unit):
    """Vectors of every second `unit` lanes of all, again until one vector is left of each."""
    if len(vectors) == 1:
        return vectors
    lanes = range(2 * vectors[0].type.count)
    pairs = list(zip(vectors[0::2], vectors[1::2], strict=True))
    dealt = []
    for parity in (0, 1):
        order = [p for p in lanes if p // unit % 2 == parity]
        halved = [_shuffled(builder, *pair, order) for pair in pairs]
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
                exchanged[i] = _shuffled(builder, *pair, low)
                exchanged[i + distance] = _shuffled(builder, *pair, high)
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
        joined = [_shuffled(builder, *pair, range(vector.lanes)) for pair in pairs]
        placed.append(_dealt(builder, joined, half // 2))
    squares = zip(*placed, strict=True)
    return [column for rows in squares for column in _exchanged(builder, list(rows))]


def _load_columns(builder, vector, p, row, first, last=None):
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
        halves.append(_load(builder, half, _offset(builder, p, at)))
    return _columns(builder, vector, halves)


@intrinsic
def transpose_block(typingctx, source, source_row, out, out_row):
    """``out[j][i] = source[i][j]`` for a square of as many rows as a vector has lanes."""
    vector = source.vector

    def codegen(context, builder, sig, args):
        source, source_row, out, out_row = args
        columns = []
        for first in (0, vector.lanes // 2):
            columns += _load_columns(builder, vector, source, source_row, first)
        for r, column in enumerate(columns):
            place = _offset(builder, out, builder.mul(out_row, out_row.type(r)))
            _store_whole(builder, sig.args[2], place, column)
        return context.get_dummy_value()

    return types.void(source, types.intp, out, types.intp), codegen


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
            turned = _load_columns(builder, vector, w, w_row, first, last)
            for k, weights in enumerate(turned, first):
                is_skipped = builder.icmp_signed("<", skipped.type(k), skipped)
                for r in range(tile.rows):
                    at = builder.add(builder.mul(x_row, x_row.type(r)), x_row.type(k))
                    x_r = _splat(builder, vector, builder.load(_offset(builder, x, at)))
                    before = builder.extract_value(registers, r)
                    total = _fma(builder, vector, x_r, weights, before)
                    total = builder.select(is_skipped, before, total)
                    registers = builder.insert_value(registers, total, r)
        return registers

    sig = tile(tile, w, types.intp, x, types.intp, types.intp, types.intp)
    return sig, codegen


@intrinsic
def transpose_part(typingctx, source, source_row, rows, columns, out, out_row, stored):
    """`transpose_block` of `rows` by `columns`, `stored` lanes of each column, zeros after rows."""
    vector = source.vector

    def codegen(context, builder, sig, args):
        source, source_row, rows, columns, out, out_row, stored = args
        none = ir.Constant(rows.type, 0)

        def row(pointer, stride, r):
            return _offset(builder, pointer, builder.mul(stride, ir.Constant(stride.type, r)))

        def only_below(limit, r, value):
            below = builder.icmp_signed("<", ir.Constant(limit.type, r), limit)
            return builder.select(below, value, none)

        # A masked access is slow where it could not be made at all: rows that are not there
        # stand at the first one's address.
        loaded = []
        for r in range(vector.lanes):
            at = row(source, only_below(rows, r, source_row), r)
            lanes = _below(builder, vector, only_below(rows, r, columns))
            loaded.append(_load_part(builder, vector, at, lanes))
        turned = []
        for first in (0, vector.lanes // 2):
            half = range(first, first + vector.lanes // 2)
            halves = [_shuffled(builder, value, value, half) for value in loaded]
            turned += _columns(builder, vector, halves)
        for r, column in enumerate(turned):
            at = row(out, only_below(columns, r, out_row), r)
            lanes = _below(builder, vector, only_below(columns, r, stored))
            _store_part(builder, vector, at, column, lanes)
        return context.get_dummy_value()

    sig = types.void(source, types.intp, types.intp, types.intp, out, types.intp, types.intp)
    return sig, codegen
