"""Images at the same places: what tells them apart, and the frame axis that it makes.

Images that differ in type (magnitude, phase, ...) or in reconstruction kernel become volumes of their own. Of what is
left, b-value, gradient direction, echo time, inversion time and flip angle tell frames apart where they take the same
values at every position; after that the time, by the first clock that runs at every position. Where both a way of
taking images and the time change, each way becomes a volume of its own with frames in time; b-values and gradient
directions share one axis in the order of acquisition. What nothing tells apart are copies, if their pixels are
the same. Where a frame lacks single images, see `_dicom_holes`.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from ..errors import FileError
from ..geometry import Frames
from . import _dicom_marks as marks
from ._dicom_holes import Positions, Sorted, put_in
from ._dicom_marks import Mark
from ._dicom_slices import Slice
from ._dicom_stack import listed


def sort_out(positions: Positions, name: str) -> list[Sorted]:
    """Tell the images at each position apart.

    Parameters
    ----------
    positions : list of list of Slice
        Images at each position, along the normal.
    name : str
        The series, as the subject of a sentence.

    Raises
    ------
    FileError
        If the number of images differs from position to position, or nothing tells them apart.
    """
    if all(len(p) == 1 for p in positions):
        return [Sorted([[p[0] for p in positions]])]
    positions, copies = _without_copies(positions)
    even = len({len(p) for p in positions}) == 1
    found = _by_text(positions, list(marks.TEXTS), name) if even else _with_holes(positions, name)
    for one in found:
        kept = {id(s) for frame in one.frames for s in frame}
        one.copies = [pair for pair in copies if id(pair[0]) in kept]
    return found


# Copies -----------------------------------------------------------------------------------------------------------


def _without_copies(positions: Positions) -> tuple[Positions, list[tuple[Slice, Slice]]]:
    """Set aside what nothing tells apart from another image of its position."""
    every = _known(positions)
    usual = Counter(len(p) for p in positions).most_common(1)[0][0]
    kept, copies = [], []
    for images in positions:
        first: dict[Hashable, Slice] = {}
        for s in images:
            # Where a single image is usual, a second one is a copy whatever its header says.
            key = None if usual == 1 else tuple(mark.says(s) for mark in every)
            if key in first:
                copies.append((first[key], s))
            else:
                first[key] = s
        kept.append(list(first.values()))
    return kept, copies


def _known(positions: Positions) -> list[Mark]:
    single = (marks.PHASE, marks.BREATH, marks.TEMPORAL, *marks.CLOCKS, marks.NUMBER)
    return [*marks.TEXTS, *marks.WAYS, *single, *marks.dimensions(positions[0][0])]


def _with_holes(positions: Positions, name: str) -> list[Sorted]:
    """Sort what lacks images at some positions by the positions where all are there."""
    counts = [len(p) for p in positions]
    whole = [p for p in positions if len(p) == max(counts)]
    if len(whole) > 1:
        try:
            found = _by_text(whole, list(marks.TEXTS), name)
        except FileError:
            found = []
        if found and put_in(found, positions, _known(positions)):
            return found
    usual = Counter(counts).most_common(1)[0][0]
    text = [f"{len(p)} at the position of {p[0].label}" for p in positions if len(p) != usual]
    raise FileError(
        f"{name} holds {usual} images at most positions, but {listed(text)}, and nothing in their headers tells for "
        "sure which of them belong together: copy the whole series again, or take the odd files out"
    )


# Ways -------------------------------------------------------------------------------------------------------------


def _values(mark: Mark, positions: Positions) -> list[list[Hashable]]:
    return [[mark.says(s) for s in images] for images in positions]


def _tells(mark: Mark, positions: Positions) -> bool:
    """Whether it takes several values, and these equally often at every position."""
    values = _values(mark, positions)
    return len(set(values[0])) > 1 and all(Counter(v) == Counter(values[0]) for v in values[1:])


def _split(positions: Positions, key: Mark) -> dict[Hashable, Positions]:
    values = dict.fromkeys(sorted({key.says(s) for s in positions[0]}, key=_in_order))
    return {v: [[s for s in images if key.says(s) == v] for images in positions] for v in values}


def _in_order(value: Hashable) -> tuple:
    """Sort None before numbers before text."""
    return (value is not None, isinstance(value, str), value if value is not None else 0)


def _by_text(positions: Positions, texts: list[Mark], name: str) -> list[Sorted]:
    """Make volumes of their own of what differs in type or kernel."""
    for mark in texts if len(positions[0]) > 1 else ():
        if not _tells(mark, positions):
            continue
        rest = [t for t in texts if t is not mark]
        groups = _split(positions, mark)
        words = _differing([str(v or "") for v in groups])
        found = []
        for word, group in zip(words, groups.values(), strict=True):
            for one in _by_text(group, rest, name):
                one.suffix = " ".join(filter(None, (word, one.suffix)))
                found.append(one)
        return found
    return _by_way(positions, name)


def _differing(texts: Sequence[str]) -> list[str]:
    r"""Leave out of texts such as ORIGINAL\PRIMARY\M what is the same in all."""
    parts = [t.split("\\") for t in texts]
    common = set(parts[0]).intersection(*parts[1:])
    return [" ".join(p for p in one if p not in common) or "other" for one in parts]


def _by_way(positions: Positions, name: str) -> list[Sorted]:
    """Sort by b-value, direction, echo, ... and then by time."""
    if len(positions[0]) == 1:
        return [Sorted([[p[0] for p in positions]])]
    ways = [mark for mark in marks.WAYS if _tells(mark, positions)]
    diffusion = [m for m in ways if m in (marks.B_VALUE, marks.DIRECTION)]
    others = [m for m in ways if m not in diffusion]
    # An echo number says the same as an echo time.
    if any(m.kind == "echo" and m.unit for m in others):
        others = [m for m in others if m is not marks.ECHO_NUMBER]
    if len(others) == 1 and not diffusion and _single(positions, others):
        return [_along(positions, others[0])]
    if diffusion and not others:
        return [_diffusion(positions, diffusion, name)]
    if not others:
        return [_in_time(positions, name)]
    # The way with the fewest values splits; what is left is sorted again.
    mark = min(reversed(others), key=lambda m: len(set(_values(m, positions)[0])))
    found = []
    for value, group in _split(positions, mark).items():
        for one in _by_way(group, name):
            word = f"{mark.name} {value:g} {mark.unit}".strip() if value is not None else f"no {mark.name}"
            one.suffix = " ".join(filter(None, (word, one.suffix)))
            found.append(one)
    return found


def _single(positions: Positions, by: list[Mark]) -> bool:
    """Whether the marks together tell all images of a position apart."""
    return all(len({tuple(m.says(s) for m in by) for s in images}) == len(images) for images in positions)


def _along(positions: Positions, mark: Mark) -> Sorted:
    """Make frames by a mark that takes the same values everywhere."""
    ordered = [sorted(images, key=lambda s: _in_order(mark.says(s))) for images in positions]
    frames = [list(frame) for frame in zip(*ordered, strict=True)]
    values = [mark.says(frame[0]) for frame in frames]
    if None in values:
        return Sorted(frames, Frames("frame", tuple(range(len(frames)))), notes=[f"frames differ in {mark.name}"])
    notes = [] if mark.kind != "frame" else [f"frames are numbered by {mark.name}, their times are not known"]
    return Sorted(frames, Frames(mark.kind, values, mark.unit), notes=notes)


def _diffusion(positions: Positions, by: list[Mark], name: str) -> Sorted:
    """Put b-values, directions and repetitions on one axis."""
    keyed = []
    for images in positions:
        groups: dict[Hashable, list[Slice]] = {}
        for s in images:
            groups.setdefault(tuple(m.says(s) for m in by), []).append(s)
        keyed.append(groups)
    frames: list[list[Slice]] = []
    for key in sorted(keyed[0], key=lambda k: tuple(_in_order(v) for v in k)):
        repeated = [groups.get(key, []) for groups in keyed]
        if len({len(r) for r in repeated}) > 1:
            raise FileError(
                f"{name} has not the same b-values and directions at every position: copy the whole series again"
            )
        one = len(repeated[0]) == 1
        frames += [[r[0] for r in repeated]] if one else _in_time(repeated, name).frames
    values = [marks.B_VALUE.says(frame[0]) for frame in frames]
    directions = [marks.DIRECTION.says(frame[0]) for frame in frames]
    if len(set(values)) < len(values):
        # With repetitions or directions the order of acquisition is what other programs write.
        numbers = [[marks.INSTANCE.says(s) or 0 for s in frame] for frame in frames]
        places = [np.mean([s.index for s in frame]) for frame in frames]
        order = np.lexsort((places, [np.mean(n) for n in numbers]))
        frames, values, directions = ([x[i] for i in order] for x in (frames, values, directions))
    notes, meta = [], {}
    if any(marks.scaled(frame[0]) for frame in frames):
        notes.append("b-values are the file's largest one times the squared length of the gradient, as GE writes them")
    if any(marks.along_image(frame[0]) for frame, d in zip(frames, directions, strict=True) if d):
        notes.append("gradient directions are left out: the file has them along the image, not along the patient")
    elif any(directions):
        meta["gradient_directions"] = [d and list(d) for d in directions]
    if None in values:
        notes.append("frames differ in their gradient directions, the b-values of some are not known")
        return Sorted(frames, Frames("frame", tuple(range(len(frames)))), notes=notes, meta=meta)
    return Sorted(frames, Frames("b-value", values, "s/mm2"), notes=notes, meta=meta)


# Time -------------------------------------------------------------------------------------------------------------


def _in_time(positions: Positions, name: str) -> Sorted:
    """Sort by what says when an image was taken."""
    if len(positions[0]) == 1:
        return Sorted([[p[0] for p in positions]])
    for mark in (marks.TRIGGER, marks.PHASE, marks.BREATH):
        if _exact(mark, positions):
            return _along(positions, mark)
    if _exact(marks.TEMPORAL, positions):
        return _timed(_along(positions, marks.TEMPORAL))
    for mark in marks.CLOCKS:
        if _runs(mark, positions):
            clock = marks.over_midnight(mark, [s for images in positions for s in images])
            ordered = [sorted(images, key=clock.says) for images in positions]
            one = Sorted([list(frame) for frame in zip(*ordered, strict=True)])
            one.axis = Frames("time", _times(clock, one.frames, mark in marks.OF_DAY), "s")
            if mark is marks.MADE:
                one.notes.append("frames were told apart by the time at which they were made (Content Time)")
            return one
    for mark in (marks.NUMBER, *marks.dimensions(positions[0][0])):
        if _exact(mark, positions):
            return _along(positions, mark)
    labels = [s.label for s in positions[0]]
    raise FileError(
        f"{name} holds {len(labels)} images at each of {len(positions)} positions and nothing in their headers tells "
        f"them apart: {listed(labels)} lie at the same position; take apart what does not belong together"
    )


def _exact(mark: Mark, positions: Positions) -> bool:
    """Whether it gives every image of a position another value, and the same values at every position."""
    first = set(_values(mark, positions[0:1])[0])
    if None in first or len(first) < len(positions[0]):
        return False
    return all(set(v) == first for v in _values(mark, positions))


def _runs(mark: Mark, positions: Positions) -> bool:
    """Whether it gives every image of a position another value."""
    return all(None not in v and len(set(v)) == len(v) for v in _values(mark, positions))


def _times(mark: Mark, frames: list[list[Slice]], of_day: bool) -> tuple[float, ...]:
    """Return the mean time of every frame, s; since the first where the clock shows the time of day."""
    base = mark.says(frames[0][0]) if of_day else 0.0
    means = np.array([np.mean([mark.says(s) - base for s in frame]) for frame in frames])
    return tuple(np.round(means - means[0] if of_day else means, 6).tolist())


def _timed(one: Sorted) -> Sorted:
    """Give frames that are only numbered the times of the first clock that runs from frame to frame."""
    for mark in marks.CLOCKS:
        if all(mark.says(s) is not None for frame in one.frames for s in frame):
            clock = marks.over_midnight(mark, [s for frame in one.frames for s in frame])
            times = _times(clock, one.frames, mark in marks.OF_DAY)
            if (np.diff(times) > 0).all():
                one.axis, one.notes = Frames("time", times, "s"), []
                break
    return one
