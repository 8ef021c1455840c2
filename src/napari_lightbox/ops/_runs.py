"""Connected regions of equal labels, from runs of equal voxels along the last axis.

A row of an organ is one run, however many voxels it has: what costs time is reading the voxels once, and the runs that
touch form a small graph. Slabs are worked on side by side and joined where they meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage, sparse

from ..progress import track
from . import _tiles

_SLAB = 1 << 19
# Mean length of the runs below which they no longer pay: in noise.
_SHORT = 16

Pairs = tuple[np.ndarray, np.ndarray]


@dataclass
class Runs:
    """The runs of some neighbouring planes in the order of their voxels, one entry of each array a run."""

    planes: slice
    plane: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    value: np.ndarray
    region: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Voxels of each run."""
        return self.stop - self.start


@dataclass
class Regions:
    """Regions of equal labels, numbered from 0 in the order of their first voxels.

    Parameters
    ----------
    slabs : list of Runs
        All runs, background too; their `region` is -1 where no region was asked for.
    value, size : ndarray
        Label and number of voxels of each region.
    shape : tuple of int
        Shape of the array.
    """

    slabs: list[Runs]
    value: np.ndarray
    size: np.ndarray
    shape: tuple[int, ...]

    def painted(self, table: np.ndarray) -> np.ndarray:
        """Return an array with ``table[region]`` in each region, and the last entry where there is none."""
        result = np.empty(_three(self.shape), table.dtype)

        def paint(runs: Runs) -> None:
            part = result[runs.planes]
            part[...] = np.repeat(table[runs.region], runs.length).reshape(part.shape)

        _tiles.run(paint, self.slabs, "slabs")
        return result.reshape(self.shape)

    def borders(self) -> Pairs:
        """Return pairs of regions that share a face, each pair once in each order at most."""
        high, wide = _three(self.shape)[1:]
        offsets = _offsets(len(self.shape), 1)
        found: list[Pairs] = [None] * len(self.slabs)  # type: ignore[list-item]

        def one(number: int) -> None:
            runs = self.slabs[number]
            at = _run_at(runs, (-1, high, wide))
            pairs = [_touching(runs, at, offset, False) for offset in offsets]
            beside = np.flatnonzero(runs.start[1:] > 0)
            pairs.append((beside, beside + 1))
            found[number] = _unique([(runs.region[a], runs.region[b]) for a, b in pairs], len(self.size))

        _tiles.run(one, range(len(self.slabs)), "slabs")
        for above, below in pairwise(self.slabs):
            pairs = _across(above, below, (high, wide), offsets, False)
            found += [(above.region[a], below.region[b]) for a, b in pairs]
        return _unique(found, len(self.size))


def regions(labels: np.ndarray, rank: int, *, background: bool = False) -> Regions:
    """Find the connected regions.

    Parameters
    ----------
    labels : ndarray of int
        (y, x) or (z, y, x); 0 is background.
    rank : int
        Neighbours differ by one step along at most this many axes.
    background : bool
        Whether the background is parted into regions as well.
    """
    voxels = np.ascontiguousarray(labels).reshape(_three(labels.shape))
    slabs = _tiles.slabs(voxels.shape, _SLAB)
    found: list[Runs] = [None] * len(slabs)  # type: ignore[list-item]
    offsets = _offsets(labels.ndim, rank)

    def one(number: int) -> None:
        slab = voxels[slabs[number]]
        runs, at = _runs(slab, slabs[number])
        asked = np.ones(len(runs.row), bool) if background else runs.value != 0
        if len(runs.row) > slab.size // _SHORT and not background and _is_binary(runs.value):
            structure = ndimage.generate_binary_structure(3, rank)
            labelled, _ = ndimage.label(slab != 0, structure)
            runs.region = labelled[runs.plane - slabs[number].start, runs.row, runs.start].astype(np.int64) - 1
        else:
            number_of = np.cumsum(asked) - 1
            place = np.cumsum(at, dtype=np.int32).reshape(slab.shape)
            place -= 1
            pairs = [_touching(runs, place, offset, True, asked) for offset in offsets]
            joined = _joined(int(asked.sum()), [(number_of[a], number_of[b]) for a, b in pairs])
            runs.region[asked] = joined
        found[number] = runs

    _tiles.run(one, range(len(slabs)), "slabs")
    total = 0
    for runs in found:
        runs.region[runs.region >= 0] += total
        total = max(total, int(runs.region.max(initial=-1)) + 1)
    edges = []
    for above, below in track([*pairwise(found)], "slabs"):
        for a, b in _across(above, below, voxels.shape[1:], offsets, True):
            one_region, other = above.region[a], below.region[b]
            inside = (one_region >= 0) & (other >= 0)
            edges.append((one_region[inside], other[inside]))
    return _numbered(found, _joined(total, edges), labels.shape)


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    return (1,) * (3 - len(shape)) + tuple(shape)


def _offsets(ndim: int, rank: int) -> list[tuple[int, int, int]]:
    """Return the later rows that touch a row: steps in z and y, and how far along x the corner may be turned."""
    steps = [(0, 1)] if ndim == 2 else [(0, 1), (1, -1), (1, 0), (1, 1)]
    counted = [(dz, dy, abs(dz) + abs(dy)) for dz, dy in steps]
    return [(dz, dy, int(axes < rank)) for dz, dy, axes in counted if axes <= rank]


