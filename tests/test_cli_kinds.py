"""The command line: what the values of a file are taken for, and what is refused."""

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import phantoms_dicom
from napari_lightbox.cli import main, reading
from napari_lightbox.volume import Volume

GRID = lb.Grid.from_spacing((3.0, 2.0, 1.0), (6, 8, 10))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(name, values, **meta):
    """Write a volume of kind image whose first voxels are `values`."""
    data = np.zeros((6, 8, 10), np.asarray(values).dtype)
    data.ravel()[: len(values)] = values
    lb.write(Volume(data, GRID, name=name.split(".")[0], meta=meta), name)


GREY = {
    "negative": ([-1000, 40], {}),
    "fractions": ([0.5, 2.0], {}),
    "large": ([70000], {}),
    "modality": ([1, 2], {"modality": "CT"}),
    "unit": ([1, 2], {"unit": "HU"}),
}


@pytest.mark.parametrize("command", ["measure", "fill_holes", "components"])
@pytest.mark.parametrize("name", GREY)
def test_grey_values_are_no_labels(here, capsys, name, command):
    values, meta = GREY[name]
    save("grey.nrrd", values, **meta)
    argv = ["measure", "grey.nrrd"] if command == "measure" else ["apply", command, "grey.nrrd", "--out", "o.nii.gz"]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"lightbox: {command} works on labels, and 'grey' holds grey values")
    assert "--read-as labels if its numbers are labels" in said
    assert said.count("\n") == 1
    assert not (here / "o.nii.gz").exists()
    if name not in ("negative", "fractions"):
        assert main([*argv, "--read-as", "labels"]) == 0
    assert main([*argv, "--overwrite", "--read-as", "image"]) == 2
    assert "--read-as labels" in capsys.readouterr().err


def test_a_thousand_values_are_no_labels():
    many = Volume.from_array(np.arange(1001, dtype=np.uint16)[None, None])
    assert "1001" in reading.why_no_labels(many)
    assert reading.why_no_labels(Volume.from_array(np.arange(1000.0)[None, None])) is None
    assert reading.why_no_labels(Volume.from_array(np.array([[[np.nan, 1.0]]]))) == "not whole numbers"


