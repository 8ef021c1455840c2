"""Adding up the grey values of a region, and their squares, without losing anything.

The idea
    A sum that is exact does not depend on the order, nor on how many threads share the work: mean and deviation are
    rounded once, at their end. Voxels come 64 at a time, with a word of bits that says which of them belong to the
    region; words that hold none are passed over.

    Whole numbers of at most 32 bits are widened and added; squares in halves of 32 bits, so that nothing overflows.

    Floats are taken as whole numbers, too: ``q = v 2^e`` is whole for all v from 2^(61-e) down to where the last
    digit of v has the value 2^-e, a window of 37 powers of two for single precision, of 8 for double. Windows of
    neighbouring e lie side by side and cover the type, every value belongs to one, and most regions keep to one or
    two. A word of voxels is tried with the widest window that was needed so far; those that are not whole there go on
    to the next finer one. q is cut into ``a 2^31 + b``; added up are a, b, and the halves of 32 bits of aa, ab and bb:
    eight sums a window, each kept in eight lanes. What calls puts the windows together, in whole numbers of Python.

What it follows
    U. Kulisch, Computer Arithmetic and Validity, 2nd ed. 2013, chapter 8 (the long accumulator); J. Demmel and
    Y. Hida, Accurate and efficient floating point summation, SIAM J. Sci. Comput. 25, 2003 (accumulators told apart by
    the exponent). Neither multiplies; cutting into halves is long multiplication.

Cost
    Some 35 vector instructions for eight floats in each window that is tried; a few for 64 whole numbers of 16 bits.
    Four million voxels in single precision take 6 ms of one core, in a region with holes 12, where gathering them and
    adding them up with numpy, rounding on the way, takes 50. The sums of all windows of double precision take 128 KiB,
    of single precision 4.

Limits
    Whole numbers of 64 bits are left to numpy. NaN and infinite values belong to no window: they are left out, and
    not counted. At most 2^31 voxels in a call.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from ._jit import jit
from .bits import add_up_64, between_64, ones, peek
from .rows import DONE, OPENED, Rows, bits_at, number_of

_U = np.uint64
_ZERO, _ALL = _U(0), _U(0xFFFFFFFFFFFFFFFF)
_BYTE = np.uint8(1)
_LANES = 8
_LONG = ir.VectorType(ir.IntType(64), _LANES)
_DOUBLE = ir.VectorType(ir.DoubleType(), _LANES)


def _all(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * _LANES)


def _put_everywhere(builder, value):
    nothing = ir.Constant(_DOUBLE, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))


def _products(builder, whole):
    """Return the eight numbers that are added up for whole numbers below 2^61: see the page above."""
    half = ir.VectorType(ir.IntType(32), _LANES)
    # Narrowed and widened, so that they are seen to have 32 bits: products of such are cheap.
    upper = builder.sext(builder.trunc(builder.ashr(whole, _all(_LONG, 31)), half), _LONG)
    lower = builder.and_(whole, _all(_LONG, 0x7FFFFFFF))
    found = [upper, lower]
    for one, other in ((upper, upper), (upper, lower), (lower, lower)):
        product = builder.mul(one, other)
        found += [builder.ashr(product, _all(_LONG, 32)), builder.and_(product, _all(_LONG, 0xFFFFFFFF))]
    return found


@intrinsic
def _window_64(typing, address, word, like, first, second, sums):
    """Add up those of 64 floats whose bits are set and which are whole, below 2^61, when multiplied by two factors.

    Returns the bits of those that are.
    """

    def generate(context, builder, signature, arguments):
        address, word, _, first, second, sums = arguments
        kind = ir.VectorType(context.get_value_type(like), _LANES)
        size = like.bitwidth // 8
        factors = [_put_everywhere(builder, factor) for factor in (first, second)]
        base = builder.inttoptr(address, kind.as_pointer())
        size_of_index = ir.IntType(64)
        places = [
            builder.gep(builder.inttoptr(sums, _LONG.as_pointer()), [ir.Constant(size_of_index, n)]) for n in range(8)
        ]
        totals = [builder.load(place, align=8) for place in places]
        taken = ir.Constant(ir.IntType(64), 0)
        absolute = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_DOUBLE, [_DOUBLE]), f"llvm.fabs.v{_LANES}f64"
        )
        for part in range(64 // _LANES):
            values = builder.load(builder.gep(base, [ir.Constant(size_of_index, part)]), align=size)
            bits = builder.lshr(word, ir.Constant(ir.IntType(64), _LANES * part))
            chosen = builder.bitcast(builder.trunc(bits, ir.IntType(_LANES)), ir.VectorType(ir.IntType(1), _LANES))
            values = builder.select(chosen, values, ir.Constant(kind, None))
            values = values if size == 8 else builder.fpext(values, _DOUBLE)
            scaled = builder.fmul(builder.fmul(values, factors[0]), factors[1])
            small = builder.fcmp_ordered("<", builder.call(absolute, [scaled]), _all(_DOUBLE, 2.0**61))
            # What is too large, or NaN, is not converted.
            scaled = builder.select(small, scaled, _all(_DOUBLE, 0.0))
            whole = builder.fptosi(scaled, _LONG)
            fits = builder.fcmp_ordered("==", builder.sitofp(whole, _DOUBLE), scaled)
            # 0 for a value so small that it was lost is not that value.
            nothing = builder.fcmp_ordered("==", values, _all(_DOUBLE, 0.0))
            fits = builder.and_(fits, builder.or_(nothing, builder.icmp_signed("!=", whole, _all(_LONG, 0))))
            fits = builder.and_(builder.and_(fits, small), chosen)
            whole = builder.select(fits, whole, _all(_LONG, 0))
            totals = [builder.add(t, p) for t, p in zip(totals, _products(builder, whole), strict=True)]
            found = builder.zext(builder.bitcast(fits, ir.IntType(_LANES)), ir.IntType(64))
            taken = builder.or_(taken, builder.shl(found, ir.Constant(ir.IntType(64), _LANES * part)))
        for total, place in zip(totals, places, strict=True):
            builder.store(total, place, align=8)
        return taken

    return types.uint64(types.intp, types.uint64, like, types.float64, types.float64, types.intp), generate


def _add(address, word, like, windows, at):
    """Add up those of 64 values whose bits are set; return how many they are, and the window to begin with next.

    `windows` are the addresses of factors and sums, and their number.
    """


@overload(_add, inline="never", jit_options={"nogil": True})
def _add_either(address, word, like, windows, at):
    if isinstance(like, types.Float):

        def floats(address, word, like, windows, at):
            factors, sums, number = windows
            left, window = word, at
            while left and window < number:
                first, second = peek(factors + 16 * window, 0.0), peek(factors + 16 * window + 8, 0.0)
                left &= ~_window_64(address, left, like, first, second, sums + 512 * window)
                window += 1
            # What is left is larger than all that came before, or NaN or infinite.
            window = at - 1
            while left and window >= 0:
                first, second = peek(factors + 16 * window, 0.0), peek(factors + 16 * window + 8, 0.0)
                taken = _window_64(address, left, like, first, second, sums + 512 * window)
                left &= ~taken
                at = window if taken else at
                window -= 1
            return ones(word & ~left), at

        return floats

    def integers(address, word, like, windows, at):
        add_up_64(address, word, like, windows[1])
        return ones(word), at

    return integers


@jit
def sums_of_bits_2(image, like, rows, wide, first, last, factors, sums):
    """Add up the values of a region in some rows.

    Parameters
    ----------
    image : ndarray
        Voxels, flat, at least 64; not to be written.
    like : number
        A number of the type of the voxels.
    rows : Rows
        State of a flood.
    wide : int
        Voxels of a row.
    first, last : int
        Rows.
    factors : (windows, 2) ndarray of float64
        For each window, two powers of two, whose product makes what belongs to it whole; finer ones come later.
    sums : (windows, 8, 8) ndarray of int64
        Where to add: for whole numbers (one window) the sum, and of the squares, the sums of their upper and of their
        lower 32 bits, each spread over eight lanes.

    Returns
    -------
    int
        How many values were added.
    """
    count, at = 0, len(sums) - 1
    windows = factors.ctypes.data, sums.ctypes.data, len(sums)
    for row in range(first, last):
        if not peek(rows.state + row, _BYTE):
            continue
        for w in range(number_of(rows, row, OPENED), number_of(rows, row, OPENED + 1)):
            word = peek(bits_at(rows, row, DONE, w), _ZERO)
            if word:
                start = row * wide + 64 * w
                # The last 64 voxels of the image hold all that lies beyond.
                place = min(start, len(image) - 64)
                address = image.ctypes.data + place * image.itemsize
                more, at = _add(address, word << _U(start - place), like, windows, at)
                count += more
    return count


@jit
def sums_of_bytes_2(image, like, region, first, last, factors, sums):
    """Add up the values of a region, voxels `first` to `last`, both multiples of 64 but for the end of the image.

    Parameters
    ----------
    image, like, factors, sums
        As in `sums_of_bits_2`.
    region : ndarray of uint8
        1 in the region, flat; not to be written.
    first, last : int
        Voxels.

    Returns
    -------
    int
        How many values were added.
    """
    count, at = 0, len(sums) - 1
    windows = factors.ctypes.data, sums.ctypes.data, len(sums)
    for start in range(first, last, 64):
        place = min(start, len(image) - 64)
        word = between_64(region.ctypes.data + place, _BYTE, _BYTE) & (_ALL << _U(start - place))
        if word:
            more, at = _add(image.ctypes.data + place * image.itemsize, word, like, windows, at)
            count += more
    return count


class Sums(NamedTuple):
    """The compiled functions for one type of voxel."""

    of_bits: Callable
    of_bytes: Callable


def build(key: tuple[str]) -> Sums:
    """Compile for one type of voxel, such as ``("i2",)``."""
    image, region = np.zeros(64, key[0]), np.zeros(64, np.uint8)
    image.flags.writeable = region.flags.writeable = False
    state = np.zeros(1, np.uint8)
    rows = Rows(*[state.ctypes.data] * len(Rows._fields))
    like, factors, sums = image.dtype.type(1), np.ones((1, 2)), np.zeros((1, 8, 8), np.int64)
    sums_of_bits_2(image, like, rows, 64, 0, 1, factors, sums)
    sums_of_bytes_2(image, like, region, 0, 64, factors, sums)
    return Sums(sums_of_bits_2, sums_of_bytes_2)
