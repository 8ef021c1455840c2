"""Distances between two surfaces in a fixed amount of memory: all at once up to a limit, and beyond it box by box.

An image is halved until the points of either surface in a box fit. The points of a box are compared with those of one
box of the other surface after the other, nearest boxes first, until none of the rest is nearer than what was found.
Boxes are made from the image whenever they are needed; only the latest are kept.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..progress import listening, report
from . import _surface, _tiles
from ._distribution import Side, Some, reduced, reduced_in_parts

# Bytes that are taken at a time, whatever the size of the image: a quarter each by the points whose distances are
# looked for and by boxes of the other surface that are kept; a quarter by the bits of a box, and then by its points; an
# eighth by what distances are reduced to, and another one by rows that are packed.
LIMIT = 64 << 20
# Bytes that a point takes while all of a box are looked for at once in a tree.
_TREE_POINT = 400
# Voxels that are packed at a time.
_MOST_ROWS, _FEWEST_ROWS = 1 << 20, 1 << 12

# (z, y) where it begins and ends; rows are not cut.
Box = tuple[slice, slice]


class Source(Protocol):
    """Two surfaces as places that are marked in an image.

    `shape` is that of the image, (z, y, x).
    """

    shape: tuple[int, int, int]

    def whole(self, spacing: tuple[float, ...]) -> tuple[tuple[bool, bool], Iterator[Some] | None]:
        """Return whether either surface is known to be empty, and if not all distances of both, if they fit."""

    def bits(self, which: int, box: Box) -> np.ndarray:
        """Return the places of a surface in a box as bits, 64 a word along the last axis."""

    def weights(self, which: int, box: Box) -> np.ndarray | None:
        """Return what each of these places weighs, in array order; None where all weigh the same."""


class Voxels:
    """The voxels on the surfaces of two masks; see `Source`.

    Parameters
    ----------
    labels : pair of ndarray
        (y, x) or (z, y, x).
    label : int or None
        As in `_surface.Mask`.
    """

    def __init__(self, labels: Sequence[np.ndarray], label: int | None) -> None:
        self._labels, self._label = [_surface.volume(each) for each in labels], label
        self._flat, self.shape = labels[0].ndim == 2, self._labels[0].shape

    def whole(self, spacing: tuple[float, ...]) -> tuple[tuple[bool, bool], Iterator[Some] | None]:
        taken = 2 * _surface.bytes_of_bits(self.shape)
        # Without a kernel there are copies while the surface is found.
        if taken > (LIMIT // 2 if _surface.ready(max(self.shape)) else LIMIT // 12):
            return (False, False), None
        pair = _surface.masks([each[0] if self._flat else each for each in self._labels], self._label)
        empty = tuple(each.empty for each in pair)
        found = (
            None
            if any(empty)
            else _surface.distances(pair, spacing, LIMIT - taken - _tiles.workers() * _surface.THREAD)
        )
        return empty, None if found is None else zip(found, (None, None), strict=True)

    def bits(self, which: int, box: Box) -> np.ndarray:
        # With the voxels around, so that borders of the box are none of the mask.
        around = tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, self.shape, strict=False))
        inner = tuple(slice(s.start - a.start, s.stop - a.start) for s, a in zip(box, around, strict=True))
        mask = _surface.Mask(self._labels[which][around], self._label, self._flat)
        mask.pack_all(min(_MOST_ROWS, max(_FEWEST_ROWS, LIMIT // (16 * _tiles.workers()))))
        return mask.skin(inner)

    def weights(self, which: int, box: Box) -> np.ndarray | None:
        return None


class _Part(NamedTuple):
    """A box in which there are points.

    Parameters
    ----------
    box : Box
    points, shared : tuple of int
        Of either surface, and those of them that the other one has too.
    low, high : ndarray
        (2, 3): box (z, y, x) around the points of either surface, as far as known.
    """

    box: Box
    points: tuple[int, int]
    shared: tuple[int, int]
    low: np.ndarray
    high: np.ndarray


class _Count(NamedTuple):
    """Points, how many of them are shared, the bytes that they will take, and a box (z, y, x) around them."""

    points: int
    shared: int
    room: int
    low: Sequence[int]
    high: Sequence[int]


class _ByCells:
    """Points in cells, compared by a kernel."""

    def __init__(self, kernel, spacing: tuple[float, ...]) -> None:
        self._kernel, self._spacing = kernel, spacing

    def fixed(self, shape: tuple[int, ...]) -> int:
        """Return the bytes that a box takes, however few points it has."""
        return 3 * _surface.bytes_of_bits(shape) + _surface.bytes_of_counts(shape, self._spacing)

    def count(self, bits: np.ndarray, other: np.ndarray, begin: tuple[int, ...], wide: int) -> _Count:
        """Count the points in a box that begins at (z, y, x)."""
        grid = _surface.grid_of((*bits.shape[:2], wide), self._spacing)
        found = _surface.tally(self._kernel, bits, other, 0, grid)
        if not found.points:
            return _Count(0, 0, 0, begin, begin)
        cells = grid.cells(np.flatnonzero(found.counts).astype(np.int32))
        low = cells.min(axis=0) * grid.size + begin
        high = (cells.max(axis=0) + 1) * grid.size - 1 + begin
        return _Count(found.points, found.shared, 32 * found.points + found.room, low, high)

    def gather(self, bits: np.ndarray, other: np.ndarray, begin: tuple[int, ...], wide: int):
        """Return the points in a box that begins at (z, y, x)."""
        grid = _surface.grid_of((*bits.shape[:2], wide), self._spacing)
        counted = _surface.tally(self._kernel, bits, other, 0, grid)
        found = _surface.gather(self._kernel, bits, other, 0, grid, counted)
        for boxes in (found.boxes, found.blocks):
            boxes += np.array((*begin, *begin), np.float32)[:, None]
        return found

    def alone(self, found):
        """Return what is needed of points from which distances are wanted: not their order."""
        found = found._replace(order=found.order[:0].copy())
        return found, sum(array.nbytes for array in found)

    def wanted(self, found, limits: tuple[np.ndarray, np.ndarray], squares: np.ndarray) -> bool:
        """Whether there may be something nearer in a box (z, y, x, least and largest) to any of the points."""
        box = np.concatenate(limits).astype(np.float32)[:, None]
        return self._kernel.wanted(found, self._spacing, box, squares)

    def lower(self, found, others, squares: np.ndarray, afresh: bool) -> None:
        """Lower the squares of distances to what there is among others."""
        _surface.lower(self._kernel, found, others, self._spacing, squares, afresh)


class _ByTrees:
    """Points as a list, compared by trees; see `_ByCells`."""

    def __init__(self, spacing: tuple[float, ...]) -> None:
        self._spacing = spacing

    def fixed(self, shape: tuple[int, ...]) -> int:
        # With copies, while points are looked for.
        return 6 * _surface.bytes_of_bits(shape)

    def count(self, bits: np.ndarray, other: np.ndarray, begin: tuple[int, ...], wide: int) -> _Count:
        points, shared = (int(np.bitwise_count(each).sum()) for each in (bits, bits & other))
        if not points:
            return _Count(0, 0, 0, begin, begin)
        low, high = [], []
        for axis in range(3):
            found = np.flatnonzero(np.bitwise_or.reduce(bits, axis=tuple(a for a in range(3) if a != axis)))
            wider = 64 if axis == 2 else 1
            low.append(int(found[0]) * wider + begin[axis])
            high.append((int(found[-1]) + 1) * wider - 1 + begin[axis])
        return _Count(points, shared, _TREE_POINT * points, low, high)

    def gather(self, bits: np.ndarray, other: np.ndarray, begin: tuple[int, ...], wide: int) -> np.ndarray:
        return _surface.places(bits & ~other) + begin

    def alone(self, found: np.ndarray) -> tuple[np.ndarray, int]:
        return found, found.nbytes

    def wanted(self, found: np.ndarray, limits: tuple[np.ndarray, np.ndarray], squares: np.ndarray) -> bool:
        return len(self._reached(found, limits, squares)) > 0

    def _reached(self, found: np.ndarray, limits: tuple[np.ndarray, np.ndarray], squares: np.ndarray) -> np.ndarray:
        gaps = (np.maximum(np.maximum(limits[0] - found, found - limits[1]), 0) * self._spacing) ** 2
        return np.flatnonzero(gaps[:, 0] + gaps[:, 1] + gaps[:, 2] < squares)

    def lower(self, found: np.ndarray, others: np.ndarray, squares: np.ndarray, afresh: bool) -> None:
        wanted = slice(None)
        if not afresh:
            wanted = self._reached(found, (others.min(axis=0), others.max(axis=0)), squares)
            if not len(wanted):
                return
        away = _surface.by_tree(found[wanted], others, self._spacing)
        squares[wanted] = away if afresh else np.minimum(squares[wanted], away)


class Boxes:
    """The distances of two surfaces from each other, box by box.

    Parameters
    ----------
    source : Source
    spacing : tuple of float
        Along z, y and x.
    """

    def __init__(self, source: Source, spacing: tuple[float, ...]) -> None:
        self._source, self._spacing = source, spacing
        kernel = _surface.ready(max(source.shape))
        self._way: Any = _ByTrees(spacing) if kernel is None else _ByCells(kernel, spacing)
        self._parts = list(self._divided())
        self._kept: OrderedDict[tuple[int, int], tuple[Any, int]] = OrderedDict()
        #: Whether either surface has no points.
        self.empty = tuple(not any(part.points[which] for part in self._parts) for which in range(2))

    def _divided(self) -> Iterator[_Part]:
        todo = [tuple(slice(0, n) for n in self._source.shape[:2])]
        while todo:
            report("boxes", 0)
            box = todo.pop()
            extent = [s.stop - s.start for s in box]
            whole = max(extent) == 1
            part = None
            if whole or self._way.fixed((*extent, self._source.shape[2])) <= LIMIT // 4:
                with _told("boxes", 0, None):
                    part, room = self._counted(box)
            if part is None or (room > LIMIT // 4 and not whole):
                # Of the longer side, in mm.
                axis = max((a for a in range(2) if extent[a] > 1), key=lambda a: extent[a] * self._spacing[a])
                middle = box[axis].start + extent[axis] // 2
                for half in (slice(middle, box[axis].stop), slice(box[axis].start, middle)):
                    todo.append((*box[:axis], half, *box[axis + 1 :]))
            elif any(part.points):
                yield part

    def _counted(self, box: Box) -> tuple[_Part, int]:
        bits = [self._source.bits(which, box) for which in range(2)]
        begin = box[0].start, box[1].start, 0
        found = [self._way.count(one, other, begin, self._source.shape[2]) for one, other in (bits, bits[::-1])]
        points, shared, room, low, high = zip(*found, strict=True)
        return _Part(box, points, shared, np.array(low), np.array(high)), max(room)

    def distances(self, which: int) -> Iterator[Some]:
        """Return how far points of a surface lie from the other one, in mm, and what they weigh, box by box."""
        # Both surfaces are told as one way, so that the second does not begin again.
        before, total = which * len(self._parts), 2 * len(self._parts)
        for done, part in enumerate(self._parts, before):
            if part.points[which]:
                with _told("boxes", done, total):
                    found = self._distances_in(which, part)
                yield found
        report("boxes", before + len(self._parts), total)

    def _distances_in(self, which: int, part: _Part) -> Some:
        weights = self._source.weights(which, part.box)
        # In the order of weights, all of them: none is set apart because both surfaces have it.
        shared = part.shared[which] if weights is None else 0
        result = np.zeros(part.points[which])
        squares = result[shared:]
        if len(squares):
            found = self._points(which, part, apart=weights is None)
            afresh = True
            for gap, number in self._nearest(which, part):
                if not afresh and gap >= squares.max():
                    break
                limits = self._parts[number].low[1 - which], self._parts[number].high[1 - which]
                if afresh or self._way.wanted(found, limits, squares):
                    self._way.lower(found, self._others(1 - which, number), squares, afresh)
                afresh = False
        return np.sqrt(result, out=result), weights

    def _points(self, which: int, part: _Part, apart: bool):
        bits = self._source.bits(which, part.box)
        other = self._source.bits(1 - which, part.box) if apart else np.zeros_like(bits)
        return self._way.gather(bits, other, (part.box[0].start, part.box[1].start, 0), self._source.shape[2])

    def _nearest(self, which: int, part: _Part) -> list[tuple[float, int]]:
        """Return the boxes of the other surface, nearest first, and the squares of how far they are at least."""
        others = [n for n, other in enumerate(self._parts) if other.points[1 - which]]
        low = np.array([self._parts[n].low[1 - which] for n in others])
        high = np.array([self._parts[n].high[1 - which] for n in others])
        gaps = np.maximum(np.maximum(low - part.high[which], part.low[which] - high), 0) * self._spacing
        squares = gaps[:, 0] ** 2 + gaps[:, 1] ** 2 + gaps[:, 2] ** 2
        # Of those that are equally near the box itself, or one beside it, probably has the nearest points.
        middles = np.abs((low + high - part.low[which] - part.high[which]) * self._spacing).sum(axis=1)
        return [(float(squares[n]), others[n]) for n in np.lexsort((middles, squares))]

    def _others(self, which: int, number: int):
        key = which, number
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            found = self._way.alone(self._points(which, self._parts[number], apart=False))
            self._kept[key] = found
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > LIMIT // 4:
                self._kept.popitem(last=False)
        return self._kept[key][0]


def measured(
    source: Source, spacing: tuple[float, ...], percentiles: Sequence[float], tolerance: float
) -> tuple[tuple[bool, bool], tuple[Side, ...]]:
    """Return whether either of two surfaces is empty, and if not what their distances are reduced to.

    Parameters
    ----------
    source : Source
    spacing : tuple of float
        Along z, y and x.
    percentiles : sequence of float
    tolerance : float
        As in `_distribution.reduced`.
    """
    empty, found = source.whole(spacing)
    if not any(empty) and found is not None:
        # One after the other: neither waits for the other in memory.
        return empty, tuple(reduced(*each, percentiles, tolerance) for each in found)
    if not any(empty):
        boxes = Boxes(source, spacing)
        empty = boxes.empty
    if any(empty):
        return empty, ()
    return empty, tuple(
        reduced_in_parts(lambda which=which: boxes.distances(which), percentiles, tolerance, LIMIT // 8)
        for which in range(2)
    )


@contextmanager
def _told(description: str, done: int, total: int | None) -> Iterator[None]:
    """Hand on what is told inside as how many boxes are done."""
    outside = copy_context()
    with listening(lambda *_: outside.run(report, description, done, total)):
        report(description, done, total)
        yield