def test_plain_numbers_are_labels_where_labels_are_needed(here, capsys):
    save("seg.nii.gz", np.array([3, 3, 0, 7], np.float32))
    assert main(["measure", "seg.nii.gz"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["3", "7"]
    assert main(["apply", "fill_holes", "seg.nii.gz", "--out", "o.nii.gz"]) == 0
    assert lb.read("o.nii.gz").kind == "labels"


def test_a_mask_of_grey_values_is_refused(here, capsys):
    save("a.nii.gz", np.arange(400, dtype=np.int16))
    save("ct.nii.gz", [-1000, 40])
    assert main(["apply", "region_grow", "a.nii.gz", "ct.nii.gz", "--seeds", "1,2,3", "--out", "o.nii.gz"]) == 2
    assert "ct.nii.gz holds grey values" in capsys.readouterr().err


def test_a_folder_of_images_alone_is_not_measured(here, capsys):
    phantoms_dicom.write_series("scan")
    assert main(["measure", "scan"]) == 2
    assert "holds grey values (CT" in capsys.readouterr().err


def test_the_segmentations_of_a_folder_are_measured(data, tmp_path, capsys):
    folder = tmp_path / "both"
    folder.mkdir()
    for file in [*data("dicom_seg/ct-3slice").rglob("*"), data("dicom_seg/liver.dcm")]:
        if file.is_file():
            (folder / file.name).symlink_to(file)
    assert main(["measure", str(folder)]) == 0
    assert "Liver" in capsys.readouterr().out
    (folder / "second.dcm").symlink_to(data("dicom_seg/seg_image_ct_binary.dcm"))
    assert main(["measure", str(folder)]) == 2
    assert "holds 2 segmentations" in capsys.readouterr().err
    assert main(["measure", str(folder), "--series", "Liver"]) == 0


def test_an_image_that_may_be_labels_is_told(here, capsys):
    save("seg.nii.gz", np.array([1, 2, 3], np.uint8))
    for argv in (["convert", "seg.nii.gz", "o.nii.gz", "--spacing", "2"], ["apply", "median", "seg.nii.gz", "--out"]):
        argv = [*argv, "o.nii.gz"] if argv[-1] == "--out" else argv
        assert main([*argv, "--overwrite"]) == 0
        said = capsys.readouterr().err
        assert said == "lightbox: note: 'seg' is taken as an image; if its numbers are labels, add --read-as labels\n"
        main([*argv, "--overwrite", "--read-as", "image"])
        assert "taken as an image" not in capsys.readouterr().err
    save("scan.nii.gz", np.arange(200, dtype=np.int16))
    assert main(["convert", "scan.nii.gz", "p.nii.gz", "--spacing", "2"]) == 0
    assert main(["convert", "seg.nii.gz", "q.nii.gz"]) == 0
    assert capsys.readouterr().err == ""


# Labels stored as fractions, and recipes of labels ---------------------------------------------------------------


def blocks():
    """Write ``seg.nii.gz``: labels 2 and 5 stored as floats, as programs without types do, and no word of it."""
    nib = pytest.importorskip("nibabel")
    data = np.zeros((12, 20, 20), np.float32)
    data[2:6, 4:9, 4:9], data[7:9, 2:6, 12:18] = 2, 5
    nib.save(nib.Nifti1Image(data.T, np.diag([1, 1, 2, 1])), "seg.nii.gz")
    return data


@pytest.mark.parametrize("operation", ["erosion", "median", "affine"])
def test_labels_stored_as_fractions_are_told(here, capsys, operation):
    blocks()
    argv = [
        "apply",
        operation,
        "seg.nii.gz",
        "--out",
        "o.nii.gz",
        *(["--radius", "1"] if operation == "erosion" else []),
    ]
    assert main(argv) == 0
    assert "if its numbers are labels, add --read-as labels" in capsys.readouterr().err
    again = main([*argv, "--overwrite", "--read-as", "labels"])
    assert again == (2 if operation == "median" else 0)
    assert "is taken as an image" not in capsys.readouterr().err


def test_crop_wants_a_mask(here, capsys):
    data = blocks()
    lb.write(Volume(np.arange(4800, dtype=np.int16).reshape(12, 20, 20), lb.read("seg.nii.gz").grid), "a.nii.gz")
    assert main(["apply", "crop", "a.nii.gz", "a.nii.gz", "--out", "o.nii.gz"]) == 2
    assert "a.nii.gz holds grey values (4800 different ones), where labels are needed" in capsys.readouterr().err
    assert main(["apply", "crop", "a.nii.gz", "seg.nii.gz", "--out", "o.nii.gz"]) == 0
    box = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(data)]
    assert lb.read("o.nii.gz").data.shape == tuple(b - a for a, b in box)


@pytest.mark.parametrize("step", [["fill_holes"], ["crop"], ["erosion", "--radius", "1"]])
def test_a_recipe_of_labels_reads_labels(here, capsys, step):
    data = blocks()
    lb.write(Volume(data - 7, lb.read("seg.nii.gz").grid), "grey.nii.gz")
    name, *options = step
    argv = ["apply", name, "seg.nii.gz", *options, "--read-as", "labels", "--out", "o.nii.gz", "--recipe", "r.json"]
    assert main(argv) == 0
    assert main(["run", "r.json", "seg.nii.gz", "--out", "runs"]) == 0
    made = lb.read("runs/seg_r.nii.gz")
    assert made.kind == "labels"
    assert np.array_equal(made.data, lb.read("o.nii.gz").data)
    assert main(["run", "r.json", "seg.nii.gz", "--out", "runs"]) == 0
    assert "done before" in capsys.readouterr().out
    assert main(["run", "r.json", "grey.nii.gz", "--out", "runs"]) == 1
    assert "grey.nii.gz holds grey values (from -7 on), where labels are needed" in capsys.readouterr().err


def test_a_recipe_of_an_image_stays_one(here):
    blocks()
    assert main(["apply", "erosion", "seg.nii.gz", "--radius", "1", "--out", "o.nii.gz", "--recipe", "r.json"]) == 0
    assert lb.Recipe.load("r.json").kind == "image"
    assert main(["run", "r.json", "seg.nii.gz", "--out", "runs"]) == 0
    assert lb.read("runs/seg_r.nii.gz").kind == "image"


def test_a_mask_of_a_recipe_is_read_as_one(here):
    blocks()
    lb.write(Volume(np.arange(4800, dtype=np.int16).reshape(12, 20, 20), lb.read("seg.nii.gz").grid), "a.nii.gz")
    assert main(["apply", "crop", "a.nii.gz", "seg.nii.gz", "--out", "o.nii.gz", "--recipe", "r.json"]) == 0
    assert lb.Recipe.load("r.json").inputs == {"seg": "labels"}
    assert main(["run", "r.json", "a.nii.gz", "--with", "mask=seg.nii.gz", "--out", "runs"]) == 0
    assert np.array_equal(lb.read("runs/a_r.nii.gz").data, lb.read("o.nii.gz").data)
