"""Agreement of two segmentations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..progress import track
from ..types import LabelArray
from . import _check, _tiles

_SLAB = 1 << 22


def dice(predicted: LabelArray, reference: LabelArray, label: int | None = None) -> float:
    """Return the Dice coefficient 2 |A and B| / (|A| + |B|) of two regions.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape; which is which does not matter.
    label : int, optional
        Value of the region in both; everything that is not 0 where not given.

    Returns
    -------
    float
        From 0 (apart) to 1 (the same). 0 where one region is empty; NaN where both are, as there is nothing to compare.

    Raises
    ------
    InputError
        If the shapes differ, or an array holds no whole numbers.

    References
    ----------
    L. R. Dice, Measures of the amount of ecologic association between species, Ecology 26, 1945.

    Examples
    --------
    >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]))
    0.6666666666666666
    """
    predicted, reference = _pair(predicted, reference)
    both = first = second = 0
    for slab in track(_tiles.slabs(predicted.shape, _SLAB), "slabs"):
        a = predicted[slab] != 0 if label is None else predicted[slab] == label
        b = reference[slab] != 0 if label is None else reference[slab] == label
        both += int(np.count_nonzero(a & b))
        first += int(np.count_nonzero(a))
        second += int(np.count_nonzero(b))
    return _ratio(2 * both, first + second)


def confusion(
    predicted: LabelArray, reference: LabelArray, labels: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Count, label by label, the voxels that agree and those that do not.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape. `reference` is taken as the truth.
    labels : sequence of int, optional
        Values to compare; every value but 0 that occurs in either where not given.

    Returns
    -------
    list of dict
        One row a label: ``label``, ``tp``, ``fp``, ``fn``, ``tn`` (voxels), ``dice`` and ``jaccard``. A label that only
        one of the two has gives 0 for both ratios; one that neither has gives NaN.

    Raises
    ------
    InputError
        If the shapes differ, or an array holds no whole numbers.

    References
    ----------
    A. A. Taha and A. Hanbury, Metrics for evaluating 3D medical image segmentation, BMC Medical Imaging 15:29, 2015.

    Examples
    --------
    >>> confusion(np.array([1, 1, 0, 2]), np.array([1, 0, 0, 2]))[0]
    {'label': 1, 'tp': 1, 'fp': 1, 'fn': 0, 'tn': 2, 'dice': 0.6666666666666666, 'jaccard': 0.5}
    """
    predicted, reference = _pair(predicted, reference)
    both: dict[int, int] = {}
    first: dict[int, int] = {}
    second: dict[int, int] = {}
    for slab in track(_tiles.slabs(predicted.shape, _SLAB), "slabs"):
        a, b = predicted[slab], reference[slab]
        for counts, values in ((first, a), (second, b), (both, a[a == b])):
            for value, count in zip(*(found.tolist() for found in np.unique(values, return_counts=True)), strict=True):
                counts[value] = counts.get(value, 0) + count
    if labels is None:
        labels = sorted((set(first) | set(second)) - {0})
    rows = []
    for label in labels:
        tp = both.get(int(label), 0)
        fp, fn = first.get(int(label), 0) - tp, second.get(int(label), 0) - tp
        rows.append({"label": int(label), "tp": tp, "fp": fp, "fn": fn, "tn": predicted.size - tp - fp - fn})
        rows[-1].update(dice=_ratio(2 * tp, 2 * tp + fp + fn), jaccard=_ratio(tp, tp + fp + fn))
    return rows


def _pair(predicted, reference) -> tuple[np.ndarray, np.ndarray]:
    predicted, reference = _check.labels(predicted, "predicted"), _check.labels(reference, "reference")
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    return predicted, reference


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
