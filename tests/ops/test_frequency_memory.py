"""What a filter in the frequency domain costs: memory, precision, and no whole spectrum anywhere."""

import tracemalloc

import numpy as np
import pytest
import scipy.fft

from napari_lightbox.ops import _frequency_filter, frequency
from napari_lightbox.progress import Cancelled, listening

FILTERS = {
    "band gaussian": lambda a: frequency.band_reject(a, 20, 6, kind="gaussian"),
    "band butterworth": lambda a: frequency.band_reject(a, 20, 6, order=3),
    "notch butterworth": lambda a: frequency.notch(a, "5, 20, 30; 0, 12, -9", radius=4),
    "notch gaussian": lambda a: frequency.notch(a, "5, 20, 30; 0, 12, -9", radius=4, kind="gaussian"),
}


def peak_of(call):
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("dtype", ["h", "f"])
def test_the_result_is_the_only_large_array(rng, monkeypatch, name, dtype):
    """Beside it each thread has a few complex planes, however many slices there are."""
    monkeypatch.setattr(_frequency_filter, "_KEPT_SIZE", 0)
    monkeypatch.setattr(_frequency_filter._tiles, "workers", lambda: 2)
    for depth in (48, 192):
        image = (rng.random((depth, 160, 144)) * 2000).astype(dtype)
        peak, result = peak_of(lambda image=image: FILTERS[name](image))
        assert result.dtype == np.float32
        assert result.flags.c_contiguous
        # The spectrum of the larger image, even half of it, would take 18 MB, and so would its factors.
        assert peak - result.nbytes < 2 * 32 * _frequency_filter._PART


@pytest.mark.parametrize(("dtype", "times"), [("h", 1), ("f", 1), ("i", 2), ("d", 2)])
def test_a_spectrum_is_made_in_its_own_memory(rng, monkeypatch, dtype, times):
    """In double precision, in twice as much, half of which is given back."""
    monkeypatch.setattr(_frequency_filter._tiles, "workers", lambda: 2)
    for depth in (48, 192):
        image = (rng.random((depth, 160, 144)) * 2000).astype(dtype)
        tracemalloc.start()
        try:
            result = frequency.spectrum(image)
            left, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert result.dtype == np.float32
        assert result.flags.c_contiguous
        assert peak - times * result.nbytes < times * 2 * 32 * _frequency_filter._PART
        assert left < result.nbytes + (1 << 20)


@pytest.mark.parametrize("shape", [(1, 6), (2, 3), (3, 4), (4, 1), (1, 1), (2, 2, 2), (5, 6, 7), (8, 5, 6), (9, 1, 4)])
@pytest.mark.parametrize("dtype", ["?", "b", "h", "q", "e", "f", "d"])
def test_a_spectrum_in_parts_is_that_of_numpy(rng, monkeypatch, shape, dtype):
    image = (rng.normal(size=shape) * 30).astype(dtype)
    whole = frequency.spectrum(image)
    monkeypatch.setattr(_frequency_filter, "_PART", 1)
    np.testing.assert_array_equal(frequency.spectrum(image), whole, strict=True)
    truth = np.log1p(np.abs(np.fft.fftshift(np.fft.fftn(image.astype("d")))))
    np.testing.assert_allclose(whole, truth, rtol=1e-4, atol=1e-4)


def test_a_spectrum_ends_when_it_is_cancelled(rng):
    image = rng.normal(size=(20, 30, 40))
    for stage in ("columns", "planes"):

        def stop(what, done, total, stage=stage):
            if what == stage and done:
                raise Cancelled

        with listening(stop), pytest.raises(Cancelled):
            frequency.spectrum(image)


def test_single_precision_is_single_precision(rng, monkeypatch):
    """No transform is ever asked for in double precision where the image has none."""
    seen = set()
    for module, names in ((scipy.fft, ("fftn", "ifftn", "rfftn", "irfftn")), (scipy.fftpack, ("rfft", "irfft"))):
        for name in names:
            real = getattr(module, name)
            monkeypatch.setattr(
                module, name, lambda a, *rest, real=real, **more: seen.add(a.dtype) or real(a, *rest, **more)
            )
    image = rng.normal(100, 20, (12, 14, 16)).astype("f")
    found = frequency.band_reject(image, 5, 2)
    assert seen == {np.dtype("f"), np.dtype("F")}
    np.testing.assert_allclose(found, frequency.band_reject(image.astype("d"), 5, 2), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["f", "d", "e"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_voxel_is_found_wherever_it_is(rng, monkeypatch, dtype, bad):
    monkeypatch.setattr(frequency, "_LOOK", 100)
    image = rng.normal(size=(9, 10, 11)).astype(dtype)
    image[rng.integers(9), rng.integers(10), rng.integers(11)] = bad
    with pytest.raises(frequency.InputError, match="NaN or infinite"):
        frequency.spectrum(image)


def test_any_layout_gives_the_same(rng):
    image = rng.normal(size=(9, 14, 12))
    truth = frequency.band_reject(image, 4, 2)
    for other in (np.asfortranarray(image), image[::-1].copy()[::-1], np.repeat(image, 2, 2)[..., ::2]):
        other.flags.writeable = False
        np.testing.assert_array_equal(frequency.band_reject(other, 4, 2), truth)
