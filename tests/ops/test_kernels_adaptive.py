"""The adaptive median by kernels: the same as without them, to the last bit, whatever the image is like."""

from functools import cache

import numpy as np
import pytest
from kernel_cases import MODES, image_of, shape_of, without_kernels
from scipy import ndimage

from napari_lightbox.ops import _adaptive, _ranks, filters

pytest.importorskip("numba")


@cache
def ready(dtype, axes):
    """Wait for the variants that serve a case."""
    dtype = np.dtype(dtype)
    medians = _ranks.KERNELS.wait(_ranks.axes_and_key(dtype, (3,) * axes, 3**axes // 2)[1])
    return medians is not None and _adaptive.KERNELS.wait((_ranks.stand_in(dtype)[0].str[1:],)) is not None


def noisy(rng, shape, dtype):
    """Return an image with salt and pepper, in which there may be a background as black as the pepper."""
    image = image_of(rng, shape, dtype).copy()
    if np.dtype(dtype).kind == "b":
        return image
    least, most = image.min(), image.max()
    if rng.random() < 0.5:
        image[..., : shape[-1] // 2] = least
    places, share = rng.random(shape), 0.7 * rng.random()
    image[places < share / 2] = least
    image[places > 1 - share / 2] = most
    return image


def check(monkeypatch, rng, dtype, axes):
    assert ready(dtype, axes)
    image = noisy(rng, shape_of(rng, axes), dtype)
    max_size, mode = int(rng.choice([3, 5, 7, 9, 15])), MODES[rng.integers(len(MODES))]
    found = filters.adaptive_median(image, max_size, mode=mode)
    plain = without_kernels(monkeypatch, filters.adaptive_median, image, max_size, mode=mode)
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found, plain, err_msg=f"{dtype} {image.shape} {max_size} {mode}")


@pytest.mark.parametrize("axes", [2, 3])
def test_random_images_equal_the_plain_way(rng, monkeypatch, axes):
    for i in range(100):
        check(monkeypatch, rng, "hHe"[i % 3], axes)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("dtype", list("?bBhHeiIfqQd"))
def test_many_random_images_equal_the_plain_way(monkeypatch, dtype, axes):
    rng = np.random.default_rng(13)
    for _ in range(90):
        check(monkeypatch, rng, dtype, axes)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("together", [0, 4, np.inf])
def test_looking_at_all_voxels_or_at_each_is_the_same(rng, monkeypatch, axes, together):
    """0: all windows' extremes are found together; infinity: each open voxel is looked at for itself."""
    assert ready("h", axes)
    kernel = _adaptive.KERNELS.get(("i2",))
    shape = (60, 70) if axes == 2 else (12, 20, 40)
    image = noisy(rng, shape, "h")
    truth = without_kernels(monkeypatch, filters.adaptive_median, image, 9)
    variants = {("i2",): lambda *arguments: kernel(*arguments, together)}
    monkeypatch.setattr(_adaptive.KERNELS, "_ready", variants)
    np.testing.assert_array_equal(filters.adaptive_median(image, 9), truth)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6])
def test_a_large_background_as_black_as_the_pepper(rng, monkeypatch, share):
    assert ready("h", 3)
    image = np.zeros((16, 50, 60), np.int16)
    image[:, 10:35, 20:50] = ndimage.gaussian_filter(rng.normal(1000, 300, (16, 25, 30)), 1)
    places = rng.random(image.shape)
    image[places < share / 2], image[places > 1 - share / 2] = 0, 4000
    for max_size in (5, 7, 15):
        found = filters.adaptive_median(image, max_size)
        plain = without_kernels(monkeypatch, filters.adaptive_median, image, max_size)
        np.testing.assert_array_equal(found, plain)


def test_nan_and_infinite_voxels_spoil_no_more_than_the_plain_way(rng, monkeypatch):
    assert ready("e", 2)
    monkeypatch.setattr(_ranks, "_TILE", 300)
    monkeypatch.setattr(_adaptive, "_LEAST_TILE", 300)
    image = noisy(rng, (60, 70), "e")
    image[20, 30], image[59, 0], image[5, 5], image[40, 66] = np.nan, np.nan, np.inf, -np.inf
    found = filters.adaptive_median(image, 7)
    np.testing.assert_array_equal(found, without_kernels(monkeypatch, filters.adaptive_median, image, 7))
    assert np.isnan(found).any()


def test_images_of_one_value_and_of_one_voxel(monkeypatch):
    assert ready("h", 2)
    assert ready("h", 3)
    for shape in ((1, 1), (1, 1, 1), (9, 40), (4, 9, 40)):
        image = np.full(shape, -7, np.int16)
        np.testing.assert_array_equal(filters.adaptive_median(image, 15), image)


def test_zeros_of_both_signs_are_one_number(monkeypatch):
    assert ready("f", 2)
    image = np.random.default_rng(2).choice(np.array([-1, -0.0, 0.0, 1, 2], np.float32), (30, 70))
    for max_size in (3, 5, 15):
        found = filters.adaptive_median(image, max_size)
        np.testing.assert_array_equal(found, without_kernels(monkeypatch, filters.adaptive_median, image, max_size))


