"""What is done to values on their way out of a file."""

import numpy as np

# ITU-R BT.601: what the eye takes red, green and blue for.
_LUMA = np.array([0.299, 0.587, 0.114])


def whole_type(low: int, high: int, slope: int, inter: int) -> np.dtype | None:
    """Return the smallest integer type for the stored values `low` to `high` after scaling, or None."""
    ends = (low * slope + inter, high * slope + inter)
    for name in ("uint8", "int16", "uint16", "int32", "uint32", "int64"):
        limits = np.iinfo(name)
        if limits.min <= min(ends) and max(ends) <= limits.max:
            return np.dtype(name)
    return None


def grey(colours: np.ndarray) -> tuple[np.ndarray, bool]:
    """Turn (..., 3) red, green, blue into one value each.

    Returns
    -------
    values : array of the same type
        The common value where the three are equal everywhere, else the luminance of ITU-R BT.601, rounded.
    converted : bool
        Whether there was colour to lose.
    """
    if np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2]):
        return np.ascontiguousarray(colours[..., 0]), False
    values = colours @ _LUMA
    return (np.rint(values) if colours.dtype.kind in "iu" else values).astype(colours.dtype), True
