"""Number, mean and standard deviation of grey values, from sums that lose nothing: rounded once, at their end."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import _ready, _tiles

# Voxels to be added up after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("sums", after=1 << 23)
_TYPES = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")}
# Voxels that a thread works on at once; numpy's intermediate arrays of `_CHUNK` stay near.
_SLAB = 1 << 21
_CHUNK = 1 << 15
# Bits of the whole numbers that floats are turned into.
_BITS = 61
# Floats are added up in units of 2 ** -_FINEST, which all of them are whole multiples of.
_FINEST = 1200
_HALF = 0xFFFFFFFF


@dataclass(frozen=True)
class Moments:
    """Number, mean and standard deviation (divided by the number less one; 0 for a single value) of grey values."""

    count: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Sums:
    """Number of values, their sum, and the sum of their squares, in units of 2 ** -unit and its square."""

    count: int
    total: int
    squares: int
    unit: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of all values of both, which have the same unit."""
        return Sums(self.count + other.count, self.total + other.total, self.squares + other.squares, self.unit)

    def moments(self) -> Moments:
        """Return the moments: the mean rounded once, the deviation the root of the variance rounded once."""
        if not self.count:
            return Moments(0, float("nan"), 0.0)
        # Whole numbers of Python have no end, and their division is rounded once.
        mean = self.total / (self.count << self.unit)
        above, below = self.count * self.squares - self.total**2, self.count * (self.count - 1)
        if not above:
            return Moments(self.count, mean, 0.0)
        # The variance is taken near 1: that of large floats is larger than any float.
        far = (above.bit_length() - below.bit_length()) // 2
        variance = above / (below << 2 * far) if far > 0 else (above << -2 * far) / below
        try:
            return Moments(self.count, mean, math.ldexp(math.sqrt(variance), far - self.unit))
        except OverflowError:
            return Moments(self.count, mean, math.inf)


def usual_keys(dtype: np.dtype, ndim: int) -> list[tuple[str]]:
    """Return the variants that adding up a region in such an image needs."""
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return [(dtype.str[1:],)] if dtype in _TYPES else []


KERNELS.usual_for("region_grow", usual_keys)


def moments(parts: list[np.ndarray]) -> Moments:
    """Return the moments of all finite values of some arrays of one type taken together."""
    return sum((_sums(part.reshape(-1)) for part in parts[1:]), _sums(parts[0].reshape(-1))).moments()


def inside(image: np.ndarray, chosen: np.ndarray) -> Moments:
    """Return the moments of all finite values of an image in a region (bool)."""
    compiled = Compiled.of(image, image.size) if chosen.flags.c_contiguous else None
    if compiled is not None:
        flat = read_only(chosen.view(np.uint8))
        parts = [slice(at, min(at + _SLAB, image.size)) for at in range(0, image.size, _SLAB)]
        return compiled.run(lambda kernel, *ways: kernel.of_bytes(*ways[:2], flat, *ways[2:]), parts)
    return of_parts(lambda slab: image[slab][chosen[slab]], _tiles.slabs(image.shape, _SLAB))


def of_parts(values: Callable[[slice], np.ndarray], parts: list[slice]) -> Moments:
    """Return the moments of all finite values that are got, flat and of one type, for some parts."""
    found: list[Sums] = []
    _tiles.run(lambda part: found.append(_sums(values(part))), parts, "parts")
    return sum(found[1:], found[0]).moments()


