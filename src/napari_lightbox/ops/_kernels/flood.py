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

    A row is compared with the two grey values when the flood first touches it or its neighbour, 64 voxels by one
    comparison of vectors. So the time goes with the region and its border, not with the volume.

What it follows
    Scan-line filling (A. R. Smith, Tint fill, SIGGRAPH 1979) with runs held as bits; the carry of an addition as a
    fill, as in the "o^(o-2r)" sliding attacks of bitboard chess and in H. S. Warren, Hacker's Delight, 2nd ed. 2012,
    section 2-1; doubling as in the Kogge-Stone adder (1973).

Cost
    Some 10 operations a word (64 voxels) for each visit of a row and each of its 4 (6 neighbours) or 8 (18 and 26)
    neighbouring rows; rows of a compact region are visited two or three times. Comparing costs one load, two
    comparisons and one store of 8 bytes for 64 voxels. Growing by confidence spends a fifth of its time here (57 of 308
    ms for five floods of 200 x 512 x 512 voxels on two threads), the rest on the region's exact mean and deviation.

Limits
    Rows run along the last axis: rows much shorter than 64 voxels waste most of a word. A maze with many thin walls
    across the rows is visited many times. Three bits a voxel are kept, of which only touched rows are ever written: a
    flood has to remember where it was, so this does grow with the region, to three eighths of the result at most.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._jit import jit
from .bits import between_1, between_64, ones, spell_64, sums_64, whole_1

_U = np.uint64
_ZERO, _ONE, _TOP = _U(0), _U(1), _U(63)
_BYTE_LOW, _BYTE_HIGH = np.uint8(1), np.uint8(255)
# States of a row.
_COMPARED, _WAITS = 1, 2
# Places of its bits.
_FREE, _FRESH, _DONE = 0, 1, 2


@jit
def _open_row_1(image, size, low, high, inside, wide, row, bits):
    """Begin a row: free are the voxels between two values, and inside of the mask where there is one."""
    first = row * wide
    full = wide // 64
    left = wide - 64 * full
    for w in range(full):
        word = between_64(image + (first + 64 * w) * size, low, high)
        if inside:
            word &= between_64(inside + first + 64 * w, _BYTE_LOW, _BYTE_HIGH)
        bits[row, _FREE, w] = word
    if left and full:
        # The last 64 voxels of the row: the first of them belong to the word before.
        last = first + wide - 64
        word = between_64(image + last * size, low, high)
        if inside:
            word &= between_64(inside + last, _BYTE_LOW, _BYTE_HIGH)
        bits[row, _FREE, full] = word >> _U(64 - left)
    elif left:
        word = _ZERO
        for x in range(left):
            bit = between_1(image + (first + x) * size, low, high)
            if inside:
                bit &= between_1(inside + first + x, _BYTE_LOW, _BYTE_HIGH)
            word |= bit << _U(x)
        bits[row, _FREE, 0] = word
    for w in range(bits.shape[2]):
        bits[row, _FRESH, w] = _ZERO
        bits[row, _DONE, w] = _ZERO


class Rows(NamedTuple):
    """The state of a flood; only what belongs to rows with a state need be set.

    Parameters
    ----------
    bits : (rows, 3, words) ndarray of uint64
        Free, fresh and done bits of each row.
    state : ndarray of uint8
        Of each row: 1 once it was compared, 2 more while it waits.
    span : (rows, 2) ndarray of int32
        First and last word that may hold fresh bits, of the rows that wait.
    after : (rows,) ndarray of int32
        The row that waits behind a row in the same plane, or -1.
    top : (planes,) ndarray of int32
        The row of each plane that is to be taken next, or -1.
    """

    bits: np.ndarray
    state: np.ndarray
    span: np.ndarray
    after: np.ndarray
    top: np.ndarray


