"""Cutting volumes down, adding a border, and mirroring their contents: whole voxels, nothing is interpolated."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np

from .. import remarks
from ..errors import InputError
from ..geometry import Grid
from ..progress import track
from ..volume import Volume, map_frames
from . import _check, _tiles
from ._pull import fill_value

OptionalPoint = Annotated[tuple[float, float, float] | None, {"unit": "mm", "order": "zyx"}]
OptionalExtent = Annotated[tuple[float, float, float] | None, {"unit": "mm", "order": "zyx", "min": 0, "max": 10000}]
OptionalVoxels = Annotated[tuple[int, int, int] | None, {"unit": "voxels", "order": "zyx"}]
Lengths = Annotated[tuple[float, float, float], {"order": "zyx", "min": 0, "max": 10000}]
OptionalLengths = Annotated[tuple[float, float, float] | None, {"order": "zyx", "min": 0, "max": 10000}]
_AXES = ("left-right", "anterior-posterior", "superior-inferior")
_SLAB = 1 << 23
_PART = 1 << 20
# Share of a voxel that is float noise.
_NOISE = 1e-6


def crop(
    volume: Volume,
    mask: Volume | None = None,
    *,
    margin: Annotated[float | None, {"min": 0.0, "max": 1000.0, "step": 1.0, "unit": "mm"}] = None,
    size: OptionalExtent = None,
    centre: OptionalPoint = None,
    start: OptionalVoxels = None,
    stop: OptionalVoxels = None,
) -> Volume:
    """Cut a box out of a volume; every voxel that is kept stays where it is in the patient.

    The box is given in one of three ways: by a mask whose content it holds, by its size in mm, or by voxels. Labels
    need none of these: they are then cut down to their own content.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose frames are cut alike.
    mask : Volume, optional
        Labels, or values of 0 and 1. The box holds everything that is not 0 in it, in any frame. It may lie on another
        grid in the same patient.
    margin : float, optional
        Distance in mm by which the box goes on around the content of the mask, on every side; at least, as whole
        voxels are kept. None where not given.
    size : sequence of float, optional
        (z, y, x) lengths of the box in mm along the stored axes, rounded to whole voxels.
    centre : sequence of float, optional
        (z, y, x) world point in LPS mm in the middle of a box given by its size; the middle of the volume where not
        given.
    start, stop : sequence of int, optional
        (z, y, x) first voxel of the box, and the voxel after its last one, counted from 0 along the stored axes; from
        the first and to the last voxel of the volume where not given.

    Returns
    -------
    Volume
        A copy of the voxels in the box; what of the box lies outside the volume is left out (`pad` adds voxels). Kind,
        name, labels and meta are kept.

    Raises
    ------
    InputError
        If the box is given in none or in several ways, the mask is empty or no mask, or the box holds nothing of the
        volume.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(8).reshape(1, 1, 8), spacing=(1, 1, 0.5))
    >>> crop(volume, size=(1, 1, 2)).data.tolist(), crop(volume, start=(0, 0, 6)).grid.origin
    ([[[2, 3, 4, 5]]], (0.0, 0.0, 3.0))
    """
    by_voxels = start is not None or stop is not None
    by_size = size is not None or centre is not None
    if sum((mask is not None, by_size, by_voxels)) > 1:
        raise InputError("the box is given in several ways: give a mask, or a size (and a centre), or start and stop")
    if margin is not None and (by_voxels or by_size):
        raise InputError("margin goes around the content of a mask: leave it out, and make the box larger instead")
    grid = volume.grid.without_frames()
    if by_voxels:
        low, high = _voxel_box(grid, start, stop)
    elif by_size:
        low, high = _sized_box(grid, size, centre)
    elif mask is not None or volume.kind == "labels":
        low, high = _content_box(grid, volume if mask is None else mask, margin)
    else:
        raise InputError("no box is given: give a mask, or a size in mm, or start and stop in voxels")
    shape = np.array(grid.shape)
    if (np.minimum(high, shape) <= np.maximum(low, 0)).any():
        raise InputError(f"the box holds nothing of {volume.name!r}: place it where the volume is")
    low, high = np.maximum(low, 0), np.minimum(high, shape)
    if (high - low == shape).all():
        remarks.note("nothing was cut off: the box holds all of the volume")
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    target = _shifted(grid, low, high - low)
    return map_frames(lambda frame: frame.replace(data=frame.data[box].copy(), grid=target), volume)


def _voxel_box(grid: Grid, start, stop) -> tuple[np.ndarray, np.ndarray]:
    low = np.zeros(3, int) if start is None else _whole_numbers(start, "start")
    high = np.array(grid.shape) if stop is None else _whole_numbers(stop, "stop")
    if (high <= low).any():
        raise InputError(
            f"stop {_xyz(high)} must be greater than start {_xyz(low)} on every axis (x, y, z): stop is the voxel "
            "after the last one"
        )
    return low, high


def _whole_numbers(values, name: str) -> np.ndarray:
    found = _check.vector(values, name, 3)
    if (found != np.round(found)).any():
        raise InputError(f"{name} must be three whole numbers of voxels, not {_xyz(found)}")
    return found.astype(int)


def _sized_box(grid: Grid, size, centre) -> tuple[np.ndarray, np.ndarray]:
    if size is None:
        raise InputError("centre is given without a size: give the size of the box in mm, too")
    lengths = _check.vector(size, "size", 3)
    if not (lengths > 0).all():
        raise InputError(f"size must be greater than zero mm on every axis, not {_xyz(lengths)}")
    middle = (np.array(grid.shape) - 1) / 2
    if centre is not None:
        middle = grid.to_index(_check.vector(centre, "centre", 3))
    count = np.maximum(1, np.round(lengths / grid.spacing)).astype(int)
    low = np.floor(middle - (count - 1) / 2 + 0.5 + _NOISE).astype(int)
    return low, low + count


def _content_box(grid: Grid, mask: Volume, margin) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of `grid` that hold the content of `mask` and a margin."""
    margin = 0.0 if margin is None else _check.number(margin, "margin", least=0)
    _require_mask(mask)
    box = _content(mask)
    if box is None:
        raise InputError(f"mask {mask.name!r} is empty: there is no content to crop to")
    faces = np.array(np.meshgrid(*((a - 0.5, b - 0.5) for a, b in box), indexing="ij")).reshape(3, -1).T
    index = grid.to_index(mask.grid.to_world(faces))
    reach = margin / np.array(grid.spacing)
    low = np.floor(index.min(axis=0) - reach + 0.5 + _NOISE).astype(int)
    high = np.ceil(index.max(axis=0) + reach + 0.5 - _NOISE).astype(int)
    return low, high


