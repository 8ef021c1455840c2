"""Correcting uneven brightness: the N4 method, on a coarse grid, and its field taken to every voxel."""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np

from .. import remarks
from ..errors import InputError
from ..types import ImageArray, LabelArray
from . import _bias_fit, _check, _otsu, _tiles
from ._perturb_random import into, span
from .thresholding import first_at_least

# Voxels that are fitted where nobody says how many: enough for any smooth field, few enough for seconds.
_FITTED = 1 << 18
# Fewest voxels along an axis that is shrunk.
_LEAST = 4
_SLAB = 1 << 18
Shrink = Annotated[int | None, {"min": 1, "max": 64, "start": 4}]
Distance = Annotated[float | None, {"min": 0.1, "max": 10000.0, "step": 10.0, "start": 100, "unit": "mm"}]
Limit = Annotated[float | None, {"min": -1e9, "max": 1e9, "step": 1.0, "unit": "values"}]


def bias_correction(
    image: ImageArray,
    spacing: Sequence[float],
    levels: Annotated[int, {"min": 1, "max": 8}] = 4,
    *,
    iterations: Annotated[int, {"min": 1, "max": 1000}] = 50,
    convergence: Annotated[float, {"min": 0.0, "max": 1.0, "step": 0.0005}] = 0.001,
    control_spacing: Distance = None,
    shrink: Shrink = None,
    threshold: Limit = None,
    mask: LabelArray | None = None,
) -> ImageArray:
    """Divide by the smooth field of an uneven coil, found by the N4 method.

    The logarithm of the field is a cubic B-spline that makes the histogram of the image sharp. It is fitted to a shrunk
    image, from coarse to fine, and evaluated at every voxel. No method can know the factor of the whole field: it is
    chosen so that the mean of what is fitted stays. But for it, the field of an image that is not shrunk equals that of
    ``SimpleITK.N4BiasFieldCorrectionImageFilter`` with as many iterations at each level, within rounding.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape, 0 where there is no signal; every axis is fitted.
    spacing : sequence of float
        Distance of neighbouring voxels in mm, in array order.
    levels : int
        How often the spline is fitted, each time with control points half as far apart.
    iterations : int
        Largest number of iterations at each level.
    convergence : float
        A level ends when the field changes by less: coefficient of variation of the ratio of two successive fields.
    control_spacing : float, optional
        Distance of the control points at the first level in mm, as far as it divides the image. One stretch over the
        whole image where not given.
    shrink : int, optional
        Voxels along an axis that are averaged into one for the fit; 1 fits all of them. Axes with longer voxels are
        shrunk less, and none below 4 voxels. Where not given, as little as leaves at most 262144 voxels.
    threshold : float, optional
        Only voxels from this value on are fitted. Where neither this nor a mask is given, those above Otsu's threshold.
    mask : ndarray, optional
        Of the shape of `image`; only voxels where it is not 0 are fitted.

    Returns
    -------
    ndarray
        Same shape and type: whole numbers are rounded and clipped to the range of their type; float32 for bool. Every
        voxel is divided by the field, those that are not fitted, 0 and below, too. NaN and infinite voxels stay and
        are not fitted. An image with nothing to fit, or of one value, comes back as it is.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, a parameter is out of range, the mask does not fit, or control
        points would lie closer than half a fitted voxel.

    References
    ----------
    N. J. Tustison et al., N4ITK: improved N3 bias correction, IEEE Transactions on Medical Imaging 29(6), 2010.
    J. G. Sled, A. P. Zijdenbos and A. C. Evans, A nonparametric method for automatic correction of intensity
    nonuniformity in MRI data, IEEE Transactions on Medical Imaging 17(1), 1998.

    Examples
    --------
    >>> tissue = np.where(np.indices((40, 40))[0] % 8 < 4, 100.0, 160.0)
    >>> uneven = tissue * np.linspace(0.8, 1.25, 40)
    >>> even = bias_correction(uneven, spacing=(1, 1), threshold=1.0)
    >>> [float((part.std() / part.mean()).round(3)) for part in (uneven[tissue == 100], even[tissue == 100])]
    [0.13, 0.001]
    """
    image = _check.image(image)
    image = image.astype(np.float32) if image.dtype == bool else image
    shape = image.shape
    image, spacing, mask = _deep(image, spacing, mask)
    field = _field_of(image, spacing, shrink, threshold, mask, (levels, iterations, convergence, control_spacing))
    result = np.empty(image.shape, image.dtype)

    def work(slab: slice) -> None:
        part = image[slab]
        with np.errstate(over="ignore", invalid="ignore"):
            result[slab] = into(part / field(slab), part)

    _tiles.run(work, _tiles.slabs(image.shape, _SLAB), "slabs")
    return result.reshape(shape)


