"""Distances between surfaces: by hand, against all pairs of points, SimpleITK, scipy and published numbers."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.ops import _ready, _surface, _surfels, metrics

SHAPES = [(1, 1), (7, 9), (5, 70), (12, 64), (3, 4, 5), (1, 8, 9), (3, 4, 130), (7, 8, 9)]


@pytest.fixture(params=["plain", "compiled"])
def way(request, monkeypatch):
    """Go the plain way, and the compiled one."""
    if request.param == "plain":
        monkeypatch.setenv("LIGHTBOX_COMPILED", "0")
    elif not _ready.available():
        pytest.skip("there are no compiled kernels here")
    else:
        assert _surface.KERNELS.wait(_surface._KEY) is not None
    return request.param


def surface(mask):
    """Return the voxels of a mask that its erosion takes off."""
    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))


def all_pairs(first, second, spacing):
    """Return the distances of each surface to the other, from every pair of points."""
    a, b = (np.argwhere(surface(mask)) * spacing for mask in (first, second))
    between = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return between.min(axis=1), between.min(axis=0)


def pairs(rng):
    """Make masks of all sorts: noise, blobs, single voxels, far apart, inside one another, filling the image."""
    for number in range(48):
        shape = SHAPES[number % len(SHAPES)]
        share = (0.02, 0.3, 0.7, 1.0)[number // len(SHAPES) % 4]
        masks = [rng.random(shape) <= share for _ in range(2)]
        if number % 3 == 0:
            masks = [ndimage.gaussian_filter(m.astype(float), 1.5) > share * 0.9 for m in masks]
        if number % 7 == 0:
            masks[0][..., shape[-1] // 2 :] = masks[1][..., : shape[-1] // 2] = False
        if number % 5 == 0:
            masks[1] = masks[0] & masks[1]
        for mask in masks:
            mask.flat[rng.integers(0, mask.size)] = True
        yield *masks, rng.uniform(0.3, 5, len(shape)).round(2)


def test_equals_all_pairs_of_points(rng, way, monkeypatch):
    for number, (first, second, spacing) in enumerate(pairs(rng)):
        monkeypatch.setattr(_surface, "_EDGE", (6, 1, 2.5)[number % 3])
        for few in ("_POINTS", "_FEW"):
            monkeypatch.setattr(_surface, few, (1 << 13, 7)[number % 2])
        there, back = all_pairs(first, second, spacing)
        percentile = (100, 95, 50, 1.5)[number % 4]
        truth = max(np.percentile(there, percentile), np.percentile(back, percentile))
        found = metrics.hausdorff(first, second, spacing, percentile)
        assert found == pytest.approx(truth, rel=1e-12, abs=1e-12)
        assert metrics.hausdorff(second, first, spacing, percentile) == pytest.approx(found, rel=1e-12)
        both = np.concatenate([there, back])
        assert metrics.assd(first, second, spacing) == pytest.approx(both.mean(), rel=1e-12, abs=1e-12)
        truth = (there.mean() + back.mean()) / 2
        assert metrics.masd(first, second, spacing) == pytest.approx(truth, rel=1e-12, abs=1e-12)
        # Not at a distance that occurs, where the last digit would decide.
        tolerance = (0.0, 0.777, 2.123, 100.0)[number % 4]
        found = metrics.surface_dice(first, second, spacing, tolerance)
        assert found == pytest.approx((both <= tolerance).mean(), rel=1e-12)


def test_surfaces_equal_those_by_erosion(rng, way):
    for shape in [*SHAPES, (4, 5, 64), (5, 4, 128), (30, 31, 33)]:
        mask = ndimage.uniform_filter(rng.random(shape), 3) > 0.45
        mask |= rng.random(shape) < 0.05
        for view in (mask, mask[::-1].T, mask[..., ::2]):
            (found,) = _surface.masks([view], None)
            assert found.empty == (not view.any())
            places = _surface.places(found.surface) if way == "plain" else places_in_cells(found, view.ndim)
            np.testing.assert_array_equal(places[:, 3 - view.ndim :], np.argwhere(surface(view)))


def places_in_cells(mask, axes):
    """Return the points of a mask's surface, in array order, from the cells that they are gathered in."""
    shape, nothing = (*mask.bits.shape[:2], mask.wide), np.zeros_like(mask.bits)
    kernel, spacing = _surface.KERNELS.get(_surface._KEY), (2.0, 1.0, 0.7)
    ((cells, shared),) = _surface._cells(kernel, [mask.bits], [nothing], axes, shape, spacing)
    assert shared == 0
    cell = np.repeat(np.arange(len(cells.starts) - 1), np.diff(cells.starts))
    places = np.empty((len(cell), 3), np.int64)
    for axis in range(3):
        places[:, axis] = cells.boxes[axis, cell] + (cells.points >> (20 - 10 * axis) & 1023)
        assert (places[:, axis] <= cells.boxes[3 + axis, cell]).all()
        # A box has a point at either end.
        np.testing.assert_array_equal(np.maximum.reduceat(places[:, axis], cells.starts[:-1]), cells.boxes[3 + axis])
    return places[np.argsort(cells.order)]


