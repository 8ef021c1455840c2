"""Real World Value Mapping: what stored values stand for where no rescale says it (PS3.3 C.7.6.16.2.11).

It is applied where it is the only one, a straight line, the same for all images of a volume and meant for all values
that occur, and where the file has no rescale of its own. Anything else is left as it is, with a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FileError
from ._carry import Found
from ._dicom_headers import Header
from ._dicom_slices import Rescale, Slice

_SEQUENCE = "RealWorldValueMappingSequence"
# Units of UCUM as people write them.
_UNITS = {"[hnsf'U]": "HU", "1": "", "{no units}": "", "{normalized}": "", "ratio": ""}


@dataclass(frozen=True)
class Mapping:
    """A straight line from stored values between `low` and `high` to real ones."""

    rescale: Rescale
    low: float
    high: float
    unit: str

    def covers(self, values: np.ndarray) -> bool:
        """Whether mapped values are all of stored ones that it is meant for."""
        ends = [v * self.rescale.slope + self.rescale.inter for v in (self.low, self.high)]
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        slack = 1e-6 * max(1e-30, *(abs(v) for v in ends))
        return not finite.size or bool(min(ends) - slack <= finite.min() and finite.max() <= max(ends) + slack)


def chosen(slices: Sequence[Slice], found: Found) -> Mapping | None:
    """Return the mapping that holds for all slices; say in a note why there is none where files have some."""
    items: dict[int, list[tuple[Header, Any]]] = {id(s): _items(s) for s in slices}
    if not any(items.values()):
        return None
    told: dict[int, Mapping | str] = {}
    each: set[Mapping | str] = set()
    for of_slice in items.values():
        if len(of_slice) != 1:
            each.add("several at a time" if of_slice else "not the same for all images")
            continue
        header, item = of_slice[0]
        each.add(told.setdefault(id(item), _read(header, item)))
    mapping = next(iter(each))
    if len(each) == 1 and isinstance(mapping, Mapping):
        scaled = [s.rescale for s in slices if s.rescale != Rescale() or _meant(s)]
        if not scaled:
            return mapping
        if all(np.allclose((r.slope, r.inter), (mapping.rescale.slope, mapping.rescale.inter)) for r in scaled):
            return None  # it says the same
        left("the file has a rescale of its own", found, mapping.unit)
        return None
    left(mapping if len(each) == 1 else "not the same for all images", found)
    return None


def left(why: str, found: Found, unit: str = "") -> None:
    """Note that a mapping was not used."""
    what = f" to values in {unit}" if unit else ""
    found.notes.append(f"the file also maps its values{what} (Real World Value Mapping), which was not applied: {why}")


def applied(slices: Sequence[Slice], mapping: Mapping) -> list[Slice]:
    """Return slices whose values are mapped when they are read."""
    return [replace(s, rescale=mapping.rescale) for s in slices]


def describe(found: Found, mapping: Mapping) -> None:
    """Fill in the unit, and windows in it."""
    slope, inter = mapping.rescale.slope, mapping.rescale.inter
    found.meta["unit"] = mapping.unit
    found.meta["windows"] = [
        {**w, "centre": w["centre"] * slope + inter, "width": w["width"] * abs(slope)} for w in found.meta["windows"]
    ]
    if mapping.rescale != Rescale():
        found.notes.append(
            f"values are stored ones times {slope:.6g} plus {inter:.6g}, in {mapping.unit or 'no unit'}, as the file "
            "says (Real World Value Mapping)"
        )


def _meant(s: Slice) -> bool:
    """Whether a rescale that changes nothing says a unit."""
    within = s.group("PixelValueTransformationSequence") if s.groups else None
    try:
        kind = str(s.header.get("RescaleType", "", within or None)).strip()
    except FileError:
        kind = ""
    return kind not in ("", "US")


def _items(s: Slice) -> list[tuple[Header, Any]]:
    """Return the items of its own, or shared by all images, or of the header itself."""
    for place in (*s.groups, None):
        found = s.header.get(_SEQUENCE, within=place)
        if found:
            return [(s.header, item) for item in found]
    return []


def _read(header: Header, item: Any) -> Mapping | str:
    """Return a mapping, or why it is none that can be used."""
    if header.get("RealWorldValueLUTData", within=item) is not None:
        return "it is a table"
    try:
        slope = header.number("RealWorldValueSlope", 0, item)
        inter = header.number("RealWorldValueIntercept", 0, item)
        ends = [_end(header, f"RealWorldValue{end}ValueMapped", item) for end in ("First", "Last")]
    except FileError:
        return "it cannot be read"
    if slope == 0 or None in ends:
        return "it does not say all that is needed"
    return Mapping(Rescale(slope, inter), min(ends), max(ends), _unit(header, item))


def _end(header: Header, keyword: str, item: Any) -> float | None:
    """Return the first or last value that is mapped."""
    value = header.get(keyword, within=item)
    if isinstance(value, bytes) and len(value) == 2:
        # A file without types leaves open whether it has a sign, which the pixels tell.
        signed = bool(header.number("PixelRepresentation", 0))
        return float(int.from_bytes(value, "little", signed=signed))
    found = header.numbers(keyword, 1, item)
    found = header.numbers(f"DoubleFloat{keyword}", 1, item) if found is None else found
    return None if found is None or np.isnan(found[0]) else float(found[0])


def _unit(header: Header, item: Any) -> str:
    codes = header.get("MeasurementUnitsCodeSequence", within=item)
    text = str(header.get("CodeValue", "", codes[0])).strip() if codes else ""
    return _UNITS.get(text, text)