def bias_estimate(
    image: ImageArray,
    spacing: Sequence[float],
    levels: int = 4,
    *,
    iterations: int = 50,
    convergence: float = 0.001,
    control_spacing: float | None = None,
    shrink: int | None = None,
    threshold: float | None = None,
    mask: LabelArray | None = None,
) -> np.ndarray:
    """Return the field that `bias_correction` divides by.

    Parameters
    ----------
    image, spacing, levels, iterations, convergence, control_spacing, shrink, threshold, mask
        As for `bias_correction`.

    Returns
    -------
    ndarray of float32
        Factor of every voxel, of the shape of the image; 1 everywhere where there is nothing to correct.

    Raises
    ------
    InputError
        As `bias_correction` does.

    References
    ----------
    N. J. Tustison et al., N4ITK: improved N3 bias correction, IEEE Transactions on Medical Imaging 29(6), 2010.

    Examples
    --------
    >>> bias_estimate(np.full((4, 4), 7), spacing=(1, 1))[0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    image = _check.image(image)
    shape = image.shape
    image, spacing, mask = _deep(image, spacing, mask)
    field = _field_of(image, spacing, shrink, threshold, mask, (levels, iterations, convergence, control_spacing))
    result = np.empty(image.shape, np.float32)

    def work(slab: slice) -> None:
        result[slab] = field(slab)

    _tiles.run(work, _tiles.slabs(image.shape, _SLAB), "slabs")
    return result.reshape(shape)


def _deep(image: np.ndarray, spacing, mask) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return image, steps and mask without the first axes where these have one voxel: slabs could not be cut there."""
    steps = _check.steps(spacing, image.ndim)
    if mask is not None:
        mask = _check.labels(mask, "mask")
        _check.same_shape(image, mask, ("image", "mask"))
    first = next((axis for axis, n in enumerate(image.shape[:-1]) if n > 1), image.ndim - 1)
    single = (0,) * first
    return image[single], steps[first:], None if mask is None else mask[single]


def _field_of(image: np.ndarray, steps, shrink, threshold, mask, wanted: tuple) -> Callable[[slice], np.ndarray]:
    """Fit the field and return what gives it for a slab of the first axis."""
    fitted = _Fitted(image, steps, shrink)
    settings = _settings(fitted, steps, *wanted)
    fitted.gather(image, _region(image, threshold, mask))
    return fitted.field(fitted.lattice(settings))


def _settings(fitted: "_Fitted", steps, levels, iterations, convergence, distance) -> _bias_fit.Settings:
    levels, iterations = _check.whole(levels, "levels"), _check.whole(iterations, "iterations")
    convergence = _check.number(convergence, "convergence", least=0)
    spans = (1,) * len(steps)
    if distance is not None:
        distance = _check.number(distance, "control_spacing", above=0)
        spans = tuple(max(1, round(n * s / distance)) for n, s in zip(fitted.full, steps, strict=True))
    for n, count in zip(fitted.shape, spans, strict=True):
        if levels > 16 or count * 2 ** (levels - 1) > max(2 * n, 16):
            raise InputError(
                f"levels {levels} would part {n} fitted voxels into {count} x 2 ** {levels - 1} stretches of the "
                "spline: use fewer levels, a larger control_spacing or a smaller shrink"
            )
    return _bias_fit.Settings(spans, levels, iterations, convergence)


