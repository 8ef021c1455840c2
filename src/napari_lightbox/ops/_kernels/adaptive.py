"""The adaptive median of a tile: few voxels are ever looked at for themselves.

The idea
--------
The filter asks of every voxel and window: is the median an extreme of the window? If so, the window grows. That can be
told without the median: a window of n voxels has its smallest value as its median exactly if that value is there more
than n / 2 times, and the same holds for the largest. The median itself is only needed where it is the result.

1. *First window.* The medians of all windows of 3 voxels a side come from the selection networks (`median`), the
   extremes from vectors that walk down the rows (`first`). On usual images that settles nearly all voxels.
2. *Where few voxels are open,* their next windows are laid side by side, a lane of a vector for each, and decided about
   together (`gathered`).
3. *Where many are open,* as in a background that is as black as the pepper, they are nearly always stuck at the
   smallest or the largest value of the tile. How often that is in each window is a running sum of zeros and ones; where
   it fills more than half of the window, the window must grow, and nothing else need be known.
4. *Where still many are open,* their extremes and how often these occur are found for all voxels at once: along x, then
   y, then z, two pieces of a window are joined into one. The smallest value of both is the smaller of the two smallest,
   and its number that of the piece it is from, or the sum where they are equal.
5. *The median* is only found where it is wanted: those windows, too, are laid side by side.

What it builds on
-----------------
The filter is that of H. Hwang, R. A. Haddad, Adaptive median filters: new algorithms and results, IEEE Trans. Image
Processing 4, 1995. Joining pieces of 1, 2, 4 ... voxels is the usual way to separable minima; here they carry a count.

Cost
----
Vector operations for each vector of voxels: some 40 for the first window, besides its median. Where many voxels are
open, a dozen additions for the counts of one value; where these do not suffice, about 10 for each join, of which a
volume's windows of 5 voxels a side take 20, and those of 7 take 28. What open voxels cost: see `gathered`. Measured for
a volume of int16 with 35 % salt and pepper: 1.8 ns a voxel on one core, of which the median of the first window takes
0.9, its extremes 0.3, copies 0.3; a background as the pepper adds 1.5. One plane of 512 x 512 takes 0.37 ms: 0.09 for
the medians and 0.07 for the extremes of the first windows, 0.07 for open voxels, 0.07 for copying the plane with its
surroundings and the result, the rest for Python. A second core would not help, as it takes longer than that to begin
a thread.

Limits
------
Whole numbers only, as in `median`. Windows up to 31 voxels a side: the counts have 16 bits.

Importing this module needs numba.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numba
import numpy as np

from ._jit import jit
from .emit import lanes
from .first import first_windows_1
from .gathered import PIECE, gathered_1
from .stuck import COUNTED, DONE, OPEN, WANTED, bounds_1, stuck_1, unmark_1

# What it costs to look at an open voxel, besides each voxel of its window, and at all voxels of a tile together; to
# count just one value costs so many times less.
_ALONE, _TOGETHER, _COUNTING = 8, 16, 4
# Bytes of rows whose first windows are decided about together.
_ROWS_SIZE = 1 << 12


@numba.njit
def _of_three(a, b, c, d, e, f, low, high):
    """Put the minima of three arrays into `low`, the maxima of three others into `high`."""
    for i in range(len(low)):
        low[i] = min(a[i], b[i], c[i])
    for i in range(len(high)):
        high[i] = max(d[i], e[i], f[i])


@numba.njit
def _decide(low, high, centre, median, out, still_open):
    """Decide about a row of voxels, from the extremes and medians of their windows; return how many are still open."""
    for i in range(len(out)):
        stays = (low[i] < median[i]) & (median[i] < high[i]) & (low[i] < centre[i]) & (centre[i] < high[i])
        out[i] = centre[i] if stays else median[i]
    for i in range(len(out)):
        still_open[i] = (low[i] >= median[i]) | (median[i] >= high[i])
    count = 0
    for i in range(len(out)):
        count += still_open[i]
    return count


@jit
def first_2(voxels, reach, middle, out, still_open, room):
    """Decide about windows of 3 voxels a side; return how many voxels are still open.

    Parameters
    ----------
    voxels : (z, y, x) ndarray
        The tile with its surroundings.
    reach : tuple of int
        Width of the surroundings along z, y and x; along an axis without, the window has one voxel.
    middle : (z, y, x) ndarray
        Medians of the windows.
    out : (z, y, x) ndarray
        Results: the voxel or the median of its window.
    still_open : (z, y, x) ndarray of uint8
        1 where the median is an extreme.
    room : (4, n) ndarray
        Scratch memory for planes of `voxels`.
    """
    depth, height, width = out.shape
    side = 1 if reach[0] else 0
    pitch = voxels.shape[2]
    # Some rows at a time, so that all stay in the nearest cache.
    most = min(height, max(1, _ROWS_SIZE // (pitch * voxels.itemsize)))
    count = 0
    for z in range(reach[0], reach[0] + depth):
        for first in range(0, height, most):
            rows = min(most, height - first)
            # Rows are flat here, so that a step along y or x is a shift: the windows that begin at i lie at i. Those
            # that run over the end of a row are not looked at.
            n = (rows + 2) * pitch
            begin = (reach[1] - 1 + first) * pitch
            low, high, other_low, other_high = room[0, :n], room[1, :n], room[2, :n], room[3, :n]
            a = voxels[z - side].reshape(-1)[begin : begin + n]
            b = voxels[z].reshape(-1)[begin : begin + n]
            c = voxels[z + side].reshape(-1)[begin : begin + n]
            _of_three(a, b, c, a, b, c, low, high)
            for step in (pitch, 1):
                rest = n - 2 * step
                a, b, c = low[:rest], low[step : step + rest], low[2 * step :]
                d, e, f = high[:rest], high[step : step + rest], high[2 * step :]
                _of_three(a, b, c, d, e, f, other_low[:rest], other_high[:rest])
                low, high, other_low, other_high = other_low, other_high, low, high
            for y in range(rows):
                here = slice(y * pitch + reach[2] - 1, y * pitch + reach[2] - 1 + width)
                at = z - reach[0], first + y
                centre = voxels[z, first + y + reach[1], reach[2] : reach[2] + width]
                count += _decide(low[here], high[here], centre, middle[at], out[at], still_open[at])
    return count


@numba.njit
def _copy(target, source):
    """Copy a row; numba's own way takes several times as long."""
    for i in range(len(target)):
        target[i] = source[i]


