"""Series with frames in which single images are missing: which frame lacks which, and what is done about it.

Positions where no image is missing say what the frames are. An image at another position belongs to the frame whose
images agree with it in all that is the same throughout a frame (b-value, echo time, trigger time, acquisition number,
...), or in its place in the order of instance numbers where these run evenly. Images that cannot be told so belong to
no frame for sure, and the series is refused.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import FileError
from ..geometry import Frames
from . import _dicom_marks as marks
from ._dicom_marks import Mark
from ._dicom_slices import Slice

Positions = list[list[Slice]]
# A frame and a position, both counted from 0.
Hole = tuple[int, int]


@dataclass
class Sorted:
    """Slices of one volume.

    Parameters
    ----------
    frames : list of list of Slice
        Frame by frame, position by position.
    axis : Frames or None
        What the frames are.
    suffix : str
        What tells it apart from its siblings of the same series.
    copies : list of (Slice, Slice)
        Slice that is kept, and one at its place that is left out if it has the same pixels.
    notes : list of str
        What people should know.
    meta : dict
        Further facts: ``gradient_directions``, of each frame a unit vector in the patient's axes (LPS x, y, z), or
        None without diffusion. Directions that GE writes along the axes of the image are not among them.
    holes : list of (int, int)
        Frame and position of images that are missing though other frames have them. In `frames` the nearest image of
        the same frame stands there, at the position of the one that is missing.
    """

    frames: list[list[Slice]]
    axis: Frames | None = None
    suffix: str = ""
    copies: list[tuple[Slice, Slice]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)


# Which frame an image belongs to ----------------------------------------------------------------------------------


def put_in(found: Sequence[Sorted], positions: Positions, known: Sequence[Mark]) -> bool:
    """Give volumes that were sorted out where all images are there those of the other positions, too.

    Parameters
    ----------
    found : list of Sorted
        Changed in place: of the positions with the most images.
    positions : list of list of Slice
        All of them.
    known : list of Mark
        What may tell images apart.

    Returns
    -------
    bool
        Whether every image belongs to one frame for sure; otherwise `found` is as it was.
    """
    frames = [frame for one in found for frame in one.frames]
    whole = [n for n, images in enumerate(positions) if len(images) == len(frames)]
    clocks = [m for m in marks.CLOCKS if m is not marks.TRIGGER]
    steady = [m for m in known if all(len({m.says(s) for s in frame}) == 1 for frame in frames)]
    surer = [m for m in steady if m not in clocks]
    rows: list[list[Slice | None]] = [[None] * len(positions) for _ in frames]
    for row, frame in zip(rows, frames, strict=True):
        for n, s in zip(whole, frame, strict=True):
            row[n] = s
    ordered = _numbered(rows, whole)
    for n, images in enumerate(positions):
        if n in whole:
            continue
        places = (
            _by_marks(images, frames, surer)
            or _by_marks(images, frames, steady)
            or _by_marks(images, frames, surer, lambda s, f, n=n: ordered is not None and ordered(s, f, n))
        )
        if places is None:
            return False
        for s, place in zip(images, places, strict=True):
            rows[place][n] = s
    start = 0
    for one in found:
        _fill(one, rows[start : start + len(one.frames)])
        start += len(one.frames)
    return True


def _by_marks(images: list[Slice], frames: Positions, by: list[Mark], also: Any = None) -> list[int] | None:
    """Return the frame of each image of a position; None unless it is one and another one for each."""
    told: list[tuple[Hashable, ...]] = [tuple(m.says(frame[0]) for m in by) for frame in frames]
    found = []
    for s in images:
        own = tuple(m.says(s) for m in by)
        fitting = [f for f, key in enumerate(told) if key == own and (also is None or also(s, f))]
        if len(fitting) != 1:
            return None
        found += fitting
    return found if len(set(found)) == len(found) else None


def _numbered(rows: list[list[Slice | None]], whole: list[int]) -> Any:
    """Return what says whether an image's number is that of a frame and position; None where they do not run evenly."""
    at, numbers = [], []
    for f, row in enumerate(rows):
        for n in whole:
            number = marks.INSTANCE.says(row[n])
            if number is None:
                return None
            at.append((1, f, n))
            numbers.append(number)
    weights = np.linalg.lstsq(np.array(at, float), np.array(numbers, float), rcond=None)[0]
    if np.abs(np.array(at) @ weights - numbers).max() > 1e-3 or len(set(numbers)) < len(numbers):
        return None
    return lambda s, f, n: abs((marks.INSTANCE.says(s) or 0) - np.array((1, f, n)) @ weights) < 0.25


