"""Slices that are tilted, uneven or incomplete, resampled (linear) to an even, right-angled stack."""

from collections.abc import Sequence

import numpy as np

from ..ops import _resample
from ..progress import track
from . import convention
from ._bytes import require_memory
from ._carry import Found
from ._dicom_stack import ON_PLACE, Stack

# An interpolated slice whose neighbours are farther apart than this many usual distances fills a gap.
_GAP = 1.5
_MOST_TOLD = 6


def resampled(
    data: np.ndarray, stack: Stack, found: Found, holes: Sequence[tuple[int, int]] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Resample to the even stack that `stack` proposes.

    Parameters
    ----------
    data : (frame, z, y, x) array
        One slice for each of ``stack.positions``; what stands in `holes` is written over.
    stack : Stack
    found : Found
        Gets notes; where slices are uneven in ``meta["gaps"]`` the indices of those that fill a gap, and in
        ``meta["frame_gaps"]`` the [frame, slice] that were missing in single frames.
    holes : sequence of (int, int)
        Frame and position of images that are missing in that frame only; the first and last ones are none.

    Returns
    -------
    data : (frame, z, y, x) array
        Of the type of `data`; whole numbers are rounded.
    affine : (4, 4) array
        Of the result.
    """
    affine = stack.affine
    filled = np.zeros(data.shape[:2], bool)
    if holes:
        filled[tuple(np.transpose(holes))] = True
        _fill_holes(data, filled, stack)
    if stack.problem is not None:
        data, between, gaps, filled = _even(data, filled, stack, found)
        found.meta["gaps"] = gaps
        found.notes.append(_told(stack, between, gaps))
    if holes:
        found.meta["frame_gaps"] = np.argwhere(filled).tolist()
        found.notes += _told_of_frames(filled)
    if stack.tilt:
        data, affine = _upright(data, affine, found)
        found.notes = [n for n in found.notes if not n.startswith("the gantry was tilted")]
        found.notes.append(f"a gantry tilt of {stack.tilt:.3g} degrees was resampled (linear) to right angles")
    return data, affine


def _fill_holes(data: np.ndarray, filled: np.ndarray, stack: Stack) -> None:
    """Interpolate along the stack, inside the frame, what is missing in single frames."""
    for frame, place in track(np.argwhere(filled), "slices filled"):
        there = np.flatnonzero(~filled[frame])
        after = int(np.searchsorted(there, place))
        below, above = there[after - 1], there[after]
        data[frame, place] = _between(data[frame], stack.positions, below, above, stack.positions[place])


def _between(slices: np.ndarray, positions: np.ndarray, below: int, above: int, place: float) -> np.ndarray:
    share = (place - positions[below]) / (positions[above] - positions[below])
    mixed = (1 - share) * slices[..., below, :, :].astype(np.float64) + share * slices[..., above, :, :]
    return np.rint(mixed) if slices.dtype.kind in "iu" else mixed


def _told_of_frames(filled: np.ndarray) -> list[str]:
    """Say which slices of which frames are interpolated."""
    by_slices: dict[str, list[int]] = {}
    for frame in np.flatnonzero(filled.any(axis=1)).tolist():
        by_slices.setdefault(_ranges(np.flatnonzero(filled[frame]).tolist()), []).append(frame)
    words = [
        f"slice{'s' * (not slices.isdecimal())} {slices} of frame{'s' * (len(frames) > 1)} {_ranges(frames)}"
        for slices, frames in by_slices.items()
    ]
    if not words:
        return []
    one = filled.sum() == 1
    listing = ", ".join(words[:_MOST_TOLD]) + (" and others" if len(words) > _MOST_TOLD else "")
    return [
        f"{listing} (counted from 0) {'was' if one else 'were'} missing and {'is' if one else 'are'} interpolated "
        "(linear)"
    ]


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


def _even(
    data: np.ndarray, filled: np.ndarray, stack: Stack, found: Found
) -> tuple[np.ndarray, list[int], list[int], np.ndarray]:
    """Interpolate along the stack.

    Returns
    -------
    data : (frame, z, y, x) array
    between, gaps : list of int
        Slices that are interpolated, and those of these that fill a gap.
    filled : (frame, z) array of bool
        Slices, gaps aside, that come from what was `filled` in single frames.
    """
    shape = (data.shape[0], stack.count, *data.shape[2:])
    require_memory(found.path, int(np.prod(shape)) * data.dtype.itemsize)
    result = np.empty(shape, data.dtype)
    made = np.zeros(shape[:2], bool)
    between, gaps = [], []
    positions = stack.positions
    step = float(np.linalg.norm(stack.affine[:3, 0]))
    for place in track(range(stack.count), "slices resampled"):
        near = int(np.argmin(np.abs(positions - place)))
        if abs(positions[near] - place) <= ON_PLACE or not positions[0] < place < positions[-1]:
            result[:, place], made[:, place] = data[:, near], filled[:, near]
            continue
        above = int(np.searchsorted(positions, place))
        below = above - 1
        result[:, place] = _between(data, positions, below, above, place)
        between.append(place)
        if positions[above] - positions[below] > _GAP * max(1.0, stack.usual / step):
            gaps.append(place)
        else:
            made[:, place] = filled[:, below] | filled[:, above]
    return result, between, gaps, made


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
