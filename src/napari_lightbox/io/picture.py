"""Pictures: PNG, TIFF, JPEG. One slice each; a TIFF of several equal pages becomes a stack of slices.

Which spacing holds
    That of the caller; else our own record in the file; else the resolution of the file if it is one that somebody
    measured: given per centimetre or metre, or per inch but none of the resolutions that screens and printers have, and
    0.001 to 10 mm a pixel. Otherwise 1 mm, and ``meta["spacing_known"]`` is False. Pages are taken to be 1 mm apart,
    which no file says: ``meta["spacing_known"]`` is False, and ``meta["pixel_size_known"]`` True where only this
    distance is missing. A picture does not say how it lies in the patient: ``meta["orientation_known"]`` is False.
What happens to colour
    Red, green and blue that are equal everywhere are one grey value. Real colour becomes luminance (ITU-R BT.601) and
    ``meta["notes"]`` says so. Alpha is dropped where it is opaque and refused where it is not.
What is written
    One-slice volumes: PNG holds uint8 and uint16, TIFF also int16 and float32, JPEG uint8 images (it changes values a
    little, so no labels). The resolution is written, and all else that a volume knows as text.
"""

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, LightboxError
from ..geometry import Grid
from ..progress import Cancelled, track
from ..volume import Volume
from ._atomic import replacing
from ._bytes import damage_told, require_bytes, require_memory
from ._carry import KEY, Found, pack, stem, storable
from ._values import grey

_TYPES = {
    ".png": ("uint8", "uint16"),
    ".tif": ("uint8", "uint16", "int16", "float32"),
    ".tiff": ("uint8", "uint16", "int16", "float32"),
    ".jpg": ("uint8",),
    ".jpeg": ("uint8",),
}
# Pixels per inch that programs write when they know nothing.
_SCREENS = (1, 36, 72, 75, 90, 96, 100, 120, 144, 150, 192, 200, 240, 254, 300, 360, 400, 600, 720, 1200, 2400)
_INCH, _PLAUSIBLE = 25.4, (1e-3, 10.0)
_MARK = f'{{"{KEY}":'


