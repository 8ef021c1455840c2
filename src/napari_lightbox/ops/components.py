"""Connected components of labels, and the holes in them."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from scipy import sparse

from .. import remarks
from ..errors import InputError
from ..progress import track
from ..types import LabelArray
from ..volume import Label, Volume
from . import _check, _labelling, _runs

# Neighbours in the plane and in the volume -> axes along which a neighbour may differ.
_RANKS = {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}
# Rounding of sizes that are given in mm3: a size that is met exactly counts as met.
_ROUNDING = 1 - 1e-9

Size = Annotated[float | None, {"min": 0.0, "max": 1e9, "step": 100.0, "unit": "mm3"}]


def components(
    labels: LabelArray,
    spacing: Sequence[float],
    *,
    separate_labels: bool = True,
    connectivity: Literal[4, 8, 6, 18, 26] | None = None,
    largest: Annotated[int | None, {"min": 1, "max": 100000}] = None,
    min_size: Size = None,
) -> LabelArray:
    """Part labels into their connected components, numbered by size.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x), whole numbers; 0 is background.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    separate_labels : bool
        Whether different labels are different components even where they touch; otherwise all labels are one mask.
    connectivity : {4, 8, 6, 18, 26}, optional
        Neighbours of a voxel: 4 or 8 in 2D, 6, 18 or 26 in 3D; 8 and 26 where not given.
    largest : int, optional
        Keep only so many components, the largest ones; all where not given.
    min_size : float, optional
        Leave out components smaller than this, in mm3; in mm2 where slices are worked on one by one, each with
        numbers of its own.

    Returns
    -------
    ndarray
        1 for the largest component, 2 for the next; of equal ones, the one whose first voxel comes first. uint8,
        uint16 or uint32, the smallest that holds the number of components.

    Raises
    ------
    InputError
        If `labels` are no whole numbers, have no 2 or 3 axes, or the connectivity or a size does not fit.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 9.5, Extraction of connected components;
    L. He, Y. Chao and K. Suzuki, A run-based two-scan labeling algorithm, IEEE Trans. Image Proc. 17(5), 2008.

    Examples
    --------
    >>> components(np.array([[5, 0, 5, 5], [0, 0, 5, 7]]), (1, 1)).tolist()
    [[2, 0, 1, 1], [0, 0, 1, 3]]
    """
    labels = _check.labels(labels, dims=(2, 3))
    steps = _check.steps(spacing, labels.ndim)
    rank = _rank(connectivity, labels.ndim)
    least = _voxels(min_size, steps, "min_size")
    most = None if largest is None else _check.whole(largest, "largest")
    separate = _check.choice(separate_labels, (True, False), "separate_labels")
    found = _found(labels if separate else labels != 0, rank)
    order = np.argsort(-found.size, kind="stable")
    order = order[found.size[order] >= least * _ROUNDING][:most]
    if not len(order):
        remarks.note(_why_nothing(found.size, min_size, steps))
    table = np.zeros(len(found.size) + 1, np.min_scalar_type(len(order)))
    table[order] = np.arange(1, len(order) + 1)
    return found.painted(table)


def _found(labels: np.ndarray, rank: int) -> "_labelling.Components | _runs.Regions":
    found = _labelling.find(labels, rank)
    return _runs.regions(labels, rank) if found is None else found


def component_names(source: Volume, result: Volume, values: Mapping[str, Any]) -> dict[int, Label]:
    """Name components: ``component 1 (12.3 ml)``, or after their label where it has a name.

    Every slice and every frame that is worked on by itself numbers its own components: there a number stands for
    several, of one label here and of another there, and is all that they are named by.

    Parameters
    ----------
    source : Volume
        What was parted.
    result : Volume
        The components.
    values : mapping
        Parameters of `components`, and the ``plane`` in which slices were worked on one by one.
    """
    if result.frame_count > 1 or _slices(result, values.get("plane")) > 1:
        return {value: Label(f"component {value}") for value in np.flatnonzero(_tally(source, result)[0]).tolist()}
    counts, parents = (found.tolist() for found in _tally(source, result))
    size = _size_in(result)
    of_label: dict[int, int] = {}
    names = {}
    for value, voxels in enumerate(counts):
        if not voxels:
            continue
        label = source.labels.get(parents[value]) if values.get("separate_labels", True) else None
        word = label.name if label else "component"
        number = value
        if label:
            number = of_label[parents[value]] = of_label.get(parents[value], 0) + 1
        names[value] = Label(f"{word} {number}{size(voxels)}")
    return names


def _slices(volume: Volume, plane: str | int | None) -> int:
    """Return how many pieces of a frame were worked on by themselves."""
    return 1 if plane in (None, "volume") else volume.grid.spatial_shape[volume.grid.plane_axis(plane)]


def _tally(source: Volume, result: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Return for every component its number of voxels and the label it was part of; entry 0 is background."""
    made, given = np.asarray(result.data), np.asarray(source.data)
    made, given = made.reshape(-1), given.reshape(-1)
    counts, parents = np.zeros(1, np.int64), np.zeros(1, np.int64)
    step = 1 << 22
    for start in track(range(0, len(made), step), "slabs"):
        part = made[start : start + step]
        here = np.bincount(part)
        longer = max(len(counts), len(here))
        counts, parents = np.pad(counts, (0, longer - len(counts))), np.pad(parents, (0, longer - len(parents)))
        counts[: len(here)] += here
        parents[part] = given[start : start + step]
    counts[0] = 0
    return counts, parents


