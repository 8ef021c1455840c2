"""The textured trunk: exact truth, and textures that are where they belong."""

import numpy as np
import pytest

from napari_lightbox.geometry import Grid
from napari_lightbox.phantoms_anatomy import BODY, BONE, LEFT_LUNG, LIVER, RIGHT_LUNG, VERTEBRAE
from napari_lightbox.phantoms_detail import CONTENT, FAT, SOFT, DetailedAnatomy, Woven, paint, smooth_field
from napari_lightbox.phantoms_random import random_person, random_thorax, regions
from napari_lightbox.phantoms_shapes import Part, ellipsoid, grown


def ball(radius, hu, label, **more):
    return Part(ellipsoid((0, 0, 0), (radius,) * 3), hu, label, **more)


GRID = Grid.from_spacing((2.0, 2.0, 2.0), (40, 40, 40), (-39, -39, -39))
away = np.sqrt(sum(c**2 for c in np.meshgrid(*[np.arange(-39, 40, 2.0)] * 3, indexing="ij")))


def test_fat_gas_and_soft_tissue_are_told_apart_by_what_lies_at_the_centre():
    parts = [
        ball(36, -100, BODY),
        ball(28, 50, BODY),
        ball(20, -950, BODY),
        ball(12, 60, LIVER),
        ball(6, -100, CONTENT),
    ]
    image, labels = paint(parts, GRID, np.random.default_rng(0), edge=2.0, bend=0.0)
    for low, high, label, hu in ((30, 35, FAT, -100), (22, 27, SOFT, 50), (14, 19, BODY, -950), (7, 11, SOFT, 60)):
        inside = (away > low) & (away < high)
        assert (labels[inside] == label).all()
        np.testing.assert_allclose(image[inside], hu, atol=1e-3)
    assert (labels[away < 5] == BODY).all()  # the content of a bowel counts as body, whatever its value
    assert (labels[away > 37] == 0).all()
    # Values mix at the edges, the truth does not.
    assert ((image > -850) & (image < -150) & (away > 30)).any()
    assert set(np.unique(labels)) == {0, BODY, FAT, SOFT}


def test_a_pattern_decides_on_value_and_truth():
    pattern = Woven(
        ellipsoid((0, 0, 0), (30, 30, 30)), -100, BODY, pattern=lambda t: np.where(t("y") > 0, 50.0, -100.0)
    )
    image, labels = paint([pattern], GRID, np.random.default_rng(0), edge=2.0, bend=0.0)
    back = np.broadcast_to((np.arange(-39, 40, 2.0) > 0)[:, None], away.shape)
    inside = away < 27
    assert (labels[inside] == np.where(back, SOFT, FAT)[inside]).all()
    np.testing.assert_allclose(image[inside], np.where(back, 50, -100)[inside], atol=1e-3)


def test_bends_move_image_and_truth_together():
    parts = [ball(25, 300, BONE)]
    straight = paint(parts, GRID, np.random.default_rng(3), edge=2.0, bend=0.0)
    bent = paint(parts, GRID, np.random.default_rng(3), edge=2.0, bend=4.0)
    assert (straight[1] != bent[1]).mean() > 0.01
    for image, labels in (straight, bent):
        np.testing.assert_array_equal(labels == BONE, image > -350)


@pytest.mark.parametrize("length", [11.0, 45.0])
def test_fields_have_deviation_one_and_the_length_asked_for(length):
    grid = Grid.from_spacing((3.0, 4.0, 5.0), (48, 40, 32), (0, 0, 0))
    fields = np.stack([smooth_field(np.random.default_rng(n), grid, length) for n in range(24)])
    assert fields.dtype == np.float32
    assert abs(fields.mean()) < 0.2
    assert fields.std() == pytest.approx(1, abs=0.15)
    # Half the length away, little of the correlation is lost to a quarter of it; two lengths away there is none.
    step = {s: round(s * length / 3) for s in (0.25, 2)}
    near = (fields[:, step[0.25] :] * fields[:, : -step[0.25]]).mean()
    far = (fields[:, step[2] :] * fields[:, : -step[2]]).mean() if step[2] < 40 else 0.0
    assert near > 0.6
    assert abs(far) < 0.25


def test_a_random_person_has_all_tissues_where_they_belong():
    grid = Grid.from_spacing((6.0, 6.0, 6.0), (40, 64, 70), (-150, -190, -207))
    rng = np.random.default_rng(8)
    anatomy = DetailedAnatomy(random_person(rng))
    image, labels = paint(anatomy.parts(), grid, rng, edge=6.0, bend=0.0)
    assert not np.isin(labels, (LIVER, CONTENT)).any()
    found = regions(labels)
    assert set(np.unique(found)) == {0, 1, 2, 3, 4, 5, 6}
    medians = {value: np.median(image[found == value]) for value in range(1, 7)}
    assert medians[5] < -50 < 0 < medians[6] < 120
    assert medians[2] < -600
    assert medians[3] > 100
    lungs = np.isin(labels, (LEFT_LUNG, RIGHT_LUNG))
    assert image[lungs].std() > 20  # vessels
    assert (labels == VERTEBRAE).any()
    # Skin is the outermost layer: fat hardly touches the air.
    solid = DetailedAnatomy(random_person(np.random.default_rng(8)))
    assert grown(solid.skin, 3).distance(*np.array([[0.0], [0.0], [0.0]])) < 0


def test_views_hold_the_truth_that_the_model_learns():
    image, labels = random_thorax(12, (24, 32, 32), (8.0, 8.0, 8.0))
    assert image.dtype == np.int16
    assert set(np.unique(regions(labels))) <= {0, 1, 2, 3, 4, 5, 6, 255}
    assert {5, 6} <= set(np.unique(regions(labels)))
