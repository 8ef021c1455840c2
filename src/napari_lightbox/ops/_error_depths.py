"""How deep each voxel that is wrong lies beyond the right border, worked out from the borders of the reference only."""

from collections.abc import Callable

import numpy as np

from ..progress import track
from . import _surface, _tiles
from ._error_voxels import Wrong, places

_SLAB = 1 << 20
Chooser = Callable[[int], np.ndarray]


def depths(wrong: Wrong, steps: tuple[float, ...]) -> np.ndarray:
    """Return the distance of each wrong voxel from the right border, in mm; infinite where the reference has none.

    A voxel outside of all labels lies beyond the region of the label it was given; one inside of a label lies that far
    from what is outside of it.
    """
    result = np.full(len(wrong.index), np.inf)
    if not len(result):
        return result
    border = np.flatnonzero(_border(wrong.reference_map))
    known = wrong.reference_map.reshape(-1)[border]
    free = wrong.reference == 0
    for asked, labels, sites in (
        (np.flatnonzero(free), wrong.predicted, _by_label(known, border)),
        (np.flatnonzero(~free), wrong.reference, _by_label(*_beside(wrong.reference_map, border, known))),
    ):
        names, voxels_of = _grouped(labels[asked], asked)
        for label in track(names, "labels"):
            voxels, others = voxels_of(label), sites(label)
            if len(others):
                shape = wrong.reference_map.shape
                result[voxels] = _surface.nearest(wrong.places(voxels), places(others, shape), steps)
    return result


def _border(labels: np.ndarray) -> np.ndarray:
    """Return a mask of the voxels that have another label beside them, across a face."""
    result = np.zeros(labels.shape, bool)

    def work(slab: slice) -> None:
        part, found = labels[slab], result[slab]
        for axis in range(3):
            after = (slice(None),) * axis + (slice(1, None),)
            before = (slice(None),) * axis + (slice(-1),)
            differs = part[after] != part[before]
            found[after] |= differs
            found[before] |= differs
        if slab.start:
            found[0] |= part[0] != labels[slab.start - 1]
        if slab.stop < len(labels):
            found[-1] |= part[-1] != labels[slab.stop]

    _tiles.run(work, _tiles.slabs(labels.shape, _SLAB), "slabs")
    return result


def _beside(labels: np.ndarray, border: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and voxels of the border that are not of that label but have it beside them."""
    flat, shape = labels.reshape(-1), labels.shape
    where = places(border, shape)
    found, voxels = [], []
    for axis, size in enumerate(shape):
        step = int(np.prod(shape[axis + 1 :]))
        for inside, by in ((where[:, axis] < size - 1, step), (where[:, axis] > 0, -step)):
            here = np.flatnonzero(inside)
            other = flat[border[here] + by]
            differs = (other != known[here]) & (other != 0)
            found.append(other[differs])
            voxels.append(border[here[differs]])
    return np.concatenate(found), np.concatenate(voxels)


def _grouped(labels: np.ndarray, values: np.ndarray) -> tuple[list[int], Chooser]:
    """Return the labels there are, and what returns the values of one of them."""
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    ends = np.append(starts, len(order))[1:]
    parts = {name: slice(a, b) for name, a, b in zip(names.tolist(), starts.tolist(), ends.tolist(), strict=True)}
    values = values[order]
    return list(parts), lambda label: values[parts.get(label, slice(0))]


def _by_label(labels: np.ndarray, values: np.ndarray) -> Chooser:
    return _grouped(labels, values)[1]
