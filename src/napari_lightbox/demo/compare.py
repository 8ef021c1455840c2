"""Where a segmentation and the truth agree and where they do not, as one label volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ops import metrics
from ..progress import track
from ..volume import Label, Volume

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = 1, 2, 3, 4
OUTCOMES = {
    TRUE_POSITIVE: Label("true positive", "#66bb6a"),
    FALSE_POSITIVE: Label("false positive", "#ef5350"),
    FALSE_NEGATIVE: Label("false negative", "#42a5f5"),
    WRONG_CLASS: Label("wrong class", "#ffca28"),
}
# What other label sets call the parts of a class, by the beginnings of their words.
_PARTS = {
    "bone": ("vertebra", "rib", "hip", "sacrum", "femur", "sternum", "clavic", "scapula", "humerus", "skull", "bone"),
    "lung": ("lung",),
}
# Classes of a model that are body to a truth that does not tell them apart.
_TISSUES = ("fat", "soft tissue")


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Parameters
    ----------
    volume : Volume
        Labels: `OUTCOMES`.
    rows : list of dict
        One row a class: ``class``, ``Dice``, and the voxels right, too many and missed. A class that the model found
        and the truth does not know comes last, says so in its name and has NaN for all figures.
    note : str
        What was compared with what.
    notes : tuple of str
        What was taken for granted or left out, in sentences.
    """

    volume: Volume
    rows: list[dict[str, Any]]
    note: str
    notes: tuple[str, ...] = ()


def matching(found: Mapping[int, Label], truth: Mapping[int, Label], names: Mapping[str, str] | None = None) -> dict:
    """Say which class each label of the truth belongs to.

    Parameters
    ----------
    found, truth : mapping of int to Label
        Labels of the segmentation and of the truth.
    names : mapping of str to str, optional
        Name in the truth to name of the class, stronger than the rules: equal names, a name with the class as one of
        its words (``"left lung"``, ``"lung_upper_lobe_left"``), and for bone the names of bones.

    Returns
    -------
    dict of int to int
        Truth value to class value; labels that belong to none of the classes go to ``"body"`` where both have one.

    Examples
    --------
    >>> matching({1: Label("lung")}, {3: Label("left lung"), 4: Label("liver")})
    {3: 1}
    """
    classes = {label.name.lower(): value for value, label in found.items() if value}
    body = classes.get("body")
    has_body = any(label.name.lower() == "body" for label in truth.values())
    table = {}
    for value, label in truth.items():
        name = (names or {}).get(label.name, label.name).lower()
        words = name.replace("_", " ").replace("-", " ").split()
        fits = [c for c in classes if c == name]
        fits = fits or [c for c in classes if any(w.startswith(p) for w in words for p in _PARTS.get(c, (c,)))]
        if fits:
            table[value] = classes[fits[0]]
        elif body is not None and has_body and value:
            table[value] = body
    return table


