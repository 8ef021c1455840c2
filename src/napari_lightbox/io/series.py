"""What a folder of DICOM files holds, told from the headers alone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError
from ..volume import Volume
from . import dicom
from ._carry import Found
from ._dicom_headers import Header, NoImageError, scan
from ._dicom_meta import flat_affine
from ._dicom_parts import Part, parts_of
from ._dicom_stack import listed
from ._thumbnail import picture

# Segmentations, which `read_masks` turns into labels.
_MASKS = ("SEG", "RTSTRUCT")


class Patient(NamedTuple):
    """Whose images they are, as the files say."""

    name: str
    id: str


class Study(NamedTuple):
    """The examination a series belongs to; the date as YYYY-MM-DD."""

    date: str
    description: str
    uid: str


class FrameAxis(NamedTuple):
    """What changes from frame to frame of a 4D series; values in `unit`."""

    kind: str
    count: int
    values: tuple[float, ...]
    unit: str = ""


@dataclass(frozen=True, eq=False)
class SeriesInfo:
    """One volume that a folder offers, or a file in it that holds none.

    Parameters
    ----------
    patient : Patient
        ``(name, id)``.
    study : Study
        ``(date, description, uid)``.
    number, description, uid, modality : str
        Of the series. Where a series makes several volumes the number tells them apart: ``"4.1"``, ``"4.2"``.
    files : tuple of Path
        Where its images are.
    size : tuple of int
        Voxels (x, y, z), of a segmentation those of its masks; zeros where there is no image.
    spacing : tuple of float, or None
        Distance of voxels in mm (x, y, z); None where it is not known.
    frames : FrameAxis, or None
        ``(kind, count, values, unit)`` of a 4D series.
    syntax : str
        Name of the transfer syntax: how the pixels are coded.
    warnings : tuple of str
        Sentences to read before the series is used.
    problem : str, or None
        Sentence that says why it cannot be opened as it is.
    remedy_even : bool
        Whether it can be opened with ``even=True``.
    kind : {"image", "labels", "other", "damaged"}
        Labels are segmentations (SEG, RTSTRUCT); others are DICOM files that hold nothing to show.
    contents : str
        How many structures a segmentation has, such as ``"3 segments"`` or ``"5 structures, 214 contours"``.
    """

    patient: Patient
    study: Study
    number: str
    description: str
    uid: str
    modality: str
    files: tuple[Path, ...]
    size: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] | None = None
    frames: FrameAxis | None = None
    syntax: str = ""
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    remedy_even: bool = False
    kind: str = "image"
    contents: str = ""
    _part: Part | None = field(default=None, repr=False)

    def thumbnail(self, size: int = 96) -> np.ndarray:
        """Draw the slice in the middle; only its file is read.

        Parameters
        ----------
        size : int
            Pixels along both axes.

        Returns
        -------
        (size, size) array of uint8
            Right way up with the right aspect, in the window of the file, or the middle 98 % of the values where it has
            none. Black where there is nothing to show.
        """
        if self._part is None or self._part.sorted is None:
            return np.zeros((size, size), np.uint8)
        try:
            volume = dicom.middle_slice(self._part)
        except FileError:
            return np.zeros((size, size), np.uint8)
        inverted = any(note.startswith("MONOCHROME1") for note in volume.meta.get("notes", ()))
        oriented = bool(volume.meta.get("orientation_known", True))
        return picture(volume.data[0], volume.grid, size, volume.meta["windows"], inverted, oriented)

    def load(self, even: bool = False) -> list[Volume]:
        """Read the voxels.

        Parameters
        ----------
        even : bool
            Resample what is tilted, uneven or has gaps, see `read`.

        Returns
        -------
        list of Volume
            One; of a segmentation with overlapping structures several.

        Raises
        ------
        FileError
            If it cannot be opened.
        """
        if self._part is not None:
            return [dicom.load(self._part, even)]
        if self.kind == "labels":
            from .masks import read_masks

            return read_masks(self.files[0])
        raise FileError(self.problem or f"{self.files[0]} holds nothing to open: choose another series")


def list_series(path: str | Path) -> list[SeriesInfo]:
    """List what the DICOM files of a folder, and of all folders in it, hold; only headers are read.

    Parameters
    ----------
    path : str or Path
        Folder or file.

    Returns
    -------
    list of SeriesInfo
        By patient, study and number: images, then segmentations, then what holds no image; at the end the files that
        cannot be read.

    Raises
    ------
    FileError
        If there is no such folder, or no DICOM file in it.
    MissingPart
        If pydicom is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from napari_lightbox import phantoms_dicom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = phantoms_dicom.write_series(folder)
    ...     (series,) = list_series(folder)
    >>> series.size, series.spacing, series.problem
    ((58, 56, 20), (6.5, 6.0, 10.0), None)
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist: check the name")
    scanned = scan(path)
    found = [_of_part(dicom.with_damage(part, scanned)) for part in parts_of(scanned.series)]
    found += [_without_image(error) for error in scanned.no_image]
    found += [_damaged(file, error) for file, error in scanned.damaged.items()]
    return sorted(found, key=_place)


