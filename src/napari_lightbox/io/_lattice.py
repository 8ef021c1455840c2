"""Voxels that lie on the voxels of another grid: turned, flipped and cut, never interpolated. Pure geometry."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..geometry import Grid

# Share of the smallest spacing by which rounded headers may put a voxel beside its place.
_SHARE = 0.02


@dataclass(frozen=True)
class Placement:
    """Where the voxels of one grid lie among those of another.

    Parameters
    ----------
    order : tuple of int
        Axis of the other grid for each axis of this one.
    signs : tuple of int
        1, or -1 where the two axes run against each other.
    start : tuple of int
        Index in the other grid, in its own order, of voxel (0, 0, 0) of this one; may lie outside.
    inside : tuple of slice
        The part of this grid that the other one covers; empty slices where they do not meet.
    shape : tuple of int
        Of the other grid.
    """

    order: tuple[int, int, int]
    signs: tuple[int, int, int]
    start: tuple[int, int, int]
    inside: tuple[slice, slice, slice]
    shape: tuple[int, int, int]

    def view(self, array: np.ndarray) -> np.ndarray:
        """Return the part of an array on the other grid that this grid covers, in this grid's order; no copy."""
        if any(part.start == part.stop for part in self.inside):
            return np.empty((0, 0, 0), array.dtype)
        cuts: list[slice] = [slice(None)] * 3
        for axis, (other, sign) in enumerate(zip(self.order, self.signs, strict=True)):
            part = self.inside[axis]
            first = self.start[other] + sign * part.start
            stop = self.start[other] + sign * part.stop
            cuts[other] = slice(first, stop, 1) if sign > 0 else slice(first, stop if stop >= 0 else None, -1)
        return array[tuple(cuts)].transpose(self.order)


def place(source: Grid, target: Grid) -> Placement | None:
    """Say where the voxels of `source` lie in `target`; None where they do not coincide with voxels of it.

    Parameters
    ----------
    source, target : Grid
        In space; frames make no difference.
    """
    shape = source.spatial_shape
    linear = np.linalg.inv(target.affine[:3, :3]) @ source.affine[:3, :3]
    # The thickness of a single slice says nothing of where its neighbours would be.
    telling = [axis for axis in range(3) if shape[axis] > 1]
    steps = np.rint(linear)
    order, free = [-1, -1, -1], {0, 1, 2}
    for axis in telling:
        other = int(np.argmax(np.abs(linear[:, axis])))
        if other not in free or np.abs(steps[:, axis]).sum() != 1 or abs(steps[other, axis]) != 1:
            return None
        order[axis] = other
        free.discard(other)
    for axis in range(3):
        if order[axis] < 0:
            order[axis] = max(free, key=lambda other: abs(linear[other, axis]))
            free.discard(order[axis])
    signs = [1 if linear[order[axis], axis] >= 0 else -1 for axis in range(3)]
    start = np.rint(target.to_index(source.origin)).astype(int)
    if not _coincide(source, target, order, signs, start):
        return None
    inside = tuple(
        _covered(shape[axis], int(start[order[axis]]), signs[axis], target.spatial_shape[order[axis]])
        for axis in range(3)
    )
    return Placement(tuple(order), tuple(signs), tuple(int(s) for s in start), inside, target.spatial_shape)


def _coincide(source: Grid, target: Grid, order: Sequence[int], signs: Sequence[int], start: np.ndarray) -> bool:
    corners = np.array(list(product(*((0, n - 1) for n in source.spatial_shape))))
    there = np.tile(start, (len(corners), 1))
    for axis in range(3):
        there[:, order[axis]] += signs[axis] * corners[:, axis]
    off = np.linalg.norm(source.to_world(corners) - target.to_world(there), axis=1).max()
    telling = [n for n, size in zip(source.spacing, source.spatial_shape, strict=True) if size > 1]
    return bool(off <= _SHARE * min(*telling, *target.spacing))


def _covered(size: int, start: int, sign: int, length: int) -> slice:
    """Return which indices 0 .. size of an axis fall into 0 .. length, where index i goes to ``start + sign * i``."""
    first, last = (-start, length - 1 - start) if sign > 0 else (start - (length - 1), start)
    low, high = max(0, first), min(size, last + 1)
    return slice(low, high) if low < high else slice(0, 0)
