"""The adaptive median on one tile."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from . import _windows


def tile(padded: np.ndarray, max_size: int) -> np.ndarray:
    """Filter the inside of a block that has a halo of ``max_size // 2`` on every side."""
    reach = max_size // 2
    inside = (slice(reach, -reach),) * padded.ndim
    nan = np.isnan(padded) if padded.dtype.kind == "f" else None
    if nan is not None and not nan.any():
        nan = None
    if nan is not None:
        # The minimum and maximum filters know no NaN: it is taken out, and its windows are marked.
        padded = np.where(nan, padded.dtype.type(0), padded)
    result = padded[inside].flatten()
    shape = padded[inside].shape
    still_open = np.arange(result.size)
    suspects = np.empty(0, padded.dtype)
    for size in range(3, max_size + 1, 2):
        stage = _Stage(padded, size, reach, nan)
        done, values, suspects = stage.decide(still_open, suspects, last=size == max_size)
        result[still_open[done]] = values[done]
        still_open = still_open[~done]
        if not len(still_open):
            break
    return result.reshape(shape)


class _Stage:
    """One window size of the adaptive median on one tile; voxels are named by their flat index in the tile."""

    def __init__(self, padded: np.ndarray, size: int, reach: int, nan: np.ndarray | None) -> None:
        inside = (slice(reach, -reach),) * padded.ndim
        self.sizes = (size,) * padded.ndim
        self.shape = padded[inside].shape
        self.centre = padded[inside].ravel()
        self.low = ndimage.minimum_filter(padded, size)[inside].ravel()
        self.high = ndimage.maximum_filter(padded, size)[inside].ravel()
        self.nan = None if nan is None else ndimage.maximum_filter(nan, size)[inside].ravel()
        edge = reach - size // 2
        self.trimmed = padded[tuple(slice(edge, n - edge) for n in padded.shape)]

    def decide(self, at: np.ndarray, suspects: np.ndarray, last: bool):
        """Return which voxels `at` are done, new values for all, and the values most medians are stuck at."""
        low, high, centre = self.low[at], self.high[at], self.centre[at]
        middle = self._medians(at, low, high, suspects)
        passed = (low < middle) & (middle < high)
        values = np.where(passed & (low < centre) & (centre < high), centre, middle)
        if self.nan is not None:
            nan = self.nan[at]
            passed &= ~nan
            values[nan] = np.nan
        stuck, counts = np.unique(middle[~passed], return_counts=True)
        return passed | last, values, stuck[np.argsort(-counts, kind="stable")[:2]]

    def _medians(self, at: np.ndarray, low: np.ndarray, high: np.ndarray, suspects: np.ndarray) -> np.ndarray:
        """Return the medians; windows that one value fills to more than half need no sorting."""
        middle = low.copy()
        unknown = low < high
        count = int(np.prod(self.sizes))
        for value in suspects:
            if np.count_nonzero(unknown) * count < 8 * self.trimmed.size:
                break
            majority = _box_count(self.trimmed == value, self.sizes[0]).ravel()[at] > count // 2
            middle[majority] = value
            unknown &= ~majority
        if 2 * np.count_nonzero(unknown) > self.low.size:
            return _windows.medians(self.trimmed, self.sizes).ravel()[at]
        views = sliding_window_view(self.trimmed, self.sizes)
        middle[unknown] = _windows.medians_at(views, np.unravel_index(at[unknown], self.shape))
        return middle


def _box_count(mask: np.ndarray, size: int) -> np.ndarray:
    """Count the true voxels of every window of `size` that lies wholly inside `mask`."""
    counts = mask.astype(np.int32)
    for axis in range(mask.ndim):
        sums = np.cumsum(counts, axis=axis, dtype=np.int32)
        sums = np.insert(sums, 0, 0, axis=axis)
        length = sums.shape[axis]
        counts = np.take(sums, range(size, length), axis=axis) - np.take(sums, range(length - size), axis=axis)
    return counts
