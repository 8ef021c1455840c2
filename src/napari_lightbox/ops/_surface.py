"""Surfaces of masks as few points, and how far those of one lie from those of another.

A surface is thin: of 16 million voxels some ten thousand lie on it. Masks are packed into bits, so that finding their
surfaces reads each voxel once; points that two surfaces share are 0 apart; and the others are looked for among points,
never in a map of distances of the whole image.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from . import _ready, _tiles

# There is one variant. Voxels to be looked at after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("surface", after=1 << 23)
_KEY = ("any",)
_SLAB = 1 << 20
# Points that are looked for at once: by a tree, and in cells.
_POINTS, _FEW = 1 << 13, 1 << 11
# Points that a tree is asked for first, because several may be equally near but for their last digit.
_TIED = 4
# Voxels of a cell along an axis, where they are cubes; a block has four cells along each axis. That a point's place in
# its cell fits into ten bits an axis, and a voxel's number into single precision, are limits.
_EDGE, _MOST_EDGE, _MOST_WIDE = 6, 1023, 1 << 24
_TOP, _ONE = np.uint64(63), np.uint64(1)


class Mask:
    """A mask that is packed into bits, row by row.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x).
    label : int or None
        Value of the mask; everything that is not 0 for None.
    """

    def __init__(self, labels: np.ndarray, label: int | None) -> None:
        self.flat = labels.ndim == 2
        deep, tall, self.wide = (1,) * self.flat + labels.shape
        self._rows, self._label, self._kernel = labels.reshape(-1, self.wide), label, KERNELS.get(_KEY)
        if self._kernel is None:
            KERNELS.ask(_KEY, labels.size)
        #: 64 voxels a word along the last axis, (z, y, words).
        self.bits = np.zeros((deep, tall, -(-self.wide // 64)), np.uint64)

    def pack(self, rows: slice) -> None:
        """Pack some rows: rows, not planes, so that in a single plane there is something to share out, too."""
        part, bits = self._rows[rows], self.bits.reshape(len(self._rows), -1)[rows]
        if self._label is not None:
            part = part == self._label
        elif part.dtype.itemsize > 1 or not part.flags.c_contiguous:
            part = part != 0
        part = part.view(np.uint8)
        if self._kernel is None:
            part = np.packbits(part, axis=-1, bitorder="little")
            bits.view(np.uint8)[:, : part.shape[1]] = part
        else:
            part = part.reshape(-1)
            part.flags.writeable = False
            self._kernel.pack(part, self.wide, 0, len(bits), bits)

    @cached_property
    def empty(self) -> bool:
        """Whether there is no voxel in it."""
        return not self.bits.any()

    @property
    def surface(self) -> np.ndarray:
        """Bits of the voxels that have a neighbour outside of the mask across a face; beyond the image is outside."""
        inner = self.bits.copy()
        for axis in range(1 if self.flat else 0, 2):
            here, there = np.moveaxis(inner, axis, 0), np.moveaxis(self.bits, axis, 0)
            here[1:] &= there[:-1]
            here[:-1] &= there[1:]
            here[0] = here[-1] = 0
        left, right = self.bits << _ONE, self.bits >> _ONE
        left[..., 1:] |= self.bits[..., :-1] >> _TOP
        right[..., :-1] |= self.bits[..., 1:] << _TOP
        inner &= left
        inner &= right
        return self.bits & ~inner


def masks(labels: Sequence[np.ndarray], label: int | None) -> list[Mask]:
    """Pack masks, side by side; see `Mask`."""
    found = [Mask(each, label) for each in labels]
    slabs = [_tiles.slabs((each[..., 0].size, each.shape[-1]), _SLAB) for each in labels]
    parts = [(mask, rows) for mask, slab in zip(found, slabs, strict=True) for rows in slab]
    _tiles.run(lambda part: part[0].pack(part[1]), parts, "slabs")
    return found


def places(bits: np.ndarray) -> np.ndarray:
    """Return the (z, y, x) of all ones, (n, 3), in array order."""
    result = np.empty((int(np.bitwise_count(bits).sum()), 3), np.int64)
    z, y, word = np.nonzero(bits)
    ones = np.unpackbits(bits[z, y, word].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    number, bit = np.nonzero(ones)
    result[:, 0], result[:, 1], result[:, 2] = z[number], y[number], word[number] * 64 + bit
    return result


def distances(pair: list[Mask], spacing: Sequence[float]) -> Iterator[np.ndarray]:
    """Return how far each point of the first surface lies from the second, in mm, and then the other way round.

    Points that lie on both come first, the others in array order. Neither mask may be empty. The pair is emptied, so
    that the masks need not stay longer than their surfaces are unknown.
    """
    kernel, steps = KERNELS.get(_KEY), _steps(spacing)
    first, second = pair
    pair.clear()
    if kernel is None or max(*first.bits.shape[:2], first.wide) > _MOST_WIDE:
        for one, other in ((first, second), (second, first)):
            alone = places(one.surface & ~other.surface)
            shared = int(np.bitwise_count(one.surface & other.surface).sum())
            found = _by_tree(alone, places(other.surface), steps) if len(alone) else np.empty(0)
            yield np.concatenate([np.zeros(shared), found])
        return
    axes, shape = 2 if first.flat else 3, (*first.bits.shape[:2], first.wide)
    cells = _cells(kernel, [first.bits, second.bits], [second.bits, first.bits], axes, shape, steps)
    del first, second
    yield from _by_cells(kernel, cells, steps)


def expect(voxels: int) -> None:
    """Say that distances will be asked for, in an image of so many voxels: until then the kernel may be ready."""
    KERNELS.ask(_KEY, voxels)


def nearest(wanted: np.ndarray, others: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return how far each wanted place (z, y, x) lies from the nearest of some others, in mm."""
    return next(both_ways(wanted, others, spacing))


