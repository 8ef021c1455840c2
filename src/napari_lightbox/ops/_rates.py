"""All rates of a two by two table."""

import math

from ..errors import InputError


def rates(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """Return every rate of the textbook from the four counts of a comparison with the truth.

    Parameters
    ----------
    tp, fp, fn, tn : int
        Voxels (or objects, or cases) found and true, found but not true, true but not found, and neither.

    Returns
    -------
    dict
        By name, in the order of a report. A rate whose denominator is 0 is NaN: it does not apply.

        ``accuracy``, ``balanced_accuracy``, ``sensitivity`` (recall, TPR), ``specificity`` (TNR), ``precision`` (PPV),
        ``npv``, ``f1`` (Dice), ``jaccard`` (IoU), ``fpr``, ``fnr``, ``fdr``, ``for``, ``informedness`` (Youden's J),
        ``markedness``, ``mcc``, ``fowlkes_mallows``, ``lr_positive``, ``lr_negative``, ``odds_ratio``, ``prevalence``,
        ``volumetric_similarity``. Likelihood and odds ratios may be infinite.

    Raises
    ------
    InputError
        If a count is negative or no whole number.

    References
    ----------
    T. Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27, 2006. D. M. W. Powers, Evaluation:
    from precision, recall and F-measure to ROC, informedness, markedness and correlation, 2011. A. A. Taha and A.
    Hanbury, Metrics for evaluating 3D medical image segmentation, BMC Medical Imaging 15:29, 2015 (volumetric
    similarity).

    Examples
    --------
    >>> found = rates(tp=8, fp=2, fn=4, tn=86)
    >>> round(found["sensitivity"], 3), round(found["precision"], 3), round(found["mcc"], 3)
    (0.667, 0.8, 0.698)
    """
    for name, count in (("tp", tp), ("fp", fp), ("fn", fn), ("tn", tn)):
        if not math.isfinite(count) or count != int(count) or count < 0:
            raise InputError(f"{name} must be a whole number of at least 0, not {count!r}")
    # Python's integers do not overflow, as products of voxel counts would.
    tp, fp, fn, tn = int(tp), int(fp), int(fn), int(tn)
    total, positive, negative, found, left = tp + fp + fn + tn, tp + fn, tn + fp, tp + fp, tn + fn
    sensitivity, specificity = ratio(tp, positive), ratio(tn, negative)
    precision, npv = ratio(tp, found), ratio(tn, left)
    return {
        "accuracy": ratio(tp + tn, total),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": precision,
        "npv": npv,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": ratio(tp, tp + fp + fn),
        "fpr": ratio(fp, negative),
        "fnr": ratio(fn, positive),
        "fdr": ratio(fp, found),
        "for": ratio(fn, left),
        "informedness": sensitivity + specificity - 1,
        "markedness": precision + npv - 1,
        "mcc": _over_root(tp * tn - fp * fn, positive * negative * found * left),
        "fowlkes_mallows": _over_root(tp, positive * found),
        "lr_positive": _quotient(sensitivity, ratio(fp, negative)),
        "lr_negative": _quotient(ratio(fn, positive), specificity),
        "odds_ratio": _quotient(float(tp * tn), float(fp * fn)),
        "prevalence": ratio(positive, total),
        "volumetric_similarity": 1 - ratio(abs(fn - fp), 2 * tp + fp + fn),
    }


def ratio(part: int, whole: int) -> float:
    """Return a quotient of counts; NaN where there is nothing to divide by."""
    return part / whole if whole else math.nan


def _over_root(value: int, square: int) -> float:
    return value / math.sqrt(square) if square else math.nan


def _quotient(a: float, b: float) -> float:
    """Return a / b: infinite over 0, NaN for 0 / 0."""
    if b == 0:
        return math.inf if a > 0 else math.nan
    return a / b
