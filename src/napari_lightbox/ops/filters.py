"""Filters that take each voxel's neighbourhood into account."""

from typing import Annotated

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from ..types import Border, ImageArray, OddSize
from . import _check, _tiles, _windows

BORDERS = ("reflect", "nearest", "mirror", "constant", "wrap")
# Window elements that one tile sorts: about a tenth of a second.
_WORK = 1 << 25
_TILE = 1 << 19


def median(image: ImageArray, size: OddSize = 3, *, mode: Border = "reflect") -> ImageArray:
    """Replace every voxel by the median of the window around it.

    Equals ``scipy.ndimage.median_filter(image, size, mode=mode)`` exactly wherever there is no NaN. (64-bit integers
    beyond 2 ** 53 keep all their digits, which they lose in scipy.)

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered, also axes shorter than the window.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis. 1 changes nothing.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, named as in scipy.ndimage: ``"reflect"`` d c b a | a b c d, ``"mirror"``
        d c b | a b c d, ``"nearest"`` a a a | a b c d, ``"wrap"`` the opposite side, ``"constant"`` zeros.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN gives NaN; infinite values are ordered like others.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or the size is even or below 1.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Order-statistic filters.

    Examples
    --------
    >>> median(np.array([1, 9, 2, 3, 3]), 3)
    array([1, 2, 3, 3, 3])
    """
    image = _check.image(image)
    sizes = _check.odd_sizes(size, image.ndim)
    mode = _check.choice(mode, BORDERS, "mode")
    result = np.empty(image.shape, image.dtype)
    if max(sizes) == 1:
        result[...] = image
        return result
    halo = [s // 2 for s in sizes]

    def work(block: _tiles.Block) -> None:
        padded = _windows.sortable(_tiles.with_halo(image, block, halo, mode))
        result[block] = _windows.medians(padded, sizes)

    _tiles.run(work, _tiles.blocks(image.shape, min(_TILE, _WORK // int(np.prod(sizes)))), "tiles")
    return result


def adaptive_median(
    image: ImageArray,
    max_size: Annotated[int, {"min": 3, "max": 31, "step": 2, "unit": "voxels"}] = 7,
    *,
    mode: Border = "reflect",
) -> ImageArray:
    """Remove salt-and-pepper noise and keep what is not noise: the adaptive median filter.

    Around each voxel a window of 3 voxels a side grows by 2 as long as its median is an extreme (stage A: not
    minimum < median < maximum). Then the voxel stays as it is if it is no extreme of that window, and becomes the
    median otherwise (stage B). A voxel whose window has reached `max_size` without success becomes the median of
    that window.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; the window extends along every axis.
    max_size : int
        Largest width of the window in voxels, odd, at least 3.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN never succeeds in stage A and its median is NaN, so
        a voxel next to a NaN becomes NaN; infinite values count as extremes.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or `max_size` is even or below 3.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Adaptive median filter.

    Examples
    --------
    >>> adaptive_median(np.array([10, 11, 255, 12, 13, 0, 14, 15]), 5)
    array([11, 11, 12, 13, 12, 13, 14, 14])
    """
    image = _check.image(image)
    max_size = _check.odd(max_size, "max_size", 3)
    mode = _check.choice(mode, BORDERS, "mode")
    result = np.empty(image.shape, image.dtype)
    reach = max_size // 2

    def work(block: _tiles.Block) -> None:
        padded = _windows.sortable(_tiles.with_halo(image, block, [reach] * image.ndim, mode))
        result[block] = _adaptive_tile(padded, max_size)

    voxels = min(_TILE, max(1, 2 * _WORK // max_size**image.ndim))
    _tiles.run(work, _tiles.blocks(image.shape, voxels), "tiles")
    return result


def _adaptive_tile(padded: np.ndarray, max_size: int) -> np.ndarray:
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
