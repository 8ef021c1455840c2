"""Parting an image into regions by its grey values."""

from typing import Annotated, Literal

import numpy as np

from .. import remarks
from ..errors import InputError
from ..types import ImageArray, LabelArray, Role, Seeds
from . import _check, _grow_limits, _grow_mean, _otsu

# Neighbours in the plane and in the volume -> axes along which a neighbour may differ.
_RANKS = {2: {4: 1, 8: 2}, 3: {6: 1, 18: 2, 26: 3}}
_CONFIDENCE = {"only": {"criterion": ("confidence",)}}


def otsu_thresholds(image: ImageArray, classes: Annotated[int, {"min": 2, "max": 8}] = 2) -> np.ndarray:
    """Return the thresholds that part an image into classes of the largest variance between them.

    The best of all partitions is found, not an approximation, whatever the number of classes.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape. Whole numbers, also those in a float array whose values span less than 4 million,
        are told apart one by one; fractions are counted in 4096 bins of equal width from the smallest to the
        largest value. NaN and infinite values are left out.
    classes : int
        Number of classes, from 2 to 255.

    Returns
    -------
    ndarray
        ``classes - 1`` increasing thresholds: integers for an image of integers, else float64. Class k holds the
        values above threshold k - 1 and up to and including threshold k. Each is a grey value that occurs or the upper
        edge of a bin; of several best sets, the lowest.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or has fewer different values than classes.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9(1), 1979.
    P.-S. Liao, T.-S. Chen and P.-C. Chung, A fast algorithm for multilevel thresholding, J. Inf. Sci. Eng. 17, 2001.

    Examples
    --------
    >>> otsu_thresholds(np.array([1, 2, 2, 9, 10, 10, 30, 31]), 3).tolist()
    [2, 10]
    """
    image = _check.image(image)
    classes = _check.whole(classes, "classes", 2)
    if classes > 255:
        raise InputError(f"classes must be at most 255, not {classes}")
    found = _otsu.histogram(image)
    if len(found.count) < classes:
        if len(found.count) == 1:
            raise InputError(f"image is constant ({found.upper[0]:g}): there is nothing to part into classes")
        raise InputError(f"image has only {len(found.count)} different values: it cannot make {classes} classes")
    thresholds = found.upper[_otsu.best_cuts(found, classes)]
    return thresholds.astype(np.float64) if image.dtype.kind == "f" else thresholds


def otsu(image: ImageArray, classes: Annotated[int, {"min": 2, "max": 8}] = 2) -> LabelArray:
    """Part an image into classes by Otsu's thresholds.

    Parameters
    ----------
    image : ndarray
        Real numbers of any shape.
    classes : int
        Number of classes, from 2 to 255; 2 parts background and foreground by one threshold.

    Returns
    -------
    ndarray of uint8
        0 for the darkest class to ``classes - 1`` for the brightest, as `otsu_thresholds` says. NaN and minus infinity
        are 0, plus infinity is the brightest class.

    Raises
    ------
    InputError
        If the image is empty, complex or not numeric, or has fewer different values than classes.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 9(1), 1979.

    Examples
    --------
    >>> otsu(np.array([1, 2, 2, 9, 10, 10])).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    image = _check.image(image)
    return parted(image, otsu_thresholds(image, classes))


def parted(image: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Part an image into classes at thresholds, as `otsu_thresholds` counts them."""
    return _otsu.parted(_check.image(image), thresholds)


