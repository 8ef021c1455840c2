"""Objects against objects: which ones were found, how well, and which were missed or invented."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage, optimize, sparse

from ..errors import InputError
from ..types import LabelArray
from . import _check
from ._rates import ratio


@dataclass(frozen=True)
class Instances:
    """A comparison of objects.

    Parameters
    ----------
    pairs : list of dict
        One for each match: ``predicted`` and ``reference`` (their labels), ``iou``, ``dice``, and ``volume`` of the
        reference (mm3, or voxels without spacing).
    missed, invented : list of dict
        ``label`` and ``volume`` of objects of the reference, and of the prediction, that have no match.
    tp, fp, fn : int
        Their numbers.
    recognition_quality, segmentation_quality, panoptic_quality : float
        F1 of the objects, mean IoU of the matches, and their product. NaN where there are no objects at all; the
        segmentation quality is NaN, and the panoptic one 0, where nothing matches.
    """

    pairs: list[dict[str, Any]] = field(repr=False)
    missed: list[dict[str, Any]] = field(repr=False)
    invented: list[dict[str, Any]] = field(repr=False)
    tp: int
    fp: int
    fn: int
    recognition_quality: float
    segmentation_quality: float
    panoptic_quality: float


def per_instance(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float] | None = None,
    *,
    objects: str = "labels",
    criterion: str = "iou",
    threshold: float = 0.5,
) -> Instances:
    """Match the objects of two label maps, and say which were found, missed and invented.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape; 0 is background.
    spacing : sequence of float, optional
        mm per voxel, in array order, for volumes in mm3.
    objects : {"labels", "pieces"}
        What an object is: all voxels of one label, or a connected piece (of all labels that are not 0, touching by
        faces, edges or corners).
    criterion : {"iou", "overlap"}
        Two objects match where their intersection over union is more than `threshold` (at least, for 0.5 and above);
        or where the share of the reference object that is covered is.
    threshold : float
        From 0 to 1. Each object matches one other at most: the matches together have the largest sum of the criterion.

    Returns
    -------
    Instances

    Raises
    ------
    InputError
        If the shapes differ, an array holds no whole numbers, or the threshold lies outside 0 to 1.

    References
    ----------
    A. Kirillov et al., Panoptic segmentation, CVPR 2019. F. Kofler et al., Panoptica: instance-wise evaluation of 3D
    semantic and instance segmentation maps, 2023.

    Examples
    --------
    >>> found = per_instance(np.array([1, 1, 0, 2, 0, 3]), np.array([1, 1, 0, 5, 5, 0]))
    >>> found.tp, found.fp, found.fn, round(found.panoptic_quality, 2)
    (2, 1, 0, 0.6)
    """
    predicted, reference = _check.labels(predicted, "predicted"), _check.labels(reference, "reference")
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    _check.choice(objects, ("labels", "pieces"), "objects")
    _check.choice(criterion, ("iou", "overlap"), "criterion")
    least = _check.number(threshold, "threshold", least=0)
    if least > 1:
        raise InputError(f"threshold must be at most 1, not {threshold!r}")
    voxel = 1.0 if spacing is None else float(np.prod(_check.steps(spacing, predicted.ndim)))
    if objects == "pieces":
        touching = np.ones((3,) * predicted.ndim, bool)
        predicted, reference = (ndimage.label(a != 0, touching)[0] for a in (predicted, reference))
    table = _Table(predicted, reference)
    rows, columns = table.match(criterion, least)
    pairs = [table.pair(i, j, voxel) for i, j in zip(rows, columns, strict=True)]
    pairs.sort(key=lambda pair: pair["reference"])
    missed = _left(table.of_reference, columns, voxel)
    invented = _left(table.of_predicted, rows, voxel)
    tp, fp, fn = len(pairs), len(invented), len(missed)
    recognised = ratio(2 * tp, 2 * tp + fp + fn)
    segmented = float(np.mean([pair["iou"] for pair in pairs])) if pairs else float("nan")
    panoptic = recognised * segmented if pairs else recognised
    return Instances(pairs, missed, invented, tp, fp, fn, recognised, segmented, panoptic)


class _Table:
    """Sizes of all objects, and of their intersections."""

    def __init__(self, predicted: np.ndarray, reference: np.ndarray) -> None:
        self.of_predicted, self.of_reference = _sizes(predicted), _sizes(reference)
        a, b = (np.array(list(sizes), np.int64) for sizes in (self.of_predicted, self.of_reference))
        self.labels = a, b
        both = (predicted != 0) & (reference != 0)
        code = np.searchsorted(a, predicted[both].astype(np.int64)) * max(1, len(b))
        code += np.searchsorted(b, reference[both].astype(np.int64))
        found, counts = np.unique(code, return_counts=True)
        self.common = {divmod(int(c), max(1, len(b))): int(n) for c, n in zip(found, counts, strict=True)}
        self.sizes = tuple(np.array(list(sizes.values()), float) for sizes in (self.of_predicted, self.of_reference))

    def iou(self, i: int, j: int) -> float:
        common = self.common.get((i, j), 0)
        return common / (self.sizes[0][i] + self.sizes[1][j] - common)

    def match(self, criterion: str, least: float) -> tuple[list[int], list[int]]:
        """Return places of the matches in both lists."""
        if criterion == "iou":
            values = {pair: self.iou(*pair) for pair in self.common}
        else:
            values = {(i, j): common / self.sizes[1][j] for (i, j), common in self.common.items()}
        # At 0.5 and above an object cannot reach the threshold with two others, but for exact halves.
        fitting = {pair: v for pair, v in values.items() if (v >= least if least >= 0.5 else v > least)}
        if not fitting:
            return [], []
        chosen = [pair for group in self._apart(fitting) for pair in _best(group)]
        return [i for i, _ in chosen], [j for _, j in chosen]

    def _apart(self, fitting: dict[tuple[int, int], float]) -> list[dict[tuple[int, int], float]]:
        """Return groups of possible matches that have no object in common: hardly ever more than a few each."""
        first = len(self.sizes[0])
        i, j = np.array(list(fitting)).T
        nodes = first + len(self.sizes[1])
        graph = sparse.coo_matrix((np.ones(len(i), bool), (i, j + first)), (nodes, nodes))
        owner = sparse.csgraph.connected_components(graph, directed=False)[1]
        groups: dict[int, dict[tuple[int, int], float]] = {}
        for pair, value in fitting.items():
            groups.setdefault(int(owner[pair[0]]), {})[pair] = value
        return list(groups.values())

    def pair(self, i: int, j: int, voxel: float) -> dict[str, Any]:
        common = self.common[i, j]
        return {
            "predicted": int(self.labels[0][i]),
            "reference": int(self.labels[1][j]),
            "iou": float(self.iou(i, j)),
            "dice": float(2 * common / (self.sizes[0][i] + self.sizes[1][j])),
            "volume": float(self.sizes[1][j] * voxel),
        }


def _best(group: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return the matches of a group that have the largest sum, each object at most once."""
    if len(group) == 1:
        return list(group)
    rows, columns = (sorted({pair[side] for pair in group}) for side in (0, 1))
    gain = np.zeros((len(rows), len(columns)))
    row, column = ({n: at for at, n in enumerate(names)} for names in (rows, columns))
    for (i, j), value in group.items():
        gain[row[i], column[j]] = value
    found = zip(*optimize.linear_sum_assignment(gain, maximize=True), strict=True)
    return [(rows[r], columns[c]) for r, c in found if gain[r, c] > 0]


def _sizes(labels: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each label but 0, in increasing order."""
    values, counts = np.unique(labels, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0}


def _left(sizes: dict[int, int], matched: list[int], voxel: float) -> list[dict[str, Any]]:
    taken = set(matched)
    return [{"label": v, "volume": n * voxel} for at, (v, n) in enumerate(sizes.items()) if at not in taken]
