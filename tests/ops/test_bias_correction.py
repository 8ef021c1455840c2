"""Correction of uneven brightness: planted fields are taken away, and the fit is that of ITK's N4."""

import numpy as np
import pytest
import SimpleITK

from napari_lightbox import InputError, Volume, apply
from napari_lightbox.ops import _bias, _bias_fit, filters, perturb
from napari_lightbox.progress import listening

TISSUES = (60.0, 100.0, 180.0)


def tissues(shape) -> np.ndarray:
    """Return which tissue each voxel is of: shells in a ball, and 0 around it."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(a * a for a in axes))
    return np.select([radius < 0.3, radius < 0.6, radius < 0.9], (1, 3, 2), 0)


def uneven(which: np.ndarray, seed: int = 2) -> np.ndarray:
    clean = np.array((0.0, *TISSUES))[which]
    noise = np.random.default_rng(seed).normal(0, 1.0, which.shape) * (which > 0)
    return perturb.bias_field(clean, 0.4, order=3, seed=seed) + noise


def variation(image: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the coefficient of variation within each tissue."""
    return np.array([image[which == i].std() / image[which == i].mean() for i in (1, 2, 3)])


@pytest.fixture(scope="module")
def ball():
    which = tissues((40, 48, 52))
    return which, uneven(which)


def by_itk(image, mask, levels, iterations, convergence=1e-3):
    """Return the corrected image and the log field of ITK's own filter."""
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([iterations] * levels)
    n4.SetConvergenceThreshold(convergence)
    picture = SimpleITK.GetImageFromArray(image.astype(np.float32))
    result = n4.Execute(picture, SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    return SimpleITK.GetArrayFromImage(result), SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(picture))


