"""Filters that take each voxel's neighbourhood into account."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..progress import track
from ..types import Border, Device, ImageArray, OddSize
from . import _adaptive, _check, _lines, _sliding, _tiles, _windows
from ._bias import bias_correction, bias_estimate  # noqa: F401 - two of the filters
from ._device import torch_device

BORDERS = ("reflect", "nearest", "mirror", "constant", "wrap")
# Window elements that one tile sorts: about a tenth of a second.
_WORK = 1 << 25
_TILE = 1 << 19
# Voxels that a graphics card takes at a time.
_CARD_TILE = 1 << 24
# Window elements of a picture so small that preparing its windows takes longer than scipy takes altogether.
_LITTLE_WORK = 1 << 14
_LITTLE_SQUARES = 1 << 13


def median(image: ImageArray, size: OddSize = 3, *, mode: Border = "reflect", device: Device = "cpu") -> ImageArray:
    """Replace every voxel by the median of the window around it.

    Equals ``scipy.ndimage.median_filter(image, size, mode=mode)`` exactly wherever there is no NaN. (64-bit integers
    beyond 2 ** 53 keep all their digits, which they lose in scipy.)

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered, also axes shorter than the window.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis. 1 changes nothing.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, named as in scipy.ndimage: ``"reflect"`` d c b a | a b c d, ``"mirror"``
        d c b | a b c d, ``"nearest"`` a a a | a b c d, ``"wrap"`` the opposite side, ``"constant"`` zeros.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. The same values.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN gives NaN; infinite values are ordered like others.
        Of zeros of both signs, which are equal, either may be the median.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or the size is even or below 1.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Order-statistic filters.

    Examples
    --------
    >>> median(np.array([1, 9, 2, 3, 3]), 3)
    array([1, 2, 3, 3, 3])
    """
    image = _check.image(image)
    sizes = _check.odd_sizes(size, image.ndim)
    mode = _check.choice(mode, BORDERS, "mode")
    card = torch_device(device)
    if card is not None:
        return _on_card(image, [s // 2 for s in sizes], mode, lambda kernels, block: kernels.median(block, sizes, card))
    window = math.prod(sizes)
    square = sizes == (3, 3)
    little = _LITTLE_SQUARES if square else _LITTLE_WORK
    if image.ndim > 1 and image.size * window <= little and _same_in_scipy(image):
        return ndimage.median_filter(image, footprint=_footprint(sizes), mode=mode)
    result = np.empty(image.shape, image.dtype)
    if window == 1:
        result[...] = image
        return result
    halo = [s // 2 for s in sizes]

    def work(block: _tiles.Block) -> None:
        padded = _tiles.with_halo(image, block, halo, mode)
        if square:
            result[block] = _windows.medians_of_nine(padded)
        elif padded.dtype == bool:
            result[block] = _windows.majorities(padded, sizes)
        else:
            result[block] = _windows.medians(_windows.sortable(padded), sizes)

    _sliding.run(image, sizes, window // 2, mode, result, work, min(_TILE, max(1, _WORK // window)))
    return result


def _on_card(image: np.ndarray, halo: Sequence[int], mode: str, work: Callable) -> np.ndarray:
    """Filter block by block with the functions of `_torch.filters`."""
    from ._torch import filters as kernels

    result = np.empty(image.shape, image.dtype)
    for block in track(_tiles.blocks(image.shape, _CARD_TILE), "tiles"):
        result[block] = work(kernels, _tiles.with_halo(image, block, halo, mode))
    return result


def _same_in_scipy(image: np.ndarray) -> bool:
    """Whether scipy's median takes such voxels and means the same: no NaN, nothing beyond exact doubles."""
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind == "f":
        largest = image.max()
        return size > 2 and bool(largest == largest)
    return size < 8 or bool(image.max() <= 1 << 53 and (kind == "u" or image.min() >= -(1 << 53)))


