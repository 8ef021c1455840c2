"""The command line: every operation of the catalogue, points as people write them, errors in a sentence."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_folder import fill, run

import napari_lightbox as lb
from napari_lightbox.catalogue import OPERATIONS
from napari_lightbox.cli import arguments, main
from napari_lightbox.cli.bar import Bar
from napari_lightbox.volume import Volume

RUN = [sys.executable, "-m", "napari_lightbox.cli"]


@pytest.fixture
def here(tmp_path, monkeypatch, rng):
    """Work in a folder with ``a.nii.gz``, a small oblique-free volume, and ``mask.nii.gz`` on its grid."""
    monkeypatch.chdir(tmp_path)
    return fill(rng)


# Starting -----------------------------------------------------------------------------------------------------------


def test_help_is_quick():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([*RUN, "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
    assert "demo" in done.stdout
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import argparse"], check=True)
    bare = time.perf_counter() - bare
    # 0.3 s, more where the machine is so busy that Python alone starts slowly.
    assert min(times) < max(0.3, 4 * bare)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from napari_lightbox.cli import main; main(['--help'])\n"
        "print({m for m in sys.modules if m.split('.')[0] in ('numpy', 'scipy', 'torch', 'napari')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("set()")


def test_version_and_no_command(capsys):
    run("--version")
    assert capsys.readouterr().out.strip() == f"napari-lightbox {lb.__version__}"
    run()
    assert "COMMAND" in capsys.readouterr().out


def test_every_operation_is_listed_and_explained(capsys):
    run("apply", "--help")
    listed = capsys.readouterr().out
    for name, row in OPERATIONS.items():
        assert re.search(rf"^\s+{name}\b", listed, re.M)
        run("apply", name, "--help")
        text = capsys.readouterr().out
        for parameter in row.parameters:
            assert arguments.option_name(parameter) in text or parameter.is_layer


# apply --------------------------------------------------------------------------------------------------------------


def test_apply_equals_the_function(here, capsys):
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--size", "5", "--mode", "nearest")
    result = lb.read("m.nii.gz")
    np.testing.assert_array_equal(result.data, lb.filters.median(here.data, 5, mode="nearest"))
    assert result.grid.same_space(here.grid)
    assert result.history[-1]["parameters"] == {"size": 5, "mode": "nearest"}
    assert "m.nii.gz" in capsys.readouterr().out


def test_planes(here):
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--plane", "coronal")
    expected = np.stack([lb.filters.median(here.data[:, y]) for y in range(8)], axis=1)
    np.testing.assert_array_equal(lb.read("m.nii.gz").data, expected)


@pytest.mark.parametrize("how", [["24,16,1"], ["24,16,1;25,16,1"], ["24,16,1", "25,16,1"], ["24, 16, 1; 25, 16, 1"]])
def test_seeds_are_typed_as_x_y_z(here, how):
    """The block lies at index z 2-3, y 3-5, x 2-6: x 22 to 26, y 16 to 20, z 1 to 4 mm."""
    run("apply", "region_grow", "a.nii.gz", "--out", "g.nii.gz", "--threshold", "100", "--seeds", *how)
    np.testing.assert_array_equal(lb.read("g.nii.gz").data, (here.data > 300).astype(np.uint8))


def test_negative_points_are_no_options(here):
    shifted = here.replace(grid=lb.Grid.from_spacing((3.0, 2.0, 1.0), (6, 8, 10), (-50.0, -60.0, -70.0)))
    lb.write(shifted, "n.nii.gz")
    run(
        "apply",
        "region_grow",
        "n.nii.gz",
        "--out",
        "g.nii.gz",
        "--threshold",
        "100",
        "--seeds",
        "-66,-52,-44",
        "-67,-52,-44",
    )
    assert lb.read("g.nii.gz").data.sum() == (here.data > 300).sum()


def test_further_volumes_by_place_and_by_name(here):
    for number, extra in enumerate((["mask.nii.gz"], ["--mask", "mask.nii.gz"])):
        inputs = ["a.nii.gz", *extra] if number == 0 else ["a.nii.gz"]
        options = extra if number else []
        out = f"g{number}.nii.gz"
        run("apply", "region_grow", *inputs, "--out", out, "--threshold", "1e5", "--seeds", "24,16,1", *options)
        np.testing.assert_array_equal(lb.read(out).data, (here.data > 300).astype(np.uint8))


def test_lengths_are_typed_as_x_y_z(here):
    run("apply", "resample", "a.nii.gz", "--out", "r.nii.gz", "--spacing", "2,4,6", "--order", "nearest")
    assert lb.read("r.nii.gz").grid.spacing == pytest.approx((6, 4, 2))
    run("apply", "affine", "a.nii.gz", "--out", "t.nii.gz", "--translate", "-1,0,3", "--order", "nearest")
    moved = lb.read("t.nii.gz").data
    np.testing.assert_array_equal(moved[1:, :, :-1], here.data[:-1, :, 1:])


def test_a_matrix_is_typed_for_x_y_z(here, tmp_path):
    rows = "1,0,0,-1; 0,1,0,0; 0,0,1,3; 0,0,0,1"
    run("apply", "affine", "a.nii.gz", "--out", "t.nii.gz", "--order", "nearest", "--matrix", rows)
    run("apply", "affine", "a.nii.gz", "--out", "u.nii.gz", "--order", "nearest", "--translate", "-1,0,3")
    np.testing.assert_array_equal(lb.read("t.nii.gz").data, lb.read("u.nii.gz").data)
    (tmp_path / "m.txt").write_text(rows.replace("; ", "\n").replace(",", " ") + "\n")
    run("apply", "affine", "a.nii.gz", "--out", "v.nii.gz", "--order", "nearest", "--matrix", "m.txt")
    np.testing.assert_array_equal(lb.read("v.nii.gz").data, lb.read("u.nii.gz").data)


def test_rows_of_numbers_and_words(here):
    run(
        "apply",
        "notch",
        "a.nii.gz",
        "--out",
        "n.nii.gz",
        "--centers",
        "2,3; -1,2",
        "--radius",
        "1",
        "--kind",
        "gaussian",
    )
    expected = lb.apply("notch", here, centers="2,3; -1,2", radius=1, kind="gaussian")
    np.testing.assert_allclose(lb.read("n.nii.gz").data, expected.data, rtol=1e-6)
    run("apply", "reorient", "a.nii.gz", "--out", "o.nii.gz", "--code", "RAS")
    assert lb.read("o.nii.gz").grid.code == "RAS"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_default_can_be_typed(name):
    """What the help shows as the default is read back as that default."""
    for parameter in OPERATIONS[name].parameters:
        if parameter.is_layer or parameter.required or parameter.default is None:
            continue
        typed = arguments._written(parameter)
        if isinstance(parameter.default, bool):
            continue
        assert arguments.converter(parameter)(typed) == parameter.default


def test_recipe_of_a_step_runs_again(here):
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--size", "5", "--recipe", "m.json")
    run("run", "m.json", "a.nii.gz", "--out", "again")
    np.testing.assert_array_equal(lb.read("again/a_m.nii.gz").data, lb.read("m.nii.gz").data)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense"], "nonsense"),
        (["apply", "mediann", "a.nii.gz", "--out", "m.nii.gz"], "mediann"),
        (["apply", "median", "a.nii.gz"], "--out"),
        (["apply", "median", "b.nii.gz", "--out", "m.nii.gz"], "does not exist"),
        (["apply", "median", "a.nii.gz", "--out", "m.xyz"], "no format that can be written"),
        (["apply", "median", "a.nii.gz", "--out", "nowhere/m.nii.gz"], "make it first"),
        (["apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--size", "4"], "odd"),
        (["apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--size", "three"], "not a whole number"),
        (["apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--size", "-3"], "between 1 and 31"),
        (["apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--mode", "mirrored"], "invalid choice"),
        (["apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--plane", "diagonal"], "diagonal"),
        (["apply", "region_grow", "a.nii.gz", "--out", "m.nii.gz"], "seeds"),
        (["apply", "region_grow", "a.nii.gz", "--out", "m.nii.gz", "--seeds", "1,2"], "not a point"),
        (["apply", "region_grow", "a.nii.gz", "--out", "m.nii.gz", "--seeds", "900,2,3"], "outside"),
        (["apply", "resample", "a.nii.gz", "--out", "m.nii.gz", "--spacing", "1,2"], "3 numbers"),
        (["apply", "affine", "a.nii.gz", "--out", "m.nii.gz", "--matrix", "1,2"], "4x4"),
        (["convert", "a.nii.gz", "m.nii.gz", "--orientation", "XYZ"], "XYZ"),
        (["convert", "a.nii.gz", "m.nii.gz", "--spacing", "0"], "greater than zero"),
        (["convert", "a.nii.gz", "m.nii.gz", "--pixel-size", "2,2,2"], "contradicts"),
        (["run", "a.nii.gz", "a.nii.gz", "--out", "d"], "recipe"),
        (["predict", "no-such-model", "a.nii.gz", "--out", "d"], "no-such-model"),
        (["train", "fetal-head", "--out", "d"], "--data"),
        (["demo", "--input", "b.nii.gz", "--no-window"], "does not exist"),
        (["demo", "--no-window", "--screenshot", "s.png"], "screen"),
        (["info", "b.nii.gz"], "does not exist"),
    ],
)
def test_errors_are_one_sentence(here, capsys, argv, message):
    before = sorted(os.listdir())
    run(*argv, code=2)
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("lightbox: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert said.out == ""
    assert sorted(os.listdir()) == before


def test_debug_shows_the_whole_error(here):
    with pytest.raises(lb.FileError):
        main(["info", "b.nii.gz", "--debug"])


def test_an_unforeseen_error_is_a_sentence_too(here, capsys, monkeypatch):
    monkeypatch.setattr("napari_lightbox.io.info", lambda path: 1 / 0)
    run("info", "a.nii.gz", code=2)
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("m.nii.gz", "file of a volume"),
        ("./a.nii.gz", "file of a volume"),
        ("link.json", "file of a volume"),
        ("other.nrrd", "must end in .json"),
        ("recipe", "must end in .json"),
        ("gone/r.json", "does not exist"),
    ],
)
def test_a_recipe_goes_over_no_volume(here, capsys, monkeypatch, recipe, message):
    Path("link.json").symlink_to("a.nii.gz")
    before = Path("a.nii.gz").read_bytes()
    monkeypatch.setattr(
        sys.modules["napari_lightbox.apply"], "apply", lambda *a, **k: pytest.fail("the work was begun")
    )
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz", "--recipe", recipe, "--overwrite", code=2)
    assert message in capsys.readouterr().err
    assert Path("a.nii.gz").read_bytes() == before
    assert not Path("m.nii.gz").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr(
        sys.modules["napari_lightbox.apply"], "apply", lambda *a, **k: pytest.fail("the work was begun")
    )
    closed = Path("closed").resolve()
    closed.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    for out, recipe in (("closed/m.nii.gz", "m.json"), ("m.nii.gz", "closed/m.json")):
        run("apply", "median", "a.nii.gz", "--out", out, "--recipe", recipe, code=2)
        assert "cannot be written to" in capsys.readouterr().err


def test_missing_seeds_are_asked_for_as_they_are_typed(here, capsys):
    run("apply", "region_grow", "a.nii.gz", "--out", "r.nii.gz", code=2)
    said = capsys.readouterr().err
    assert "--seeds X,Y,Z, points in LPS mm" in said
    assert "array order" not in said


def test_nothing_is_overwritten_silently(here, capsys):
    Path("m.nii.gz").write_bytes(b"mine")
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz", code=2)
    run("convert", "a.nii.gz", "m.nii.gz", code=2)
    assert "--overwrite" in capsys.readouterr().err
    assert Path("m.nii.gz").read_bytes() == b"mine"
    run("convert", "a.nii.gz", "m.nii.gz", "--overwrite")
    assert lb.read("m.nii.gz").grid.same_space(here.grid)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    rng = np.random.default_rng(0)
    lb.write(Volume.from_array(rng.integers(0, 9, (120, 160, 160)).astype(np.uint8), (1, 1, 1)), tmp_path / "a.nii")
    argv = [*RUN, "apply", "median", "a.nii", "--out", "m.nii", "--size", "15"]
    # Without kernels: it must not be done too soon.
    here = {**os.environ, "LIGHTBOX_COMPILED": "0"}
    job = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=here)
    time.sleep(4)
    assert job.poll() is None, "the work was over before it could be stopped"
    started = time.perf_counter()
    job.send_signal(signal.SIGINT)
    _, said = job.communicate(timeout=30)
    assert time.perf_counter() - started < 10
    assert job.returncode == 130
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_a_closed_pipe_is_no_error(here):
    code = f"{sys.executable} -m napari_lightbox.cli apply --help | head -n 1"
    done = subprocess.run(code, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


# Files --------------------------------------------------------------------------------------------------------------


def test_info_says_what_a_file_holds(here, capsys):
    run("info", "a.nii.gz")
    text = capsys.readouterr().out
    for wanted in ("10 x 8 x 6 voxels", "1 x 2 x 3 mm", "LPS", "20, 10, -5 mm", f"0 to {here.data.max()}"):
        assert wanted in text
    run("info", "a.nii.gz", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found[0]["size"] == [10, 8, 6]


def test_info_of_frames(here, capsys):
    grid = lb.Grid.from_spacing((1, 1, 1), (4, 3, 3, 3), frames=lb.Frames("time", (0, 2, 4, 6), "s"))
    lb.write(Volume(np.zeros((4, 3, 3, 3), np.int16), grid), "t.nii.gz")
    run("info", "t.nii.gz")
    assert "4 (time, 0 to 6 s)" in capsys.readouterr().out


def test_info_of_a_dicom_file(data, capsys):
    run("info", data("dicom_transfer_syntaxes_head/1.dcm"))
    text = capsys.readouterr().out
    for wanted in ("64 x 64 x 35 voxels", "3.25 x 3.25 x 3.6 mm", "LPS", "MR", "0 to 2362"):
        assert wanted in text


@pytest.mark.parametrize("name", ["b.nii.gz", "b.nrrd", "b.mha", "b.nii"])
def test_convert_keeps_every_voxel_in_its_place(here, name):
    run("convert", "a.nii.gz", name, "--orientation", "RAS")
    found = lb.read(name)
    assert found.grid.code == "RAS"
    back = lb.apply("reorient", found, code="LPS")
    np.testing.assert_array_equal(back.data, here.data)
    assert back.grid.distance(here.grid) < 1e-3


def test_convert_to_a_spacing(here):
    run("convert", "a.nii.gz", "b.nii.gz", "--spacing", "2")
    assert lb.read("b.nii.gz").grid.spacing == pytest.approx((2, 2, 2))


def test_convert_a_picture_with_its_pixel_size(here):
    from PIL import Image

    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6)).save("p.png")
    run("convert", "p.png", "p.nii.gz", "--pixel-size", "0.25,0.5")
    assert lb.read("p.nii.gz").grid.spacing[1:] == pytest.approx((0.5, 0.25))


def test_convert_a_dicom_folder(data, tmp_path):
    folder = data("dicom_ct_series")
    run("convert", folder, tmp_path / "ct.nii.gz")
    expected = lb.read(folder)
    found = lb.read(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.grid.distance(expected.grid) < 1e-3


# The bar ------------------------------------------------------------------------------------------------------------


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_bar_counts_loops_inside_loops():
    bar = Bar(Terminal())
    bar.update("frames", 0, 4)
    bar.update("frames", 1, 4)
    bar.update("slices", 5, 10)
    assert bar.fraction() == pytest.approx(1 / 4 + 1 / 4 / 2)
    assert bar.text().endswith("frames 1/4, slices 5/10")
    bar.update("frames", 2, 4)
    assert bar.fraction() == 0.5
    bar.update("frames", 4, 4)
    assert bar.fraction() == 1


def test_bar_of_a_loop_that_follows_another_begins_anew():
    bar = Bar(Terminal())
    bar.update("blocks read", 0, 1)
    bar.update("blocks read", 1, 1)
    assert bar.fraction() == 1
    bar.update("slices", 3, 30)
    bar.update("iterations", 50, 200)
    assert bar.fraction() == pytest.approx((3 + 50 / 200) / 30)
    assert "blocks" not in bar.text()


def test_bar_tells_the_time_left_of_a_case_and_of_all(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("napari_lightbox.cli.bar.time.monotonic", lambda: now[0])
    bar = Bar(Terminal())
    bar.update("cases", 0, 3)
    now[0] += 50  # reading
    bar.update("windows", 0, 10)
    now[0] += 10
    bar.update("windows", 5, 10)
    assert bar.text().endswith("windows 5/10, about 10 s left, about 50 s for all")
    now[0] += 40
    bar.update("cases", 1, 3)
    bar.update("windows", 0, 10)
    now[0] += 10
    bar.update("windows", 1, 10)
    assert bar.text().endswith("windows 1/10, about 90 s left, about 3 min for all")
    bar.update("windows", 10, 10)
    bar.update("slices written", 0, 4)
    assert "for all" not in bar.text()
    alone = Bar(Terminal())
    alone.update("cases", 0, 1)
    alone.update("windows", 0, 4)
    now[0] += 4
    alone.update("windows", 1, 4)
    assert alone.text().endswith("cases 0/1, windows 1/4, about 12 s left")


def test_bar_is_silent_without_a_terminal(here, capsys):
    with open(os.devnull, "w") as nowhere:
        assert Bar(nowhere).listener is None
    run("apply", "median", "a.nii.gz", "--out", "m.nii.gz")
    assert capsys.readouterr().err == ""


def test_bar_wipes_itself_away():
    terminal = Terminal()
    bar = Bar(terminal)
    bar.update("tiles", 1, 2)
    assert "50%" in terminal.text
    bar.close()
    assert terminal.text.endswith("\r")
