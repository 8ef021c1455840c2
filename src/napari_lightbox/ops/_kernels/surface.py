"""Points of surfaces, and for each the distance to the nearest point of another surface: exact, and without a map.

The idea
    Surfaces are found in bits, 64 voxels by a few operations. Their points are gathered in cells of some ten points
    each, boxes that lie tightly around them. A cell of the one surface is compared with all cells of the other: the
    nearest point of none of its points can lie in a cell that is farther from all of it than another cell's far end.
    What is left is put in the order of distance. Each point of the cell then goes through these cells, as long as the
    next may hold anything nearer than what was found; cells that may not are skipped, by their boxes.

    Far surfaces are no harder than near ones: a distance decides which cells are looked into, not how many.

What it follows
    Branch and bound over boxes, as in J. H. Friedman, J. L. Bentley and R. A. Finkel, An algorithm for finding best
    matches in logarithmic expected time, ACM TOMS 3, 1977, with one list of boxes for a whole cell of questions, as
    in A. G. Gray and A. W. Moore, N-body problems in statistical learning, NIPS 2000 (dual trees).

Cost
    Some 10 operations for each pair of cells, and some 100 to 1000 for each point.

Limits
    Pairs of cells: whoever calls keeps cells to some thousands by making them larger.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._jit import jit
from .bits import between_64, ones

_ZERO, _ONE, _TOP = np.uint64(0), np.uint64(1), np.uint64(63)
_LOW, _HIGH = np.uint8(1), np.uint8(255)


@jit
def pack_1(mask, wide, first, last, bits):
    """Pack rows `first` to `last` of a mask (flat, bytes that are not 0 inside) into words of 64 voxels."""
    full = wide // 64
    left = wide - 64 * full
    for row in range(first, last):
        start = row * wide
        for w in range(full):
            bits[row, w] = between_64(mask.ctypes.data + start + 64 * w, _LOW, _HIGH)
        if left:
            word = _ZERO
            for x in range(left):
                word |= np.uint64(mask[start + 64 * full + x] != 0) << np.uint64(x)
            bits[row, full] = word


@jit
def surface_1(bits, flat, first, last, out):
    """Write the surface of a mask, planes `first` to `last`, and return how many voxels it has.

    Parameters
    ----------
    bits, out : (z, y, words) ndarray of uint64
        Mask and surface.
    flat : bool
        Whether there is no neighbour along z.
    first, last : int
        Planes.
    """
    deep, tall, words = bits.shape
    count = 0
    for z in range(first, last):
        edge_z = not flat and (z == 0 or z == deep - 1)
        for y in range(tall):
            edge = edge_z or y == 0 or y == tall - 1
            for w in range(words):
                here = bits[z, y, w]
                if here == _ZERO or edge:
                    out[z, y, w] = here
                else:
                    before = bits[z, y, w - 1] >> _TOP if w > 0 else _ZERO
                    after = bits[z, y, w + 1] << _TOP if w < words - 1 else _ZERO
                    inner = (here << _ONE | before) & (here >> _ONE | after) & bits[z, y - 1, w] & bits[z, y + 1, w]
                    if not flat:
                        inner &= bits[z - 1, y, w] & bits[z + 1, y, w]
                    out[z, y, w] = here & ~inner
                count += ones(out[z, y, w])
    return count


@jit
def places_1(bits, out):
    """Write the (z, y, x) of all ones into `out`, and return how many there are."""
    count = 0
    for z in range(bits.shape[0]):
        for y in range(bits.shape[1]):
            for w in range(bits.shape[2]):
                word = bits[z, y, w]
                while word:
                    lowest = word & (~word + _ONE)
                    out[count, 0] = z
                    out[count, 1] = y
                    out[count, 2] = 64 * w + ones(lowest - _ONE)
                    count += 1
                    word ^= lowest
    return count


@jit
def boxes_1(places, starts, boxes):
    """Write the box of each cell: the smallest and the largest (z, y, x) of its places.

    Parameters
    ----------
    places : (n, 3) ndarray of int64
        In the order of the cells.
    starts : (cells + 1,) ndarray of int64
        First place of each cell, and the end.
    boxes : (6, cells) ndarray of float64
        Smallest, then largest.
    """
    for cell in range(boxes.shape[1]):
        for axis in range(3):
            low = high = places[starts[cell], axis]
            for i in range(starts[cell] + 1, starts[cell + 1]):
                low = min(low, places[i, axis])
                high = max(high, places[i, axis])
            boxes[axis, cell] = low
            boxes[3 + axis, cell] = high


@jit(forceinline=True)
def _square(steps, spacing):
    return (steps * spacing) * (steps * spacing)


@jit(forceinline=True)
def _gap(low, high, other_low, other_high):
    """Return how many steps apart two stretches of an axis are."""
    return max(0.0, other_low - high, low - other_high)


@jit(fastmath={"nnan", "nsz"})
def _compare_1(box, boxes, spacing, least):
    """Write the least squared distance from a box to each of some others.

    Return the square of what no point of the box is farther away than, from the nearest point in the others.
    """
    sz, sy, sx = spacing
    bound = np.inf
    for n in range(boxes.shape[1]):
        near = _square(_gap(box[0], box[3], boxes[0, n], boxes[3, n]), sz)
        near += _square(_gap(box[1], box[4], boxes[1, n], boxes[4, n]), sy)
        least[n] = near + _square(_gap(box[2], box[5], boxes[2, n], boxes[5, n]), sx)
        far = _square(max(box[3] - boxes[0, n], boxes[3, n] - box[0]), sz)
        far += _square(max(box[4] - boxes[1, n], boxes[4, n] - box[1]), sy)
        bound = min(bound, far + _square(max(box[5] - boxes[2, n], boxes[5, n] - box[2]), sx))
    return bound


@jit(fastmath={"nnan", "nsz"})
def nearest_1(places, starts, boxes, others, other_starts, other_boxes, spacing, first, last, out):
    """Write, for the places of cells `first` to `last`, the squared distance to the nearest of the others.

    Parameters
    ----------
    places, starts, boxes : ndarray
        Whose distances are wanted, as in `boxes_1`.
    others : (3, m) ndarray of float64
        z, y and x of the others, in the order of their cells.
    other_starts, other_boxes : ndarray
        As in `boxes_1`.
    spacing : tuple of float
        Size of a step along each axis.
    first, last : int
        Cells.
    out : ndarray of float64
        Of each place; in mm squared.
    """
    sz, sy, sx = spacing
    cells = other_boxes.shape[1]
    least, chosen = np.empty(cells), np.empty(cells, np.int64)
    for cell in range(first, last):
        bound = _compare_1(boxes[:, cell], other_boxes, spacing, least)
        count = 0
        for n in range(cells):
            if least[n] <= bound:
                chosen[count] = n
                count += 1
        order = chosen[:count][np.argsort(least[chosen[:count]])]
        hint = order[0]
        for i in range(starts[cell], starts[cell + 1]):
            z, y, x = float(places[i, 0]), float(places[i, 1]), float(places[i, 2])
            best = np.inf
            found = hint
            # The cell that held what was nearest to the place before comes first.
            for k in range(-1, count):
                n = hint if k < 0 else order[k]
                if k >= 0:
                    if least[n] >= best:
                        break
                    if n == hint:
                        continue
                near = _square(_gap(z, z, other_boxes[0, n], other_boxes[3, n]), sz)
                near += _square(_gap(y, y, other_boxes[1, n], other_boxes[4, n]), sy)
                near += _square(_gap(x, x, other_boxes[2, n], other_boxes[5, n]), sx)
                if near >= best:
                    continue
                smallest = best
                for j in range(other_starts[n], other_starts[n + 1]):
                    here = _square(others[0, j] - z, sz) + _square(others[1, j] - y, sy)
                    smallest = min(smallest, here + _square(others[2, j] - x, sx))
                if smallest < best:
                    best = smallest
                    found = n
            hint = found
            out[i] = best


class Surface(NamedTuple):
    """The compiled functions."""

    pack: Callable
    surface: Callable
    places: Callable
    boxes: Callable
    nearest: Callable


def build(key: tuple[str]) -> Surface:
    """Compile; there is one variant only."""
    bits, place = np.zeros((1, 1, 1), np.uint64), np.zeros((1, 3), np.int64)
    mask = np.zeros(1, np.uint8)
    # numba would compile anew for arrays that may be written and those that may not.
    mask.flags.writeable = False
    pack_1(mask, 1, 0, 1, bits[0])
    surface_1(bits, False, 0, 1, bits.copy())
    places_1(bits, place)
    starts, boxes = np.array([0, 1]), np.zeros((6, 1))
    boxes_1(place, starts, boxes)
    nearest_1(place, starts, boxes, np.zeros((3, 1)), starts, boxes, (1.0, 1.0, 1.0), 0, 1, np.zeros(1))
    return Surface(pack_1, surface_1, places_1, boxes_1, nearest_1)
