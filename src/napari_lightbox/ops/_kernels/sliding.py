"""The value of a rank, such as the median, in every box-shaped window of any size, by histograms that slide.

The idea
--------
1. *Bins.* The values of a tile are put in order and divided into up to 4096 bins, each a range of values. Where the
   tile holds no more different values than that, as most scans do, each value has a bin of its own. Otherwise the bins
   hold about as many voxels each. So the type of the voxels does not matter from here on, nor how large values are.
2. *Columns.* A window of z * y * x voxels consists of x columns of z * y voxels, one behind the other. There is a
   histogram of each column, which serves all windows that hold it. When the windows move on by a row along y, it gains
   z voxels and loses z.
3. *Windows.* The histogram of a window is the sum of those of its columns. When it moves on along x, one column is
   added and one subtracted.
4. *Two levels.* A histogram has 64 segments of 64 bins. The counts of the segments are kept up to date for the window;
   the bins within a segment only where the wanted value lies in it, which is nearly always the segment of the window
   before. What a segment has missed meanwhile is made up for when it is needed.
5. *Cumulative counts.* Each count is that of all voxels up to the end of a bin, so that the wanted one is found by one
   comparison with 64 counts at once (`counting`). To add a voxel changes up to 64 counts, but that is one instruction.
6. *Within a bin* of several values, the voxels of the tile in that bin are gone through in increasing order, and those
   that lie in the window are counted, until the rank is reached.

What it builds on
-----------------
Histograms that slide: T. S. Huang, G. J. Yang, G. Y. Tang, A fast two-dimensional median filtering algorithm, IEEE
Trans. ASSP 27, 1979. Histograms of columns and segments that are made up for: S. Perreault, P. Hebert, Median filtering
in constant time, IEEE Trans. Image Processing 16, 2007. Ranks in the place of values: B. Weiss, Fast median and
bilateral filtering, SIGGRAPH 2006. Nothing is sorted but the voxels of a tile, and no networks are used.

Cost
----
For each voxel, z times three additions of a line of 64 counts for the columns, two or three for the window, and two
comparisons: neither y nor x matters, but for what is worked on beyond the border of a tile. Measured on one core: 24 to
35 ns a voxel in pictures and 65 ns for 9 x 9 x 9, of values that have bins of their own; otherwise, as in floats with
noise, 20 ns more for putting a tile in order, and 30 to 50 for telling apart the voxels of a bin.

Limits
------
Windows of up to 65535 voxels: the counts have 16 bits, those of columns 8 where that is enough. `_windows.ranked` is
the plain way to the same values.

Importing this module needs numba.
"""

from collections.abc import Callable
from contextlib import nullcontext

import numba
import numpy as np

from . import keys
from ._jit import jit
from .counting import INSIDE, LINE, change, gather, inside, ones, place_of, steps

# Windows along x that are worked on together, and more where the histograms of their columns are short: these should
# stay in a core's cache, of which they get so many bytes.
_STRIP, _STRIP_BYTES = 64, 1 << 17


@numba.njit
def _packing(shape):
    """Say by how many bits indices along y and z are shifted, so that there is a bit to spare above each index.

    Returned as well are all bits to spare.
    """
    shifts = [0, 0, 0]
    for axis in (1, 0):
        bits = 1
        while 1 << bits <= shape[axis + 1]:
            bits += 1
        shifts[axis] = shifts[axis + 1] + bits + 1
    bits = 1
    while 1 << bits <= shape[0]:
        bits += 1
    spare = (1 << (shifts[1] - 1)) | (1 << (shifts[0] - 1)) | (1 << (shifts[0] + bits))
    return shifts[0], shifts[1], spare


@numba.njit
def _packed(z, y, x, packing):
    """Return one number for three indices."""
    return (z << packing[0]) | (y << packing[1]) | x


@numba.njit
def _within(places, start, low, high, spare, rank):
    """Return which of the voxels from `places[start]` on is number `rank` among those between two corners."""
    at = places.ctypes.data + start * places.itemsize
    while True:
        bits = inside(places, at, low, high, spare)
        count = ones(bits)
        if count > rank:
            break
        rank -= count
        start += INSIDE
        at += INSIDE * places.itemsize
    for _ in range(rank):
        bits &= bits - 1
    return start + ones((bits & -bits) - 1)


