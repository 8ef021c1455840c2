"""The compiled way of medians and other order statistics: ready in the background, with the result of the plain way.

The kernel (`_kernels.median`) knows whole numbers only. Voxels of other types are turned into such of the same order
while a tile is copied with its surroundings, and the results are turned back; so one variant of the kernel serves all
types of one width. Tiles with NaN, which has no place in an order, are left to the plain way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np

from . import _tiles
from ._ready import Key, Variants

# Voxels after which compiling a variant is worth its while: some seconds of the plain way.
KERNELS = Variants("median", after=1 << 21)
# Largest tile, in voxels. In smaller ones more of the work is for the sake of the surroundings.
_TILE = 1 << 18
_LEAST_TILE = 1 << 16
# Rows of up to so many voxels are not cut: the longer they are, the less it takes to copy them.
_ROW = 1024
# Bytes of scratch memory that are kept for the next tile or image.
_MOST_SPARE = 1 << 25
# What must be done to a type of voxels: nothing, turn the first bit over, or turn all others over where it is set.
AS_IS, TURNED, FLOAT = 0, 1, 2


def stand_in(dtype: np.dtype) -> tuple[np.dtype, int]:
    """Return the type of whole numbers that stands for `dtype`, and what must be done to its voxels.

    One type serves each width: uint8, int16, int32 or int64.

    Examples
    --------
    >>> stand_in(np.dtype("uint16")), stand_in(np.dtype("float32"))
    ((dtype('int16'), 1), (dtype('int32'), 2))
    """
    stands = np.dtype("u1" if dtype.itemsize == 1 else f"i{dtype.itemsize}")
    if dtype.kind == "f":
        return stands, FLOAT
    return stands, AS_IS if dtype.kind in (stands.kind, "b") else TURNED


def axes_and_key(dtype: np.dtype, sizes: Sequence[int], rank: int) -> tuple[tuple[int, ...], Key] | None:
    """Say which axes of an image of two or three are z, y and x to the kernel, and which variant serves it.

    Parameters
    ----------
    dtype : dtype
        Of the voxels.
    sizes : sequence of int
        Of the window, along each axis of the image.
    rank : int
        Which value of a window, 0 for the smallest.

    Returns
    -------
    tuple or None
        Axes, counting one of length 1 that a picture gets before its last one, and the key; None where there is no
        kernel. y is the axis with the shorter window, so that windows along the planes of any stack are the same.
    """
    if len(sizes) not in (2, 3):
        return None
    a, b, x = sizes if len(sizes) == 3 else (sizes[0], 1, sizes[1])
    z, y = max(a, b), min(a, b)
    if z not in (3, 5, 7) or y not in (1, 3, 5, 7) or x not in (1, 3, 5, 7):
        return None
    return ((0, 1, 2) if a >= b else (1, 0, 2)), (stand_in(dtype)[0].str[1:], z, y, x, rank)


def usual_keys(dtype: np.dtype, ndim: int) -> list[Key]:
    """Return the variant that serves windows of 3 voxels a side."""
    found = axes_and_key(dtype, (3,) * ndim, 3**ndim // 2)
    return [] if found is None else [found[1]]


for _operation in ("median", "adaptive_median"):
    KERNELS.usual_for(_operation, usual_keys)


class Numbers:
    """An image whose blocks can be had as whole numbers, with what surrounds them.

    Parameters
    ----------
    image : ndarray
        The voxels.
    reach : sequence of int
        Width of the surroundings along each axis.
    mode : str
        What lies beyond the border.
    """

    def __init__(self, image: np.ndarray, reach: Sequence[int], mode: str) -> None:
        self.dtype, self.kind = stand_in(image.dtype)
        self.image, self.reach, self.mode = image.view(self.dtype), reach, mode
        self._first_bit = self.dtype.type(128 if self.dtype.kind == "u" else np.iinfo(self.dtype).min)

    def shape(self, block: _tiles.Block) -> tuple[int, ...]:
        """Return the shape of a block with its surroundings."""
        return tuple(s.stop - s.start + 2 * r for s, r in zip(block, self.reach, strict=True))

    def tiles(self, shape: tuple[int, ...], plain_tile: int, most: int = _TILE) -> list[_tiles.Block]:
        """Cut an image into tiles of at most `most` voxels, at least two for each thread.

        A tile with NaN goes the plain way and must not take too long there, where tiles have `plain_tile` voxels.
        """
        voxels = min(most, max(_LEAST_TILE, min(_TILE, math.prod(shape) // (2 * _tiles.workers()))))
        return _tiles.blocks(shape, min(voxels, 4 * plain_tile) if self.kind == FLOAT else voxels, _ROW)

    def fetch(self, block: _tiles.Block, target: np.ndarray) -> bool:
        """Copy a block with its surroundings into a flat array; False where it holds NaN."""
        surround(self.image, block, self.reach, self.mode, target.reshape(self.shape(block)))
        if self.kind == AS_IS:
            return True
        from ._kernels import keys

        width = max(2, self.dtype.itemsize)
        infinity = np.array(np.inf, f"f{width}").view(f"i{width}").astype(self.dtype)[()]
        return not keys.encode_1(target, self.kind, self._first_bit, infinity)

    def store(self, found: np.ndarray, result: np.ndarray, block: _tiles.Block) -> None:
        """Turn whole numbers, flat, back into voxels, and copy them into a block of the result."""
        if self.kind != AS_IS:
            from ._kernels import keys

            keys.decode_1(found, self.kind, self._first_bit)
        result[block] = found.view(result.dtype).reshape([s.stop - s.start for s in block])


class Compiled:
    """The compiled way for one image, window and rank.

    Parameters
    ----------
    image : ndarray
        The voxels.
    sizes : sequence of int
        Of the window.
    mode : str
        What lies beyond the border.
    axes : tuple of int
        From `axes_and_key`.
    kernel : callable
        The variant.
    """

    def __init__(self, image: np.ndarray, sizes: Sequence[int], mode: str, axes: tuple[int, ...], kernel: Callable):
        self.axes, self.kernel = axes, kernel
        self.numbers = Numbers(image, [size // 2 for size in sizes], mode)

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a contiguous result; False, and nothing done, where the voxels hold NaN."""
        numbers, shape = self.numbers, [s.stop - s.start for s in block]
        padded = numbers.shape(block)
        count = math.prod(padded)
        straight = numbers.kind == AS_IS
        wanted = [count + self.kernel.lanes, self.kernel.room, 0 if straight else math.prod(shape)]
        with rooms(*[(numbers.dtype, length) for length in wanted]) as (voxels, lists, found):
            if not numbers.fetch(block, voxels[:count]):
                return False
            if straight:
                out, steps = result.reshape(-1).view(numbers.dtype), steps_of(result.shape)
                first = sum(s.start * step for s, step in zip(block, steps, strict=True))
            else:
                out, steps, first = found, steps_of(shape), 0
            self.find(voxels, (0, steps_of(padded)), out, (first, steps), shape, lists)
            if not straight:
                numbers.store(found, result, block)
        return True

    def find(self, voxels: np.ndarray, at: tuple, out: np.ndarray, to: tuple, shape: Sequence[int], lists: np.ndarray):
        """Run the kernel; `at` and `to` are an index in a flat array and the steps along each axis from there."""
        at, to = ((first, *self._ordered(steps, 0)[:2]) for first, steps in (at, to))
        self.kernel(voxels, at, out, to, self._ordered(shape, 1), lists)

    def _ordered(self, values: Sequence[int], missing: int) -> tuple[int, ...]:
        """Put what is known of each axis of the image in the order of the kernel's axes."""
        three = (values[0], missing, values[1]) if len(values) == 2 else values
        return tuple(int(three[axis]) for axis in self.axes)


