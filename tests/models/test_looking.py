"""Layers, features, kernels and receptive fields, against networks that are known."""

import copy

import numpy as np
import pytest
from phantom_grids import block

from napari_lightbox.errors import InputError

torch = pytest.importorskip("torch")
from nets import make, make_card  # noqa: E402
from scipy import ndimage  # noqa: E402

from napari_lightbox.models import (  # noqa: E402
    Model,
    features,
    frequency_response,
    kernels,
    layers,
    predict,
    receptive_field,
)
from napari_lightbox.models.networks import build  # noqa: E402


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return build("unet", dims=3, out_channels=2, channels=(4, 6, 8), norm="batch").eval()


def test_layers_are_listed_as_they_are_done(unet):
    rows = layers(unet, window=(16, 8, 12))
    found = {row.name: row for row in rows}
    assert found["down.2"].shape == (8, 4, 2, 3)
    assert found["down.2"].coarser == (4, 4, 4)
    assert found["head"].shape == (2, 16, 8, 12)
    assert found["head"].parameters == 4 * 2 + 2
    order = [row.name for row in rows if row.name.count(".") < 2]
    assert order == ["down.0", "down.1", "down.2", "up.0", "merge.0", "up.1", "merge.1", "head"]
    with pytest.raises(InputError, match=r"window \(15, 8, 12\) cannot go through"):
        layers(unet, window=(15, 8, 12))
    with pytest.raises(InputError, match="shows no layers"):
        layers(lambda x: x)


def test_kernels_and_their_frequency_response(unet):
    found = kernels(unet)
    np.testing.assert_array_equal(found, unet.down[0].conv1.weight.detach().numpy())
    found[:] = 0
    assert float(unet.down[0].conv1.weight.abs().sum()) > 0
    # A central difference passes sin(w), whatever way it points, and nothing of what is constant.
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0, 1] = (-0.5, 0, 0.5)
    response = frequency_response(kernel, 16)
    waves = 2 * np.pi * (np.arange(16) - 8) / 16
    np.testing.assert_allclose(response[0, 0], np.tile(np.abs(np.sin(waves)), (16, 1)), atol=1e-6)
    with pytest.raises(InputError, match="size 2 must be"):
        frequency_response(kernel, 2)


def test_features_are_what_the_layer_gives(unet):
    image = make((8, 12, 8))
    with torch.no_grad():
        first = unet.down[0](torch.from_numpy(image.data)[None, None])[0].numpy()
    order = np.argsort(-np.abs(first).mean((1, 2, 3)))
    found = features(image, unet, "down.0", most=3)
    assert [int(one.name.rsplit(" ", 1)[1]) for one in found] == order[:3].tolist()
    for one, channel in zip(found, order, strict=False):
        np.testing.assert_allclose(one.data, first[channel], atol=1e-5)
        assert one.grid == image.grid
    (alone,) = features(image, unet, "head", channels=[1], window=(8, 8, 8), overlap=0.5)
    stitched = predict(image, unet, kind="image", activation="none", window=(8, 8, 8), overlap=0.5).output(1)
    np.testing.assert_allclose(alone.data, stitched.data, atol=1e-5)
    with pytest.raises(InputError, match="channel 4 does not exist"):
        features(image, unet, "down.0", channels=[4])
    with pytest.raises(InputError, match="needs one window"):
        features(image, unet, "down.1", grid="layer", window=(8, 8, 8))


@pytest.mark.parametrize("code", ["LPS", "SLP"])
def test_coarse_features_lie_in_the_patient_where_they_belong(code):
    image = block(code, (4, 4, 6), (5, 5, 7), shape=(8, 12, 16))
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 3, stride=2, padding=1, bias=False),
                              torch.nn.ConvTranspose3d(1, 1, 2, stride=2)).requires_grad_(False)  # fmt: skip
    net[0].weight.data.fill_(0)
    net[0].weight.data[0, 0, 1, 1, 1] = 1
    card = make_card(input__orientation="LPS", input__channels=[{"name": "x"}], input__divisible_by=2)
    model = Model(card, net)
    (coarse,) = features(image, model, "0", grid="layer")
    # The kernel takes every second voxel as it is.
    for place in np.argwhere(coarse.data == 1):
        index = image.grid.to_index(coarse.grid.to_world(place))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
        assert image.data[tuple(np.rint(index).astype(int))] == 1
    assert (coarse.data == 1).sum() == 1
    np.testing.assert_allclose(
        coarse.grid.spacing, 2 * np.array(image.grid.spacing)[list(image.grid.order_for("LPS")[0])]
    )
    (fine,) = features(image, model, "0")
    there = np.array(ndimage.center_of_mass(np.asarray(fine.data)))
    expected = image.grid.to_index(coarse.grid.to_world(np.argwhere(coarse.data == 1)[0]))
    np.testing.assert_allclose(there, expected, atol=1e-4)


def test_how_far_a_chain_of_convolutions_sees():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, (3, 5), padding=(1, 2)),
        torch.nn.InstanceNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(3, 2, 3, padding=1),
    ).eval()
    found = receptive_field(net, dims=2, window=(64, 48), spacing=(0.5, 2.0))
    # 3 voxels, then 2, then two steps of 2 in all: 3 + 1 + 4 and 5 + 1 + 4.
    assert found.sizes() == (8, 10)
    assert found.millimetres() == (4.0, 20.0)
    # The norm looks at the whole window, which the bound leaves out.
    assert found.sizes("measured") == (64, 48)
    assert all(e <= b for e, b in zip(found.sizes("effective"), found.sizes(), strict=True))
    assert receptive_field(net, "0", dims=2, window=(64, 48)).bound == ((1, 1), (2, 2))
    assert receptive_field(net, "0", dims=2, window=(64, 48)).sizes("measured") == (3, 5)


def test_what_a_unet_can_see_is_what_changes_its_answer(unet):
    """Nothing outside of the bound changes the answer, and something in its outermost voxels does."""
    found = receptive_field(unet, window=(8, 8, 8))
    before, after = found.bound[0]
    window = torch.rand((1, 1, 128, 4, 4), generator=torch.Generator().manual_seed(1)).double()
    unet, place, reached = copy.deepcopy(unet).double(), 64, []
    with torch.no_grad():
        # The bound is that of the place, of four, that sees farthest.
        for at in range(place, place + 4):
            plain = unet(window)[0, :, at]
            for voxel in range(at - before - 1, at + after + 2):
                other = window.clone()
                other[:, :, voxel] += 1e4
                if not torch.equal(unet(other)[0, :, at], plain):
                    reached.append(voxel - at)
    assert min(reached) == -before
    assert max(reached) == after
