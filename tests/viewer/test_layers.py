"""Volumes shown as layers and taken back: the same voxels at the same place."""

from copy import deepcopy
from itertools import permutations, product

import numpy as np
import pytest
from difficult_grids import difficult_grid, turned
from napari.layers import Image, Labels, Layer, Points

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.viewer import layers as vl
from napari_lightbox.viewer.layers import MovedByHand, NoGrid, layer_to_volume, volume_to_layer
from napari_lightbox.viewer.seeds import new_points, points_to_seeds
from napari_lightbox.volume import Volume


def show(volume, **kwargs):
    return Layer.create(*volume_to_layer(volume, **kwargs))


def numbered(grid, kind="image", dtype=np.int32, **fields):
    return Volume(np.arange(np.prod(grid.shape), dtype=dtype).reshape(grid.shape), grid, kind, **fields)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_every_axis_order_and_flip_is_shown_as_lps_and_comes_back(order):
    for signs in product((1, -1), repeat=3):
        direction = np.zeros((3, 3))
        for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
            direction[world, axis] = sign
        grid = Grid.from_spacing((2.0, 0.5, 1.5), (4, 5, 6), (10, -20, 30), direction)
        volume = numbered(grid)
        layer = show(volume)
        # By hand: the voxel shown at index i lies at translate + scale * i, which is its place in the patient.
        for index in [(0, 0, 0), tuple(np.array(layer.data.shape) - 1), (1, 2, 3)]:
            stored = np.argwhere(volume.data == layer.data[index])[0]
            np.testing.assert_allclose(layer.translate + layer.scale * index, grid.to_world(stored), atol=1e-9)
        assert np.shares_memory(layer.data, volume.data)
        back = layer_to_volume(layer)
        np.testing.assert_array_equal(back.data, volume.data)
        assert back.grid == volume.grid
        assert back.data.flags.c_contiguous


def test_frames_come_first_and_keep_their_values():
    frames = Frames("time", (0.5, 0.75, 1.0), "s")
    grid = difficult_grid(frames=frames)
    volume = numbered(grid)
    layer = show(volume)
    assert layer.axis_labels == ("t", "z", "y", "x")
    assert [str(u) for u in layer.units] == ["second", "millimeter", "millimeter", "millimeter"]
    assert layer.scale[0] == 0.25
    assert layer.translate[0] == 0.5
    back = layer_to_volume(layer)
    assert back.grid == grid
    np.testing.assert_array_equal(back.data, volume.data)


@pytest.mark.parametrize(
    "frames", [Frames("b-value", (0, 50, 1000), "s/mm2"), Frames("time", (3, 2, 1), "s"), Frames("frame", (0, 1, 2))]
)
def test_frames_without_a_steady_step_keep_their_values(frames):
    grid = difficult_grid(frames=frames)
    layer = show(numbered(grid))
    assert layer.scale[0] > 0
    assert layer_to_volume(layer).grid.frames == frames


def test_an_oblique_layer_is_straight_on_screen_and_true_in_the_volume(difficult):
    layer = show(difficult)
    assert np.array_equal(layer.rotate, np.eye(3))
    assert np.array_equal(layer.affine.affine_matrix, np.eye(4))
    assert layer_to_volume(layer).grid == difficult.grid
    index = np.array([2.0, 3.0, 4.0])
    shown = layer.data[2, 3, 4]
    true = difficult.grid.to_world(np.argwhere(difficult.data == shown)[0])
    np.testing.assert_allclose(vl.true_position(layer, layer.data_to_world(index)), true, atol=1e-9)
    np.testing.assert_allclose(vl.shown_grid(layer).to_world(index), true, atol=1e-9)
    assert "oblique by" in vl.notices(difficult)[0]
    assert f"{difficult.grid.obliquity:.1f} degrees" in vl.notices(difficult)[0]


def test_volumes_oblique_in_the_same_way_lie_over_each_other(difficult):
    grid = difficult.grid
    crop = Volume(
        difficult.data[2:5, 3:9, 1:7],
        Grid.from_spacing(grid.spacing, (3, 6, 6), grid.to_world((2, 3, 1)), grid.direction),
    )
    whole, part = show(difficult), show(crop)
    value = int(crop.data[1, 2, 3])
    place = [layer.data_to_world(np.argwhere(layer.data == value)[0]) for layer in (whole, part)]
    np.testing.assert_allclose(*place, atol=1e-9)


