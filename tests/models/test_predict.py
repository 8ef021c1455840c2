"""Prediction against truths worked out by hand: places, blending, activations, frames."""

import itertools
import math

import numpy as np
import pytest
from nets import Net, constant_logits, identity, make, make_card
from scipy import ndimage

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Grid
from napari_lightbox.models import predict
from napari_lightbox.models.loaders import Model
from napari_lightbox.models.networks import build
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")


# The voxels stay where they are -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("window", [None, (4, 4, 4), (6, 7, 8), (5, 3, 16), (9, 9, 9), (1, 1, 3)])
def test_identity_without_overlap_is_exact(window, blending):
    volume = make()
    found = predict(volume, identity, window=window, overlap=0, blending=blending, kind="image")
    assert found.output().data.tobytes() == volume.data.tobytes()
    assert found.output().grid == volume.grid


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.2, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("window", [None, (4, 4, 4), (5, 3, 16), (2, 7, 3)])
def test_identity_with_overlap_is_within_1e_5(window, overlap, blending):
    volume = make((9, 8, 11))
    found = predict(volume, identity, window=window, overlap=overlap, blending=blending, kind="image")
    np.testing.assert_allclose(found.output().data, volume.data, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_identity_on_pictures_frames_and_single_voxels(dims):
    for shape in [(1, 9, 7), (3, 4, 5, 6), (3, 1, 9, 7), (1, 1, 1), (2, 1, 1, 1)]:
        volume = make(shape)
        found = predict(volume, identity, dims=dims, overlap=0, kind="image", window=(4,) * dims)
        assert np.array_equal(found.output().data, volume.data)
        assert found.output().grid == volume.grid


@pytest.mark.parametrize("code", ["LPS", "RAS", "SAR", "PIL"])
def test_all_48_orientations_are_turned_for_the_network_and_turned_back(code):
    reference = make((3, 4, 5))
    wanted = reference.grid.reordered(*reference.grid.order_for(code))
    expected = reference.data.transpose(reference.grid.order_for(code)[0])
    expected = np.flip(expected, [a for a, flip in enumerate(reference.grid.order_for(code)[1]) if flip])
    count = 0
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            stored = np.flip(reference.data.transpose(order), [a for a, flip in enumerate(flips) if flip])
            volume = Volume(stored, reference.grid.reordered(order, flips), name="scan")
            net = Net()
            found = predict(volume, Model(make_card(input__orientation=code), net), overlap=0)
            assert np.array_equal(net.seen[0][0, 0], expected)
            assert np.array_equal(found.output().data, stored)
            assert found.output().grid == volume.grid
            assert volume.grid.reordered(*volume.grid.order_for(code)).distance(wanted) < 1e-9
            count += 1
    assert count == 48


@pytest.mark.parametrize("degrees", [0, 12])
def test_a_landmark_is_found_at_its_place_in_an_oblique_left_handed_volume(degrees):
    angle = math.radians(degrees)
    turn = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    direction = turn @ np.diag([1, -1, 1]) @ np.eye(3)[:, [2, 0, 1]]
    grid = Grid.from_spacing((1.5, 2.5, 0.8), (20, 14, 26), (-40, 12, 7), direction)
    point = grid.to_world((11, 6, 15))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    distance = np.linalg.norm(grid.to_world(index) - point, axis=-1)
    volume = Volume(np.exp(-((distance / 5) ** 2)).astype(np.float32), grid, name="scan")
    card = make_card(input__orientation="RAS", input__spacing=[2.0, 1.0, 1.0])
    found = predict(volume, Model(card, Net()), window=(8, 8, 8)).output()
    weights = found.data**8  # the blob's middle, whatever lies around it
    centre = np.average(index.reshape(-1, 3), axis=0, weights=weights.ravel())
    assert np.linalg.norm(grid.to_world(centre) - point) < 0.1


def test_resampling_keeps_a_field_that_is_linear_in_world():
    grid = Grid.from_spacing((2.0, 1.0, 0.7), (20, 30, 40), (5, -3, 8))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    field = grid.to_world(index) @ (0.3, -0.2, 0.5)
    volume = Volume(field.astype(np.float32), grid)
    # Finer grids and whole multiples are exact; elsewhere an average takes voxels in part and lies a little aside.
    cases = [([2.0, 1.0, 0.7], 2e-5), ([1.3, 0.5, 0.51], 2e-5), ([4.0, 3.0, 2.1], 2e-5), ([3.0, 3.3, 1.6], 0.05)]
    for spacing, tolerance in cases:
        net = Net()
        found = predict(volume, Model(make_card(input__spacing=spacing), net)).output()
        inner = (slice(4, -4),) * 3
        np.testing.assert_allclose(found.data[inner], volume.data[inner], atol=tolerance)
        assert net.seen[0].shape[2:] == grid.with_spacing(spacing).shape


def test_logits_come_back_by_linear_interpolation_then_they_are_activated():
    volume = make((8, 10, 12))
    card = make_card(input__resize=[4, 5, 6], output={"kind": "labels", "labels": {"1": "a"}})
    small = np.random.default_rng(5).normal(0, 3, (2, 4, 5, 6)).astype(np.float32)
    found = predict(volume, Model(card, Net(lambda x: torch.from_numpy(small)[None])), probabilities="all")
    where = [(np.arange(n) - (n - 1) / 2) / 2 + (n / 2 - 1) / 2 for n in volume.grid.shape]
    where = np.clip(np.stack(np.meshgrid(*where, indexing="ij")), 0, np.array([3, 4, 5]).reshape(3, 1, 1, 1))
    logits = np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in small])
    expected = np.exp(logits) / np.exp(logits).sum(0)
    np.testing.assert_allclose(found.probability("a").data, expected[1], atol=1e-5)
    assert np.array_equal(found.labels.data, logits.argmax(0))


