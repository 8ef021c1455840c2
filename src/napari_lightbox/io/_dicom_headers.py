"""The headers of DICOM files, and which files belong together."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, need
from ..progress import Cancelled, track

_NO_IMAGE = {
    "RTSTRUCT": "contours (RTSTRUCT)",
    "RTPLAN": "a treatment plan (RTPLAN)",
    "RTDOSE": "a dose grid (RTDOSE)",
    "SEG": "a segmentation (DICOM SEG)",
    "SR": "a report",
    "PR": "a presentation state",
    "KO": "a key object selection",
    "REG": "a registration",
    "ECG": "a waveform",
}
_TAGS = (
    "SOPClassUID SOPInstanceUID Modality SeriesInstanceUID SeriesNumber SeriesDescription StudyInstanceUID "
    "FrameOfReferenceUID ImageType Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation "
    "BitsAllocated BitsStored PixelRepresentation ImagePositionPatient ImageOrientationPatient PixelSpacing "
    "ImagerPixelSpacing NominalScannedPixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope "
    "RescaleIntercept RescaleType Units WindowCenter WindowWidth WindowCenterWidthExplanation "
    "PixelPaddingValue FrameTime FrameTimeVector SequenceOfUltrasoundRegions SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence ModalityLUTSequence BodyPartExamined "
)


@dataclass
class Header:
    """The header of one file; asking for a value that cannot be parsed names the file."""

    path: Path
    dataset: Any

    def get(self, keyword: str, default: Any = None, within: Any = None) -> Any:
        try:
            value = (self.dataset if within is None else within).get(keyword, default)
        except Exception as error:  # pydicom parses a value when it is asked for, and raises whatever it ran into
            raise FileError(f"{self.path} has a {keyword} that cannot be read: its header is wrong") from error
        return default if value is None or value == "" else value

    def numbers(self, keyword: str, count: int, within: Any = None) -> np.ndarray | None:
        value = self.get(keyword, within=within)
        if value is None:
            return None
        try:
            array = np.array(value, dtype=float).reshape(-1)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.size != count:
            raise FileError(
                f"{self.path} has {keyword} = {value}, where {count} numbers are needed: its header is wrong"
            )
        return array

    def number(self, keyword: str, default: float, within: Any = None) -> float:
        array = self.numbers(keyword, 1, within)
        if array is None:
            return default
        if not math.isfinite(array[0]):
            raise FileError(f"{self.path} has {keyword} = {array[0]:g}: its header is wrong")
        return float(array[0])

    def text(self, keyword: str) -> str:
        return str(self.get(keyword, "")).strip()

    @property
    def frames(self) -> int:
        return max(1, int(self.number("NumberOfFrames", 1)))


@dataclass
class Series:
    """Files that belong together."""

    headers: list[Header] = field(default_factory=list)

    @property
    def first(self) -> Header:
        return self.headers[0]

    @property
    def number(self) -> str:
        return self.first.text("SeriesNumber")

    @property
    def title(self) -> str:
        first = self.first
        title = first.text("SeriesDescription")
        title = "" if title.lower() in ("none", "null") else title
        return title or f"{first.text('Modality') or 'DICOM'} series {self.number}".strip()

    @property
    def subject(self) -> str:
        if len(self.headers) == 1:
            return str(self.first.path)
        return f"series {self.number or '?'} {self.title!r} in {self.first.path.parent}"

    def summary(self) -> str:
        count = sum(h.frames for h in self.headers)
        return f"{self.number or '?'}: {self.title!r}, {self.first.text('Modality')}, {count} image{'s' * (count > 1)}"


class NoImageError(FileError):
    """A DICOM file that is in order but holds no image."""


# Headers --------------------------------------------------------------------------------------------------------


def scan(path: Path) -> tuple[list[Series], list[FileError]]:
    """Read all headers and sort the files into series, by number; collect what is no image or cannot be read."""
    need("pydicom", "Reading DICOM")
    if path.is_dir():
        paths = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        paths = [p for p in sorted(paths) if p.name.upper() != "DICOMDIR"]
    else:
        paths = [path]
    series: dict[tuple, Series] = {}
    refused: list[FileError] = []
    for file in track(paths, "headers read"):
        try:
            header = _header(file, asked=not path.is_dir() or file.suffix.lower() == ".dcm")
            if header is not None:
                series.setdefault(_key(header), Series()).headers.append(header)
        except FileError as error:
            refused.append(error)
    if path.is_dir() and not series and not refused:
        raise FileError(f"{path} holds no DICOM files: choose the folder that has them, or open a single file")
    return sorted(series.values(), key=_in_order), refused


def _in_order(series: Series) -> tuple:
    number = series.number
    return (int(number) if number.lstrip("-").isdigit() else math.inf, str(series.first.path))


def _header(path: Path, asked: bool) -> Header | None:
    """Read one header; None for a file that is no DICOM and was not said to be."""
    import pydicom

    try:
        with open(path, "rb") as file:
            marked = file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    if not marked:
        if asked:
            raise FileError(
                f"{path} is not a complete DICOM file (its start with the mark DICM is missing): copy it again"
            )
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS.split())
        dataset.file_meta.TransferSyntaxUID  # noqa: B018 - absent in a damaged file
    except (Cancelled, MemoryError):
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
        raise FileError(f"{path} has a DICOM header that cannot be read: copy the file again") from error
    header = Header(path, dataset)
    modality = header.text("Modality")
    if modality in _NO_IMAGE or header.get("Rows") is None or header.get("Columns") is None:
        what = _NO_IMAGE.get(modality, "no image")
        kind = str(getattr(getattr(dataset.file_meta, "MediaStorageSOPClassUID", ""), "name", ""))
        if modality not in _NO_IMAGE and "Image Storage" in kind:
            raise FileError(
                f"{path} is cut short, it should hold a {kind.removesuffix(' Storage')}: copy the file again"
            )
        raise NoImageError(
            f"{path} holds {what}, which cannot be opened as a volume: open the image series it belongs to"
        )
    return header


def _key(header: Header) -> tuple:
    """Single images with a position are slices of their series; every other file stands for itself."""
    placed = header.get("ImagePositionPatient") is not None and header.get("ImageOrientationPatient") is not None
    alone = header.frames > 1 or not (placed or is_mosaic(header))
    uid = header.text("SeriesInstanceUID") or str(header.path.parent)
    return (uid, str(header.path)) if alone else (uid,)


def is_mosaic(header: Header) -> bool:
    return "MOSAIC" in [str(v).upper() for v in np.atleast_1d(header.get("ImageType", []))]
