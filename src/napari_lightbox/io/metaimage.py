"""MetaImage: .mha in one file, .mhd with its voxels beside it.

Which geometry holds
    ``TransformMatrix`` (direction of each index, row by row, LPS), ``Offset`` and ``ElementSpacing`` as they are. Where
    the file names none of them ``meta["orientation_known"]`` or ``meta["spacing_known"]`` is False.
What is written
    A zlib stream in a .mha, raw voxels beside a .mhd. MetaImage means a rotation by its matrix: a sheared volume is
    refused. Kind, labels, meta, history and frames go into fields of our own (``lightbox0``, ``lightbox1`` ...), which
    ITK passes over.
"""

import math
import os
import re
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import FileError
from ..geometry import Frames
from ..volume import Volume
from . import convention
from ._atomic import replacing
from ._bytes import Inflate, damage_told, drain, read_array, require_bytes, require_compressed, require_memory
from ._carry import KEY, Found, blocks, pack, stem, storable
from ._pair import write_pair

_TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG": "int32",
    "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}
_NAME_OF = {dtype: name for name, dtype in _TYPES.items() if name not in ("MET_LONG", "MET_ULONG")}
# Metaio reads a line into a buffer of fixed size.
_PIECE = 1000
_SHEAR_HELD = 1e-3  # mm


def read(path: Path) -> Volume:
    """Read a .mha or .mhd file.

    Returns
    -------
    Volume
        ``(z, y, x)``, or ``(frame, z, y, x)`` for four dimensions.

    Raises
    ------
    FileError
        If the file is damaged, cut short, needs more memory than is free, or holds what a volume cannot hold.
    """
    with damage_told(path):
        fields, end = _parse(path)
        shape, dtype = _shape(fields, path), _type(fields, path)
        require_memory(path, math.prod(shape) * dtype.itemsize)
        data, left = _read_voxels(path, fields, end, shape, dtype)
    found = Found(path, stem(path), carried=_own_record(fields))
    if left:
        found.notes.append(f"the file holds {left} bytes more than its header accounts for")
    data = data.reshape((1,) * (3 - data.ndim) + data.shape)
    affine = _affine(fields, shape, found)
    if data.ndim == 4 and data.shape[0] == 1:
        data = data[0]
    elif data.ndim == 4:
        step, start = (_numbers(fields, n, 4, d, path)[3] for n, d in (("elementspacing", 1.0), ("offset", 0.0)))
        step = step if step > 0 else 1.0
        found.frames = Frames("frame", tuple(start + step * n for n in range(data.shape[0])))
    return found.volume(data, affine)


