"""What U-Nets of compiled layers are said to need, against the arrays that are made for them."""

import pytest

from napari_lightbox.models._unet_memory import needed

torch = pytest.importorskip("torch")

from napari_lightbox.models._fused import Fused  # noqa: E402
from napari_lightbox.models._fused_layers import layers_of  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402

NNUNET = {
    "dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "n_stages": 3,
    "features_per_stage": [8, 16, 32],
    "kernel_sizes": 3,
    "strides": [1, [1, 2, 2], 2],
    "conv_bias": True,
    "norm_op": "torch.nn.InstanceNorm3d",
    "n_conv_per_stage_decoder": 2,
    "nonlin": "torch.nn.ReLU",
}
PLAIN, RESIDUAL = {**NNUNET, "n_conv_per_stage": 2}, {**NNUNET, "n_blocks_per_stage": 2}


def really(network, size):
    """Return the bytes of the arrays between the layers, and of the weights in their order."""
    fused = Fused(layers_of(network.eval()), size, paired=False, widths=(4,))
    memory = fused._memory
    features = {id(one): one._flat.nbytes for one in memory.features.values()}
    return sum(features.values()) + memory.raw.nbytes + sum(one.weights.nbytes for one in fused._prepared)


@pytest.mark.parametrize("channels", [(4, 8), (8, 16, 32), (16, 32, 64), (20, 40)])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_arrays_between_layers_are_known(channels, norm, residual):
    args = {"channels": channels, "norm": norm, "residual": residual, "out_channels": 3}
    truth = really(build("unet", **args), (32, 32, 32))
    assert needed("unet", args, channels, (32, 32, 32)) == pytest.approx(truth, rel=0.12)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        # As many channels go in or classes come out as make whole blocks, or several.
        ("unet", {"channels": (8, 16), "in_channels": 9}),
        ("unet", {"channels": (8, 16), "out_channels": 40}),
        ("unet", {"channels": (16,), "norm": "batch"}),
        ("unet2d", {"channels": (8, 16, 32), "norm": "batch", "out_channels": 3}),
        ("plain_conv_unet", PLAIN),
        ("residual_encoder_unet", RESIDUAL),
    ],
)
def test_those_of_other_networks_too(name, args):
    features = args.get("channels") or args["features_per_stage"]
    window = (1, 128, 128) if name == "unet2d" else (16, 32, 32)
    truth = really(build(name, **args), window[1:] if name == "unet2d" else window)
    assert needed(name, args, features, window) == pytest.approx(truth, rel=0.2)


def test_steps_may_be_one_number_for_all_levels():
    sizes = needed("plain_conv_unet", {"strides": 2}, (8, 8), (32, 32, 32))
    assert sizes < needed("plain_conv_unet", {"strides": [1, 2]}, (8, 8), (32, 32, 32)) / 4