@numba.njit
def _join(values, counts, other_values, other_counts):
    """Join pieces of windows: their smallest values, and how often those occur."""
    for i in range(len(values)):
        mine, other = values[i], other_values[i]
        ours = counts[i] if mine <= other else np.int16(0)
        counts[i] = ours + (other_counts[i] if other <= mine else np.int16(0))
        values[i] = min(mine, other)


@numba.njit
def _grow(size, step, values, counts, rooms):
    """Make pieces of one voxel into pieces of `size` voxels, at distances of `step`, in flat arrays.

    Joined are two pieces of 1, 2, 4 ... voxels, and of these those that make up `size`. A piece lies where its first
    voxel does; towards the end of the arrays, what lies beyond is left out.
    """
    (to, to_counts), (other, other_counts) = rooms
    n = len(values)
    to, to_counts, other, other_counts = to[:n], to_counts[:n], other[:n], other_counts[:n]
    now, now_counts = values, counts
    have, place = 1, 1
    while 2 * have <= size:
        shift = have * step
        _copy(to, now)
        _copy(to_counts, now_counts)
        _join(to[: n - shift], to_counts[: n - shift], now[shift:], now_counts[shift:])
        now, to, other = to, other, to
        now_counts, to_counts, other_counts = to_counts, other_counts, to_counts
        have *= 2
        if size & have:
            shift = place * step
            _join(values[: n - shift], counts[: n - shift], now[shift:], now_counts[shift:])
            place += have


