"""Number, mean and standard deviation of grey values; of whole numbers from sums that lose nothing."""

import math
from dataclasses import dataclass

import numpy as np

from . import _tiles

_SLAB = 1 << 21


@dataclass(frozen=True)
class Moments:
    """Number, mean and standard deviation (divided by the number less one; 0 for a single value) of grey values."""

    count: int
    mean: float
    sd: float


def are_exact(dtype: np.dtype) -> bool:
    """Whether the sums of values of a type, and of their squares, are worked out without rounding."""
    return dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 4)


def moments(parts: list[np.ndarray]) -> Moments:
    """Return the moments of all finite values of some arrays of one type taken together."""
    if all(are_exact(p.dtype) for p in parts):
        sums = [_sums(p.reshape(-1)[at : at + _SLAB]) for p in parts for at in range(0, p.size, _SLAB)]
        return of_sums(sum(p.size for p in parts), sum(s[0] for s in sums), sum(s[1] for s in sums))
    parts = [p[np.isfinite(p)] if p.dtype.kind == "f" else p for p in parts]
    count = sum(p.size for p in parts)
    if not count:
        return Moments(0, float("nan"), 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(float(p.sum(dtype=np.float64)) for p in parts) / count
        # About the mean, which loses no digits; slab by slab, as the difference takes eight bytes a voxel.
        squares = 0.0
        for part in parts:
            for start in range(0, part.size, _SLAB):
                squares += float(np.square(part.reshape(-1)[start : start + _SLAB].astype(np.float64) - mean).sum())
        return Moments(count, mean, float(np.sqrt(squares / (count - 1))) if count > 1 else 0.0)


def inside(image: np.ndarray, chosen: np.ndarray) -> Moments:
    """Return the moments of all finite values of an image in a region (bool)."""
    if not are_exact(image.dtype):
        return moments([image[chosen]])
    found = []

    def work(slab: slice) -> None:
        part = image[slab][chosen[slab]]
        found.append((part.size, *_sums(part)))

    _tiles.run(work, _tiles.slabs(image.shape, _SLAB), "slabs")
    return of_sums(*(sum(part[n] for part in found) for n in range(3)))


def of_sums(count: int, total: int, squares: int) -> Moments:
    """Return the moments of whole numbers from their number, their sum and the sum of their squares."""
    if not count:
        return Moments(0, float("nan"), 0.0)
    # Whole numbers of Python have no end: nothing is lost before the division.
    spread = math.sqrt((count * squares - total * total) / (count * (count - 1))) if count > 1 else 0.0
    return Moments(count, total / count, spread)


def _sums(part: np.ndarray) -> tuple[int, int]:
    wide = part.astype(np.int64)
    squares = np.square(wide).view(np.uint64)
    upper, lower = int((squares >> np.uint64(32)).sum()), int((squares & np.uint64(0xFFFFFFFF)).sum())
    return int(wide.sum()), (upper << 32) + lower
