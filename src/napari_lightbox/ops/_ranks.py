"""The compiled way of medians and other order statistics: ready in the background, with the result of the plain way.

The kernel (`_kernels.median`) knows whole numbers only. Voxels of other types are turned into such of the same order
while a tile is copied with its surroundings, and the results are turned back; so one variant of the kernel serves all
types of one width. Tiles with NaN, which has no place in an order, are left to the plain way.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol

import numpy as np

from . import _tiles
from ._ready import Key, Variants

# Voxels after which compiling a variant is worth its while: some seconds of the plain way.
KERNELS = Variants("median", after=1 << 21)
# Largest tile, in bytes: it should stay in a core's cache. In smaller ones more of the work is for the surroundings.
_TILE = 1 << 20
_LEAST_TILE = 1 << 16
# Rows of up to so many voxels are not cut: the longer they are, the less it takes to copy them.
_ROW = 1024
# Bytes of scratch memory that are kept for the next tile or image.
_MOST_SPARE = 1 << 25
# Bytes of a line of the cache.
_LINE = 64
# Where along an axis that an image has not its voxels stand.
_HERE = np.zeros(1, np.int64)
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


# Pictures have a kernel of their own for the median, see `_squares`.
KERNELS.usual_for("median", lambda dtype, ndim: usual_keys(dtype, ndim) if ndim == 3 else [])
KERNELS.usual_for("adaptive_median", usual_keys)


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
        self.voxel = image.dtype
        self.dtype, self.kind = stand_in(image.dtype)
        self.image, self.reach, self.mode = image.view(self.dtype), reach, mode
        self._first_bit = self.dtype.type(128 if self.dtype.kind == "u" else np.iinfo(self.dtype).min)
        # What stands for infinity in floats of this width: no number but NaN lies beyond it, on either side.
        width = max(2, self.dtype.itemsize)
        self.infinity = np.array(np.inf, f"f{width}").view(f"i{width}").astype(self.dtype)[()]

    @cached_property
    def _index(self) -> list[np.ndarray]:
        """Which voxel stands at each place along an axis, from the first of the surroundings on."""
        shape = self.image.shape
        places = (_tiles.border_index(-r, n + r, n, self.mode) for r, n in zip(self.reach, shape, strict=True))
        return [index.astype(np.int64) for index in places]

    def shape(self, block: _tiles.Block) -> tuple[int, ...]:
        """Return the shape of a block with its surroundings."""
        return tuple(s.stop - s.start + 2 * r for s, r in zip(block, self.reach, strict=True))

    def tiles(
        self, shape: tuple[int, ...], plain_tile: int, most: float = math.inf, least: int = 0
    ) -> list[_tiles.Block]:
        """Cut an image into tiles of at most `most` voxels: two for each thread, unless they have less than `least`.

        A tile with NaN goes the plain way and must not take too long there, where tiles have `plain_tile` voxels.
        """
        share = max(least or _LEAST_TILE, min(_TILE // self.dtype.itemsize, math.prod(shape) // (2 * _tiles.workers())))
        voxels = int(min(most, share))
        return _tiles.blocks(shape, min(voxels, 4 * plain_tile) if self.kind == FLOAT else voxels, _ROW)

    def fetch(self, block: _tiles.Block, target: np.ndarray) -> bool:
        """Copy a block with its surroundings into a flat array; False where it holds NaN."""
        from ._kernels import keys

        image = self.image
        shape, flat = self.shape(block), (0,) * (3 - image.ndim)
        places = [index[s.start : s.stop + 2 * r] for index, s, r in zip(self._index, block, self.reach, strict=True)]
        first, behind = block[-1].start - self.reach[-1], block[-1].stop + self.reach[-1]
        return not keys.fetch_2(
            image.ctypes.data,
            flat + image.strides,
            (*(_HERE for _ in flat), *places),
            (max(0, -first), min(behind, image.shape[-1]) - first),
            target.reshape((1,) * len(flat) + shape),
            self.kind,
            self._first_bit,
            self.infinity,
        )

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Turn whole numbers, flat, back into voxels, in place; return these."""
        if self.kind != AS_IS:
            from ._kernels import keys

            keys.decode_1(numbers, self.kind, self._first_bit)
        return numbers.view(self.voxel)

    def decode_block(self, numbers: np.ndarray, first: int, steps: Sequence[int], shape: Sequence[int]) -> None:
        """Turn the whole numbers of a block of an image back into voxels, in place, see `steps_of`."""
        if self.kind != AS_IS:
            from ._kernels import keys

            flat = (1,) * (3 - len(shape))
            steps = (0, 0, *steps[:-1])[-2:]
            keys.decode_block_1(numbers, first, steps, flat + tuple(shape), self.kind, self._first_bit)


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

    def tiles(self, shape: tuple[int, ...], plain_tile: int) -> list[_tiles.Block]:
        """Cut an image into tiles, see `Numbers.tiles`."""
        return self.numbers.tiles(shape, plain_tile)

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a contiguous result; False, and nothing done, where the voxels hold NaN."""
        numbers, shape = self.numbers, [s.stop - s.start for s in block]
        padded = numbers.shape(block)
        count = math.prod(padded)
        wanted = (numbers.dtype, count + self.kernel.lanes), (numbers.dtype, self.kernel.room)
        with rooms(*wanted) as (voxels, lists):
            if not numbers.fetch(block, voxels[:count]):
                return False
            out, steps = result.reshape(-1).view(numbers.dtype), steps_of(result.shape)
            first = sum(s.start * step for s, step in zip(block, steps, strict=True))
            self.find(voxels, (0, steps_of(padded)), out, (first, steps), shape, lists)
            numbers.decode_block(out, first, steps, shape)
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


class Way(Protocol):
    """A compiled way to work out an image."""

    def tiles(self, shape: tuple[int, ...], plain_tile: int) -> list[_tiles.Block]:
        """Cut an image into tiles; `plain_tile` is as for `run`."""

    def fill(self, result: np.ndarray, block: _tiles.Block) -> bool:
        """Work out a block of a contiguous result; False, and nothing done, where the plain way is needed."""


def run(find: Callable[[], Way | None], result: np.ndarray, plain: Callable, plain_tile: int) -> None:
    """Work out an image, the compiled way where it is ready, also from when it becomes so.

    Parameters
    ----------
    find : callable
        Gives the compiled way if it is ready now.
    result : ndarray
        Contiguous, of the shape and type of the image.
    plain : callable
        Works out a block of the result the plain way.
    plain_tile : int
        Voxels of a block that the plain way takes at a time.
    """
    fast = find()

    def work(block: _tiles.Block) -> None:
        now = fast or find()
        if now is None:
            plain(block)
        elif not now.fill(result, block):
            for part in parts(block, plain_tile):
                if not now.fill(result, part):
                    plain(part)

    shape = result.shape
    _tiles.run(work, fast.tiles(shape, plain_tile) if fast else _tiles.blocks(shape, plain_tile), "tiles")


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
        memory = np.empty(sum(sizes) + _LINE, np.uint8)
        # Vectors that begin with a line of the cache are fetched at once.
        memory = memory[-memory.ctypes.data % _LINE :]
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
