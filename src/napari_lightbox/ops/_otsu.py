"""Histograms over every grey value, and the thresholds that part them best."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from ..errors import InputError
from ..progress import track
from . import _tiles

FLOAT_BINS = 4096
# Widest range of whole numbers that is counted value by value without sorting.
_DENSE = 1 << 22
# Voxels counted at once; few enough to stay in a core's cache.
_SLAB = 1 << 18


@dataclass(frozen=True)
class Histogram:
    """Occupied grey values in increasing order.

    Parameters
    ----------
    position : ndarray
        Place of each on the grey scale, for the moments; any scale and origin.
    count : ndarray of int64
        Voxels of each.
    upper : ndarray
        The largest value that belongs to each: the grey value itself, or the upper edge of a bin.
    """

    position: np.ndarray
    count: np.ndarray
    upper: np.ndarray


def histogram(image: np.ndarray) -> Histogram:
    """Count the grey values of whole numbers one by one, of fractions in `FLOAT_BINS` bins between the extremes."""
    if image.dtype == bool:
        image = image.view(np.uint8)
    slabs = _tiles.slabs(image.shape, _SLAB)
    if image.dtype.kind in "iu" and image.dtype.itemsize <= 2:
        limits = np.iinfo(image.dtype)
        return _dense(image, slabs, limits.min, limits.max)
    low, high, whole = _range(image, slabs)
    if low == high:
        return Histogram(np.zeros(1), np.array([image.size]), np.array([low]))
    if not whole:
        return _binned(image, slabs, low, high)
    if high - low < _DENSE:
        return _dense(image, slabs, low, high)
    return _sparse(image, slabs)


def _range(image: np.ndarray, slabs: list[slice]):
    """Return the smallest and the largest finite value, and whether they can be counted one by one."""
    found = []

    def work(slab: slice) -> None:
        part = _finite(image[slab])
        if part.size:
            found.append((part.min().item(), part.max().item(), _is_whole(part[:1000]) and _is_whole(part)))

    _tiles.run(work, slabs, "slabs")
    if not found:
        raise InputError("image holds no finite value, only NaN or infinite ones: there is nothing to threshold")
    low, high = min(f[0] for f in found), max(f[1] for f in found)
    whole = all(f[2] for f in found)
    if image.dtype.kind == "f":
        whole = whole and high - low < _DENSE and max(abs(low), abs(high)) < 2**53
    return low, high, whole


def _is_whole(part: np.ndarray) -> bool:
    return part.dtype.kind != "f" or bool((part == np.floor(part)).all())


def _finite(part: np.ndarray) -> np.ndarray:
    """Return the finite values of `part` as one row."""
    part = part.ravel()
    if part.dtype.kind == "f":
        finite = np.isfinite(part)
        part = part if finite.all() else part[finite]
    return part


def _dense(image: np.ndarray, slabs: list[slice], low, high) -> Histogram:
    low, high = int(low), int(high)
    wide = np.uint64 if image.dtype == np.uint64 else np.int64

    def place(values: np.ndarray) -> np.ndarray:
        return values if image.dtype.kind == "u" and low == 0 else (values.astype(wide) - wide(low)).astype(np.int64)

    count = _count(image, slabs, place, high - low + 1)
    present = np.flatnonzero(count)
    upper = present + low if low <= np.iinfo(np.int64).max - _DENSE else present.astype(np.uint64) + np.uint64(low)
    return Histogram(present.astype(np.float64), count[present], upper)


def _count(image: np.ndarray, slabs: list[slice], place: Callable[[np.ndarray], np.ndarray], bins: int) -> np.ndarray:
    """Count the finite values of `image` by their place."""
    total, lock = np.zeros(bins, np.int64), Lock()

    def work(slab: slice) -> None:
        count = np.bincount(place(_finite(image[slab])), minlength=bins)
        with lock:
            np.add(total, count, out=total)

    _tiles.run(work, slabs, "slabs")
    return total


def _sparse(image: np.ndarray, slabs: list[slice]) -> Histogram:
    values, count = np.empty(0, image.dtype), np.empty(0, np.int64)
    for slab in track(slabs, "slabs"):
        new, number = np.unique(image[slab], return_counts=True)
        both, place = np.unique(np.concatenate([values, new]), return_inverse=True)
        total = np.zeros(len(both), np.int64)
        total[place[: len(values)]] += count
        total[place[len(values) :]] += number
        values, count = both, total
    return Histogram(values.astype(np.float64), count, values)


def _binned(image: np.ndarray, slabs: list[slice], low: float, high: float) -> Histogram:
    if not np.isfinite(high - low):
        raise InputError(f"image reaches from {low:g} to {high:g}, too far for a histogram: clip or scale it first")
    edges = np.linspace(low, high, FLOAT_BINS + 1)

    def place(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64, copy=False)
        index = np.clip((values - low) / (high - low) * FLOAT_BINS, 0, FLOAT_BINS - 1).astype(np.intp)
        # A bin is (lower, upper], so that it lies on one side of every threshold; the division may miss that.
        index -= (values <= edges[index]) & (index > 0)
        index += (values > edges[index + 1]) & (index < FLOAT_BINS - 1)
        return index

    count = _count(image, slabs, place, FLOAT_BINS)
    present = np.flatnonzero(count)
    return Histogram(present.astype(np.float64), count[present], edges[present + 1])


def best_cuts(found: Histogram, classes: int) -> np.ndarray:
    """Return the places after which to cut a histogram so that the variance between `classes` classes is largest.

    Of several best partitions the one with the smallest last cut is taken, then the smallest cut before it, and so on.

    Returns
    -------
    ndarray of int
        ``classes - 1`` increasing indices into the histogram: the last member of every class but the last.
    """
    total = found.count.sum()
    # About the mean, where sums are small; a whole number keeps the sums of whole numbers exact.
    middle = np.round(np.dot(found.position, found.count / total))
    weight = np.concatenate([[0.0], np.cumsum(found.count)])
    moment = np.concatenate([[0.0], np.cumsum((found.position - middle) * found.count)])
    size = len(found.count)

    def gain(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the part of the between-class variance that a class from `first` to `last` adds."""
        return (moment[last + 1] - moment[first]) ** 2 / (weight[last + 1] - weight[first])

    last = np.arange(size)
    best = gain(np.zeros(size, int), last)
    starts = []
    for layer in track(range(1, classes - 1), "classes"):
        best, start = _layer(best, gain, layer, size)
        starts.append(start)
    # Only the end of the last class is needed, so one row is enough.
    first = np.arange(classes - 1, size)
    cut = int(first[np.argmax(best[first - 1] + gain(first, np.full(len(first), size - 1)))]) - 1
    cuts = [cut]
    for start in reversed(starts):
        cut = int(start[cut]) - 1
        cuts.append(cut)
    return np.array(cuts[::-1])


