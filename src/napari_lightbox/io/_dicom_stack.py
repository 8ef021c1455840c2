"""From single slices to one stack: where they lie, and what is irregular about them. Pure geometry.

Tolerances
    Orientation: direction cosines may differ by 5e-4 from slice to slice. Position: even spacing is that of the
    straight line closest to all positions. A slice may lie 2 % of the slice distance (at least 0.01 mm) before or
    behind, and 2 % of a pixel (at least 0.01 mm) beside its place on that line; where all positions of a series are
    written with few decimals, by what rounding to these moves it (at most 20 %). Two images are at one place where
    they differ by less than 2 % of the slice distance. A stack that leans by less than 0.05 degree keeps its lean in
    the affine and nothing is said; one that leans more is tilted. Pixel spacing may differ by 0.01 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FileError
from . import convention
from ._dicom_slices import Slice

_COSINE = 5e-4
_SHARE = 0.02
_LEAST = 0.01  # mm
_ROUNDED = 0.2
_LEAN = 0.05  # degrees
# A slice this close to a place of the even stack, in steps, is taken as it is.
ON_PLACE = 0.05
_DECIMALS = 6


@dataclass(frozen=True)
class Stack:
    """Where slices lie.

    Parameters
    ----------
    affine : (4, 4) array
        Index (z, y, x) to LPS mm (z, y, x): of the slices themselves where `problem` is None, else of an even stack of
        `count` slices from the first one on.
    problem : str or None
        Sentence about what is uneven, without remedy.
    positions : (slices,) array
        Where on the axis of that even stack each slice lies, in steps of it.
    count : int
        Slices of the even stack.
    usual : float
        Usual distance of the slices along the stack, mm.
    missing : bool
        Whether slices are missing out of an even stack.
    tilt : float
        Degrees by which the stack leans; 0 where it is right-angled within the tolerance.
    """

    affine: np.ndarray
    problem: str | None
    positions: np.ndarray
    count: int
    usual: float
    missing: bool = False
    tilt: float = 0.0


# Which slices go together -----------------------------------------------------------------------------------------


def alike(slices: Sequence[Slice], name: str) -> list[list[Slice]]:
    """Sort slices into those of one size, orientation and pixel spacing, the first first.

    Raises
    ------
    FileError
        If one has an impossible geometry.
    """
    found: list[list[Slice]] = []
    for s in slices:
        _require_possible(s, name)
        for group in found:
            if _alike(s, group[0]):
                group.append(s)
                break
        else:
            found.append([s])
    return found


def _require_possible(s: Slice, name: str) -> None:
    if s.pixel_spacing is None:
        raise FileError(f"{name} has no Pixel Spacing in {s.label}: its header is wrong")
    pair = s.orientation.reshape(2, 3)
    if not (np.isfinite(pair).all() and np.abs(pair @ pair.T - np.eye(2)).max() < 1e-2):
        raise FileError(f"{name} has no valid orientation in {s.label}: its header is wrong")
    if not (np.isfinite(s.position).all() and np.isfinite(s.pixel_spacing).all() and (s.pixel_spacing > 0).all()):
        raise FileError(f"{name} has an impossible position or pixel spacing in {s.label}: its header is wrong")


def _alike(one: Slice, other: Slice) -> bool:
    return (
        one.size == other.size
        and np.abs(one.orientation - other.orientation).max() <= _COSINE
        and np.allclose(one.pixel_spacing, other.pixel_spacing, rtol=1e-4)
    )


def axes(s: Slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors (x, y, z) along a row, along a column and along the normal of a slice."""
    # Cosines in a header are rounded; once they are perpendicular and of length 1, the pixel spacing holds exactly.
    row = s.orientation[:3] / np.linalg.norm(s.orientation[:3])
    column = s.orientation[3:] - (row @ s.orientation[3:]) * row
    column /= np.linalg.norm(column)
    return row, column, np.cross(row, column)


