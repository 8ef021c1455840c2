"""DICOM folders on the command line: the table of series, and --even."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import phantoms_dicom
from napari_lightbox.cli import main, series
from napari_lightbox.geometry import Grid
from napari_lightbox.io.series import list_series

pytest.importorskip("pydicom")

GRID = Grid.from_spacing((20.0, 16.0, 16.0), (10, 20, 22), (-105.0, -160.0, -185.0))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Make a folder with four series: in order, with a gap, tilted, in time; and a damaged file."""
    place = tmp_path_factory.mktemp("study")
    for variant in ("plain", "missing", "tilt", "time"):
        paths = phantoms_dicom.write_series(place / variant, variant, grid=GRID)
    (place / "damaged").mkdir()
    (place / "damaged" / "a.dcm").write_bytes(paths[0].read_bytes()[:300])
    return place


@pytest.fixture
def folder(study, tmp_path, monkeypatch):
    """Work beside the folder."""
    monkeypatch.chdir(tmp_path)
    return study


def test_info_lists_the_series_of_a_folder(folder, capsys):
    assert main(["info", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert "Patient" in lines[0]
    assert "Study" in lines[1]
    rows = {words[2].strip(): line for line in lines if len(words := re.split(r"\s{2,}", line)) > 4}
    assert "CT" in rows["Thorax plain"]
    assert "22 x 20 x 10" in rows["Thorax plain"]
    assert "16 x 16 x 20" in rows["Thorax plain"]
    assert "4 frames (time 0 to " in rows["Thorax time"]
    assert "22 x 20 x 9" in rows["Thorax missing"]
    after = lines[lines.index(rows["Thorax missing"]) + 1]
    assert after.strip().startswith("cannot be opened: ")
    assert "or open it with --even" in after
    assert "tilted by 15 degrees" in lines[lines.index(rows["Thorax tilt"]) + 1]
    assert "Files that cannot be read" in text
    assert "a.dcm" in lines[-1]


def test_info_of_a_folder_as_json(folder, capsys):
    assert main(["info", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {series["description"]: series for series in found}
    assert by_name["Thorax plain"]["size"] == [22, 20, 10]
    assert by_name["Thorax plain"]["spacing"] == [16, 16, 20]
    assert by_name["Thorax time"]["frames"]["kind"] == "time"
    assert by_name["Thorax missing"]["remedy_even"] is True
    assert by_name["a.dcm"]["kind"] == "damaged"


def test_info_of_a_folder_without_dicom(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert "holds no DICOM files" in capsys.readouterr().err


def test_convert_even(folder, capsys):
    source = str(folder / "missing")
    assert main(["convert", source, "a.nii.gz"]) == 2
    assert "--even" in capsys.readouterr().err
    assert main(["convert", source, "a.nii.gz", "--even"]) == 0
    written = lb.read("a.nii.gz")
    assert written.grid.distance(GRID) < 1e-3
    assert written.meta["gaps"] == [4]


def test_convert_a_tilted_series(folder, capsys):
    """NIfTI cannot hold sheared axes."""
    source = str(folder / "tilt")
    assert main(["convert", source, "a.nii.gz", "--even"]) == 0
    assert lb.read("a.nii.gz").grid.shear < 1e-3


def test_a_study_whose_description_says_none_has_none(folder):
    found = [replace(one, study=one.study._replace(description="None")) for one in list_series(folder / "plain")]
    lines = series.as_text(found).splitlines()
    assert f"  Study {found[0].study.date or 'without a date'}" in lines


def test_there_is_no_negative_zero(tmp_path, capsys):
    grid = Grid.from_spacing((2.0, 1.0, 1.0), (2, 3, 4), (-0.0, -0.0, 5.0))
    lb.write(lb.Volume(np.zeros(grid.shape, np.float32) * -1, grid, name="a"), tmp_path / "a.nrrd")
    assert main(["info", str(tmp_path / "a.nrrd")]) == 0
    said = capsys.readouterr().out
    assert "5, 0, 0 mm" in said
    assert "-0" not in said
