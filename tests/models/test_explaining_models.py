"""Explanations of ensembles, of nnU-Net and MONAI, and the steps that looking into a network leaves."""

import json

import numpy as np
import pytest
from bundles import phantom, write_bundle

from napari_lightbox.errors import InputError
from napari_lightbox.volume import Volume

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
from nets import make, make_card  # noqa: E402
from nnunet_folders import make_plans, write_folder  # noqa: E402

from napari_lightbox.models import (  # noqa: E402
    Model,
    attribute,
    features,
    frequency_response,
    kernel_picture,
    kernels,
    load,
    perturbed,
    predict,
    seen_from,
)
from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.progress import listening  # noqa: E402
from napari_lightbox.recipe import Recipe  # noqa: E402
from napari_lightbox.report import network, write_report  # noqa: E402


def write_tiny(folder, seed, norm="batch", dims=3):
    folder.mkdir()
    torch.manual_seed(seed)
    args = {"dims": dims, "channels": [2, 4], "norm": norm}
    safetensors_torch.save_file(build("unet", **args).state_dict(), folder / "w")
    (folder / "card.json").write_text(json.dumps({
        "name": f"tiny {seed}", "version": "1", "licence": "-", "loader": "safetensors", "weights": "w", "sha256": None,
        "architecture": {"name": "unet", "args": args},
        "input": {"dims": dims, "channels": [{"name": "a"}], "divisible_by": 2},
        "window": {"size": [8] * dims}, "output": {"kind": "labels", "labels": {"1": "thing"}},
    }))  # fmt: skip
    return str(folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return the folders of two models that answer together."""
    folder = tmp_path_factory.mktemp("models")
    return [write_tiny(folder / str(seed), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a results folder of nnU-Net with two folds, and their networks."""
    folder = tmp_path_factory.mktemp("nnunet") / "results"
    networks = write_folder(folder, make_plans(patch=(16, 16, 16)), folds=2)
    return folder, networks


def marked(image, seed=5):
    there = np.random.default_rng(seed).random(image.data.shape) < 0.2
    return Volume(there.astype(np.uint8), image.grid, "labels", "error")


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam", "occlusion"])
def test_an_ensemble_is_explained_by_the_mean_of_its_members(two, method):
    image = make((8, 10, 8))
    region = marked(image)
    options = {"region": region, "method": method, **({"patch": 8} if method == "occlusion" else {})}
    found = attribute(image, two, "thing", **options)
    alone = [attribute(image, one, "thing", **options) for one in two]
    np.testing.assert_allclose(found.data, np.mean([one.data for one in alone], 0), atol=1e-6)
    targets = [one.meta["attribution"]["frames"][0]["target"] for one in alone]
    assert found.meta["attribution"]["frames"][0]["target"] == pytest.approx(np.mean(targets))
    assert "the mean of 2 networks" in found.meta["notes"]
    again = Recipe.of(found).run(image, region)
    np.testing.assert_array_equal(again.data, found.data)
    with pytest.raises(InputError, match="look into one network at a time"):
        features(image, two, "head")


def test_nnunet_as_a_whole_is_the_gradient_of_a_single_pass(results):
    """One window covers the volume, whose grey values become z-scores on the network's own grid: what the card says."""
    folder, networks = results
    image = make((16, 16, 16), spacing=(1.0, 1.0, 1.0)).replace(meta={"modality": "CT"})
    image = image.replace(data=(90 + 120 * np.asarray(image.data)).astype(np.float32))
    region = marked(image)
    model = load(folder)
    found = attribute(image, model, 1, method="gradient", region=region, mirror=False)
    # nnU-Net's CT normalisation with the figures of the plans: clip, less the mean, over the standard deviation.
    inputs = torch.from_numpy((np.clip(image.data, -300, 400) - 90) / 120)[None, None].requires_grad_()
    target = sum((net(inputs)[0, 1] * torch.from_numpy(region.data)).sum() for net in networks) / 2
    (grad,) = torch.autograd.grad(target, inputs)
    expected = (grad * inputs).detach()[0, 0].numpy()
    np.testing.assert_allclose(found.data, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert found.meta["attribution"]["frames"][0]["target"] == pytest.approx(float(target), rel=1e-4)


def test_integrated_gradients_of_nnunet_are_complete_and_replay(results, tmp_path):
    folder, _ = results
    image = make((8, 16, 16), spacing=(2.0, 1.0, 1.0)).replace(meta={"modality": "CT"})
    image = image.replace(data=(90 + 120 * np.asarray(image.data)).astype(np.float32))
    region = marked(image)
    found = attribute(image, folder, "one", region=region, mirror=False, gap=0.15)
    (figures,) = found.meta["attribution"]["frames"]
    # Instance norms: the baseline that leads to them smoothly is taken, and recorded.
    assert found.history[-1]["parameters"]["baseline"] == "blurred"
    assert figures["gap"] <= 0.15
    assert figures["sum"] == pytest.approx(figures["target"] - figures["baseline"], rel=0.2)
    recipe = Recipe.load(Recipe.of(found).save(tmp_path / "steps.json"))
    np.testing.assert_array_equal(recipe.run(image, region).data, found.data)


def test_a_monai_bundle_is_explained(tmp_path):
    image = phantom(shape=(10, 20, 18))
    model = load(write_bundle(tmp_path / "bundle"))
    value = next(v for v in model.card.output.values if v)
    region = marked(image)
    found = attribute(image, model, value, method="gradient", region=region)
    answer = predict(image, model, kind="image", activation="none", check=False)
    expected = float(answer.output(value).data.astype(float)[region.data > 0].sum())
    assert found.meta["attribution"]["frames"][0]["target"] == pytest.approx(expected, rel=1e-3)
    assert found.grid == image.grid
    assert np.abs(found.data).max() > 0


def test_steps_are_as_many_as_the_gap_needs():
    image = make((8, 8, 8))
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1))
    region = marked(image)
    steps, told = [], []
    for gap in (0.1, 2e-3):
        with listening(lambda what, done, total: told.append((done, total))):
            found = attribute(image, net.requires_grad_(False), 1, region=region, gap=gap, baseline=0.5)
        (figures,) = found.meta["attribution"]["frames"]
        assert figures["gap"] <= gap
        steps.append(figures["steps"])
    assert steps[0] < steps[1] <= 512
    # The first eight steps and both ends are known beforehand, further ones as they come.
    assert next(one for one in told if one[0]) == (1, 10)
    assert told[-1][0] == told[-1][1] > steps[1] + 2
    exact = attribute(image, net, 1, region=region, baseline=0.5, steps=400)
    np.testing.assert_allclose(found.data, exact.data, atol=0.02 * np.abs(exact.data).max())

    def jumps(x):
        return torch.cat([0 * x, (x > 0.7) + 0 * x], 1)

    # No steps find a jump, whose slope is 0 on both sides, and that is said.
    said = attribute(image, jumps, 1, region=region, baseline=0.5).meta["notes"][-1]
    assert "take another baseline or baseline='blurred'" in said
    with pytest.raises(InputError, match="gap 0 must be a share"):
        attribute(image, net, 1, region=region, gap=0)


