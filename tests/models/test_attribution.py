"""Maps of attribution, against what is known of linear networks, brute force, finite differences and captum."""

import itertools

import numpy as np
import pytest
from phantom_grids import CODES, block

from napari_lightbox.errors import InputError
from napari_lightbox.geometry import Frames, Grid
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")
from nets import make, make_card  # noqa: E402
from scipy import ndimage  # noqa: E402

from napari_lightbox.models import Model, attribute, predict  # noqa: E402
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.recipe import Recipe  # noqa: E402


@pytest.fixture(scope="module")
def smooth():
    """Return a network without kinks: three classes, and a layer of half the size."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.Conv3d(4, 4, 3, stride=2, padding=1),
        torch.nn.Tanh(),
        torch.nn.ConvTranspose3d(4, 3, 2, stride=2),
    )
    return net.eval().requires_grad_(False)


def marked(image, seed=5, share=0.2):
    """Return a random region."""
    there = np.random.default_rng(seed).random(image.data.shape) < share
    return Volume(there.astype(np.uint8), image.grid, "labels", "error")


def linear():
    """Return a linear network: a kernel and a bias for two classes."""
    net = torch.nn.Conv3d(1, 2, 3, padding=1)
    weight = torch.as_tensor(np.random.default_rng(1).normal(size=(2, 1, 3, 3, 3)), dtype=torch.float32)
    net.weight.data, net.bias.data = weight, torch.tensor([0.5, -0.25])
    return net.requires_grad_(False)


@pytest.mark.parametrize(("method", "baseline"), [("gradient", 0.0), ("integrated_gradients", 0.7)])
def test_a_linear_network_is_explained_exactly(method, baseline):
    image, net = make((7, 9, 8)), linear()
    region = marked(image)
    found = attribute(image, net, 1, method=method, region=region, baseline=baseline, steps=3)
    # A voxel counts with the weights by which it reaches the region: the kernel, the other way round.
    counts = ndimage.convolve(region.data.astype(float), net.weight[1, 0].numpy().astype(float), mode="constant")
    np.testing.assert_allclose(found.data, (image.data - baseline) * counts, atol=2e-5)
    assert (found.kind, found.data.dtype, found.grid) == ("image", np.float32, image.grid)


@pytest.mark.parametrize("baseline", ["mean", "blurred"])
def test_integrated_gradients_add_up_to_the_change_of_the_target(smooth, baseline):
    image = make((8, 8, 8))
    region = marked(image)
    found = attribute(image, smooth, 2, region=region, baseline=baseline, steps=24)
    rest = np.full_like(image.data, image.data.mean())
    rest = ndimage.gaussian_filter(image.data, 8 / 5, mode="nearest") if baseline == "blurred" else rest
    with torch.no_grad():
        answers = [smooth(torch.from_numpy(d)[None, None])[0, 2].numpy()[region.data > 0].sum()
                   for d in (image.data, rest)]  # fmt: skip
    (figures,) = found.meta["attribution"]["frames"]
    assert figures["target"] == pytest.approx(answers[0], rel=1e-5)
    assert figures["baseline"] == pytest.approx(answers[1], rel=1e-5)
    assert float(found.data.sum()) == pytest.approx(answers[0] - answers[1], rel=1e-4)


def test_one_window_gives_the_map_of_a_single_pass(smooth):
    image = make((8, 10, 12))
    region = marked(image)
    inputs = torch.from_numpy(image.data.copy())[None, None].requires_grad_()
    target = (smooth(inputs)[0, 1] * torch.from_numpy(region.data)).sum()
    (grad,) = torch.autograd.grad(target, inputs)
    expected = (grad * inputs).detach()[0, 0].numpy()
    for window in (None, (8, 10, 12)):
        found = attribute(image, smooth, 1, method="gradient", region=region, window=window)
        np.testing.assert_allclose(found.data, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mirror", [False, (0, 2)])
def test_maps_of_windows_are_the_gradient_of_what_is_predicted(smooth, mirror):
    """Finite differences of the stitched logits, which `predict` makes: with padding, blending and mirroring."""
    image = make((6, 14, 10), seed=2)
    region = marked(image)
    options = {"window": (8, 8, 8), "overlap": 0.5, "mirror": mirror}
    found = attribute(image, smooth, 1, method="gradient", region=region, **options)

    def target(change):
        made = predict(
            image.replace(data=image.data * (1 + change)), smooth, kind="image", activation="none", **options
        )
        return float(made.output(1).data.astype(np.float64)[region.data > 0].sum())

    for part in (np.s_[:2], np.s_[:, 6:9], np.s_[3:, :, :4]):
        step = np.zeros(image.data.shape, np.float32)
        step[part] = 0.02
        slope = (target(step) - target(-step)) / 0.04
        assert float(found.data[part].sum()) == pytest.approx(slope, rel=5e-3, abs=2e-3)


@pytest.mark.parametrize("code", CODES)
def test_an_oblique_phantom_comes_back_where_it_was(code):
    image = block(code, (1, 2, 3), (3, 4, 9))
    card = make_card(input__orientation="LPS", input__spacing=[2.0, 2.0, 2.0], input__channels=[{"name": "x"}],
                     output__kind="image")  # fmt: skip
    net = torch.nn.Conv3d(1, 1, 1, bias=False).requires_grad_(False)
    net.weight.data.fill_(2.0)
    bare = make_card(input__orientation="LPS", input__channels=[{"name": "x"}])
    exact = attribute(image, Model(bare, net), 0, method="gradient", window=(4, 6, 8))
    np.testing.assert_allclose(exact.data, 2 * image.data, atol=1e-5)
    found = attribute(image, Model(card, net), 0, method="gradient")
    middle = np.array(ndimage.center_of_mass(np.asarray(found.data)))
    away = image.grid.to_world(middle) - image.grid.to_world((2, 3, 6))
    assert np.abs(away).max() < 0.6
    assert found.grid == image.grid


@pytest.mark.parametrize("window", [None, (8, 8, 8)])
def test_occlusion_is_what_covering_does(smooth, window):
    image = make((8, 8, 12), spacing=(2, 1, 1))
    region = marked(image)
    found = attribute(image, smooth, 1, method="occlusion", region=region, baseline=-0.5, patch=(8, 3, 4),
                      stride=(4, 3, 4), window=window)  # fmt: skip

    def target(data):
        made = predict(image.replace(data=data), smooth, kind="image", activation="none", window=window)
        return float(made.output(1).data.astype(np.float64)[region.data > 0].sum())

    sums, counts, whole = np.zeros(image.data.shape), np.zeros(image.data.shape), target(image.data)
    starts = [(0, 2, 4), (0, 3, 6), (0, 4, 8)]
    for z, y, x in itertools.product(*starts):
        part = np.s_[z : z + 4, y : y + 3, x : x + 4]
        covered = image.data.copy()
        covered[part] = -0.5
        sums[part] += whole - target(covered)
        counts[part] += 1
    np.testing.assert_allclose(found.data, sums / counts, atol=2e-4)


def test_grad_cam_is_that_of_the_papers(smooth):
    image = make((8, 8, 8))
    region = marked(image)
    inputs = torch.from_numpy(image.data.copy())[None, None]
    for layer, steps in (("1", 2), ("3", 4)):
        features = smooth[:steps](inputs).requires_grad_()
        target = (smooth[steps:](features)[0, 1] * torch.from_numpy(region.data)).sum()
        (grad,) = torch.autograd.grad(target, features)
        cam = (grad.mean((2, 3, 4), keepdim=True) * features).sum(1).relu().detach()[0].numpy()
        if layer == "3":
            # Value i of a convolution with stride 2 and padding 1 lies at voxel 2 i.
            where = np.stack(np.meshgrid(*[np.arange(8) / 2] * 3, indexing="ij"))
            cam = ndimage.map_coordinates(cam.astype(float), where, order=1, mode="nearest")
        found = attribute(image, smooth, 1, method="grad_cam", layer=layer, region=region)
        np.testing.assert_allclose(found.data, cam, rtol=1e-3, atol=1e-6)
    assert "of layer '3'" in attribute(image, smooth, 1, method="grad_cam", region=region).meta["notes"]


def test_grad_cam_has_no_seams_between_windows():
    # Every window sees the same, so that the map must be the same everywhere.
    image = Volume.from_array(np.ones((4, 4, 12), np.float32), spacing=(1, 1, 1))
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 1), torch.nn.Conv3d(3, 2, 1)).requires_grad_(False)
    torch.manual_seed(0)
    for part in net:
        torch.nn.init.uniform_(part.weight, 0.1, 1)
    region = marked(image)
    found = attribute(image, net, 1, method="grad_cam", layer="0", region=region, window=(4, 4, 4), overlap=0.5)
    assert np.ptp(found.data) < 1e-6 * found.data.max()


def test_captum_says_the_same(smooth):
    captum = pytest.importorskip("captum.attr")
    image = make((8, 8, 8))
    region = marked(image)
    inside = torch.from_numpy(region.data)
    inputs = torch.from_numpy(image.data.copy())[None, None]

    def forward(x):
        return (smooth(x)[:, 1] * inside).sum((1, 2, 3))

    theirs = captum.IntegratedGradients(forward).attribute(inputs, baselines=0.3, n_steps=8)
    ours = attribute(image, smooth, 1, region=region, baseline=0.3, steps=8)
    np.testing.assert_allclose(ours.data, theirs[0, 0].numpy(), atol=1e-5)
    theirs = captum.Occlusion(forward).attribute(inputs, (1, 4, 4, 4), strides=(1, 4, 4, 4), baselines=0.3)
    ours = attribute(image, smooth, 1, method="occlusion", region=region, baseline=0.3, patch=4, unit="voxels")
    np.testing.assert_allclose(ours.data, theirs[0, 0].numpy(), atol=1e-4)


def test_frames_and_the_region_where_the_class_is_found():
    grid = Grid.from_spacing((1, 1, 1), (3, 2, 4, 4), frames=Frames("time", (0, 1, 2), "s"))
    data = np.zeros(grid.shape, np.float32)
    data[0, :, :2], data[2, 1, 3] = 2, 5
    image = Volume(data, grid, name="scan")

    def net(x):
        return torch.cat([torch.zeros_like(x), 3 * x - 1], 1)

    found = attribute(image, net, 1, method="gradient")
    np.testing.assert_allclose(found.data, 3 * data)
    assert found.grid == grid
    assert [f["target"] for f in found.meta["attribution"]["frames"]] == pytest.approx([16 * 5, 0, 4 * 14])
    last = attribute(image, net, 1, method="gradient", frame=2)
    np.testing.assert_array_equal(last.data, found.data[2])
    with pytest.raises(InputError, match="found nowhere in 'scan'"):
        attribute(image, net, 1, method="gradient", frame=1)


def test_several_channels_and_neighbouring_slices():
    first, second = make((5, 6, 6), seed=1), make((5, 6, 6), seed=2)
    card = make_card(input__dims=2, input__context=1, input__channels=[{"name": "a"}, {"name": "b"}])
    net = torch.nn.Conv2d(6, 1, 1, bias=False).requires_grad_(False)
    net.weight.data = torch.arange(1.0, 7.0).reshape(1, 6, 1, 1)
    region = Volume(np.zeros((5, 6, 6), np.uint8), first.grid, "labels", "error")
    region.data[0, 2, 3] = 1
    found = attribute([first, second], Model(card, net), 0, method="gradient", region=region)
    # Before the first slice the first is repeated: its weights are those of two neighbours.
    expected = np.zeros((2, 5, 6, 6))
    for channel, image in enumerate((first, second)):
        low, own, high = 3 * channel + np.array([1, 2, 3])
        expected[channel, 0, 2, 3] = (low + own) * image.data[0, 2, 3]
        expected[channel, 1, 2, 3] = high * image.data[1, 2, 3]
    np.testing.assert_allclose([one.data for one in found], expected, rtol=1e-5)
    with pytest.raises(InputError, match="takes 2 images"):
        attribute(first, Model(card, net), 0)


def test_padding_counts_for_the_voxels_that_it_repeats():
    image = make((3, 4, 4))
    found = attribute(image, lambda x: x.mean((2, 3, 4), keepdim=True).expand_as(x), 0, method="gradient",
                      window=(8, 8, 8), mirror=False, dims=3, region=marked(image, share=2))  # fmt: skip
    (figures,) = found.meta["attribution"]["frames"]
    # Of a linear network the map adds up to the target, in which the padding plays its part.
    assert float(found.data.sum()) == pytest.approx(figures["target"], rel=1e-5)


def test_programs_without_gradients_are_refused_and_can_be_occluded(smooth):
    image = make((8, 8, 8))
    region = marked(image)

    def outside(x):
        return np.concatenate([x.numpy(), 2 * x.numpy()], 1)

    with pytest.raises(InputError, match="use method='occlusion'"):
        attribute(image, outside, 1, region=region)
    covered = attribute(image, outside, 1, method="occlusion", region=region, patch=1, unit="voxels", window=(4, 4, 4))
    np.testing.assert_allclose(covered.data, 2 * image.data * region.data, atol=1e-4)
    script = torch.jit.trace(smooth, torch.zeros(1, 1, 8, 8, 8))
    plain = attribute(image, smooth, 1, method="gradient", region=region)
    np.testing.assert_allclose(
        attribute(image, script, 1, method="gradient", region=region).data, plain.data, atol=1e-6
    )
    with pytest.raises(InputError, match="TorchScript, whose layers cannot be looked into"):
        attribute(image, script, 1, method="grad_cam", region=region)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "magic"}, "method 'magic' is unknown"),
        ({"steps": 0}, "steps 0 must be a whole number"),
        ({"baseline": "grey"}, "baseline 'grey' must be"),
        ({"method": "grad_cam", "layer": "x"}, "layer 'x' does not exist"),
        ({"method": "occlusion", "patch": -1}, "patch -1 must be a length"),
        ({"frame": 2}, "frame 2 does not exist"),
        ({"label": 7}, "label is class 7, but"),
        ({"label": "lung"}, "label 'lung' must be the number"),
    ],
)
def test_mistakes_are_told(smooth, changes, sentence):
    image = make((8, 8, 8))
    with pytest.raises(InputError, match=sentence):
        attribute(image, smooth, **{"label": 1, "region": marked(image), **changes})


def test_it_can_be_cancelled_and_tells_how_far_it_is(smooth):
    image, told = make((8, 8, 16)), []

    def listen(what, done, total):
        told.append((what, done, total))
        if done == 3:
            raise Cancelled

    with listening(listen), pytest.raises(Cancelled):
        attribute(image, smooth, 1, region=marked(image), window=(8, 8, 8), steps=4)
    assert told[-1] == ("windows", 3, 3 * 6)


def test_a_recipe_makes_the_map_again(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(1)
    args = {"dims": 3, "channels": [2, 4], "norm": "batch"}
    safetensors.save_file(build("unet", **args).state_dict(), tmp_path / "w")
    import json

    (tmp_path / "card.json").write_text(json.dumps({
        "name": "tiny", "version": "1", "licence": "-", "loader": "safetensors", "weights": "w", "sha256": None,
        "architecture": {"name": "unet", "args": args},
        "input": {"dims": 3, "channels": [{"name": "a"}], "divisible_by": 2},
        "window": {"size": [8, 8, 8]}, "output": {"kind": "labels", "labels": {"1": "thing"}},
    }))  # fmt: skip
    image = make((8, 10, 8))
    region = marked(image)
    for options in ({"steps": 4}, {"method": "grad_cam"}, {"method": "occlusion", "patch": (8, 6, 4)}):
        found = attribute(image, str(tmp_path), "thing", region=region, **options)
        recipe = Recipe.load(Recipe.of(found).save(tmp_path / "steps.json"))
        assert recipe.inputs == {"error": "labels"}
        again = recipe.run(image, region)
        np.testing.assert_array_equal(again.data, found.data)
        assert again.name == found.name == f"scan · {found.name.split(' · ')[1]}"
        assert recipe.made(again.history)