class Compiled:
    """The compiled sums for one image.

    Parameters
    ----------
    kernel : Sums of `_kernels.sums`
        The compiled functions.
    image : ndarray
        Grey values, in C order.
    """

    def __init__(self, kernel, image: np.ndarray) -> None:
        self.kernel, self.image = kernel, read_only(image.view(np.uint8) if image.dtype.kind == "b" else image)
        self.units = _windows(self.image.dtype) if self.image.dtype.kind == "f" else [0]
        self.factors = np.array([(math.ldexp(1, unit // 2), math.ldexp(1, unit - unit // 2)) for unit in self.units])

    @classmethod
    def of(cls, image: np.ndarray, work: int) -> "Compiled | None":
        """Return the compiled sums for an image, or None where there are none, or not yet; say what is to be done."""
        keys = usual_keys(image.dtype, image.ndim)
        # The kernel reads 64 voxels at a time.
        if not keys or image.size < 64 or not image.flags.c_contiguous or not image.flags.aligned:
            return None
        kernel = KERNELS.get(keys[0])
        if kernel is None:
            KERNELS.ask(keys[0], work)
            return None
        return cls(kernel, image)

    def run(self, add: Callable, parts: list[slice]) -> Moments:
        """Return the moments of what a kernel adds up in all parts.

        Parameters
        ----------
        add : callable
            From the kernel, the image, a number of its type, where a part begins and ends, factors and where to add
            to, how many values were added.
        parts : list of slice
            What to work on.
        """
        found, like = [Sums(0, 0, 0, self.units[-1])], self.image.dtype.type(1)

        def work(part: slice) -> None:
            sums = np.zeros((len(self.units), 8, 8), np.int64)
            count = add(self.kernel, self.image, like, part.start, part.stop, self.factors, sums)
            found.append(self._put_together(int(count), sums))

        _tiles.run(work, parts, "rows")
        return sum(found[1:], found[0]).moments()

    def _put_together(self, count: int, sums: np.ndarray) -> Sums:
        """Return the sums that the kernel left in its windows."""
        if self.image.dtype.kind != "f":
            total, upper, lower = sums[0, :3].sum(axis=1).tolist()
            return Sums(count, total, (upper << 32) + lower)
        result, finest = Sums(count, 0, 0, self.units[-1]), self.units[-1]
        for window in np.flatnonzero(sums.any(axis=(1, 2))).tolist():
            of_window = _of_halves(*(sum(lanes) for lanes in sums[window].tolist()))
            result += _in_unit(0, *of_window, self.units[window], finest)
        return result


def _windows(dtype: np.dtype) -> list[int]:
    """Return, for floats of a type, the units of windows that cover all of them: see `_kernels.sums`."""
    info = np.finfo(dtype)
    coarsest, finest = _BITS - int(info.maxexp), int(info.nmant) - int(info.minexp)
    step = _BITS - (int(info.nmant) + 1)
    return list(range(coarsest, finest + step, step))


def read_only(array: np.ndarray) -> np.ndarray:
    """Return an array flat, and not to be written: numba would compile anew for arrays that may be."""
    flat = array.reshape(-1).view()
    flat.flags.writeable = False
    return flat


def _of_halves(upper, lower, aa_high, aa_low, ab_high, ab_low, bb_high, bb_low) -> tuple[int, int]:
    """Return sum and sum of squares of whole numbers a 2^31 + b from sums of a and b and of halves of products."""
    aa, ab, bb = (aa_high << 32) + aa_low, (ab_high << 32) + ab_low, (bb_high << 32) + bb_low
    return (upper << 31) + lower, (aa << 62) + (ab << 32) + bb


def _in_unit(count: int, total: int, squares: int, unit: int, finer: int) -> Sums:
    return Sums(count, total << (finer - unit), squares << 2 * (finer - unit), finer)


def _sums(part: np.ndarray) -> Sums:
    """Return the sums of all finite values of a flat array."""
    if part.dtype.kind == "b":
        part = part.view(np.uint8)
    add, unit = (_of_floats, _FINEST) if part.dtype.kind == "f" else (_of_integers, 0)
    chunks = (add(part[at : at + _CHUNK]) for at in range(0, part.size, _CHUNK))
    return sum(chunks, Sums(0, 0, 0, unit))


def _of_integers(part: np.ndarray) -> Sums:
    if part.dtype.itemsize < 8:
        wide = part.astype(np.int64)
        square = np.square(wide).view(np.uint64)
        return Sums(part.size, int(wide.sum()), (int((square >> np.uint64(32)).sum()) << 32) + _low(square))
    # Halves of 32 bits, counted from the smallest value of the type so that none is negative.
    least = int(np.iinfo(part.dtype).min)
    native = part.astype(part.dtype.newbyteorder("="), copy=False)
    whole = native.view(np.uint64) ^ np.uint64(-least)
    high, low = whole >> np.uint64(32), whole & np.uint64(_HALF)
    products = ((high * high, 64), (high * low, 33), (low * low, 0))
    total = (int(high.sum()) << 32) + int(low.sum())
    squares = sum(((int((p >> np.uint64(32)).sum()) << 32) + _low(p)) << shift for p, shift in products)
    return Sums(part.size, total + part.size * least, squares + 2 * least * total + part.size * least**2)


def _low(values: np.ndarray) -> int:
    return int((values & np.uint64(_HALF)).sum())


def _of_floats(part: np.ndarray) -> Sums:
    """Return the sums of floats, turned into whole numbers by powers of two: the largest first, as many as will."""
    left = part[np.isfinite(part)].astype(np.float64)
    result = Sums(left.size, 0, 0, _FINEST)
    left = left[left != 0]
    while left.size:
        unit = _BITS - math.frexp(float(np.abs(left).max()))[1]
        scaled = np.ldexp(left, unit)
        fits = (np.rint(scaled) == scaled) & (scaled != 0)
        whole = scaled[fits].astype(np.int64)
        upper, lower = whole >> 31, whole & 0x7FFFFFFF
        halves = [int(upper.sum()), int(lower.sum())]
        for product in (upper * upper, upper * lower, lower * lower):
            halves += [int((product >> 32).sum()), int((product & _HALF).sum())]
        result += _in_unit(0, *_of_halves(*halves), unit, _FINEST)
        left = left[~fits]
    return result
