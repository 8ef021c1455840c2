"""The single images of DICOM files: where each lies, how big it is, how its values are scaled."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import FileError
from . import _dicom_mosaic
from ._bytes import require_bytes, require_compressed
from ._dicom_headers import Header

# Every coded image begins with the 8 bytes of an item of its own.
_LEAST_CODED = 8


@dataclass(frozen=True)
class Rescale:
    """How stored values become real ones: times `slope` plus `inter`."""

    slope: float = 1.0
    inter: float = 0.0


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of a file.

    Parameters
    ----------
    header : Header
        Of the file.
    index : int
        Which image of the file it is; of a mosaic, which tile.
    size : (rows, columns)
    position, orientation, pixel_spacing : arrays of float, or None
        Image Position and Orientation (Patient), and Pixel Spacing, mm.
    thickness : float or None
        Distance of slices as the header has it, mm, for a slice on its own.
    rescale : Rescale
        What its values stand for.
    groups : tuple
        Functional groups of an enhanced file: its own item and the one shared by all.
    known : dict
        What was already read from its header.
    """

    header: Header
    index: int
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    pixel_spacing: np.ndarray | None
    thickness: float | None = None
    rescale: Rescale = Rescale()
    groups: tuple[Any, ...] = ()
    known: dict = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """How a sentence names it: the file, or the image in it."""
        name = self.header.path.name
        many = self.header.frames > 1 or self.header.is_mosaic
        return f"image {self.index + 1} of {name}" if many else name

    @property
    def placed(self) -> bool:
        """Whether it has a place in the patient."""
        return self.position is not None and self.orientation is not None

    def group(self, name: str) -> Any:
        """Return a functional group, its own or that of all; an empty one where it is absent."""
        for place in self.groups:
            found = self.header.get(name, within=place)
            if found:
                return found[0]
        return {}


def slices_of(header: Header) -> list[Slice]:
    """Return the images of one file.

    Raises
    ------
    FileError
        If its header contradicts itself.
    """
    size = (int(header.number("Rows", 0)), int(header.number("Columns", 0)))
    if min(size) < 1:
        raise FileError(f"{header.path} has the impossible size {size[1]} x {size[0]}: its header is wrong")
    _require_room(header, size)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is not None:
        if len(frames) != header.frames:
            raise FileError(f"{header.path} describes {len(frames)} of its {header.frames} images: its header is wrong")
        return [_enhanced(header, n, size, frame) for n, frame in enumerate(frames)]
    alone = header.frames == 1
    one = Slice(
        header,
        0,
        size,
        header.numbers("ImagePositionPatient", 3) if alone else None,
        header.numbers("ImageOrientationPatient", 6) if alone else None,
        header.numbers("PixelSpacing", 2),
        header.number("SpacingBetweenSlices", 0) or header.number("SliceThickness", 0) or None,
        _rescale(header, None),
    )
    if header.is_dose:
        return _dose_planes(one)
    if header.is_mosaic and alone:
        return _tiles(one)
    return [replace(one, index=n, known={}) for n in range(header.frames)]


def _require_room(header: Header, size: tuple[int, int]) -> None:
    """Refuse a file that is smaller than what its header promises, before a slice is made of every image."""
    images = header.frames
    syntax = header.dataset.file_meta.TransferSyntaxUID
    samples = 2 if header.text("PhotometricInterpretation") == "YBR_FULL_422" else header.number("SamplesPerPixel", 1)
    pixels = images * size[0] * size[1] * samples * header.number("BitsAllocated", 16) // 8
    there = header.path.stat().st_size
    if syntax.is_private or not syntax.is_transfer_syntax:
        return  # nobody can decode it; that is said when its pixels are read
    if syntax.is_encapsulated:
        require_bytes(header.path, images * _LEAST_CODED, there)
    elif syntax.is_deflated:
        require_compressed(header.path, int(pixels), there)
    else:
        require_bytes(header.path, int(pixels), there)


def _enhanced(header: Header, index: int, size: tuple[int, int], frame: Any) -> Slice:
    """Read one image of an enhanced file, from its own attributes or those shared by all."""
    shared = header.get("SharedFunctionalGroupsSequence")
    blank = Slice(header, index, size, None, None, None, groups=(frame, *(shared or ())[:1]))
    plane, measures = blank.group("PlanePositionSequence"), blank.group("PixelMeasuresSequence")
    return Slice(
        header,
        index,
        size,
        header.numbers("ImagePositionPatient", 3, plane),
        header.numbers("ImageOrientationPatient", 6, blank.group("PlaneOrientationSequence")),
        header.numbers("PixelSpacing", 2, measures),
        header.number("SpacingBetweenSlices", 0, measures) or header.number("SliceThickness", 0, measures) or None,
        _rescale(header, blank.group("PixelValueTransformationSequence")),
        blank.groups,
    )


def _rescale(header: Header, within: Any) -> Rescale:
    slope = header.number("RescaleSlope", 1.0, within or None)
    if slope == 0:
        raise FileError(f"{header.path} has a rescale slope of 0, which leaves no values: its header is wrong")
    return Rescale(slope, header.number("RescaleIntercept", 0.0, within or None))


def _dose_planes(one: Slice) -> list[Slice]:
    """Place the planes of a dose grid, whose numbers are counts of a dose."""
    header = one.header
    position, orientation = header.numbers("ImagePositionPatient", 3), header.numbers("ImageOrientationPatient", 6)
    scaling = header.number("DoseGridScaling", 0)
    if position is None or orientation is None or one.pixel_spacing is None:
        raise FileError(f"{header.path} does not say where its dose grid lies: export it again")
    if scaling <= 0:
        raise FileError(
            f"{header.path} does not say what its numbers are worth (Dose Grid Scaling, {scaling:g}): export it again"
        )
    one = replace(one, position=position, orientation=orientation, rescale=Rescale(scaling))
    count = header.frames
    if count == 1:
        return [one]
    given = np.atleast_1d(header.get("GridFrameOffsetVector", []))
    try:
        offsets = given.astype(float)
    except (TypeError, ValueError):
        offsets = np.full(count, np.nan)
    if offsets.size != count or not np.isfinite(offsets).all():
        raise FileError(
            f"{header.path} gives the places of {offsets.size} of its {count} planes (Grid Frame Offset Vector): its "
            "header is wrong"
        )
    normal = np.cross(orientation[:3], orientation[3:])
    steps = np.outer(offsets, normal)
    if offsets[0] != 0:
        # The other of the two ways that the standard knows: z in the patient, for axial planes only.
        level = abs(offsets[0] - position[2]) <= 1e-2 and abs(abs(normal[2]) - 1) <= 1e-3
        if not level:
            raise FileError(
                f"{header.path} has planes whose places begin neither with 0 nor with its position (Grid Frame Offset "
                "Vector): its header is wrong"
            )
        steps = np.outer(offsets - offsets[0], (0, 0, 1))
    return [replace(one, index=n, position=position + step, known={}) for n, step in enumerate(steps)]


def _tiles(whole: Slice) -> list[Slice]:
    """Cut a mosaic into its slices."""
    size, places = _dicom_mosaic.tiles(whole.header, whole.size, whole.position, whole.orientation, whole.pixel_spacing)
    return [replace(whole, index=n, size=size, position=place, known={}) for n, place in enumerate(places)]
