"""Crop, pad and flip: every voxel that is kept stays where it is in the patient, and a mirror is a mirror."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.ops import spatial
from napari_lightbox.volume import Label, Volume

C, S = np.cos(0.5), np.sin(0.5)
TURN = np.array([[1, 0, 0], [0, C, -S], [0, S, C]]) @ np.array([[C, 0, S], [0, 1, 0], [-S, 0, C]])
GRIDS = {
    "straight": Grid.from_spacing((3.0, 0.5, 0.8), (8, 20, 15), (-7, 3, 40)),
    "oblique": Grid.from_spacing((3.0, 0.5, 0.8), (8, 20, 15), (-7, 3, 40), TURN),
    "left-handed": Grid.from_spacing((3.0, 0.5, 0.8), (8, 20, 15), (-7, 3, 40), TURN * [1, -1, 1]),
    "swapped": Grid(np.array([[0, 0, -0.5, 9], [2.0, 0, 0, -4], [0, -0.7, 0, 3], [0, 0, 0, 1]]), (8, 20, 15)),
    "sheared": Grid([[2.0, 0.3, 0.1, 5], [0.2, 0.9, -0.2, -7], [0, 0.1, 1.1, 30], [0, 0, 0, 1]], (8, 20, 15)),
    "one slice": Grid.from_spacing((4.0, 0.5, 0.6), (1, 20, 15), (7, 8, 9), TURN),
}


def numbered(grid, **fields):
    """Every voxel holds a number of its own, from 1."""
    return Volume(np.arange(1, np.prod(grid.shape) + 1, dtype=np.int32).reshape(grid.shape), grid, **fields)


def places(volume, count):
    """Say where in the world each value from 1 to `count` lies; NaN where it is no more."""
    world = volume.grid.to_world(np.indices(volume.grid.shape).reshape(3, -1).T)
    found = np.full((count + 1, 3), np.nan)
    found[volume.data.ravel()] = world
    return found[1:]


def assert_nothing_moved(result, source):
    before, after = places(source, source.data.size), places(result, source.data.size)
    kept = ~np.isnan(after[:, 0])
    assert kept.any()
    np.testing.assert_allclose(after[kept], before[kept], atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_crop_by_voxels(name):
    volume = numbered(GRIDS[name])
    last = 1 if name == "one slice" else 7
    found = spatial.crop(volume, start=(0, 2, 3), stop=(last, 18, 14))
    np.testing.assert_array_equal(found.data, volume.data[0:last, 2:18, 3:14])
    assert_nothing_moved(found, volume)
    assert not np.shares_memory(found.data, volume.data)
    np.testing.assert_array_equal(spatial.crop(volume, start=(0, 0, 5)).data, volume.data[:, :, 5:])
    np.testing.assert_array_equal(spatial.crop(volume, stop=(1, 2, 3)).data, volume.data[:1, :2, :3])
    # What lies outside is left out.
    np.testing.assert_array_equal(
        spatial.crop(volume, start=(-3, -1, 10), stop=(99, 5, 99)).data, volume.data[:, :5, 10:]
    )


@pytest.mark.parametrize("name", GRIDS)
def test_crop_by_size_about_a_point(name):
    volume = numbered(GRIDS[name])
    grid = volume.grid
    index = np.array([0, 10, 6]) if name == "one slice" else np.array([4, 10, 6])
    size = np.multiply((3, 5, 4), grid.spacing)
    found = spatial.crop(volume, size=size, centre=grid.to_world(index))
    z = slice(0, 1) if name == "one slice" else slice(3, 6)
    np.testing.assert_array_equal(found.data, volume.data[z, 8:13, 5:9])
    assert_nothing_moved(found, volume)
    middle = spatial.crop(volume, size=np.multiply((2, 4, 3), grid.spacing))
    z = slice(0, 1) if name == "one slice" else slice(3, 5)
    np.testing.assert_array_equal(middle.data, volume.data[z, 8:12, 6:9])


@pytest.mark.parametrize("name", GRIDS)
def test_crop_to_a_mask_with_a_margin(name):
    grid = GRIDS[name]
    volume = numbered(grid)
    mask = np.zeros(grid.shape, np.uint8)
    z = 0 if name == "one slice" else 4
    mask[z, 9, 6], mask[z, 12, 7] = 1, 3
    tight = spatial.crop(volume, Volume(mask, grid, kind="labels"))
    np.testing.assert_array_equal(tight.data, volume.data[z : z + 1, 9:13, 6:8])
    # 1.2 mm: as many voxels as that needs, on each side.
    wide = spatial.crop(volume, Volume(mask, grid, kind="labels"), margin=1.2)
    dz, dy, dx = (int(np.ceil(1.2 / s - 1e-9)) for s in grid.spacing)
    box = np.s_[max(0, z - dz) : z + 1 + dz, 9 - dy : 13 + dy, 6 - dx : 8 + dx]
    np.testing.assert_array_equal(wide.data, volume.data[box])
    assert_nothing_moved(wide, volume)


def test_crop_to_a_mask_on_another_grid_holds_all_of_it():
    volume = numbered(GRIDS["oblique"])
    other = Grid.from_spacing((1, 1, 1), (30, 30, 30), volume.grid.to_world([1, 2, 3]) - [2, 3, 4])
    data = np.zeros(other.shape, np.uint8)
    data[5:9, 6:11, 7:10] = 1
    found = spatial.crop(volume, Volume(data, other, kind="labels"))
    corners = other.to_world(np.array(np.meshgrid((4.5, 8.5), (5.5, 10.5), (6.5, 9.5))).reshape(3, -1).T)
    index = found.grid.to_index(corners)
    whole = volume.grid.to_index(corners)
    inside = (whole > -0.5) & (whole < np.array(volume.grid.shape) - 0.5)
    assert inside.any()
    assert (index[inside] > -0.5 - 1e-6).all()
    assert (index[inside] < (np.array(found.grid.shape) - 0.5 + 1e-6)[None].repeat(8, 0)[inside]).all()
    # No wider than needed by more than a voxel, where the volume reaches that far.
    low, high = index.min(axis=0), index.max(axis=0)
    assert ((low < 0.5 + 1e-6) | (whole.min(axis=0) < -0.5)).all()
    assert ((high > np.array(found.grid.shape) - 1.5 - 1e-6) | (whole.max(axis=0) > np.array(volume.grid.shape))).all()
    assert_nothing_moved(found, volume)


def test_labels_are_cropped_to_their_own_content_and_keep_names_and_colours():
    data = np.zeros((8, 20, 15), np.uint8)
    data[2:4, 5:9, 6] = 7
    names = {7: Label("liver", "#ff0000"), 9: Label("spleen", "#00ff00")}
    labels = Volume(data, GRIDS["straight"], kind="labels", name="organs", labels=names, meta={"modality": "SEG"})
    for found, expected in (
        (spatial.crop(labels), data[2:4, 5:9, 6:7]),
        (spatial.pad(labels, (1, 0, 2)), np.pad(data, ((1, 1), (0, 0), (2, 2)))),
        (spatial.flip(labels, "left-right"), data[:, :, ::-1]),
    ):
        np.testing.assert_array_equal(found.data, expected)
        assert (found.kind, found.name, dict(found.labels)) == ("labels", "organs", names)
        assert dict(found.meta) == {"modality": "SEG"}
        assert found.data.dtype == np.uint8


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("edge", "edge"), ("reflect", "symmetric")])
def test_pad_equals_numpy_and_moves_nothing(name, mode, numpy_mode):
    volume = numbered(GRIDS[name])
    before, after = (2, 0, 33), (1, 4, 0)
    found = spatial.pad(volume, before, after, mode=mode, **({"fill": 0} if mode == "constant" else {}))
    truth = np.pad(volume.data, tuple(zip(before, after, strict=True)), mode=numpy_mode)
    np.testing.assert_array_equal(found.data, truth)
    inner = found.data[2:-1, :-4, 33:]
    np.testing.assert_array_equal(inner, volume.data)
    np.testing.assert_allclose(found.grid.to_world([2, 0, 33]), volume.grid.origin, atol=1e-9)
    np.testing.assert_allclose(found.grid.affine[:3, :3], volume.grid.affine[:3, :3])
    if mode == "constant":
        assert_nothing_moved(found, volume)
        again = spatial.crop(found, start=before, stop=np.array(found.grid.shape) - after)
        np.testing.assert_array_equal(again.data, volume.data)
        np.testing.assert_allclose(again.grid.affine, volume.grid.affine, atol=1e-9)


def test_pad_by_millimetres_rounds_up_and_fills_with_the_smallest():
    volume = numbered(GRIDS["straight"])
    found = spatial.pad(volume, (3.1, 1.0, 0.0), (0, 0, 0.8), unit="mm")
    assert found.grid.shape == (8 + 2, 20 + 2, 15 + 1)
    assert (found.data[:2] == 1).all()
    assert spatial.pad(volume, (0, 1, 0), fill=-5).data[0, 0, 0] == -5
    # The same on both sides where only one is given; a default that leaves the number of slices alone.
    assert spatial.pad(volume).grid.shape == (8, 40, 35)


@pytest.mark.parametrize("name", ["straight", "oblique", "left-handed", "swapped"])
@pytest.mark.parametrize(("axis", "world"), [("left-right", 2), ("anterior-posterior", 1), ("superior-inferior", 0)])
def test_flip_mirrors_about_the_middle_along_the_patient(name, axis, world):
    volume = numbered(GRIDS[name])
    found = spatial.flip(volume, axis)
    assert found.grid == volume.grid
    before, after = places(volume, volume.data.size), places(found, volume.data.size)
    middle = volume.grid.to_world((np.array(volume.grid.shape) - 1) / 2)
    stored = volume.grid.closest_axes()[0][world]
    normal = volume.grid.direction[:, stored]
    # The stored axis that is closest to the patient's.
    assert abs(normal[world]) > 0.75
    mirrored = before - 2 * ((before - middle) @ normal)[:, None] * normal
    np.testing.assert_allclose(after, mirrored, atol=1e-9)
    np.testing.assert_array_equal(spatial.flip(found, axis).data, volume.data)


def test_frames_and_histories_are_kept():
    grid = GRIDS["oblique"].with_frames(Frames("time", (0.0, 0.5), "s"))
    volume = Volume(np.random.default_rng(0).integers(0, 99, grid.shape).astype(np.int16), grid)
    mask = np.zeros(grid.shape, np.uint8)
    mask[0, 2, 3, 4], mask[1, 5, 6, 7] = 1, 1
    masks = Volume(mask, grid, kind="labels")
    found = lb.apply("crop", volume, masks)
    # One box for all frames.
    np.testing.assert_array_equal(found.data, volume.data[:, 2:6, 3:7, 4:8])
    assert found.grid.frames == grid.frames
    assert found.history[-1]["parameters"]["margin"] is None
    np.testing.assert_array_equal(spatial.crop(masks).data, mask[:, 2:6, 3:7, 4:8])
    padded = lb.apply("pad", volume, before=(1, 0, 0))
    assert padded.grid.shape == (2, 10, 20, 15)
    assert padded.data[0, 0, 0, 0] == volume.data[0].min()
    assert padded.data[1, 0, 0, 0] == volume.data[1].min()
    np.testing.assert_array_equal(lb.apply("flip", volume, axis="superior-inferior").data, volume.data[:, ::-1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v: spatial.crop(v), "no box"),
        (lambda v: spatial.crop(v, size=(1, 1, 1), start=(0, 0, 0)), "several ways"),
        (lambda v: spatial.crop(v, centre=(1, 1, 1)), "without a size"),
        (lambda v: spatial.crop(v, size=(1, 0, 1)), "greater than zero"),
        (lambda v: spatial.crop(v, size=(1, 1, 1), centre=(999, 0, 0)), "holds nothing"),
        (lambda v: spatial.crop(v, start=(0, 0, 5), stop=(1, 1, 5)), "greater than start"),
        (lambda v: spatial.crop(v, start=(0, 0, 0.5)), "whole numbers"),
        (lambda v: spatial.crop(v, start=(99, 0, 0), stop=(120, 9, 9)), "holds nothing"),
        (lambda v: spatial.crop(v, v.replace(data=np.zeros_like(v.data))), "empty"),
        (lambda v: spatial.crop(v, v, margin=-1), "margin"),
        (lambda v: spatial.crop(v, size=(9, 9, 9), margin=1), "margin"),
        (lambda v: spatial.pad(v, (0, -1, 0)), "negative"),
        (lambda v: spatial.pad(v, (0, 1.5, 0)), "whole numbers"),
        (lambda v: spatial.pad(v, (1e5, 1e5, 1e5)), "GB"),
        (lambda v: spatial.pad(v, mode="wrap"), "mode"),
        (lambda v: spatial.pad(v, unit="cm"), "unit"),
        (lambda v: spatial.pad(v, fill=1e12), "does not fit"),
        (lambda v: spatial.flip(v, "x"), "axis"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(numbered(GRIDS["straight"]))
    assert "\n" not in str(caught.value)


# What is said ---------------------------------------------------------------------------------------------------


def test_a_flip_that_changes_nothing_is_told():
    flat = numbered(Grid.from_spacing((3, 1, 1), (1, 4, 5)))
    made = lb.apply("flip", flat, axis="superior-inferior")
    assert np.array_equal(made.data, flat.data)
    sentence = "flipping superior-inferior changes nothing: the volume is one voxel thick there"
    assert list(made.meta["notes"]) == made.history[-1]["notes"] == [sentence]
    assert "notes" not in lb.apply("flip", flat).meta
    film = numbered(Grid.from_spacing((3, 1, 1), (2, 1, 4, 5), frames=Frames("time", (0, 1), "s")))
    assert list(lb.apply("flip", film, axis="superior-inferior").meta["notes"]) == [sentence]


def test_a_crop_that_cuts_nothing_off_is_told():
    volume = numbered(GRIDS["straight"])
    assert "nothing was cut off" in lb.apply("crop", volume, size=(999, 999, 999)).meta["notes"][0]
    assert "notes" not in lb.apply("crop", volume, start=(1, 0, 0)).meta


@pytest.mark.parametrize("values", [(0, 2), (-1, 0), (0, 0.5)])
def test_grey_values_are_no_mask(values):
    volume = numbered(GRIDS["straight"])
    mask = Volume(np.resize(values, GRIDS["straight"].shape), GRIDS["straight"], name="ct")
    with pytest.raises(InputError, match=r"mask 'ct' holds grey values, not labels: .* kind='labels'"):
        lb.apply("crop", volume, mask=mask)
    for kind in ("bool", "0 and 1"):
        dtype = bool if kind == "bool" else np.float32
        inner = np.zeros(mask.grid.shape, dtype)
        inner[2:4, 5:7, 6:9] = 1
        assert lb.apply("crop", volume, mask=mask.replace(data=inner)).data.shape == (2, 2, 3)


def test_fractions_are_no_labels():
    volume = numbered(GRIDS["straight"])
    mask = volume.replace(data=np.ones(volume.grid.shape, np.float32), name="seg")
    with pytest.raises(InputError, match=r"mask must be labels, and 'seg' is stored as fractions: .* kind='labels'"):
        lb.apply("region_grow", volume, mask=mask, seeds=[volume.grid.origin])
