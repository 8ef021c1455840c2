"""Medians and percentiles by kernels: the same as scipy, and as without kernels, to the last bit."""

import importlib
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from kernel_cases import MODES, image_of, shape_of, without_kernels
from scipy import ndimage

from napari_lightbox.ops import _ranks, _squares, _tiles, filters
from napari_lightbox.progress import Cancelled, listening

pytest.importorskip("numba")

# Windows, and the types of voxels they are tried with: so that few variants must be compiled.
CASES = [
    ((3, 3, 3), "?bBhHe"),
    ((3, 3), "hef"),
    ((1, 3, 3), "hef"),
    ((3, 1, 3), "hef"),
    # All kinds of lists that there are, but short ones, which are compiled in a second.
    ((5, 5, 1), "hHe"),
    ((7, 7, 1), "hHe"),
]
MORE = [
    ((3, 3, 3), "iIfqQd"),
    ((5, 5), "bBhHifd"),
    ((7, 7), "Bhif"),
    ((5, 3, 3), "hf"),
    ((3, 5, 7), "hf"),
    ((1, 5, 7), "Bh"),
    ((7, 3, 1), "h"),
    ((7, 7, 7), "h"),
    ((5, 5, 5), "Bhif"),
    ((3, 3), "?bBHiIqQd"),
]


@pytest.fixture(autouse=True)
def no_short_cuts(monkeypatch):
    """Small images would be left to scipy."""
    monkeypatch.setattr(filters, "_LITTLE_WORK", 0)
    monkeypatch.setattr(filters, "_LITTLE_SQUARES", 0)


@cache
def ready(dtype, sizes, rank):
    """Wait for the variants that serve a case: planes may have one of their own, where rows lie in one piece."""
    _, key = _ranks.axes_and_key(np.dtype(dtype), sizes, rank)
    assert _ranks.KERNELS.wait(key) is not None
    if _squares.serves(np.zeros((1,) * len(sizes), dtype), sizes):
        assert _squares.KERNELS.wait(_squares.key_of(np.dtype(dtype), rank)) is not None
    return True


def check_median(monkeypatch, rng, sizes, dtype):
    assert ready(dtype, sizes, int(np.prod(sizes)) // 2)
    image = image_of(rng, shape_of(rng, len(sizes)), dtype)
    mode = MODES[rng.integers(len(MODES))]
    kept = image.copy()
    found = filters.median(image, sizes, mode=mode)
    assert found.dtype == image.dtype
    case = f"{dtype} {image.shape} {image.strides} {sizes} {mode}"
    plain = without_kernels(monkeypatch, filters.median, image, sizes, mode=mode)
    np.testing.assert_array_equal(found, plain, err_msg=case)
    if dtype != "e":  # which scipy does not take
        np.testing.assert_array_equal(found, ndimage.median_filter(image, sizes, mode=mode), err_msg=case)
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(("sizes", "types"), CASES, ids=str)
def test_random_images_equal_scipy_and_the_plain_way(rng, monkeypatch, sizes, types):
    for i in range(40):
        check_median(monkeypatch, rng, sizes, types[i % len(types)])


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "types"), CASES + MORE, ids=str)
def test_many_random_images_equal_scipy_and_the_plain_way(monkeypatch, sizes, types):
    rng = np.random.default_rng(11)
    for i in range(140):
        check_median(monkeypatch, rng, sizes, types[i % len(types)])


@pytest.mark.parametrize("dtype", ["h", "H"])
def test_percentiles_equal_scipy_and_the_plain_way(rng, monkeypatch, dtype):
    for i in range(100):
        sizes = ((3, 3), (1, 3, 3), (3, 1, 3))[i % 3]
        assert ready(dtype, sizes, 2)
        image, mode = image_of(rng, shape_of(rng, len(sizes)), dtype), MODES[i % 5]
        found = filters.percentile(image, 25, sizes, mode=mode)
        plain = without_kernels(monkeypatch, filters.percentile, image, 25, sizes, mode=mode)
        np.testing.assert_array_equal(found, plain)
        np.testing.assert_array_equal(found, ndimage.percentile_filter(image, 25, sizes, mode=mode))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 3, 3), (5, 5), (5, 5, 5)], ids=str)
def test_percentiles_of_larger_windows_equal_scipy(rng, sizes):
    for percent in (4, 30, 75, 96):
        assert ready("h", sizes, int(np.prod(sizes) * percent / 100))
        for mode in MODES:
            image = image_of(rng, shape_of(rng, len(sizes)), "h")
            truth = ndimage.percentile_filter(image, percent, sizes, mode=mode)
            np.testing.assert_array_equal(filters.percentile(image, percent, sizes, mode=mode), truth)


def test_windows_with_nan_give_nan_and_all_others_what_they_gave(rng, monkeypatch):
    assert ready("f", (3, 3), 4)
    monkeypatch.setattr(_squares, "_LEAST_TILE", 100)
    monkeypatch.setattr(_squares, "_MOST_TILE", 2000)
    image = rng.normal(size=(90, 130)).astype(np.float32)
    clean = filters.median(image, 3)
    image[40, 50], image[0, 0], image[89, 70] = np.nan, np.nan, -np.inf
    found = filters.median(image, 3)
    spoilt = ndimage.maximum_filter(np.isnan(image), 3)
    np.testing.assert_array_equal(np.isnan(found), spoilt)
    touched = ndimage.maximum_filter(~np.isfinite(image), 3)
    np.testing.assert_array_equal(found[~touched], clean[~touched])
    np.testing.assert_array_equal(found, without_kernels(monkeypatch, filters.median, image, 3))