@cache
def _footprint(sizes: tuple[int, ...]) -> np.ndarray:
    return np.ones(sizes, bool)


def minimum(image: ImageArray, size: OddSize = 3, *, mode: Border = "reflect") -> ImageArray:
    """Replace every voxel by the smallest value of the window around it.

    Equals ``scipy.ndimage.minimum_filter(image, size, mode=mode)`` exactly wherever there is no NaN. (64-bit integers
    beyond 2 ** 53 keep all their digits, which they lose in scipy.)

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN gives NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or the size is even or below 1.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Max and min filters.

    Examples
    --------
    >>> minimum(np.array([4, 9, 2, 3, 8]), 3)
    array([4, 2, 2, 2, 3])
    """
    return _extreme(np.minimum, image, size, mode)


def maximum(image: ImageArray, size: OddSize = 3, *, mode: Border = "reflect") -> ImageArray:
    """Replace every voxel by the largest value of the window around it.

    Equals ``scipy.ndimage.maximum_filter(image, size, mode=mode)`` exactly, as `minimum` says.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN gives NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or the size is even or below 1.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Max and min filters.

    Examples
    --------
    >>> maximum(np.array([4, 9, 2, 3, 8]), 3)
    array([9, 9, 9, 8, 8])
    """
    return _extreme(np.maximum, image, size, mode)


def _extreme(pick: np.ufunc, image: ImageArray, size, mode: str) -> np.ndarray:
    image = _check.image(image)
    sizes = _check.odd_sizes(size, image.ndim)
    mode = _check.choice(mode, BORDERS, "mode")
    dtype = image.dtype
    # Half floats have no vector instructions for it; as floats they keep their values.
    inner = np.dtype(np.float32) if dtype == np.float16 else dtype
    return _lines.passes(
        image, sizes, mode, lambda axis: _lines.extremes(pick, sizes[axis]), dtype=dtype, between=dtype, inner=inner
    )


