"""Doubts about a cohort: one row a case, the most doubtful first, and what a case lacks is said."""

import csv
import json

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox.cli import main
from napari_lightbox.report import doubts_cohort


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def cohort(tmp_path):
    """Return a folder: "a" with a hole of two voxels, "b" with one of three, "c" without a map of uncertainty."""
    grid = lb.Grid.from_spacing((2, 1, 1), (6, 10, 10))
    for name, hole in (("a", 2), ("b", 3), ("c", 0)):
        data = np.zeros(grid.shape, np.uint8)
        data[1:5, 1:9, 1:9] = 1
        data[2, 4, 3 : 3 + hole] = 0
        other = data.copy()
        if name == "a":
            other[4, 8, :] = 0
        maps = np.zeros(grid.shape, np.float32)
        maps[1, 1, 1:3] = 0.9 if name == "b" else 0
        for folder, volume in (("labels", lb.Volume(data, grid, "labels", name)),
                               ("others", lb.Volume(other, grid, "labels", name)),
                               ("doubt", lb.Volume(maps, grid, name=name))):  # fmt: skip
            if name != "c" or folder == "labels":
                (tmp_path / folder).mkdir(exist_ok=True)
                suffix = {"labels": "", "others": "_rater2", "doubt": "_entropy"}[folder]
                lb.write(volume, tmp_path / folder / f"{name}{suffix}.nii.gz")
    return tmp_path


def test_every_case_has_a_row_the_most_doubtful_first(cohort, capsys):
    out = cohort / "out"
    command = ["evaluate", str(cohort / "labels"), "--cohort", "--rules", "usual", "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["b: 0.006 ml in doubt (1 hole)", "a: 0.004 ml in doubt (1 hole)"]
    cases = rows_of(out / "cases.csv")
    assert [row["case"] for row in cases] == ["b", "a", "c"]
    assert [int(row["doubts"]) for row in cases] == [1, 1, 0]
    assert [float(row["volume_ml"]) for row in cases] == pytest.approx([0.006, 0.004, 0])
    assert float(cases[0]["share"]) == pytest.approx(3 / (4 * 64 - 3))
    whole = json.loads((out / "doubts.json").read_text())
    assert whole["cases"][0]["kinds"] == {"hole": 1}
    assert [row["case"] for row in rows_of(out / "doubts.csv")] == ["b", "a"]
    page = (out / "doubts.html").read_text()
    # A thumbnail and three planes of each hole.
    assert page.count("data:image/png") == 8
    assert page.index(">b</a>") < page.index(">a</a>") < page.index(">c</a>")
    assert main(command) == 2
    assert "exists: choose another folder" in capsys.readouterr().err


def test_maps_and_other_raters_are_found_by_the_name_of_the_case(cohort, capsys):
    out = cohort / "out"
    command = ["evaluate", str(cohort / "labels"), "--cohort", "--out", str(out)]
    more = ["--uncertainty", str(cohort / "doubt"), "--above", "0.5", "--others", str(cohort / "others")]
    assert main([*command, *more]) == 1
    told = capsys.readouterr()
    assert "c: there is no map of uncertainty for" in told.err
    assert "c was not looked at" in (out / "doubts.html").read_text()
    assert "differences from 1 other segmentation." in (out / "doubts.html").read_text()
    # "a": eight voxels of the other rater; "b": two that are uncertain; of 2 mm3 each.
    assert [(row["case"], float(row["volume_ml"])) for row in rows_of(out / "cases.csv")] == [
        ("a", pytest.approx(0.016)), ("b", pytest.approx(0.004))]  # fmt: skip
    assert main([*command, "--rules", "usual", "--versus", "x"]) == 2
    assert "--versus needs references" in capsys.readouterr().err
    assert main(["evaluate", str(cohort / "labels" / "a.nii.gz"), "--cohort", "--rules", "usual", "--out", "x"]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_only_the_most_doubtful_cases_keep_their_voxels(cohort, monkeypatch, capsys):
    monkeypatch.setattr(doubts_cohort, "DRAWN", 1)
    out = cohort / "few"
    command = ["evaluate", str(cohort / "labels"), "--cohort", "--rules", "usual", "--out", str(out)]
    assert main(command) == 0
    page = (out / "doubts.html").read_text()
    # Both thumbnails, but the planes of the worst case alone.
    assert page.count("data:image/png") == 5
    assert len(rows_of(out / "doubts.csv")) == 2
    # A file that cannot be read is told, and the rest replace what was written before.
    (cohort / "labels" / "ab<d>.nii.gz").write_bytes(b"no image")
    assert main([*command, "--overwrite"]) == 1
    assert "ab<d>: " in capsys.readouterr().err
    assert "ab&lt;d&gt; was not looked at" in (out / "doubts.html").read_text()
    assert len(rows_of(out / "doubts.csv")) == 2