def test_the_compiled_way_has_every_digit_of_all_pairs(rng):
    if not _ready.available():
        pytest.skip("there are no compiled kernels here")
    assert _surface.KERNELS.wait(_surface._KEY) is not None
    for shape, spacing in (((20, 30, 150), (2.5, 0.7, 0.3)), ((90, 200), (1.1, 0.9)), ((3, 50, 70), (0.01, 1.3, 1e3))):
        first, second = (ndimage.gaussian_filter(rng.random(shape), 2) > level for level in (0.5, 0.53))
        second[..., : shape[-1] // 2] = False
        first[0], second[0, ..., -1] = False, True
        there, back = _surface.distances(_surface.masks([first, second], None), spacing)
        for found, one, other in ((there, first, second), (back, second, first)):
            one, other = surface(one), surface(other)
            shared = (one & other).sum()
            assert not found[:shared].any()
            alone, places = np.argwhere(one & ~other), np.argwhere(other)
            assert len(found) == shared + len(alone) > 500
            for n in range(0, len(alone), 41):
                # Along z, y and x, one after the other.
                total = sum(np.square((places - alone[n]) * spacing).T)
                assert found[shared + n] == np.sqrt(total.min())
            # Twice, and in no order.
            mixed, axes = rng.integers(0, len(alone), 300), ((0, 0), (3 - len(shape), 0))
            away = _surface.nearest(np.pad(alone[mixed], axes), np.pad(places, axes), spacing)
            np.testing.assert_array_equal(away, found[shared + mixed])


def test_points_equally_near_but_for_a_digit_are_told_apart(rng, way):
    """Sums of the same squares in another order: the least of them counts, whatever a tree makes of rounded places."""
    for _ in range(20):
        first, second = rng.random((2, 14, 15, 16)) < 0.02
        spacing = tuple(rng.choice([0.1, 0.3, 0.6, 0.7, 1.1], 3))
        for found, one, other in zip(
            _surface.distances(_surface.masks([first, second], None), spacing),
            (first, second),
            (second, first),
            strict=True,
        ):
            one, other = surface(one), surface(other)
            steps = np.square((np.argwhere(one & ~other)[:, None] - np.argwhere(other)) * spacing)
            truth = np.sqrt((steps[..., 0] + steps[..., 1] + steps[..., 2]).min(axis=1))
            np.testing.assert_array_equal(found[(one & other).sum() :], truth)


def test_equals_simpleitk_on_surfaces(rng, way):
    for shape in ((20, 30), (10, 14, 12)):
        for _ in range(4):
            masks = [ndimage.gaussian_filter(rng.random(shape), 1.5) > 0.5 for _ in range(2)]
            spacing = rng.uniform(0.5, 3, len(shape))
            images = [sitk.GetImageFromArray(surface(mask).astype(np.uint8)) for mask in masks]
            for image in images:
                image.SetSpacing(spacing[::-1].tolist())
            truth = sitk.HausdorffDistanceImageFilter()
            truth.Execute(*images)
            found = metrics.hausdorff(*masks, spacing, 100)
            assert found == pytest.approx(truth.GetHausdorffDistance(), rel=1e-5)
            assert metrics.masd(*masks, spacing) == pytest.approx(truth.GetAverageHausdorffDistance(), rel=1e-5)


def test_by_hand(way):
    first, second = np.zeros((2, 9, 9), bool)
    first[2:7, 2:7] = second[2:7, 2:7] = True
    second[4, 8] = True
    # The centre of a square of 5 has no part in its surface of 16 voxels; the stray voxel lies 2 columns away.
    assert metrics.hausdorff(first, second, (1, 0.5), 100) == 1.0
    assert metrics.hausdorff(first, second, (1, 0.5), 95) == pytest.approx(0.2)
    assert metrics.assd(first, second, (1, 0.5)) == pytest.approx(1 / 33)
    assert metrics.masd(first, second, (1, 0.5)) == pytest.approx(1 / 34)
    assert metrics.surface_dice(first, second, (1, 0.5), 0.9) == pytest.approx(32 / 33)
    assert metrics.surface_dice(first, second, (1, 0.5), 1.0) == 1.0
    # One inside the other: no voxel of the small region lies outside, but its surface is far from the large one's.
    large, small = np.ones((11, 11, 11), int), np.zeros((11, 11, 11), int)
    small[5, 5, 5] = 1
    assert metrics.hausdorff(large, small, (1, 2, 3), 100) == pytest.approx(5 * math.sqrt(14))
    assert metrics.hausdorff(small, small, (1, 2, 3), 100) == 0


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", ">i4", "Q"])
def test_labels_of_any_type_and_layout(rng, way, dtype):
    first, second = (ndimage.gaussian_filter(rng.random((12, 13, 14)), 2) > 0.5 for _ in range(2))
    truth = metrics.hausdorff(first, second, (1, 2, 3))
    value = 1 if dtype == "?" else 3
    a, b = (np.where(mask, value, 0).astype(dtype) for mask in (first, second))
    b = np.asfortranarray(b)
    a.flags.writeable = False
    assert metrics.hausdorff(a, b, (1, 2, 3)) == truth
    assert metrics.hausdorff(a, b, (1, 2, 3), label=value) == truth
    assert math.isnan(metrics.hausdorff(a, b, (1, 2, 3), label=300))
    across = metrics.hausdorff(a[::-1].T, b[::-1].T, (3, 2, 1))
    assert across == pytest.approx(truth, rel=1e-14)


def test_missing_empty_and_not_applicable_are_three_answers():
    nothing, something = np.zeros((4, 5), int), np.eye(4, 5, dtype=int)
    for measure in (metrics.hausdorff, metrics.assd, metrics.masd):
        assert math.isnan(measure(nothing, nothing, (1, 1)))
        assert measure(nothing, something, (1, 1)) == math.inf
        assert measure(something, nothing, (1, 1)) == math.inf
    assert math.isnan(metrics.surface_dice(nothing, nothing, (1, 1), 1))
    assert metrics.surface_dice(nothing, something, (1, 1), 1) == 0
    assert metrics.surface_dice(something, nothing, (1, 1), 1) == 0
    predicted, reference = something * 2, something * 3
    predicted[0, 4] = reference[0, 4] = 5
    rows = metrics.surface_agreement(predicted, reference, (1, 1), labels=[2, 3, 5, 7, 9], not_annotated=[9])
    assert [row["state"] for row in rows] == ["extra", "missed", "compared", "absent", "not annotated"]
    assert [row["label"] for row in rows] == [2, 3, 5, 7, 9]
    assert [row["hd95"] for row in rows[:3]] == [math.inf, math.inf, 0]
    assert [row["surface_dice"] for row in rows[:3]] == [0, 0, 1]
    assert all(math.isnan(rows[3][name]) for name in ("hd", "hd95", "assd", "masd", "surface_dice"))
    assert all(rows[4][name] is None for name in ("hd", "hd95", "assd", "masd", "surface_dice"))
    assert [row["label"] for row in metrics.surface_agreement(predicted, reference, (1, 1), not_annotated=[9])] == [
        *(2, 3, 5, 9)
    ]
    assert metrics.surface_agreement(nothing, nothing, (1, 1)) == []


def test_rows_hold_what_the_single_functions_say(rng):
    predicted, reference = (rng.integers(0, 4, (9, 10, 11)) for _ in range(2))
    spacing = (3.0, 1.0, 0.7)
    rows = metrics.surface_agreement(predicted, reference, spacing, 0.5)
    assert [row["label"] for row in rows] == [1, 2, 3]
    for row in rows:
        given = (predicted, reference, spacing)
        assert row["hd"] == metrics.hausdorff(*given, 100, row["label"])
        assert row["hd95"] == metrics.hausdorff(*given, label=row["label"])
        assert row["assd"] == metrics.assd(*given, row["label"])
        assert row["masd"] == metrics.masd(*given, row["label"])
        assert row["surface_dice"] == metrics.surface_dice(*given, 0.5, row["label"])


def test_published_numbers(data, way):
    """Those of MONAI's and Metrics Reloaded's own tests; DeepMind's where the rule for surfaces makes no difference."""
    masks = np.load(data("metric_vectors/masks_shared.npz"))
    compared = 0
    for case in json.loads(data("metric_vectors/expected_shared.json").read_text()):
        first, second = (masks[f"{case['name']}__{side}"] > 0 for side in ("pred", "gt"))
        given, expected = (first, second, case["spacing"]), case["expected"]
        close = {"abs": 1e-6} if case["name"].startswith("monai") else {"abs": 0.01}
        measures = {
            "hausdorff": lambda given=given: metrics.hausdorff(*given, 100),
            "hausdorff95": lambda given=given: metrics.hausdorff(*given, 95),
            "assd": lambda given=given: metrics.assd(*given),
            "asd_symmetric": lambda given=given: metrics.assd(*given),
            "masd": lambda given=given: metrics.masd(*given),
            "nsd": lambda given=given: metrics.surface_dice(*given, 1.0),
        }
        if case["name"].startswith("dm") and first.any():
            measures = {"hausdorff_100": measures["hausdorff"], "hausdorff_95": measures["hausdorff95"]}
        for name in measures.keys() & expected.keys():
            assert measures[name]() == pytest.approx(expected[name], **close), (case["name"], name)
            compared += 1
    assert compared >= 16


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"spacing": (1,)}, "spacing"),
        ({"spacing": (0, 1)}, "spacing"),
        ({"percentile": 0}, "percentile"),
        ({"percentile": 101}, "percentile must be at most 100"),
        ({"reference": np.zeros((3, 4), int)}, "do not match"),
        ({"predicted": np.zeros((3, 3))}, "whole numbers"),
        ({"predicted": np.zeros(3, int), "reference": np.zeros(3, int)}, "axes"),
    ],
)
def test_refused_in_a_sentence(arguments, says):
    given = {"predicted": np.eye(3, dtype=int), "reference": np.eye(3, dtype=int), "spacing": (1, 1), **arguments}
    with pytest.raises(InputError, match=says):
        metrics.hausdorff(**given)
    with pytest.raises(InputError, match="tolerance"):
        metrics.surface_dice(np.eye(3, dtype=int), np.eye(3, dtype=int), (1, 1), -1)


