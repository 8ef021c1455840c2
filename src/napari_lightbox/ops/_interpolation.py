"""What all ways of resampling share: the rule for voxels equally near, spline coefficients, rounding."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from . import _tiles

# A nearest voxel is chosen between two at the same distance by rounding up; this keeps float noise out of the choice.
UPWARD = 1e-7
_LINES = 1 << 22
# Voxels that are rounded at a time: they stay in a core's cache.
_ROUND = 1 << 16


def coefficients(data: np.ndarray, axes: Sequence[int] = (0, 1, 2)) -> np.ndarray:
    """Return the coefficients of the cubic B-spline through `data` along some axes; works in place."""
    for axis in axes:
        along = data.ndim - 1 if axis != data.ndim - 1 else 0
        if data.size > _LINES * data.shape[along]:
            # Slabs along it would be too large however thin: few planes, or one.
            along = max((a for a in range(data.ndim) if a != axis), key=data.shape.__getitem__)
        lines = np.moveaxis(data, along, 0)

        def work(slab: slice, lines=lines, axis=axis, along=along) -> None:
            part = np.moveaxis(lines[slab], 0, along)
            part[...] = ndimage.spline_filter1d(part, 3, axis=axis, output=np.float64, mode="mirror")

        _tiles.run(work, _tiles.slabs(lines.shape, _LINES), "slabs")
    return data


def store(values: np.ndarray, out: np.ndarray, within: bool) -> None:
    """Write `values` into `out`, rounded where it holds whole numbers, and clipped unless they are within its range."""
    if out.dtype.kind == "b":
        np.greater_equal(values, 0.5, out=out)
        return
    if out.dtype.kind == "f" or values.dtype.kind in "iu":
        # What stands for infinity in float32 is infinite in half of that.
        with np.errstate(over="ignore"):
            out[...] = values
        return
    if within and out.dtype.itemsize < 8:
        # Between whole numbers lies nothing beyond them: only splines overshoot.
        np.rint(values, out=out, casting="unsafe")
        return
    limits = np.iinfo(out.dtype)
    top = float(limits.max)
    for block in _tiles.blocks(values.shape, _ROUND):
        rounded = np.rint(values[block])
        # The largest 64-bit integers are no doubles: the double at or above them must not be converted.
        out[block] = np.clip(rounded, limits.min, top if top <= limits.max else np.nextafter(top, 0))
        out[block][rounded >= top] = limits.max
