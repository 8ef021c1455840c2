"""Surfaces as pieces with an area, each between the voxels around a corner.

The corners of 8 voxels (4 in a plane) of which some but not all are inside lie on the surface. How much of it lies
there is what marching cubes put between these voxels: triangles, in a plane the stretches of a contour.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np

from ..progress import track
from . import _surface


class Pieces:
    """The pieces of the surface of a mask.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x).
    label : int or None
        Value of the mask; everything that is not 0 for None.
    spacing : tuple of float
        Size of a voxel along each axis, in mm.
    """

    def __init__(self, labels: np.ndarray, label: int | None, spacing: tuple[float, ...]) -> None:
        mask = labels != 0 if label is None else labels == label
        self.spacing = spacing
        low, high = [], []
        for axis in range(mask.ndim):
            found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
            self.empty = not len(found)
            if self.empty:
                return
            low.append(found[0])
            high.append(found[-1] + 1)
        mask = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], 1).view(np.uint8)
        codes = np.zeros([n - 1 for n in mask.shape], np.uint8)
        for corner in track([*product((0, 1), repeat=mask.ndim)], "corners"):
            codes <<= 1
            codes |= mask[tuple(slice(c, c + n) for c, n in zip(corner, codes.shape, strict=True))]
        places = np.argwhere((codes > 0) & (codes < 2**2**mask.ndim - 1))
        #: Area in mm2 of each piece; in a plane its length in mm.
        self.size = np.array(_sizes(spacing))[codes[tuple(places.T)]]
        #: Corner (z, y, x) of each piece.
        self.places = np.pad(places + low, ((0, 0), (3 - mask.ndim, 0)))


def distances(pair: Sequence[Pieces]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return how far each piece of the first surface lies from the nearest of the second, in mm, and what it weighs.

    Then the other way round; neither may be empty.
    """
    found = _surface.both_ways(pair[0].places, pair[1].places, pair[0].spacing)
    return ((away, pieces.size) for away, pieces in zip(found, pair, strict=True))


@cache
def _sizes(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return how much surface lies among the voxels around a corner, for every choice of those that are inside."""
    corners = 2 ** len(spacing)
    found = [0.0] * 2**corners
    for code in range(1, 2**corners - 1):
        inside = [(code >> (corners - 1 - n)) & 1 for n in range(corners)]
        # Where more than half is inside, the surface is that around the others: so it does not turn with the mask.
        if sum(inside) > corners / 2:
            inside = [1 - n for n in inside]
        shaped = np.array(inside, np.float64).reshape((2,) * len(spacing))
        found[code] = _area(shaped, spacing) if len(spacing) == 3 else _length(shaped, spacing)
    return tuple(found)


def _area(cube: np.ndarray, spacing: tuple[float, ...]) -> float:
    from skimage.measure import marching_cubes

    # Of steps of one, where the corners of triangles are halves and exact.
    vertices, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen", allow_degenerate=False)
    a, b, c = np.moveaxis((vertices.astype(np.float64) * spacing)[faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _length(square: np.ndarray, spacing: tuple[float, ...]) -> float:
    high, wide = spacing
    slanted = 0.5 * float(np.hypot(high, wide))
    if square.sum() == 1:
        return slanted
    if square[0, 0] == square[1, 1]:
        return 2 * slanted
    return wide if square[0, 0] == square[0, 1] else high