def _require_mask(mask: Volume) -> None:
    """Refuse grey values, hardly one of which is 0, as a mask."""
    if mask.kind == "labels" or np.dtype(mask.data.dtype).kind == "b":
        return
    for index in range(mask.frame_count):
        data = np.asarray(mask.frame(index).data)
        for slab in track(_tiles.slabs(data.shape, _SLAB), "slabs"):
            part = data[slab]
            if not (np.isin(part, (0, 1)) | ((part != part) if part.dtype.kind == "f" else False)).all():
                raise InputError(
                    f"mask {mask.name!r} holds grey values, not labels: segment it first (otsu), or open the file with "
                    "kind='labels' if its numbers are labels"
                )


def _content(mask: Volume) -> list[tuple[int, int]] | None:
    """Return the first and the last plane but one, on each axis, of what is not 0 in any frame."""
    seen = [np.zeros(n, bool) for n in mask.grid.spatial_shape]
    for index in range(mask.frame_count):
        data = _check.image(mask.frame(index).data, "mask", dims=(3,))
        for slab in track(_tiles.slabs(data.shape, _SLAB), "slabs"):
            inside = (data[slab] != 0) if data.dtype.kind != "f" else (data[slab] != 0) & ~np.isnan(data[slab])
            seen[0][slab] |= inside.any(axis=(1, 2))
            plane = inside.any(axis=0)
            seen[1] |= plane.any(axis=1)
            seen[2] |= plane.any(axis=0)
    if not seen[0].any():
        return None
    return [(int(np.argmax(s)), len(s) - int(np.argmax(s[::-1]))) for s in seen]


