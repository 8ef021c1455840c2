"""The headers of DICOM files, and which files belong together."""

import math
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, need
from ..progress import Cancelled, track

_NO_IMAGE = {
    "RTSTRUCT": "contours (RTSTRUCT)",
    "RTPLAN": "a treatment plan (RTPLAN)",
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
    "RescaleIntercept RescaleType Units WindowCenter WindowWidth WindowCenterWidthExplanation PixelPaddingValue "
    "FrameTime FrameTimeVector SequenceOfUltrasoundRegions SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence ModalityLUTSequence BodyPartExamined PatientName PatientID StudyDate "
    "StudyDescription Manufacturer InstanceNumber AcquisitionNumber AcquisitionDate AcquisitionTime "
    "AcquisitionDateTime ContentDate ContentTime TriggerTime TemporalPositionIdentifier "
    "NominalCardiacTriggerDelayTime NominalPercentageOfCardiacPhase FrameReferenceTime EchoTime EchoNumbers "
    "InversionTime FlipAngle ConvolutionKernel DiffusionBValue DiffusionGradientOrientation ComplexImageComponent "
    "DimensionIndexSequence RedPaletteColorLookupTableDescriptor RealWorldValueMappingSequence GridFrameOffsetVector "
    "DoseGridScaling DoseUnits DoseType DoseSummationType"
)
# Elements of the manufacturers: group, creator, number in the creator's block.
PRIVATE = {
    "siemens image count": (0x0019, "SIEMENS MR HEADER", 0x0A),
    "siemens b-value": (0x0019, "SIEMENS MR HEADER", 0x0C),
    "siemens direction": (0x0019, "SIEMENS MR HEADER", 0x0E),
    "siemens csa": (0x0029, "SIEMENS CSA HEADER", 0x10),
    "ge b-value": (0x0043, "GEMS_PARM_01", 0x39),
    "ge direction x": (0x0019, "GEMS_ACQU_01", 0xBB),
    "ge direction y": (0x0019, "GEMS_ACQU_01", 0xBC),
    "ge direction z": (0x0019, "GEMS_ACQU_01", 0xBD),
    "philips b-value": (0x2001, "Philips Imaging DD 001", 0x03),
    "philips begin": (0x2005, "Philips MR Imaging DD 001", 0xA0),
    "philips frame": (0x2005, "Philips MR Imaging DD 005", 0x0F),
    "philips direction x": (0x2005, "Philips MR Imaging DD 001", 0xB0),
    "philips direction y": (0x2005, "Philips MR Imaging DD 001", 0xB1),
    "philips direction z": (0x2005, "Philips MR Imaging DD 001", 0xB2),
}
# Large ones, which are not kept of every file; see `Header.large`.
LARGE = {
    "siemens series csa": (0x0029, "SIEMENS CSA HEADER", 0x20),
    "siemens protocol": (0x0021, "SIEMENS MR SDS 01", 0x19),
}
_LONGEST = 80  # characters of a value that a sentence shows
# Blocks where manufacturers are found in practice; in the items of sequences they are further up.
_BLOCKS = range(0x10, 0x16)
_OUTER_BLOCKS = range(0x10, 0x13)


@cache
def _wanted() -> list[Any]:
    """Return the tags of all elements that are read of a header."""
    from pydicom.tag import Tag

    groups = {group for group, _, _ in PRIVATE.values()}
    return [
        *(_tag(keyword) for keyword in _TAGS.split()),
        *(Tag(group, block) for group in groups for block in _OUTER_BLOCKS),
        *(Tag(group, block << 8 | number) for group, _, number in PRIVATE.values() for block in _OUTER_BLOCKS),
    ]


