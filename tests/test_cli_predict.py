"""`lightbox predict`: its options are those of predict, and what is done already is not done again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cli_folder import fill, run

import napari_lightbox as lb

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

ARGS = {"dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "norm": "batch"}
ADDED = ["--window", "16,16,8", "--overlap", "0.25"]


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    """Work in a folder with an image, and two models of the same classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))
    from napari_lightbox.models.networks import build

    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        Path(name).mkdir()
        safetensors_torch.save_file(build("unet", **ARGS).state_dict(), f"{name}/w.safetensors")
        card = {
            "name": name, "loader": "safetensors", "weights": "w.safetensors",
            "architecture": {"name": "unet", "args": ARGS},
            "input": {"dims": 3, "channels": [{"name": "any", "intensity": {"rule": "zscore"}}], "divisible_by": 2},
            "output": {"kind": "labels", "labels": {"1": "organ", "2": "lesion"}},
        }  # fmt: skip
        Path(name, "card.json").write_text(json.dumps(card))
    return fill(rng)


def test_every_option_reaches_predict(here):
    rules = {"organ": {"keep_largest": True}}
    run(
        "predict", "one", "a.nii.gz", "--out", "out", "--also", "two", "--uncertainty", "mutual_information",
        "--mirror", "--activation", "softmax", "--precision", "exact", "--memory", "500MB", "--post", json.dumps(rules),
        "--probability", "lesion", "--device", "cpu", "--blending", "constant", "--seed", "3", "--force", *ADDED,
    )  # fmt: skip
    names = ("a_one.nii.gz", "a_one_mutual_information.nii.gz", "a_one_p_lesion.nii.gz")
    assert sorted(os.listdir("out")) == list(names)
    wanted = lb.models.predict(
        here, [lb.models.load("one"), lb.models.load("two")], uncertainty="mutual_information", mirror=True,
        post=rules, probabilities="lesion", device="cpu", window=(8, 16, 16), overlap=0.25, blending="constant",
    )  # fmt: skip
    labels, doubt, probability = (lb.read(Path("out", name)) for name in names)
    np.testing.assert_array_equal(labels.data, wanted.labels.data)
    np.testing.assert_allclose(doubt.data, wanted.uncertainty.data, atol=1e-6)
    np.testing.assert_allclose(probability.data, wanted.probability("lesion").data, atol=1e-6)


def test_what_was_done_is_kept_and_other_choices_are_told(here, capsys):
    call = ["predict", "one", "a.nii.gz", "--out", "out", *ADDED]
    run(*call)
    made = os.stat("out/a_one.nii.gz").st_mtime_ns
    lb.write(here.replace(data=here.data + 1), "c.nii.gz")
    run("predict", "one", "a.nii.gz", "c.nii.gz", "--out", "out", "--memory", "2", *ADDED)
    assert "a: done before" in capsys.readouterr().out
    assert os.stat("out/a_one.nii.gz").st_mtime_ns == made
    assert Path("out/c_one.nii.gz").is_file()
    post = '{"organ": {"fill_holes": true}}'
    for more in (
        ["--also", "two"],
        ["--activation", "sigmoid"],
        ["--skip-below", "-100"],
        ["--post", post],
        ["--mirror"],
    ):
        run(*call, *more, code=1)
        assert "was not made by these steps" in capsys.readouterr().err, more
    assert os.stat("out/a_one.nii.gz").st_mtime_ns == made


def test_all_images_of_a_network_are_written(here):
    card = json.loads(Path("one/card.json").read_text())
    Path("one/card.json").write_text(json.dumps({**card, "output": {"kind": "image"}}))
    run("predict", "one", "a.nii.gz", "--out", "out", "--device", "cpu")
    wanted = lb.models.predict(here, "one", device="cpu")
    for channel in range(3):
        found = lb.read(f"out/a_one_{channel}.nii.gz")
        np.testing.assert_allclose(found.data, wanted.output(channel).data, atol=1e-6)


@pytest.mark.parametrize("text", ["much", "0", "150%", "-3"])
def test_memory_that_means_nothing_is_refused(here, capsys, text):
    run("predict", "one", "a.nii.gz", "--out", "out", f"--memory={text}", code=2)
    assert "--memory" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0,0,0", "16,16", "16,-8,8", "16,16,8.5", "large"])
def test_a_window_that_is_none_is_refused_as_it_was_typed(here, capsys, text):
    run("predict", "one", "a.nii.gz", "--out", "out", f"--window={text}", code=2)
    said = capsys.readouterr().err
    assert f"--window {text!r} must be 3 whole numbers above 0, x,y,z" in said
    assert not Path("out").exists()


