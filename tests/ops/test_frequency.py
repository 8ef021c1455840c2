"""Spectrum and notch filter against the full transform and the textbook's formulas."""

import numpy as np
import pytest

from napari_lightbox.errors import InputError
from napari_lightbox.ops import frequency


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
    monkeypatch.setattr(frequency, "_SLAB", 100)
    np.testing.assert_allclose(frequency.spectrum(image), whole, rtol=1e-5)


def test_a_wave_is_a_pair_of_spikes_where_the_docstring_says():
    y, x = np.mgrid[:30, :41]
    image = np.cos(2 * np.pi * (5 * y / 30 + 8 * x / 41))
    found = frequency.spectrum(image)
    rows, columns = np.nonzero(found > 0.9 * found.max())
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(15 + 5, 20 + 8), (15 - 5, 20 - 8)}


def textbook_transfer(shape, centers, radius, kind, order):
    """Full centred transfer function: the product over all notches and conjugates; the spectrum is periodic."""
    rows, columns = (np.arange(n) - n // 2 for n in shape)
    transfer = np.ones(shape)
    for v, u in [*centers, *((-v, -u) for v, u in centers)]:
        distance = np.full(shape, np.inf)
        for copy_v in (-1, 0, 1):
            for copy_u in (-1, 0, 1):
                dv, du = rows - v - copy_v * shape[0], columns - u - copy_u * shape[1]
                distance = np.minimum(distance, np.sqrt(dv[:, None] ** 2 + du**2))
        if kind == "ideal":
            transfer[distance <= radius] = 0
        elif kind == "gaussian":
            transfer *= 1 - np.exp(-(distance**2) / (2 * radius**2))
        else:
            with np.errstate(divide="ignore"):
                transfer *= 1 / (1 + (radius / distance) ** (2 * order))
    return transfer


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
        truth = np.fft.ifft2(np.fft.ifftshift(np.fft.fftshift(np.fft.fft2(image)) * transfer))
        assert np.abs(truth.imag).max() < 1e-10
        found = frequency.notch(image, centers, radius=radius, kind=kind, order=order, mode=mode)
        np.testing.assert_allclose(found, truth.real, atol=1e-9)


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
        ({"centers": ""}, "empty"),
        ({"centers": "17, 0"}, "outside the spectrum"),
        ({"centers": [[np.nan, 1]]}, "NaN"),
        ({"centers": "0, 0"}, "mean of the image"),
        ({"centers": "2, 1", "radius": 3}, "mean of the image"),
        ({"centers": "5, 8", "radius": 0}, "radius"),
        ({"centers": "5, 8", "radius": -1}, "radius"),
        ({"centers": "5, 8", "kind": "box"}, "kind"),
        ({"centers": "5, 8", "mode": "keep"}, "mode"),
        ({"centers": "5, 8", "order": 0}, "order"),
        ({"centers": "5, 8", "order": 1.5}, "order"),
    ],
)
def test_notch_refuses_in_a_sentence(rng, arguments, says):
    with pytest.raises(InputError, match=says):
        frequency.notch(rng.normal(size=(32, 32)), **arguments)


def test_pass_may_keep_the_mean(rng):
    image = rng.normal(50, 1, (32, 32))
    found = frequency.notch(image, "0, 0", radius=1.5, kind="ideal", mode="pass")
    assert found.mean() == pytest.approx(image.mean())


def test_values_whose_sum_is_no_number_are_refused():
    with pytest.raises(InputError, match="too large"):
        frequency.spectrum(np.full((8, 8), 1e308))
    with pytest.raises(InputError, match="NaN or infinite"):
        frequency.spectrum(np.array([[1.0, np.nan]]))
    with pytest.raises(InputError, match="2 are needed"):
        frequency.notch(np.zeros((4, 4, 4)), "1, 1", radius=0.5)
