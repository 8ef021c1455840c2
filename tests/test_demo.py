"""The demo: sensible seeds, a comparison that is right by hand, files that others can read, and nothing half done."""

import dataclasses
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import napari_lightbox as lb
from napari_lightbox import demo, phantoms
from napari_lightbox.cli import demonstrate, main
from napari_lightbox.demo import compare, seeds
from napari_lightbox.progress import Cancelled, listening
from napari_lightbox.volume import Label, Volume


def chest(code: str = "LPS") -> tuple[Volume, Volume]:
    """Return a small chest phantom and its truth, stored as `code`."""
    grid = lb.Grid.from_spacing((8.0, 6.0, 6.0), (24, 52, 62), (-90.0, -150.0, -183.0))
    image, truth = phantoms.thorax(grid)
    return tuple(lb.apply("reorient", v, code=code).replace(history=(), name=v.name) for v in (image, truth))


@pytest.fixture(scope="module")
def small():
    return chest()


def bright(x):
    """Find what is brighter than 0 HU; a model for the demo that needs no training."""
    import torch

    return torch.cat([-x, x], dim=1) / 50


# What kind of image, and where to start ------------------------------------------------------------------------------


def test_ct_is_known_by_its_values(small):
    image, _ = small
    bare = image.replace(meta={})
    volume, tissue = seeds.recognise(bare)
    assert tissue.kind == "CT"
    assert volume.meta["unit"] == "HU"
    assert "no modality" in tissue.notes[0]


def test_what_only_claims_to_be_ct_is_told(rng):
    image = Volume.from_array(rng.integers(0, 700, (9, 9, 9)), spacing=(1, 1, 1), meta={"modality": "CT"})
    _, tissue = seeds.recognise(image)
    assert tissue.kind == ""
    assert "do not look like Hounsfield units" in tissue.notes[0]


@pytest.mark.parametrize("code", ["LPS", "RAS", "SAR"])
def test_the_seed_in_ct_lies_in_the_lung(code):
    image, truth = chest(code)
    volume, tissue = seeds.recognise(image)
    seed = seeds.find(volume, tissue, ())
    index = tuple(np.rint(truth.grid.to_index(seed.point)).astype(int))
    assert truth.labels[int(truth.data[index])].name in ("left lung", "right lung")
    grown = lb.apply("region_grow", image, seeds=[seed.point], criterion="mean", threshold=seed.threshold)
    inside = np.isin(truth.data, [v for v, label in truth.labels.items() if "lung" in label.name])
    assert (grown.data.astype(bool) & inside).sum() > 0.95 * grown.data.sum()


def test_air_around_the_patient_is_no_lung(small):
    image, truth = small
    inside = seeds._inside(np.asarray(image.data), image.grid)
    # The body stays but for the half-filled voxels of its skin; all that touches the sides goes.
    assert inside[truth.data > 0].mean() > 0.95
    assert not inside[:, 0].any()


def test_the_seed_in_other_images_lies_in_the_brightest_part():
    data = np.zeros((20, 30, 30), np.uint8)
    data[5:15, 10:25, 5:20] = 200
    data[2, 2, 2] = 250
    image = Volume.from_array(data, spacing=(2, 1, 1), meta={"modality": "MR"})
    point = seeds.find(image, seeds.recognise(image)[1], (100.0,)).point
    # The box reaches from z 10 to 28 mm, y 10 to 24 and x 5 to 19: the deepest voxels are in its middle.
    assert abs(point[1] - 17) <= 1
    assert abs(point[2] - 12) <= 1
    assert 16 <= point[0] <= 22


def test_no_bright_part_is_a_sentence():
    flat = Volume.from_array(np.zeros((4, 4, 4)), spacing=(1, 1, 1))
    session = demo.run(flat)
    assert any("constant" in note for note in session.notes)
    assert any("No seed was found" in note for note in session.notes)


# Comparing -----------------------------------------------------------------------------------------------------------


def labelled(values, labels) -> Volume:
    data = np.array(values, np.uint8)[None, None]
    return Volume(data, lb.Grid.from_spacing((1, 1, 1), data.shape), "labels", labels=labels)