@jit(forceinline=True)
def _fill_row_1(rows, row, filled):
    """Fill the free runs of a row that hold fresh bits; return the words in which that changed anything, and how much.

    The fresh bits are taken off.
    """
    words = len(filled)
    first, last = rows.span[row, 0], rows.span[row, 1]
    carry = _ZERO
    w = first
    while w < words and (w <= last or carry):
        free = rows.bits[row, _FREE, w]
        seeds = (rows.bits[row, _FRESH, w] | carry) & free
        rows.bits[row, _FRESH, w] = _ZERO
        bits = (((free + seeds) ^ free) & free) | seeds
        filled[w] = bits
        carry = bits >> _TOP
        w += 1
    low, high, count = words, -1, 0
    carry = _ZERO
    w -= 1
    while w >= 0 and (w >= first or carry):
        free = rows.bits[row, _FREE, w]
        bits = (filled[w] if w >= first else _ZERO) | (carry & free)
        if (bits >> _ONE) & free & ~bits:
            through = free
            for far in (_U(1), _U(2), _U(4), _U(8), _U(16), _U(32)):
                bits |= through & (bits >> far)
                through &= through >> far
        filled[w] = bits
        if bits:
            rows.bits[row, _FREE, w] = free & ~bits
            rows.bits[row, _DONE, w] |= bits
            count += ones(bits)
            low = w
            high = max(high, w)
        carry = (bits & _ONE) << _TOP
        w -= 1
    return low, high, count


@jit(forceinline=True)
def _spread_1(filled, first, last, spread):
    """Spread words `first` to `last` by one voxel to both sides; return the words that may hold any then."""
    start, stop = max(first - 1, 0), min(last + 1, len(filled) - 1)
    for w in range(start, stop + 1):
        here = filled[w] if first <= w <= last else _ZERO
        below = filled[w - 1] if first < w else _ZERO
        above = filled[w + 1] if w < last else _ZERO
        spread[w] = here | (here << _ONE) | (here >> _ONE) | (below >> _TOP) | (above << _TOP)
    return start, stop


@jit(forceinline=True)
def _wet_1(rows, near, plane, bits, start, stop):
    """Let what was filled reach a neighbouring row; return 1 if that waits from now on, 0 if it does or does not."""
    first, last = len(bits), -1
    for w in range(start, stop + 1):
        new = bits[w] & rows.bits[near, _FREE, w]
        if new:
            rows.bits[near, _FRESH, w] |= new
            first = min(first, w)
            last = w
    if last < 0:
        return 0
    if rows.state[near] & _WAITS:
        rows.span[near, 0] = min(rows.span[near, 0], first)
        rows.span[near, 1] = max(rows.span[near, 1], last)
        return 0
    rows.state[near] |= _WAITS
    rows.span[near, 0] = first
    rows.span[near, 1] = last
    rows.after[near] = rows.top[plane]
    rows.top[plane] = near
    return 1


