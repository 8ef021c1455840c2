"""Medians and other order statistics of large windows: the compiled way, with the result of the plain way.

The kernel (`_kernels.sliding`) knows neither types nor values of voxels, only into which of some bins each falls; here
a tile's values are divided into such bins. Windows that hold NaN are found for themselves.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from . import _ranks, _squares, _tiles
from ._ready import Variants

# Voxels of windows after which compiling is worth its while: some seconds of the plain way.
KERNELS = Variants("sliding", after=1 << 27)
# Voxels that windows may hold, for counts of 16 bits, and columns of windows for counts of 8 bits.
_LARGEST, _LARGEST_COLUMN = (1 << 16) - 1, (1 << 8) - 1
# Largest tile, in voxels: the larger it is, the more voxels share a bin, the smaller, the more of it is surroundings.
_TILE = 1 << 18
# Voxels of a tile with its surroundings, which a window that is long along one axis makes large, and bits of the
# indices of one of them, with one to spare above each.
_MOST_PADDED, _INDEX_BITS = 1 << 23, 32
_BINS = 1 << 12


class Compiled:
    """The compiled way for one image, window and rank.

    Parameters
    ----------
    image : ndarray
        The voxels.
    sizes : sequence of int
        Of the window.
    rank : int
        Which value of a window, 0 for the smallest.
    mode : str
        What lies beyond the border.
    kernel : callable
        The variant.
    """

    def __init__(self, image: np.ndarray, sizes: Sequence[int], rank: int, mode: str, kernel: Callable) -> None:
        self.axes, self.sizes = axes_and_sizes(sizes)
        self.rank, self.kernel = rank, kernel
        # Axes that the kernel has and the image has not are its first ones.
        self.numbers = _ranks.Numbers(image.transpose(self.axes), [s // 2 for s in self.sizes[3 - image.ndim :]], mode)

    def tiles(self, shape: Sequence[int], plain_tile: int) -> list[_tiles.Block]:
        """Cut an image into tiles, at least two for each thread, but none much smaller than its surroundings."""
        least = math.prod(4 * size for size in self.sizes if size > 1)
        return _tiles.blocks(shape, min(_TILE, max(least, math.prod(shape) // (2 * _tiles.workers()))))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the tiles of an image are, with their surroundings, small enough for the kernel."""
        largest = self.tiles(shape, 0)[0]
        padded = self.numbers.shape([largest[axis] for axis in self.axes])
        bits = sum(n.bit_length() + 1 for n in (1, 1, *padded)[-3:])
        return math.prod(padded) <= _MOST_PADDED and bits <= _INDEX_BITS

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a result; always True."""
        numbers, turned = self.numbers, tuple(block[axis] for axis in self.axes)
        flat = (1,) * (3 - len(block))
        padded, shape = flat + numbers.shape(turned), flat + tuple(s.stop - s.start for s in turned)
        count, inside = math.prod(padded), math.prod(shape)
        wanted = (numbers.dtype, count), (np.dtype(np.uint16), count), (np.dtype(np.int32), inside)
        with _ranks.rooms(*wanted) as (voxels, bins, places):
            clean = numbers.fetch(turned, voxels)
            values, order = divide(voxels, bins, padded)
            self.kernel(bins.reshape(padded), order, places.reshape(shape), self.sizes, self.rank, _ranks.rooms)
            target = result.transpose(self.axes)[turned]
            target[...] = numbers.decode(values).take(places).reshape(target.shape)
            if not clean:
                target[self._with_nan(voxels.reshape(padded), shape).reshape(target.shape)] = np.nan
        return True

    def _with_nan(self, voxels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Say which windows hold NaN."""
        infinity = self.numbers.infinity
        nan = (voxels > infinity) | (voxels < ~infinity)
        found = ndimage.maximum_filter(nan, self.sizes, mode="constant")
        return found[tuple(slice(s // 2, s // 2 + n) for s, n in zip(self.sizes, shape, strict=True))]


def divide(voxels: np.ndarray, bins: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple]:
    """Divide the values of a tile into bins.

    Parameters
    ----------
    voxels : ndarray
        Whole numbers, flat.
    bins : ndarray of uint16
        Result: the bin of each voxel.
    shape : tuple of int
        Of the tile.

    Returns
    -------
    tuple
        The list of values in increasing order, and what the kernel needs to know of it, its ``order``.
    """
    from ._kernels import sliding

    if voxels.itemsize <= 2:
        values = np.empty(_BINS, voxels.dtype)
        count = sliding.look_up(voxels, values, bins)
        if count <= _BINS:
            whole = np.arange(count + 1, dtype=np.int32)
            return values[:count], (whole, np.ones(count, np.uint8), np.empty(0, np.uint32))
    return sliding.in_order(voxels, bins, shape, _BINS)


def axes_and_sizes(sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """Say in which order the kernel takes the axes of an image, and the sizes of the window along its three axes.

    What windows take along the kernel's first axis is what costs time, along the second one nothing; along the last
    one at most as much memory. If the window has one voxel along two axes, the second one is the third.
    """
    axes = sorted(range(len(sizes)), key=lambda axis: sizes[axis])
    if len(axes) > 1 and sizes[axes[-2]] == 1:
        axes[-2:] = axes[:-3:-1]
    found = (1,) * (3 - len(sizes)) + tuple(sizes[axis] for axis in axes)
    if len(sizes) == 1:
        return (0,), (1, 1, sizes[0])
    return tuple(axes), found


def key_of(dtype: np.dtype, sizes: Sequence[int]) -> tuple[str, str] | None:
    """Say which variant serves a type of voxels and a window; None where there is none."""
    if len(sizes) not in (1, 2, 3) or not 1 < math.prod(sizes) <= _LARGEST:
        return None
    ordered = axes_and_sizes(sizes)[1]
    counts = "u1" if ordered[0] * ordered[1] <= _LARGEST_COLUMN else "u2"
    return counts, _ranks.stand_in(dtype)[0].str[1:]


def compiled(image: np.ndarray, sizes: Sequence[int], rank: int, mode: str) -> Compiled | None:
    """Return the compiled way if it is ready now; otherwise say that it is wanted."""
    key = key_of(image.dtype, sizes)
    if key is None:
        return None
    kernel = KERNELS.get(key)
    if kernel is None:
        KERNELS.ask(key, image.size * math.prod(sizes))
        return None
    way = Compiled(image, sizes, rank, mode, kernel)
    return way if way.fits(image.shape) else None


def run(
    image: np.ndarray, sizes: Sequence[int], rank: int, mode: str, result: np.ndarray, plain: Callable, plain_tile: int
) -> None:
    """Work out an order statistic: by networks where there are any for the window, else by histograms that slide.

    Parameters
    ----------
    image, sizes, rank, mode
        As in `Compiled`.
    result, plain, plain_tile
        As for `_ranks.run`.
    """
    find = compiled
    if _squares.serves(image, sizes):
        find = _squares.compiled
    elif _ranks.axes_and_key(image.dtype, sizes, rank) is not None:
        find = _ranks.compiled
    _ranks.run(lambda: find(image, sizes, rank, mode), result, plain, plain_tile)
