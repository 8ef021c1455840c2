"""Files of outputs, brought onto the voxels of their image: as one map of labels, or as one array a class."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GridError, InputError
from ..geometry import Grid
from ..io._lattice import place
from ..io.files import read, suffixes
from ..io.masks import kind_of, read_masks
from ..progress import track
from ..volume import Label, Volume
from .arrays import SUFFIXES, in_order, load_array

SLAB = 1 << 22  # voxels that are worked on at once


@dataclass
class Found:
    """What the files hold, in the order in which the image stores its voxels.

    Parameters
    ----------
    channels : list of array
        Of the shape of the image; one for each class, or the only one of a file without classes.
    stacked : bool
        Whether the file has an axis of classes, or there are several files.
    values : tuple of int, optional
        Label value of every channel, where files say it.
    labels : dict
        Names that the files carry.
    name : str
        Of the outputs: that of the first file.
    notes : list of str
        What people should know of how they were placed.
    history : tuple
        Of a file that this package has written.
    given : bool
        Whether the values were given with the files: then no other ones hold, and a map of whole numbers is a mask.
    """

    channels: list[np.ndarray]
    stacked: bool
    name: str
    values: tuple[int, ...] | None = None
    labels: dict[int, Label] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    history: tuple = ()
    given: bool = False


def find(path: Any, like: Volume, axes: str | None, key: str | None) -> Found:
    """Read one file, several of one class each, or a mapping of class values to such."""
    if isinstance(path, str | os.PathLike):
        return _file(Path(path), like, axes, key)
    if isinstance(path, Mapping):
        values = [v for v in path if isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 65535]
        if len(values) < len(path):
            raise InputError("path maps other things than label values to files: use whole numbers from 0 on")
        return _given(tuple(values), [Path(p) for p in path.values()], like, axes, key)
    if not isinstance(path, Sequence) or not path:
        raise InputError("path names no file: give one, or a list of files with one class each")
    return _files([Path(p) for p in path], like, axes, key)


def is_label_map(data: np.ndarray) -> bool:
    """Say whether all values are whole numbers."""
    if data.dtype.kind in "bui":
        return True
    return all(np.isfinite(part).all() and np.array_equal(np.rint(part), part) for part in _parts(data))


def _parts(data: np.ndarray) -> Iterator[np.ndarray]:
    """Give an array piece by piece along its first axis."""
    thick = max(1, SLAB // max(1, math.prod(data.shape[1:])))
    for start in range(0, data.shape[0], thick):
        yield data[start : start + thick]


def _given(values: tuple[int, ...], paths: list[Path], like: Volume, axes: str | None, key: str | None) -> Found:
    """Read files whose values are given, one class each, in their order."""
    parts = [_file(path, like, axes, key) for path in track(paths, "files")]
    alone = len(parts) == 1 and not parts[0].stacked
    channels, labels, notes = [], {}, []
    for value, path, part in zip(values, paths, parts, strict=True):
        if len(part.channels) > 1:
            raise InputError(f"{path} holds several classes, but is given for class {value}: give it without a value")
        channel = part.channels[0]
        mask = _mask(channel, value, path) if is_label_map(channel) else None
        told = next(iter(part.labels)) if len(part.labels) == 1 else None
        # The 1 of a mask says no more than where the class is.
        if told not in (None, value) and (mask is None or told != 1):
            raise InputError(
                f"{path} names class {told}, but is given for class {value}: give every file for the class it names"
            )
        channels.append(channel if mask is None else mask)
        if told == value or (alone and told is not None):
            labels[value] = part.labels[told]
        notes += part.notes
    if not {*values} - {0} <= labels.keys():
        labels = {}  # names of some classes would stand for all
    history = parts[0].history if alone else ()
    return Found(channels, not alone, parts[0].name, values, labels, list(dict.fromkeys(notes)), history, given=True)


def _mask(data: np.ndarray, value: int, path: Path) -> np.ndarray | None:
    """Return where the one class of a map of whole numbers is; None where numbers below 0 say that it is no map."""
    held: set[int] = set()
    for part in _parts(data):
        held |= {int(v) for v in np.unique(part)} - {0}
    if held and min(held) < 0:
        return None
    if len(held) > 1 or not held <= {1, 255, value}:
        shown = ", ".join(str(v) for v in sorted(held)[:8])
        raise InputError(
            f"{path} holds the values {shown}, but is given for class {value} alone: give a mask of 0 and 1, or the "
            "file without a value"
        )
    return data != 0


def _files(paths: list[Path], like: Volume, axes: str | None, key: str | None) -> Found:
    """Put files of one class each together."""
    if len(paths) == 1:
        return _file(paths[0], like, axes, key)
    parts = [_file(path, like, axes, key) for path in track(paths, "files")]
    for path, part in zip(paths, parts, strict=True):
        if part.stacked:
            raise InputError(f"{path} holds several classes: give files with one class each, or this one alone")
    # Files that this package has written say which class they are.
    told = [next(iter(part.labels)) if len(part.labels) == 1 else None for part in parts]
    known = None not in told and len(set(told)) == len(told)
    order = sorted(range(len(parts)), key=lambda n: told[n]) if known else range(len(parts))
    return Found(
        [parts[n].channels[0] for n in order],
        True,
        parts[0].name,
        tuple(told[n] for n in order) if known else None,
        {value: label for part in parts for value, label in part.labels.items()} if known else {},
        list(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _file(path: Path, like: Volume, axes: str | None, key: str | None) -> Found:
    if path.suffix.lower() in SUFFIXES:
        return _array(path, like, axes, key)
    if axes is not None or key is not None:
        raise InputError(f"axes and key are for arrays of numpy, but {path} knows its axes: leave them out")
    if path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth"):
        raise InputError(
            f"{path} is a pickle, which could run code when it is loaded: give the .npz or the image file beside it"
        )
    if path.is_file() and kind_of(path):
        return _masks(path, like)
    volume = read(path)
    grid, framed = volume.grid, like.grid.frames is not None
    notes = [str(n) for n in volume.meta.get("notes", ())]
    if grid.frames is None or (framed and grid.shape[0] == like.grid.shape[0]):
        if framed and grid.frames is None:
            raise InputError(f"{path} has no frames, but {like.name} has {like.frame_count}: give outputs for all")
        data = _placed(volume, np.asarray(volume.data), like, path, notes)
        return Found([data], False, _stem(path), None, dict(volume.labels), notes, volume.history)
    if framed:
        raise InputError(
            f"{path} has {grid.shape[0]} frames, but {like.name} has {like.frame_count}: give outputs for all of them"
        )
    channels = [_placed(volume, np.asarray(volume.data[n]), like, path, notes) for n in range(grid.shape[0])]
    return Found(channels, True, _stem(path), None, dict(volume.labels), list(dict.fromkeys(notes)))


def _masks(path: Path, like: Volume) -> Found:
    """Read a DICOM segmentation: labels, or one probability a segment."""
    if like.grid.frames is not None:
        raise InputError(f"{path} has no frames, but {like.name} has {like.frame_count}: give outputs for all")
    volumes = read_masks(path, like)
    notes = [str(note) for volume in volumes for note in volume.meta.get("notes", ())]
    labels = {value: label for volume in volumes for value, label in volume.labels.items()}
    channels = [np.asarray(volume.data) for volume in volumes]
    if volumes[0].kind == "probability":
        values = tuple(next(iter(v.labels)) for v in volumes)
        return Found(channels, True, _stem(path), values, labels, notes)
    if len(channels) == 1:
        return Found(channels, False, _stem(path), None, labels, notes)
    each = [channel == value for volume, channel in zip(volumes, channels, strict=True) for value in volume.labels]
    values = tuple(value for volume in volumes for value in volume.labels)
    return Found(each, True, _stem(path), values, labels, notes)


def _array(path: Path, like: Volume, axes: str | None, key: str | None) -> Found:
    array, name = load_array(path, key)
    what = f"{name!r} in {path}" if name else str(path)
    array = in_order(array, axes, like.grid.shape, like.grid.frames is not None, what)
    stacked = array.ndim > len(like.grid.shape)
    note = f"{path.name} does not say where it lies: its voxels were taken in the order in which the image stores them"
    return Found([*array] if stacked else [array], stacked, _stem(path), notes=[note])


def _placed(volume: Volume, data: np.ndarray, like: Volume, path: Path, notes: list[str]) -> np.ndarray:
    """Return voxels as the image stores them; they are turned if need be, never interpolated."""
    own, grid = volume.grid.without_frames(), like.grid.without_frames()
    known = ("spacing_known", "orientation_known")
    if not all(volume.meta.get(k, True) for k in known) or not all(like.meta.get(k, True) for k in known):
        if own.spatial_shape != grid.spatial_shape:
            raise GridError(
                f"{path} has {_xyz(own)} voxels, but {like.name} has {_xyz(grid)} (x, y, z): give the outputs of this "
                "image"
            )
        return data
    if own.same_space(grid):
        return data
    there = place(grid, own)
    if there is None or any(s.stop - s.start < n for s, n in zip(there.inside, grid.spatial_shape, strict=True)):
        raise GridError(
            f"{path} lies on another grid than {like.name} ({grid.difference(own)}; x, y, z): resample it onto the "
            "image first, probabilities linearly and labels by the nearest voxel"
        )
    if own.code != grid.code:
        notes.append(f"{path.name} is stored as {own.code} and the image as {grid.code}: it was turned, voxel by voxel")
    if sorted(own.spatial_shape) != sorted(grid.spatial_shape):
        notes.append(f"{path.name} reaches beyond the image and was cut to it, voxel by voxel")
    if data.ndim == 4:
        return np.stack([there.view(one) for one in data])
    return there.view(data)


def _xyz(grid: Grid) -> str:
    return " x ".join(str(n) for n in reversed(grid.spatial_shape))


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (*suffixes(), *SUFFIXES):
        if name.lower().endswith(suffix) and name.lower() != suffix:
            return name[: -len(suffix)]
    return path.stem
