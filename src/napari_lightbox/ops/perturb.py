"""Perturbations: what scanners, patients and exports do to an image, in measured doses, to see what a model bears.

All of them are seeded where chance plays a part: the same seed gives the same voxels on every machine. All keep the
type of the image, and a strength of nothing gives the image back bit by bit. Blur, rotation and scaling are
`filters.gaussian` and `spatial.affine`.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from ..types import ImageArray
from . import _check
from ._perturb_fields import field_on
from ._perturb_random import changed, floor_of, normal, poisson, seed_of, slabs_of, span, uniform, within
from ._perturb_slices import missing_slices, motion_ghost, thick_slices

__all__ = [
    "bias_field",
    "gaussian_noise",
    "intensity",
    "missing_slices",
    "motion_ghost",
    "periodic_noise",
    "poisson_noise",
    "rician_noise",
    "salt_and_pepper",
    "thick_slices",
]

_MOST = 1e30
Seed = Annotated[int, {"min": 0, "max": 2**31 - 1}]
Values = Annotated[float, {"min": 0.0, "max": 1e9, "step": 5.0, "unit": "values"}]


def gaussian_noise(image: ImageArray, sigma: Values = 20.0, *, seed: Seed = 0) -> ImageArray:
    """Add normal noise that is independent from voxel to voxel, as electronics do.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    sigma : float
        Standard deviation in the image's own values (HU for CT); 0 changes nothing.
    seed : int
        The same seed gives the same noise; every frame, and where slices are worked on one by one every slice, gets
        the same.

    Returns
    -------
    ndarray
        Same shape and type: whole numbers are rounded and clipped to the range of their type, bool becomes True from
        0.5 on, and floats stay finite. 64-bit integers are computed as float64. NaN and infinite voxels stay.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.2, Noise models.

    Examples
    --------
    >>> gaussian_noise(np.full(4, 100, np.int16), sigma=10, seed=3)
    array([ 86,  93, 108, 102], dtype=int16)
    """
    image, seed = _check.image(image), seed_of(seed)
    sigma = within(sigma, "sigma", 0, _MOST)
    if sigma == 0:
        return image.copy()
    return changed(image, lambda v, start: v + sigma * normal(seed, 0, start, v.size).reshape(v.shape))


def rician_noise(image: ImageArray, sigma: Values = 20.0, *, seed: Seed = 0) -> ImageArray:
    """Add the noise of a magnitude image, as of MR: normal noise in both channels, then the length of the sum.

    The result is ``hypot(v + n1, n2)`` of the values above the floor: 0, or the smallest value of the image where that
    is negative (air in CT).

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    sigma : float
        Standard deviation of each channel, in the image's own values; 0 changes nothing.
    seed : int
        As in `gaussian_noise`.

    Returns
    -------
    ndarray
        Same shape and type, by the rules of `gaussian_noise`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    H. Gudbjartsson and S. Patz, The Rician distribution of noisy MRI data, Magnetic Resonance in Medicine 34(6),
    1995.

    Examples
    --------
    >>> rician_noise(np.array([0, 0, 100, 100], np.int16), sigma=10, seed=3)
    array([ 15,   8, 109, 102], dtype=int16)
    """
    image, seed = _check.image(image), seed_of(seed)
    sigma = within(sigma, "sigma", 0, _MOST)
    if sigma == 0:
        return image.copy()
    floor = floor_of(image)

    def change(values: np.ndarray, start: int) -> np.ndarray:
        real, imaginary = (normal(seed, s, start, values.size).reshape(values.shape) for s in (0, 1))
        return floor + np.hypot(values - floor + sigma * real, sigma * imaginary)

    return changed(image, change)


def poisson_noise(
    image: ImageArray,
    gain: Annotated[float, {"min": 0.0, "max": 1e9, "step": 1.0, "unit": "values per count"}] = 1.0,
    *,
    seed: Seed = 0,
) -> ImageArray:
    """Replace every value by that of counted quanta: the noise grows with the root of the signal.

    A value v above the floor (0, or the smallest value of the image where that is negative) stands for v / gain quanta
    on average; the result is the gain times a number drawn from the Poisson distribution of that mean.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    gain : float
        Value of one quantum: the variance of the noise is gain times the signal. 0 changes nothing.
    seed : int
        As in `gaussian_noise`.

    Returns
    -------
    ndarray
        Same shape and type, by the rules of `gaussian_noise`. Counts beyond 1e15 are left as they are.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.2, Noise models; the counts by
    M. B. Giles, Algorithm 955, ACM Transactions on Mathematical Software 42(1), 2016.

    Examples
    --------
    >>> poisson_noise(np.full(4, 100, np.int16), gain=2.0, seed=3)
    array([ 80,  90, 112, 102], dtype=int16)
    """
    image, seed = _check.image(image), seed_of(seed)
    gain = within(gain, "gain", 0, _MOST)
    if gain == 0:
        return image.copy()
    floor = floor_of(image)

    def change(values: np.ndarray, start: int) -> np.ndarray:
        mean = np.nan_to_num((values - floor) / gain).ravel()
        counts = poisson(uniform(seed, 0, start, values.size), mean)
        return floor + gain * counts.reshape(values.shape)

    return changed(image, change)


def salt_and_pepper(
    image: ImageArray,
    amount: Annotated[float, {"min": 0.0, "max": 1.0, "step": 0.01, "unit": "share"}] = 0.05,
    *,
    seed: Seed = 0,
) -> ImageArray:
    """Replace voxels at random by the smallest or the largest value of the image.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    amount : float
        Share of the voxels that are replaced, 0 to 1, one half each; 0 changes nothing. Of one seed, a larger amount
        spoils the voxels of a smaller one, and others.
    seed : int
        As in `gaussian_noise`.

    Returns
    -------
    ndarray
        Same shape and type. NaN and infinite voxels stay; smallest and largest are those of the finite values.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.2, Noise models.

    Examples
    --------
    >>> salt_and_pepper(np.arange(10, 18), amount=0.5, seed=1)
    array([10, 11, 10, 13, 10, 17, 16, 17])
    """
    image, seed = _check.image(image), seed_of(seed)
    amount = within(amount, "amount", 0, 1)
    result = image.copy()
    if amount == 0:
        return result
    low, high = (image.min(), image.max()) if image.dtype.kind != "f" else map(image.dtype.type, span(image))
    row = int(np.prod(image.shape[1:], dtype=np.int64))

    def work(slab: slice) -> None:
        part = result[slab]
        hit, kind = (uniform(seed, s, slab.start * row, part.size).reshape(part.shape) for s in (0, 1))
        hit = (hit < amount) & np.isfinite(part)
        part[hit & (kind >= 0.5)] = low
        part[hit & (kind < 0.5)] = high

    slabs_of(image, work)
    return result


def periodic_noise(
    image: ImageArray,
    spacing: Sequence[float],
    amplitude: Values = 50.0,
    *,
    frequency: Annotated[float, {"min": 0.0, "max": 50.0, "step": 0.01, "unit": "cycles/mm"}] = 0.1,
    angle: Annotated[float, {"min": -180.0, "max": 180.0, "step": 5.0, "unit": "degrees"}] = 0.0,
) -> ImageArray:
    """Add a plane wave: stripes as interference leaves them.

    The wave runs in the plane of the last two axes and is the same in every slice; its crest lies on the first voxel.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    amplitude : float
        Height of the wave above and below, in the image's own values; 0 changes nothing.
    frequency : float
        Cycles per mm along the wave. Above half a cycle a voxel it shows as a lower one, as in any sampled image.
    angle : float
        Direction in which the wave runs, degrees: 0 along the last axis, 90 along the one before.

    Returns
    -------
    ndarray
        Same shape and type, by the rules of `gaussian_noise`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, a parameter is out of range, or the spacing does not fit.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 5.2, Periodic noise.

    Examples
    --------
    >>> periodic_noise(np.full(5, 100), spacing=(2.0,), amplitude=10, frequency=0.125)
    array([110, 100,  90, 100, 110])
    """
    image = _check.image(image)
    steps = _check.steps(spacing, image.ndim)
    amplitude = within(amplitude, "amplitude", 0, _MOST)
    frequency, angle = within(frequency, "frequency", 0, 1000), np.radians(within(angle, "angle", -360, 360))
    if amplitude == 0:
        return image.copy()
    cycles = np.cos(angle) * steps[-1] * np.arange(image.shape[-1])
    if image.ndim > 1:
        cycles = cycles + (np.sin(angle) * steps[-2] * np.arange(image.shape[-2]))[:, None]
    wave = amplitude * np.cos(2 * np.pi * frequency * cycles)
    if image.ndim > 2:
        return changed(image, lambda v, start: v + wave)
    # Slabs run along the rows of a picture.
    width = image.shape[-1] if image.ndim > 1 else 1
    return changed(image, lambda v, start: v + wave[start // width :][: len(v)])


def bias_field(
    image: ImageArray,
    strength: Annotated[float, {"min": 0.0, "max": 0.99, "step": 0.05, "unit": "share"}] = 0.3,
    *,
    order: Annotated[int, {"min": 1, "max": 6}] = 3,
    seed: Seed = 0,
) -> ImageArray:
    """Multiply by a smooth field, as an uneven coil does in MR.

    The field is a random sum of products of Legendre polynomials, stretched so that it just reaches 1 - strength and
    1 + strength. Values are multiplied as they are: 0 stays 0, and HU of air change like any other.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    strength : float
        Largest deviation of the field from 1, 0 to 0.99; 0 changes nothing.
    order : int
        Largest degree of the polynomials, over all axes together; 1 to 6. Higher ones vary over shorter distances.
    seed : int
        Of the field.

    Returns
    -------
    ndarray
        Same shape and type, by the rules of `gaussian_noise`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    K. Van Leemput, F. Maes, D. Vandermeulen and P. Suetens, Automated model-based bias field correction of MR images
    of the brain, IEEE Transactions on Medical Imaging 18(10), 1999.

    Examples
    --------
    >>> bias_field(np.full(5, 100), strength=0.5, order=1)
    array([ 50,  75, 100, 125, 150])
    """
    image, seed = _check.image(image), seed_of(seed)
    strength = within(strength, "strength", 0, 0.99)
    order = int(within(_check.whole(order, "order"), "order", 1, 6))
    if strength == 0:
        return image.copy()
    field = field_on(image.shape, order, seed)
    row = int(np.prod(image.shape[1:], dtype=np.int64))

    def change(values: np.ndarray, start: int) -> np.ndarray:
        factor = field(slice(start // row, start // row + len(values)))
        factor *= strength
        factor += 1
        return np.multiply(values, factor, out=factor)

    return changed(image, change)


def intensity(
    image: ImageArray,
    shift: Annotated[float, {"min": -1e9, "max": 1e9, "step": 10.0, "unit": "values"}] = 0.0,
    *,
    scale: Annotated[float, {"min": 0.0, "max": 1000.0, "step": 0.1}] = 1.0,
    gamma: Annotated[float, {"min": 0.01, "max": 100.0, "step": 0.1}] = 1.0,
) -> ImageArray:
    """Bend the grey values by a gamma, then scale and shift them.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    shift : float
        Added last, in the image's own values; 0 changes nothing.
    scale : float
        Factor of the values themselves, about 0; 1 changes nothing.
    gamma : float
        Exponent between the smallest and the largest value, which stay; 1 changes nothing, more darkens the middle.
        It comes first.

    Returns
    -------
    ndarray
        Same shape and type, by the rules of `gaussian_noise`.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or a parameter is out of range.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 3.2, Power-law (gamma) transformations.

    Examples
    --------
    >>> intensity(np.array([0, 50, 100]), gamma=2.0)
    array([  0,  25, 100])
    >>> intensity(np.array([-100, 0, 50]), shift=10, scale=2.0)
    array([-190,   10,  110])
    """
    image = _check.image(image)
    shift = within(shift, "shift", -_MOST, _MOST)
    scale, gamma = within(scale, "scale", 0, _MOST), within(gamma, "gamma", 0.01, 100)
    if shift == 0 and scale == 1 and gamma == 1:
        return image.copy()
    low, high = span(image)

    def change(values: np.ndarray, start: int) -> np.ndarray:
        if gamma != 1 and high > low:
            # Halves, as the range of float64 itself would overflow.
            share = (values / 2 - low / 2) / (high / 2 - low / 2)
            bent = np.clip(share, 0, 1) ** gamma
            values = low * (1 - bent) + high * bent
        return values * scale + shift

    return changed(image, change)
