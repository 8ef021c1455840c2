"""Median and adaptive median against scipy and against the textbook, voxel by voxel."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.ops import filters

MODES = ("reflect", "nearest", "mirror", "constant", "wrap")
SCIPY_TYPES = ("?", "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d")
NUMPY_PAD = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap", "constant": "constant"}


def numbers(rng, shape, dtype):
    """Random values over the whole range of the type, with many ties."""
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1e3, shape).round(rng.integers(-2, 3)).astype(dtype)
    if dtype == "?":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    wide = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    if info.bits == 64:
        # scipy compares float64, which 64-bit integers beyond 2 ** 53 do not survive; ours keep every digit.
        wide //= 1 << 11
    return np.where(rng.random(shape) < 0.5, wide, (wide % 7).astype(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", SCIPY_TYPES)
def test_median_equals_scipy(rng, dtype, mode):
    for shape in ((9, 8), (2, 3), (5, 6, 7), (1, 9, 2), (40, 3), (3, 4, 2, 5)):
        image = numbers(rng, shape, dtype)
        for size in (1, 3, 5):
            found = filters.median(image, size, mode=mode)
            assert found.dtype == image.dtype
            np.testing.assert_array_equal(found, ndimage.median_filter(image, size, mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_median_of_a_line_equals_scipy(rng, mode):
    for length in (2, 3, 11):
        line = rng.integers(0, 50, length)
        for size in (3, 5, 7):
            # scipy's own filter for one axis reads beyond short lines: ask for the same window in a plane.
            truth = ndimage.median_filter(line[None], (1, size), mode=mode)[0]
            np.testing.assert_array_equal(filters.median(line, size, mode=mode), truth)


def test_median_with_a_size_for_each_axis(rng):
    image = rng.integers(0, 99, (7, 8, 9)).astype(np.int16)
    for size in ((1, 3, 5), (3, 1, 1), (1, 1, 3), (7, 3, 1)):
        np.testing.assert_array_equal(filters.median(image, size), ndimage.median_filter(image, size))


def test_median_in_many_tiles_equals_one_run(rng, monkeypatch):
    image = rng.integers(-99, 99, (23, 31, 29)).astype(np.int16)
    monkeypatch.setattr(filters, "_TILE", 1000)
    for mode in MODES:
        np.testing.assert_array_equal(filters.median(image, 5, mode=mode), ndimage.median_filter(image, 5, mode=mode))


def test_median_of_a_large_window_equals_scipy_and_simpleitk(rng):
    image = rng.normal(size=(8, 20, 18)).astype(np.float32)
    found = filters.median(image, 15, mode="nearest")
    np.testing.assert_array_equal(found, ndimage.median_filter(image, 15, mode="nearest"))
    # SimpleITK repeats the outer voxels as mode "nearest" does.
    truth = sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(image), [7, 7, 7]))
    np.testing.assert_array_equal(found, truth)


def test_median_tells_the_largest_integers_apart():
    image = np.array([[0, 2, 1], [5, 4, 3], [8, 6, 7]], np.int64) + (1 << 62)
    assert filters.median(image, 3)[1, 1] == (1 << 62) + 4


def test_median_of_half_precision_selects_values(rng):
    image = rng.normal(size=(9, 9)).astype(np.float16)
    found = filters.median(image, 3)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, ndimage.median_filter(image.astype(np.float32), 3).astype(np.float16))


@pytest.mark.parametrize("mode", MODES)
def test_median_gives_nan_exactly_where_the_window_holds_nan(rng, mode):
    image = rng.normal(size=(12, 13))
    image[3, 4] = image[0, 0] = np.nan
    image[7, 7], image[7, 8] = np.inf, -np.inf
    padded = np.pad(image, 1, mode=NUMPY_PAD[mode])
    truth = np.median(np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(12, 13, 9), axis=-1)
    np.testing.assert_array_equal(filters.median(image, 3, mode=mode), truth)


def textbook_adaptive_median(image, max_size, mode):
    """Gonzalez and Woods, stage A and stage B, one voxel after the other."""
    reach = max_size // 2
    padded = np.pad(image, reach, mode=NUMPY_PAD[mode])
    result = image.copy()
    for place in np.ndindex(image.shape):
        value = image[place]
        for size in range(3, max_size + 1, 2):
            window = padded[tuple(slice(p + reach - size // 2, p + reach + size // 2 + 1) for p in place)]
            low, middle, high = window.min(), np.median(window), window.max()
            if middle - low > 0 and middle - high < 0:
                result[place] = value if value - low > 0 and value - high < 0 else middle
                break
        else:
            result[place] = middle
    return result


def salt_and_pepper(rng, shape, dtype, share):
    low, high = (0, 255) if dtype == "B" else (-1000, 3000)
    image = rng.integers(50, 70, shape).astype(np.int32)
    chance = rng.random(shape)
    image[chance < share / 2], image[chance > 1 - share / 2] = low, high
    return image.astype(dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("max_size", [3, 5, 7, 9])
def test_adaptive_median_equals_the_textbook(rng, max_size, mode):
    for shape in ((25,), (17, 14), (6, 7, 8), (2, 3)):
        for dtype in ("B", "h", "f"):
            image = salt_and_pepper(rng, shape, dtype, 0.6).astype(np.int32 if dtype != "f" else np.float32)
            truth = textbook_adaptive_median(image, max_size, mode)
            found = filters.adaptive_median(image.astype(dtype), max_size, mode=mode)
            assert found.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(found, truth.astype(dtype))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_adaptive_median_on_a_background_that_equals_the_pepper(rng, share):
    """Windows grow to the end all over the background, and the outcome must still be the textbook's."""
    image = salt_and_pepper(rng, (12, 40, 30), "h", share).astype(np.int32)
    image[:, :25] = -1000
    image[rng.random(image.shape) < 0.04] = 3000
    image[:6, :12] = -1000
    truth = textbook_adaptive_median(image, 7, "reflect")
    np.testing.assert_array_equal(filters.adaptive_median(image.astype(np.int16), 7), truth)