@dataclass
class Header:
    """The header of one file; asking for a value that cannot be parsed names the file."""

    path: Path
    dataset: Any

    def get(self, keyword: str, default: Any = None, within: Any = None) -> Any:
        """Return a value of the header, or of a part of it; `default` where it is absent or empty."""
        place = self.dataset if within is None else within
        tag = _tag(keyword)
        try:
            # Asked by keyword, pydicom takes a hundred times as long; there may be thousands of files.
            value = place[tag].value if tag in place else None
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
            needed = "a number is" if count == 1 else f"{count} numbers are"
            raise FileError(
                f"{self.path} has {keyword} = {shown(value)}, where {needed} needed: its header is wrong, export it "
                "again"
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
        """Return a value as one line of text without blanks around it; empty where it is absent."""
        return one_line(str(self.get(keyword, "")).strip())

    def private(self, name: str, within: Any = None) -> Any:
        """Return an element of a manufacturer (`PRIVATE`), None where it is not there or not in plain sight.

        Where the note of who reserved the block was stripped from a file, its usual place is taken if the scanner is
        of that manufacturer.
        """
        group, creator, number = PRIVATE[name] if name in PRIVATE else LARGE[name]
        place = self.dataset if within is None else within
        keys = place.keys()
        for block in _BLOCKS:
            tag = group << 16 | block << 8 | number
            if tag not in keys:
                continue
            try:
                reserved = str(place[group << 16 | block].value).strip().lower() if group << 16 | block in keys else ""
                usual = block == _BLOCKS[0] and not reserved and name.split()[0] in self.text("Manufacturer").lower()
                if usual or reserved == creator.lower():
                    return _plain(place[tag].value)
            except (Cancelled, MemoryError, FileError):
                raise
            except Exception as error:  # pydicom parses a value when it is asked for, and raises whatever it ran into
                raise FileError(
                    f"{self.path} has a private element that cannot be read ({group:04x},{block:02x}{number:02x}): its "
                    "header is wrong"
                ) from error
        return None

    def large(self) -> "Header":
        """Read the file's large elements of the manufacturers (`LARGE`)."""
        import pydicom

        tags = [group << 16 | block for group, _, _ in LARGE.values() for block in _BLOCKS]
        tags += [group << 16 | block << 8 | number for group, _, number in LARGE.values() for block in _BLOCKS]
        try:
            return Header(self.path, pydicom.dcmread(self.path, stop_before_pixels=True, specific_tags=tags))
        except (Cancelled, MemoryError):
            raise
        except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
            raise FileError(f"{self.path} has a DICOM header that cannot be read: copy the file again") from error

    @property
    def frames(self) -> int:
        """Number of images in the file."""
        count = self.number("NumberOfFrames", 1)
        if not 1 <= count < 1 << 24:
            raise FileError(f"{self.path} promises {count:g} images: its header is wrong")
        return int(count)

    @property
    def enhanced(self) -> bool:
        """Whether it describes every image by functional groups."""
        return self.get("PerFrameFunctionalGroupsSequence") is not None

    @property
    def is_dose(self) -> bool:
        """Whether it is the dose grid of a radiotherapy plan."""
        return self.text("Modality") == "RTDOSE"

    @property
    def is_mosaic(self) -> bool:
        """Whether many slices are tiled into one picture (Siemens)."""
        return "MOSAIC" in [str(v).upper() for v in np.atleast_1d(self.get("ImageType", []))]

    @property
    def syntax(self) -> str:
        """Transfer syntax by its name."""
        uid = self.dataset.file_meta.TransferSyntaxUID
        return str(getattr(uid, "name", uid))


def shown(value: Any) -> str:
    """Return a value for a sentence; that of a damaged header may be long, and hold anything."""
    return one_line(str(value)[:_LONGEST]) + "..." * (len(str(value)) > _LONGEST)


def one_line(text: str) -> str:
    """Replace what cannot be printed on a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


@cache
def _tag(keyword: str) -> Any:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return Tag(tag_for_keyword(keyword))


def _plain(value: Any) -> Any:
    """Return the value of an element whose type the file does not tell (UN) as text, None where it is none."""
    if not isinstance(value, bytes):
        return value
    try:
        parts = value.decode("ascii").strip("\0 ").split("\\")
    except UnicodeDecodeError:
        return value
    return value if not all(p.isprintable() for p in parts) else parts if len(parts) > 1 else parts[0]


@dataclass
class Series:
    """Files that belong together."""

    headers: list[Header] = field(default_factory=list)
    # Files of the same folder that look as if they belonged to it, but are no DICOM files, or not any more.
    beside: list[Path] = field(default_factory=list)
    # Whether other patients, studies or kinds of image have the same series UID.
    shared: bool = False

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

    @property
    def stacked(self) -> bool:
        """Whether it is made of single slices, one of which may be missing without a trace."""
        return self.first.frames == 1 and not self.first.is_mosaic and _placed(self.first)


class NoImageError(FileError):
    """A DICOM file that is in order but holds no image; `header` is its own."""

    header: Header


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
            header = _header(file, asked=not path.is_dir() or file.suffix.lower() == ".dcm", alone=not path.is_dir())
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
    _note_shared(found.series)
    for one in found.series:
        one.beside = [p for p in unmarked if one.stacked and _may_belong(p, one)]
    return found


def _note_shared(series: list[Series]) -> None:
    """Mark those that share a series UID though they are of different patients, studies or kinds."""
    by_uid: dict[str, list[Series]] = {}
    for one in series:
        if _placed(one.first):
            by_uid.setdefault(one.first.text("SeriesInstanceUID"), []).append(one)
    for uid, sharing in by_uid.items():
        owners = {_owner(one.first) for one in sharing}
        for one in sharing:
            one.shared = bool(uid) and len(owners) > 1


def _may_belong(path: Path, series: Series) -> bool:
    """Whether a file lies beside the slices of a series and is named as slices are: by suffix, number or nothing."""
    suffix = path.suffix.lower()
    named = suffix.lstrip(".").isdecimal() or suffix in ("", *(h.path.suffix.lower() for h in series.headers))
    return named and not path.name.startswith(".") and any(h.path.parent == path.parent for h in series.headers)


def _in_order(series: Series) -> tuple:
    number = series.number
    return (int(number) if number.lstrip("-").isdigit() else math.inf, str(series.first.path))


def _header(path: Path, asked: bool, alone: bool) -> Header | None:
    """Read one header; None for a file that is no DICOM and was not said to be.

    `alone` says that it was named itself, and not found in a folder.
    """
    import pydicom

    again = "" if alone else ", or take it out of the folder"

    try:
        with open(path, "rb") as file:
            marked = file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    if not marked:
        if asked:
            raise FileError(
                f"{path} is not a complete DICOM file (its start with the mark DICM is missing): copy or export it "
                f"again as a DICOM file{again}"
            )
        return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_wanted())
        dataset.file_meta.TransferSyntaxUID  # noqa: B018 - absent in a damaged file
        kind = one_line(str(getattr(dataset.file_meta.get("MediaStorageSOPClassUID", ""), "name", "")))
    except (Cancelled, MemoryError):
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
        raise FileError(f"{path} has a DICOM header that cannot be read: copy the file again{again}") from error
    header = Header(path, dataset)
    modality = header.text("Modality")
    if modality in _NO_IMAGE or header.get("Rows") is None or header.get("Columns") is None:
        what = _NO_IMAGE.get(modality)
        if modality not in _NO_IMAGE and "Image Storage" in kind:
            raise FileError(
                f"{path} is cut short, it should hold a {kind.removesuffix(' Storage')}: copy the file again{again}"
            )
        what = f"{what}, which cannot be opened as a volume" if what else "no image"
        error = NoImageError(f"{path} holds {what}: {_remedy(modality)}")
        error.header = header
        raise error
    return header


def _remedy(modality: str) -> str:
    if modality in ("SEG", "RTSTRUCT"):
        return "open that file by itself, after the image series it belongs to"
    return "open the image series it belongs to"


def _placed(header: Header) -> bool:
    if header.enhanced:
        frames = header.get("PerFrameFunctionalGroupsSequence")
        shared = header.get("SharedFunctionalGroupsSequence")
        places = [*frames[:1], *(shared or ())[:1]]
        return all(
            any(header.get(name, within=p) for p in places)
            for name in ("PlanePositionSequence", "PlaneOrientationSequence")
        )
    return header.get("ImagePositionPatient") is not None and header.get("ImageOrientationPatient") is not None


def _key(header: Header) -> tuple:
    """Images with a position belong to their series; every other file stands for itself.

    A series UID is meant to be unique in the world. Where anonymising or copying went wrong it is not: other patients,
    studies or kinds of image under it are kept apart.
    """
    alone = not _placed(header) or (header.frames > 1 and not header.enhanced)
    uid = header.text("SeriesInstanceUID") or str(header.path.parent)
    return (uid, *_owner(header), str(header.path)) if alone else (uid, *_owner(header))


def _owner(header: Header) -> tuple[str, ...]:
    return tuple(header.text(k) for k in ("PatientID", "PatientName", "StudyInstanceUID", "Modality", "SOPClassUID"))
