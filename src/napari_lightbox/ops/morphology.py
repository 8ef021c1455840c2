"""Morphology with a ball or box whose size is given in mm, of grey values and of labels.

Beside the result, memory is taken for a slab of some planes and for the tiles that are worked on, however deep the
volume: the second step of an opening or closing is made in the memory of the first, and labels go slab by slab.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np

from .. import remarks
from ..types import AreLabels, VoxelArray
from . import _ball, _check, _regions

Radius = Annotated[float, {"min": 0.0, "max": 100.0, "step": 0.5, "unit": "mm"}]
Element = Literal["ball", "box"]
_ELEMENTS = ("ball", "box")


def erosion(
    image: VoxelArray,
    spacing: Sequence[float],
    radius: Radius = 2.0,
    *,
    element: Element = "ball",
    labelled: AreLabels = False,
) -> VoxelArray:
    """Shrink what is bright, or every label, by a ball or box of a radius in mm.

    Of grey values, every voxel becomes the smallest in the element around it; ``scipy.ndimage.grey_erosion`` with that
    element as footprint is the same. What lies outside of the image takes no part.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x): grey values, or whole numbers that are labels.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    radius : float
        Reach of the element in mm: voxels that are farther apart keep out of each other's way.
    element : {"ball", "box"}
        Shape of the element: all voxels whose centres are no farther than the radius, or no farther along each axis.
    labelled : bool
        Whether the numbers are labels: then a voxel keeps its label if all
        of the element around it has that label, and becomes 0 otherwise.

    Returns
    -------
    ndarray
        Same shape and type as `image`. An element that holds NaN gives NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, has no 2 or 3 axes, or the radius is negative.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., sections 9.2 and 9.8, Erosion and
    Dilation.

    Examples
    --------
    >>> erosion(np.array([[5, 5, 5, 0, 5, 5, 5]]), (1, 1), 1.0)
    array([[5, 5, 0, 0, 0, 5, 5]])
    """
    return _morphology(image, spacing, radius, element, labelled, (np.minimum,), _regions.eroded)


def dilation(
    image: VoxelArray,
    spacing: Sequence[float],
    radius: Radius = 2.0,
    *,
    element: Element = "ball",
    labelled: AreLabels = False,
) -> VoxelArray:
    """Grow what is bright, or every label, by a ball or box of a radius in mm.

    Of grey values, every voxel becomes the largest in the element around it; ``scipy.ndimage.grey_dilation`` with that
    element as footprint is the same. What lies outside of the image takes no part.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x): grey values, or whole numbers that are labels.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    radius : float
        Reach of the element in mm: voxels that are farther apart do not meet.
    element : {"ball", "box"}
        Shape of the element: all voxels whose centres are no farther than the radius, or no farther along each axis.
    labelled : bool
        Whether the numbers are labels: then background becomes the
        nearest label that the element around it meets, of labels at one distance the lowest; labels stay as they are.

    Returns
    -------
    ndarray
        Same shape and type as `image`. An element that holds NaN gives NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, has no 2 or 3 axes, or the radius is negative.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., sections 9.2 and 9.8, Erosion and
    Dilation.

    Examples
    --------
    >>> dilation(np.array([[0, 0, 5, 0, 0, 0, 3]]), (1, 1), 1.0)
    array([[0, 5, 5, 5, 0, 3, 3]])
    """
    return _morphology(image, spacing, radius, element, labelled, (np.maximum,), _regions.dilated)


def opening(
    image: VoxelArray,
    spacing: Sequence[float],
    radius: Radius = 2.0,
    *,
    element: Element = "ball",
    labelled: AreLabels = False,
) -> VoxelArray:
    """Remove bright parts, or parts of labels, into which a ball or box of a radius in mm does not fit.

    Of grey values, the dilation of the erosion; ``scipy.ndimage.grey_opening`` with that element as footprint is the
    same. What lies outside of the image takes no part.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x): grey values, or whole numbers that are labels.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    radius : float
        Reach of the element in mm: what is thinner than twice this goes.
    element : {"ball", "box"}
        Shape of the element: all voxels whose centres are no farther than the radius, or no farther along each axis.
    labelled : bool
        Whether the numbers are labels: then of every label, the voxels
        stay that an element covers which lies wholly in the label; the others become 0.

    Returns
    -------
    ndarray
        Same shape and type as `image`. NaN spreads as in `erosion` and `dilation`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, has no 2 or 3 axes, or the radius is negative.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., sections 9.3 and 9.8, Opening and
    Closing.

    Examples
    --------
    >>> opening(np.array([[0, 9, 0, 9, 9, 9, 0]]), (1, 1), 1.0)
    array([[0, 0, 0, 9, 9, 9, 0]])
    """
    return _morphology(
        image,
        spacing,
        radius,
        element,
        labelled,
        (
            np.minimum,
            np.maximum,
        ),
        _regions.opened,
    )


def closing(
    image: VoxelArray,
    spacing: Sequence[float],
    radius: Radius = 2.0,
    *,
    element: Element = "ball",
    labelled: AreLabels = False,
) -> VoxelArray:
    """Fill dark parts, or gaps in labels, into which a ball or box of a radius in mm does not fit.

    Of grey values, the erosion of the dilation; ``scipy.ndimage.grey_closing`` with that element as footprint is the
    same. What lies outside of the image takes no part.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x): grey values, or whole numbers that are labels.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    radius : float
        Reach of the element in mm: gaps that are thinner than twice this are closed.
    element : {"ball", "box"}
        Shape of the element: all voxels whose centres are no farther than the radius, or no farther along each axis.
    labelled : bool
        Whether the numbers are labels: then every label takes the
        background that no element outside of it covers, of several labels the lowest; no label is overwritten.

    Returns
    -------
    ndarray
        Same shape and type as `image`. NaN spreads as in `erosion` and `dilation`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, has no 2 or 3 axes, or the radius is negative.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., sections 9.3 and 9.8, Opening and
    Closing.

    Examples
    --------
    >>> closing(np.array([[9, 9, 0, 9, 0, 0, 0]]), (1, 1), 1.0)
    array([[9, 9, 9, 9, 0, 0, 0]])
    """
    return _morphology(
        image,
        spacing,
        radius,
        element,
        labelled,
        (
            np.maximum,
            np.minimum,
        ),
        _regions.closed,
    )


def reach(spacing: Sequence[float], radius: float, times: int = 1, **_) -> tuple[int, ...]:
    """Return how many voxels along each axis decide a result, for `times` operations one after the other."""
    return tuple(times * r for r in _ball.reaches(_check.number(radius, "radius", least=0), spacing))


def _morphology(
    image: VoxelArray,
    spacing: Sequence[float],
    radius: float,
    element: str,
    labelled: bool,
    picks: Sequence[np.ufunc],
    of_labels: Callable[[np.ndarray, _regions.Shape], np.ndarray],
) -> np.ndarray:
    image = _check.labels(image, "image", dims=(2, 3)) if labelled else _check.image(image, dims=(2, 3))
    steps = _check.steps(spacing, image.ndim)
    radius = _check.number(radius, "radius", least=0)
    element = _check.choice(element, _ELEMENTS, "element")
    shape = _regions.Shape(radius, steps, element)
    if not any(min(r, n - 1) for r, n in zip(shape.reach, image.shape, strict=True)):
        if radius and image.size > 1:
            sizes = " x ".join(f"{s:g}" for s in reversed(steps.tolist()))
            remarks.note(
                f"nothing changes: a radius of {radius:g} mm reaches no other voxel, they are {sizes} mm apart"
            )
        return image.copy()
    if labelled:
        result = of_labels(image, shape)
        if not result.any() and image.any():
            remarks.note(f"nothing is left: no label has room for a {element} with a radius of {radius:g} mm")
        return result
    first, *others = picks
    result = shape.extreme(image, first)
    for pick in others:
        _ball.again(result, pick, radius, shape.spacing, element)
    return result