def region_grow(
    image: ImageArray,
    seeds: Seeds,
    *,
    criterion: Literal["seed", "mean", "confidence"] = "seed",
    threshold: Annotated[float | None, {"min": 0.0, "max": 1e6, "only": {"criterion": ("seed", "mean")}}] = None,
    multiplier: Annotated[float, {"min": 0.1, "max": 20.0, "step": 0.1, **_CONFIDENCE}] = 2.5,
    iterations: Annotated[int, {"min": 0, "max": 100, **_CONFIDENCE}] = 4,
    radius: Annotated[int, {"min": 0, "max": 50, "unit": "voxels", **_CONFIDENCE}] = 1,
    connectivity: Literal[4, 8, 6, 18, 26] | None = None,
    mask: LabelArray | None = None,
    max_size: Annotated[float | None, {"min": 0.0, "max": 1e9, "step": 100.0, "unit": "mm\u00b3"}] = None,
    spacing: Annotated[tuple[float, ...] | None, Role("spacing")] = None,
) -> LabelArray:
    """Grow one region from one or many seeds over neighbours of like grey value.

    Parameters
    ----------
    image : ndarray
        (y, x) or (z, y, x), real numbers.
    seeds : (n, ndim) array_like
        Voxel indices in array order, rounded to the nearest voxel; all of them start the same region and belong to it
        whatever their value.
    criterion : {"seed", "mean", "confidence"}
        ``"seed"``: a voxel x joins where |I(x) - m| < `threshold`, with m the mean of the seeds' values.
        ``"mean"``: where |I(x) - mean(R)| < `threshold`, with the mean of the region R updated whenever a voxel
        joins. This depends on the order: voxels wait in a queue, the seeds in the order given; the first is taken
        and its neighbours are tried in array order (z slowest, x fastest, from low to high), each that fits joins at
        once and waits at the end of the queue. A voxel that did not fit is tried again from its other neighbours.
        ``"confidence"``: where I(x) lies in mean +- `multiplier` times the standard deviation, both included, first
        of the surroundings of the seeds, then of the region, which is grown anew `iterations` times. The interval is
        widened to hold the seeds' values. It ends early when nothing changes or the deviation is 0.
    threshold : float, optional
        Largest difference, exclusive, in the units of the image. Where not given, a tenth of the range from the 1st to
        the 99th percentile of the finite values (of at most a million of them, evenly spread).
    multiplier : float
        Half the width of the confidence interval, in standard deviations.
    iterations : int
        How often the confidence interval is estimated from the region; 0 for the surroundings of the seeds alone.
    radius : int
        The surroundings of a seed reach so many voxels along every axis, as far as they lie in image and mask.
    connectivity : {4, 8, 6, 18, 26}, optional
        Neighbours of a voxel: 4 or 8 in 2D, 6, 18 or 26 in 3D; 4 and 6 where not given.
    mask : ndarray, optional
        Of the shape of `image`; the region stays where it is not 0.
    max_size : float, optional
        Size in mm3 (in a plane mm2) at which the region stops growing, so that a leak ends early; the part it has by
        then is kept: by the mean in the order in which voxels join, else what is nearest to the seeds by steps.
    spacing : tuple of float, optional
        Size of a voxel in mm along every axis; 1 mm where not given.

    Returns
    -------
    ndarray of uint8
        1 in the region, 0 elsewhere. NaN and infinite voxels never join.

    Raises
    ------
    InputError
        If a seed lies outside the image or the mask, or on a NaN or infinite voxel; if a parameter is out of range,
        a threshold is given for the criterion of confidence, or the connectivity does not fit the number of axes.

    Notes
    -----
    ``"confidence"`` equals SimpleITK's ConfidenceConnected with 4 or 6 neighbours on images of floats, with these
    differences: SimpleITK cuts the decimals off the interval's ends for images of integers, and counts voxels beyond
    the border of the image, as copies of the last ones, among the surroundings.

    Memory beside the result: what the growing has to remember of a voxel lies in the result, where its row has room
    for that (44 to 64 voxels along the last axis, or 68 and more), else beside it, at least 44 bytes a row; a byte for
    each row; for the running mean a queue of the region's front. An image or a mask that is not in C order is copied.
    Without compiled loops (numba), before they are ready, for float16, and for a region that reaches `max_size`, it
    takes several bytes for each voxel of the region's surroundings.

    References
    ----------
    R. C. Gonzalez and R. E. Woods, Digital Image Processing, 4th ed., section 10.4, Region growing;
    R. Adams and L. Bischof, Seeded region growing, IEEE Trans. PAMI 16(6), 1994 (distance to the region's mean);
    T. S. Yoo (ed.), Insight into Images, 2004, section 5.1 (confidence connected).

    Examples
    --------
    >>> region_grow(np.array([[1, 2, 9, 2], [1, 2, 9, 2]]), [[0, 0]], threshold=3).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0]]
    """
    image = _check.image(image, dims=(2, 3))
    criterion = _check.choice(criterion, ("seed", "mean", "confidence"), "criterion")
    rank = _rank(connectivity, image.ndim)
    places = _seed_places(seeds, image)
    if mask is not None:
        mask = _check.labels(mask, "mask")
        _check.same_shape(image, mask, ("image", "mask"))
        for place in places:
            if not mask[tuple(place)]:
                raise InputError(f"seed {tuple(place.tolist())} lies outside the mask: move it inside")
    size = 1.0 if spacing is None else float(np.prod(_check.steps(spacing, image.ndim)))
    most = None
    if max_size is not None:
        most = int(min(_check.number(max_size, "max_size", above=0) / size + 1e-9, image.size))
    if criterion == "confidence":
        if threshold is not None:
            raise InputError("threshold is not used by the criterion 'confidence': leave it out, or set the multiplier")
        multiplier = _check.number(multiplier, "multiplier", above=0)
        iterations, radius = _check.whole(iterations, "iterations", 0), _check.whole(radius, "radius", 0)
        done = _grow_limits.by_confidence(image, mask, places, multiplier, iterations, radius, rank, most)
        grown, how = done.grown, f"grown from {done.low:g} to {done.high:g} (round {done.rounds} of {iterations})"
    else:
        chosen = _default_threshold(image) if threshold is None else _check.number(threshold, "threshold", above=0)
        how = f"threshold {chosen:g}{' (chosen automatically)' if threshold is None else ''}"
        if criterion == "seed":
            centre = float(np.mean([float(image[tuple(p)]) for p in places]))
            grower = _grow_limits.Grower(image, mask, places, rank, most)
            grown = grower.between(centre - chosen, centre + chosen, inclusive=False)
            how = f"{how} around {centre:g}"
        else:
            grown = _grow_mean.by_mean(image, mask, places, chosen, rank, most)
    region = grown.whole(image.shape)
    _report_region(image, grown, how, size, spacing is not None, max_size)
    return region


