"""Growing a region by the running mean: the queue of the plain loop, compiled.

The idea
    The outcome depends on the order in which voxels are tried, so the order is kept: first in, first out, neighbours
    in array order. What is saved is everything around it. A place in the queue is one number that holds z, y and x
    in 21 bits each, so that borders are told without a division, and voxels inside the image are not asked at all.
    The mean is divided out when a voxel joins, not when one is tried. The queue is a ring that holds the front of the
    region only. No copy of the image is made, and the picture of the region that comes out is the memory of what has
    joined.

What it follows
    R. Adams and L. Bischof, Seeded region growing, IEEE Trans. PAMI 16(6), 1994, with a queue in the place of their
    sorted list.

Cost
    One look at the region and one at a grey value for each neighbour of each voxel that joins: 24 ns a voxel with 6
    neighbours in a region of half a million voxels, 34 in one of five million, twice that with 26. The front of the
    region touches a line of a cache for nearly every voxel on it, in two arrays, and soon outgrows a core's own cache:
    most of the time is waiting for memory. Asking for the neighbours without a branch, and fetching further ahead,
    gained nothing.

Limits
    One thread: each voxel changes the mean that the next one is compared with. Axes of at most 2 million voxels.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit

# Bits of a coordinate within a place in the queue.
BITS = 21
_LOW = (1 << BITS) - 1


# Voxels between the one whose neighbours are tried and the one whose neighbours are fetched from memory.
_AHEAD = 12


@intrinsic
def _fetch(typing, address):
    """Ask for what lies at an address to be brought near; any address will do."""

    def generate(context, builder, signature, arguments):
        number = ir.IntType(32)
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # To be read, kept in all caches, data.
        place = builder.inttoptr(arguments[0], pointer)
        builder.call(fetch, [place, ir.Constant(number, 0), ir.Constant(number, 3), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@jit
def grow_by_mean_1(values, inside, region, shape, steps, queue, now, threshold, limit, most):
    """Take up to `limit` voxels from the queue and add their neighbours that fit.

    Parameters
    ----------
    values : ndarray
        Grey values, flat.
    inside : ndarray of uint8
        Not 0 where the region may go, flat; empty where it may go everywhere.
    region : ndarray of uint8
        1 where a voxel has joined, else 0; flat.
    shape : tuple of int
        (z, y, x).
    steps : (n, 4) ndarray of int64
        Each neighbour in the order in which they are tried: steps along z, y and x, and its distance in a flat array.
    queue : ndarray of int64
        Places ``z << 42 | y << 21 | x`` in a ring, whose length is a power of two.
    now : tuple
        State: voxels taken and put into the queue so far; sum and number of the grey values in the region.
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
    ring = len(queue) - 1
    neighbours = len(steps)
    masked = len(inside) > 0
    # The neighbours lie in so many rows.
    rows = np.unique(steps[:, 3] - steps[:, 2])
    while head < tail and limit > 0 and tail - head + neighbours <= len(queue):
        ahead = queue[(head + _AHEAD) & ring]
        ahead = ((ahead >> 42) * tall + ((ahead >> 21) & _LOW)) * wide + (ahead & _LOW)
        for number in range(len(rows)):
            _fetch(region.ctypes.data + ahead + rows[number])
            _fetch(values.ctypes.data + (ahead + rows[number]) * values.itemsize)
        place = queue[head & ring]
        head += 1
        limit -= 1
        z, y, x = place >> 42, (place >> 21) & _LOW, place & _LOW
        here = (z * tall + y) * wide + x
        # In a plane no neighbour differs in z.
        free = 0 < y < tall - 1 and 0 < x < wide - 1 and (0 < z < deep - 1 or deep == 1)
        for number in range(neighbours):
            if not free:
                near_z, near_y, near_x = z + steps[number, 0], y + steps[number, 1], x + steps[number, 2]
                if near_z < 0 or near_z >= deep or near_y < 0 or near_y >= tall or near_x < 0 or near_x >= wide:
                    continue
            near = np.uint64(here + steps[number, 3])
            if region[near] or (masked and not inside[near]):
                continue
            value = float(values[near])
            if abs(mean - value) < threshold:
                if count == most:
                    return head, tail, total, count, True
                region[near] = 1
                queue[tail & ring] = place + (steps[number, 0] << 42) + (steps[number, 1] << 21) + steps[number, 2]
                tail += 1
                total += value
                count += 1
                mean = total / count
    return head, tail, total, count, False


def build(key: tuple[str]) -> Callable:
    """Compile for one type of voxel, such as ``("i2",)``."""
    values, flags = np.zeros(1, key[0]), np.zeros(1, np.uint8)
    inside = flags.copy()
    # numba would compile anew for arrays that may be written and those that may not.
    values.flags.writeable = inside.flags.writeable = False
    steps, queue = np.zeros((1, 4), np.int64), np.zeros(2, np.int64)
    grow_by_mean_1(values, inside, flags, (1, 1, 1), steps, queue, (0, 0, 0.0, 1), 1.0, 1, 1)
    return grow_by_mean_1
