"""NIfTI-1 and NIfTI-2 in one file: .nii and .nii.gz.

Which geometry holds
    The sform if its code is greater than 0; else the qform if its code is greater than 0; else the voxel sizes alone,
    axes taken as Right, Anterior, Superior from the origin, and ``meta["orientation_known"]`` is False. Where both
    forms are given and put a voxel more than 0.01 of a voxel apart, the sform is used and ``meta["notes"]`` says so.
    Spatial units of metre or micrometre are turned into mm; shear is kept. Frames are times in s where the header has a
    unit of time, and b-values where a .bval file of the same name lies beside the file.
What is written
    The affine as sform, and as qform too unless it is sheared (a qform cannot hold that, its code is 0 then). The code
    of the file that was read is kept (``meta["xform_code"]``), else 1. Kind, names and colours of labels, meta, history
    and frame values go into a comment extension (code 6).
"""

import gzip
import math
import re
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from ..errors import FileError, GridError
from ..geometry import Frames, Grid
from ..volume import Label, Volume
from . import convention
from ._atomic import replacing
from ._bytes import damage_told, drain, read_array, require_bytes, require_compressed, require_memory
from ._carry import KEY, Found, blocks, pack, stem, storable
from ._values import whole_type

_SPACE_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
_TIME_UNIT = {8: ("time", 1.0, "s"), 16: ("time", 1e-3, "s"), 24: ("time", 1e-6, "s")}
_OTHER_UNIT = {32: "Hz", 40: "ppm", 48: "rad/s"}
_INTENT_LABEL, _INTENT_VECTORS = 1002, (1006, 1007)
_COMMENT = 6
_REFUSED_TYPES = {
    1: "single bits",
    32: "complex numbers",
    1792: "complex numbers",
    2048: "complex numbers",
    128: "colours",
    2304: "colours",
}


def read(path: Path) -> Volume:
    """Read a .nii or .nii.gz file.

    Returns
    -------
    Volume
        ``(z, y, x)``, or ``(frame, z, y, x)`` for a fourth axis longer than 1. Integers stay integers where slope and
        intercept are whole numbers (in the smallest type that holds every possible value); scaled values are float32,
        or float64 where the stored type has more digits.

    Raises
    ------
    FileError
        If the file is damaged, cut short, needs more memory than is free, or holds what a volume cannot hold.
    """
    with damage_told(path), open(path, "rb") as file:
        size = path.stat().st_size
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
        header = _read_header(stream, path)
        extensions = _read_extensions(stream, path, header)
        shape, dtype = _shape(header, path), _stored_type(header, path)
        slope, inter = _scaling(header, path)
        result = _result_type(dtype, slope, inter)
        count = math.prod(shape)
        needed = count * dtype.itemsize
        if packed:
            require_compressed(path, needed, size)
        else:
            require_bytes(path, needed, size - stream.tell())
        require_memory(path, needed + (count * result.itemsize if result != dtype.newbyteorder("=") else 0))
        stored = read_array(stream, path, shape[::-1], dtype)
        left = drain(stream)
    data = _scaled(stored, slope, inter, result)
    return _assemble(path, header, extensions, data, left)


def _read_header(stream: BinaryIO, path: Path) -> nib.Nifti1Header:
    start = stream.read(4)
    for kind, length, magic in ((nib.Nifti1Header, 348, b"n+1"), (nib.Nifti2Header, 540, b"n+2")):
        for order in ("<", ">"):
            if len(start) == 4 and int(np.frombuffer(start, order + "i4")[0]) == length:
                block = start + stream.read(length - 4)
                if len(block) < length:
                    raise FileError(f"{path} is cut short within its header: copy the file again from its source")
                header = kind(block, order, check=False)
                found = bytes(header["magic"])[:3]
                if found == magic:
                    return header
                if found[:2] == b"ni":
                    raise FileError(f"{path} is the header of a .hdr/.img pair: convert the pair to one .nii file")
    empty = "is empty" if not start else "is not a NIfTI file although it is named like one"
    raise FileError(f"{path} {empty}: copy it again from its source")


