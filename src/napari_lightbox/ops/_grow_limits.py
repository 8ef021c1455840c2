"""Grey values between which a region may grow: given, or estimated from the region itself (confidence connected)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..progress import track
from . import _flood, _grow, _moments, _tiles

_SLAB = 1 << 21


def between(dtype: np.dtype, low: float, high: float, inclusive: bool) -> tuple:
    """Return the smallest and the largest value of `dtype` between two limits, or None where there is none.

    Comparing with these in the type of the image equals comparing with the limits in float64, and is much faster.
    """
    if low == np.inf or high == -np.inf:
        return None, None
    if dtype.kind in "iub":
        limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
        # Whole numbers of Python have no end, unlike those of the type.
        first = limits.min if low == -np.inf else int(np.ceil(low)) if inclusive else int(np.floor(low)) + 1
        last = limits.max if high == np.inf else int(np.floor(high)) if inclusive else int(np.ceil(high)) - 1
        first, last = max(first, limits.min), min(last, limits.max)
        kind = np.uint8 if dtype.kind == "b" else dtype.type
        return (kind(first), kind(last)) if first <= last else (None, None)
    largest = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        first, last = dtype.type(low), dtype.type(high)
    up, down = dtype.type(np.inf), dtype.type(-np.inf)
    if float(first) < low or (not inclusive and float(first) == low):
        first = np.nextafter(first, up)
    if float(last) > high or (not inclusive and float(last) == high):
        last = np.nextafter(last, down)
    # Infinite voxels never join.
    first, last = max(first, -largest), min(last, largest)
    return (first, last) if first <= last else (None, None)


def growth(
    image: np.ndarray, low: float, high: float, mask: np.ndarray | None, inclusive: bool
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Return what says, for a box of the image, where a region between two grey values may go."""
    first, last = between(image.dtype, low, high, inclusive)
    values = image.view(np.uint8) if image.dtype == bool else image

    def allow(box: tuple[slice, ...]) -> np.ndarray:
        part = values[box]
        result = np.zeros(part.shape, bool)
        if first is None:
            return result
        for slab in track(_tiles.slabs(part.shape, _SLAB), "slabs"):
            np.greater_equal(part[slab], first, out=result[slab])
            result[slab] &= part[slab] <= last
            if mask is not None:
                result[slab] &= mask[box][slab] != 0
        return result

    return allow


class Grower:
    """Growing regions between two grey values in one image, by the compiled flood once that is ready.

    Parameters
    ----------
    image : ndarray
        Grey values.
    mask : ndarray or None
        Not 0 where the region may go; the seeds must be inside.
    seeds : ndarray of int
        (n, ndim), distinct; they belong to the region whatever their value.
    rank : int
        Neighbourhood, as in `_grow.structure`.
    most : int, optional
        Number of voxels at which to stop, as in `_grow.near_seeds`.
    """

    def __init__(
        self, image: np.ndarray, mask: np.ndarray | None, seeds: np.ndarray, rank: int, most: int | None = None
    ) -> None:
        self.image, self.mask, self.seeds, self.rank, self.most = image, mask, seeds, rank, most
        self._key = _flood.key_of(image.dtype)
        self._flood: _flood.Flood | None = None

    def between(self, low: float, high: float, inclusive: bool) -> "_grow.Grown | _flood.Flooded":
        """Grow between two grey values, which lie inside or not."""
        kernel = None if self._key is None else _flood.KERNELS.get(self._key)
        if kernel is not None:
            if self._flood is None:
                self._flood = _flood.Flood(kernel, self.image, self.mask, self.rank)
            found = self._flood.grow(*between(self.image.dtype, low, high, inclusive), self.seeds, self.most)
            if found is not None:
                return found
            # Its memory is the room of a whole result.
            self._flood = None
        allow = growth(self.image, low, high, self.mask, inclusive)
        grown = _grow.near_seeds(allow, self.image.shape, self.seeds, self.rank, self.most)
        if kernel is None and self._key is not None:
            _flood.KERNELS.ask(self._key, grown.inside.size)
        return grown


@dataclass(frozen=True)
class Confidence:
    """What a region grown by confidence came to: the region, and the limits it was last grown between."""

    grown: "_grow.Grown | _flood.Flooded"
    low: float
    high: float
    rounds: int


def by_confidence(
    image: np.ndarray,
    mask: np.ndarray | None,
    seeds: np.ndarray,
    multiplier: float,
    iterations: int,
    radius: int,
    rank: int,
    most: int | None = None,
) -> Confidence:
    """Grow between mean - multiplier sd and mean + multiplier sd, first of the seeds' surroundings, then of the region.

    Parameters
    ----------
    image : ndarray
        Grey values.
    mask : ndarray or None
        Not 0 where the region may go, and where its surroundings count.
    seeds : ndarray of int
        (n, ndim), distinct. The limits are widened so that their values always lie inside.
    multiplier : float
        Half the width of the interval, in standard deviations.
    iterations : int
        How often the interval is estimated from the region and the region grown anew.
    radius : int
        Reach of the surroundings of a seed.
    rank : int
        Neighbourhood, as in `_grow.structure`.
    most : int, optional
        Number of voxels at which to stop.
    """
    values = [float(image[tuple(s)]) for s in seeds]
    now = _moments.moments([_surroundings(image, mask, seed, radius) for seed in seeds])
    grower, done = Grower(image, mask, seeds, rank, most), None
    for number in track(range(iterations + 1), "rounds"):
        reach = multiplier * now.sd
        if not np.isfinite(now.mean + reach):
            reach = np.inf  # of values too large to be squared
        low, high = min(np.nan_to_num(now.mean) - reach, *values), max(np.nan_to_num(now.mean) + reach, *values)
        if done is not None and (low, high) == (done.low, done.high):
            break
        grown = grower.between(low, high, inclusive=True)
        done, now = Confidence(grown, low, high, number), grown.moments(image)
        if grown.stopped or now.sd == 0:
            break
    return done


def _surroundings(image: np.ndarray, mask: np.ndarray | None, seed: np.ndarray, radius: int) -> np.ndarray:
    box = tuple(slice(max(0, c - radius), c + radius + 1) for c in seed.tolist())
    return image[box].ravel() if mask is None else image[box][mask[box] != 0]
