"""Siemens mosaics: the slices of a volume tiled into one picture, left to right and top to bottom.

Image Position (Patient) of such a file is that of a slice as large as the whole picture, about the same centre. The
direction from slice to slice stands in the manufacturer's own header (CSA). Where it does not, Image Orientation
(Patient) leaves two directions, and the scan protocol decides: it lists the centres of all slices, and where the first
tile is that at one end of this list, the slices run towards the other end. Without that proof a mosaic is refused.
"""

import math
import re
import struct

import numpy as np

from ..errors import FileError
from ._dicom_headers import Header

_NEAR = 0.05  # of the distance of slices: how far off the protocol may be
_SLICE = re.compile(r"sSliceArray\.asSlice\[(\d{1,5})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(\S+)")
_PATIENT_AXES = ("Sag", "Cor", "Tra")
_MOST = 4096  # tags, or items of a tag; more means that the header is damaged


def csa(content: bytes) -> dict[str, list[str]]:
    """Read a CSA header, of the older kind or of that marked SV10.

    Parameters
    ----------
    content : bytes
        Value of (0029,xx10).

    Returns
    -------
    dict of str to list of str
        Name of each tag and its values as text, without empty ones.

    Raises
    ------
    ValueError
        If it is damaged.

    Examples
    --------
    >>> csa(struct.pack("<4sIII", b"SV10", 0, 0, 77))
    {}
    """
    try:
        marked = content[:4] == b"SV10"
        (count,) = struct.unpack_from("<I", content, 8 if marked else 0)
        at = 16 if marked else 8
        if count > _MOST:
            raise ValueError(f"{count} tags")
        tags = {}
        excess = None
        for _ in range(count):
            name, items = struct.unpack_from("<64s12xi", content, at)
            at += 84
            # The older kind adds the number of items of its first tag to every length.
            excess = items if excess is None else excess
            if not 0 <= items <= _MOST:
                raise ValueError(f"{items} items")
            values = []
            for _ in range(items):
                lengths = struct.unpack_from("<4i", content, at)
                at += 16
                length = lengths[1] if marked else lengths[0] - excess
                if not 0 <= length <= len(content) - at:
                    raise ValueError(f"{length} bytes")
                values.append(_text(content[at : at + length]))
                at += -(-length // 4) * 4
            tags[_text(name)] = [v for v in values if v]
    except struct.error as error:
        raise ValueError("it ends too early") from error
    return tags


def _text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("latin-1").strip()


def tiles(
    header: Header,
    size: tuple[int, int],
    position: np.ndarray | None,
    orientation: np.ndarray | None,
    spacing: np.ndarray | None,
) -> tuple[tuple[int, int], np.ndarray]:
    """Say how large the tiles of a mosaic are and where each lies.

    Parameters
    ----------
    size : (rows, columns)
        Of the whole picture.
    position, orientation, spacing : arrays of float, or None
        Image Position and Orientation (Patient) and Pixel Spacing of the file.

    Returns
    -------
    size : (rows, columns)
        Of a tile.
    positions : (slices, 3) array
        Of the first voxel of each, mm (x, y, z) in LPS.

    Raises
    ------
    FileError
        If the header does not tell all that is needed.
    """
    count, normal = _count_and_normal(header)
    distance = header.number("SpacingBetweenSlices", 0) or header.number("SliceThickness", 0)
    if normal is None and count is not None and all(v is not None for v in (position, orientation, spacing)):
        normal = _proved(header, count, distance, position, orientation, np.array([size[1], size[0]]) * spacing[::-1])
    absent = [
        name
        for name, value in {
            "the number of slices": count,
            "the direction of the slices (CSA header, or slice positions of the protocol)": normal,
            "the distance of the slices": distance if distance > 0 else None,
            "Image Position (Patient)": position,
            "Image Orientation (Patient)": orientation,
            "Pixel Spacing": spacing,
        }.items()
        if value is None
    ]
    if absent:
        raise FileError(
            f"{header.path} is a Siemens mosaic whose header lacks {' and '.join(absent)}, which say where its "
            "slices lie: export it again with all private elements"
        )
    across = math.isqrt(count - 1) + 1
    tile = (size[0] // across, size[1] // across)
    if min(tile) < 1 or tile[0] * across != size[0] or tile[1] * across != size[1]:
        raise FileError(
            f"{header.path} is a Siemens mosaic of {size[1]} x {size[0]} pixels, which {count} slices do not fill in "
            f"{across} rows and columns: its header is wrong"
        )
    row, column = orientation[:3], orientation[3:]
    if not (np.isfinite(normal).all() and abs(abs(np.cross(row, column) @ normal) - 1) < 1e-2):
        raise FileError(f"{header.path} is a Siemens mosaic whose slices do not lie side by side: its header is wrong")
    corner = position + row * spacing[1] * (size[1] - tile[1]) / 2 + column * spacing[0] * (size[0] - tile[0]) / 2
    return tile, corner + np.outer(np.arange(count) * distance, normal)


def _proved(
    header: Header, count: int, distance: float, position: np.ndarray, orientation: np.ndarray, extent: np.ndarray
) -> np.ndarray | None:
    """Return the direction from slice to slice where it can be proved; None where it cannot.

    Parameters
    ----------
    extent : (2,) array
        Of the whole picture along a row and along a column, mm.
    """
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    length = np.linalg.norm(normal)
    if not abs(length - 1) < 1e-2:
        return None
    normal = normal / length
    if count == 1:
        return normal
    centres = _planned(header)
    if centres is None or len(centres) != count or not distance > 0:
        return None
    # Of the first tile, as the picture lies about its centre.
    first = position + row * extent[0] / 2 + column * extent[1] / 2
    beside = centres - first
    depths = np.sort(beside @ normal)
    even = np.abs(np.diff(depths) - distance).max() <= _NEAR * distance
    flat = np.linalg.norm(beside - np.outer(beside @ normal, normal), axis=1).max() <= distance
    at_low, at_high = (abs(end) <= _NEAR * distance for end in (depths[0], depths[-1]))
    if not (even and flat) or at_low == at_high:
        return None
    return normal if at_low else -normal


def _planned(header: Header) -> np.ndarray | None:
    """Return the centres of the slices (x, y, z in LPS) that the scan protocol lists; None where it does not."""
    large = header.large()
    content, text = large.private("siemens series csa"), large.private("siemens protocol")
    if isinstance(content, bytes):
        try:
            tags = csa(content)
        except ValueError:
            tags = {}
        text = next((tags[name][0] for name in ("MrPhoenixProtocol", "MrProtocol") if tags.get(name)), text)
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text or "")
    found: dict[int, list[float]] = {}
    for number, axis, value in _SLICE.findall(text):
        try:
            found.setdefault(int(number), [0.0, 0.0, 0.0])[_PATIENT_AXES.index(axis)] = float(value)
        except ValueError:
            return None
    # A coordinate of 0 is left out, and so is all of a slice at the isocentre.
    count = re.search(r"sSliceArray\.lSize\s*=\s*(\d+)", text)
    if count is None or not 0 < int(count[1]) <= _MOST:
        return None
    return np.array([found.get(n, [0.0, 0.0, 0.0]) for n in range(int(count[1]))])


def _count_and_normal(header: Header) -> tuple[int | None, np.ndarray | None]:
    """Return the number of slices and the unit vector from slice to slice (x, y, z); None for what is not known."""
    content = header.private("siemens csa")
    tags: dict[str, list[str]] = {}
    if isinstance(content, bytes):
        try:
            tags = csa(content)
        except ValueError as error:
            raise FileError(
                f"{header.path} is a Siemens mosaic whose CSA header is damaged ({error}): export it again"
            ) from error
    count = (tags.get("NumberOfImagesInMosaic") or [header.private("siemens image count")])[0]
    normal = tags.get("SliceNormalVector") or []
    try:
        number = int(count) if count is not None else None
        direction = np.array([float(v) for v in normal]) if len(normal) == 3 else None
    except (TypeError, ValueError):
        number = direction = None
    if number is not None and not 1 <= number <= _MOST:
        raise FileError(f"{header.path} is a Siemens mosaic of {number} slices: its header is wrong")
    if direction is not None and np.isfinite(direction).all() and (length := np.linalg.norm(direction)) > 0:
        direction = direction / length
    return number, direction
