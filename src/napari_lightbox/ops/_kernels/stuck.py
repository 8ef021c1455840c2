"""Windows that one value fills to more than half: counted for all voxels at once, for the adaptive median.

The idea
--------
In a background that is as black as the pepper, the median of nearly every window is the smallest value of the tile,
however large the window is. To know that, neither the median nor the extremes need be found: whether a voxel has that
value is a zero or a one, and the sum of these over the window says whether they are more than half. If they are, the
median is the smallest value, there can be no smaller one, and the window has to grow. The same holds for the largest
value. All other voxels are left to `adaptive`.

Sums along x and y are joined from those of 1, 2, 4 ... voxels, in 8 bits; along z a plane is added and one subtracted.

What it builds on
-----------------
Sums of boxes, axis by axis: M. J. McDonnell, Box-filtering techniques, Computer Graphics and Image Processing 17, 1981.

Cost
----
For windows of 5 or 7 voxels a side, some ten additions for each vector of voxels, most of them of 8 bits.

Limits
------
Windows of up to 15 voxels a side: those in a plane are counted with 8 bits.

Importing this module needs numba.
"""

import numba
import numpy as np

from ._jit import jit

# Widest windows of which 8 bits count the voxels in a plane.
COUNTED = 15
# Marks of voxels: decided, open, decided but for the median, open and known to be stuck at this size of the window.
DONE, OPEN, WANTED, STUCK = 0, 1, 2, 4


@jit
def bounds_1(voxels):
    """Return the smallest and the largest of some voxels."""
    flat = voxels.reshape(-1)
    low, high = flat[0], flat[0]
    for i in range(len(flat)):
        low, high = min(low, flat[i]), max(high, flat[i])
    return low, high


@numba.njit
def _add(a, b, to):
    for i in range(len(to)):
        to[i] = a[i] + b[i]


@numba.njit
def _add_to(values, others):
    for i in range(len(values)):
        values[i] += others[i]


@numba.njit
def _add_up(size, step, values, to, other):
    """Make each of `values` the sum of `size` of them, at distances of `step`, as `adaptive` joins pieces."""
    n = len(values)
    now, have, place = values, 1, 1
    while 2 * have <= size:
        shift = have * step
        _add(now[: n - shift], now[shift:n], to[: n - shift])
        now, to, other = to, other, to
        have *= 2
        if size & have:
            shift = place * step
            # What lies beyond the end is left out; those sums are not looked at.
            _add_to(values[: n - shift], now[shift:n])
            place += have


@jit
def stuck_1(voxels, reach, size, value, last, out, still_open, room, sums):
    """Mark the open voxels whose windows are filled to more than half by one value; return how many others are open.

    Parameters
    ----------
    voxels, reach, size, last, out, still_open
        As for `adaptive.together_1`.
    value : int
        The smallest or the largest value of the tile, so that such a window has its extreme as its median.
    room : (z + 2 reach[0] + 2, n) ndarray of uint8
        Scratch memory for planes of `voxels`.
    sums : (n,) ndarray of int16
        Scratch memory.
    """
    depth, height, width = out.shape
    half, pitch = size // 2, voxels.shape[2]
    half_z = half if reach[0] else 0
    size_z = 2 * half_z + 1
    n = (height + 2 * half) * pitch
    begin = (reach[1] - half) * pitch
    spare, wanted = (room[-2, :n], room[-1, :n]), voxels.dtype.type(value)
    for z in range(depth + 2 * half_z):
        source, plane = voxels[z + reach[0] - half_z].reshape(-1)[begin : begin + n], room[z, :n]
        for i in range(n):
            plane[i] = source[i] == wanted
        for step in (1, pitch):
            _add_up(size, step, plane, spare[0], spare[1])
    most = np.int16(size_z * size * size // 2)
    total = sums[:n]
    total[:] = 0
    for z in range(size_z - 1):
        _add_to(total, room[z, :n])
    count = 0
    for z in range(depth):
        _add_to(total, room[z + size_z - 1, :n])
        for y in range(height):
            at, first = (z, y), y * pitch + reach[2] - half
            count += _mark(total[first : first + width], most, value, last, out[at], still_open[at])
        _subtract(total, room[z, :n])
    return count


@numba.njit
def _mark(counts, most, value, last, out, still_open):
    """Mark the open voxels of a row where a value is there more than `most` times; return how many others are open."""
    if last:
        for i in range(len(out)):
            out[i] = value if (counts[i] > most) & (still_open[i] == OPEN) else out[i]
    for i in range(len(out)):
        still_open[i] = STUCK if (counts[i] > most) & (still_open[i] == OPEN) else still_open[i]
    count = 0
    for i in range(len(out)):
        count += still_open[i] == OPEN
    return count


@numba.njit
def _subtract(values, others):
    for i in range(len(values)):
        values[i] -= others[i]


@jit
def unmark_1(still_open):
    """Let marked voxels be open again; return how many there were."""
    flat, count = still_open.reshape(-1), 0
    for i in range(len(flat)):
        count += flat[i] == STUCK
        flat[i] = OPEN if flat[i] == STUCK else flat[i]
    return count