def test_a_suffix_that_cannot_hold_the_results_is_refused_before_the_work(here, capsys, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(lb.models, "predict", never)
    run("predict", "one", "a.nii.gz", "--out", "out", "--suffix", ".png", code=1)
    said = capsys.readouterr().err
    assert "--suffix .png does not suit the results, a picture holds one slice and the volume has 10 x 8 x 6" in said
    assert ".lightbox" not in said
    lb.write(lb.Volume(here.data[:1].astype(np.uint8), lb.Grid.from_spacing((1, 1, 1), (1, 8, 10))), "slice.png")
    run("predict", "one", "slice.png", "--out", "out", "--suffix", ".png", "--uncertainty", "--force", code=1)
    assert ".png holds uint8 and uint16 and the volume is float32" in capsys.readouterr().err
    run("predict", "one", "slice.png", "--out", "out", "--suffix", ".jpg", "--force", code=1)
    assert "JPEG changes values a little and would spoil labels" in capsys.readouterr().err
    assert os.listdir("out") == []


def test_a_result_that_cannot_be_written_names_the_place_asked_for(here, capsys):
    lb.Recipe((lb.Step("median", {"size": 3}),)).save("steps.json")
    run("run", "steps.json", "a.nii.gz", "--out", "out", "--suffix", ".png", code=1)
    assert f"{Path('out', 'a_steps.png')} was not written, a picture holds one slice" in capsys.readouterr().err


def test_an_image_of_another_modality_is_told_apart_in_words_and_may_be_forced(here, capsys):
    card = json.loads(Path("one/card.json").read_text())
    card["input"]["channels"] = [{"name": "any", "modality": "US", "intensity": {"rule": "zscore"}}]
    Path("one/card.json").write_text(json.dumps(card))
    lb.write(here.replace(meta={"modality": "MR"}), "mr.nii.gz")
    call = ["predict", "one", "mr.nii.gz", "--out", "out", "--device", "cpu", *ADDED]
    run(*call, code=1)
    said = "is MR, but model 'one' is made for ultrasound (US): choose another image or another model"
    assert f"{said}, or add --force" in capsys.readouterr().err
    run(*call, "--force")
    assert said in capsys.readouterr().out


def test_too_little_memory_is_told_in_one_unit(here, capsys):
    run("predict", "one", "a.nii.gz", "--out", "out", "--device", "cpu", "--memory", "1MB", code=1)
    assert "of memory and 1 MB are allowed: allow more with --memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--uncertainty", "variance"], "add --also MODEL, --samples N (of a model with dropout) or --mirror, or take"),
        (["--samples", "3"], "samples 3 needs layers of dropout, and model 'one' has none"),
        (["--window", "5,5,5"], "divisible by 2"),
        (["--overlap", "1.5"], "overlap 1.5"),
        (["--post", '{"liver": {"fill_holes": true}}'], "liver"),
    ],
)
def test_choices_that_no_image_makes_right_are_told_once_before_the_first(here, capsys, monkeypatch, options, said):
    def never(*args, **kwargs):
        raise AssertionError("the image was read")

    monkeypatch.setattr("napari_lightbox.cli.predicting.read_input", never)
    run("predict", "one", "a.nii.gz", "mask.nii.gz", "--out", "out", *options, code=2)
    found = capsys.readouterr().err
    assert said in found
    assert "failed" not in found
    assert found.count("\n") == 1
    run("predict", "one", "a.nii.gz", "--out", "out", *options, "--overwrite", code=2)


def test_what_does_not_fit_into_memory_is_refused_before_the_work_and_the_next_case_is_done(here, capsys, monkeypatch):
    # It depends on what ran before in this process.
    monkeypatch.setattr("napari_lightbox.models.cost._COMPILER", 0)
    large = lb.Volume(np.zeros((64, 256, 256), np.int16), lb.Grid.from_spacing((1, 1, 1), (64, 256, 256)))
    lb.write(large, "large.nii")
    window = ["--window", "8,8,6", "--memory", "60MB", "--device", "cpu"]
    run("predict", "one", "large.nii", "a.nii.gz", "--out", "out", *window, code=1)
    said = capsys.readouterr().err
    assert "large: the prediction needs about" in said
    assert "60 MB are allowed: allow more with --memory, or crop or resample the image to" in said
    assert "1 of 2 cases failed: large" in said
    assert os.listdir("out") == ["a_one.nii.gz"]
    run("predict", "one", "a.nii.gz", "--out", "other", "--memory", "45MB", "--device", "cpu", code=1)
    said = capsys.readouterr().err
    assert "choose another model, as this one needs 52 MB whatever the image" in said