def test_rounding_of_the_direction_is_no_obliquity():
    direction = np.eye(3) + 1e-7 * np.arange(9).reshape(3, 3)
    volume = numbered(Grid.from_spacing((1, 1, 1), (3, 4, 5), direction=direction))
    assert vl.notices(volume) == []


def test_units_say_when_the_spacing_is_unknown():
    volume = Volume.from_array(np.zeros((4, 5)))
    layer = show(volume)
    assert {str(u) for u in layer.units} == {"pixel"}
    assert layer.data.shape == (1, 4, 5)
    assert "spacing" in vl.notices(volume)[0]
    assert {str(u) for u in show(Volume.from_array(np.zeros((4, 5)), spacing=(1, 2))).units} == {"millimeter"}


@pytest.mark.parametrize("dtype", [">i2", ">f4", "f2", "?", "i8", "u8"])
def test_dtypes_napari_cannot_draw_are_copied_not_refused(dtype):
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    layer = show(Volume.from_array(data, spacing=(1, 1, 1)))
    np.testing.assert_array_equal(np.asarray(layer.data, dtype=float), data.astype(float))
    assert layer.data.dtype.isnative


def test_a_lazy_volume_stays_lazy():
    da = pytest.importorskip("dask.array")
    data = np.random.default_rng(0).integers(0, 100, (6, 7, 8)).astype(np.int16)
    grid = difficult_grid((6, 7, 8))
    layer = show(Volume(da.from_array(data, chunks=3), grid))
    assert isinstance(layer.data, da.Array)
    back = layer_to_volume(layer)
    assert isinstance(back.data, da.Array)
    np.testing.assert_array_equal(back.data.compute(), data)
    assert back.grid == grid


def test_meta_labels_and_history_travel():
    grid = difficult_grid()
    volume = numbered(grid, "labels", labels={1: "lung", 2: "bone"}, meta={"series": "1.2.3"},
                      history=({"operation": "otsu", "parameters": {"classes": 2}},))  # fmt: skip
    back = layer_to_volume(show(volume))
    assert back.kind == "labels"
    assert back.labels == volume.labels
    assert back.meta == volume.meta
    assert back.history == volume.history
    copied = Layer.create(*deepcopy(show(volume).as_layer_data_tuple()))
    assert layer_to_volume(copied).grid == grid


def test_labels_are_copied_when_taken(difficult):
    layer = show(difficult.replace(kind="labels"))
    taken = layer_to_volume(layer)
    before = taken.data.copy()
    layer.data[...] = 7
    np.testing.assert_array_equal(taken.data, before)


def test_read_only_labels_can_be_painted():
    data = np.zeros((3, 4, 5), np.uint8)
    data.flags.writeable = False
    layer = show(Volume.from_array(data, spacing=(1, 1, 1), kind="labels"))
    layer.data_setitem((np.array([1]), np.array([1]), np.array([1])), 3)
    assert layer.data[1, 1, 1] == 3


def test_colours_names_and_the_rest():
    grid = difficult_grid()
    volume = numbered(grid, "labels", labels={1: "lung", 2: "bone"})
    _, kwargs, kind = volume_to_layer(volume)
    assert kind == "labels"
    assert None in kwargs["colormap"]
    layer = show(volume)
    named = dict(zip(layer.features["index"], layer.features["name"], strict=True))
    assert named == {0: "background", 1: "lung", 2: "bone"}
    assert not np.allclose(layer.get_color(1), layer.get_color(2))
    assert layer.get_color(77) is not None  # a value without a name stays visible
    assert layer.get_color(77)[3] > 0


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({"meta": {"windows": [{"name": "lung", "centre": -600, "width": 1500}], "modality": "CT"}}, (-1350, 150)),
        ({"meta": {"modality": "CT"}}, (-160, 240)),
        ({"kind": "probability"}, (0, 1)),
    ],
)
def test_first_window(fields, limits):
    data = np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    layer = show(Volume.from_array(data, spacing=(1, 1, 1), **fields))
    assert tuple(layer.contrast_limits) == limits