@pytest.mark.parametrize(
    ("shape", "levels", "iterations", "convergence"),
    [((20, 24, 28), 1, 3, 1e-9), ((20, 24, 28), 2, 50, 1e-3), ((60, 64), 4, 50, 1e-3), ((31, 90), 3, 12, 0.0)],
)
def test_it_is_itks_n4(shape, levels, iterations, convergence):
    which = tissues(shape)
    image, mask = uneven(which), (which > 0).astype(np.uint8)
    expected, logs = by_itk(image, mask, levels, iterations, convergence)
    wanted = {"iterations": iterations, "convergence": convergence, "shrink": 1, "mask": mask}
    field = filters.bias_estimate(image, (2,) * len(shape), levels, **wanted)
    assert np.ptp(logs[mask > 0]) > 0.01
    # ITK leaves the factor of the whole field to chance, and holds its fields in float32.
    factor = expected[mask > 0].mean() / image[mask > 0].mean()
    np.testing.assert_allclose(np.log(field[mask > 0]), logs[mask > 0] + np.log(factor), atol=3e-5)
    found = filters.bias_correction(image, (2,) * len(shape), levels, **wanted)
    np.testing.assert_allclose(found, expected / factor, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shrink", [1, 2])
def test_the_mean_of_what_is_fitted_stays_so_that_bytes_are_not_clipped(shrink):
    # The field that ITK's filter finds here has a mean far from 1.
    which = tissues((24, 26, 28))
    image = np.where(which > 0, uneven(which) * 1.2, 0).clip(0, 250).astype(np.uint8)
    found = filters.bias_correction(image, (2, 2, 2), shrink=shrink, mask=which)
    assert abs(found[which > 0].mean() / image[which > 0].mean() - 1) < 0.01


def test_a_planted_field_is_taken_away_with_the_settings_nobody_chose(ball):
    which, image = ball
    before = variation(image, which)
    assert (before > (0.03, 0.08, 0.05)).all()
    found = filters.bias_correction(image, (3, 3, 3))
    # Of what is left, the noise alone makes 0.016, 0.01 and 0.005.
    assert (variation(found, which) < before / (2, 7, 9)).all()
    assert (found[which == 0] == 0).all()


def test_the_field_found_is_the_field_planted(ball):
    which, image = ball
    truth = perturb.bias_field(np.full(which.shape, 1000.0), 0.4, order=3, seed=2) / 1000
    field = filters.bias_estimate(image, (3, 3, 3), threshold=20.0)
    ratio = (field / truth)[which > 0]
    # Up to a factor for the whole image, which no method can know.
    assert ratio.std() / ratio.mean() < 0.025
    assert truth[which > 0].std() / truth[which > 0].mean() > 0.07


@pytest.mark.parametrize("shrink", [2, 3, 5])
def test_a_shrunk_fit_finds_the_same_field(ball, shrink):
    which, image = ball
    whole = filters.bias_estimate(image, (1, 1, 1), threshold=20.0, shrink=1, levels=2)
    shrunk = filters.bias_estimate(image, (1, 1, 1), threshold=20.0, shrink=shrink, levels=2)
    ratio = (shrunk / whole)[which > 0]
    assert ratio.std() / ratio.mean() < 0.02
    # A block off its place would show as a slope.
    assert np.abs(ratio / ratio.mean() - 1).max() < 0.1


def test_long_voxels_are_shrunk_less_and_nothing_below_four():
    image = np.random.default_rng(0).uniform(50, 150, (8, 40, 40))
    field = filters.bias_estimate(image, (4, 1, 1), shrink=4, threshold=1.0, levels=2)
    blocks = image.reshape(8, 10, 4, 10, 4).mean(axis=(2, 4))
    expected = filters.bias_estimate(blocks, (4, 4, 4), shrink=1, threshold=1.0, levels=2)
    # At the centres of the blocks, which lie between voxels.
    middle = np.exp(np.log(field).reshape(8, 10, 4, 10, 4)[:, :, 1:3, :, 1:3].mean(axis=(2, 4)))
    np.testing.assert_allclose(middle, expected, rtol=2e-3)
    with pytest.raises(InputError, match="shrink must be a whole number"):
        filters.bias_estimate(image, (4, 1, 1), shrink=0)


def test_many_slabs_give_what_one_does(ball, monkeypatch):
    _, image = ball
    once = filters.bias_estimate(image, (1, 1, 1), iterations=5, shrink=1)
    monkeypatch.setattr(_bias_fit, "_SLAB", 10000)
    np.testing.assert_allclose(filters.bias_estimate(image, (1, 1, 1), iterations=5, shrink=1), once, rtol=1e-6)


def test_a_single_slice_is_worked_on_in_slabs_as_a_picture_is(ball, monkeypatch):
    """Or else nothing could be cancelled in it."""
    picture, mask = ball[1][20], ball[0][20]
    expected = filters.bias_correction(picture, (2, 3), 2, mask=mask, shrink=1)
    monkeypatch.setattr(_bias, "_SLAB", 600)
    monkeypatch.setattr(_bias_fit, "_SLAB", 600)
    told = []
    with listening(lambda what, done, total: told.append((what, total))):
        found = filters.bias_correction(picture[None], (9, 2, 3), 2, mask=mask[None], shrink=1)
    assert found.shape == (1, *picture.shape)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert ("slabs", 5) in told


def test_the_distance_of_control_points_counts_in_mm(ball):
    _, image = ball
    wanted = {"threshold": 20.0, "levels": 1, "iterations": 5, "convergence": 0.0, "shrink": 1}
    near = filters.bias_estimate(image, (3, 3, 3), control_spacing=60.0, **wanted)
    np.testing.assert_array_equal(near, filters.bias_estimate(image, (1.5, 1.5, 1.5), control_spacing=30.0, **wanted))
    assert not np.allclose(near, filters.bias_estimate(image, (3, 3, 3), **wanted), atol=1e-3)
    with pytest.raises(InputError, match="use fewer levels"):
        filters.bias_correction(image, (3, 3, 3), control_spacing=1.0)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "u2", "f2", "f4", "f8"])
