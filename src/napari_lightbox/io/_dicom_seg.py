"""DICOM Segmentation objects (SEG): segments become labels or probabilities, frame by frame where they lie.

Which geometry holds
    Every frame names its position; frames of one plane are put together, planes without a frame are empty. Planes must
    be evenly apart, and may lean as those of a tilted gantry do. Without an image the volume reaches from the first
    plane to the last; onto an image it goes voxel by voxel, or not at all.
What happens to values
    BINARY and LABELMAP keep their segment numbers as label values; segments that overlap are put into further
    volumes. FRACTIONAL becomes one volume of probabilities a segment, its values over the largest possible one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, GridError, need
from ..geometry import Grid
from ..progress import Cancelled, track
from ..volume import Label, Volume
from . import convention
from ._bytes import require_memory
from ._dicom_headers import Header, one_line, shown
from ._lattice import Placement, place
from ._mask_layers import MaskLayers, code_of

_TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
_SHARE, _LEAST = 0.02, 0.01  # of a step or pixel, and mm, that rounding may move a plane


@dataclass(frozen=True)
class _Frame:
    """One frame: its number in the file, its segment (None in a label map) and the position of its first pixel."""

    number: int
    segment: int | None
    position: np.ndarray


@dataclass(frozen=True)
class _Stack:
    """The frames, the grid of their own planes, and on which plane each lies."""

    frames: list[_Frame]
    grid: Grid
    planes: np.ndarray


@dataclass(frozen=True)
class _Job:
    """What the frames of one file are put into."""

    header: Header
    labels: dict[int, Label]
    stack: _Stack
    placement: Placement
    grid: Grid


def read(header: Header, like: Grid | None) -> list[Volume]:
    """Read a segmentation.

    Parameters
    ----------
    header : Header
        The whole data set, pixels included.
    like : Grid, optional
        Without frames; the result lies on it.

    Raises
    ------
    FileError
        If the file is damaged, or its planes are no regular stack.
    GridError
        If the frames do not lie on the voxels of `like`.
    """
    kind = _type(header)
    labels = _segments(header)
    stack = _stacked(header, kind, like)
    grid = stack.grid if like is None else like
    placement = place(stack.grid, grid)
    if placement is None:
        raise GridError(
            f"{header.path} does not lie on the voxels of the image ({grid.difference(stack.grid)}; x, y, z): leave "
            "'like' out, and resample what was read onto the image"
        )
    meta = describe(header)
    name = header.text("SeriesDescription") or header.text("ContentDescription") or header.path.stem
    job = _Job(header, labels, stack, placement, grid)
    if kind == "FRACTIONAL":
        return _fractions(job, name, meta)
    return (_label_map if kind == "LABELMAP" else _binary)(job, name, meta)


def outline(header: Header) -> tuple[int, Grid]:
    """Return the number of segments, and the grid of the planes that have frames; pixels are not needed."""
    return len(_segments(header)), _stacked(header, _type(header), None).grid


def _type(header: Header) -> str:
    kind = header.text("SegmentationType").upper()
    if kind not in _TYPES:
        raise FileError(
            f"{header.path} has the segmentation type {shown(kind) or 'none'}: only {', '.join(_TYPES)} is known"
        )
    return kind


def describe(header: Header) -> dict[str, Any]:
    """Return what the volumes say of their series; of the patient nothing is kept."""
    referenced = header.get("ReferencedSeriesSequence")
    return {
        "modality": header.text("Modality"),
        "source": str(header.path),
        "series": {
            "description": header.text("SeriesDescription"),
            "number": header.text("SeriesNumber"),
            "uid": header.text("SeriesInstanceUID"),
            "study_uid": header.text("StudyInstanceUID"),
            "frame_of_reference_uid": header.text("FrameOfReferenceUID"),
            "class_uid": header.text("SOPClassUID"),
            "image_uid": str(header.get("SeriesInstanceUID", "", referenced[0])) if referenced else "",
        },
    }


def _segments(header: Header) -> dict[int, Label]:
    """Return names, colours and codes by segment number."""
    found: dict[int, Label] = {}
    for item in header.get("SegmentSequence") or ():
        number = int(header.number("SegmentNumber", -1, item))
        if number == 0:
            continue  # the background of a label map
        if not 0 < number < 1 << 16 or number in found:
            raise FileError(f"{header.path} has segment numbers that are missing or used twice: its header is wrong")
        types = header.get("SegmentedPropertyTypeCodeSequence", within=item)
        code = code_of(header, types[0]) if types else None
        name = one_line(str(header.get("SegmentLabel", "", item)).strip()) or (code or {}).get("meaning", "")
        lab = header.numbers("RecommendedDisplayCIELabValue", 3, item)
        found[number] = Label(name or f"segment {number}", None if lab is None else colour_of(lab), code)
    if not found:
        raise FileError(f"{header.path} describes no segments: its header is wrong")
    return found


def colour_of(stored: Sequence[float]) -> str:
    """Return ``"#rrggbb"`` for a CIELab colour as DICOM stores it (PS3.3 C.10.7.1.1, white point D50).

    Examples
    --------
    >>> colour_of((65535, 32896, 32896)), colour_of((0, 32896, 32896))
    ('#ffffff', '#000000')
    """
    lightness, a, b = (float(v) for v in stored)
    y = (lightness * 100 / 65535 + 16) / 116
    cubes = np.array([y + (a * 255 / 65535 - 128) / 500, y, y - (b * 255 / 65535 - 128) / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * (0.9642, 1.0, 0.8249)
    # From D50 to sRGB, whose white is D65 (Bradford).
    linear = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.033454],
                       [0.0719453, -0.2289914, 1.4052427]]) @ xyz  # fmt: skip
    linear = np.clip(linear, 0, 1)
    values = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return "#" + "".join(f"{round(255 * v):02x}" for v in values.tolist())


# Where the frames lie ---------------------------------------------------------------------------------------------


def _stacked(header: Header, kind: str, like: Grid | None) -> _Stack:
    """Sort the frames into evenly spaced planes."""
    described = header.get("PerFrameFunctionalGroupsSequence") or ()
    if len(described) != header.frames:
        raise FileError(f"{header.path} describes {len(described)} of its {header.frames} frames: its header is wrong")
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]

    def group(item: Any, name: str) -> Any:
        for place_ in (item, shared):
            found = header.get(name, within=place_) if place_ is not None else None
            if found:
                return found[0]
        return None

    frames, turns, pixels = [], [], []
    for number, item in enumerate(track(described, "frames placed")):
        plane, turn = group(item, "PlanePositionSequence"), group(item, "PlaneOrientationSequence")
        measures, identity = group(item, "PixelMeasuresSequence"), group(item, "SegmentIdentificationSequence")
        values = [
            header.numbers(keyword, count, within) if within is not None else None
            for keyword, count, within in (
                ("ImagePositionPatient", 3, plane),
                ("ImageOrientationPatient", 6, turn),
                ("PixelSpacing", 2, measures),
            )
        ]
        if any(v is None or not np.isfinite(v).all() for v in values):
            raise FileError(
                f"{header.path} does not say where frame {number + 1} lies in the patient: only segmentations with "
                "plane positions can be placed"
            )
        segment = int(header.number("ReferencedSegmentNumber", 0, identity)) if identity is not None else None
        if kind != "LABELMAP" and segment is None:
            raise FileError(f"{header.path} does not name the segment of frame {number + 1}: its header is wrong")
        frames.append(_Frame(number, segment, values[0]))
        turns.append(values[1])
        pixels.append(values[2])
    if np.abs(np.array(turns) - turns[0]).max() > 5e-4 or not np.allclose(pixels, pixels[0], rtol=1e-4):
        raise FileError(f"{header.path} mixes orientations or pixel spacings, which one volume cannot hold: split it")
    measures = group(described[0], "PixelMeasuresSequence")
    told = [header.number(k, 0, measures) for k in ("SpacingBetweenSlices", "SliceThickness")]
    size = (int(header.number("Rows", 0)), int(header.number("Columns", 0)))
    if min(size) < 1 or min(pixels[0]) <= 0:
        raise FileError(f"{header.path} has an impossible size or pixel spacing: its header is wrong")
    return _planes(header.path, frames, turns[0], pixels[0], size, told, like)


def _planes(
    path: Path,
    frames: list[_Frame],
    turn: np.ndarray,
    pixel: np.ndarray,
    size: tuple[int, int],
    told: Sequence[float],
    like: Grid | None,
) -> _Stack:
    """Find the step with which all frames lie on evenly spaced planes, and make the grid of these planes."""
    row = turn[:3] / max(np.linalg.norm(turn[:3]), 1e-9)
    column = turn[3:] - (row @ turn[3:]) * row
    column /= max(np.linalg.norm(column), 1e-9)
    normal = np.cross(row, column)
    if abs(np.linalg.norm(normal) - 1) > 1e-6:
        raise FileError(f"{path} has an orientation that is none: its header is wrong")
    positions = np.array([f.position for f in frames])
    depths = positions @ normal
    depths -= depths.min()
    step = _step(path, depths, normal, told, like)
    planes = np.rint(depths / step).astype(int)
    first, last = int(np.argmin(depths)), int(np.argmax(depths))
    if planes[last]:
        step = depths[last] / planes[last]
    beside = positions - positions[first] - np.outer(depths, normal)
    lean = beside[last] / max(int(planes[last]), 1)
    crooked = np.linalg.norm(beside - np.outer(planes, lean), axis=1).max()
    if crooked > max(_LEAST, _SHARE * pixel.min()):
        raise FileError(f"{path} has frames that are shifted sideways by up to {crooked:.3g} mm: its header is wrong")
    affine = convention.from_dicom((*row, *column), positions[first], pixel, normal * step + lean)
    return _Stack(frames, Grid(affine, (int(planes.max()) + 1, *size)), planes)


def _step(path: Path, depths: np.ndarray, normal: np.ndarray, told: Sequence[float], like: Grid | None) -> float:
    apart = np.diff(np.sort(depths))
    apart = apart[apart > 1e-3]
    candidates = [*told[:1], *([float(apart.min())] if apart.size else told[1:]), 1.0 if not apart.size else 0.0]
    if like is not None:
        # The slices of the image lie along the axis that is closest to the normal; a tilted gantry leans it.
        along = np.abs(normal[::-1] @ like.affine[:3, :3])
        candidates.insert(0, float(along.max()))
    for step in candidates:
        if step > 0:
            off = np.abs(depths / step - np.rint(depths / step)).max() * step
            if off <= max(_LEAST, _SHARE * step):
                return step
    raise FileError(
        f"{path} has planes that lie unevenly apart ({apart.min():.4g} to {apart.max():.4g} mm), which one volume "
        "cannot hold: segment an image with even slices"
    )


# What the frames hold ---------------------------------------------------------------------------------------------


def _pixels(header: Header) -> Any:
    """Return a function that decodes the frame of a number."""
    pixels = need("pydicom.pixels", "Reading DICOM")
    dataset, path = header.dataset, header.path
    try:
        decoder = pixels.get_decoder(dataset.file_meta.TransferSyntaxUID)
    except (NotImplementedError, AttributeError) as error:
        raise FileError(f"{path} has a transfer syntax that is not known: decompress it first (gdcmconv)") from error
    if not decoder.is_available:
        raise FileError(
            f"{path} is compressed as {header.syntax}, which cannot be decoded here: decompress it first (gdcmconv)"
        )

    def frame(number: int) -> np.ndarray:
        try:
            return decoder.as_array(dataset, index=number, raw=True)[0]
        except (Cancelled, MemoryError):
            raise
        except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
            reason = " ".join(str(error).split())
            raise FileError(
                f"{path} has pixels that cannot be decoded ({one_line(reason)}): copy the file again"
            ) from error

    return frame


def _by_segment(job: _Job) -> list[tuple[int, list[_Frame]]]:
    found: dict[int, list[_Frame]] = {}
    for one in job.stack.frames:
        found.setdefault(one.segment, []).append(one)
    _require_described(job, found)
    return sorted(found.items())


def _require_described(job: _Job, values: Iterable[int]) -> None:
    unknown = sorted(set(values) - set(job.labels))
    if unknown:
        raise FileError(f"{job.header.path} uses segment {unknown[0]}, which it does not describe: its header is wrong")


def _cut(job: _Job, one: _Frame, values: np.ndarray) -> tuple[int, np.ndarray, int]:
    """Return plane and values of a frame where the image covers it, and how many that are not 0 this leaves out."""
    deep, *flat = job.placement.inside
    plane = int(job.stack.planes[one.number])
    kept = values[tuple(flat)] if deep.start <= plane < deep.stop else values[:0, :0]
    return plane - deep.start, kept, int(np.count_nonzero(values)) - int(np.count_nonzero(kept))


def _left_out(count: int, what: str = "") -> list[str]:
    return [f"{what}{count} voxels lie outside the image and were left out"] if count else []


def _binary(job: _Job, name: str, meta: dict[str, Any]) -> list[Volume]:
    frame, notes = _pixels(job.header), []
    layers = MaskLayers(job.header.path, job.grid, max(job.labels))
    for value, frames in track(_by_segment(job), "segments"):
        pieces: dict[int, np.ndarray] = {}
        outside = 0
        for one in track(frames, "frames"):
            plane, mask, lost = _cut(job, one, frame(one.number) != 0)
            outside += lost
            if mask.size:
                pieces[plane] = pieces[plane] | mask if plane in pieces else mask
        layers.add(value, pieces, job.placement.view)
        notes += _left_out(outside, f"{job.labels[value].name}: ")
    return layers.volumes(name, job.labels, {**meta, **({"notes": notes} if notes else {})})


def _label_map(job: _Job, name: str, meta: dict[str, Any]) -> list[Volume]:
    header, outside = job.header, 0
    background = int(header.number("PixelPaddingValue", 0))
    require_memory(header.path, 2 * math.prod(job.grid.shape))
    data = np.zeros(job.grid.shape, np.uint8 if max(job.labels) < 1 << 8 else np.uint16)
    frame, view = _pixels(header), job.placement.view(data)
    for one in track(job.stack.frames, "frames"):
        values = frame(one.number)
        values = np.where(values == background, 0, values)
        _require_described(job, set(np.unique(values).tolist()) - {0})
        plane, kept, lost = _cut(job, one, values)
        outside += lost
        if kept.size:
            here, drawn = view[plane], kept != 0
            if ((here != 0) & drawn & (here != kept)).any():
                raise FileError(
                    f"{header.path} gives voxels of one plane different labels in several frames (frame "
                    f"{one.number + 1}): export the segmentation again"
                )
            here[drawn] = kept[drawn]
    notes = _left_out(outside)
    full = {**meta, **({"notes": notes} if notes else {})}
    return [Volume(data, job.grid, "labels", name, job.labels, full)]


def _fractions(job: _Job, name: str, meta: dict[str, Any]) -> list[Volume]:
    """Return one volume a segment."""
    header = job.header
    most = header.number("MaximumFractionalValue", 255)
    if most <= 0:
        raise FileError(f"{header.path} has the largest fraction {most:g}: its header is wrong")
    occupied = header.text("SegmentationFractionalType").upper() == "OCCUPANCY"
    frame, segments, found = _pixels(header), _by_segment(job), []
    require_memory(header.path, 4 * len(segments) * math.prod(job.grid.shape))
    for value, frames in track(segments, "segments"):
        data = np.zeros(job.grid.shape, np.float32)
        view, outside, own = job.placement.view(data), 0, job.labels[value]
        for one in track(frames, "frames"):
            plane, kept, lost = _cut(job, one, frame(one.number))
            outside += lost
            if kept.size:
                view[plane] = np.maximum(view[plane], np.minimum(kept / np.float32(most), 1))
        notes = [f"values are the share of a voxel that is {own.name}"] if occupied else []
        notes += _left_out(outside)
        full = {**meta, **({"notes": notes} if notes else {})}
        found.append(Volume(data, job.grid, "probability", f"{name} {own.name}", {value: own}, full))
    return found