def test_window_of_what_looks_like_ct_and_of_what_does_not(rng):
    ct = np.full((20, 40, 40), -1000, np.int16)
    ct[:, 8:32, 8:32] = rng.normal(40, 20, (20, 24, 24))
    assert tuple(show(Volume.from_array(ct, (1, 1, 1))).contrast_limits) == (-160, 240)
    mr = rng.gamma(2.0, 100.0, (20, 40, 40)).astype(np.float32)
    mr[0, 0, 0] = 1e9
    low, high = show(Volume.from_array(mr, (1, 1, 1))).contrast_limits
    assert 0 <= low < 30
    assert 500 < high < 2000


@pytest.mark.parametrize("value", [0.0, 5.0, -3e30, np.nan, np.inf, 1e-30])
def test_constant_and_broken_pictures_can_be_shown(value):
    layer = show(Volume.from_array(np.full((2, 3, 4), value, np.float32), (1, 1, 1)))
    assert layer.contrast_limits[0] < layer.contrast_limits[1]


# Layers that are not ours, or no longer what we showed --------------------------------------------------------------


def new_labels(layer):
    """What napari's button "New labels" does: the transform is copied, the metadata is not."""
    return Labels(np.zeros(layer.data.shape, np.uint8), scale=layer.scale, translate=layer.translate,
                  rotate=layer.rotate, shear=layer.shear, units=layer.units, name="new")  # fmt: skip


def test_new_labels_take_the_grid_of_the_volume_they_lie_on(difficult):
    image, said = show(difficult), []
    labels = new_labels(image)
    labels.data[2, 3, 4] = 9
    taken = layer_to_volume(labels, [image, labels], say=said.append)
    assert taken.grid == difficult.grid
    assert taken.kind == "labels"
    stored = np.argwhere(taken.data == 9)
    assert stored.tolist() == np.argwhere(difficult.data == image.data[2, 3, 4]).tolist()
    assert len(said) == 1
    assert "difficult" in said[0]
    # It keeps what it adopted, and says so once.
    assert layer_to_volume(labels, [], say=said.append).grid == difficult.grid
    assert len(said) == 1


def test_a_layer_that_matches_nothing_is_refused_or_assumed(difficult):
    image = show(difficult)
    stranger = Labels(np.zeros((4, 5, 6), np.uint8), scale=(2, 1, 1), translate=(5, 6, 7), name="stranger")
    with pytest.raises(NoGrid, match="stranger"):
        layer_to_volume(stranger, [image])
    said = []
    taken = layer_to_volume(stranger, [image], assume=True, say=said.append)
    assert taken.grid.spacing == (2, 1, 1)
    assert taken.grid.origin == (5, 6, 7)
    assert taken.meta["orientation_known"] is False
    assert len(said) == 1


def test_an_assumed_layer_may_be_rotated():
    layer = Image(np.zeros((4, 5, 6)), affine=np.block([[turned(), np.ones((3, 1))], [np.zeros((1, 3)), 1]]))
    taken = layer_to_volume(layer, assume=True)
    np.testing.assert_allclose(taken.grid.direction, turned(), atol=1e-12)


def test_a_layer_on_two_different_volumes_is_refused(difficult):
    twin = difficult.replace(name="twin")
    other = show(twin)
    other.metadata[vl.KEY] = {**other.metadata[vl.KEY], "grid": Grid(np.diag([3.1, 0.8, 1.7, 1]), twin.grid.shape)}
    image = show(difficult)
    with pytest.raises(NoGrid, match="several"):
        layer_to_volume(new_labels(image), [image, other])
    assert layer_to_volume(new_labels(image), [image, show(twin)]).grid == difficult.grid


def test_a_layer_moved_by_hand_asks(difficult):
    layer = show(difficult)
    assert not vl.was_moved(layer)
    layer.translate = np.add(layer.translate, (0, 2.5, 0))
    assert vl.was_moved(layer)
    with pytest.raises(MovedByHand, match="difficult"):
        layer_to_volume(layer)
    moved = layer_to_volume(layer, accept_transform=True)
    # 2.5 mm along the displayed y is 2.5 mm along the stored axis that is displayed there.
    shift = moved.grid.to_world((0, 0, 0)) - difficult.grid.to_world((0, 0, 0))
    np.testing.assert_allclose(shift, 2.5 * vl.shown_grid(layer).direction[:, 1], atol=1e-9)
    np.testing.assert_array_equal(moved.data, difficult.data)