def test_comparison_by_hand():
    names = {1: Label("lung"), 2: Label("heart")}
    found = compare.against(labelled([0, 1, 1, 0, 1, 2], names), labelled([0, 1, 0, 1, 2, 2], names))
    # nothing, right, too much, missed, the wrong class, right
    assert found.volume.data.ravel().tolist() == [0, 1, 2, 3, 4, 1]
    assert [found.volume.labels[v].name for v in (1, 2, 3)] == ["true positive", "false positive", "false negative"]
    rows = {row["class"]: row for row in found.rows}
    assert (rows["lung"]["voxels right"], rows["lung"]["too many"], rows["lung"]["missed"]) == (1, 2, 1)
    assert rows["lung"]["Dice"] == pytest.approx(2 / 5, abs=1e-4)
    assert rows["heart"]["Dice"] == pytest.approx(2 / 3, abs=1e-4)


def test_names_are_matched():
    model = {1: Label("body"), 2: Label("lung"), 3: Label("bone"), 4: Label("heart")}
    table = compare.matching(model, phantoms.LABELS, demo.SAMPLE_NAMES)
    # The same as what the model was trained with.
    values = np.arange(1, 9, dtype=np.uint8)
    assert [table[v] for v in values] == phantoms.regions(values).tolist()
    other = {5: Label("liver"), 10: Label("lung_upper_lobe_left"), 30: Label("vertebrae_L2"), 51: Label("heart")}
    # That label set knows no body: what is left over is not counted as one.
    assert compare.matching(model, other) == {10: 2, 30: 3, 51: 4}


def test_tissues_are_body_to_a_truth_that_knows_but_body():
    model = {1: Label("body"), 2: Label("lung"), 5: Label("fat"), 6: Label("soft tissue")}
    truth = {1: Label("body"), 2: Label("lung"), 7: Label("liver")}
    found = compare.against(labelled([0, 1, 5, 6, 2, 5, 2], model), labelled([0, 1, 1, 7, 2, 0, 1], truth))
    rows = {row["class"]: row for row in found.rows}
    assert set(rows) == {"body", "lung"}
    assert (rows["body"]["voxels right"], rows["body"]["too many"], rows["body"]["missed"]) == (3, 1, 1)
    assert "Fat and soft tissue: part of the body in the truth, and counted as body." in found.notes
    # A truth that tells fat apart is compared with it.
    apart = compare.against(labelled([1, 5, 5], model), labelled([1, 2, 1], {1: Label("body"), 2: Label("fat")}))
    assert {row["class"]: row["Dice"] for row in apart.rows if "not in" not in row["class"]} == {
        "body": pytest.approx(2 / 3, abs=1e-4),
        "fat": pytest.approx(2 / 3, abs=1e-4),
    }


def test_nothing_in_common_is_none():
    assert compare.against(labelled([1], {1: Label("a")}), labelled([1], {1: Label("b")})) is None


def test_a_mask_of_any_value_is_the_only_class_of_a_model():
    found = compare.against(labelled([0, 1, 1, 0], {1: Label("head")}), labelled([0, 255, 255, 255], {}))
    assert found.rows[0]["Dice"] == pytest.approx(0.8)
    assert found.volume.data.ravel().tolist() == [0, 1, 1, 3]
    assert found.notes == ("The truth has no names: its value 255 was taken for head.",)


def test_a_truth_without_names_is_matched_by_number():
    names = {1: Label("lung"), 2: Label("heart"), 3: Label("bone")}
    found = compare.against(labelled([0, 1, 2, 2, 3], names), labelled([0, 1, 0, 7, 3], {}))
    # What the truth does not know is no error, neither in the map nor in the figures.
    assert found.volume.data.ravel().tolist() == [0, 1, 0, 0, 1]
    rows = {row["class"]: row["Dice"] for row in found.rows}
    assert list(rows) == ["lung", "bone", "heart (not in the truth)"]
    assert rows["lung"] == rows["bone"] == 1
    assert np.isnan(rows["heart (not in the truth)"])
    assert found.notes == (
        "The truth has no names: classes were matched by their numbers.",
        "Value 7 in the truth: no class of the model, not compared.",
    )
    assert compare.against(labelled([1, 2], names), labelled([0, 255], {})) is None


