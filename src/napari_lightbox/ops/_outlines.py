"""Agreement along outlines and along centrelines: what overlap of volumes hides in large and in thin structures."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..types import LabelArray
from . import _check


def boundary_iou(
    predicted: LabelArray,
    reference: LabelArray,
    spacing: Sequence[float],
    distance: Annotated[float, {"min": 0.0, "unit": "mm"}],
    label: int | None = None,
) -> float:
    """Return the intersection over union of the rims of two regions: of what lies near their own outlines.

    The rim of a region are its voxels whose centre is at most `distance` from the centre of a voxel that is not in it.
    Beyond the border of the image is outside. With a `distance` as large as the regions it is the plain intersection
    over union; the smaller it is, the more the outline counts.

    Parameters
    ----------
    predicted, reference : ndarray
        (y, x) or (z, y, x), whole numbers or bool; which is which does not matter.
    spacing : sequence of float
        mm per voxel in array order.
    distance : float
        Width of the rim in mm. At least the smallest spacing, or there is no rim.
    label : int, optional
        Value of the region in both; everything that is not 0 where not given.

    Returns
    -------
    float
        From 0 to 1. 0 where one region is empty; NaN where both are.

    Raises
    ------
    InputError
        If shapes, spacing or labels do not fit, or the distance is smaller than every spacing.

    References
    ----------
    B. Cheng et al., Boundary IoU: improving object-centric image segmentation evaluation, CVPR 2021. There distances
    are in pixels, of the larger of both axes; here in mm, along the straight line.

    Examples
    --------
    >>> a, b = np.zeros((2, 9, 9), int)
    >>> a[1:8, 1:8] = 1
    >>> b[1:8, 1:7] = 1
    >>> round(boundary_iou(a, b, (1, 1), distance=1), 3)
    0.586
    """
    a, b = _regions(predicted, reference, label)
    steps = _check.steps(spacing, a.ndim)
    width = _check.number(distance, "distance", least=0)
    if width < steps.min():
        raise InputError(f"distance {width:g} mm is less than one voxel ({steps.min():g} mm): give at least that")
    rims = [_rim(mask, steps, width) for mask in (a, b)]
    either = int(np.count_nonzero(rims[0] | rims[1]))
    return int(np.count_nonzero(rims[0] & rims[1])) / either if either else float("nan")


def centreline_dice(predicted: LabelArray, reference: LabelArray, label: int | None = None) -> float:
    """Return the centreline Dice (clDice) of two regions: whether tubes are found in their whole length.

    The harmonic mean of two shares: of the prediction's centreline that lies in the reference (topology precision), and
    of the reference's centreline that lies in the prediction (topology sensitivity). For vessels, airways and nerves,
    where a gap of one voxel matters and a wall that is a voxel too thick does not.

    Parameters
    ----------
    predicted, reference : ndarray
        (y, x) or (z, y, x), whole numbers or bool.
    label : int, optional
        Value of the region in both; everything that is not 0 where not given.

    Returns
    -------
    float
        From 0 to 1. 0 where one region is empty; NaN where both are.

    Raises
    ------
    InputError
        If shapes or labels do not fit.

    Notes
    -----
    Centrelines are skeletons of scikit-image: T. Y. Zhang and C. Y. Suen 1984 in 2D, T.-C. Lee et al. 1994 in 3D. They
    are of whole voxels, whatever the spacing. A region of which thinning leaves nothing is its own centreline.

    References
    ----------
    S. Shit et al., clDice: a novel topology-preserving loss function for tubular structure segmentation, CVPR 2021.

    Examples
    --------
    >>> tube = np.zeros((7, 12), int)
    >>> tube[2:5, 1:11] = 1
    >>> gap = tube.copy()
    >>> gap[:, 5:7] = 0
    >>> centreline_dice(tube, tube), centreline_dice(gap, tube) < 1
    (1.0, True)
    """
    from skimage.morphology import skeletonize

    a, b = _regions(predicted, reference, label)
    if not a.any() or not b.any():
        return 0.0 if a.any() or b.any() else float("nan")
    shares = []
    for mask, other in ((a, b), (b, a)):
        line = skeletonize(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim] > 0
        # Of some blobs of few voxels thinning leaves nothing: then these are their own centreline.
        line = line if line.any() else mask
        shares.append(np.count_nonzero(line & other) / np.count_nonzero(line))
    return float(2 * shares[0] * shares[1] / sum(shares)) if sum(shares) else 0.0


def _regions(predicted, reference, label: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return both regions as masks, cut to the box around them."""
    predicted = _check.labels(predicted, "predicted", (2, 3))
    reference = _check.labels(reference, "reference", (2, 3))
    _check.same_shape(predicted, reference, ("predicted", "reference"))
    a, b = (m != 0 if label is None else m == label for m in (predicted, reference))
    box = ndimage.find_objects((a | b).view(np.uint8))
    return (a[box[0]], b[box[0]]) if box else (a[:0], b[:0])


def _rim(mask: np.ndarray, steps: np.ndarray, width: float) -> np.ndarray:
    """Return the voxels of a mask that are at most `width` from the outside."""
    if not mask.size:
        return mask
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=steps)[(slice(1, -1),) * mask.ndim]
    # A distance that is met exactly counts as met, whatever its last digit.
    return mask & (depth <= width * (1 + 1e-9))
