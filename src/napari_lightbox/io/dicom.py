"""DICOM images: series slice by slice, enhanced multi-frame, Siemens mosaics, films. Headers are checked first.

Which geometry holds
    Slices are sorted by their position along the normal (row direction x column direction); tolerances are those of
    `_dicom_stack`. Series are told apart by Series Instance UID and never merged; a series that mixes sizes,
    orientations, pixel spacings, types of image or patients makes several volumes. A tilted gantry gives sheared axes.
    Uneven or missing slices are refused, or resampled (linear) to an even stack where ``even=True`` asks for it; so is
    a frame that lacks single images.
    What several images at one position are is said by `_dicom_frames`; the directions of diffusion gradients, in
    ``meta["gradient_directions"]``, are LPS x, y, z.
What happens to values
    Rescale slope and intercept are applied; integers stay integers where both are whole. MONOCHROME1 values are kept
    as they are and ``meta["notes"]`` says that low values are meant to be shown bright. Colour becomes luminance. PET
    stays in the unit of the file. Dose grids are in Gy (Dose Grid Scaling). A Real World Value Mapping is applied where
    it is the only scaling there is, see `_dicom_mapping`.
"""

import math
from pathlib import Path

import numpy as np

from ..errors import FileError, InputError
from ..progress import track
from ..volume import Volume
from . import _dicom_even, _dicom_mapping
from ._bytes import require_memory
from ._carry import Found
from ._dicom_headers import Header, Scan, scan
from ._dicom_meta import cine, describe, flat_affine
from ._dicom_parts import Part, closed, parts_of
from ._dicom_pixels import Coding, result_type, stored_values, values
from ._dicom_slices import Slice
from ._dicom_stack import listed


def read(path: Path, series: str | int | None = None, even: bool = False) -> Volume:
    """Read a DICOM file, or the only series (or the one asked for) of a folder and all folders in it.

    Dose grids do not count where there is one image beside them.

    Parameters
    ----------
    path : Path
        File or folder.
    series : str or int, optional
        Series number, Series Instance UID, or a part of the Series Description; of a series with several volumes the
        number with a running number behind a point, ``"4.2"``.
    even : bool
        Resample what is tilted, uneven or has gaps (linear) to an even, right-angled stack.

    Raises
    ------
    FileError
        If there is no image, several series, or one that is not regular.
    MissingPart
        If pydicom is not installed.
    """
    scanned = scan(path)
    parts = parts_of(scanned.series)
    found = parts if series is None else [p for p in parts if _matches(p, series)]
    images = [p for p in found if not p.first.is_dose]
    if series is None and len(images) == 1:
        found = images
    for error in scanned.damaged.values() if series is None or not found else ():
        # It may be of the only series, or of the one asked for.
        raise error
    if len(found) == 1:
        # A slice that cannot be read would leave a hole, or a stack that ends too early.
        return load(with_damage(found[0], scanned), even)
    for error in scanned.no_image if not found else ():
        if series is None or _names(error.header, series):
            raise error
    all_of_them = listed([p.summary() for p in (found or parts)], most=8)
    if not found:
        what = f"has no series {series!r}" if series is not None else "holds no DICOM images"
        raise FileError(f"{path} {what}{f' among {all_of_them}' if all_of_them else ''}: choose another")
    what = "series" if len({id(p.series) for p in found}) == len(found) else "volumes"
    numbers = [p.text_number for p in found]
    by = "number, UID or description" if len(set(numbers)) == len(numbers) else "UID or description"
    raise FileError(
        f"{path} holds {len(found)} {what} ({all_of_them}): choose one by its {by} (series=...), or open all of them "
        "by read_all"
    )


def read_all(path: Path, even: bool = False) -> tuple[list[Volume], list[FileError]]:
    """Read every volume of a file or folder; return the volumes, and the errors of those that cannot be loaded.

    A file that cannot be read may be a slice of any series beside it, and none of them is loaded without it.

    Raises
    ------
    FileError
        If nothing could be loaded.
    """
    scanned = scan(path)
    volumes, errors = [], [*scanned.damaged.values(), *scanned.no_image]
    for part in parts_of(scanned.series):
        try:
            volumes.append(load(with_damage(part, scanned), even))
        except FileError as error:
            errors.append(error)
    if not volumes:
        raise errors[0] if errors else FileError(f"{path} holds no DICOM images: choose another folder")
    return volumes, errors


def with_damage(part: Part, scanned: Scan) -> Part:
    """Note in a part that a file which cannot be read may be one of its slices."""
    damaged = scanned.damage_in(part.series)
    if damaged is not None and part.problem is None:
        part.problem = FileError(
            f"{part.subject} was left out, one of its slices may be {damaged.name}, which cannot be read: copy that "
            "file again"
        )
    return part


def _matches(part: Part, wanted: str | int) -> bool:
    text = str(wanted).strip()
    if not text:
        raise InputError("series '' names none: give a number, a UID or a part of the description")
    exact = text in (part.series.number, part.text_number, part.first.text("SeriesInstanceUID"))
    return exact or (isinstance(wanted, str) and text.lower() in part.title.lower())


