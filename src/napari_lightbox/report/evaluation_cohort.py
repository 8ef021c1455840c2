"""A cohort at a glance: one row a case with a picture of its worst error, for the page and for the viewer."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..volume import Volume
from . import page
from .evaluation import Case
from .pictures import View, draw, thumbnail_url

# Longest side of the picture that a thumbnail is made from, in pixels.
_LARGE = 240
#: What a row is made of, the first four as people see them.
OVERVIEW = ("name", "dice", "worst_label", "worst_dice", "errors", "thumbnail", "files")


def thumbnail(case: Case, below: Volume, over: Volume, point: Sequence[float]) -> str:
    """Return a small picture of a place of a case as a ``data:`` address.

    Parameters
    ----------
    case : Case
    below, over : Volume
        Grey values and labels of one frame.
    point : (z, y, x) sequence of float
        World point that is shown.
    """
    return thumbnail_url(draw(below, View(tuple(point), 0, _LARGE), over=over)[0].image)


def overview(case: Case) -> dict[str, Any]:
    """Return the row of a case: ``name``, ``dice`` (mean), ``worst_label``, ``worst_dice``, ``errors`` (their number),
    ``thumbnail`` and ``files``.
    """
    scored = [row for row in case.rows if not math.isnan(row["dice"])]
    worst = min(scored, key=lambda row: row["dice"], default=None)
    return {
        "name": case.name,
        "dice": case.mean("dice"),
        "worst_label": "" if worst is None else worst["name"],
        "worst_dice": math.nan if worst is None else worst["dice"],
        "errors": len(case.errors),
        "thumbnail": case.thumbnail,
        "files": dict(case.files),
    }


def anchor(number: int) -> str:
    """Return the place that a row links to."""
    return f'<a id="case-{number}"></a>'


def case_table(cases: Sequence[Case], scores: Mapping[str, str], text) -> str:
    """Return the table of all cases, as they are ordered; each links to its section.

    Parameters
    ----------
    cases : sequence of Case
    scores : mapping of str to str
        Scores that have a column, and what they are called.
    text : callable
        Writes a number.
    """
    pictured = any(case.thumbnail for case in cases)
    compared = any(case.second is not None for case in cases)
    columns = {"": "html"} if pictured else {}
    columns |= {"Case": "html", **dict.fromkeys(scores.values(), "number")}
    columns |= {"Second: Dice": "number"} if compared else {}
    columns |= {"Worst label": "text", "Errors": "number", "Largest": "text"}
    lines = []
    for number, case in enumerate(cases):
        row, largest = overview(case), case.errors[0][1] if case.errors else None
        what = "" if largest is None else f"{largest.kind}, {text(largest.volume / 1000)} ml"
        link = f'<a href="#case-{number}">{{}}</a>'
        image = f'<img src="{case.thumbnail}" alt="worst error of {escape(case.name)}">' if case.thumbnail else ""
        line = [link.format(image)] if pictured else []
        line += [link.format(escape(case.name)), *(text(case.mean(score)) for score in scores)]
        line += [text(case.second.mean("dice")) if case.second else ""] if compared else []
        worst = f"{row['worst_label']} ({text(row['worst_dice'])})" if row["worst_label"] else ""
        lines.append([*line, worst, len(case.errors), what])
    return page.table(columns, lines)
