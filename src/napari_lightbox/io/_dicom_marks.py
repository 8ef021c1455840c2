"""What the header of an image says about when and how it was taken: what may tell images at one place apart."""

import datetime
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FileError
from ._dicom_slices import Slice

_DIGITS = 6
_DAY = 86400  # s


@dataclass(frozen=True)
class Mark:
    """One thing that may tell images apart.

    Parameters
    ----------
    name : str
        How people call it.
    read : callable
        Takes a slice; returns a number, text, a tuple, or None where the header says nothing.
    kind, unit : str
        Of the frame axis it makes.
    """

    name: str
    read: Callable[[Slice], Hashable]
    kind: str = "frame"
    unit: str = ""

    def says(self, s: Slice) -> Hashable:
        """Return the value of a slice; None where there is none or where it cannot be read."""
        key = (self.name, self.read)
        if key not in s.known:
            try:
                s.known[key] = self.read(s)
            except FileError:
                s.known[key] = None
        return s.known[key]


def _value(s: Slice, keyword: str, *groups: str) -> Any:
    """Return a value of the functional group, or where the file has none, of the header itself."""
    if not s.groups:
        return s.header.get(keyword)
    place: Any = None
    for group in groups:
        place = s.group(group) if place is None else (s.header.get(group, within=place) or [{}])[0]
    return s.header.get(keyword, within=place) if place else None


def _number(value: Any, scale: float = 1.0) -> float | None:
    try:
        number = float(np.ravel(value)[0]) * scale
    except (TypeError, ValueError, IndexError):
        return None
    return round(number, _DIGITS) if math.isfinite(number) else None


def _direct(keyword: str, *groups: str, scale: float = 1.0) -> Callable[[Slice], float | None]:
    return lambda s: _number(_value(s, keyword, *groups), scale)


# Diffusion --------------------------------------------------------------------------------------------------------


def _b_value(s: Slice) -> float | None:
    found = _number(_value(s, "DiffusionBValue", "MRDiffusionSequence"))
    for name in ("siemens b-value", "philips b-value"):
        found = _number(s.header.private(name)) if found is None else found
    if found is None and (ge := _number(s.header.private("ge b-value"))) is not None:
        found = ge % 1e9 if ge >= 1e9 else ge  # newer scanners add 1e9 as a mark
        if (share := _ge_share(s)) is not None:
            found = float(round(found * share))
    return None if found is not None and found < 0 else found


def _ge_share(s: Slice) -> float | None:
    """Return the share of the b-value that an image of GE has; None where it has all of it.

    Where a scan has several b-values, GE writes the largest into every image, and gradients that are shorter by the
    square root of the share. A length of nearly 1 is rounding, one of nearly 0 an image without a direction.
    """
    try:
        vector = np.array([s.header.private(f"ge direction {axis}") for axis in "xyz"], dtype=float)
    except (TypeError, ValueError):
        return None
    length = float(np.linalg.norm(vector)) if vector.shape == (3,) else math.nan
    return length**2 if 0.03 < length < 0.97 else None


def scaled(s: Slice) -> bool:
    """Whether the b-value was made from the length of the gradient."""
    public = _number(_value(s, "DiffusionBValue", "MRDiffusionSequence"))
    return public is None and s.header.private("ge b-value") is not None and _ge_share(s) is not None


