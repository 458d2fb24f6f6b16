"""exp, tanh, sigmoid and softmax, written on vectors; no tables, the same on every CPU.

Each reduces its argument by multiples of ln2, x = n ln2 + r, and turns n into an exponent.
n is rounded by adding a number so large that its last bit counts ones: n then stands in the
low bits of that sum (Muller, Elementary Functions, 3rd edition, 2016, section 11.2).

The polynomials are minimax for the relative error of the result, see
``tests/kernels/minimax.py``.  The errors stated are the largest found with fused
multiply-add by ``tests/kernels/exhaustive.py``, in units in the last place: over all inputs
in float32, over 10**8 and more in float64.
"""

from ._jit import inline, kernel, leaf
from .simd import (
    absolute,
    add_exponent,
    broadcast,
    constant,
    copysign,
    first_lanes,
    fma,
    fold_max,
    fold_sum,
    lanes,
    load,
    load_full,
    pointer,
    polynomial,
    select_less,
    store,
    store_full,
)

BESIDE = 256  # columns of a softmax at once: what stands for each stays in the first-level cache

LN2 = 0.6931471805599453
LOG2_E = 1.4426950408889634
magic = constant(float32=1.5 * 2.0**23, float64=1.5 * 2.0**52)

# --- exp ----------------------------------------------------------------------------

# ln2 in two parts, the first so short that n times it is exact (Cody & Waite, Software
# Manual for the Elementary Functions, 1980).
ln2_high = constant(float32=0.693145751953125, float64=0.6931471803691238)
ln2_low = constant(float32=1.428606765330187e-06, float64=1.9082149292705877e-10)

# Below, exp is 0; above, inf.
lowest = constant(float32=-104.0, float64=-746.0)
highest = constant(float32=89.0, float64=710.0)

# (expm1(r) - r) / r**2 for |r| <= ln2 / 2, to 2**-28 and 2**-57 of exp(r).
expm1_tail = polynomial(
    float32=(0.49999994, 0.16666521, 0.04166837, 0.008368683, 0.0013815176),
    float64=(
        0.5000000000000009,
        0.16666666666666421,
        0.041666666666540765,
        0.008333333333493554,
        0.00138888889413295,
        0.00019841269503170683,
        2.4801495106975036e-05,
        2.7557592437063116e-06,
        2.762963776047114e-07,
        2.4997545957878032e-08,
    ),
)


@inline
def expm1_reduced(x, sign):
    """``expm1(r)`` for ``sign x = n ln2 + r``, and a vector whose low bits are n.

    sign : 1 or -1, which the `fma` take in; x negated beforehand would be one instruction more.
    """
    t = fma(x, sign * LOG2_E, magic(x))
    n = t - magic(x)
    high = fma(n, -ln2_high(x), sign * x)
    low = n * ln2_low(x)
    r = high - low
    # r itself is rounded; the sum starts again from its parts.
    return high + fma(r * r, expm1_tail(r), -low), t


@leaf
def exp(x):
    """At most 0.9 ulp, also where the result is subnormal."""
    x = select_less(x, lowest(x), lowest(x), x)
    x = select_less(highest(x), x, highest(x), x)
    g, t = expm1_reduced(x, 1.0)
    # In two steps: 2**n alone can be out of range, and a subnormal result is rounded once.
    half = fma(t - magic(x), 0.5, magic(x))
    rest = t - (half - magic(x))
    return (1.0 + g) * add_exponent(1.0, half) * add_exponent(1.0, rest)


# --- sigmoid ------------------------------------------------------------------------

# The unit that 1 and e**-x are counted in: any number, since they are divided.
#
# It is small, so that e**-x does not overflow before the quotient has become 0.
#
# It has a mantissa of 21/16: where the denominator would fall just above a power of two, its
# rounding would be largest, and the quotient, just below one, would show all of it.
# The sum of 2**n and 1 is then exact for these n.  Further out its mantissa is 1.
unit = constant(float32=1.3125 * 2.0**-32, float64=1.3125 * 2.0**-64)
outer_unit = constant(float32=2.0**-32, float64=2.0**-64)
exact_n = constant(float32=19.5, float64=48.5)


@leaf
def sigmoid(x):
    """``1 / (1 + e**-x)``, e**-x = 2**n (1 + g); at most 1.5 ulp, down to the subnormals."""
    x = select_less(40.0, x, 40.0, x)
    x = select_less(x, lowest(x), lowest(x), x)
    g, t = expm1_reduced(x, -1.0)
    n = absolute(t - magic(x))

    one = select_less(n, exact_n(x), unit(x), outer_unit(x))
    scale = add_exponent(one, t)
    # (2**n + 1) + 2**n g where the first sum is exact, else 2**n + (1 + 2**n g).
    first = select_less(n, exact_n(x), scale + one, one)
    last = select_less(n, exact_n(x), 0.0, scale)
    return one / (fma(scale, g, first) + last)


# --- tanh ---------------------------------------------------------------------------

