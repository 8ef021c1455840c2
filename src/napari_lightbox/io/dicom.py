"""DICOM images: regular series, single files, multi-frame files. Headers are checked before a pixel is read.

Which geometry holds
    Slices are sorted by their position along the normal (row direction x column direction) and must form one regular
    stack; what does not is refused with a sentence that names the files (tolerances: `_dicom_stack`). Series are told
    apart by Series Instance UID and never merged.
What happens to values
    Rescale slope and intercept are applied; integers stay integers where both are whole. MONOCHROME1 values are kept
    as they are and ``meta["notes"]`` says that low values are meant to be shown bright. Colour becomes luminance. PET
    stays in the unit of the file.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError
from ..progress import track
from ..volume import Volume
from ._bytes import require_memory
from ._carry import Found
from ._dicom_headers import Header, Series, is_mosaic, scan
from ._dicom_meta import cine, describe, flat_affine
from ._dicom_pixels import Coding, Rescale, result_type, values
from ._dicom_stack import Slice, arrange, listed

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")


def read(path: Path, series: str | int | None = None) -> Volume:
    """Read a DICOM file, or the only series (or the one asked for) of a folder and all folders in it.

    Parameters
    ----------
    path : Path
        File or folder.
    series : str or int, optional
        Series number, Series Instance UID, or a part of the Series Description.

    Raises
    ------
    FileError
        If there is no image, several series, or one that is not regular.
    MissingPart
        If pydicom is not installed.
    """
    scanned = scan(path)
    for error in scanned.damaged.values():
        # A slice that cannot be read would leave a hole, or a stack that ends too early.
        raise error
    found = scanned.series
    if series is not None:
        found = [s for s in found if _matches(s, series)]
    if len(found) == 1:
        return _load(found[0])
    if not found and scanned.no_image and series is None:
        raise scanned.no_image[0]
    all_of_them = listed([s.summary() for s in (found or scanned.series)], most=8)
    if not found:
        what = f"has no series {series!r}" if series is not None else "holds no DICOM images"
        raise FileError(f"{path} {what}{f' among {all_of_them}' if all_of_them else ''}: choose another")
    raise FileError(
        f"{path} holds {len(found)} series ({all_of_them}): choose one by its number, UID or description (series=...), "
        "or open all of them by read_all"
    )


def read_all(path: Path) -> tuple[list[Volume], list[FileError]]:
    """Read every series of a file or folder; return the volumes, and the errors of those that cannot be loaded.

    A file that cannot be read may be a slice of any series beside it, and none of them is loaded without it.

    Raises
    ------
    FileError
        If nothing could be loaded.
    """
    scanned = scan(path)
    volumes, errors = [], [*scanned.damaged.values(), *scanned.no_image]
    for series in scanned.series:
        try:
            if (damaged := scanned.damage_in(series)) is not None:
                raise FileError(
                    f"{series.subject} was left out, one of its slices may be {damaged.name}, which cannot be read: "
                    "copy that file again"
                )
            volumes.append(_load(series))
        except FileError as error:
            errors.append(error)
    if not volumes:
        raise errors[0] if errors else FileError(f"{path} holds no DICOM images: choose another folder")
    return volumes, errors


def _matches(series: Series, wanted: str | int) -> bool:
    text = str(wanted).strip()
    if not text:
        raise InputError("series '' names none: give a number, a UID or a part of the description")
    exact = text in (series.number, series.first.text("SeriesInstanceUID"))
    return exact or (isinstance(wanted, str) and text.lower() in series.title.lower())


# One series -----------------------------------------------------------------------------------------------------


def _load(series: Series) -> Volume:
    first = series.first
    if is_mosaic(first):
        raise FileError(
            f"{first.path} is a Siemens mosaic, many slices tiled into one picture, which cannot be loaded yet: "
            "convert it to NIfTI first"
        )
    if first.get("ModalityLUTSequence") is not None:
        raise FileError(
            f"{first.path} gives its values by a table (Modality LUT), which cannot be loaded: convert it first"
        )
    slices = [s for h in series.headers for s in _slices(h)]
    placed = all(s.position is not None and s.orientation is not None for s in slices)
    found = Found(first.path, series.title)
    if series.beside:
        found.notes.append(f"no DICOM files, or not any more, and left out: {listed([p.name for p in series.beside])}")
    if placed:
        missing = [s.label for s in slices if s.pixel_spacing is None]
        if missing:
            raise FileError(f"{series.subject} has no Pixel Spacing in {listed(missing)}: its header is wrong")
        slices, affine = arrange(slices, series.subject)
        data = _pixels(slices, found)
    else:
        affine = flat_affine(slices[0], found)
        data = _pixels(slices, found)
        if len(slices) > 1:
            found.frames = cine(first, len(slices))
            data = data[:, None]
    describe(found, slices, series)
    return found.volume(data, affine)


def _slices(header: Header) -> list[Slice]:
    """Return the images of one file; `source` is (header, index in the file, Rescale)."""
    size = (int(header.number("Rows", 0)), int(header.number("Columns", 0)))
    if min(size) < 1:
        raise FileError(f"{header.path} has the impossible size {size[1]} x {size[0]}: its header is wrong")
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        count = header.frames
        one = Slice(
            header.path.name,
            size,
            header.numbers("ImagePositionPatient", 3) if count == 1 else None,
            header.numbers("ImageOrientationPatient", 6) if count == 1 else None,
            header.numbers("PixelSpacing", 2),
            header.number("SpacingBetweenSlices", 0) or header.number("SliceThickness", 0) or None,
        )
        rescale = _rescale(header, None)
        return [Slice(**{**vars(one), "source": (header, n, rescale)}) for n in range(count)]
    if len(frames) != header.frames:
        raise FileError(f"{header.path} describes {len(frames)} of its {header.frames} images: its header is wrong")
    return [_enhanced_slice(header, n, size, frame) for n, frame in enumerate(frames)]


def _enhanced_slice(header: Header, index: int, size: tuple[int, int], frame: Any) -> Slice:
    """Read one image of an enhanced file, from its own attributes or those shared by all."""
    shared = header.get("SharedFunctionalGroupsSequence")

    def group(name: str) -> Any:
        for place in (frame, shared[0] if shared else None):
            found = header.get(name, within=place) if place is not None else None
            if found:
                return found[0]
        return {}

    plane, measures = group("PlanePositionSequence"), group("PixelMeasuresSequence")
    return Slice(
        f"frame {index + 1} of {header.path.name}",
        size,
        header.numbers("ImagePositionPatient", 3, plane),
        header.numbers("ImageOrientationPatient", 6, group("PlaneOrientationSequence")),
        header.numbers("PixelSpacing", 2, measures),
        header.number("SpacingBetweenSlices", 0, measures) or header.number("SliceThickness", 0, measures) or None,
        (header, index, _rescale(header, group("PixelValueTransformationSequence"))),
    )


def _rescale(header: Header, within: Any) -> Rescale:
    slope = header.number("RescaleSlope", 1.0, within or None)
    if slope == 0:
        raise FileError(f"{header.path} has a rescale slope of 0, which leaves no values: its header is wrong")
    return Rescale(slope, header.number("RescaleIntercept", 0.0, within or None))


def _pixels(slices: Sequence[Slice], found: Found) -> np.ndarray:
    """Read the pixels of slices in their order, file by file."""
    codings = {s.source[0].path: _coding(s.source[0]) for s in slices}
    dtype = result_type([codings[s.source[0].path] for s in slices], [s.source[2] for s in slices])
    shape = (len(slices), *slices[0].size)
    first = slices[0].source[0]
    per_file = math.prod(shape) if len(codings) == 1 else math.prod(shape[1:])
    require_memory(
        first.path.parent if len(codings) > 1 else first.path, (math.prod(shape) + 2 * per_file) * dtype.itemsize
    )
    data = np.empty(shape, dtype)
    places: dict[Path, list[int]] = {}
    for place, s in enumerate(slices):
        places.setdefault(s.source[0].path, []).append(place)
    coloured = False
    for path, at in track(places.items(), "files read", len(places)):
        by_index = sorted(at, key=lambda p: slices[p].source[1])
        stored, converted = values(path, codings[path], [slices[p].source[2] for p in by_index], dtype)
        if stored.shape[1:] != shape[1:]:
            raise FileError(f"{path} holds images of another size than its header promises: copy the file again")
        data[by_index] = stored
        coloured |= converted
    if coloured:
        found.notes.append("colour was turned into luminance (ITU-R BT.601)")
    return data


def _coding(header: Header) -> Coding:
    colour = header.text("PhotometricInterpretation")
    samples = int(header.number("SamplesPerPixel", 1))
    allocated = int(header.number("BitsAllocated", 16))
    bits = int(header.number("BitsStored", allocated))
    if allocated not in (8, 16, 32) or not 1 <= bits <= allocated:
        raise FileError(
            f"{header.path} stores {bits} of {allocated} bits a pixel, which is no grey image: convert it first"
        )
    return Coding(
        bits,
        bool(header.number("PixelRepresentation", 0)),
        samples > 1 or colour in _COLOURS,
        header.frames > 1,
        str(header.dataset.file_meta.TransferSyntaxUID),
    )
