"""Lesions and other objects that are found or not: scores of detections, and results by the size of what was sought."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..types import ImageArray, LabelArray
from . import _check
from ._instances import per_instance
from ._rates import ratio

#: False positives an image at which the mean sensitivity is taken, as in LUNA16.
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Froc:
    """A free-response curve.

    Parameters
    ----------
    false_positives : ndarray
        Mean number of false positives an image, for each threshold, increasing.
    sensitivity : ndarray
        Share of the objects that are found there.
    thresholds : ndarray
        Least score that counts, decreasing; the first, infinite, is where nothing is found.
    score : float
        Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives an image.
    """

    false_positives: np.ndarray = field(repr=False)
    sensitivity: np.ndarray = field(repr=False)
    thresholds: np.ndarray = field(repr=False)
    score: float

    def at(self, false_positives: float) -> float:
        """Return the largest sensitivity that costs no more than so many false positives an image."""
        return float(self.sensitivity[np.searchsorted(self.false_positives, false_positives, "right") - 1])


def froc(scores: Sequence[float], objects: Sequence[Any], count: int, images: int) -> Froc:
    """Return the free-response receiver operating characteristic of scored detections.

    Parameters
    ----------
    scores : sequence of float
        How sure each detection is, over all images; the larger, the surer.
    objects : sequence
        For each detection the object it hits, by any name that no other object has (in another image neither); None
        (or -1) where it hits nothing.
    count : int
        How many objects there are in truth, those that no detection hits among them.
    images : int
        How many images there are, those without objects among them.

    Returns
    -------
    Froc

    Raises
    ------
    InputError
        If lengths or counts do not fit, or a score is NaN.

    Notes
    -----
    An object is found at the score of the surest detection that hits it; further ones on the same object are neither
    true nor false. Detections of equal score come together, so that their order does not matter. Between thresholds
    the curve is a staircase: the sensitivity at a rate is that of the last threshold that keeps to it. Without objects
    the sensitivity is NaN.

    References
    ----------
    P. C. Bunch et al., A free response approach to the measurement and characterization of radiographic observer
    performance, SPIE 127, 1977. A. A. A. Setio et al., LUNA16, Medical Image Analysis 42, 2017 (the seven rates, and
    what further detections of an object count).

    Examples
    --------
    >>> curve = froc([0.9, 0.8, 0.7, 0.3], ["a", None, "a", "b"], count=2, images=2)
    >>> curve.sensitivity.tolist(), curve.false_positives.tolist()
    ([0.0, 0.5, 0.5, 0.5, 1.0], [0.0, 0.0, 0.5, 0.5, 0.5])
    """
    scores = np.asarray(scores, float).reshape(-1)
    names = [None if o is None or (isinstance(o, int | np.integer) and o == -1) else o for o in objects]
    count, images = _check.whole(count, "count", 0), _check.whole(images, "images")
    if len(names) != len(scores):
        raise InputError(f"objects has {len(names)} entries, but there are {len(scores)} scores: give one for each")
    if np.isnan(scores).any():
        raise InputError("scores holds NaN: give a number for each detection")
    if len(set(names) - {None}) > count:
        raise InputError(f"count {count} is less than the {len(set(names) - {None})} objects that are hit: count all")
    order = np.argsort(-scores, kind="stable")
    found: set[Any] = set()
    true, false = np.zeros(len(order)), np.zeros(len(order))
    for place, detection in enumerate(order.tolist()):
        name = names[detection]
        true[place], false[place] = name is not None and name not in found, name is None
        found.add(name)
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(order)])
    hits, misses = (np.append(0, np.cumsum(a)[ends]) for a in (true, false))
    sensitivity = hits / count if count else np.full(len(hits), np.nan)
    thresholds = np.append(np.inf, ordered[ends])
    curve = Froc(misses / images, sensitivity, thresholds, float("nan"))
    score = float(np.mean([curve.at(rate) for rate in RATES]))
    return Froc(curve.false_positives, sensitivity, thresholds, score)


def detections(
    probability: ImageArray, reference: LabelArray, *, threshold: float = 0.5
) -> tuple[list[float], list[int | None], int]:
    """Return what `froc` needs of one image: the pieces of a probability map as detections.

    Parameters
    ----------
    probability : ndarray
        0 to 1.
    reference : ndarray
        Whole numbers or bool of the same shape; each connected piece that is not 0 is an object.
    threshold : float
        Connected pieces of a probability above it are detections; keep it low, the curve does the rest.

    Returns
    -------
    scores : list of float
        Highest probability of each detection.
    objects : list
        The object it covers most of (by voxels), as a number from 1 on, or None.
    count : int
        How many objects there are.

    Raises
    ------
    InputError
        If shapes or values do not fit.

    Examples
    --------
    >>> detections(np.array([0.9, 0.7, 0, 0.6, 0]), np.array([1, 0, 0, 0, 1]))
    ([0.9, 0.6], [1, None], 2)
    """
    probability, reference = _check.image(probability, "probability"), _check.labels(reference, "reference")
    _check.same_shape(probability, reference, ("probability", "reference"))
    least = _check.number(threshold, "threshold", least=0)
    touching = np.ones((3,) * reference.ndim, bool)
    found, pieces = ndimage.label(probability > least, touching)
    truth, count = ndimage.label(reference != 0, touching)
    if not pieces:
        return [], [], count
    scores = np.asarray(ndimage.maximum(probability, found, range(1, pieces + 1)), float)
    inside = (found > 0) & (truth > 0)
    pairs, voxels = np.unique(np.stack([found[inside], truth[inside]]), axis=1, return_counts=True)
    hits: dict[int, int] = {}
    for number in np.argsort(voxels, kind="stable").tolist():
        hits[int(pairs[0, number])] = int(pairs[1, number])
    return scores.tolist(), [hits.get(piece) for piece in range(1, pieces + 1)], count


def lesions_by_size(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    *,
    edges: Sequence[float] = (100.0, 1000.0, 10000.0),
    objects: str = "pieces",
    criterion: str = "overlap",
    threshold: float = 0.1,
) -> list[dict[str, Any]]:
    """Say how many lesions of each size were found: small ones are what a mean hides.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape; 0 is background.
    spacing : sequence of float
        mm per voxel in array order.
    edges : sequence of float
        Volumes in mm3 that part the classes of size, increasing; a lesion of exactly that volume is of the larger
        class.
    objects, criterion, threshold
        What a lesion is, and when two match, as in `per_instance`; by default a connected piece of which more than a
        tenth is covered.

    Returns
    -------
    list of dict
        One row a class of size, and a last one for all: ``from`` and ``to`` (mm3), ``lesions`` (of the reference),
        ``found``, ``missed``, ``invented``, ``sensitivity``, ``precision``, ``f1``; NaN where nothing is to be
        divided by. Found and missed lesions are of the size they have in the reference, invented ones of their own.

    Raises
    ------
    InputError
        If shapes or labels do not fit, or the edges are not positive and increasing.

    Examples
    --------
    >>> truth, guess = np.array([1, 1, 1, 0, 1, 0, 0]), np.array([1, 1, 0, 0, 0, 0, 1])
    >>> [(row["to"], row["found"], row["missed"], row["invented"]) for row in
    ...  lesions_by_size(guess, truth, (1,), edges=(2,))]
    [(2.0, 0, 1, 1), (inf, 1, 0, 0), (inf, 1, 1, 1)]
    """
    bounds = [_check.number(edge, "edges", above=0) for edge in edges]
    if any(b <= a for a, b in pairwise(bounds)):
        raise InputError(f"edges {tuple(edges)} must increase: give volumes in mm3 from small to large")
    matched = per_instance(predicted, reference, spacing, objects=objects, criterion=criterion, threshold=threshold)
    volumes = [[one["volume"] for one in found] for found in (matched.pairs, matched.missed, matched.invented)]
    classes = zip([0.0, *bounds, 0.0], [*bounds, float("inf"), float("inf")], strict=True)
    return [_row(low, high, [sum(low <= v < high for v in found) for found in volumes]) for low, high in classes]


def _row(low: float, high: float, counts: Sequence[int]) -> dict[str, Any]:
    tp, fn, fp = counts
    return {
        "from": low, "to": high, "lesions": tp + fn, "found": tp, "missed": fn, "invented": fp,
        "sensitivity": ratio(tp, tp + fn), "precision": ratio(tp, tp + fp), "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }  # fmt: skip
