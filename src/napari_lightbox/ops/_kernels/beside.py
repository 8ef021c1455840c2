"""16 points, or 16 boxes, at once: compared with one point or one box by vector instructions.

Explicit vectors of LLVM: a compiler that has to find out by itself that 16 lanes may be worked on side by side takes
twice the time here. Distances have not a digit else than those that numpy has: no product is added without rounding.

Importing this module needs numba. What is changed here changes the kernels that use it: their numbers (in `surface`)
must be changed with it, as compiled code is kept on disk under their names.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

#: Points, or boxes, that are compared at once.
LANES = 16
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


def _load(builder, address, row):
    place = builder.add(address, ir.Constant(address.type, row * LANES * 8))
    values = builder.load(builder.inttoptr(place, _DOUBLES.as_pointer()))
    values.align = 8
    return values


def _store(builder, values, address):
    builder.store(values, builder.inttoptr(address, _DOUBLES.as_pointer())).align = 8


def _splat(builder, value):
    nothing, numbers = ir.Constant(_DOUBLES, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, value, ir.Constant(numbers, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(numbers, LANES), [0] * LANES))


def _squared(builder, gaps, spacing):
    """Return the sums of squares of gaps along z, y and x, in mm; not a digit else than numpy has."""
    total = None
    for gap, step in zip(gaps, cgutils.unpack_tuple(builder, spacing), strict=True):
        gap = builder.fmul(gap, _splat(builder, step))
        square = builder.fmul(gap, gap)
        total = square if total is None else builder.fadd(total, square)
    return total


def _least(builder, first, second):
    return builder.select(builder.fcmp_ordered("<", first, second), first, second)


@intrinsic
def meet(typing, group, best, z, y, x, spacing):
    """Compare a point with 16: `group` is the address of their z, y and x, `best` that of their least squares."""

    def generate(context, builder, signature, arguments):
        group, best, *point, spacing = arguments
        gaps = [builder.fsub(_splat(builder, place), _load(builder, group, row)) for row, place in enumerate(point)]
        found = _squared(builder, gaps, spacing)
        _store(builder, _least(builder, found, _load(builder, best, 0)), best)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, *3 * (types.float64,), spacing), generate


@intrinsic
def reached(typing, lows, highs, limits, box, spacing):
    """Return a bit for each of 16 boxes: whether it lies nearer to another box than its limit, a square.

    `lows` and `highs` are the addresses of their smallest and largest z, y and x, `limits` that of their limits.
    """

    def generate(context, builder, signature, arguments):
        lows, highs, limits, box, spacing = arguments
        sides = cgutils.unpack_tuple(builder, box)
        nothing, gaps = ir.Constant(_DOUBLES, [0.0] * LANES), []
        for row in range(3):
            before = builder.fsub(_load(builder, lows, row), _splat(builder, sides[3 + row]))
            after = builder.fsub(_splat(builder, sides[row]), _load(builder, highs, row))
            gap = builder.select(builder.fcmp_ordered(">", before, after), before, after)
            gaps.append(builder.select(builder.fcmp_ordered(">", gap, nothing), gap, nothing))
        nearer = builder.fcmp_ordered("<", _squared(builder, gaps, spacing), _load(builder, limits, 0))
        return builder.zext(builder.bitcast(nearer, ir.IntType(LANES)), ir.IntType(64))

    address = types.intp
    return types.uint64(address, address, address, box, spacing), generate


@intrinsic
def spread_largest(typing, values, out):
    """Write the largest of 16 values, 16 times."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(_DOUBLES.element, [_DOUBLES])
        largest = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fmax.v{LANES}f64")
        _store(builder, _splat(builder, builder.call(largest, [_load(builder, arguments[0], 0)])), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate
