"""The median (or the value of any other rank) of windows of 3 x 3 voxels in planes, without a copy of the planes.

The idea
--------
The networks are those of `median`: the three voxels of each row of a window are sorted, the two rows that the windows
of two rows share are merged, what can be the median of neither is forgotten, and the rest is picked from that and the
row of each window's own. But for so few comparisons (17 for a vector of voxels) everything else counts: to copy a tile
with its surroundings, or sorted rows to memory and back, takes longer. Here the image itself is read, three vectors a
row, and one walk along the rows writes two rows of results: four rows are sorted for each two. Where a vector would
read beyond the end of a row, a column is copied with its border voxels first, and a vector walks down that with the
last two sorted rows in registers.

Types are worked on as they are, fractions too: a comparison of the first vector of a row with its last one tells
whether there is a NaN in either. So nothing is turned into whole numbers and back.

What it builds on: see `median`; the comparisons are the same.

How it differs from separable sorting networks
----------------------------------------------
As `median` does, whose words on US 11,756,175 hold here, too: voxels are sorted along rows only. Two whole rows are
merged, and what can be the value of neither of their two windows is forgotten, along that one axis. The result is
picked from two sorted lists. Nothing is merged along columns and then along rows, nothing is sorted along diagonals,
and no tile of windows shares more than these two rows.

Cost
----
For a vector of voxels 23 minima or maxima, 6 vectors read and one written; 20 and 4.5 in columns. Rows are walked
along in their order, as memory is read soonest from row to row, and voxels are asked for some rows before they are
wanted. Measured on one core for a stack of 8.4 M voxels, written to memory that is there already: 0.12 to 0.19 ns a
voxel of uint8, 0.27 to 0.32 of uint16, 0.7 to 0.8 of float32; 0.08, 0.17 and 0.5 while all stays in a core's cache.
OpenCV takes 0.11 to 0.24, 0.19 to 0.23 and 0.6, in one thread whatever the number of cores. So memory, not comparing,
is what is waited for: to copy uint16 takes 0.12. A result of 8 MB that is new costs as much again, since the system
hands its pages out one by one; so it does for whoever stacks the planes that OpenCV returns. In rows of 256 voxels of
uint8 half of the vectors touch a border.
For one small picture OpenCV stays ahead: it takes 0.02 ms for 256 x 256, where calls of Python functions take 0.09.

Limits
------
Voxels must lie one behind the other along the last axis of the image.

Importing this module needs numba.
"""

from collections.abc import Callable

import llvmlite.ir as ir
import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit
from .emit import Code, lanes, sizes_as_type, sizes_of
from .window_plan import Plan

# Rows of a plane that are done before the next ones.
_ROWS = 4
# How many rows before they are wanted lines of the cache are asked for: fetching them takes so long.
_AHEAD = 8
# How many voxels before they are wanted they are asked for along a row.
_FURTHER = 1024
# Bytes from row to row at which that is left to the processor: such rows would drive each other out of the cache.
_FAR = 4096


def _ask_for(builder: ir.IRBuilder, address: ir.Value, writing: int) -> None:
    """Ask for the line of the cache that holds an address, which may lie anywhere."""
    number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.inttoptr(address, pointer), number(writing), number(3), number(1)])


@intrinsic
def _walk(typingctx, sizes, voxels, rows, offset, target, step, pairs):
    """Find the values of a vector of windows in `pairs` pairs of rows; return whether there is a NaN, 0 if not.

    `rows` is the address of a table of the addresses of all rows, `offset` what must be added to these. The results
    go to the address `target`, and from row to row `step` bytes further.
    """

    def write_code(context, builder, signature, arguments):
        plan = Plan(**sizes_of(sizes.dtype))
        code = Code(builder, voxels.dtype)
        sort, select = plan.sort_run(), plan.select()
        _, _, table, offset, target, step, pairs = arguments
        word = ir.IntType(64)
        kept = [[cgutils.alloca_once(builder, code.vector) for _ in range(plan.run)] for _ in range(2)]
        nan = cgutils.alloca_once_value(builder, word(0))

        def sorted_row(index: ir.Value) -> list[ir.Value]:
            place = builder.inttoptr(builder.add(table, builder.mul(index, word(8))), word.as_pointer())
            start = builder.add(builder.load(place), offset)
            row = [code.load(start, i * code.size) for i in range(plan.x)]
            if code.is_float:
                builder.store(builder.or_(builder.load(nan), code.any_nan(row[0], row[-1])), nan)
            return code.run(sort, [row])[0]

        for i in range(2):
            for value, place in zip(sorted_row(word(i)), kept[i], strict=True):
                builder.store(value, place)
        with cgutils.for_range(builder, pairs) as loop:
            first = builder.mul(loop.index, word(2))
            new = [sorted_row(builder.add(first, word(i))) for i in (2, 3)]
            old = [[builder.load(place) for place in places] for places in kept]
            found = code.run(select, [old[1], new[0], old[0], new[1]])
            for i, (value,) in enumerate(found):
                code.store(
                    value,
                    builder.add(target, builder.mul(builder.add(first, word(i)), step)),
                    0,
                )
            for values, places in zip(new, kept, strict=True):
                for value, place in zip(values, places, strict=True):
                    builder.store(value, place)
        return builder.load(nan)

    return types.int64(sizes, voxels, types.intp, types.intp, types.intp, types.intp, types.intp), write_code


