"""NRRD: .nrrd in one file, .nhdr with its voxels beside it, and segmentations (.seg.nrrd).

The header is read here because the common readers take a sheared file, a short one or a negative skip without a word.

Which geometry holds
    ``space directions`` and ``space origin`` as they are, shear included, in LPS, RAS or LAS. Without a ``space`` the
    axes are taken as LPS and ``meta["orientation_known"]`` is False; without directions ``spacings`` are used, and
    where there are none ``meta["spacing_known"]`` is False too.
What is written
    Space left-posterior-superior, gzip in one file and raw beside a .nhdr. A ``.seg.nrrd`` of labels gets the
    ``SegmentN_`` keys of 3D Slicer (name, colour, value); everything else that a volume knows goes into the key
    ``lightbox``.
"""

import bz2
import gzip
import io
import math
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import FileError
from ..geometry import Frames
from ..volume import Label, Volume
from . import convention
from ._atomic import replacing
from ._bytes import damage_told, drain, read_array, require_bytes, require_compressed, require_memory
from ._carry import KEY, Found, blocks, pack, stem, storable
from ._nrrd_header import (
    NAME_OF,
    SPACES,
    TIMES,
    UNITS,
    Header,
    encoding_of,
    frame_axis_of,
    parse,
    sizes_of,
    type_of,
    vectors_of,
)
from ._pair import write_pair


def read(path: Path) -> Volume:
    """Read a .nrrd or .nhdr file.

    Returns
    -------
    Volume
        ``(z, y, x)``, or ``(frame, z, y, x)`` for an axis that is not in space. An axis of frames that the file stores
        fastest is put first and ``meta["frames_fastest"]`` remembers it for writing.

    Raises
    ------
    FileError
        If the file is damaged, cut short, needs more memory than is free, or holds what a volume cannot hold.
    """
    with damage_told(path):
        header = parse(path)
        sizes, dtype = sizes_of(header), type_of(header)
        frame_axis = frame_axis_of(header, sizes)
        needed = math.prod(sizes) * dtype.itemsize
        require_memory(path, needed)
        data, left = _read_voxels(header, sizes, dtype)
    found = Found(path, stem(path), meta={}, carried=header.keys.get(KEY))
    if left:
        found.notes.append(f"the file holds {left} bytes more than its header accounts for")
    found.labels = _segments(header.keys)
    found.kind = "labels" if any(re.fullmatch(r"Segment\d+_.*|Segmentation_.*", k) for k in header.keys) else None
    if found.kind == "labels" and frame_axis is not None and sizes[frame_axis] > 1 and found.carried is None:
        raise FileError(
            f"{path} holds overlapping segments in {sizes[frame_axis]} layers, which cannot be loaded yet: save "
            "them as one label map each"
        )
    spatial = [a for a in range(len(sizes)) if a != frame_axis]
    data = _arrange(data, header, sizes, frame_axis, found)
    affine = _affine(header, spatial, found)
    return found.volume(data, affine)


# Voxels ---------------------------------------------------------------------------------------------------------


