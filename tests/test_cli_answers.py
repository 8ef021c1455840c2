"""`lightbox predict` with models that answer for an image, find boxes, have several outputs, or cleaned labels."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from cli_folder import fill, run

import napari_lightbox as lb

torch = pytest.importorskip("torch")


class Everything(torch.nn.Module):
    """Labels what is bright, makes an image of twice the brightness, and says how bright it is."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seg": torch.cat([300 - x, x - 300], 1), "twice": 2 * x, "mean": x.mean((1, 2, 3, 4))[:, None]}


class Finder(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        places = torch.nonzero(x[0, 0] > 300)
        box = torch.cat([places.amin(0), places.amax(0) + 1]).to(torch.float32)[None]
        return [{"boxes": box, "scores": torch.tensor([0.5]), "labels": torch.tensor([1])}]


CARDS = {
    "bright": (
        Everything,
        {
            "outputs": {
                "seg": {"kind": "labels", "labels": {"1": "lesion"}},
                "twice": {"kind": "image"},
                "mean": {"kind": "value", "values": [{"name": "mean", "unit": "HU"}]},
            }
        },
    ),
    "finder": (Finder, {"output": {"kind": "boxes", "labels": {"1": "lesion"}}}),
}


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    """Work in a folder with two models and ``a.nii.gz``, which holds a bright block and one bright voxel apart."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTBOX_CONFIG", str(tmp_path / "config"))
    for name, (network, output) in CARDS.items():
        Path(name).mkdir()
        with pytest.warns(DeprecationWarning, match="script"):
            torch.jit.script(network()).save(f"{name}/w.pt")
        card = {"name": name, "loader": "torchscript", "weights": "w.pt", "input": {"channels": [{"name": "CT"}]}}
        Path(name, "card.json").write_text(json.dumps({**card, **output}))
    return fill(rng)


def test_a_value_is_printed_and_written_and_not_done_twice(here, capsys):
    argv = ("predict", "bright", "a.nii.gz", "--out", "out", "--output", "mean", "--trust")
    run(*argv)
    said = capsys.readouterr().out
    mean = here.data.astype(float).mean()
    assert f"a: mean {mean:.5g} HU" in said
    (row,) = csv.DictReader(Path("out/a_bright.csv").read_text().splitlines())
    assert float(row["value"]) == pytest.approx(mean, rel=1e-6)
    assert row["unit"] == "HU"
    assert json.loads(Path("out/a_bright.json").read_text())["rows"][0]["name"] == "mean"
    made = os.stat("out/a_bright.csv").st_mtime_ns
    run(*argv)
    assert "a: done before, out/a_bright.csv is there" in capsys.readouterr().out
    assert os.stat("out/a_bright.csv").st_mtime_ns == made
    run(*argv, "--mirror", code=1)
    assert "was made with mirror False: add --overwrite" in capsys.readouterr().err
    os.remove("out/a_bright.csv")
    run(*argv, code=1)
    assert "a_bright.csv is missing, but not its other file" in capsys.readouterr().err
    run("predict", "finder", "a.nii.gz", "mask.nii.gz", "--out", "found", "--trust", code=1)
    said = capsys.readouterr()
    assert "a: lesion 0.500 at" in said.out
    assert "mask: " in said.err
    (row,) = csv.DictReader(Path("found/a_finder.csv").read_text().splitlines())
    assert [float(row[name]) for name in ("z1", "y1", "x1", "z2", "y2", "x2")] == [1.5, 2.5, 1.5, 3.5, 5.5, 6.5]


def test_labels_are_cleaned_by_rules_from_text_and_file(here, capsys):
    here.data[5, 7, 9] = 999
    lb.write(here, "a.nii.gz")
    Path("rules.json").write_text('{"*": {"keep_largest": true}}')
    for number, rules in enumerate(('{"lesion": {"remove_below_ml": 0.01}}', "rules.json")):
        run("predict", "bright", "a.nii.gz", "--out", f"out{number}", "--post", rules, "--trust")
        labels = lb.read(f"out{number}/a_bright.nii.gz")
        assert labels.data.sum() == 2 * 3 * 5
        assert "post-processing of lesion: 1 of 2 components removed" in capsys.readouterr().out
    run("predict", "bright", "a.nii.gz", "--out", "out0", "--post", '{"lesion": {"remove_below_ml": 0.01}}', "--trust")
    assert "done before" in capsys.readouterr().out
    run("predict", "bright", "a.nii.gz", "--out", "out0", code=1)
    assert "was not made by these steps" in capsys.readouterr().err
    run("predict", "bright", "a.nii.gz", "--out", "out2")
    assert lb.read("out2/a_bright.nii.gz").data.sum() == 31
    run("predict", "bright", "a.nii.gz", "--out", "out3", "--output", "twice")
    np.testing.assert_allclose(lb.read("out3/a_bright.nii.gz").data, 2 * here.data)


def test_wrong_rules_and_outputs_are_refused(here, capsys):
    for more, match in (
        (("--post", "nothing.json"), "nothing.json is neither JSON such as"),
        (("--post", "{lung}"), "is not JSON"),
        (("--post", '{"liver": {}}'), "class 'liver' is unknown: use lesion"),
        (("--output", "none"), "output 'none' is unknown to model 'bright': use seg, twice, mean"),
    ):
        run("predict", "bright", "a.nii.gz", "--out", "out", "--trust", *more, code=2)
        said = capsys.readouterr().err
        assert match in said
