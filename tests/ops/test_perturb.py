"""Perturbations against distributions of scipy, plain sums, and what a strength of nothing must give."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import napari_lightbox as lb
from napari_lightbox import Grid, InputError, Volume, perturb
from napari_lightbox.ops import _perturb_random

NOTHING = {
    "gaussian_noise": {"sigma": 0},
    "rician_noise": {"sigma": 0},
    "poisson_noise": {"gain": 0},
    "salt_and_pepper": {"amount": 0},
    "periodic_noise": {"amplitude": 0},
    "bias_field": {"strength": 0},
    "intensity": {},
    "thick_slices": {"thickness": 0},
    "missing_slices": {"count": 0},
    "motion_ghost": {"amplitude": 0},
}
SOMETHING = {
    "gaussian_noise": {"sigma": 30},
    "rician_noise": {"sigma": 30},
    "poisson_noise": {"gain": 5},
    "salt_and_pepper": {"amount": 0.2},
    "bias_field": {"strength": 0.5},
    "missing_slices": {"count": 3},
}


def volume_of(shape=(7, 9, 8), dtype="int16", spacing=(3.0, 1.5, 1.0)) -> Volume:
    data = np.random.default_rng(5).integers(0, 200, shape).astype(dtype)
    return Volume(data, Grid.from_spacing(spacing, shape), name="v")


@pytest.mark.parametrize("name", NOTHING)
def test_a_strength_of_nothing_changes_no_bit(name):
    for dtype in ("int16", "float32", "bool", "int64"):
        volume = volume_of(dtype=dtype)
        if dtype == "int64":
            volume = volume.replace(data=volume.data + 2**60 + 1)
        result = lb.apply(name, volume, **NOTHING[name])
        assert result.data.dtype == volume.data.dtype
        np.testing.assert_array_equal(result.data, volume.data)


@pytest.mark.parametrize("name", SOMETHING)
def test_the_seed_decides_and_nothing_else(name, monkeypatch):
    volume = volume_of()
    first = lb.apply(name, volume, **SOMETHING[name], seed=4)
    monkeypatch.setattr(_perturb_random, "_SLAB", 100)  # other slabs, worked on in several threads
    again = lb.apply(name, volume, **SOMETHING[name], seed=4)
    other = lb.apply(name, volume, **SOMETHING[name], seed=5)
    np.testing.assert_array_equal(again.data, first.data)
    assert (other.data != first.data).any()
    assert (first.data != volume.data).any()


def test_numbers_come_from_the_raw_stream():
    raw = np.random.PCG64(np.random.SeedSequence([9, 2])).random_raw(1000)
    expected = [(int(r) // 4096 + 0.5) / 2**52 for r in raw]
    np.testing.assert_array_equal(_perturb_random.uniform(9, 2, 600, 400), expected[600:])


@pytest.mark.parametrize("raw", [0, 2**64 - 1])
def test_no_number_is_0_or_1(monkeypatch, raw):
    stream = SimpleNamespace(advance=lambda n: None, random_raw=lambda n: np.full(n, raw, np.uint64))
    monkeypatch.setattr(np.random, "PCG64", lambda seed: stream)
    assert 0 < _perturb_random.uniform(0, 0, 0, 1)[0] < 1
    assert np.isfinite(_perturb_random.normal(0, 0, 0, 3)).all()


@pytest.mark.parametrize(
    ("found", "law"),
    [
        (lambda v: perturb.gaussian_noise(v, 12.0, seed=1), stats.norm(30, 12)),
        (lambda v: perturb.rician_noise(v, 12.0, seed=1), stats.rice(30 / 12, scale=12)),
        (lambda v: perturb.rician_noise(v * 0, 12.0, seed=1), stats.rayleigh(scale=12)),
    ],
)
def test_noise_follows_its_law(found, law):
    assert stats.kstest(found(np.full(20_000, 30.0)), law.cdf).pvalue > 0.01


def test_counts_are_the_quantiles_of_the_poisson_distribution():
    chance = _perturb_random.uniform(3, 0, 0, 5_000)
    for mean in (0.01, 1.0, 7.3, 29.9):
        found = _perturb_random.poisson(chance, np.full(chance.shape, mean))
        np.testing.assert_array_equal(found, stats.poisson(mean).ppf(chance))
    for mean in (30.1, 300.0, 1e5):
        off = _perturb_random.poisson(chance, np.full(chance.shape, mean)) - stats.poisson(mean).ppf(chance)
        assert np.abs(off).max() <= 1
        assert np.mean(off != 0) < 2 / mean**1.5 + 4e-4


def test_poisson_noise_grows_with_the_signal():
    image = np.repeat([-1000.0, 0.0, 1000.0], 20_000)
    noisy = perturb.poisson_noise(image, gain=4.0, seed=2).reshape(3, -1)
    assert (noisy[0] == -1000).all()  # nothing to count
    assert noisy.mean(axis=1) == pytest.approx([-1000, 0, 1000], abs=3)
    assert noisy.var(axis=1)[1:] == pytest.approx([4 * 1000, 4 * 2000], rel=0.05)


def test_salt_and_pepper_hits_the_share_that_was_asked_for():
    image = np.random.default_rng(0).integers(10, 90, 50_000).astype(np.uint8)
    image[:2] = 3, 200
    little, much = (perturb.salt_and_pepper(image, amount, seed=6) for amount in (0.1, 0.3))
    changed = much != image
    assert set(np.unique(much[changed])) == {3, 200}
    assert changed.mean() == pytest.approx(0.3, abs=0.01)
    assert (much == 200).mean() == pytest.approx(0.15, abs=0.01)
    np.testing.assert_array_equal(much[little != image], little[little != image])


def test_the_wave_has_its_length_in_mm():
    image = np.zeros((3, 40, 64))
    noisy = perturb.periodic_noise(image, (5.0, 2.0, 0.5), 10.0, frequency=0.125, angle=30.0)
    _, y, x = np.indices(image.shape) * np.array([5.0, 2.0, 0.5])[:, None, None, None]
    across = x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6)
    np.testing.assert_allclose(noisy, 10 * np.cos(2 * np.pi * 0.125 * across), atol=1e-9)


def test_the_field_is_smooth_and_just_reaches_its_strength():
    shape = (9, 11, 10)
    factor = perturb.bias_field(np.full(shape, 1000.0), 0.4, order=2, seed=8) / 1000
    assert (factor.min(), factor.max()) == pytest.approx((0.6, 1.4))
    z, y, x = (i.ravel() / 10 for i in np.indices(shape))
    basis = np.stack([z**a * y**b * x**c for a in range(3) for b in range(3) for c in range(3) if a + b + c <= 2], 1)
    left = factor.ravel() - basis @ np.linalg.lstsq(basis, factor.ravel(), rcond=None)[0]
    assert np.abs(left).max() < 1e-9


def test_gamma_scale_and_shift():
    image = np.array([-1000.0, -500.0, 0.0, 1000.0])
    share = (image + 1000) / 2000
    expected = (-1000 + 2000 * share**0.5) * 1.5 + 20
    np.testing.assert_allclose(perturb.intensity(image, 20, scale=1.5, gamma=0.5), expected)
    assert perturb.intensity(np.array([250], np.uint8), 100).item() == 255
    odd = perturb.intensity(np.array([np.nan, np.inf, 1.0, 3.0], np.float32), 1, gamma=2)
    np.testing.assert_array_equal(odd, np.array([np.nan, np.inf, 2, 4], np.float32))


@pytest.mark.parametrize("thickness", [4.0, 7.5, 11.0, 100.0])
def test_thick_slices_are_means_of_what_they_cover(thickness):
    shape, spacing = (13, 2, 3), 3.0
    volume = Volume(np.random.default_rng(1).random(shape), Grid.from_spacing((spacing, 1, 1), shape))
    # The same by sampling a thousand times as finely.
    fine = np.repeat(volume.data, 1000, axis=0)
    mm = (np.arange(len(fine)) + 0.5) * spacing / 1000
    count = int(np.ceil(shape[0] * spacing / thickness))
    start = (shape[0] * spacing - count * thickness) / 2
    edges = start + thickness * np.arange(count + 1)
    thick = np.array([fine[(mm >= a) & (mm < b)].mean(0) for a, b in pairwise(edges)])
    places = (np.arange(shape[0]) + 0.5) * spacing
    centres = (edges[:-1] + edges[1:]) / 2
    expected = np.apply_along_axis(lambda line: np.interp(places, centres, line), 0, thick)
    np.testing.assert_allclose(perturb.thick_slices(volume, thickness).data, expected, atol=1e-3)


def test_missing_slices_are_filled_as_asked():
    data = (np.arange(12) ** 2)[:, None, None] * np.ones((1, 2, 2)) + 7
    data[0, 1, 1] = -5
    volume = Volume(data, Grid.from_spacing((1, 1, 1), data.shape))
    lost = {
        n: set(np.flatnonzero((perturb.missing_slices(volume, n, seed=3).data != data).any((1, 2)))) for n in (2, 5)
    }
    assert (len(lost[2]), len(lost[5])) == (2, 5)
    assert lost[2] < lost[5]
    gone = np.array(sorted(lost[5]))
    left = np.setdiff1d(np.arange(12), gone)
    line = data[:, 0, 0]
    repeated, between = (
        perturb.missing_slices(volume, 5, fill=fill, seed=3).data[:, 0, 0] for fill in ("repeated", "interpolated")
    )
    np.testing.assert_array_equal(repeated[gone], [line[left[np.argmin(np.abs(left - i))]] for i in gone])
    np.testing.assert_allclose(between[gone], np.interp(gone, left, line[left]))
    np.testing.assert_array_equal(repeated[left], line[left])
    with pytest.raises(InputError, match="leaves none of 12 slices"):
        perturb.missing_slices(volume, 12)


def test_ghosts_are_those_of_lines_measured_one_by_one():
    volume = volume_of((2, 12, 3), "float64")
    found = perturb.motion_ghost(volume, 2.0, cycles=3).data
    n, shift = 12, 2.0 / 1.5  # voxels
    for z in range(2):
        for x in range(3):
            line = volume.data[z, :, x]
            total = np.zeros(n, complex)
            for k in range(-n // 2, n // 2):  # k-space, from its lowest line on
                part = sum(line[j] * np.exp(-2j * np.pi * k * j / n) for j in range(n))
                away = shift * np.sin(2 * np.pi * 3 * (k / n + 0.5))
                total += part * np.exp(2j * np.pi * k * (np.arange(n) - away) / n) / n
            np.testing.assert_allclose(found[z, :, x], np.abs(total), atol=1e-9)


def test_slices_of_the_body_are_found_on_a_turned_grid():
    shape = (5, 6, 7)
    direction = np.array([[0.0, 0, -1], [1, 0, 0], [0, 1, 0]])  # stored last axis runs towards the feet
    volume = Volume(np.random.default_rng(2).random(shape), Grid.from_spacing((1, 1, 1), shape, direction=direction))
    lost = perturb.missing_slices(volume, 2, across="axial", seed=1).data != volume.data
    assert sorted(lost.all((0, 1))) == [False] * 5 + [True] * 2
    with pytest.raises(InputError, match="holds labels"):
        perturb.thick_slices(volume.replace(data=(volume.data > 0.5).astype(np.uint8), kind="labels"))