def both_ways(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> Iterator[np.ndarray]:
    """Return how far each place (z, y, x) lies from the nearest of some others, in mm, and then the other way round."""
    kernel, steps = KERNELS.get(_KEY), _steps(spacing)
    low = np.minimum(first.min(axis=0), second.min(axis=0))
    shape = tuple((np.maximum(first.max(axis=0), second.max(axis=0)) - low + 1).tolist())
    if kernel is None or max(shape) > _MOST_WIDE:
        yield _by_tree(first, second, steps)
        yield _by_tree(second, first, steps)
        return
    bits = [np.zeros((*shape[:2], -(-shape[2] // 64)), np.uint64) for _ in range(2)]
    for each, marked in zip((first, second), bits, strict=True):
        kernel.mark(each, low, marked)
    nothing = np.zeros(bits[0].shape, np.uint64)
    found = _by_cells(kernel, _cells(kernel, bits, [nothing, nothing], 0, shape, steps), steps)
    for each, away in zip((first, second), found, strict=True):
        number = np.ravel_multi_index(tuple((each - low).T), shape)
        # What was found is in array order, and once for each place.
        yield away if (number[1:] > number[:-1]).all() else away[np.unique(number, return_inverse=True)[1]]


def _steps(spacing: Sequence[float]) -> tuple[float, ...]:
    return (1.0,) * (3 - len(spacing)) + tuple(map(float, spacing))


def _by_tree(wanted: np.ndarray, others: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return how far each wanted place lies from the nearest of some others, in mm."""
    from scipy.spatial import cKDTree

    tree = cKDTree(others * spacing)
    found = np.empty(len(wanted))
    # What the tree may be wrong by, as it knows rounded places in mm: it does not tell which of such is the nearest.
    slack = 1e-14 * float((np.maximum(wanted.max(axis=0), others.max(axis=0)) * spacing).max())

    def work(part: slice) -> None:
        todo, count = np.arange(part.start, part.stop), _TIED
        while len(todo):
            asked = min(count, len(others))
            away, near = (each.reshape(-1, asked) for each in tree.query(wanted[todo] * spacing, asked))
            # From whole steps, so that no digit of a place is lost.
            steps = np.square((wanted[todo, None] - others[near]) * spacing)
            found[todo] = np.sqrt((steps[..., 0] + steps[..., 1] + steps[..., 2]).min(axis=1))
            todo = todo[away[:, -1] <= away[:, 0] + slack] if asked < len(others) else todo[:0]
            count *= 8

    _tiles.run(work, _tiles.slabs((len(wanted),), _POINTS), "points")
    return found


def _by_cells(kernel, cells: list, spacing: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Return the distances of the points in some cells from those in others, and then the other way round.

    `cells` is what `_cells` returns, and is emptied.
    """

    def away(found, others, shared: int) -> np.ndarray:
        result, count = np.zeros(len(found.points)), found.blocks.shape[1]
        alone = result[shared:]

        def work(part: slice) -> None:
            kernel.nearest(found, others, spacing, part.start, part.stop, alone)

        _tiles.run(work, _tiles.slabs((count,), max(1, _FEW * count // len(result))), "cells")
        return result

    (first, shared), (second, _) = cells
    cells.clear()
    yield away(first, second, shared)
    # The order of the first is of no more use.
    first = first._replace(order=first.order[:0].copy())
    yield away(second, first, shared)


class _Grid(NamedTuple):
    """How an image is cut into cells.

    Parameters
    ----------
    numbers, inside : tuple of ndarray
        What each z, y and x adds to the number of a cell, and to the place of a point in it.
    size, blocks : tuple of int
        Voxels of a cell along each axis, and blocks.
    """

    numbers: tuple[np.ndarray, ...]
    inside: tuple[np.ndarray, ...]
    size: tuple[int, ...]
    blocks: tuple[int, ...]

    def cells(self, numbers: np.ndarray) -> np.ndarray:
        """Return where along z, y and x the cells of some numbers lie, in cells; (n, 3)."""
        result, block = np.empty((len(numbers), 3), np.int64), numbers >> 6
        for axis in (2, 1, 0):
            block, place = np.divmod(block, self.blocks[axis])
            result[:, axis] = 4 * place + (numbers >> (2 - axis) & 1) + 2 * (numbers >> (5 - axis) & 1)
        return result


def _grid(shape: tuple[int, ...], spacing: tuple[float, ...]) -> _Grid:
    edges = np.round(_EDGE * np.cbrt(np.prod(spacing)) / spacing)
    size = tuple(np.clip(edges, 1, _MOST_EDGE).astype(int).tolist())
    blocks = tuple(-(-n // (4 * edge)) for n, edge in zip(shape, size, strict=True))
    numbers, inside = [], []
    for axis, (n, edge) in enumerate(zip(shape, size, strict=True)):
        cell, rest = np.divmod(np.arange(n), edge)
        # 64 cells of a block, those next to each other first in all directions.
        low, high = (cell & 1) << (2 - axis), (cell >> 1 & 1) << (5 - axis)
        numbers.append((cell >> 2) * (64 * int(np.prod(blocks[axis + 1 :]))) + low + high)
        inside.append((rest << (20 - 10 * axis)).astype(np.uint32))
    return _Grid(tuple(numbers), tuple(inside), size, blocks)


def _cells(kernel, bits: list, others: list, axes: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> list:
    """Gather the points of surfaces in cells; see `_kernels.surface`.

    Parameters
    ----------
    kernel : _kernels.surface.Surface
    bits, others : list of ndarray
        Masks, and for each another one with which it may share points.
    axes : int
        Along how many axes voxels have neighbours; 0 where the bits are those of the surface.
    shape : tuple of int
        Of the image, (z, y, x).
    spacing : tuple of float

    Returns
    -------
    list of tuple
        For each surface its `_kernels.surface.Cells`, and how many points it shares.
    """
    grid = _grid(shape, spacing)
    found: list[Any] = [None] * len(bits)

    def gather(which: int) -> None:
        mask, other = bits[which], others[which]
        counts = np.zeros(64 * int(np.prod(grid.blocks)), np.int32)
        count, shared, cells = kernel.tally(mask, other, axes, grid.numbers, counts)
        starts, firsts = np.empty(cells + 1, np.int32), np.empty(cells + 1, np.int32)
        numbers = np.empty(cells, np.int32)
        blocks = kernel.part(counts, starts, firsts, numbers)
        points, order = np.empty(count, np.uint32), np.empty(count, np.int32)
        kernel.place(mask, other, axes, grid.numbers, grid.inside, counts, points, order)
        boxes = np.empty((6, cells), np.float32), np.empty((6, blocks), np.float32)
        gathered = kernel.cells(points, order, starts, firsts[: blocks + 1], *boxes)
        kernel.boxes(grid.cells(numbers), grid.size, gathered)
        found[which] = gathered, shared

    _tiles.run(gather, range(len(bits)), "surfaces")
    return found