def _read_extensions(stream: BinaryIO, path: Path, header: nib.Nifti1Header) -> list[tuple[int, bytes]]:
    """Read what lies between header and voxels, and leave the stream at the first voxel."""
    offset = float(header["vox_offset"])
    length = int(header["sizeof_hdr"])
    if not (offset == 0 or length <= offset < 1 << 30) or offset != int(offset):
        raise FileError(f"{path} says that its voxels start at byte {offset:g}, within its header: the header is wrong")
    between = max(0, (int(offset) or length + 4) - length)
    block = stream.read(between)
    if len(block) < between:
        raise FileError(f"{path} is cut short within its header: copy the file again from its source")
    found, at = [], 4
    while block[:1] > b"\x00" and at + 8 <= len(block):
        size, code = np.frombuffer(block[at : at + 8], header.endianness + "i4").tolist()
        if size < 8 or at + size > len(block):
            break
        found.append((code, block[at + 8 : at + size].rstrip(b"\x00")))
        at += size
    return found


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, ...]:
    """Return (x, y, z) or (x, y, z, frame)."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise FileError(f"{path} has the impossible size {dim[1 : max(dim[0], 3) + 1]}: its header is wrong")
    sizes = [*dim[1 : dim[0] + 1], 1, 1, 1]
    more = [n for n in sizes[3:] if n > 1]
    if len(more) > 1:
        shape = " x ".join(map(str, dim[1 : dim[0] + 1]))
        raise FileError(f"{path} has {dim[0]} axes ({shape}), a volume has three and frames: split it along the last")
    return (*sizes[:3], *more)


def _stored_type(header: nib.Nifti1Header, path: Path) -> np.dtype:
    code = int(header["datatype"])
    if code in _REFUSED_TYPES:
        raise FileError(f"{path} holds {_REFUSED_TYPES[code]} (NIfTI type {code}): convert it to real numbers first")
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (KeyError, nib.spatialimages.HeaderDataError) as error:
        raise FileError(f"{path} holds voxels of an unknown type ({code}): its header is wrong") from error
    if dtype.kind not in "iuf":
        raise FileError(f"{path} holds voxels of an unknown type ({code}): its header is wrong")
    if int(header["bitpix"]) not in (0, dtype.itemsize * 8):
        bits = int(header["bitpix"])
        raise FileError(f"{path} contradicts itself ({dtype} has not {bits} bits a voxel): its header is wrong")
    return dtype


def _scaling(header: nib.Nifti1Header, path: Path) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise FileError(f"{path} scales its values by {slope:g} plus {inter:g}, not numbers: mend its header")
    return slope, inter


def _result_type(dtype: np.dtype, slope: float, inter: float) -> np.dtype:
    dtype = dtype.newbyteorder("=")
    if (slope, inter) == (1.0, 0.0):
        return dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
    if dtype.kind in "iu" and slope.is_integer() and inter.is_integer():
        whole = whole_type(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max), int(slope), int(inter))
        if whole is not None:
            return whole
    if dtype.kind == "f":
        return dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def _scaled(stored: np.ndarray, slope: float, inter: float, result: np.dtype) -> np.ndarray:
    if (slope, inter) == (1.0, 0.0):
        return stored.astype(result, copy=False)
    data = np.empty(stored.shape, result)
    for index in range(stored.shape[0]):
        if result.kind in "iu":
            data[index] = stored[index].astype(np.int64) * int(slope) + int(inter)
        else:
            data[index] = stored[index].astype(np.float64) * slope + inter
    return data


# Geometry and what goes with it ---------------------------------------------------------------------------------


def _assemble(
    path: Path, header: nib.Nifti1Header, extensions: list[tuple[int, bytes]], data: np.ndarray, left: int
) -> Volume:
    found = Found(path, stem(path))
    if left:
        found.notes.append(f"the file holds {left} bytes more than its header accounts for")
    affine = _affine(header, data.shape[-3:], found)
    if data.ndim == 4:
        found.frames = _b_values(path, data.shape[0]) or _frames(header, data.shape[0])
    if int(header["intent_code"]) == _INTENT_LABEL:
        found.kind = "labels"
    for code, content in extensions:
        if code == _COMMENT and content.startswith(b'{"' + KEY.encode() + b'":'):
            found.carried = content.decode("ascii", "replace")[len(KEY) + 4 : -1]
        elif b"<CaretExtension" in content:
            found.labels = _caret_labels(content.decode("utf-8", "replace"))
            found.kind = "labels" if found.labels else found.kind
    return found.volume(data, affine)


def _affine(header: nib.Nifti1Header, shape: tuple[int, ...], found: Found) -> np.ndarray:
    scale = _SPACE_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    qform = sform = None
    code = 0
    if int(header["qform_code"]) > 0:
        qform = _qform(header, shape, found.path, scale)
        code = int(header["qform_code"])
    if int(header["sform_code"]) > 0:
        sform = np.array(header.get_sform(), dtype=np.float64)
        sform[:3] *= scale
        code = int(header["sform_code"])
    if code:
        found.meta["xform_code"] = code
        chosen = convention.from_xyz(qform if sform is None else sform, "RAS")
    else:
        found.meta["orientation_known"] = False
        chosen = convention.from_xyz(np.diag((*_zooms(header, shape, found.path, scale), 1.0)), "RAS")
    if sform is not None and qform is not None:
        try:
            grid, other = Grid(chosen, shape), Grid(convention.from_xyz(qform, "RAS"), shape)
        except GridError as error:
            raise FileError(f"{found.path} has an impossible geometry: {error}") from error
        if not grid.same_space(other):
            found.notes.append(
                f"sform (code {code}) and qform (code {int(header['qform_code'])}) of the header place voxels up to "
                f"{grid.distance(other):.3g} mm apart; the sform was used"
            )
    return chosen


def _zooms(header: nib.Nifti1Header, shape: tuple[int, ...], path: Path, scale: float) -> np.ndarray:
    zooms = np.array(header["pixdim"][1:4], dtype=np.float64)
    # A picture has no third axis, and its header often no third size.
    zooms[2] = 1.0 if shape[0] == 1 and zooms[2] == 0 else zooms[2]
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        raise FileError(
            f"{path} has the voxel size {' x '.join(f'{z:g}' for z in zooms)} mm, which must be greater than zero: "
            "its header is wrong"
        )
    return zooms * scale


def _qform(header: nib.Nifti1Header, shape: tuple[int, ...], path: Path, scale: float) -> np.ndarray:
    """Build the affine of the quaternion, as the NIfTI standard gives it (method 2)."""
    b, c, d = (float(header[f"quatern_{n}"]) for n in "bcd")
    rest = 1.0 - (b * b + c * c + d * d)
    offset = np.array([float(header[f"qoffset_{n}"]) for n in "xyz"])
    if not (math.isfinite(rest) and np.isfinite(offset).all()) or rest < -1e-4:
        raise FileError(f"{path} has no valid orientation (its quaternion is {b:g}, {c:g}, {d:g}): its header is wrong")
    if rest < 1e-7:
        # Half a turn: the three numbers alone make the unit quaternion, rounding apart.
        norm = math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / norm, c / norm, d / norm
    else:
        a = math.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    zooms = _zooms(header, shape, path, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms * (1.0, 1.0, -1.0 if float(header["pixdim"][0]) < 0 else 1.0)
    affine[:3, 3] = offset
    affine[:3] *= scale
    return affine


def _frames(header: nib.Nifti1Header, count: int) -> Frames:
    dim = [int(n) for n in header["dim"]]
    axis = next(a for a in range(4, 8) if dim[a] > 1)
    step, start, unit = float(header["pixdim"][axis]), float(header["toffset"]), int(header["xyzt_units"]) & 56
    if not (math.isfinite(step) and step > 0):
        step = 1.0
        unit = 0
    start = start if math.isfinite(start) and unit else 0.0
    if int(header["intent_code"]) in _INTENT_VECTORS:
        return Frames("component", tuple(range(count)))
    if axis == 4 and unit in _TIME_UNIT:
        kind, scale, name = _TIME_UNIT[unit]
        return Frames(kind, tuple((start + step * n) * scale for n in range(count)), name)
    return Frames("frame", tuple(start + step * n for n in range(count)), _OTHER_UNIT.get(unit, ""))


def _b_values(path: Path, count: int) -> Frames | None:
    """Return the b-values of a diffusion scan from the .bval file beside it, if there is one that fits."""
    try:
        values = [float(word) for word in path.with_name(stem(path) + ".bval").read_text("ascii").split()]
    except (OSError, ValueError):
        return None
    return Frames("b-value", tuple(values), "s/mm2") if len(values) == count else None


def _caret_labels(text: str) -> dict[int, Label]:
    """Read the label table that Connectome Workbench and others put into a header extension."""
    labels = {}
    for attributes, name in re.findall(r"<Label\b([^>]*)>(.*?)</Label>", text, re.DOTALL):
        values = dict(re.findall(r'(\w+)="([^"]*)"', attributes))
        name = re.sub(r"^<!\[CDATA\[(.*)\]\]>$", r"\1", name.strip(), flags=re.DOTALL)
        try:
            rgb = [round(255 * min(1.0, max(0.0, float(values[c])))) for c in ("Red", "Green", "Blue")]
            labels[int(values["Key"])] = Label(name, "#{:02x}{:02x}{:02x}".format(*rgb))
        except (KeyError, ValueError):
            continue
    labels.pop(0, None)
    return labels


# Writing --------------------------------------------------------------------------------------------------------


def write(volume: Volume, path: Path) -> None:
    """Write a .nii or .nii.gz file (NIfTI-2 where a size is beyond NIfTI-1's 32767).

    Raises
    ------
    FileError
        If the file cannot be written; an older one stays as it was.
    """
    dtype = storable(volume.data.dtype)
    header = _header(volume, dtype)
    with replacing(path) as file:
        packed = path.name.lower().endswith(".gz")
        stream = gzip.GzipFile("", "wb", 3, file, mtime=0) if packed else file
        header.write_to(stream)
        for block in blocks(volume, dtype):
            stream.write(block.data)
        if packed:
            stream.close()


def _header(volume: Volume, dtype: np.dtype) -> nib.Nifti1Header:
    grid = volume.grid
    shape = grid.shape[::-1]
    kind: Any = nib.Nifti1Header if max(shape) <= 32767 else nib.Nifti2Header
    header = kind(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    affine = convention.to_xyz(grid.affine, "RAS")
    code = volume.meta.get("xform_code", 1)
    code = code if isinstance(code, int) and 1 <= code <= 5 else 1
    header.set_zooms((*reversed(grid.spacing), *_frame_step(header, grid.frames)))
    header.set_qform(affine, code, strip_shears=True)
    held = Grid(convention.from_xyz(header.get_qform(), "RAS"), grid.spatial_shape)
    if held.distance(grid) > 1e-3:
        header.set_qform(None, 0)
    header.set_sform(affine, code)
    header.set_slope_inter(1.0, 0.0)
    if volume.kind == "labels":
        header["intent_code"] = _INTENT_LABEL
    record = f'{{"{KEY}":{pack(volume)}}}'.encode("ascii")
    header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, record))
    header["vox_offset"] = header.single_vox_offset + header.extensions.get_sizeondisk()
    return header


def _frame_step(header: nib.Nifti1Header, frames: Frames | None) -> tuple[float, ...]:
    """Set unit and start of the frame axis and return its step; values without one step are in our record only."""
    time = frames is not None and frames.kind == "time" and frames.unit == "s"
    header.set_xyzt_units("mm", "sec" if time else None)
    if frames is None:
        return ()
    step = frames.step
    if step is None or not step > 0:
        return (1.0,)
    if time:
        header["toffset"] = frames.values[0]
    return (step,)