def pieces(labels, label, spacing):
    """Return corner and size of all pieces of a mask's surface."""
    return _surfels.Corners((labels, labels), label, spacing).pieces(0, labels.size * 8)


def test_pieces_of_surface_lie_where_inside_and_outside_meet(rng, way):
    """DeepMind's way: corners by a correlation, distances by a map."""
    for number in range(24):
        shape = [(8, 9), (1, 1), (4, 5, 6), (7, 7, 3)][number % 4]
        masks = [rng.random(shape) < (0.3, 0.8)[number % 2] for _ in range(2)]
        for mask in masks:
            mask.flat[rng.integers(0, mask.size)] = True
        spacing = tuple(rng.uniform(0.5, 3, len(shape)))
        borders = []
        for mask in masks:
            count = ndimage.correlate(np.pad(mask, (0, 1)).astype(int), np.ones((2,) * mask.ndim), mode="constant")
            borders.append((count > 0) & (count < 2**mask.ndim))
        away = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
        truth = max(away[1][borders[0]].max(), away[0][borders[1]].max())
        found = metrics.hausdorff(*masks, spacing, 100, convention="deepmind")
        assert found == pytest.approx(truth, rel=1e-12, abs=1e-12)
        for mask, border in zip(masks, borders, strict=True):
            places, _ = pieces(mask, None, spacing)
            np.testing.assert_array_equal(places[:, 3 - mask.ndim :], np.argwhere(border))