def test_what_a_named_truth_does_not_know_is_told():
    truth = labelled([1, 4, 4], {1: Label("lung"), 4: Label("liver")})
    found = compare.against(labelled([1, 2, 1], {1: Label("lung"), 2: Label("heart")}), truth)
    assert [row["class"] for row in found.rows] == ["lung", "heart (not in the truth)"]
    assert found.volume.data.ravel().tolist() == [1, 0, 2]
    assert found.notes == ("Value 4 (liver) in the truth: no class of the model, not compared.",)


# All steps -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(small):
    pytest.importorskip("torch")
    image, truth = small
    dense = truth.replace(data=(image.data > 0).astype(np.uint8), labels={1: Label("class 1")})
    return demo.run(image, bright, dense, device="cpu")


def test_all_results_are_there(session, small):
    roles = [s.role for s in session.shown]
    assert roles == ["filtered", "otsu", "grown", "labels", "probability", "uncertainty", "truth", "comparison"]
    assert session.notes == []
    names = [label.name for label in session.find("otsu").volume.labels.values()]
    assert names[-1] == f"above {session.thresholds[-1]:.4g} HU"
    assert len(names) == len(session.thresholds) == 3
    assert all(v.grid.same_space(small[0].grid) for v in session.volumes)
    assert all(s.note for s in session.shown if s.seconds is not None)
    # The model says what the truth was made with, but for values of exactly 0.
    found = session.find("comparison").volume.data
    assert (found == compare.TRUE_POSITIVE).sum() > 1000
    assert (found == compare.FALSE_POSITIVE).sum() == 0
    assert session.tables["Agreement of the model with the truth"][0]["Dice"] > 0.99


def test_a_model_that_does_not_fit_is_told_and_the_rest_goes_on(small):
    session = demo.run(small[0], "no-such-model")
    assert [s.role for s in session.shown] == ["filtered", "otsu", "grown"]
    assert any("no-such-model" in note for note in session.notes)


