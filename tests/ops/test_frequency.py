"""Spectrum, notch and band filters against the full transform and the textbook's formulas."""

import itertools

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _frequency_filter, frequency


@pytest.mark.parametrize("shape", [(8,), (9,), (16, 12), (15, 7), (1, 6), (6, 7, 8), (5, 1, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["B", "h", "i", "e", "f", "d", "?"])
def test_spectrum_equals_the_full_transform(rng, shape, dtype):
    image = (rng.random(shape) * 200).astype(dtype)
    truth = np.log1p(np.abs(np.fft.fftshift(np.fft.fftn(image.astype(np.float64)))))
    found = frequency.spectrum(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-3)


def test_spectrum_in_slabs_equals_one_run(rng, monkeypatch):
    image = rng.normal(size=(12, 10, 9))
    whole = frequency.spectrum(image)
    monkeypatch.setattr(_frequency_filter, "_PART", 100)
    np.testing.assert_allclose(frequency.spectrum(image), whole, rtol=1e-5)


def test_a_wave_is_a_pair_of_spikes_where_the_docstring_says():
    y, x = np.mgrid[:30, :41]
    image = np.cos(2 * np.pi * (5 * y / 30 + 8 * x / 41))
    found = frequency.spectrum(image)
    rows, columns = np.nonzero(found > 0.9 * found.max())
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(15 + 5, 20 + 8), (15 - 5, 20 - 8)}


def textbook_transfer(shape, centers, radius, kind, order):
    """Full centred transfer function: the product over all notches and conjugates; the spectrum is periodic."""
    grid = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    transfer = np.ones(shape)
    for center in [*centers, *(tuple(-c for c in center) for center in centers)]:
        distance = np.full(shape, np.inf)
        for copy in itertools.product((-1, 0, 1), repeat=len(shape)):
            offsets = [g - c - k * n for g, c, k, n in zip(grid, center, copy, shape, strict=True)]
            distance = np.minimum(distance, np.sqrt(sum(o**2 for o in offsets)))
        if kind == "ideal":
            transfer[distance <= radius] = 0
        elif kind == "gaussian":
            transfer *= 1 - np.exp(-(distance**2) / (2 * radius**2))
        else:
            with np.errstate(divide="ignore"):
                transfer *= 1 / (1 + (radius / distance) ** (2 * order))
    return transfer


def filtered(image, transfer):
    """Multiply the full centred spectrum, and return a real image."""
    result = np.fft.ifftn(np.fft.ifftshift(np.fft.fftshift(np.fft.fftn(image)) * transfer))
    assert np.abs(result.imag).max() < 1e-9
    return result.real


@pytest.mark.parametrize("mode", ["reject", "pass"])
@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
@pytest.mark.parametrize("shape", [(32, 32), (31, 24), (20, 33)])
def test_notch_equals_the_textbook(rng, shape, kind, mode):
    image = rng.normal(100, 20, shape)
    for centers, radius, order in (
        ([(4, 7)], 2.5, 2),
        ([(-6, 8), (3.5, -9)], 3, 1),
        ([(shape[0] / 2, 5), (-8, -shape[1] / 2)], 3, 4),
    ):
        transfer = textbook_transfer(shape, centers, radius, kind, order)
        transfer = transfer if mode == "reject" else 1 - transfer
        found = frequency.notch(image, centers, radius=radius, kind=kind, order=order, mode=mode)
        np.testing.assert_allclose(found, filtered(image, transfer), atol=1e-9)


@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
@pytest.mark.parametrize(
    ("once", "again"),
    [
        ([(4, 7)], [(4, 7), (-4, -7)]),
        ([(4, 7)], [(4, 7), (4, 7), (-4, -7), (-4, -7)]),
        ([(-16, 5)], [(-16, 5), (16, 5), (16, -5), (-16, -5)]),
        ([(3.5, -12)], [(3.5, -12), (3.5, 12)]),
    ],
)
def test_a_pair_given_in_full_counts_once(rng, once, again, kind):
    image = rng.normal(100, 20, (32, 24))
    truth = filtered(image, textbook_transfer(image.shape, once, 2.5, kind, 2))
    for centers in (once, again):
        np.testing.assert_allclose(frequency.notch(image, centers, radius=2.5, kind=kind), truth, atol=1e-9)


@pytest.mark.parametrize("kind", ["butterworth", "gaussian"])
@pytest.mark.parametrize("center", [(-16, 0), (16, -12), (0, 12)])
def test_a_centre_that_is_its_own_mirror_image_counts_once(rng, center, kind):
    """On the edge of the spectrum of even length, where n / 2 and -n / 2 are one frequency."""
    image = rng.normal(100, 20, (32, 24))
    y, x = np.meshgrid(np.fft.fftfreq(32, 1 / 32), np.fft.fftfreq(24, 1 / 24), indexing="ij")
    down, right = (
        np.minimum(np.abs(f - c) % n, -np.abs(f - c) % n) for f, c, n in zip((y, x), center, (32, 24), strict=True)
    )
    square = (down**2 + right**2) / 2.5**2
    with np.errstate(divide="ignore"):
        transfer = 1 - np.exp(-square / 2) if kind == "gaussian" else 1 / (1 + 1 / square**2)
    truth = np.fft.ifft2(np.fft.fft2(image) * transfer).real
    np.testing.assert_allclose(frequency.notch(image, [center], radius=2.5, kind=kind), truth, atol=1e-9)


@pytest.mark.parametrize("slab", [1 << 17, 300])
@pytest.mark.parametrize("mode", ["reject", "pass"])
@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
@pytest.mark.parametrize("shape", [(12, 16, 14), (9, 15, 11)])
def test_notch_of_a_volume_equals_the_textbook(rng, monkeypatch, shape, kind, mode, slab):
    monkeypatch.setattr(_frequency_filter, "_PART", slab)
    monkeypatch.setattr(_frequency_filter, "_ALONE", slab)
    monkeypatch.setattr(_frequency_filter, "_KEPT_SIZE", 0 if slab == 300 else 1 << 22)
    image = rng.normal(100, 20, shape)
    centers = [(3, -4, 5), (-1.5, 6, shape[2] / 2)]
    transfer = textbook_transfer(shape, centers, 2.5, kind, 3)
    transfer = transfer if mode == "reject" else 1 - transfer
    found = frequency.notch(image, centers, radius=2.5, kind=kind, order=3, mode=mode)
    np.testing.assert_allclose(found, filtered(image, transfer), atol=1e-9)


@pytest.mark.parametrize("mode", ["reject", "pass"])
@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
@pytest.mark.parametrize("shape", [(32, 32), (31, 24), (12, 17, 20)])
@pytest.mark.parametrize("unit", ["samples", "cycles/mm"])
def test_band_reject_equals_the_textbook(rng, shape, kind, mode, unit):
    image = rng.normal(100, 20, shape)
    spacing = (2.5, 0.7, 1.3)[-len(shape) :]
    center, width = (6, 3) if unit == "samples" else (0.3, 0.1)
    steps = [1 if unit == "samples" else 1 / (n * s) for n, s in zip(shape, spacing, strict=True)]
    grid = np.meshgrid(*[(np.arange(n) - n // 2) * s for n, s in zip(shape, steps, strict=True)], indexing="ij")
    distance = np.sqrt(sum(g**2 for g in grid))
    with np.errstate(divide="ignore"):
        transfer = {
            "ideal": np.where(np.abs(distance - center) <= width / 2, 0.0, 1.0),
            "butterworth": 1 / (1 + (distance * width / (distance**2 - center**2)) ** 6),
            "gaussian": 1 - np.exp(-(((distance**2 - center**2) / (distance * width)) ** 2)),
        }[kind]
    transfer = transfer if mode == "reject" else 1 - transfer
    found = frequency.band_reject(image, center, width, unit=unit, kind=kind, order=3, mode=mode, spacing=spacing)
    np.testing.assert_allclose(found, filtered(image, transfer), atol=1e-9)


def test_cycles_per_mm_are_one_frequency_in_every_direction():
    """Waves of 4 mm along either axis of a picture that is neither square nor of square pixels."""
    spacing, shape = (0.5, 0.8), (160, 60)
    y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    for wave in (np.cos(2 * np.pi * y[:, None] / 4) + 0 * x, np.cos(2 * np.pi * x / 4) + 0 * y[:, None]):
        left = frequency.band_reject(wave, 0.25, 0.02, unit="cycles/mm", kind="ideal", spacing=spacing)
        assert np.abs(left).max() < 1e-9
        kept = frequency.band_reject(wave, 0.25, 0.02, unit="cycles/mm", mode="pass", kind="ideal", spacing=spacing)
        np.testing.assert_allclose(kept, wave, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"center": 0}, "center must be greater than 0"),
        ({"center": np.nan}, "center must be finite"),
        ({"width": 0}, "width"),
        ({"width": 16}, "mean of the image"),
        ({"center": 50}, "outside the spectrum"),
        ({"width": 1e-300}, "width 1e-300 samples is out of range"),
        ({"width": 1e300, "mode": "pass"}, "width 1e.300 samples is out of range"),
        ({"center": 1e-300, "mode": "pass"}, "center 1e-300 samples is out of range"),
        ({"unit": "cycles"}, "unit"),
        ({"unit": "cycles/mm"}, "needs spacing"),
        ({"unit": "cycles/mm", "spacing": (0, 1)}, "spacing"),
        ({"kind": "box"}, "kind"),
        ({"mode": "keep"}, "mode"),
        ({"order": 0}, "order"),
    ],
)
def test_band_reject_refuses_in_a_sentence(rng, arguments, says):
    with pytest.raises(InputError, match=says) as caught:
        frequency.band_reject(rng.normal(size=(32, 32)), **{"center": 8, "width": 2, **arguments})
    assert "\n" not in str(caught.value)


def test_float32_is_transformed_in_float32_with_its_digits(rng):
    image = rng.normal(1000, 100, (40, 36)).astype(np.float32)
    for exact, found in (
        (frequency.notch(image.astype(float), "5, 8"), frequency.notch(image, "5, 8")),
        (frequency.band_reject(image.astype(float), 8, 3), frequency.band_reject(image, 8, 3)),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, atol=2e-3)


def test_a_kept_transfer_function_is_not_taken_for_another(rng):
    """Slices of a volume share one; a change of any parameter, shape or type makes another."""
    image = rng.normal(size=(32, 36))
    calls = [
        lambda a: frequency.notch(a, "5, 8"),
        lambda a: frequency.notch(a, "5, 9"),
        lambda a: frequency.notch(a, "5, 9", radius=4),
        lambda a: frequency.notch(a, "5, 9", radius=4, order=3),
        lambda a: frequency.notch(a, "5, 9", radius=4, kind="ideal"),
        lambda a: frequency.notch(a, "5, 9", radius=4, kind="ideal", mode="pass"),
        lambda a: frequency.band_reject(a, 9, 4),
        lambda a: frequency.band_reject(a, 9, 3),
    ]
    fresh = []
    for call in calls:
        for given in (image, image[:30], image.astype(np.float32)):
            _frequency_filter._kept.clear()
            fresh.append(call(given))
    again = [call(given) for call in calls for given in (image, image[:30], image.astype(np.float32))]
    for first, second in zip(fresh, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_notch_removes_a_periodic_pattern_and_leaves_the_image():
    y, x = np.mgrid[:64, :64]
    image = 500 * np.exp(-((y - 30) ** 2 + (x - 34) ** 2) / 200.0)
    pattern = 80 * np.sin(2 * np.pi * (12 * y - 20 * x) / 64)
    cleaned = frequency.notch(image + pattern, "12, -20", radius=3, kind="gaussian")
    assert np.abs(cleaned - image).max() < 1
    shown = frequency.notch(image + pattern, "12, -20", radius=3, kind="gaussian", mode="pass")
    np.testing.assert_allclose(shown, pattern, atol=1)
    np.testing.assert_allclose(shown + cleaned, image + pattern, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("?", "f"), ("B", "f"), ("h", "f"), ("H", "f"), ("e", "f"), ("f", "f"), ("i", "d"), ("Q", "d"), ("d", "d")],
)
def test_notch_states_its_type_and_never_wraps(rng, given, expected):
    image = (rng.random((16, 16)) * 255).astype(given)
    found = frequency.notch(image, [[3, 4]], radius=2)
    assert found.dtype == np.dtype(expected)
    np.testing.assert_allclose(found, frequency.notch(image.astype(float), [[3, 4]], radius=2), atol=1e-3)


def test_centers_can_be_typed_or_given_as_numbers(rng):
    image = rng.normal(size=(40, 40))
    truth = frequency.notch(image, np.array([[5.0, 8.0], [-7.0, 9.5]]))
    for centers in ("5,8;-7,9.5", " 5 8 ; (-7, 9.5) ", "5, 8\n-7, 9.5\n", [(5, 8), (-7, 9.5)], ((-5, -8), (7, -9.5))):
        np.testing.assert_allclose(frequency.notch(image, centers), truth, atol=1e-12)
    np.testing.assert_array_equal(frequency.notch(image, (5, 8)), frequency.notch(image, "5, 8"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"centers": "5, eight"}, "cannot be read"),
        ({"centers": "5, 8; 3"}, "cannot be read"),
        ({"centers": "5, 8, 3"}, "2 numbers"),
        ({"centers": "17, 0"}, "outside the spectrum"),
        ({"centers": [[np.nan, 1]]}, "NaN"),
        ({"centers": "0, 0"}, "mean of the image"),
        ({"centers": "2, 1", "radius": 3}, "mean of the image"),
        ({"centers": "5, 8", "radius": 0}, "radius"),
        ({"centers": "5, 8", "radius": -1}, "radius"),
        ({"centers": [[1], [2, 3]]}, "2 numbers"),
        ({"centers": "5, 8", "radius": 1e300}, "mean of the image"),
        ({"centers": "5, 8", "kind": "box"}, "kind"),
        ({"centers": "5, 8", "mode": "keep"}, "mode"),
        ({"centers": "5, 8", "order": 0}, "order"),
        ({"centers": "5, 8", "order": 1.5}, "order"),
    ],
)
def test_notch_refuses_in_a_sentence(rng, arguments, says):
    with pytest.raises(InputError, match=says):
        frequency.notch(rng.normal(size=(32, 32)), **arguments)


def test_no_centre_and_a_radius_beyond_all_spikes_change_nothing(rng):
    image = rng.normal(size=(32, 32))
    np.testing.assert_array_equal(frequency.notch(image, []), image)
    np.testing.assert_array_equal(frequency.notch(image, radius=1e300), image)
    np.testing.assert_array_equal(frequency.notch(image, np.zeros((0, 2)), mode="pass"), 0 * image)


def test_pass_may_keep_the_mean(rng):
    image = rng.normal(50, 1, (32, 32))
    found = frequency.notch(image, "0, 0", radius=1.5, kind="ideal", mode="pass")
    assert found.mean() == pytest.approx(image.mean())


def test_values_whose_sum_is_no_number_are_refused():
    with pytest.raises(InputError, match="too large"):
        frequency.spectrum(np.full((8, 8), 1e308))
    with pytest.raises(InputError, match="NaN or infinite"):
        frequency.spectrum(np.array([[1.0, np.nan]]))
    with pytest.raises(InputError, match="2 or 3 are needed"):
        frequency.notch(np.zeros((4, 4, 4, 4)), "1, 1", radius=0.5)