def _names(header: Header, wanted: str | int) -> bool:
    """Whether a file without an image is that of the series asked for."""
    text = str(wanted).strip()
    exact = text in (header.text("SeriesNumber"), header.text("SeriesInstanceUID"))
    return exact or (isinstance(wanted, str) and text.lower() in header.text("SeriesDescription").lower())


# One volume -----------------------------------------------------------------------------------------------------


def load(part: Part, even: bool = False) -> Volume:
    """Read the pixels of a part.

    Raises
    ------
    FileError
        If it is irregular (and `even` not asked for), or its pixels cannot be decoded.
    """
    refusal = part.problem if even else part.refusal
    if refusal is not None:
        raise refusal
    if part.sorted.holes:
        part = closed(part)
    first = part.first
    if first.get("ModalityLUTSequence") is not None:
        raise FileError(
            f"{first.path} gives its values by a table (Modality LUT), which cannot be loaded: convert it first"
        )
    found = Found(first.path, part.title, notes=[*part.notes, *part.copies(compared=True)], meta=dict(part.sorted.meta))
    if part.series.beside:
        names = listed([p.name for p in part.series.beside])
        found.notes.append(f"no DICOM files, or not any more, and left out: {names}")
    frames = part.sorted.frames
    found.frames = part.sorted.axis
    if part.stack is None:
        affine = flat_affine(frames[0][0], found)
        if len(frames) > 1:
            found.frames = cine(first, len(frames))
    else:
        affine = part.stack.affine
        _require_same_copies(part)
    slices = [s for frame in frames for s in frame]
    data, slices, mapping = _mapped(slices, found)
    data = data.reshape(len(frames), len(frames[0]), *slices[0].size)
    describe(found, slices, part)
    if mapping is not None:
        _dicom_mapping.describe(found, mapping)
    if even and part.stack is not None:
        data, affine = _dicom_even.resampled(data, part.stack, found, part.sorted.holes)
    return found.volume(data if found.frames is not None else data[0], affine)


def _mapped(slices: list[Slice], found: Found) -> tuple[np.ndarray, list[Slice], _dicom_mapping.Mapping | None]:
    """Read the pixels, as real values where the files say what their numbers stand for."""
    mapping = _dicom_mapping.chosen(slices, found)
    if mapping is not None:
        scaled = _dicom_mapping.applied(slices, mapping)
        data = _pixels(scaled, found)
        if mapping.covers(data):
            return data, scaled, mapping
        del data
        _dicom_mapping.left("it is not meant for all values that occur", found, mapping.unit)
    return _pixels(slices, found), slices, None


def middle_slice(part: Part) -> Volume:
    """Read one slice in the middle, as a volume of one slice; its place along the stack is not kept."""
    frames = part.sorted.frames
    frame = frames[len(frames) // 2] if part.stack is None else frames[0]
    s = frame[len(frame) // 2]
    found = Found(s.header.path, part.title)
    affine = flat_affine(s, found) if part.stack is None else part.stack.affine
    data = _pixels([s], found)
    describe(found, [s], part)
    return found.volume(data, affine)


def _require_same_copies(part: Part) -> None:
    """Refuse two images at one place that are not the same."""
    by_file: dict[tuple[Path, Path], list[tuple[Slice, Slice]]] = {}
    for kept, other in part.sorted.copies:
        by_file.setdefault((kept.header.path, other.header.path), []).append((kept, other))
    for pairs in track(by_file.values(), "copies compared"):
        stored = [stored_values(side)[0] for side in zip(*pairs, strict=True)]
        for index, (kept, other) in enumerate(pairs):
            if kept.rescale != other.rescale or not np.array_equal(stored[0][index], stored[1][index]):
                raise FileError(
                    f"{part.subject} has duplicate slices: {kept.label} and {other.label} lie at the same position, "
                    "their pixels differ and nothing in their headers tells them apart; remove one of them"
                )


def _pixels(slices: list[Slice], found: Found) -> np.ndarray:
    """Read the pixels of slices in their order, file by file."""
    headers = {s.header.path: s.header for s in slices}
    codings = {path: Coding.of(header) for path, header in headers.items()}
    dtype = result_type([codings[s.header.path] for s in slices], [s.rescale for s in slices])
    shape = (len(slices), *slices[0].size)
    first = slices[0].header
    per_file = math.prod(shape) * max(1, len(slices) // len(codings)) // len(slices)
    require_memory(
        first.path.parent if len(codings) > 1 else first.path, (math.prod(shape) + 2 * per_file) * dtype.itemsize
    )
    data = np.empty(shape, dtype)
    places: dict[Path, list[int]] = {}
    for place, s in enumerate(slices):
        places.setdefault(s.header.path, []).append(place)
    coloured = False
    for at in track(places.values(), "files read", len(places)):
        by_index = sorted(at, key=lambda p: slices[p].index)
        data[by_index], converted = values([slices[p] for p in by_index], dtype)
        coloured |= converted
    if coloured:
        found.notes.append("colour was turned into luminance (ITU-R BT.601)")
    return data