def test_without_torch_the_rest_goes_on(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    session = demo.run(small[0], bright)
    assert [s.role for s in session.shown] == ["filtered", "otsu", "grown"]
    assert any("pip install" in note for note in session.notes)


def test_labels_are_refused(small):
    with pytest.raises(lb.InputError, match="holds labels"):
        demo.run(small[1])


def test_frames_and_single_slices():
    heart, _ = phantoms.beating_heart(3, lb.Grid.from_spacing((12, 9, 9), (14, 26, 36), (-90, -110, -160)))
    session = demo.run(heart, lambda x: x)  # one class, and no torch of our own
    assert session.find("grown").volume.frame_count == 3
    head, truth = phantoms.ultrasound_head(shape=(135, 200), pixel=0.5)
    session = demo.run(head, truth=truth)
    assert session.find("filtered").volume.history[-1]["parameters"]["size"] == 5
    if "fetal-head" in lb.models.available():
        rows = session.tables["Agreement of the model with the truth"]
        assert rows[0]["Dice"] > 0.9


def test_files_can_be_read_back_and_replayed(session, tmp_path):
    written = demo.save(session, tmp_path / "out")
    assert written[-1].name == "report.html"
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    volumes = sorted(p for p in written if p.name.endswith(".nii.gz"))
    for path, volume in zip(volumes, session.volumes, strict=True):
        found = lb.read(path)
        np.testing.assert_array_equal(found.data, volume.data)
        assert found.grid.distance(volume.grid) < 1e-3
        assert {v: (x.name, x.colour) for v, x in found.labels.items()} == {
            v: (x.name, x.colour) for v, x in volume.labels.items()
        }
    recipe = lb.Recipe.load(tmp_path / "out" / "04_grown.json")
    np.testing.assert_array_equal(recipe.run(session.image).data, session.find("grown").volume.data)


def test_saving_replaces_nothing_silently(session, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(lb.FileError, match="already holds"):
        demo.save(session, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "mine"
    demo.save(session, tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") != "mine"


def test_a_second_run_takes_the_files_of_the_first_away(tmp_path):
    grid = lb.Grid.from_spacing((1, 1, 1), (2, 3, 4))
    image = Volume(np.zeros(grid.shape, np.uint8), grid, name="one")
    first = demo.pipeline.Session(image, [demo.pipeline.Shown(role, image, role) for role in ("otsu", "grown")])
    demo.save(first, tmp_path)
    for name in ("mine.nii.gz", "09_mine.nii.gz"):
        (tmp_path / name).write_bytes(b"mine")
    listing = tmp_path / "lightbox-demo.json"
    listing.write_text(listing.read_text().replace('"report.html"', '"report.html", "../mine.txt", "mine.nii.gz"'))
    demo.save(demo.pipeline.Session(image, first.shown[1:]), tmp_path, overwrite=True)
    expected = [
        "01_image.nii.gz",
        "02_grown.nii.gz",
        "09_mine.nii.gz",
        "lightbox-demo.json",
        "mine.nii.gz",
        "report.html",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_figures_that_do_not_exist_are_dashes(session, tmp_path):
    rows = [{"class": "heart (not in the truth)", "Dice": float("nan")}]
    text = demo.files.report(dataclasses.replace(session, tables={"Agreement": rows}), tmp_path / "r.html")
    assert '<td class="number">–</td>' in text.read_text(encoding="utf-8")


def test_a_cancelled_save_leaves_nothing(session, tmp_path):
    def stop(what, done, total):
        if what == "files" and done == 3:
            raise Cancelled

    with pytest.raises(Cancelled), listening(stop):
        demo.save(session, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# The command ---------------------------------------------------------------------------------------------------------


def test_screens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not demonstrate.has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert demonstrate.has_screen()
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert demonstrate.has_screen()


def test_demo_without_a_screen(tmp_path, monkeypatch, capsys):
    """The shipped sample, with its truth and the model that is made for it."""
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--no-window"]) == 0
    said = capsys.readouterr()
    text = (tmp_path / "lightbox-demo" / "report.html").read_text(encoding="utf-8")
    assert "Sizes and grey values" in text
    if "ct-regions" in lb.models.available():
        assert "Model against truth" in said.out
        assert (tmp_path / "lightbox-demo" / "05_labels.nii.gz").exists()
    # A second run takes another folder, a named one that is taken is refused.
    assert main(["demo", "--no-window", "--input", "lightbox-demo/03_otsu.nii.gz"]) == 2
    assert "holds labels" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["lightbox-demo"]
    assert main(["demo", "--no-window", "--out", "lightbox-demo"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_demo_on_a_real_ct(data, tmp_path):
    truth = data("ct_abdomen_organs/example_seg_fast_force_split.nii.gz")
    image = data("ct_abdomen_organs/example_ct.nii.gz")
    out = tmp_path / "out"
    assert main(["demo", "--no-window", "--input", str(image), "--truth", str(truth), "--out", str(out)]) == 0
    assert (out / "report.html").stat().st_size > 100_000
    # The lung that is grown is lung in the reference labels, where those go on.
    grown, reference = lb.read(out / "04_grown.nii.gz"), lb.read(truth, kind="labels")
    lung = np.isin(reference.data, [v for v, label in reference.labels.items() if "lung" in label.name])
    assert (grown.data.astype(bool) & lung).sum() > 0.7 * grown.data.sum()


def test_demo_on_a_real_ultrasound_with_its_mask(data, tmp_path, capsys):
    image, truth = (data(f"ultrasound_head_hc18/images/047_HC{end}.png") for end in ("", "_Mask"))
    argv = ["demo", "--no-window", "--input", image, "--truth", truth, "--out", tmp_path / "out"]
    assert main([str(a) for a in argv]) == 0
    assert "its value 255 was taken for" in capsys.readouterr().err
    found, reference = (lb.read(p, kind="labels").data > 0 for p in (tmp_path / "out" / "05_labels.nii.gz", truth))
    assert 2 * (found & reference).sum() / (found.sum() + reference.sum()) > 0.9
    assert (lb.read(tmp_path / "out" / "09_comparison.nii.gz").data == compare.TRUE_POSITIVE).sum() > 1000


def test_demo_on_a_dicom_folder(data, tmp_path, capsys):
    folder = data("dicom_ct_series")
    assert main(["demo", "--no-window", "--input", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "do not look like Hounsfield units" in capsys.readouterr().err
    found = lb.read(tmp_path / "out" / "01_image.nii.gz")
    np.testing.assert_array_equal(found.data, lb.read(folder).data)


# The window ----------------------------------------------------------------------------------------------------------


def test_window_shows_all_layers_and_docks(make_napari_viewer, qtbot, small, monkeypatch):
    pytest.importorskip("torch")
    from qtpy.QtWidgets import QTabBar

    from napari_lightbox.demo import window
    from napari_lightbox.viewer.layers import layer_to_volume

    image, truth = small
    viewer = make_napari_viewer()
    call = {"model": bright, "truth": truth.replace(data=truth.data // 2, labels={}), "device": "cpu"}
    panel = window.DemoPanel(viewer, image, call)
    docks = window.open_docks(viewer, panel)
    assert list(docks) == ["View", "Labels", "Model", "Grow", "Demo"]
    # The names of all tabs are readable side by side.
    bars = [bar for bar in viewer.window._qt_window.findChildren(QTabBar) if bar.count() == len(docks)]
    assert sum(bars[0].tabSizeHint(i).width() for i in range(len(docks))) <= 300
    made_in = []
    make = window.make_layer
    monkeypatch.setattr(window, "make_layer", lambda *a, **k: made_in.append(threading.get_ident()) or make(*a, **k))
    finished = []
    panel.on_finished = lambda: finished.append(True)
    panel.start()
    qtbot.waitUntil(lambda: bool(finished), timeout=60_000)
    assert len(set(made_in)) == 2  # the image at once, all else in the background
    assert made_in.count(threading.get_ident()) == 1
    assert viewer.layers.extent.units is not None
    titles = [s.title for s in panel.session.shown]
    assert [layer.name for layer in viewer.layers if layer.name in titles] == titles
    for shown in panel.session.shown:
        volume = layer_to_volume(viewer.layers[shown.title])
        np.testing.assert_array_equal(volume.data, shown.volume.data)
        assert volume.grid.distance(image.grid) < 1e-6
    # The seed's point lies on the voxel that the region was grown from.
    seed = viewer.layers["Seed"]
    grown = viewer.layers[panel.session.find("grown").title]
    grown.visible = True
    assert grown.get_value(seed.data_to_world(seed.data[0]), world=True) == 1
    assert panel.session.find("grown").note.split(":")[0] in panel.text.text()


def test_a_failing_demo_says_so_in_the_window(make_napari_viewer, qtbot, small):
    from napari_lightbox.demo import window

    viewer = make_napari_viewer()
    panel = window.DemoPanel(viewer, small[0], {"truth": small[1].replace(grid=small[1].grid.with_spacing((8, 6, 6)))})
    wrong = Volume(np.zeros((2, 2, 2), np.uint8), lb.Grid.from_spacing((1, 1, 1), (2, 2, 2)), "labels")
    panel._work = lambda: window._work(small[0], {"truth": wrong}, None, False)
    finished = []
    panel.on_finished = lambda: finished.append(True)
    panel.start()
    qtbot.waitUntil(lambda: bool(finished), timeout=30_000)
    assert panel.session is None
    assert "different grids" in panel.bar.message
    assert len(viewer.layers) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="opens a window")
def test_screenshot_of_the_whole_window(tmp_path):
    if not demonstrate.has_screen():
        pytest.skip("no screen, real or virtual")
    from PIL import Image

    argv = [sys.executable, "-m", "napari_lightbox.cli", "demo", "--screenshot", "shot.png", "--model", "none-such"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "shot.png").convert("L"))
    assert picture.shape[1] >= 1000
    # Neither black nor flat: image, docks and letters are there.
    assert picture.std() > 20
