"""The command line: what is told beside the result, in the words of the command line."""

import json

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import phantoms_dicom
from napari_lightbox.cli import main
from napari_lightbox.cli.words import typed
from napari_lightbox.geometry import Frames
from napari_lightbox.volume import Volume


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Notes of reading -------------------------------------------------------------------------------------------------


def test_interpolated_slices_are_told(here, capsys):
    files = phantoms_dicom.write_series("scan")
    files[len(files) // 2].unlink()
    assert main(["convert", "scan", "even.nii.gz"]) == 2
    said = capsys.readouterr().err
    assert "open it with --even, which" in said
    assert "even=True" not in said
    assert main(["convert", "scan", "even.nii.gz", "--even"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("lightbox: note: slice ")
    assert "interpolated" in said
    assert said.count("\n") == 1
    gaps = lb.read("even.nii.gz").meta["gaps"]
    assert len(gaps) == 1
    assert main(["info", "even.nii.gz"]) == 0
    assert f"gaps         slice {gaps[0]} (counted from 0) was missing" in capsys.readouterr().out
    assert main(["info", "even.nii.gz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["gaps"] == gaps
    # The numbers of the slices are others on another grid.
    assert main(["convert", "even.nii.gz", "fine.nii.gz", "--spacing", "6"]) == 0
    assert main(["info", "fine.nii.gz"]) == 0
    assert "gaps" not in capsys.readouterr().out


# Sizes ------------------------------------------------------------------------------------------------------------


def test_an_unknown_pixel_size_is_not_printed(here, capsys):
    data = np.arange(16 * 4 * 480, dtype=np.int16).reshape(16, 4, 20, 24)
    lb.write(Volume.from_array(data, frames=Frames("time", tuple(range(16)), "s")), "cine.nii.gz")
    assert main(["convert", "cine.nii.gz", "o.nrrd"]) == 0
    said = capsys.readouterr()
    assert said.out == "o.nrrd: image, 24 x 20 x 4 voxels, 16 frames (time), spacing unknown\n"
    assert said.err == ""
    for argv in (
        ["convert", "cine.nii.gz", "o.nrrd", "--spacing", "2"],
        ["apply", "gaussian", "cine.nii.gz", "--sigma", "2", "--out", "o.nrrd"],
    ):
        assert main([*argv, "--overwrite"]) == 0
        said = capsys.readouterr()
        assert "spacing unknown" in said.out
        assert "is unknown and counted as 1 x 1 x 1 mm" in said.err
        assert "--pixel-size" in said.err
        assert main([*argv, "--overwrite", "--pixel-size", "2,2,2"]) == 0
        said = capsys.readouterr()
        assert "of 2 x 2 x 2 mm, 16 frames (time)" in said.out
        assert said.err == ""
    assert main(["apply", "median", "cine.nii.gz", "--out", "o.nrrd", "--overwrite"]) == 0
    assert capsys.readouterr().err == ""


# Names ------------------------------------------------------------------------------------------------------------


def test_a_further_volume_goes_by_the_parameter_too(here, capsys):
    grid = lb.Grid.from_spacing((1.0, 1.0, 1.0), (4, 6, 8))
    image = Volume(np.arange(192, dtype=np.int16).reshape(4, 6, 8), grid, name="a")
    lb.write(image, "a.nii.gz")
    mask = image.replace(data=(image.data > 100).astype(np.uint8), kind="labels", name="lung of Ada")
    lb.write(mask, "mask.nii.gz")
    assert main(["apply", "crop", "a.nii.gz", "mask.nii.gz", "--out", "c.nii.gz", "--recipe", "r.json"]) == 0
    assert main(["run", "r.json", "a.nii.gz", "--out", "done", "--with", "mask=mask.nii.gz"]) == 0
    assert np.array_equal(lb.read("done/a_r.nii.gz").data, lb.read("c.nii.gz").data)
    assert main(["run", "r.json", "a.nii.gz", "--out", "again", "--with", "lung of Ada=mask.nii.gz"]) == 0
    assert main(["run", "r.json", "a.nii.gz", "--out", "other", "--with", "masks=mask.nii.gz"]) == 2
    assert "it needs 'lung of Ada'" in capsys.readouterr().err


def test_overlapping_structures_go_to_several_files(data, here, capsys):
    file = str(data("dicom_seg/seg_image_ct_binary_overlap.dcm"))
    assert main(["measure", file]) == 2
    assert "lightbox convert FILE OUT.nii.gz" in capsys.readouterr().err
    assert main(["convert", file, "out.nii.gz"]) == 0
    said = capsys.readouterr().out
    assert "out_1.nii.gz" in said
    assert "out_2.nii.gz" in said
    for n, volume in enumerate(lb.read_masks(file), start=1):
        assert np.array_equal(lb.read(f"out_{n}.nii.gz").data, volume.data)
    assert not (here / "out.nii.gz").exists()
    assert main(["convert", file, "out.nii.gz"]) == 2
    assert "out_1.nii.gz exists" in capsys.readouterr().err


# Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "here"),
    [
        ("choose one (series=...), or open all of them by read_all", "choose one (--series WHICH)"),
        ("put both into one folder, or read it by read_masks with the image as 'like'", "put both into one folder"),
        ("name one of them by key=...", "name one of them by --key NAME"),
        ("so say so by axes=...", "so say so by --axes LETTERS"),
        ("choose kind='regions' if classes may overlap", "add --regions if classes may overlap"),
        ("open the file with kind='image' if", "open the file with --read-as image if"),
        ("open it with even=True (--even on the command line), which", "open it with --even, which"),
        ("like=read('a', even=True)", "like=read('a', --even)"),
        ("mankind='image' stays", "mankind='image' stays"),
    ],
)
def test_remedies_are_options(python, here):
    assert typed(python) == here


def test_arguments_of_python_are_not_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    phantoms_dicom.write_series("both/one")
    phantoms_dicom.write_series("both/two", seed=1)
    assert main(["convert", "both", "o.nii.gz"]) == 2
    said = capsys.readouterr().err
    assert "(--series WHICH)" in said
    assert "read_all" not in said
    volume = Volume.from_array(np.ones((2, 3, 4), np.uint8), (1, 1, 1), kind="labels")
    lb.write(volume, "labels.nii.gz")
    assert main(["apply", "gaussian", "labels.nii.gz", "--out", "o.nii.gz"]) == 2
    assert "with --read-as image if" in capsys.readouterr().err
