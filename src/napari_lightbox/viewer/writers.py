"""Layers become files: napari's writer contributions.

A layer made in napari takes the position of the volume that it lies on; one whose transform was edited by hand is
asked about first. napari's writer protocol is synchronous: File > Save waits until the file is written.
"""

import re
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer

from ..errors import FileError, InputError
from ..io.files import suffixes, write
from ..volume import Volume
from . import asking
from .capture import volume_of
from .layers import LayerTuple

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

    Raises
    ------
    FileError
        If a file of a name that was not chosen literally exists and nobody says that it may be replaced.
    """
    if len(layer_data) == 1:
        return [_write_one(path, layer_data[0])]
    volumes = [_volume_of(made) for made in layer_data]
    names = _file_names(Path(path), [volume.name for volume in volumes])
    _may_replace(Path(path), names)
    return [str(write(volume, name)) for volume, name in zip(volumes, names, strict=True)]


def _write_one(path: str, made: LayerTuple) -> str:
    volume = _volume_of(made)
    file = Path(path)
    target = file if _suffix(file) else file.with_name(file.name + _DEFAULT)
    _may_replace(file, [target])
    return str(write(volume, target))


def _may_replace(chosen: Path, targets: list[Path]) -> None:
    """Ask before older files are replaced that the dialog did not ask about, as it knows only the name chosen."""
    there = [target for target in targets if target != chosen and target.exists()]
    if not there:
        return
    names = ", ".join(target.name for target in there)
    question = f"{there[0].parent} already holds {names}.\n\nReplace {'it' if len(there) == 1 else 'them'}?"
    if not asking.confirm(question, napari.current_viewer()):
        raise FileError(f"{there[0].parent} already holds {names}: choose another name, or delete what is there first")


def _volume_of(made: LayerTuple) -> Volume:
    viewer = napari.current_viewer()
    try:
        return volume_of(Layer.create(*made), viewer, assume=False)
    except InputError as error:
        # napari takes a ValueError for a writer that does not fit, and hides what it says.
        raise FileError(str(error)) from error


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
