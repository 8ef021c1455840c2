"""Dice of every label of a pair of label maps, kept current as voxels change: only what changed is counted."""

from itertools import pairwise

import numpy as np

from ...progress import track

# Largest label that a list of all labels up to it is made for, and voxels between two chances to cancel.
_FEW = 1 << 16
_SLAB = 1 << 22
PREDICTED, REFERENCE = 0, 1
_BOTH = 2
# By label: voxels of the prediction, of the reference, and of both.
Counts = dict[int, list[int]]


class Score:
    """Counts of two label maps of one shape, with copies of them that tell later what has changed.

    Parameters
    ----------
    predicted, reference : ndarray of int
        Copies that nobody else writes to, of the same shape.

    Examples
    --------
    >>> score = Score(np.array([1, 1, 0, 2]), np.array([1, 0, 0, 2]))
    >>> score.dice()
    {1: 0.6666666666666666, 2: 1.0}
    >>> score.update(PREDICTED, (np.array([1]),), np.array([0]))
    >>> score.mean()
    1.0
    """

    def __init__(self, predicted: np.ndarray, reference: np.ndarray, *others: np.ndarray) -> None:
        self.maps = [predicted, reference, *others]
        self._counts: Counts = {}
        for slab in track(slabs(predicted.shape), "slabs counted"):
            self._add(1, *(one[slab] for one in self.maps))

    def update(self, which: int, at: tuple[np.ndarray, ...], values: np.ndarray) -> None:
        """Take new values of some voxels of one of the maps; no voxel may be named twice."""
        before = [one[at] for one in self.maps]
        after = list(before)
        after[which] = np.asarray(values)
        self._add(-1, *before)
        self.maps[which][at] = values
        self._add(1, *after)

    def _add(self, sign: int, *maps: np.ndarray) -> None:
        """Count some voxels of all maps, or with -1 no longer."""
        _count(self._counts, sign, *maps)

    def dice(self) -> dict[int, float]:
        """Return the Dice coefficient of every label that either map has, by label."""
        return _dice(self._counts)

    def mean(self) -> float:
        """Return the mean over the labels that either map has; NaN where there is none."""
        found = self.dice()
        return sum(found.values()) / len(found) if found else float("nan")


class VersusScore(Score):
    """Counts of two predictions against one reference.

    Parameters
    ----------
    second, reference, first : ndarray of int
        Copies that nobody else writes to, of the same shape.

    Examples
    --------
    >>> score = VersusScore(np.array([1, 1, 0, 2]), np.array([1, 0, 0, 2]), np.array([1, 0, 2, 2]))
    >>> score.gained, score.lost, score.dice_first()
    (1, 1, {1: 1.0, 2: 0.6666666666666666})
    >>> score.update(PREDICTED, (np.array([1]),), np.array([0]))
    >>> score.gained, score.lost
    (1, 0)
    """

    def __init__(self, second: np.ndarray, reference: np.ndarray, first: np.ndarray) -> None:
        # Voxels that are wrong in the first and right in the second, and the other way round.
        self.gained = self.lost = 0
        self._of_first: Counts = {}
        super().__init__(second, reference, first)

    def _add(self, sign: int, *maps: np.ndarray) -> None:
        second, reference, first = maps
        _count(self._counts, sign, second, reference)
        _count(self._of_first, sign, first, reference)
        before, after = first == reference, second == reference
        self.gained += sign * int(np.count_nonzero(after & ~before))
        self.lost += sign * int(np.count_nonzero(before & ~after))

    def dice_first(self) -> dict[int, float]:
        """Return the Dice coefficient of every label that the first prediction or the reference has, by label."""
        return _dice(self._of_first)


def _count(counts: Counts, sign: int, predicted: np.ndarray, reference: np.ndarray) -> None:
    for place, values in ((PREDICTED, predicted), (REFERENCE, reference), (_BOTH, predicted[predicted == reference])):
        for label, count in counted(values).items():
            if label:
                counts.setdefault(label, [0, 0, 0])[place] += sign * count


def _dice(counts: Counts) -> dict[int, float]:
    return {
        label: 2 * both / (first + second) for label, (first, second, both) in sorted(counts.items()) if first or second
    }


def counted(values: np.ndarray) -> dict[int, int]:
    """Return how often each value occurs."""
    values = np.asarray(values).ravel()
    if values.size == 0:
        return {}
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    if values.min() >= 0 and values.max() <= _FEW:
        counts = np.bincount(values)
        return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
    labels, counts = np.unique(values, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def slabs(shape: tuple[int, ...]) -> list[slice]:
    """Return slices of the first axis that each hold some million voxels."""
    count = min(shape[0], max(1, -(-int(np.prod(shape)) // _SLAB)))
    edges = np.linspace(0, shape[0], count + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges)]


def changed(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the flat indices of the voxels that differ."""
    found = [np.zeros(0, np.int64)]
    layer = int(np.prod(now.shape[1:]))
    for slab in track(slabs(now.shape), "slabs compared"):
        found.append(np.flatnonzero(now[slab] != before[slab]) + slab.start * layer)
    return np.concatenate(found)
