"""A segmentation against its reference: the scores of every label, the worst errors, and a cohort of such cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..ops import _check
from ..ops._agreement import bootstrap
from ..ops._detection import lesions_by_size
from ..ops._errors import Error, find_errors
from ..ops._instances import per_instance
from ..ops._outlines import boundary_iou, centreline_dice
from ..ops._rates import rates
from ..ops._slices import per_slice
from ..ops._versus import Change
from ..ops.metrics import confusion, surface_agreement
from ..progress import track
from ..volume import Volume

_SURFACES = ("hd", "hd95", "assd", "surface_dice")
# How objects are matched. By the share that is covered, a prediction that joins a large object and a tiny one beside it
# would be given to the tiny one, which it covers best, and the large one be missed.
_MATCHED = {"criterion": "iou", "threshold": 0.1}
SCORES = ("dice", "surface_dice", "hd95")
_RATES = (
    "jaccard", "sensitivity", "specificity", "precision", "npv", "accuracy", "balanced_accuracy", "mcc", "fpr", "fnr",
    "volumetric_similarity",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A case that was evaluated.

    Parameters
    ----------
    name : str
    predicted, reference : Volume
    rows : list of dict
        One for each label of each frame; see `evaluate`.
    errors : list of (int, Error)
        Frame and error, worst first.
    slices, sizes : list of dict
        Scores slice by slice, and lesions by their size, where asked for.
    second : Case, optional
        Another prediction of the same case.
    changes : list of (int, Change)
        Frame, and what became of an error from this prediction to the second, largest first.
    thumbnail : str
        Picture of the worst error as a ``data:`` address; empty where none was drawn.
    files : mapping of str to str
        Where ``"prediction"``, ``"reference"`` and ``"image"`` were read from.
    """

    name: str
    predicted: Volume
    reference: Volume
    rows: list[dict[str, Any]]
    errors: list[tuple[int, Error]]
    slices: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[dict[str, Any]] = field(default_factory=list)
    second: "Case | None" = None
    changes: list[tuple[int, Change]] = field(default_factory=list)
    thumbnail: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def without_voxels(self) -> "Case":
        """Return the case with volumes that keep their grid, but take no memory: for the tables, not for pictures."""
        hollow = [v.replace(data=np.broadcast_to(np.uint8(0), v.data.shape)) for v in (self.predicted, self.reference)]
        second = None if self.second is None else self.second.without_voxels()
        return replace(self, predicted=hollow[0], reference=hollow[1], second=second)

    def mean(self, score: str) -> float:
        """Return the mean of a score over all labels and frames to which it applies; NaN where it applies to none."""
        return mean([row[score] for row in self.rows])


def evaluate(
    predicted: Volume,
    reference: Volume,
    *,
    labels: Sequence[int] | None = None,
    tolerance: float = 2.0,
    instances: bool = False,
    boundary: float | None = None,
    centreline: bool = False,
    slices: bool = False,
    name: str = "",
) -> Case:
    """Score every label of a segmentation against its reference.

    Parameters
    ----------
    predicted, reference : Volume
        Labels on the same grid.
    labels : sequence of int, optional
        Values to score, and whose errors are listed; every value but 0 that occurs in either where not given.
    tolerance : float
        mm within which surfaces count as the same, for the surface Dice.
    instances : bool
        Also match connected pieces, where their intersection over union is more than 0.1: ``objects_found``,
        ``objects_missed``, ``objects_invented`` and ``object_f1``; and count them by size, in `Case.sizes`.
    boundary : float, optional
        Also the boundary IoU of a rim of so many mm: ``boundary_iou``.
    centreline : bool
        Also the centreline Dice: ``centreline_dice``.
    slices : bool
        Also score every slice, as stored, in `Case.slices`.
    name : str
        Of the case; that of the prediction where empty.

    Returns
    -------
    Case
        Its rows have ``case``, ``frame`` (None without frames), ``label``, ``name``, ``state`` (``"both"``,
        ``"missed"``: the reference has it and the prediction does not, ``"invented"``, or ``"neither"``), ``tp``,
        ``fp``, ``fn``, ``tn``, ``dice``, the rates of `metrics.rates`, ``predicted_ml``, ``reference_ml``,
        ``difference_ml``, ``difference_percent``, ``hd``, ``hd95`` and ``assd`` in mm, and ``surface_dice``.

    Raises
    ------
    GridError
        If the two lie on different grids.
    InputError
        If one is no label volume, or the tolerance is negative.

    Notes
    -----
    A label that one of the two lacks scores 0, and has infinite distances. One that both lack does not apply: NaN,
    which no mean takes in. Surfaces are the voxels with a neighbour outside across a face; ``hd95`` is the larger of
    the two directed 95th percentiles, ``assd`` the mean over the points of both surfaces, ``surface_dice`` the share
    of both that lies within the tolerance.

    Examples
    --------
    >>> cube = np.zeros((4, 6, 6), np.uint8)
    >>> cube[1:3, 1:5, 1:5] = 1
    >>> truth = Volume.from_array(cube, spacing=(2, 1, 1), kind="labels")
    >>> case = evaluate(truth.replace(data=np.roll(cube, 1, axis=2)), truth)
    >>> row = case.rows[0]
    >>> row["dice"], row["hd"], row["difference_ml"], case.errors[0][1].kind
    (0.75, 1.0, 0.0, 'too small')
    """
    for volume, role in ((predicted, "predicted"), (reference, "reference")):
        if volume.kind != "labels":
            raise InputError(f"{role} {volume.name!r} is of kind {volume.kind!r}: give labels")
    reference.grid.require_same_space(predicted.grid, f"reference {reference.name!r} and predicted {predicted.name!r}")
    if predicted.frame_count != reference.frame_count:
        raise InputError(
            f"predicted has {predicted.frame_count} frames and reference {reference.frame_count}: give the same number"
        )
    tolerance = _check.number(tolerance, "tolerance", least=0)
    name = name or predicted.name
    known = {**predicted.labels, **reference.labels}
    rows, errors, cut, sizes = [], [], [], []
    for frame in track(range(reference.frame_count), "frames"):
        a, b = (np.asarray(v.frame(frame).data) for v in (predicted, reference))
        here = {"case": name, "frame": frame if reference.grid.frames is not None else None}
        spacing = reference.grid.spacing
        counts = confusion(a, b, labels)
        surfaces = surface_agreement(a, b, spacing, tolerance, [one["label"] for one in counts])
        for counted, surface in zip(counts, surfaces, strict=True):
            value = counted["label"]
            named = {**here, "label": value, "name": _name(value, known)}
            rows.append({**named, **_row(counted, spacing), **{key: surface[key] for key in _SURFACES}})
            if boundary is not None:
                rows[-1]["boundary_iou"] = boundary_iou(a, b, spacing, boundary, value)
            if centreline:
                rows[-1]["centreline_dice"] = centreline_dice(a, b, value)
            if instances:
                rows[-1].update(_objects(a == value, b == value))
                sizes += [{**named, **row} for row in lesions_by_size(a == value, b == value, spacing, **_MATCHED)]
        if slices:
            cut += [{**here, **row, "name": _name(row["label"], known)} for row in per_slice(a, b, 0, labels)]
        wanted = None if labels is None else {int(value) for value in labels}
        errors += [
            (frame, error)
            for error in find_errors(a, b, reference.grid.spacing).table
            if wanted is None or {error.predicted, error.reference} & wanted
        ]
    errors.sort(key=lambda one: -one[1].voxels)
    return Case(name, predicted, reference, rows, errors, cut, sizes)


