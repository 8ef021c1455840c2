"""Surfaces as pieces with an area, each between the voxels around a corner.

The corners of 8 voxels (4 in a plane) of which some but not all are inside lie on the surface. How much of it lies
there is what marching cubes put between these voxels: triangles, in a plane the stretches of a contour.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np

from . import _surface, _surface_boxes, _tiles
from ._distribution import Some

# Bytes that a piece takes at most while distances of all are found at once.
_PIECE = 160


class Corners:
    """The corners on the surfaces of two masks, each with a piece; a `_surface_boxes.Source`.

    Parameters
    ----------
    labels : pair of ndarray
        (y, x) or (z, y, x).
    label : int or None
        Value of the masks; everything that is not 0 for None.
    spacing : tuple of float
        Size of a voxel along each axis, in mm.
    """

    def __init__(self, labels: Sequence[np.ndarray], label: int | None, spacing: tuple[float, ...]) -> None:
        self._label, self._flat = label, len(spacing) == 2
        #: Area in mm2 of a piece, by what is inside; in a plane its length in mm.
        self._sizes = np.array(_sizes(spacing))
        volumes = [_surface.volume(each) for each in labels]
        ends = [self._ends(each) for each in volumes]
        self.empty = tuple(each is None for each in ends)
        known = [each for each in ends if each is not None] or [np.zeros((2, 3), int)]
        #: (z, y, x) of the voxel behind the first corner: there are none far from both masks.
        self.low = np.min([low for low, _ in known], axis=0)
        high = np.max([high for _, high in known], axis=0)
        self._labels = [each[tuple(map(slice, self.low, high))] for each in volumes]
        more = np.array([0 if self._flat else 1, 1, 1])
        self.shape = tuple((high - self.low + more).tolist())
        nowhere = self.low, self.low - more
        #: The planes and rows in which there are corners of each mask.
        self._boxes = [
            tuple(
                slice(int(a), int(b)) for a, b in zip((low - self.low)[:2], (high - self.low + more)[:2], strict=True)
            )
            for low, high in (nowhere if each is None else each for each in ends)
        ]

    def _mask(self, labels: np.ndarray) -> np.ndarray:
        return labels != 0 if self._label is None else labels == self._label

    def _cut(self, shape: Sequence[int]) -> list[_surface.Part]:
        return _surface.parts(shape, min(1 << 20, max(1 << 12, _surface_boxes.LIMIT // (64 * _tiles.workers()))))

    def _ends(self, labels: np.ndarray) -> np.ndarray | None:
        """Return where along z, y and x a mask begins and ends; None where there is nothing."""
        parts = self._cut(labels.shape)
        ends = np.zeros((len(parts), 2, 3), int)

        def work(number: int) -> None:
            mask = self._mask(labels[parts[number]])
            for axis in range(3):
                found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
                if not len(found):
                    return
                begin = (parts[number][axis].start or 0) if axis < 2 else 0
                ends[number, :, axis] = begin + found[0], begin + found[-1] + 1

        _tiles.run(work, range(len(parts)), "slabs")
        ends = ends[ends[:, 1, 0] > 0]
        return np.array([ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)]) if len(ends) else None

    def _codes(self, which: int, box: _surface_boxes.Box) -> np.ndarray:
        """Return which voxels around each corner of a box are inside, a bit each."""
        labels, (planes, rows) = self._labels[which], box
        thick = 0 if self._flat else 1
        shape = planes.stop - planes.start, rows.stop - rows.start, self.shape[2]
        around = np.zeros((shape[0] + thick, shape[1] + 1, shape[2] + 1), np.uint8)
        cuts, places = [], []
        for cut, size, before in ((planes, labels.shape[0], thick), (rows, labels.shape[1], 1)):
            start, stop = max(0, cut.start - before), min(size, cut.stop)
            cuts.append(slice(start, stop))
            places.append(slice(start - cut.start + before, stop - cut.start + before))
        around[(*places, slice(1, -1))] = self._mask(labels[tuple(cuts)])
        codes = np.zeros(shape, np.uint8)
        for corner in product((0, 1), repeat=2 + thick):
            codes <<= 1
            corner = (0,) * (1 - thick) + corner
            codes |= around[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))]
        return codes

    def _marked(self, codes: np.ndarray) -> np.ndarray:
        return (codes > 0) & (codes < len(self._sizes) - 1)

    def _in_parts(self, which: int, box: _surface_boxes.Box, found) -> list:
        """Return what `found` makes of the codes in each part of a box, and of the part."""
        parts = self._cut((*(s.stop - s.start for s in box), self.shape[2]))
        result = [None] * len(parts)

        def work(number: int) -> None:
            part = parts[number]
            inside = (range(outer.start, outer.stop)[inner] for outer, inner in zip(box, part, strict=True))
            result[number] = found(part, self._codes(which, tuple(slice(r.start, r.stop) for r in inside)))

        _tiles.run(work, range(len(parts)), "corners")
        return result

    def bits(self, which: int, box: _surface_boxes.Box) -> np.ndarray:
        result = np.zeros((*(s.stop - s.start for s in box), -(-self.shape[2] // 64)), np.uint64)

        def pack(part: _surface.Part, codes: np.ndarray) -> None:
            packed = np.packbits(self._marked(codes), axis=-1, bitorder="little")
            result[part].view(np.uint8)[..., : packed.shape[-1]] = packed

        self._in_parts(which, box, pack)
        return result

    def weights(self, which: int, box: _surface_boxes.Box) -> np.ndarray:
        return np.concatenate(self._in_parts(which, box, lambda _, codes: self._sizes[codes[self._marked(codes)]]))

    def whole(self, spacing: tuple[float, ...]) -> tuple[tuple[bool, bool], Iterator[Some] | None]:
        # Bits of both, and what is marked in none.
        taken = 3 * _surface.bytes_of_bits(self.shape) + 2 * _surface.bytes_of_counts(self.shape, spacing)
        taken += _tiles.workers() * _surface.THREAD
        most = (_surface_boxes.LIMIT - taken) // _PIECE
        if any(self.empty) or most <= 0:
            return self.empty, None
        pieces = []
        for which in range(2):
            pieces.append(self.pieces(which, most))
            if pieces[-1] is None:
                return self.empty, None
        found = _surface.both_ways(pieces[0][0], pieces[1][0], spacing)
        return self.empty, zip(found, (size for _, size in pieces), strict=True)

    def pieces(self, which: int, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return corner (z, y, x) and size of all pieces of a surface; None where there are more than `most`."""
        counts: list[int] = []
        box = self._boxes[which]

        def collect(part: _surface.Part, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
            marked = self._marked(codes)
            counts.append(np.count_nonzero(marked))
            if sum(counts) > most:
                return None
            begin = self.low + np.array([*(a.start + (b.start or 0) for a, b in zip(box, part, strict=True)), 0])
            return np.argwhere(marked) + begin, self._sizes[codes[marked]]

        found = self._in_parts(which, box, collect)
        if sum(counts) > most:
            return None
        places, sizes = zip(*found, strict=True)
        return np.concatenate(places), np.concatenate(sizes)


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