def test_an_image_that_gets_coarser_is_averaged():
    volume = make((4, 6, 8))
    net = Net()
    predict(volume, Model(make_card(input__resize=[2, 3, 4]), net))
    blocks = volume.data.reshape(2, 2, 3, 2, 4, 2).mean((1, 3, 5))
    np.testing.assert_allclose(net.seen[0][0, 0], blocks, atol=1e-6)


def test_a_network_in_windows_is_blended_as_by_hand():
    torch.manual_seed(1)
    net = build("unet", dims=3, out_channels=2, channels=(2, 4), norm="batch")
    volume = make((10, 8, 9))
    card = make_card(window={"size": [4, 8, 4], "overlap": 0.5, "blending": "gaussian"})
    found = predict(volume, Model(card, net))
    total, weight = np.zeros((2, 10, 8, 9)), np.zeros((10, 8, 9))
    bells = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in (4, 8, 4)]
    bell = np.einsum("i,j,k", *bells)
    for z, x in itertools.product((0, 2, 4, 6), (0, 2, 3, 5)):
        part = np.s_[z : z + 4, 0:8, x : x + 4]
        with torch.no_grad():
            answer = net(torch.from_numpy(volume.data[part])[None, None])[0].numpy()
        total[(slice(None), *part)] += answer * bell
        weight[part] += bell
    for channel in (0, 1):
        np.testing.assert_allclose(found.output(channel).data, (total / weight)[channel], atol=1e-4)


def test_mirroring_averages_over_all_flips():
    ramp = torch.arange(4.0).reshape(1, 1, 1, 1, 4)
    volume = make((4, 4, 4))
    found = predict(volume, lambda x: x + ramp, mirror=True, overlap=0, kind="image")
    np.testing.assert_allclose(found.output().data, volume.data + 1.5, atol=1e-6)
    found = predict(volume, lambda x: x + ramp, mirror=(0, 1), overlap=0, kind="image")
    np.testing.assert_allclose(found.output().data, volume.data + np.arange(4), atol=1e-6)
    asked = Net()
    predict(volume, asked, mirror=(2,), kind="image")
    assert len(asked.seen) == 2


# What comes out ---------------------------------------------------------------------------------------------------


def test_softmax_gives_labels_probabilities_and_entropy():
    card = make_card(output={"kind": "labels", "labels": {"1": "lung", "2": "bone"}, "colours": {"2": "#ff0000"}})
    logits = np.log([0.2, 0.3, 0.5])
    found = predict(make(), Model(card, Net(constant_logits(*logits))), probabilities="all", uncertainty=True)
    assert found.labels.kind == "labels"
    assert found.labels.data.dtype == np.uint8
    assert (found.labels.data == 2).all()
    assert {v: label.name for v, label in found.labels.labels.items()} == {1: "lung", 2: "bone"}
    assert found.labels.labels[2].colour == "#ff0000"
    np.testing.assert_allclose(found.probability("lung").data, 0.3, atol=1e-6)
    np.testing.assert_allclose(found.probability(0).data, 0.2, atol=1e-6)
    assert found.probability(2).kind == "probability"
    assert found.probability(2).data.dtype == np.float32
    entropy = -(0.2 * math.log(0.2) + 0.3 * math.log(0.3) + 0.5 * math.log(0.5)) / math.log(3)
    np.testing.assert_allclose(found.uncertainty.data, entropy, atol=1e-6)
    assert found.kept == (0, 1, 2)


