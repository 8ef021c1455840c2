"""Minimum, maximum, percentile, mean and Gaussian against scipy, and the mean against published results."""

import numpy as np
import pytest
from scipy import ndimage

import napari_lightbox as lb
from napari_lightbox.errors import InputError
from napari_lightbox.ops import _lines, filters

MODES = ("reflect", "nearest", "mirror", "constant", "wrap")
TYPES = ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d")
SHAPES = ((9, 8), (2, 3), (5, 6, 7), (1, 9, 2), (40, 3), (3, 4, 2, 5))


def numbers(rng, shape, dtype):
    """Random values over the whole range of the type, as far as scipy tells them apart, with ties."""
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1e3, shape).round(1).astype(dtype)
    if dtype == "?":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    wide = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    wide = wide // (1 << 11) if info.bits == 64 else wide
    return np.where(rng.random(shape) < 0.5, wide, (wide % 7).astype(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
def test_minimum_and_maximum_equal_scipy(rng, dtype, mode):
    for shape in SHAPES:
        image = numbers(rng, shape, dtype)
        for size in (1, 3, 5, 9):
            for ours, theirs in ((filters.minimum, ndimage.minimum_filter), (filters.maximum, ndimage.maximum_filter)):
                found = ours(image, size, mode=mode)
                assert found.dtype == image.dtype
                np.testing.assert_array_equal(found, theirs(image, size, mode=mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["B", "h", "f", "d", "?"])
def test_percentile_equals_scipy(rng, dtype, mode):
    for shape in SHAPES:
        image = numbers(rng, shape, dtype)
        for share in (0, 3, 10, 37.5, 50, 90, 99.9, 100):
            found = filters.percentile(image, share, 3, mode=mode)
            assert found.dtype == image.dtype
            np.testing.assert_array_equal(found, ndimage.percentile_filter(image, share, 3, mode=mode))


@pytest.mark.parametrize("size", [(1, 3, 5), (3, 1, 1), (1, 1, 7), (7, 3, 1)])
def test_a_size_for_each_axis(rng, size):
    image = rng.integers(-99, 99, (7, 8, 9)).astype(np.int16)
    np.testing.assert_array_equal(filters.minimum(image, size), ndimage.minimum_filter(image, size))
    np.testing.assert_array_equal(filters.maximum(image, size), ndimage.maximum_filter(image, size))
    np.testing.assert_array_equal(filters.percentile(image, 20, size), ndimage.percentile_filter(image, 20, size))
    truth = ndimage.uniform_filter(image.astype(float), size)
    np.testing.assert_allclose(filters.mean(image.astype(float), size), truth, atol=1e-9)


def test_many_chunks_equal_one(rng, monkeypatch):
    image = rng.integers(-99, 99, (23, 31, 29)).astype(np.int16)
    monkeypatch.setattr(_lines, "_CHUNK", 3000)
    monkeypatch.setattr(filters, "_TILE", 1000)
    for mode in MODES:
        np.testing.assert_array_equal(filters.maximum(image, 7, mode=mode), ndimage.maximum_filter(image, 7, mode=mode))
        found = filters.percentile(image, 30, 3, mode=mode)
        np.testing.assert_array_equal(found, ndimage.percentile_filter(image, 30, 3, mode=mode))
        found = filters.gaussian(image.astype(float), (2, 1, 1), 1.5, mode=mode)
        truth = ndimage.gaussian_filter(image.astype(float), (0.75, 1.5, 1.5), mode=mode)
        np.testing.assert_allclose(found, truth, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
def test_mean_equals_scipy_in_doubles(rng, dtype, mode):
    for shape in SHAPES:
        image = numbers(rng, shape, dtype)
        for size in (1, 3, 5, 11):
            found = filters.mean(image, size, mode=mode)
            truth = ndimage.uniform_filter(image.astype(np.float64), size, mode=mode)
            if np.dtype(dtype).kind in "iu":
                assert found.dtype == image.dtype
                # Rounded once: no more than half away, but for the digits that doubles lose.
                slack = 1e-9 if image.itemsize < 8 else 1e-15 * float(np.abs(truth).max())
                assert np.abs(found.astype(np.longdouble) - truth).max() <= 0.5 + slack
            else:
                assert found.dtype == (np.float32 if dtype == "?" else image.dtype)
                np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-3 if dtype == "f" else 1e-9)


def test_mean_rounds_halves_to_even():
    np.testing.assert_array_equal(filters.mean(np.array([1, 2, 0, 3, 1, 5, 3]), 1), [1, 2, 0, 3, 1, 5, 3])
    image = np.array([[0, 1, 0, 1, 0]]).repeat(2, 0)
    assert filters.mean(image, (1, 3)).tolist() == [[0, 0, 1, 0, 0]] * 2
    steps = np.repeat([[0, 1, 1, 2, 2, 3]], 1, 0) * 3
    assert filters.mean(steps, (1, 3))[0].tolist() == [1, 2, 4, 5, 7, 8]


def test_mean_of_the_largest_integers_stays_in_range():
    for dtype in (np.uint64, np.int64, np.uint8):
        image = np.full((5, 5), np.iinfo(dtype).max, dtype)
        found = filters.mean(image, 3)
        assert found.dtype == dtype
        assert (found >= np.iinfo(dtype).max - 4096).all() if image.itemsize == 8 else (found == 255).all()


@pytest.mark.parametrize(("number", "mode"), [(1, "constant"), (2, "nearest"), (3, "wrap"), (4, "reflect")])
def test_mean_equals_the_reference_of_the_image_biomarker_standard(data, number, mode):
    """IBSI 2, filter 1.a: a mean of 15 x 15 x 15 voxels of the checkerboard under four borders."""
    image = lb.read(data("filters_ibsi2/checkerboard.nii.gz"), kind="image").data.astype(np.float32)
    truth = lb.read(data(f"filters_ibsi2/1_a_{number}-ValidCRM.nii.gz"), kind="image").data.astype(np.float64)
    span = truth.max() - truth.min()
    assert np.abs(filters.mean(image, 15, mode=mode) - truth).max() <= 1e-4 * span


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
def test_gaussian_equals_scipy_in_doubles(rng, dtype, mode):
    for shape, spacing in (((9, 8), (2, 1)), ((5, 6, 7), (3, 0.7, 1.1)), ((1, 30, 2), (5, 1, 1)), ((40,), (0.5,))):
        image = numbers(rng, shape, dtype)
        for sigma in (0, 0.4, 1, 2.5):
            found = filters.gaussian(image, spacing, sigma, mode=mode)
            truth = ndimage.gaussian_filter(image.astype(np.float64), sigma / np.array(spacing), mode=mode)
            if np.dtype(dtype).kind in "iu":
                assert found.dtype == image.dtype
                small = image.itemsize <= 2
                slack = 2e-6 * float(np.abs(image.astype(float)).max()) if small else 1e-15 * np.abs(truth).max()
                assert np.abs(found.astype(np.longdouble) - truth).max() <= 0.5 + slack + 1e-9
            else:
                assert found.dtype == (np.float32 if dtype == "?" else image.dtype)
                np.testing.assert_allclose(found, truth, rtol=1e-6, atol=2e-3 if dtype == "f" else 1e-6)


def test_gaussian_is_in_mm_and_may_differ_by_axis(rng):
    image = rng.normal(size=(8, 9, 10))
    volume = lb.Volume.from_array(image, spacing=(4, 2, 1))
    truth = ndimage.gaussian_filter(image, (0.5, 1, 2))
    np.testing.assert_allclose(lb.apply("gaussian", volume, sigma=2).data, truth, atol=1e-12)
    plane = ndimage.gaussian_filter(image, (0, 1, 2))
    np.testing.assert_allclose(lb.apply("gaussian", volume, sigma=2, plane="axial").data, plane, atol=1e-12)
    found = filters.gaussian(image, (4, 2, 1), (0, 2, 3))
    np.testing.assert_allclose(found, ndimage.gaussian_filter(image, (0, 1, 3)), atol=1e-12)


NAN_CALLS = {
    "minimum": lambda a: filters.minimum(a, 3),
    "maximum": lambda a: filters.maximum(a, 3),
    "percentile": lambda a: filters.percentile(a, 25, 3),
    "mean": lambda a: filters.mean(a, 3),
    "gaussian": lambda a: filters.gaussian(a, (4.0,) * a.ndim, 1),
}


@pytest.mark.parametrize("name", NAN_CALLS)
@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_nan_stays_inside_its_windows(rng, name, dtype):
    image = rng.normal(size=(12, 13)).astype(dtype)
    image[3, 4] = image[0, 0] = np.nan
    touched = ndimage.maximum_filter(np.isnan(image), 3)
    found = NAN_CALLS[name](image)
    np.testing.assert_array_equal(np.isnan(found), touched)


@pytest.mark.parametrize("name", NAN_CALLS)
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_infinite_and_huge_values_stay_inside_their_windows(name, dtype):
    largest = np.finfo(dtype).max
    image = np.full((9, 9), largest * 0.99, dtype)
    if name != "mean" or dtype == "f":
        np.testing.assert_allclose(NAN_CALLS[name](image), image, rtol=1e-6)
    image = np.zeros((12, 13), dtype)
    image[3, 4], image[9, 9] = np.inf, -np.inf
    found = NAN_CALLS[name](image)
    far = np.ones_like(found, bool)
    far[2:5, 3:6] = far[8:11, 8:11] = False
    assert (found[far] == 0).all()
    if name in ("mean", "gaussian"):
        assert (found[2:5, 3:6] == np.inf).all()
        assert (found[8:11, 8:11] == -np.inf).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: filters.minimum(a, 4), "size must be odd"),
        (lambda a: filters.maximum(a, (3, 3, 3)), "size"),
        (lambda a: filters.mean(a, 3, mode="around"), "mode 'around' is unknown"),
        (lambda a: filters.percentile(a, 101), "percentile must be at most 100"),
        (lambda a: filters.percentile(a, -1), "percentile must be at least 0"),
        (lambda a: filters.percentile(a, "half"), "percentile must be a number"),
        (lambda a: filters.gaussian(a, (1, 1), -1), "sigma must be at least 0"),
        (lambda a: filters.gaussian(a, (1, 1), (1, -1)), "sigma must be at least 0"),
        (lambda a: filters.gaussian(a, (1, 1), (1, 1, 1)), "sigma must be 2 numbers"),
        (lambda a: filters.gaussian(a, (1, 0), 1), "spacing must be greater than zero"),
        (lambda a: filters.gaussian(a, (1, 1, 1), 1), "spacing must be 2 numbers"),
    ],
)
def test_refused_in_a_sentence(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(np.zeros((5, 6), np.int16))
    assert "\n" not in str(caught.value)