def against(found: Volume, truth: Volume, names: Mapping[str, str] | None = None) -> Comparison | None:
    """Compare a segmentation with the truth.

    Parameters
    ----------
    found, truth : Volume
        Labels on one grid; their classes are matched by name, or by value where the truth has no names. A truth
        without names that has a single value other than 0 is the class of a model that knows but one.
    names : mapping of str to str, optional
        See `matching`.

    Returns
    -------
    Comparison or None
        None where they have no class in common.
    """
    found.grid.require_same_space(truth.grid, f"{found.name!r} and {truth.name!r}")
    values = held(truth)
    if truth.labels:
        table, notes = matching(found.labels, truth.labels, names), []
    else:
        table, notes = _by_number(found, values)
    shared = sorted(set(table.values()))
    if not shared:
        return None
    said, merged = _with_tissues_as_body(found, shared)
    if merged:
        notes.append(f"{' and '.join(merged)}: part of the body in the truth, and counted as body.".capitalize())
    reference = _mapped(np.asarray(truth.data), table)
    if reference.ndim < said.ndim:
        reference = np.broadcast_to(reference, said.shape)
    counted = metrics.confusion(said, reference, shared)
    # A class that neither holds says nothing.
    rows = [_row(row, found) for row in counted if row["tp"] + row["fp"] + row["fn"]]
    others = [v for v in sorted(held(found)) if v in found.labels and v not in shared]
    rows += [_unknown(found.labels[v]) for v in others if found.labels[v].name not in merged]
    foreign = [v for v in values if v not in table]
    if foreign:
        notes.append(f"{named(truth, foreign)} in the truth: no class of the model, not compared.")
    # The body is what all the rest lies in: leaving it out keeps the errors visible.
    drawn = [v for v in shared if found.labels[v].name.lower() != "body"] or shared
    model, real = (np.where(np.isin(a, drawn), a, 0) for a in (said, reference))
    outcome = np.zeros(said.shape, np.uint8)
    outcome[(model == real) & (real != 0)] = TRUE_POSITIVE
    outcome[(model != 0) & (real == 0)] = FALSE_POSITIVE
    outcome[(model == 0) & (real != 0)] = FALSE_NEGATIVE
    outcome[(model != real) & (model != 0) & (real != 0)] = WRONG_CLASS
    meta = {k: v for k, v in found.meta.items() if k not in ("unit", "windows")}
    volume = Volume(outcome, found.grid, "labels", f"{found.name} · against truth", OUTCOMES, meta)
    return Comparison(volume, rows, f"Classes: {', '.join(found.labels[v].name for v in drawn)}.", tuple(notes))


def _with_tissues_as_body(found: Volume, shared: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Return the segmentation with tissues that the truth does not know as body, and their names.

    Nothing changes where the truth knows no body.
    """
    said = np.asarray(found.data)
    body = next((v for v in shared if found.labels[v].name.lower() == "body"), None)
    finer = {v: label.name for v, label in found.labels.items() if label.name in _TISSUES and v not in shared}
    if body is None or not finer:
        return said, []
    return np.where(np.isin(said, list(finer)), body, said), list(finer.values())


def held(volume: Volume) -> list[int]:
    """Return the values other than 0 that occur in a label volume, in rising order."""
    planes = track([*np.asarray(volume.data)], "planes")
    return sorted({int(value) for plane in planes for value in np.unique(plane)} - {0})


def named(volume: Volume, values: Sequence[int], most: int = 6) -> str:
    """Write label values with their names, a few of them where there are many."""
    words = [f"{v} ({volume.labels[v].name})" if v in volume.labels else str(v) for v in values[:most]]
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return f"{'Value' if len(values) == 1 else 'Values'} {', '.join(words)}{more}"


def _by_number(found: Volume, values: Sequence[int]) -> tuple[dict[int, int], list[str]]:
    """Match the values of a truth without names; say how."""
    classes = [value for value in found.labels if value]
    if len(classes) == 1 and len(values) == 1 and values != classes:
        name = found.labels[classes[0]].name
        return {values[0]: classes[0]}, [f"The truth has no names: its value {values[0]} was taken for {name}."]
    table = {value: value for value in values if value in classes}
    return table, ["The truth has no names: classes were matched by their numbers."]


def _mapped(truth: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    out = np.zeros(truth.shape, np.int32)
    for value, target in table.items():
        out[truth == value] = target
    return out


def _row(row: Mapping[str, Any], found: Volume) -> dict[str, Any]:
    return {
        "class": found.labels[row["label"]].name,
        "Dice": round(float(row["dice"]), 4),
        "voxels right": row["tp"],
        "too many": row["fp"],
        "missed": row["fn"],
    }


def _unknown(label: Label) -> dict[str, Any]:
    figures = dict.fromkeys(("Dice", "voxels right", "too many", "missed"), float("nan"))
    return {"class": f"{label.name} (not in the truth)", **figures}
