"""The first stage of the adaptive median: windows of 3 voxels a side, decided about by vectors in registers.

The idea
--------
A vector walks down the rows of a tile. In each row it takes the minimum and the maximum of the nine voxels (three
along x in three planes) that the row adds to a window, and keeps those of the last two rows in registers: three of
them make a window. The median is known; compared with it and with the voxel, the extremes say what the result is and
whether the window must grow. `adaptive.first_2` is the plain twin, which writes every pass to memory.

Cost
----
For a vector of voxels 20 minima and maxima, 7 steps to decide, 10 loads and 2 stores; a tenth of the minima and
maxima more, as columns are 16 rows high so that what they read stays in the nearest cache. A picture is read as three
planes that are the same one.

Limits
------
Rows must be as long as a vector at least.

Importing this module needs numba.
"""

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit
from .emit import Code

# Rows of a column.
_ROWS = 16


def _extremes(code: Code, start: ir.Value, plane: ir.Value) -> list[ir.Value]:
    """Return the smallest and the largest of what a row adds to the windows, and the voxels in the middle."""
    builder = code.builder
    starts = [builder.sub(start, plane), start, builder.add(start, plane)]
    found = [[code.load(at, shift * code.size) for shift in range(3)] for at in starts]
    values = [value for row in found for value in row]
    low, high = values[0], values[0]
    for value in values[1:]:
        low, high = code.pick("low", low, value), code.pick("high", high, value)
    return [low, high, found[1][1]]


@intrinsic
def _walk(typingctx, voxels, start, steps, targets, goals, rows, known):
    """Decide about the windows of a vector in some rows; return how many are still open.

    `start` is the address of the first voxel of the first window, in the plane in the middle, `steps` are the bytes
    from plane to plane and from row to row. `targets` are the addresses of the medians, the results and the marks of
    open voxels, `goals` the bytes from row to row of the first two and of the last. The first `known` voxels of the
    vector are not counted.
    """

    def write_code(context, builder, signature, arguments):
        code = Code(builder, voxels.dtype)
        word = ir.IntType(64)
        _, start, steps, targets, goals, rows, known = arguments
        (plane, row), (goal, mark_goal) = (cgutils.unpack_tuple(builder, pair) for pair in (steps, goals))
        middle, out, marks = cgutils.unpack_tuple(builder, targets)
        kept = [[cgutils.alloca_once(builder, code.vector) for _ in range(3)] for _ in range(2)]
        count = cgutils.alloca_once_value(builder, word(0))
        for i in range(2):
            for value, place in zip(
                _extremes(code, builder.add(start, builder.mul(row, word(i))), plane), kept[i], strict=True
            ):
                builder.store(value, place)
        with cgutils.for_range(builder, rows) as loop:
            below = builder.add(start, builder.mul(row, builder.add(loop.index, word(2))))
            new = _extremes(code, below, plane)
            old = [[builder.load(place) for place in places] for places in kept]
            low, high = (
                code.pick(kind, code.pick(kind, old[0][i], old[1][i]), new[i]) for i, kind in enumerate(("low", "high"))
            )
            centre, at = old[1][2], builder.mul(loop.index, goal)
            median = code.load(builder.add(middle, at), 0)
            passed = builder.and_(code.less(low, median), code.less(median, high))
            stays = builder.and_(passed, builder.and_(code.less(low, centre), code.less(centre, high)))
            code.store(builder.select(stays, centre, median), builder.add(out, at), 0)
            still = builder.not_(passed)
            bytes_ = ir.VectorType(ir.IntType(8), code.lanes)
            to = builder.add(marks, builder.mul(loop.index, mark_goal))
            builder.store(builder.zext(still, bytes_), builder.inttoptr(to, bytes_.as_pointer()), align=1)
            mask = ir.IntType(code.lanes)
            bits = builder.bitcast(still, mask)
            bits = bits if code.lanes == 64 else builder.zext(bits, word)
            found = builder.ctpop(builder.lshr(bits, known))
            builder.store(builder.add(builder.load(count), found), count)
            for value, place in zip([*old[1], *new], [*kept[0], *kept[1]], strict=True):
                builder.store(value, place)
        return builder.load(count)

    pair, three = types.UniTuple(types.intp, 2), types.UniTuple(types.intp, 3)
    return types.int64(voxels, types.intp, pair, three, pair, types.intp, types.intp), write_code


@jit
def first_windows_1(voxels, reach, middle, out, still_open, lanes):
    """Decide about windows of 3 voxels a side; return how many voxels are still open.

    Parameters
    ----------
    voxels, reach, middle, out, still_open
        As for `adaptive.first_2`; rows hold `lanes` windows at least.
    lanes : int
        Voxels in a vector.
    """
    depth, height, width = out.shape
    size = voxels.itemsize
    pitch, plane = voxels.shape[2] * size, voxels.shape[1] * voxels.shape[2] * size
    steps = plane if reach[0] else 0, pitch
    goals = width * size, width
    count = 0
    for z in range(depth):
        corner = voxels.ctypes.data + (z + reach[0]) * plane + (reach[1] - 1) * pitch + (reach[2] - 1) * size
        for y in range(0, height, _ROWS):
            rows = min(_ROWS, height - y)
            for begin in range(0, width, lanes):
                # The last vector of a row takes voxels of the one before it once more.
                x = min(begin, width - lanes)
                index = (z * height + y) * width + x
                at = index * size
                targets = middle.ctypes.data + at, out.ctypes.data + at, still_open.ctypes.data + index
                count += _walk(voxels, corner + y * pitch + x * size, steps, targets, goals, rows, begin - x)
    return count