@numba.njit
def _gain(bins, columns, count, table):
    """Let columns gain one voxel each; `bins` are those of a row of voxels, `columns` the coarse and fine counts."""
    coarse, fine = columns
    line, zeros = LINE * coarse.itemsize, table + LINE * LINE * coarse.itemsize
    for i in range(count):
        segment, place = np.int64(bins[i]) // LINE, np.int64(bins[i]) % LINE
        change(coarse, coarse.ctypes.data + i * line, table + segment * line, zeros)
        first = fine.ctypes.data + (i * fine.shape[1] + segment) * line
        change(coarse, first, table + place * line, zeros)


@numba.njit
def _exchange(bins, lost, columns, count, table):
    """Let columns gain one voxel and lose one each."""
    coarse, fine = columns
    line, zeros = LINE * coarse.itemsize, table + LINE * LINE * coarse.itemsize
    for i in range(count):
        if bins[i] == lost[i]:
            continue
        segment, place = np.int64(bins[i]) // LINE, np.int64(bins[i]) % LINE
        old_segment, old_place = np.int64(lost[i]) // LINE, np.int64(lost[i]) % LINE
        change(coarse, coarse.ctypes.data + i * line, table + segment * line, table + old_segment * line)
        first = fine.ctypes.data + i * fine.shape[1] * line
        change(coarse, first + segment * line, table + place * line, zeros)
        change(coarse, first + old_segment * line, zeros, table + old_place * line)


@numba.njit
def _row(columns, window, last, out, corner, extent, packing, size, rank, order, zeros):
    """Find the values of a row of windows.

    `window` has lines of counts of the bins in each segment, and behind them one of the segments. `last` says for which
    x the counts of a segment hold. `corner` and `extent` are the first voxel of the first window and the way from there
    to its last, packed; `size` is the width of windows along x.
    """
    coarse, fine = columns
    starts, alike, places = order
    line, segments = LINE * coarse.itemsize, fine.shape[1]
    total, pitch = window[segments], segments * line
    at_total, at_coarse, at_fine = total.ctypes.data, coarse.ctypes.data, fine.ctypes.data
    total[:] = 0
    last[:] = -(1 << 40)
    for i in range(size - 1):
        gather(coarse, at_total, at_coarse + i * line, zeros)
    for x in range(len(out)):
        gone = at_coarse + (x - 1) * line if x else zeros
        gather(coarse, at_total, at_coarse + (x + size - 1) * line, gone)
        segment = place_of(at_total, rank)
        below = np.int64(total[segment - 1]) if segment else 0
        counts = window[segment]
        at_counts, first = counts.ctypes.data, at_fine + segment * line
        if x - last[segment] > size // 2:
            counts[:] = 0
            for i in range(x, x + size):
                gather(coarse, at_counts, first + i * pitch, zeros)
        else:
            for i in range(last[segment], x):
                gather(coarse, at_counts, first + (i + size) * pitch, first + i * pitch)
        last[segment] = x
        place = place_of(at_counts, rank - below)
        index = segment * LINE + place
        found = np.int64(starts[index])
        if not alike[index]:
            before = below + (np.int64(counts[place - 1]) if place else 0)
            low = corner + x
            found = _within(places, found, low, low + extent, packing[2], rank - before)
        out[x] = found


