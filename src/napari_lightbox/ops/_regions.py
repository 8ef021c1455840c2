"""Erosion, dilation, opening and closing of every label on its own, on one volume of labels."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from ..progress import track
from . import _ball, _nearest, _tiles

_SLAB = 1 << 20
# Rows of a ball up to which running extremes are faster than distances.
_MANY_ROWS = 400
# Voxels of a label's box from which the label is worked on alone, in tiles.
_LARGE = 1 << 20

Box = tuple[slice, ...]


class Shape:
    """What labels are worked with: a ball or box of a radius, on voxels of a spacing, all in mm."""

    def __init__(self, radius: float, spacing: Sequence[float], element: str) -> None:
        self.radius, self.spacing, self.element = radius, tuple(float(s) for s in spacing), element
        self.reach = _ball.reaches(radius, self.spacing)

    def extreme(self, image: np.ndarray, pick: np.ufunc) -> np.ndarray:
        """Return the smallest or largest value around every voxel."""
        return _ball.extreme(image, pick, self.radius, self.spacing, self.element)

    def is_large(self, shape: Sequence[int]) -> bool:
        """Whether distances are faster than running extremes."""
        if self.element == "box":
            return False
        three = (1,) * (3 - len(shape)) + tuple(shape)
        discs = _ball.ball(self.radius, (1.0,) * (3 - len(shape)) + self.spacing, three)
        return sum(len(disc.rows) for disc in discs) > _MANY_ROWS

    def grown(self, mask: np.ndarray) -> np.ndarray:
        """Return where the element around a voxel meets the mask (bool)."""
        if not self.is_large(mask.shape):
            return self.extreme(mask, np.maximum)
        return _nearest.nearest(mask.view(np.uint8), np.array([1]), self.radius, self.spacing, self.element).view(bool)


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
        narrow = _narrow(labels)
        lowest, highest = shape.extreme(narrow, np.minimum), shape.extreme(narrow, np.maximum)
        return _where(lambda slab: lowest[slab] == highest[slab], labels)
    result = np.zeros(labels.shape, labels.dtype)

    def one(value: int, box: Box) -> None:
        mask = labels[box] == value
        # Another thread may write other labels into the same box.
        result[box][mask & ~shape.grown(~mask)] = value

    _each_label(labels, [1] * labels.ndim, one)
    return result


def dilated(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the labels and, in the background, the nearest label within the element."""
    values = values_of(labels)
    result = labels.copy()
    if len(values):
        box = _padded(_extent(labels), shape.reach, labels.shape)
        result[box] = _nearest.nearest(labels[box], values, shape.radius, shape.spacing, shape.element)
    return result


def opened(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the voxels that an element reaches which lies wholly in their label."""
    kept = eroded(labels, shape) != 0
    # All of the element around a voxel that is left lies in one label: growing it cannot meet another.
    grown = shape.grown(kept)
    return _where(lambda slab: grown[slab], labels)


def closed(labels: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the labels, and the background that no element outside of a label reaches as that label."""
    result = labels.copy()
    lock = threading.Lock()

    def one(value: int, box: Box) -> None:
        reached = shape.grown(labels[box] == value)
        added = ~shape.grown(~reached) & (labels[box] == 0)
        with lock:
            part = result[box]
            part[added & ((part == 0) | (part > value))] = value

    _each_label(labels, [r + 1 for r in shape.reach], one)
    return result


def _narrow(labels: np.ndarray) -> np.ndarray:
    """Return the labels in the smallest type that holds them: the smaller, the faster."""
    values = values_of(labels) if labels.dtype.itemsize > 1 else np.zeros(0)
    if not len(values):
        return labels
    kind = np.min_scalar_type(max(int(values[-1]), 0))
    return labels.astype(kind) if values[0] > 0 and kind.itemsize < labels.dtype.itemsize else labels


def _where(test: Callable[[slice], np.ndarray], labels: np.ndarray) -> np.ndarray:
    result = np.empty(labels.shape, labels.dtype)

    def choose(slab: slice) -> None:
        np.multiply(labels[slab], test(slab), out=result[slab])

    _tiles.run(choose, _tiles.slabs(labels.shape, _SLAB), "slabs")
    return result


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
    for slab in track(_tiles.slabs(labels.shape, max(_SLAB, labels.size // 8)), "slabs"):
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
