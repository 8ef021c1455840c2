"""Numbers that are read off labels: volumes, grey values, the ellipse of an outline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..progress import track
from ..types import ImageArray, LabelArray
from . import _check, _tiles

_SLAB = 1 << 21


def label_table(labels: LabelArray, spacing: Sequence[float], image: ImageArray | None = None) -> list[dict[str, Any]]:
    """Measure every label: its size, and the grey values of the image under it.

    Parameters
    ----------
    labels : ndarray
        (z, y, x) or (y, x), whole numbers; 0 is background and not measured.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order. Three values for a 2D array are those of one slice, its
        thickness first.
    image : ndarray, optional
        Grey values, of the shape of `labels`.

    Returns
    -------
    list of dict
        One row a label, by increasing value: ``label``, ``voxels``, ``volume_ml`` (``area_mm2`` where two spacings are
        given), and with an image ``mean``, ``std`` (of the voxels at hand, divided by their number), ``min`` and
        ``max`` as floats. NaN voxels of the image are left out of these four, which are NaN where none remains;
        infinite values take part.

    Raises
    ------
    InputError
        If `labels` are no whole numbers, the shapes differ, or the spacing does not fit.

    Examples
    --------
    >>> label_table(np.array([[0, 1], [1, 2]]), (10, 10, 10), np.array([[5, 1], [2, 7]]))[0]
    {'label': 1, 'voxels': 2, 'volume_ml': 2.0, 'mean': 1.5, 'std': 0.5, 'min': 1.0, 'max': 2.0}
    """
    labels = _check.labels(labels, dims=(2, 3))
    steps = _spacing(spacing, labels.ndim)
    if image is not None:
        image = _check.image(image)
        _check.same_shape(labels, image, ("labels", "image"))
    values = _values(labels)
    tally = _Tally(len(values))
    for slab in track(_tiles.slabs(labels.shape, _SLAB), "slabs"):
        tally.count(*_members(labels[slab], values, None if image is None else image[slab]))
    if image is not None:
        mean = tally.mean()
        for slab in track(_tiles.slabs(labels.shape, _SLAB), "slabs"):
            tally.spread(mean, *_members(labels[slab], values, image[slab]))
    unit = float(np.prod(steps))
    rows = []
    for place, value in enumerate(values.tolist()):
        voxels = int(tally.voxels[place])
        size = {"volume_ml": voxels * unit / 1000} if len(steps) == 3 else {"area_mm2": voxels * unit}
        rows.append({"label": value, "voxels": voxels, **size, **(tally.row(place) if image is not None else {})})
    return rows


def _spacing(spacing: Sequence[float], ndim: int) -> np.ndarray:
    wanted = 3 if ndim == 3 or np.size(spacing) == 3 else 2
    steps = _check.vector(spacing, "spacing", wanted)
    if not (steps > 0).all():
        raise InputError(f"spacing must be greater than zero mm, not {tuple(steps.tolist())}")
    return steps


def _values(labels: np.ndarray) -> np.ndarray:
    """Return the label values that occur, without 0."""
    found = [np.unique(labels[slab]) for slab in track(_tiles.slabs(labels.shape, _SLAB), "slabs")]
    values = np.unique(np.concatenate(found))
    return values[values != 0]


def _members(labels: np.ndarray, values: np.ndarray, image: np.ndarray | None):
    """Return the place in `values` of every labelled voxel, and its grey value."""
    inside = labels != 0
    place = np.searchsorted(values, labels[inside])
    return place, None if image is None else image[inside].astype(np.float64)


class _Tally:
    """Sums over the voxels of every label."""

    def __init__(self, count: int) -> None:
        self.voxels = np.zeros(count, np.int64)
        self.valid = np.zeros(count, np.int64)
        self.sum, self.squares = np.zeros(count), np.zeros(count)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)

    def count(self, place: np.ndarray, grey: np.ndarray | None) -> None:
        self.voxels += np.bincount(place, minlength=len(self.voxels))
        if grey is None:
            return
        valid = ~np.isnan(grey)
        place, grey = place[valid], grey[valid]
        self.valid += np.bincount(place, minlength=len(self.voxels))
        self.sum += np.bincount(place, grey, minlength=len(self.voxels))
        np.minimum.at(self.low, place, grey)
        np.maximum.at(self.high, place, grey)

    def mean(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.where(self.valid > 0, self.sum / np.maximum(self.valid, 1), np.nan)

    def spread(self, mean: np.ndarray, place: np.ndarray, grey: np.ndarray) -> None:
        valid = ~np.isnan(grey)
        place, grey = place[valid], grey[valid]
        with np.errstate(invalid="ignore", over="ignore"):
            self.squares += np.bincount(place, (grey - mean[place]) ** 2, minlength=len(mean))

    def row(self, place: int) -> dict[str, float]:
        if not self.valid[place]:
            return dict.fromkeys(("mean", "std", "min", "max"), float("nan"))
        count = self.valid[place]
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = self.sum[place] / count, np.sqrt(self.squares[place] / count)
        return {"mean": float(mean), "std": float(std), "min": float(self.low[place]), "max": float(self.high[place])}


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in a plane; lengths in mm.

    Parameters
    ----------
    centre : tuple of float
        (y, x) in mm from the centre of pixel (0, 0).
    semi_axes : tuple of float
        Longer and shorter semi-axis, mm.
    angle : float
        Direction of the longer axis in degrees, from +x (right) towards +y (down), from -90 up to but without 90.
    """

    centre: tuple[float, float]
    semi_axes: tuple[float, float]
    angle: float

    @property
    def circumference(self) -> float:
        """Length of the outline in mm, by Ramanujan's second approximation (relative error below 0.05 %)."""
        a, b = self.semi_axes
        h = ((a - b) / (a + b)) ** 2
        return float(np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))

    @property
    def area(self) -> float:
        """Area in mm2."""
        return float(np.pi * self.semi_axes[0] * self.semi_axes[1])


