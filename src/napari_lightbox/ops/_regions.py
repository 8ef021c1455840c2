"""Erosion, dilation, opening and closing of every label on its own, on one volume of labels."""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..progress import track
from . import _ball, _nearest, _tiles
from ._bricks import one_by_one

_SLAB = 1 << 20
# Rows of a ball up to which running extremes are faster than distances.
_MANY_ROWS = 400
# Voxels of a label's box from which the label is worked on alone, in tiles.
_LARGE = 1 << 20
# Voxels that are ranked at a time to find the boxes of labels.
_RANKED = 1 << 23

Box = tuple[slice, ...]


class Shape:
    """What labels are worked with: a ball or box of a radius, on voxels of a spacing, all in mm."""

    def __init__(self, radius: float, spacing: Sequence[float], element: str) -> None:
        self.radius, self.spacing, self.element = radius, tuple(float(s) for s in spacing), element
        self.reach = _ball.reaches(radius, self.spacing)

    def extreme(self, image: np.ndarray, pick: np.ufunc, planes: slice | None = None) -> np.ndarray:
        """Return the smallest or largest value around every voxel, or around those of some planes."""
        return _ball.extreme(image, pick, self.radius, self.spacing, self.element, planes)

    def is_large(self, shape: Sequence[int]) -> bool:
        """Whether distances are faster than running extremes."""
        if self.element == "box":
            return False
        three = (1,) * (3 - len(shape)) + tuple(shape)
        discs = _ball.ball(self.radius, (1.0,) * (3 - len(shape)) + self.spacing, three)
        return sum(len(disc.rows) for disc in discs) > _MANY_ROWS

    def grown(self, mask: np.ndarray, planes: slice | None = None) -> np.ndarray:
        """Return where the element around a voxel meets the mask (bool), or where so in some planes."""
        if not self.is_large(mask.shape):
            return self.extreme(mask, np.maximum, planes)
        seen, one = mask.view(np.uint8), np.array([1])
        return _nearest.nearest(seen, one, self.radius, self.spacing, self.element, planes).view(bool)

    def slabs(self, shape: Sequence[int], itemsize: int, times: int = 1) -> list["Slab"]:
        """Cut the first axis into slabs, each with what decides its result when it is worked on `times` times."""
        reach, length = times * self.reach[0], shape[0]
        return [
            Slab(s, slice(max(0, s.start - reach), min(length, s.stop + reach)))
            for s in _ball.slabs(shape, itemsize, self.reach)
        ]


class Slab(NamedTuple):
    """Some planes of the first axis, and these with their surroundings."""

    planes: slice
    around: slice

    @property
    def inner(self) -> slice:
        """The planes, counted from where the surroundings begin."""
        return slice(self.planes.start - self.around.start, self.planes.stop - self.around.start)


def values_of(labels: np.ndarray) -> np.ndarray:
    """Return the labels that occur, increasing, without 0."""
    found: list[np.ndarray] = []

    def look(slab: slice) -> None:
        flat = labels[slab].reshape(-1)
        # Neighbours are mostly alike: a voxel for each change is enough, and sorted far sooner.
        flat = np.append(flat[:1], flat[1:][flat[1:] != flat[:-1]])
        if flat.dtype.itemsize == 1:
            counts = np.bincount(flat.view(np.uint8), minlength=256)
            found.append(np.flatnonzero(counts).astype(np.uint8).view(flat.dtype))
        else:
            found.append(np.unique(flat))

    _tiles.run(look, _tiles.slabs(labels.shape, _SLAB), "slabs")
    values = np.unique(np.concatenate(found))
    return values[values != 0]


