"""Every filter against an independent truth: 200 random cases each of shape, type, size, border and memory layout.

The kernels for 16 bits are ready here and serve a part of the cases; other types go the plain way, as they would for
images as small as these. 2,000 cases of each filter are marked as slow.
"""

import itertools

import numpy as np
import pytest
from kernel_cases import MODES, image_of, shape_of
from scipy import ndimage
from test_region_grow import STEPS, plain_confidence, plain_mean

from napari_lightbox import Grid, Volume
from napari_lightbox.ops import _ready, filters, frequency, segmentation, spatial

TYPES = "?bBhHiIqfd"


@pytest.fixture(autouse=True)
def no_short_cuts(monkeypatch):
    """Small images would be left to scipy."""
    monkeypatch.setattr(filters, "_LITTLE_WORK", 0)
    monkeypatch.setattr(filters, "_LITTLE_SQUARES", 0)


def filtered(rng, number):
    """Return an image, a size for each axis and a border; images of 16 bits get the sizes that have a kernel here."""
    dtype = "h" if number % 2 else TYPES[number // 2 % len(TYPES)]
    axes = 2 + int(rng.integers(2))
    image = image_of(rng, shape_of(rng, axes), dtype)
    if dtype == "h":
        sizes = [(3, 3), (1, 3, 3)][axes - 2]
    else:
        sizes = tuple(int(n) for n in rng.choice([1, 3, 5, 7] if axes == 2 else [1, 3, 5], axes))
    mode = MODES[rng.integers(len(MODES))]
    return image, sizes, mode, f"{image.dtype} {image.shape} {image.strides} {sizes} {mode}"


def check_median(rng, number):
    image, sizes, mode, case = filtered(rng, number)
    found = filters.median(image, sizes, mode=mode)
    np.testing.assert_array_equal(found, ndimage.median_filter(image, sizes, mode=mode), err_msg=case)
    assert found.dtype == image.dtype


def check_minimum(rng, number):
    image, sizes, mode, case = filtered(rng, number)
    found = filters.minimum(image, sizes, mode=mode)
    np.testing.assert_array_equal(found, ndimage.minimum_filter(image, sizes, mode=mode), err_msg=case)


def check_maximum(rng, number):
    image, sizes, mode, case = filtered(rng, number)
    found = filters.maximum(image, sizes, mode=mode)
    np.testing.assert_array_equal(found, ndimage.maximum_filter(image, sizes, mode=mode), err_msg=case)


def check_percentile(rng, number):
    image, sizes, mode, case = filtered(rng, number)
    percent = 25 if image.dtype == np.int16 else float(rng.integers(0, 101))
    found = filters.percentile(image, percent, sizes, mode=mode)
    truth = ndimage.percentile_filter(image, percent, sizes, mode=mode)
    np.testing.assert_array_equal(found, truth, err_msg=f"{case} {percent}")


def gonzalez_and_woods(image, most, mode):
    """Compute the adaptive median as the book has it, every stage for all voxels."""
    result, open_still = None, np.ones(image.shape, bool)
    for size in range(3, most + 1, 2):
        low, high = (f(image, size, mode=mode) for f in (ndimage.minimum_filter, ndimage.maximum_filter))
        median = ndimage.median_filter(image, size, mode=mode)
        result = median.copy() if result is None else np.where(open_still, median, result)
        decided = open_still & (low < median) & (median < high)
        result[decided & (low < image) & (image < high)] = image[decided & (low < image) & (image < high)]
        open_still &= ~decided
    return result


def check_adaptive_median(rng, number):
    dtype = "h" if number % 2 else TYPES[number // 2 % len(TYPES)]
    axes = 2 + int(rng.integers(2))
    shape = tuple(min(n, 60 if axes == 2 else 14) for n in shape_of(rng, axes))
    image = image_of(rng, shape, dtype).copy()
    if rng.random() < 0.5:
        # A background as black as the pepper.
        image[..., : shape[-1] // 2] = image.min()
    most, mode = int(rng.choice([3, 5, 7] if axes == 2 else [3, 5])), MODES[rng.integers(len(MODES))]
    found = filters.adaptive_median(image, most, mode=mode)
    case = f"{dtype} {shape} {most} {mode}"
    np.testing.assert_array_equal(found, gonzalez_and_woods(image, most, mode), err_msg=case)


def distances(shape, centre=None):
    """Return the distance of every frequency from a centre, around the edge of the spectrum, or from zero."""
    away = np.zeros(shape)
    for axis, n in enumerate(shape):
        places = np.arange(n) - (0 if centre is None else centre[axis])
        places = (places + n / 2) % n - n / 2 if centre is not None else np.fft.fftfreq(n, 1 / n)
        away += (places**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.sqrt(away)


def by_full_spectrum(image, transfer):
    return np.fft.ifftn(np.fft.fftn(image.astype(float)) * transfer).real


def real_image(rng, number):
    axes = 2 + int(rng.integers(2))
    shape = tuple(int(n) for n in rng.integers(9, (14, 24, 40)[3 - axes :]))
    dtype = TYPES[number % len(TYPES)]
    image = (rng.random(shape) * 100 > 50) if dtype == "?" else (rng.random(shape) * 100).astype(dtype)
    return np.asfortranarray(image) if rng.random() < 0.3 else image


def near(found, truth, image, case):
    assert found.dtype in (np.float32, np.float64)
    atol = (2e-5 if found.dtype == np.float32 else 1e-11) * 100
    np.testing.assert_allclose(found, truth, rtol=0, atol=atol, err_msg=f"{image.dtype} {image.shape} {case}")


def check_band_reject(rng, number):
    image = real_image(rng, number)
    kind, order = ("ideal", "butterworth", "gaussian")[number % 3], int(rng.integers(1, 5))
    mode = ("reject", "pass")[number // 3 % 2]
    width = 0.4 + rng.random()
    centre = 1.3 + width / 2 + rng.random()
    away = distances(image.shape)
    with np.errstate(divide="ignore", over="ignore"):
        transfer = {
            "ideal": lambda: (np.abs(away - centre) > width / 2).astype(float),
            "butterworth": lambda: 1 / (1 + (away * width / (away**2 - centre**2)) ** (2 * order)),
            "gaussian": lambda: 1 - np.exp(-(((away**2 - centre**2) / (away * width)) ** 2)),
        }[kind]()
    transfer = transfer if mode == "reject" else 1 - transfer
    found = frequency.band_reject(image, centre, width, kind=kind, order=order, mode=mode)
    near(found, by_full_spectrum(image, transfer), image, f"{kind} {mode} {centre} {width}")


def check_notch(rng, number):
    image = real_image(rng, number)
    kind, order = ("ideal", "butterworth", "gaussian")[number % 3], int(rng.integers(1, 5))
    mode = ("reject", "pass")[number // 3 % 2]
    radius = 0.5 + rng.random()
    points = [[int(rng.integers(-(n // 2), (n + 1) // 2)) for n in image.shape] for _ in range(1 + number % 3)]
    points = [p for p in points if np.linalg.norm(p) > radius + 1] or [[3] * image.ndim]
    both = np.unique(np.array([*points, *(-np.array(points))]) % image.shape, axis=0)
    transfer = np.ones(image.shape)
    for point in both:
        away = distances(image.shape, point)
        with np.errstate(divide="ignore", over="ignore"):
            transfer *= {
                "ideal": lambda away=away: (away > radius).astype(float),
                "butterworth": lambda away=away: 1 / (1 + (radius / away) ** (2 * order)),
                "gaussian": lambda away=away: 1 - np.exp(-(away**2) / (2 * radius**2)),
            }[kind]()
    transfer = transfer if mode == "reject" else 1 - transfer
    found = frequency.notch(image, points, radius=radius, kind=kind, order=order, mode=mode)
    near(found, by_full_spectrum(image, transfer), image, f"{kind} {mode} {points} {radius}")


def check_resampled(data, found, places, order, fill):
    """Compare with scipy at the same places, but where a place lies on a face of the box, or between two voxels."""
    size = np.array(data.shape).reshape(3, 1, 1, 1)
    beyond = ((places < -0.5) | (places >= size - 0.5)).any(axis=0)
    unsure = (np.abs(np.abs(places - (size - 1) / 2) - size / 2) < 1e-6).any(axis=0)
    if order == "nearest":
        unsure |= (np.abs(places - np.floor(places) - 0.5) < 1e-6).any(axis=0)
        index = np.clip(np.floor(places + 0.5).astype(int), 0, size - 1)
        truth = data[tuple(index)].astype(float)
    else:
        mode = {"linear": "nearest", "cubic": "mirror"}[order]
        rank = {"linear": 1, "cubic": 3}[order]
        truth = ndimage.map_coordinates(data.astype(float), places, order=rank, mode=mode)
    truth[beyond] = fill
    assert found.dtype == data.dtype
    if data.dtype.kind in "iu":
        limits = np.iinfo(data.dtype)
        truth = truth.clip(limits.min, limits.max)
    slack = {"f": 2e-4, "i": 0.5 + 1e-4, "u": 0.5 + 1e-4}[data.dtype.kind] * (order != "nearest")
    wrong = (np.abs(found.astype(float) - truth) > slack) & ~unsure
    assert not wrong.any(), f"{order} {data.dtype} {data.shape} at {np.argwhere(wrong)[:3].tolist()}"


def volume_of(rng, number):
    shape = tuple(int(n) for n in rng.integers(1, (7, 12, 20)))
    data = (rng.random(shape) * 100).astype("hBfdiH"[number % 6])
    data = np.asfortranarray(data) if rng.random() < 0.3 else data
    return Volume(data, Grid.from_spacing(rng.random(3) + 0.5, shape, origin=rng.normal(size=3) * 50))


def places_of(source, target, backward=None):
    matrix = np.linalg.inv(source.affine) @ (np.eye(4) if backward is None else backward) @ target.affine
    index = np.indices(target.shape).reshape(3, -1)
    return (matrix[:3, :3] @ index + matrix[:3, 3:]).reshape(3, *target.shape)


def check_affine(rng, number):
    volume, order = volume_of(rng, number), ("nearest", "linear", "linear", "cubic")[number % 4]
    middle = volume.grid.to_world((np.array(volume.grid.shape) - 1) / 2)
    # The middle stays in the box, so that something of the volume is left.
    shift = (rng.random(3) - 0.5) * 0.8 * volume.grid.spacing
    turn, shear = rng.normal(size=3) * 40, rng.normal(size=3) * 0.2
    forward = spatial.affine_matrix(shift, turn, 0.7 + rng.random(3), shear, middle)
    found = spatial.affine(volume, forward, order=order, fill=7)
    assert found.grid.same_space(volume.grid)
    places = places_of(volume.grid, found.grid, np.linalg.inv(forward))
    check_resampled(volume.data, found.data, places, order, 7)


def check_resample(rng, number):
    volume, order = volume_of(rng, number), ("nearest", "linear", "cubic", "linear")[number % 4]
    found = spatial.resample(volume, tuple(np.array(volume.grid.spacing) * (0.5 + rng.random(3))), order=order, fill=3)
    check_resampled(volume.data, found.data, places_of(volume.grid, found.grid), order, 3)


def spread(values, counts, cuts):
    """Return the variance between the classes that some cuts make, times the number of voxels."""
    parts = np.split(np.arange(len(values)), cuts)
    return sum((values[p] * counts[p]).sum() ** 2 / counts[p].sum() for p in parts)


def check_otsu(rng, number):
    dtype, classes = "hBbHiIqfd"[number % 9], 2 + number % 2
    image = (rng.normal(size=shape_of(rng, 2)) * 3 + rng.choice([40, 50, 70])).round().astype(dtype)
    image.flat[: classes + 1] = np.arange(classes + 1)[: image.size]
    values, counts = np.unique(image, return_counts=True)
    if len(values) < classes:
        return
    values = values.astype(float)
    thresholds = segmentation.otsu_thresholds(image, classes)
    best = max(spread(values, counts, cuts) for cuts in itertools.combinations(range(1, len(values)), classes - 1))
    cuts = np.searchsorted(values, thresholds, side="right")
    assert spread(values, counts, cuts) == pytest.approx(best, rel=1e-12)
    truth = sum((image > t).astype(int) for t in thresholds)
    np.testing.assert_array_equal(segmentation.otsu(image, classes), truth)


def check_region_grow(rng, number):
    connectivity = list(STEPS)[number % 5]
    ndim, rank = STEPS[connectivity]
    shape = tuple(int(n) for n in rng.integers(1, (14, 12) if ndim == 2 else (6, 7, 6)))
    image = (ndimage.gaussian_filter(rng.normal(size=shape), 1) * 60 + 100).round().clip(0, 255)
    image = image.astype("h" if number % 2 else "BHifd"[number // 2 % 5])
    image = np.asfortranarray(image) if rng.random() < 0.3 else image
    mask = (rng.random(shape) > 0.1).astype(np.uint8) if rng.random() < 0.3 else None
    # A seed that is named twice counts once, which the plain ways do not look after.
    seeds = list(dict.fromkeys(tuple(int(rng.integers(0, n)) for n in shape) for _ in range(1 + number % 3)))
    for seed in seeds if mask is not None else ():
        mask[seed] = 1
    given = {"criterion": ("seed", "mean", "confidence")[number // 5 % 3], "connectivity": connectivity, "mask": mask}
    threshold = float(rng.integers(5, 40))
    if given["criterion"] == "confidence":
        found = segmentation.region_grow(image, seeds, multiplier=1.5, iterations=2, **given)
        truth = plain_confidence(image, seeds, 1.5, 2, 1, connectivity, mask)
    elif given["criterion"] == "mean":
        found = segmentation.region_grow(image, seeds, threshold=threshold, **given)
        truth = plain_mean(image, seeds, threshold, connectivity, mask)
    else:
        found = segmentation.region_grow(image, seeds, threshold=threshold, **given)
        middle = np.mean([float(image[s]) for s in seeds])
        allowed = (np.abs(image.astype(float) - middle) < threshold) & (True if mask is None else mask != 0)
        for seed in seeds:
            allowed[seed] = True
        labelled, _ = ndimage.label(allowed, ndimage.generate_binary_structure(ndim, rank))
        truth = np.isin(labelled, [labelled[s] for s in seeds])
    np.testing.assert_array_equal(found, truth, err_msg=f"{given} {image.dtype} {shape} {seeds} {threshold}")


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
del CHECKS["resampled"]


@pytest.fixture(scope="module")
def ready():
    """Have the kernels for 16 bits ready; where there are none, the plain way is all there is."""
    plane, deep = np.zeros((9, 80), np.int16), np.zeros((3, 9, 80), np.int16)
    plane[4, 4] = deep[1, 4, 4] = 9
    volume = Volume(deep, Grid.from_spacing((1, 1, 1), deep.shape))
    with _ready.waiting(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "_LITTLE_WORK", 0)
        patch.setattr(filters, "_LITTLE_SQUARES", 0)
        for image, sizes in ((plane, (3, 3)), (deep, (1, 3, 3))):
            filters.median(image, sizes)
            filters.percentile(image, 25, sizes)
            segmentation.region_grow(image, [(0,) * image.ndim], threshold=3)
            segmentation.region_grow(image, [(0,) * image.ndim], threshold=3, criterion="mean")
        segmentation.otsu(plane)
        spatial.affine(volume, rotate=(5, 0, 0))
        spatial.resample(volume, (1, 1.5, 1.5))


@pytest.mark.parametrize("name", CHECKS)
def test_two_hundred_random_cases(ready, name):
    rng = np.random.default_rng(200)
    for number in range(200):
        CHECKS[name](rng, number)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_two_thousand_random_cases(ready, name):
    rng = np.random.default_rng(2000)
    for number in range(2000):
        CHECKS[name](rng, number)
