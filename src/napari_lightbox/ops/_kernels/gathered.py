"""Windows of scattered voxels, gathered so that each has a lane of a vector: for the adaptive median.

The idea
--------
After the first window few voxels of an image are open, here and there. To look at one of them for itself means short
loops over short rows, with vectors that are mostly empty. Here the windows of as many open voxels as a vector has
lanes are laid side by side, and all of them are decided about together, without a branch:

1. *Finding.* 64 marks are compared at once; the voxels that are open are the bits of a word.
2. *Gathering.* Of each row of each window 8 voxels are copied in one piece. That leaves a matrix of lanes by 8, which
   has to be turned: three times, what is at even places is put before what is at odd ones.
3. *Deciding.* The smallest and the largest voxel of each window, and how often each occurs: where that is more than
   half of the window, its median is an extreme.
4. *The median,* where the voxel in the middle is an extreme: the range of values is halved, and the voxels in the lower
   half are counted, until each lane knows its value. For squares of 5 x 5, by far the most frequent, a network finds
   median and extremes sooner.

Voxels of 8 bits are copied as 16, so that a lane can count.

What it builds on
-----------------
Turning a matrix by perfect shuffles: H. S. Stone, Parallel processing with the perfect shuffle, IEEE Trans. Computers
20, 1971. The network forgets what cannot be the median, as in A. W. Paeth, Graphics Gems, 1990: voxels are sorted 8 at
a time in the order in which they lie, whatever row or column of the window they are from.

Cost
----
For a row of a window a load and a store, and for those of all lanes together 24 shuffles; then 6 instructions for each
voxel, and 2 more each time that the range is halved, or 186 for 5 x 5 in all.
Measured for int16 on one core: 10 ns an open voxel with a window of 5 x 5, where one voxel after the other takes
130; 80 to 100 ns with one of 5 x 5 x 5.

Importing this module needs numba.
"""

from collections.abc import Callable

import llvmlite.ir as ir
import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit
from .bits import between_64, lowest, ones
from .emit import Code
from .networks import median_and_extremes

# Voxels of a row that are copied in one piece.
PIECE = 8
# Voxels of the windows that have a network.
_SQUARE = 25
# Marks that are compared at once, and open voxels in a word for which there is no loop.
_WORD, _USUAL = 64, 4


class _Windows:
    """The code that looks at a vector of windows which lie side by side in memory.

    Parameters
    ----------
    code : Code
        For the type of the voxels.
    start, total : Value
        Address of the first voxel of each, and voxels of a window.
    """

    def __init__(self, code: Code, start: ir.Value, total: ir.Value) -> None:
        self.code, self.builder, self.start, self.total = code, code.builder, start, total
        self.zero = ir.Constant(code.vector, None)

    def splat(self, value: ir.Value) -> ir.Value:
        """Put a number into all lanes."""
        nothing, numbers = ir.Constant(self.code.vector, ir.Undefined), ir.IntType(32)
        one = self.builder.insert_element(nothing, value, numbers(0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(numbers, self.code.lanes), None))

    def at(self, index: ir.Value) -> ir.Value:
        """Return the voxels of all windows at a place."""
        vector = index.type(self.code.lanes * self.code.size)
        return self.code.load(self.builder.add(self.start, self.builder.mul(index, vector)), 0)

    def fold(self, begin: list[ir.Value], step: Callable) -> list[ir.Value]:
        """Go through the voxels; `step` makes new values of the old ones and a voxel."""
        kept = [cgutils.alloca_once(self.builder, value.type) for value in begin]
        self.put(begin, kept)
        with cgutils.for_range(self.builder, self.total) as loop:
            self.put(step([self.builder.load(place) for place in kept], self.at(loop.index)), kept)
        return [self.builder.load(place) for place in kept]

    def put(self, values: list[ir.Value], places: list[ir.Value]) -> None:
        """Store some values."""
        for value, place in zip(values, places, strict=True):
            self.builder.store(value, place)

    def counted(self, count: ir.Value, flags: ir.Value) -> ir.Value:
        """Add one where a flag is set."""
        # A flag is -1 as a signed number.
        return self.builder.sub(count, self.builder.sext(flags, self.code.vector))

    def extremes(self) -> list[ir.Value]:
        """Return the smallest and the largest voxels, and how often these occur."""
        pick, equal = self.code.pick, self.builder.icmp_signed
        first = self.at(self.total.type(0))
        low, high = self.fold([first] * 2, lambda old, new: [pick("low", old[0], new), pick("high", old[1], new)])

        def step(old: list[ir.Value], new: ir.Value) -> list[ir.Value]:
            return [self.counted(o, equal("==", new, value)) for o, value in zip(old, (low, high), strict=True)]

        return [low, high, *self.fold([self.zero] * 2, step)]

    def medians(self, least: ir.Value, most: ir.Value, half: ir.Value) -> ir.Value:
        """Return the medians, which lie from `least` to `most`; where `most` is not more, `least`."""
        builder, code, one = self.builder, self.code, self.splat(self.code.vector.element(1))
        places = [cgutils.alloca_once(builder, code.vector) for _ in range(2)]
        self.put([least, most], places)
        again, body, end = (builder.append_basic_block(name) for name in ("again", "body", "end"))
        builder.branch(again)
        builder.position_at_end(again)
        least, most = (builder.load(place) for place in places)
        unsure = code.less(least, most)
        bits = builder.bitcast(unsure, ir.IntType(code.lanes))
        builder.cbranch(builder.icmp_unsigned("!=", bits, bits.type(0)), body, end)
        builder.position_at_end(body)
        limit = builder.add(builder.and_(least, most), builder.ashr(builder.xor(least, most), one))
        (found,) = self.fold([self.zero], lambda old, new: [self.counted(old[0], builder.not_(code.less(limit, new)))])
        lower = code.less(half, found)
        raised = builder.select(builder.and_(unsure, builder.not_(lower)), builder.add(limit, one), least)
        self.put([raised, builder.select(builder.and_(unsure, lower), limit, most)], places)
        builder.branch(again)
        builder.position_at_end(end)
        return builder.load(places[0])


