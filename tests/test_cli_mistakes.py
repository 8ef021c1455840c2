"""The command line in clumsy hands: wrong arguments, odd names, places that cannot be written, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_folder import fill

import napari_lightbox as lb
from napari_lightbox import phantoms, phantoms_dicom
from napari_lightbox.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    fill(rng)
    return tmp_path


def said(capsys, *argv, code=2):
    assert main([str(a) for a in argv]) == code
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    return text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["info", "--jsn", "a.nii.gz"], "unrecognized arguments: --jsn: see lightbox info --help"),
        (
            ["apply", "median", "a.nii.gz", "--out", "o.nii.gz", "--sise", "3"],
            "unrecognized arguments: --sise 3: see lightbox apply median --help",
        ),
        (["convert", "a.nii.gz", "o.nii.gz", "-5"], "unrecognized arguments: -5: see lightbox convert --help"),
        (
            ["apply", "pad", "a.nii.gz", "--out", "o.nii.gz", "--after", "1,99999,1"],
            "argument --after: 1,99999,1 must lie between 0 and 10000",
        ),
        (["apply", "pad", "a.nii.gz", "--out", "o.nii.gz", "--fill", "nan"], "argument --fill: 'nan' is not a number"),
        (
            ["apply", "resample", "a.nii.gz", "--out", "o.nii.gz", "--spacing", "0,1,2"],
            "spacing must be greater than zero mm, not 0, 1, 2 (x, y, z)",
        ),
        (["run", "a.nii.gz", "a.nii.gz", "--out", "o"], "a.nii.gz is not a recipe, it is no text: give the .json"),
    ],
)
def test_wrong_arguments(here, capsys, argv, words):
    assert words in said(capsys, *argv)


def test_names_with_blanks_and_umlauts(here, capsys):
    folder = here / "Büro Ordner"
    folder.mkdir()
    assert main(["convert", "a.nii.gz", str(folder / "Größe 1.nhdr")]) == 0
    assert main(["convert", str(folder / "Größe 1.nhdr"), str(folder / "zurück.nii")]) == 0
    assert np.array_equal(lb.read(folder / "zurück.nii").data, lb.read("a.nii.gz").data)
    phantoms_dicom.write_series(folder / "Série é", grid=lb.Grid.from_spacing((40, 20, 20), (4, 16, 18)))
    assert main(["info", str(folder)]) == 0
    assert "Thorax plain" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("command", ["run", "predict"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(here, capsys, monkeypatch, command):
    (here / "locked").mkdir()
    real = os.access
    # The superuser may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked") and real(path, mode))
    lb.Recipe(()).save("r.json")
    argv = ["run", "r.json", "a.nii.gz"] if command == "run" else ["predict", "ct-regions", "a.nii.gz"]
    assert "folder locked cannot be written to: choose another folder" in said(capsys, *argv, "--out", "locked")


def test_options_of_dicom_say_that_they_change_nothing(here, capsys):
    assert "--series and --even choose what is read of DICOM" in said(
        capsys, "convert", "a.nii.gz", "o.nii.gz", "--series", "3", "--even", code=0
    )


def test_notes_speak_of_options(here, capsys):
    """Not of arguments of Python."""
    phantoms_dicom.write_series("tilted", "tilt", grid=lb.Grid.from_spacing((40, 20, 20), (4, 16, 18)))
    phantoms_dicom.write_series("gap", "missing", grid=lb.Grid.from_spacing((40, 20, 20), (6, 16, 18)))
    assert main(["convert", "tilted", "o.nii.gz"]) == 0
    assert (
        main(["info", "tilted"]) == main(["info", "gap"]) == main(["info", str(next((here / "tilted").iterdir()))]) == 0
    )
    captured = capsys.readouterr()
    assert "--even resamples them to right angles" in captured.err
    assert "open it with --even" in captured.out
    assert "even=True" not in captured.err + captured.out


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("command", ["percentile", "predict"])
def test_ctrl_c_leaves_nothing(here, command):
    """A process of its own, whose threads are at work: it ends at once with 130, and no half-written file."""
    if command == "predict":
        pytest.importorskip("torch")
    lb.write(phantoms.thorax(lb.Grid.from_spacing((3, 3, 3), (90, 110, 120), (-130, -160, -180)))[0], "big.nii.gz")
    argv = {
        "percentile": ["apply", "percentile", "big.nii.gz", "--size", "25", "--out", "o.nii.gz"],
        "predict": ["predict", "ct-regions", "big.nii.gz", "--mirror", "--out", "results"],
    }[command]
    process = subprocess.Popen([sys.executable, "-m", "napari_lightbox.cli", *argv], stderr=subprocess.PIPE, text=True)
    time.sleep(8)
    assert process.poll() is None, "it was done too early"
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130
    assert text.rstrip().endswith("lightbox: stopped: unfinished results were not kept")
    left = {p.name for p in here.rglob("*")} - {"a.nii.gz", "mask.nii.gz", "big.nii.gz", "results"}
    assert not left


# Broken and mixed folders ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_every_broken_file_through_the_commands(data, here, capsys):
    """One sentence each, which names the file and says what to do; of a folder, the file in it that is to blame."""
    folder = data("broken")
    files = sorted(folder.iterdir())
    assert len(files) > 10
    for path in files:
        for argv in (["info", path], ["convert", path, "o.nii.gz"]):
            text = said(capsys, *argv)
            assert text.startswith("lightbox: ")
            assert path.name in text
            assert ": " in text.removeprefix("lightbox: ")
    text = said(capsys, "convert", folder, "o.nii.gz")
    assert "no_meta.dcm is not a complete DICOM file" in text or "badVR.dcm has NumberOfFrames" in text
    assert main(["info", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert all(path.name in listed for path in files if path.suffix == ".dcm")
    assert "no_meta.dcm is not a complete DICOM file (its start with the mark DICM is missing): copy" in listed
    assert "or take it out of the folder" in listed
    assert not (here / "o.nii.gz").exists()


def test_a_folder_of_everything(here, capsys):
    """A series, a file without its start, a NIfTI file and a text: what is wrong is named, the rest opens by number."""
    phantoms_dicom.write_series("all/ct", grid=lb.Grid.from_spacing((40, 20, 20), (4, 16, 18)))
    bare = next((here / "all" / "ct").iterdir()).read_bytes()[132:]
    (here / "all" / "bare.dcm").write_bytes(bare)
    (here / "all" / "notes.txt").write_text("hello")
    (here / "all" / "a.nii.gz").write_bytes((here / "a.nii.gz").read_bytes())
    text = said(capsys, "convert", "all", "o.nii.gz")
    assert "bare.dcm is not a complete DICOM file" in text
    assert "or take it out of the folder" in text
    assert main(["convert", "all", "o.nii.gz", "--series", "1"]) == 0
    assert main(["info", "all"]) == 0
    out = capsys.readouterr().out
    assert "Thorax plain" in out
    assert "bare.dcm is not a complete DICOM file" in out
    (here / "all" / "ct" / "bare.dcm").write_bytes(bare)
    (here / "all" / "bare.dcm").unlink()
    assert "bare.dcm" in said(capsys, "convert", "all", "o2.nii.gz", "--series", "1")