def test_pieces_of_surface_add_up_to_its_area():
    from skimage.measure import find_contours, marching_cubes, mesh_surface_area

    spacing = (2.0, 1.0, 0.7)
    ball = np.linalg.norm(np.mgrid[-9:10, -9:10, -9:10], axis=0) < 8.3
    vertices, faces, _, _ = marching_cubes(ball, 0.5, spacing=spacing, method="lorensen")
    assert pieces(ball, None, spacing)[1].sum() == pytest.approx(mesh_surface_area(vertices, faces), rel=1e-5)
    # One voxel: an octahedron of 8 triangles.
    a, b, c = (s / 2 for s in spacing)
    triangle = math.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2) / 2
    _, one = pieces(np.ones((1, 1, 1), int), 1, spacing)
    np.testing.assert_allclose(one, [triangle] * 8, rtol=1e-14)
    (contour,) = find_contours(ball[9].astype(float), 0.5)
    length = np.linalg.norm(np.diff(contour * spacing[1:], axis=0), axis=1).sum()
    assert pieces(ball[9], None, spacing[1:])[1].sum() == pytest.approx(length, rel=1e-12)
    for code in range(1, 255):
        # A mask and what is left without it share their surface.
        assert _surfels._sizes(spacing)[code] == pytest.approx(_surfels._sizes(spacing)[255 - code], rel=1e-14)


