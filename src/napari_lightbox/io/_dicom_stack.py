"""From single slices to one regular stack, or to a sentence that says why there is none. Pure geometry.

Tolerances
    Orientation: direction cosines may differ by 5e-4 from slice to slice. Position: a slice may lie 2 % of the slice
    distance (at least 0.01 mm) before or behind, and 2 % of a pixel (at least 0.01 mm) beside the place where even
    spacing puts it. A stack that leans by less than 0.05 degree keeps its lean in the affine; one that leans more is
    tilted. Pixel spacing may differ by 0.01 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError
from . import convention

_COSINE = 5e-4
_SHARE = 0.02
_LEAST = 0.01  # mm
_LEAN = 0.05  # degrees


@dataclass
class Slice:
    """One image of a file.

    Parameters
    ----------
    label : str
        How a sentence names it: the file, or the frame in it.
    size : (rows, columns)
    position, orientation, pixel_spacing : arrays of float, or None
        Image Position and Orientation (Patient), and Pixel Spacing, mm.
    source : object
        What the reader needs to find the pixels again.
    """

    label: str
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    pixel_spacing: np.ndarray | None
    thickness: float | None = None
    source: Any = None


def arrange(slices: Sequence[Slice], name: str) -> tuple[list[Slice], np.ndarray]:
    """Sort slices along their normal and place them.

    Parameters
    ----------
    slices : sequence of Slice
        All with position, orientation and pixel spacing.
    name : str
        The series, as the subject of a sentence.

    Returns
    -------
    slices : list of Slice
        In order of growing distance along row direction x column direction.
    affine : (4, 4) array
        Index (z, y, x) to LPS mm (z, y, x).

    Raises
    ------
    FileError
        If they are not one regular stack: mixed sizes or orientations, duplicates, gaps, uneven steps, tilt.
    """
    _require_alike(slices, name)
    first = slices[0]
    # Cosines in a header are rounded; once they are perpendicular and of length 1, the pixel spacing holds exactly.
    row = first.orientation[:3] / np.linalg.norm(first.orientation[:3])
    column = first.orientation[3:] - (row @ first.orientation[3:]) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    depths = np.array([s.position @ normal for s in slices])
    order = np.argsort(depths, kind="stable")
    slices, depths = [slices[i] for i in order], depths[order]
    _require_single(slices, depths, name)
    alone = len(slices) == 1
    step = normal * (first.thickness or 1.0) if alone else _step(slices, depths, normal, name)
    return slices, convention.from_dicom((*row, *column), slices[0].position, first.pixel_spacing, step)


def _require_alike(slices: Sequence[Slice], name: str) -> None:
    first = slices[0]
    wrong = [s.label for s in slices if not _is_orientation(s.orientation)]
    if wrong:
        raise FileError(f"{name} has no valid orientation in {listed(wrong)}: its header is wrong")
    sizes = [s.label for s in slices if s.size != first.size]
    if sizes:
        raise FileError(
            f"{name} mixes image sizes: {listed(sizes)} differ from {first.label}; put them in a folder apart"
        )
    turned = [s.label for s in slices if np.abs(s.orientation - first.orientation).max() > _COSINE]
    if turned:
        raise FileError(
            f"{name} mixes orientations: {listed(turned)} differ from {first.label}; put them in a folder apart"
        )
    for s in slices:
        if not (np.isfinite(s.position).all() and np.isfinite(s.pixel_spacing).all() and (s.pixel_spacing > 0).all()):
            raise FileError(f"{name} has an impossible position or pixel spacing in {s.label}: its header is wrong")
    scaled = [s.label for s in slices if not np.allclose(s.pixel_spacing, first.pixel_spacing, rtol=1e-4)]
    if scaled:
        raise FileError(
            f"{name} mixes pixel spacings: {listed(scaled)} differ from {first.label}; put them in a folder apart"
        )


def _is_orientation(cosines: np.ndarray) -> bool:
    """Whether six numbers are two perpendicular directions, rounding apart."""
    pair = cosines.reshape(2, 3)
    return bool(np.isfinite(pair).all() and np.abs(pair @ pair.T - np.eye(2)).max() < 1e-2)


def _require_single(slices: Sequence[Slice], depths: np.ndarray, name: str) -> None:
    """Refuse two images at one place."""
    steps = np.diff(depths)
    new = np.concatenate(
        [[True], steps > max(1e-3, _SHARE * (np.median(steps[steps > 1e-3]) if np.any(steps > 1e-3) else 0))]
    )
    counts = np.diff(np.append(np.flatnonzero(new), len(slices)))
    if (counts == 1).all():
        return
    if len(counts) > 1 and (counts == counts[0]).all():
        raise FileError(
            f"{name} holds {counts[0]} images at each of {len(counts)} positions, several volumes in one series "
            "(times, echoes or b-values), which cannot be loaded yet: convert it to a 4D NIfTI file"
        )
    start = int(np.flatnonzero(new)[np.argmax(counts > 1)])
    same = [s.label for s in slices[start : start + int(counts[counts > 1][0])]]
    raise FileError(f"{name} has duplicate slices: {listed(same)} lie at the same position; remove all but one")


def _step(slices: Sequence[Slice], depths: np.ndarray, normal: np.ndarray, name: str) -> np.ndarray:
    """Return the vector from slice to slice, or say what is irregular."""
    count = len(slices)
    mean = (depths[-1] - depths[0]) / (count - 1)
    off = depths - (depths[0] + mean * np.arange(count))
    if np.abs(off).max() > max(_LEAST, _SHARE * mean):
        raise FileError(_uneven(slices, depths, name))
    positions = np.stack([s.position for s in slices])
    pixel = float(min(slices[0].pixel_spacing))
    beside = positions - positions[0] - np.outer(depths - depths[0], normal)
    if np.linalg.norm(beside, axis=1).max() <= max(_LEAST, _SHARE * pixel):
        return normal * mean
    lean = beside[-1] / (count - 1)
    crooked = np.linalg.norm(beside - np.outer(np.arange(count), lean), axis=1)
    if crooked.max() > max(_LEAST, _SHARE * pixel):
        worst = slices[int(np.argmax(crooked))].label
        raise FileError(
            f"{name} has slices that are shifted sideways by up to {crooked.max():.3g} mm, most in {worst}: load them "
            "one by one"
        )
    angle = float(np.degrees(np.arctan2(np.linalg.norm(lean), mean)))
    if angle > _LEAN:
        raise FileError(
            f"{name} is tilted by {angle:.3g} degrees (gantry tilt) from {slices[0].label} to {slices[-1].label}, "
            "which cannot be loaded yet: convert it to a NIfTI file with the tilt corrected"
        )
    return normal * mean + lean


def _uneven(slices: Sequence[Slice], depths: np.ndarray, name: str) -> str:
    steps = np.diff(depths)
    usual = float(np.median(steps))
    tolerance = max(_LEAST, _SHARE * usual)
    ratio = steps / usual
    odd = np.flatnonzero(np.abs(steps - usual) > tolerance)
    whole = np.abs(ratio - np.round(ratio)) * usual <= tolerance
    if odd.size and whole[odd].all() and (ratio[odd] > 1.5).all():
        gaps = [
            f"{round(ratio[i]) - 1} between {slices[i].label} and {slices[i + 1].label} ({steps[i]:.4g} mm)"
            for i in odd
        ]
        return (
            f"{name} has slices {usual:.4g} mm apart and some are missing: {listed(gaps)}; copy the whole series again"
        )
    odd = odd if odd.size else np.array([int(np.argmax(np.abs(steps - steps.mean())))])
    places = [f"{slices[i].label} to {slices[i + 1].label} ({steps[i]:.4g} mm)" for i in odd]
    return (
        f"{name} has unevenly spaced slices, usually {usual:.4g} mm: {listed(places)}; such series cannot be loaded "
        "yet, resample it to even slices first"
    )


def listed(names: Sequence[str], most: int = 4) -> str:
    """Write names one after the other, the last of many as a number."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
