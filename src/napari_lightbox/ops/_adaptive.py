"""The adaptive median: on one tile the plain way, and the compiled way where that is ready, with the same result."""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from . import _ranks, _tiles, _windows
from ._ready import Variants

# Voxels after which compiling a variant is worth its while: a second of the plain way.
KERNELS = Variants("adaptive", after=1 << 19)
KERNELS.usual_for("adaptive_median", lambda dtype, ndim: [_key(dtype)] if ndim in (2, 3) else [])
# Largest window in voxels a side: the kernel counts with 16 bits.
_LARGEST = 31
# Voxels of all largest windows of a tile: a second, should each of them be looked at.
_MOST_WORK = 1 << 30
# Voxels of a tile: a third of a millisecond, in which another thread would hardly have begun.
_LEAST_TILE = 1 << 18


def _key(dtype: np.dtype) -> tuple[str]:
    return (_ranks.stand_in(dtype)[0].str[1:],)


def run(image: np.ndarray, max_size: int, mode: str, result: np.ndarray, plain: Callable, plain_tile: int) -> None:
    """Filter an image, the compiled way where it is ready.

    Parameters
    ----------
    image : ndarray
        The voxels.
    max_size : int
        Largest width of the window.
    mode : str
        What lies beyond the border.
    result : ndarray
        Contiguous, of the shape and type of the image.
    plain : callable
        Works out a block of the result the plain way.
    plain_tile : int
        Voxels of a block that the plain way takes at a time.
    """
    _ranks.run(lambda: compiled(image, max_size, mode), result, plain, plain_tile)


def compiled(image: np.ndarray, max_size: int, mode: str) -> "Compiled | None":
    """Return the compiled way if it is ready now; otherwise say that it is wanted."""
    found = _ranks.axes_and_key(image.dtype, (3,) * image.ndim, 3**image.ndim // 2)
    if found is None or max_size > _LARGEST:
        return None
    key = _key(image.dtype)
    medians, kernel = _ranks.KERNELS.get(found[1]), KERNELS.get(key)
    if medians is None:
        # One median serves many windows of the plain way.
        _ranks.KERNELS.ask(found[1], 4 * image.size)
    if kernel is None:
        KERNELS.ask(key, image.size)
    return None if medians is None or kernel is None else Compiled(image, max_size, mode, medians, kernel)


class Compiled:
    """The compiled way for one image of two or three axes.

    Parameters
    ----------
    image, max_size, mode
        As for `run`.
    medians : callable
        The variant of `_kernels.median` for windows of 3 voxels a side.
    kernel : callable
        The variant of `_kernels.adaptive`.
    """

    def __init__(self, image: np.ndarray, max_size: int, mode: str, medians: Callable, kernel: Callable) -> None:
        self.max_size, self.kernel = max_size, kernel
        self.numbers = _ranks.Numbers(image, [max_size // 2] * image.ndim, mode)
        self.medians = _ranks.Compiled(image, (3,) * image.ndim, mode, (0, 1, 2), medians)

    def tiles(self, shape: tuple[int, ...], plain_tile: int) -> list[_tiles.Block]:
        """Cut an image into tiles none of which takes much longer than a second."""
        return self.numbers.tiles(shape, plain_tile, _MOST_WORK // self.max_size ** len(shape), _LEAST_TILE)

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a result; False, and nothing done, where the voxels hold NaN."""
        numbers, shape = self.numbers, tuple(s.stop - s.start for s in block)
        padded, reach = numbers.shape(block), self.max_size // 2
        count, inside, medians = math.prod(padded), math.prod(shape), self.medians.kernel
        # Both kernels read on behind the last voxel: up to a vector, and up to 8.
        wanted = [count + max(medians.lanes, 8), inside, inside, medians.room]
        with _ranks.rooms(*[(numbers.dtype, length) for length in wanted]) as (voxels, middle, found, lists):
            if not numbers.fetch(block, voxels[:count]):
                return False
            steps = _ranks.steps_of(padded)
            at, to = ((reach - 1) * sum(steps), steps), (0, _ranks.steps_of(shape))
            self.medians.find(voxels, at, middle, to, shape, lists)
            # A picture is a volume of one plane, whose windows do not extend across it.
            flat = () if len(shape) == 3 else (1,)
            self.kernel(
                voxels[:count].reshape(flat + padded),
                (0 if flat else reach, reach, reach),
                middle.reshape(flat + shape),
                found.reshape(flat + shape),
                self.max_size,
                _ranks.rooms,
            )
            result[block] = numbers.decode(found).reshape(shape)
        return True


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
        edge = reach - size // 2
        self.trimmed = padded[tuple(slice(edge, n - edge) for n in padded.shape)]
        if padded.dtype.kind in "iu" and padded.dtype.itemsize == 8:
            # scipy's filters pass doubles on, which lose digits beyond 2 ** 53.
            self.low, self.high = (_extremes(pick, self.trimmed, size) for pick in (np.minimum, np.maximum))
        else:
            self.low = ndimage.minimum_filter(padded, size)[inside].ravel()
            self.high = ndimage.maximum_filter(padded, size)[inside].ravel()
        self.nan = None if nan is None else ndimage.maximum_filter(nan, size)[inside].ravel()

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


def _extremes(pick: np.ufunc, block: np.ndarray, size: int) -> np.ndarray:
    """Return the extreme of every window of `size` that lies wholly inside `block`, flat."""
    for axis in range(block.ndim):
        block = pick.reduce(sliding_window_view(block, size, axis), axis=-1)
    return block.ravel()


def _box_count(mask: np.ndarray, size: int) -> np.ndarray:
    """Count the true voxels of every window of `size` that lies wholly inside `mask`."""
    counts = mask.astype(np.int32)
    for axis in range(mask.ndim):
        sums = np.cumsum(counts, axis=axis, dtype=np.int32)
        sums = np.insert(sums, 0, 0, axis=axis)
        length = sums.shape[axis]
        counts = np.take(sums, range(size, length), axis=axis) - np.take(sums, range(length - size), axis=axis)
    return counts