def test_the_type_stays(dtype):
    which = tissues((40, 44))
    image = uneven(which).clip(0, 255)
    found = filters.bias_correction(image.astype(dtype), (1, 1))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    exact = filters.bias_correction(image.astype(dtype).astype(float), (1, 1))
    np.testing.assert_allclose(found, exact, atol=0.5 if found.dtype.kind in "iu" else 0.2)
    assert filters.bias_correction(image > 50, (1, 1)).dtype == np.float32


def test_voxels_that_are_no_numbers_stay_and_are_not_fitted(ball):
    _, image = ball
    odd = image.copy()
    odd[20, 24, 26:30] = (np.nan, np.inf, -np.inf, np.nan)
    mask = np.isfinite(odd).astype(np.uint8)
    found = filters.bias_correction(odd, (1, 1, 1), threshold=20.0)
    expected = filters.bias_correction(np.where(mask, odd, 77.0), (1, 1, 1), threshold=20.0, mask=mask)
    np.testing.assert_array_equal(found[20, 24, 26:30], odd[20, 24, 26:30])
    np.testing.assert_array_equal(found[mask > 0], expected[mask > 0])


def test_negative_values_are_divided_not_fitted_and_spoken_of():
    which = tissues((24, 28, 30))
    image = uneven(which)
    image[which == 0] = -20.0
    volume = Volume.from_array(image, spacing=(1, 1, 1))
    found = apply("bias_correction", volume, threshold=-100.0)
    assert "values below 0, as CT has, while a bias field is of the coil of an MR" in found.meta["notes"][0]
    field = filters.bias_estimate(image, (1, 1, 1), mask=which)
    np.testing.assert_allclose(found.data, image / field, rtol=1e-5)


@pytest.mark.parametrize("value", [0, 7, -3])
def test_a_constant_image_comes_back(value):
    image = np.full((6, 8, 9), value, np.int16)
    found = filters.bias_correction(image, (1, 1, 1))
    assert (found == value).all()
    assert found is not image


def test_nothing_to_fit_is_said_and_changes_nothing(ball):
    volume = Volume.from_array(ball[1].astype(np.float32), spacing=(1, 1, 1))
    found = apply("bias_correction", volume, threshold=1e6)
    np.testing.assert_array_equal(found.data, volume.data)
    assert found.meta["notes"] == [
        "nothing was corrected, the result is the image: no voxel above 0 is bright enough, or lies in the mask"
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"levels": 0}, "levels must be a whole number of at least 1"),
        ({"levels": 9}, "use fewer levels"),
        ({"iterations": 0.5}, "iterations must be a whole number"),
        ({"convergence": -1}, "convergence must be at least 0"),
        ({"control_spacing": 0}, "control_spacing must be greater than 0"),
        ({"threshold": np.nan}, "threshold must be finite"),
        ({"mask": np.ones((3, 3), np.uint8)}, "do not match"),
        ({"mask": np.ones((9, 9))}, "mask of type float64 are not whole numbers"),
        ({"spacing": (1, -1)}, "spacing must be greater than zero"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        filters.bias_correction(np.arange(81.0).reshape(9, 9), **{"spacing": (1, 1), **given})


def test_frames_masks_and_recipes_go_through_apply(ball):
    which, image = ball
    both = np.stack([image, image[:, ::-1] * 2]).astype(np.float32)[:, ::2, ::2, ::2]
    mask = Volume.from_array((which[::2, ::2, ::2] > 0).astype(np.uint8), spacing=(2, 2, 2)).replace(kind="labels")
    volume = Volume.from_array(both, spacing=(2, 2, 2))
    found = apply("bias_correction", volume, mask=mask, levels=2)
    single = filters.bias_correction(both[1], (2, 2, 2), 2, mask=mask.data)
    np.testing.assert_array_equal(found.data[1], single)
    assert found.grid == volume.grid
    assert found.history[-1]["parameters"]["levels"] == 2