def _fill(one: Sorted, rows: list[list[Slice | None]]) -> None:
    """Take over the images of all positions; where none of its frames has one, there is no position."""
    places = [n for n in range(len(rows[0])) if any(row[n] is not None for row in rows)]
    frames = []
    for f, row in enumerate(rows):
        there = [n for n in places if row[n] is not None]
        frame = []
        for z, n in enumerate(places):
            if row[n] is None:
                near = row[min(there, key=lambda m, n=n: abs(m - n))]
                other = next(r[n] for r in rows if r[n] is not None)
                one.holes.append((f, z))
                frame.append(replace(near, position=other.position))
            else:
                frame.append(row[n])
        frames.append(frame)
    one.frames = frames


# What is said and done about it -----------------------------------------------------------------------------------


def told(one: Sorted, most: int = 3) -> str:
    """Name the images that are missing: their frames, and the files they would lie between."""
    words = []
    for f, z in one.holes[:most]:
        frame, gone = one.frames[f], {h for g, h in one.holes if g == f}
        below = next((frame[n] for n in range(z - 1, -1, -1) if n not in gone), None)
        above = next((frame[n] for n in range(z + 1, len(frame)) if n not in gone), None)
        sides = [s.label for s in (below, above) if s is not None]
        place = ", ".join(f"{v:.4g}" for v in frame[z].position)
        between = f"between {sides[0]} and {sides[1]}" if len(sides) == 2 else f"at its end, beyond {sides[0]}"
        words.append(f"frame {_named(one.axis, f)} {between}, at {place} mm (x, y, z)")
    if len(one.holes) > most:
        words.append(f"and {len(one.holes) - most} more")
    return "; ".join(words)


def _named(axis: Frames | None, frame: int) -> str:
    if axis is None or axis.kind == "frame":
        return f"{frame} (counted from 0)"
    unit = f" {axis.unit}" if axis.unit else ""
    return f"{frame} (counted from 0; {axis.kind} {axis.values[frame]:g}{unit})"


def with_closed_ends(one: Sorted, name: str) -> Sorted:
    """Leave out frames, or positions, that begin or end with a hole: there is nothing to interpolate from.

    Of the two ways that by which less is lost.

    Raises
    ------
    FileError
        If nothing would be left.
    """
    count, holes = len(one.frames[0]), set(one.holes)
    open_ends = [(f, *_ends(f, count, holes)) for f in range(len(one.frames))]
    first, last = max(low for _, low, _ in open_ends), min(high for _, _, high in open_ends)
    spoilt = [f for f, low, high in open_ends if (low, high) != (0, count - 1)]
    if not spoilt:
        return one
    # What is left may begin or end with a hole that was not at an end before.
    return with_closed_ends(_less(one, name, spoilt, first, last), name)


def _less(one: Sorted, name: str, spoilt: list[int], first: int, last: int) -> Sorted:
    """Leave out the frames in `spoilt`, or the positions before `first` and after `last`."""
    count = len(one.frames[0])
    by_position = (count - max(last - first + 1, 0)) * len(one.frames)
    if last >= first and by_position <= len(spoilt) * count:
        kept, keep = list(range(first, last + 1)), list(range(len(one.frames)))
        note = f"slices at the ends that are missing in some frames were left out of all frames: {count - len(kept)}"
    elif len(spoilt) == len(one.frames):
        raise FileError(f"{name} has images missing at the ends of every frame: copy the whole series again")
    else:
        kept, keep = list(range(count)), [f for f in range(len(one.frames)) if f not in spoilt]
        numbers = ", ".join(_named(one.axis, f) for f in spoilt)
        note = f"frames whose first or last images are missing were left out: {numbers}"
    return _subset(one, keep, kept, note)


def _ends(frame: int, count: int, holes: set[Hole]) -> tuple[int, int]:
    """Return the first and last position at which a frame has an image; the wrong way round where it has none."""
    there = [z for z in range(count) if (frame, z) not in holes]
    return (there[0], there[-1]) if there else (count, -1)


def _subset(one: Sorted, frames: list[int], positions: list[int], note: str) -> Sorted:
    axis, meta = one.axis, dict(one.meta)
    if axis is not None:
        axis = Frames(axis.kind, tuple(axis.values[f] for f in frames), axis.unit)
    if "gradient_directions" in meta:
        meta["gradient_directions"] = [meta["gradient_directions"][f] for f in frames]
    return replace(
        one,
        frames=[[one.frames[f][z] for z in positions] for f in frames],
        axis=axis,
        meta=meta,
        notes=[*one.notes, note],
        holes=[(frames.index(f), positions.index(z)) for f, z in one.holes if f in frames and z in positions],
    )
