"""Three Numba types, and the LLVM code that the intrinsics on them are made of.

A `Vector` is a SIMD register of floats, or two.  A `Pointer` walks over array memory in elements
and knows the vectors that are read through it.  A `Tile` is ``rows x width`` vectors that stay in
registers.  Kernels use them by `simd` and `tiles`; here is what those emit.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.extending import register_model

from .cpu import HAS_FMA, HAS_MASKS

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


def scalar_ir(dtype):
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def vector_ir(vector):
    return ir.VectorType(scalar_ir(vector.dtype), vector.lanes)


def integer_ir(vector):
    return ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.lanes)


def registers_ir(tile):
    return ir.ArrayType(vector_ir(tile.vector), tile.rows * tile.width)


@register_model(Pointer)
class PointerModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, scalar_ir(fe_type.dtype).as_pointer())


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_ir(fe_type))


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, registers_ir(fe_type))


# --- code ---------------------------------------------------------------------------


def call_intrinsic(builder, name, result, args):
    """Call an LLVM intrinsic by its mangled name."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in args]), name
    )
    return builder.call(function, args)


def suffix(vector):
    return f"v{vector.lanes}f{vector.dtype.bitwidth}"


def shuffled(builder, a, b, order):
    """Lanes of `a` and, numbered on from these, of `b`."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(a, b, order)


def splat(builder, vector, scalar):
    empty = ir.Constant(vector_ir(vector), ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
    return shuffled(builder, first, empty, [0] * vector.lanes)


def constant(vector, value):
    return ir.Constant(vector_ir(vector), [value] * vector.lanes)


def integer_constant(vector, value):
    return ir.Constant(integer_ir(vector), [value] * vector.lanes)


def fma(builder, vector, a, b, c):
    if HAS_FMA:
        return call_intrinsic(builder, f"llvm.fma.{suffix(vector)}", a.type, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def offset(builder, pointer, elements):
    return builder.gep(pointer, [elements])


def load(builder, vector, pointer):
    where = builder.bitcast(pointer, vector_ir(vector).as_pointer())
    return builder.load(where, align=vector.dtype.bitwidth // 8)


def store(builder, vector, pointer, value):
    where = builder.bitcast(pointer, vector_ir(vector).as_pointer())
    builder.store(value, where, align=vector.dtype.bitwidth // 8)


def store_whole(builder, target, pointer, value):
    """`store` through a pointer of type `target`; if that streams, to the start of a line."""
    vector = target.vector
    if not target.streams:
        store(builder, vector, pointer, value)
        return
    where = builder.bitcast(pointer, value.type.as_pointer())
    stored = builder.store(value, where, align=vector.lanes * vector.dtype.bitwidth // 8)
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))


def mask_below(builder, vector, count, first=0):
    """Lanes below `count`, when the first one is number `first`."""
    word = ir.IntType(32)
    lanes = ir.VectorType(word, vector.lanes)
    end = count.type(first + vector.lanes)  # where more is there, 32 bits might not hold it
    count = builder.select(builder.icmp_signed("<", count, end), count, end)
    limit = builder.insert_element(
        ir.Constant(lanes, ir.Undefined), builder.trunc(count, word), ir.Constant(word, 0)
    )
    limit = shuffled(builder, limit, limit, [0] * vector.lanes)
    numbers = ir.Constant(lanes, list(range(first, first + vector.lanes)))
    return builder.icmp_signed("<", numbers, limit)


def below(builder, vector, count, first=0):
    """`mask_below`, and whether that is all lanes."""
    full = builder.icmp_signed(">=", count, ir.Constant(count.type, first + vector.lanes))
    return mask_below(builder, vector, count, first), full


def masked_load(builder, vector, pointer, mask):
    kind = vector_ir(vector)
    where = builder.bitcast(pointer, kind.as_pointer())
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    return call_intrinsic(
        builder,
        f"llvm.masked.load.{suffix(vector)}.p0",
        kind,
        [where, align, mask, constant(vector, 0.0)],
    )


def masked_store(builder, vector, pointer, value, mask):
    where = builder.bitcast(pointer, value.type.as_pointer())
    align = ir.Constant(ir.IntType(32), vector.dtype.bitwidth // 8)
    name = f"llvm.masked.store.{suffix(vector)}.p0"
    call_intrinsic(builder, name, ir.VoidType(), [value, where, align, mask])


def load_part(builder, vector, pointer, lanes):
    """Load the lanes that `below` names, the others zero; memory beyond them is not read."""
    mask, is_full = lanes
    if HAS_MASKS:
        return masked_load(builder, vector, pointer, mask)
    slot = cgutils.alloca_once(builder, vector_ir(vector))
    with builder.if_else(is_full) as (full, part):
        with full:
            builder.store(load(builder, vector, pointer), slot)
        with part:
            builder.store(masked_load(builder, vector, pointer, mask), slot)
    return builder.load(slot)


def store_part(builder, vector, pointer, value, lanes):
    """Store the lanes that `below` names; memory beyond them is not touched."""
    mask, is_full = lanes
    if HAS_MASKS:
        masked_store(builder, vector, pointer, value, mask)
        return
    with builder.if_else(is_full) as (full, part):
        with full:
            store(builder, vector, pointer, value)
        with part:
            masked_store(builder, vector, pointer, value, mask)


def prefetch(builder, pointer):
    """Have a line brought to the second-level cache; nothing need be there."""
    byte, word = ir.IntType(8), ir.IntType(32)
    where = builder.bitcast(pointer, byte.as_pointer())
    to_read, level, data = word(0), word(2), word(1)
    call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [where, to_read, level, data])