def percentile(
    image: ImageArray,
    percentile: Annotated[float, {"min": 0.0, "max": 100.0, "step": 5.0, "unit": "%"}] = 50.0,
    size: OddSize = 3,
    *,
    mode: Border = "reflect",
) -> ImageArray:
    """Replace every voxel by a percentile of the window around it.

    Of the n values of the window in increasing order, the one at place ``floor(n * percentile / 100)`` is taken,
    counted from 0: an existing value, never one in between. 0 is the minimum, 50 the median, 100 the maximum. Equals
    ``scipy.ndimage.percentile_filter(image, percentile, size, mode=mode)`` exactly wherever there is no NaN.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered.
    percentile : float
        Which of the ordered values is taken, from 0 to 100 %.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN gives NaN; infinite values are ordered like others.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, the size is even or below 1, or the percentile lies outside 0
        to 100.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Order-statistic filters.

    Examples
    --------
    >>> percentile(np.array([4, 9, 2, 3, 8]), 25, size=5)
    array([4, 3, 3, 3, 3])
    """
    image = _check.image(image)
    share = _check.number(percentile, "percentile", least=0)
    if share > 100:
        raise InputError(f"percentile must be at most 100, not {percentile!r}")
    sizes = _check.odd_sizes(size, image.ndim)
    mode = _check.choice(mode, BORDERS, "mode")
    count = math.prod(sizes)
    rank = min(int(count * share / 100), count - 1)
    if rank in (0, count - 1):
        return _extreme(np.minimum if rank == 0 else np.maximum, image, sizes, mode)
    if rank == count // 2:
        return median(image, sizes, mode=mode)
    result = np.empty(image.shape, image.dtype)
    halo = [s // 2 for s in sizes]

    def work(block: _tiles.Block) -> None:
        padded = _tiles.with_halo(image, block, halo, mode)
        result[block] = _windows.ranked(_windows.sortable(padded), sizes, rank)

    _sliding.run(image, sizes, rank, mode, result, work, min(_TILE, max(1, _WORK // count)))
    return result


def mean(image: ImageArray, size: OddSize = 3, *, mode: Border = "reflect") -> ImageArray:
    """Replace every voxel by the mean of the window around it.

    The sum of whole numbers is exact and rounded once, at the end; ``scipy.ndimage.uniform_filter`` of the image as
    float64 is the same but for that.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered. bool counts as 0 and 1.
    size : int or sequence of int
        Width of the window in voxels, odd; for all axes, or one width an axis.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape as `image`, and same type: integers are rounded to the nearest one, halves to the even one. float32
        for bool. A window that holds NaN gives NaN, one that holds an infinite value that or, with both signs, NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or the size is even or below 1.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 3.5, Box filter kernels.

    Examples
    --------
    >>> mean(np.array([3, 9, 3, 3, 3]), 3)
    array([5, 5, 5, 3, 3])
    """
    image = _check.image(image)
    sizes = _check.odd_sizes(size, image.ndim)
    mode = _check.choice(mode, BORDERS, "mode")
    count = math.prod(sizes)
    dtype = _smooth_type(image.dtype)
    inner = _sum_type(image.dtype, count)
    if image.dtype == np.float64:
        finite = image[np.isfinite(image)]
        largest = float(max(finite.max(initial=0), -finite.min(initial=0)))
        if largest > np.finfo(np.float64).max / count:
            raise InputError(f"image has values up to {largest:g}, too large to be summed: scale it down")
    return _lines.passes(
        image,
        sizes,
        mode,
        lambda axis: _lines.sums(sizes[axis]),
        dtype=dtype,
        between=inner,
        inner=inner,
        finish=lambda total: _into(total / count, dtype),
    )


def _smooth_type(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype.kind == "b" else dtype


def _sum_type(dtype: np.dtype, count: int) -> np.dtype:
    """Return the integer type that holds any sum of `count` values of `dtype`, or float64 where none does."""
    if dtype.kind != "f":
        largest = 1 if dtype.kind == "b" else max(np.iinfo(dtype).max, -int(np.iinfo(dtype).min))
        for found in (np.int32, np.int64):
            if largest * count <= np.iinfo(found).max:
                return np.dtype(found)
    return np.dtype(np.float64)


def _into(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round `values` in place where `dtype` holds integers, keeping them inside its range."""
    if dtype.kind != "f":
        np.rint(values, out=values)
        if dtype.itemsize == 8:
            # The largest integer itself is no double.
            np.minimum(values, np.nextafter(float(np.iinfo(dtype).max), 0), out=values)
    return values


def gaussian(
    image: ImageArray,
    spacing: Sequence[float],
    sigma: Annotated[float, {"min": 0.0, "max": 100.0, "step": 0.5, "unit": "mm"}] = 1.0,
    *,
    mode: Border = "reflect",
) -> ImageArray:
    """Blur with a Gaussian bell of a width in mm.

    Equals ``scipy.ndimage.gaussian_filter(image, sigma / spacing, mode=mode)`` of the image as float64, within
    rounding. The bell ends at four standard deviations.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; every axis is filtered. bool counts as 0 and 1.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    sigma : float or sequence of float
        Standard deviation of the bell in mm, for all axes or one an axis; 0 changes nothing.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.

    Returns
    -------
    ndarray
        Same shape as `image`, and same type: integers are rounded to the nearest one. float32 for bool. A window that
        holds NaN gives NaN, one that holds an infinite value that or, with both signs, NaN.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, sigma is negative, or the spacing does not fit.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 3.5, Lowpass Gaussian filter kernels.

    Examples
    --------
    >>> gaussian(np.array([0, 0, 100, 0, 0]), spacing=(2.0,), sigma=2.0)
    array([ 6, 24, 40, 24,  6])
    """
    image = _check.image(image)
    mode = _check.choice(mode, BORDERS, "mode")
    bells = [_bell(width) for width in _widths(sigma, _check.steps(spacing, image.ndim))]
    dtype, inner = _smooth_type(image.dtype), _check.float_type(image.dtype)
    return _lines.passes(
        image,
        [2 * len(bell) - 1 for bell in bells],
        mode,
        lambda axis: _lines.weighted(bells[axis]),
        dtype=dtype,
        between=inner,
        inner=inner,
        finish=lambda values: _into(values, dtype),
    )


def gaussian_reach(spacing: Sequence[float], sigma: float | Sequence[float], **_) -> tuple[int, ...]:
    """Return how many voxels along each axis the bell of `gaussian` reaches."""
    return tuple(len(_bell(width)) - 1 for width in _widths(sigma, np.asarray(spacing, float)))


def _widths(sigma, steps: np.ndarray) -> np.ndarray:
    """Return the standard deviation along each axis in voxels."""
    if isinstance(sigma, Sequence | np.ndarray) and not isinstance(sigma, str):
        widths = _check.vector(sigma, "sigma", len(steps))
    else:
        widths = np.full(len(steps), _check.number(sigma, "sigma", least=0))
    if (widths < 0).any():
        raise InputError(f"sigma must be at least 0 mm, not {sigma!r}")
    if (widths > 1000 * steps).any():
        raise InputError(f"sigma {sigma!r} is more than 1000 voxels: use a smaller one")
    return widths / steps


def _bell(sigma: float) -> np.ndarray:
    """Return the right half of a Gaussian profile with sum 1, from its centre to four standard deviations."""
    reach = int(4 * sigma + 0.5)
    half = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2) if reach else np.ones(1)
    return half / (2 * half.sum() - half[0])


def adaptive_median(
    image: ImageArray,
    max_size: Annotated[int, {"min": 3, "max": 31, "step": 2, "unit": "voxels"}] = 7,
    *,
    mode: Border = "reflect",
    device: Device = "cpu",
) -> ImageArray:
    """Remove salt-and-pepper noise and keep what is not noise: the adaptive median filter.

    Around each voxel a window of 3 voxels a side grows by 2 as long as its median is an extreme (stage A: not
    minimum < median < maximum). Then the voxel stays as it is if it is no extreme of that window, and becomes the
    median otherwise (stage B). A voxel whose window has reached `max_size` without success becomes the median of
    that window.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape; the window extends along every axis.
    max_size : int
        Largest width of the window in voxels, odd, at least 3.
    mode : {"reflect", "nearest", "mirror", "constant", "wrap"}
        What lies beyond the border, as in `median`.
    device : str
        ``"cpu"``, or a graphics card through torch: ``"cuda"``, ``"cuda:1"``. The same values.

    Returns
    -------
    ndarray
        Same shape and type as `image`. A window that holds NaN never succeeds in stage A and its median is NaN, so
        a voxel next to a NaN becomes NaN; infinite values count as extremes. A zero may lose its sign.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or `max_size` is even or below 3.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.3, Adaptive median filter.

    Examples
    --------
    >>> adaptive_median(np.array([10, 11, 255, 12, 13, 0, 14, 15]), 5)
    array([11, 11, 12, 13, 12, 13, 14, 14])
    """
    image = _check.image(image)
    max_size = _check.odd(max_size, "max_size", 3)
    mode = _check.choice(mode, BORDERS, "mode")
    card = torch_device(device)
    if card is not None:
        reach = [max_size // 2] * image.ndim
        return _on_card(image, reach, mode, lambda kernels, block: kernels.adaptive_median(block, max_size, card))
    result = np.empty(image.shape, image.dtype)
    reach = max_size // 2

    def work(block: _tiles.Block) -> None:
        padded = _windows.sortable(_tiles.with_halo(image, block, [reach] * image.ndim, mode))
        result[block] = _adaptive.tile(padded, max_size)

    _adaptive.run(image, max_size, mode, result, work, min(_TILE, max(1, 2 * _WORK // max_size**image.ndim)))
    return result
