"""Maps of distances: how far every voxel lies from what is labelled, or from what is not."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from scipy import ndimage

from .. import remarks
from ..types import ImageArray, LabelArray
from . import _check, _ready, _tiles
from ._aside import aside

Side = Literal["outside", "inside", "both"]
Value = Annotated[int | None, {"min": 1, "max": 65535, "start": 1}]
_SIDES = ("outside", "inside", "both")
# There is one variant. Voxels after which compiling is worth its while: some tenths of a second.
KERNELS = _ready.Variants("distance", after=1 << 21)
_KEY = ("any",)
KERNELS.usual_for("distance_transform", lambda dtype, ndim: [_KEY])
# Voxels of a part: some milliseconds.
_PART = 1 << 19


def distance_transform(
    labels: LabelArray, spacing: Sequence[float], side: Side = "outside", *, label: Value = None
) -> ImageArray:
    """Show how far every voxel lies from the nearest labelled one, in mm: the Euclidean distance transform.

    Distances are exact, between the centres of voxels; ``scipy.ndimage.distance_transform_edt`` gives the same to
    the precision of the result.

    Parameters
    ----------
    labels : ndarray
        (y, x) or (z, y, x), whole numbers; 0 is background.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    side : {"outside", "inside", "both"}
        Which voxels get a distance: background, to the nearest labelled voxel; labelled ones, to the nearest of the
        background (what lies outside of the array is none); or both, those inside with a minus sign. The others are 0.
    label : int, optional
        Look at this label only, and take all others for background; all labels together are one object where not
        given.

    Returns
    -------
    ndarray of float32
        Distances in mm, of the shape of `labels`; NaN, with a note, where there is nothing to be far from.

    Raises
    ------
    InputError
        If `labels` are no whole numbers or have no 2 or 3 axes.

    Notes
    -----
    Memory beside the result does not grow with the volume once the compiled kernel is ready; before, and without
    numba, scipy needs 20 bytes a voxel.

    References
    ----------
    T. Saito and J. Toriwaki, New algorithms for Euclidean distance transformation of an n-dimensional digitized
    picture with applications, Pattern Recognition 27(11), 1994; P. Felzenszwalb and D. Huttenlocher, Distance
    transforms of sampled functions, Theory of Computing 8, 2012.

    Examples
    --------
    >>> distance_transform(np.array([[0, 0, 0, 7, 7, 0]]), (1, 0.5), "both").tolist()
    [[1.5, 1.0, 0.5, -0.5, -0.5, 0.5]]
    """
    labels = _check.labels(labels, dims=(2, 3))
    steps = _check.steps(spacing, labels.ndim)
    side = _check.choice(side, _SIDES, "side")
    label = None if label is None else _check.whole(label, "label")
    if _is_far_from_nothing(labels, label, side):
        return np.full(labels.shape, np.nan, np.float32)
    KERNELS.ask(_KEY, labels.size)
    kernel = KERNELS.get(_KEY)
    return (
        _by_scipy(_mask(labels, label), steps, side)
        if kernel is None
        else _compiled(kernel, labels, label, steps, side)
    )


def _mask(labels: np.ndarray, label: int | None) -> np.ndarray:
    """Return which voxels are of the object, in C order."""
    return np.not_equal(labels, 0, order="C") if label is None else np.equal(labels, label, order="C")


def _is_far_from_nothing(labels: np.ndarray, label: int | None, side: str) -> bool:
    """Say so where voxels have nothing to be far from; looks only as far as it must."""
    slabs = _tiles.slabs(labels.shape, _PART)
    if not any(_mask(labels[slab], label).any() for slab in slabs):
        what = "nothing is labelled" if label is None else f"no voxel has the label {label}"
        found = side != "inside"
    else:
        what = "there is no background"
        found = side != "outside" and all(_mask(labels[slab], label).all() for slab in slabs)
    if found:
        remarks.note(f"{what}, so that distances are NaN")
    return found


def _by_scipy(mask: np.ndarray, steps: np.ndarray, side: str) -> np.ndarray:
    def distances(mask: np.ndarray) -> np.ndarray:
        return aside("distances", ndimage.distance_transform_edt, mask, steps).astype(np.float32)

    if side == "inside":
        return distances(mask)
    result = distances(~mask)
    if side == "both":
        result -= distances(mask)
    return result


def _compiled(kernel: Callable, labels: np.ndarray, label: int | None, steps: np.ndarray, side: str) -> np.ndarray:
    """Go along the lines, and then across them, axis by axis, in the memory of the result."""
    result = np.empty(labels.shape, np.float32)
    wide, plane, flat = labels.shape[-1], labels[0].size, result.reshape(-1)
    signs = {"outside": (0.0, 1.0), "inside": (1.0, 0.0), "both": (-1.0, 1.0)}[side]

    def lines(part: slice) -> None:
        mask = _mask(labels[part], label).reshape(-1).view(np.uint8)
        mask.flags.writeable = False
        kernel.lines(mask, wide, steps[-1], *signs, flat[part.start * plane : part.stop * plane])

    _tiles.run(lines, _tiles.slabs(labels.shape, _PART), "lines")
    lanes = kernel.lanes
    for axis in range(labels.ndim - 2, -1, -1):
        apart = int(np.prod(labels.shape[axis + 1 :]))
        # Of (z, y, x), the way along y is gone in each plane, that along z in each line of the first plane.
        outer = apart * labels.shape[axis] if axis else wide
        others = labels.size // (wide * labels.shape[axis])
        jobs = others * -(-wide // lanes)
        given = (labels.shape[axis], apart), wide, outer, steps[axis], side == "both", axis == 0

        def across(part: slice, given: tuple = given) -> None:
            kernel.across(flat, *given, part.start, part.stop)

        _tiles.run(across, _tiles.slabs((jobs, lanes * labels.shape[axis]), _PART), "lines")
    return result
