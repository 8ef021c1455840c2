"""What `lightbox info FOLDER` prints: the DICOM series of a folder by patient and study."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..io.series import SeriesInfo
from .words import typed

_COLUMNS = ("no.", "series", "modality", "size (x, y, z)", "spacing (mm)", "contents", "files", "pixels")
_RIGHT = ("files",)  # columns set flush right
_INDENT = "  "


def as_json(found: Sequence[SeriesInfo]) -> str:
    """Write a list of series as JSON."""
    names = [f.name for f in fields(SeriesInfo) if not f.name.startswith("_")]
    plain = [{name: getattr(series, name) for name in names} for series in found]
    for facts in plain:
        facts["patient"], facts["study"] = facts["patient"]._asdict(), facts["study"]._asdict()
        facts["frames"] = facts["frames"] and facts["frames"]._asdict()
        facts["files"] = [str(file) for file in facts["files"]]
    return json.dumps(plain, indent=2)


def as_text(found: Sequence[SeriesInfo]) -> str:
    """Write a list of series as a table, with warnings and problems below the row that they are about."""
    rows = [_row(series) for series in found]
    widths = [max(len(row[n]) for row in [_COLUMNS, *rows]) for n in range(len(_COLUMNS))]
    lines: list[str] = []
    patient = study = None
    for series, row in zip(found, rows, strict=True):
        if series.patient != patient:
            patient, study = series.patient, None
            lines += [""] * bool(lines) + [_patient(series)]
        if series.study != study:
            study = series.study
            lines += [_INDENT + _study(series)] if series.kind != "damaged" else []
            lines.append(2 * _INDENT + _line(_COLUMNS, widths))
        lines.append(2 * _INDENT + _line(row, widths))
        lines += [f"{4 * _INDENT}warning: {typed(text)}" for text in series.warnings]
        if series.problem:
            lines.append(f"{4 * _INDENT}cannot be opened: {typed(series.problem)}")
    return "\n".join(lines)


def _patient(series: SeriesInfo) -> str:
    name, number = series.patient
    if series.kind == "damaged":
        return "Files that cannot be read"
    return f"Patient {name or 'without a name'}{f' ({number})' if number else ''}"


def _study(series: SeriesInfo) -> str:
    from ..report import words

    return "Study " + (words.study(*series.study[:2], ", ") or "without a date")


def _row(series: SeriesInfo) -> tuple[str, ...]:
    return (
        series.number,
        series.description,
        series.modality,
        " x ".join(str(n) for n in series.size) if all(series.size) else "",
        " x ".join(f"{v:.4g}" for v in series.spacing) if series.spacing else "",
        series.contents or _frames(series.frames),
        str(len(series.files)),
        series.syntax,
    )


def _frames(frames: Any) -> str:
    if frames is None:
        return ""
    unit = f" {frames.unit}" if frames.unit else ""
    return f"{frames.count} frames ({frames.kind} {frames.values[0]:g} to {frames.values[-1]:g}{unit})"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, _COLUMNS, strict=True)
    ]
    return "  ".join(parts).rstrip()
