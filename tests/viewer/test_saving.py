"""Saving by the dock and by napari's own dialogs: whatever is pressed, the files keep their place in the patient."""

import csv

import nibabel as nib
import numpy as np
import pytest
from difficult_grids import difficult_grid
from napari._qt import qt_viewer as napari_qt
from napari.components import ViewerModel
from npe2 import PluginManager
from qtpy.QtWidgets import QFileDialog

import napari_lightbox as lb
from napari_lightbox.geometry import Frames
from napari_lightbox.viewer import asking, saving
from napari_lightbox.viewer.layers import PREVIEW, make_layer
from napari_lightbox.viewer.points_file import points_table
from napari_lightbox.viewer.readers import prepare
from napari_lightbox.viewer.saving import SavePanel
from napari_lightbox.viewer.seeds import new_points
from napari_lightbox.volume import Volume


@pytest.fixture
def scene(make_napari_viewer, difficult):
    """Return a viewer with an oblique image, labels, seeds, shapes and a preview."""
    PluginManager.instance().discover()
    viewer = make_napari_viewer()
    image = viewer.add_layer(make_layer(difficult))
    labels = difficult.replace(data=(difficult.data > 99).astype(np.uint8), kind="labels", name="a/b", labels={1: "x"})
    viewer.add_layer(make_layer(labels))
    seeds = viewer.add_layer(new_points(image, "seeds"))
    seeds.add([(1, 2, 3), (4, 5, 6)])
    viewer.add_shapes([[(0, 0, 0), (0, 5, 5)]], shape_type="line", name="line")
    viewer.add_image(np.zeros((1, 2, 2)), name="Preview", metadata={PREVIEW: True})
    prepare(viewer)
    return viewer


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def assert_seeds(path, difficult, layer):
    rows = read_table(path)
    assert [row["frame"] for row in rows] == ["", ""]
    for row, shown in zip(rows, [(1, 2, 3), (4, 5, 6)], strict=True):
        stored = np.argwhere(difficult.data == layer.data[shown])[0]
        wanted = difficult.grid.to_world(stored)
        found = [float(row[f"{axis}_lps_mm"]) for axis in "zyx"]
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def start(panel, qtbot, button=None):
    (button or panel.save_button).click()
    qtbot.waitUntil(lambda: not panel.bar.running, timeout=10000)


def texts(panel):
    return [panel.list.item(i).text() for i in range(panel.list.count())]


def test_all_layers_go_to_a_folder(scene, qtbot, tmp_path, difficult, monkeypatch):
    panel = SavePanel(scene)
    assert texts(panel) == ["line: shapes, no volume", "seeds", "a/b", "difficult"]
    panel.check(scene.layers)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path))
    start(panel, qtbot)
    assert sorted(path.name for path in tmp_path.glob("*.*[vz]")) == [
        "a_b.nii.gz",
        "difficult.nii.gz",
        "seeds.points.csv",
    ]
    for name in ("difficult.nii.gz", "a_b.nii.gz", "seeds.points.csv"):
        assert name in panel.bar.message
    back = lb.read(tmp_path / "difficult.nii.gz")
    assert back.grid.same_space(difficult.grid, 1e-4)
    np.testing.assert_array_equal(back.data, difficult.data)
    affine = nib.load(tmp_path / "a_b.nii.gz").affine
    corner = np.diag([-1, -1, 1]) @ affine[:3, 3]
    np.testing.assert_allclose(corner[::-1], difficult.grid.origin, atol=1e-3)
    assert lb.read(tmp_path / "a_b.nii.gz").labels[1].name == "x"
    assert_seeds(tmp_path / "seeds.points.csv", difficult, scene.layers["difficult"])
    # Again: nothing is replaced unless somebody says so.
    (tmp_path / "a_b.nii.gz").write_bytes(b"mine")
    start(panel, qtbot)
    assert "already holds" in panel.bar.message
    assert (tmp_path / "a_b.nii.gz").read_bytes() == b"mine"
    asked = []
    monkeypatch.setattr(asking, "confirm", lambda question, *_: asked.append(question) or True)
    start(panel, qtbot)
    assert "a_b.nii.gz" in asked[0]
    assert lb.read(tmp_path / "a_b.nii.gz").labels[1].name == "x"


def test_one_layer_goes_to_a_file_of_the_chosen_format(scene, qtbot, tmp_path, difficult, monkeypatch):
    scene.layers.selection.active = scene.layers["difficult"]
    panel = SavePanel(scene)
    assert [layer.name for layer in panel.layers] == ["difficult"]  # what is selected is ticked first
    seen = []

    def choose(parent, title, start, filters):
        seen.append((start, filters))
        return str(tmp_path / "mine"), filters.split(";;")[0]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    panel.format.setCurrentIndex(panel.format.findData(".mha"))
    start(panel, qtbot)
    assert seen[0][0].endswith("difficult.mha")
    assert lb.read(tmp_path / "mine.mha").grid.same_space(difficult.grid, 1e-4)
    assert saving._folder() == tmp_path  # where it was saved is where the next one is
    panel.format.setCurrentIndex(panel.format.findData(".nii.gz"))
    start(panel, qtbot)
    assert seen[1][0] == str(tmp_path / "difficult.nii.gz")
    assert (tmp_path / "mine.nii.gz").exists()