def compiled(image: np.ndarray, sizes: Sequence[int], rank: int, mode: str) -> Compiled | None:
    """Return the compiled way if it is ready now; otherwise say that it is wanted."""
    found = axes_and_key(image.dtype, sizes, rank)
    if found is None:
        return None
    axes, key = found
    kernel = KERNELS.get(key)
    if kernel is None:
        # There is a variant for each of the many ranks, few of which are wanted for long.
        KERNELS.ask(key, image.size if rank == math.prod(sizes) // 2 else image.size // 4)
        return None
    return Compiled(image, sizes, mode, axes, kernel)


def steps_of(shape: Sequence[int]) -> list[int]:
    """Return the distance of neighbours along each axis of a contiguous array."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def run(
    image: np.ndarray, sizes: Sequence[int], rank: int, mode: str, result: np.ndarray, plain: Callable, plain_tile: int
) -> None:
    """Work out an order statistic, the compiled way where it is ready.

    Parameters
    ----------
    image, sizes, rank, mode
        As in `Compiled`.
    result : ndarray
        Contiguous, of the shape and type of the image.
    plain : callable
        Works out a block of the result the plain way.
    plain_tile : int
        Voxels of a block that the plain way takes at a time.
    """
    fast = compiled(image, sizes, rank, mode)
    if fast is None:
        _tiles.run(plain, _tiles.blocks(image.shape, plain_tile), "tiles")
        return

    def work(block: _tiles.Block) -> None:
        if fast.fill(result, block):
            return
        for part in parts(block, plain_tile):
            if not fast.fill(result, part):
                plain(part)

    _tiles.run(work, fast.numbers.tiles(image.shape, plain_tile), "tiles")


_spare: list[np.ndarray] = []


@contextmanager
def rooms(*wanted: tuple[np.dtype, int]) -> Iterator[list[np.ndarray]]:
    """Lend scratch memory: flat arrays of some types and lengths.

    It is kept for the next tile, whichever thread works on that: to get memory from the system, page by page, would
    take as long as to filter a tile.
    """
    sizes = [-(-np.dtype(dtype).itemsize * length // 64) * 64 for dtype, length in wanted]
    try:
        memory = _spare.pop()
    except IndexError:
        memory = np.empty(0, np.uint8)
    if len(memory) < sum(sizes):
        memory = np.empty(sum(sizes), np.uint8)
    starts = np.cumsum([0, *sizes])
    try:
        yield [
            memory[start : start + np.dtype(dtype).itemsize * length].view(dtype)
            for start, (dtype, length) in zip(starts, wanted, strict=False)
        ]
    finally:
        if sum(map(len, _spare)) + len(memory) <= _MOST_SPARE:
            _spare.append(memory)


def parts(block: _tiles.Block, voxels: int) -> list[_tiles.Block]:
    """Cut a block into smaller ones of at most `voxels` voxels."""
    longest = max(range(len(block)), key=lambda axis: block[axis].stop - block[axis].start)
    start, stop = block[longest].start, block[longest].stop
    if math.prod(s.stop - s.start for s in block) <= voxels or stop - start < 2:
        return [block]
    halves = slice(start, (start + stop) // 2), slice((start + stop) // 2, stop)
    return [p for half in halves for p in parts((*block[:longest], half, *block[longest + 1 :]), voxels)]


def surround(image: np.ndarray, block: _tiles.Block, reach: Sequence[int], mode: str, target: np.ndarray) -> None:
    """Copy a block of `image` with `reach` more voxels on both sides of each axis into `target`.

    As `_tiles.with_halo`, but what lies inside the image is copied in one piece, and so are the borders.
    """
    pieces = [
        _pieces(s.start - r, s.stop + r, length, mode) for s, r, length in zip(block, reach, image.shape, strict=True)
    ]
    for chosen in product(*pieces):
        places, sources = tuple(place for place, _ in chosen), [source for _, source in chosen]
        if any(source is None for source in sources):
            target[places] = 0
            continue
        found = image[tuple(s if isinstance(s, slice) else slice(None) for s in sources)]
        for axis, source in enumerate(sources):
            # Not `take`, which would first copy all that it takes from.
            found = found if isinstance(source, slice) else found[(slice(None),) * axis + (source,)]
        target[places] = found


def _pieces(start: int, stop: int, length: int, mode: str) -> list[tuple[slice, slice | np.ndarray | None]]:
    """Cut positions along an axis into those before, inside and behind it, and say which voxels stand there."""
    found: list[tuple[slice, slice | np.ndarray | None]] = []
    for first, last in ((start, min(stop, 0)), (max(start, 0), min(stop, length)), (max(start, length), stop)):
        if first >= last:
            continue
        source: slice | np.ndarray | None = slice(first, last)
        if first < 0 or last > length:
            source = None if mode == "constant" else _tiles.border_index(first, last, length, mode)
        found.append((slice(first - start, last - start), source))
    return found