def test_entropy_is_one_where_all_are_equal_and_zero_where_one_is_certain():
    for logits, expected in [((0.0, 0.0, 0.0, 0.0), 1), ((200.0, 0.0, 0.0), 0)]:
        found = predict(make(), constant_logits(*logits), uncertainty=True)
        np.testing.assert_allclose(found.uncertainty.data, expected, atol=1e-6)
        assert 0 <= found.uncertainty.data.min() <= found.uncertainty.data.max() <= 1


def test_regions_are_written_in_their_order():
    output = {"kind": "regions", "labels": {"2": "whole", "1": "core"}}
    card = make_card(output=output)
    for logits, expected in [((1, 1), 1), ((1, -1), 2), ((-1, -1), 0), ((-1, 1), 1)]:
        found = predict(make(), Model(card, Net(constant_logits(*logits))), probabilities=["core"], uncertainty=True)
        assert (found.labels.data == expected).all()
        p = 1 / (1 + math.exp(-logits[1]))
        np.testing.assert_allclose(found.probability("core").data, p, atol=1e-6)
        np.testing.assert_allclose(found.uncertainty.data, -(p * math.log2(p) + (1 - p) * math.log2(1 - p)), atol=1e-5)


def test_one_class_is_there_where_it_is_likelier_than_not():
    for logit, expected in [(0.1, 1), (-0.1, 0)]:
        found = predict(make(), constant_logits(logit), probabilities=1)
        assert (found.labels.data == expected).all()
        np.testing.assert_allclose(found.probability(1).data, 1 / (1 + math.exp(-logit)), atol=1e-6)


def test_a_function_may_return_probabilities_or_numpy():
    def certain(x):
        return np.broadcast_to(np.float64([0.1, 0.9]).reshape(1, 2, 1, 1, 1), (len(x), 2, *x.shape[2:]))

    found = predict(make(), certain, activation="none", probabilities="all")
    np.testing.assert_allclose(found.probability(1).data, 0.9, atol=1e-6)
    assert (found.labels.data == 1).all()
    with pytest.raises(InputError, match="no probabilities"):
        predict(make(), constant_logits(3, 4), activation="none", uncertainty=True)


def test_without_an_activation_any_values_are_kept_as_they_are():
    volume = make()
    found = predict(
        volume, lambda x: x, window=(4, 4, 4), overlap=0, activation="none", probabilities="all"
    ).probability(1)
    assert found.kind == "image"
    assert np.array_equal(found.data, volume.data.astype(np.float32))


def test_label_values_above_255_fit():
    card = make_card(output={"kind": "regions", "labels": {"300": "far"}})
    found = predict(make(), Model(card, Net(constant_logits(1))))
    assert found.labels.data.dtype == np.uint16
    assert (found.labels.data == 300).all()


def test_every_frame_is_computed():
    volume = make((3, 4, 5, 6))
    net = Net(lambda x: torch.cat([x, -x], 1))
    found = predict(volume, net, probabilities="all", uncertainty=True)
    assert len(net.seen) == 3
    for index in range(3):
        alone = predict(volume.frame(index), net, probabilities="all", uncertainty=True)
        for one, four in [(alone.labels, found.labels), (alone.uncertainty, found.uncertainty)]:
            assert np.array_equal(one.data, four.data[index])
        assert np.array_equal(alone.probability(1).data, found.probability(1).data[index])
    assert found.labels.grid.frames == volume.grid.frames
    assert np.array_equal(found.labels.data, (volume.data < 0))


def test_two_channels_go_in_together():
    a, b = make(seed=1), make(seed=2).replace(name="other")
    found = predict([a, b], lambda x: x[:, :1] - 2 * x[:, 1:], kind="image", overlap=0)
    np.testing.assert_allclose(found.output().data, a.data - 2 * b.data, atol=1e-6)
    assert found.output().history[-1]["inputs"] == ["scan", "other"]


