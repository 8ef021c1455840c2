"""A recorded prediction runs again with every choice that was made for it."""

import json

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import InputError, Recipe, Volume
from napari_lightbox.models import predict

torch = pytest.importorskip("torch")

from napari_lightbox.models.networks import build  # noqa: E402
from napari_lightbox.models.train import export  # noqa: E402


def model(folder, *, channels=("CT",), modality="CT", size=None):
    torch.manual_seed(1)
    args = {"dims": 3, "in_channels": len(channels), "channels": [2, 4]}
    card = {
        "name": "tiny",
        "architecture": {"name": "unet", "args": args},
        "input": {"channels": [{"name": n, "modality": modality} for n in channels], "divisible_by": 2},
        "window": {"size": size},
        "output": {"kind": "labels", "labels": {"1": "a"}},
    }
    return export(build("unet", **args), card, folder)


def image(rng, scale=1.0, shape=(16, 8, 8), **meta):
    return Volume.from_array(rng.normal(0, scale, shape).astype(np.float32), (1, 1, 1), meta=meta)


def test_the_window_is_recorded_as_it_was_given(tmp_path, rng):
    volume = image(rng)
    found = predict(volume, model(tmp_path), window=(4, 8, 8), probabilities=1).probability(1)
    assert found.history[-1]["parameters"]["window"] == [4, 8, 8]
    assert np.array_equal(Recipe.of(found).run(volume).data, found.data)


def test_without_a_window_another_case_is_taken_whole_too(tmp_path, rng):
    found = predict(image(rng), model(tmp_path))
    assert found.labels.history[-1]["parameters"]["window"] is None
    larger = image(rng, shape=(20, 10, 12))
    assert Recipe.of(found.labels).run(larger).history[-1]["parameters"]["window"] is None


def test_channels_of_one_name_stay_apart(tmp_path, rng):
    volumes = [image(rng, 10.0**k) for k in range(3)]
    found = predict(volumes, model(tmp_path, channels="abc", modality=None), probabilities=1).probability(1)
    recipe = Recipe.of(found)
    assert recipe.inputs == {"volume": "image", "volume (2)": "image"}
    with pytest.raises(InputError, match="needs 2 further volumes"):
        recipe.run(*volumes[:2])
    assert np.array_equal(recipe.run(*volumes).data, found.data)


def test_what_made_the_channels_is_written_down(tmp_path, rng):
    volumes = [image(rng), lb.apply("median", image(rng), size=3)]
    step = predict(volumes, model(tmp_path, channels="ab", modality=None)).labels.history[-1]
    (made,) = step["parameters"]["channel_2"]["made_by"]
    assert made["operation"] == "median"


def test_an_unchecked_prediction_runs_again_unchecked(tmp_path, rng):
    volume = image(rng, modality="MR")
    found = predict(volume, model(tmp_path), check=False)
    assert np.array_equal(Recipe.of(found.labels).run(volume).data, found.labels.data)


def test_the_device_is_that_of_the_recording(tmp_path, rng, monkeypatch):
    volume = image(rng)
    found = predict(volume, model(tmp_path), device="cpu")
    step = json.loads(json.dumps(found.labels.history[-1]))
    assert step["parameters"]["device"] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Recipe.of(found.labels).run(volume).history[-1]["device"] == "cpu"
    monkeypatch.undo()
    if not torch.cuda.is_available():
        step["parameters"]["device"] = "cuda"
        again = Recipe.of(volume.replace(history=(step,))).run(volume)
        assert again.history[-1]["device"] == "cpu"


def test_regions_of_a_function_overlap(rng):
    def both(x):
        return torch.cat([torch.full_like(x, 5.0), torch.full_like(x, 5.0)], 1)

    found = predict(image(rng), both, kind="regions", probabilities="all")
    assert (found.labels.data == 2).all()
    for value in (1, 2):
        np.testing.assert_allclose(found.probability(value).data, 1 / (1 + np.exp(-5)), atol=1e-6)
    with pytest.raises(InputError, match="'softmax' lets classes exclude each other"):
        predict(image(rng), both, kind="regions", activation="softmax")


def test_memory_of_a_container_counts(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("napari_lightbox.memory._free_in_container", lambda group: [1000])
    with pytest.raises(InputError, match="1 kB are free"):
        predict(image(rng), model(tmp_path))
