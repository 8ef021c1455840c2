"""How well probabilities, or other scores, tell true voxels from the rest, and how honest they are."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from . import _check, _tiles

# Thresholds of a curve that is drawn; areas are exact whatever their number.
_POINTS = 2001
_SLAB = 1 << 22


class Curve(NamedTuple):
    """A curve over a threshold.

    Parameters
    ----------
    x, y : ndarray
        For `roc`, false and true positive rate; for `precision_recall`, recall and precision.
    threshold : ndarray
        For each point; what is at or above it counts as found.
    area : float
        Under the curve, from all values, not from the points.
    """

    x: np.ndarray
    y: np.ndarray
    threshold: np.ndarray
    area: float


@dataclass(frozen=True)
class Calibration:
    """How often what is said to be true with some probability is true.

    Parameters
    ----------
    edges : ndarray
        Ends of the bins of probability, one more than there are bins.
    count : ndarray
        Voxels in each bin.
    said, true : ndarray
        Mean probability in each bin, and the share that is true; NaN in empty bins.
    ece, mce : float
        Expected (by number of voxels) and largest difference between the two.
    """

    edges: np.ndarray
    count: np.ndarray
    said: np.ndarray
    true: np.ndarray
    ece: float
    mce: float


def roc(scores: np.ndarray, truth: np.ndarray) -> Curve:
    """Return the receiver operating characteristic and the area under it.

    Parameters
    ----------
    scores : ndarray
        Any real numbers, the higher the more surely true.
    truth : ndarray
        bool, or numbers that are 0 where it is not true; same shape.

    Returns
    -------
    Curve
        From (0, 0) to (1, 1). The area is the chance that a true voxel has a higher score than another one, a tie
        counting half; it is exact. Without true voxels, or without others, area and rates are NaN.

    Raises
    ------
    InputError
        If the shapes differ, the arrays are empty, or a score is NaN.

    References
    ----------
    J. A. Hanley and B. J. McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.

    Examples
    --------
    >>> roc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])).area
    0.75
    """
    true, false = _split(scores, truth)
    threshold = _thresholds(true, false)
    x, y = _share_from(false, threshold), _share_from(true, threshold)
    # Infinite scores reach any threshold; the curve begins where nothing counts as found.
    x[:1], y[:1] = (0.0 if len(false) else np.nan), (0.0 if len(true) else np.nan)
    if not len(true) or not len(false):
        return Curve(x, y, threshold, float("nan"))
    # Of the two groups only the values of the smaller one need to be looked up in the other.
    few, many = (true, false) if len(true) <= len(false) else (false, true)
    below = np.searchsorted(many, few, "left").sum(dtype=float) + np.searchsorted(many, few, "right").sum(dtype=float)
    area = below / 2 / (len(true) * len(false))
    return Curve(x, y, threshold, float(area if few is true else 1 - area))


def precision_recall(scores: np.ndarray, truth: np.ndarray) -> Curve:
    """Return precision over recall, and the average precision.

    Parameters
    ----------
    scores, truth : ndarray
        As for `roc`.

    Returns
    -------
    Curve
        The area is the average precision, a sum of steps without interpolation between them, which would be too kind.
        NaN without true voxels.

    Raises
    ------
    InputError
        If the shapes differ, the arrays are empty, or a score is NaN.

    References
    ----------
    J. Davis and M. Goadrich, The relationship between precision-recall and ROC curves, ICML 2006.

    Examples
    --------
    >>> round(precision_recall(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])).area, 4)
    0.8333
    """
    true, false = _split(scores, truth)
    threshold = _thresholds(true, false)[1:]
    recall, precision = _share_from(true, threshold), _precision(true, false, threshold)
    if not len(true):
        return Curve(recall, precision, threshold, float("nan"))
    values, counts = np.unique(true, return_counts=True)
    area = float((_precision(true, false, values) * counts).sum() / len(true))
    return Curve(recall, precision, threshold, area)


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean squared difference between probabilities and what is true.

    Parameters
    ----------
    probabilities : ndarray
        From 0 to 1.
    truth : ndarray
        bool, or numbers that are 0 where it is not true; same shape.

    Returns
    -------
    float
        0 is best; 0.25 is what always saying 0.5 gives.

    Raises
    ------
    InputError
        If the shapes differ, the arrays are empty, or a probability lies outside 0 to 1 or is NaN.

    References
    ----------
    G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78, 1950.

    Examples
    --------
    >>> round(brier(np.array([1.0, 0.2]), np.array([1, 0])), 6)
    0.02
    """
    probabilities, truth = _probabilities(probabilities, truth)
    total = 0.0
    for slab in _tiles.slabs(probabilities.shape, _SLAB):
        total += float(((probabilities[slab].astype(np.float64) - truth[slab]) ** 2).sum())
    return total / probabilities.size


