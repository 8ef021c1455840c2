"""The table of labels in the patient: against published volumes, SimpleITK, and numbers worked out by hand."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.errors import GridError, InputError
from napari_lightbox.ops import measure

FOLDER = "ct_abdomen_organs"


def test_published_volumes_and_means_of_forty_organs(data):
    labels = lb.read(data(f"{FOLDER}/example_seg_fast.nii.gz"), kind="labels")
    image = lb.read(data(f"{FOLDER}/example_ct_sm.nii.gz"))
    truth = json.loads(data(f"{FOLDER}/example_seg_fast_statistics.json").read_text())
    numbers = {name: int(k) for k, name in json.loads(data(f"{FOLDER}/total_labels.json").read_text()).items()}
    rows = {row["label"]: row for row in measure.table(labels, image)}
    found = 0
    for name, organ in truth.items():
        row = rows.get(numbers[name])
        if organ["volume"] == 0:
            assert row is None
            continue
        found += 1
        assert row["volume_mm3"] == pytest.approx(organ["volume"], rel=1e-9)
        assert row["volume_ml"] == pytest.approx(organ["volume"] / 1000, rel=1e-9)
        assert row["mean"] == pytest.approx(organ["intensity"], abs=1e-4)
    assert found > 20


def test_centroids_and_boxes_equal_simpleitk_on_an_oblique_left_handed_grid(rng, tmp_path):
    c, s = np.cos(0.4), np.sin(0.4)
    direction = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1.0]])
    grid = lb.Grid.from_spacing((3.0, 0.7, 1.1), (7, 12, 10), (11.0, -7.0, 5.0), direction)
    labels = rng.choice([0, 2, 9], grid.shape, p=[0.9, 0.05, 0.05]).astype(np.uint8)
    volume = lb.Volume(labels, grid, "labels", "spots", {9: lb.Label("node")})
    path = tmp_path / "spots.nii.gz"
    lb.write(volume, path)
    image = sitk.ReadImage(str(path))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    rows = measure.table(lb.read(path, kind="labels"))
    assert [row["label"] for row in rows] == [2, 9]
    assert [row["name"] for row in measure.table(volume)] == ["label 2", "node"]
    for row in rows:
        centroid = shape.GetCentroid(row["label"])
        np.testing.assert_allclose([row["x_mm"], row["y_mm"], row["z_mm"]], centroid, atol=1e-3)
        x, y, z, width, height, depth = shape.GetBoundingBox(row["label"])
        assert [row[f"{a}_first"] for a in "xyz"] == [x, y, z]
        assert [row[f"{a}_last"] for a in "xyz"] == [x + width - 1, y + height - 1, z + depth - 1]
        assert row["volume_mm3"] == pytest.approx(shape.GetPhysicalSize(row["label"]), rel=1e-5)


def test_frames_slabs_and_negative_labels(monkeypatch):
    monkeypatch.setattr(measure, "_SLAB", 30)
    labels = np.zeros((2, 6, 5, 4), np.int16)
    labels[0, 4:, 1, 2], labels[1, 0, :, 3] = -7, 3
    film = lb.Volume.from_array(labels, spacing=(2, 1, 1), kind="labels")
    first, second = measure.table(film, lb.Volume.from_array(labels[0].astype(float), spacing=(2, 1, 1)))
    assert (first["frame"], first["label"], first["voxels"], first["z_mm"], first["z_first"]) == (0, -7, 2, 9.0, 4)
    assert (first["mean"], first["sd"], first["min"], first["max"]) == (-7, 0, -7, -7)
    assert (second["frame"], second["label"], second["y_mm"], second["y_last"], second["mean"]) == (1, 3, 2.0, 4, 0)


def test_a_picture_has_areas_and_unknown_voxels_have_none():
    labels = np.array([[0, 1], [1, 1]], np.uint8)
    (row,) = measure.table(lb.Volume.from_array(labels, spacing=(2, 3), kind="labels"))
    assert row["area_mm2"] == 18
    (row,) = measure.table(lb.Volume.from_array(np.stack([labels] * 2), kind="labels"))
    assert row["volume_ml"] is None
    (row,) = measure.table(lb.Volume.from_array(labels == 1, spacing=(2, 3)))
    assert (row["label"], row["voxels"]) == (1, 3)


def test_refused_in_a_sentence():
    labels = lb.Volume.from_array(np.ones((3, 4, 5), np.uint8), spacing=(1, 1, 1), kind="labels", name="organs")
    with pytest.raises(InputError, match="'ct' holds grey values"):
        measure.table(labels.replace(kind="image", name="ct"))
    with pytest.raises(GridError, match="different grids"):
        measure.table(labels, lb.Volume.from_array(np.ones((3, 4, 5)), spacing=(1, 1, 2)))
    film = lb.Volume.from_array(np.ones((2, 3, 4, 5)), spacing=(1, 1, 1), name="film")
    with pytest.raises(InputError, match="'film' has 2 frames, the labels 1"):
        measure.table(labels, film)


def test_command_prints_and_writes_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 2, 1:5] = 4
    volume = lb.Volume.from_array(labels, spacing=(10, 5, 2), kind="labels", labels={4: lb.Label("rod")}, name="rods")
    lb.write(volume, "rods.seg.nrrd")
    lb.write(lb.Volume.from_array(np.full((4, 5, 6), 7, np.int16), spacing=(10, 5, 2)), "grey.nii.gz")
    assert main(["measure", "rods.seg.nrrd", "--image", "grey.nii.gz", "--csv", "rods.csv"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "label name voxels ml x (mm) y (mm) z (mm) mean sd min max"
    assert row.split() == ["4", "rod", "8", "0.8", "5.0", "10.0", "15.0", "7", "0", "7", "7"]
    (written,) = csv.DictReader((tmp_path / "rods.csv").read_text().splitlines())
    assert (written["name"], float(written["volume_mm3"])) == ("rod", 800)
    assert (written["x_first"], written["x_last"]) == ("1", "4")
    assert main(["measure", "rods.seg.nrrd", "--csv", "rods.csv"]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["measure", "rods.seg.nrrd", "--csv", "rods.txt"]) == 2
    assert "must end in .csv" in capsys.readouterr().err
    lb.write(volume.replace(data=np.zeros_like(labels)), "empty.nii.gz")
    assert main(["measure", "empty.nii.gz"]) == 0
    assert "holds no label" in capsys.readouterr().out


def test_command_reads_the_input_of_label_operations_as_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((4, 5, 6), np.int16)
    mask[1, 1:4, 1:4], mask[1, 2, 2] = 1, 0
    lb.write(lb.Volume.from_array(mask, spacing=(1, 1, 1)), "mask.nii.gz")
    assert main(["apply", "fill_holes", "mask.nii.gz", "--plane", "axial", "--out", "filled.nii.gz"]) == 0
    assert lb.read("filled.nii.gz").data.sum() == 9
    assert main(["apply", "components", "mask.nii.gz", "--largest", "1", "--out", "parts.nii.gz"]) == 0
