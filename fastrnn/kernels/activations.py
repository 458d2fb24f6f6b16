"""exp, tanh, sigmoid and softmax, written on vectors.

The exponential: x = n ln2 + r, |r| <= ln2 / 2, exp(x) = 2**n (1 + expm1(r)).
n is rounded by adding a number so large that its last bit counts ones; n then stands in
the low bits of that sum.  ln2 is subtracted in two parts, the first so short that n times
it is exact (Cody & Waite, Software Manual for the Elementary Functions, 1980; Muller,
Elementary Functions, 2016, sections 5.4 and 11.2).
"""

from ._jit import inline, kernel, leaf
from .simd import (
    absolute,
    add_exponent,
    broadcast,
    by_dtype,
    copysign,
    first_lanes,
    fma,
    fold_max,
    fold_sum,
    lanes,
    load,
    pointer,
    polynomial,
    select_less,
    store,
)

# (expm1(r) - r) / r**2 for |r| <= ln2 / 2.
expm1_tail = polynomial(
    float32=(
        0.49999993651991465,
        0.16666521912924087,
        0.04166836179633054,
        0.008368612664810943,
        0.0013815336140156642,
    ),
    float64=(
        0.5000000000000009,
        0.16666666666666421,
        0.04166666666654179,
        0.00833333333349225,
        0.0013888888941010577,
        0.00019841269505226083,
        2.480149547991019e-05,
        2.7557591330771755e-06,
        2.7629491639355357e-07,
        2.4997657175732175e-08,
    ),
)

# (tanh(a) - a) / a**3 in a**2, for a up to 0.65 (float32), 0.55 (float64).
tanh_tail = polynomial(
    float32=(
        -0.33333272487161797,
        0.13331073871281035,
        -0.05370355593182908,
        0.02050980644492987,
        -0.00555211055405082,
    ),
    float64=(
        -0.3333333333333292,
        0.13333333333235464,
        -0.05396825390278352,
        0.021869486515751903,
        -0.008863200835222065,
        0.0035917651119573347,
        -0.0014534196027690604,
        0.0005796873518226891,
        -0.0002111326021884073,
        5.1555667107696385e-05,
    ),
)


@inline
def reduce(x):
    """N in the low bits of the first result, and expm1(r)."""
    magic = by_dtype(x, 12582912.0, 6755399441055744.0)
    t = fma(x, 1.4426950408889634, magic)
    n = t - magic
    r = fma(n, by_dtype(x, -0.693145751953125, -0.6931471803691238), x)
    r = fma(n, by_dtype(x, -1.428606765330187e-06, -1.9082149292705877e-10), r)
    return t, fma(r * r, expm1_tail(r), r)


@inline
def exp(x):
    lowest = by_dtype(x, -104.0, -746.0)
    highest = by_dtype(x, 89.0, 710.0)
    x = select_less(x, lowest, lowest, x)
    x = select_less(highest, x, highest, x)
    t, g = reduce(x)
    magic = by_dtype(x, 12582912.0, 6755399441055744.0)
    # Two steps: 2**n alone may be out of range, and a subnormal result is rounded once.
    half = fma(t - magic, 0.5, magic)
    rest = t - (half - magic)
    one = by_dtype(x, 1.0, 1.0)
    return (1.0 + g) * add_exponent(one, half) * add_exponent(one, rest)


@leaf
def sigmoid(x):
    return 1.0 / (1.0 + exp(-x))


@leaf
def tanh(x):
    a = absolute(x)
    a = select_less(20.0, a, 20.0, a)
    t, g = reduce(a + a)
    scale = add_exponent(by_dtype(a, 1.0, 1.0), t)
    large = 1.0 - 2.0 / (fma(scale, g, scale) + 1.0)
    square = a * a
    small = fma(a * square, tanh_tail(square), a)
    return copysign(select_less(a, by_dtype(a, 0.65, 0.55), small, large), x)


@inline
def softmax_row(z, out, classes):
    """The softmax of `classes` adjacent elements; `z` and `out` may be the same memory."""
    block = lanes(z)
    highest = broadcast(z)
    for k in range(0, classes, block):
        n = min(block, classes - k)
        z_k = first_lanes(load(z + k, n), highest, n)
        highest = select_less(highest, z_k, z_k, highest)
    highest = fold_max(highest)

    total = highest - highest
    for k in range(0, classes, block):
        n = min(block, classes - k)
        e = exp(load(z + k, n) - highest)
        store(out + k, e, n)
        total = total + first_lanes(e, by_dtype(e, 0.0, 0.0), n)
    total = fold_sum(total)

    for k in range(0, classes, block):
        n = min(block, classes - k)
        store(out + k, load(out + k, n) / total, n)


@kernel
def tanh_array(x, out):
    """x, out : flat, of one length; out is written, the same memory is allowed."""
    p, q = pointer(x), pointer(out)
    block = lanes(p)
    for k in range(0, x.size, block):
        n = min(block, x.size - k)
        store(q + k, tanh(load(p + k, n)), n)


@kernel
def sigmoid_array(x, out):
    """x, out : flat, of one length; out is written, the same memory is allowed."""
    p, q = pointer(x), pointer(out)
    block = lanes(p)
    for k in range(0, x.size, block):
        n = min(block, x.size - k)
        store(q + k, sigmoid(load(p + k, n)), n)


@kernel
def softmax_rows(z, out, rows, classes):
    """z, out : (rows, classes), C-contiguous; out is written, the same memory is allowed."""
    p, q = pointer(z), pointer(out)
    for r in range(rows):
        softmax_row(p + r * classes, q + r * classes, classes)
