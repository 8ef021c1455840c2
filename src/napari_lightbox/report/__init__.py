"""A report of what was done with a volume: one HTML file with its pictures in it, for people without a viewer."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError
from ..io._atomic import replacing
from ..ops.measure import label_table
from ..progress import track
from ..volume import Volume
from . import colours, page, words
from .histogram import histogram
from .pictures import View, draw, letters, planes_of, png_url

__all__ = ["Entry", "View", "draw", "histogram", "letters", "planes_of", "table_rows", "write_report"]

_MOST_ROWS = 60


@dataclass(frozen=True)
class Entry:
    """A result and what the report says of it.

    Parameters
    ----------
    volume : Volume
        Labels and probabilities are laid over `over`; an image is drawn by itself.
    title : str
        Heading; the name of the volume where empty.
    note : str
        A sentence below the pictures.
    over : Volume, optional
        Image that labels or a probability are drawn on; the report's image where not given.
    limits : (float, float), optional
        Grey levels of the image below.
    point : (float, float, float), optional
        World point (z, y, x) the planes go through; the report's where not given.
    marks : sequence of (z, y, x)
        World points that are marked with a cross.
    seconds : float, optional
        How long it took.
    """

    volume: Volume
    title: str = ""
    note: str = ""
    over: Volume | None = None
    limits: tuple[float, float] | None = None
    point: tuple[float, float, float] | None = None
    marks: Sequence[Sequence[float]] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class _Setting:
    """What all panels share."""

    image: Volume
    view: View
    thresholds: Sequence[float] = field(default=())


def write_report(
    path: str | os.PathLike,
    image: Volume,
    results: Sequence[Volume | Entry] = (),
    *,
    title: str = "",
    notes: Sequence[str] = (),
    point: Sequence[float] | None = None,
    frame: int = 0,
    histogram_of: Volume | None = None,
    thresholds: Sequence[float] = (),
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    sections: Mapping[str, Sequence[str]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report as one HTML file that needs no other.

    Parameters
    ----------
    path : str or path
        Ends in ``.html``.
    image : Volume
        The volume that the results were made from.
    results : sequence of Volume or Entry
        Labels, probabilities and images, in the order in which they are to be shown, on the grid of `image`.
    title : str
        Heading; by default the name of the image.
    notes : sequence of str
        Sentences that a reader must see first.
    point : (float, float, float), optional
        World point (z, y, x) in LPS mm that the planes go through; the middle of the volume by default.
    frame : int
        Frame of a 4D volume that is drawn.
    histogram_of : Volume, optional
        Volume of the histogram; `image` by default.
    thresholds : sequence of float
        Drawn into the histogram.
    tables : mapping of str to list of dict, optional
        Further tables by heading; the keys of the first row are the columns.
    sections : mapping of str to sequence of str, optional
        Further parts by heading, as `report.sweeps.panels`, `report.explained.panels`, `report.network.panels` and
        `report.doubts.panels` return them: why a model says what it says, and where it breaks.
    overwrite : bool
        Replace a report that is there.

    Returns
    -------
    Path
        The file written; on any error an older one stays as it was.

    Raises
    ------
    FileError
        If the file exists and `overwrite` is not given, or cannot be written.
    InputError
        If the path does not end in ``.html``, or the frame does not exist.
    GridError
        If a result lies on another grid than the image.

    Examples
    --------
    >>> import tempfile
    >>> image = Volume.from_array(np.arange(64.0).reshape(4, 4, 4), spacing=(1, 1, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_report(Path(folder) / "report.html", image)
    ...     written.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    True
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"report {path} must end in .html")
    if path.exists() and not overwrite:
        raise FileError(f"{path} exists: choose another name, or allow overwriting it")
    if not 0 <= frame < image.frame_count:
        raise InputError(f"frame {frame} does not exist: {image.name!r} has {image.frame_count}, counted from 0")
    place = _middle(image) if point is None else tuple(float(v) for v in point)
    setting = _Setting(image, View(place, frame, 840 if image.is_2d else 420), thresholds)
    entries = [r if isinstance(r, Entry) else Entry(r) for r in results]
    parts = [page.heading(title or image.name, 1), *map(page.note, (*notes, *_warnings(image)))]
    parts += [page.heading("The image"), _image_panel(setting, histogram_of or image)]
    parts += [page.heading("Results")] if entries else []
    parts += [_entry_panel(setting, entry) for entry in track(entries, "pictures")]
    parts += [_volumes_panel(setting, entries)]
    for name, rows in (tables or {}).items():
        parts += [page.heading(name), page.panel(_plain_table(rows))] if rows else []
    for name, more in (sections or {}).items():
        parts += [page.heading(name), *more]
    parts += [page.heading("What was done"), _steps_panel(entries)] if entries else []
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts += [page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use.")]
    _write_whole(path, page.document(title or image.name, parts))
    return path


def table_rows(labels: Volume, image: Volume | None = None) -> list[dict[str, Any]]:
    """Measure every label of a volume, frame by frame.

    Parameters
    ----------
    labels : Volume
        Of kind ``"labels"``.
    image : Volume, optional
        Grey values on the same grid.

    Returns
    -------
    list of dict
        The rows of `measure.label_table`, each with ``frame`` (index, or None without frames), ``name`` and
        ``colour``.

    Examples
    --------
    >>> cube = Volume.from_array(np.ones((2, 2, 2), np.uint8), spacing=(10, 10, 10), kind="labels")
    >>> table_rows(cube)[0]["volume_ml"]
    8.0
    """
    if labels.kind != "labels":
        raise InputError(f"{labels.name!r} is no label volume but of kind {labels.kind!r}: give labels")
    if image is not None:
        labels.grid.require_same_space(image.grid, f"{labels.name!r} and {image.name!r}")
    rows = []
    for index in range(labels.frame_count):
        grey = None if image is None else np.asarray(image.frame(index if image.frame_count > 1 else 0).data)
        data = np.asarray(labels.frame(index).data)
        data = data.astype(np.uint8) if data.dtype.kind == "b" else data
        for row in label_table(data, labels.grid.spacing, grey):
            label = labels.labels.get(row["label"])
            name = label.name if label else f"label {row['label']}"
            frame = index if labels.grid.frames is not None else None
            rows.append({"frame": frame, "name": name, "colour": colours.label_colour(row["label"], label), **row})
    return rows


# The panels -----------------------------------------------------------------------------------------------------


def _middle(volume: Volume) -> tuple[float, float, float]:
    return tuple(volume.grid.to_world((np.array(volume.grid.spatial_shape) - 1) / 2))


def _warnings(image: Volume) -> list[str]:
    found = [str(n) for n in image.meta.get("notes") or ()]
    if image.grid.obliquity > 0.05 and image.meta.get("orientation_known", True):
        found.append(
            f"The volume is oblique by {image.grid.obliquity:.1f} degrees: the pictures run along its own axes, so "
            "sides marked with ~ are close to the patient's, not exactly along them."
        )
    if not image.meta.get("spacing_known", True):
        found.append("The file does not say how large its voxels are: sizes are given in voxels, not in mm.")
    return found


def _window_text(limits: tuple[float, float], unit: str) -> str:
    low, high = limits
    return f"Window {high - low:.4g}, level {(low + high) / 2:.4g} {unit}".strip() + f" (from {low:.4g} to {high:.4g})."


def _image_panel(setting: _Setting, measured: Volume) -> str:
    image, limits = setting.image, colours.window(setting.image)
    shown = histogram(measured, setting.thresholds)
    marks = ", ".join(f"{t:.4g}" for t in setting.thresholds)
    words_below = f"Histogram of {measured.name}." + (f" Red: Otsu's thresholds, {marks}." if marks else "")
    frame = f" Frame {setting.view.frame + 1} of {image.frame_count}." if image.grid.frames is not None else ""
    return page.panel(
        page.pictures(draw(image, setting.view, limits=limits), image.name),
        page.quiet(_window_text(limits, image.meta.get("unit", "")) + frame),
        page.pairs(words.facts(image)),
    ) + page.panel(
        f'<figure class="plain"><img src="{png_url(shown)}" width="{shown.width}" alt="histogram"></figure>',
        page.quiet(words_below),
    )


def _entry_panel(setting: _Setting, entry: Entry) -> str:
    volume, image = entry.volume, entry.over or setting.image
    view = setting.view if entry.point is None else View(entry.point, setting.view.frame, setting.view.size)
    below = [page.heading(entry.title or volume.name, 3)]
    if volume.kind == "image":
        limits = entry.limits or colours.window(volume)
        below.append(page.pictures(draw(volume, view, limits=limits, points=entry.marks), volume.name))
        below.append(page.quiet(_window_text(limits, volume.meta.get("unit", ""))))
    else:
        pictures = draw(image, view, over=volume, limits=entry.limits, points=entry.marks)
        below.append(page.pictures(pictures, volume.name))
        below.append(page.heat_legend(_heat_name(volume)) if volume.kind == "probability" else _label_legend(volume))
    time = f"{entry.seconds:.2f} s." if entry.seconds is not None else ""
    below.append(page.quiet(f"{entry.note} {time}".strip()))
    return page.panel(*below)


def _heat_name(volume: Volume) -> str:
    names = [label.name for label in volume.labels.values()]
    return f"probability of {names[0]}" if len(names) == 1 else "value"


def _label_legend(volume: Volume) -> str:
    present = [int(v) for v in np.unique(np.asarray(volume.data)) if v]
    names = {v: volume.labels[v].name if v in volume.labels else f"label {v}" for v in present}
    return page.legend((names[v], colours.label_colour(v, volume.labels.get(v))) for v in present[:_MOST_ROWS])


def _volumes_panel(setting: _Setting, entries: Sequence[Entry]) -> str:
    """Return the table of all labels; of the frame that is drawn, with the range over all frames."""
    found = [e for e in entries if e.volume.kind == "labels"]
    if not found:
        return ""
    image, flat = setting.image, setting.image.is_2d
    known, moving = image.meta.get("spacing_known", True), image.grid.frames is not None
    unit = image.meta.get("unit") or "value"
    size = "Pixels" if not known else "Area (cm²)" if flat else "Volume (ml)"
    columns = {"Layer": "text", "Label": "html", size: "number"}
    columns |= {"Over all frames": "number"} if moving else {}
    columns |= {f"Mean ({unit})": "number", "SD": "number", "Smallest": "number", "Largest": "number"}
    rows = []
    for entry in found:
        measured = table_rows(entry.volume, image)
        shown = [r for r in measured if r["frame"] in (None, setting.view.frame)]
        for row in shown[:_MOST_ROWS]:
            frames = [_size(r, image, known, flat) for r in measured if r["label"] == row["label"]]
            cells = [entry.title or entry.volume.name, page.swatch(row["colour"]) + escape(row["name"])]
            cells.append(_number(_size(row, image, known, flat)))
            cells += [f"{_number(min(frames))} to {_number(max(frames))}"] if moving else []
            rows.append((*cells, *(f"{row[k]:.1f}" for k in ("mean", "std", "min", "max"))))
        if len(shown) > _MOST_ROWS:
            rows.append(
                (
                    entry.title or entry.volume.name,
                    f"and {len(shown) - _MOST_ROWS} more labels",
                    *[""] * (len(columns) - 2),
                )
            )
    frame = f" Frame {setting.view.frame + 1} of {image.frame_count}." if moving else ""
    grey = f"Grey values are those of {image.name}." + frame
    return page.heading("Sizes and grey values") + page.panel(page.table(columns, rows), page.quiet(grey))


def _size(row: Mapping[str, Any], image: Volume, known: bool, flat: bool) -> float:
    if not known:
        return row["voxels"]
    if not flat:
        return row["volume_ml"]
    # The thickness of a single slice is often made up: its area is what was measured.
    across = image.grid.spatial_shape.index(1)
    return row["voxels"] * image.grid.voxel_volume / image.grid.spacing[across] / 100


def _number(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _plain_table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = {
        name: "number" if isinstance(value, int | float) and not isinstance(value, bool) else "text"
        for name, value in rows[0].items()
    }
    return page.table(columns, [[_figure(row.get(c, "")) for c in columns] for row in rows])


def _figure(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "–" if math.isnan(value) else f"{value:.4g}"


def _steps_panel(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        steps = [f"{step['operation']} ({words.parameters(step)})" for step in entry.volume.history]
        versions = dict.fromkeys(str(step.get("version", "")) for step in entry.volume.history)
        time = "" if entry.seconds is None else f"{entry.seconds:.2f}"
        if steps:
            rows.append((entry.title or entry.volume.name, ", then ".join(steps), time, ", ".join(versions)))
    columns = {"Result": "text", "Steps, from the image on": "text", "Seconds": "number", "Version": "text"}
    return page.panel(page.table(columns, rows), page.quiet("Seconds are those of the last step.")) if rows else ""


def _write_whole(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