def _direction(s: Slice) -> tuple[float, ...] | None:
    """Return the direction of the gradient: LPS x, y, z; by GE along the axes of the image, see `along_image`."""
    found = _value(s, "DiffusionGradientOrientation", "MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    if found is None:
        found = s.header.private("siemens direction")
    for vendor in ("philips", "ge") if found is None else ():
        parts = [s.header.private(f"{vendor} direction {axis}") for axis in "xyz"]
        found = parts if found is None and all(p is not None for p in parts) else found
    try:
        vector = np.array(found, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        return None
    if vector.size != 3 or not np.isfinite(vector).all() or not vector.any():
        return None
    return tuple((np.round(vector, 4) + 0.0).tolist())


def along_image(s: Slice) -> bool:
    """Whether the direction is that of GE: along frequency, phase and slice, with signs that depend on the software."""
    keywords = ("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    if _value(s, "DiffusionGradientOrientation", *keywords) is not None:
        return False
    others = ("siemens direction", "philips direction x")
    return s.header.private("ge direction x") is not None and all(s.header.private(n) is None for n in others)


# Times, in seconds ------------------------------------------------------------------------------------------------


def _clock(date: Any, time: Any) -> float | None:
    """Return the seconds of DICOM date and time since the beginning of the calendar."""
    text = str(time or "").strip().replace(":", "")
    if len(text) < 2:
        return None
    whole, _, part = text.partition(".")
    whole = whole.ljust(6, "0")
    day = str(date or "").strip().replace(".", "").replace("-", "")
    try:
        days = datetime.date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal() if len(day) >= 8 else 0
        return days * _DAY + int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + float(f"{whole[4:6]}.{part or 0}")
    except ValueError:
        return None


def _moment(value: Any) -> float | None:
    """Read a DICOM date-time: YYYYMMDDHHMMSS.FFFFFF, perhaps with a time zone."""
    text = str(value or "").strip()
    text = text.split("+")[0].split("-")[0]
    return _clock(text[:8], text[8:]) if len(text) > 8 else None


def over_midnight(mark: "Mark", slices: Sequence[Slice]) -> "Mark":
    """Return a clock that runs on past midnight where its times come without dates, for these slices.

    Times more than 12 h apart are taken for those before and after midnight.
    """
    times = np.unique([t for t in map(mark.says, slices) if t is not None])
    if mark not in OF_DAY or len(times) < 2 or times[-1] >= _DAY:
        return mark
    wide = np.flatnonzero(np.diff(times) > _DAY / 2)
    if not wide.size:
        return mark
    last = times[wide[0]]

    def read(s: Slice) -> float | None:
        time = mark.says(s)
        return time if time is None or time > last else time + _DAY

    return replace(mark, read=read)


def _acquired(s: Slice) -> float | None:
    if s.groups:
        return _moment(_value(s, "FrameAcquisitionDateTime", "FrameContentSequence"))
    stamp = _moment(s.header.get("AcquisitionDateTime"))
    return _clock(s.header.get("AcquisitionDate"), s.header.get("AcquisitionTime")) if stamp is None else stamp


def _made(s: Slice) -> float | None:
    if s.groups:
        return _moment(_value(s, "FrameReferenceDateTime", "FrameContentSequence"))
    return _clock(s.header.get("ContentDate"), s.header.get("ContentTime"))


def _trigger(s: Slice) -> float | None:
    if s.groups:
        return _number(_value(s, "NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence"), 1e-3)
    found = s.header.get("TriggerTime")
    return _number(s.header.get("NominalCardiacTriggerDelayTime") if found is None else found, 1e-3)


def _philips_begin(s: Slice) -> float | None:
    if not s.groups:
        return _number(s.header.private("philips begin"))
    inner = s.header.private("philips frame", within=s.groups[0])
    return _number(s.header.private("philips begin", within=inner[0])) if inner else None


# Text -------------------------------------------------------------------------------------------------------------


def _image_type(s: Slice) -> str | None:
    if not s.groups:
        value = s.header.get("ImageType")
    else:
        value = None
        for group in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
            value = _value(s, "FrameType", group) if value is None else value
    parts = [str(v) for v in np.atleast_1d(value)] if value is not None else []
    component = _value(s, "ComplexImageComponent", "MRImageFrameTypeSequence")
    parts += [str(component)] if component and str(component) not in parts else []
    return "\\".join(p for p in parts if p) or None


def _kernel(s: Slice) -> str | None:
    found = _value(s, "ConvolutionKernel", "CTReconstructionSequence")
    return None if found is None else "\\".join(str(v) for v in np.atleast_1d(found))


def dimensions(s: Slice) -> list[Mark]:
    """Return the dimensions that an enhanced file declares itself, as a last resort."""
    values = np.ravel(_value(s, "DimensionIndexValues", "FrameContentSequence") or []) if s.groups else []
    return [Mark(f"dimension {n + 1}", _dimension(n)) for n in range(len(values))]


def _dimension(n: int) -> Callable[[Slice], float | None]:
    def read(s: Slice) -> float | None:
        values = np.ravel(_value(s, "DimensionIndexValues", "FrameContentSequence") or [])
        return float(values[n]) if n < len(values) else None

    return read


# What was taken: images that differ in these are of different kinds.
IMAGE_TYPE = Mark("image type", _image_type)
KERNEL = Mark("kernel", _kernel)
B_VALUE = Mark("b-value", _b_value, "b-value", "s/mm2")
DIRECTION = Mark("gradient direction", _direction)
ECHO = Mark("echo time", _direct("EchoTime", "MREchoSequence"), "echo", "ms")
EFFECTIVE_ECHO = Mark("echo time", _direct("EffectiveEchoTime", "MREchoSequence"), "echo", "ms")
ECHO_NUMBER = Mark("echo number", _direct("EchoNumbers"), "echo")
INVERSION = Mark("inversion time", _direct("InversionTime"), "inversion", "ms")
FLIP = Mark("flip angle", _direct("FlipAngle", "MRTimingAndRelatedParametersSequence"), "flip angle", "degrees")
TEXTS = (IMAGE_TYPE, KERNEL)
WAYS = (B_VALUE, DIRECTION, ECHO, EFFECTIVE_ECHO, ECHO_NUMBER, INVERSION, FLIP)
# When it was taken: of these one is enough. Shares of a cycle are the same at all positions, clocks may run on from
# slice to slice.
PHASE = Mark(
    "share of the cardiac cycle",
    _direct("NominalPercentageOfCardiacPhase", "CardiacSynchronizationSequence"),
    "phase",
    "%",
)
BREATH = Mark(
    "share of the respiratory cycle",
    _direct("NominalPercentageOfRespiratoryPhase", "RespiratorySynchronizationSequence"),
    "phase",
    "%",
)
TEMPORAL = Mark(
    "temporal position",
    lambda s: _number(
        _value(s, "TemporalPositionIndex", "FrameContentSequence")
        if s.groups
        else s.header.get("TemporalPositionIdentifier")
    ),
)
OFFSET = Mark("time offset", _direct("TemporalPositionTimeOffset", "TemporalPositionSequence"), "time", "s")
BEGIN = Mark("begin of the dynamic scan", _philips_begin, "time", "s")
TRIGGER = Mark("trigger time", _trigger, "time", "s")
REFERENCE = Mark("frame reference time", _direct("FrameReferenceTime", scale=1e-3), "time", "s")
ACQUIRED = Mark("acquisition time", _acquired, "time", "s")
MADE = Mark("content time", _made, "time", "s")
NUMBER = Mark("acquisition number", _direct("AcquisitionNumber"))
CLOCKS = (OFFSET, BEGIN, TRIGGER, REFERENCE, ACQUIRED, MADE)
# Clocks that show the time of day; frames count from the first.
OF_DAY = (ACQUIRED, MADE)
INSTANCE = Mark("instance number", _direct("InstanceNumber"))
