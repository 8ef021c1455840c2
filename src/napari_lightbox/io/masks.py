"""Structures that DICOM keeps apart from the image: segmentations (SEG) and contours (RTSTRUCT), read into labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError, need
from ..geometry import Grid
from ..progress import Cancelled
from ..volume import Volume
from ._dicom_headers import Header
from ._mask_layers import only

__all__ = ["image_of", "kind_of", "only", "read_masks"]

# SOP classes; the Label Map Segmentation is younger than some versions of pydicom.
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
_ASKED = ("SOPClassUID", "Modality", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence")


def read_masks(path: str | Path, like: Volume | Grid | None = None) -> list[Volume]:
    """Read a DICOM segmentation (SEG) or structure set (RTSTRUCT).

    Structures that overlap are put into several label volumes, as few as will do. A segmentation with fractions gives
    one volume of probabilities for each segment.

    A SEG lies where its frames say. With `like` it is put onto the voxels of the image, turned and cut as necessary,
    and refused if they do not coincide. The contours of an RTSTRUCT are filled on the slices of the image: `like`, or
    the series that they were drawn on, which is looked for beside the file. A voxel belongs to a structure if its
    centre lies inside an odd number of its contours (even-odd rule; on the edge, left and upper sides count as
    inside), so that contours inside others are holes. Contours between two slices go to the nearest, with a note.

    Parameters
    ----------
    path : str or Path
        The file.
    like : Volume or Grid, optional
        The image that the structures belong to.

    Returns
    -------
    list of Volume
        Labels with names, colours and codes, or probabilities; integers from 1 on as the file numbers them.
        ``meta["notes"]`` says what could not be read.

    Raises
    ------
    FileError
        If the file is damaged, holds no structures, or the image of an RTSTRUCT is not found.
    GridError
        If the structures do not lie on the voxels or slices of `like`.
    MissingPart
        If pydicom is not installed.

    See Also
    --------
    read : Reads images, and a file with one volume of structures.

    Examples
    --------
    >>> masks = read_masks("liver.dcm")  # doctest: +SKIP
    >>> masks[0].labels[1].name, masks[0].kind  # doctest: +SKIP
    ('Liver', 'labels')
    """
    path = Path(path)
    if like is not None and not isinstance(like, Volume | Grid):
        raise InputError(f"like must be the Volume of an image, or its Grid, not {type(like).__name__}")
    grid = like.grid if isinstance(like, Volume) else like
    grid = None if grid is None else grid.without_frames()
    header = _whole(path)
    kind = _kind(header.dataset)
    if kind is None:
        # A damaged file may have half of itself for a modality.
        modality = header.text("Modality")
        shown = modality if modality.isprintable() and 0 < len(modality) <= 16 else "no modality"
        raise FileError(f"{path} holds no structures ({shown}): give a DICOM SEG or RTSTRUCT")
    if kind == "SEG":
        from . import _dicom_seg

        volumes = _dicom_seg.read(header, grid)
    else:
        from . import _rtstruct

        volumes = _rtstruct.read(header, grid)
    return _other_frame_told(volumes, like)


def kind_of(path: Path) -> str | None:
    """Return ``"SEG"`` or ``"RTSTRUCT"``, told by the header; None for anything else, and what cannot be read."""
    return _kind(_glance(path))


def image_of(path: Path) -> str:
    """Return the UID of the series that a SEG or RTSTRUCT belongs to; empty where it names none, or several."""
    dataset = _glance(path)
    kind = _kind(dataset)
    if kind is None:
        return ""
    from ._rtstruct import drawn_on

    header = Header(path, dataset)
    try:
        uids = drawn_on(header) if kind == "RTSTRUCT" else _referenced(header)
    except FileError:  # whoever reads the file says what is wrong with it
        return ""
    return uids[0] if len(uids) == 1 else ""


@dataclass(frozen=True)
class Outline:
    """What the header of a SEG or RTSTRUCT tells of its masks.

    Parameters
    ----------
    contents : str
        Such as ``"3 segments"``.
    size : tuple of int
        Voxels (x, y, z) of the smallest volume on the planes of a SEG that holds its frames; zeros for contours.
    spacing : tuple of float, or None
        Of these in mm (x, y, z).
    """

    contents: str
    size: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] | None = None


def outline(path: Path) -> Outline:
    """Say how large the masks of a SEG or RTSTRUCT are and how many; no pixels are read.

    Raises
    ------
    FileError
        If it cannot be opened.
    """
    header = _whole(path, pixels=False)
    if _kind(header.dataset) == "SEG":
        from . import _dicom_seg

        count, grid = _dicom_seg.outline(header)
        size, spacing = grid.spatial_shape[::-1], grid.spacing[::-1]
        return Outline(_count(count, "segment"), size, tuple(round(float(v), 6) for v in spacing))
    from . import _rtstruct

    structures, contours = _rtstruct.outline(header)
    return Outline(f"{_count(structures, 'structure')}, {_count(contours, 'contour')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _referenced(header: Header) -> list[str]:
    items = header.get("ReferencedSeriesSequence") or ()
    found = [str(header.get("SeriesInstanceUID", "", item)) for item in items]
    return [uid for uid in dict.fromkeys(found) if uid]


def _glance(path: Path) -> Any:
    """Return the few attributes that tell what a file is, or None."""
    try:
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
        pydicom = need("pydicom", "Reading DICOM")
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_ASKED))
    except (Cancelled, MemoryError, ImportError):
        raise
    except Exception:  # whoever reads the file says what is wrong with it
        return None


def _kind(dataset: Any) -> str | None:
    if dataset is None:
        return None
    try:
        uid, modality = str(dataset.get("SOPClassUID", "")), str(dataset.get("Modality", ""))
    except Exception:  # pydicom parses a value when it is asked for
        return None
    if uid in _SEGMENTATIONS or (not uid and modality == "SEG"):
        return "SEG"
    return "RTSTRUCT" if uid == _CONTOURS or (not uid and modality == "RTSTRUCT") else None


def _whole(path: Path, pixels: bool = True) -> Header:
    """Read all of a file, or all but its pixels."""
    pydicom = need("pydicom", "Reading DICOM")
    if path.is_dir():
        raise FileError(f"{path} is a folder: give the file of the segmentation or of the structure set")
    if not path.exists():
        raise FileError(f"{path} does not exist: check the name")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        dataset.file_meta.TransferSyntaxUID  # noqa: B018 - absent in a damaged file
    except PermissionError as error:
        raise FileError(f"{path} may not be read: change its permissions") from error
    except (Cancelled, MemoryError):
        raise
    except Exception as error:  # a damaged file makes pydicom raise whatever its parser ran into
        raise FileError(f"{path} is no DICOM file, or is damaged: copy it again") from error
    return Header(path, dataset)


def _other_frame_told(volumes: list[Volume], like: Any) -> list[Volume]:
    """Say where image and structures name different frames of reference: positions may not be comparable."""
    image = like.meta.get("series") if isinstance(like, Volume) else None
    uid = image.get("frame_of_reference_uid") if isinstance(image, dict) else None
    own = volumes[0].meta["series"]["frame_of_reference_uid"]
    if not uid or not own or uid == own:
        return volumes
    note = f"the image {like.name} has another frame of reference: whether the structures fit it was not checked"
    return [v.replace(meta={**v.meta, "notes": [*v.meta.get("notes", ()), note]}) for v in volumes]