def _report_region(image: np.ndarray, grown, how: str, size: float, known: bool, limit) -> None:
    """Say what people want to know of a region: limits, mean, deviation and size."""
    found = grown.moments(image)
    unit, factor = ("ml", 1e-3) if image.ndim == 3 else ("mm\u00b2", 1.0)
    amount = f" ({found.count * size * factor:.4g} {unit})" if known else ""
    voxels = "voxel" if image.ndim == 3 else "pixel"
    remarks.note(
        f"region of {found.count:,} {voxels}{'s' if found.count > 1 else ''}{amount}: mean {found.mean:.4g}, "
        f"sd {found.sd:.4g}; {how}"
    )
    if grown.stopped:
        remarks.note(f"stopped at max_size {limit:g}: the region goes on, so raise max_size or narrow the criterion")


def _rank(connectivity: int | None, ndim: int) -> int:
    ranks = _RANKS[ndim]
    if connectivity is None:
        return 1
    if not isinstance(connectivity, int | np.integer) or connectivity not in ranks:
        wanted = ", ".join(str(n) for n in ranks)
        raise InputError(f"connectivity {connectivity!r} does not fit an image with {ndim} axes: use {wanted}")
    return ranks[connectivity]


def _seed_places(seeds, image: np.ndarray) -> np.ndarray:
    """Return the seeds as distinct voxel indices in the order given."""
    places = np.floor(_check.points(seeds, image.ndim, "seeds") + 0.5)
    outside = ((places < 0) | (places >= image.shape)).any(axis=1)
    if outside.any():
        seed = tuple(places[outside][0].tolist())
        raise InputError(f"seed {seed} lies outside the image of shape {image.shape}: move it inside")
    places = np.array(list(dict.fromkeys(map(tuple, places.astype(int).tolist()))))
    for place in places:
        if not np.isfinite(image[tuple(place)]):
            raise InputError(f"seed {tuple(place.tolist())} lies on a NaN or infinite voxel: choose another one")
    return places


def _default_threshold(image: np.ndarray) -> float:
    step = max(1, -(-image.size // 1_000_000))
    sample = image.reshape(-1)[::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise InputError("threshold cannot be chosen for an image of NaN and infinite values: give it")
    low, high = np.percentile(sample, (1, 99))
    spread = (high - low) or (sample.max() - sample.min())
    if not np.isfinite(spread):
        raise InputError(f"threshold cannot be chosen for values from {low:g} to {high:g}: give it")
    # In a constant image every threshold does.
    return float(spread / 10) or 1.0
