"""A prediction as a run: progress, cancelling, its cost beforehand, and its history afterwards."""

import json
import time

import numpy as np
import pytest
from nets import Net, ct_card, identity, make

from napari_lightbox import models
from napari_lightbox.errors import InputError
from napari_lightbox.models import predict, quote
from napari_lightbox.models.networks import build
from napari_lightbox.progress import Cancelled, listening

torch = pytest.importorskip("torch")


def test_progress_counts_windows_over_all_frames():
    volume, told = make((2, 6, 7, 8)), []
    cost = quote(volume, identity, window=(4, 4, 4), overlap=0.5)
    with listening(lambda what, done, total: told.append((what, done, total))):
        predict(volume, identity, window=(4, 4, 4), overlap=0.5)
    assert {t[0] for t in told} == {"windows"}
    assert {t[2] for t in told} == {cost.windows}
    assert sorted({t[1] for t in told}) == list(range(cost.windows + 1))


def test_cancelling_takes_effect_within_one_window():
    asked = Net()

    def listener(what, done, total):
        if done >= 3:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        predict(make((8, 8, 8)), asked, window=(4, 4, 4), overlap=0)
    assert len(asked.seen) == 3


def test_cancelling_takes_effect_while_the_network_thinks_about_the_whole_volume():
    asked_at, steps = [], []

    def slow(inputs):
        for step in range(200):
            steps.append(step)
            time.sleep(0.05)
            inputs = torch.relu(inputs)
        return inputs

    def listener(what, done, total):
        if steps:
            asked_at.append(time.monotonic())
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        predict(make((8, 8, 8)), slow)
    assert time.monotonic() - asked_at[0] < 1
    time.sleep(0.3)
    # Nobody waits for the answer, and so the network did not go on either.
    count = len(steps)
    time.sleep(0.3)
    assert len(steps) == count < 100


def test_a_quote_names_windows_memory_and_resampling():
    volume = make((64, 64, 64), spacing=(1, 1, 1))
    card = ct_card(input__spacing=[2.0, 2.0, 2.0], input__divisible_by=16, window__size=[48, 16, 16])
    cost = quote(volume, card, probabilities="all")
    assert cost.windows == 1 * 3 * 3
    assert cost.memory_bytes > 4 * 3 * 64**3
    assert any("resampled from 64 x 64 x 64 to 32 x 32 x 32" in note for note in cost.notes)
    assert any("padded to 32 x 32 x 48" in note for note in cost.notes)
    assert "9 windows" in str(cost)
    with pytest.raises(InputError, match="'windw' is no argument"):
        quote(volume, card, windw=3)


def write_model(folder):
    from safetensors.torch import save_file

    torch.manual_seed(2)
    folder.mkdir(exist_ok=True)
    save_file(build("unet", dims=3, out_channels=3, channels=(2, 4)).state_dict(), folder / "w")
    card = {
        "name": "tiny",
        "version": "3",
        "loader": "safetensors",
        "weights": "w",
        "architecture": {"name": "unet", "args": {"out_channels": 3, "channels": [2, 4]}},
        "input": {"channels": [{"name": "CT", "modality": "CT", "intensity": {"rule": "zscore"}}], "divisible_by": 2},
        "window": {"size": [4, 4, 4]},
        "output": {"kind": "labels", "labels": {"1": "a", "2": "b"}},
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_the_history_names_model_and_parameters_and_replays(tmp_path):
    from napari_lightbox.recipe import Recipe

    folder = write_model(tmp_path / "m")
    volume = make((2, 6, 7, 8), meta={"modality": "CT", "unit": "HU", "series": "7"})
    found = predict(volume, folder, probabilities="all", uncertainty=True, mirror=(0,), overlap=0.25)
    step = found.labels.history[-1]
    assert step["operation"] == "predict"
    assert step["model"] == {"name": "tiny", "version": "3", "sha256": models.load(folder).sha256}
    assert step["parameters"]["overlap"] == 0.25
    assert found.labels.meta["series"] == "7"
    assert "unit" not in found.labels.meta
    for result in (found.labels, found.probability("b"), found.uncertainty):
        path = Recipe.of(result).save(tmp_path / "recipe.json")
        again = Recipe.load(path).run(volume)
        assert np.array_equal(again.data, result.data)
        assert (again.name, again.kind, again.grid) == (result.name, result.kind, result.grid)
        assert again.history == result.history
    step["model"]["sha256"] = "0" * 64
    with pytest.raises(InputError, match="not those the recipe was made with"):
        models.replay(step, volume, step["parameters"])


def test_a_function_cannot_be_replayed():
    from napari_lightbox.recipe import Recipe

    found = predict(make(), identity)
    with pytest.raises(InputError, match="Python function"):
        Recipe.of(found.labels).run(make())


def test_predict_is_a_function_whatever_was_imported():
    import napari_lightbox.models.predict  # noqa: F401

    assert callable(models.predict)
    assert models.predict is predict