@jit
def lowest_1(voxels, reach, size, turn, values, counts, rooms, count_rooms):
    """Find the smallest value of every window, and how often it occurs there.

    Parameters
    ----------
    voxels, reach
        As for `first_2`.
    size : int
        Width of the windows, odd.
    turn : int
        0, or -1 for the largest value: all bits of the voxels are turned over meanwhile, which reverses their order.
    values, counts : (z + 2 reach[0], y, x) ndarray
        Results, in their first planes; the counts are int16.
    rooms, count_rooms : (3, n) ndarray
        Scratch memory for planes of `voxels`, and of counts.
    """
    half = size // 2
    half_z = half if reach[0] else 0
    height, width = values.shape[1:]
    depth, pitch = voxels.shape[0] - 2 * reach[0], voxels.shape[2]
    n = (height + 2 * half) * pitch
    begin = (reach[1] - half) * pitch
    plane, plane_counts = rooms[0, :n], count_rooms[0, :n]
    more = (rooms[1], count_rooms[1]), (rooms[2], count_rooms[2])
    for z in range(depth + 2 * half_z):
        source = voxels[z + reach[0] - half_z].reshape(-1)[begin : begin + n]
        for i in range(n):
            plane[i] = source[i] ^ turn
            plane_counts[i] = 1
        for step in (1, pitch):
            _grow(size, step, plane, plane_counts, more)
        for y in range(height):
            first = y * pitch + reach[2] - half
            _copy(values[z, y], plane[first : first + width])
            _copy(counts[z, y], plane_counts[first : first + width])
    for z in range(depth):
        here, here_counts = values[z].reshape(-1), counts[z].reshape(-1)
        for i in range(1, 2 * half_z + 1):
            _join(here, here_counts, values[z + i].reshape(-1), counts[z + i].reshape(-1))
        for i in range(len(here)):
            here[i] ^= turn