@intrinsic
def _along(typingctx, sizes, voxels, rows, offset, target, step, count):
    """Find the values of `count` vectors of windows along two rows, as `_walk` does down the rows."""

    def write_code(context, builder, signature, arguments):
        plan = Plan(**sizes_of(sizes.dtype))
        code = Code(builder, voxels.dtype)
        sort, select = plan.sort_run(), plan.select()
        _, _, table, offset, target, step, count = arguments
        word = ir.IntType(64)
        places = [builder.inttoptr(builder.add(table, word(i * 8)), word.as_pointer()) for i in range(4)]
        starts = [builder.add(builder.load(place), offset) for place in places]
        nan = cgutils.alloca_once(builder, word)
        builder.store(word(0), nan)
        with cgutils.for_range(builder, count) as loop:
            shift = builder.mul(loop.index, word(code.lanes * code.size))
            ordered = []
            for start in starts:
                row = [code.load(builder.add(start, shift), i * code.size) for i in range(plan.x)]
                if code.is_float:
                    builder.store(builder.or_(builder.load(nan), code.any_nan(row[0], row[-1])), nan)
                ordered += code.run(sort, [row])
            ahead = builder.add(shift, word(_FURTHER * code.size))
            for at, writing in ((starts[2], 0), (starts[3], 0), (target, 1), (builder.add(target, step), 1)):
                _ask_for(builder, builder.add(at, ahead), writing)
            found = code.run(select, [ordered[1], ordered[2], ordered[0], ordered[3]])
            for i, (value,) in enumerate(found):
                to = builder.add(target, builder.mul(step, word(i)))
                code.store(value, builder.add(to, shift), 0)
        return builder.load(nan)

    return types.int64(sizes, voxels, types.intp, types.intp, types.intp, types.intp, types.intp), write_code


@intrinsic
def _copy_vector(typingctx, voxels, target, source):
    """Copy a vector from one address to another; `voxels`: any array of their type."""

    def write_code(context, builder, signature, arguments):
        code = Code(builder, signature.args[0].dtype)
        code.store(code.load(arguments[2], 0), arguments[1], 0)
        return context.get_dummy_value()

    return types.void(voxels, types.intp, types.intp), write_code


@intrinsic
def _put(typingctx, voxels, target, source):
    """Copy a voxel from one address to another."""

    def write_code(context, builder, signature, arguments):
        kind = ir.IntType(signature.args[0].dtype.bitwidth).as_pointer()
        value = builder.load(builder.inttoptr(arguments[2], kind), align=1)
        builder.store(value, builder.inttoptr(arguments[1], kind), align=1)
        return context.get_dummy_value()

    return types.void(voxels, types.intp, types.intp), write_code


@intrinsic
def _prefetch(typingctx, address, writing):
    """Ask for the line of the cache that holds an address, which may lie anywhere, to be read or written."""

    def write_code(context, builder, signature, arguments):
        _ask_for(builder, arguments[0], int(signature.args[1].literal_value))
        return context.get_dummy_value()

    if not isinstance(writing, types.IntegerLiteral):
        return None
    return types.void(types.intp, writing), write_code


@numba.njit
def _copy_column(voxels, rows, copies, first, x, count, ends, zeros, lanes):
    """Copy a column with a voxel before and behind it, `count` wide in all rows of a table; write the table of these.

    `ends` are the places of the voxels that stand before and behind a row; -1 for a zero.
    """
    size = voxels.itemsize
    pitch = 3 * lanes * size
    before, behind = (
        x - 1 if x > 0 else ends[0],
        x + count if x + count < ends[2] else ends[1],
    )
    for i in range(len(rows)):
        to = first + i * pitch + lanes * size
        copies[i] = to - x * size
        if count == lanes:
            _copy_vector(voxels, to, rows[i] + x * size)
        else:
            # Whatever lies behind must not look like a NaN.
            for k in range(lanes + 1):
                _put(
                    voxels,
                    to + k * size,
                    rows[i] + (x + k) * size if k < count else zeros,
                )
        _put(voxels, to - size, rows[i] + before * size if before >= 0 else zeros)
        _put(voxels, to + count * size, rows[i] + behind * size if behind >= 0 else zeros)


@numba.njit(inline="always")
def _column(voxels, rows, offset, result, step, count, other, plan):
    """Work out `count` rows of a column, as `_walk` does pairs; `other` is an address that nobody needs."""
    pairs = count // 2
    nan = _walk(plan, voxels, rows.ctypes.data, offset, result, step, pairs)
    if count % 2:
        last = result + (count - 1) * step
        nan |= _walk(plan, voxels, rows.ctypes.data + pairs * 2 * rows.itemsize, offset, last, other - last, 1)
    return nan


