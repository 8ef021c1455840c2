"""What every operation asks of its arguments, and the sentences it says when they do not fit.

An array is never taken for a colour picture by its shape: a volume may well have three slices. All axes are spatial.
"""

import math
import os
import re
from collections.abc import Sequence

import numpy as np

from ..errors import InputError


def image(array, name: str = "image", dims: Sequence[int] | None = None) -> np.ndarray:
    """Return `array` as a numpy array of real numbers in this machine's byte order, or say what is wrong with it.

    The voxels are shared with the caller wherever they need no conversion: nothing may be written into them.

    Parameters
    ----------
    array : array_like
        Numbers; lazy arrays are computed.
    name : str
        Name of the argument.
    dims : sequence of int, optional
        Numbers of axes that are allowed.

    Raises
    ------
    InputError
        If it is a Volume, complex, structured (RGB records), not numeric, empty, or has the wrong number of axes.
    """
    if hasattr(array, "grid") and hasattr(array, "data"):
        raise InputError(f"{name} is a Volume: give its voxels, {name}.data, and where asked for its grid.spacing")
    array = np.asarray(array)
    dtype = array.dtype
    if dtype.kind == "c":
        raise InputError(f"{name} is complex ({dtype}): take its magnitude or phase first")
    if dtype.names is not None:
        raise InputError(f"{name} holds records {dtype.names}: give one channel at a time")
    if dtype.kind not in "buif":
        raise InputError(f"{name} of type {dtype} holds no real numbers: convert it to integers or floats first")
    if dtype.kind == "f" and dtype.itemsize > 8:
        raise InputError(f"{name} of type {dtype} is not supported: convert it to float64 first")
    if array.ndim == 0:
        raise InputError(f"{name} is a single number: give an array with at least one axis")
    if array.size == 0:
        raise InputError(f"{name} of shape {array.shape} is empty: every axis needs at least one voxel")
    if dims is not None and array.ndim not in dims:
        wanted = " or ".join(str(d) for d in dims)
        raise InputError(f"{name} of shape {array.shape} has {array.ndim} axes where {wanted} are needed")
    if not dtype.isnative:
        return array.astype(dtype.newbyteorder("="))
    # A native type may still be written out as little-endian, as readers of files do, and some libraries refuse that.
    return array if dtype.byteorder in "=|" else array.view(dtype.newbyteorder("="))


def labels(array, name: str = "labels", dims: Sequence[int] | None = None) -> np.ndarray:
    """Return `array` as whole numbers (bool counts as 0 and 1), or say what is wrong with it."""
    array = image(array, name, dims)
    if array.dtype.kind == "f":
        raise InputError(f"{name} of type {array.dtype} are not whole numbers: round them to integers first")
    return array.view(np.uint8) if array.dtype == bool else array


def finite(array: np.ndarray, name: str, reason: str) -> None:
    """Raise unless every value is finite; `reason` says why NaN and infinite values cannot be used."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values: {reason}")


def same_shape(first: np.ndarray, second: np.ndarray, names: tuple[str, str]) -> None:
    """Raise unless both arrays have the same shape."""
    if first.shape != second.shape:
        raise InputError(f"{names[0]} of shape {first.shape} and {names[1]} of shape {second.shape} do not match")


def number(value, name: str, *, above: float | None = None, least: float | None = None) -> float:
    """Return `value` as a finite float above `above` and at least `least`."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(result):
        raise InputError(f"{name} must be finite, not {value!r}")
    if above is not None and not result > above:
        raise InputError(f"{name} must be greater than {above:g}, not {value!r}")
    if least is not None and not result >= least:
        raise InputError(f"{name} must be at least {least:g}, not {value!r}")
    return result


