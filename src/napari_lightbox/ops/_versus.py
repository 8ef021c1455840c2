"""Two segmentations of one case against its reference: which errors the second mends, and which it makes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import LabelArray
from . import _check
from ._errors import Error, Errors, find_errors

OUTCOMES = ("mended", "better", "kept", "worse", "new")


@dataclass(frozen=True)
class Change:
    """What became of an error.

    Parameters
    ----------
    outcome : {"mended", "better", "kept", "worse", "new"}
        Of an error of the first: all of it is right in the second, some is, or none. Of an error of the second: some of
        it was right in the first, or all was.
    error : Error
        Of the first for the first three outcomes, of the second for the others; its `number` is that in its map.
    voxels : int
        How many of its voxels changed: to right for the first three outcomes, to wrong for the others.
    volume : float
        The same in mm3, or in voxels without spacing.
    """

    outcome: str
    error: Error
    voxels: int
    volume: float


@dataclass(frozen=True)
class Versus:
    """All changes from the first to the second, the largest first.

    Parameters
    ----------
    changes : list of Change
        Errors of the second that were all there in the first are not listed again: they are among its kept ones.
    first, second : Errors
        All errors of both, with their maps.
    gained, lost : int
        Voxels that were wrong in the first and are right in the second, and the other way round.
    """

    changes: list[Change]
    first: Errors
    second: Errors
    gained: int
    lost: int


def compare_errors(
    first: LabelArray, second: LabelArray, reference: LabelArray, spacing: Sequence[float] | None = None
) -> Versus:
    """Compare the errors of two segmentations, error by error: what got better, and what got worse.

    Parameters
    ----------
    first, second : ndarray
        What is compared, such as an older and a newer model: whole numbers or bool, of one to three axes.
    reference : ndarray
        The truth, of the same shape.
    spacing : sequence of float, optional
        mm per voxel in array order.

    Returns
    -------
    Versus

    Raises
    ------
    InputError
        If shapes differ, or labels are no whole numbers.

    Notes
    -----
    A voxel is right where it has the label of the reference; one that is wrong in both, in whatever way, has not
    changed. Outcomes are of voxels, so a border that moved by one voxel is "better" where the first was wrong and
    "worse" where the second is.

    Examples
    --------
    >>> truth = np.array([1, 1, 1, 0, 0, 0, 2, 2])
    >>> found = compare_errors(np.array([1, 1, 0, 0, 0, 0, 0, 0]), np.array([1, 1, 1, 0, 3, 0, 0, 2]), truth)
    >>> [(change.outcome, change.error.kind, change.voxels) for change in found.changes]
    [('mended', 'too small', 1), ('better', 'missed', 1), ('new', 'invented', 1)]
    """
    maps = [_check.labels(a, name) for a, name in ((first, "first"), (second, "second"), (reference, "reference"))]
    for array, name in zip(maps[:2], ("first", "second"), strict=True):
        _check.same_shape(array, maps[2], (name, "reference"))
    found = [find_errors(array, maps[2], spacing) for array in maps[:2]]
    wrong = [errors.map.reshape(-1) for errors in found]
    voxel = 1.0 if spacing is None else float(np.prod(_check.steps(spacing, maps[2].ndim)))
    changes = []
    counts = []
    for errors, own, other, whole, part in (
        (found[0], wrong[0], wrong[1], "mended", "better"),
        (found[1], wrong[1], wrong[0], "new", "worse"),
    ):
        places = np.flatnonzero(own)
        places = places[other[places] == 0]
        changed = np.bincount(own[places], minlength=len(errors.table) + 1).tolist()
        counts.append(len(places))
        for error in errors.table:
            count = changed[error.number]
            if count or own is wrong[0]:
                outcome = whole if count == error.voxels else part if count else "kept"
                changes.append(Change(outcome, error, count, count * voxel))
    changes.sort(key=lambda change: (-change.voxels, OUTCOMES.index(change.outcome), -change.error.voxels))
    return Versus(changes, *found, *counts)
