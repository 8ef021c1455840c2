"""Affine, resample and reorient against scipy, SimpleITK and numbers worked out by hand."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops import spatial
from napari_lightbox.volume import Label, Volume

ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
ITK = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}


def rotation(about_z=0.0, about_y=0.0, about_x=0.0):
    """Rotation of (z, y, x) vectors from the formulas for (x, y, z) in any textbook: Rz Ry Rx."""
    a, b, c = np.radians((about_z, about_y, about_x))
    rz = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    ry = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    rx = [[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]]
    return (np.array(rz) @ ry @ rx)[::-1, ::-1]


GRIDS = {
    "straight": Grid.from_spacing((1, 1, 1), (14, 15, 16)),
    "anisotropic": Grid.from_spacing((3.0, 0.7, 0.9), (13, 21, 17), origin=(-30, 4, 11)),
    "oblique": Grid.from_spacing((2.0, 0.8, 1.1), (10, 20, 15), (5, -60, 33), rotation(20, -35, 12)),
    "left-handed": Grid.from_spacing((2.0, 0.8, 1.1), (10, 20, 15), (5, -60, 33), rotation(20, -35, 12) * [1, -1, 1]),
    "one slice": Grid.from_spacing((4.0, 0.5, 0.6), (1, 24, 18), (7, 8, 9), rotation(0, 10, 25)),
}
SHEARED = Grid([[2.0, 0.3, 0.1, 5], [0.2, 0.9, -0.2, -7], [0, 0.1, 1.1, 30], [0, 0, 0, 1]], (10, 18, 15))


def smooth_volume(rng, grid, dtype=np.float32, **fields):
    data = ndimage.gaussian_filter(rng.normal(size=grid.shape), (0, 1, 1)) * 900
    return Volume(data.astype(dtype), grid, **fields)


def by_scipy(volume, target, forward, order, fill):
    """Fetch with scipy; also say where the outcome does not hang on how the border is treated."""
    matrix = np.linalg.inv(volume.grid.affine) @ np.linalg.inv(forward) @ target.affine
    mode = "mirror" if order == "cubic" else "nearest"
    data = volume.data.astype(float)
    found = ndimage.affine_transform(data, matrix[:3, :3], matrix[:3, 3], target.shape, order=ORDERS[order], mode=mode)
    place = np.indices(target.shape).reshape(3, -1).T @ matrix[:3, :3].T + matrix[:3, 3]
    last = np.array(volume.grid.shape) - 1
    beyond = np.maximum(-place, place - last).max(axis=1).reshape(target.shape)
    found[beyond > 0.5] = fill
    sure = np.abs(beyond - 0.5) > 1e-4
    if order == "nearest":
        # Half way between two voxels either is nearest.
        sure &= (np.abs(place - np.floor(place) - 0.5) > 1e-4).all(axis=1).reshape(target.shape)
    return found, sure


def as_itk(grid, data=None):
    image = sitk.GetImageFromArray(np.zeros(grid.shape, np.uint8) if data is None else data)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin[::-1])
    image.SetDirection(grid.direction[::-1, ::-1].ravel().tolist())
    return image


def by_itk(volume, target, forward, order, fill):
    backward = np.linalg.inv(forward)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(backward[:3, :3][::-1, ::-1].ravel().tolist())
    transform.SetTranslation(backward[:3, 3][::-1].tolist())
    image = as_itk(volume.grid, volume.data.astype(np.float64))
    return sitk.GetArrayFromImage(sitk.Resample(image, as_itk(target), transform, ITK[order], fill, sitk.sitkFloat64))


MOVES = {
    "none": {},
    "shift": {"translate": (1.3, -2.2, 0.7)},
    "turn": {"rotate": (15, -10, 8)},
    "all": {"translate": (2, 1, -3), "rotate": (9, 20, -14), "scale": (1.2, 0.8, -1.1), "shear": (0.1, -0.2, 0.15)},
}


def forward_by_hand(grid, translate=(0, 0, 0), rotate=(0, 0, 0), scale=(1, 1, 1), shear=(0, 0, 0)):
    middle = grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1]
    zy, zx, yx = shear
    steps = [np.eye(4) for _ in range(5)]
    steps[0][:3, 3] = -middle[:3]
    steps[1][:3, :3] = np.diag(scale)
    steps[2][:3, :3] = [[1, zy, zx], [0, 1, yx], [0, 0, 1]]
    steps[3][:3, :3] = rotation(*rotate)
    steps[4][:3, 3] = middle[:3] + translate
    return steps[4] @ steps[3] @ steps[2] @ steps[1] @ steps[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", [*GRIDS, "sheared"])
def test_affine_equals_scipy_and_simpleitk(rng, name, move, order):
    grid = SHEARED if name == "sheared" else GRIDS[name]
    volume = smooth_volume(rng, grid, np.float64)
    forward = forward_by_hand(grid, **MOVES[move])
    found = spatial.affine(volume, order=order, fill=-5000, **MOVES[move])
    assert found.grid == grid
    truth, sure = by_scipy(volume, grid, forward, order, -5000)
    assert sure.mean() > 0.5
    np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-6)
    # SimpleITK holds no sheared image, and no spline over one slice.
    if name != "sheared" and not (order == "cubic" and 1 in grid.shape):
        itk = by_itk(volume, grid, forward, order, -5000.0)
        np.testing.assert_allclose(found.data[sure], itk[sure], atol=1e-5)
    by_matrix = spatial.affine(volume, forward, order=order, fill=-5000)
    np.testing.assert_allclose(by_matrix.data[sure], found.data[sure], atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_short_axes_equal_scipy(rng, order, length):
    for axis in range(3):
        shape = [12, 13, 14]
        shape[axis] = length
        grid = Grid.from_spacing((1.0, 1.2, 0.8), shape)
        volume = smooth_volume(rng, grid, np.float64)
        target = Grid.from_spacing((0.7, 0.9, 0.6), (12, 13, 14), grid.to_world([-0.4, -0.3, -0.45]), rotation(4, 3, 2))
        found = spatial.resample(volume, like=Volume(np.zeros(target.shape, np.uint8), target), order=order, fill=77)
        truth, sure = by_scipy(volume, target, np.eye(4), order, 77)
        np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-6)


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_type_is_kept_rounded_and_clipped(rng, dtype, order):
    grid = Grid.from_spacing((1, 1, 1), (8, 9, 10))
    if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize < 8:
        info = np.iinfo(dtype)
        # Extremes side by side make the spline swing beyond the type.
        data = rng.choice([info.min, info.max], grid.shape).astype(dtype)
    else:
        data = (rng.random(grid.shape) * 100 - (0 if dtype in "?Q" else 50)).astype(dtype)
    volume = Volume(data, grid)
    target = Grid.from_spacing((0.83, 0.71, 0.93), (8, 11, 9), (0.11, 0.23, 0.37))
    found = spatial.resample(volume, like=Volume(np.zeros(target.shape, np.uint8), target), order=order, fill=0)
    assert found.data.dtype == np.dtype(dtype)
    truth, sure = by_scipy(volume, target, np.eye(4), order, 0)
    if dtype == "?":
        np.testing.assert_array_equal(found.data[sure], truth[sure] >= 0.5)
    elif np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        off = np.abs(found.data.astype(float) - np.clip(truth, info.min, info.max))[sure]
        # 32-bit extremes are interpolated in float64, whose product with 2 ** 32 has digits left over.
        assert off.max() <= 0.5 + 1e-2
    else:
        np.testing.assert_allclose(found.data[sure], truth[sure].astype(dtype), atol=1e-3 if dtype == "f" else 0.05)


def test_largest_integers_do_not_overflow():
    for dtype in ("q", "Q"):
        top = np.iinfo(dtype).max
        volume = Volume(np.full((4, 4, 4), top, dtype), Grid.from_spacing((1, 1, 1), (4, 4, 4)))
        assert (spatial.resample(volume, (0.5, 0.5, 0.5)).data == top).all()


@pytest.mark.parametrize("order", ORDERS)
def test_movements_onto_voxels_change_no_digit(rng, order):
    volume = smooth_volume(rng, GRIDS["oblique"])
    shift = volume.grid.affine[:3, :3] @ [2, -3, 1]
    found = spatial.affine(volume, translate=shift, order=order, fill=0)
    np.testing.assert_array_equal(found.data[2:, :-3, 1:], volume.data[:-2, 3:, :-1])
    assert (found.data[:2] == 0).all()
    again = spatial.affine(volume, order=order)
    np.testing.assert_array_equal(again.data, volume.data)
    cube = smooth_volume(rng, Grid.from_spacing((1, 1, 1), (5, 6, 6)))
    turned = spatial.affine(cube, rotate=(90, 0, 0), order=order)
    # x turns towards y: what lay at (y, x) now lies at (x, 5 - y).
    np.testing.assert_array_equal(turned.data, cube.data[:, ::-1].transpose(0, 2, 1))


@pytest.mark.parametrize("name", [*GRIDS, "sheared"])
def test_a_landmark_moves_as_the_matrix_says(name):
    """The middle of a blob, found by its centre of mass in the world, to a thousandth of a millimetre."""
    grid = SHEARED if name == "sheared" else GRIDS[name]
    if name == "one slice":
        move = {"translate": grid.direction @ [0, 1.13, -0.71]}
    else:
        move = {"translate": (0.31, -0.42, 0.53), "rotate": (4, -3, 5)}
    middle = (np.array(grid.shape) - 1) / 2 + [0, 0.3, -0.2]
    index = np.indices(grid.shape).reshape(3, -1).T
    blob = np.exp(-((index - middle) ** 2).sum(axis=1) / (2 * 1.1**2)).reshape(grid.shape)
    found = spatial.affine(Volume(blob, grid), order="cubic", fill=0, grid="fit", **move)
    weights = found.data.ravel()
    world = found.grid.to_world(np.indices(found.data.shape).reshape(3, -1).T)
    seen = (world * weights[:, None]).sum(axis=0) / weights.sum()
    wanted = forward_by_hand(grid, **move) @ [*grid.to_world(middle), 1]
    np.testing.assert_allclose(seen, wanted[:3], atol=1e-3)


def test_fit_holds_all_of_the_input(rng):
    for name in ("oblique", "left-handed", "anisotropic"):
        volume = smooth_volume(rng, GRIDS[name])
        found = spatial.affine(volume, rotate=(30, 20, 10), translate=(40, 0, -9), grid="fit", fill=-1e4)
        forward = forward_by_hand(volume.grid, rotate=(30, 20, 10), translate=(40, 0, -9))
        corners = volume.grid.corners() @ forward[:3, :3].T + forward[:3, 3]
        index = found.grid.to_index(corners)
        assert (index > -1e-6).all()
        assert (index < np.array(found.grid.shape) - 1 + 1e-6).all()
        # No wider than needed, and on the lattice of the input.
        assert (index.min(axis=0) < 1).all()
        assert (index.max(axis=0) > np.array(found.grid.shape) - 2).all()
        offset = volume.grid.to_index(found.grid.origin)
        np.testing.assert_allclose(offset, np.round(offset), atol=1e-9)
        np.testing.assert_allclose(found.grid.affine[:3, :3], volume.grid.affine[:3, :3])
        truth, sure = by_scipy(volume, found.grid, forward, "linear", -1e4)
        np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-2)


def test_matrix_by_hand():
    matrix = spatial.affine_matrix(translate=(1, 2, 3), scale=(2, 3, 4), shear=(0.5, 0.25, 0.125), centre=(1, 1, 1))
    # The point (2, 2, 2) is (1, 1, 1) from the centre: scaled (2, 3, 4), sheared (2 + 1.5 + 1, 3 + 0.5, 4).
    np.testing.assert_allclose(matrix @ [2, 2, 2, 1], [1 + 4.5 + 1, 1 + 3.5 + 2, 1 + 4 + 3, 1])
    for angles in itertools.product((0, 30, -90, 200), repeat=3):
        np.testing.assert_allclose(spatial.affine_matrix(rotate=angles)[:3, :3], rotation(*angles), atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", [*GRIDS, "sheared"])
def test_resample_to_a_spacing(rng, name, order):
    grid = SHEARED if name == "sheared" else GRIDS[name]
    volume = smooth_volume(rng, grid, np.float64)
    wanted = (grid.spacing[0], 0.63, 0.77)
    found = spatial.resample(volume, wanted, order=order)
    np.testing.assert_allclose(found.grid.spacing, wanted)
    np.testing.assert_allclose(found.grid.direction, grid.direction, atol=1e-12)
    middle = [g.to_world((np.array(g.shape) - 1) / 2) for g in (grid, found.grid)]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-9)
    assert np.all(np.abs(np.array(found.grid.shape) * wanted - np.array(grid.shape) * grid.spacing) <= np.array(wanted))
    truth, sure = by_scipy(volume, found.grid, np.eye(4), order, volume.data.min())
    np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-6)
    assert (found.data[sure] > volume.data.min() - 1e4).all()


def test_resample_onto_another_grid_equals_simpleitk(rng):
    for a, b in itertools.permutations(("anisotropic", "oblique", "left-handed", "straight"), 2):
        shifted = Grid(GRIDS[b].affine, GRIDS[b].shape)
        affine = shifted.affine.copy()
        affine[:3, 3] += GRIDS[a].to_world((np.array(GRIDS[a].shape) - 1) / 2) - shifted.to_world(
            (np.array(shifted.shape) - 1) / 2
        )
        target = Grid(affine, shifted.shape)
        volume = smooth_volume(rng, GRIDS[a])
        found = spatial.resample(volume, like=Volume(np.zeros(target.shape, np.int16), target), fill=-999)
        assert found.grid == target
        truth = by_itk(volume, target, np.eye(4), "linear", -999.0)
        _, sure = by_scipy(volume, target, np.eye(4), "linear", -999)
        np.testing.assert_allclose(found.data[sure], truth[sure], atol=1e-2)


def test_resample_makes_cubes_where_nothing_is_asked_for(rng):
    found = spatial.resample(smooth_volume(rng, GRIDS["anisotropic"]))
    np.testing.assert_allclose(found.grid.spacing, (0.7, 0.7, 0.7))
    flat = spatial.resample(smooth_volume(rng, GRIDS["one slice"]))
    np.testing.assert_allclose(flat.grid.spacing, (4.0, 0.5, 0.5))
    assert flat.grid.shape[0] == 1


def test_labels_always_take_the_nearest_and_keep_their_meaning(rng):
    grid = GRIDS["oblique"]
    labels = Volume(
        rng.choice([0, 3, 200], grid.shape).astype(np.uint8),
        grid,
        kind="labels",
        name="organs",
        labels={3: Label("liver", "#ff0000"), 200: Label("spleen")},
        meta={"modality": "SEG"},
        history=({"operation": "read"},),
    )
    for result in (
        spatial.affine(labels, rotate=(10, 20, 30), order="cubic", grid="fit"),
        spatial.resample(labels, (1, 1, 1), order="linear"),
        spatial.resample(labels, like=smooth_volume(rng, grid.with_spacing((1.1, 1.3, 2.0))), order="cubic"),
        spatial.reorient(labels, "PSR"),
    ):
        assert set(np.unique(result.data)) <= {0, 3, 200}
        assert result.data.dtype == np.uint8
        assert (result.kind, result.name, dict(result.labels), dict(result.meta), result.history) == (
            "labels",
            "organs",
            dict(labels.labels),
            {"modality": "SEG"},
            labels.history,
        )


def test_nearest_takes_one_side_consistently_where_two_are_as_near():
    volume = Volume(np.arange(64, dtype=np.int16).reshape(1, 1, 64), Grid.from_spacing((1, 1, 0.3), (1, 1, 64)))
    found = spatial.affine(volume, translate=(0, 0, 0.15), order="nearest", fill=-1)
    assert np.unique(np.diff(found.data[0, 0, 2:-2])).tolist() == [1]


def test_probabilities_stay_probabilities(rng):
    grid = Grid.from_spacing((1, 1, 1), (8, 8, 8))
    volume = Volume(rng.choice([0.0, 1.0], grid.shape).astype(np.float32), grid, kind="probability")
    found = spatial.resample(volume, (0.4, 0.4, 0.4), order="cubic")
    assert found.kind == "probability"
    assert found.data.min() >= 0
    assert found.data.max() <= 1


def test_frames_are_moved_alike_and_kept(rng):
    frames = Frames("time", (0.0, 0.5, 1.5), "s")
    grid = GRIDS["left-handed"].with_frames(frames)
    volume = Volume(rng.normal(size=grid.shape), grid)
    for function, arguments in (
        (spatial.affine, {"rotate": (5, 6, 7), "grid": "fit"}),
        (spatial.resample, {"spacing": (1, 1, 1)}),
        (spatial.reorient, {"code": "RAS"}),
    ):
        found = function(volume, **arguments)
        assert found.grid.frames == frames
        for index in range(3):
            single = function(volume.frame(index), **arguments)
            np.testing.assert_array_equal(found.data[index], single.data)
            assert found.grid.without_frames() == single.grid


@pytest.mark.parametrize("order", list(itertools.permutations("xyz")))
def test_reorient_keeps_every_voxel_where_it_is(rng, order):
    ends = {"x": "LR", "y": "PA", "z": "SI"}
    for signs in itertools.product((0, 1), repeat=3):
        code = "".join(ends[axis][sign] for axis, sign in zip(order, signs, strict=True))
        for name in ("oblique", "left-handed", "one slice"):
            volume = smooth_volume(rng, GRIDS[name])
            found = spatial.reorient(volume, code)
            assert found.grid.code == code
            assert np.shares_memory(found.data, volume.data)
            index = np.indices(found.data.shape).reshape(3, -1).T
            back = np.round(volume.grid.to_index(found.grid.to_world(index))).astype(int)
            np.testing.assert_array_equal(found.data.ravel(), volume.data[tuple(back.T)])
            again = spatial.reorient(found, volume.grid.code)
            np.testing.assert_array_equal(again.data, volume.data)
            np.testing.assert_allclose(again.grid.affine, volume.grid.affine, atol=1e-9)


def test_the_default_fill_is_the_smallest_value_or_no_label(rng):
    grid = GRIDS["straight"]
    volume = smooth_volume(rng, grid, np.int16)
    # All but the last slice comes from outside.
    away = ((grid.shape[0] - 1) * grid.spacing[0], 0, 0)
    assert (spatial.affine(volume, translate=away).data[:-1] == volume.data.min()).all()
    holed = Volume(np.where(volume.data > 900, np.nan, volume.data).astype(np.float32), volume.grid)
    assert (spatial.affine(holed, translate=away).data[:-1] == np.nanmin(holed.data)).all()
    labels = Volume(np.ones(volume.grid.shape, np.uint8), volume.grid, kind="labels")
    assert not spatial.affine(labels, translate=away).data[:-1].any()


def test_nan_spoils_its_neighbours_only(rng):
    volume = smooth_volume(rng, GRIDS["straight"])
    data = volume.data.copy()
    data[5, 6, 7] = np.nan
    found = spatial.affine(volume.replace(data=data), translate=(0.4, 0.3, 0.2), order="linear")
    whole = spatial.affine(volume, translate=(0.4, 0.3, 0.2), order="linear")
    spoilt = np.isnan(found.data)
    assert spoilt.any()
    assert np.argwhere(spoilt).min(axis=0).tolist() >= [5, 6, 7]
    assert np.argwhere(spoilt).max(axis=0).tolist() <= [6, 7, 8]
    np.testing.assert_array_equal(found.data[1:][~spoilt[1:]], whole.data[1:][~spoilt[1:]])
    with pytest.raises(InputError, match="linear or nearest"):
        spatial.affine(volume.replace(data=data), rotate=(1, 2, 3), order="cubic")


def zoomed(**arguments):
    return lambda volume: spatial.affine(volume, **arguments)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (zoomed(matrix=np.zeros((4, 4))), "last row"),
        (zoomed(matrix=np.diag([1, 1, 0, 1])), "flattens"),
        (zoomed(matrix=np.diag([1, 1, np.nan, 1])), "finite"),
        (zoomed(matrix=np.eye(3)), "4x4"),
        (zoomed(matrix="one"), "4x4"),
        (zoomed(matrix=np.eye(4), rotate=(1, 0, 0)), "both given"),
        (zoomed(matrix=np.eye(4), centre=(1, 0, 0)), "both given"),
        (zoomed(scale=(1, 0, 1)), "zero"),
        (zoomed(translate=(1, 2)), "3 numbers"),
        (zoomed(translate=(1, 2, np.inf)), "finite"),
        (zoomed(order="quintic"), "order"),
        (zoomed(grid="large"), "grid"),
        (zoomed(fill=1e9), "does not fit"),
        (zoomed(fill=0.5), "does not fit"),
        (zoomed(fill=np.nan), "does not fit"),
        (zoomed(fill="air"), "number"),
        (zoomed(scale=(1e5, 1e5, 1e5), grid="fit"), "GB"),
        (lambda volume: spatial.resample(volume, (1, 0, 1)), "greater than zero"),
        (lambda volume: spatial.resample(volume, (1, -2, 1)), "greater than zero"),
        (lambda volume: spatial.resample(volume, (1e-5, 1e-5, 1e-5)), "GB"),
        (lambda volume: spatial.resample(volume, (1, 1, 1), volume), "both given"),
        (lambda volume: spatial.reorient(volume, "LPX"), "orientation"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(rng, call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(smooth_volume(rng, GRIDS["straight"], np.int16))
    assert "\n" not in str(caught.value)


def test_voxels_of_any_memory_layout(rng):
    volume = smooth_volume(rng, GRIDS["oblique"])
    truth = spatial.affine(volume, rotate=(5, 6, 7), order="cubic")
    for data in (
        np.asfortranarray(volume.data),
        volume.data.astype(">f4"),
        volume.data.view(np.dtype("f4").newbyteorder("<")),
        np.repeat(volume.data, 2, axis=2)[..., ::2],
    ):
        data.flags.writeable = False
        kept = data.copy()
        found = spatial.affine(volume.replace(data=data), rotate=(5, 6, 7), order="cubic")
        np.testing.assert_array_equal(found.data, truth.data)
        np.testing.assert_array_equal(data, kept)


def test_whole_numbers_beyond_doubles_survive_the_nearest_voxel():
    values = np.array([0, 2**60 + 1, 2**53 + 1])
    data = values[np.random.default_rng(0).integers(0, 3, (6, 7, 8))]
    volume = Volume.from_array(data, (1, 1, 1), kind="labels")
    moved = spatial.affine(volume, translate=(1.0, 0.0, 0.0))
    assert np.array_equal(moved.data[1:], data[:-1])
    assert np.array_equal(spatial.resample(volume, (1, 1, 0.5)).data[:, :, ::2], data)


def test_a_result_without_anything_of_the_volume_is_refused():
    volume = Volume.from_array(np.ones((4, 5, 6), np.int16), (1, 1, 1), name="ct")
    with pytest.raises(InputError, match="nothing of 'ct'"):
        spatial.affine(volume, translate=(0, 0, 1e9))
    elsewhere = Volume.from_array(np.ones((4, 5, 6)), grid=Grid.from_spacing((1, 1, 1), (4, 5, 6), (500, 0, 0)))
    placed = Volume.from_array(volume.data, grid=volume.grid, name="ct")
    with pytest.raises(InputError, match="nothing of 'ct'"):
        spatial.resample(placed, like=elsewhere)


def test_a_picture_without_a_place_gives_no_grid_to_a_patient():
    picture = Volume.from_array(np.ones((5, 6)), name="picture")
    patient = Volume.from_array(np.ones((4, 5, 6)), grid=Grid.from_spacing((1, 1, 1), (4, 5, 6)), name="ct")
    with pytest.raises(InputError, match="'picture' does not say where"):
        spatial.resample(patient, like=picture)
    with pytest.raises(InputError, match="'picture' does not say where"):
        spatial.resample(picture, like=patient)