# (h coth(h) - 1) / h**2 in h**2 for |h| <= 0.7, to 2**-29 and 2**-55 of tanh(h).
coth_tail = polynomial(
    float32=(0.33333328, -0.022220887, 0.0021075562, -0.00018867615),
    float64=(
        0.3333333333333309,
        -0.022222222222007,
        0.0021164021107626715,
        -0.00021164014369831776,
        2.1377357245988917e-05,
        -2.1627488685777483e-06,
        2.15669116456731e-07,
        -1.7969244749972347e-08,
    ),
)


@leaf
def tanh(x):
    """At most 1.45 ulp.

    With |x| = n ln2 + h, h >= 0, and u = h coth(h), which is nearly linear in h**2,
    ``exp(2 h) = (u + h) / (u - h)`` and ``tanh(h) = h / u``.  So tanh(|x|) is

    - ``1 - 2 / (exp(2 |x|) + 1) = 1 - 2 (u - h) / (4**n (u + h) + (u - h))`` for n > 0,
    - ``h - 2 h (u - 1) / ((u + h) + (u - h))`` for n = 0,

    each a small correction to an exact number, and both with the same denominator.
    """
    a = absolute(x)
    a = select_less(20.0, a, 20.0, a)
    # Rounded down, by half an interval less one part in a thousand, or 0 would become -1.
    # The intervals are a little longer than ln2: the formula is least exact at h = 0.
    t = fma(a - 0.3489, 1 / 0.698, magic(x))
    n = t - magic(x)
    # Exact for n = 1; later an error in h matters less and less.
    h = fma(n, -LN2, a)

    square = h * h
    excess = square * coth_tail(square)
    u = 1.0 + excess
    scale = add_exponent(add_exponent(1.0, t), t)
    first = select_less(n, 0.5, h, 1.0)
    part = select_less(n, 0.5, h * excess, u - h)
    return copysign(fma(part / fma(scale, u + h, u - h), -2.0, first), x)


# --- softmax ------------------------------------------------------------------------


@leaf
def softmax_row(z, out, classes):
    """The softmax of `classes` adjacent elements; `z` and `out` may be the same memory."""
    block = lanes(z)
    largest = broadcast(z)
    for k in range(0, classes, block):
        n = min(block, classes - k)
        z_k = first_lanes(load(z + k, n), largest, n)
        largest = select_less(largest, z_k, z_k, largest)
    largest = fold_max(largest)

    total = largest - largest
    for k in range(0, classes, block):
        n = min(block, classes - k)
        e = exp(load(z + k, n) - largest)
        store(out + k, e, n)
        total = total + first_lanes(e, 0.0, n)
    total = fold_sum(total)

    for k in range(0, classes, block):
        n = min(block, classes - k)
        store(out + k, load(out + k, n) / total, n)


@inline
def softmax_beside(z, out, row, classes, columns, largest, total):
    """The softmax of adjacent columns, their elements `row` apart.

    Class after class: memory is read and written in long runs.
    largest, total : of each column, written on the way.
    """
    block = lanes(z)
    for j in range(0, columns, block):
        store(largest + j, load(z + j, columns - j), columns - j)
    for k in range(1, classes):
        for j in range(0, columns, block):
            n = columns - j
            z_k, before = load(z + (k * row + j), n), load(largest + j, n)
            store(largest + j, select_less(before, z_k, z_k, before), n)

    for j in range(0, columns, block):
        m = load(largest + j, columns - j)
        store(total + j, m - m, columns - j)
    for k in range(classes):
        for j in range(0, columns, block):
            n = columns - j
            e = exp(load(z + (k * row + j), n) - load(largest + j, n))
            store(out + (k * row + j), e, n)
            store(total + j, load(total + j, n) + e, n)

    for k in range(classes):
        for j in range(0, columns, block):
            n = columns - j
            at = out + (k * row + j)
            store(at, load(at, n) / load(total + j, n), n)


# --- arrays -------------------------------------------------------------------------


@kernel
def tanh_array(x, out):
    """x, out : flat, of one length; out is written, the same memory is allowed."""
    p, q = pointer(x), pointer(out)
    tail = x.size % lanes(p)
    whole = x.size - tail
    for k in range(0, whole, lanes(p)):
        store_full(q + k, tanh(load_full(p + k)))
    if tail > 0:
        store(q + whole, tanh(load(p + whole, tail)), tail)


@kernel
def sigmoid_array(x, out):
    """x, out : flat, of one length; out is written, the same memory is allowed."""
    p, q = pointer(x), pointer(out)
    tail = x.size % lanes(p)
    whole = x.size - tail
    for k in range(0, whole, lanes(p)):
        store_full(q + k, sigmoid(load_full(p + k)))
    if tail > 0:
        store(q + whole, sigmoid(load(p + whole, tail)), tail)


@kernel
def softmax_array(z, out):
    """z, out : flat, of one length, not empty; out is written, the same memory is allowed."""
    softmax_row(pointer(z), pointer(out), z.size)


@kernel
def softmax_columns(z, out, classes, columns, scratch):
    """z, out : (classes, columns), C-contiguous; out is written, the same memory is allowed.

    scratch : 2 `BESIDE` elements.
    """
    p, q, largest = pointer(z), pointer(out), pointer(scratch)
    for j in range(0, columns, BESIDE):
        n = min(BESIDE, columns - j)
        softmax_beside(p + j, q + j, columns, classes, n, largest, largest + BESIDE)
