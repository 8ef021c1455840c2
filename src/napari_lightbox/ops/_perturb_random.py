"""Random numbers that belong to a voxel, and how changed values go back into the type of the image.

The number of a voxel depends on the seed and on the voxel's place alone: not on the order in which voxels are worked
on, the number of threads, or the version of numpy (the raw stream of PCG64 is fixed; its distributions are not).
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import ndtri

from ..errors import InputError
from . import _check, _tiles

# Voxels that are worked on at a time.
_SLAB = 1 << 18
# Numbers that are drawn at a time.
_PIECE = 1 << 15
# Mean of a Poisson distribution from which on its quantiles are taken from their expansion, and where noise is lost.
_MANY, _COUNTLESS = 30.0, 1e15
# Count that no number of the stream reaches at a mean below that.
_LAST = 160

# What a slab of the image becomes: its values as float64, and the number (in C order) of its first voxel.
Change = Callable[[np.ndarray, int], np.ndarray]


def seed_of(seed) -> int:
    """Return a seed, a whole number from 0 on."""
    return _check.whole(seed, "seed", 0)


def within(value, name: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`."""
    found = _check.number(value, name)
    if not low <= found <= high:
        raise InputError(f"{name} must be {low:g} to {high:g}, not {value!r}")
    return found


def uniform(seed: int, stream: int, start: int, count: int) -> np.ndarray:
    """Return the numbers of the voxels from `start` on, evenly spread between 0 and 1, both excluded.

    Different streams of one seed are independent.

    Examples
    --------
    >>> whole = uniform(7, 0, 0, 5)
    >>> bool((uniform(7, 0, 3, 2) == whole[3:]).all())
    True
    """
    bits = np.random.PCG64(np.random.SeedSequence([seed, stream]))
    bits.advance(start)
    found = np.empty(count)
    for part in _pieces(found):
        raw = bits.random_raw(len(part))
        raw >>= np.uint64(12)
        # With a bit more the largest number would be rounded to 1.
        np.add(raw, 0.5, out=part)
        part *= 2.0**-52
    return found


def _pieces(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a row of numbers in pieces that stay in a core's cache, with what is made of them."""
    for first in range(0, len(numbers), _PIECE):
        yield numbers[first : first + _PIECE]


def normal(seed: int, stream: int, start: int, count: int) -> np.ndarray:
    """Return the numbers of the voxels from `start` on, with mean 0 and standard deviation 1."""
    chance = uniform(seed, stream, start, count)
    return ndtri(chance, out=chance)


def poisson(chance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the counts below which a Poisson distribution stays with a probability of `chance`.

    Exact up to a mean of 30; beyond, from the expansion of M. B. Giles, Algorithm 955: Approximation of the inverse
    Poisson cumulative distribution function, ACM Transactions on Mathematical Software 42(1), 2016, equation for
    Q_N2: wrong by 1 with a probability of the order of 1 / mean ** 1.5.

    Examples
    --------
    >>> poisson(np.array([0.1, 0.5, 0.99, 0.5]), np.array([2.0, 2.0, 2.0, 1000.0])).tolist()
    [0.0, 2.0, 6.0, 1000.0]
    """
    found = mean.astype(float)
    for part, likely in zip(_pieces(found), _pieces(chance), strict=True):
        large = (part >= _MANY) & (part < _COUNTLESS)
        small = part < _MANY
        counts = _small_counts(likely[small], part[small]) if small.any() else 0.0
        part[large] = _large_counts(likely[large], part[large])
        part[small] = counts
    return found


def _large_counts(chance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    z, root = ndtri(chance), np.sqrt(mean)
    square = z * z
    counts = np.floor(mean + root * z + (2 + square) / 6 - z * (2 + square) / (72 * root))
    return np.maximum(counts, 0, out=counts)


def _small_counts(chance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    found = np.zeros(len(mean))
    term = np.exp(-mean)
    below, open_ = term.copy(), np.arange(len(mean))
    for count in range(1, _LAST):
        wanting = below < chance
        left = np.count_nonzero(wanting)
        if not left:
            break
        if 4 * left < 3 * len(open_):
            # Those that are done need no further look.
            open_, chance, mean, term, below = (a[wanting] for a in (open_, chance, mean, term, below))
            wanting = np.ones(left, bool)
        found[open_] += wanting
        term *= mean / count
        below += term
    return found


def changed(image: np.ndarray, change: Change) -> np.ndarray:
    """Return an array of the same type with every slab changed.

    Whole numbers are rounded to the nearest and clipped to the range of their type; bool becomes True from 0.5 on;
    floats are clipped to finite numbers. NaN and infinite voxels stay as they are.

    Examples
    --------
    >>> changed(np.array([1, 200], np.uint8), lambda values, start: values * 1.3)
    array([  1, 255], dtype=uint8)
    """
    result = np.empty(image.shape, image.dtype)
    row = int(np.prod(image.shape[1:], dtype=np.int64))

    def work(slab: slice) -> None:
        part = image[slab]
        with np.errstate(over="ignore", invalid="ignore"):
            values = change(part.astype(np.float64), slab.start * row)
        result[slab] = into(values, part)

    slabs_of(image, work)
    return result


def slabs_of(image: np.ndarray, work: Callable[[slice], None]) -> None:
    """Work on the slabs of an array along its first axis, side by side."""
    _tiles.run(work, _tiles.slabs(image.shape, _SLAB), "slabs")


def into(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Bring changed values into the type of the voxels they were made of, by the rules of `changed`."""
    kind = like.dtype.kind
    if kind == "b":
        return values >= 0.5
    if kind in "iu":
        info = np.iinfo(like.dtype)
        # The largest float that is no larger: 2 ** 63 itself is too large for int64.
        high = np.nextafter(float(info.max), 0) if float(info.max) > info.max else float(info.max)
        whole = np.rint(values)
        return np.clip(whole, float(info.min), high, out=whole).astype(like.dtype)
    most = float(np.finfo(like.dtype).max)
    return np.where(np.isfinite(like), np.clip(values, -most, most).astype(like.dtype), like)


def span(image: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest finite value; zeros where there is none."""
    if image.dtype.kind != "f":
        return float(image.min()), float(image.max())
    finite = np.isfinite(image)
    low = float(np.min(image, initial=np.inf, where=finite))
    return (low, float(np.max(image, initial=-np.inf, where=finite))) if np.isfinite(low) else (0.0, 0.0)


def floor_of(image: np.ndarray) -> float:
    """Return where no signal is: 0, or the smallest value where there are negative ones (air in CT)."""
    return min(0.0, span(image)[0])