def test_the_list_follows_new_names(scene, qtbot):
    panel = SavePanel(scene)
    qtbot.addWidget(panel)
    panel.check([scene.layers["difficult"]])
    late = scene.add_points(np.zeros((1, 3)), name="late")
    gone = scene.layers["line"]
    scene.layers.remove(gone)
    scene.layers["difficult"].name = "renamed"
    late.name = "later"
    gone.name = "elsewhere"
    names = texts(panel)
    assert "renamed" in names
    assert "later" in names
    assert not {"difficult", "late", "elsewhere"} & set(names)
    assert [layer.name for layer in panel.layers] == ["renamed"]  # ticks stay


def test_what_cannot_be_saved_is_named_and_the_rest_is(scene, qtbot, tmp_path, monkeypatch):
    scene.add_labels(np.zeros((3, 4, 5), np.uint8), name="stranger")
    panel = SavePanel(scene)
    panel.check([scene.layers["stranger"], scene.layers["difficult"], scene.layers["a/b"]])
    panel.format.setCurrentIndex(panel.format.findData(".seg.nrrd"))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path))
    start(panel, qtbot)
    assert sorted(path.name for path in tmp_path.glob("*.nrrd")) == ["a_b.seg.nrrd", "difficult.nrrd"]
    saved, refused = panel.bar.message.split("Not saved: ")
    assert "a_b.seg.nrrd" in saved
    assert "stranger" in refused
    assert "difficult" not in refused
    panel.check([])
    start(panel, qtbot)
    assert "tick" in panel.bar.message


def test_the_list_follows_the_layers(scene, qtbot):
    panel = SavePanel(scene)
    panel.check([scene.layers["a/b"]])
    scene.layers.remove("difficult")
    assert texts(panel) == ["line: shapes, no volume", "seeds", "a/b"]
    assert [layer.name for layer in panel.layers] == ["a/b"]


def test_the_key_opens_the_dock(scene):
    saving.open_panel(scene)
    assert any(isinstance(dock.widget(), SavePanel) or dock.widget().findChild(SavePanel)
               for dock in scene.window._wrapped_dock_widgets.values())  # fmt: skip
    assert saving.open_panel in [getattr(f, "func", f) for f in scene.keymap.values()]


def test_frames_of_seeds(make_napari_viewer, rng):
    viewer = make_napari_viewer()
    grid = difficult_grid((4, 5, 6), Frames("time", (0, 0.5, 1), "s"))
    volume = Volume(rng.normal(size=grid.shape), grid, name="beat")
    image = viewer.add_layer(make_layer(volume))
    seeds = viewer.add_layer(new_points(image))
    seeds.add([(2, 1, 1, 1)])
    ((x, y, z, frame),) = points_table(seeds, viewer)
    assert frame == 2
    stored = np.argwhere(volume.data[2] == image.data[2, 1, 1, 1])[0]
    np.testing.assert_allclose((z, y, x), grid.to_world(stored), atol=1e-6)


class Dialog:
    """Stands for napari's Save dialog: takes the first file type, as whoever only types a name."""

    name = ""
    filters = ""

    def __init__(self, *_):
        pass

    def setHistory(self, *_):
        pass

    def getSaveFileName(self, *_, filter, **__):
        Dialog.filters = filter
        return Dialog.name, filter.split(";;")[0]


@pytest.fixture
def dialog(monkeypatch):
    Dialog.Option = QFileDialog.Option
    monkeypatch.setattr(napari_qt, "QFileDialog", Dialog)
    monkeypatch.setattr(napari_qt, "update_save_history", lambda *_: None)
    return Dialog


@pytest.mark.parametrize("typed", ["out.nii.gz", "out", "out.mha"])
def test_save_selected_of_napari_keeps_the_place(scene, tmp_path, difficult, dialog, typed):
    scene.layers.selection.active = scene.layers["difficult"]
    dialog.name = str(tmp_path / typed)
    scene.window._qt_viewer._save_layers_dialog(selected=True)
    assert dialog.filters.startswith("Lightbox")
    (written,) = tmp_path.glob("out*")
    assert written.name == (typed if "." in typed else "out.nii.gz")
    assert lb.read(written).grid.same_space(difficult.grid, 1e-4)


def test_save_all_of_napari_with_seeds_and_shapes(scene, tmp_path, difficult, dialog, monkeypatch):
    told = []
    monkeypatch.setattr(asking, "warn", told.append)
    dialog.name = str(tmp_path / "case.nii.gz")
    scene.window._qt_viewer._save_layers_dialog(selected=False)
    assert dialog.filters.startswith("Lightbox")
    assert sorted(path.name for path in tmp_path.glob("case*")) == [
        "case - a_b.nii.gz",
        "case - difficult.nii.gz",
        "case - seeds.points.csv",
    ]
    assert_seeds(tmp_path / "case - seeds.points.csv", difficult, scene.layers["difficult"])
    assert "line" in told[0]
    assert "Preview" not in told[0]


def test_pictures_stay_with_napari(scene, tmp_path):
    """A TIFF of a whole volume is napari's business: ours holds one slice."""
    writer, _ = PluginManager.instance().get_writer(str(tmp_path / "a.tif"), ["image"])
    assert writer.command.startswith("napari.")
    writer, _ = PluginManager.instance().get_writer(str(tmp_path / "a.nii.gz"), ["image"])
    assert writer.command.startswith("napari-lightbox.")


def test_the_dock_may_be_narrow(qtbot):
    panel = SavePanel(ViewerModel())
    qtbot.addWidget(panel)
    assert panel.minimumSizeHint().width() <= 330
    assert panel.sizeHint().width() <= 330
