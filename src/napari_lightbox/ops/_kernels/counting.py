"""Vectors of 64 counts, for compiled code: what `sliding` does to its histograms, in a few instructions each.

A *line* holds 64 numbers: how many voxels have a value up to the first, the second, ... the last one of 64. Such counts
are *cumulative*: a voxel more adds 1 to all of them from its own value on. So lines of several sets of voxels may be
added, and in which place the value of a rank stands is told by one comparison of all 64 numbers, without summing up.

LLVM splits vectors of 64 into those that the processor has. Importing this module needs numba.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LINE = 64
_WIDE = ir.VectorType(ir.IntType(16), LINE)


def steps(dtype: np.dtype) -> np.ndarray:
    """Return the lines that one voxel of each place adds to the counts, and behind them a line of zeros."""
    room = np.empty((LINE + 2) * LINE, dtype)
    # So that no line lies across two lines of the cache.
    lines = room[-room.ctypes.data % (LINE * room.itemsize) // room.itemsize :][: (LINE + 1) * LINE].reshape(-1, LINE)
    lines[...] = np.arange(LINE) >= np.arange(LINE + 1)[:, None]
    return lines


def _line(builder: ir.IRBuilder, address: ir.Value, vector: ir.VectorType) -> ir.Value:
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=1)


@intrinsic
def change(typingctx, counts, line, more, less):
    """Add the line at `more` to the one at `line`, subtract the one at `less`; `counts`: any array of their type."""

    def write_code(context, builder, signature, arguments):
        vector = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LINE)
        total, plus, minus = (_line(builder, address, vector) for address in arguments[1:])
        changed = builder.sub(builder.add(total, plus), minus)
        builder.store(changed, builder.inttoptr(arguments[1], vector.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(counts, types.intp, types.intp, types.intp), write_code


@intrinsic
def gather(typingctx, counts, total, more, less):
    """As `change`, but for a line of uint16 at `total`, to which lines of the type of `counts` are added."""

    def write_code(context, builder, signature, arguments):
        narrow = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), LINE)
        plus, minus = (_line(builder, address, narrow) for address in arguments[2:])
        if narrow != _WIDE:
            plus, minus = builder.zext(plus, _WIDE), builder.zext(minus, _WIDE)
        changed = builder.sub(builder.add(_line(builder, arguments[1], _WIDE), plus), minus)
        builder.store(changed, builder.inttoptr(arguments[1], _WIDE.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(counts, types.intp, types.intp, types.intp), write_code


@intrinsic
def place_of(typingctx, line, rank):
    """Return the first place of the line of uint16 at an address whose count is greater than `rank`."""

    def write_code(context, builder, signature, arguments):
        one = builder.trunc(arguments[1], ir.IntType(16))
        first = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LINE), None)
        ranks = builder.shuffle_vector(first, ir.Constant(_WIDE, ir.Undefined), zeros)
        greater = builder.icmp_unsigned(">", _line(builder, arguments[0], _WIDE), ranks)
        return builder.cttz(builder.bitcast(greater, ir.IntType(LINE)), ir.Constant(ir.IntType(1), 0))

    return types.int64(types.intp, types.int64), write_code


# Voxels whose places are looked at together.
INSIDE = 16


@intrinsic
def inside(typingctx, places, address, low, high, spare):
    """Say which of 16 voxels lie between two corners, a bit for each.

    A place is a number of 32 bits that is made of the indices along each axis; above each index is a bit to spare,
    `spare` has all of these. They are 1 after a subtraction of two places where no index had to borrow.
    """

    def write_code(context, builder, signature, arguments):
        word = ir.IntType(32)
        vector = ir.VectorType(word, INSIDE)

        def all_lanes(number):
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), builder.trunc(number, word), word(0))
            return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(vector, None))

        found = _line(builder, arguments[1], vector)
        least, most, mask = (all_lanes(number) for number in arguments[2:])
        above = builder.sub(builder.or_(found, mask), least)
        below = builder.sub(builder.or_(most, mask), found)
        both = builder.and_(builder.and_(above, below), mask)
        bits = builder.bitcast(builder.icmp_unsigned("==", both, mask), ir.IntType(INSIDE))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(places, types.intp, types.int64, types.int64, types.int64), write_code


@intrinsic
def ones(typingctx, bits):
    """Count the bits that are 1."""

    def write_code(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), write_code