def read(path: Path) -> Volume:
    """Read a picture as a volume of one slice, or of one slice for each page.

    Raises
    ------
    FileError
        If the file is damaged or cut short, is partly transparent, or its pages differ.
    """
    with damage_told(path):
        start = _start(path)
        found = Found(path, stem(path))
        if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            data, spacing = _read_tiff(path, found)
        else:
            data, spacing = _read_pillow(path, found)
    grid = _own_grid(found.carried, data.shape)
    if grid is not None:
        return found.volume(data.reshape(grid.shape), grid.affine)
    found.meta["orientation_known"] = False
    if len(data) > 1 and spacing is not None:
        found.meta |= {"spacing_known": False, "pixel_size_known": True}
    elif spacing is None:
        found.meta["spacing_known"] = False
        spacing = (1.0, 1.0)
    return found.volume(data, Grid.from_spacing((1.0, *spacing), data.shape).affine)


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _own_grid(carried: str | None, shape: tuple[int, ...]) -> Grid | None:
    """Return the grid of our record, if the picture still has its size."""
    if carried is None:
        return None
    try:
        grid = Grid.from_dict(json.loads(carried)["grid"])
    except (ValueError, KeyError, TypeError, LightboxError):
        return None
    return grid if grid.frames is None and _plane(grid.shape) == shape[1:] and shape[0] == 1 else None


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the two axes that are left when one of length 1 is dropped."""
    axis = shape.index(1)
    return tuple(n for a, n in enumerate(shape) if a != axis)


def _measured(per_mm: tuple[float, float], per_inch: bool) -> tuple[float, float] | None:
    """Return (y, x) spacing in mm of a resolution (x, y) in pixels per mm, or None where it means nothing."""
    if not all(np.isfinite(v) and v > 0 for v in per_mm):
        return None
    dpi = [v * _INCH for v in per_mm]
    # A PNG knows pixels per metre only, so a screen's 72 dpi come as 2835 of them.
    if all(min(abs(d - s) for s in _SCREENS) < (0.02 if not per_inch else 1e-3) for d in dpi):
        return None
    spacing = (1 / per_mm[1], 1 / per_mm[0])
    return spacing if all(_PLAUSIBLE[0] <= s <= _PLAUSIBLE[1] for s in spacing) else None


# PNG and JPEG ---------------------------------------------------------------------------------------------------


def _read_pillow(path: Path, found: Found) -> tuple[np.ndarray, tuple[float, float] | None]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            require_memory(path, image.width * image.height * 12)
            if image.format == "PNG":
                _check_png(path)
        with Image.open(path) as image:
            image.load()
            data = _array(image, path, found)
            facts = dict(image.info)
            facts["exif"] = dict(image.getexif())
    except UnidentifiedImageError as error:
        raise FileError(f"{path} is not a picture although it is named like one: copy it from its source") from error
    except Image.DecompressionBombError as error:
        raise FileError(f"{path} has more pixels than can be opened safely: cut it to the part you need") from error
    except (LightboxError, Cancelled, MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes a decoder raise whatever it ran into
        raise FileError(f"{path} is damaged or cut short ({error}): copy it again from its source") from error
    text = facts.get(KEY) or facts.get("comment", "")
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    if text.startswith(_MARK):
        found.carried = text[len(_MARK) : -1]
    if facts["exif"].get(274, 1) != 1:
        found.notes.append("the file asks to be shown turned or mirrored (EXIF); its pixels are kept as stored")
    return data[None], _pillow_spacing(facts)


def _check_png(path: Path) -> None:
    """Compare the checksum of every chunk, up to the one that ends the file; loading does neither."""
    with open(path, "rb") as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND":
            start = file.read(8)
            if len(start) < 8:
                raise EOFError("its end is missing")
            length, kind = struct.unpack(">I4s", start)
            content, checksum = file.read(length), file.read(4)
            if checksum != struct.pack(">I", zlib.crc32(kind + content)):
                raise ValueError("a checksum is wrong")


def _array(image: Any, path: Path, found: Found) -> np.ndarray:
    if image.mode in ("L", "I;16", "I;16B", "I;16L", "I", "F", "1"):
        data = np.array(image)
        if image.mode == "I" and data.min(initial=0) >= 0 and data.max(initial=0) < 1 << 16:
            data = data.astype(np.uint16)
        return data.astype(storable(data.dtype))
    if image.mode == "RGB" and image.format == "PNG" and _start_depth(path) == 16:
        found.notes.append("16-bit colour was reduced to 8 bits")
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    pixels = np.array(image.convert("RGBA" if alpha else "RGB"))
    return _without_colour(pixels, path, found)


def _start_depth(path: Path) -> int:
    with open(path, "rb") as file:
        return file.read(25)[24]


def _without_colour(pixels: np.ndarray, path: Path, found: Found) -> np.ndarray:
    """Turn (..., 3 or 4) into one value a pixel."""
    if pixels.shape[-1] == 4:
        opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
        if (pixels[..., 3] != opaque).any():
            raise FileError(f"{path} is partly transparent: put it on a background first, in any paint program")
    data, converted = grey(pixels[..., :3])
    if converted and "colour was turned into luminance (ITU-R BT.601)" not in found.notes:
        found.notes.append("colour was turned into luminance (ITU-R BT.601)")
    return data


def _pillow_spacing(facts: dict[str, Any]) -> tuple[float, float] | None:
    if "jfif_density" in facts and facts.get("jfif_unit") == 2:
        return _measured(tuple(v / 10 for v in facts["jfif_density"]), per_inch=False)
    if "dpi" not in facts:
        return None
    try:
        dpi = tuple(float(v) for v in facts["dpi"])
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return _measured(tuple(v / _INCH for v in dpi), per_inch="jfif_unit" in facts)


# TIFF -----------------------------------------------------------------------------------------------------------


def _read_tiff(path: Path, found: Found) -> tuple[np.ndarray, tuple[float, float] | None]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = list(file.pages)
            first = pages[0]
            alike = [(p.shape, p.dtype) == (first.shape, first.dtype) for p in pages]
            if not all(alike):
                raise FileError(
                    f"{path} has pages of different size or type (page {alike.index(False) + 1}): split it first"
                )
            size = path.stat().st_size
            for page in pages:
                _require_strips(page, path, size)
            require_memory(path, 2 * len(pages) * int(np.prod(first.shape)) * np.dtype(first.dtype).itemsize)
            data = np.stack([_page(page, path, found) for page in track(pages, "pages read")])
            spacing = _tiff_spacing(first)
            text = first.description or ""
    except (LightboxError, Cancelled, MemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes a decoder raise whatever it ran into
        raise FileError(f"{path} is a TIFF that cannot be read ({error}): save it again uncompressed") from error
    if len(pages) > 1:
        found.notes.append(f"the {len(pages)} pages of the file were taken as slices, whose distance it does not say")
    if text.startswith(_MARK):
        found.carried = text[len(_MARK) : -1]
    return data, spacing


def _require_strips(page: Any, path: Path, size: int) -> None:
    """Refuse a page that lacks some of its pieces; decoding would fill them with zeros."""
    counts = list(page.databytecounts)
    if len(counts) != math.prod(page.chunked) or len(page.dataoffsets) != len(counts) or min(counts) < 1:
        raise FileError(f"{path} lacks some of its pixels or its header is wrong: copy it again from its source")
    require_bytes(path, max(o + c for o, c in zip(page.dataoffsets, counts, strict=True)), size)


def _page(page: Any, path: Path, found: Found) -> np.ndarray:
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        array = _page_by_pillow(path, page.index)
    colour = page.photometric.name if hasattr(page.photometric, "name") else str(page.photometric)
    if colour == "PALETTE" and page.colormap is not None:
        array = np.moveaxis(page.colormap[..., array], 0, -1)
    elif array.ndim == 3 and page.axes.startswith("S"):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] in (3, 4) and colour in ("RGB", "PALETTE", "YCBCR"):
        return _without_colour(array, path, found)
    if array.ndim != 2:
        raise FileError(
            f"{path} holds {page.axes} values of the shape {array.shape} a page: split it into grey pictures"
        )
    if array.dtype.kind not in "buif":
        raise FileError(f"{path} holds {array.dtype} values, which are no real numbers: convert it first")
    if colour == "MINISWHITE" and "white is 0 in this file; values are kept as stored" not in found.notes:
        found.notes.append("white is 0 in this file; values are kept as stored")
    return array.astype(storable(array.dtype), copy=False)


def _page_by_pillow(path: Path, index: int) -> np.ndarray:
    """Decode what tifffile needs a further library for."""
    from PIL import Image

    with Image.open(path) as image:
        image.seek(index)
        return np.array(image)


def _tiff_spacing(page: Any) -> tuple[float, float] | None:
    def ratio(name: str) -> float:
        value = page.tags[name].value if name in page.tags else (0, 1)
        above, below = value if isinstance(value, tuple) else (value, 1)
        return above / below if below else 0.0

    unit = int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 2
    length = {2: _INCH, 3: 10.0}.get(unit)
    if length is None:
        return None
    return _measured((ratio("XResolution") / length, ratio("YResolution") / length), per_inch=unit == 2)


# Writing --------------------------------------------------------------------------------------------------------


def hindrance(suffix: str, grid: Grid, kind: str, dtype: np.dtype) -> str | None:
    """Return why a volume cannot be written as a picture, with the remedy; None where it can.

    Parameters
    ----------
    suffix : str
        ``".png"``; None is returned for a suffix that is no picture's.
    grid, kind, dtype
        Of the volume.

    Examples
    --------
    >>> hindrance(".png", Grid.from_spacing((1, 1, 1), (2, 3, 4)), "labels", np.dtype("u1"))
    'a picture holds one slice and the volume has 4 x 3 x 2 voxels: save it as .nii.gz, .nrrd or .mha'
    """
    if suffix not in _TYPES:
        return None
    other = "save it as .nii.gz, .nrrd or .mha"
    if grid.frames is not None or 1 not in grid.shape:
        size = " x ".join(str(n) for n in reversed(grid.shape))
        return f"a picture holds one slice and the volume has {size} voxels: {other}"
    if suffix in (".jpg", ".jpeg") and kind == "labels":
        return "JPEG changes values a little and would spoil labels: save it as .png"
    if dtype.name not in _TYPES[suffix]:
        return f"{suffix} holds {' and '.join(_TYPES[suffix])} and the volume is {dtype.name}: {other}"
    return None


def write(volume: Volume, path: Path) -> None:
    """Write a volume of one slice as a picture.

    Raises
    ------
    FileError
        If it has more than one slice or frame, its values do not fit the format, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    dtype = storable(volume.data.dtype)
    grid = volume.grid
    if why := hindrance(suffix, grid, volume.kind, dtype):
        raise FileError(f"{path} was not written, {why}")
    axis = grid.shape.index(1)
    y, x = (s for a, s in enumerate(grid.spacing) if a != axis)
    record = f"{_MARK}{pack(volume, exact=suffix not in ('.jpg', '.jpeg'))}}}"
    with replacing(path) as file:
        pixels = np.ascontiguousarray(np.asarray(volume.data).reshape(_plane(grid.shape)), dtype)
        if suffix in (".tif", ".tiff"):
            import tifffile

            tifffile.imwrite(
                file,
                pixels,
                photometric="minisblack",
                compression="zlib",
                resolution=(10 / x, 10 / y),
                resolutionunit="CENTIMETER",
                description=record,
                metadata=None,
            )
        else:
            _write_pillow(file, pixels, (_INCH / x, _INCH / y), record, suffix)


def _write_pillow(file: Any, pixels: np.ndarray, dpi: tuple[float, float], record: str, suffix: str) -> None:
    from PIL import Image, PngImagePlugin

    image = Image.fromarray(pixels)
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text(KEY, record)
        image.save(file, "PNG", pnginfo=text, dpi=dpi)
    else:
        # A JPEG comment holds 64 KiB; a longer record would make the file unreadable.
        image.save(file, "JPEG", quality=95, dpi=dpi, comment=record if len(record) < 65000 else "")