def _read_voxels(header: Header, sizes: list[int], dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Read the voxels, slowest axis first, and count the bytes left over."""
    path, encoding = header.path, encoding_of(header)
    line_skip, byte_skip = header.whole("line skip"), header.whole("byte skip")
    if line_skip < 0 or byte_skip < (-1 if encoding == "raw" else 0):
        skip = f"line skip {line_skip}" if line_skip < 0 else f"byte skip {byte_skip}"
        raise FileError(f"{path} has the illegal {skip} in its NRRD header: mend the header")
    source = _data_file(header)
    needed = math.prod(sizes) * dtype.itemsize
    with open(source, "rb") as file:
        if source == path:
            file.seek(header.end)
        for _ in range(line_skip):
            file.readline()
        there = os.path.getsize(source) - file.tell()
        if encoding == "raw":
            start = there - needed if byte_skip == -1 else byte_skip
            require_bytes(source, needed, there - max(0, start))
            file.seek(start, 1)
            return read_array(file, source, sizes[::-1], dtype), max(0, there - start - needed)
        if encoding in ("text", "hex"):
            return _read_text(file, source, sizes, dtype, encoding), 0
        if encoding == "gzip":
            require_compressed(source, needed, there)
        stream = gzip.GzipFile(fileobj=file) if encoding == "gzip" else bz2.BZ2File(file)
        stream.read(byte_skip)
        array = read_array(stream, source, sizes[::-1], dtype)
        return array, drain(stream)


def _data_file(header: Header) -> Path:
    name = header.fields.get("data file")
    if name is None:
        if header.path.suffix.lower() == ".nhdr":
            raise FileError(f"{header.path} does not name the file with its voxels: its header is wrong")
        return header.path
    if name.upper().startswith("LIST") or "%" in name:
        raise FileError(f"{header.path} spreads its voxels over several files ({name}): join them into one first")
    source = header.path.parent / name
    if not source.is_file():
        raise FileError(f"{header.path} needs the voxels in {source}, which does not exist: copy both files together")
    return source


def _read_text(file: BinaryIO, path: Path, sizes: list[int], dtype: np.dtype, encoding: str) -> np.ndarray:
    content = file.read()
    native = dtype.newbyteorder("=")
    try:
        if encoding == "hex":
            raw = bytes.fromhex(content.decode("ascii"))
            return read_array(io.BytesIO(raw), path, sizes[::-1], dtype)
        parse = float if dtype.kind == "f" else int
        values = np.array([parse(word) for word in content.replace(b",", b" ").split()], native)
    except (ValueError, OverflowError) as error:
        raise FileError(f"{path} has voxels that are no numbers ({error}): copy it again from its source") from error
    require_bytes(path, math.prod(sizes), len(values))
    return values[: math.prod(sizes)].reshape(sizes[::-1])


def _arrange(data: np.ndarray, header: Header, sizes: list[int], frame_axis: int | None, found: Found) -> np.ndarray:
    """Put frames first and give the array three axes in space."""
    count = 1 if frame_axis is None else sizes[frame_axis]
    if frame_axis is not None:
        data = np.moveaxis(data, len(sizes) - 1 - frame_axis, 0)
        if count > 1 and frame_axis != len(sizes) - 1:
            found.meta["frames_fastest"] = True
    else:
        data = data[None]
    data = data.reshape((count, *(1,) * (4 - data.ndim), *data.shape[1:]))
    if count == 1:
        return data[0]
    found.frames = _frames(header, frame_axis, count)
    return data


def _frames(header: Header, axis: int, count: int) -> Frames:
    kinds, units = header.words("kinds"), re.findall(r'"([^"]*)"', header.fields.get("units", ""))
    spacings, starts = header.words("spacings"), header.words("axis mins")

    def number(words: list[str], default: float) -> float:
        try:
            value = float(words[axis])
        except (IndexError, ValueError):
            return default
        return value if math.isfinite(value) else default

    step, start = number(spacings, 1.0), number(starts, 0.0)
    vectors = vectors_of(header)
    if axis < len(vectors) and vectors[axis] is not None and len(vectors[axis]) == 4:
        # A space of four dimensions, as ITK writes it.
        step = float(vectors[axis][3]) or 1.0
        start = _point(header, 4)[3]
    kind = kinds[axis].lower() if axis < len(kinds) else ""
    unit = units[axis].strip() if axis < len(units) else ""
    if kind in ("time", "list") and unit in TIMES:
        return Frames("time", tuple((start + step * n) * TIMES[unit] for n in range(count)), "s")
    kind = "component" if "vector" in kind else "frame"
    return Frames(kind, tuple(start + step * n for n in range(count)), unit)


# Geometry and labels --------------------------------------------------------------------------------------------


def _affine(header: Header, spatial: list[int], found: Found) -> np.ndarray:
    vectors, path = vectors_of(header), header.path
    space = SPACES.get(re.sub(r"-time$|t$", "", header.fields.get("space", "").lower()), "")
    if not space or len(spatial) < 3:
        found.meta["orientation_known"] = False
    if vectors:
        steps = [vectors[a] for a in spatial if a < len(vectors)]
        if len(steps) != len(spatial) or any(v is None or len(v) < len(spatial) for v in steps):
            raise FileError(f"{path} gives no direction in space for each of its axes: its header is wrong")
        if any(np.any(v[3:]) for v in steps):
            raise FileError(f"{path} mixes time and space in its space directions: its header is wrong")
    else:
        words = header.words("spacings")
        steps = []
        for row, axis in enumerate(spatial):
            spacing = _spacing(words[axis] if axis < len(words) else "nan", found)
            steps.append(np.eye(3)[row] * spacing)
    matrix, origin = np.eye(3), _point(header, 3)
    for row, step in enumerate(steps):
        matrix[row] = 0.0
        matrix[row, : min(3, len(step))] = step[:3]
    units = re.findall(r'"([^"]*)"', header.fields.get("space units", ""))
    scale = UNITS.get(units[0].lower(), 1.0) if units else 1.0
    return convention.from_vectors(matrix * scale, origin * scale, space or "LPS")


def _point(header: Header, count: int) -> np.ndarray:
    """Return the space origin with `count` coordinates, 0 where it has none."""
    point = np.zeros(count)
    text = header.fields.get("space origin", "")
    try:
        values = [float(v) for v in text.strip("() ").split(",")] if text else []
        if len(values) == 1:
            raise ValueError("one number is no point")
    except ValueError:
        raise FileError(f"{header.path} has a space origin that is no point: {text[:60]!r}") from None
    point[: min(count, len(values))] = values[:count]
    return point


def _spacing(word: str, found: Found) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        found.meta["spacing_known"] = False
        return 1.0
    if not (math.isfinite(value) and value > 0):
        raise FileError(f"{found.path} has the spacing {word}, which must be greater than zero: its header is wrong")
    return value


def _segments(keys: dict[str, str]) -> dict[int, Label]:
    """Read the segments of a Slicer segmentation."""
    labels = {}
    for key in keys:
        match = re.fullmatch(r"Segment(\d+)_LabelValue", key)
        if match is None:
            continue
        prefix = f"Segment{match[1]}_"
        try:
            value = int(keys[key])
            rgb = [round(255 * min(1.0, max(0.0, float(c)))) for c in keys.get(prefix + "Color", "").split()]
        except ValueError:
            continue
        colour = "#{:02x}{:02x}{:02x}".format(*rgb) if len(rgb) == 3 else None
        labels[value] = Label(keys.get(prefix + "Name", f"Segment {value}"), colour, keys.get(prefix + "Tags"))
    return labels


# Writing --------------------------------------------------------------------------------------------------------


def write(volume: Volume, path: Path) -> None:
    """Write a .nrrd file (gzip), or a .nhdr with its voxels in a .raw beside it.

    Raises
    ------
    FileError
        If the files cannot be written; older ones stay as they were.
    """
    dtype = storable(volume.data.dtype)
    if path.suffix.lower() == ".nhdr":

        def voxels(file: BinaryIO) -> None:
            for block in _ordered(volume, dtype):
                file.write(block.data)

        write_pair(path, lambda name: _header_text(volume, dtype, "raw", name, path), voxels)
        return
    with replacing(path) as file:
        file.write(_header_text(volume, dtype, "gzip", None, path))
        with gzip.GzipFile("", "wb", 3, file, mtime=0) as stream:
            for block in _ordered(volume, dtype):
                stream.write(block.data)


def _fastest(volume: Volume) -> bool:
    return volume.grid.frames is not None and bool(volume.meta.get("frames_fastest"))


def _ordered(volume: Volume, dtype: np.dtype):
    """Give the voxels in the order of the file: frames slowest, or fastest where they were so."""
    if not _fastest(volume):
        yield from blocks(volume, dtype)
        return
    for z in range(volume.grid.shape[1]):
        yield np.ascontiguousarray(np.moveaxis(np.asarray(volume.data[:, z]), 0, -1), dtype.newbyteorder("<"))


def _header_text(volume: Volume, dtype: np.dtype, encoding: str, data_file: str | None, path: Path) -> bytes:
    grid, frames = volume.grid, volume.grid.frames
    vectors, origin = convention.to_vectors(grid.affine)
    columns = {
        "sizes": [str(n) for n in reversed(grid.spatial_shape)],
        "space directions": ["(" + ",".join(repr(float(v)) for v in row) + ")" for row in vectors],
        "kinds": ["domain"] * 3,
    }
    if frames is not None:
        step = frames.step if frames.step is not None and frames.step > 0 else None
        columns |= {"spacings": ["nan"] * 3, "axis mins": ["nan"] * 3, "units": ['""'] * 3}
        at = 0 if _fastest(volume) else 3
        # Kind "time" would be the truth, but ITK refuses it beside three axes in space.
        extra = (str(grid.shape[0]), "none", "list", repr(float(step or 1.0)))
        start = repr(frames.values[0] if step else 0.0)
        for name, word in zip(columns, (*extra, start, f'"{frames.unit}"'), strict=True):
            columns[name].insert(at, word)
    lines = ["NRRD0005", f"type: {NAME_OF.get(dtype.name, dtype.name)}", f"dimension: {len(grid.shape)}"]
    lines.append("space: left-posterior-superior")
    lines += [f"{name}: {' '.join(words)}" for name, words in columns.items()]
    lines.append(f"space origin: ({','.join(repr(float(v)) for v in origin)})")
    lines += ["endian: little", f"encoding: {encoding}"]
    lines += [f"data file: {data_file}"] if data_file else []
    pairs = {KEY: pack(volume)}
    if volume.kind == "labels" and path.name.lower().endswith(".seg.nrrd"):
        pairs = {**_segment_keys(volume), **pairs}
    lines += [f"{k}:={v.replace(chr(92), chr(92) * 2).replace(chr(10), chr(92) + 'n')}" for k, v in pairs.items()]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def _segment_keys(volume: Volume) -> dict[str, str]:
    """Return the keys by which 3D Slicer knows the segments."""
    extent = " ".join(f"0 {n - 1}" for n in reversed(volume.grid.spatial_shape))
    keys = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    present = {int(v) for block in volume.data for v in np.unique(np.asarray(block))} - {0}
    for n, value in enumerate(sorted(present | {v for v in volume.labels if v})):
        label = volume.labels.get(value, Label(f"Segment {value}"))
        colour = label.colour if re.fullmatch(r"#[0-9a-fA-F]{6}", label.colour or "") else "#ffff00"
        rgb = " ".join(f"{int(colour[i : i + 2], 16) / 255:.6g}" for i in (1, 3, 5))
        keys |= {
            f"Segment{n}_ID": f"Segment_{value}",
            f"Segment{n}_Name": label.name,
            f"Segment{n}_NameAutoGenerated": "0",
            f"Segment{n}_Color": rgb,
            f"Segment{n}_ColorAutoGenerated": "0",
            f"Segment{n}_LabelValue": str(value),
            f"Segment{n}_Layer": "0",
            f"Segment{n}_Extent": extent,
            f"Segment{n}_Tags": label.code if isinstance(label.code, str) else "|",
        }
    return keys