@jit
def ranks_1(bins, order, out, sizes, rank, strip, room, window, table):
    """Find the value of a rank in every window that lies inside a block of voxels.

    Parameters
    ----------
    bins : (z, y, x) ndarray of uint16
        The bin of each voxel.
    order : tuple of ndarray
        Of the list of values in increasing order: where each bin begins, and behind them its length; which bins hold
        one value only; where the voxels of the values lie, from `pack`, which is not looked at for such bins.
    out : (z, y, x) ndarray of int32
        Results: places in the list of values.
    sizes : tuple of int
        Of the window.
    rank : int
        0 for the smallest value.
    strip : int
        Number of windows along x that are worked on together.
    room, window : ndarray
        Scratch memory for the counts of columns and of the window, as long as `build` says.
    table : ndarray
        From `counting.steps`, of the type of the counts of columns.
    """
    depth, height, width = out.shape
    segments = (len(order[1]) + LINE - 1) // LINE
    line = LINE * table.itemsize
    steps_at, zeros = table.ctypes.data, table.ctypes.data + LINE * line
    last = np.empty(segments, np.int64)
    packing = _packing(bins.shape)
    extent = _packed(sizes[0] - 1, sizes[1] - 1, sizes[2] - 1, packing)
    lines = window[: (segments + 1) * LINE].reshape(segments + 1, LINE)
    for x in range(0, width, strip):
        own = min(strip, width - x)
        count = own + sizes[2] - 1
        coarse = room[: count * LINE].reshape(count, LINE)
        fine = room[count * LINE : count * (segments + 1) * LINE].reshape(count, segments, LINE)
        columns = coarse, fine
        for z in range(depth):
            room[: count * (segments + 1) * LINE] = 0
            for y in range(sizes[1] - 1):
                for i in range(sizes[0]):
                    _gain(bins[z + i, y, x : x + count], columns, count, steps_at)
            for y in range(height):
                for i in range(sizes[0]):
                    gained = bins[z + i, y + sizes[1] - 1, x : x + count]
                    if y:
                        _exchange(gained, bins[z + i, y - 1, x : x + count], columns, count, steps_at)
                    else:
                        _gain(gained, columns, count, steps_at)
                corner, target = _packed(z, y, x, packing), out[z, y, x : x + own]
                _row(columns, lines, last, target, corner, extent, packing, sizes[2], rank, order, zeros)


@jit
def sort_1(keys, order, other_keys, other_order, first_bit):
    """Sort whole numbers in place, least digits first, with an array of indices; digits have 11 bits.

    Parameters
    ----------
    keys, order : ndarray
        The numbers; on return in increasing order, and where in the list each of them was.
    other_keys, other_order : ndarray
        Scratch memory of the same length and types.
    first_bit : int
        The first bit of a number, as an unsigned one: if numbers have a sign, those with it set are the smaller ones.
    """
    n, bits = len(keys), 8 * keys.itemsize
    begins = np.empty(2048, np.int64)
    for i in range(n):
        order[i] = i
        keys[i] ^= first_bit
    for shift in range(0, bits, 11):
        begins[:] = 0
        for i in range(n):
            begins[(keys[i] >> shift) & 2047] += 1
        if begins[(keys[0] >> shift) & 2047] == n:
            continue
        total = 0
        for digit in range(2048):
            count = begins[digit]
            begins[digit] = total
            total += count
        for i in range(n):
            digit = (keys[i] >> shift) & 2047
            at = begins[digit]
            begins[digit] = at + 1
            other_keys[at] = keys[i]
            other_order[at] = order[i]
        keys, order, other_keys, other_order = other_keys, other_order, keys, order
    return keys, order


@jit
def divide_1(values, most, starts, alike):
    """Divide a list of values in increasing order into bins; return how many there are, or 0 if these are too many.

    Values that are equal come into one bin. A bin holds up to `most` values, or only one and that several times.

    Parameters
    ----------
    values : ndarray
        Whole numbers.
    most : int
        With ``2 * len(values) / (len(alike) - 1)`` there are never too many bins.
    starts, alike : ndarray
        Results: where each bin begins, and behind them the length of the list; whether a bin holds one value only.
    """
    count, begin, i, n = 0, 0, 0, len(values)
    alike[0] = 1
    while i < n:
        after = i + 1
        while after < n and values[after] == values[i]:
            after += 1
        if i > begin and after - begin > most:
            starts[count] = begin
            count += 1
            if count == len(alike):
                return 0
            begin = i
            alike[count] = 1
        elif i > begin:
            alike[count] = 0
        i = after
    starts[count], starts[count + 1] = begin, n
    return count + 1


