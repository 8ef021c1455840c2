"""What is doubtful in the segmentations of a cohort: one row a case, the most doubtful first."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..volume import Volume
from . import page, words
from .doubts import Doubted, doubtful, looked_for, panels, rows_of
from .files import csv_of, write_texts
from .pictures import View, draw, thumbnail_url

FILES = ("cases.csv", "doubts.csv", "doubts.json", "doubts.html")
#: Cases whose doubts are drawn.
DRAWN = 12
_EACH, _LISTED, _ROWS = 3, 40, 400


def worst_first(cases: Sequence[Doubted]) -> list[Doubted]:
    """Return cases with the largest volume in doubt first, then those with most doubts, then by name."""
    return sorted(cases, key=lambda one: (-one.volume, -len(one.table), one.name))


def overview(found: Doubted) -> dict[str, Any]:
    """Return the row of a case.

    ``case``, ``doubts`` (their number), ``volume_ml`` (of all voxels in doubt), ``share`` (of the volume of the labels;
    None where there is none), ``largest`` (kind), ``largest_ml`` and ``kinds`` (number of each).
    """
    largest = found.table[0][1] if found.table else None
    return {
        "case": found.name,
        "doubts": len(found.table),
        "volume_ml": found.volume / 1000,
        "share": found.volume / found.labelled if found.labelled else None,
        "largest": "" if largest is None else largest.kind,
        "largest_ml": 0.0 if largest is None else largest.volume / 1000,
        "kinds": {kind: count for kind, (count, _) in found.counts().items()},
    }


def with_thumbnail(found: Doubted, image: Volume | None = None) -> Doubted:
    """Return a case with a picture of its largest doubt, while it still has its voxels."""
    if not found.table:
        return found
    frame, one = found.table[0]
    over, below = doubtful(found, frame, one, image)
    point = tuple(float(v) for v in over.grid.to_world(one.voxel))
    return replace(found, thumbnail=thumbnail_url(draw(below, View(point, 0, 240), over=over)[0].image))


def without_voxels(found: Doubted) -> Doubted:
    """Return a case that keeps its figures only: a cohort may be larger than the memory."""
    nothing = np.broadcast_to(np.zeros((), np.uint8), found.labels.data.shape)
    return replace(found, labels=found.labels.replace(data=nothing), maps=[])


def write_cohort(
    folder: Path,
    cases: Sequence[Doubted],
    *,
    images: Mapping[str, Volume] | None = None,
    failed: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write what is doubtful in the cases of a cohort as tables and a page, the most doubtful first.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    cases : sequence of Doubted
        From `doubts.doubt`; those that have no voxels any more are listed, but not drawn.
    images : mapping of str to Volume, optional
        For the name of a case, grey values to draw on.
    failed : mapping of str to str, optional
        Cases that could not be looked at, and why: the page must say so.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path
        ``cases.csv``, ``doubts.csv``, ``doubts.json`` and ``doubts.html``.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is not given, or cannot be written.
    """
    ordered, failed = worst_first(cases), dict(failed or {})
    rows = [overview(one) for one in ordered]
    doubts = [row for one in ordered for row in rows_of(one)]
    flat = [{**row, "kinds": "; ".join(f"{kind} {n}" for kind, n in row["kinds"].items())} for row in rows]
    whole = {"looked_for": {**ordered[0].against, "others": len(ordered[0].against["others"])}, "cases": rows,
             "doubts": doubts, "failed": failed}  # fmt: skip
    contents = {
        "cases.csv": csv_of(flat, []),
        "doubts.csv": csv_of(doubts, ["case", "number", "kind"]),
        "doubts.json": json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False),
        "doubts.html": _page(ordered, images or {}, failed),
    }
    return write_texts(folder, contents, overwrite=overwrite)


def _page(ordered: Sequence[Doubted], images: Mapping[str, Volume], failed: Mapping[str, str]) -> str:
    title = f"Doubts about {len(ordered)} cases"
    parts = [page.heading(title, 1), page.quiet(looked_for(ordered[0], several=True))]
    parts += [page.note(f"{name} was not looked at: {why}") for name, why in failed.items()]
    parts += [page.heading("Cases, the most doubtful first"), page.panel(_table(ordered[:_ROWS]))]
    for number, one in enumerate(ordered[:_ROWS]):
        drawn = _EACH if number < DRAWN and one.maps else 0
        parts += [f'<a id="case-{number}"></a>', page.heading(one.name)]
        parts += panels(one, images.get(one.name), drawn=drawn, listed=_LISTED)
    if len(ordered) > DRAWN:
        parts.append(page.quiet(f"Doubts are drawn for the first {DRAWN} cases; all are listed in doubts.csv."))
    parts += [page.heading("Made with"), page.panel(page.pairs(words.versions()))]
    parts.append(page.quiet("Made by napari-lightbox. For research and teaching, not for clinical use."))
    return page.document(title, parts)


def _table(ordered: Sequence[Doubted]) -> str:
    pictured = any(one.thumbnail for one in ordered)
    columns = {"": "html"} if pictured else {}
    columns |= {"Case": "html", "Doubts": "number", "In doubt (ml)": "number", "Of the labels": "number"}
    columns |= {"Largest": "text", "Kinds": "text"}
    lines = []
    for number, one in enumerate(ordered):
        row, link = overview(one), f'<a href="#case-{number}">{{}}</a>'
        image = f'<img src="{one.thumbnail}" alt="largest doubt about {escape(one.name)}">' if one.thumbnail else ""
        largest = f"{row['largest']}, {row['largest_ml']:.3g} ml" if row["largest"] else "\u2013"
        share = "\u2013" if row["share"] is None or math.isnan(row["share"]) else f"{row['share']:.2%}"
        kinds = ", ".join(f"{kind} {n}" for kind, n in row["kinds"].items())
        line = [link.format(image)] if pictured else []
        lines.append([*line, link.format(escape(one.name)), row["doubts"], f"{row['volume_ml']:.3g}", share, largest,
                      kinds])  # fmt: skip
    return page.table(columns, lines)