def by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Sort slices along their normal; those at one position come together."""
    normal = axes(slices[0])[2]
    depths = np.array([s.position @ normal for s in slices])
    order = np.argsort(depths, kind="stable")
    steps = np.diff(depths[order])
    limit = _one_place(depths[order])
    found = [[slices[order[0]]]]
    for index, step in zip(order[1:], steps, strict=True):
        if step > limit:
            found.append([])
        found[-1].append(slices[index])
    return found


def _one_place(depths: np.ndarray) -> float:
    """Return how far apart neighbours may be, mm, to lie at one place; `depths` are sorted."""
    # As many images at every place, and these together: then the distance of the places is known, however the images
    # at one of them scatter.
    for count in range(3, len(depths) // 2 + 1):
        if len(depths) % count:
            continue
        places = depths.reshape(count, -1)
        allowed = _SHARE * float(np.median(np.diff(places.mean(axis=1))))
        if allowed > 1e-3 and np.ptp(places, axis=1).max() <= allowed < (places[1:, 0] - places[:-1, -1]).min():
            return allowed
    steps = np.diff(depths)
    apart = steps[steps > _LEAST]
    return max(1e-3, _SHARE * np.median(apart) if apart.size else 0)


# Where they lie ---------------------------------------------------------------------------------------------------


def stack(slices: Sequence[Slice], name: str) -> Stack:
    """Place slices, one at each position, sorted along their normal.

    Parameters
    ----------
    slices : sequence of Slice
        All alike, with position, orientation and pixel spacing.
    name : str
        The series, as the subject of a sentence.

    Raises
    ------
    FileError
        If they are shifted sideways so that no even stack can be made of them.
    """
    first = slices[0]
    row, column, normal = axes(first)
    if len(slices) == 1:
        length = abs(first.thickness or 1.0)
        return Stack(_affine(first, first.position, row, column, normal * length), None, np.zeros(1), 1, length)
    positions = np.stack([s.position for s in slices])
    rounding = _rounding(positions)
    depths = (positions - first.position) @ normal
    lean, tilt = _lean(slices, positions, depths, normal, rounding, name)
    leaning = normal + lean
    places = np.arange(len(slices), dtype=float)
    mean, start = _line(places, depths)
    if np.abs(depths - (start + mean * places)).max() <= _allowed(mean, rounding):
        # What the positions share is surer than the first of them.
        origin = positions.mean(axis=0) - leaning * mean * places.mean()
        step, problem, count, missing = mean, None, len(slices), False
    else:
        step, missing = _even_step(depths, rounding)
        origin, places = first.position, depths / step
        problem = _uneven(slices, depths, rounding, name)
        # Behind the last slice there is nothing to interpolate to.
        count = int(np.floor(places[-1] + ON_PLACE)) + 1
    usual = float(np.median(np.diff(depths)) if problem else step) * float(np.linalg.norm(leaning))
    return Stack(_affine(first, origin, row, column, leaning * step), problem, places, count, usual, missing, tilt)


def _affine(first: Slice, origin: np.ndarray, row: np.ndarray, column: np.ndarray, step: np.ndarray) -> np.ndarray:
    # A fit through places that are exact is off by the last digits: those of the file are kept.
    origin = first.position if np.abs(origin - first.position).max() < 1e-6 else origin
    return convention.from_dicom((*row, *column), origin, first.pixel_spacing, step)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and start of the straight line closest to the points."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def _rounding(positions: np.ndarray) -> float:
    """Return how far off a position may be, mm, by being written with few decimals."""
    for decimals in range(1, _DECIMALS):
        if np.abs(positions - np.round(positions, decimals)).max() < 1e-9:
            return 0.51 * 10.0**-decimals * np.sqrt(3)
    return 0.0


def _allowed(length: float, rounding: float) -> float:
    """Return how far off a place may be, mm, where slices or pixels are `length` apart."""
    return max(_LEAST, _SHARE * length, min(rounding, _ROUNDED * length))


def _lean(
    slices: Sequence[Slice],
    positions: np.ndarray,
    depths: np.ndarray,
    normal: np.ndarray,
    rounding: float,
    name: str,
) -> tuple[np.ndarray, float]:
    """Return the shift sideways for each mm along the normal, and the angle in degrees if it is a tilt."""
    allowed = _allowed(float(min(slices[0].pixel_spacing)), rounding)
    beside = positions - np.outer(positions @ normal, normal)
    beside = beside - beside.mean(axis=0)
    if np.linalg.norm(beside, axis=1).max() <= allowed:
        return np.zeros(3), 0.0
    centred = depths - depths.mean()
    lean = centred @ beside / (centred @ centred)
    crooked = np.linalg.norm(beside - np.outer(centred, lean), axis=1)
    if crooked.max() > allowed:
        worst = slices[int(np.argmax(crooked))].label
        raise FileError(
            f"{name} has slices that are shifted sideways by up to {crooked.max():.3g} mm, most in {worst}: load them "
            "one by one"
        )
    angle = float(np.degrees(np.arctan(np.linalg.norm(lean))))
    return lean, angle if angle > _LEAN else 0.0


def _usual(depths: np.ndarray, rounding: float) -> tuple[float, np.ndarray, bool]:
    """Return the usual step, how many of it each step is, and whether all are whole."""
    steps = np.diff(depths)
    usual = float(np.median(steps))
    ratio = steps / usual
    tolerance = 2 * _allowed(usual, rounding)
    odd = np.abs(steps - usual) > tolerance
    whole = np.abs(ratio - np.round(ratio)) * usual <= tolerance
    return usual, ratio, bool(odd.any() and whole[odd].all() and (ratio[odd] > 1.5).all())


def _even_step(depths: np.ndarray, rounding: float) -> tuple[float, bool]:
    """Return the step of the even stack, and whether it only has gaps."""
    usual, ratio, gaps = _usual(depths, rounding)
    if gaps:
        return float(depths[-1] / np.round(ratio).sum()), True
    # The finest step that comes back; one that is there once may be an accident.
    steps = np.sort(np.diff(depths))
    tolerance = 2 * _allowed(usual, rounding)
    regular = [s for s in steps if np.count_nonzero(np.abs(steps - s) <= tolerance) > 1]
    finest = regular[0] if regular else usual
    return float(np.mean(steps[np.abs(steps - finest) <= tolerance])), False


def _uneven(slices: Sequence[Slice], depths: np.ndarray, rounding: float, name: str) -> str:
    usual, ratio, gaps = _usual(depths, rounding)
    steps = np.diff(depths)
    odd = np.flatnonzero(np.abs(steps - usual) > 2 * _allowed(usual, rounding))
    odd = odd if odd.size else np.array([int(np.argmax(np.abs(steps - steps.mean())))])
    if gaps:
        places = [
            f"{round(ratio[i]) - 1} between {slices[i].label} and {slices[i + 1].label} ({steps[i]:.4g} mm)"
            for i in odd
        ]
        return f"{name} has slices {usual:.4g} mm apart and some are missing: {listed(places)}"
    places = [f"{slices[i].label} to {slices[i + 1].label} ({steps[i]:.4g} mm)" for i in odd]
    return f"{name} has unevenly spaced slices, usually {usual:.4g} mm: {listed(places)}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Write names one after the other, the last of many as a number."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