def test_published_numbers_of_deepmind(data):
    masks = np.load(data("metric_vectors/masks_shared.npz"))
    compared = 0
    for case in json.loads(data("metric_vectors/expected_shared.json").read_text()):
        if not case["name"].startswith("dm"):
            continue
        first, second = (masks[f"{case['name']}__{side}"] > 0 for side in ("gt", "pred"))
        apart = metrics._apart(first, second, case["spacing"], None, "deepmind", (100, 95), 1.0)
        expected = case["expected"]
        assert apart.surface_dice == pytest.approx(float(expected["surface_dice_1mm"]), abs=5e-4, nan_ok=True)
        if not first.any():
            # Theirs is infinite; nothing and nothing are not far apart here.
            assert math.isnan(apart.hausdorff())
            continue
        for which, percentile in enumerate((100, 95)):
            assert apart.hausdorff(which) == float(expected[f"hausdorff_{percentile}"])
        compared += 1
        if second.any():
            means = [side.total / side.whole for side in apart.sides]
            assert means == pytest.approx(expected["average_surface_distance"], abs=5e-4)
            assert apart.masd == pytest.approx(sum(means) / 2)
    assert compared == 3


def test_rows_by_pieces_of_surface(rng):
    predicted, reference = (rng.integers(0, 3, (6, 7, 8)) for _ in range(2))
    given = (predicted, reference, (3.0, 1.0, 0.7))
    rows = metrics.surface_agreement(*given, 0.5, convention="deepmind")
    for row in rows:
        assert row["hd95"] == metrics.hausdorff(*given, label=row["label"], convention="deepmind")
        assert row["assd"] == metrics.assd(*given, row["label"], convention="deepmind")
        assert row["surface_dice"] == metrics.surface_dice(*given, 0.5, row["label"], convention="deepmind")
        assert row["state"] == "compared"
    with pytest.raises(InputError, match="convention"):
        metrics.hausdorff(*given, convention="monai")