def calibration(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> Calibration:
    """Compare what probabilities say with how often it is true.

    Parameters
    ----------
    probabilities : ndarray
        Of one class, from 0 to 1.
    truth : ndarray
        bool, or numbers that are 0 where it is not true; same shape.
    bins : int
        Bins of equal width; each takes in its lower end, the last one both.

    Returns
    -------
    Calibration
        What a reliability diagram shows, and the expected and maximal calibration error.

    Raises
    ------
    InputError
        If the shapes differ, the arrays are empty, a probability lies outside 0 to 1 or is NaN, or there is less than
        one bin.

    References
    ----------
    M. P. Naeini, G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI
    2015 (of one class, as here; with the confidence of the chosen class: C. Guo et al., ICML 2017).

    Examples
    --------
    >>> found = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0]), bins=2)
    >>> round(found.ece, 6), found.true.tolist()
    (0.25, [0.0, 0.5])
    """
    probabilities, truth = _probabilities(probabilities, truth)
    bins = _check.whole(bins, "bins", least=1)
    edges = np.linspace(0, 1, bins + 1)
    count, said, true = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for slab in _tiles.slabs(probabilities.shape, _SLAB):
        values = probabilities[slab].ravel().astype(np.float64)
        index = np.minimum(np.searchsorted(edges, values, "right") - 1, bins - 1)
        count += np.bincount(index, minlength=bins)
        said += np.bincount(index, values, bins)
        true += np.bincount(index, truth[slab].ravel(), bins)
    with np.errstate(invalid="ignore"):
        said, true = said / count, true / count
    gaps = np.abs(said - true)[count > 0]
    ece = float((gaps * count[count > 0]).sum() / probabilities.size)
    return Calibration(edges, count.astype(np.int64), said, true, ece, float(gaps.max()))


def _checked(scores, truth, name: str) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = _check.image(scores, name), np.asarray(truth)
    _check.same_shape(scores, truth, (name, "truth"))
    if truth.dtype.kind == "f" and np.isnan(truth).any():
        raise InputError("truth holds NaN, which is neither true nor false: leave those voxels out")
    return scores, truth if truth.dtype == bool else truth != 0


def _split(scores, truth) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of what is true and of the rest, each in increasing order."""
    scores, truth = _checked(scores, truth, "scores")
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise InputError("scores hold NaN, which has no place in an order: leave those voxels out")
    return np.sort(scores[truth]), np.sort(scores[~truth])


def _probabilities(probabilities, truth) -> tuple[np.ndarray, np.ndarray]:
    probabilities, truth = _checked(probabilities, truth, "probabilities")
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):
        low, high = probabilities.min(), probabilities.max()
        raise InputError(f"probabilities lie from {low} to {high}, not within 0 to 1: activate logits first")
    return probabilities, truth


def _thresholds(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Return decreasing thresholds, the first of which nothing reaches: all values, or some of both groups."""
    some = []
    for group in (true, false):
        values = np.unique(group) if len(group) else group
        if len(values) > _POINTS // 2:
            values = values[np.linspace(0, len(values) - 1, _POINTS // 2).astype(np.intp)]
        some.append(values)
    values = np.unique(np.concatenate(some))[::-1].astype(np.float64)
    return np.concatenate([[np.inf], values])


def _share_from(group: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Return which share of sorted values is at or above each threshold."""
    if not len(group):
        return np.full(len(threshold), np.nan)
    return (len(group) - np.searchsorted(group, threshold, "left")) / len(group)


def _precision(true: np.ndarray, false: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    tp = len(true) - np.searchsorted(true, threshold, "left")
    fp = len(false) - np.searchsorted(false, threshold, "left")
    with np.errstate(invalid="ignore"):
        return tp / (tp + fp)
