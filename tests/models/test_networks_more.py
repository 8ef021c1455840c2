"""Further architectures: MONAI's own numbers with its own weights, and MeshNet's dilations."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from napari_lightbox import models  # noqa: E402
from napari_lightbox.cli import main  # noqa: E402
from napari_lightbox.errors import InputError  # noqa: E402
from napari_lightbox.models.networks import ARCHITECTURES, build  # noqa: E402
from napari_lightbox.volume import Volume  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PLAIN = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8, 16), "strides": (2, 2)}
CASES = {
    "residual": ("UNet", "monai_unet", {**PLAIN, "spatial_dims": 3, "num_res_units": 2, "norm": "batch"}, (8, 12, 8)),
    "plain": ("UNet", "monai_unet", {**PLAIN, "act": "relu", "dropout": 0.1, "adn_ordering": "AND"}, (16, 20)),
    "uneven": (
        "UNet", "monai_unet",
        {**PLAIN, "spatial_dims": 3, "strides": ((1, 2, 2), 2), "kernel_size": (1, 3, 3), "num_res_units": 1,
         "norm": ("group", {"num_groups": 2}), "act": ("leakyrelu", {"negative_slope": 0.2})},
        (4, 12, 8),
    ),
    "basic": ("BasicUNet", "basic_unet", {"spatial_dims": 3, "features": (4, 4, 4, 4, 8, 4)}, (19, 17, 33)),
    "segresnet": ("SegResNet", "segresnet", {"blocks_down": (1, 2, 1), "blocks_up": (1, 1)}, (8, 12, 8)),
    "deconv": (
        "SegResNet", "segresnet",
        {"spatial_dims": 2, "blocks_down": (1, 1), "blocks_up": (2,), "upsample_mode": "deconv", "dropout_prob": 0.2},
        (8, 12),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_weights_and_numbers_are_those_of_monai(case):
    nets = pytest.importorskip("monai.networks.nets")
    theirs, ours, args, size = CASES[case]
    torch.manual_seed(1)
    wanted, found = getattr(nets, theirs)(**args), build(ours, **args)
    for value in wanted.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.5 + 0.1)
    found.load_state_dict(wanted.state_dict())
    image = torch.randn(2, 1, *size)
    with torch.inference_mode():
        assert torch.allclose(found.eval()(image.clone()), wanted.eval()(image.clone()), rtol=1e-5, atol=1e-5)


def test_a_voxel_of_meshnet_depends_on_the_sum_of_its_dilations():
    network = build("meshnet", dims=2, channels=3, dilations=[1, 2, 4]).eval()
    image = torch.zeros(1, 1, 31, 31, requires_grad=True)
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(0.5)
    network(image)[0, 1, 15, 15].backward()
    used = np.argwhere(image.grad[0, 0].numpy() != 0)
    assert (used.min(0).tolist(), used.max(0).tolist()) == ([8, 8], [22, 22])
    # 1 to 5 channels of 3 x 3 x 3 taps, normalised, then the classes.
    assert sum(p.numel() for p in build("meshnet", channels=5, dilations=[1]).parameters()) == 5 * 27 + 5 + 10 + 12


def test_unet2d_is_the_unet_of_slices():
    found, plain = build("unet2d", channels=[4, 8]), build("unet", dims=2, channels=[4, 8])
    assert {k: v.shape for k, v in found.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "args", "told"),
    [
        ("meshnet", {"dims": 4}, "dims 4"),
        ("monai_unet", {"spatial_dims": 1}, "spatial_dims 1"),
        ("monai_unet", {"norm": "layer"}, "norm 'layer'"),
        ("monai_unet", {"act": ["softplus", {}]}, "act 'softplus'"),
        ("monai_unet", {"strides": [2]}, "a stride for each"),
        ("monai_unet", {"kernel_size": 2}, "must be odd"),
        ("basic_unet", {"features": [4]}, "six numbers"),
        ("segresnet", {"upsample_mode": "pixelshuffle"}, "'pixelshuffle'"),
        ("segresnet", {"blocks_up": [1]}, "one fewer"),
    ],
)
def test_what_cannot_be_built_is_named(name, args, told):
    with pytest.raises(InputError, match=told):
        build(name, **args)


def test_they_are_listed_with_their_arguments(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ARCHITECTURES:
        assert any(line.startswith(f"  {name}: ") for line in lines)
    assert (
        "  meshnet: dims=3, in_channels=1, out_channels=2, channels=21, dilations=[1, 1, 1, 2, 4, 8, 1], "
        in "\n".join(lines)
    )


def test_meshnet_runs_from_its_card_and_quotes_its_memory(tmp_path):
    save = pytest.importorskip("safetensors.torch").save_file
    args = {"out_channels": 2, "channels": 5, "dilations": [1, 2]}
    network = build("meshnet", **args).eval()
    save(network.state_dict(), tmp_path / "w.safetensors")
    card = {
        "name": "mesh", "loader": "safetensors", "weights": "w.safetensors",
        "architecture": {"name": "meshnet", "args": args}, "input": {"dims": 3, "channels": [{"name": "MR"}]},
        "output": {"kind": "labels", "labels": {"1": "brain"}},
    }  # fmt: skip
    (tmp_path / "card.json").write_text(json.dumps(card))
    image = Volume.from_array(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32), (1, 1, 1))
    assert models.quote(image, tmp_path).memory_bytes > 5 * 6 * 7 * 4 * 5
    with torch.inference_mode():
        wanted = network(torch.from_numpy(image.data.copy())[None, None])[0].argmax(0).numpy()
    assert np.array_equal(models.predict(image, tmp_path).labels.data, wanted)
