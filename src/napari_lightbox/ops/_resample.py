"""Interpolation on index grids through SimpleITK, slab by slab of the output.

SimpleITK's own geometry stays out of it: an image cannot hold sheared axes there. Images are given without spacing
and direction, and an affine transform takes output indices to input indices.
"""

import numpy as np
from scipy import ndimage

from ..progress import track
from . import _check, _tiles

# Output voxels a slab: some tenths of a second at most.
_SLABS = {"nearest": 1 << 23, "linear": 1 << 23, "cubic": 1 << 20}
_LINES = 1 << 22
# Positions closer than this to a voxel (in voxels) are on it.
_ON_VOXEL = 1e-6
# A nearest voxel is chosen between two at the same distance by rounding up; this keeps float noise out of the choice.
_UPWARD = 1e-7
_LEAST_SPLINE_LENGTH = 4


def pull(data: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: str, fill: float) -> np.ndarray:
    """Fetch every voxel of an output grid from `data`.

    Parameters
    ----------
    data : ndarray
        (z, y, x), real numbers.
    matrix : (4, 4) ndarray
        Output index (z, y, x, 1) to input index.
    shape : tuple of int
        (z, y, x) of the output.
    order : {"nearest", "linear", "cubic"}
        Interpolation. The box of the input ends half a voxel beyond its outer voxels; up to there linear
        interpolation repeats the outer voxel, the spline is mirrored at it.
    fill : float
        Value outside that box.

    Returns
    -------
    ndarray
        Of `shape` and the type of `data`; rounded and clipped to it where that is an integer type.
    """
    if _on_voxels(matrix):
        # No interpolation is needed, and none can disturb the last digit.
        order, matrix = "nearest", np.round(matrix)
    if order == "nearest" and _beyond_doubles(data):
        # SimpleITK passes values on as doubles: numbers stand for them.
        values, numbers = np.unique(np.append(data.ravel(), data.dtype.type(fill)), return_inverse=True)
        places = pull(numbers[:-1].reshape(data.shape).astype(np.int32), matrix, shape, order, int(numbers[-1]))
        return values[places]
    result = np.empty(shape, data.dtype)
    fetch = _Fetch(data, matrix, order, fill)
    for slab in track(_tiles.slabs(shape, _SLABS[order]), "slabs"):
        result[slab] = fetch.slab(slab, shape)
    return result


def _beyond_doubles(data: np.ndarray) -> bool:
    """Whether a double cannot hold every value."""
    if data.dtype.kind not in "iu" or data.dtype.itemsize < 8:
        return False
    return int(data.max()) > 1 << 53 or int(data.min()) < -(1 << 53)


def overlaps(matrix: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> bool:
    """Whether the box of an output grid may reach into that of the input; False only where it surely does not."""
    corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in shape), indexing="ij")).reshape(3, -1)
    found = matrix[:3, :3] @ corners + matrix[:3, 3:]
    return not ((found.max(axis=1) < -0.5).any() or (found.min(axis=1) > np.array(source) - 0.5).any())


def _on_voxels(matrix: np.ndarray) -> bool:
    """Whether every output voxel lies on an input voxel or outside: whole steps and a whole shift."""
    return bool(np.abs(matrix - np.round(matrix)).max() < _ON_VOXEL * 1e-3)


