"""Connected components, compiled: made ready in the background while `_runs` serves, with the same result."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import _tiles
from ._ready import Variants

# Voxels after which compiling is worth its while: some tenths of a second.
KERNELS = Variants("runs", after=1 << 23)
# Voxels of a slab.
_SLAB = 1 << 20
_NUMBERS = ("u1", "u2", "u4")
_MOST_RUNS = np.iinfo(np.int32).max


@dataclass
class Components:
    """The components of labels, numbered from 0 in the order of their first voxels.

    Parameters
    ----------
    shape : tuple of int
        Of the labels.
    first : ndarray of int64
        For each line along the last axis, its first run, and at the end the number of runs.
    starts, stops, number : ndarray of int32
        Where along its line each run begins and ends, and its component.
    size : ndarray of int64
        Voxels of each component.
    """

    shape: tuple[int, ...]
    first: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    number: np.ndarray
    size: np.ndarray

    def painted(self, table: np.ndarray) -> np.ndarray:
        """Return an array with ``table[number]`` in each component, and the last entry where there is none."""
        result = np.empty(self.shape, table.dtype)
        kernel, width = KERNELS.get(("paint", table.dtype.str[1:])), self.shape[-1]
        flat, runs = result.reshape(-1), (self.first, self.starts, self.stops, self.number)

        def paint(lines: slice) -> None:
            kernel(*runs, table, table[-1], flat, width, lines.start, lines.stop)

        _tiles.run(paint, _tiles.slabs((len(self.first) - 1, width), _SLAB), "slabs")
        return result


def keys_of(dtype: np.dtype) -> list[tuple[str, ...]]:
    """Return the variants for a type of labels, of which the width counts, and all for painting."""
    kind = f"u{dtype.itemsize}"
    return [*((what, kind) for what in ("count", "join", "meet")), ("number",), *(("paint", u) for u in _NUMBERS)]


def find(labels: np.ndarray, rank: int) -> Components | None:
    """Find the connected components; None where the kernels are not ready, or of no use.

    Parameters
    ----------
    labels : ndarray of int
        (y, x) or (z, y, x); 0 is background.
    rank : int
        Neighbours differ by one step along at most this many axes.
    """
    keys = keys_of(labels.dtype)
    for key in keys:
        KERNELS.ask(key, labels.size)
    kernels = {key[0]: KERNELS.get(key) for key in keys}
    if None in kernels.values() or not labels.size:
        return None
    shape: Sequence[int] = (1,) * (3 - labels.ndim) + labels.shape
    flat = np.ascontiguousarray(labels).view(f"u{labels.dtype.itemsize}").reshape(-1)
    flat.flags.writeable = False
    slabs = _tiles.slabs(shape, _SLAB)
    first = np.zeros(shape[0] * shape[1] + 1, np.int64)
    counts = np.zeros(len(slabs), np.int64)

    def count(number: int) -> None:
        planes = slabs[number]
        counts[number] = kernels["count"](flat, shape[2], planes.start * shape[1], planes.stop * shape[1])

    _tiles.run(count, range(len(slabs)), "slabs")
    total = int(counts.sum())
    if total > _MOST_RUNS:
        return None
    first[[planes.start * shape[1] for planes in slabs]] = np.cumsum(counts) - counts
    starts, stops, parent = (np.empty(total, np.int32) for _ in range(3))

    def join(planes: slice) -> None:
        kernels["join"](flat, shape, rank, planes.start, planes.stop, first, starts, stops, parent)

    _tiles.run(join, slabs, "slabs")
    for planes in slabs[1:]:
        kernels["meet"](flat, shape, rank, planes.start, first, starts[:0], parent)
    sizes = np.empty(total, np.int64)
    found = kernels["number"](starts, stops, parent, sizes)
    return Components(labels.shape, first, starts, stops, parent, sizes[:found].copy())


KERNELS.usual_for("components", lambda dtype, ndim: keys_of(dtype) if dtype.kind in "biu" else [])
