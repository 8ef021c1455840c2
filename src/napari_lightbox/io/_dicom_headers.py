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
        """Return a value of the header, or of a part of it; `default` where it is absent or empty."""
        try:
            value = (self.dataset if within is None else within).get(keyword, default)
        except Exception as error:  # pydicom parses a value when it is asked for, and raises whatever it ran into
            raise FileError(f"{self.path} has a {keyword} that cannot be read: its header is wrong") from error
        return default if value is None or value == "" else value

    def numbers(self, keyword: str, count: int, within: Any = None) -> np.ndarray | None:
        """Return `count` numbers, None where there are none; refuse another number of them."""
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
        """Return one finite number."""
        array = self.numbers(keyword, 1, within)
        if array is None:
            return default
        if not math.isfinite(array[0]):
            raise FileError(f"{self.path} has {keyword} = {array[0]:g}: its header is wrong")
        return float(array[0])

    def text(self, keyword: str) -> str:
        """Return a value as text without blanks around it; empty where it is absent."""
        return str(self.get(keyword, "")).strip()

    @property
    def frames(self) -> int:
        """Number of images in the file."""
        return max(1, int(self.number("NumberOfFrames", 1)))


@dataclass
class Series:
    """Files that belong together."""

    headers: list[Header] = field(default_factory=list)
    # Files of the same folder that look as if they belonged to it, but are no DICOM files, or not any more.
    beside: list[Path] = field(default_factory=list)

    @property
    def first(self) -> Header:
        """Header that speaks for all."""
        return self.headers[0]

    @property
    def number(self) -> str:
        """Series number as text; may be empty."""
        return self.first.text("SeriesNumber")

    @property
    def title(self) -> str:
        """Description of the series, or its modality and number."""
        first = self.first
        title = first.text("SeriesDescription")
        title = "" if title.lower() in ("none", "null") else title
        return title or f"{first.text('Modality') or 'DICOM'} series {self.number}".strip()

    @property
    def subject(self) -> str:
        """What a sentence about the series calls it: the file, or number, title and folder."""
        if len(self.headers) == 1:
            return str(self.first.path)
        return f"series {self.number or '?'} {self.title!r} in {self.first.path.parent}"

    def summary(self) -> str:
        """Number, title, modality and count of images, for a list to choose from."""
        count = sum(h.frames for h in self.headers)
        return f"{self.number or '?'}: {self.title!r}, {self.first.text('Modality')}, {count} image{'s' * (count > 1)}"

    @property
    def stacked(self) -> bool:
        """Whether it is made of single slices, one of which may be missing without a trace."""
        return len(_key(self.first)) == 1


class NoImageError(FileError):
    """A DICOM file that is in order but holds no image."""


@dataclass
class Scan:
    """What a file or folder holds.

    Parameters
    ----------
    series : list of Series
        By series number.
    no_image : list of NoImageError
        For files that are in order but hold no image.
    damaged : dict of Path to FileError
        For files that cannot be read.
    """

    series: list[Series] = field(default_factory=list)
    no_image: list[NoImageError] = field(default_factory=list)
    damaged: dict[Path, FileError] = field(default_factory=dict)

    def damage_in(self, series: Series) -> Path | None:
        """Return a damaged file that may be a slice of the series: one that lies beside its others."""
        folders = {h.path.parent for h in series.headers}
        return next((p for p in self.damaged if series.stacked and p.parent in folders), None)


# Headers --------------------------------------------------------------------------------------------------------


def scan(path: Path) -> Scan:
    """Read all headers and sort the files into series, by number; collect what is no image or cannot be read."""
    need("pydicom", "Reading DICOM")
    if path.is_dir():
        paths = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        paths = [p for p in sorted(paths) if p.name.upper() != "DICOMDIR"]
    else:
        paths = [path]
    series: dict[tuple, Series] = {}
    found, unmarked = Scan(), []
    for file in track(paths, "headers read"):
        try:
            header = _header(file, asked=not path.is_dir() or file.suffix.lower() == ".dcm")
            if header is None:
                unmarked.append(file)
            else:
                series.setdefault(_key(header), Series()).headers.append(header)
        except NoImageError as error:
            found.no_image.append(error)
        except FileError as error:
            found.damaged[file] = error
    if path.is_dir() and not series and not found.no_image and not found.damaged:
        raise FileError(f"{path} holds no DICOM files: choose the folder that has them, or open a single file")
    found.series = sorted(series.values(), key=_in_order)
    for one in found.series:
        one.beside = [p for p in unmarked if one.stacked and _may_belong(p, one)]
    return found


def _may_belong(path: Path, series: Series) -> bool:
    """Whether a file lies beside the slices of a series and is named as slices are: by suffix, number or nothing."""
    suffix = path.suffix.lower()
    named = suffix.lstrip(".").isdecimal() or suffix in ("", *(h.path.suffix.lower() for h in series.headers))
    return named and not path.name.startswith(".") and any(h.path.parent == path.parent for h in series.headers)


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
    """Whether many slices are tiled into one picture (Siemens)."""
    return "MOSAIC" in [str(v).upper() for v in np.atleast_1d(header.get("ImageType", []))]
