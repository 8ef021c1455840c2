"""Every error of a segmentation by itself: what kind it is, how large, how deep, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import report, track
from ..types import ImageArray, LabelArray
from . import _check, _error_depths, _labelling, _runs, _surface
from ._error_voxels import Wrong, neighbours

KINDS = ("missed", "invented", "split", "merged", "confused", "too small", "too large")


@dataclass(frozen=True)
class Error:
    """A connected piece of voxels that are wrong in the same way.

    Parameters
    ----------
    number : int
        From 1 on; its value in the map of errors.
    kind : {"missed", "invented", "split", "merged", "confused", "too small", "too large"}
        A whole object of the reference that nothing was found of, or one that was found where there is none; a gap
        that parts one object into several, or a bridge that joins several; another class; the border of an object too
        far inside, or too far outside.
    predicted, reference : int
        Labels there; 0 is background.
    voxels : int
        How many.
    volume : float
        mm3, or voxels without spacing.
    depth : float
        Largest distance of its voxels from the right border, mm: from the reference region of the label that is
        wrong, or for one that is missing, to the outside of that. Infinite where the reference has none.
    centre : tuple of float
        Index of its centre of mass.
    voxel : tuple of int
        Index of its deepest voxel, which lies in it for sure.
    probability, uncertainty : float
        Means over its voxels; NaN where not given.
    """

    number: int
    kind: str
    predicted: int
    reference: int
    voxels: int
    volume: float
    depth: float
    centre: tuple[float, ...]
    voxel: tuple[int, ...]
    probability: float = float("nan")
    uncertainty: float = float("nan")


@dataclass(frozen=True)
class Errors:
    """All errors, worst first, and where they are.

    Parameters
    ----------
    table : list of Error
        By decreasing volume.
    map : ndarray
        For each voxel the number of its error, 0 where there is none; of the smallest unsigned type that holds them.
    """

    table: list[Error]
    map: np.ndarray


def find_errors(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float] | None = None,
    *,
    probability: ImageArray | None = None,
    uncertainty: ImageArray | None = None,
) -> Errors:
    """List the errors of a segmentation: connected pieces of voxels with the same two labels.

    Parameters
    ----------
    predicted, reference : ndarray
        Whole numbers or bool, of the same shape, of one to three axes; 0 is background.
    spacing : sequence of float, optional
        mm per voxel in array order; 1 where not given.
    probability, uncertainty : ndarray, optional
        Of the same shape, to be averaged over each error.

    Returns
    -------
    Errors

    Raises
    ------
    InputError
        If shapes differ, there are more than three axes, or labels are no whole numbers.

    Notes
    -----
    Voxels of an error touch by faces, edges or corners; so do those of an object. A gap splits an object if it touches
    two or more pieces that were found of it and are at least as large as the gap; a bridge merges objects likewise.
    Distances are from voxel centre to voxel centre, exact, and worked out for the voxels of errors only: what is right
    costs no more than being read.

    Examples
    --------
    >>> found = find_errors(np.array([0, 1, 1, 1, 0, 0, 2]), np.array([0, 1, 1, 0, 0, 3, 0]))
    >>> [(error.kind, error.voxels) for error in found.table]
    [('too large', 1), ('missed', 1), ('invented', 1)]
    """
    predicted, reference = _check.labels(predicted, "predicted"), _check.labels(reference, "reference")
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    if predicted.ndim > 3:
        raise InputError(f"predicted has {predicted.ndim} axes: give one frame at a time, of three axes at most")
    steps = np.ones(predicted.ndim) if spacing is None else _check.steps(spacing, predicted.ndim)
    extra = {}
    for name, values in (("probability", probability), ("uncertainty", uncertainty)):
        if values is not None:
            extra[name] = _check.image(values, name)
            _check.same_shape(predicted, extra[name], ("predicted", name))
    _surface.expect(predicted.size)
    wrong = Wrong.between(predicted, reference)
    report("voxels that are wrong", len(wrong.index), None)
    depths = _error_depths.depths(wrong, tuple(steps.tolist()))
    kinds = _kinds(wrong)
    sizes = np.bincount(wrong.piece, minlength=wrong.count)
    deepest = _deepest(wrong, depths)
    order = np.lexsort((wrong.index[deepest], -sizes))
    means = {name: _means(wrong, values.reshape(-1)[wrong.index], sizes) for name, values in extra.items()}
    centres = [_means(wrong, axis, sizes) for axis in wrong.places(slice(None)).T[3 - predicted.ndim :]]
    voxels = wrong.places(deepest)[:, 3 - predicted.ndim :]
    volume = float(np.prod(steps))
    table = [
        Error(
            number=number,
            kind=KINDS[kinds[piece]],
            predicted=int(wrong.predicted[deepest[piece]]),
            reference=int(wrong.reference[deepest[piece]]),
            voxels=int(sizes[piece]),
            volume=int(sizes[piece]) * volume,
            depth=float(depths[deepest[piece]]),
            centre=tuple(float(axis[piece]) for axis in centres),
            voxel=tuple(voxels[piece].tolist()),
            **{name: float(values[piece]) for name, values in means.items()},
        )
        for number, piece in enumerate(track(order.tolist(), "errors"), start=1)
    ]
    names = np.empty(wrong.count, np.min_scalar_type(wrong.count))
    names[order] = np.arange(1, wrong.count + 1)
    numbers = np.zeros(predicted.shape, names.dtype)
    numbers.reshape(-1)[wrong.index] = names[wrong.piece]
    return Errors(table, numbers)


def _means(wrong: Wrong, values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean over the voxels of each error."""
    return np.bincount(wrong.piece, values.astype(float), wrong.count) / sizes


