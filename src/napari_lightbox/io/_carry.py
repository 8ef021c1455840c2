"""What a format has no field for, carried along as one line of JSON.

NIfTI keeps it in a comment extension of its header, NRRD in a key/value pair, MetaImage in fields of its own, PNG and
TIFF in a text field. Other programs pass over it. It holds kind, name, labels, meta, history, and the grid in double
precision; on reading, the file's own geometry wins wherever the two differ by more than rounding. A checksum of the
voxels tells whether they are still those that the history leads to.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, GridError
from ..geometry import Frames, Grid
from ..progress import track
from ..volume import KINDS, Label, Volume

KEY = "lightbox"
# Facts about the file a volume came from; they are not true of the next file.
_OF_THE_FILE = ("source", "notes", "file")
_ROUNDING = 1e-3  # mm: what single precision and decimal text may move a voxel by


@dataclass
class Found:
    """What a reader found in a file beside voxels and affine; `volume` puts all together."""

    path: Path
    name: str
    kind: str | None = None
    labels: dict[int, Label] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    frames: Frames | None = None
    carried: str | None = None
    notes: list[str] = field(default_factory=list)

    def volume(self, data: np.ndarray, affine: np.ndarray) -> Volume:
        """Make the volume; what our own record says goes before what the format says, geometry excepted."""
        try:
            if data.ndim == 4 and self.frames is None:
                self.frames = Frames("frame", tuple(range(data.shape[0])))
            grid = Grid(affine, data.shape, self.frames)
        except GridError as error:
            raise FileError(f"{self.path} has an impossible geometry: {error}") from error
        fields = self._own_record(grid, data)
        grid = fields.pop("grid", grid)
        data = data.reshape(grid.shape)
        kind = fields.pop("kind", None) or self.kind or "image"
        if kind == "labels" and data.dtype.kind == "f":
            kind = "image"
        meta = {**self.meta, **fields.pop("meta", {}), "source": str(self.path)}
        if self.notes:
            meta["notes"] = list(self.notes)
        labels = fields.pop("labels", None) or self.labels
        name = fields.pop("name", None) or self.name
        return Volume(data, grid, kind, name, labels, meta, fields.pop("history", ()))

    def _own_record(self, grid: Grid, data: np.ndarray) -> dict[str, Any]:
        if self.carried is None:
            return {}
        try:
            fields, changed = _unpack(self.carried, grid, data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.notes.append("the record that napari-lightbox had left in the file is damaged and was not used")
            return {}
        if changed and (fields["history"] or fields["meta"].get("unit")):
            fields["history"] = ()
            self.notes.append(
                "the voxels were changed after napari-lightbox had written the file: the steps that had made them were "
                "dropped; names and unit are still those of then"
            )
        return fields


def pack(volume: Volume, exact: bool = True) -> str:
    """Write everything but the voxels as one line of ASCII JSON; `exact` says that the format keeps all values."""
    meta = {k: v for k, v in volume.meta.items() if k not in _OF_THE_FILE}
    record = {
        "version": 1,
        "kind": volume.kind,
        "name": volume.name,
        "labels": {str(k): {"name": v.name, "colour": v.colour, "code": v.code} for k, v in volume.labels.items()},
        "meta": meta,
        "history": list(volume.history),
        "grid": volume.grid.as_dict(),
    }
    # Lazy voxels would have to be computed a second time.
    if exact and (isinstance(volume.data, np.ndarray) or getattr(volume.data, "is_stored", False)):
        dtype = storable(volume.data.dtype)
        record["voxels"] = {"type": dtype.name, "crc32": _checksum(volume.data, dtype)}
    return json.dumps(plain(record), separators=(",", ":"))


def plain(value: Any) -> Any:
    """Turn mappings, sequences and numpy numbers into what JSON knows; anything else becomes text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    return str(value)


def _checksum(data: np.ndarray, dtype: np.dtype) -> int | None:
    """Return the CRC-32 of the voxels in stored order as `dtype`; None where that type does not hold them."""
    found, little = 0, np.dtype(dtype).newbyteorder("<")
    for block in track(data, "slices checked" if data.ndim == 3 else "frames checked"):
        with np.errstate(invalid="ignore", over="ignore"):
            cast = np.ascontiguousarray(block, dtype=little)
        if cast.dtype.newbyteorder("=") != data.dtype.newbyteorder("=") and not _equal(cast, block):
            return None
        found = zlib.crc32(cast.data, found)
    return found


def _equal(cast: np.ndarray, block: np.ndarray) -> bool:
    return np.array_equal(cast, block, equal_nan=cast.dtype.kind == "f" and block.dtype.kind == "f")


def _changed(record: Any, data: np.ndarray) -> bool:
    """Whether the voxels are no longer those of the record; a type that holds the same values makes no difference."""
    if not isinstance(record, dict) or record.get("crc32") is None:
        return False
    return _checksum(data, np.dtype(record["type"])) != record["crc32"]


def _unpack(text: str, grid: Grid, data: np.ndarray) -> tuple[dict[str, Any], bool]:
    """Return the fields that the record gives, and whether the voxels were changed since."""
    record = json.loads(text)
    fields: dict[str, Any] = {}
    if record["kind"] in KINDS:
        fields["kind"] = record["kind"]
    fields["name"] = str(record["name"])
    fields["labels"] = {
        int(k): Label(str(v["name"]), v.get("colour"), v.get("code")) for k, v in record["labels"].items()
    }
    fields["meta"] = dict(record["meta"])
    history = record["history"]
    if not (isinstance(history, list) and all(isinstance(step, dict) for step in history)):
        raise ValueError("history")
    same, fields["grid"] = _own_grid(record["grid"], grid)
    # Another program has resampled or cropped the file and kept the record: the steps no longer lead to these voxels.
    fields["history"] = tuple(history) if same else ()
    return fields, same and _changed(record.get("voxels"), data)


def _own_grid(record: dict, grid: Grid) -> tuple[bool, Grid]:
    """Take frames and digits from our record where it agrees with the header; say whether it does."""
    own = Grid.from_dict(record)
    frames = grid.frames
    if own.frames is not None and frames is not None and len(own.frames.values) == len(frames.values):
        frames = own.frames
    if own.frames is not None and frames is None and len(own.frames.values) == 1:
        frames = own.frames  # a file drops a frame axis of length 1
    if own.spatial_shape != grid.spatial_shape or own.distance(grid) > _ROUNDING:
        return False, grid.with_frames(frames)
    own_now = own.with_frames(frames)
    return own.shape == own_now.shape, own_now


def storable(dtype: np.dtype) -> np.dtype:
    """Return the type in which voxels are written: bool as uint8, half as single, extended as double."""
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return dtype


def blocks(volume: Volume, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Give the voxels in stored order, piece by piece, little-endian, computed where they are lazy."""
    dtype = np.dtype(dtype).newbyteorder("<")
    data = volume.data
    what = "slices written" if len(data.shape) == 3 else "frames written"
    for index in track(range(data.shape[0]), what):
        yield np.ascontiguousarray(np.asarray(data[index]), dtype=dtype)


def stem(path: Path) -> str:
    """Return the file's name without its suffix."""
    name = path.name
    for suffix in (".nii.gz", ".seg.nrrd"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem
