"""What `evaluation` found, as files: tables for programs, and a page with pictures, the worst first."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..ops._errors import Error
from ..volume import Label, Volume
from . import evaluation_cohort as cohort
from . import evaluation_versus as versus
from . import page, words
from .evaluation import SCORES, Case, summary, worst_first
from .files import csv_of, write_texts
from .pictures import View, draw

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
OUTCOMES = {
    1: Label("right", "#009e73"),
    2: Label("too much", "#d55e00"),
    3: Label("missing", "#56b4e9"),
    4: Label("another label", "#f0e442"),
}
FILES = ("scores.csv", "errors.csv", "evaluation.json", "report.html")
# Those that are written where asked for.
MORE_FILES = ("slices.csv", "sizes.csv", "changes.csv", "scores_second.csv")
# Cases that are drawn.
DRAWN = 12
_ERRORS, _ROWS = 3, 400
_WORDS = {
    "dice": "Dice", "surface_dice": "surface Dice", "hd95": "HD95 (mm)", "hd": "HD (mm)", "assd": "ASSD (mm)",
    "boundary_iou": "boundary IoU", "centreline_dice": "centreline Dice", "object_f1": "object F1",
    "reference_ml": "reference (ml)", "difference_ml": "difference (ml)",
}  # fmt: skip


def write_evaluation(
    folder: Path,
    cases: Sequence[Case],
    *,
    images: Mapping[str, Volume] | None = None,
    failed: Mapping[str, str] | None = None,
    tolerance: float = 2.0,
    overwrite: bool = False,
) -> list[Path]:
    """Write the scores, the errors and a page about some cases.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    cases : sequence of Case
        From `evaluate`.
    images : mapping of str to Volume, optional
        For the name of a case, grey values on its grid to draw on.
    failed : mapping of str to str, optional
        Cases that could not be evaluated, and why: the page must say so.
    tolerance : float
        That of the surface Dice, mm.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        ``scores.csv``, ``errors.csv``, ``evaluation.json`` and ``report.html``; where the cases have them, also
        ``slices.csv``, ``sizes.csv``, and of a second prediction ``changes.csv`` and ``scores_second.csv``.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    failed = dict(failed or {})
    over_all = summary(cases)
    rows = [row for case in cases for row in case.rows]
    errors = [_error_row(case, frame, error) for case in cases for frame, error in case.errors]
    everything = {"summary": over_all, "cases": [cohort.overview(case) for case in worst_first(cases)]}
    everything |= {"scores": rows, "failed": failed, "tolerance_mm": tolerance}
    contents = {}
    for name, lists in (("slices.csv", [c.slices for c in cases]), ("sizes.csv", [c.sizes for c in cases])):
        if any(lists):
            contents[name] = csv_of([row for one in lists for row in one], [])
    compared = [case for case in cases if case.second is not None]
    if compared:
        everything["versus"] = {
            "labels": versus.paired(compared),
            "cases": [{"name": case.name, **versus.change_of(case)} for case in compared],
            "scores": [row for case in compared for row in case.second.rows],
        }
        changes = [row for case in compared for row in versus.change_rows(case, _error_row)]
        contents["changes.csv"] = csv_of(changes, ["case", "frame", "outcome", "kind"])
        contents["scores_second.csv"] = csv_of(everything["versus"]["scores"], ["case", "frame", "label", "name"])
    contents |= {
        "scores.csv": csv_of(rows, ["case", "frame", "label", "name", "state"]),
        "errors.csv": csv_of(errors, ["case", "frame", "number", "kind"]),
        "evaluation.json": json.dumps(_plain(everything), indent=1),
        "report.html": _page(cases, over_all, images or {}, failed, tolerance),
    }
    ordered = {name: contents[name] for name in (*FILES, *MORE_FILES) if name in contents}
    return write_texts(folder, ordered, overwrite=overwrite)


def outcomes(predicted: Volume, reference: Volume, frame: int) -> Volume:
    """Return where a frame is right, has too much, misses something, or has another label, as labels."""
    a, b = (np.asarray(v.frame(frame).data) for v in (predicted, reference))
    found = np.zeros(a.shape, np.uint8)
    found[(a == b) & (b != 0)] = 1
    found[(a != b) & (b == 0)] = 2
    found[(a != b) & (a == 0)] = 3
    found[(a != b) & (a != 0) & (b != 0)] = 4
    return Volume(found, reference.grid.without_frames(), "labels", "outcome", OUTCOMES)


def _error_row(case: Case, frame: int, error: Error) -> dict[str, Any]:
    grid = case.reference.grid
    z, y, x = (round(float(v), 3) for v in grid.without_frames().to_world(error.centre))
    names = {**case.predicted.labels, **case.reference.labels}
    said, true = (names[v].name if v in names else (f"label {v}" if v else "background") for v in
                  (error.predicted, error.reference))  # fmt: skip
    return {
        "case": case.name, "frame": frame if grid.frames is not None else None, "number": error.number,
        "kind": error.kind, "predicted": error.predicted, "predicted_name": said, "reference": error.reference,
        "reference_name": true, "voxels": error.voxels, "volume_mm3": error.volume, "depth_mm": error.depth,
        "x_mm": x, "y_mm": y, "z_mm": z,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Return what JSON can hold: it has neither NaN nor infinity, which become null and "inf"."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


# The page ---------------------------------------------------------------------------------------------------------


def _page(cases, over_all, images, failed, tolerance: float) -> str:
    ordered = worst_first(cases)
    title = f"Evaluation of {ordered[0].name}" if len(cases) == 1 else f"Evaluation of {len(cases)} cases"
    parts = [page.heading(title, 1)]
    parts += [page.note(f"{name} was not evaluated: {why}") for name, why in failed.items()]
    if len(cases) > 1:
        parts += [page.heading("Label by label"), page.panel(_summary_table(over_all), page.quiet(
            "Means with their 95 % intervals (bootstrap over cases). A structure that was missed counts with a Dice of "
            "0 and an infinite distance; one that neither has counts nowhere."))]  # fmt: skip
        scores = {score: _WORDS[score] for score in SCORES}
        table = cohort.case_table(ordered[:_ROWS], scores, _text)
        parts += [page.heading("Cases, worst first"), page.panel(table)]
    compared = [case for case in ordered if case.second is not None]
    if compared:
        parts += [page.heading("What got better, and what got worse"), versus.summary_panel(compared, _text)]
    for number, case in enumerate(ordered[:_ROWS]):
        parts += [cohort.anchor(number), page.heading(case.name)]
        parts += _case_panels(case, images.get(case.name), tolerance, number < DRAWN)
    if len(ordered) > DRAWN:
        parts.append(page.quiet(f"Errors are drawn for the {DRAWN} worst cases; all are listed in errors.csv."))
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    return page.document(title, parts)


def _summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = {"Label": "text", "Cases": "number", "Missed": "number", "Invented": "number"}
    columns.update({_WORDS[score]: "number" for score in SCORES})
    lines = []
    for row in rows:
        cells = []
        for score in SCORES:
            low, high = row[f"{score}_low"], row[f"{score}_high"]
            interval = "" if math.isnan(low) else f" ({_text(low)} to {_text(high)})"
            cells.append(_text(row[score]) + interval)
        lines.append([row["name"], row["cases"], row["missed"], row["invented"], *cells])
    return page.table(columns, lines)


def _case_panels(case: Case, image: Volume | None, tolerance: float, drawn: bool) -> list[str]:
    shown = ["dice", "surface_dice", "hd95", "hd", "assd", "reference_ml", "difference_ml"]
    shown[2:2] = [key for key in ("boundary_iou", "centreline_dice", "object_f1") if key in (case.rows or [{}])[0]]
    columns = {"Label": "text", "State": "text", **{_WORDS[key]: "number" for key in shown}}
    lines = []
    for row in case.rows[:_ROWS]:
        name = row["name"] if row["frame"] is None else f"{row['name']}, frame {row['frame']}"
        lines.append([name, row["state"], *(_text(row[key]) for key in shown)])
    found = [page.panel(page.table(columns, lines), page.quiet(f"Surface Dice within {tolerance:g} mm."))]
    if case.sizes:
        found.append(page.panel(page.heading("Objects by size", 3), _size_table(case)))
    if not drawn:
        return found
    if case.second is not None:
        found.append(versus.case_panel(case, lambda frame: _below(case, image, frame), _said, _text))
    for frame, error in case.errors[:_ERRORS]:
        over = outcomes(case.predicted, case.reference, frame)
        below = _below(case, image, frame)
        point = tuple(float(v) for v in over.grid.to_world(error.voxel))
        pictures = page.pictures(draw(below, View(point, 0, 360), over=over), error.kind)
        found.append(page.panel(page.heading(_said(case, frame, error), 3), pictures, _legend()))
    return found


def _size_table(case: Case) -> str:
    names = ("lesions", "found", "missed", "invented")
    columns = {"Label": "text", "Size (mm\u00b3)": "number", **{name.capitalize(): "number" for name in names}}
    columns["Sensitivity"] = "number"
    lines = []
    for row in case.sizes[:_ROWS]:
        size = f"{row['from']:g} to {row['to']:g}" if math.isfinite(row["to"]) else f"from {row['from']:g}"
        size = size if row["from"] or math.isfinite(row["to"]) else "all"
        lines.append([row["name"], size, *(row[name] for name in names), _text(row["sensitivity"])])
    return page.table(columns, lines)


def with_thumbnail(case: Case, image: Volume | None) -> Case:
    """Return the case with a picture of its worst error, while it still has its voxels."""
    frame, error = case.errors[0] if case.errors else (0, None)
    over = outcomes(case.predicted, case.reference, frame)
    middle = [(n - 1) / 2 for n in over.grid.spatial_shape]
    point = over.grid.to_world(middle if error is None else error.voxel)
    return replace(case, thumbnail=cohort.thumbnail(case, _below(case, image, frame), over, [float(v) for v in point]))


def _below(case: Case, image: Volume | None, frame: int) -> Volume:
    """Return what is drawn below: a frame of the image, or nothing but black."""
    grid = case.reference.grid.without_frames()
    if image is None:
        return Volume(np.zeros(grid.shape, np.uint8), grid, name=case.name)
    image.grid.require_same_space(grid, f"{image.name!r} and {case.reference.name!r}")
    return image.frame(frame if image.frame_count > 1 else 0)


def _said(case: Case, frame: int, error: Error) -> str:
    row = _error_row(case, frame, error)
    what = {
        "confused": f"{row['reference_name']} taken for {row['predicted_name']}",
        "merged": f"{row['predicted_name']} joined",
        "split": f"{row['reference_name']} parted",
    }.get(error.kind, f"{row['predicted_name'] if error.predicted else row['reference_name']} {error.kind}")
    deep = f", {_text(error.depth)} mm deep" if math.isfinite(error.depth) else ""
    when = "" if row["frame"] is None else f", frame {frame}"
    place = ", ".join(f"{row[f'{axis}_mm']:zg}" for axis in "xyz")
    return f"{what}: {_text(error.volume / 1000)} ml{deep}{when}, at ({place}) mm LPS"


def _legend() -> str:
    return page.legend((label.name, label.colour) for label in OUTCOMES.values())


def _text(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
