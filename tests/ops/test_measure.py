"""Label tables and ellipse fits against numbers worked out another way."""

import numpy as np
import pytest
from scipy import ndimage, special

from napari_lightbox.errors import InputError
from napari_lightbox.ops import measure


@pytest.mark.parametrize("dtype", ["B", "h", "i", "q", "Q"])
def test_label_table_equals_scipy(rng, dtype, monkeypatch):
    monkeypatch.setattr(measure, "_SLAB", 200)
    values = np.array([0, 1, 5, 100], dtype)
    labels = rng.choice(values, (9, 8, 11))
    image = rng.normal(40, 300, labels.shape).astype(np.float32)
    rows = measure.label_table(labels, (2.5, 0.7, 0.8), image)
    assert [row["label"] for row in rows] == [1, 5, 100]
    for row in rows:
        inside = image[labels == row["label"]].astype(float)
        assert row["voxels"] == len(inside)
        assert row["volume_ml"] == pytest.approx(len(inside) * 2.5 * 0.7 * 0.8 / 1000)
        assert row["mean"] == pytest.approx(ndimage.mean(image.astype(float), labels, row["label"]))
        assert row["std"] == pytest.approx(inside.std())
        assert (row["min"], row["max"]) == (inside.min(), inside.max())


def test_label_table_without_image_in_2d_and_with_negative_labels():
    labels = np.array([[0, -3, -3], [2, 2, 2]])
    assert measure.label_table(labels, (2, 3)) == [
        {"label": -3, "voxels": 2, "area_mm2": 12.0},
        {"label": 2, "voxels": 3, "area_mm2": 18.0},
    ]
    assert measure.label_table(labels, (5, 2, 3))[1]["volume_ml"] == pytest.approx(0.09)
    assert measure.label_table(np.zeros((2, 2), int), (1, 1)) == []
    assert measure.label_table(np.array([[True, False]]), (1, 1)) == [{"label": 1, "voxels": 1, "area_mm2": 1.0}]


def test_label_table_leaves_nan_out():
    labels = np.array([[1, 1, 1, 2]])
    row, empty = measure.label_table(labels, (1, 1), np.array([[1.0, np.nan, 3.0, np.nan]]))
    assert (row["voxels"], row["mean"], row["std"], row["min"], row["max"]) == (3, 2.0, 1.0, 1.0, 3.0)
    assert empty["voxels"] == 1
    assert all(np.isnan(empty[key]) for key in ("mean", "std", "min", "max"))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.5), (0.3, 0.7)])
@pytest.mark.parametrize("angle", [-80, -30, 0, 25, 45, 89])
def test_an_ellipse_is_found_again(angle, spacing):
    a, b, centre = 62.0, 41.0, (75.3, 81.1)
    y, x = np.indices((int(160 / spacing[0]), int(165 / spacing[1])))
    y, x = y * spacing[0] - centre[0], x * spacing[1] - centre[1]
    turn = np.radians(angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    fit = measure.ellipse_fit((along / a) ** 2 + (across / b) ** 2 <= 1, spacing)
    np.testing.assert_allclose(fit.centre, centre, atol=0.05)
    np.testing.assert_allclose(fit.semi_axes, (a, b), rtol=2e-3)
    assert (fit.angle - angle + 90) % 180 - 90 == pytest.approx(0, abs=0.3)
    exact = 4 * a * special.ellipe(1 - (b / a) ** 2)
    assert fit.circumference == pytest.approx(exact, rel=2e-3)
    assert fit.area == pytest.approx(np.pi * a * b, rel=2e-3)


@pytest.mark.parametrize("ratio", [1, 0.8, 0.5, 0.2, 0.01])
def test_circumference_equals_the_elliptic_integral(ratio):
    ellipse = measure.Ellipse((0, 0), (10.0, 10.0 * ratio), 0.0)
    assert ellipse.circumference == pytest.approx(40 * special.ellipe(1 - ratio**2), rel=5e-4)


def test_a_single_pixel_has_the_moments_of_a_rectangle():
    fit = measure.ellipse_fit(np.array([[0, 0], [0, 1]]), (3, 2))
    assert fit.centre == (3.0, 2.0)
    np.testing.assert_allclose(fit.semi_axes, (3 / np.sqrt(3), 2 / np.sqrt(3)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: measure.ellipse_fit(np.zeros((3, 3), bool), (1, 1)), "no region"),
        (lambda: measure.ellipse_fit(np.ones((3, 3, 3), bool), (1, 1)), "2 are needed"),
        (lambda: measure.ellipse_fit(np.ones((3, 3), bool), (1, 0)), "greater than zero"),
        (lambda: measure.label_table(np.ones((3, 3)), (1, 1)), "whole numbers"),
        (lambda: measure.label_table(np.ones((3, 3), int), (1, 1), np.ones((3, 2))), "do not match"),
        (lambda: measure.label_table(np.ones((3, 3, 3), int), (1, 1)), "3 numbers"),
        (lambda: measure.label_table(np.ones((3, 3), int), (1, -1)), "greater than zero"),
        (lambda: measure.label_table(np.ones((3, 3), int), 1.0), "spacing"),
    ],
)
def test_refused_in_a_sentence(call, says):
    with pytest.raises(InputError, match=says):
        call()