def _name(value: int, known: Mapping[int, Any]) -> str:
    return known[value].name if value in known else f"label {value}"


def _row(counted: Mapping[str, Any], spacing: Sequence[float]) -> dict[str, Any]:
    tp, fp, fn, tn = (counted[key] for key in ("tp", "fp", "fn", "tn"))
    found, true = tp + fp, tp + fn
    state = "both" if found and true else "invented" if found else "missed" if true else "neither"
    table = rates(tp, fp, fn, tn)
    ml = float(np.prod(spacing)) / 1000
    change = 100 * (found - true) / true if true else math.inf if found else math.nan
    return {
        "state": state, "tp": tp, "fp": fp, "fn": fn, "tn": tn, "dice": table["f1"],
        **{key: table[key] for key in _RATES}, "predicted_ml": found * ml, "reference_ml": true * ml,
        "difference_ml": (found - true) * ml, "difference_percent": change,
    }  # fmt: skip


def _objects(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    matched = per_instance(a, b, objects="pieces", **_MATCHED)
    counts = {"objects_found": matched.tp, "objects_missed": matched.fn, "objects_invented": matched.fp}
    return {**counts, "object_f1": matched.recognition_quality}


def mean(values: Sequence[float]) -> float:
    """Return the mean of what applies (is not NaN); infinite where one value is."""
    applies = [v for v in values if not math.isnan(v)]
    return float(np.mean(applies)) if applies else math.nan


def summary(cases: Sequence[Case], seed: int = 0) -> list[dict[str, Any]]:
    """Summarise a cohort label by label.

    Parameters
    ----------
    cases : sequence of Case
        Frames count as cases of their own.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of dict
        For each label: ``label``, ``name``, ``cases`` (in which either has it), ``missed``, ``invented``, and for
        `SCORES` the mean, its 95 % interval (``_low``, ``_high``; from three cases on) and the median. A structure that
        was missed counts with a Dice of 0 and an infinite distance, so that missing it never improves a mean.

    Examples
    --------
    >>> one = Volume.from_array(np.ones((2, 2, 2), np.uint8), spacing=(1, 1, 1), kind="labels")
    >>> summary([evaluate(one, one), evaluate(one.replace(data=one.data * 0), one)])[0]["dice"]
    0.5
    """
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for case in cases:
        for row in case.rows:
            groups.setdefault(row["label"], []).append(row)
    found = []
    for label, rows in sorted(groups.items()):
        states = [row["state"] for row in rows]
        line = {"label": label, "name": rows[0]["name"], "cases": len(rows) - states.count("neither")}
        line.update(missed=states.count("missed"), invented=states.count("invented"))
        for score in SCORES:
            values = [row[score] for row in rows if not math.isnan(row[score])]
            line[score] = mean(values)
            line[f"{score}_low"], line[f"{score}_high"] = _interval(values, seed)
            line[f"{score}_median"] = float(np.median(values)) if values else math.nan
        found.append(line)
    return found


def _interval(values: Sequence[float], seed: int) -> tuple[float, float]:
    if len(values) < 3 or not np.isfinite(values).all():
        return math.nan, math.nan
    _, low, high = bootstrap(values, seed=seed)
    return low, high


def worst_first(cases: Sequence[Case]) -> list[Case]:
    """Return the cases in the order in which they should be looked at: by their mean Dice, the lowest first."""
    return sorted(cases, key=lambda case: (math.inf if math.isnan(case.mean("dice")) else case.mean("dice"), case.name))
