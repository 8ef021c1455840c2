"""Many cases on the command line, with recipes and with models."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cli_folder import fill, run

import napari_lightbox as lb
from napari_lightbox.cli.batch import case_name


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    """Work in a folder with ``a.nii.gz``, a small oblique-free volume, and ``mask.nii.gz`` on its grid."""
    monkeypatch.chdir(tmp_path)
    return fill(rng)


# Many cases ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(here):
    return lb.Recipe.of(lb.apply("otsu", lb.apply("median", here))).save("steps.json")


def test_a_bad_case_does_not_stop_the_rest(here, recipe, capsys):
    lb.write(here.replace(data=here.data + 1), "c.nii.gz")
    Path("b.nii.gz").write_bytes(b"no volume")
    run("run", recipe, "a.nii.gz", "b.nii.gz", "c.nii.gz", "--out", "out", code=1)
    said = capsys.readouterr()
    assert "1 of 3 cases failed: b" in said.err
    assert sorted(os.listdir("out")) == ["a_steps.nii.gz", "c_steps.nii.gz"]
    expected = lb.apply("otsu", lb.apply("median", here))
    np.testing.assert_array_equal(lb.read("out/a_steps.nii.gz").data, expected.data)


def test_a_run_goes_on_where_it_was(here, recipe, capsys):
    run("run", recipe, "a.nii.gz", "--out", "out")
    made = os.stat("out/a_steps.nii.gz").st_mtime_ns
    run("run", recipe, "a.nii.gz", "--out", "out")
    assert "done before" in capsys.readouterr().out
    assert os.stat("out/a_steps.nii.gz").st_mtime_ns == made
    run("run", recipe, "a.nii.gz", "--out", "out", "--overwrite")
    assert os.stat("out/a_steps.nii.gz").st_mtime_ns != made


def test_two_cases_of_one_name_are_refused(here, recipe, capsys):
    Path("d").mkdir()
    lb.write(here, "d/a.nii.gz")
    run("run", recipe, "a.nii.gz", "d/a.nii.gz", "--out", "out", code=2)
    assert "same name" in capsys.readouterr().err


def test_a_recipe_gets_its_further_volumes(here, capsys):
    mask = lb.read("mask.nii.gz")
    grown = lb.apply("region_grow", here, mask, seeds=[[1, 16, 24]], threshold=1e5)
    lb.Recipe.of(grown).save("grow.json")
    run("run", "grow.json", "a.nii.gz", "--out", "out", code=2)
    assert "'mask'" in capsys.readouterr().err
    run("run", "grow.json", "a.nii.gz", "--out", "out", "--with", "mask=mask.nii.gz")
    np.testing.assert_array_equal(lb.read("out/a_grow.nii.gz").data, grown.data)


def test_case_names():
    assert case_name("x/ct.nii.gz") == "ct"
    assert case_name("x/y.seg.nrrd") == "y"
    assert case_name("folder/") == "folder"


# Models -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bright(here):
    """Write a model of one layer that finds what is brighter than 300."""
    torch = pytest.importorskip("torch")
    from napari_lightbox.models import networks

    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    args = {"dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8]}
    torch.manual_seed(0)
    network = networks.build("unet", **args)
    Path("bright").mkdir()
    save_file(network.state_dict(), "bright/weights.safetensors")
    card = {
        "name": "bright",
        "loader": "safetensors",
        "weights": "weights.safetensors",
        "architecture": {"name": "unet", "args": args},
        "input": {"dims": 3, "channels": [{"name": "any"}], "divisible_by": 8},
        "output": {"kind": "labels", "labels": {"1": "bright"}},
    }
    Path("bright/card.json").write_text(json.dumps(card))
    return "bright"


def test_predict_writes_what_was_asked_for(here, bright):
    run("predict", bright, "a.nii.gz", "--out", "out", "--probability", "bright", "--uncertainty", "--device", "cpu")
    assert sorted(os.listdir("out")) == [
        "a_bright.nii.gz",
        "a_bright_p_bright.nii.gz",
        "a_bright_uncertainty.nii.gz",
    ]
    expected = lb.models.predict(here, lb.models.load(bright), probabilities=1, uncertainty=True, device="cpu")
    labels = lb.read("out/a_bright.nii.gz")
    np.testing.assert_array_equal(labels.data, expected.labels.data)
    assert labels.labels[1].name == "bright"
    assert labels.grid.same_space(here.grid)
    np.testing.assert_allclose(lb.read("out/a_bright_p_bright.nii.gz").data, expected.probability(1).data, atol=1e-6)


def test_predict_names_a_bad_case(here, bright, capsys):
    Path("b.nii.gz").write_bytes(b"no volume")
    run("predict", bright, "b.nii.gz", "a.nii.gz", "--out", "out", code=1)
    assert "1 of 2 cases failed: b" in capsys.readouterr().err
    assert os.listdir("out") == ["a_bright.nii.gz"]


def test_a_class_that_does_not_exist_is_refused(here, bright, capsys):
    run("predict", bright, "a.nii.gz", "--out", "out", "--probability", "dark", code=2)
    assert "background, bright" in capsys.readouterr().err


def test_shipped_models_are_listed(capsys):
    run("models")
    text = capsys.readouterr().out
    for name, card in lb.models.available().items():
        assert name in text
        assert card.licence in text


def test_a_finished_model_is_not_trained_over(here, bright, capsys):
    run("train", "ct-regions", "--out", bright, code=2)
    assert "--overwrite" in capsys.readouterr().err
