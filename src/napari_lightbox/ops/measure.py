"""Numbers that are read off labels: volumes, grey values, the ellipse of an outline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..progress import track
from ..types import ImageArray, LabelArray
from ..volume import Volume
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


def table(labels: Volume, image: Volume | None = None) -> list[dict[str, Any]]:
    """Measure every label of a volume where it lies in the patient.

    Parameters
    ----------
    labels : Volume
        Of kind ``"labels"``, or a mask of bool.
    image : Volume, optional
        Grey values on the same grid; of one frame, or of as many as the labels.

    Returns
    -------
    list of dict
        A row for every label of every frame: ``frame`` (index; None without frames), ``label``, ``name``, ``voxels``;
        ``volume_mm3`` and ``volume_ml`` (``area_mm2`` of a single slice; None where the spacing is unknown); ``x_mm``,
        ``y_mm``, ``z_mm``: the centroid in LPS; ``x_first`` to ``z_last``: the first and the last voxel of the bounding
        box along the stored axes, counted from 0; and with an image ``mean``, ``sd``, ``min``, ``max`` as `label_table`
        has them.

    Raises
    ------
    InputError
        If `labels` is an image.
    GridError
        If the image lies on another grid.

    Examples
    --------
    >>> cube = np.zeros((4, 4, 4), np.uint8)
    >>> cube[1:3, 1:3, 2] = 5
    >>> volume = Volume.from_array(cube, spacing=(2, 1, 1), kind="labels", labels={5: "node"})
    >>> row = table(volume)[0]
    >>> row["name"], row["volume_mm3"], row["x_mm"], row["z_mm"], row["y_first"], row["y_last"]
    ('node', 8.0, 2.0, 3.0, 1, 2)
    """
    if labels.kind != "labels" and np.dtype(labels.data.dtype).kind != "b":
        raise InputError(f"{labels.name!r} holds grey values: give labels, or open the file with kind='labels'")
    if image is not None:
        labels.grid.require_same_space(image.grid, f"{labels.name!r} and {image.name!r}")
        if image.frame_count not in (1, labels.frame_count):
            raise InputError(
                f"{image.name!r} has {image.frame_count} frames, the labels {labels.frame_count}: give one, or as many"
            )
    rows = []
    for index in range(labels.frame_count):
        data = np.asarray(labels.frame(index).data)
        grey = None if image is None else np.asarray(image.frame(index if image.frame_count > 1 else 0).data)
        found = label_table(data, labels.grid.spacing, grey)
        middles, first, last = _places(_check.labels(data), np.array([row["label"] for row in found], data.dtype))
        for row, middle, low, high in zip(found, labels.grid.to_world(middles), first, last, strict=True):
            label = labels.labels.get(row["label"])
            place = {f"{axis}_mm": float(value) for axis, value in zip("zyx", middle, strict=True)}
            box = {f"{axis}_first": int(value) for axis, value in zip("zyx", low, strict=True)}
            box |= {f"{axis}_last": int(value) for axis, value in zip("zyx", high, strict=True)}
            rows.append(
                {
                    "frame": index if labels.grid.frames is not None else None,
                    "label": row["label"],
                    "name": label.name if label else f"label {row['label']}",
                    "voxels": row["voxels"],
                    **_extent(row["voxels"], labels),
                    **{key: place[key] for key in ("x_mm", "y_mm", "z_mm")},
                    **{f"{axis}_{end}": box[f"{axis}_{end}"] for axis in "xyz" for end in ("first", "last")},
                    **({"sd" if k == "std" else k: row[k] for k in ("mean", "std", "min", "max")} if image else {}),
                }
            )
    return rows


def _extent(voxels: int, labels: Volume) -> dict[str, float | None]:
    """Return the volume of some voxels, or their area in a single slice; None where the spacing is unknown."""
    known = labels.meta.get("spacing_known", True)
    spacing = np.array(labels.grid.spacing)
    if labels.is_2d:
        pixel = float(np.prod(np.delete(spacing, labels.grid.spatial_shape.index(1))))
        return {"area_mm2": voxels * pixel if known else None}
    volume = voxels * float(np.prod(spacing)) if known else None
    return {"volume_mm3": volume, "volume_ml": None if volume is None else volume / 1000}


def _places(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the smallest and the largest index along each axis of the voxels of each label."""
    count, axes = len(values), labels.ndim
    voxels, sums = np.zeros(count), np.zeros((count, axes))
    first, last = np.full((count, axes), np.iinfo(np.int64).max), np.full((count, axes), -1)
    for slab in track(_tiles.slabs(labels.shape, _SLAB), "slabs"):
        part = labels[slab]
        found = part.nonzero()
        place = np.searchsorted(values, part[found])
        voxels += np.bincount(place, minlength=count)
        for axis, index in enumerate(found):
            index = index + (slab.start if axis == 0 else 0)
            sums[:, axis] += np.bincount(place, index, minlength=count)
            np.minimum.at(first[:, axis], place, index)
            np.maximum.at(last[:, axis], place, index)
    return sums / np.maximum(voxels, 1)[:, None], first, last


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
