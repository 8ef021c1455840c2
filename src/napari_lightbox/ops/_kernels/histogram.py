"""Counting grey values, and parting them at thresholds.

The idea
    Counting is one load and one increment a voxel. What is slow in numpy is the way there: grey values are first made
    into 64-bit places. Here the place is worked out on the way. Two tables are counted into by turns: where
    neighbours are equal, as in air, an increment would have to wait for the one before it to reach the memory.
    Fractions are put into bins by the same arithmetic, in the same order, as the plain way, so that each lands in the
    same bin. Parting compares a piece that fits the cache with one threshold after the other, by vectors.

What it follows
    Sub-histograms as they are usual on graphics processors, e.g. C. Podlozhnyuk, Histogram calculation in CUDA, 2007.

Cost
    Some 0.3 ns a voxel of 16 bits in one core, where four tables are no faster than two; in volumes of 1 M voxels that
    is half of all, and to begin a second thread takes as long. Some 2 ns for binned fractions, which are divided.

Limits
    A table has 32-bit counts: at most 4 billion voxels at once. Tables beyond the cache would be slow.

Importing this module needs numba. Whoever changes a kernel changes the number in its name too: compiled code is kept
on disk under that name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._jit import jit

_STEP = np.uint32(1)
# Voxels that are compared with all thresholds before the next: they and their classes stay in the cache.
_PIECE = 1 << 13


@jit
def count_1(values, low, table):
    """Count whole numbers (also in floats; what is not finite is left out).

    Parameters
    ----------
    values : ndarray
        Flat.
    low : int
        Grey value that is counted at place 0.
    table : (2, bins) ndarray of uint32
        Counts, to be added up by whoever asked; increased.
    """
    for i in range(0, len(values) - 1, 2):
        first, second = values[np.uint64(i)], values[np.uint64(i + 1)]
        if first - first == 0:
            table[0, np.uint64(np.int64(first) - low)] += _STEP
        if second - second == 0:
            table[1, np.uint64(np.int64(second) - low)] += _STEP
    if len(values) % 2:
        last = values[len(values) - 1]
        if last - last == 0:
            table[0, np.uint64(np.int64(last) - low)] += _STEP


@jit
def extent_1(values):
    """Return the smallest and the largest finite value, whether all are whole numbers, and whether there is any."""
    low, high = np.float64(np.inf), np.float64(-np.inf)
    whole = True
    for i in range(len(values)):
        value = np.float64(values[i])
        if value - value == 0:
            low = min(low, value)
            high = max(high, value)
            whole &= value == np.floor(value)
    return low, high, whole, low <= high


@jit
def bin_1(values, low, high, edges, table):
    """Count fractions in bins of equal width; bin k holds what is above ``edges[k]`` and at most ``edges[k + 1]``.

    The smallest value, and what is not finite (which is left out), are the exceptions. `table` as in `count_1`.
    """
    bins = len(edges) - 1
    for i in range(len(values)):
        value = np.float64(values[i])
        if value - value == 0:
            place = (value - low) / (high - low) * bins
            k = np.int64(min(max(place, 0.0), bins - 1.0))
            if value <= edges[k] and k > 0:
                k -= 1
            if value > edges[k + 1] and k < bins - 1:
                k += 1
            table[i & 1, k] += _STEP


@jit
def part_1(values, thresholds, classes):
    """Write, for each value, how many thresholds it lies above; NaN lies above none."""
    for start in range(0, len(values), _PIECE):
        stop = min(start + _PIECE, len(values))
        for i in range(start, stop):
            classes[np.uint64(i)] = 0
        for threshold in thresholds:
            for i in range(start, stop):
                classes[np.uint64(i)] += np.uint8(values[np.uint64(i)] > threshold)


class Histogram(NamedTuple):
    """The compiled functions for one type of voxel; `extent` and `bin` are None where they are not needed."""

    count: Callable
    part: Callable
    extent: Callable | None
    bin: Callable | None


def build(key: tuple[str]) -> Histogram:
    """Compile for one type of voxel, such as ``("i2",)``."""
    dtype = np.dtype(key[0])
    values, table = np.zeros(1, dtype), np.zeros((2, 2), np.uint32)
    # numba would compile anew for arrays that may be written and those that may not.
    values.flags.writeable = False
    count_1(values, 0, table)
    part_1(values, np.zeros(1, np.float64 if dtype.kind == "f" else dtype), np.zeros(1, np.uint8))
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        return Histogram(count_1, part_1, None, None)
    extent_1(values)
    if dtype.kind in "iu":
        return Histogram(count_1, part_1, extent_1, None)
    bin_1(values, 0.0, 1.0, np.zeros(2), table)
    return Histogram(count_1, part_1, extent_1, bin_1)