def _by_counting(windows: _Windows, centre: ir.Value) -> tuple[ir.Value, ...]:
    """Return the results of windows of any size, and which of them are stuck."""
    builder, code = windows.builder, windows.code
    one, half = windows.splat(code.vector.element(1)), builder.lshr(windows.total, windows.total.type(1))
    half = windows.splat(half if code.size == 8 else builder.trunc(half, code.vector.element))
    low, high, low_count, high_count = windows.extremes()
    stuck_low, stuck_high = code.less(half, low_count), code.less(half, high_count)
    stuck = builder.or_(stuck_low, stuck_high)
    stays = builder.and_(code.less(low, centre), code.less(centre, high))
    least = builder.add(low, one)
    most = builder.select(builder.or_(stuck, stays), least, builder.sub(high, one))
    median = builder.select(stays, centre, windows.medians(least, most, half))
    return builder.select(stuck_low, low, builder.select(stuck_high, high, median)), stuck


def _by_network(windows: _Windows, centre: ir.Value) -> tuple[ir.Value, ...]:
    """Return the results of squares, and which of them are stuck."""
    builder, code, word = windows.builder, windows.code, ir.IntType(64)
    voxels = [windows.at(word(i)) for i in range(_SQUARE)]
    ((low, median, high),) = code.run(median_and_extremes(_SQUARE), [voxels])
    passed = builder.and_(code.less(low, median), code.less(median, high))
    stays = builder.and_(passed, builder.and_(code.less(low, centre), code.less(centre, high)))
    return builder.select(stays, centre, median), builder.not_(passed)


@intrinsic
def _decide(typingctx, like, start, total, target):
    """Decide about a vector of windows; return as bits which of them are stuck, their median being an extreme.

    `start` is the address of the first voxel of each, `total` says how many each has. To the address `target` goes a
    vector of results: the median, or the voxel in the middle where that one stays. `like`: any array of their type.
    """

    def write_code(context, builder, signature, arguments):
        code = Code(builder, like.dtype)
        _, start, total, target = arguments
        windows, flags = _Windows(code, start, total), ir.VectorType(ir.IntType(1), code.lanes)
        centre = windows.at(builder.lshr(total, total.type(1)))
        places = [cgutils.alloca_once(builder, kind) for kind in (code.vector, flags)]
        with builder.if_else(builder.icmp_unsigned("==", total, total.type(_SQUARE))) as (squares, others):
            with squares:
                windows.put(_by_network(windows, centre), places)
            with others:
                windows.put(_by_counting(windows, centre), places)
        code.store(builder.load(places[0]), target, 0)
        bits = builder.bitcast(builder.load(places[1]), ir.IntType(code.lanes))
        return bits if code.lanes == 64 else builder.zext(bits, ir.IntType(64))

    return types.uint64(like, types.intp, types.intp, types.intp), write_code