def _place(series: SeriesInfo) -> tuple:
    kind = ("image", "labels", "other", "damaged").index(series.kind)
    return (kind == 3, series.patient, series.study, kind, _number(series.number), str(series.files[0]))


def _number(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split("."))
    except ValueError:
        return (float("inf"),)


def _identity(header: Header) -> dict[str, Any]:
    def text(keyword: str) -> str:
        try:
            return header.text(keyword)
        except FileError:
            return ""

    date = text("StudyDate")
    date = f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date
    return {
        "patient": Patient(text("PatientName").replace("^", " ").strip(), text("PatientID")),
        "study": Study(date, text("StudyDescription"), text("StudyInstanceUID")),
        "number": text("SeriesNumber"),
        "uid": text("SeriesInstanceUID"),
        "modality": text("Modality"),
        "syntax": header.syntax,
    }


def _of_part(part: Part) -> SeriesInfo:
    facts = _identity(part.first) | {"number": part.text_number, "description": part.title}
    files = tuple(dict.fromkeys(h.path for h in part.headers))
    warnings = [*part.notes, *part.copies(compared=False)]
    if part.series.beside:
        names = listed([p.name for p in part.series.beside])
        warnings.append(f"no DICOM files, or not any more, and left out: {names}")
    problem = part.refusal
    if part.sorted is not None:
        try:
            facts |= _geometry(part, warnings)
        except FileError as error:
            problem = error
    return SeriesInfo(
        **facts,
        files=files,
        warnings=tuple(warnings),
        problem=None if problem is None else str(problem),
        remedy_even=part.remedy_even,
        _part=part,
    )


def _geometry(part: Part, warnings: list[str]) -> dict[str, Any]:
    frames = part.sorted.frames
    size = frames[0][0].size
    axis, known = part.sorted.axis, True
    if part.stack is None:
        found = Found(part.first.path, part.title)
        affine = flat_affine(frames[0][0], found)
        axis = dicom.cine(part.first, len(frames)) if len(frames) > 1 else None
        known = found.meta.get("spacing_known", True)
        warnings += found.notes
    else:
        affine = part.stack.affine
    lengths = [float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)[::-1]]
    if part.stack is not None:
        lengths[2] = part.stack.usual
    return {
        "size": (size[1], size[0], len(frames[0])),
        "spacing": tuple(round(float(v), 6) for v in lengths) if known else None,
        "frames": FrameAxis(axis.kind, len(axis.values), axis.values, axis.unit) if axis is not None else None,
    }


def _without_image(error: NoImageError) -> SeriesInfo:
    header = error.header
    facts = _identity(header)
    description = header.text("SeriesDescription") or header.path.name
    common = {**facts, "description": description, "files": (header.path,)}
    if facts["modality"] not in _MASKS:
        return SeriesInfo(**common, kind="other", problem=str(error))
    from .masks import outline

    try:
        seen = outline(header.path)
    except FileError as damage:
        return SeriesInfo(**common, kind="labels", problem=str(damage))
    return SeriesInfo(**common, size=seen.size, spacing=seen.spacing, contents=seen.contents, kind="labels")


def _damaged(file: Path, error: FileError) -> SeriesInfo:
    return SeriesInfo(
        Patient("", ""), Study("", "", ""), "", file.name, "", "", (file,), problem=str(error), kind="damaged"
    )
