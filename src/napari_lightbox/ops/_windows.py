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
            part[...] = _middle(window, has_nan).reshape(part.shape)
    return result


def medians_at(views: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the medians of the windows of a sliding window view at `places` (one index array an axis)."""
    count = int(np.prod(views.shape[len(places) :]))
    result = np.empty(len(places[0]), views.dtype)
    for part in _parts(len(result), max(1, _CHUNK // (count * views.itemsize))):
        window = views[tuple(axis[part] for axis in places)].reshape(-1, count)
        result[part] = _middle(window, False)
    return result


def _middle(window: np.ndarray, has_nan: bool) -> np.ndarray:
    """Return the median of each row; the rows are reordered."""
    middle = window.shape[1] // 2
    window.partition(middle, axis=1)
    result = window[:, middle]
    if has_nan:
        # NaN is sorted to the end, so the upper part tells.
        result[np.isnan(window[:, middle:]).any(axis=1)] = np.nan
    return result


def _parts(total: int, step: int) -> Iterator[slice]:
    for start in range(0, total, step):
        yield slice(start, start + step)