def eroded(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the voxels around which all of the element is of their label."""
    if not shape.is_large(labels.shape):
        return _eroded_together(labels, shape)
    result = np.zeros(labels.shape, labels.dtype)

    def one(value: int, box: Box) -> None:
        inner, target = labels[box], result[box]

        def work(slab: Slab) -> None:
            outside = inner[slab.around] != value
            gone = shape.grown(outside, slab.inner)
            # Another thread may write other labels into the same box.
            _paint(target[slab.planes], lambda piece, _: ~(gone[piece] | outside[slab.inner][piece]), value)

        one_by_one(work, shape.slabs(inner.shape, 1), "slabs")

    _each_label(labels, [1] * labels.ndim, one)
    return result


def _eroded_together(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Erode all labels at once: a voxel stays where the lowest label around it is the highest as well."""
    kind = _narrow_type(labels)
    result = np.empty(labels.shape, labels.dtype)

    def work(slab: Slab) -> None:
        part = labels[slab.around].astype(kind, copy=False)
        lowest, highest = (shape.extreme(part, pick, slab.inner) for pick in (np.minimum, np.maximum))
        _keep(lambda piece: lowest[piece] == highest[piece], labels[slab.planes], result[slab.planes])

    one_by_one(work, shape.slabs(labels.shape, kind.itemsize), "slabs")
    return result


def dilated(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the labels and, in the background, the nearest label within the element."""
    values = values_of(labels)
    result = np.zeros(labels.shape, labels.dtype)
    if len(values):
        box = _padded(_extent(labels), shape.reach, labels.shape)
        _nearest.nearest(labels[box], values, shape.radius, shape.spacing, shape.element, out=result[box])
    return result


def opened(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the voxels that an element reaches which lies wholly in their label."""
    result = eroded(labels, shape)

    def work(source: np.ndarray, planes: slice, slab: slice) -> None:
        # All of the element around a voxel that is left lies in one label: growing it cannot meet another.
        grown = shape.grown(source != 0, planes)
        _keep(lambda piece: grown[piece], labels[slab], result[slab])

    _ball.in_place(work, result, shape.reach)
    return result


def closed(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the labels, and the background that no element outside of a label reaches as that label."""
    result = labels.copy()
    lock = threading.Lock()

    def one(value: int, box: Box) -> None:
        inner, target = labels[box], result[box]
        missed = _Missed(inner, value, shape)

        def work(slab: Slab) -> None:
            far = shape.grown(missed.around(slab.around), slab.inner)

            def added(piece: slice, part: np.ndarray) -> np.ndarray:
                return ~far[piece] & (inner[slab.planes][piece] == 0) & ((part == 0) | (part > value))

            with lock:
                _paint(target[slab.planes], added, value)

        one_by_one(work, shape.slabs(inner.shape, 1), "slabs")

    _each_label(labels, [r + 1 for r in shape.reach], one)
    return result


class _Missed:
    """Where the element around a voxel misses a label: for slab after slab, each place once."""

    def __init__(self, labels: np.ndarray, value: int, shape: Shape) -> None:
        self.labels, self.value, self.shape = labels, value, shape
        self.planes, self.known = slice(0, 0), np.zeros((0, *labels.shape[1:]), bool)

    def around(self, planes: slice) -> np.ndarray:
        """Return some planes of the mask, which begin and end no earlier than those before."""
        first, reach = self.planes.stop, self.shape.reach[0]
        kept = self.known[planes.start - self.planes.start :]
        if first < planes.stop:
            low = max(0, first - reach)
            mask = self.labels[low : planes.stop + reach] == self.value
            fresh = self.shape.grown(mask, slice(first - low, planes.stop - low))
            kept = np.concatenate([kept, np.logical_not(fresh, out=fresh)])
        self.planes, self.known = planes, kept
        return kept


def _narrow_type(labels: np.ndarray) -> np.dtype:
    """Return the smallest type that holds the labels in their order: the smaller, the faster."""
    values = values_of(labels) if labels.dtype.itemsize > 1 else np.zeros(0)
    if not len(values):
        return labels.dtype
    kind = np.min_scalar_type(max(int(values[-1]), 0))
    return kind if values[0] > 0 and kind.itemsize < labels.dtype.itemsize else labels.dtype


def _keep(test: Callable[[slice], np.ndarray], labels: np.ndarray, result: np.ndarray) -> None:
    """Copy the labels where a test holds, and 0 elsewhere; the test is told planes."""

    def choose(piece: slice) -> None:
        np.multiply(labels[piece], test(piece), out=result[piece])

    _tiles.run(choose, _tiles.slabs(labels.shape, _SLAB), "slabs")


def _paint(target: np.ndarray, test: Callable[[slice, np.ndarray], np.ndarray], value: int) -> None:
    """Write a value where a test holds, which is told planes and what is there."""

    def choose(piece: slice) -> None:
        part = target[piece]
        part[test(piece, part)] = value

    _tiles.run(choose, _tiles.slabs(target.shape, _SLAB), "slabs")


def _extent(labels: np.ndarray) -> Box:
    """Return the box of all labels."""
    seen: list[tuple[slice, list[np.ndarray]]] = []

    def look(slab: slice) -> None:
        inside = labels[slab] != 0
        flat = inside.any(axis=0)
        along = [inside.any(axis=tuple(range(1, inside.ndim)))]
        along += [flat.any(axis=tuple(a for a in range(flat.ndim) if a != axis)) for axis in range(flat.ndim)]
        seen.append((slab, along))

    _tiles.run(look, _tiles.slabs(labels.shape, _SLAB), "slabs")
    box = []
    for axis in range(labels.ndim):
        places = [along[axis] for _, along in sorted(seen, key=lambda one: one[0].start)]
        where = np.flatnonzero(np.concatenate(places) if axis == 0 else np.logical_or.reduce(places))
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(box)


def boxes(labels: np.ndarray, values: np.ndarray) -> list[Box]:
    """Return the box of every label of `values` (increasing)."""
    found: list[Box | None] = [None] * len(values)
    # A few thick slabs: in each, every label is asked for.
    for slab in track(_tiles.slabs(labels.shape, max(_SLAB, min(_RANKED, labels.size // 8))), "slabs"):
        part, ranks = labels[slab], np.zeros(labels[slab].shape, np.int32)

        def rank(piece: slice, part=part, ranks=ranks) -> None:
            ranks[piece] = np.where(part[piece] == 0, 0, np.searchsorted(values, part[piece]) + 1)

        _tiles.run(rank, _tiles.slabs(part.shape, _SLAB // 4), "slabs")
        for index, here in enumerate(ndimage.find_objects(ranks, len(values))):
            if here is not None:
                first = slice(here[0].start + slab.start, here[0].stop + slab.start)
                found[index] = _joined(found[index], (first, *here[1:]))
    return found


def _joined(box: Box | None, other: Box) -> Box:
    """Return the box of two boxes."""
    if box is None:
        return other
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))


def _padded(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    return tuple(slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(box, margin, shape, strict=True))


def _each_label(labels: np.ndarray, margin: Sequence[int], one: Callable[[int, Box], None]) -> None:
    """Call `one` with every label and its box with a margin: small ones side by side, large ones in turn."""
    values = values_of(labels)
    jobs = [
        (value, _padded(box, margin, labels.shape))
        for value, box in zip(values.tolist(), boxes(labels, values), strict=True)
    ]
    sizes = [int(np.prod([s.stop - s.start for s in box])) for _, box in jobs]
    small = [job for job, size in zip(jobs, sizes, strict=True) if size < _LARGE]
    for job, size in zip(jobs, sizes, strict=True):
        if size >= _LARGE:
            one(*job)
    if small:
        _tiles.run(lambda job: one(*job), small, "labels")
