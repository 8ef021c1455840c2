"""The text header of NRRD: its fields, and what they say of the axes."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FileError

_TYPES = {
    "int8": "signed char;int8;int8_t",
    "uint8": "uchar;unsigned char;uint8;uint8_t",
    "int16": "short;short int;signed short;signed short int;int16;int16_t",
    "uint16": "ushort;unsigned short;unsigned short int;uint16;uint16_t",
    "int32": "int;signed int;int32;int32_t",
    "uint32": "uint;unsigned int;uint32;uint32_t",
    "int64": "longlong;long long;long long int;signed long long;signed long long int;int64;int64_t",
    "uint64": "ulonglong;unsigned long long;unsigned long long int;uint64;uint64_t",
    "float32": "float",
    "float64": "double",
}
_TYPE_OF = {name: dtype for dtype, names in _TYPES.items() for name in names.split(";")}
NAME_OF = {"float32": "float", "float64": "double"}
SPACES = {
    "left-posterior-superior": "LPS",
    "lps": "LPS",
    "right-anterior-superior": "RAS",
    "ras": "RAS",
    "left-anterior-superior": "LAS",
    "las": "LAS",
}
_ENCODINGS = {
    "raw": "raw",
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bzip2",
    "bzip2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
}
UNITS = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3, "µm": 1e-3}
_COLOURS = {"rgb-color": "colours", "rgba-color": "colours", "hsv-color": "colours", "xyz-color": "colours"}
TIMES = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}
_HEADER_LIMIT = 64 << 20


@dataclass
class Header:
    """The header of one file.

    Parameters
    ----------
    path : Path
        The file.
    fields : dict of str to str
        Fields by their lower-case names; spellings that mean the same are brought to one.
    keys : dict of str to str
        The key/value pairs, without escapes.
    end : int
        Byte at which attached voxels begin.
    """

    path: Path
    fields: dict[str, str]
    keys: dict[str, str]
    end: int

    def need(self, name: str) -> str:
        """Return a field; refuse a file that lacks it."""
        if name not in self.fields:
            raise FileError(f"{self.path} has no field {name!r} in its NRRD header: the header is wrong")
        return self.fields[name]

    def words(self, name: str) -> list[str]:
        """Return the words of a field; none where there is no such field."""
        return self.fields.get(name, "").split()

    def whole(self, name: str, default: int = 0) -> int:
        """Return a field that is a whole number; refuse one that is not."""
        try:
            return int(self.fields.get(name, default))
        except ValueError:
            text = self.fields[name]
            raise FileError(f"{self.path} has {name}: {text!r} in its header, which is no whole number") from None


def parse(path: Path) -> Header:
    """Read the header of a .nrrd or .nhdr file.

    Raises
    ------
    FileError
        If the file is no NRRD file, or a line is neither field nor key.
    """
    with open(path, "rb") as file:
        if not re.match(rb"NRRD000[1-5]\s*$", file.readline(64)):
            raise FileError(f"{path} is not an NRRD file although it is named like one: copy it again from its source")
        fields: dict[str, str] = {}
        keys: dict[str, str] = {}
        while line := file.readline(_HEADER_LIMIT):
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                break
            _take_line(text, fields, keys, path)
        return Header(path, fields, keys, file.tell())


def _take_line(text: str, fields: dict[str, str], keys: dict[str, str], path: Path) -> None:
    if text.startswith("#"):
        return
    # A key/value pair says ":=", a field ": "; the first of the two decides.
    match = re.match(r"([^:]*?)\s*(:=|:)(.*)$", text, re.DOTALL)
    if match is None:
        raise FileError(f"{path} has a line in its NRRD header that is neither field nor key: {text[:60]!r}")
    name, mark, value = match.groups()
    if mark == ":=":
        keys[name] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)
    else:
        fields[{"centerings": "centers", "datafile": "data file"}.get(name.lower(), name.lower())] = value.strip()


def sizes_of(header: Header) -> list[int]:
    """Return the number of voxels along each axis, fastest first; refuse sizes that cannot be."""
    try:
        sizes = [int(n) for n in header.need("sizes").split()]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or len(sizes) != header.whole("dimension", len(sizes)):
        raise FileError(f"{header.path} has the impossible sizes {header.need('sizes')!r}: its header is wrong")
    return sizes


def type_of(header: Header) -> np.dtype:
    """Return the type of the voxels with its byte order; refuse blocks, and a byte order that is left open."""
    name = header.need("type").lower()
    if name not in _TYPE_OF:
        raise FileError(f"{header.path} holds voxels of the type {name!r}, which is not a number: its header is wrong")
    dtype = np.dtype(_TYPE_OF[name])
    order = header.fields.get("endian", "").lower()
    if dtype.itemsize > 1 and order not in ("little", "big") and encoding_of(header) not in ("text",):
        raise FileError(f"{header.path} does not say in which byte order (endian) it stores {name}: mend its header")
    return dtype.newbyteorder(">" if order == "big" else "<")


def encoding_of(header: Header) -> str:
    """Return ``"raw"``, ``"gzip"``, ``"bzip2"``, ``"text"`` or ``"hex"``; refuse what is none of them."""
    name = header.need("encoding").lower()
    if name not in _ENCODINGS:
        raise FileError(f"{header.path} stores its voxels as {name!r}, which is no NRRD encoding: its header is wrong")
    return _ENCODINGS[name]


def frame_axis_of(header: Header, sizes: list[int]) -> int | None:
    """Find the axis that is not in space; refuse colours, vectors and more axes than a volume has."""
    directions = vectors_of(header)
    kinds = [k.lower() for k in header.words("kinds")] or ["?"] * len(sizes)
    spatial = _space_dimension(header)
    if directions and len(directions) != len(sizes):
        raise FileError(
            f"{header.path} gives {len(directions)} space directions for {len(sizes)} axes: its header is wrong"
        )
    outside = [a for a in range(len(sizes)) if directions and a < len(directions) and directions[a] is None]
    if not directions:
        outside = [a for a in range(len(sizes)) if kinds[a : a + 1] in (["list"], ["vector"], ["time"])]
        if not outside and len(sizes) == 4 and spatial in (None, 3, 4):
            outside = [3]
    elif len(sizes) == 4 and not outside:
        outside = [3]
    for axis in outside:
        kind = kinds[axis] if axis < len(kinds) else "?"
        if sizes[axis] > 1 and (kind in _COLOURS or re.match(r"[234]-color", kind)):
            raise FileError(f"{header.path} holds colours ({kind}), a volume holds one value a voxel: convert it first")
        if sizes[axis] > 1 and not re.match(r"list|time|\?|none|domain|space|vector$|point|[23]-vector", kind):
            raise FileError(f"{header.path} holds a {kind} in every voxel, a volume holds one value: convert it first")
    if len(sizes) - len(outside) > 3 or len(outside) > 1:
        raise FileError(f"{header.path} has {len(sizes)} axes, a volume has three in space and frames: split it first")
    return outside[0] if outside else None


def _space_dimension(header: Header) -> int | None:
    if "space" in header.fields:
        return 4 if header.fields["space"].lower().endswith(("-time", "t")) else 3
    return header.whole("space dimension") or None


def vectors_of(header: Header) -> list[np.ndarray | None]:
    """Return the space direction of each axis, None where it has none; empty without the field."""
    text = header.fields.get("space directions", "")
    found: list[np.ndarray | None] = []
    for part in re.findall(r"none|\([^)]*\)", text, re.I):
        if part.lower() == "none":
            found.append(None)
            continue
        try:
            vector = np.array([float(v) for v in part[1:-1].split(",")])
        except ValueError:
            raise FileError(f"{header.path} has space directions that are no numbers: {text[:80]!r}") from None
        found.append(None if np.isnan(vector).all() else vector)
    return found