def test_an_edited_scale_is_the_new_spacing(difficult):
    layer = show(difficult)
    layer.scale = layer.scale * (2, 1, 1)
    taken = layer_to_volume(layer, accept_transform=True)
    axis = vl.layer_record(layer)["order"][0]
    wanted = np.array(difficult.grid.spacing)
    wanted[axis] *= 2
    np.testing.assert_allclose(taken.grid.spacing, wanted)


def test_a_layer_with_replaced_data_of_another_size_is_not_ours(difficult):
    layer = show(difficult)
    layer.data = np.zeros((3, 3, 3))
    assert vl.layer_record(layer) is None
    with pytest.raises(NoGrid):
        layer_to_volume(layer)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(np.zeros((5, 6, 3)), rgb=True, name="photo"), "RGB"),
        (Points(np.zeros((1, 3)), name="dots"), "points layer"),
        (Image(np.zeros((2, 2, 3, 4, 5)), name="five"), "5 axes"),
    ],
)
def test_layers_that_are_no_volumes_are_refused_in_a_sentence(layer, words):
    with pytest.raises(InputError, match=words):
        layer_to_volume(layer, assume=True)


def test_multiscale_layers_give_their_full_size():
    data = np.arange(4 * 8 * 8).reshape(4, 8, 8)
    layer = Image([data, data[::2, ::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(layer_to_volume(layer, assume=True).data, data)


def test_grids_match(difficult):
    image = show(difficult)
    assert vl.grids_match(image, show(difficult.replace(name="again")))
    assert vl.grids_match(image, new_labels(image))
    other = show(numbered(Grid.from_spacing((1, 1, 1), difficult.grid.shape)))
    assert not vl.grids_match(image, other)
    assert "spacing" in vl.difference(image, other)
    assert vl.difference(image, image) == ""


# Seeds ----------------------------------------------------------------------------------------------------------


def test_points_on_an_oblique_layer_are_taken_to_the_voxels_they_were_drawn_on(difficult):
    image = show(difficult)
    index = np.array([[2, 3, 4], [0, 0, 0], [5, 1, 2]])
    wanted = [difficult.grid.to_world(np.argwhere(difficult.data == image.data[tuple(i)])[0]) for i in index]
    drawn = new_points(image)
    drawn.add(index)
    np.testing.assert_allclose(points_to_seeds(drawn, image), wanted, atol=1e-9)
    # The same points in a layer of another transform.
    world = np.array([image.data_to_world(i) for i in index])
    np.testing.assert_allclose(points_to_seeds(Points(world), image), wanted, atol=1e-9)
    shifted = Points((world - (1, 2, 3)) / (2, 4, 8), scale=(2, 4, 8), translate=(1, 2, 3))
    np.testing.assert_allclose(points_to_seeds(shifted, image), wanted, atol=1e-9)


def test_points_over_frames():
    frames = Frames("time", (1.0, 1.5, 2.0), "s")
    volume = numbered(difficult_grid(frames=frames))
    image = show(volume)
    drawn = new_points(image)
    drawn.add([[2, 1, 2, 3]])
    seeds = points_to_seeds(drawn, image)
    stored = np.argwhere(volume.data == image.data[2, 1, 2, 3])[0]
    np.testing.assert_allclose(seeds, [[2, *volume.grid.to_world(stored[1:])]], atol=1e-9)
    # Points without a frame are for all of them.
    world = np.asarray(image.data_to_world([2, 1, 2, 3]))[1:]
    np.testing.assert_allclose(points_to_seeds(Points([world]), image), seeds[:, 1:], atol=1e-9)


def test_points_with_frames_over_a_still_volume(difficult):
    image = show(difficult)
    world = np.asarray(image.data_to_world([1, 2, 3]))
    seeds = points_to_seeds(Points([[4, *world]]), image)
    assert seeds.shape == (1, 3)


def test_flat_points_need_a_flat_volume(difficult):
    flat = show(Volume.from_array(np.zeros((6, 7)), spacing=(2, 3)))
    np.testing.assert_allclose(points_to_seeds(Points([[4, 9]]), flat), [[0, 4, 9]])
    plain_2d = Image(np.zeros((6, 7)), scale=(2, 3))
    np.testing.assert_allclose(points_to_seeds(Points([[4, 9]]), plain_2d), [[0, 4, 9]])
    with pytest.raises(InputError, match="New seed points"):
        points_to_seeds(Points([[4, 9]]), show(difficult))
    with pytest.raises(InputError, match="holds no points"):
        points_to_seeds(new_points(flat), flat)
