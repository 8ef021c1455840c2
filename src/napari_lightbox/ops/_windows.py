"""Order statistics of windows by partial sorting: many windows are copied side by side and partitioned at once.

numpy partitions with vector instructions and lets other threads run meanwhile, so this beats a window at a time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# Bytes of windows that are sorted together: they should stay in a core's cache.
_CHUNK = 1 << 19


def sortable(block: np.ndarray) -> np.ndarray:
    """Return `block` in a type that has fast partitioning and holds its values exactly."""
    if block.dtype == bool or block.dtype.itemsize == 1:
        return block.astype(np.int16)
    return block.astype(np.float32) if block.dtype == np.float16 else block


def medians(block: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return the median of every window of `sizes` that lies wholly inside `block`; NaN where one holds NaN."""
    return ranked(block, sizes, int(np.prod(sizes)) // 2)


def ranked(block: np.ndarray, sizes: Sequence[int], rank: int) -> np.ndarray:
    """Return the value of rank `rank` (0: the smallest) of every window wholly inside `block`; NaN as in `medians`."""
    views = sliding_window_view(block, sizes)
    shape = views.shape[: block.ndim]
    result = np.empty(shape, block.dtype)
    count = int(np.prod(sizes))
    has_nan = block.dtype.kind == "f" and bool(np.isnan(block).any())
    if block.ndim == 1:
        views, target = views[None], result[None]
    else:
        target = result
    rows = max(1, _CHUNK // (count * block.itemsize * target.shape[-1]))
    for lead in np.ndindex(target.shape[:-2]):
        for start in range(0, target.shape[-2], rows):
            part = target[lead][start : start + rows]
            # A copy in any case: windows overlap, and partitioning works in place.
            window = np.array(views[lead][start : start + rows], order="C").reshape(-1, count)
            part[...] = _pick(window, rank, has_nan).reshape(part.shape)
    return result


def medians_of_nine(plane: np.ndarray) -> np.ndarray:
    """Return the median of every 3 x 3 window wholly inside `plane`; NaN where one holds NaN.

    Each column of three is sorted once for the three windows that share it. The median of nine is the median of the
    largest of the lows, the middle one of the middles and the smallest of the highs (J. L. Smith, Implementing median
    filters in XC4000E FPGAs, 1996). Minima and maxima hand on NaN.
    """
    low, high = np.minimum(plane[:-2], plane[1:-1]), np.maximum(plane[:-2], plane[1:-1])
    middle = np.minimum(high, plane[2:])
    np.maximum(high, plane[2:], out=high)
    low, middle = np.minimum(low, middle), np.maximum(low, middle)
    a, c = np.maximum(low[:, :-2], low[:, 1:-1]), np.minimum(high[:, :-2], high[:, 1:-1])
    np.maximum(a, low[:, 2:], out=a)
    np.minimum(c, high[:, 2:], out=c)
    return _middle_of_three(a, _middle_of_three(middle[:, :-2], middle[:, 1:-1], middle[:, 2:]), c)


def _middle_of_three(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.maximum(low, np.minimum(high, c, out=high), out=low)


def majorities(block: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return the median of every window of `sizes` wholly inside a block of bool: what more than half of it holds."""
    counts = block.view(np.uint8).astype(np.int32)
    for axis, size in enumerate(sizes):
        sums = np.zeros((*counts.shape[:axis], counts.shape[axis] + 1, *counts.shape[axis + 1 :]), np.int32)
        along = (slice(None),) * axis
        np.cumsum(counts, axis=axis, dtype=np.int32, out=sums[(*along, slice(1, None))])
        counts = sums[(*along, slice(size, None))] - sums[(*along, slice(None, -size))]
    return counts > int(np.prod(sizes)) // 2


def medians_at(views: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the medians of the windows of a sliding window view at `places` (one index array an axis)."""
    count = int(np.prod(views.shape[len(places) :]))
    result = np.empty(len(places[0]), views.dtype)
    for part in _parts(len(result), max(1, _CHUNK // (count * views.itemsize))):
        window = views[tuple(axis[part] for axis in places)].reshape(-1, count)
        result[part] = _pick(window, count // 2, False)
    return result


def _pick(window: np.ndarray, rank: int, has_nan: bool) -> np.ndarray:
    """Return the value of that rank of each row; the rows are reordered."""
    window.partition(rank, axis=1)
    result = window[:, rank]
    if has_nan:
        # NaN is sorted to the end, so the upper part tells.
        result[np.isnan(window[:, rank:]).any(axis=1)] = np.nan
    return result


def _parts(total: int, step: int) -> Iterator[slice]:
    for start in range(0, total, step):
        yield slice(start, start + step)
