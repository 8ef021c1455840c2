"""Medians and percentiles of large windows by histograms that slide: as scipy has them, and as the plain way has."""

import math
from functools import cache

import numpy as np
import pytest
from kernel_cases import MODES, image_of, shape_of, without_kernels
from scipy import ndimage

from napari_lightbox.ops import _ranks, _sliding, _tiles, filters

pytest.importorskip("numba")

SIZES = [(9,), (9, 9), (9, 1), (21, 3), (3, 9, 9), (9, 1, 5), (1, 1, 11)]
MORE = [(3,), (1, 9), (1, 9, 9), (3, 5, 13), (9, 9, 9), (31, 31), (11, 11, 11), (5, 15, 7), (101,), (51, 9)]
# Those of few widths, so that few variants must be compiled.
TYPES = "hHeiIf"


@pytest.fixture(autouse=True)
def no_short_cuts(monkeypatch):
    """Small images would be left to scipy, and cut into one tile."""
    monkeypatch.setattr(filters, "_LITTLE_WORK", 0)


@cache
def ready(dtype, sizes=(9, 9)):
    """Wait for the variant that serves a case."""
    return _sliding.KERNELS.wait(_sliding.key_of(np.dtype(dtype), sizes)) is not None


def check(monkeypatch, rng, sizes, dtype, percent=50):
    assert ready(dtype, sizes)
    image = image_of(rng, shape_of(rng, len(sizes)), dtype)
    if rng.random() < 0.5:
        # More values than bins, so that the voxels of a bin must be told apart.
        monkeypatch.setattr(_sliding, "_BINS", int(rng.choice([70, 200])))
    monkeypatch.setattr(_sliding, "_TILE", int(rng.choice([300, 1 << 18])))
    mode = MODES[rng.integers(len(MODES))]
    kept, case = image.copy(), f"{dtype} {image.shape} {image.strides} {sizes} {mode}"
    found = filters.percentile(image, percent, sizes, mode=mode)
    assert found.dtype == image.dtype
    plain = without_kernels(monkeypatch, filters.percentile, image, percent, sizes, mode=mode)
    np.testing.assert_array_equal(found, plain, err_msg=case)
    # Half floats scipy does not take; where a window reaches twice across a small image, it may take wrong voxels.
    if image.ndim > 1 and dtype != "e" and all(s // 2 <= n for s, n in zip(sizes, image.shape, strict=True)):
        truth = ndimage.percentile_filter(image, percent, sizes, mode=mode)
        np.testing.assert_array_equal(found, truth, err_msg=case)
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_random_images_equal_scipy_and_the_plain_way(rng, monkeypatch, sizes):
    for dtype in TYPES:
        check(monkeypatch, rng, sizes, dtype)
    for percent in (10, 75, 99):
        check(monkeypatch, rng, sizes, "hf"[percent % 2], percent)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES + MORE, ids=str)
def test_many_random_images_equal_scipy_and_the_plain_way(monkeypatch, sizes):
    rng = np.random.default_rng(19)
    for i in range(130):
        check(monkeypatch, rng, sizes, "?bBhHeiIfqQd"[i % 12], (50, 50, 20, 97)[i % 4])


def test_columns_of_more_voxels_than_a_byte_counts(rng, monkeypatch):
    sizes = (17, 17, 17)
    assert _sliding.key_of(np.dtype("h"), sizes) == ("u2", "i2")
    assert ready("h", sizes)
    check(monkeypatch, rng, sizes, "h")
    full = np.full((5, 9, 40), 7, np.int16)
    full[:, :, 20:] = 8
    np.testing.assert_array_equal(filters.median(full, 17), full)


def test_windows_with_nan_give_nan_and_all_others_what_they_gave(rng, monkeypatch):
    monkeypatch.setattr(_sliding, "_TILE", 2000)
    for dtype in "ef":
        assert ready(dtype)
        image = rng.normal(size=(70, 90)).astype(dtype)
        clean = filters.median(image, (9, 11))
        image[40, 50], image[0, 0], image[69, 70] = np.nan, np.nan, -np.inf
        found = filters.median(image, (9, 11))
        np.testing.assert_array_equal(np.isnan(found), ndimage.maximum_filter(np.isnan(image), (9, 11)))
        touched = ndimage.maximum_filter(~np.isfinite(image), (9, 11))
        np.testing.assert_array_equal(found[~touched], clean[~touched])
        np.testing.assert_array_equal(found, without_kernels(monkeypatch, filters.median, image, (9, 11)))