def whole(value, name: str, least: int = 1) -> int:
    """Return `value` as a whole number of at least `least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    if value != value or value in (math.inf, -math.inf) or int(value) != value or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    if value > 2**31:
        raise InputError(f"{name} must be at most {2**31}: use a smaller number")
    return int(value)


def odd(value, name: str, least: int = 1) -> int:
    """Return `value` as an odd whole number of at least `least`."""
    result = whole(value, name, least)
    if result > 999:
        raise InputError(f"{name} must be at most 999 voxels, not {value:g}: use a smaller window")
    if result % 2 == 0:
        raise InputError(f"{name} must be odd, so that the window has a centre: use {result - 1} or {result + 1}")
    return result


def odd_sizes(size, ndim: int, name: str = "size") -> tuple[int, ...]:
    """Return one odd window size for each of `ndim` axes, from one number or one number an axis."""
    if isinstance(size, (Sequence, np.ndarray)) and not isinstance(size, str):
        if len(size) != ndim:
            raise InputError(f"{name} {tuple(size)} has {len(size)} values for an image with {ndim} axes")
        return tuple(odd(s, name) for s in size)
    return (odd(size, name),) * ndim


def choice(value, options: Sequence, name: str):
    """Return `value` if it is one of `options`."""
    if not any(value is option or (type(value) is type(option) and value == option) for option in options):
        raise InputError(f"{name} {value!r} is unknown: use one of {', '.join(str(o) for o in options)}")
    return value


def vector(values, name: str, length: int) -> np.ndarray:
    """Return `length` finite numbers."""
    try:
        result = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be {length} numbers, not {values!r}") from None
    if result.shape != (length,):
        raise InputError(f"{name} must be {length} numbers, not {values!r}")
    if not np.isfinite(result).all():
        raise InputError(f"{name} must be finite, not {values!r}")
    return result


def steps(spacing, ndim: int) -> np.ndarray:
    """Return the distance of neighbouring voxels along each of `ndim` axes, in mm."""
    result = vector(spacing, "spacing", ndim)
    if not (result > 0).all():
        raise InputError(f"spacing must be greater than zero mm, not {tuple(result.tolist())}")
    return result


def parse_points(text: str, name: str = "points") -> np.ndarray:
    """Read points typed by a person: numbers separated by commas or blanks, points by semicolons or line ends.

    Parameters
    ----------
    text : str
        ``"12, 30; -5, 8"``.
    name : str
        Name of the argument, for the error.

    Returns
    -------
    ndarray of float64
        (points, numbers a point); (0, 0) for an empty text.

    Raises
    ------
    InputError
        If something is not a number, or the points have different lengths.

    Examples
    --------
    >>> parse_points("12, 30; -5, 8").tolist()
    [[12.0, 30.0], [-5.0, 8.0]]
    """
    rows = [re.sub(r"[()\[\]]", " ", part).replace(",", " ").split() for part in re.split(r"[;\n]", text)]
    rows = [row for row in rows if row]
    try:
        points = [[float(word) for word in row] for row in rows]
    except ValueError:
        raise InputError(f"{name} {text!r} cannot be read: write numbers such as '12, 30; -5, 8'") from None
    if len({len(row) for row in points}) > 1:
        raise InputError(f"{name} {text!r} cannot be read: every point needs equally many numbers")
    return np.array(points, dtype=float).reshape(len(points), -1) if points else np.zeros((0, 0))


def parse_matrix(text: str, name: str = "matrix") -> list[list[float]]:
    """Read a 4x4 matrix as a person types it, for points (x, y, z, 1), and turn it into array order.

    Parameters
    ----------
    text : str
        Four rows of four numbers, apart by semicolons or line ends; also as Python writes nested lists.
    name : str
        Name of the argument, for the error.

    Returns
    -------
    list of list of float
        The same movement for points (z, y, x, 1).

    Raises
    ------
    InputError
        If it is not made of 16 numbers.

    Examples
    --------
    >>> [row[3] for row in parse_matrix("1,0,0,5; 0,1,0,0; 0,0,1,0; 0,0,0,1")]
    [0.0, 0.0, 5.0, 1.0]
    """
    try:
        rows = parse_points(text, name)
    except InputError:
        rows = np.zeros((0, 0))
    if rows.shape not in ((4, 4), (1, 16)):
        raise InputError(
            f"{name} {text[:60]!r} is no 4x4 matrix: write its rows in the order x, y, z, as in "
            "1,0,0,5; 0,1,0,0; 0,0,1,0; 0,0,0,1"
        )
    return swapped_matrix(rows.reshape(4, 4)).tolist()


def swapped_matrix(matrix) -> np.ndarray:
    """Turn a (4, 4) matrix for points (x, y, z, 1) into one for (z, y, x, 1), or back."""
    order = (2, 1, 0, 3)
    return np.asarray(matrix, dtype=float)[np.ix_(order, order)]


def points(values, columns: int, name: str) -> np.ndarray:
    """Return (n, `columns`) finite numbers with at least one row, from an array, a list, one point or typed text."""
    if isinstance(values, str):
        values = parse_points(values, name)
    try:
        result = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be points of {columns} numbers each, not {values!r}") from None
    if result.size == 0:
        raise InputError(f"{name} is empty: give at least one point of {columns} numbers")
    if result.ndim == 1:
        result = result[None]
    if result.ndim != 2 or result.shape[1] != columns:
        raise InputError(f"{name} of shape {result.shape} must be points of {columns} numbers each, one point a row")
    if not np.isfinite(result).all():
        raise InputError(f"{name} holds NaN or infinite values: {result.tolist()}")
    return result


def memory(needed: int, what: str, remedy: str) -> None:
    """Raise if `needed` bytes are more than this machine has at all."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if needed > total:
        raise InputError(f"{what} would need {needed / 1e9:.1f} GB, this machine has {total / 1e9:.1f} GB: {remedy}")


def float_type(dtype: np.dtype) -> np.dtype:
    """Return the float type of a result: float32 where that holds every value of `dtype` exactly, else float64."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 or dtype == np.float32 else np.dtype(np.float64)
