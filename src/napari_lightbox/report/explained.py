"""A map of attribution as files: the volume with its geometry, its figures, and a page with pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ..io import write
from ..io._staged import staged
from ..volume import Label, Volume
from . import page, words
from .pictures import Picture, View, draw

FILES = ("explained.json", "explained.html")
#: What a number of a map says, by method.
UNITS = {
    "gradient": "Each voxel: the gradient of the target there, times the voxel, in logits. A network is not linear, so "
    "the sum is not the target.",
    "integrated_gradients": "Each voxel: its part, in logits, of how much the target changes from the baseline to the "
    "image. Over what the network sees, they add up to the whole change.",
    "grad_cam": "Each voxel: how active the layer is, weighed by the gradients of the target. It has no unit, and the "
    "sum says nothing: compare places in one map only.",
    "occlusion": "Each voxel: by how many logits the target falls when the patch over it is covered. Every voxel of a "
    "patch has all of that fall, so the sum says nothing.",
}
#: Methods whose maps have a sum that says something.
SUMMED = ("gradient", "integrated_gradients")
# Of the largest magnitudes, what is left out of the colours.
_PERCENTILE = 99.5


def map_names(count: int) -> list[str]:
    """Return the names of the files of maps: one for each channel."""
    return ["map.nii.gz"] if count == 1 else [f"map_{number}.nii.gz" for number in range(1, count + 1)]


def write_explained(
    folder: Path,
    maps: Sequence[Volume],
    images: Sequence[Volume],
    region: Volume | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write maps of attribution, their figures and steps as JSON, and a page.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    maps : sequence of Volume
        From `models.attribute`: one for each channel, or one of Grad-CAM.
    images : sequence of Volume
        What was explained, channel by channel.
    region : Volume, optional
        Labels whose voxels were explained; drawn on the page.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        ``map.nii.gz`` (``map_1.nii.gz`` and so on of several channels), ``explained.json`` and ``explained.html``.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    folder = Path(folder)
    names = [*map_names(len(maps)), *FILES]
    there = next((folder / name for name in names if (folder / name).exists()), None)
    if there is not None and not overwrite:
        raise FileError(f"{there} exists: choose another folder, or allow files to be replaced")
    first = maps[0]
    found = {
        "name": first.name,
        "attribution": first.meta["attribution"],
        "notes": list(first.meta["notes"]),
        "steps": [dict(step) for step in first.history],
    }
    with staged(folder, overwrite=overwrite) as stage:
        for name, volume in zip(names, maps, strict=False):
            write(volume, stage / name)
        (stage / FILES[0]).write_text(json.dumps(found, indent=1), encoding="utf-8")
        (stage / FILES[1]).write_text(_page(maps, images, region), encoding="utf-8")
    return [folder / name for name in names]


def _page(maps: Sequence[Volume], images: Sequence[Volume], region: Volume | None) -> str:
    title = maps[0].name
    parts = [page.heading(title, 1), *panels(maps, images, region)]
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    return page.document(title, parts)


def panels(maps: Sequence[Volume], images: Sequence[Volume], region: Volume | None = None) -> list[str]:
    """Return the parts of a page about maps, to stand on a page of their own or among others."""
    notes = maps[0].meta["notes"]
    found = [page.note(note) for note in notes if "take more steps" in note or "take another baseline" in note]
    for volume, image in zip(maps, images, strict=False):
        frame = _frame(volume, image)
        found.append(page.heading(volume.name))
        for what, drawn in pictures_of(volume, image, region, frame).items():
            found.append(page.panel(page.heading(what, 3), page.pictures(drawn, what)))
        found.append(page.heat_legend("of the strongest in the map"))
    found.append(page.quiet(UNITS[maps[0].meta["attribution"]["method"]]))
    found += [page.heading("Figures"), page.panel(_figures(maps)), *map(page.quiet, notes)]
    told = {str(step["operation"]): words.parameters(step) for step in maps[0].history}
    found += [page.heading("Steps"), page.panel(page.pairs(told))]
    return found


def _figures(maps: Sequence[Volume]) -> str:
    names = ("Frame", "Target", "Target of the baseline", "Sum of the map", "Steps", "Missed")
    columns = dict.fromkeys(names, "number")
    lines = []
    about = maps[0].meta["attribution"]
    for number, one in enumerate(about["frames"]):
        values = [one["target"], one["baseline"], one["sum"] if about["method"] in SUMMED else None]
        gap = one.get("gap")
        more = [str(one.get("steps", "–")), "–" if gap is None else f"{gap:.2%}"]
        lines.append([str(number), *("–" if v is None else f"{v:.6g}" for v in values), *more])
    return page.table(columns, lines)


def _frame(volume: Volume, image: Volume) -> int:
    """Return the frame of the image in which the map says most, or which it is of."""
    if image.grid.frames is None:
        return 0
    if volume.grid.frames is None:
        return int(volume.history[-1]["parameters"].get("frame") or 0)
    return int(np.argmax([np.abs(np.asarray(one)).sum(dtype=float) for one in volume.data]))


def pictures_of(
    volume: Volume, image: Volume, region: Volume | None = None, frame: int = 0, size: int = 360
) -> Mapping[str, list[Picture]]:
    """Draw a map over its image, through where it is strongest: what speaks for the class, and what against it.

    Returns
    -------
    mapping of str to list of Picture
        Without the part that a map does not have; with the region where one is given.
    """
    shown = image.frame(frame)
    one = volume if volume.grid.frames is None else volume.frame(frame)
    data = np.asarray(one.data, np.float32)
    strong = np.abs(data)
    weights = strong * (strong >= 0.5 * strong.max())
    total = float(weights.sum(dtype=float))
    middle = [
        (float((weights.sum(axis=tuple(b for b in range(3) if b != a), dtype=float) * np.arange(n)).sum()) / total)
        if total
        else (n - 1) / 2
        for a, n in enumerate(data.shape)
    ]
    view = View(tuple(one.grid.to_world(np.array(middle))), 0, size)
    there = strong[strong > 0.01 * strong.max()]
    most = float(np.percentile(there, _PERCENTILE)) if there.size else 1.0
    found: dict[str, Any] = {}
    for what, part in (("Speaks for the class", data), ("Speaks against it", -data)):
        if (part > 0).any() or what.startswith("Speaks for"):
            heat = Volume(np.clip(part / most, 0, 1), shown.grid, "probability", what)
            found[what] = draw(shown, view, over=heat)
    if region is not None:
        marked = region if region.grid.frames is None else region.frame(frame)
        mask = Volume(
            (np.asarray(marked.data) != 0).astype(np.uint8), shown.grid, "labels", labels={1: Label("region")}
        )
        found["What is explained"] = draw(shown, view, over=mask)
    return found
