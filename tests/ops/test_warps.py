"""Projective and polynomial warps and lens distortion against scikit-image, SimpleITK and formulas written by hand."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage
from skimage import transform

import napari_lightbox as lb
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops import spatial, warps
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Label, Volume

ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
# For points (x, y, 1) in mm.
BEND = np.array([[1.05, 0.08, -1.5], [-0.04, 0.97, 2.0], [0.002, -0.001, 1.0]])
PAIRS = [((0, 0), (1, 2)), ((30, 1), (28, -1)), ((29, 24), (31, 22)), ((1, 25), (-2, 26)), ((15, 12), (16, 13))]
PLANE = Grid.from_spacing((3.0, 0.8, 0.6), (1, 32, 55), (5, -1, 2))
C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[1, 0, 0], [0, C, -S], [0, S, C]]) @ np.array([[C, 0, S], [0, 1, 0], [-S, 0, C]])


def smooth(rng, grid, dtype=np.float64, **fields):
    data = ndimage.gaussian_filter(rng.normal(size=grid.shape), (*(0,) * (len(grid.shape) - 2), 1.5, 1.5)) * 900
    return Volume(data.astype(dtype), grid, **fields)


def text(pairs):
    return "; ".join(f"{', '.join(map(str, a))} > {', '.join(map(str, b))}" for a, b in pairs)


def world_xy(grid):
    """Return x and y in mm of every voxel of a straight axial slice, from spacing and origin."""
    y, x = np.indices(grid.shape[1:])
    return x * grid.spacing[2] + grid.origin[2], y * grid.spacing[1] + grid.origin[1]


def expected(volume, x, y, order, fill=-5000):
    """Fetch slice 0 of a straight volume from places in mm, with scipy; also say where borders play no part."""
    grid = volume.grid
    places = np.array([(y - grid.origin[1]) / grid.spacing[1], (x - grid.origin[2]) / grid.spacing[2]])
    data = volume.data[0].astype(float)
    mode = "mirror" if order == "cubic" else "nearest"
    found = ndimage.map_coordinates(data, np.nan_to_num(places, nan=-9), order=ORDERS[order], mode=mode)
    last = np.array(data.shape).reshape(2, 1, 1) - 1
    beyond = np.nan_to_num(np.maximum(-places, places - last), nan=9).max(axis=0)
    found[beyond > 0.5] = fill
    sure = np.abs(beyond - 0.5) > 1e-4
    if order == "nearest":
        sure &= (np.abs(places - np.floor(places) - 0.5) > 1e-4).all(axis=0)
    return found, sure


def assert_as_expected(found, volume, backward, order):
    """Compare with a mapping (x, y) -> (x, y) from output to input."""
    truth, sure = expected(volume, *backward(*world_xy(volume.grid)), order)
    assert sure.mean() > 0.9
    assert (truth != -5000).mean() > 0.3
    np.testing.assert_allclose(found.data[0][sure], truth[sure], atol=1e-6)


def homography_backward(matrix):
    inverse = transform.ProjectiveTransform(matrix).inverse

    def backward(x, y):
        found = inverse(np.stack((x.ravel(), y.ravel()), axis=1))
        return found[:, 0].reshape(x.shape), found[:, 1].reshape(x.shape)

    return backward


@pytest.mark.parametrize("order", ORDERS)
def test_homography_equals_scikit_image(rng, order):
    volume = smooth(rng, PLANE)
    typed = "; ".join(", ".join(map(str, row)) for row in BEND.tolist())
    found = warps.projective(volume, homography=typed, order=order, fill=-5000)
    assert found.grid == volume.grid
    assert_as_expected(found, volume, homography_backward(BEND), order)
    # As an array, in array order.
    as_array = BEND[np.ix_((1, 0, 2), (1, 0, 2))]
    again = warps.projective(volume, homography=as_array, order=order, fill=-5000)
    np.testing.assert_array_equal(again.data, found.data)


def test_homography_from_four_and_from_more_pairs_equals_scikit_image(rng):
    volume = smooth(rng, PLANE)
    start, end = np.array(PAIRS, float)[:4].transpose(1, 0, 2)
    truth = transform.ProjectiveTransform.from_estimate(start, end)
    found = warps.projective(volume, text(PAIRS[:4]), fill=-5000)
    assert_as_expected(found, volume, homography_backward(truth.params), "linear")
    # Pairs that one homography explains are explained by it, however many there are.
    start = rng.random((9, 2)) * 30
    end = transform.ProjectiveTransform(BEND)(start)
    found = warps.projective(volume, text(zip(start.tolist(), end.tolist(), strict=True)), fill=-5000)
    assert_as_expected(found, volume, homography_backward(BEND), "linear")
    arrays = np.stack((start, end), axis=1)[..., ::-1]
    np.testing.assert_allclose(warps.projective(volume, arrays, fill=-5000).data, found.data, atol=1e-6)


def test_pairs_that_disagree_are_met_by_least_squares(rng):
    start = rng.random((30, 2)) * 30
    end = transform.ProjectiveTransform(BEND)(start) + rng.normal(size=(30, 2)) * 0.05
    volume = smooth(rng, PLANE)
    found = warps.projective(volume, text(zip(start.tolist(), end.tolist(), strict=True)), fill=-5000)
    exact, _ = expected(volume, *homography_backward(BEND)(*world_xy(PLANE)), "linear")
    both = (found.data[0] != -5000) & (exact != -5000)
    slope = np.abs(np.gradient(volume.data[0])).max()
    assert np.abs(found.data[0] - exact)[both].max() < 0.25 * slope


def blob_at(grid, point, width=1.2):
    world = grid.to_world(np.indices(grid.shape).reshape(3, -1).T)
    return Volume(np.exp(-((world - point) ** 2).sum(axis=1) / (2 * width**2)).reshape(grid.shape), grid)


def centre_of(volume):
    world = volume.grid.to_world(np.indices(volume.grid.shape).reshape(3, -1).T)
    weights = volume.data.ravel() ** 2
    return (world * weights[:, None]).sum(axis=0) / weights.sum()


@pytest.mark.parametrize("direction", [np.eye(3), TURN, TURN * [1, -1, 1]])
def test_a_landmark_in_space_moves_as_the_matrix_says(direction):
    grid = Grid.from_spacing((0.9, 0.8, 0.7), (24, 30, 34), (-10, 5, 20), direction)
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = TURN.T
    matrix[:3, 3] = middle - TURN.T @ middle + [0.5, -0.7, 0.3]
    matrix[3, :3] = [0.0005, -0.0004, 0.0003]
    matrix[3, 3] = 1 - matrix[3, :3] @ middle
    start = np.add(middle, (1.0, -2.0, 1.5))
    moved = matrix @ [*start, 1]
    found = warps.projective(blob_at(grid, start), matrix=matrix, order="cubic", fill=0)
    # The mapping stretches a blob a little unevenly.
    np.testing.assert_allclose(centre_of(found), moved[:3] / moved[3], atol=2e-2)


def test_an_affine_matrix_gives_what_affine_gives(rng):
    for grid in (Grid.from_spacing((2, 0.8, 0.9), (9, 20, 18), (1, 2, 3), TURN), PLANE):
        volume = smooth(rng, grid)
        matrix = spatial.affine_matrix((0.3, 1, -1), (5, 4, -3), centre=grid.to_world((np.array(grid.shape) - 1) / 2))
        for order in ORDERS:
            found = warps.projective(volume, matrix=matrix, order=order, fill=-5000)
            truth = spatial.affine(volume, matrix, order=order, fill=-5000)
            same = np.isclose(found.data, truth.data, atol=1e-5)
            # A voxel within rounding of the border, or between two, may fall to either side.
            assert same.mean() > 0.999


def test_a_projective_mapping_in_space_is_found_from_pairs(rng):
    grid = Grid.from_spacing((2, 0.8, 0.9), (9, 20, 18), (1, 2, 3))
    volume = smooth(rng, grid)
    matrix = np.eye(4)
    matrix[:3] += rng.normal(size=(3, 4)) * 0.02
    matrix[3, :3] = (0.002, -0.001, 0.003)
    start = grid.origin + rng.random((7, 3)) * [16, 15, 15]
    moved = np.c_[start, np.ones(7)] @ matrix.T
    end = moved[:, :3] / moved[:, 3:]
    typed = text(zip(start[:, ::-1].tolist(), end[:, ::-1].tolist(), strict=True))
    found = warps.projective(volume, typed, fill=-5000)
    truth = warps.projective(volume, matrix=matrix, fill=-5000)
    assert np.isclose(found.data, truth.data, atol=1e-4).mean() > 0.999


def test_nothing_is_seen_beyond_the_horizon():
    volume = Volume(np.ones((1, 40, 40), np.float32), Grid.from_spacing((1, 1, 1), (1, 40, 40)))
    # Input points with x = 30 go to infinity; those beyond it would come back from the other side.
    found = warps.projective(volume, homography="1, 0, 0; 0, 1, 0; -0.03333333, 0, 1", fill=-1)
    x, y = world_xy(volume.grid)
    source_x = x / (1 + x / 30)
    source_y = y / (1 + x / 30)
    assert (source_x < 30).all()
    inside = (source_y < 39.5) & (source_x < 39.5)
    np.testing.assert_array_equal(found.data[0] == 1, inside)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_polynomial_equals_scikit_image(rng, degree, order):
    volume = smooth(rng, PLANE)
    end = rng.random((14, 2)) * [32, 25] + [2, -1]
    start = end + rng.normal(size=end.shape) * 0.8
    truth = transform.PolynomialTransform.from_estimate(end, start, order=degree)
    found = warps.polynomial(
        volume, text(zip(start.tolist(), end.tolist(), strict=True)), degree, order=order, fill=-5000
    )

    def backward(x, y):
        places = truth(np.stack((x.ravel(), y.ravel()), axis=1))
        return places[:, 0].reshape(x.shape), places[:, 1].reshape(x.shape)

    # scikit-image fits by total least squares: the same where the pairs agree, close where they do not.
    exact = truth(end)
    typed = text(zip(exact.tolist(), end.tolist(), strict=True))
    assert_as_expected(warps.polynomial(volume, typed, degree, order=order, fill=-5000), volume, backward, order)
    assert found.grid == volume.grid


@pytest.mark.parametrize(("degree", "count"), [(1, 3), (2, 6), (3, 10)])
def test_as_many_pairs_as_terms_are_met_exactly(rng, degree, count):
    """Tie points land on their places: the value at the output point is that at the input point."""
    end = (rng.permutation(20 * 30)[:count, None] // [30, 1]) % [99, 30] + [5, 10]
    start = end + rng.integers(-3, 4, (count, 2))
    grid = Grid.from_spacing((1, 1, 1), (1, 40, 50))
    volume = smooth(rng, grid)
    found = warps.polynomial(volume, np.stack((start, end), axis=1), degree, fill=-5000)
    np.testing.assert_allclose(found.data[0][tuple(end.T)], volume.data[0][tuple(start.T)], atol=1e-6)
    with pytest.raises(InputError, match=f"needs at least {count}"):
        warps.polynomial(volume, np.stack((start, end), axis=1)[1:], degree)


def test_polynomials_in_space_by_hand(rng):
    grid = Grid.from_spacing((2, 1, 1), (8, 16, 15), (3, -4, 5), TURN)
    volume = smooth(rng, grid)
    end = grid.to_world(rng.random((25, 3)) * grid.shape)

    def backward(points):
        z, y, x = points
        return np.stack((z + 0.02 * x * y - 0.3, y + 0.01 * z * z, x - 0.05 * z + 0.5))

    pairs = np.stack((backward(end.T).T, end), axis=1)
    found = warps.polynomial(volume, pairs, 2, fill=-5000)
    world = np.moveaxis(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
    places = np.moveaxis(grid.to_index(np.moveaxis(backward(world), 0, -1)), -1, 0)
    truth = ndimage.map_coordinates(volume.data, places, order=1, mode="nearest")
    last = np.array(grid.shape).reshape(3, 1, 1, 1) - 1
    beyond = np.maximum(-places, places - last).max(axis=0)
    truth[beyond > 0.5] = -5000
    sure = np.abs(beyond - 0.5) > 1e-4
    assert (truth != -5000).mean() > 0.3
    np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-5)


LENS = {"k1": -0.12, "k2": 0.05, "k3": -0.01, "p1": 0.01, "p2": -0.015}


def brown(x, y, k1, k2, k3, p1, p2):
    """Write the model down once more, as in any textbook of photogrammetry."""
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    return x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y


@pytest.mark.parametrize("order", ORDERS)
def test_lens_correction_equals_the_formula(rng, order):
    volume = smooth(rng, PLANE)
    found = warps.lens_distortion(volume, **LENS, centre=(5, 10, 17), radius=20, order=order, fill=-5000)

    def backward(x, y):
        u, v = brown((x - 17) / 20, (y - 10) / 20, **LENS)
        return u * 20 + 17, v * 20 + 10

    assert_as_expected(found, volume, backward, order)
    # The defaults: the middle of the volume, and half the diagonal of the section as 1.
    x, y = world_xy(PLANE)
    half = np.hypot(55 * 0.6, 32 * 0.8) / 2
    mx, my = x.mean(), y.mean()
    u, v = brown((x - mx) / half, (y - my) / half, **LENS)
    truth, sure = expected(volume, u * half + mx, v * half + my, order)
    plain = warps.lens_distortion(volume, **LENS, order=order, fill=-5000)
    np.testing.assert_allclose(plain.data[0][sure], truth[sure], atol=1e-6)


def test_distortion_undoes_correction(rng):
    grid = Grid.from_spacing((1, 0.5, 0.5), (1, 120, 140))
    volume = Volume(ndimage.gaussian_filter(rng.normal(size=grid.shape), (0, 5, 5)) * 900, grid)
    bent = warps.lens_distortion(volume, **LENS, mode="distort", order="cubic")
    # The inverse, voxel by voxel: where the formula leads from the ideal place is the place that is shown.
    y, x = np.indices(grid.shape[1:]) * 0.5
    half = np.hypot(60, 70) / 2
    places = np.array([ndimage.map_coordinates(p, [[60.0], [70.0]], order=1)[0] for p in (x, y)])
    assert places.tolist() == [35.0, 30.0]
    u, v = brown((x - 34.75) / half, (y - 29.75) / half, **LENS)
    back = ndimage.map_coordinates(bent.data[0], [(v * half + 29.75) / 0.5, (u * half + 34.75) / 0.5], order=3)
    inside = np.s_[10:-10, 10:-10]
    np.testing.assert_allclose(back[inside], volume.data[0][inside], atol=0.5)
    mended = warps.lens_distortion(bent, **LENS, mode="correct", order="cubic")
    np.testing.assert_allclose(mended.data[0][inside], volume.data[0][inside], atol=0.5)
    assert np.abs(bent.data[0] - volume.data[0])[inside].max() > 20


def test_where_a_strong_lens_folds_back_nothing_is_shown():
    volume = Volume(np.ones((1, 101, 101), np.float32), Grid.from_spacing((1, 1, 1), (1, 101, 101)))
    found = warps.lens_distortion(volume, k1=-0.5, radius=50, fill=0)
    y, x = np.indices((101, 101)) - 50
    r = np.hypot(x, y) / 50
    # r (1 - r^2 / 2) rises up to r = sqrt(2 / 3).
    np.testing.assert_array_equal(found.data[0] == 1, r < np.sqrt(2 / 3))
    bent = warps.lens_distortion(volume, k1=-0.5, radius=50, mode="distort", fill=0)
    largest = np.sqrt(2 / 3) * (1 - 1 / 3)
    assert (bent.data[0][r < largest - 0.01] == 1).all()
    assert (bent.data[0][r > largest + 0.01] == 0).all()


def test_sections_of_stacks_in_any_orientation(rng):
    """All slices are warped alike, and a volume stored another way round gives the same patient."""
    grid = Grid.from_spacing((2.0, 0.8, 0.6), (5, 32, 55), (5, -1, 2))
    volume = smooth(rng, grid)
    for section, shape in (("axial", 5), ("coronal", 32), ("sagittal", 55)):
        typed = text([((0.1, 6), (1, 6.3)), ((20, 6.2), (19, 7)), ((20, 14), (21, 13)), ((0, 14.1), (0.3, 13))])
        found = warps.projective(volume, typed, section=section, fill=-5000)
        assert np.any(found.data != volume.data)
        assert shape in found.data.shape
        for code in ("RAS", "PSR", "IRP", "SAL"):
            turned = warps.projective(spatial.reorient(volume, code), typed, section=section, fill=-5000)
            again = spatial.reorient(turned, "LPS")
            assert np.isclose(again.data, found.data, atol=1e-6).mean() > 0.999
        for index in (0, 3):
            one = spatial.crop(volume, **dict(zip(("start", "stop"), cut(section, index, grid.shape), strict=True)))
            alone = warps.projective(one, typed, fill=-5000)
            box = np.take(found.data, [index], axis=("axial", "coronal", "sagittal").index(section))
            np.testing.assert_allclose(alone.data, box, atol=1e-6)


def cut(section, index, shape):
    axis = ("axial", "coronal", "sagittal").index(section)
    start, stop = [0, 0, 0], list(shape)
    start[axis], stop[axis] = index, index + 1
    return start, stop


def test_an_oblique_slice_is_warped_in_its_own_plane(rng):
    straight = smooth(rng, PLANE)
    oblique = Volume(
        straight.data,
        Grid(
            np.block(
                [
                    [
                        TURN @ PLANE.affine[:3],
                    ],
                    [0, 0, 0, 1],
                ]
            ),
            PLANE.shape,
        ),
    )
    np.testing.assert_allclose(oblique.grid.spacing, PLANE.spacing)
    # Along its own axes the oblique volume has the same coordinates as the straight one that it was turned from.
    for name, values in (("projective", {"pairs": text(PAIRS[:4])}), ("lens_distortion", LENS)):
        found = lb.apply(name, oblique, **values, fill=-5000)
        truth = lb.apply(name, straight, **values, fill=-5000)
        assert np.isclose(found.data, truth.data, atol=1e-6).mean() > 0.999


def test_labels_take_the_nearest_and_keep_their_meaning(rng):
    labels = Volume(
        rng.choice([0, 3, 200], PLANE.shape).astype(np.uint8),
        PLANE,
        kind="labels",
        name="organs",
        labels={3: Label("liver", "#ff0000"), 200: Label("spleen")},
    )
    for result in (
        warps.projective(labels, text(PAIRS[:4]), order="cubic"),
        warps.polynomial(labels, text(PAIRS), 1, order="linear"),
        warps.lens_distortion(labels, **LENS),
    ):
        assert set(np.unique(result.data)) <= {0, 3, 200}
        assert (result.kind, result.name, result.data.dtype) == ("labels", "organs", np.uint8)
        assert dict(result.labels) == dict(labels.labels)


@pytest.mark.parametrize("dtype", ["?", "b", "H", "h", "i", "q", "Q", "e", "f", "d"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_type_is_kept_rounded_and_clipped(rng, dtype, order):
    data = (rng.random(PLANE.shape) * 100).astype(dtype)
    if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize < 8:
        # Extremes side by side make the spline swing beyond the type.
        data = rng.choice([np.iinfo(dtype).min, np.iinfo(dtype).max], PLANE.shape).astype(dtype)
    elif dtype in "qQ":
        data = rng.choice([np.iinfo(dtype).max, np.iinfo(dtype).max - 1], PLANE.shape).astype(dtype)
    with np.errstate(all="raise"):
        found = warps.lens_distortion(Volume(data, PLANE), **LENS, order=order)
    assert found.data.dtype == np.dtype(dtype)
    x, y = world_xy(PLANE)
    half = np.hypot(55 * 0.6, 32 * 0.8) / 2
    u, v = brown((x - x.mean()) / half, (y - y.mean()) / half, **LENS)
    fill = float(data.min())
    truth, sure = expected(Volume(data, PLANE), u * half + x.mean(), v * half + y.mean(), order, fill)
    if dtype == "?":
        np.testing.assert_array_equal(found.data[0][sure], (truth >= 0.5)[sure])
    elif np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        off = np.abs(found.data[0].astype(float) - np.clip(truth, info.min, info.max))[sure]
        assert off.max() <= (0.51 if np.dtype(dtype).itemsize < 8 else 5000)
    else:
        np.testing.assert_allclose(found.data[0][sure], truth[sure], atol=0.1 if dtype == "e" else 1e-3)


def test_nothing_moves_where_nothing_is_asked_for(rng):
    volume = smooth(rng, Grid.from_spacing((2, 0.8, 0.9), (4, 20, 18), (1, 2, 3), TURN), np.float32)
    for order in ORDERS:
        np.testing.assert_allclose(warps.lens_distortion(volume, order=order).data, volume.data, atol=1e-3)
        np.testing.assert_allclose(warps.projective(volume, matrix=np.eye(4), order=order).data, volume.data, atol=1e-3)


def test_frames_are_warped_alike(rng):
    grid = Grid.from_spacing((2, 0.8, 0.9), (4, 20, 18)).with_frames(Frames("time", (0.0, 0.5), "s"))
    volume = smooth(rng, grid, np.float32)
    for name, values in (("projective", {"pairs": text(PAIRS[:4])}), ("lens_distortion", LENS)):
        found = lb.apply(name, volume, **values)
        assert found.grid == volume.grid
        for index in range(2):
            np.testing.assert_array_equal(found.data[index], lb.apply(name, volume.frame(index), **values).data)


@pytest.mark.parametrize("order", ORDERS)
def test_cancel_is_heard(order):
    volume = Volume(np.zeros((40, 200, 200), np.int16), Grid.from_spacing((1, 1, 1), (40, 200, 200)))
    reports = []

    def listener(*report):
        reports.append(report)
        # Several parts may end together and be told at once.
        if len(reports) == 2:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        warps.lens_distortion(volume, k1=0.1, order=order)
    assert len(reports) == 2


def test_lens_distortion_of_simpleitk_fields_agrees(rng):
    """The same mapping as a displacement field in SimpleITK, on a slice with its true origin and spacing."""
    volume = smooth(rng, PLANE, np.float32)
    found = warps.lens_distortion(volume, **LENS, radius=25, centre=(5, 11, 18), fill=-5000)
    x, y = world_xy(PLANE)
    u, v = brown((x - 18) / 25, (y - 11) / 25, **LENS)
    shift = np.stack((u * 25 + 18 - x, v * 25 + 11 - y), axis=-1)
    images = sitk.GetImageFromArray(volume.data[0]), sitk.GetImageFromArray(shift, isVector=True)
    for image in images:
        image.SetSpacing(PLANE.spacing[:0:-1])
        image.SetOrigin(PLANE.origin[:0:-1])
    field = sitk.DisplacementFieldTransform(images[1])
    truth = sitk.GetArrayFromImage(sitk.Resample(images[0], images[0], field, sitk.sitkLinear, -5000))
    same = np.isclose(found.data[0], truth, atol=1e-2)
    assert same.mean() > 0.995


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v: warps.projective(v), "not given"),
        (lambda v: warps.projective(v, text(PAIRS), matrix=np.eye(4)), "several ways"),
        (lambda v: warps.projective(v, text(PAIRS[:3])), "at least 4"),
        (lambda v: warps.projective(v, "0,0 > 0,0; 1,1 > 1,1; 2,2 > 2,2; 3,3 > 3,3"), "decide|one line"),
        (lambda v: warps.projective(v, "0,0 > 5,5; 9,0 > 5,5; 0,9 > 5,5; 9,9 > 5,5"), "decide|one line"),
        (lambda v: warps.projective(v, "0,0,0 > 1,1"), "two or three coordinates"),
        (lambda v: warps.projective(v, "here > there"), "'here > there' cannot be read: write points from > to"),
        (lambda v: warps.projective(v, np.zeros((4, 2))), "shape"),
        (lambda v: warps.projective(v, np.full((4, 2, 2), np.nan)), "finite"),
        (lambda v: warps.projective(v, homography="1, 0; 0, 1"), "no 3x3"),
        (lambda v: warps.projective(v, homography="1, 0, 0; 0, 0, 0; 0, 0, 1"), "flattens"),
        (lambda v: warps.projective(v, matrix=np.zeros((4, 4))), "flattens"),
        (lambda v: warps.projective(v, matrix=np.eye(3)), "4x4"),
        (lambda v: warps.projective(v, matrix="one"), "4x4"),
        (lambda v: warps.projective(v, homography="1, 0, 500; 0, 1, 0; 0, 0, 1"), "nothing of the volume"),
        (lambda v: warps.projective(v, matrix=spatial.affine_matrix(translate=(0, 0, 900))), "nothing of the volume"),
        (lambda v: warps.polynomial(v, text(PAIRS), 4), "degree"),
        (lambda v: warps.polynomial(v, text(PAIRS), 0), "degree"),
        (lambda v: warps.polynomial(v, "", 1), "pairs is empty"),
        (lambda v: warps.polynomial(v, "0,0 > 0,0; 1,1 > 1,1; 2,2 > 2,2", 1), "line or curve"),
        (lambda v: warps.lens_distortion(v, k1=np.nan), "k1"),
        (lambda v: warps.lens_distortion(v, radius=0), "radius"),
        (lambda v: warps.lens_distortion(v, centre=(1, 2)), "centre"),
        (lambda v: warps.lens_distortion(v, mode="bend"), "mode"),
        (lambda v: warps.lens_distortion(v, section="x"), "section"),
        (lambda v: warps.lens_distortion(v, order="quintic"), "order"),
        (lambda v: warps.lens_distortion(v, fill="air"), "fill"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(rng, call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(smooth(rng, PLANE, np.float32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pairs", ["0,0>0,0; 0,0>90,0; 0,60>0,60; 50,0>50,0", "0,0>0,0; 9,0>0,0; 0,60>0,60; 50,0>50,0"])
def test_pairs_that_contradict_each_other_are_refused(pairs):
    volume = Volume.from_array(np.zeros((1, 60, 90)), (1, 1, 1))
    with pytest.raises(InputError, match="contradict"):
        warps.polynomial(volume, pairs, 1)