def pad(
    volume: Volume,
    before: Lengths = (0.0, 10.0, 10.0),
    after: OptionalLengths = None,
    *,
    unit: Literal["voxels", "mm"] = "voxels",
    mode: Literal["constant", "edge", "reflect"] = "constant",
    fill: float | None = None,
) -> Volume:
    """Add voxels around a volume; those it has stay where they are in the patient.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose frames are continued alike.
    before : sequence of float
        (z, y, x): how much is added before the first voxel of each stored axis.
    after : sequence of float, optional
        (z, y, x): how much is added after the last voxel; as much as before where not given.
    unit : {"voxels", "mm"}
        What `before` and `after` count. Millimetres are rounded up to whole voxels.
    mode : {"constant", "edge", "reflect"}
        What is added: one value, the outer voxel repeated (a a a | a b c), or the mirror image (c b a | a b c).
    fill : float, optional
        The value of ``"constant"``; the smallest of the volume (of each frame) where not given, 0 for labels and
        probabilities.

    Returns
    -------
    Volume
        A larger volume whose grid begins earlier. Kind, type, name, labels and meta are kept.

    Raises
    ------
    InputError
        If a length is negative or no whole number of voxels, the fill value does not fit the voxels, or the result
        would not fit in memory.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(3).reshape(1, 1, 3), spacing=(1, 1, 2))
    >>> wider = pad(volume, (0, 0, 2), (0, 0, 1), mode="reflect")
    >>> wider.data.tolist(), wider.grid.origin
    ([[[1, 0, 0, 1, 2, 2]]], (0.0, 0.0, -4.0))
    """
    _check.choice(unit, ("voxels", "mm"), "unit")
    _check.choice(mode, ("constant", "edge", "reflect"), "mode")
    grid = volume.grid.without_frames()
    first = _added(grid, before, "before", unit)
    last = first if after is None else _added(grid, after, "after", unit)
    target = _shifted(grid, -first, np.array(grid.shape) + first + last)
    value = fill_value(volume, fill)
    dtype = np.dtype(volume.data.dtype)
    needed = int(np.prod(target.shape, dtype=float)) * dtype.itemsize * volume.frame_count
    _check.memory(needed, f"a result of {_xyz(target.shape, ' x ')} voxels", "add less")
    border = {"constant": "constant", "edge": "nearest", "reflect": "reflect"}[mode]
    spans = [(-a, n + b) for a, n, b in zip(first.tolist(), grid.shape, last.tolist(), strict=True)]

    def one_frame(frame: Volume) -> Volume:
        data = _check.image(frame.data, "volume", dims=(3,))
        return frame.replace(data=_continued(data, spans, border, value), grid=target)

    return map_frames(one_frame, volume)


def _continued(data: np.ndarray, spans: list[tuple[int, int]], border: str, value: Callable) -> np.ndarray:
    """Return the voxels from the first to the second index of each span, which may lie outside."""
    index = [_tiles.border_index(a, b, n, border) for (a, b), n in zip(spans, data.shape, strict=True)]
    result = np.empty([len(i) for i in index], data.dtype)
    filling = value(data) if border == "constant" else None
    inner = tuple(slice(-a, n - a) for (a, _), n in zip(spans[1:], data.shape[1:], strict=True))

    def work(slab: slice) -> None:
        planes = index[0][slab]
        if filling is None:
            result[slab] = data[np.ix_(planes, index[1], index[2])]
            return
        part, known = result[slab], np.flatnonzero(planes >= 0)
        part[...] = filling
        if len(known):
            first, last = known[0], known[-1] + 1
            # Those that are known are neighbours: slices copy faster than indices.
            part[(slice(first, last), *inner)] = data[planes[first] : planes[first] + last - first]

    _tiles.run(work, _tiles.slabs(result.shape, _PART), "slabs")
    return result


def _added(grid: Grid, lengths, name: str, unit: str) -> np.ndarray:
    found = _check.vector(lengths, name, 3)
    if (found < 0).any():
        raise InputError(f"{name} must not be negative, not {_xyz(found)}: crop takes voxels away")
    if unit == "mm":
        return np.ceil(found / grid.spacing - _NOISE).astype(int)
    return _whole_numbers(found, name)


def flip(
    volume: Volume, axis: Literal["left-right", "anterior-posterior", "superior-inferior"] = "left-right"
) -> Volume:
    """Mirror the contents of a volume: what was on the left of the patient is then on the right.

    The grid stays and the contents move, about the middle of the volume. That makes another patient of it, for
    augmentation, for comparing sides, or to mend a volume that was stored wrongly. To store a volume in another order
    of its axes, with everything where it is, use `reorient`.

    Parameters
    ----------
    volume : Volume
        2D, 3D or 4D, whose frames are mirrored alike.
    axis : {"left-right", "anterior-posterior", "superior-inferior"}
        Axis of the patient; in an oblique volume, the stored axis closest to it.

    Returns
    -------
    Volume
        A mirrored copy of the voxels on the same grid, nothing is interpolated. Kind, name, labels and meta are kept:
        a label named "left kidney" keeps its name.

    Raises
    ------
    InputError
        If the axis is unknown.

    Examples
    --------
    >>> volume = Volume.from_array(np.arange(3).reshape(1, 1, 3), spacing=(1, 1, 1))
    >>> flip(volume).data.tolist()
    [[[2, 1, 0]]]
    """
    _check.choice(axis, _AXES, "axis")
    stored = volume.grid.closest_axes()[0][2 - _AXES.index(axis)]
    if volume.grid.spatial_shape[stored] == 1:
        remarks.note(f"flipping {axis} changes nothing: the volume is one voxel thick there")
    return map_frames(lambda frame: frame.replace(data=np.flip(frame.data, stored).copy()), volume)


def _shifted(grid: Grid, low: np.ndarray, shape: np.ndarray) -> Grid:
    """Return the voxels of `grid`, continued or cut, that begin at index `low`."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(low)
    return Grid(affine, tuple(int(n) for n in shape))


def _xyz(values, between: str = ", ") -> str:
    return between.join(f"{v:.6g}" for v in reversed(list(values)))