def _parse(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields by lower-case name, and where voxels in the same file begin."""
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while line := file.readline(1 << 20):
            match = re.match(r"\s*(\w+)\s*=\s*(.*?)\s*$", line.decode("latin-1"))
            if match is None:
                if line.strip():
                    break
                continue
            fields[match[1].lower()] = match[2]
            if match[1].lower() == "elementdatafile":
                break
        end = file.tell()
    fields.setdefault("offset", fields.get("position", fields.get("origin", "")))
    fields.setdefault("transformmatrix", fields.get("rotation", fields.get("orientation", "")))
    missing = [n for n in ("NDims", "DimSize", "ElementType", "ElementDataFile") if n.lower() not in fields]
    if missing:
        raise FileError(f"{path} is not a MetaImage, its header has no {missing[0]}: copy it again from its source")
    if fields.get("objecttype", "Image").lower() != "image":
        raise FileError(f"{path} holds a {fields['objecttype']}, not an image: open a MetaImage of type Image")
    return fields, end


def _shape(fields: dict[str, str], path: Path) -> tuple[int, ...]:
    """Return the array's shape, slowest axis first."""
    try:
        sizes = [int(n) for n in fields["dimsize"].split()]
        count = int(fields["ndims"])
    except ValueError:
        sizes, count = [], 0
    if not sizes or min(sizes) < 1 or len(sizes) != count:
        raise FileError(f"{path} has the impossible size {fields['dimsize']!r}: its header is wrong")
    if not 2 <= count <= 4:
        raise FileError(f"{path} has {count} axes, a volume has two or three and frames: split it first")
    if fields.get("elementnumberofchannels", "1") != "1":
        channels = fields["elementnumberofchannels"]
        raise FileError(f"{path} holds {channels} values a voxel, a volume holds one: split its channels first")
    return tuple(sizes[::-1])


def _type(fields: dict[str, str], path: Path) -> np.dtype:
    name = fields["elementtype"].upper()
    if name not in _TYPES:
        raise FileError(f"{path} holds voxels of the type {name}, which is no single number: convert it first")
    msb = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False"))
    return np.dtype(_TYPES[name]).newbyteorder(">" if _true(msb) else "<")


def _true(word: str) -> bool:
    return word[:1].lower() in ("t", "1", "y")


def _read_voxels(
    path: Path, fields: dict[str, str], end: int, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[np.ndarray, int]:
    source, start = _data_file(path, fields), 0
    needed = math.prod(shape) * dtype.itemsize
    size = os.path.getsize(source)
    if source == path:
        start = end
    else:
        try:
            start = int(fields.get("headersize", "0"))
        except ValueError:
            start = -2
        if start < -1:
            raise FileError(f"{path} has the illegal HeaderSize {fields['headersize']!r}: mend the header")
        start = size - needed if start == -1 else start
    if not _true(fields.get("binarydata", "True")):
        raise FileError(f"{path} stores its voxels as text: write it in binary form first")
    with open(source, "rb") as file:
        if _true(fields.get("compresseddata", "False")):
            file.seek(max(0, start))
            length = size - start
            promised = fields.get("compresseddatasize", "")
            if promised.isdigit() and int(promised):
                require_bytes(source, int(promised), length)
                length = int(promised)
            require_compressed(source, needed, length)
            stream = Inflate(file, length)
            return read_array(stream, source, shape, dtype), drain(stream)
        require_bytes(source, needed, size - max(0, start))
        file.seek(max(0, start))
        return read_array(file, source, shape, dtype), max(0, size - start - needed)


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields["elementdatafile"]
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise FileError(f"{path} spreads its voxels over several files ({name}): join them into one first")
    source = path.parent / name
    if not name or not source.is_file():
        raise FileError(f"{path} needs the voxels in {source}, which does not exist: copy both files together")
    return source


def _numbers(fields: dict[str, str], name: str, count: int, default: float, path: Path) -> np.ndarray:
    words = fields.get(name, "").split()
    if not words:
        return np.full(count, default)
    try:
        values = np.array([float(w) for w in words])
    except ValueError:
        values = np.array([math.nan])
    if len(values) < count or not np.isfinite(values).all():
        raise FileError(f"{path} has {name} = {fields[name]!r}, where {count} numbers are needed: its header is wrong")
    return values[:count]


def _affine(fields: dict[str, str], shape: tuple[int, ...], found: Found) -> np.ndarray:
    count, path = len(shape), found.path
    if not fields.get("elementspacing") and not fields.get("elementsize"):
        found.meta["spacing_known"] = False
    name = "elementspacing" if fields.get("elementspacing") else "elementsize"
    spacing = _numbers(fields, name, count, 1.0, path)
    if (spacing[:3] <= 0).any():
        raise FileError(f"{path} has the spacing {fields[name]}, which must be greater than zero: its header is wrong")
    if not fields["transformmatrix"] or count == 2:
        found.meta["orientation_known"] = False
    matrix = np.eye(count)
    if fields["transformmatrix"]:
        matrix = _numbers(fields, "transformmatrix", count * count, 0.0, path).reshape(count, count)
    origin = _numbers(fields, "offset", count, 0.0, path)
    if count == 4 and (np.abs(matrix[3, :3]).max() > 1e-6 or np.abs(matrix[:3, 3]).max() > 1e-6):
        raise FileError(f"{path} mixes time and space in its TransformMatrix: its header is wrong")
    vectors, start = np.eye(3), np.zeros(3)
    used = min(3, count)
    vectors[:used, :used] = matrix[:used, :used] * spacing[:used, None]
    start[:used] = origin[:used]
    return convention.from_vectors(vectors, start)


def _own_record(fields: dict[str, str]) -> str | None:
    pieces = []
    while f"{KEY}{len(pieces)}" in fields:
        pieces.append(fields[f"{KEY}{len(pieces)}"])
    # A space at the end of a line would be lost, so the pieces are quoted.
    return "".join(p[1:-1] for p in pieces) or None


# Writing --------------------------------------------------------------------------------------------------------


def write(volume: Volume, path: Path) -> None:
    """Write a .mha file (zlib), or a .mhd with its voxels in a .raw beside it.

    Raises
    ------
    FileError
        If the volume is sheared, or the files cannot be written; older ones stay as they were.
    """
    if _shear_shift(volume) > _SHEAR_HELD:
        raise FileError(
            f"{path} was not written: the volume is sheared by {volume.grid.shear:.3g} degrees, which MetaImage cannot "
            "hold; write it as .nii.gz or .nrrd, or resample it first"
        )
    dtype = storable(volume.data.dtype)
    if path.suffix.lower() == ".mhd":

        def voxels(file: BinaryIO) -> None:
            for block in blocks(volume, dtype):
                file.write(block.data)

        write_pair(path, lambda name: _header_text(volume, dtype, name)[0], voxels)
        return
    with replacing(path) as file:
        header, at = _header_text(volume, dtype, "LOCAL")
        file.write(header)
        machine, count = zlib.compressobj(3), 0
        for block in blocks(volume, dtype):
            count += file.write(machine.compress(block.data))
        count += file.write(machine.flush())
        file.seek(at)
        file.write(f"{count:020d}".encode("ascii"))


def _shear_shift(volume: Volume) -> float:
    """Return how far, mm, the farthest voxel would move if the axes were made perpendicular."""
    grid = volume.grid
    u, _, vt = np.linalg.svd(grid.direction)
    straight = (u @ vt) * np.asarray(grid.spacing)
    shift = np.abs(grid.affine[:3, :3] - straight) @ (np.asarray(grid.spatial_shape) - 1.0)
    return float(np.linalg.norm(shift))


def _header_text(volume: Volume, dtype: np.dtype, data_file: str) -> tuple[bytes, int]:
    """Return the header and where in it the number of compressed bytes has to be filled in."""
    grid, count = volume.grid, len(volume.grid.shape)
    itk = convention.itk_geometry(grid.affine)
    matrix = np.eye(count)
    # ITK's direction has the axes in columns, MetaImage writes them in rows.
    matrix[:3, :3] = np.reshape(itk["direction"], (3, 3)).T
    spacing, origin = list(itk["spacing"]), list(itk["origin"])
    if grid.frames is not None:
        step = grid.frames.step
        even = step is not None and step > 0
        spacing.append(step if even else 1.0)
        origin.append(grid.frames.values[0] if even else 0.0)

    def row(values) -> str:
        return " ".join(repr(float(v)) for v in values)

    lines = [
        "ObjectType = Image",
        f"NDims = {count}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {data_file == 'LOCAL'}",
        *(["CompressedDataSize = " + "0" * 20] if data_file == "LOCAL" else []),
        f"TransformMatrix = {row(matrix.ravel())}",
        f"Offset = {row(origin)}",
        f"CenterOfRotation = {row([0.0] * count)}",
        f"ElementSpacing = {row(spacing)}",
        f"DimSize = {' '.join(str(n) for n in reversed(grid.shape))}",
        f"ElementType = {_NAME_OF[dtype.name]}",
    ]
    record = pack(volume)
    pieces = [record[i : i + _PIECE] for i in range(0, len(record), _PIECE)]
    lines += [f'{KEY}{n} = "{piece}"' for n, piece in enumerate(pieces)]
    lines.append(f"ElementDataFile = {data_file}\n")
    text = "\n".join(lines).encode("ascii")
    return text, text.find(b"CompressedDataSize = ") + len(b"CompressedDataSize = ")
