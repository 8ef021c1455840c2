"""Agreement slice by slice, or frame by frame: where along an axis a segmentation goes wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..progress import track
from ..types import LabelArray
from . import _check
from ._rates import ratio


def per_slice(
    predicted: LabelArray, reference: LabelArray, axis: int = 0, labels: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Count, slice by slice and label by label, the voxels that agree and those that do not.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape. `reference` is taken as the truth.
    axis : int
        Axis that is cut: 0 for slices along z, or for the frames of a series.
    labels : sequence of int, optional
        Values to compare; every value but 0 that occurs in either where not given.

    Returns
    -------
    list of dict
        ``slice``, ``label``, ``tp``, ``fp``, ``fn`` (voxels), ``dice``, ``jaccard``; a row for each label of each slice
        in which one of the two has it, or for each that was asked for. Ratios are 0 where only one of the two has the
        label, NaN where neither has.

    Raises
    ------
    InputError
        If the shapes differ, an array holds no whole numbers, or there is no such axis.

    Examples
    --------
    >>> found = per_slice(np.array([[1, 1], [0, 1]]), np.array([[1, 0], [0, 1]]))
    >>> [(row["slice"], row["dice"]) for row in found]
    [(0, 0.6666666666666666), (1, 1.0)]
    """
    predicted, reference = _check.labels(predicted, "predicted"), _check.labels(reference, "reference")
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    axis = _check.choice(axis, tuple(range(-predicted.ndim, predicted.ndim)), "axis")
    rows = []
    pairs = zip(np.moveaxis(predicted, axis, 0), np.moveaxis(reference, axis, 0), strict=True)
    for number, (a, b) in enumerate(track([*pairs], "slices")):
        first, second, both = (_counts(values) for values in (a, b, a[a == b]))
        asked = sorted((set(first) | set(second)) - {0}) if labels is None else [int(v) for v in labels]
        for label in asked:
            tp = both.get(label, 0)
            fp, fn = first.get(label, 0) - tp, second.get(label, 0) - tp
            row = {"slice": number, "label": label, "tp": tp, "fp": fp, "fn": fn}
            rows.append(row | {"dice": ratio(2 * tp, 2 * tp + fp + fn), "jaccard": ratio(tp, tp + fp + fn)})
    return rows


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