@intrinsic
def _copy_piece(typingctx, voxels, wide, source, target):
    """Copy 8 voxels; `voxels` and `wide`: any arrays of the types that they have at the one address and the other."""

    def write_code(context, builder, signature, arguments):
        here, there = (ir.VectorType(ir.IntType(a.dtype.bitwidth), PIECE) for a in (voxels, wide))
        _, _, source, target = arguments
        values = builder.load(builder.inttoptr(source, here.as_pointer()), align=1)
        values = values if here == there else builder.zext(values, there)
        builder.store(values, builder.inttoptr(target, there.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(voxels, wide, types.intp, types.intp), write_code


@intrinsic
def _turn(typingctx, like, source, target):
    """Turn a matrix of lanes by 8 into one of 8 by lanes; `like`: any array of the type of its entries."""

    def write_code(context, builder, signature, arguments):
        code = Code(builder, like.dtype)
        _, source, target = arguments
        size = code.lanes * code.size
        rows = [code.load(source, i * size) for i in range(PIECE)]
        parts = [
            ir.Constant(ir.VectorType(ir.IntType(32), code.lanes), list(range(odd, 2 * code.lanes, 2)))
            for odd in (0, 1)
        ]
        for _ in range(PIECE.bit_length() - 1):
            pairs = list(zip(rows[::2], rows[1::2], strict=True))
            rows = [builder.shuffle_vector(*pair, part) for part in parts for pair in pairs]
        for i, row in enumerate(rows):
            code.store(row, target, i * size)
        return context.get_dummy_value()

    return types.void(like, types.intp, types.intp), write_code


@numba.njit
def _lay_side_by_side(voxels, sources, steps, sizes, matrix, windows):
    """Lay the windows that begin at some addresses side by side."""
    vector, wide = windows.shape[1] * windows.itemsize, PIECE * windows.itemsize
    to = windows.ctypes.data
    for dz in range(sizes[0]):
        for dy in range(sizes[1]):
            for dx in range(0, sizes[1], PIECE):
                offset = dz * steps[0] + dy * steps[1] + dx * voxels.itemsize
                for lane in range(windows.shape[1]):
                    _copy_piece(voxels, windows, sources[lane] + offset, matrix.ctypes.data + lane * wide)
                # What is turned beyond the end of the row is written over by the next piece.
                _turn(windows, matrix.ctypes.data, to)
                to += min(PIECE, sizes[1] - dx) * vector


@numba.njit
def _hand_out(windows, total, places, count, out, still_open):
    """Decide about the first windows of a vector; hand the results out to their places, return how many are open."""
    results = windows[total]
    stuck = _decide(windows, windows.ctypes.data, total, results.ctypes.data)
    for lane in range(count):
        out[places[lane]] = results[lane]
        still_open[places[lane]] = stuck >> np.uint64(lane) & np.uint64(1)
    return ones(stuck & (np.uint64(2) << np.uint64(count - 1)) - np.uint64(1))


@numba.njit
def _find(bits, places, sources, count, first, start, item):
    """Add the voxels whose bits are set to those that wait; return how many do."""
    total = count + ones(bits)
    if total - count <= _USUAL:
        # Always as many, as nobody could foresee how many there are; what is too much is written over.
        for i in range(_USUAL):
            at = lowest(bits | np.uint64(1 << 63))
            places[count + i], sources[count + i] = first + at, start + at * item
            bits &= bits - np.uint64(1)
        return total
    while bits:
        at = lowest(bits)
        places[count], sources[count] = first + at, start + at * item
        bits &= bits - np.uint64(1)
        count += 1
    return count


@jit
def gathered_1(voxels, reach, size, mark, out, still_open, room):
    """Decide about larger windows of the voxels with a mark; return how many of them are open after that.

    Parameters
    ----------
    voxels, reach, out
        As for `adaptive.first_2`; contiguous. Behind the last of `voxels`, 7 more are read, and count nothing. Voxels
        whose windows must grow get the median, an extreme.
    size : int
        Width of the windows.
    mark : int
        Which voxels of `still_open` are looked at.
    still_open : ndarray of uint8
        Flat, 64 longer than `out`; after it, voxels looked at have 1 if they are open, 0 if not.
    room : (size ** axes + 16 or more, lanes) ndarray
        Scratch memory for a vector of windows: of the type of the voxels, but int16 for uint8.
    """
    depth, height, width = out.shape
    lanes, item, pitch = room.shape[1], voxels.itemsize, voxels.shape[2] * voxels.itemsize
    matrix, windows = room[:PIECE], room[PIECE:]
    steps = voxels.shape[1] * pitch, pitch
    sizes = size if reach[0] else 1, size
    total = sizes[0] * size * size
    corner = voxels.ctypes.data + (reach[0] - sizes[0] // 2) * steps[0]
    corner += (reach[1] - size // 2) * pitch + (reach[2] - size // 2) * item
    results, wanted = out.reshape(-1), np.uint8(mark)
    places, sources = np.empty(lanes + _WORD, np.int64), np.empty(lanes + _WORD, np.int64)
    waiting, count = 0, 0
    for z in range(depth):
        for y in range(height):
            start, first = corner + z * steps[0] + y * pitch, (z * height + y) * width
            for x in range(0, width, _WORD):
                bits = between_64(still_open.ctypes.data + first + x, wanted, wanted)
                if width - x < _WORD:
                    bits &= (np.uint64(1) << np.uint64(width - x)) - np.uint64(1)
                if bits == 0:
                    continue
                waiting = _find(bits, places, sources, waiting, first + x, start + x * item, item)
                while waiting >= lanes:
                    _lay_side_by_side(voxels, sources, steps, sizes, matrix, windows)
                    count += _hand_out(windows, total, places, lanes, results, still_open)
                    waiting -= lanes
                    for i in range(waiting):
                        places[i], sources[i] = places[lanes + i], sources[lanes + i]
    if waiting:
        # All lanes need a window to read, whoever it belongs to.
        for i in range(waiting, lanes):
            sources[i] = sources[0]
        _lay_side_by_side(voxels, sources, steps, sizes, matrix, windows)
        count += _hand_out(windows, total, places, waiting, results, still_open)
    return count