class _Fetch:
    """An input, ready to be interpolated."""

    def __init__(self, data: np.ndarray, matrix: np.ndarray, order: str, fill: float) -> None:
        import SimpleITK as sitk  # noqa: N813 - as its own manual has it

        self.sitk, self.matrix, self.fill, self.dtype, self.order = sitk, matrix, fill, data.dtype, order
        self.shape = data.shape
        if data.dtype.kind == "b":
            data = data.view(np.uint8)
        elif data.dtype == np.float16:
            data = data.astype(np.float32)
        self.pixel = _check.float_type(data.dtype)
        if order == "nearest":
            self.pixel = data.dtype
            self.method = sitk.sitkNearestNeighbor
        elif order == "linear":
            self.method = sitk.sitkLinear
        else:
            self.method = sitk.sitkBSplineResamplerOrder3
            data = _coefficients(_lengthen(data).astype(self.pixel))
        self.longer = [axis for axis in range(3) if data.shape[axis] != self.shape[axis]]
        self.image = sitk.GetImageFromArray(np.ascontiguousarray(data))
        self.pixel_id = sitk.GetImageFromArray(np.zeros((1, 1, 1), self.pixel)).GetPixelID()

    def slab(self, slab: slice, shape: tuple[int, ...]) -> np.ndarray:
        """Return one slab of the output in the type of the input."""
        size = (slab.stop - slab.start, *shape[1:])
        linear = self.matrix[:3, :3]
        offset = linear[:, 0] * slab.start + self.matrix[:3, 3]
        if self._misses(linear, offset, size):
            return np.full(size, self.fill).astype(self.dtype)
        found = self._interpolate(linear, offset, size)
        for axis in self.longer:
            found[_outside(linear[axis], offset[axis], size, self.shape[axis])] = self.fill
        return _cast(found, self.dtype, within=self.order != "cubic")

    def _misses(self, linear: np.ndarray, offset: np.ndarray, size: tuple[int, ...]) -> bool:
        """Whether the whole slab lies beyond one face of the input."""
        spans = linear * (np.array(size) - 1)
        low = offset + np.minimum(spans, 0).sum(axis=1)
        high = offset + np.maximum(spans, 0).sum(axis=1)
        return bool((high < -0.5 - _ON_VOXEL).any() or (low > np.array(self.shape) - 0.5 + _ON_VOXEL).any())

    def _interpolate(self, linear: np.ndarray, offset: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        sitk = self.sitk
        if self.order == "nearest":
            offset = offset + _UPWARD
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(linear[::-1, ::-1].ravel().tolist())
        transform.SetTranslation(offset[::-1].tolist())
        resample = sitk.ResampleImageFilter()
        resample.SetSize([int(n) for n in reversed(size)])
        resample.SetTransform(transform)
        resample.SetInterpolator(self.method)
        resample.SetDefaultPixelValue(float(self.fill))
        resample.SetOutputPixelType(self.pixel_id)
        return sitk.GetArrayFromImage(resample.Execute(self.image))


def _lengthen(data: np.ndarray) -> np.ndarray:
    """Continue axes too short for a spline by their mirror image, which is how the spline goes on anyway."""
    for axis, length in enumerate(data.shape):
        if length < _LEAST_SPLINE_LENGTH:
            # It ends on a voxel about which the continuation is symmetric, so that the spline does not notice.
            longer = 5 if length == 3 else _LEAST_SPLINE_LENGTH
            data = np.take(data, _tiles.border_index(0, longer, length, "mirror"), axis=axis)
    return data


def _coefficients(data: np.ndarray) -> np.ndarray:
    """Return the coefficients of the cubic B-spline through `data`; works in place."""
    for axis in range(data.ndim):
        along = data.ndim - 1 if axis != data.ndim - 1 else 0
        lines = np.moveaxis(data, along, 0)

        def work(slab: slice, lines=lines, axis=axis, along=along) -> None:
            part = np.moveaxis(lines[slab], 0, along)
            part[...] = ndimage.spline_filter1d(part, 3, axis=axis, output=np.float64, mode="mirror")

        _tiles.run(work, _tiles.slabs(lines.shape, _LINES), "slabs")
    return data


def _outside(row: np.ndarray, offset: float, size: tuple[int, ...], length: int) -> np.ndarray:
    """Return which voxels of a slab lie outside an input axis of `length` voxels."""
    z, y, x = (step * np.arange(n) for step, n in zip(row, size, strict=True))
    place = (z[:, None, None] + y[:, None]) + (x + offset)
    return (place < -0.5 - _ON_VOXEL) | (place > length - 0.5 + _ON_VOXEL)


def _cast(values: np.ndarray, dtype: np.dtype, within: bool) -> np.ndarray:
    """Round to `dtype` where it holds whole numbers, in place, and clip unless the values are within its range."""
    if dtype == values.dtype:
        return values
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind == "f":
        return values.astype(dtype)
    if values.dtype.kind in "iu":
        return values.astype(dtype)
    rounded = np.rint(values, out=values)
    if within and dtype.itemsize < 8:
        # Between whole numbers lies nothing beyond them: only splines overshoot.
        return rounded.astype(dtype)
    limits = np.iinfo(dtype)
    result = np.clip(rounded, limits.min, limits.max).astype(dtype)
    if dtype.itemsize == 8:
        # The largest 64-bit integers are no floats: what was clipped to the float above them overflowed.
        result[rounded >= float(limits.max)] = limits.max
    return result