def _layer(best: np.ndarray, gain, layer: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Add one class: for every end, the best total and the start of the class that ends there.

    The best start never moves back when the end moves on (Liao's cost satisfies the quadrangle inequality), so the
    ends are solved from coarse to fine, each between the starts of its solved neighbours: n log n steps in all.
    """
    value = np.full(size, -np.inf)
    start = np.zeros(size, int)
    step = 1 << int(size).bit_length()
    while step:
        # Ends at odd multiples of the step (counted from 1): those at even multiples are solved already.
        ends = np.arange(step - 1, size, 2 * step)
        ends = ends[ends >= layer]
        if len(ends):
            before, after = ends - step, ends + step
            low = np.where(before >= layer, start[before], layer)
            high = np.where(after < size, start[np.minimum(after, size - 1)], ends)
            value[ends], start[ends] = _best_starts(best, gain, ends, low, np.minimum(high, ends))
        step //= 2
    return value, start


def _best_starts(best, gain, ends, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Try every start from `low` to `high` for each end; the smallest of equally good ones wins."""
    lengths = high - low + 1
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    starts = np.arange(lengths.sum()) + np.repeat(low - begins, lengths)
    totals = best[starts - 1] + gain(starts, np.repeat(ends, lengths))
    largest = np.maximum.reduceat(totals, begins)
    candidates = np.where(totals == np.repeat(largest, lengths), starts, np.iinfo(starts.dtype).max)
    return largest, np.minimum.reduceat(candidates, begins)
