"""The voxels in which two label maps differ, as a list, parted into connected pieces: what is right costs nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse

from ..progress import track

# Rows after a row that touch it: steps in z and y.
_ROWS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Wrong:
    """The voxels that are wrong, in array order, one entry of each array a voxel.

    Parameters
    ----------
    predicted_map, reference_map : ndarray
        The two maps, (z, y, x).
    index : ndarray of int64
        Places in the flat maps.
    predicted, reference : ndarray
        Labels there.
    piece : ndarray of int
        Number of the error, from 0 on: voxels with the same two labels that touch by faces, edges or corners.
    count : int
        How many errors there are.
    """

    predicted_map: np.ndarray
    reference_map: np.ndarray
    index: np.ndarray
    predicted: np.ndarray
    reference: np.ndarray
    piece: np.ndarray
    count: int

    @classmethod
    def between(cls, predicted: np.ndarray, reference: np.ndarray) -> "Wrong":
        """Compare two maps of one to three axes."""
        maps = [volume(a) for a in (predicted, reference)]
        index = np.flatnonzero(maps[0] != maps[1])
        labels = [a.reshape(-1)[index] for a in maps]
        piece, count = pieces(index, pair_codes(*labels), maps[0].shape)
        return cls(*maps, index, *labels, piece, count)

    def places(self, chosen: np.ndarray | slice) -> np.ndarray:
        """Return (z, y, x) of some of the voxels."""
        return places(self.index[chosen], self.predicted_map.shape)


def places(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the (z, y, x) of places in a flat array, (n, 3)."""
    line, x = np.divmod(index, shape[2])
    return np.stack([*np.divmod(line, shape[1]), x], axis=1)


def neighbours(wrong: Wrong, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for one direction after the other, voxels of those chosen and the flat places of what lies beside them."""
    shape = wrong.predicted_map.shape
    where = wrong.places(chosen)
    for step in track([s for s in product((-1, 0, 1), repeat=3) if any(s)], "neighbours"):
        inside = np.ones(len(chosen), bool)
        for axis, (by, size) in enumerate(zip(step, shape, strict=True)):
            if by:
                inside &= where[:, axis] < size - 1 if by > 0 else where[:, axis] > 0
        here = chosen[inside]
        yield here, wrong.index[here] + (step[0] * shape[1] + step[1]) * shape[2] + step[2]


def volume(labels: np.ndarray) -> np.ndarray:
    labels = labels.view(np.uint8) if labels.dtype.kind == "b" else labels
    return np.ascontiguousarray(labels).reshape((1,) * (3 - labels.ndim) + labels.shape)


def pair_codes(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return one number for each pair of labels."""
    if max(predicted.dtype.itemsize, reference.dtype.itemsize) > 4:
        predicted, reference = (np.unique(a, return_inverse=True)[1] for a in (predicted, reference))
    return predicted.astype(np.int64) << 32 | (reference.astype(np.int64) & 0xFFFFFFFF)


def pieces(index: np.ndarray, code: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Return the number of the connected piece of each voxel, and how many pieces there are.

    Voxels that follow each other in a row are one run; the runs that touch form a graph.
    """
    if not len(index):
        return index, 0
    deep, high, wide = shape
    line = index // wide
    begins = np.ones(len(index), bool)
    begins[1:] = (np.diff(index) != 1) | (code[1:] != code[:-1]) | (line[1:] != line[:-1])
    first = np.flatnonzero(begins)
    start, value = index[first], code[first]
    length = np.diff(first, append=len(index))
    stop = start + length
    z, y = np.divmod(line[first], high)
    left, right = start > line[first] * wide, stop < (line[first] + 1) * wide
    pairs = []
    for dz, dy in track(_ROWS, "neighbours"):
        here = np.flatnonzero((z + dz < deep) & (y + dy >= 0) & (y + dy < high))
        ahead = (dz * high + dy) * wide
        low = np.searchsorted(stop, start[here] + ahead - left[here], "right")
        count = np.searchsorted(start, stop[here] + ahead - 1 + right[here], "right") - low
        ends = np.cumsum(count)
        # Numbers that go on by one inside each group, and begin at its lowest run.
        other = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - (ends - count), count)
        one = np.repeat(here, count)
        alike = value[one] == value[other]
        pairs.append((one[alike], other[alike]))
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), (len(first),) * 2)
    number, joined = sparse.csgraph.connected_components(graph, directed=False)
    return np.repeat(joined, length), number