@jit
def flood_1(image, size, low, high, inside, shape, steps, rows, now, most, limit):
    """Go on with a flood.

    Parameters
    ----------
    image : int
        Address of the voxels, in C order.
    size : int
        Bytes of a voxel.
    low, high : number
        Smallest and largest value of the region, of the type of the voxels.
    inside : int
        Address of a mask of bytes, or 0.
    shape : tuple of int
        (z, y, x).
    steps : (n, 3) ndarray of int64
        For each neighbouring row, the steps in z and in y, and by how many voxels (0 or 1) a neighbour there may
        differ in x.
    rows : Rows
        State; the rows of the seeds are compared and wait.
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
    deep, tall, wide = shape
    z, way, waiting, count = now
    filled, spread = np.empty(rows.bits.shape[2], np.uint64), np.empty(rows.bits.shape[2], np.uint64)
    corners = np.any(steps[:, 2] > 0)
    while waiting > 0 and limit > 0 and count <= most:
        row = rows.top[z]
        if row < 0:
            # Up through the planes, and down again.
            if z + way < 0 or z + way >= deep:
                way = -way
            z += way if deep > 1 else 0
            continue
        rows.top[z] = rows.after[row]
        waiting -= 1
        limit -= 1
        rows.state[row] = _COMPARED
        first, last, more = _fill_row_1(rows, row, filled)
        count += more
        start, stop = _spread_1(filled, first, last, spread) if corners else (first, last)
        y = row - z * tall
        for number in range(len(steps)):
            near_z, near_y = z + steps[number, 0], y + steps[number, 1]
            if near_z < 0 or near_z >= deep or near_y < 0 or near_y >= tall:
                continue
            near = near_z * tall + near_y
            if rows.state[near] == 0:
                rows.state[near] = _COMPARED
                _open_row_1(image, size, low, high, inside, wide, near, rows.bits)
            if steps[number, 2]:
                waiting += _wet_1(rows, near, near_z, spread, start, stop)
            else:
                waiting += _wet_1(rows, near, near_z, filled, first, last)
    return z, way, waiting, count


@jit
def paint_1(bits, state, wide, first, last, out):
    """Write the region into rows `first` to `last` of `out`, flat bytes that are 0."""
    full = wide // 64
    left = wide - 64 * full
    for row in range(first, last):
        if state[row] == 0:
            continue
        start = row * wide
        for w in range(full):
            if bits[row, _DONE, w]:
                spell_64(out.ctypes.data + start + 64 * w, bits[row, _DONE, w])
        if left and full:
            word = (bits[row, _DONE, full - 1] >> _U(left)) | (bits[row, _DONE, full] << _U(64 - left))
            spell_64(out.ctypes.data + start + wide - 64, word)
        for x in range(left if full == 0 else 0):
            out[start + x] = (bits[row, _DONE, 0] >> _U(x)) & _ONE


@jit
def sums_1(image, size, like, bits, state, wide, first, last):
    """Add up the values of the region in some rows, exactly.

    Parameters
    ----------
    image, size : int
        As in `flood_1`.
    like : int
        A number of the type of the voxels: whole numbers of at most 32 bits.
    bits, state : ndarray
        From `Rows`.
    wide : int
        Voxels of a row.
    first, last : int
        Rows.

    Returns
    -------
    tuple of int
        The sum; and of the squares, the sums of their upper and of their lower 32 bits.
    """
    total, upper, lower = np.int64(0), np.int64(0), np.int64(0)
    full = wide // 64
    left = wide - 64 * full
    for row in range(first, last):
        if state[row] == 0:
            continue
        start = row * wide
        for w in range(full):
            if bits[row, _DONE, w]:
                a, b, c = sums_64(image + (start + 64 * w) * size, bits[row, _DONE, w], like)
                total, upper, lower = total + a, upper + b, lower + c
        if left and full:
            word = bits[row, _DONE, full] << _U(64 - left)
            a, b, c = sums_64(image + (start + wide - 64) * size, word, like)
            total, upper, lower = total + a, upper + b, lower + c
        for x in range(left if full == 0 else 0):
            if (bits[row, _DONE, 0] >> _U(x)) & _ONE:
                value = whole_1(image + (start + x) * size, like)
                square = _U(value * value)
                total += value
                upper += np.int64(square >> _U(32))
                lower += np.int64(square & _U(0xFFFFFFFF))
    return total, upper, lower


class Flood(NamedTuple):
    """The compiled functions for one type of voxel; `sums` is None where sums would not be exact."""

    rows: type
    flood: Callable
    paint: Callable
    sums: Callable | None


def build(key: tuple[str]) -> Flood:
    """Compile for one type of voxel, such as ``("i2",)``."""
    dtype = np.dtype(key[0])
    bits, state = np.zeros((1, 3, 1), np.uint64), np.zeros(1, np.uint8)
    none = np.full(1, -1, np.int32)
    rows = Rows(bits, state, np.zeros((1, 2), np.int32), none, none.copy())
    voxel, one = np.zeros(1, dtype), dtype.type(1)
    steps = np.zeros((1, 3), np.int64)
    flood_1(voxel.ctypes.data, dtype.itemsize, one, one, 0, (1, 1, 1), steps, rows, (0, 1, 0, 0), 1, 1)
    paint_1(bits, state, 1, 0, 1, state.copy())
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        return Flood(Rows, flood_1, paint_1, None)
    sums_1(voxel.ctypes.data, dtype.itemsize, one, bits, state, 1, 0, 1)
    return Flood(Rows, flood_1, paint_1, sums_1)