def test_tiles_make_no_difference(rng, monkeypatch):
    assert ready("h", (5, 5, 1), 12)
    image = image_of(rng, (23, 31, 90), "h")
    truth = filters.median(image, (5, 5, 1), mode="mirror")
    monkeypatch.setattr(_ranks, "_TILE", 500)
    monkeypatch.setattr(_ranks, "_LEAST_TILE", 500)
    np.testing.assert_array_equal(filters.median(image, (5, 5, 1), mode="mirror"), truth)


@pytest.mark.parametrize("width", [1, 2, 30, 31, 32, 33, 64, 65, 200])
def test_squares_equal_scipy_at_the_ends_of_rows_however_long(rng, width):
    assert ready("h", (1, 3, 3), 4)
    image = rng.integers(-9, 9, (2, 11, width), np.int16)
    for mode in MODES:
        truth = ndimage.median_filter(image, (1, 3, 3), mode=mode)
        np.testing.assert_array_equal(filters.median(image, (1, 3, 3), mode=mode), truth)


def test_squares_serve_rows_in_one_piece_only():
    image = np.zeros((4, 5, 6), np.float32)
    assert all(_squares.serves(image, sizes) for sizes in ((1, 3, 3), (3, 1, 3)))
    assert _squares.serves(image[0, ::-2], (3, 3))
    assert not any(_squares.serves(image, sizes) for sizes in ((3, 3, 1), (3, 3, 3), (1, 3, 5), (1, 1, 3), (5, 1, 3)))
    assert not any(_squares.serves(a, (3, 3)) for a in (image[0, :, ::2], image[0].T, image[0].astype(np.float16)))


def test_one_slice_alone_equals_that_of_all(rng):
    assert ready("h", (3, 3, 3), 13)
    image = image_of(rng, (7, 30, 100), "h")
    truth = filters.median(image, 3)
    for axis, index in ((0, 3), (1, 0), (2, 99)):
        with _tiles.only(axis, index, image.shape):
            found = filters.median(image, 3)
        np.testing.assert_array_equal(found.take(index, axis), truth.take(index, axis))


def test_nothing_is_asked_for_where_there_is_no_kernel():
    int16 = np.dtype("h")
    for sizes in ((3,), (9, 9), (1, 3), (1, 1, 3), (3, 3, 9), (3, 3, 3, 3)):
        assert _ranks.axes_and_key(int16, sizes, 1) is None
    # Windows along the planes of any stack are the same, and so are types of one width.
    for dtype, sizes in (("h", (5, 5)), ("H", (1, 5, 5)), ("e", (5, 1, 5))):
        assert _ranks.axes_and_key(np.dtype(dtype), sizes, 12)[1] == ("i2", 5, 1, 5, 12)


def test_a_failure_in_a_tile_gives_the_scratch_memory_back(rng, monkeypatch):
    assert ready("h", (3, 3, 3), 13)
    image = image_of(rng, (9, 40, 90), "h")
    truth = filters.median(image, 3)
    keys = importlib.import_module("napari_lightbox.ops._kernels.keys")

    def fail(*_):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "fetch_2", fail)
        for _ in range(3):
            with pytest.raises(MemoryError):
                filters.median(image, 3)
    np.testing.assert_array_equal(filters.median(image, 3), truth)
    assert sum(map(len, _ranks._spare)) <= _ranks._MOST_SPARE


def test_cancel_is_heard_between_tiles(rng):
    assert ready("h", (3, 3, 3), 13)
    reports = []

    def listener(*report):
        reports.append(report)
        if len(reports) == 3:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        filters.median(np.zeros((64, 256, 256), np.int16), 3)
    assert len(reports) == 3


def test_variants_kept_on_disk_by_several_processes_have_names_of_their_own():
    """Code is found by its name: one that depends on what a process has done before may name two variants."""
    program = (
        "from numba import typeof\n"
        "from numba.core.itanium_mangler import mangle_type\n"
        "from napari_lightbox.ops._kernels.emit import sizes_as_type\n"
        "sizes = ({'z': 3, 'y': 3, 'x': 3, 'rank': 13}, {'z': 5, 'y': 5, 'x': 5, 'rank': 62})\n"
        "for one in sizes[:: %d]:\n"
        "    print(mangle_type(typeof(sizes_as_type(**one))))\n"
    )
    found = [
        subprocess.run([sys.executable, "-c", program % way], capture_output=True, text=True, check=True).stdout.split()
        for way in (1, -1)
    ]
    assert found[0] == found[1][::-1]
    assert len(set(found[0])) == 2


@pytest.mark.parametrize(
    "sizes",
    [
        {"z": 7, "y": 1, "x": 5, "rank": 34},
        {"z": 7, "y": 7, "x": 7, "rank": 342},
        {"width": 24, "along": 3, "step": 2, "paired": 1, "inside": 8, "lanes": 16},
        {"width": 4, "along": 1, "step": 1, "paired": 0, "inside": 16, "lanes": 8, "adds": 1},
        {"paired": 0, "lanes": 16, "adds": 1},
    ],
)
def test_types_tell_sizes(sizes):
    from numba import typeof

    from napari_lightbox.ops._kernels.emit import sizes_as_type, sizes_of

    assert sizes_of(typeof(sizes_as_type(**sizes)).dtype) == sizes
    with pytest.raises(ValueError, match="the code tells numbers from 0 to"):
        sizes_as_type(**dict.fromkeys(sizes, 512))
