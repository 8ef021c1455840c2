"""Radiotherapy structure sets (RTSTRUCT): contours are filled on the slices of the image that they were drawn on.

Which voxels belong to a structure
    Those whose centre lies inside an odd number of the contours of their plane (even-odd rule): a contour inside
    another one is a hole, and so is what a keyhole leaves out. A centre exactly on an edge counts where the inside
    lies towards growing rows or columns. The same contour twice counts once.
Which contours count
    CLOSED_PLANAR (and CLOSEDPLANAR_XOR) along the slices of the image, or all of a structure along another axis of its
    voxels. One that lies between two slices goes to the nearest. Points and open lines enclose nothing and are named.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, GridError
from ..geometry import Grid
from ..progress import Cancelled, track
from ..volume import Label, Volume
from ._dicom_headers import Header, one_line
from ._dicom_parts import REMEDY
from ._mask_layers import MaskLayers, code_of

_CONTOUR_DATA = 0x30060050
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_FLAT = 0.1  # slices by which the points of a planar contour may lie apart, or beside their slice without a word
_DIGITS = 5  # of a voxel: centres on an edge must not be in or out by rounding
_SAME = 3  # decimals of a mm to which points of contours that are there twice agree
# A contour that comes back to one point more often than this is compared as it is written.
_MOST_STARTS = 16
# Files beside a structure set that are looked at for its image.
_MOST_FILES = 20_000


@dataclass
class _Structure:
    """A region of interest: its meaning and its closed contours as voxel indices (n, 3), z, y, x."""

    value: int
    label: Label
    contours: list[np.ndarray] = field(default_factory=list)


def read(header: Header, like: Grid | None) -> list[Volume]:
    """Read a structure set; see `read_masks`.

    Raises
    ------
    FileError
        If it holds no contours, is damaged, or its image is not found.
    GridError
        If no contour lies on slices of the image.
    """
    notes: list[str] = []
    if not header.get("ROIContourSequence"):
        raise FileError(f"{header.path} holds no contours: export the structures again")
    grid = _image_grid(header) if like is None else like
    structures = _structures(header, grid, notes)
    layers = MaskLayers(header.path, grid, max((s.value for s in structures), default=1))
    drawn = 0
    for one in track(structures, "structures"):
        axis = _axis(one, header, notes)
        if axis is None:
            continue
        pieces = _filled(one, axis, grid, notes)
        drawn += len(pieces)
        layers.add(one.value, pieces, lambda array, axis=axis: np.moveaxis(array, axis, 0))
    if not drawn:
        reason = f" ({notes[0]})" if notes else ""
        raise GridError(f"{header.path} has no contours on the slices of the image{reason}: give the image it is of")
    from ._dicom_seg import describe

    meta = describe(header)
    frames = header.get("ReferencedFrameOfReferenceSequence")
    if frames:
        meta["series"]["frame_of_reference_uid"] = str(header.get("FrameOfReferenceUID", "", frames[0]))
    uids = drawn_on(header)
    meta["series"]["image_uid"] = uids[0] if len(uids) == 1 else ""
    name = header.text("StructureSetLabel") or header.text("SeriesDescription") or header.path.stem
    labels = {s.value: s.label for s in structures}
    return layers.volumes(name, labels, {**meta, **({"notes": notes} if notes else {})})


def outline(header: Header) -> tuple[int, int]:
    """Return the number of structures that have contours, and of contours.

    Raises
    ------
    FileError
        If there are none.
    """
    counts = [len(header.get("ContourSequence", within=item) or ()) for item in header.get("ROIContourSequence") or ()]
    if not any(counts):
        raise FileError(f"{header.path} holds no contours: export the structures again")
    return sum(n > 0 for n in counts), sum(counts)


# What the file says -----------------------------------------------------------------------------------------------


def _structures(header: Header, grid: Grid, notes: list[str]) -> list[_Structure]:
    """Return the structures with closed contours, in the file's order."""
    names, codes = _names(header), _codes(header)
    numbers, found, empty = list(names), [], []
    # Background is 0, so a structure of that number, or one too large for an image, makes all be counted anew.
    keep = all(0 < n < 1 << 16 for n in numbers)
    items = header.get("ROIContourSequence")
    for item in track(items, "structures read"):
        number = int(header.number("ReferencedROINumber", -1, item))
        if number not in names:
            raise FileError(f"{header.path} has contours of structure {number}, which it does not name: it is damaged")
        name = names[number] or f"structure {number}"
        rgb = header.numbers("ROIDisplayColor", 3, item)
        colour = None if rgb is None else "#" + "".join(f"{int(np.clip(c, 0, 255)):02x}" for c in rgb)
        value = number if keep else numbers.index(number) + 1
        one = _Structure(value, Label(name, colour, codes.get(number)))
        one.contours = _contours(header, item, name, grid, notes)
        if one.contours:
            found.append(one)
        else:
            empty.append(name)
    if empty:
        notes.append(f"structures without closed contours were left out: {', '.join(empty)}")
    return found


