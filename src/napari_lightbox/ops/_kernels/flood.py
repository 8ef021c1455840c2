"""Flooding a region between two grey values, 64 voxels at a time.

The idea
    A row of voxels is a row of bits: one says whether a voxel may still join (`free`), one whether it has joined
    (`done`), one whether the flood has reached it from a neighbouring row and has not gone on from there yet
    (`fresh`). A row of 512 voxels is eight words. Rows that the flood has reached wait in a queue, each at most once.
    When a row is taken, whole runs of free voxels that hold a fresh one are filled at once:

    - upwards by an addition. Adding a bit to a run of ones carries to the run's end; what the addition changed inside
      the run is what the flood fills, and a carry out of the word goes into the next word;
    - downwards by doubling: the fill spreads by 1, 2, 4 ... 32 voxels, through ones only. That is seldom needed, so it
      is asked for first.

    What was filled is then and-ed with the free bits of the neighbouring rows, for the neighbourhoods in which a
    corner may be turned spread by one voxel to both sides before. Free voxels of a row always form whole runs, so
    that a row never has to be looked at again unless another row reaches it.

    Words are compared with the two grey values when the flood first touches them, 64 voxels by one comparison of
    vectors, and those of the next rows are asked for from memory before. So the time goes with the region and its
    border, not with the volume.

What it follows
    Scan-line filling (A. R. Smith, Tint fill, SIGGRAPH 1979) with runs held as bits; the carry of an addition as a
    fill, as in the "o^(o-2r)" sliding attacks of bitboard chess and in H. S. Warren, Hacker's Delight, 2nd ed. 2012,
    section 2-1; doubling as in the Kogge-Stone adder (1973).

Cost
    Some 10 operations a word (64 voxels) for each visit of a row and each of its 4 (6 neighbours) or 8 (18 and 26)
    neighbouring rows; rows of a compact region are visited two or three times. Comparing costs one load, two
    comparisons and one store of 8 bytes for 64 voxels. A region of five million voxels in a volume of 200 x 512 x 512
    takes 10 ms of one core: two for the pages of the result, which come zeroed from the system when the first row of
    them is reached, the rest in 58 thousand visits of rows, 130 ns each. Without asking early for the state of the
    neighbouring rows it takes 1.3 ms more where the pages are there. Writing the region and adding up its values take
    another 3.7 ms, shared by all threads. The state is passed by addresses: to pass arrays, which numba counts the
    holders of at every call, took half as long again.

Limits
    Rows run along the last axis: rows much shorter than 64 voxels waste most of a word. A maze with many thin walls
    across the rows is visited many times. A flood has to remember where it was, three bits a voxel: see `rows` for
    where they are kept.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._jit import jit
from .bits import between_1, between_64, fetch, ones, peek, poke
from .rows import AFTER, DONE, FREE, FRESH, OPENED, SPAN, Rows, bits_at, number_of, paint_3, set_number, wipe_1

_U = np.uint64
_ZERO, _ONE, _TOP = _U(0), _U(1), _U(63)
# Numbers that are not 0 lie between these.
_LEAST_8, _LEAST_16, _LEAST_32, _LEAST_64 = np.uint8(1), np.uint16(1), np.uint32(1), np.uint64(1)
_MOST_8, _MOST_16 = np.uint8(0xFF), np.uint16(0xFFFF)
_MOST_32, _MOST_64 = np.uint32(0xFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFF)
# States of a row.
_ROW = np.int32(0)
_NEW, _COMPARED, _WAITS = np.uint8(0), np.uint8(1), np.uint8(2)


class Picture(NamedTuple):
    """Where a flood may go.

    Parameters
    ----------
    image : int
        Address of the voxels, in C order.
    size : int
        Bytes of a voxel.
    low, high : number
        Smallest and largest value of the region, of the type of the voxels.
    inside, inside_size : int
        Address of a mask of whole numbers, in C order, or 0; bytes of each.
    wide : int
        Voxels of a row.
    """

    image: int
    size: int
    low: int | float
    high: int | float
    inside: int
    inside_size: int
    wide: int


@jit
def _set_64(address, size):
    """Return which of 64 whole numbers are not 0."""
    if size == 1:
        return between_64(address, _LEAST_8, _MOST_8)
    if size == 2:
        return between_64(address, _LEAST_16, _MOST_16)
    if size == 4:
        return between_64(address, _LEAST_32, _MOST_32)
    return between_64(address, _LEAST_64, _MOST_64)


@jit
def _set_1(address, size):
    """Return 1 if a whole number is not 0."""
    if size == 1:
        return between_1(address, _LEAST_8, _MOST_8)
    if size == 2:
        return between_1(address, _LEAST_16, _MOST_16)
    if size == 4:
        return between_1(address, _LEAST_32, _MOST_32)
    return between_1(address, _LEAST_64, _MOST_64)


@jit
def _compare_3(picture, rows, row, first, stop):
    """Begin words `first` to `stop` of a row: free are the voxels between two values, and inside of a mask."""
    image, size, low, high, inside, inside_size, wide = picture
    start = row * wide
    for w in range(first, stop):
        left = wide - 64 * w
        if left >= 64:
            word = between_64(image + (start + 64 * w) * size, low, high)
            if inside:
                word &= _set_64(inside + (start + 64 * w) * inside_size, inside_size)
        elif w > 0:
            # The last 64 voxels of the row: the first of them belong to the word before.
            last = start + wide - 64
            word = between_64(image + last * size, low, high)
            if inside:
                word &= _set_64(inside + last * inside_size, inside_size)
            word >>= _U(64 - left)
        else:
            word = _ZERO
            for x in range(left):
                bit = between_1(image + (start + x) * size, low, high)
                if inside:
                    bit &= _set_1(inside + (start + x) * inside_size, inside_size)
                word |= bit << _U(x)
        poke(bits_at(rows, row, FREE, w), word)
        poke(bits_at(rows, row, FRESH, w), _ZERO)
        poke(bits_at(rows, row, DONE, w), _ZERO)


@jit(forceinline=True)
def _foresee_3(picture, rows, row, first, stop):
    """Ask for words `first` to `stop` of a row to be brought near, for the time when they are compared."""
    if peek(rows.state + row, _NEW) == _NEW:
        start = picture.image + (row * picture.wide + 64 * first) * picture.size
        for place in range(start, start + 64 * (stop - first) * picture.size, 64):
            fetch(place)


@jit
def _open_3(picture, rows, row, first, stop):
    """Compare what was not compared yet of words `first` to `stop` of a row, and of those between."""
    if peek(rows.state + row, _NEW) == _NEW:
        poke(rows.state + row, _COMPARED)
        old_first, old_stop = stop, stop
    else:
        old_first, old_stop = number_of(rows, row, OPENED), number_of(rows, row, OPENED + 1)
    if first < old_first:
        _compare_3(picture, rows, row, first, old_first)
        set_number(rows, row, OPENED, first)
    if stop > old_stop:
        _compare_3(picture, rows, row, old_stop, stop)
    set_number(rows, row, OPENED + 1, max(stop, old_stop))


@jit(forceinline=True)
def _fill_row_3(picture, rows, row):
    """Fill the free runs of a row that hold fresh bits; return the words in which that changed anything, and how much.

    The fresh bits are taken off.
    """
    words, filled = rows.words, rows.filled
    first, last = number_of(rows, row, SPAN), number_of(rows, row, SPAN + 1)
    start, stop = number_of(rows, row, OPENED), number_of(rows, row, OPENED + 1)
    carry = _ZERO
    w = first
    while w < words and (w <= last or carry):
        if w >= stop:
            _open_3(picture, rows, row, w, w + 1)
        free = peek(bits_at(rows, row, FREE, w), _ZERO)
        seeds = (peek(bits_at(rows, row, FRESH, w), _ZERO) | carry) & free
        poke(bits_at(rows, row, FRESH, w), _ZERO)
        bits = (((free + seeds) ^ free) & free) | seeds
        poke(filled + 8 * w, bits)
        carry = bits >> _TOP
        w += 1
    low, high, count = words, -1, 0
    carry = _ZERO
    w -= 1
    while w >= 0 and (w >= first or carry):
        if w < start:
            _open_3(picture, rows, row, w, w + 1)
        free = peek(bits_at(rows, row, FREE, w), _ZERO)
        bits = carry & free
        if w >= first:
            bits |= peek(filled + 8 * w, _ZERO)
        if (bits >> _ONE) & free & ~bits:
            through = free
            for far in (_U(1), _U(2), _U(4), _U(8), _U(16), _U(32)):
                bits |= through & (bits >> far)
                through &= through >> far
        poke(filled + 8 * w, bits)
        if bits:
            poke(bits_at(rows, row, FREE, w), free & ~bits)
            done = bits_at(rows, row, DONE, w)
            poke(done, peek(done, _ZERO) | bits)
            count += ones(bits)
            low = w
            high = max(high, w)
        carry = (bits & _ONE) << _TOP
        w -= 1
    return low, high, count


@jit(forceinline=True)
def _spread_3(rows, first, last):
    """Spread filled words `first` to `last` by one voxel to both sides; return the words that may hold any then."""
    filled = rows.filled
    start, stop = max(first - 1, 0), min(last + 1, rows.words - 1)
    for w in range(start, stop + 1):
        here = peek(filled + 8 * w, _ZERO) if first <= w <= last else _ZERO
        below = peek(filled + 8 * (w - 1), _ZERO) if first < w else _ZERO
        above = peek(filled + 8 * (w + 1), _ZERO) if w < last else _ZERO
        poke(rows.spread + 8 * w, here | (here << _ONE) | (here >> _ONE) | (below >> _TOP) | (above << _TOP))
    # Words beside the filled ones that nothing was spread into need not be compared.
    start += start < first and peek(rows.spread + 8 * start, _ZERO) == _ZERO
    stop -= stop > last and peek(rows.spread + 8 * stop, _ZERO) == _ZERO
    return start, stop


@jit(forceinline=True)
def _wet_3(rows, near, plane, bits, start, stop):
    """Let what was filled reach a neighbouring row; return 1 if that waits from now on, 0 if it does or does not."""
    first, last = rows.words, -1
    for w in range(start, stop + 1):
        new = peek(bits + 8 * w, _ZERO) & peek(bits_at(rows, near, FREE, w), _ZERO)
        if new:
            fresh = bits_at(rows, near, FRESH, w)
            poke(fresh, peek(fresh, _ZERO) | new)
            first = min(first, w)
            last = w
    if last < 0:
        return 0
    state = peek(rows.state + near, _NEW)
    if state & _WAITS:
        set_number(rows, near, SPAN, min(number_of(rows, near, SPAN), first))
        set_number(rows, near, SPAN + 1, max(number_of(rows, near, SPAN + 1), last))
        return 0
    poke(rows.state + near, np.uint8(state | _WAITS))
    set_number(rows, near, SPAN, first)
    set_number(rows, near, SPAN + 1, last)
    set_number(rows, near, AFTER, np.int64(peek(rows.top + 4 * plane, _ROW)))
    poke(rows.top + 4 * plane, np.int32(near))
    return 1


@jit(forceinline=True)
def _expect_3(tall, steps, rows, row):
    """Ask for the state of the neighbouring rows to be brought near."""
    first = number_of(rows, row, SPAN)
    for number in range(len(steps)):
        near = row + steps[number, 0] * tall + steps[number, 1]
        fetch(rows.numbers + near * rows.away)
        fetch(bits_at(rows, near, 0, first))
        fetch(bits_at(rows, near, 0, first) + 64)


@jit
def flood_4(picture, shape, steps, rows, now, most, limit):
    """Go on with a flood.

    Parameters
    ----------
    picture : Picture
        Where it may go.
    shape : tuple of int
        (z, y, x).
    steps : (n, 3) ndarray of int64
        For each neighbouring row, the steps in z and in y, and by how many voxels (0 or 1) a neighbour there may
        differ in x.
    rows : Rows
        State; the words of the seeds are compared, and their rows wait.
    now : tuple of int
        More state: the plane that is worked on, the direction in which the next one lies (1 or -1), the number of
        rows that wait, and of voxels that have joined.
    most, limit : int
        Stop above so many voxels, or after so many rows.

    Returns
    -------
    tuple of int
        The new state.
    """
    deep, tall, _ = shape
    z, way, waiting, count = now
    corners = np.any(steps[:, 2] > 0)
    while waiting > 0 and limit > 0 and count <= most:
        row = np.int64(peek(rows.top + 4 * z, _ROW))
        if row < 0:
            # Up through the planes, and down again.
            if z + way < 0 or z + way >= deep:
                way = -way
            z += way if deep > 1 else 0
            continue
        poke(rows.top + 4 * z, np.int32(number_of(rows, row, AFTER)))
        waiting -= 1
        limit -= 1
        poke(rows.state + row, _COMPARED)
        _expect_3(tall, steps, rows, row)
        first, last, more = _fill_row_3(picture, rows, row)
        count += more
        start, stop = _spread_3(rows, first, last) if corners else (first, last)
        y = row - z * tall
        for number in range(len(steps)):
            near_z, near_y = z + steps[number, 0], y + steps[number, 1]
            if near_z < 0 or near_z >= deep or near_y < 0 or near_y >= tall:
                continue
            near = near_z * tall + near_y
            if steps[number, 2]:
                _open_3(picture, rows, near, start, stop + 1)
                waiting += _wet_3(rows, near, near_z, rows.spread, start, stop)
            else:
                if peek(rows.state + near, _NEW) == _NEW:
                    if near_y + 1 < tall:
                        _foresee_3(picture, rows, near + 1, first, last + 1)
                    if near_y > 0:
                        _foresee_3(picture, rows, near - 1, first, last + 1)
                _open_3(picture, rows, near, first, last + 1)
                waiting += _wet_3(rows, near, near_z, rows.filled, first, last)
    return z, way, waiting, count


class Flood(NamedTuple):
    """The compiled functions for one type of voxel."""

    picture: type
    rows: type
    flood: Callable
    paint: Callable
    wipe: Callable


def build(key: tuple[str]) -> Flood:
    """Compile for one type of voxel, such as ``("i2",)``."""
    dtype = np.dtype(key[0])
    state, none = np.zeros(1, np.uint8), np.full(1, -1, np.int32)
    room, numbers = np.zeros(3, np.uint64), np.zeros(5, np.int32)
    at, numbers_at = room.ctypes.data, numbers.ctypes.data
    rows = Rows(at, 24, numbers_at, 20, state.ctypes.data, none.ctypes.data, at, at, 1)
    voxel, one = np.zeros(1, dtype), dtype.type(1)
    picture = Picture(voxel.ctypes.data, dtype.itemsize, one, one, 0, 1, 1)
    # Nothing waits: nothing is touched.
    flood_4(picture, (1, 1, 1), np.zeros((1, 3), np.int64), rows, (0, 1, 0, 0), 1, 1)
    paint_3(rows, 1, 0, 1, at, True)
    wipe_1(rows, 0, 1)
    return Flood(Picture, Rows, flood_4, paint_3, wipe_1)
