"""Growing a region between two grey values by the compiled flood: of the voxels, 64 at a time."""

from itertools import product

import numpy as np

from ..progress import report, track
from . import _moments, _ready, _tiles

# Voxels to be looked at after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("flood", after=1 << 24)
# Words that the flood goes through before the listener is asked again: some hundredths of a second.
_CHUNK = 1 << 19
# Voxels of the rows that are worked on at once when a region is written or added up.
_PART = 1 << 22
_SLAB = 1 << 22
# Bytes of a row's numbers, and of the bits of a word: see `_kernels.rows`.
NUMBERS, WORD = 20, 24
_TYPES = {np.dtype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")}


def key_of(dtype: np.dtype) -> tuple[str] | None:
    """Return the variant for a type of voxel, or None where there is none."""
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    return (dtype.str[1:],) if dtype in _TYPES else None


def usual_keys(dtype: np.dtype, ndim: int) -> list[tuple[str]]:
    """Return the variants that growing a region in such an image needs."""
    key = key_of(dtype)
    return [] if key is None else [key]


KERNELS.usual_for("region_grow", usual_keys)


class Flood:
    """The flood in one image: its working memory, the result's own, is used again when the limits change.

    Parameters
    ----------
    kernel : Flood of `_kernels.flood`
        The compiled functions.
    image : ndarray
        (y, x) or (z, y, x).
    mask : ndarray or None
        Not 0 where the region may go.
    rank : int
        Neighbours differ by one step along at most this many axes.
    """

    def __init__(self, kernel, image: np.ndarray, mask: np.ndarray | None, rank: int) -> None:
        self.kernel, self.shape = kernel, image.shape
        self.deep, self.tall, self.wide = (1,) * (3 - image.ndim) + image.shape
        self.image = solid(image.view(np.uint8) if image.dtype.kind == "b" else image)
        self.mask = None if mask is None else solid(mask)
        steps = [(dz, dy, abs(dz) + abs(dy)) for dz, dy in product((-1, 0, 1), repeat=2)]
        # A neighbour may differ in x, too, where that is not one axis too many.
        near = [(dz, dy, int(far < rank)) for dz, dy, far in steps if 0 < far <= rank and (self.deep > 1 or not dz)]
        self.steps = np.array(near, np.int64).reshape(-1, 3)
        self.count, self.words = self.deep * self.tall, -(-self.wide // 64)
        self.state, self.top = np.empty(0, np.uint8), np.empty(self.deep, np.int32)
        self.room = np.empty((2, self.words), np.uint64)
        self.result: np.ndarray | None = None

    def _make_room(self) -> None:
        """Find memory for the rows' state: in a new result, or where that has no room for it, beside it."""
        self.result = np.zeros(self.shape, np.uint8)
        kinds = ((np.int32, 4, (5,)), (np.uint64, 8, (self.words, 3)))
        fits, place, found = NUMBERS + WORD * self.words <= self.wide, 0, []
        for kind, size, row in kinds:
            if fits:
                strides = (self.wide, *(size * int(np.prod(row[axis + 1 :])) for axis in range(len(row))))
                found.append(np.ndarray((self.count, *row), kind, self.result, place, strides))
            else:
                # Only what is reached is ever written, and so takes memory.
                found.append(np.empty((self.count, *row), kind))
            place += NUMBERS
        self.numbers, self.bits = found

    def rows(self) -> tuple:
        """Return where the state is, as the kernels take it."""
        places = [n for array in (self.bits, self.numbers) for n in (array.ctypes.data, array.strides[0])]
        kept = (self.state, self.top, *self.room)
        return self.kernel.rows(*places, *(array.ctypes.data for array in kept), self.words)

    def grow(self, first, last, seeds: np.ndarray, most: int | None = None) -> "Flooded | None":
        """Return the region between two values (of the image's type, both included; None for none) from the seeds.

        None if it has more than `most` voxels. The region is worth something until `grow` is called again.
        """
        kind = self.image.dtype.type
        if first is None:
            first, last = (kind(1), kind(0))
        if self.result is None:
            self._make_room()
        else:
            _tiles.run(lambda part: self.kernel.wipe(self.rows(), part.start, part.stop), self.parts(), "rows")
        self.state = np.zeros(self.count, np.uint8)
        self.top.fill(-1)
        waiting, rows = self._begin(first, last, seeds), self.rows()
        inside = (0, 1) if self.mask is None else (self.mask.ctypes.data, self.mask.itemsize)
        picture = self.kernel.picture(self.image.ctypes.data, self.image.itemsize, first, last, *inside, self.wide)
        shape = self.deep, self.tall, self.wide
        limit = max(16, _CHUNK // self.words)
        most = self.image.size if most is None else most
        now = (int(seeds[0][0]) if len(self.shape) == 3 else 0, 1, waiting, 0)
        while now[2] and now[3] <= most:
            report("voxels", now[3])
            now = self.kernel.flood(picture, shape, self.steps, rows, now, most, limit)
        report("voxels", now[3])
        return Flooded(self, now[3]) if now[3] <= most else None

    def _begin(self, first, last, seeds: np.ndarray) -> int:
        """Compare the rows of the seeds, and put them into the queue; return how many there are."""
        image = self.image.reshape(-1, self.wide)
        mask = None if self.mask is None else self.mask.reshape(-1, self.wide)
        by_row: dict[int, list[int]] = {}
        for place in seeds.tolist():
            z, y, x = (0,) * (3 - len(place)) + tuple(place)
            by_row.setdefault(z * self.tall + y, []).append(x)
        for row, columns in by_row.items():
            free = np.zeros((2, 64 * self.words), bool)
            free[0, : self.wide] = (image[row] >= first) & (image[row] <= last)
            if mask is not None:
                free[0, : self.wide] &= mask[row] != 0
            free[:, columns] = True
            self.bits[row, :, :2] = np.packbits(free, axis=1, bitorder="little").view(np.uint64).T
            self.bits[row, :, 2] = 0
            self.state[row] = 3
            plane = row // self.tall
            self.numbers[row] = 0, self.words, min(columns) // 64, max(columns) // 64, self.top[plane]
            self.top[plane] = row
        return len(by_row)

    def parts(self) -> list[slice]:
        """Return the rows that hold all of the region, in parts."""
        reached, step = self.state != 0, max(1, _PART // self.wide)
        first, stop = int(reached.argmax()), self.count - int(reached[::-1].argmax())
        return [slice(at, min(at + step, stop)) for at in range(first, stop, step)]

    def values(self, image: np.ndarray, part: slice) -> np.ndarray:
        """Return the values of an image in the region, of some rows."""
        first, stop = part.start // self.tall, (part.stop - 1) // self.tall + 1
        planes = image[first:stop] if image.ndim == 3 else image
        rows = planes.reshape(-1, self.wide)[part.start - first * self.tall : part.stop - first * self.tall]
        chosen = np.zeros(rows.shape, np.uint8)
        out = chosen.ctypes.data - part.start * self.wide
        self.kernel.paint(self.rows(), self.wide, part.start, part.stop, out, False)
        return rows[chosen.view(bool)]

    def give(self, sums: _moments.Compiled | None = None) -> tuple[np.ndarray, _moments.Moments | None]:
        """Return the region, written over the state; there is none any more until the flood grows again.

        Its moments, too, where it is said how: both at one go take half the threads, and no bits from far away.
        """
        result, rows, moments = self.result, self.rows(), None

        def write(part: slice) -> None:
            self.kernel.paint(rows, self.wide, part.start, part.stop, result.ctypes.data, True)

        def add(kernel, image, like, first, stop, *where) -> int:
            count = kernel.of_bits(image, like, rows, self.wide, first, stop, *where)
            write(slice(first, stop))
            return count

        try:
            if sums is None:
                _tiles.run(write, self.parts(), "rows")
            else:
                moments = sums.run(add, self.parts())
        finally:
            # Where writing was left half done, voxels would be taken for the state of their rows.
            self.result, self.bits, self.numbers = None, None, None
        return result, moments


class Flooded:
    """A region as the flood leaves it: in bits.

    Parameters
    ----------
    flood : Flood
        Where it is kept.
    count : int
        Its voxels.
    """

    def __init__(self, flood: Flood, count: int) -> None:
        self.flood, self.count, self.stopped = flood, count, False
        self._moments: _moments.Moments | None = None
        self._whole: np.ndarray | None = None

    def whole(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the region in an image of that shape, 0 and 1: always the same array."""
        if self._whole is None and self._moments is None:
            sums = _moments.Compiled.of(self.flood.image, self.count)
            self._whole, self._moments = self.flood.give(sums)
        elif self._whole is None:
            self._whole, _ = self.flood.give()
        return self._whole.reshape(shape)

    def moments(self, image: np.ndarray) -> _moments.Moments:
        """Return the number, mean and deviation of the image's values in the region."""
        if self._moments is None:
            self._moments = self._measured(image)
        return self._moments

    def _measured(self, image: np.ndarray) -> _moments.Moments:
        if self._whole is not None:
            return _moments.inside(image, self._whole.view(bool))
        flood = self.flood
        compiled = _moments.Compiled.of(flood.image, self.count)
        if compiled is not None:
            where = flood.rows(), flood.wide
            return compiled.run(lambda kernel, *ways: kernel.of_bits(*ways[:2], *where, *ways[2:]), flood.parts())
        return _moments.of_parts(lambda part: flood.values(image, part), flood.parts())


def solid(array: np.ndarray) -> np.ndarray:
    """Return an array that a kernel can read by its address: in C order."""
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    result = np.empty(array.shape, array.dtype)
    for slab in track(_tiles.slabs(array.shape, _SLAB), "slabs"):
        result[slab] = array[slab]
    return result
