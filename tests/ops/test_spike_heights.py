"""Heights of frequencies, their peaks and the quick look at hopeless ones, against plain ways in numpy and scipy."""

import numpy as np
import pytest
from scipy import ndimage, signal

from napari_lightbox.ops import _frequency_spikes, _spike_heights

SHAPES = [(48, 61), (64, 30), (25, 40, 32), (3, 50, 41), (26, 24, 1)]


def plain_spectrum(image):
    """Return the logarithm of the whole spectrum under a window, the zero frequency in the centre."""
    values = image - image.mean()
    values /= np.abs(values).max()
    for axis, n in enumerate(image.shape):
        if n >= 24:
            # scipy's window begins on a sample, ours lies evenly: twice as many samples have both.
            window = signal.windows.blackmanharris(2 * n, sym=False)[1::2]
            values = values * window.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    height = np.abs(np.fft.fftn(values))
    return np.fft.fftshift(np.log(np.maximum(height, 2e-5 * height.max())))


@pytest.mark.parametrize("shape", SHAPES)
def test_heights_are_those_of_the_whole_spectrum_less_the_median_of_their_ring(shape, monkeypatch):
    monkeypatch.setattr(_spike_heights, "SLAB", 300)
    image = np.random.default_rng(3).normal(size=shape) * 40 + 200
    half, shown = _spike_heights.log_spectrum(image), plain_spectrum(image)
    offsets = np.argwhere(np.ones(shape)) - [n // 2 for n in shape]
    found = _spike_heights.heights_at(half, shape, offsets).reshape(shape)
    np.testing.assert_allclose(found, shown, atol=2e-3 if len(shape) > 2 else 1e-5)
    above = _spike_heights.Rings(shape).above(half)
    lengths = [((np.arange(n) - n // 2) / n) ** 2 for n in shape]
    ring = np.minimum(np.sqrt(sum(np.ix_(*lengths))), 0.499) * min(100, max(8, max(shape) // 4))
    number = ring.astype(int)
    used = np.unique(number)
    middles = [np.sort(found[number == n])[np.count_nonzero(number == n) // 2] for n in used]
    wrong = np.abs(above - (found - np.interp(ring, used + 0.5, middles))) > 1e-3
    # A frequency on the border of two rings falls to either, as single precision has it.
    assert wrong.mean() < 0.02 if len(shape) > 2 else not wrong.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_peaks_are_the_highest_around_across_the_edge(shape, monkeypatch):
    monkeypatch.setattr(_spike_heights, "SLAB", 100)
    above = np.random.default_rng(4).integers(0, 2000, shape).astype(np.float32)
    above[shape[0] // 2] = -np.inf
    cores = [4 if n >= 24 else n for n in shape]
    sizes = [min(2 * core - 1, n) for core, n in zip(cores, shape, strict=True)]
    highest = ndimage.maximum_filter(above, sizes, mode="wrap")
    truth = np.argwhere((above == highest) & (above > -np.inf))
    np.testing.assert_array_equal(_spike_heights.peaks(above, cores), truth)


@pytest.mark.parametrize("shape", [(60, 64), (61, 45), (27, 30, 26)])
def test_spikes_are_those_of_judging_every_peak(shape, monkeypatch):
    monkeypatch.setattr(_frequency_spikes, "_TOGETHER", 5000)
    rng = np.random.default_rng(5)
    above, middle = rng.normal(0, 0.3, shape).astype(np.float32), np.array(shape) // 2
    # The second is hidden by the first, the third by the second, until those are taken.
    places = np.zeros((3, len(shape)), int)
    places[:, -2:] = (0, 12), (6, 11), (7, 5)
    for sign in (1, -1):
        above[tuple((sign * places + middle).T)] = (7, 6, 5)
    around, core = _frequency_spikes._surroundings(shape, [4] * len(shape))
    order = _spike_heights.peaks(above, [4] * len(shape)) - middle
    order = order[_frequency_spikes._first_of_pair(order, shape)]
    order = order[np.argsort(-above[tuple((order + middle).T)], kind="stable")]
    quick, plain = (_frequency_spikes._Found(above, around, core) for _ in range(2))
    quick.judge_all(order, 4.0)
    for place in order:
        plain.judge(place, 4.0)
    assert {tuple(p) for p in places.tolist()} <= {tuple(p.tolist()) for p in plain.spikes}
    assert len(plain.spikes) < len(order)
    np.testing.assert_array_equal(quick.spikes, plain.spikes)