def test_adaptive_median_on_a_background_that_is_no_extreme(rng):
    image = np.full((40, 40), 7)
    image[rng.random(image.shape) < 0.3] = 0
    image[:20][rng.random((20, 40)) < 0.1] = 9
    np.testing.assert_array_equal(filters.adaptive_median(image, 9), textbook_adaptive_median(image, 9, "reflect"))


def test_adaptive_median_in_many_tiles_equals_the_textbook(rng, monkeypatch):
    monkeypatch.setattr(filters, "_TILE", 200)
    image = salt_and_pepper(rng, (15, 16, 12), "h", 0.7).astype(np.int32)
    truth = textbook_adaptive_median(image, 7, "mirror")
    np.testing.assert_array_equal(filters.adaptive_median(image, 7, mode="mirror"), truth)


def test_adaptive_median_with_nan_follows_the_textbook_in_which_nan_never_compares(rng):
    image = salt_and_pepper(rng, (20, 21), "f", 0.6)
    image[5, 6] = image[0, 20] = np.nan
    image[15, 3] = np.inf
    with np.errstate(invalid="ignore"):
        truth = textbook_adaptive_median(image, 7, "reflect")
    found = filters.adaptive_median(image, 7)
    np.testing.assert_array_equal(found, truth)
    assert np.isnan(found[4:7, 5:8]).all()


def test_adaptive_median_removes_noise_and_keeps_the_rest():
    """A ramp has no extreme inside, so only the noise may change."""
    clean = np.add.outer(np.arange(40), np.arange(50)).astype(np.int16) + 100
    noisy = clean.copy()
    noisy[10, 10], noisy[20, 30], noisy[20, 31] = 0, 5000, 0
    found = filters.adaptive_median(noisy, 7)
    changed = found != noisy
    assert changed[10, 10]
    assert changed[20, 30]
    assert changed[20, 31]
    assert np.abs(found[5:-5, 5:-5] - clean[5:-5, 5:-5]).max() <= 2
    assert changed[5:-5, 5:-5].sum() == 3
