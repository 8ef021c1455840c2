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
from .layers import PREVIEW, LayerTuple
from .points_file import TABLE, points_table, write_points

# Written where a folder is given, or no suffix: the format that keeps most and every other program reads.
DEFAULT = ".nii.gz"


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
        Image and Labels layers; Points become tables of positions (``"seeds.csv"``). Layers of other kinds are named
        in a warning: no file of ours holds them.

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
    layer_data = [made for made in layer_data if PREVIEW not in made[1].get("metadata", {})]
    volumes = [_volume_of(made) for made in layer_data if made[2] in ("image", "labels")]
    tables = [(made[1]["name"], _table_of(made)) for made in layer_data if made[2] == "points" and len(made[0])]
    others = [made[1]["name"] for made in layer_data if made[2] not in ("image", "labels", "points")]
    names = _file_names(Path(path), [volume.name for volume in volumes])
    table_names = [name.with_name(name.name + TABLE) for name in _file_names(Path(path), [t[0] for t in tables], "")]
    may_replace(Path(path), [*names, *table_names], napari.current_viewer())
    written = [write(volume, name) for volume, name in zip(volumes, names, strict=True)]
    for (_, rows), name in zip(tables, table_names, strict=True):
        write_points(rows, name)
    if others:
        asking.warn(f"Not saved: {', '.join(others)}: such layers hold no volume, save them by themselves")
    return [str(name) for name in (*written, *table_names)]


def _table_of(made: LayerTuple) -> list[tuple]:
    try:
        return points_table(Layer.create(*made), napari.current_viewer())
    except InputError as error:
        raise FileError(str(error)) from error


def _write_one(path: str, made: LayerTuple) -> str:
    volume = _volume_of(made)
    file = Path(path)
    target = file if _suffix(file) else file.with_name(file.name + DEFAULT)
    may_replace(file, [target], napari.current_viewer())
    return str(write(volume, target))


def may_replace(chosen: Path | None, targets: list[Path], viewer) -> None:
    """Ask before older files are replaced that the dialog did not ask about, as it knows only the name chosen.

    Raises
    ------
    FileError
        If nobody says that they may be replaced.
    """
    there = [target for target in targets if target != chosen and target.exists()]
    if not there:
        return
    names = ", ".join(target.name for target in there)
    question = f"{there[0].parent} already holds {names}.\n\nReplace {'it' if len(there) == 1 else 'them'}?"
    if not asking.confirm(question, viewer):
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


def _file_names(path: Path, names: list[str], ending: str | None = None) -> list[Path]:
    """Return a path for each name, no two alike; they end in the suffix of `path`, or in `ending`."""
    suffix = _suffix(path)
    if suffix:
        folder, start = path.parent, f"{path.name[: -len(suffix)]} - "
    else:
        folder, start, suffix = path, "", DEFAULT
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
    found: list[Path] = []
    for name in names:
        file, count = folder / file_name(name, suffix if ending is None else ending, start), 1
        while file in found:
            count += 1
            file = folder / file_name(f"{name} {count}", suffix if ending is None else ending, start)
        found.append(file)
    return found


def file_name(name: str, suffix: str, start: str = "") -> str:
    """Return the name of a file for a layer: without what file systems refuse."""
    clean = re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "_", name).strip(" .")
    return f"{start}{clean or 'layer'}{suffix}"
