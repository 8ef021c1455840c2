"""What every operation that fetches voxels from elsewhere has in common, whatever the rule by which it finds them."""

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ..geometry import Grid
from ..volume import Volume, map_frames
from . import _check

ORDERS = ("nearest", "linear", "cubic")


def pull_volume(
    volume: Volume,
    target: Grid,
    order: str,
    fill: float | None,
    fetch: Callable[[np.ndarray, str, float], np.ndarray],
) -> Volume:
    """Fetch every voxel of a grid, frame by frame.

    Parameters
    ----------
    volume : Volume
        3D or 4D.
    target : Grid
        Grid of the result, without frames.
    order : {"nearest", "linear", "cubic"}
        Interpolation; labels always take the nearest.
    fill : float or None
        Value outside the volume, as `fill_value` has it.
    fetch : callable
        From one frame's voxels (z, y, x), the interpolation and the value outside, the voxels of the result, of the
        same type.
    """
    order = _check.choice(order, ORDERS, "order")
    if volume.kind == "labels":
        order = "nearest"
    needed = int(np.prod(target.shape, dtype=float)) * np.dtype(volume.data.dtype).itemsize * volume.frame_count
    _check.memory(needed, f"a result of {' x '.join(map(str, reversed(target.shape)))} voxels", "use larger voxels")
    value = fill_value(volume, fill)

    def one_frame(frame: Volume) -> Volume:
        data = _check.image(frame.data, "volume", dims=(3,))
        if order == "cubic":
            _check.finite(data, "volume", "a spline would spread them, so use order linear or nearest, or replace them")
        moved = fetch(data, order, value(data))
        if volume.kind == "probability":
            np.clip(moved, 0, 1, out=moved)
        return frame.replace(data=moved, grid=target)

    return map_frames(one_frame, volume)


def fill_value(volume: Volume, fill: float | None) -> Callable[[np.ndarray], float]:
    """Return what says, from a frame's voxels, the value outside: `fill`, else the smallest, or 0 if no image."""
    if fill is None and volume.kind != "image":
        fill = 0.0
    if fill is None:
        return smallest
    value = _fitting(fill, np.dtype(volume.data.dtype))
    return lambda data: value


def smallest(data: np.ndarray) -> float:
    """Return the smallest finite value, 0 where there is none."""
    if data.dtype.kind != "f":
        return data.min().item()
    lowest = np.min(data, initial=np.inf, where=np.isfinite(data))
    return float(lowest) if np.isfinite(lowest) else 0.0


def _fitting(fill: float, dtype: np.dtype) -> float:
    """Return `fill` if voxels of `dtype` can hold it."""
    try:
        value = float(fill)
    except (TypeError, ValueError):
        raise InputError(f"fill must be a number, not {fill!r}") from None
    if dtype.kind == "f":
        return value
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not (np.isfinite(value) and value == int(value) and low <= value <= high):
        raise InputError(f"fill {fill!r} does not fit voxels of type {dtype}: use a whole number from {low} to {high}")
    return value
