"""Slices that are tilted, uneven or incomplete, resampled (linear) to an even, right-angled stack."""

import numpy as np

from ..ops import _resample
from ..progress import track
from . import convention
from ._bytes import require_memory
from ._carry import Found
from ._dicom_stack import ON_PLACE, Stack

# An interpolated slice whose neighbours are farther apart than this many usual distances fills a gap.
_GAP = 1.5


def resampled(data: np.ndarray, stack: Stack, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Resample to the even stack that `stack` proposes.

    Parameters
    ----------
    data : (frame, z, y, x) array
        One slice for each of ``stack.positions``.
    stack : Stack
    found : Found
        Gets notes, and where slices are uneven in ``meta["gaps"]`` the indices of those that fill a gap.

    Returns
    -------
    data : (frame, z, y, x) array
        Of the type of `data`; whole numbers are rounded.
    affine : (4, 4) array
        Of the result.
    """
    affine = stack.affine
    if stack.problem is not None:
        data, between, gaps = _even(data, stack, found)
        found.meta["gaps"] = gaps
        found.notes.append(_told(stack, between, gaps))
    if stack.tilt:
        data, affine = _upright(data, affine, found)
        found.notes = [n for n in found.notes if not n.startswith("the gantry was tilted")]
        found.notes.append(f"a gantry tilt of {stack.tilt:.3g} degrees was resampled (linear) to right angles")
    return data, affine


def _told(stack: Stack, between: list[int], gaps: list[int]) -> str:
    if stack.missing:
        one = len(gaps) == 1
        return (
            f"{'slice' if one else 'slices'} {_ranges(gaps)} (counted from 0) {'was' if one else 'were'} missing and "
            f"{'is' if one else 'are'} interpolated (linear)"
        )
    step = np.linalg.norm(stack.affine[:3, 0])
    note = f"unevenly spaced slices were resampled (linear) to {stack.count} slices {step:.4g} mm apart, "
    note += f"{len(between)} of them interpolated"
    note = f"{note}; {_ranges(gaps)} (counted from 0) fill gaps" if gaps else note
    beyond = float(stack.positions[-1]) - (stack.count - 1)
    if beyond > ON_PLACE:
        note += f"; the last {beyond * step:.3g} mm of the scan, beyond the last even slice, are left out"
    return note


def _even(data: np.ndarray, stack: Stack, found: Found) -> tuple[np.ndarray, list[int], list[int]]:
    """Interpolate along the stack; return the values, which slices are interpolated and which of these fill a gap."""
    shape = (data.shape[0], stack.count, *data.shape[2:])
    require_memory(found.path, int(np.prod(shape)) * data.dtype.itemsize)
    result = np.empty(shape, data.dtype)
    between, gaps = [], []
    positions = stack.positions
    step = float(np.linalg.norm(stack.affine[:3, 0]))
    for place in track(range(stack.count), "slices resampled"):
        near = int(np.argmin(np.abs(positions - place)))
        if abs(positions[near] - place) <= ON_PLACE or not positions[0] < place < positions[-1]:
            result[:, place] = data[:, near]
            continue
        above = int(np.searchsorted(positions, place))
        below = above - 1
        share = (place - positions[below]) / (positions[above] - positions[below])
        mixed = (1 - share) * data[:, below].astype(np.float64) + share * data[:, above]
        result[:, place] = np.rint(mixed) if data.dtype.kind in "iu" else mixed
        between.append(place)
        if positions[above] - positions[below] > _GAP * max(1.0, stack.usual / step):
            gaps.append(place)
    return result, between, gaps


def _upright(data: np.ndarray, affine: np.ndarray, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Resample a stack that leans to one that does not and that covers all of it."""
    xyz = convention.to_xyz(affine)
    row, column, step = xyz[:3, 0], xyz[:3, 1], xyz[:3, 2]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    upright = normal * (step @ normal)
    lean = step - upright
    count = data.shape[1]
    size, origin = [], xyz[:3, 3].copy()
    for direction, length in ((row, data.shape[3]), (column, data.shape[2])):
        shift = (lean @ direction) / (direction @ direction) * (count - 1)
        margin = int(np.ceil(abs(shift) - 1e-6))
        origin -= direction * (margin if shift < 0 else 0)
        size.append(length + margin)
    new = np.eye(4)
    new[:3] = np.stack([row, column, upright, origin], axis=1)
    new = convention.from_xyz(new)
    shape = (count, size[1], size[0])
    require_memory(found.path, len(data) * int(np.prod(shape)) * data.dtype.itemsize)
    fill = _fill(data, found.meta.get("padding_value"))
    matrix = np.linalg.inv(affine) @ new
    result = np.empty((len(data), *shape), data.dtype)
    for index, frame in enumerate(data):
        result[index] = _resample.pull(frame, matrix, shape, "linear", fill)
    found.notes.append(f"what lies outside the slices is filled with {fill:g}")
    return result, new


def _fill(data: np.ndarray, padding: float | None) -> float:
    """Return the value for what was not scanned: that of the file, or the lowest; zero would be water in CT."""
    if padding is not None and (data.dtype.kind == "f" or _holds(data.dtype, padding)):
        return float(padding)
    finite = data[np.isfinite(data)]
    return float(finite.min()) if finite.size else 0.0


def _holds(dtype: np.dtype, value: float) -> bool:
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _ranges(numbers: list[int]) -> str:
    """Write numbers as 3, 7-9."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
