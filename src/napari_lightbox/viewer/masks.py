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
    """An image in the window: its name, the UIDs of its series and frame of reference (may be empty), its grid."""

    name: str
    uid: str
    frame: str
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
        found.insert(at, Shown(layer.name, *_uids(record["meta"]), record["grid"].without_frames()))
    return found


def as_shown(volume: Volume) -> Shown:
    """Return what `shown_images` would say of an image once it is shown."""
    return Shown(volume.name, *_uids(volume.meta), volume.grid.without_frames())


def _uids(meta: Mapping[str, Any]) -> tuple[str, str]:
    """Return the UIDs of the series and of the frame of reference; empty where they are not known."""
    series = meta.get("series")
    series = series if isinstance(series, Mapping) else {}
    return str(series.get("uid") or ""), str(series.get("frame_of_reference_uid") or "")


def read_onto(path: Path, shown: list[Shown]) -> list[Volume] | None:
    """Read a SEG or RTSTRUCT onto its image among those shown; None for any other file.

    A segmentation whose image is not shown goes onto one whose voxels coincide with its own, else it stays on its own
    grid. Contours whose image is neither shown nor beside the file are filled on the active image, with a note. An
    image that is known to have another frame of reference, such as that of another patient, takes neither.

    Raises
    ------
    FileError
        If all images on which contours could be filled have another frame of reference.
    """
    kind = kind_of(path)
    if kind is None:
        return None
    uid = image_of(path)
    for one in shown:
        if uid and one.uid == uid:
            try:
                found = read_masks(path, one.grid)
            except GridError:
                continue  # the image was resampled
            if _elsewhere(found, one):
                note = f"{path.name} names the series of {one.name}, but another frame of reference: check that it fits"
                return _noted(found, note)
            return found
    return _segmentation(path, shown) if kind == "SEG" else _contours(path, shown)


def _segmentation(path: Path, shown: list[Shown]) -> list[Volume]:
    skipped = []
    for one in shown:
        try:
            found = read_masks(path, one.grid)
        except GridError:
            continue
        if any("left out" in note for volume in found for note in volume.meta.get("notes", ())):
            continue
        if not _elsewhere(found, one):
            return found
        skipped.append(one.name)
    found = read_masks(path)
    if skipped:
        names = ", ".join(skipped)
        note = f"{names}: another frame of reference than that of {path.name}, whose structures may not belong there"
        return _noted(found, note)
    return found


def _contours(path: Path, shown: list[Shown]) -> list[Volume]:
    try:
        return read_masks(path)
    except FileError:
        if not shown:
            raise
    for one in shown:
        found = read_masks(path, one.grid)
        if not _elsewhere(found, one):
            note = f"the image that the contours were drawn on was not found: they were filled on {one.name}"
            return _noted(found, note)
    names = ", ".join(one.name for one in shown)
    raise FileError(
        f"{path} was drawn in another frame of reference than {names}: open the image that its contours belong to"
    )


def _elsewhere(found: list[Volume], image: Shown) -> bool:
    """Whether structures and image are known to have different frames of reference: positions do not compare."""
    own = _uids(found[0].meta)[1]
    return bool(own and image.frame and own != image.frame)


def _noted(found: list[Volume], note: str) -> list[Volume]:
    return [v.replace(meta={**v.meta, "notes": [*v.meta.get("notes", ()), note]}) for v in found]
