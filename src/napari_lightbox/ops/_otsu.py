"""Histograms over every grey value, and the thresholds that part them best."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from ..errors import InputError
from ..progress import track
from . import _ready, _tiles

FLOAT_BINS = 4096
# Voxels to be counted after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("histogram", after=1 << 24)
KERNELS.usual_for("otsu", lambda dtype, ndim: [key] if (key := _key_of(dtype)) else [])
_TYPES = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}
# Widest range of whole numbers that is counted value by value without sorting.
_DENSE = 1 << 22
# Voxels counted at once; in numpy few enough to stay in a core's cache, compiled so many that it takes as long as to
# begin another thread.
_SLAB = 1 << 18
_COMPILED_SLAB = 1 << 20
# Voxels up to which looking for their range takes less time than to make, add up and search tables of 65,536 places.
_FEW = 1 << 22
# What a table of 32 bits can count.
_MOST = (1 << 32) - 1
# Widest range that the compiled loop counts: its table has to stay in the cache, too.
_NARROW = 1 << 17


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


def _key_of(dtype: np.dtype) -> tuple[str] | None:
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return (dtype.str[1:],) if dtype in _TYPES else None


def _kernel_for(image: np.ndarray):
    """Return the compiled functions for a type of voxel, if they are ready; ask for them otherwise."""
    key = _key_of(image.dtype)
    kernel = None if key is None else KERNELS.get(key)
    if kernel is None and key is not None:
        KERNELS.ask(key, image.size)
    return kernel


def histogram(image: np.ndarray) -> Histogram:
    """Count the grey values of whole numbers one by one, of fractions in `FLOAT_BINS` bins between the extremes."""
    if image.dtype == bool:
        image = image.view(np.uint8)
    kernel = _kernel_for(image)
    if image.flags.c_contiguous:
        image = image.reshape(-1)
    slabs = _tiles.slabs(image.shape, _SLAB if kernel is None else _COMPILED_SLAB)
    if image.dtype.kind in "iu" and image.dtype.itemsize <= 2:
        limits = np.iinfo(image.dtype)
        low, high = (image.min(), image.max()) if image.size <= _FEW else (limits.min, limits.max)
        return _dense(image, slabs, low, high, kernel)
    low, high, whole = _range(image, slabs, kernel)
    if low == high:
        return Histogram(np.zeros(1), np.array([image.size]), np.array([low]))
    if not whole:
        return _binned(image, slabs, low, high, kernel)
    if high - low < _DENSE:
        return _dense(image, slabs, low, high, kernel)
    return _sparse(image, slabs)


def _range(image: np.ndarray, slabs: list[slice], kernel):
    """Return the smallest and the largest finite value, and whether they can be counted one by one."""
    found = []

    def work(slab: slice) -> None:
        if kernel is not None:
            low, high, whole, some = kernel.extent(_flat(image[slab]))
            if some:
                found.append((low, high, whole) if image.dtype.kind == "f" else (int(low), int(high), True))
            return
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


def _flat(part: np.ndarray) -> np.ndarray:
    """Return an array flat, and not to be written: numba would compile anew for arrays that may be."""
    flat = part.reshape(-1).view()
    flat.flags.writeable = False
    return flat


def _is_whole(part: np.ndarray) -> bool:
    return part.dtype.kind != "f" or bool((part == np.floor(part)).all())


def _finite(part: np.ndarray) -> np.ndarray:
    """Return the finite values of `part` as one row."""
    part = part.ravel()
    if part.dtype.kind == "f":
        finite = np.isfinite(part)
        part = part if finite.all() else part[finite]
    return part


def _dense(image: np.ndarray, slabs: list[slice], low, high, kernel) -> Histogram:
    low, high = int(low), int(high)
    compiled = None
    if kernel is not None and high - low < _NARROW:

        def compiled(values: np.ndarray, table: np.ndarray) -> None:
            kernel.count(values, low, table)

    wide = np.uint64 if image.dtype == np.uint64 else np.int64

    def place(values: np.ndarray) -> np.ndarray:
        return values if image.dtype.kind == "u" and low == 0 else (values.astype(wide) - wide(low)).astype(np.int64)

    count = _count(image, slabs, place, high - low + 1, compiled)
    present = np.flatnonzero(count)
    upper = present + low if low <= np.iinfo(np.int64).max - _DENSE else present.astype(np.uint64) + np.uint64(low)
    return Histogram(present.astype(np.float64), count[present], upper)


def _count(
    image: np.ndarray,
    slabs: list[slice],
    place: Callable[[np.ndarray], np.ndarray],
    bins: int,
    compiled: Callable[[np.ndarray, np.ndarray], None] | None,
) -> np.ndarray:
    """Count the finite values of `image` by their place, or by a compiled function that counts into two tables."""
    total, lock = np.zeros(bins, np.int64), Lock()
    # Each thread takes tables that another one has left, or new ones: they are added up once, not for every slab.
    left: list[np.ndarray] = []

    def work(slab: slice) -> None:
        if compiled is None:
            count = np.bincount(place(_finite(image[slab])), minlength=bins)
            with lock:
                np.add(total, count, out=total)
            return
        with lock:
            tables = left.pop() if left else np.zeros((2, bins), np.uint32)
        compiled(_flat(image[slab]), tables)
        with lock:
            left.append(tables)

    at_once = max(1, _MOST // max(1, image[slabs[0]].size)) if slabs else 1
    for start in range(0, len(slabs), at_once):
        _tiles.run(work, slabs[start : start + at_once], "slabs")
        for tables in left:
            total += tables.sum(axis=0, dtype=np.int64)
        left.clear()
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


def _binned(image: np.ndarray, slabs: list[slice], low: float, high: float, kernel) -> Histogram:
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

    compiled = None
    if kernel is not None:

        def compiled(values: np.ndarray, table: np.ndarray) -> None:
            kernel.bin(values, float(low), float(high), edges, table)

    count = _count(image, slabs, place, FLOAT_BINS, compiled)
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


def parted(image: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return, for each voxel, how many of the thresholds it lies above."""
    image = image.view(np.uint8) if image.dtype == bool else image
    result = np.empty(image.shape, np.uint8)
    kernel = _kernel_for(image)
    # Thresholds are float64: a float32 image must not drag them to its own precision.
    wanted = np.asarray(thresholds, np.float64 if image.dtype.kind == "f" else None)
    if image.dtype.kind != "f":
        wanted = wanted.astype(image.dtype)
        kernel = kernel if np.array_equal(wanted, thresholds) else None

    def work(slab: slice) -> None:
        if kernel is not None:
            kernel.part(_flat(image[slab]), wanted, result[slab].reshape(-1))
            return
        part, classes = image[slab].astype(np.float64) if image.dtype.kind == "f" else image[slab], result[slab]
        classes[...] = 0
        for threshold in np.asarray(thresholds).tolist():
            classes += part > threshold

    _tiles.run(work, _tiles.slabs(image.shape, _COMPILED_SLAB), "slabs")
    return result