class _Fitted:
    """What is fitted of an image: blocks of voxels averaged into one, and which of them take part."""

    def __init__(self, image: np.ndarray, steps: np.ndarray, shrink) -> None:
        self.full = image.shape
        self.factors = _factors(image.shape, steps, shrink)
        self.shape = tuple(n // f for n, f in zip(self.full, self.factors, strict=True))
        # What does not fill a block is left out on both sides.
        self.starts = tuple((n % f) // 2 for n, f in zip(self.full, self.factors, strict=True))

    def gather(self, image: np.ndarray, inside: Callable[[tuple], np.ndarray]) -> None:
        """Average the voxels of each block that are inside; a block takes part where at least half of it is."""
        self.means, self.inside = np.ones(self.shape), np.zeros(self.shape, bool)
        factor = self.factors[0]
        places = [slice(s, s + n * f) for s, n, f in zip(self.starts, self.shape, self.factors, strict=True)]

        def work(slab: slice) -> None:
            start = self.starts[0]
            block = (slice(start + slab.start * factor, start + slab.stop * factor), *places[1:])
            there = inside(block)
            count = self._summed(there.astype(np.int32))
            self.inside[slab] = 2 * count >= np.prod(self.factors)
            values = self._summed(np.where(there, image[block], 0).astype(float))
            np.divide(values, count, out=self.means[slab], where=count > 0)

        thickness = factor * np.prod(self.full[1:], dtype=float)
        _tiles.run(work, _tiles.slabs(self.shape[:1], _SLAB / thickness), "slabs")

    def _summed(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of every block, axis by axis: the first one, which costs least a voxel, first."""
        for axis, factor in enumerate(self.factors):
            before = (slice(None),) * axis
            values = sum(values[(*before, slice(k, None, factor))] for k in range(factor))
        return values

    def lattice(self, settings: _bias_fit.Settings) -> np.ndarray | None:
        """Return the control points of the log field, or None where there is nothing to fit."""
        if not self.inside.any():
            remarks.note(
                "nothing was corrected, the result is the image: no voxel above 0 is bright enough, or lies in the mask"
            )
            return None
        lattice = _bias_fit.fit(self.means, self.inside, settings)
        # The rows of a spline's weights have sum 1: what is added to all control points is added to the log field.
        return lattice + np.log(self._gain(lattice))

    def _gain(self, lattice: np.ndarray) -> float:
        """Return how many times the mean of what is fitted would grow by dividing by the field."""
        along = [_bias_fit.weights(_places(n, n, 0, 1), k - 3) for n, k in zip(self.shape, lattice.shape, strict=True)]
        field = np.exp(np.tensordot(along[0], _bias_fit.along_later_axes(lattice, along[1:]), (1, 0)))
        return float((self.means / field)[self.inside].sum() / self.means[self.inside].sum())

    def field(self, lattice: np.ndarray | None) -> Callable[[slice], np.ndarray]:
        """Return what gives the field for a slab of the first axis of the image."""
        if lattice is None:
            return lambda slab: np.ones((slab.stop - slab.start, *self.full[1:]))
        weights = [
            _bias_fit.weights(_places(n, m, start, f), points - 3)
            for n, m, start, f, points in zip(
                self.full, self.shape, self.starts, self.factors, lattice.shape, strict=True
            )
        ]
        later = _bias_fit.along_later_axes(lattice, weights[1:])
        return lambda slab: np.exp(np.tensordot(weights[0][slab], later, (1, 0)))


def _places(size: int, blocks: int, start: int, factor: int) -> np.ndarray:
    """Return where voxels lie between the centres of the first block, 0, and the last, 1; those beyond lie there."""
    middle = (np.arange(size) - start - (factor - 1) / 2) / factor
    return np.clip(middle / max(1, blocks - 1), 0, 1)


def _factors(shape: tuple[int, ...], steps: np.ndarray, shrink) -> tuple[int, ...]:
    """Return how many voxels are averaged along each axis."""
    wide = [s for s, n in zip(steps, shape, strict=True) if n > 1]
    finest = min(wide, default=1.0)

    def factors(wanted: int) -> tuple[int, ...]:
        # As many as fit into the length that the finest voxels are shrunk to; the small share is for rounding.
        return tuple(
            max(1, min(int(wanted * finest / s * (1 + 1e-6)), n // _LEAST)) for s, n in zip(steps, shape, strict=True)
        )

    if shrink is not None:
        return factors(_check.whole(shrink, "shrink"))
    wanted, last = 1, max(shape) // _LEAST
    while wanted < last and np.prod([n // f for n, f in zip(shape, factors(wanted), strict=True)]) > _FITTED:
        wanted += 1
    return factors(wanted)


def _region(image: np.ndarray, threshold, mask) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Return what says, for a block of the image, which voxels are fitted: above 0, finite, bright, and in the mask."""
    low, high = span(image)
    if low < 0:
        remarks.note(
            "the image has values below 0, as CT has, while a bias field is of the coil of an MR scanner and cannot "
            "have made them: they are not fitted, and divided like all others"
        )
    least = None
    if threshold is not None:
        least = first_at_least(_check.number(threshold, "threshold"), image.dtype)
    cut = None
    if threshold is None and mask is None and low < high:
        found = _otsu.histogram(image)
        # Parts values that are all different from one another, as there are at least two.
        cut = found.upper[_otsu.best_cuts(found, 2)][0]

    def inside(places: tuple[slice, ...]) -> np.ndarray:
        part = image[places]
        found = (part > 0) & np.isfinite(part)
        if least is not None:
            found &= part >= least
        if cut is not None:
            found &= part > cut
        return found if mask is None else found & (mask[places] != 0)

    return inside