def by_definition(image, max_size):
    """Return the adaptive median, voxel by voxel, in Python's whole numbers."""
    result, reach = image.copy(), max_size // 2
    padded = np.pad(image, reach, mode="symmetric")
    for place in np.ndindex(image.shape):
        for size in range(3, max_size + 1, 2):
            window = padded[tuple(slice(p + reach - size // 2, p + reach + size // 2 + 1) for p in place)]
            low, *_, high = ordered = sorted(window.ravel().tolist())
            middle = ordered[len(ordered) // 2]
            if low < middle < high or size == max_size:
                passed = low < middle < high and low < int(image[place]) < high
                result[place] = image[place] if passed else middle
                break
    return result


@pytest.mark.parametrize("dtype", ["q", pytest.param("Q", marks=pytest.mark.slow)])
def test_all_digits_of_large_whole_numbers_count(rng, monkeypatch, dtype):
    assert ready(dtype, 2)
    most = np.iinfo(dtype).max
    image = rng.choice(np.array([most, most - 1, most - 2, most - 3], dtype), (12, 13))
    truth = by_definition(image, 5)
    np.testing.assert_array_equal(filters.adaptive_median(image, 5), truth)
    np.testing.assert_array_equal(without_kernels(monkeypatch, filters.adaptive_median, image, 5), truth)


def test_a_small_plane_is_one_tile_for_any_number_of_threads(monkeypatch):
    assert ready("h", 2)
    monkeypatch.setenv("LIGHTBOX_THREADS", "8")
    image = np.zeros((512, 512), np.int16)
    assert _adaptive.compiled(image, 7, "reflect").tiles(image.shape, 1 << 18) == [(slice(0, 512), slice(0, 512))]


def test_what_has_no_kernel_goes_the_plain_way():
    one = np.zeros((5, 5), np.int16)
    assert _adaptive.compiled(one, 33, "reflect") is None
    assert _adaptive.compiled(one[0], 5, "reflect") is None
    assert _adaptive.compiled(one[None, None], 5, "reflect") is None


@pytest.mark.parametrize("flat", [False, True])
def test_first_windows_equal_those_worked_out_pass_by_pass(rng, flat):
    from napari_lightbox.ops._kernels.adaptive import first_2
    from napari_lightbox.ops._kernels.emit import lanes
    from napari_lightbox.ops._kernels.first import first_windows_1

    vector = lanes(np.dtype("i2"))
    for more, values in ((0, 6), (1, 6), (7, 100), (vector, 6), (2 * vector - 1, 100)):
        shape, reach = (1 if flat else 3, 19, vector + more), (0 if flat else 2, 2, 2)
        voxels = rng.integers(0, values, [n + 2 * r for n, r in zip(shape, reach, strict=True)], np.int16)
        middle = rng.integers(0, values, shape, np.int16)
        truth, found = np.empty_like(middle), np.empty_like(middle)
        truth_open, found_open = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        count = first_2(voxels, reach, middle, truth, truth_open, np.empty((4, voxels[0].size), np.int16))
        assert count == truth_open.sum()
        assert first_windows_1(voxels, reach, middle, found, found_open, vector) == count
        np.testing.assert_array_equal(found, truth)
        np.testing.assert_array_equal(found_open, truth_open)


def window_by_window(padded, reach, size, marked, out, still_open):
    """Decide about the marked voxels as the textbook does."""
    half = [min(r, size // 2) for r in reach]
    for place in zip(*np.nonzero(marked), strict=True):
        window = padded[tuple(slice(p + r - h, p + r + h + 1) for p, r, h in zip(place, reach, half, strict=True))]
        low, *_, high = ordered = np.sort(window, axis=None)
        middle, centre = ordered[len(ordered) // 2], padded[tuple(p + r for p, r in zip(place, reach, strict=True))]
        still_open[place] = not low < middle < high
        out[place] = centre if low < middle < high and low < centre < high else middle


@pytest.mark.parametrize("dtype", ["u1", "i2", "i8"])
@pytest.mark.parametrize("share", [0.01, 0.2, 1])
def test_gathered_windows_equal_those_looked_at_one_by_one(rng, dtype, share):
    from napari_lightbox.ops._kernels.emit import lanes
    from napari_lightbox.ops._kernels.gathered import PIECE, gathered_1

    assert ready(dtype, 2)
    dtype = np.dtype(dtype)
    most, wide = np.iinfo(dtype), max(dtype, np.dtype("i2"), key=lambda kind: kind.itemsize)
    for shape, reach, size in (
        ((1, 5, 64), (0, 2, 2), 5),
        ((1, 3, 131), (0, 9, 9), 5),
        ((2, 2, 7), (3, 3, 3), 7),
        ((1, 4, 20), (0, 8, 8), 17),
        ((1, 1, 1), (2, 2, 2), 5),
    ):
        padded = [n + 2 * r for n, r in zip(shape, reach, strict=True)]
        memory = np.full(np.prod(padded) + 7, most.max, dtype)
        voxels = memory[:-7].reshape(padded)
        voxels[...] = rng.choice([most.min, most.min + 1, 3, 77, most.max - 1, most.max], padded)
        voxels[rng.random(padded) < 0.5] = rng.choice([most.min, most.max])
        marks = np.where(rng.random(shape) < share, 2, rng.integers(0, 2, shape)).astype(np.uint8)
        flags = np.concatenate([marks.ravel(), np.full(64, 2, np.uint8)])
        out = rng.integers(0, 9, shape).astype(dtype)
        truth, truth_open = out.copy(), marks.copy()
        window_by_window(voxels, reach, size, marks == 2, truth, truth_open)
        total = size ** (3 if reach[0] else 2)
        room = np.empty((total + 2 * PIECE, lanes(wide)), wide)
        count = gathered_1(voxels, reach, size, 2, out, flags, room)
        np.testing.assert_array_equal(out, truth)
        np.testing.assert_array_equal(flags[:-64].reshape(shape), truth_open)
        assert (flags[-64:] == 2).all()
        assert count == truth_open[marks == 2].sum()
