"""Where voxels lie: truths written by hand, then nibabel and SimpleITK as witnesses."""

import weakref
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from napari_lightbox.errors import GridError, InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.io import convention
from napari_lightbox.volume import Volume, map_frames

SHAPE = (4, 5, 6)
SPACING = (3.0, 2.0, 1.0)
LETTER = {(2, 1): "S", (2, -1): "I", (1, 1): "P", (1, -1): "A", (0, 1): "L", (0, -1): "R"}
ORDERS = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]


def oblique(degrees=(10.0, 20.0, 30.0)):
    """Return a rotation written out by hand: about x, then y, then z."""
    a, b, c = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def test_world_position_by_hand():
    grid = Grid.from_spacing(SPACING, SHAPE, origin=(-7.0, 10.0, 100.0))
    assert grid.to_world((0, 0, 0)).tolist() == [-7, 10, 100]
    assert grid.to_world((3, 4, 5)).tolist() == [-7 + 9, 10 + 8, 100 + 5]
    assert grid.to_index((2, 18, 105)).tolist() == [3, 4, 5]
    assert grid.code == "LPS"
    assert grid.voxel_volume == 6
    assert not grid.left_handed
    assert grid.obliquity == pytest.approx(0, abs=1e-6)


def test_ras_file_by_hand():
    # A NIfTI affine: x to Right in 1 mm, y to Anterior in 2 mm, z to Superior in 3 mm, from (10, 20, 30) RAS.
    affine = np.array([[1.0, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    grid = Grid(convention.from_xyz(affine, "RAS"), SHAPE)
    assert grid.origin == (30, -20, -10)
    assert grid.spacing == (3, 2, 1)
    assert grid.code == "RAS"
    assert grid.to_world((1, 1, 1)).tolist() == [33, -22, -11]
    assert np.array_equal(convention.to_xyz(grid.affine, "RAS"), affine)


def test_las_file_by_hand():
    grid = Grid(convention.from_vectors(np.eye(3), (1, 2, 3), "LAS"), SHAPE)
    assert grid.code == "LAS"
    assert grid.origin == (3, -2, 1)


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_all_orders_and_flips(order, signs):
    """Voxel axis x, y, z runs along world axis order[0], order[1], order[2] with the sign given."""
    xyz = np.eye(4)
    xyz[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        xyz[world, axis] = sign * (axis + 1)
    xyz[:3, 3] = (11, 22, 33)
    grid = Grid(convention.from_xyz(xyz), SHAPE)
    assert grid.code == "".join(LETTER[w, s] for w, s in zip(order, signs, strict=True))
    ras = convention.to_xyz(grid.affine, "RAS")
    assert grid.code == "".join(nib.aff2axcodes(ras))
    assert grid.spacing == (3, 2, 1)
    assert grid.left_handed == (np.linalg.det(xyz) < 0)
    point = xyz @ (5, 4, 3, 1)
    assert np.allclose(grid.to_world((3, 4, 5)), point[2::-1], atol=1e-12)
    assert np.allclose(grid.to_index(point[2::-1]), (3, 4, 5))
    for code in ("LPS", "RAS", grid.code):
        turned = grid.reordered(*grid.order_for(code))
        assert turned.code == code
        assert {tuple(np.round(c, 9)) for c in turned.corners()} == {tuple(np.round(c, 9)) for c in grid.corners()}


@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_reordered_data_stay_where_they_are(order, signs, rng):
    data = rng.integers(0, 1000, SHAPE)
    grid = Grid.from_spacing(SPACING, SHAPE, (1, 2, 3), oblique())
    flips = [s < 0 for s in signs]
    moved = grid.reordered(order, flips)
    turned = data.transpose(order)[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
    assert turned.shape == moved.shape
    for index in np.ndindex(turned.shape):
        there = np.rint(grid.to_index(moved.to_world(index))).astype(int)
        assert data[tuple(there)] == turned[index]


def test_oblique_left_handed_agrees_with_itk():
    sitk = pytest.importorskip("SimpleITK")
    direction = oblique() @ np.diag([1, 1, -1])
    grid = Grid.from_spacing((3.3, 0.7, 0.9), SHAPE, (-100.5, 20.25, -333.125), direction)
    assert grid.left_handed
    image = sitk.Image(6, 5, 4, sitk.sitkUInt8)
    geometry = convention.itk_geometry(grid.affine)
    image.SetOrigin(geometry["origin"])
    image.SetSpacing(geometry["spacing"])
    image.SetDirection(geometry["direction"])
    for z, y, x in ((0, 0, 0), (3, 4, 5), (1, 2, 3), (3, 0, 5)):
        itk = image.TransformContinuousIndexToPhysicalPoint((float(x), float(y), float(z)))
        assert np.allclose(grid.to_world((z, y, x)), itk[::-1], atol=1e-9)


def test_obliquity_is_the_angle_turned():
    grid = Grid.from_spacing(SPACING, SHAPE, direction=oblique((15.0, 0, 0)))
    assert grid.obliquity == pytest.approx(15)
    assert grid.shear == pytest.approx(0, abs=1e-6)


def test_shear_by_hand():
    # z leans towards y by 14 degrees, as a tilted gantry does.
    affine = np.eye(4)
    affine[1, 0] = np.tan(np.radians(14))
    grid = Grid(affine, SHAPE)
    assert grid.shear == pytest.approx(14)
    assert grid.voxel_volume == pytest.approx(1)


def test_a_45_degree_tie_follows_the_stored_order():
    for noise in (-1e-12, 0, 1e-12):
        assert Grid.from_spacing((1, 1, 1), SHAPE, direction=oblique((45.0 + noise, 0, 0))).closest_axes()[0] == (
            0,
            1,
            2,
        )


def test_every_code_needs_three_different_axes():
    grid = Grid.from_spacing(SPACING, SHAPE)
    for wrong in ("LPX", "LLS", "LP", "", None, "LRS"):
        with pytest.raises(GridError, match="orientation"):
            grid.order_for(wrong)


@pytest.mark.parametrize(
    ("affine", "shape", "word"),
    [
        (np.full((4, 4), np.nan), SHAPE, "affine"),
        (np.diag([1.0, 0, 1, 1]), SHAPE, "greater than zero"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), SHAPE, "singular"),
        (np.eye(3), SHAPE, "4x4"),
        (np.eye(4), (0, 5, 6), "no voxels"),
        (np.eye(4), (5, 6), "axes"),
        (np.eye(4), (2, 3, 4, 5), "Frames"),
    ],
)
def test_impossible_grids(affine, shape, word):
    with pytest.raises(GridError, match=word):
        Grid(affine, shape)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (np.inf, 1, 1), (1, 1)])
def test_impossible_spacing(spacing):
    with pytest.raises(GridError, match="spacing"):
        Grid.from_spacing(spacing, SHAPE)


def test_near_degenerate_is_kept_while_it_is_regular():
    # Axes 0.01 degrees apart are still two axes; 1e-9 apart are not.
    lean = np.radians(0.01)
    affine = np.eye(4)
    affine[:3, 1] = (0, np.sin(lean), np.cos(lean))
    grid = Grid(affine, SHAPE)
    assert np.allclose(grid.to_index(grid.to_world((3, 4, 5))), (3, 4, 5), atol=1e-6)
    affine[:3, 1] = (0, 1e-9, 1)
    with pytest.raises(GridError, match="singular"):
        Grid(affine, SHAPE)


def test_rounded_cosines_are_the_same_grid_and_real_differences_are_told():
    grid = Grid.from_spacing(SPACING, SHAPE, (5, 5, 5), oblique())
    rounded = Grid(np.round(grid.affine, 5), SHAPE)
    assert grid.same_space(rounded)
    assert grid.difference(rounded) == ""
    moved = Grid.from_spacing(SPACING, SHAPE, (5, 5, 7), oblique())
    assert "origin 2 mm apart" in grid.difference(moved)
    assert "spacing" in grid.difference(Grid.from_spacing((3, 2, 2), SHAPE, (5, 5, 5), oblique()))
    assert "direction" in grid.difference(Grid.from_spacing(SPACING, SHAPE, (5, 5, 5)))
    with pytest.raises(GridError, match="resample"):
        grid.require_same_space(moved)


def test_with_spacing_keeps_the_box():
    grid = Grid.from_spacing((3.0, 1.0, 1.0), (10, 30, 30), (1, 2, 3), oblique())
    new = grid.with_spacing((1.0, 1.0, 1.0))
    assert new.shape == (30, 30, 30)
    assert np.allclose(grid.to_world((4.5, 14.5, 14.5)), new.to_world((14.5, 14.5, 14.5)))


def test_two_dimensions_are_one_slice():
    volume = Volume.from_array(np.zeros((5, 6), np.uint8), (0.5, 0.25))
    assert volume.grid.shape == (1, 5, 6)
    assert volume.grid.spacing == (1, 0.5, 0.25)
    assert volume.is_2d
    assert volume.meta["spacing_known"] is True
    assert volume.meta["orientation_known"] is False


def test_four_dimensions():
    frames = Frames("time", (0, 0.5, 1.0), "s")
    grid = Grid.from_spacing(SPACING, (3, *SHAPE), frames=frames)
    assert grid.axes == ("t", "z", "y", "x")
    assert grid.spatial_shape == SHAPE
    assert grid.without_frames().shape == SHAPE
    assert Grid.from_dict(grid.as_dict()) == grid
    assert frames.step == 0.5
    assert Frames("b-value", (0, 1000, 1000), "s/mm2").step is None
    with pytest.raises(GridError, match="frame values"):
        Grid.from_spacing(SPACING, (2, *SHAPE), frames=frames)
    volume = Volume(np.arange(3 * 120).reshape(3, *SHAPE), grid)
    doubled = map_frames(lambda v: v.replace(data=v.data * 2), volume)
    assert np.array_equal(doubled.data, volume.data * 2)
    assert doubled.grid == grid
    with pytest.raises(InputError, match="frame 3"):
        volume.frame(3)


def test_results_of_frames_become_one_array_of_a_type_that_holds_all_and_are_not_kept():
    grid = Grid.from_spacing(SPACING, (4, *SHAPE), frames=Frames("time", (0, 1, 2, 3), "s"))
    made = []

    def one_frame(frame):
        assert sum(one() is not None for one in made[1:]) <= 1
        index = len(made)
        data = np.full(SHAPE, 100 * index, (np.uint8, np.uint8, np.uint8, np.uint16)[index])
        made.append(weakref.ref(data))
        return frame.replace(data=data, name=f"frame {index}")

    found = map_frames(one_frame, Volume(np.zeros(grid.shape), grid))
    assert found.data.dtype == np.uint16
    assert found.data[:, 0, 0, 0].tolist() == [0, 100, 200, 300]
    assert found.name == "frame 0"


def test_the_type_of_results_of_frames_does_not_depend_on_their_order():
    grid = Grid.from_spacing(SPACING, (3, *SHAPE), frames=Frames("time", (0, 1, 2), "s"))
    for order in ("hHf", "fHh", "Hfh"):
        types, numbers = iter(order), iter((-7, 40_000, 2.5) if order == "hHf" else (2, 3, 4))
        found = map_frames(
            lambda v, t=types, n=numbers: v.replace(data=np.full(SHAPE, next(n), next(t))),
            Volume(np.zeros(grid.shape), grid),
        )
        assert found.data.dtype == np.float32
        assert found.data[:, 0, 0, 0].tolist() == ([-7, 40_000, 2.5] if order == "hHf" else [2, 3, 4])


def test_a_grid_and_a_volume_cannot_be_changed():
    grid = Grid.from_spacing(SPACING, SHAPE)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 5
    volume = Volume(np.zeros(SHAPE), grid)
    with pytest.raises(AttributeError):
        volume.name = "other"
    with pytest.raises(TypeError):
        volume.meta["unit"] = "HU"


@pytest.mark.parametrize(("dtype", "word"), [(complex, "complex"), ("U3", "no numbers")])
def test_a_volume_holds_real_numbers(dtype, word):
    with pytest.raises(InputError, match=word):
        Volume(np.zeros(SHAPE, dtype), Grid.from_spacing(SPACING, SHAPE))


def test_labels_are_whole_numbers():
    with pytest.raises(InputError, match="whole"):
        Volume(np.zeros(SHAPE), Grid.from_spacing(SPACING, SHAPE), kind="labels")


def test_planes_of_a_sagittal_acquisition():
    # x runs to Posterior, y to Inferior, z to Left: the slices that are stored are sagittal.
    grid = Grid(convention.from_vectors([(0, 1, 0), (0, 0, -1), (1, 0, 0)], (0, 0, 0)), SHAPE)
    assert grid.code == "PIL"
    assert grid.plane_axis("sagittal") == 0
    assert grid.plane_axis("axial") == 1
    assert grid.plane_axis("coronal") == 2
    with pytest.raises(GridError, match="plane"):
        grid.plane_axis("oblique")
