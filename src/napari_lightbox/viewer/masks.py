"""Segmentations and contours that are opened come onto the image that is shown, where they belong to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileError, GridError
from ..geometry import Grid
from ..io.masks import image_of, kind_of, read_masks
from ..volume import Volume
from .layers import layer_kind, layer_record, plain


class Shown(NamedTuple):
    """An image in the window: its name, the UID of its series (may be empty) and its grid."""

    name: str
    uid: str
    grid: Grid


def shown_images(viewer) -> list[Shown]:
    """Return the images of a viewer whose place in the patient is known, the active one first."""
    viewer = plain(viewer)
    found = []
    for layer in reversed(viewer.layers) if viewer is not None else ():
        record = layer_record(layer) if layer_kind(layer) == "image" else None
        if record is None or not record["meta"].get("orientation_known", True):
            continue
        at = 0 if layer is viewer.layers.selection.active else len(found)
        found.insert(at, Shown(layer.name, _uid(record["meta"]), record["grid"].without_frames()))
    return found


def as_shown(volume: Volume) -> Shown:
    """Return what `shown_images` would say of an image once it is shown."""
    return Shown(volume.name, _uid(volume.meta), volume.grid.without_frames())


def _uid(meta: Mapping[str, Any]) -> str:
    series = meta.get("series")
    return str(series.get("uid", "")) if isinstance(series, Mapping) else ""


def read_onto(path: Path, shown: list[Shown]) -> list[Volume] | None:
    """Read a SEG or RTSTRUCT onto its image among those shown; None for any other file.

    A segmentation whose image is not shown goes onto one whose voxels coincide with its own, else it stays on its own
    grid. Contours whose image is neither shown nor beside the file are filled on the active image, with a note.
    """
    kind = kind_of(path)
    if kind is None:
        return None
    uid = image_of(path)
    for one in shown:
        if uid and one.uid == uid:
            try:
                return read_masks(path, one.grid)
            except GridError:
                continue  # the image was resampled
    return _segmentation(path, shown) if kind == "SEG" else _contours(path, shown)


def _segmentation(path: Path, shown: list[Shown]) -> list[Volume]:
    for one in shown:
        try:
            found = read_masks(path, one.grid)
        except GridError:
            continue
        if not any("left out" in note for volume in found for note in volume.meta.get("notes", ())):
            return found
    return read_masks(path)


def _contours(path: Path, shown: list[Shown]) -> list[Volume]:
    try:
        return read_masks(path)
    except FileError:
        if not shown:
            raise
    active = shown[0]
    note = f"the image that the contours were drawn on was not found: they were filled on {active.name}"
    found = read_masks(path, active.grid)
    return [v.replace(meta={**v.meta, "notes": [*v.meta.get("notes", ()), note]}) for v in found]
