"""`lightbox sweep` and its page, on a tiny model that finds what is bright."""

import csv
import json
import re

import numpy as np
import pytest
from tiny_model import write_tiny

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.models import sweep
from napari_lightbox.report.sweeps import curve_svg, write_sweep

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with an image, its labels, and a model with random weights."""
    image = np.random.default_rng(2).integers(0, 100, (3, 16, 20)).astype(np.int16)
    grid = lb.Grid.from_spacing((3, 1, 1), image.shape)
    lb.write(lb.Volume((image > 50).astype(np.uint8), grid, "labels", "truth"), tmp_path / "truth.nii.gz")
    scan = lb.Volume(image, grid, name="scan")
    return write_tiny(tmp_path, scan, intensity={"rule": "window", "low": 0, "high": 100})


def test_the_command_writes_what_the_function_finds(folder, capsys):
    out = folder / "out"
    arguments = ["sweep", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--perturbation", "blur",
                 "--reference", str(folder / "truth.nii.gz"), "--out", str(out), "--strengths", "1,3", "--mend",
                 "--option", "mode=nearest"]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    expected = sweep(
        lb.read(folder / "scan.nii.gz"),
        str(folder / "tiny"),
        "blur",
        [1, 3],
        reference=lb.read(folder / "truth.nii.gz", kind="labels"),
        options={"mode": "nearest"},
    )
    told = json.loads((out / "sweep.json").read_text())
    assert [p["mean"] for p in told["curve"]] == pytest.approx([p.mean for p in expected.curve()])
    assert f"3 mm: Dice {expected.curve()[-1].mean:.4f}" in said
    assert told["steps"][1]["steps"][0]["parameters"]["mode"] == "nearest"
    assert len(told["mended"]) == 8
    assert len(list(csv.DictReader((out / "sweep.csv").open()))) == 3
    page = (out / "sweep.html").read_text()
    assert page.count("data:image/png") == 3
    assert "<thing>" not in page
    assert "&lt;thing&gt;" in page
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0


def test_mistakes_are_told_before_the_work(folder, capsys):
    common = ["sweep", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--out", str(folder / "out")]
    for more, sentence in (
        (["--perturbation", "rain"], "perturbation 'rain' is unknown"),
        (["--perturbation", "blur", "--strengths", "1,x"], "--strengths '1,x' must be numbers"),
        (["--perturbation", "blur", "--option", "across"], "must be NAME=VALUE"),
        (["--perturbation", "blur", "--label", "liver"], "label 'liver' is unknown"),
    ):
        assert main([*common, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--perturbation", "soap"], "perturbation 'soap' is unknown"),
        (["--perturbation", "gamma", "--strengths", "0.5,2"], "lie on both sides of 1"),
        (["--perturbation", "gamma", "--option", "soap=1"], "has no parameter 'soap'"),
        (["--perturbation", "gamma", "--repeats", "0"], "--repeats must be a whole number of at least 1"),
        (["--perturbation", "gamma", "--seed", "-1"], "--seed must be a whole number of at least 0"),
        (["--perturbation", "gamma", "--label", "liver"], "--label 'liver' is unknown to model"),
        (["--perturbation", "gamma", "--device", "abacus"], "device 'abacus' is unknown"),
        (["--perturbation", "gamma", "--reference", "none.nii"], "none.nii does not exist"),
        (["--perturbation", "gamma"], "sweep.html exists: choose another folder, or add --overwrite"),
    ],
)
def test_the_call_is_checked_before_what_lies_in_the_folder(folder, capsys, more, said):
    (folder / "out").mkdir()
    (folder / "out" / "sweep.html").touch()
    common = ["sweep", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--out", str(folder / "out")]
    assert main([*common, *more]) == 2
    assert said in capsys.readouterr().err


def test_the_drawn_curve_lies_where_the_scores_are(tmp_path):
    image = lb.Volume.from_array(np.tile(np.arange(20.0), (2, 10, 1)), spacing=(1, 1, 1))
    truth = lb.Volume((image.data > 9).astype(np.uint8), image.grid, "labels", "truth")
    found = sweep(image, lambda x: 50 * (x - 9.5), "intensity_shift", [4, 8], reference=truth)
    drawn = curve_svg(found)
    points = [tuple(map(float, p.split(","))) for p in re.search(r'polyline points="([^"]+)"', drawn)[1].split()]
    heights = {v: float(y) for y, v in re.findall(r'y1="([\d.]+)" y2="[\d.]+" stroke="#e4e7eb"/>[^>]*>([\d.]+)', drawn)}
    zero, one = heights["0"], heights["1"]
    assert [(zero - y) / (zero - one) for _, y in points] == pytest.approx([p.mean for p in found.curve()], abs=1e-3)
    (left, _), (middle, _), (right, _) = points
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    line = float(re.search(r'x1="([\d.]+)" x2="[\d.]+" y1="\d+" y2="\d+" stroke="#c62828"', drawn)[1])
    assert line == pytest.approx(left + (right - left) * found.breaking_point() / 8, abs=0.1)
    alone = sweep(image, lambda x: 50 * (x - 9.5), "intensity_shift", [4, 8])
    drawn = curve_svg(alone, "volume")
    points = [tuple(map(float, p.split(","))) for p in re.search(r'polyline points="([^"]+)"', drawn)[1].split()]
    # Of the axis up to 1.05 times the largest of 0.2, 0.28 and 0.36 ml.
    assert [(zero - y) / (zero - one) for _, y in points] == pytest.approx(
        [v / (1.05 * 0.36) for v in (0.2, 0.28, 0.36)], abs=1e-3
    )
    assert "Volume (ml)" in (write_sweep(tmp_path / "alone", alone)[2]).read_text()
    files = write_sweep(tmp_path / "new", found)
    assert [f.name for f in files] == ["sweep.csv", "sweep.json", "sweep.html"]
