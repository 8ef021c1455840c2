"""Architectures: shapes, names, and what they refuse."""

import pytest

torch = pytest.importorskip("torch")

from napari_lightbox.errors import InputError  # noqa: E402
from napari_lightbox.models.networks import ARCHITECTURES, UNet, build  # noqa: E402


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_output_has_the_size_of_the_input_and_a_channel_for_every_class(dims, norm, residual):
    net = build("unet", dims=dims, in_channels=2, out_channels=3, channels=[4, 6, 8], norm=norm, residual=residual)
    size = (16, 24, 8)[-dims:]
    assert net(torch.zeros(2, 2, *size)).shape == (2, 3, *size)


def test_parameters_of_a_small_net_are_those_counted_by_hand():
    net = UNet(dims=2, in_channels=1, out_channels=2, channels=(4, 8))
    first = 1 * 4 * 9 + 4 * 4 * 9 + 2 * 8  # two convolutions without bias, two norms of scale and shift
    second = 4 * 8 * 9 + 8 * 8 * 9 + 2 * 16
    up = 8 * 4 * 4 + 4
    merge = 8 * 4 * 9 + 4 * 4 * 9 + 2 * 8
    head = 4 * 2 + 2
    assert sum(p.numel() for p in net.parameters()) == first + second + up + merge + head


def test_every_level_sees_its_skip():
    """A change of a single voxel must reach the output at full resolution, through the finest skip."""
    torch.manual_seed(0)
    net = UNet(dims=2, channels=(4, 8), norm="batch").eval()
    image = torch.zeros(1, 1, 16, 16)
    changed = image.clone()
    changed[0, 0, 5, 7] = 1
    with torch.no_grad():
        difference = (net(changed) - net(image)).abs().sum(1)[0]
    assert difference[5, 7] > 0
    assert difference[15, 15] < difference[5, 7]


def test_the_same_seed_builds_the_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(5)
        weights.append(build("unet", dims=3, channels=[2, 4]).state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_batch_normalisation_makes_a_voxel_independent_of_its_window():
    torch.manual_seed(1)
    net = build("unet", dims=2, channels=[4, 8], norm="batch").eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        whole, part = net(image), net(image[..., :48])
    assert torch.allclose(whole[..., :24], part[..., :24], atol=1e-6)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"dims": 4}, "dims 4"),
        ({"norm": "group"}, "norm 'group'"),
        ({"channels": []}, "channels"),
        ({"channels": [4, 0]}, "channels"),
        ({"out_channels": 2.5}, "channels"),
        ({"depth": 3}, "depth"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(args, says):
    with pytest.raises(InputError, match=says):
        build("unet", **args)


def test_an_unknown_name_says_which_are_known():
    with pytest.raises(InputError, match=", ".join(sorted(ARCHITECTURES))):
        build("transformer")


@pytest.mark.parametrize("size", [(10, 16), (16, 16, 16)])
def test_an_input_that_does_not_fit_is_refused_in_words(size):
    net = build("unet", dims=2, channels=[2, 4, 4])
    with pytest.raises(InputError, match="divisible by 4"):
        net(torch.zeros(1, 1, *size))
