"""Layers become files: napari's writer contributions.

A layer made in napari takes the position of the volume that it lies on; one whose transform was edited by hand is
asked about first. napari's writer protocol is synchronous: File > Save waits until the file is written.
"""

import re
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer

from ..errors import FileError
from ..io.files import suffixes, write
from ..volume import Volume
from . import asking
from .layers import LayerTuple, MovedByHand, layer_to_volume

# Written where a folder is given, or no suffix: the format that keeps most and every other program reads.
_DEFAULT = ".nii.gz"


def write_image(path: str, data: Any, attributes: dict) -> list[str]:
    """Write one Image layer (npe2's single writer)."""
    return [_write_one(path, (data, attributes, "image"))]


def write_labels(path: str, data: Any, attributes: dict) -> list[str]:
    """Write one Labels layer (npe2's single writer)."""
    return [_write_one(path, (data, attributes, "labels"))]


def write_layers(path: str, layer_data: list[LayerTuple]) -> list[str]:
    """Write several layers, each to a file named after it (npe2's multi writer).

    Parameters
    ----------
    path : str
        ``"case.nii.gz"`` becomes ``"case - CT.nii.gz"``, ``"case - lung.nii.gz"``; a name without a known suffix is a
        folder, made if it does not exist, that gets ``"CT.nii.gz"``, ``"lung.nii.gz"``.
    layer_data : list of (data, dict, str)
        Image and Labels layers.

    Returns
    -------
    list of str
        The files written. None is written if any layer does not know its position.
    """
    if len(layer_data) == 1:
        return [_write_one(path, layer_data[0])]
    volumes = [_volume_of(made) for made in layer_data]
    names = _file_names(Path(path), [volume.name for volume in volumes])
    return [str(write(volume, name)) for volume, name in zip(volumes, names, strict=True)]


def _write_one(path: str, made: LayerTuple) -> str:
    volume = _volume_of(made)
    file = Path(path)
    return str(write(volume, file if _suffix(file) else file.with_name(file.name + _DEFAULT)))


def _volume_of(made: LayerTuple) -> Volume:
    viewer = napari.current_viewer()
    layer = Layer.create(*made)
    layers = viewer.layers if viewer is not None else ()
    try:
        return layer_to_volume(layer, layers, say=asking.tell)
    except MovedByHand:
        if not asking.confirm_moved(layer, viewer):
            raise
        return layer_to_volume(layer, layers, accept_transform=True)


def _suffix(path: Path) -> str | None:
    return next((s for s in suffixes(write=True) if path.name.lower().endswith(s)), None)


def _file_names(path: Path, names: list[str]) -> list[Path]:
    suffix = _suffix(path)
    if suffix:
        folder, start = path.parent, f"{path.name[: -len(suffix)]} - "
    else:
        folder, start, suffix = path, "", _DEFAULT
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    found: list[Path] = []
    for name in names:
        plain = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "_", name).strip(" .") or "layer"
        file, count = folder / f"{start}{plain}{suffix}", 1
        while file in found:
            count += 1
            file = folder / f"{start}{plain} {count}{suffix}"
        found.append(file)
    return found
