"""Surfaces of masks as few points, and how far those of one lie from those of another.

A surface is thin: of 16 million voxels some ten thousand lie on it. Masks are packed into bits, so that finding their
surfaces reads each voxel once; points that two surfaces share are 0 apart; and the others are looked for among points,
never in a map of distances of the whole image.

What is here holds whole surfaces. `_surface_boxes` does so as long as they take up to a limit of memory, and beyond it
one part after the other.
"""

import math
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
_POINTS, _FEW = 1 << 10, 1 << 11
# Cells whose places are worked out at once.
_CELLS = 1 << 14
# Points that a tree is asked for first, because several may be equally near but for their last digit.
_TIED = 4
# Voxels of a cell along an axis, where they are cubes; a block has four cells along each axis. That a point's place in
# its cell fits into ten bits an axis, and a voxel's number into single precision, are limits.
_EDGE, _MOST_EDGE, _MOST_WIDE = 6, 1023, 1 << 24
# Bytes that a thread takes at most while it looks for points.
THREAD = 1 << 19
# Bytes that a point takes at most while distances are found by trees.
_TREE_POINT = 160
_TOP, _ONE = np.uint64(63), np.uint64(1)


# Some planes, or some rows of one.
Part = tuple[slice, slice]


class Mask:
    """A mask that is packed into bits, row by row.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x).
    label : int or None
        Value of the mask; everything that is not 0 for None.
    flat : bool, optional
        Whether voxels have no neighbours along z; where not given, if there are two axes.
    """

    def __init__(self, labels: np.ndarray, label: int | None, flat: bool | None = None) -> None:
        self.flat = labels.ndim == 2 if flat is None else flat
        self._labels, self._label, self._kernel = volume(labels), label, KERNELS.get(_KEY)
        deep, tall, self.wide = self._labels.shape
        if self._kernel is None:
            KERNELS.ask(_KEY, labels.size)
        #: 64 voxels a word along the last axis, (z, y, words).
        self.bits = np.zeros((deep, tall, -(-self.wide // 64)), np.uint64)

    def pack(self, part: Part) -> None:
        """Pack some planes, or some rows of a plane."""
        bits = self.bits[part].reshape(-1, self.bits.shape[2])
        part = self._labels[part]
        if self._label is not None:
            part = part == self._label
        elif part.dtype.itemsize > 1 or not part.flags.c_contiguous:
            part = part != 0
        part = part.view(np.uint8)
        if self._kernel is None:
            part = np.packbits(part, axis=-1, bitorder="little").reshape(len(bits), -1)
            bits.view(np.uint8)[:, : part.shape[1]] = part
        else:
            part = part.reshape(-1)
            part.flags.writeable = False
            self._kernel.pack(part, self.wide, 0, len(bits), bits)

    def pack_all(self, voxels: int) -> None:
        """Pack everything, about so many voxels at a time."""
        _tiles.run(self.pack, parts((*self.bits.shape[:2], self.wide), voxels), "slabs")

    @cached_property
    def empty(self) -> bool:
        """Whether there is no voxel in it."""
        return not self.bits.any()

    @property
    def surface(self) -> np.ndarray:
        """Bits of the voxels that have a neighbour outside of the mask across a face; beyond the image is outside."""
        return self.skin((slice(None), slice(None)))

    def skin(self, part: Part) -> np.ndarray:
        """Return these bits of a part only."""
        if self._kernel is not None:
            planes, rows = (s.indices(n)[:2] for s, n in zip(part, self.bits.shape, strict=False))
            result = np.empty((planes[1] - planes[0], rows[1] - rows[0], self.bits.shape[2]), np.uint64)
            some = _tiles.slabs(result.shape, _SLAB // 64)
            axes = 2 if self.flat else 3

            def work(slab: slice) -> None:
                self._kernel.skin(self.bits, axes, planes[0] + slab.start, rows[0], result[slab])

            _tiles.run(work, some, "slabs")
            return result
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
        return self.bits[part] & ~inner[part]


def volume(labels: np.ndarray) -> np.ndarray:
    """Return labels as (z, y, x); a plane has one slice."""
    return labels[None] if labels.ndim == 2 else labels


def bytes_of_bits(shape: Sequence[int]) -> int:
    """Return the bytes that the bits of a mask take; rows are whole words, however short they are."""
    deep, tall, wide = shape
    return 8 * deep * tall * -(-wide // 64)


def bytes_of_counts(shape: tuple[int, ...], spacing: tuple[float, ...]) -> int:
    """Return the bytes that it takes to count the points of a surface in cells, however few there are."""
    return 4 * 64 * math.prod(grid_of(shape, spacing).blocks)


def parts(shape: Sequence[int], voxels: int) -> list[Part]:
    """Cut (z, y, x) into planes, or where they are large into rows, of about so many voxels."""
    deep, tall, wide = shape
    if tall * wide <= voxels:
        return [(slab, slice(None)) for slab in _tiles.slabs(shape, voxels)]
    rows = _tiles.slabs((tall, wide), voxels)
    return [(slice(z, z + 1), some) for z in range(deep) for some in rows]


def masks(labels: Sequence[np.ndarray], label: int | None) -> list[Mask]:
    """Pack masks, side by side; see `Mask`."""
    found = [Mask(each, label) for each in labels]
    todo = [(mask, part) for mask in found for part in parts((*mask.bits.shape[:2], mask.wide), _SLAB)]
    _tiles.run(lambda each: each[0].pack(each[1]), todo, "slabs")
    return found


def places(bits: np.ndarray) -> np.ndarray:
    """Return the (z, y, x) of all ones, (n, 3), in array order."""
    result = np.empty((int(np.bitwise_count(bits).sum()), 3), np.int64)
    z, y, word = np.nonzero(bits)
    ones = np.unpackbits(bits[z, y, word].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    number, bit = np.nonzero(ones)
    result[:, 0], result[:, 1], result[:, 2] = z[number], y[number], word[number] * 64 + bit
    return result


def distances(pair: list[Mask], spacing: Sequence[float], most: float = math.inf) -> Iterator[np.ndarray] | None:
    """Return how far each point of the first surface lies from the second, in mm, and then the other way round.

    Points that lie on both come first, the others in array order. Neither mask may be empty. The pair is emptied, so
    that the masks need not stay longer than their surfaces are unknown.

    None where more than `most` bytes would be taken beside the masks.
    """
    first, second = pair
    pair.clear()
    kernel, steps = ready(max(*first.bits.shape[:2], first.wide)), whole_steps(spacing)
    if kernel is None:
        return _by_trees(first, second, steps, most)
    axes, shape = 2 if first.flat else 3, (*first.bits.shape[:2], first.wide)
    cells = _cells(kernel, [first.bits, second.bits], [second.bits, first.bits], axes, shape, steps, most)
    return None if cells is None else _by_cells(kernel, cells, steps)


def ready(longest: int):
    """Return the kernel, if it is ready and fit for images so many voxels long."""
    return None if longest > _MOST_WIDE else KERNELS.get(_KEY)


def expect(voxels: int) -> None:
    """Say that distances will be asked for, in an image of so many voxels: until then the kernel may be ready."""
    KERNELS.ask(_KEY, voxels)


def nearest(wanted: np.ndarray, others: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return how far each wanted place (z, y, x) lies from the nearest of some others, in mm."""
    return next(both_ways(wanted, others, spacing))


def both_ways(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> Iterator[np.ndarray]:
    """Return how far each place (z, y, x) lies from the nearest of some others, in mm, and then the other way round."""
    steps = whole_steps(spacing)
    low = np.minimum(first.min(axis=0), second.min(axis=0))
    shape = tuple((np.maximum(first.max(axis=0), second.max(axis=0)) - low + 1).tolist())
    kernel = ready(max(shape))
    if kernel is None:
        yield np.sqrt(by_tree(first, second, steps))
        yield np.sqrt(by_tree(second, first, steps))
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


def whole_steps(spacing: Sequence[float]) -> tuple[float, ...]:
    """Return the spacing along z, y and x; 1 for a z that is not there."""
    return (1.0,) * (3 - len(spacing)) + tuple(map(float, spacing))


def _by_trees(first: Mask, second: Mask, spacing: tuple[float, ...], most: float) -> Iterator[np.ndarray] | None:
    surfaces = first.surface, second.surface
    del first, second
    if _TREE_POINT * sum(int(np.bitwise_count(bits).sum()) for bits in surfaces) > most:
        return None

    def found(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        alone, shared = places(one & ~other), int(np.bitwise_count(one & other).sum())
        away = np.sqrt(by_tree(alone, places(other), spacing)) if len(alone) else np.empty(0)
        return np.concatenate([np.zeros(shared), away])

    return (found(*each) for each in (surfaces, surfaces[::-1]))


def by_tree(wanted: np.ndarray, others: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return the square of how far each wanted place lies from the nearest of some others, in mm2."""
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
            found[todo] = (steps[..., 0] + steps[..., 1] + steps[..., 2]).min(axis=1)
            todo = todo[away[:, -1] <= away[:, 0] + slack] if asked < len(others) else todo[:0]
            count *= 8

    _tiles.run(work, _tiles.slabs((len(wanted),), _POINTS), "points")
    return found


def _by_cells(kernel, cells: list, spacing: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Return the distances of the points in some cells from those in others, and then the other way round.

    `cells` is what `_cells` returns, and is emptied.
    """

    def away(found, others, shared: int) -> np.ndarray:
        result = np.zeros(len(found.points))
        lower(kernel, found, others, spacing, result[shared:], afresh=True)
        return np.sqrt(result, out=result)

    (first, shared), (second, _) = cells
    cells.clear()
    yield away(first, second, shared)
    # The order of the first is of no more use.
    first = first._replace(order=first.order[:0].copy())
    yield away(second, first, shared)


def lower(kernel, found, others, spacing: tuple[float, ...], squares: np.ndarray, afresh: bool) -> None:
    """Lower the squares of how far points lie from the nearest one, in mm2, to what there is among some others.

    Parameters
    ----------
    kernel : _kernels.surface.Surface
    found, others : _kernels.surface.Cells
    spacing : tuple of float
    squares : ndarray of float64
        Of the points of `found` that are not shared, in array order.
    afresh : bool
        Whether nothing is known yet, whatever `squares` are.
    """
    count = found.blocks.shape[1]
    if afresh:
        squares.fill(np.inf)

    def work(part: slice) -> None:
        kernel.nearest(found, others, spacing, part.start, part.stop, not afresh, squares)

    _tiles.run(work, _tiles.slabs((count,), max(1, _FEW * count // len(found.points))), "cells")


class Grid(NamedTuple):
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
        result = np.empty((len(numbers), 3), np.int32)
        # A few at a time: what is made on the way takes more than the result.
        for start in range(0, len(numbers), _CELLS):
            some = numbers[start : start + _CELLS]
            found, block = result[start : start + _CELLS], some >> 6
            for axis in (2, 1, 0):
                block, place = np.divmod(block, self.blocks[axis])
                found[:, axis] = 4 * place + (some >> (2 - axis) & 1) + 2 * (some >> (5 - axis) & 1)
        return result


def grid_of(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
    """Return how an image is cut into cells."""
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
    return Grid(tuple(numbers), tuple(inside), size, blocks)


class Tally(NamedTuple):
    """The points of a surface, counted.

    Parameters
    ----------
    counts : ndarray of int32
        Points of each cell of the grid.
    points, shared, cells : int
        Points, those of them that the other surface has too, and cells that have any.
    """

    counts: np.ndarray
    points: int
    shared: int
    cells: int

    @property
    def room(self) -> int:
        """Bytes that the points take in cells, and while others are looked for among them."""
        blocks = min(self.cells, len(self.counts) // 64)
        return 8 * self.points + 60 * self.cells + 24 * _tiles.workers() * blocks


def tally(kernel, mask: np.ndarray, other: np.ndarray, axes: int, grid: Grid) -> Tally:
    """Count the points of a surface in cells; see `_cells`."""
    counts = np.zeros(64 * math.prod(grid.blocks), np.int32)
    return Tally(counts, *kernel.tally(mask, other, axes, grid.numbers, counts))


def gather(kernel, mask: np.ndarray, other: np.ndarray, axes: int, grid: Grid, counted: Tally):
    """Gather the points of a surface in cells; see `_cells`. What was counted is of no use after that."""
    counts, count, _, cells = counted
    starts, firsts = np.empty(cells + 1, np.int32), np.empty(cells + 1, np.int32)
    numbers = np.empty(cells, np.int32)
    blocks = kernel.part(counts, starts, firsts, numbers)
    points, order = np.empty(count, np.uint32), np.empty(count, np.int32)
    kernel.place(mask, other, axes, grid.numbers, grid.inside, counts, points, order)
    boxes = np.empty((6, cells), np.float32), np.empty((6, blocks), np.float32)
    gathered = kernel.cells(points, order, starts, firsts[: blocks + 1], *boxes)
    kernel.boxes(grid.cells(numbers), grid.size, gathered)
    return gathered


def _cells(
    kernel,
    bits: list,
    others: list,
    axes: int,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    most: float = math.inf,
) -> list | None:
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
    most : float
        Bytes that may be taken, an equal share by each surface.

    Returns
    -------
    list of tuple or None
        For each surface its `_kernels.surface.Cells`, and how many points it shares; None where that takes more.
    """
    grid = grid_of(shape, spacing)
    found: list[Any] = [None] * len(bits)

    def work(which: int) -> None:
        surface = bits[which], others[which], axes, grid
        counted = tally(kernel, *surface)
        if counted.counts.nbytes + counted.room + 9 * counted.points <= most / len(bits):
            found[which] = gather(kernel, *surface, counted), counted.shared

    _tiles.run(work, range(len(bits)), "surfaces")
    return None if None in found else found
