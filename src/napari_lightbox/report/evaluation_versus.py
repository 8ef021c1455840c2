"""Two predictions against the same references: what the second makes better and worse, case by case and over all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from ..ops._agreement import compare_paired
from ..ops._versus import Change, compare_errors
from ..volume import Label, Volume
from . import page
from .evaluation import Case, evaluate, mean
from .pictures import View, draw

#: Where a second prediction differs in being right, in the colours of Okabe and Ito.
CHANGES = {
    1: Label("better", "#009e73"),
    2: Label("worse", "#d55e00"),
    3: Label("wrong in both", "#f0e442"),
}
_COMPARED = ("dice", "hd95")
# Changes that a case lists, and of these how many are drawn.
_LISTED, _DRAWN = 10, 2


def compare(case: Case, other: Volume, *, labels: Sequence[int] | None = None, **options: Any) -> Case:
    """Evaluate a second prediction of a case, and say what became of every error.

    Parameters
    ----------
    case : Case
        From `evaluate`, with its voxels.
    other : Volume
        The second prediction, on the same grid.
    labels : sequence of int, optional
        As for the case.
    **options
        Of `evaluate`.

    Returns
    -------
    Case
        The case with `second` and `changes`.

    Raises
    ------
    GridError, InputError
        As `evaluate`.

    Examples
    --------
    >>> truth = Volume.from_array(np.array([[[1, 1, 1, 0, 0]]]), spacing=(1, 1, 1), kind="labels")
    >>> found = [truth.replace(data=np.array([[row]])) for row in ([1, 0, 0, 0, 0], [1, 1, 0, 0, 1])]
    >>> both = compare(evaluate(found[0], truth), found[1])
    >>> [(change.outcome, change.voxels) for _, change in both.changes], change_of(both)["gained_ml"]
    ([('better', 1), ('new', 1)], 0.001)
    """
    second = evaluate(other, case.reference, labels=labels, name=case.name, **options)
    wanted = None if labels is None else {int(value) for value in labels}
    changes = []
    for frame in range(case.reference.frame_count):
        maps = [np.asarray(v.frame(frame).data) for v in (case.predicted, other, case.reference)]
        changes += [
            (frame, change)
            for change in compare_errors(*maps, case.reference.grid.spacing).changes
            if wanted is None or {change.error.predicted, change.error.reference} & wanted
        ]
    changes.sort(key=lambda one: -one[1].voxels)
    return replace(case, second=second, changes=changes)


def change_of(case: Case) -> dict[str, float]:
    """Return what a case gains and loses: ``gained_ml``, ``lost_ml``, and the mean Dice of both predictions."""
    gained, lost = (
        sum(change.volume for _, change in case.changes if change.outcome in outcomes) / 1000
        for outcomes in (("mended", "better"), ("new", "worse"))
    )
    return {
        "gained_ml": gained, "lost_ml": lost, "dice_first": case.mean("dice"), "dice_second": case.second.mean("dice"),
    }  # fmt: skip


def paired(cases: Sequence[Case], seed: int = 0) -> list[dict[str, Any]]:
    """Compare both predictions over a cohort, label by label.

    Parameters
    ----------
    cases : sequence of Case
        With a `second`; frames of a case count together, by their mean.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        For each label and each of ``"dice"`` and ``"hd95"``: ``label``, ``name``, ``score``, ``cases`` (in which both
        apply), ``first``, ``second`` (means), ``difference``, ``low``, ``high`` (95 % interval of the difference by
        paired bootstrap), ``better``, ``worse`` (cases), ``p`` (Wilcoxon's signed-rank test, two-sided). With fewer
        than three cases there is no test: NaN.
    """
    names: dict[int, str] = {}
    values: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for case in cases:
        own, other = _by_label(case), _by_label(case.second)
        for label in sorted({*own, *other}):
            names.setdefault(label, (own.get(label) or other[label])[0]["name"])
            for score in _COMPARED:
                both = tuple(mean([row[score] for row in rows.get(label, [])]) for rows in (own, other))
                if not any(map(math.isnan, both)):
                    values.setdefault((label, score), []).append(both)
    found = []
    for label, score in sorted(values):
        first, second = zip(*values[label, score], strict=True)
        line = {"label": label, "name": names[label], "score": score, "cases": len(first)}
        line |= {"first": mean(first), "second": mean(second)}
        found.append(line | _tested(first, second, score == "hd95", seed))
    return found


def _by_label(case: Case) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in case.rows:
        found.setdefault(row["label"], []).append(row)
    return found


def _tested(first: Sequence[float], second: Sequence[float], less: bool, seed: int) -> dict[str, float]:
    """Return the comparison; of distances the smaller one is the better."""
    up = sum(b > a for a, b in zip(first, second, strict=True))
    down = sum(b < a for a, b in zip(first, second, strict=True))
    counts = {"better": down if less else up, "worse": up if less else down}
    if len(first) < 3:
        both = mean(first), mean(second)
        apart = both[1] - both[0] if all(map(math.isfinite, both)) else math.nan
        return {"difference": apart, "low": math.nan, "high": math.nan, **counts, "p": math.nan}
    tested = compare_paired(first, second, seed=seed)
    return {key: tested[key] for key in ("difference", "low", "high")} | counts | {"p": tested["p"]}


def change_rows(case: Case, describe) -> list[dict[str, Any]]:
    """Return all changes of a case as rows; `describe` gives the columns of an error from (case, frame, error)."""
    found = []
    for frame, change in case.changes:
        whose = case.second if change.outcome in ("worse", "new") else case
        row = describe(whose, frame, change.error)
        row.pop("number")
        lead = {"case": row.pop("case"), "frame": row.pop("frame"), "outcome": change.outcome}
        found.append({**lead, "changed_voxels": change.voxels, "changed_mm3": change.volume, **row})
    return found


# The page ---------------------------------------------------------------------------------------------------------


def summary_panel(cases: Sequence[Case], text) -> str:
    """Return the table of both predictions over all cases; `text` writes a number."""
    columns = {"Label": "text", "Score": "text", "Cases": "number", "First": "number", "Second": "number",
               "Difference": "number", "Better": "number", "Worse": "number", "p": "number"}  # fmt: skip
    lines = []
    for row in paired(cases):
        interval = "" if math.isnan(row["low"]) else f" ({text(row['low'])} to {text(row['high'])})"
        score = {"dice": "Dice", "hd95": "HD95 (mm)"}[row["score"]]
        apart = text(row["difference"]) + interval
        counts = (row["better"], row["worse"], text(row["p"]))
        lines.append([row["name"], score, row["cases"], text(row["first"]), text(row["second"]), apart, *counts])
    return page.panel(page.table(columns, lines), page.quiet(
        "Difference: second minus first, with its 95 % interval by paired bootstrap over cases; p: Wilcoxon's "
        "signed-rank test, two-sided, not corrected for many labels. Better and worse count cases."))  # fmt: skip


def case_panel(case: Case, below, said, text) -> str:
    """Return what became of the errors of a case; `below` gives the image of a frame, `said` words for an error."""
    change = change_of(case)
    title = (
        f"Second against first: gained {text(change['gained_ml'])} ml, lost {text(change['lost_ml'])} ml, mean Dice "
        f"{text(change['dice_first'])} to {text(change['dice_second'])}"
    )
    columns = {"Change": "html", "Changed (ml)": "number", "Error": "text"}
    lines = []
    for frame, one in case.changes[:_LISTED]:
        lines.append([_swatched(one), text(one.volume / 1000), said(_whose(case, one), frame, one.error)])
    pictures = []
    for outcomes in (("worse", "new"), ("mended", "better")):
        first = next(((f, c) for f, c in case.changes if c.outcome in outcomes), None)
        pictures += [] if first is None else [_picture(case, *first, below, said)]
    return page.panel(
        page.heading(title, 3), page.table(columns, lines), *pictures[:_DRAWN],
        page.legend((label.name, label.colour) for label in CHANGES.values()) if pictures else "",
    )  # fmt: skip


def _whose(case: Case, change: Change) -> Case:
    return case.second if change.outcome in ("worse", "new") else case


def _swatched(change: Change) -> str:
    colour = {"mended": 1, "better": 1, "new": 2, "worse": 2}.get(change.outcome, 3)
    return page.swatch(CHANGES[colour].colour) + escape(change.outcome)


def _picture(case: Case, frame: int, change: Change, below, said) -> str:
    first, second, truth = (
        np.asarray(v.frame(frame).data) for v in (case.predicted, case.second.predicted, case.reference)
    )
    wrong = first != truth, second != truth
    data = (wrong[0] & ~wrong[1]) + 2 * (wrong[1] & ~wrong[0]) + 3 * (wrong[0] & wrong[1])
    over = Volume(data.astype(np.uint8), case.reference.grid.without_frames(), "labels", "change", CHANGES)
    point = tuple(float(v) for v in over.grid.to_world(change.error.voxel))
    words = f"{change.outcome}: {said(_whose(case, change), frame, change.error)}"
    return page.quiet(words) + page.pictures(draw(below(frame), View(point, 0, 300), over=over), change.outcome)
