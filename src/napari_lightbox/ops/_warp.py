"""Interpolation at any places: for mappings that are not affine."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..errors import InputError
from . import _check, _tiles
from ._interpolation import UPWARD, coefficients, store

# Output voxels of a part: some hundredths of a second.
_PART = 1 << 17
# Planes of a stack that one thread fetches from the same places.
_TOGETHER = 8
Find = Callable[[tuple[slice, ...]], np.ndarray]


def pull(data: np.ndarray, shape: tuple[int, ...], find: Find, order: str, fill: float) -> np.ndarray:
    """Fetch every voxel of an output from where `find` says it lies in a volume.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    shape : tuple of int
        (z, y, x) of the output.
    find : callable
        From a block of the output, the input indices of its voxels, (3, *block); NaN where there is no such place.
    order : {"nearest", "linear", "cubic"}
        Interpolation, with the border of `_resample.pull`.
    fill : float
        Value outside the box of the input.

    Returns
    -------
    ndarray
        Of `shape` and the type of `data`.

    Raises
    ------
    InputError
        If nothing of the input is left.
    """
    source, result, seen = _prepared(data, order, (0, 1, 2)), np.empty(shape, data.dtype), []

    def work(block: tuple[slice, ...]) -> None:
        places = find(block)
        outside = _outside(places, data.shape)
        if not outside.all():
            seen.append(block)
        _write(source, places, outside, order, fill, result[block])

    _tiles.run(work, _tiles.blocks(shape, _PART), "tiles")
    _require(bool(seen))
    return result


def pull_planes(data: np.ndarray, across: int, find: Find, order: str, fill: float) -> np.ndarray:
    """Fetch every voxel from elsewhere in its own plane, in all planes alike.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    across : int
        Axis that the planes are stacked along.
    find : callable
        From a block of a plane, the indices in the plane that its voxels come from, (2, *block).
    order, fill
        As for `pull`.
    """
    axes = tuple(axis for axis in range(3) if axis != across)
    planes = np.moveaxis(_prepared(data, order, axes), across, 0)
    result = np.empty(data.shape, data.dtype)
    out = np.moveaxis(result, across, 0)
    found = []
    for block in _tiles.blocks(planes.shape[1:], _PART):
        places = find(block)
        found.append((block, places, _outside(places, planes.shape[1:])))
    _require(not all(outside.all() for _, _, outside in found))

    def work(part: tuple) -> None:
        some, (block, places, outside) = part
        if order == "linear" and some.stop - some.start > 1:
            linear = _Linear(places, outside, planes.shape[1:])
            for index in range(some.start, some.stop):
                linear.write(planes[index], fill, out[(index, *block)])
            return
        for index in range(some.start, some.stop):
            _write(planes[index], places, outside, order, fill, out[(index, *block)])

    stacks = _tiles.slabs((len(planes), 1), _TOGETHER if order == "linear" else 1)
    _tiles.run(work, [(some, part) for some in stacks for part in found], "tiles")
    return result


class _Linear:
    """Linear interpolation at the same places of many planes: neighbours and weights are worked out once.

    The sums are those of `scipy.ndimage.map_coordinates`, in its order.
    """

    def __init__(self, places: np.ndarray, outside: np.ndarray, shape: tuple[int, int]) -> None:
        self.outside = outside
        self.corners: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        pairs = []
        for place, length in zip(np.where(outside, 0.0, places), shape, strict=True):
            low = np.floor(place)
            # As weights that add up to 1 when rounded.
            first = 1 - (place - low)
            low = low.astype(np.intp)
            near = (np.clip(low + step, 0, length - 1) for step in (0, 1))
            pairs.append(tuple(zip(near, (first, 1 - first), strict=True)))
        for row, down in pairs[0]:
            for column, over in pairs[1]:
                self.corners.append((row * shape[1] + column, down, over))

    def write(self, plane: np.ndarray, fill: float, out: np.ndarray) -> None:
        """Interpolate a plane into `out`."""
        if self.outside.all():
            out[...] = fill
            return
        flat, total = plane.ravel(), np.zeros(out.shape)
        for index, down, over in self.corners:
            part = flat.take(index).astype(np.float64, copy=False)
            with np.errstate(over="ignore", invalid="ignore"):
                part *= down
                part *= over
                total += part
        kind = _check.float_type(out.dtype)
        with np.errstate(over="ignore"):
            store(total.astype(kind, copy=False), out, within=True)
        out[self.outside] = fill


def _require(something: bool) -> None:
    if not something:
        raise InputError("the result would hold nothing of the volume: check the points, the matrix or the parameters")


def _prepared(data: np.ndarray, order: str, axes: tuple[int, ...]) -> np.ndarray:
    """Return what is interpolated: for a spline, its coefficients along `axes`."""
    if order == "cubic":
        return coefficients(data.astype(_check.float_type(data.dtype)), axes)
    if data.dtype.kind == "b":
        return data.view(np.uint8)
    return data.astype(np.float32) if data.dtype == np.float16 and order == "linear" else data


def _outside(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which places lie beyond half a voxel from the outer voxels, or nowhere."""
    inside = np.ones(places.shape[1:], bool)
    for place, length in zip(places, shape, strict=True):
        inside &= (place >= -0.5) & (place < length - 0.5)
    return ~inside


def _write(
    source: np.ndarray, places: np.ndarray, outside: np.ndarray, order: str, fill: float, out: np.ndarray
) -> None:
    """Interpolate at `places` into `out`."""
    if outside.all():
        out[...] = fill
        return
    places = np.where(outside, 0.0, places)
    if order == "nearest":
        index = np.floor(places + (0.5 + UPWARD)).astype(np.intp)
        limits = np.array(source.shape).reshape(-1, *(1,) * (places.ndim - 1)) - 1
        out[...] = source[tuple(np.clip(index, 0, limits))]
    else:
        kind = _check.float_type(out.dtype)
        spline, mode = (3, "mirror") if order == "cubic" else (1, "nearest")
        found = ndimage.map_coordinates(source, places, kind, order=spline, mode=mode, prefilter=False)
        store(found, out, within=order != "cubic")
    out[outside] = fill
