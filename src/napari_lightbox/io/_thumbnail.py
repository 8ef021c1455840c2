"""A small picture of one slice, right way up and with the right aspect."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..geometry import Grid

# What is shown to the right and downwards of a plane perpendicular to world z, y, x: the world axis, and whether it is
# turned round. Radiological: the patient's right is on the left, anterior and superior are up.
_SHOWN = {0: ((2, False), (1, False)), 1: ((2, False), (0, True)), 2: ((1, False), (0, True))}
_ENDS = (1, 99)  # percentiles, where the file has no window


def picture(
    values: np.ndarray,
    grid: Grid,
    size: int,
    windows: Sequence[Mapping[str, Any]] = (),
    inverted: bool = False,
    oriented: bool = True,
) -> np.ndarray:
    """Draw a slice.

    Parameters
    ----------
    values : (rows, columns) array
    grid : Grid
        Of the volume it is from; its last two axes are those of the slice.
    size : int
        Pixels of the picture along both axes.
    windows : sequence of mapping
        ``{"centre", "width"}``; the first is used. Without one the middle 98 % of the values are spread.
    inverted : bool
        Show low values bright.
    oriented : bool
        Whether the position in the patient is known; if not the slice is shown as it is stored.

    Returns
    -------
    (size, size) array of uint8
        The slice in the middle, black around it.

    Examples
    --------
    >>> picture(np.eye(4), Grid.from_spacing((1, 2, 1), (1, 4, 4)), 8)[:, [1, 2, 6]].sum(axis=0).tolist()
    [0, 510, 0]
    """
    from PIL import Image

    height, width = grid.spacing[1:]
    if oriented:
        order, flips = _turn(grid)
        values = values.T if order == (1, 0) else values
        height, width = (width, height) if order == (1, 0) else (height, width)
        values = values[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    shown = _windowed(values, windows)
    shown = 255 - shown if inverted else shown
    tall, wide = shown.shape[0] * height, shown.shape[1] * width
    scale = size / max(tall, wide)
    small = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    method = Image.Resampling.NEAREST if max(shown.shape) < size / 2 else Image.Resampling.BILINEAR
    drawn = np.asarray(Image.fromarray(np.ascontiguousarray(shown)).resize(small, method))
    result = np.zeros((size, size), np.uint8)
    top, left = (size - drawn.shape[0]) // 2, (size - drawn.shape[1]) // 2
    result[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return result


def _turn(grid: Grid) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Return the order of the two axes of a slice, downwards first, and which are to be flipped then."""
    axis_of_world, flips = grid.closest_axes()
    (right, right_turned), (down, down_turned) = _SHOWN[axis_of_world.index(0)]
    order = (axis_of_world[down] - 1, axis_of_world[right] - 1)
    return order, (flips[down] != down_turned, flips[right] != right_turned)


def _windowed(values: np.ndarray, windows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if windows:
        low = windows[0]["centre"] - windows[0]["width"] / 2
        high = low + windows[0]["width"]
    elif finite.size:
        low, high = np.percentile(finite, _ENDS)
        if low == high:
            low, high = finite.min(), finite.max()
    else:
        low = high = 0.0
    share = np.nan_to_num((values - low) / (high - low)) if high > low else np.zeros(values.shape)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