def test_slices_of_a_2d_model_do_not_see_each_other():
    volume = make((40, 5, 6))
    net = Net(lambda x: x - x.mean((2, 3), keepdim=True))
    found = predict(volume, net, dims=2, kind="image").output()
    np.testing.assert_allclose(found.data, volume.data - volume.data.mean((1, 2), keepdims=True), atol=1e-5)
    assert len(net.seen) == 3  # up to 16 slices at once
    sideways = predict(
        volume, Model(make_card(input={"dims": 2, "channels": [{"name": "i"}], "orientation": "SAR"}), net)
    ).output()
    np.testing.assert_allclose(sideways.data, volume.data - volume.data.mean((0, 1), keepdims=True), atol=1e-5)


# What goes in -----------------------------------------------------------------------------------------------------


def seen_by(intensity, volume, **changes):
    net = Net()
    predict(volume, Model(make_card(input__channels=[{"name": "i", "intensity": intensity}], **changes), net))
    return net.seen


def test_intensity_rules_are_those_of_the_card():
    data = np.array([-2000, -1000, 0, 500, 1000, 3000], np.int16).reshape(1, 2, 3)
    data = np.concatenate([data, data])
    volume = Volume.from_array(data, spacing=(1, 1, 1))
    window = seen_by({"rule": "window", "low": -1000, "high": 1000}, volume)[0][0, 0, 0].ravel()
    np.testing.assert_allclose(window, [0, 0, 0.5, 0.75, 1, 1])
    minmax = seen_by({"rule": "minmax"}, volume)[0][0, 0]
    np.testing.assert_allclose(minmax, (data + 2000) / 5000, atol=1e-6)
    z = seen_by({"rule": "zscore"}, volume)[0][0, 0]
    np.testing.assert_allclose(z, (data - data.mean()) / data.std(), atol=1e-5)
    fixed = seen_by({"rule": "zscore", "mean": 10, "std": 4}, volume)[0][0, 0]
    np.testing.assert_allclose(fixed, (data - 10.0) / 4, rtol=1e-6)
    percentile = seen_by({"rule": "percentile", "low": 10, "high": 90}, volume)[0][0, 0]
    low, high = np.percentile(data, (10, 90))
    np.testing.assert_allclose(percentile, (np.clip(data, low, high) - low) / (high - low), atol=1e-6)
    assert np.array_equal(seen_by({"rule": "none"}, volume)[0][0, 0], data)


def test_statistics_are_those_of_each_frame():
    volume = make((2, 3, 4, 5))
    volume = volume.replace(data=volume.data * np.float32([1, 7]).reshape(2, 1, 1, 1))
    for seen in seen_by({"rule": "zscore"}, volume):
        assert abs(seen.mean()) < 1e-5
        assert abs(seen.std() - 1) < 1e-5


@pytest.mark.parametrize("rule", ["minmax", "zscore", "percentile"])
def test_a_constant_image_becomes_zero(rule):
    volume = Volume.from_array(np.full((3, 3, 3), 7, np.int16), spacing=(1, 1, 1))
    assert (seen_by({"rule": rule}, volume)[0] == 0).all()


def test_padding_repeats_the_border_and_is_cut_off_again():
    volume = make((3, 5, 6))
    net = Net()
    found = predict(volume, Model(make_card(input__divisible_by=4), net)).output()
    assert np.array_equal(net.seen[0][0, 0], np.pad(volume.data, ((0, 1), (1, 2), (1, 1)), mode="edge"))
    assert np.array_equal(found.data, volume.data)


@pytest.mark.parametrize("dtype", [bool, ">i2", ">f4", np.uint8, np.int64, np.float16, np.float64])
def test_every_kind_of_number_goes_in(dtype):
    data = (np.arange(60).reshape(3, 4, 5) % 7).astype(dtype)
    data.flags.writeable = False
    volume = Volume.from_array(data, spacing=(1, 1, 1))
    assert np.array_equal(predict(volume, identity, overlap=0, kind="image").output().data, data.astype(np.float32))


def test_lazy_and_strided_arrays_go_in():
    array = pytest.importorskip("dask.array")
    for shape in [(4, 5, 6), (2, 4, 5, 6)]:
        volume = make(shape)
        lazy = volume.replace(data=array.from_array(volume.data, chunks=3))
        strided = volume.replace(data=np.repeat(volume.data, 2, axis=-1)[..., ::2])
        for other in (lazy, strided):
            assert np.array_equal(predict(other, identity, kind="image", overlap=0).output().data, volume.data)


def test_the_input_is_not_touched():
    volume = make()
    before = volume.data.copy()

    def rude(x):
        x.mul_(0)
        return torch.cat([x, x], 1)

    predict(volume, rude, mirror=True)
    predict(volume, rude, window=(4, 4, 4))
    assert np.array_equal(volume.data, before)
