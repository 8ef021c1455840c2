"""Surfaces of masks as few points, and how far those of one lie from those of another.

A surface is thin: of 16 million voxels some ten thousand lie on it. Masks are packed into bits, so that finding their
surfaces reads each voxel once; points that two surfaces share are 0 apart; and the others are looked for among points,
never in a map of distances of the whole image.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from . import _ready, _tiles

# There is one variant. Voxels to be looked at after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("surface", after=1 << 23)
_KEY = ("any",)
_SLAB = 1 << 20
# Points that are looked for at once.
_POINTS = 1 << 13
# Points of a cell, as far as there are no more than so many cells: each is compared with each of the other surface.
_PER_CELL, _CELLS = 64, 4000
_TOP, _ONE = np.uint64(63), np.uint64(1)


class Mask:
    """A mask as bits.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x).
    label : int or None
        Value of the mask; everything that is not 0 for None.
    """

    def __init__(self, labels: np.ndarray, label: int | None) -> None:
        self.flat = labels.ndim == 2
        labels = labels[None] if self.flat else labels
        deep, tall, wide = labels.shape
        self._kernel = KERNELS.get(_KEY)
        if self._kernel is None:
            KERNELS.ask(_KEY, labels.size)
        #: 64 voxels a word along the last axis, (z, y, words).
        self.bits = np.zeros((deep, tall, -(-wide // 64)), np.uint64)
        # By rows, not planes: in a single plane there is something to share out, too.
        rows, bits = labels.reshape(-1, wide), self.bits.reshape(deep * tall, -1)

        def work(slab: slice) -> None:
            part = rows[slab]
            if label is not None:
                part = part == label
            elif part.dtype.itemsize > 1 or not part.flags.c_contiguous:
                part = part != 0
            if self._kernel is None:
                part = np.packbits(part.view(np.uint8), axis=-1, bitorder="little")
                bits[slab].view(np.uint8)[:, : part.shape[1]] = part
            else:
                part = part.view(np.uint8).reshape(-1)
                part.flags.writeable = False
                self._kernel.pack(part, wide, 0, slab.stop - slab.start, bits[slab])

        _tiles.run(work, _tiles.slabs(rows.shape, _SLAB), "slabs")

    @cached_property
    def empty(self) -> bool:
        """Whether there is no voxel in it."""
        return not self.bits.any()

    @cached_property
    def surface(self) -> np.ndarray:
        """Bits of the voxels that have a neighbour outside of the mask across a face; beyond the image is outside."""
        if self._kernel is not None:
            result = np.empty_like(self.bits)

            def work(planes: slice) -> None:
                self._kernel.surface(self.bits, self.flat, planes.start, planes.stop, result)

            _tiles.run(work, _tiles.slabs(self.bits.shape, _SLAB // 16), "slabs")
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
        return self.bits & ~inner


def places(bits: np.ndarray) -> np.ndarray:
    """Return the (z, y, x) of all ones, (n, 3), in array order."""
    result = np.empty((int(np.bitwise_count(bits).sum()), 3), np.int64)
    kernel = KERNELS.get(_KEY)
    if kernel is not None:
        kernel.places(bits, result)
        return result
    z, y, word = np.nonzero(bits)
    ones = np.unpackbits(bits[z, y, word].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    number, bit = np.nonzero(ones)
    result[:, 0], result[:, 1], result[:, 2] = z[number], y[number], word[number] * 64 + bit
    return result


def distances(first: Mask, second: Mask, spacing: Sequence[float]) -> np.ndarray:
    """Return how far each point of the first surface lies from the second, in mm; those that lie on both come first.

    Neither may be empty.
    """
    shared = int(np.bitwise_count(first.surface & second.surface).sum())
    alone = places(first.surface & ~second.surface)
    found = np.zeros(shared + len(alone))
    if len(alone):
        found[shared:] = nearest(alone, places(second.surface), spacing)
    return found


def expect(voxels: int) -> None:
    """Say that distances will be asked for, in an image of so many voxels: until then the kernel may be ready."""
    KERNELS.ask(_KEY, voxels)


def nearest(wanted: np.ndarray, others: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return how far each wanted place (z, y, x) lies from the nearest of some others, in mm."""
    steps = np.array((1.0,) * (3 - len(spacing)) + tuple(spacing))
    kernel = KERNELS.get(_KEY)
    return _by_tree(wanted, others, steps) if kernel is None else _by_cells(kernel, wanted, others, steps)


def _by_tree(wanted: np.ndarray, others: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return how far each wanted place lies from the nearest of some others, in mm."""
    from scipy.spatial import cKDTree

    tree = cKDTree(others * spacing)
    found = np.empty(len(wanted))

    def work(part: slice) -> None:
        near = others[tree.query(wanted[part] * spacing)[1]]
        # From whole steps, so that no digit of a place is lost.
        steps = np.square((wanted[part] - near) * spacing)
        found[part] = np.sqrt(steps[:, 0] + steps[:, 1] + steps[:, 2])

    _tiles.run(work, _tiles.slabs((len(wanted),), _POINTS), "points")
    return found


def _by_cells(kernel, wanted: np.ndarray, others: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Do what `_by_tree` does, compiled."""
    order, starts, boxes = _cells(kernel, wanted, spacing)
    other_order, other_starts, other_boxes = _cells(kernel, others, spacing)
    wanted, others = wanted[order], np.ascontiguousarray(others[other_order].T.astype(np.float64))
    found, steps = np.empty(len(wanted)), tuple(spacing.tolist())

    def work(part: slice) -> None:
        kernel.nearest(wanted, starts, boxes, others, other_starts, other_boxes, steps, part.start, part.stop, found)

    _tiles.run(work, _tiles.slabs((len(starts) - 1,), max(1, _POINTS * len(starts) // len(wanted))), "cells")
    result = np.empty(len(found))
    result[order] = np.sqrt(found)
    return result


def _cells(kernel, found: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gather places in cells: return their order by cells, where each cell begins, and the boxes around them."""
    low = found.min(axis=0)
    # A surface crosses a cell of n steps in some n squared points.
    edge = np.cbrt(np.prod(spacing)) * np.sqrt(max(_PER_CELL, len(found) / _CELLS))
    size = np.maximum(1, np.round(edge / spacing)).astype(np.int64)
    place = (found - low) // size
    counts = place.max(axis=0) + 1
    number = (place[:, 0] * counts[1] + place[:, 1]) * counts[2] + place[:, 2]
    order = np.argsort(number, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(number[order])) + 1, [len(found)]])
    boxes = np.empty((6, len(starts) - 1))
    kernel.boxes(found[order], starts, boxes)
    return order, starts, boxes
