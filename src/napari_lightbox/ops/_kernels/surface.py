"""Points of surfaces, and for each the distance to the nearest point of another surface: exact, and without a map.

The idea
    Surfaces are found in bits, 64 voxels by a few operations, and never stored as such: of two walks over the bits of
    a mask, which count and place what lies on the surface, each works it out anew. Its points are sorted by counting
    into cells, cubes of some 6 voxels, and 4 x 4 x 4 cells are a block; tight boxes lie around both. A point is kept
    as its place in the box of its cell, in a word of 32 bits.

    A block of the one surface is compared with all blocks of the other: the nearest point of none of its points can
    lie in a block that is farther from all of it than another block's far end; nor in such a cell. What is left, some
    hundred cells, serves all points of the block, 16 at a time. First comes the cell that held what was nearest to the
    last 16; then all cells that are nearer to their box than the worst of them has found, and nearer to one of them
    than that one has found. All points of such a cell are compared with all 16 at once.

    Far surfaces are hardly harder than near ones: a distance decides which cells are looked into, not how many.

    What is found is lowered, not written: points may be looked for in one part of a surface after the other, and what
    an earlier part has is the bound with which a later one begins.

What it follows
    Branch and bound over boxes, as in J. H. Friedman, J. L. Bentley and R. A. Finkel, An algorithm for finding best
    matches in logarithmic expected time, ACM TOMS 3, 1977, with one list of boxes for many questions, as in A. G. Gray
    and A. W. Moore, N-body problems in statistical learning, NIPS 2000 (dual trees).

Cost
    Some 2 ns for each pair of blocks and each word of bits that is not 0, and 100 to 300 ns for each point.

Limits
    Cells have up to 1023 voxels along an axis, and images up to 2^24. Room: 8 bytes a point and 8 for its distance, 4
    bytes for each cell of the image, and some 60 for each cell that has points. In each thread some 100 kB, and 24
    bytes for each block that has points.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np

from ._jit import jit
from .beside import LANES, meet, reached, spread_largest
from .bits import lowest, ones
from .skin import mark_1, on_surface, pack_2, skin_1

_ZERO, _ONE = np.uint64(0), np.uint64(1)
# Where the place of a point along z and y begins in its word; the highest bits say that both surfaces have it.
_AT_Z, _AT_Y, _PLACE = np.uint32(20), np.uint32(10), np.uint32(1023)
_SHARED = np.uint32(30)
# Cells that are looked into before others are chosen; a block has 64.
CHOSEN = 1 << 11


class Cells(NamedTuple):
    """The points of a surface, in cells, and those in blocks.

    Parameters
    ----------
    points : (n,) ndarray of uint32
        Places in the boxes of their cells; bit 30 is set where the other surface has the point, too.
    order : (n,) ndarray of int32
        Number of each point in array order among those that the other surface has not.
    starts : (cells + 1,) ndarray of int32
        First point of each cell, and the end.
    firsts : (blocks + 1,) ndarray of int32
        First cell of each block, and the end.
    boxes, blocks : (6, cells) and (6, blocks) ndarray of float32
        Boxes of cells and of blocks: smallest, then largest (z, y, x).
    """

    points: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray
    boxes: np.ndarray
    blocks: np.ndarray


# Points into cells -------------------------------------------------------------------------------------------------


@jit
def tally_1(bits, other, axes, numbers, counts):
    """Count the points of a surface.

    Parameters
    ----------
    bits, other : (z, y, words) ndarray of uint64
        Mask, and the mask with which it shares points.
    axes : {0, 2, 3}
        Along how many axes there are neighbours; 0 where the bits are the surface.
    numbers : tuple of ndarray of int64
        What each z, y and x adds to the number of a cell. 64 neighbouring numbers are a block.
    counts : ndarray of int32
        Becomes the points of each cell.

    Returns
    -------
    tuple of int
        Points, how many of them are shared, and cells that have any.
    """
    of_z, of_y, of_x = numbers
    points = shared = cells = 0
    for z in range(bits.shape[0]):
        for y in range(bits.shape[1]):
            for w in range(bits.shape[2]):
                # Most words are: they must cost nothing.
                if bits[z, y, w] == _ZERO:
                    continue
                word = on_surface(bits, axes, z, y, w)
                points += ones(word)
                shared += ones(word & on_surface(other, axes, z, y, w))
                while word != _ZERO:
                    cell = of_z[z] + of_y[y] + of_x[64 * w + lowest(word)]
                    cells += counts[cell] == 0
                    counts[cell] += 1
                    word &= word - _ONE
    return points, shared, cells


@jit
def part_1(counts, starts, firsts, cells):
    """Turn the counts of all cells into where each begins; write the same for those that have points, and the numbers.

    Return how many blocks there are.
    """
    cell = block = total = 0
    for number in range(len(counts)):
        if number & 63 == 0:
            firsts[block] = cell
        count = counts[number]
        counts[number] = total
        if count:
            starts[cell], cells[cell] = total, number
            total += count
            cell += 1
        if number & 63 == 63:
            block += cell > firsts[block]
    starts[cell] = total
    firsts[block] = cell
    return block


@jit
def place_1(bits, other, axes, numbers, inside, begins, points, order):
    """Write the points of a surface, sorted by cells.

    Parameters
    ----------
    bits, other, axes, numbers
        As in `tally_1`.
    inside : tuple of ndarray of uint32
        What each z, y and x adds to the word of a point, whose place is that in its cell.
    begins : ndarray of int32
        Where each cell begins; becomes where it ends.
    points, order : ndarray
        As in `Cells`.
    """
    of_z, of_y, of_x = numbers
    in_z, in_y, in_x = inside
    rank = 0
    for z in range(bits.shape[0]):
        for y in range(bits.shape[1]):
            for w in range(bits.shape[2]):
                # Most words are: they must cost nothing.
                if bits[z, y, w] == _ZERO:
                    continue
                word = on_surface(bits, axes, z, y, w)
                both = word & on_surface(other, axes, z, y, w)
                while word != _ZERO:
                    bit = lowest(word)
                    shared = both >> np.uint64(bit) & _ONE
                    x = 64 * w + bit
                    cell = of_z[z] + of_y[y] + of_x[x]
                    points[begins[cell]] = in_z[z] | in_y[y] | in_x[x] | np.uint32(shared << np.uint64(_SHARED))
                    order[begins[cell]] = rank
                    begins[cell] += 1
                    rank += shared == _ZERO
                    word &= word - _ONE


@jit
def boxes_3(cells, size, found):
    """Write the boxes of cells and of blocks, and turn the places of points to those in their boxes.

    Parameters
    ----------
    cells : (n, 3) ndarray of int32
        Where along z, y and x each cell lies, in cells.
    size : tuple of int
        Voxels of a cell along each axis.
    found : Cells
        With points whose places are those in their cells.
    """
    for block in range(found.blocks.shape[1]):
        for cell in range(found.firsts[block], found.firsts[block + 1]):
            z0 = y0 = x0 = _PLACE
            z1 = y1 = x1 = np.uint32(0)
            for j in range(found.starts[cell], found.starts[cell + 1]):
                z, y, x = _place(found.points[j])
                z0, y0, x0 = min(z0, z), min(y0, y), min(x0, x)
                z1, y1, x1 = max(z1, z), max(y1, y), max(x1, x)
            for j in range(found.starts[cell], found.starts[cell + 1]):
                found.points[j] -= z0 << _AT_Z | y0 << _AT_Y | x0
            for axis, low, high in ((0, z0, z1), (1, y0, y1), (2, x0, x1)):
                begin = np.int64(cells[cell, axis]) * size[axis]
                found.boxes[axis, cell], found.boxes[3 + axis, cell] = begin + low, begin + high
        first, end = found.firsts[block], found.firsts[block + 1]
        for axis in range(3):
            found.blocks[axis, block] = found.boxes[axis, first:end].min()
            found.blocks[3 + axis, block] = found.boxes[3 + axis, first:end].max()


@numba.njit(forceinline=True)
def _place(point):
    return point >> _AT_Z & _PLACE, point >> _AT_Y & _PLACE, point & _PLACE


# The nearest -------------------------------------------------------------------------------------------------------


@numba.njit(forceinline=True)
def _larger(first, second):
    return first if first > second else second


@numba.njit(forceinline=True)
def _bounds(low, high, other_low, other_high, step):
    """Return the squares of the least and of the greatest distance that points of two stretches of an axis may have."""
    near = _larger(_larger(other_low - high, low - other_high), 0.0) * step
    far = _larger(high - other_low, other_high - low) * step
    return near * near, far * far


@jit(fastmath={"nnan", "nsz"})
def _compare_2(box, boxes, first, last, spacing, near, far):
    """Write the squares of how far a box lies from some others at least, and their points from each other at most."""
    lows, highs = (boxes[0], boxes[1], boxes[2]), (boxes[3], boxes[4], boxes[5])
    for k in range(last - first):
        n = first + k
        near_z, far_z = _bounds(box[0], box[3], lows[0][n], highs[0][n], spacing[0])
        near_y, far_y = _bounds(box[1], box[4], lows[1][n], highs[1][n], spacing[1])
        near_x, far_x = _bounds(box[2], box[5], lows[2][n], highs[2][n], spacing[2])
        near[k] = near_z + near_y + near_x
        far[k] = far_z + far_y + far_x


@jit
def _close_1(box, others, spacing, most, near, far):
    """Return the blocks in which what is nearest to points of a box may lie, and the square of how far that is at most.

    What is farther than the square `most` does not count.
    """
    blocks = others.blocks.shape[1]
    _compare_2(box, others.blocks, 0, blocks, spacing, near, far)
    bound = min(most, far[:blocks].min())
    # The cells of the nearest block tell more of how far it is at most.
    first = np.argmin(near[:blocks])
    close = np.flatnonzero(near[:blocks] <= bound)
    begin, end = others.firsts[first], others.firsts[first + 1]
    _compare_2(box, others.boxes, begin, end, spacing, near, far)
    return close, min(bound, far[: end - begin].min())


@jit
def _choose_2(box, others, spacing, close, n, bound, near, far, cells, chosen):
    """Write the numbers of cells in which what is nearest to points of a box may lie, and their boxes.

    From block `n` of those that are close on, until there is no more room. `chosen` has 16 boxes in a row of six;
    behind the last come such that nothing reaches. Returns how many there are, which is the nearest, the block to go
    on with, and the bound, a square.
    """
    least, count, hint = np.inf, 0, 0
    while n < len(close) and count + 64 <= len(cells):
        begin, end = others.firsts[close[n]], others.firsts[close[n] + 1]
        n += 1
        _compare_2(box, others.boxes, begin, end, spacing, near, far)
        bound = min(bound, far[: end - begin].min())
        for k in range(end - begin):
            if near[k] <= bound:
                if near[k] < least:
                    least, hint = near[k], count
                cells[count] = begin + k
                for side in range(6):
                    chosen[count // LANES, side, count % LANES] = others.boxes[side, begin + k]
                count += 1
    for lane in range(count, -(-count // LANES) * LANES):
        chosen[lane // LANES, :, lane % LANES] = np.inf
    return count, hint, n, bound


@numba.njit(forceinline=True)
def _scan(others, cell, spacing, group, best):
    """Compare the points of a cell with 16."""
    low_z, low_y, low_x = others.boxes[0, cell], others.boxes[1, cell], others.boxes[2, cell]
    for j in range(others.starts[cell], others.starts[cell + 1]):
        z, y, x = _place(others.points[j])
        # Signed: there is an instruction for that.
        z, y, x = low_z + np.int32(z), low_y + np.int32(y), low_x + np.int32(x)
        meet(group, best, z, y, x, spacing)


@numba.njit
def _search(others, cells, chosen, count, hint, box, spacing, group):
    """Find the least squares of 16 points, and return which of the chosen cells held one of the last.

    `group` has their z, y and x, their least squares so far, and room for the largest of these, 16 times.
    """
    points, best, limits = group[0].ctypes.data, group[3].ctypes.data, group[4].ctypes.data
    _scan(others, cells[hint], spacing, points, best)
    spread_largest(best, limits)
    latest = hint
    for row in range(-(-count // LANES)):
        near = reached(chosen[row, 0].ctypes.data, chosen[row, 3].ctypes.data, limits, box, spacing)
        while near != _ZERO:
            lane = lowest(near)
            near &= near - _ONE
            n, lanes = row * LANES + lane, chosen[row]
            sides = (lanes[0, lane], lanes[1, lane], lanes[2, lane], lanes[3, lane], lanes[4, lane], lanes[5, lane])
            if n != hint and reached(points, points, best, sides, spacing) != _ZERO:
                before = group[3, 0]
                _scan(others, cells[n], spacing, points, best)
                spread_largest(best, limits)
                latest = n if group[3, 0] < before else latest
    return latest


@numba.njit
def _gather(found, j, cell, end, squares, group, ranks):
    """Fill 16 lanes with the next points that are not shared; return how many, the next point and its cell."""
    lanes = 0
    while j < end and lanes < LANES:
        while j >= found.starts[cell + 1]:
            cell += 1
        if found.points[j] >> _SHARED == 0:
            z, y, x = _place(found.points[j])
            group[0, lanes] = found.boxes[0, cell] + np.int32(z)
            group[1, lanes] = found.boxes[1, cell] + np.int32(y)
            group[2, lanes] = found.boxes[2, cell] + np.int32(x)
            ranks[lanes] = found.order[j]
            group[3, lanes] = squares[ranks[lanes]]
            lanes += 1
        j += 1
    if lanes:
        for q in range(lanes, LANES):
            group[0, q], group[1, q], group[2, q], group[3, q] = group[0, 0], group[1, 0], group[2, 0], group[3, 0]
    return lanes, j, cell


@numba.njit(forceinline=True)
def _around(values):
    low = high = values[0]
    for q in range(1, LANES):
        low = values[q] if values[q] < low else low
        high = values[q] if values[q] > high else high
    return low, high


@numba.njit
def _worst(found, block, squares):
    """Return the largest square of the points of a block that are not shared; -1 where there are none."""
    most = -1.0
    for j in range(found.starts[found.firsts[block]], found.starts[found.firsts[block + 1]]):
        if found.points[j] >> _SHARED == 0:
            most = _larger(most, squares[found.order[j]])
    return most


@numba.njit
def _all(others):
    """Return the box around all points, (6, 1)."""
    box = np.empty((6, 1), np.float32)
    for axis in range(3):
        box[axis], box[3 + axis] = others.blocks[axis].min(), others.blocks[3 + axis].max()
    return box


@jit
def nearest_3(found, others, spacing, first, last, bounded, squares):
    """Lower the squares of points of blocks `first` to `last` that are not shared to those of the nearest of others.

    Parameters
    ----------
    found, others : Cells
        Whose distances are wanted, and from what.
    spacing : tuple of float
        Size of a step along each axis, in mm.
    first, last : int
        Blocks.
    bounded : bool
        Whether something was found before; else all squares are infinite.
    squares : ndarray of float64
        In mm2, in the order of the points.
    """
    blocks = max(64, others.blocks.shape[1])
    near, far = np.empty(blocks), np.empty(blocks)
    cells, chosen = np.empty(CHOSEN, np.int32), np.empty((CHOSEN // LANES, 6, LANES))
    group, ranks = np.empty((5, LANES)), np.empty(LANES, np.int32)
    around, most = _all(others), np.inf
    for block in range(first, last):
        if bounded:
            most = _worst(found, block, squares)
            _compare_2(found.blocks[:, block], around, 0, 1, spacing, near, far)
            if near[0] >= most:
                continue
        begin = found.firsts[block]
        start, end = found.starts[begin], found.starts[found.firsts[block + 1]]
        lanes, j, cell = _gather(found, start, begin, end, squares, group, ranks)
        if lanes == 0:
            continue
        close, bound = _close_1(found.blocks[:, block], others, spacing, most, near, far)
        n = 0
        while n < len(close):
            if n:
                lanes, j, cell = _gather(found, start, begin, end, squares, group, ranks)
            count, hint, n, bound = _choose_2(
                found.blocks[:, block], others, spacing, close, n, bound, near, far, cells, chosen
            )
            lanes = lanes if count else 0
            while lanes:
                (z0, z1), (y0, y1), (x0, x1) = _around(group[0]), _around(group[1]), _around(group[2])
                hint = _search(others, cells, chosen, count, hint, (z0, y0, x0, z1, y1, x1), spacing, group)
                for q in range(lanes):
                    squares[ranks[q]] = group[3, q]
                lanes, j, cell = _gather(found, j, cell, end, squares, group, ranks)


@jit
def wanted_1(found, spacing, box, squares):
    """Whether there may be something nearer to points that are not shared in a box (z, y, x, least and largest)."""
    near, far = np.empty(1), np.empty(1)
    for block in range(found.blocks.shape[1]):
        _compare_2(found.blocks[:, block], box, 0, 1, spacing, near, far)
        if near[0] < _worst(found, block, squares):
            return True
    return False


class Surface(NamedTuple):
    """The compiled functions."""

    pack: Callable
    mark: Callable
    tally: Callable
    part: Callable
    place: Callable
    boxes: Callable
    nearest: Callable
    wanted: Callable
    skin: Callable
    cells: type = Cells


def build(key: tuple[str]) -> Surface:
    """Compile; there is one variant only."""
    bits, mask, box = np.ones((1, 1, 1), np.uint64), np.zeros(1, np.uint8), np.zeros((6, 1), np.float32)
    # numba would compile anew for arrays that may be written and those that may not.
    mask.flags.writeable = False
    number, place = (np.zeros(64, np.int64),) * 3, (np.zeros(64, np.uint32),) * 3
    counts, point = np.zeros(64, np.int32), np.zeros(1, np.uint32)
    starts, firsts = np.zeros(2, np.int32), np.zeros(2, np.int32)
    pack_2(mask, 1, 0, 1, bits[0])
    mark_1(np.zeros((1, 3), np.int64), np.zeros(3, np.int64), bits)
    tally_1(bits, bits, 0, number, counts)
    part_1(counts, starts, firsts, np.zeros(1, np.int32))
    place_1(bits, bits, 0, number, place, counts, point, np.zeros(1, np.int32))
    cells = Cells(point, np.zeros(1, np.int32), starts, firsts, box, box.copy())
    boxes_3(np.zeros((1, 3), np.int32), (1, 1, 1), cells)
    nearest_3(cells, cells, (1.0, 1.0, 1.0), 0, 1, True, np.zeros(1))
    wanted_1(cells, (1.0, 1.0, 1.0), box, np.zeros(1))
    skin_1(bits, 3, 0, 0, bits.copy())
    return Surface(pack_2, mark_1, tally_1, part_1, place_1, boxes_3, nearest_3, wanted_1, skin_1)