@jit
def place_1(order, starts, count, shape, bins, places):
    """Tell each voxel its bin, and pack the indices of voxels in increasing order of their values."""
    plane, row = shape[1] * shape[2], shape[2]
    packing = _packing(shape)
    for b in range(count):
        for i in range(starts[b], starts[b + 1]):
            at = order[i]
            bins[at] = b
            z, rest = at // plane, at % plane
            places[i] = _packed(z, rest // row, rest % row, packing)


@jit
def look_up_1(voxels, least, table, values, bins):
    """Give each of few different values a bin of its own.

    Parameters
    ----------
    voxels : ndarray
        Whole numbers of 8 or 16 bits, flat.
    least : int
        The smallest number of their type.
    table : ndarray of uint16
        Scratch memory, for each number of the type.
    values : ndarray
        Result: the different values, in increasing order.
    bins : ndarray of uint16
        Result: where in `values` the value of each voxel stands.

    Returns
    -------
    int
        How many different values there are; more than ``len(values)``, and no bins, where these are too many.
    """
    table[:] = 0
    for i in range(len(voxels)):
        table[np.int64(voxels[i]) - least] = 1
    count = 0
    for i in range(len(table)):
        if table[i]:
            if count < len(values):
                values[count] = i + least
            table[i] = count
            count += 1
    if count <= len(values):
        for i in range(len(voxels)):
            bins[i] = table[np.int64(voxels[i]) - least]
    return count


def look_up(voxels: np.ndarray, values: np.ndarray, bins: np.ndarray) -> int:
    """Do as `look_up_1`."""
    info = np.iinfo(voxels.dtype)
    least, most = int(info.min), int(info.max)
    return look_up_1(voxels, least, np.empty(most - least + 1, np.uint16), values, bins)


def in_order(voxels: np.ndarray, bins: np.ndarray, shape: tuple[int, ...], most_bins: int) -> tuple[np.ndarray, tuple]:
    """Put many different values in order, and divide them into bins; as `_sliding.divide`."""
    unsigned = np.dtype(f"u{voxels.itemsize}")
    first_bit = unsigned.type(0 if voxels.dtype.kind == "u" else 1 << (8 * voxels.itemsize - 1))
    indices, n = np.empty((2, len(voxels)), np.int32), len(voxels)
    numbers = voxels.view(unsigned).copy()
    values, order = sort_1(numbers, indices[0], np.empty_like(numbers), indices[1], first_bit)
    starts, alike = np.empty(most_bins + 1, np.int32), np.empty(most_bins, np.uint8)
    most, count = n // most_bins, 0
    while not count:
        most = most + most // 8 + 1
        count = divide_1(values, most, starts, alike)
    # Read are some at a time, also behind the end.
    places = np.empty(n + INSIDE, np.uint32)
    place_1(order, starts, count, shape, bins, places)
    values ^= first_bit
    return values.view(voxels.dtype), (starts[: count + 1], alike[:count], places)


def build(key: tuple) -> Callable:
    """Compile a variant.

    Parameters
    ----------
    key : tuple
        Type of the counts of columns, "u1" or "u2", and of the voxels, as in ``("u1", "i2")``.

    Returns
    -------
    callable
        ``kernel(bins, order, out, sizes, rank, borrow)``, as in `ranks_1`; ``borrow`` lends scratch memory.
    """
    counts = np.dtype(key[0])
    table = steps(counts)

    def kernel(bins, order, out, sizes, rank, borrow) -> None:
        segments = -(-len(order[1]) // LINE)
        most = _STRIP_BYTES // ((segments + 1) * LINE * counts.itemsize) - sizes[2] + 1
        strip = min(max(_STRIP, most), out.shape[2])
        columns = strip + sizes[2] - 1
        wanted = (counts, columns * (segments + 1) * LINE), (np.dtype(np.uint16), (segments + 1) * LINE)
        with borrow(*wanted) as (room, window):
            ranks_1(bins, order, out, sizes, rank, strip, room, window, table)

    voxels, one = np.zeros(1, key[1]), np.zeros((1, 1, 1), np.uint16)
    if voxels.itemsize <= 2:
        look_up(voxels, voxels.copy(), one.reshape(1))
    keys.prepare(voxels.dtype)
    kernel(one, in_order(voxels, one.reshape(1), (1, 1, 1), 1)[1], one.astype(np.int32), (1, 1, 1), 0, _lend)
    return kernel


def _lend(*wanted):
    return nullcontext([np.empty(length, dtype) for dtype, length in wanted])
