"""Agreement of two segmentations.

Surfaces are made of voxels: those of a region that have a neighbour outside of it across a face (an edge in 2D); what
lies beyond the border of the image is outside. That is the rule of MONAI, Metrics Reloaded and SimpleITK's contours;
distances go from the centre of such a voxel to the centre of the nearest one of the other surface. That is
``convention="voxels"``. ``convention="deepmind"`` follows DeepMind's surface-distance: the surface is made of pieces
between the voxels, one around each corner where inside and outside meet, and each counts by its area (in 2D by its
length) as marching cubes has it there.

What distances take beside the masks is bounded, 64 MiB whatever the size of the image: surfaces for which that is too
little are compared box by box, some times as slowly. The distances are the same; only sums, and so means, may differ in
their last digit.

Three cases in which there is nothing to measure have three answers:

- both regions are empty: NaN, there is nothing to compare;
- one of them is empty: the region was missed, or there is none; distances are infinite and ratios are 0;
- the reference says nothing about a label (`surface_agreement`, `not_annotated`): None, the question does not apply.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InputError
from ..progress import track
from ..types import LabelArray
from . import _check, _surface, _surface_boxes, _surfels, _tiles
from ._agreement import bland_altman, bootstrap, cohen_kappa, compare_paired, icc
from ._detection import detections, froc, lesions_by_size
from ._distribution import Side
from ._doubts import find_doubts
from ._errors import find_errors
from ._instances import per_instance
from ._outlines import boundary_iou, centreline_dice
from ._rates import rates
from ._regions import values_of
from ._rules import RULES, Rule
from ._scores import brier, calibration, precision_recall, roc
from ._slices import per_slice
from ._versus import compare_errors

__all__ = [
    "RULES", "Rule", "assd", "bland_altman", "bootstrap", "boundary_iou", "brier", "calibration", "centreline_dice",
    "cohen_kappa", "compare_errors", "compare_paired", "confusion", "detections", "dice", "find_doubts", "find_errors",
    "froc", "hausdorff", "icc", "lesions_by_size", "masd", "per_instance", "per_slice", "precision_recall", "rates",
    "roc", "surface_agreement", "surface_dice",
]  # fmt: skip

_SLAB = 1 << 22
_NAN, _INF = float("nan"), float("inf")

Convention = Literal["voxels", "deepmind"]


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


def hausdorff(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    percentile: float = 95,
    label: int | None = None,
    convention: Convention = "voxels",
) -> float:
    """Return a percentile of the Hausdorff distance of two regions: how far their surfaces lie apart, in mm.

    Parameters
    ----------
    predicted, reference : ndarray
        (y, x) or (z, y, x), whole numbers or bool, of the same shape; which is which does not matter.
    spacing : tuple of float
        Size of a voxel along each axis, in mm.
    percentile : float
        Above 0 and up to 100. 100 is the Hausdorff distance itself, which a single stray voxel decides; 95 (HD95)
        leaves out the worst twentieth of each surface.
    label : int, optional
        Value of the region in both; everything that is not 0 where not given.
    convention : {"voxels", "deepmind"}
        What a surface is made of, as at the top of this module.

    Returns
    -------
    float
        The larger of the two percentiles, of the distances from each surface to the other; between two distances it
        is interpolated (with pieces of surface, it is the first distance up to which that share of the area lies).
        NaN where both regions are empty, infinite where one is.

    Raises
    ------
    InputError
        If the shapes differ, an array holds no whole numbers, or a spacing or the percentile is out of range.

    Notes
    -----
    Equals MONAI's ``compute_hausdorff_distance``. SimpleITK's HausdorffDistanceImageFilter measures from all voxels of
    a region, not only those of its surface, and so gives less where one region lies inside the other.

    References
    ----------
    D. P. Huttenlocher, G. A. Klanderman and W. J. Rucklidge, Comparing images using the Hausdorff distance, IEEE Trans.
    PAMI 15(9), 1993; A. A. Taha and A. Hanbury, Metrics for evaluating 3D medical image segmentation, BMC Medical
    Imaging 15:29, 2015; for pieces of surface S. Nikolov et al., Deep learning to achieve clinically applicable
    segmentation of head and neck anatomy for radiotherapy, arXiv:1809.04430, 2018.

    Examples
    --------
    >>> hausdorff(np.array([[1, 1, 0, 0]]), np.array([[1, 1, 1, 1]]), (1.0, 0.5), percentile=100)
    1.0
    """
    percentile = _check.number(percentile, "percentile", above=0)
    if percentile > 100:
        raise InputError(f"percentile must be at most 100, not {percentile:g}")
    return _apart(predicted, reference, spacing, label, convention, [percentile]).hausdorff()


def assd(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    label: int | None = None,
    convention: Convention = "voxels",
) -> float:
    """Return the average symmetric surface distance of two regions, in mm: of the points of both surfaces together.

    Parameters
    ----------
    predicted, reference, spacing, label, convention
        As in `hausdorff`.

    Returns
    -------
    float
        Mean distance of all points of either surface to the other surface. NaN where both regions are empty, infinite
        where one is.

    Raises
    ------
    InputError
        As `hausdorff`.

    References
    ----------
    T. Heimann et al., Comparison and evaluation of methods for liver segmentation from CT datasets, IEEE Trans.
    Medical Imaging 28(8), 2009.

    Examples
    --------
    >>> assd(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 1]]), (1.0, 1.0))
    1.2
    """
    return _apart(predicted, reference, spacing, label, convention).assd


def masd(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    label: int | None = None,
    convention: Convention = "voxels",
) -> float:
    """Return the mean average surface distance of two regions, in mm: the mean of both directions.

    Parameters
    ----------
    predicted, reference, spacing, label, convention
        As in `hausdorff`.

    Returns
    -------
    float
        Half the sum of the mean distance of the first surface to the second and of the second to the first, so that
        the larger surface counts no more than the smaller. NaN where both regions are empty, infinite where one is.

    Raises
    ------
    InputError
        As `hausdorff`.

    References
    ----------
    L. Maier-Hein, A. Reinke et al., Metrics reloaded: recommendations for image analysis validation, Nature Methods
    21, 2024.

    Examples
    --------
    >>> masd(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 1]]), (1.0, 1.0))
    0.75
    """
    return _apart(predicted, reference, spacing, label, convention).masd


def surface_dice(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    tolerance: float,
    label: int | None = None,
    convention: Convention = "voxels",
) -> float:
    """Return the share of two surfaces that lies within a tolerance of the other: the normalised surface distance.

    Parameters
    ----------
    predicted, reference, spacing, label, convention
        As in `hausdorff`.
    tolerance : float
        Largest distance that is as good as none, in mm, included; 0 for points that both surfaces share.

    Returns
    -------
    float
        From 0 to 1; the points of both surfaces are counted together. 0 where one region is empty; NaN where both are.

    Raises
    ------
    InputError
        As `hausdorff`, and if the tolerance is negative.

    References
    ----------
    S. Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy for
    radiotherapy, arXiv:1809.04430, 2018: there with ``convention="deepmind"``; by default points are counted, as in
    MONAI and Metrics Reloaded.

    Examples
    --------
    >>> surface_dice(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 1]]), (1.0, 1.0), tolerance=1.0)
    0.6
    """
    tolerance = _check.number(tolerance, "tolerance", least=0)
    return _apart(predicted, reference, spacing, label, convention, tolerance=tolerance).surface_dice


def surface_agreement(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    tolerance: float = 1.0,
    labels: Sequence[int] | None = None,
    not_annotated: Sequence[int] = (),
    convention: Convention = "voxels",
) -> list[dict[str, Any]]:
    """Measure, label by label, how far the surfaces of two segmentations lie apart.

    Parameters
    ----------
    predicted, reference, spacing
        As in `hausdorff`. `reference` is taken as the truth.
    tolerance : float
        Of the surface Dice, in mm.
    labels : sequence of int, optional
        Values to compare; every value but 0 that occurs in either where not given.
    not_annotated : sequence of int
        Labels that the reference does not tell: nothing can be said about them.
    convention : {"voxels", "deepmind"}
        What a surface is made of, as in `hausdorff`.

    Returns
    -------
    list of dict
        One row a label: ``label``; ``state``, which is ``"compared"``, ``"missed"`` (the prediction has none of it),
        ``"extra"`` (the reference has none), ``"absent"`` (neither has) or ``"not annotated"``; ``hd``, ``hd95``,
        ``assd`` and ``masd`` in mm; and ``surface_dice``. In rows that are missed or extra, distances are infinite and
        the surface Dice is 0; in absent ones all are NaN, in those not annotated None.

    Raises
    ------
    InputError
        As `hausdorff`, and if the tolerance is negative.

    References
    ----------
    L. Maier-Hein, A. Reinke et al., Metrics reloaded: recommendations for image analysis validation, Nature Methods
    21, 2024.

    Examples
    --------
    >>> row = surface_agreement(np.array([[2, 2, 0, 0]]), np.array([[2, 2, 2, 2]]), (1.0, 1.0))[0]
    >>> row["label"], row["state"], row["hd"], row["surface_dice"]
    (2, 'compared', 2.0, 0.8333333333333334)
    """
    tolerance = _check.number(tolerance, "tolerance", least=0)
    predicted, reference = _pair(predicted, reference, dims=(2, 3))
    if labels is None:
        labels = sorted({*values_of(predicted).tolist(), *values_of(reference).tolist(), *map(int, not_annotated)})
    rows = []
    for label in track([int(label) for label in labels], "labels"):
        if label in not_annotated:
            measures = dict.fromkeys(("hd", "hd95", "assd", "masd", "surface_dice"))
            rows.append({"label": label, "state": "not annotated", **measures})
            continue
        apart = _apart(predicted, reference, spacing, label, convention, (100, 95), tolerance)
        measures = {"hd": apart.hausdorff(0), "hd95": apart.hausdorff(1), "assd": apart.assd, "masd": apart.masd}
        rows.append({"label": label, "state": apart.state, **measures, "surface_dice": apart.surface_dice})
    return rows


class _Apart(NamedTuple):
    """Two surfaces, and how far their points lie apart; `sides` is empty where one of them is."""

    state: str
    sides: tuple[Side, ...]

    def _unless_empty(self, lost: float) -> float | None:
        return {"absent": _NAN, "compared": None}.get(self.state, lost)

    def hausdorff(self, which: int = 0) -> float:
        """Return one of the percentiles that were asked for."""
        if (answer := self._unless_empty(_INF)) is not None:
            return answer
        return max(side.percentiles[which] for side in self.sides)

    @property
    def assd(self) -> float:
        if (answer := self._unless_empty(_INF)) is not None:
            return answer
        return sum(side.total for side in self.sides) / sum(side.whole for side in self.sides)

    @property
    def masd(self) -> float:
        if (answer := self._unless_empty(_INF)) is not None:
            return answer
        return sum(side.total / side.whole for side in self.sides) / 2

    @property
    def surface_dice(self) -> float:
        if (answer := self._unless_empty(0.0)) is not None:
            return answer
        return sum(side.within for side in self.sides) / sum(side.whole for side in self.sides)


def _apart(
    predicted: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    label: int | None,
    convention: str,
    percentiles: Sequence[float] = (),
    tolerance: float = 0.0,
) -> _Apart:
    """Measure two surfaces: some percentiles of their distances, and how many lie within a tolerance."""
    predicted, reference = _pair(predicted, reference, dims=(2, 3))
    steps = tuple(_check.steps(spacing, predicted.ndim).tolist())
    if _check.choice(convention, ("voxels", "deepmind"), "convention") == "voxels":
        source = _surface_boxes.Voxels((predicted, reference), label)
    else:
        source = _surfels.Corners((predicted, reference), label, steps)
    lost, sides = _surface_boxes.measured(source, _surface.whole_steps(steps), percentiles, tolerance)
    state = {(True, True): "absent", (True, False): "missed", (False, True): "extra"}.get(lost, "compared")
    return _Apart(state, sides)


def _pair(predicted, reference, dims: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    predicted, reference = _check.labels(predicted, "predicted", dims), _check.labels(reference, "reference", dims)
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    return predicted, reference


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
