"""Pointers and vectors in Numba, on the CPU's SIMD registers.

A `Pointer` walks over array memory in elements: ``p + n``.  It holds no reference
and checks no bound, and knows the vectors that are read through it: the CPU's widest,
half of them (`narrow`), or two at once (`widen`); and whether what is written through it
passes the caches by (`streamed`).

A `Vector` is a SIMD register of floats, or two, with ``+ - * /``, `fma` and the few bit
operations that activations need.  A Python number beside a vector takes the
vector's own type.
"""

import operator

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic, lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from . import emit
from .cpu import LINE_BITS, LINES, VECTOR_BITS, WIDTH
from .emit import Pointer, Vector

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
            emit.call_intrinsic(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
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
    return emit.offset(builder, *args)


# --- vectors ------------------------------------------------------------------------


@intrinsic
def load(typingctx, p, count):
    """The vector at `p`: its first `count` lanes, zero in the rest."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        p, count = args
        return emit.load_part(builder, vector, p, emit.below(builder, vector, count))

    return vector(p, types.intp), codegen


@intrinsic
def store(typingctx, p, v, count):
    """Write the first `count` lanes of `v` at `p`."""

    def codegen(context, builder, sig, args):
        p, value, count = args
        emit.store_part(builder, v, p, value, emit.below(builder, v, count))
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
            parts.append(emit.load_part(builder, block, place, emit.below(builder, block, left)))
        return emit.shuffled(builder, parts[0], parts[-1], range(like.vector.lanes))

    return like.vector(like, p, p, types.intp), codegen


@intrinsic
def load_full(typingctx, p):
    """The whole vector at `p`."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        return emit.load(builder, vector, args[0])

    return vector(p), codegen


@intrinsic
def store_full(typingctx, p, v):
    """Write the whole vector `v` at `p`."""

    def codegen(context, builder, sig, args):
        emit.store_whole(builder, p, *args)
        return context.get_dummy_value()

    return types.void(p, v), codegen


@intrinsic
def broadcast(typingctx, p):
    """The element at `p` in every lane."""
    vector = p.vector

    def codegen(context, builder, sig, args):
        return emit.splat(builder, vector, builder.load(args[0]))

    return vector(p), codegen


def _operand(builder, vector, kind, value):
    """A vector as it is; a number as a vector of the same type."""
    if isinstance(kind, Vector):
        return value
    if isinstance(value, ir.Constant):
        return emit.constant(vector, value.constant)
    scalar = emit.scalar_ir(vector.dtype)
    if value.type != scalar:
        value = builder.fptrunc(value, scalar)
    return emit.splat(builder, vector, value)


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
        return emit.fma(builder, vector, *operands)

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
                    total = emit.fma(builder, x, total, x_, c)
                return total

            first, *rest = (emit.constant(x, c) for c in coefficients[x.dtype.bitwidth])
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
            return emit.constant(v, numbers[v.dtype.bitwidth])

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
        return emit.call_intrinsic(builder, f"llvm.fabs.{emit.suffix(v)}", args[0].type, args)

    return v(v), codegen


@intrinsic
def copysign(typingctx, v, sign):
    """The magnitude of the first with the sign of the second."""

    def codegen(context, builder, sig, args):
        return emit.call_intrinsic(builder, f"llvm.copysign.{emit.suffix(v)}", args[0].type, args)

    return v(v, v), codegen


@intrinsic
def add_exponent(typingctx, v, t):
    """``v * 2**n``, n an integer in the low bits of `t`; out of range it wraps around."""
    mantissa = {32: 23, 64: 52}[t.dtype.bitwidth]

    def codegen(context, builder, sig, args):
        kind = emit.integer_ir(t)
        v, n = (builder.bitcast(_operand(builder, t, *pair), kind) for pair in zip(sig.args, args))
        n = builder.shl(n, emit.integer_constant(t, mantissa))
        return builder.bitcast(builder.add(v, n), emit.vector_ir(t))

    return t(v, t), codegen


@intrinsic
def first_lanes(typingctx, v, rest, count):
    """The first `count` lanes of `v`, then those of `rest`, a vector or a number."""

    def codegen(context, builder, sig, args):
        mask = emit.mask_below(builder, v, args[2])
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
                total = combine(builder, total, emit.shuffled(builder, total, total, order))
                step //= 2
            return total

        return v(v), codegen

    return fold


fold_sum = _define_fold(lambda builder, a, b: builder.fadd(a, b))
fold_max = _define_fold(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), b, a))