def ellipse_fit(mask: LabelArray, spacing: Sequence[float]) -> Ellipse:
    """Fit the ellipse that has the centre and the second moments of a region.

    For a region that is an ellipse these are its own axes; its circumference is the head circumference where the
    region is a fetal head. Holes count as holes, and several pieces as one region: fill and select first.

    Parameters
    ----------
    mask : ndarray
        (y, x); every voxel that is not 0 belongs to the region.
    spacing : sequence of float
        (y, x) distance of neighbouring pixels in mm.

    Returns
    -------
    Ellipse
        Pixels count as rectangles of the size of the spacing, so that a single one still has an extent.

    Raises
    ------
    InputError
        If the mask is not 2D, holds no region, or the spacing does not fit.

    References
    ----------
    R. M. Haralick and L. G. Shapiro, Computer and Robot Vision, vol. 1, appendix A (moments of an ellipse);
    S. Ramanujan, Modular equations and approximations to pi, 1914 (circumference).

    Examples
    --------
    >>> y, x = np.mgrid[-50:51, -50:51]
    >>> fit = ellipse_fit((x / 40.0) ** 2 + (y / 20.0) ** 2 <= 1, (0.5, 0.5))
    >>> [round(s, 1) for s in fit.semi_axes], round(fit.circumference, 1)
    ([20.0, 10.0], 96.9)
    """
    mask = _check.labels(mask, "mask", dims=(2,))
    steps = _check.vector(spacing, "spacing", 2)
    if not (steps > 0).all():
        raise InputError(f"spacing must be greater than zero mm, not {tuple(steps.tolist())}")
    points = np.argwhere(mask) * steps
    if not len(points):
        raise InputError("mask holds no region: there is nothing to fit an ellipse to")
    centre = points.mean(axis=0)
    moments = (points - centre).T @ (points - centre) / len(points) + np.diag(steps**2 / 12)
    variances, vectors = np.linalg.eigh(moments)
    down, right = vectors[:, 1]
    angle = (np.degrees(np.arctan2(down, right)) + 90) % 180 - 90
    short, long = 2 * np.sqrt(variances)
    return Ellipse((float(centre[0]), float(centre[1])), (float(long), float(short)), float(angle))