def _deepest(wrong: Wrong, depths: np.ndarray) -> np.ndarray:
    """Return the deepest of the voxels of each error, and of equal ones the first."""
    order = np.argsort(wrong.piece, kind="stable")
    starts = np.searchsorted(wrong.piece[order], np.arange(wrong.count))
    if not len(starts):
        return order
    sorted_depths = depths[order]
    most = np.maximum.reduceat(sorted_depths, starts)
    place = np.where(sorted_depths == most[wrong.piece[order]], np.arange(len(order)), len(order))
    return order[np.minimum.reduceat(place, starts)]


# What kind an error is ------------------------------------------------------------------------------------------

_MISSED, _INVENTED, _SPLIT, _MERGED, _CONFUSED, _SMALL, _LARGE = range(len(KINDS))


def _kinds(wrong: Wrong) -> np.ndarray:
    """Return the kind of each error, as a place in `KINDS`."""
    first = np.full(wrong.count, len(wrong.index))
    np.minimum.at(first, wrong.piece, np.arange(len(wrong.index)))
    kinds = np.full(wrong.count, _CONFUSED, np.int8)
    guess, truth = (_Objects(a) for a in (wrong.predicted_map, wrong.reference_map))
    for here, other, own, opposite, whole, across, part in (
        (guess, truth, wrong.predicted, wrong.reference, _INVENTED, _MERGED, _LARGE),
        (truth, guess, wrong.reference, wrong.predicted, _MISSED, _SPLIT, _SMALL),
    ):
        asked = opposite[first] == 0
        labelled = np.flatnonzero(own)
        objects = here.at(wrong.index[labelled])
        # A voxel of an object that is not wrong is one that both maps have of its label.
        met = here.sizes > np.bincount(objects, minlength=len(here.sizes))
        object_of = np.full(len(wrong.index), -1)
        object_of[labelled] = objects
        kinds[asked] = np.where(met[object_of[first[asked]]], part, whole)
        kinds[_spanning(wrong, other, own, asked)] = across
    return kinds


def _spanning(wrong: Wrong, other: "_Objects", own: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the errors that touch two or more objects of the other map, of their label, that are as large as they."""
    sizes = np.bincount(wrong.piece, minlength=wrong.count)
    chosen = np.flatnonzero(asked[wrong.piece])
    chosen = chosen[sizes[wrong.piece[chosen]] <= other.second_largest(own[chosen])]
    pairs = np.empty(0, np.int64)
    for inside, beside in neighbours(wrong, chosen):
        alike = other.labels[beside] == own[inside]
        inside, beside = inside[alike], beside[alike]
        touched, piece = other.at(beside), wrong.piece[inside]
        large = other.sizes[touched] >= sizes[piece]
        pairs = np.union1d(pairs, piece[large] * len(other.sizes) + touched[large])
    pieces, counts = np.unique(pairs // max(1, len(other.sizes)), return_counts=True)
    return pieces[counts > 1]


class _Objects:
    """The objects of a label map: connected pieces of each label."""

    def __init__(self, volume: np.ndarray) -> None:
        self.labels = volume.reshape(-1)
        found = _labelling.find(volume, 3)
        if found is None:
            regions = _runs.regions(volume, 3)
            high, wide = volume.shape[1:]
            self._starts = np.concatenate([(r.plane * high + r.row) * wide + r.start for r in regions.slabs])
            self._numbers = np.concatenate([r.region for r in regions.slabs])
            self.sizes, values = regions.size, regions.value
        else:
            lines = np.repeat(np.arange(len(found.first) - 1), np.diff(found.first))
            self._starts, self._numbers = lines * volume.shape[2] + found.starts, found.number
            self.sizes, values = found.size, np.empty(len(found.size), volume.dtype)
            values[found.number] = self.labels[self._starts]
        self._of = self._by_label(values, self.sizes)

    @staticmethod
    def _by_label(values: np.ndarray, sizes: np.ndarray) -> Mapping[int, int]:
        """Return the size of the second largest object of each label that has two."""
        order = np.lexsort((-sizes, values))
        second = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        # The first of the pairs of a label ends with the second largest.
        labels, place = np.unique(values[order][second], return_index=True)
        return dict(zip(labels.tolist(), sizes[order][second[place]].tolist(), strict=True))

    def second_largest(self, labels: np.ndarray) -> np.ndarray:
        """Return the size of the second largest object of each of some labels; 0 where there is none."""
        known, inverse = np.unique(labels, return_inverse=True)
        return np.array([self._of.get(label, 0) for label in known.tolist()], np.int64)[inverse]

    def at(self, index: np.ndarray) -> np.ndarray:
        """Return the objects that hold some voxels, which are not background."""
        return self._numbers[np.searchsorted(self._starts, index, "right") - 1]