def _names(header: Header) -> dict[int, str]:
    found: dict[int, str] = {}
    for item in header.get("StructureSetROISequence") or ():
        number = int(header.number("ROINumber", -1, item))
        if number in found:
            raise FileError(f"{header.path} has two structures of number {number}: its header is wrong")
        found[number] = one_line(str(header.get("ROIName", "", item)).strip())
    return found


def _codes(header: Header) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for item in header.get("RTROIObservationsSequence") or ():
        codes = header.get("RTROIIdentificationCodeSequence", within=item)
        if codes:
            found[int(header.number("ReferencedROINumber", -1, item))] = code_of(header, codes[0])
    return found


def _contours(header: Header, item: Any, name: str, grid: Grid, notes: list[str]) -> list[np.ndarray]:
    """Return the closed contours of a structure as voxel indices; name what is left out."""
    found: dict[bytes, np.ndarray] = {}
    other: dict[str, int] = {}
    doubled = 0
    for contour in header.get("ContourSequence", within=item) or ():
        kind = one_line(str(header.get("ContourGeometricType", "", contour)).strip().upper())
        points = _points(header, contour)
        if points is None:
            raise FileError(f"{header.path} has a contour of {name} that is not made of points x, y, z: it is damaged")
        if kind not in _CLOSED or len(points) < 3:
            other[kind or "unknown"] = other.get(kind or "unknown", 0) + 1
            continue
        key = _key(points)
        doubled += key in found
        found[key] = grid.to_index(points[:, ::-1])
    if doubled:
        notes.append(f"{name} has {doubled} contours twice: each counts once")
    if other:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(other.items()))
        notes.append(f"{name} has contours that enclose nothing and were left out: {told}")
    return list(found.values())


def _key(points: np.ndarray) -> bytes:
    """Return what is the same for a closed contour from whichever point and in whichever direction it is written."""
    corners = np.round(points, _SAME) + 0.0
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    if len(corners) < 3:
        return points.tobytes()
    starts = np.flatnonzero((corners == corners[np.lexsort(corners.T[::-1])[0]]).all(axis=1))
    if len(starts) > _MOST_STARTS:
        return points.tobytes()
    onward = [np.roll(corners, -n, axis=0) for n in starts]
    return min(c.tobytes() for one in onward for c in (one, np.roll(one[::-1], 1, axis=0)))


def _points(header: Header, contour: Any) -> np.ndarray | None:
    """Return the points (n, 3) x, y, z of a contour; None where its numbers are none.

    pydicom makes an object of every number, which takes minutes for a large structure set: the text is read here.
    """
    element = contour.get_item(_CONTOUR_DATA)
    data = getattr(element, "value", None)
    if isinstance(data, bytes):
        data = data.strip(b" \0").split(b"\\") if data.strip(b" \0") else []
    elif element is not None:
        data = header.get("ContourData", [], contour)
    try:
        points = np.array([] if data is None else data).astype(float).reshape(-1, 3)
    except (TypeError, ValueError):
        return None
    return points if np.isfinite(points).all() else None


def drawn_on(header: Header) -> list[str]:
    """Return the UIDs of the series that the contours were drawn on."""
    found = []
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in header.get("RTReferencedStudySequence", within=frame) or ():
            for series in header.get("RTReferencedSeriesSequence", within=study) or ():
                found.append(one_line(str(header.get("SeriesInstanceUID", "", series))))
    return [uid for uid in dict.fromkeys(found) if uid]


# The image --------------------------------------------------------------------------------------------------------


def _image_grid(header: Header) -> Grid:
    """Return the grid of the image that the contours were drawn on, looked for beside the file."""
    uids = drawn_on(header)
    if not uids:
        raise FileError(f"{header.path} does not name its image: read it by read_masks with the image as 'like'")
    for folder in (header.path.parent, header.path.parent.parent):
        files = _files_of(folder, set(uids))
        if files:
            common = Path(os.path.commonpath([f.parent for f in files]))
            return _grid_of(common, _uid(files[0]), header.path)
    raise FileError(
        f"{header.path} was drawn on series {uids[0]}, which is not beside it: put both into one folder, or read it by "
        "read_masks with the image as 'like'"
    )


def _grid_of(folder: Path, uid: str, path: Path) -> Grid:
    """Return the grid of a series; where only its evened one is regular, say how contours are read onto that."""
    from . import dicom

    try:
        return dicom.read(folder, uid).grid.without_frames()
    except FileError as error:
        problem, found, _ = str(error).partition(REMEDY)
        if not found:
            raise
        raise FileError(
            f"{problem}read the structures by read_masks({path.name!r}, like=read({str(folder)!r}, series={uid!r}, "
            "even=True))"
        ) from error


def _files_of(folder: Path, uids: set[str]) -> list[Path]:
    """Return the files below a folder that belong to one of the series; nothing is searched without end."""
    names = (Path(place) / name for place, _, files in os.walk(folder) for name in files)
    found = []
    for count, path in enumerate(track(names, "files looked at")):
        if count == _MOST_FILES:
            break
        if _uid(path) in uids:
            found.append(path)
    return found


def _uid(path: Path) -> str:
    import pydicom

    try:
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                return ""
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        return str(dataset.get("SeriesInstanceUID", ""))
    except (Cancelled, MemoryError):
        raise
    except Exception:  # what cannot be read is not the image
        return ""


