"""One threshold, or two: voxels whose values lie between limits."""

import math
from typing import Annotated

import numpy as np

from .. import remarks
from ..types import ImageArray
from . import _check
from ._perturb_random import span

_BOUNDS = {"min": -1e9, "max": 1e9, "step": 0.05}
Limit = Annotated[float, _BOUNDS]
NoLimit = Annotated[float | None, _BOUNDS]


def threshold(image: ImageArray, low: Limit = 0.5, high: NoLimit = None) -> np.ndarray:
    """Mark the voxels whose value is at least a lower limit, and at most an upper one.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape: a probability, HU, ...
    low : float
        Lowest value that is marked, in the image's own values.
    high : float, optional
        Highest value that is marked; without it all from `low` on, infinity too.

    Returns
    -------
    ndarray
        uint8 of the same shape: 1 where ``low <= value <= high``, 0 elsewhere and where the value is NaN. Values and
        limits are compared as the real numbers that they are, without rounding a limit to the type of the image.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, a limit is no finite number, or `high` is below `low`.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th edition, section 10.3.

    Examples
    --------
    >>> threshold(np.array([-1000, -30, 40, 300]), -190, 100).tolist()
    [0, 1, 1, 0]
    """
    image = _check.image(image)
    low = _check.number(low, "low")
    found = image >= first_at_least(low, image.dtype)
    if high is not None:
        high = _check.number(high, "high", least=low)
        # What lies above is below the first value that is greater.
        found &= image < first_at_least(math.nextafter(high, math.inf), image.dtype)
    if not found.any():
        least, most = span(image)
        between = f"from {low:g} on" if high is None else f"between {low:g} and {high:g}"
        remarks.note(f"nothing is marked: no voxel lies {between}, they go from {least:g} to {most:g}")
    return found.view(np.uint8)


def first_at_least(limit: float, dtype: np.dtype) -> np.generic | float | int:
    """Return the smallest value of a type that is not below a limit, so that comparing with it rounds nothing.

    Examples
    --------
    >>> float(first_at_least(0.1, np.dtype("f4"))) >= 0.1, first_at_least(2.5, np.dtype("i2"))
    (True, 3)
    """
    if dtype.kind != "f":
        # Beyond the type's range numpy compares with Python's whole numbers as they are.
        return math.ceil(limit)
    if dtype.itemsize >= 8:
        return limit
    kind = dtype.newbyteorder("=").type
    with np.errstate(over="ignore"):
        found = kind(limit)
    return found if float(found) >= limit else np.nextafter(found, kind(np.inf))
