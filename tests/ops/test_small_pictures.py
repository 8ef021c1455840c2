"""The median's short cuts for small pictures, squares of 3 x 3 and bool: the same as scipy, on either side of each."""

import numpy as np
import pytest
from scipy import ndimage

from napari_lightbox.ops import filters

MODES = ("reflect", "nearest", "mirror", "constant", "wrap")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["?", "B", "h", "i", "q", "f", "d"])
@pytest.mark.parametrize("size", [3, 5, (1, 3), (5, 3)])
def test_pictures_of_any_size_equal_scipy(rng, dtype, mode, size):
    for shape in ((1, 1), (1, 9), (8, 8), (30, 30), (31, 32), (64, 70)):
        image = (rng.random(shape) < 0.4) if dtype == "?" else (rng.normal(size=shape) * 50).astype(dtype)
        kept = image.copy()
        found = filters.median(image, size, mode=mode)
        assert found.dtype == image.dtype
        np.testing.assert_array_equal(found, ndimage.median_filter(image, size, mode=mode))
        np.testing.assert_array_equal(image, kept)
        assert not np.shares_memory(found, image)


@pytest.mark.parametrize("side", [9, 64])
@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_a_window_with_nan_gives_nan_at_any_size(rng, side, dtype):
    image = rng.normal(size=(side, side)).astype(dtype)
    clean = filters.median(image, 3)
    image[4, 5], image[0, 0], image[side - 1, 3] = np.nan, np.inf, -np.inf
    found = filters.median(image, 3)
    spoilt = np.zeros((side, side), bool)
    spoilt[3:6, 4:7] = True
    np.testing.assert_array_equal(np.isnan(found), spoilt)
    touched = ndimage.maximum_filter(~np.isfinite(image), 3)
    np.testing.assert_array_equal(found[~touched], clean[~touched])
    # Infinite values are ordered like others.
    assert found[0, 1] == np.median(np.sort(np.pad(image, 1, mode="symmetric")[0:3, 1:4].astype(float).ravel()))


@pytest.mark.parametrize("dtype", ["q", "Q"])
@pytest.mark.parametrize("size", [3, 5])
def test_large_integers_keep_all_digits_in_small_pictures(rng, dtype, size):
    top = np.iinfo(dtype).max
    image = top - rng.integers(0, 9, (12, 12)).astype(dtype)
    found = filters.median(image, size)
    padded = np.pad(image, size // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(12, 12, -1)
    np.testing.assert_array_equal(found, np.sort(windows, axis=-1)[..., size * size // 2])


@pytest.mark.parametrize("size", [3, 5, (3, 1, 5)])
def test_bool_volumes_take_the_majority(rng, size):
    image = rng.random((20, 30, 25)) < 0.5
    np.testing.assert_array_equal(filters.median(image, size), ndimage.median_filter(image, size))