def _size_in(volume: Volume) -> Callable[[int], str]:
    """Return what says a number of voxels of a volume as people do."""
    if not volume.meta.get("spacing_known", True):
        return lambda voxels: f" ({voxels} voxels)"
    unit = np.array(volume.grid.spacing)
    if volume.is_2d:
        square = float(np.prod(np.delete(unit, volume.grid.spatial_shape.index(1))))
        return lambda voxels: f" ({voxels * square:.3g} mm2)"
    cube = float(np.prod(unit))

    @functools.cache  # most are of few voxels
    def say(voxels: int) -> str:
        millilitres = voxels * cube / 1000
        return f" ({millilitres:.1f} ml)" if millilitres >= 10 else f" ({millilitres:.2g} ml)"

    return say


def _rank(connectivity: int | None, ndim: int) -> int:
    ranks = _RANKS[ndim]
    if connectivity is None:
        return ndim
    if not isinstance(connectivity, int | np.integer) or connectivity not in ranks:
        wanted = ", ".join(str(n) for n in ranks)
        raise InputError(f"connectivity {connectivity!r} does not fit labels with {ndim} axes: use {wanted}")
    return ranks[connectivity]


def _why_nothing(sizes: np.ndarray, min_size: float | None, steps: np.ndarray) -> str:
    """Say why there are no components."""
    if not len(sizes):
        return "nothing is found: all is background"
    unit = "mm3" if len(steps) == 3 else "mm2"
    largest = float(sizes.max() * np.prod(steps))
    return f"nothing is left: the largest component has {largest:.4g} {unit}, and min_size is {min_size:g} {unit}"


def _voxels(size: float | None, steps: np.ndarray, name: str) -> float:
    """Return a size in mm3 (mm2 in the plane) in voxels; 0 where none is given."""
    return 0.0 if size is None else _check.number(size, name, least=0) / float(np.prod(steps))


def fill_holes(labels: LabelArray, spacing: Sequence[float], *, max_size: Size = None) -> LabelArray:
    """Fill the holes of every label.

    A hole of a label is background that cannot be left through faces of voxels without crossing the label. It becomes
    that label; other labels inside stay as they are. Background that several labels enclose, one inside the other,
    goes to the innermost.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x), whole numbers; 0 is background.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    max_size : float, optional
        Leave larger holes open, in mm3; in mm2 where slices are filled one by one (choose a plane). All are filled
        where not given.

    Returns
    -------
    ndarray
        Same shape and type as `labels`; no voxel of a label changes. Background that reaches the border of the array
        is no hole.

    Raises
    ------
    InputError
        If `labels` are no whole numbers, have no 2 or 3 axes, or the size is negative.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 9.5, Hole filling.

    Examples
    --------
    >>> fill_holes(np.array([[3, 3, 3, 0], [3, 0, 3, 0], [3, 3, 3, 0]]), (1, 1)).tolist()
    [[3, 3, 3, 0], [3, 3, 3, 0], [3, 3, 3, 0]]
    """
    labels = _check.labels(labels, dims=(2, 3))
    steps = _check.steps(spacing, labels.ndim)
    most = np.inf if max_size is None else _voxels(max_size, steps, "max_size") / _ROUNDING
    found = _runs.regions(labels, 1, background=True)
    is_open = _reach_border(found)
    holes = np.flatnonzero((found.value == 0) & ~is_open & (found.size <= most))
    table = np.append(found.value, found.value.dtype.type(0))
    if len(holes):
        table[holes] = _enclosing(found, is_open, holes)
    return found.painted(table).astype(labels.dtype, copy=False)


def _reach_border(found: _runs.Regions) -> np.ndarray:
    """Return which regions touch the border of the array; that of a plane has only four sides."""
    shape = (1,) * (3 - len(found.shape)) + tuple(found.shape)
    result = np.zeros(len(found.size), bool)
    for runs in found.slabs:
        edge = (runs.start == 0) | (runs.stop == shape[2]) | (runs.row == 0) | (runs.row == shape[1] - 1)
        if len(found.shape) == 3:
            edge |= (runs.plane == 0) | (runs.plane == shape[0] - 1)
        result[runs.region[edge]] = True
    return result


def _enclosing(found: _runs.Regions, is_open: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Return for every hole the innermost label that encloses it, 0 where none does alone."""
    one, other = found.borders()
    result = np.zeros(len(holes), found.value.dtype)
    place = np.full(len(found.size), -1)
    place[holes] = np.arange(len(holes))
    # Most holes have one label all around.
    around: dict[int, set] = {}
    for a, b in ((one, other), (other, one)):
        inside = place[a] >= 0
        for hole, value in zip(place[a[inside]].tolist(), found.value[b[inside]].tolist(), strict=True):
            around.setdefault(hole, set()).add(value)
    for hole, values in around.items():
        if len(values) == 1:
            result[hole] = next(iter(values))
    left = np.flatnonzero(result == 0)
    if not len(left):
        return result
    smallest = np.full(len(left), np.inf)
    for value in track(np.unique(found.value[found.value != 0]), "labels"):
        inside, size = _inside(found, is_open, (one, other), value, holes[left])
        better = inside & (size < smallest)
        result[left[better]], smallest[better] = value, size[better]
    return result


def _inside(found: _runs.Regions, is_open: np.ndarray, edges: _runs.Pairs, value: int, holes: np.ndarray):
    """Return which holes a label encloses, and how many voxels lie inside it together with each of them."""
    passable = found.value != value
    keep = passable[edges[0]] & passable[edges[1]]
    count = len(found.size)
    graph = sparse.coo_array((np.ones(keep.sum(), bool), (edges[0][keep], edges[1][keep])), (count, count))
    parts, part = sparse.csgraph.connected_components(graph, directed=False)
    outside = np.zeros(parts, bool)
    outside[part[is_open & passable]] = True
    size = np.bincount(part, found.size, minlength=parts)
    return ~outside[part[holes]], size[part[holes]]
