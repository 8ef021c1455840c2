"""What a DICOM volume means, and where an image without a position is put."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FileError
from ..geometry import Frames
from ._carry import Found
from ._dicom_headers import Header
from ._dicom_parts import Part
from ._dicom_slices import Slice
from .convention import from_dicom


def flat_affine(image: Slice, found: Found) -> np.ndarray:
    """Place an image without a position in the patient."""
    header = image.header
    found.meta["orientation_known"] = False
    spacing = image.pixel_spacing
    if spacing is None:
        spacing = _ultrasound_spacing(header)
    if spacing is None:
        spacing = header.numbers("ImagerPixelSpacing", 2)
        if spacing is None:
            spacing = header.numbers("NominalScannedPixelSpacing", 2)
        if spacing is not None:
            found.notes.append("spacing is that of the detector, not corrected for magnification")
    if spacing is None:
        found.meta["spacing_known"] = False
        spacing = np.ones(2)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise FileError(f"{header.path} has the pixel spacing {spacing.tolist()}: its header is wrong")
    thickness = image.thickness if image.thickness and image.thickness > 0 else 1.0
    return from_dicom((1, 0, 0, 0, 1, 0), (0, 0, 0), spacing, (0, 0, thickness))


def _ultrasound_spacing(header: Header) -> np.ndarray | None:
    """Return the pixel size of the two-dimensional regions of an ultrasound image, if they agree."""
    sizes = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        centimetres = all(
            header.number(f"PhysicalUnits{a}Direction", 0, region) == 3 for a in "XY"
        )  # 3: cm, the only unit of length there is
        if header.number("RegionSpatialFormat", 0, region) == 1 and centimetres:
            sizes.append([abs(header.number(f"PhysicalDelta{a}", 0, region)) * 10 for a in "YX"])
    if not sizes or not np.allclose(sizes, sizes[0], rtol=1e-3) or min(sizes[0]) <= 0:
        return None
    return np.array(sizes[0])


def cine(header: Header, count: int) -> Frames:
    """Return the frame axis of a multi-frame file without positions."""
    step = header.number("FrameTime", 0.0)
    if step > 0:
        return Frames("time", tuple(n * step / 1000 for n in range(count)), "s")
    vector = header.get("FrameTimeVector")
    if vector is not None and np.size(vector) == count:
        return Frames("time", tuple(np.cumsum(np.array(vector, dtype=float)) / 1000), "s")
    return Frames("frame", tuple(range(count)))


def describe(found: Found, slices: Sequence[Slice], part: Part) -> None:
    """Fill in what the volume means; of the patient nothing is kept."""
    image = slices[len(slices) // 2]
    middle, rescale = image.header, image.rescale
    modality = middle.text("Modality")
    within = image.group("PixelValueTransformationSequence")
    unit = str(middle.get("RescaleType", "", within)).strip() if within else middle.text("RescaleType")
    if modality == "PT":
        unit = middle.text("Units")
    elif not unit and modality == "CT" and rescale.inter != 0:
        unit = "HU"
    meta = found.meta
    if middle.is_dose:
        unit = _dose_unit(middle, found)
    meta["modality"] = modality
    # US: "unspecified".
    meta["unit"] = "" if unit == "US" else unit
    meta["windows"] = _windows(image)
    meta["series"] = {
        "description": middle.text("SeriesDescription"),
        "number": part.series.number,
        "uid": middle.text("SeriesInstanceUID"),
        "study_uid": middle.text("StudyInstanceUID"),
        "frame_of_reference_uid": middle.text("FrameOfReferenceUID"),
        "class_uid": middle.text("SOPClassUID"),
        "instance_uids": list(dict.fromkeys(s.header.text("SOPInstanceUID") for s in slices)),
        "body_part": middle.text("BodyPartExamined"),
    }
    if len(part.headers) > 1:
        found.path = part.first.path.parent
    padding = _floats(middle.get("PixelPaddingValue", []))
    if len(padding) == 1 and math.isfinite(padding[0]):
        meta["padding_value"] = padding[0] * rescale.slope + rescale.inter
    if middle.text("PhotometricInterpretation") == "MONOCHROME1":
        found.notes.append("MONOCHROME1: low values are meant to be shown bright")


def _dose_unit(header: Header, found: Found) -> str:
    """Return the unit of a dose grid; say what kind of dose it is where it is not plainly a physical one."""
    units, kind, of = (header.text(k).upper() for k in ("DoseUnits", "DoseType", "DoseSummationType"))
    found.meta["dose"] = {"type": kind, "of": of}
    if kind not in ("", "PHYSICAL"):
        found.notes.append(f"the dose is not the physical one, its type is {kind}")
    if units == "GY":
        return "Gy"
    found.notes.append("the dose is relative, not in Gy" if units == "RELATIVE" else "the unit of the dose is not told")
    return "relative dose" if units == "RELATIVE" else ""


def _windows(image: Slice) -> list[dict[str, Any]]:
    """Return the windows that the file recommends."""
    header = image.header
    within = image.group("FrameVOILUTSequence") if image.groups else None
    centres, widths = (_floats(header.get(f"Window{end}", [], within)) for end in ("Center", "Width"))
    names = np.atleast_1d(header.get("WindowCenterWidthExplanation", [], within))
    found = []
    for n, (centre, width) in enumerate(zip(centres, widths, strict=False)):
        name = str(names[n]) if n < len(names) and str(names[n]) else ("DICOM" if n == 0 else f"DICOM {n + 1}")
        if math.isfinite(centre) and math.isfinite(width) and width > 0:
            found.append({"name": name, "centre": centre, "width": width})
    return found


def _floats(values: Any) -> list[float]:
    """Return numbers, NaN for what is none: a window that cannot be read is no reason to refuse an image."""
    found = []
    for value in np.atleast_1d(values):
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            found.append(math.nan)
    return found