def _is_binary(values: np.ndarray) -> bool:
    inside = values[values != 0]
    return not len(inside) or bool((inside == inside[0]).all())


def _runs(slab: np.ndarray, planes: slice) -> tuple[Runs, np.ndarray]:
    """Cut some planes into runs of equal voxels; also return where they begin."""
    high, wide = slab.shape[1:]
    flat = slab.reshape(-1)
    begins = np.empty(len(flat), bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[::wide] = True
    first = np.flatnonzero(begins)
    line, start = np.divmod(first, wide)
    length = np.diff(first, append=len(flat))
    plane, row = np.divmod(line, high)
    region = np.full(len(first), -1, np.int64)
    return Runs(planes, plane + planes.start, row, start, start + length, flat[first], region), begins


def _run_at(runs: Runs, shape: Sequence[int], chosen: slice = slice(None)) -> np.ndarray:
    """Return the run of every voxel, from neighbouring runs that fill `shape`."""
    number = np.arange(len(runs.row), dtype=np.int32)[chosen]
    return np.repeat(number, runs.length[chosen]).reshape(shape)


def _touching(
    runs: Runs, at: np.ndarray, offset: tuple[int, int, int], equal: bool, asked: np.ndarray | None = None
) -> Pairs:
    """Return the pairs of runs of a slab that touch across an offset; `at` says which run each voxel belongs to."""
    plane = runs.plane - runs.planes.start
    found = _pairs(plane, runs, at, offset, asked)
    return _alike(found, runs.value, runs.value, equal)


def _pairs(plane: np.ndarray, runs: Runs, at: np.ndarray, offset, asked: np.ndarray | None) -> Pairs:
    """Return runs, and those that they meet in the row that is an offset away."""
    dz, dy, slack = offset
    deep, high, wide = at.shape
    valid = (plane + dz < deep) & (plane + dz >= 0) & (runs.row + dy < high) & (runs.row + dy >= 0)
    here = np.flatnonzero(valid if asked is None else valid & asked)
    base = ((plane[here] + dz) * high + runs.row[here] + dy) * wide
    flat = at.reshape(-1)
    low = flat[base + np.maximum(runs.start[here] - slack, 0)]
    count = flat[base + np.minimum(runs.stop[here] - 1 + slack, wide - 1)] - low + 1
    ends = np.cumsum(count)
    # Numbers that go on by one inside each group, and begin at its lowest run.
    other = np.arange(ends[-1] if len(ends) else 0) + np.repeat(low - (ends - count), count)
    return np.repeat(here, count), other


def _alike(pairs: Pairs, first: np.ndarray, second: np.ndarray, equal: bool) -> Pairs:
    """Keep the pairs of equal labels, or those of different ones."""
    one, other = pairs
    chosen = (first[one] == second[other]) == equal
    return one[chosen], other[chosen]


def _across(above: Runs, below: Runs, plane: Sequence[int], offsets, equal: bool) -> list[Pairs]:
    """Return the pairs of runs that touch where two slabs meet."""
    last = int(np.searchsorted(above.plane, above.planes.stop - 1))
    first = int(np.searchsorted(below.plane, below.planes.start + 1))
    at = _run_at(below, (1, *plane), slice(first))
    # The last plane of the upper slab lies before the only plane that is looked into.
    inside = above.plane - above.planes.stop
    asked = np.arange(len(inside)) >= last
    found = [_pairs(inside, above, at, offset, asked) for offset in offsets if offset[0]]
    return [_alike(pairs, above.value, below.value, equal) for pairs in found]


def _joined(count: int, edges: Sequence[Pairs]) -> np.ndarray:
    """Return the connected part of each of the `count` nodes of a graph."""
    one = np.concatenate([e[0] for e in edges]) if edges else np.empty(0, int)
    other = np.concatenate([e[1] for e in edges]) if edges else np.empty(0, int)
    if not len(one):
        return np.arange(count)
    graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), (count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def _unique(pairs: Sequence[Pairs], count: int) -> Pairs:
    """Return each pair of numbers below `count` once."""
    codes = np.concatenate([a * count + b for a, b in pairs]) if pairs else np.empty(0, np.int64)
    return np.divmod(np.unique(codes), count)


def _numbered(found: list[Runs], joined: np.ndarray, shape: tuple[int, ...]) -> Regions:
    """Give the regions numbers in the order of their first voxels."""
    count = int(joined.max(initial=-1)) + 1
    order = np.full(count, -1)
    known = 0
    size, value = np.zeros(count, np.int64), np.zeros(count, found[0].value.dtype)
    for runs in track(found, "slabs"):
        inside = runs.region >= 0
        region = joined[runs.region[inside]]
        new, first = np.unique(region[order[region] < 0], return_index=True)
        new = new[np.argsort(first)]
        order[new] = np.arange(known, known + len(new))
        known += len(new)
        region = order[region]
        runs.region[inside] = region
        np.add.at(size, region, runs.length[inside])
        value[region] = runs.value[inside]
    return Regions(found, value, size, shape)
