"""Growing a region by the running mean: the queue of the plain loop, compiled.

The idea
    The outcome depends on the order in which voxels are tried, so the order is kept: first in, first out, neighbours
    in array order. What is saved is everything around it. A place in the queue is one number that holds z, y and x
    in 21 bits each, so that borders are told without a division, and voxels inside the image are not asked at all.
    The mean is divided out when a voxel joins, not when one is tried. The queue is a ring that holds the front of the
    region only. No copy of the image is made, and the picture of the region that comes out is the memory of what has
    joined and of where no voxel may.

    Six neighbours are written out one after the other: there is no loop to run, and the processor learns for each of
    them how it usually goes. Of other neighbourhoods those that have not joined are first gathered as bits of a word,
    without a question whose answer could be guessed wrong, and only they are gone through.

What it follows
    R. Adams and L. Bischof, Seeded region growing, IEEE Trans. PAMI 16(6), 1994, with a queue in the place of their
    sorted list.

Cost
    One look at the region for each neighbour of each voxel that joins, and one at a grey value for those that are not
    in it: 15 ns a voxel with 6 neighbours in a region of half a million voxels, 18 to 19 in one of five million,
    where lines are fetched from farther away; 35 with 26. Written as a loop it takes 19 and 22, and 46 with 26.
    Neighbours joined without any branch, by masks, cost twice as much, as most are in the region already; bounds
    within which voxels are known to fit, in place of the division, gained nothing: the processor goes on before that
    has ended.

Limits
    One thread: each voxel changes the mean that the next one is compared with. Axes of at most 2 million voxels.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable

import numpy as np

from ._jit import jit
from .bits import fetch, lowest, peek, poke

_U = np.uint64
_ZERO, _ONE = _U(0), _U(1)
# Marks in the region.
_FREE, _JOINED = np.uint8(0), np.uint8(1)
# Bits of a coordinate within a place in the queue.
BITS = 21
_LOW = (1 << BITS) - 1
# Voxels between the one whose neighbours are tried and the one whose neighbours are fetched from memory.
_AHEAD = 12


@jit(forceinline=True)
def _try_1(places, near, place, sums, nothing, threshold):
    """Let a voxel join that has not and fits; return the new sums: end of the queue, sum, number and mean."""
    values, size, like, region, queue, ring = places
    tail, total, count, mean = sums
    if peek(region + near, _FREE) == _FREE:
        value = nothing + peek(values + near * size, like)
        if abs(mean - value) < threshold:
            poke(region + near, _JOINED)
            poke(queue + 8 * (tail & ring), place)
            tail += 1
            total += value
            count += 1
            mean = total / count
    return tail, total, count, mean


@jit(forceinline=True)
def _try_six_1(places, here, row, plane, place, sums, nothing, threshold):
    """Try the six neighbours of a voxel inside the image, in array order."""
    x, y, z = 1, 1 << BITS, 1 << 2 * BITS
    sums = _try_1(places, here - plane, place - z, sums, nothing, threshold)
    sums = _try_1(places, here - row, place - y, sums, nothing, threshold)
    sums = _try_1(places, here - 1, place - x, sums, nothing, threshold)
    sums = _try_1(places, here + 1, place + x, sums, nothing, threshold)
    sums = _try_1(places, here + row, place + y, sums, nothing, threshold)
    return _try_1(places, here + plane, place + z, sums, nothing, threshold)


@jit
def grow_by_mean_2(values, region, shape, steps, queue, now, nothing, threshold, limit, most):
    """Take up to `limit` voxels from the queue and add their neighbours that fit.

    Parameters
    ----------
    values : ndarray
        Grey values, flat.
    region : ndarray of uint8
        Not 0 where a voxel has joined (1) or never may; flat.
    shape : tuple of int
        (z, y, x).
    steps : (n, 4) ndarray of int64
        Each neighbour in the order in which they are tried: steps along z, y and x, and its distance in a flat array.
    queue : ndarray of int64
        Places ``z << 42 | y << 21 | x`` in a ring, whose length is a power of two.
    now : tuple
        State: voxels taken and put into the queue so far; sum and number of the grey values in the region.
    nothing : number
        0 of the type in which grey values are added up, which is the type of their sum.
    threshold : float
        Largest distance from the mean, exclusive.
    limit : int
        Number of voxels to take.
    most : int
        Number of voxels at which the region stops.

    Returns
    -------
    tuple
        The new state, and whether the region was stopped. Fewer than `limit` voxels are taken when the ring is full.
    """
    deep, tall, wide = shape
    head, tail, total, count = now
    mean = total / count
    ring, neighbours = len(queue) - 1, len(steps)
    moves = (steps[:, 0] << 2 * BITS) + (steps[:, 1] << BITS) + steps[:, 2]
    far = steps[:, 3].copy()
    # The neighbours lie in so many rows.
    rows = np.unique(steps[:, 3] - steps[:, 2])
    # In three dimensions: in a volume that is thin along an axis there are fewer.
    six = neighbours == 6 and len(rows) == 5
    places = values.ctypes.data, values.itemsize, values[0], region.ctypes.data, queue.ctypes.data, ring
    while head < tail and limit > 0 and tail - head + neighbours <= len(queue):
        ahead = queue[_U((head + _AHEAD) & ring)]
        ahead = ((ahead >> 2 * BITS) * tall + ((ahead >> BITS) & _LOW)) * wide + (ahead & _LOW)
        for number in range(len(rows)):
            fetch(region.ctypes.data + ahead + rows[number])
            fetch(values.ctypes.data + (ahead + rows[number]) * values.itemsize)
        place = queue[_U(head & ring)]
        head += 1
        limit -= 1
        z, y, x = place >> 2 * BITS, (place >> BITS) & _LOW, place & _LOW
        here = (z * tall + y) * wide + x
        # In a plane no neighbour differs in z.
        free = 0 < y < tall - 1 and 0 < x < wide - 1 and (0 < z < deep - 1 or deep == 1)
        sums = tail, total, count, mean
        if six and free and count + 6 <= most:
            tail, total, count, mean = _try_six_1(places, here, wide, tall * wide, place, sums, nothing, threshold)
            continue
        left = _ZERO
        if free:
            for number in range(neighbours):
                left |= _U(region[_U(here + far[number])] == 0) << _U(number)
        else:
            for number in range(neighbours):
                near_z, near_y, near_x = z + steps[number, 0], y + steps[number, 1], x + steps[number, 2]
                if 0 <= near_z < deep and 0 <= near_y < tall and 0 <= near_x < wide:
                    left |= _U(region[_U(here + far[number])] == 0) << _U(number)
        while left:
            number = _U(lowest(left))
            left &= left - _ONE
            near = here + far[number]
            if count == most and abs(mean - (nothing + values[_U(near)])) < threshold:
                return head, tail, total, count, True
            sums = tail, total, count, mean
            tail, total, count, mean = _try_1(places, near, place + moves[number], sums, nothing, threshold)
    return head, tail, total, count, False


def sum_type(dtype: np.dtype) -> type:
    """Return the type in which grey values are added up: whole numbers where their sum is exact in a float, too."""
    return int if dtype.kind in "iu" and dtype.itemsize <= 2 else float


def build(key: tuple[str]) -> Callable:
    """Compile for one type of voxel, such as ``("i2",)``."""
    values, region = np.zeros(1, key[0]), np.zeros(1, np.uint8)
    # numba would compile anew for arrays that may be written and those that may not.
    values.flags.writeable = False
    steps, queue, nothing = np.zeros((1, 4), np.int64), np.zeros(2, np.int64), sum_type(values.dtype)(0)
    grow_by_mean_2(values, region, (1, 1, 1), steps, queue, (0, 0, nothing, 1), nothing, 1.0, 1, 1)
    return grow_by_mean_2