# Filling ----------------------------------------------------------------------------------------------------------


def _axis(one: _Structure, header: Header, notes: list[str]) -> int | None:
    """Return the axis across which all contours of a structure lie: that of the slices, or another."""
    spans = np.array([np.ptp(points, axis=0) for points in one.contours])
    for axis in range(3):
        if (spans[:, axis] <= _FLAT).all():
            return axis
    skew = int((spans[:, 0] > _FLAT).sum())
    notes.append(
        f"{one.label.name} was left out: {skew} of its {len(one.contours)} contours lie at an angle to the slices"
    )
    return None


def _filled(one: _Structure, axis: int, grid: Grid, notes: list[str]) -> dict[int, np.ndarray]:
    """Return the planes of a structure, filled."""
    count = grid.spatial_shape[axis]
    shape = tuple(n for a, n in enumerate(grid.spatial_shape) if a != axis)
    planes: dict[float, list[np.ndarray]] = {}
    for points in one.contours:
        depth = round(float(points[:, axis].mean()), 2)
        planes.setdefault(depth, []).append(np.delete(points, axis, axis=1))
    _require_slices(one.label.name, sorted(planes), grid.spacing[axis])
    pieces: dict[int, np.ndarray] = {}
    outside, between = 0, 0
    for depth, polygons in sorted(planes.items()):
        # Half-way ones all go the same way: round() would send every second one back to the slice before.
        k = math.floor(depth + 0.5)
        if not 0 <= k < count:
            outside += len(polygons)
            continue
        between += len(polygons) if abs(depth - k) > _FLAT else 0
        # Contours of two planes that fall onto one slice do not cut holes into each other.
        mask = fill(polygons, shape)
        pieces[k] = pieces[k] | mask if k in pieces else mask
    name, total = one.label.name, len(one.contours)
    if outside:
        notes.append(f"{name}: {outside} of {total} contours lie beyond the slices of the image and were left out")
    if between:
        notes.append(f"{name}: {between} of {total} contours lie between two slices and were put onto the nearest")
    bare = (max(pieces) - min(pieces) + 1 - len(pieces)) if pieces else 0
    if bare:
        notes.append(f"{name}: {bare} slices between its ends have no contour and stay empty")
    if pieces and not any(mask.any() for mask in pieces.values()):
        notes.append(f"{name} holds the centre of no voxel")
    return pieces


def _require_slices(name: str, depths: Sequence[float], spacing: float) -> None:
    """Refuse slices that the contours were not drawn on: finer ones would stay empty, coarser ones swallow contours."""
    if len(depths) < 4:
        return  # too few to tell a rule from a slip of the hand
    step = float(np.median(np.diff(depths)))
    # Contours on every second or third slice are common; those of another image do not keep to whole slices.
    if step < 0.75 or (step > 1.25 and abs(step - round(step)) > 0.05):
        raise GridError(
            f"the contours of {name!r} are {step * spacing:.3g} mm apart and the slices {spacing:.3g} mm: fill them on "
            "the image they were drawn on, and resample the labels onto this one"
        )


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Fill closed polygons by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of (n, 2) arrays
        Corners (row, column) in pixels; the last is joined to the first. The centre of pixel (r, c) is at (r, c).
    shape : (int, int)
        Of the picture.

    Returns
    -------
    (rows, columns) array of bool
        True where the centre lies inside an odd number of polygons.

    Examples
    --------
    >>> fill([np.array([(0.5, 0.5), (0.5, 2.5), (2.5, 2.5), (2.5, 0.5)])], (4, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    result = np.zeros(shape, bool)
    corners = [np.round(np.asarray(polygon, dtype=float), _DIGITS) for polygon in polygons]
    if not corners:
        return result
    every = np.concatenate(corners)
    low = np.clip(np.ceil(every.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.floor(every.max(axis=0)) + 1, 0, shape).astype(int)
    if (low >= high).any():
        return result
    rows, columns = high - low
    crossings = np.zeros(rows * (columns + 1), np.int64)
    for polygon in corners:
        here = polygon - low
        there = np.roll(here, -1, axis=0)
        above, below = np.minimum(here[:, 0], there[:, 0]), np.maximum(here[:, 0], there[:, 0])
        # An edge crosses the rows from its upper end on, the lower end belongs to the next edge.
        first = np.clip(np.ceil(above), 0, rows).astype(int)
        count = np.clip(np.ceil(below), 0, rows).astype(int) - first
        edge = np.repeat(np.arange(len(here)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        start, step = here[edge], (there - here)[edge]
        column = np.round(start[:, 1] + (row - start[:, 0]) * step[:, 1] / step[:, 0], _DIGITS)
        column = np.clip(np.ceil(column), 0, columns).astype(int)
        crossings += np.bincount(row * (columns + 1) + column, minlength=crossings.size)
    odd = (crossings.reshape(rows, columns + 1)[:, :columns] & 1).astype(bool)
    result[low[0] : high[0], low[1] : high[1]] = np.logical_xor.accumulate(odd, axis=1)
    return result
