"""Commands over many cases: what is done before is what the recipe would do, and results appear together."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.cli.batch import _write_together
from napari_lightbox.volume import Volume


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    """Work in a folder with ``a.nii.gz``; return its volume."""
    monkeypatch.chdir(tmp_path)
    grid = lb.Grid.from_spacing((3.0, 2.0, 1.0), (6, 8, 10), (-5.0, 10.0, 20.0))
    volume = Volume(rng.integers(0, 50, (6, 8, 10)).astype(np.int16), grid, name="a")
    lb.write(volume, "a.nii.gz")
    return volume


def run(*argv, code=0):
    assert main([str(a) for a in argv]) == code


def history(path):
    return [(s["operation"], s["parameters"].get("size")) for s in lb.read(path).history]


def test_a_changed_recipe_is_not_done_before(here, capsys):
    lb.Recipe.of(lb.apply("median", here, size=3)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out")
    lb.Recipe.of(lb.apply("median", here, size=7)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out", code=1)
    assert "was not made by these steps: add --overwrite" in capsys.readouterr().err
    assert history("out/a_r.nii.gz") == [("median", 3)]
    run("run", "r.json", "a.nii.gz", "--out", "out", "--overwrite")
    assert history("out/a_r.nii.gz") == [("median", 7)]
    # One step more before the same last one is another recipe too.
    lb.Recipe.of(lb.apply("median", lb.apply("median", here, size=3), size=7)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out", "--overwrite")
    lb.Recipe.of(lb.apply("median", here, size=7)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out", code=1)


@pytest.mark.parametrize("text", ['{"operation": "median"}', '{"operation": "median", "parameters": {"size": 3}}'])
def test_a_recipe_by_hand_is_done_before(here, text, capsys):
    lb.write(lb.apply("median", here, size=5), "b.nii.gz")  # an input with steps of its own
    Path("r.json").write_text(f'{{"lightbox_recipe": 1, "steps": [{text}]}}')
    for _ in range(2):
        run("run", "r.json", "a.nii.gz", "b.nii.gz", "--out", "out")
    assert capsys.readouterr().out.count("done before") == 2


def test_seeds_by_hand_are_done_before(here, capsys):
    step = {"operation": "region_grow", "parameters": {"seeds": [1, 16, 24], "threshold": 9}}
    Path("r.json").write_text(json.dumps({"lightbox_recipe": 1, "steps": [step]}))
    for _ in range(2):
        run("run", "r.json", "a.nii.gz", "--out", "out")
    assert "done before" in capsys.readouterr().out


def test_a_mask_stored_as_floats_is_read_as_labels(here):
    mask = here.replace(data=(here.data > 0).astype(np.float32), name="mask")
    lb.write(mask.replace(kind="image"), "mask.nii.gz")
    labels = mask.replace(data=mask.data.astype(np.uint8), kind="labels")
    grown = lb.apply("region_grow", here, labels, seeds=[here.grid.to_world(np.argwhere(here.data)[0])], threshold=20)
    lb.Recipe.of(grown).save("grow.json")
    run("run", "grow.json", "a.nii.gz", "--out", "out", "--with", "mask=mask.nii.gz")
    np.testing.assert_array_equal(lb.read("out/a_grow.nii.gz").data, grown.data)


def test_a_volume_that_no_step_asks_for_is_refused(here, capsys):
    lb.Recipe.of(lb.apply("median", here)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out", "--with", "msk=a.nii.gz", code=2)
    assert "names no further volume" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".nii.gz", ".mhd", ".nhdr"])
def test_results_of_a_case_are_replaced_together(here, tmp_path, suffix):
    out = tmp_path / "out"
    out.mkdir()
    targets = [out / f"{name}{suffix}" for name in "pq"]
    _write_together([here, here], targets)
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    class Broken:
        shape, dtype = here.data.shape, here.data.dtype

        def __getitem__(self, index):
            raise OSError(28, "No space left on device")

    newer = here.replace(data=here.data + 1)
    with pytest.raises(lb.FileError, match="disk is full"):
        _write_together([newer, here.replace(data=Broken())], targets)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    _write_together([newer, newer], targets)
    assert len(os.listdir(out)) == len(before)
    for path in targets:
        np.testing.assert_array_equal(lb.read(path).data, newer.data)


def test_another_window_is_not_done_before(here, capsys):
    torch = pytest.importorskip("torch")
    from napari_lightbox.models import networks
    from napari_lightbox.models.train import export

    torch.manual_seed(0)
    args = {"dims": 3, "channels": [2, 4]}
    card = {
        "name": "tiny",
        "architecture": {"name": "unet", "args": args},
        "input": {"channels": [{"name": "any"}], "divisible_by": 2},
        "output": {"kind": "labels", "labels": {"1": "a"}},
    }
    export(networks.build("unet", **args), card, "tiny")
    for _ in range(2):
        run("predict", "tiny", "a.nii.gz", "--out", "out", "--window", "8,8,4", "--probability", "a")
    assert "done before" in capsys.readouterr().out
    run("predict", "tiny", "a.nii.gz", "--out", "out", "--window", "4,8,4", "--probability", "a", code=1)
    assert "not made by these steps" in capsys.readouterr().err


def test_another_image_of_the_same_name_is_not_done_before(here, capsys):
    lb.Recipe.of(lb.apply("median", here, size=3)).save("r.json")
    run("run", "r.json", "a.nii.gz", "--out", "out")
    Path("other").mkdir()
    grid = lb.Grid.from_spacing((3.0, 2.0, 1.0), (6, 8, 10), (70.0, 10.0, 20.0))
    lb.write(Volume(here.data, grid, name="a"), "other/a.nii.gz")
    run("run", "r.json", "other/a.nii.gz", "--out", "out", code=1)
    assert "was made of another image than other/a.nii.gz" in capsys.readouterr().err