@pytest.mark.parametrize("values", [1, 3, 5000, 1 << 40])
def test_bins_hold_the_values_in_order(rng, values):
    """However many values there are: bins are ranges, none is too full, and voxels in them are listed in order."""
    for dtype in ("i2", "i4"):
        assert ready(dtype)
        top = min(values, np.iinfo(dtype).max)
        voxels = rng.integers(-top, top, 60 * 70 * 3).astype(dtype)
        voxels[rng.random(len(voxels)) < 0.4] = voxels[0]
        bins = np.empty(len(voxels), np.uint16)
        ordered, (starts, alike, _) = _sliding.divide(voxels, bins, (3, 60, 70))
        assert len(alike) == len(starts) - 1 <= _sliding._BINS
        assert starts[0] == 0
        assert starts[-1] == len(ordered)
        different = np.unique(voxels)
        if len(different) <= _sliding._BINS and dtype == "i2":
            np.testing.assert_array_equal(ordered, different)
            np.testing.assert_array_equal(ordered[bins], voxels)
            continue
        np.testing.assert_array_equal(ordered, np.sort(voxels))
        order = np.argsort(voxels, kind="stable")
        np.testing.assert_array_equal(np.repeat(np.arange(len(alike)), np.diff(starts)), bins[order])
        for first, behind, same in zip(starts, starts[1:], alike, strict=False):
            assert same == (ordered[first] == ordered[behind - 1])
            assert same or behind - first < 2 * len(voxels) / _sliding._BINS + 2


def test_what_has_no_kernel_goes_the_plain_way():
    float32 = np.dtype("f")
    for sizes in ((1, 1), (9, 9, 9, 9), (257, 257)):
        assert _sliding.key_of(float32, sizes) is None
    assert _sliding.key_of(float32, (255, 257)) == ("u1", "i4")
    for sizes, wanted in (((9,), (1, 1, 9)), ((9, 1), (1, 9, 1)), ((9, 3, 5), (3, 5, 9)), ((1, 1, 7), (1, 7, 1))):
        axes, found = _sliding.axes_and_sizes(sizes)
        assert found == wanted
        assert sorted(axes) == list(range(len(sizes)))
        assert [sizes[axis] for axis in axes] == list(found[3 - len(sizes) :])


def test_windows_too_long_for_a_tile_go_the_plain_way(rng):
    assert ready("h")
    image = rng.integers(0, 9, (64, 64, 64), np.int16)
    assert ready("h", (1, 1, 1023))
    for sizes, served in (((1, 1, 65535), False), ((1, 63, 1023), False), ((1, 1, 1023), True), ((39, 39, 39), True)):
        assert (_sliding.compiled(image, sizes, 3, "nearest") is not None) == served
    assert _sliding.compiled(image[0, 0], (65535,), 3, "nearest") is not None


def test_a_kernel_that_becomes_ready_takes_over(rng, monkeypatch):
    assert ready("h")
    image = image_of(rng, (40, 50), "h")
    truth = filters.median(image, 9)
    real, asked = _sliding.compiled, []

    def later(*arguments):
        asked.append(1)
        return real(*arguments) if len(asked) > 3 else None

    monkeypatch.setattr(_sliding, "compiled", later)
    monkeypatch.setattr(filters, "_WORK", 81 * 100)
    np.testing.assert_array_equal(filters.median(image, 9), truth)
    assert len(asked) == 1 + len(_tiles.blocks(image.shape, 100))


def test_one_slice_alone_equals_that_of_all(rng):
    assert ready("f")
    image = image_of(rng, (12, 30, 40), "f")
    truth = filters.median(image, (3, 9, 5))
    for axis, index in ((0, 3), (1, 0), (2, 39)):
        with _tiles.only(axis, index, image.shape):
            found = filters.median(image, (3, 9, 5))
        np.testing.assert_array_equal(found.take(index, axis), truth.take(index, axis))


def test_scratch_memory_does_not_grow_with_the_image():
    """What tiles borrow is given back, and is no more for a large image than for a small one."""
    assert ready("h")
    borrowed = []
    for shape in ((600, 1200), (1200, 1200)):
        _ranks._spare.clear()
        filters.median(np.zeros(shape, np.int16), 9)
        borrowed.append(max(map(len, _ranks._spare)))
        assert math.prod(shape) > _sliding._TILE
    assert borrowed[0] <= 2 * borrowed[1]