def test_what_is_seen_of_a_network_is_a_step_that_runs_again(two, tmp_path):
    image = make((8, 10, 8))
    maps = features(image, two[0], "down.0", most=2)
    pictures = [kernel_picture(two[0]), kernel_picture(two[0], response=True)]
    seen = seen_from(image, two[0], image.grid.to_world((4, 5, 4)), "down.0")
    for found in (*maps, *pictures, seen):
        recipe = Recipe.load(Recipe.of(found).save(tmp_path / "steps.json"))
        again = recipe.run(image)
        np.testing.assert_array_equal(again.data, found.data)
        assert (again.name, again.grid) == (found.name, found.grid)
        assert recipe.made(again.history)
    assert len({json.dumps(one.history[-1]) for one in maps}) == 2
    weights = kernels(two[0])
    np.testing.assert_array_equal(pictures[0].data[0, :3, 4:7], weights[1, 0, 1])
    np.testing.assert_array_equal(pictures[1].data[0, :32, :32], frequency_response(weights, 32)[0, 0, 16])
    sections = {"The network": network.panels([*maps, *pictures, seen], image)}
    page = write_report(tmp_path / "report.html", image, sections=sections).read_text(encoding="utf-8")
    # The image with its histogram, three planes of two maps and of what is seen, and two pictures of kernels.
    assert page.count("data:image/png") == 3 + 1 + 3 * 3 + 2
    assert "<td>receptive_field</td>" in page
    # Two convolutions of three: two voxels on each side, in effect no more.
    there = np.argwhere(seen.data > 0)
    assert there.min(0).tolist() == [2, 3, 2]
    assert there.max(0).tolist() == [6, 7, 6]
    assert seen.data[4, 5, 4] == 2
    with pytest.raises(InputError, match="lies outside of 'scan'"):
        seen_from(image, two[0], (-100, 0, 0))


def test_a_point_of_a_sweep_is_a_recipe(two):
    image = make((8, 8, 8))
    worse = perturbed(image, "gaussian_noise", 0.5, seed=3)
    found = predict(worse, two[0]).labels
    again = Recipe.of(found).run(image)
    np.testing.assert_array_equal(again.data, found.data)


def test_onnx_is_refused_in_a_sentence():
    """What onnxruntime gives back has no history of how it was made."""
    card = make_card(output={"kind": "labels", "labels": {"1": "a"}}, input__channels=[{"name": "x"}])

    class Graph(torch.nn.Module):
        def forward(self, x):
            return torch.from_numpy(np.concatenate([-x.detach().numpy(), x.detach().numpy()], 1))

    image = make((6, 6, 6))
    for method in ("gradient", "integrated_gradients"):
        with pytest.raises(InputError, match=r"gives no gradients, as networks in ONNX .* use method='occlusion'"):
            attribute(image, Model(card, Graph()), 1, region=marked(image), method=method)
    with pytest.raises(InputError, match="shows no layers, as functions and networks in ONNX"):
        attribute(image, Model(card, Graph()), 1, region=marked(image), method="grad_cam")