@numba.njit
def _inner(count, x_first, width, lanes):
    """Return the first window and the one behind the last of the whole vectors of a row that need no border."""
    first = 0 if x_first else lanes
    return first, max(first, min(count, width - 1 - x_first) // lanes * lanes)


@jit
def squares_1(image, address, steps, row_from, ends, out, to, shape, x_first, room, plan, lanes):
    """Find the value of a rank in the windows of a block.

    Parameters
    ----------
    image : ndarray
        Any array of the type of the voxels.
    address : int
        Of the first voxel of the first row of the image's first plane that is looked at.
    steps : tuple of int
        Bytes from plane to plane and from row to row.
    row_from : ndarray of int64
        Which row of the plane each row of the block is, one more before it and one behind; -1 for zeros.
    ends : tuple of int
        Which voxel of a row stands before its first one and behind its last one, -1 for a zero; length of a row.
    out : ndarray
        Results, flat.
    to : tuple of int
        Index in `out` of the first result, and the steps to the next plane and row.
    shape : tuple of int
        Planes, rows and voxels of a row of the block.
    x_first : int
        First voxel of a row.
    room : ndarray
        Scratch memory, flat, as long as `build` says.
    plan : ndarray
        From `sizes_as_type`: the sizes 3, 1, 3 and the rank.
    lanes : int
        Voxels in a vector.

    Returns
    -------
    bool
        Whether a NaN was met: then the results are of no use.
    """
    size = image.itemsize
    zeros = room.ctypes.data
    for i in range(ends[2]):
        room[i] = image.dtype.type(0)
    spare = zeros + ends[2] * size
    copied = (spare + lanes * size * (_ROWS + 4)) // 64 * 64
    rows, copies = np.empty(_ROWS + 3, np.int64), np.empty(_ROWS + 3, np.int64)
    nan = 0
    for plane in range(shape[0]):
        for top in range(0, shape[1], _ROWS):
            count = min(_ROWS, shape[1] - top)
            for i in range(count + 2):
                at = row_from[top + i]
                rows[i] = address + plane * steps[0] + at * steps[1] if at >= 0 else zeros
            rows[count + 2] = rows[count + 1]
            done = _inner(shape[2], x_first, ends[2], lanes) if count % 2 == 0 else (0, 0)
            for y in range(0, count if done[0] < done[1] else 0, 2):
                result = out.ctypes.data + (to[0] + plane * to[1] + (top + y) * to[2] + done[0]) * size
                here = rows.ctypes.data + y * rows.itemsize
                left = (x_first + done[0] - 1) * size
                nan |= _along(plan, image, here, left, result, to[2] * size, (done[1] - done[0]) // lanes)
            for begin in range(0, shape[2], lanes):
                if done[0] <= begin < done[1]:
                    continue
                # The last vector of a row takes voxels of the one before it once more.
                start = max(0, min(begin, shape[2] - lanes))
                x = x_first + start
                table = rows
                if x == 0 or x + lanes >= ends[2]:
                    wide = min(lanes, ends[2] - x)
                    _copy_column(image, rows[: count + 3], copies, copied, x, wide, ends, zeros, lanes)
                    table = copies
                first = to[0] + plane * to[1] + top * to[2] + start
                if shape[2] >= lanes:
                    result, step = out.ctypes.data + first * size, to[2] * size
                else:
                    result, step = spare, lanes * size
                for i in range(count if steps[1] < _FAR else 0):
                    _prefetch(rows[i + 1] + x * size + _AHEAD * steps[1], 0)
                    _prefetch(result + (i + _AHEAD) * step, 1)
                other = spare + lanes * size * count
                nan |= _column(image, table, (x - 1) * size, result, step, count, other, plan)
                if result == spare:
                    for i in range(count):
                        goal = out.ctypes.data + (first + i * to[2]) * size
                        for k in range(shape[2]):
                            _put(image, goal + k * size, spare + (i * lanes + k) * size)
    return nan != 0


def build(key: tuple) -> Callable:
    """Compile a variant.

    Parameters
    ----------
    key : tuple
        Type of the voxels and rank, as in ``("f4", 4)``.

    Returns
    -------
    callable
        ``kernel(address, steps, row_from, ends, out, to, shape, x_first, room)``, as in `squares_1`;
        ``kernel.room`` is the length of the scratch memory but for a row.
    """
    code, rank = key
    dtype = np.dtype(code)
    count = lanes(dtype)
    as_type = sizes_as_type(z=3, y=1, x=3, rank=rank)
    one = np.zeros(1, dtype)

    def kernel(address, steps, row_from, ends, out, to, shape, x_first, room) -> bool:
        return squares_1(
            one,
            address,
            steps,
            row_from,
            ends,
            out,
            to,
            shape,
            x_first,
            room,
            as_type,
            count,
        )

    kernel.room = count * (_ROWS + 4 + 3 * (_ROWS + 3))
    tiny = (
        one.ctypes.data,
        (0, 0),
        np.zeros(3, np.int64),
        (0, 0, 1),
        one.copy(),
        (0, 1, 1),
        (1, 1, 1),
        0,
    )
    kernel(*tiny, np.empty(kernel.room + 1, dtype))
    return kernel