@numba.njit
def _settle(lows, low_counts, highs, high_counts, centre, total, last, out, still_open):
    """Decide about a row of windows; return how many are still open. WANTED is left where the median is."""
    # In the type of the counts, so that vectors hold as many of them as they can.
    half = np.int16(total // 2)
    for i in range(len(out)):
        stuck = (low_counts[i] > half) | (high_counts[i] > half)
        stays = (lows[i] < centre[i]) & (centre[i] < highs[i])
        state = OPEN if stuck else 3 if stays else WANTED
        still_open[i] = state if still_open[i] == OPEN else still_open[i]
    if last:
        for i in range(len(out)):
            stuck_at = lows[i] if low_counts[i] > half else highs[i]
            out[i] = stuck_at if still_open[i] == OPEN else out[i]
    count = 0
    for i in range(len(out)):
        out[i] = centre[i] if still_open[i] == 3 else out[i]
        count += still_open[i] == OPEN
    for i in range(len(out)):
        still_open[i] = DONE if still_open[i] == 3 else still_open[i]
    return count


@jit
def together_1(voxels, reach, size, last, out, still_open, extremes):
    """Decide about larger windows of all open voxels, whose extremes are known; return how many are still open.

    Parameters
    ----------
    voxels, reach, out, still_open
        As for `first_2`. Voxels of which the median is wanted are marked so.
    size : int
        Width of the windows.
    last : bool
        Whether no larger window is allowed.
    extremes : tuple of ndarray
        The smallest values of all windows and their counts, the largest values and their counts.
    """
    depth, height, width = out.shape
    lows, low_counts, highs, high_counts = extremes
    total = (size if reach[0] else 1) * size * size
    count = 0
    for z in range(depth):
        for y in range(height):
            at = z, y
            centre = voxels[z + reach[0], y + reach[1], reach[2] : reach[2] + width]
            counts = low_counts[at], high_counts[at]
            count += _settle(lows[at], counts[0], highs[at], counts[1], centre, total, last, out[at], still_open[at])
    return count


def filter_tile(voxels, reach, middle, out, max_size, borrow, together=_TOGETHER) -> None:
    """Filter a tile.

    Parameters
    ----------
    voxels, reach, middle, out
        As for `first_2`; all are contiguous. Behind the last of `voxels`, memory for 7 more is read.
    max_size : int
        Largest width of the window; the surroundings are ``max_size // 2`` wide.
    borrow : callable
        Lends scratch memory: from pairs of a type and a length, a context with a list of flat arrays.
    together : float
        How little it costs to look at all voxels together: 0 for nothing.
    """
    axes = 3 if reach[0] else 2
    plane, count = voxels[0].size, lanes(voxels.dtype)
    wide = voxels.dtype if voxels.dtype.itemsize > 1 else np.dtype(np.int16)
    windows = max_size**axes + 2 * PIECE, lanes(wide)
    wanted = (np.uint8, out.size + 64), (wide, math.prod(windows)), (voxels.dtype, 4 * plane)
    with borrow(*wanted) as (flags, room, planes):
        still_open, room = flags[: out.size].reshape(out.shape), room.reshape(windows)
        if out.shape[2] >= count:
            left = first_windows_1(voxels, reach, middle, out, still_open, count)
        else:
            left = first_2(voxels, reach, middle, out, still_open, planes.reshape(4, plane))
        bounds = bounds_1(voxels) if _COUNTING * left * (_ALONE + 5**axes) >= together * out.size else ()
        for size in range(5, max_size + 1, 2):
            last, alone, unmarked = size == max_size, _ALONE + size**axes, left
            for value in bounds if size <= COUNTED else ():
                if _COUNTING * unmarked * alone >= together * out.size:
                    unmarked = _without_stuck(voxels, reach, size, value, last, out, still_open, borrow)
            if unmarked * alone < together * out.size:
                left = gathered_1(voxels, reach, size, OPEN, out, flags, room)
            else:
                with _all_extremes(voxels, reach, size, out.shape, borrow) as known:
                    left = together_1(voxels, reach, size, last, out, still_open, known)
                gathered_1(voxels, reach, size, WANTED, out, flags, room)
            left += unmark_1(still_open) if bounds else 0
            if not left:
                break


def _without_stuck(voxels, reach, size, value, last, out, still_open, borrow) -> int:
    """Mark voxels that are stuck at a value, as `stuck_1`."""
    planes = (voxels.shape[0] + 2, voxels[0].size)
    with borrow((np.dtype(np.uint8), math.prod(planes)), (np.dtype(np.int16), planes[1])) as (room, sums):
        return stuck_1(voxels, reach, size, value, last, out, still_open, room.reshape(planes), sums)


@contextmanager
def _all_extremes(voxels, reach, size, shape, borrow) -> Iterator[tuple[np.ndarray, ...]]:
    """Find the extremes of all windows and their counts, as `together_1` takes them."""
    stack = (voxels.shape[0], *shape[1:])
    planes = (3, voxels[0].size)
    wanted = [(t, math.prod(lengths)) for lengths in (stack, stack, planes) for t in (voxels.dtype, np.dtype(np.int16))]
    with borrow(*wanted) as (lows, low_counts, highs, high_counts, *scratch):
        scratch = [array.reshape(planes) for array in scratch]
        known = tuple(array.reshape(stack) for array in (lows, low_counts, highs, high_counts))
        lowest_1(voxels, reach, size, 0, *known[:2], *scratch)
        lowest_1(voxels, reach, size, -1, *known[2:], *scratch)
        yield known


def build(key: tuple) -> Callable:
    """Compile a variant.

    Parameters
    ----------
    key : tuple
        Type of the voxels: "u1", "i2", "i4" or "i8".

    Returns
    -------
    callable
        `filter_tile`.
    """
    one, count = np.zeros((1, 1, 1), key[0]), lanes(np.dtype(key[0]))
    voxels, wide = (np.zeros(5 * n + PIECE, key[0])[: 5 * n].reshape(1, 5, n) for n in (5, 4 + count))
    row = wide[:, :1, 4:].copy()
    filter_tile(wide, (0, 2, 2), row, row.copy(), 5, _lend)
    for together in (0, math.inf):
        filter_tile(voxels, (0, 2, 2), one, one.copy(), 5, _lend, together)
    return filter_tile


def _lend(*wanted):
    return nullcontext([np.empty(length, dtype) for dtype, length in wanted])
