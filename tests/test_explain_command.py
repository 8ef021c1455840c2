"""`lightbox explain` and its page, on a tiny model."""

import json

import numpy as np
import pytest
from tiny_model import write_tiny

import napari_lightbox as lb
from napari_lightbox.cli import main

pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with an image of two frames, a region, and a model with random weights."""
    data = np.random.default_rng(2).integers(0, 100, (2, 3, 16, 20)).astype(np.int16)
    grid = lb.Grid.from_spacing((3, 1, 1), data.shape, frames=lb.Frames("time", (0, 1), "s"))
    region = np.zeros(data.shape[1:], np.uint8)
    region[1, 4:8, 5:9], region[0, 0, 0] = 2, 1
    lb.write(lb.Volume(region, grid.without_frames(), "labels", "wrong"), tmp_path / "wrong.nii.gz")
    return write_tiny(tmp_path, lb.Volume(data, grid, name="scan"), overlap=0.5)


def test_the_command_writes_what_the_function_finds(folder, capsys):
    out = folder / "out"
    arguments = ["explain", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--label", "<thing>",
                 "--region", str(folder / "wrong.nii.gz"), "--value", "2", "--steps", "3",
                 "--out", str(out)]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    image, region = lb.read(folder / "scan.nii.gz"), lb.read(folder / "wrong.nii.gz", kind="labels")
    mask = region.replace(data=(region.data == 2).astype(np.uint8))
    expected = lb.models.attribute(image, str(folder / "tiny"), 1, region=mask, steps=3)
    found = lb.read(out / "map.nii.gz")
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-5, atol=1e-7)
    assert found.grid.same_space(image.grid)
    told = json.loads((out / "explained.json").read_text())
    assert told["attribution"]["frames"][1]["target"] == pytest.approx(
        expected.meta["attribution"]["frames"][1]["target"]
    )
    assert f"frame 1: target {told['attribution']['frames'][1]['target']:.6g}" in said
    page = (out / "explained.html").read_text()
    assert page.count("data:image/png") == 9
    assert "&lt;thing&gt;" in page
    assert "<thing>" not in page
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite", "--method", "grad_cam", "--frame", "1"]) == 0
    assert lb.read(out / "map.nii.gz").grid.frames is None


@pytest.mark.parametrize(
    ("method", "unit", "summed"),
    [
        ("gradient", "in logits", True),
        ("integrated_gradients", "add up to the whole change", True),
        ("grad_cam", "no unit", False),
        ("occlusion", "by how many logits", False),
    ],
)
def test_what_a_number_of_a_map_means_is_said_and_no_sum_that_says_nothing(folder, capsys, method, unit, summed):
    command = ["explain", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--label", "1", "--frame", "1"]
    assert main([*command, "--steps", "2", "--method", method, "--out", str(folder / "out")]) == 0
    said = capsys.readouterr()
    assert unit in said.err
    assert ("sum of the map" in said.out) is summed
    assert unit in (folder / "out" / "explained.html").read_text()


def test_mistakes_are_told_before_the_work(folder, capsys):
    common = ["explain", str(folder / "scan.nii.gz"), "--model", str(folder / "tiny"), "--out", str(folder / "out")]
    for more, sentence in (
        (["--label", "liver"], "class 'liver' is unknown"),
        (["--label", "1", "--method", "magic"], "method 'magic' is unknown"),
        (["--label", "1", "--patch", "1,x"], "--patch '1,x' must be a length"),
        (["--label", "1", "--frame", "7"], "frame 7 does not exist"),
    ):
        assert main([*common, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert not (folder / "out").exists()
