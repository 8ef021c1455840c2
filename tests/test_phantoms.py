"""Phantoms: exact truth, the same on every grid, the same every time; and the committed samples are theirs."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import phantoms
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.phantoms import LABELS
from napari_lightbox.phantoms_shapes import (
    Part,
    column,
    common,
    either,
    ellipsoid,
    frame_of,
    grown,
    half_space,
    render,
    tube,
    without,
)

VALUE = {label.name: value for value, label in LABELS.items()}


@pytest.fixture(scope="module")
def thorax():
    return phantoms.thorax()


def middle(labels, name):
    """World position (z, y, x) of the centre of mass of a label."""
    return labels.grid.to_world(np.argwhere(labels.data == VALUE[name])).mean(axis=0)


# Shapes --------------------------------------------------------------------------------------------------------------

BALL = ellipsoid((0, 0, 0), (10, 10, 10))


def inside(shape, *point):
    return float(shape.distance(*(np.array([p], float) for p in point))[0])


def test_distances_of_simple_shapes():
    assert inside(BALL, 13, 0, 0) == pytest.approx(3)
    assert inside(BALL, 0, 6, 0) == pytest.approx(-4)
    rod = tube([(0, 0, 0), (20, 0, 0)], 3)
    assert inside(rod, 10, 0, 5) == pytest.approx(2)
    assert inside(rod, 25, 0, 0) == pytest.approx(2)
    assert inside(column([(0, 0, 5, 8), (10, 0, 5, 8)]), 5, 0, 0) == pytest.approx(-5)
    assert inside(half_space(1, 4), 0, 1, 0) == pytest.approx(-3)
    assert inside(grown(BALL, 2), 13, 0, 0) == pytest.approx(1)


def test_combined_shapes():
    left = half_space(2, 0, below=False)
    assert inside(common(BALL, left), 0, 0, -5) > 0 > inside(common(BALL, left), 0, 0, 5)
    assert inside(without(BALL, left), 0, 0, 5) > 0 > inside(without(BALL, left), 0, 0, -5)
    far = ellipsoid((0, 0, 40), (5, 5, 5))
    assert inside(either(BALL, far), 0, 0, 41) < 0 < inside(either(BALL, far), 0, 0, 20)


def test_axes_of_a_turned_ellipsoid():
    axes = frame_of((0, 1, 1))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    rod = ellipsoid((0, 0, 0), (30, 3, 3), axes)
    assert inside(rod, 0, 15, 15) < 0 < inside(rod, 0, 15, -15)


def test_a_rendered_ball_has_the_volume_of_a_ball():
    grid = Grid.from_spacing((1, 1.5, 2), (40, 30, 24), (-20, -22, -23))
    image, labels = render([Part(BALL, 100.0, 1)], grid, np.random.default_rng(0), air=0)
    truth = 4 / 3 * np.pi * 10**3
    assert (labels == 1).sum() * grid.voxel_volume == pytest.approx(truth, rel=0.02)
    # Partial volume: the mixed values hold the same volume.
    assert image.sum() / 100 * grid.voxel_volume == pytest.approx(truth, rel=0.02)
    assert image.max() == 100


def test_a_part_outside_the_grid_changes_nothing():
    grid = Grid.from_spacing((1, 1, 1), (5, 5, 5), (100, 100, 100))
    image, labels = render([Part(BALL, 100.0, 1)], grid, np.random.default_rng(0))
    assert (image == -1000).all()
    assert not labels.any()


# Thorax --------------------------------------------------------------------------------------------------------------


def test_thorax_lies_as_a_patient_does(thorax):
    image, labels = thorax
    assert image.grid == labels.grid
    assert image.grid.code == "LPS"
    assert image.data.dtype == np.int16
    assert labels.kind == "labels"
    assert image.meta["modality"] == "CT"
    assert middle(labels, "left lung")[2] > 30
    assert middle(labels, "right lung")[2] < -30
    assert middle(labels, "heart")[2] > 10
    assert middle(labels, "liver")[2] < -20
    assert middle(labels, "liver")[0] < middle(labels, "heart")[0]
    assert middle(labels, "vertebrae")[1] > middle(labels, "heart")[1] + 50
    assert set(np.unique(labels.data)) == {0, *LABELS}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("left lung", 700, 2200),
        ("right lung", 700, 2400),
        ("heart", 300, 800),
        ("liver", 800, 2000),
        ("lesion", 2, 80),
        ("body", 6000, 16000),
    ],
)
def test_organs_are_of_human_size(thorax, name, low, high):
    labels = thorax[1]
    assert low < (labels.data == VALUE[name]).sum() * labels.grid.voxel_volume / 1000 < high


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("left lung", -900, -780), ("liver", 50, 200), ("heart", 80, 230), ("vertebrae", 150, 600), ("lesion", -100, 80)],
)
def test_tissue_has_hounsfield_units(thorax, name, low, high):
    image, labels = thorax
    assert low < np.median(image.data[labels.data == VALUE[name]]) < high
    assert np.median(image.data[labels.data == 0]) < -950


def test_the_noise_is_what_was_asked_for():
    grid = Grid.from_spacing((8, 8, 8), (16, 32, 40), (-60, -128, -160))
    clean = phantoms.thorax(grid, noise=0)[0].data.astype(float)
    noisy = phantoms.thorax(grid, noise=20)[0].data.astype(float)
    assert (noisy - clean)[clean > -800].std() == pytest.approx(20, rel=0.05)


def test_the_seed_decides(thorax):
    again = phantoms.thorax()
    np.testing.assert_array_equal(again[0].data, thorax[0].data)
    np.testing.assert_array_equal(again[1].data, thorax[1].data)
    assert (phantoms.thorax(seed=8)[1].data != thorax[1].data).mean() > 0.01


def test_an_oblique_grid_shows_the_same_patient(thorax):
    """Every voxel of the oblique truth must be what the upright truth says at the same place, borders aside."""
    labels = thorax[1]
    oblique = phantoms.oblique_thorax()[1]
    assert oblique.grid.obliquity > 10
    index = np.round(labels.grid.to_index(oblique.grid.to_world(np.argwhere(oblique.data >= 0)))).astype(int)
    known = ((index >= 0) & (index < labels.data.shape)).all(axis=1)
    there = labels.data[tuple(index[known].T)]
    here = oblique.data.ravel()[known]
    assert known.mean() > 0.7
    assert (there == here).mean() > 0.93
    for name in ("heart", "liver", "left lung"):
        a, b = here == VALUE[name], there == VALUE[name]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9, name


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(InputError, match="noise -1"):
        phantoms.thorax(noise=-1)
    grid = Grid.from_spacing((1, 1, 1), (1, 2, 2, 2), frames=Frames("time", (0.0,), "s"))
    with pytest.raises(InputError, match="without_frames"):
        phantoms.thorax(grid)
    with pytest.raises(InputError, match="frames 0"):
        phantoms.beating_heart(0)
    with pytest.raises(InputError, match="'skull'"):
        phantoms.sample_path("skull")


# Noise, beats, ultrasound --------------------------------------------------------------------------------------------


def test_salt_and_pepper_hits_the_share_that_was_asked_for(thorax):
    image = thorax[0]
    before = image.data.copy()
    noisy = phantoms.salt_and_pepper(image, 0.1, seed=3)
    changed = noisy.data != image.data
    assert changed.mean() == pytest.approx(0.1, abs=0.003)
    assert set(np.unique(noisy.data[changed])) == {before.min(), before.max()}
    np.testing.assert_array_equal(image.data, before)
    with pytest.raises(InputError, match="fraction"):
        phantoms.salt_and_pepper(image, 1.5)


def test_periodic_noise_stands_at_its_frequency():
    flat = lb.Volume.from_array(np.zeros((1, 64, 64), np.int16), (1, 1, 1))
    noisy = phantoms.periodic_noise(flat, [(0.125, 0.25)], amplitude=100)
    assert noisy.data.dtype == np.int16
    power = np.abs(np.fft.fft2(noisy.data[0]))
    peak = np.unravel_index(power[:32].argmax(), power[:32].shape)
    assert peak == (8, 16)
    assert 2 * power[peak] / 64**2 == pytest.approx(100, rel=0.01)
    with pytest.raises(InputError, match="cycles per voxel"):
        phantoms.periodic_noise(flat, [(0.6, 0)])


def test_the_heart_beats_and_nothing_else_moves():
    grid = Grid.from_spacing((10, 8, 8), (20, 32, 48), (-100, -122, -189))
    image, labels = phantoms.beating_heart(4, grid, period=1.0)
    assert image.grid.frames == Frames("time", (0.0, 0.25, 0.5, 0.75), "s")
    volume = (labels.data == VALUE["heart"]).sum(axis=(1, 2, 3))
    assert volume[0] > volume[1] == volume[3] > volume[2]
    # Radii from 1.09 to 0.91: what the diaphragm does not cover changes by their cube.
    assert volume[0] / volume[2] == pytest.approx((1.09 / 0.91) ** 3, rel=0.1)
    still = (labels.data != VALUE["heart"]).all(axis=0) & (labels.data == labels.data[0]).all(axis=0)
    assert np.isin(labels.data[0][still], [VALUE["liver"], VALUE["vertebrae"]]).any()
    assert (labels.data[0] == VALUE["vertebrae"]).sum() == (labels.data[2] == VALUE["vertebrae"]).sum()


@pytest.mark.parametrize("seed", [4, 11])
def test_the_ultrasound_head_is_an_ellipse_in_a_sector(seed):
    image, labels = phantoms.ultrasound_head(seed)
    assert image.data.dtype == np.uint8
    assert image.data.shape == (1, 540, 800)
    assert image.meta["modality"] == "US"
    truth = labels.data[0] == 1
    points = np.argwhere(truth).astype(float)
    a, b = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
    assert np.pi * a * b == pytest.approx(truth.sum(), rel=0.002)  # true of ellipses only
    assert 60 < np.pi * (a + b) * 0.125 < 320
    assert not image.data[0, :100, :100].any()  # outside the sector
    assert image.data[0][truth].std() > 20


def test_random_views_differ_and_repeat():
    views = [phantoms.random_thorax(seed, (16, 16, 16), (16.0, 16.0, 16.0)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views[0][0], views[1][0])
    np.testing.assert_array_equal(views[0][1], views[1][1])
    assert (views[0][0] != views[2][0]).any()


def test_regions_are_those_of_the_model():
    labels = np.array([0, *LABELS, 255], np.uint8)
    found = dict(zip(("outside", *VALUE, "unknown"), phantoms.regions(labels), strict=True))
    assert found == {
        "outside": 0, "body": 1, "left lung": 2, "right lung": 2, "heart": 4, "liver": 1, "vertebrae": 3,
        "other bone": 3, "lesion": 2, "unknown": 255,
    }  # fmt: skip


# Samples -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", phantoms.SAMPLES)
def test_committed_samples_regenerate_voxel_for_voxel(name):
    made = phantoms.SAMPLES[name].maker()
    stored = lb.read(phantoms.sample_path(name))
    np.testing.assert_array_equal(np.asarray(stored.data), made.data)
    assert stored.data.dtype == made.data.dtype
    assert stored.kind == made.kind
    assert stored.grid.distance(made.grid.without_frames()) < 1e-3
    assert stored.grid.frames == made.grid.frames
    assert stored.labels == made.labels
    assert stored.meta["modality" if made.kind == "image" else "spacing_known"]
    truth = phantoms.SAMPLES[name].truth
    assert truth is None or lb.read(phantoms.sample_path(truth)).grid.same_space(made.grid)


def test_samples_stay_small():
    assert sum(phantoms.sample_path(name).stat().st_size for name in phantoms.SAMPLES) < 6e6
